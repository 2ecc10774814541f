//! Numbers, times and status words, against values worked out by hand.

use super::*;
use proptest::prelude::*;

fn at(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
}

#[test]
fn numbers_are_decimals_with_all_their_digits() {
    assert_eq!(number(&[0x00, 0x77, 0x66, 0x55], 2).unwrap().to_string(), "556677.00");
    assert_eq!(number(&[0x47, 0x70, 0x01, 0x00], 2).unwrap().to_string(), "170.47");
    assert_eq!(number(&[0xFF; 4], 2), Err(ValueError::NoValue));
    let found = ValueError::Bcd(BcdError::Digit { offset: 2, found: 0xFF });
    assert_eq!(number(&[0x00, 0x00, 0xFF, 0x00], 2), Err(found));
    assert_eq!(
        to_number(Decimal::new(170_479, 3), 2, 4),
        Some(vec![0x47, 0x70, 0x01, 0x00])
    );
    assert_eq!(to_number(Decimal::new(-1, 0), 2, 4), None);
    assert_eq!(to_number(Decimal::new(1_000_000, 0), 2, 4), None);
}

#[test]
fn a_clock_is_read_in_the_makers_order() {
    let expected = Ok(at("2015-05-11 22:01:31"));
    assert_eq!(
        time(&[0x31, 0x01, 0x22, 0x11, 0x05, 0x15, 0x20], TimeOrder::SecondsFirst),
        expected
    );
    assert_eq!(
        time(&[0x20, 0x15, 0x05, 0x11, 0x22, 0x01, 0x31], TimeOrder::YearFirst),
        expected
    );
    assert_eq!(
        time(&[0x31, 0x01, 0x22, 0x11, 0x05, 0x15], TimeOrder::NoCentury),
        expected
    );
    assert_eq!(time(&[0; 7], TimeOrder::SecondsFirst), Err(ValueError::NoValue));
    assert_eq!(time(&[0xFF; 6], TimeOrder::NoCentury), Err(ValueError::NoValue));
}

#[test]
fn digits_that_are_no_time_are_kept() {
    let odd = [0x20, 0x20, 0x05, 0x28, 0x20, 0x58, 0x24];
    let error = time(&odd, TimeOrder::SecondsFirst).unwrap_err();
    assert_eq!(error.to_string(), "2458-20-28 05:20:20 is no date and time");
    let hexadecimal = [0x00, 0x00, 0x2A, 0x01, 0x01, 0x24, 0x20];
    assert_eq!(
        time(&hexadecimal, TimeOrder::SecondsFirst),
        Err(ValueError::NotATime(hexadecimal))
    );
    let short = ValueError::Short {
        offset: 0,
        need: 7,
        have: 6,
    };
    assert_eq!(time(&[0x11; 6], TimeOrder::YearFirst), Err(short));
}

#[test]
fn status_bits_stand_where_the_model_says() {
    let closed_low = Status([0b0000_0101, 0]);
    assert_eq!(closed_low.valve(StatusBits::Low), Valve::Closed);
    assert!(closed_low.battery_low(StatusBits::Low));
    assert_eq!(closed_low.words(StatusBits::Low), "valve closed, battery low");
    assert_eq!(closed_low.valve(StatusBits::High), Valve::Open);
    let high = Status([0xE0, 0x84]);
    assert_eq!(
        (high.valve(StatusBits::High), high.battery_low(StatusBits::High)),
        (Valve::Abnormal, true)
    );
    assert_eq!(
        high.words(StatusBits::High),
        "valve abnormal, battery low, maker's byte 84"
    );
    assert_eq!(Status([0x02, 0]).valve(StatusBits::Low), Valve::Undefined);
    assert_eq!(Status([0x40, 0]).valve(StatusBits::High), Valve::Closed);
    assert_eq!(high.word(), 0x84E0);
}

proptest! {
    #[test]
    fn times_read_back(seconds in 0i64..4_000_000_000) {
        let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
        let bytes = to_time(at).unwrap();
        prop_assert_eq!(time(&bytes, TimeOrder::SecondsFirst), Ok(at));
        let mut reversed = bytes;
        reversed.reverse();
        prop_assert_eq!(time(&reversed, TimeOrder::YearFirst), Ok(at));
    }

    #[test]
    fn numbers_read_back(digits in 0u64..100_000_000, decimals in 0u8..5) {
        let value = Decimal::from_i128_with_scale(digits.into(), decimals.into());
        let bytes = to_number(value, decimals, 4).unwrap();
        prop_assert_eq!(number(&bytes, decimals), Ok(value));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..12), decimals in 0u8..9) {
        let _unused = number(&bytes, decimals);
        for order in [TimeOrder::SecondsFirst, TimeOrder::YearFirst, TimeOrder::NoCentury] {
            let _unused = time(&bytes, order);
        }
    }
}

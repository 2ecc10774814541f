//! Each format of annex A on worked bytes, its invalid marker, its range, and round trips of random values.

use super::*;
use proptest::prelude::*;
use rust_decimal::dec;

const ALL: [Format; 27] = [
    Format::A1,
    Format::A2,
    Format::A3,
    Format::A4,
    Format::A5,
    Format::A6,
    Format::A7,
    Format::A8,
    Format::A9,
    Format::A10,
    Format::A11,
    Format::A12,
    Format::A13,
    Format::A14,
    Format::A15,
    Format::A16,
    Format::A17,
    Format::A18,
    Format::A19,
    Format::A20,
    Format::A21,
    Format::A22,
    Format::A23,
    Format::A24,
    Format::A25,
    Format::A26,
    Format::A27,
];

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn at(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
}

#[test]
fn numbers_mean_what_annex_a_says() {
    for (format, wire, value) in [
        (Format::A2, "2384", dec!(423)),
        (Format::A2, "2304", dec!(4_230_000)),
        (Format::A2, "23F4", dec!(-0.423)),
        (Format::A2, "0580", dec!(5)),
        (Format::A3, "56341200", dec!(123456)),
        (Format::A3, "56341217", dec!(-7123456)),
        (Format::A3, "56341240", dec!(123456000)),
        (Format::A4, "45", dec!(45)),
        (Format::A4, "C5", dec!(-45)),
        (Format::A5, "8806", dec!(68.8)),
        (Format::A5, "8886", dec!(-68.8)),
        (Format::A6, "3412", dec!(12.34)),
        (Format::A6, "3492", dec!(-12.34)),
        (Format::A7, "7023", dec!(237.0)),
        (Format::A8, "3412", dec!(1234)),
        (Format::A9, "420300", dec!(0.0342)),
        (Format::A9, "420380", dec!(-0.0342)),
        (Format::A10, "563412", dec!(123456)),
        (Format::A11, "78563412", dec!(123456.78)),
        (Format::A13, "78563412", dec!(1234.5678)),
        (Format::A14, "9078563412", dec!(123456.7890)),
        (Format::A22, "15", dec!(1.5)),
        (Format::A23, "563412", dec!(12.3456)),
        (Format::A25, "200000", dec!(0.020)),
        (Format::A25, "200080", dec!(-0.020)),
        (Format::A26, "3412", dec!(1.234)),
        (Format::A27, "78563412", dec!(12345678)),
        (Format::Bin(2), "3412", dec!(4660)),
    ] {
        let wire = bytes(wire);
        assert_eq!(format.read(&wire), Ok(Value::Number(value)), "{format:?}");
        let again = format.read(&format.write(&Value::Number(value)).unwrap());
        assert_eq!(again, Ok(Value::Number(value)), "{format:?}");
    }
}

#[test]
fn times_mean_what_annex_a_says() {
    let moment = |month, day, time: &str| {
        Value::Moment(Moment {
            month,
            day,
            time: time.parse().unwrap(),
        })
    };
    for (format, wire, value) in [
        (Format::A1, "494811155215", Value::Time(at("2015-12-15 11:48:49"))),
        (Format::A15, "1815220816", Value::Time(at("2016-08-22 15:18:00"))),
        (Format::A16, "26211522", moment(None, 22, "15:21:26")),
        (Format::A17, "18152208", moment(Some(8), 22, "15:18:00")),
        (Format::A18, "181522", moment(None, 22, "15:18:00")),
        (Format::A19, "1815", Value::TimeOfDay("15:18:00".parse().unwrap())),
        (Format::A20, "200614", Value::Date("2014-06-20".parse().unwrap())),
        (Format::A21, "0614", Value::Month("2014-06-01".parse().unwrap())),
        (Format::A24, "1522", moment(None, 22, "15:00:00")),
        (Format::A12, "610000123456", Value::Digits("563412000061".to_owned())),
        (Format::Ip, "C0A80142", Value::Text("192.168.1.66".to_owned())),
        (
            Format::Phone(8),
            "13800138000FFFFF",
            Value::Digits("13800138000".to_owned()),
        ),
        (Format::Text(8), "464B474132330000", Value::Text("FKGA23".to_owned())),
    ] {
        let wire = bytes(wire);
        assert_eq!(format.read(&wire), Ok(value.clone()), "{format:?}");
        if format != Format::A1 {
            // the weekday is written as the date has it, whatever stood there
            assert_eq!(format.write(&value), Some(wire), "{format:?}");
        }
    }
    assert_eq!(
        Format::A1.write(&Value::Time(at("2015-12-15 11:48:49"))),
        Some(bytes("494811155215"))
    );
    assert_eq!(
        Format::A1.read(&bytes("512023071018")),
        Ok(Value::Time(at("2018-10-07 23:20:51")))
    );
}

#[test]
fn what_is_no_value_is_none_and_what_is_no_digit_is_named() {
    for format in ALL {
        for filler in [0xEE, 0xFF] {
            let wire = vec![filler; format.size()];
            assert_eq!(format.read(&wire), Ok(Value::None), "{format:?}");
        }
        assert_eq!(format.write(&Value::None), Some(vec![0xEE; format.size()]));
        // one byte of it alone is no marker
        if format.size() > 1 {
            let mut wire = vec![0x11; format.size()];
            wire[0] = 0xEE;
            assert!(matches!(format.read(&wire), Err(ValueError::Digits(_))), "{format:?}");
        }
        let (have, need) = (format.size() + 1, format.size());
        assert_eq!(format.read(&vec![0; have]), Err(ValueError::Length { have, need }));
    }
    assert_eq!(Format::Bin(1).read(&[0xEE]), Ok(Value::Number(dec!(238))));
    for (format, wire) in [
        (Format::A1, "000024010115"),
        (Format::A15, "6000010115"),
        (Format::A15, "0000300215"),
        (Format::A17, "00000113"),
        (Format::A18, "000032"),
        (Format::A19, "0024"),
        (Format::A20, "310415"),
        (Format::A21, "1315"),
    ] {
        assert_eq!(
            format.read(&bytes(wire)),
            Err(ValueError::Time(wire.to_owned())),
            "{format:?}"
        );
    }
    assert_eq!(Format::A15.read(&[0; 5]), Ok(Value::None));
    // midnight is one
    assert_eq!(Format::A19.read(&[0; 2]), Ok(Value::TimeOfDay(NaiveTime::MIN)));
}

#[test]
fn what_does_not_fit_is_not_written() {
    for (format, value) in [
        (Format::A4, dec!(80)),
        (Format::A5, dec!(800)),
        (Format::A5, dec!(-800)),
        (Format::A7, dec!(-1)),
        (Format::A7, dec!(1000)),
        (Format::A14, dec!(1_000_000)),
        (Format::A2, dec!(10_000_000)),
        (Format::A3, dec!(10_000_000_000)),
        (Format::Bin(1), dec!(256)),
        (Format::Bin(1), dec!(-1)),
    ] {
        assert_eq!(format.write(&Value::Number(value)), None, "{format:?} {value}");
    }
    // a number that is cut to zero has no sign
    assert_eq!(Format::A7.write(&Value::Number(dec!(-0.01))), Some(vec![0, 0]));
    assert_eq!(Format::A5.write(&Value::Number(dec!(-0.01))), Some(vec![0, 0]));
    assert_eq!(Format::A7.write(&Value::Number(dec!(230.19))), Some(vec![0x01, 0x23]));
    assert_eq!(Format::A7.write(&Value::Bits(1)), None);
    assert_eq!(Format::A12.write(&Value::Digits("+12345678901".to_owned())), None);
}

#[test]
fn a_moment_lies_in_the_past() {
    let limit = at("2026-03-01 08:00:00");
    let moment = |month, day, hour| Moment {
        month,
        day,
        time: NaiveTime::from_hms_opt(hour, 0, 0).unwrap(),
    };
    assert_eq!(moment(None, 1, 7).before(limit), Some(at("2026-03-01 07:00:00")));
    assert_eq!(moment(None, 1, 9).before(limit), Some(at("2026-02-01 09:00:00")));
    assert_eq!(moment(None, 31, 0).before(limit), Some(at("2026-01-31 00:00:00")));
    assert_eq!(moment(Some(12), 31, 0).before(limit), Some(at("2025-12-31 00:00:00")));
    assert_eq!(moment(Some(2), 29, 0).before(limit), Some(at("2024-02-29 00:00:00")));
    assert_eq!(moment(Some(2), 30, 0).before(limit), None);
}

proptest! {
    #[test]
    fn numbers_read_back(mantissa in -9_999_999_999i64..10_000_000_000, which in 0..ALL.len()) {
        let format = ALL[which];
        let Some((size, decimals, signed)) = number(format) else { return Ok(()) };
        let digits = u32::try_from(size * 2).unwrap();
        let most = 10i64.pow(digits.min(18)) / if signed { 10 } else { 1 } * if signed { 8 } else { 1 };
        let mantissa = if signed { mantissa % most } else { mantissa.abs() % most };
        let value = Value::Number(Decimal::new(mantissa, decimals));
        let wire = format.write(&value).unwrap();
        prop_assert_eq!(wire.len(), format.size());
        prop_assert_eq!(format.read(&wire), Ok(value));
    }

    #[test]
    fn powers_of_ten_keep_three_digits(digits in -999i64..=999, power in 0..8u32) {
        let value = Decimal::from(digits) * Decimal::from(10i64.pow(7 - power)) / Decimal::from(1000);
        let wire = Format::A2.write(&Value::Number(value)).unwrap();
        prop_assert_eq!(Format::A2.read(&wire), Ok(Value::Number(value)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(which in 0..ALL.len(), wire in prop::collection::vec(any::<u8>(), 0..8)) {
        let format = ALL[which];
        if let Ok(value) = format.read(&wire) {
            let again = format.write(&value).map(|wire| format.read(&wire));
            prop_assert_eq!(again, Some(Ok(value)));
        }
    }

    #[test]
    fn times_read_back(seconds in 946_684_800i64..4_102_444_800) {
        let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
        let value = Value::Time(at);
        prop_assert_eq!(Format::A1.read(&Format::A1.write(&value).unwrap()), Ok(value));
        let minute = Value::Time(at.with_second(0).unwrap());
        prop_assert_eq!(Format::A15.read(&Format::A15.write(&minute).unwrap()), Ok(minute));
    }
}

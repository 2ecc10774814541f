//! What is built is what is heard, and what cannot be said is refused.

use super::*;
use crate::base::hex;
use chrono::NaiveDate;
use proptest::prelude::*;

fn password() -> impl Strategy<Value = Password> {
    any::<[u8; 4]>().prop_map(Password::from_wire)
}

fn security(edition: Edition) -> impl Strategy<Value = Security> {
    (password(), any::<[u8; 4]>()).prop_map(move |(password, operator)| Security {
        password,
        operator: Operator::from_wire(if edition == Edition::E2007 { operator } else { [0; 4] }),
    })
}

fn di(edition: Edition) -> impl Strategy<Value = Di> {
    any::<u32>().prop_map(move |number| match edition {
        Edition::E1997 => Di::E1997((number as u16) & 0xBFFF),
        Edition::E2007 => Di::E2007(number),
    })
}

pub(crate) fn any_address() -> impl Strategy<Value = Address> {
    (0u64..1_000_000_000_000).prop_map(|number| Address::parse(&format!("{number:012}")).unwrap())
}

fn time() -> impl Strategy<Value = NaiveDateTime> {
    (0i64..3_155_760_000).prop_map(|s| {
        chrono::DateTime::from_timestamp(946_684_800 + s, 0)
            .unwrap()
            .naive_utc()
    })
}

/// Any question but a relay's.
pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![Just(Edition::E1997), Just(Edition::E2007)].prop_flat_map(|edition| {
        let both = prop_oneof![
            (di(edition), proptest::collection::vec(any::<u8>(), 0..=6)).prop_map(|(di, tail)| Body::Read { di, tail }),
            (di(edition), any::<u8>()).prop_map(move |(di, seq)| Body::Follow {
                di,
                seq: if edition == Edition::E1997 { 0 } else { seq },
            }),
            (
                di(edition),
                security(edition),
                proptest::collection::vec(any::<u8>(), 1..=100)
            )
                .prop_map(|(di, security, value)| Body::Write { di, security, value }),
            any_address()
                .prop_filter("one meter's", |address| address.is_meter())
                .prop_map(Body::WriteAddress),
            proptest::sample::select(&Speed::ALL[..5]).prop_map(Body::Speed),
            (di(edition), password(), password()).prop_map(move |(di, old, new)| Body::ChangePassword {
                di: (edition == Edition::E2007).then_some(di),
                old,
                new,
            }),
            security(edition).prop_map(Body::ClearDemand),
        ];
        let of_2007 = prop_oneof![
            Just(Body::ReadAddress),
            time().prop_map(Body::BroadcastTime),
            (1u8..=31, 0u8..24, 0u8..60).prop_map(|(day, hour, minute)| Body::Freeze(FreezeAt {
                month: None,
                day: Some(day),
                hour: Some(hour),
                minute: Some(minute),
            })),
            security(edition).prop_map(Body::ClearMeter),
            (security(edition), di(Edition::E2007)).prop_map(|(security, di)| Body::ClearEvents { security, di }),
        ];
        let body = if edition == Edition::E2007 {
            prop_oneof![both, of_2007].boxed()
        } else {
            both.boxed()
        };
        (any_address(), body, 0usize..=4).prop_map(move |(address, body, preambles)| {
            Request::checked(edition, address, body)
                .unwrap()
                .with_preambles(preambles)
        })
    })
}

proptest! {
    #[test]
    fn round_trip(request in any_request()) {
        prop_assert_eq!(Request::parse(request.edition(), &request.wire()), Ok(request));
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(code in any::<u8>(), data in proptest::collection::vec(any::<u8>(), 0..60)) {
        let frame = seal(Address::ANYONE, Control(code), &data);
        for edition in [Edition::E1997, Edition::E2007] {
            if let Ok(request) = Request::parse(edition, &frame) {
                prop_assert_eq!(request.frame(), frame.clone());
            }
        }
    }
}

fn meter() -> Address {
    Address::parse("202611210837").unwrap()
}

#[test]
fn frames_of_others_are_built_byte_for_byte() {
    let read = Request::read(meter(), Di::E2007(0x0001_0000));
    assert_eq!(hex::encode(&read.wire()), "FEFEFEFE68370821112620681104333334336916");
    let time = NaiveDate::from_ymd_opt(2017, 6, 5)
        .unwrap()
        .and_hms_opt(10, 22, 51)
        .unwrap();
    let broadcast = Request::checked(Edition::E2007, Address::BROADCAST, Body::BroadcastTime(time)).unwrap();
    assert_eq!(
        hex::encode(&broadcast.frame()),
        "68999999999999680806 84554338394A4B16".replace(' ', "")
    );
    assert!(!broadcast.expects_answer() && broadcast.answer_len_max() == 0);
    // 9600 bit/s is bit 5 (2007)
    let speed = Request::checked(Edition::E2007, meter(), Body::Speed(Speed::B9600)).unwrap();
    assert_eq!(speed.data(), [0x20]);
    // freeze at 00:00 each day
    let at = FreezeAt {
        hour: Some(0),
        minute: Some(0),
        ..FreezeAt::default()
    };
    let freeze = Request::checked(Edition::E2007, Address::BROADCAST, Body::Freeze(at)).unwrap();
    assert_eq!(freeze.data(), [0x00, 0x00, 0x99, 0x99]);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let refused = |edition, body| Request::checked(edition, meter(), body).unwrap_err();
    let security = Security {
        password: Password::new(4, "000000").unwrap(),
        operator: Operator::new("00000000").unwrap(),
    };
    assert!(matches!(
        refused(Edition::E1997, Body::ReadAddress),
        RequestError::Function { .. }
    ));
    let di = Di::E1997(0x9010);
    assert!(matches!(
        refused(Edition::E2007, Body::Read { di, tail: Vec::new() }),
        RequestError::Identifier { .. }
    ));
    let (di, value) = (Di::E1997(0xC028), vec![0x55, 0x33]);
    let by_write = refused(Edition::E1997, Body::Write { di, security, value });
    assert_eq!(by_write, RequestError::RelayByWrite(di));
    let new = refused(Edition::E2007, Body::WriteAddress(Address::ANYONE));
    assert_eq!(new, RequestError::NewAddress(Address::ANYONE));
    let hour = FreezeAt {
        hour: Some(7),
        ..FreezeAt::default()
    };
    assert!(matches!(
        refused(Edition::E2007, Body::Freeze(hour)),
        RequestError::Time(_)
    ));
    let old = NaiveDate::from_ymd_opt(1999, 1, 1)
        .unwrap()
        .and_hms_opt(0, 0, 0)
        .unwrap();
    assert!(matches!(
        refused(Edition::E2007, Body::BroadcastTime(old)),
        RequestError::Time(_)
    ));
    assert!(clock_of([0x60, 0, 0, 1, 1, 0x26]).is_err() && clock_of([0, 0, 0, 0x31, 0x02, 0x26]).is_err());
}

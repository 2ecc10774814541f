//! Questions and their answers, on random ones and by hand.

use super::*;
use crate::base::hex;
use crate::protocol::cjt188::valve;
use proptest::prelude::*;

/// Any target; addresses of digits.
fn any_target() -> impl Strategy<Value = Target> {
    let types = prop::sample::select(vec![0x10u8, 0x11, 0x19, 0x20, 0x22, 0x30, 0x40]);
    let order = prop_oneof![Just(DiOrder::HighFirst), Just(DiOrder::LowFirst)];
    (types, 0u64..100_000_000_000_000, order, any::<u8>(), 0u8..=16).prop_map(|(t, number, order, ser, preamble)| {
        let address = Address::parse(&number.to_string()).unwrap();
        Target {
            order,
            ser,
            preamble,
            ..Target::new(MeterType(t), address)
        }
    })
}

/// Any question.
pub(in crate::protocol::cjt188) fn any_request() -> impl Strategy<Value = Request> {
    let di = prop_oneof![
        Just(DataId::CURRENT),
        (0xD120u16..0xD12C).prop_map(DataId),
        any::<u16>().prop_map(DataId)
    ];
    (any_target(), 0u8..7, di, prop::collection::vec(any::<u8>(), 0..=47)).prop_map(|(target, kind, di, data)| {
        match kind {
            0 => Request::read_address(target),
            1 => Request::write_address(target, Address::parse("12345678901234").unwrap()),
            2 => valve::open(target),
            3 => Request::write(target, di, data).unwrap_or_else(|_| valve::close(target)),
            _ => Request::read(target, di),
        }
    })
}

/// An answer of the meter that was asked, with these data behind identifier and serial number.
pub(in crate::protocol::cjt188) fn answer_frame(request: &Request, data: &[u8], preamble: u8) -> Vec<u8> {
    let mut body = request.di.wire(request.target.order).to_vec();
    body.push(request.target.ser);
    body.extend_from_slice(data);
    frame(request, Control::answered(request.function), body, preamble)
}

/// A refusal of the meter that was asked, by the standard.
pub(in crate::protocol::cjt188) fn refusal_frame(request: &Request, status: u8) -> Vec<u8> {
    frame(
        request,
        Control::refused(request.function),
        vec![request.target.ser, status, 0],
        2,
    )
}

fn frame(request: &Request, control: Control, data: Vec<u8>, preamble: u8) -> Vec<u8> {
    let target = request.target;
    Frame::new(target.meter_type, target.address, control, data)
        .unwrap()
        .wire(preamble)
}

proptest! {
    #[test]
    fn an_answer_reads_back(
        request in any_request(),
        data in prop::collection::vec(any::<u8>(), 0..=97),
        preamble in 0u8..=16,
    ) {
        let wire = answer_frame(&request, &data, preamble);
        prop_assert!(wire.len() <= request.answer_len_max());
        let answer = request.answer(&wire).unwrap();
        prop_assert_eq!((answer.data, answer.address), (data, request.target.address));
    }

    #[test]
    fn questions_are_frames_within_the_standard(request in any_request()) {
        let frame = Frame::parse(&request.wire()).unwrap();
        prop_assert_eq!(frame.control, Control::ask(request.function));
        prop_assert!(frame.data().len() <= usize::from(WRITE_DATA_MAX));
        prop_assert_eq!(frame.address, request.target.address);
    }

    #[test]
    fn random_bytes_never_panic(request in any_request(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _unused = request.answer(&bytes);
        let _unused = request.refusal(&bytes);
    }
}

fn water(ser: u8) -> Target {
    Target {
        ser,
        preamble: 0,
        ..Target::new(
            MeterType::COLD_WATER,
            Address::parse("20201202 18".replace(' ', "").as_str()).unwrap(),
        )
    }
}

#[test]
fn the_address_of_the_only_meter_is_asked_with_wildcards() {
    // cnblogs.com/cj94/p/18534598
    let request = Request::read_address(Target::new(MeterType::ANY, Address::ANY));
    assert_eq!(hex::encode(&request.wire()), "FEFEFEFE68AAAAAAAAAAAAAAAA0303810A004916");
    let answer = hex::decode("FEFEFEFE68101802122020000083 03810A00F516").unwrap();
    let answer = request.answer(&answer).unwrap();
    assert_eq!(
        (answer.meter_type, answer.address.to_string().as_str()),
        (MeterType::COLD_WATER, "00002020120218")
    );
    assert!(answer.data.is_empty());
}

#[test]
fn what_an_answer_does_not_repeat_makes_it_foreign_unless_the_model_says_so() {
    let request = Request::read(water(7), DataId::CURRENT);
    let other = |change: &dyn Fn(&mut Target)| {
        let mut target = request.target;
        change(&mut target);
        answer_frame(&Request::read(target, DataId::CURRENT), &[1], 0)
    };
    let (ser, order, kind) = (
        other(&|target| target.ser = 8),
        other(&|target| target.order = DiOrder::LowFirst),
        other(&|target| target.meter_type = MeterType::HOT_WATER),
    );
    let with = |change: &dyn Fn(&mut Leniency)| {
        let mut lenient = request.clone();
        change(&mut lenient.target.lenient);
        lenient
    };
    for (frame, lenient) in [
        (&ser, with(&|lenient| lenient.ser = true)),
        (&order, with(&|lenient| lenient.di_order = true)),
        (&kind, with(&|lenient| lenient.meter_type = true)),
    ] {
        assert!(matches!(request.answer(frame), Err(AnswerError::Foreign { .. })));
        assert_eq!(lenient.answer(frame).map(|answer| answer.data), Ok(vec![1]));
    }
    // never lenient: another meter, another identifier, another function, more than asked for
    let mut all = request.clone();
    all.target.lenient = Leniency {
        ser: true,
        di_order: true,
        meter_type: true,
    };
    let other_meter = other(&|target| target.address.0[0] = 0x19);
    let other_di = answer_frame(&Request::read(water(7), DataId(0xD120)), &[1], 0);
    let other_function = answer_frame(&Request::write(water(7), DataId::CURRENT, vec![]).unwrap(), &[1], 0);
    let long = answer_frame(&request, &[0; 98], 0);
    for frame in [&other_meter, &other_di, &other_function, &long, &all.wire()] {
        assert!(matches!(all.answer(frame), Err(AnswerError::Foreign { .. })));
    }
    assert!(all.with_longest(120).answer(&long).is_ok());
}

#[test]
fn refusals_come_in_several_shapes() {
    let request = Request::read(water(7), DataId::CURRENT);
    let refused = |data: &[u8]| {
        let frame = frame(&request, Control::refused(Function::Read), data.to_vec(), 2);
        request.answer(&frame).unwrap_err()
    };
    assert_eq!(refused(&[7, 0x41, 0]), AnswerError::Refused(0x41));
    assert_eq!(refused(&[0x90, 0x1F, 7]), AnswerError::Refused(0));
    assert_eq!(refused(&[0x90, 0x1F, 7, 4, 0]), AnswerError::Refused(4));
    assert_eq!(refused(&[3]), AnswerError::Refused(3));
    assert_eq!(refused(&[]), AnswerError::Refused(0));
    assert!(matches!(refused(&[8, 0x41, 0]), AnswerError::Foreign { .. }));
    assert!(matches!(refused(&[0x90, 0x2F, 7, 4, 0]), AnswerError::Foreign { .. }));
    assert!(matches!(
        refused(&[0x90, 0x1F, 7, 4, 0, 0]),
        AnswerError::Foreign { .. }
    ));
}

#[test]
fn kin_is_what_every_refusal_repeats() {
    let kin = |target: Target, di| Request::read(target, di).kin();
    assert_eq!(kin(water(1), DataId::CURRENT), kin(water(1), DataId(0xD120)));
    assert_ne!(kin(water(1), DataId::CURRENT), kin(water(2), DataId::CURRENT));
    assert_ne!(kin(water(1), DataId::CURRENT), Request::read_address(water(1)).kin());
    let careless = |ser| Target {
        lenient: Leniency {
            ser: true,
            ..Leniency::default()
        },
        ..water(ser)
    };
    assert_eq!(kin(careless(1), DataId::CURRENT), kin(careless(2), DataId::CURRENT));
}

#[test]
fn too_much_to_write_is_refused() {
    let wide = Request::write(water(0), DataId::WRITE_PRICES, vec![0; 48]);
    assert_eq!(wide, Err(RequestError::Length { count: 48, max: 47 }));
    let clock = chrono::NaiveDate::from_ymd_opt(10_000, 1, 1)
        .unwrap()
        .and_hms_opt(0, 0, 0)
        .unwrap();
    assert_eq!(
        Request::write_clock(water(0), clock),
        Err(RequestError::Value(ValueError::Year(10_000)))
    );
    let clock = chrono::NaiveDate::from_ymd_opt(2026, 11, 21)
        .unwrap()
        .and_hms_opt(13, 45, 9)
        .unwrap();
    let wire = Request::write_clock(water(0), clock).unwrap().wire();
    assert!(hex::encode(&wire).contains("040AA0150009451321112620"));
}

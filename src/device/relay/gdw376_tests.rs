//! Relay frames through a concentrator against the capture of a real one (shared vectors): command, acknowledgement, read-back.

use super::super::kit::{manner, model as found, permit_of, target as plain};
use super::super::*;
use crate::base::hex;
use crate::domain::command::machine::Behind;
use crate::protocol::dlt645::{Address, Control, answer_frame};
use crate::protocol::gdw376::forward::{self, Question};
use crate::protocol::gdw376::{Afn, ArchiveMeter, Edition, Fn, Frame, Id, Message, Request as Outer, Unit, archive};
use crate::protocol::{Protocol, Request};
use proptest::prelude::*;

const MODEL: &str = "gdw376_single_phase";
/// Of the captures.
const METER: &str = "151230011061";
const TRIP: &str = "68611001301215681C10356A3935343333334D333333336345CC2C16";
const TRIPPED: &str = "688E008E0068A8000234120410E5000001001F0C0068611001301215689C0035164F000527040022053B16";
const OPEN: &str = "68A600A60068A8000234120410E6000001001F120068611001301215689106363833378333BE164F000604050022053316";

fn model() -> MeterModel {
    found(Protocol::Gdw376, MODEL)
}

fn target() -> Target {
    Target {
        protocol: Protocol::Gdw376.name().into(),
        model: MODEL.into(),
        behind: Some(Behind {
            place: 7,
            meter_address: METER.into(),
            meter_protocol: "DL/T 645-2007".into(),
            port: 31,
        }),
        ..plain("12")
    }
}

fn wire(text: &str) -> [u8; 6] {
    let mut bytes: [u8; 6] = hex::decode(text).unwrap().try_into().unwrap();
    bytes.reverse();
    bytes
}

fn outer(request: &Request) -> &Outer {
    match request {
        Request::Gdw376(request) => request,
        other => panic!("{other:?}"),
    }
}

/// The data that a terminal answers, as the trunk hands it to the one that asked.
fn answered(request: &Request, item: Fn, data: Vec<u8>) -> Vec<u8> {
    let id = Id::terminal(item);
    let request = outer(request);
    request
        .excerpt(
            request.afn(),
            &[Unit {
                id,
                data,
                start: 0,
                reading: None,
            }],
        )
        .unwrap()
}

/// A meter's word, passed back.
fn passed(request: &Request, frame: Vec<u8>) -> Vec<u8> {
    let data = forward::Answer { port: 31, frame }.write().unwrap();
    answered(request, Fn::F1, data)
}

/// The same of a captured frame.
fn captured(request: &Request, frame: &str) -> Vec<u8> {
    let message = Message::of(&Frame::parse(&hex::decode(frame).unwrap()).unwrap()).unwrap();
    let units = message.units(Edition::E2013).unwrap();
    outer(request).excerpt(Afn::FORWARD, &units).unwrap()
}

fn inner(request: &Request) -> Vec<u8> {
    let (_, data) = outer(request).asks().next().unwrap();
    let question = Question::read(data).unwrap();
    assert_eq!(
        hex::encode(&data[..4]),
        "1F6BBC0A",
        "port, line and time-outs as they were seen"
    );
    question.frame
}

/// An answer of a meter under an address: data with the identifier in front.
fn says(address: &str, data: &str) -> Vec<u8> {
    answer_frame(
        Address::parse(address).unwrap(),
        Control(0x91),
        0,
        &hex::decode(data).unwrap(),
    )
}

fn there(change: impl FnOnce(&mut ArchiveMeter)) -> Vec<u8> {
    let mut meter = ArchiveMeter::new(7, 12, wire(METER));
    change(&mut meter);
    archive::write(&[meter]).unwrap()
}

#[test]
fn the_dialogue_is_that_of_a_real_station() {
    let model = model();
    let request = encode(permit_of(Action::Disconnect, target()), &model, &manner()).unwrap();
    assert_eq!(hex::encode(&inner(&request)), TRIP);
    assert_eq!(word(&request, &captured(&request, TRIPPED)), Word::Done);
    let back = read_back(&model, &target(), &Action::Disconnect).unwrap();
    assert_eq!(hex::encode(&inner(&back[0])), "68611001301215681104363833378616");
    let open = captured(&back[0], OPEN);
    let judged = |action, power: Option<&[u8]>| judge(&model, &action, &back, &[Some(&open), power], &manner());
    let as_wanted = |said: &str| Ok(Judgement::AsWanted { said: said.into() });
    assert_eq!(
        judged(Action::Disconnect, None),
        as_wanted("relay open (status word 3)")
    );
    let closed = Ok(Judgement::Otherwise {
        said: "relay open (status word 3)".into(),
    });
    assert_eq!(judged(Action::Reconnect, None), closed);
    // 0.0000 kW and 1.5000 kW, the meter's own
    let none = passed(&back[1], says(METER, "00000302000000"));
    assert_eq!(
        judged(Action::Disconnect, Some(&none)),
        as_wanted("relay open (status word 3), load 0 W")
    );
    let some = passed(&back[1], says(METER, "00000302005001"));
    let flows = judged(Action::Disconnect, Some(&some)).unwrap();
    assert!(
        matches!(&flows, Judgement::Otherwise { said } if said.contains("1500 W flows")),
        "{flows:?}"
    );
}

#[test]
fn another_meter_silence_and_a_refusal_are_no_acknowledgement() {
    let model = model();
    let request = encode(permit_of(Action::Reconnect, target()), &model, &manner()).unwrap();
    let of = |address: &str, control: u8, data: &[u8]| {
        let frame = answer_frame(Address::parse(address).unwrap(), Control(control), 0, data);
        word(&request, &passed(&request, frame))
    };
    assert_eq!(of(METER, 0x9C, &[]), Word::Done);
    assert!(
        matches!(of("151230011062", 0x9C, &[]), Word::Silent(_)),
        "another meter"
    );
    assert!(
        matches!(of(METER, 0x91, &[1, 2, 3, 4]), Word::Silent(_)),
        "another question's"
    );
    let refused = of(METER, 0xDC, &[4]);
    assert!(
        matches!(&refused, Word::Refused(why) if why.contains("wrong password")),
        "{refused:?}"
    );
    assert!(matches!(word(&request, &passed(&request, Vec::new())), Word::Silent(_)));
    // what is read back of another meter tells nothing
    let back = read_back(&model, &target(), &Action::Reconnect).unwrap();
    let other = passed(&back[0], says("151230011062", "030500040000"));
    assert!(judge(&model, &Action::Reconnect, &back, &[Some(&other)], &manner()).is_err());
    assert!(judge(&model, &Action::Reconnect, &back, &[None], &manner()).is_err());
}

#[test]
fn a_meter_is_proven_by_the_archive_and_by_itself() {
    let (model, target) = (model(), target());
    let requests = identify(&model, &target).unwrap();
    let own = passed(&requests[1], says(METER, "01040004611001301215"));
    let word = passed(&requests[2], says(METER, "030500040000"));
    let proven = |archive: Vec<u8>, own: Option<&[u8]>, word: Option<&[u8]>| {
        let archive = answered(&requests[0], Fn::new(10).unwrap(), archive);
        identified(&model, &target, &requests, &[Some(&archive), own, word])
    };
    let said = proven(there(|_| {}), Some(&own), Some(&word)).unwrap();
    assert_eq!(
        said,
        "place 7 of the concentrator's archive, communication address 151230011061"
    );
    // a meter without that identifier is proven by answering
    let refuses = answer_frame(Address::parse(METER).unwrap(), Control(0xD1), 0, &[2]);
    let refuses = passed(&requests[1], refuses);
    assert!(
        proven(there(|_| {}), Some(&refuses), Some(&word))
            .unwrap()
            .contains("under its address")
    );
    // nobody answers, another answers, it says that it is another
    assert!(proven(there(|_| {}), None, None).is_err());
    let stranger = passed(&requests[1], says("151230011062", "01040004621001301215"));
    assert!(proven(there(|_| {}), Some(&stranger), Some(&word)).is_err());
    let says_other = passed(&requests[1], says(METER, "01040004621001301215"));
    assert!(proven(there(|_| {}), Some(&says_other), Some(&word)).is_err());
    // the concentrator has another meter there, or none, or tells nothing
    let error = proven(
        there(|meter| meter.address = wire("151230011062")),
        Some(&own),
        Some(&word),
    )
    .unwrap_err();
    assert!(error.to_string().contains("has meter 151230011062"), "{error}");
    assert!(proven(archive::write(&[]).unwrap(), Some(&own), Some(&word)).is_err());
    assert!(identified(&model, &target, &requests, &[None, Some(&own), Some(&word)]).is_err());
}

#[test]
fn without_a_certain_target_there_is_no_frame() {
    let model = model();
    let change = |change: fn(&mut Behind)| {
        let mut target = target();
        target.behind.as_mut().map(change);
        target
    };
    let nowhere = Target {
        behind: None,
        ..target()
    };
    for target in [
        nowhere,
        change(|behind| behind.meter_protocol = "DL/T 645-1997".into()),
        change(|behind| behind.meter_address = "AAAAAAAAAAAA".into()),
        change(|behind| behind.meter_address = "999999999999".into()),
    ] {
        assert!(matches!(
            check(&model, &target, &Action::Disconnect),
            Err(RelayError::NotPlaced(_))
        ));
        assert!(identify(&model, &target).is_err());
        assert!(read_back(&model, &target, &Action::Disconnect).is_err());
        assert!(encode(permit_of(Action::Disconnect, target), &model, &manner()).is_err());
    }
    assert!(matches!(
        check(&model, &target(), &Action::KeepPower),
        Err(RelayError::NotSupported { .. })
    ));
}

proptest! {
    /// Whatever of the place differs, the meter is not proven.
    #[test]
    fn a_place_that_differs_proves_nothing(place in 1u16..20, point in 1u16..20, digit in 0usize..12, other in 0u8..10,
                                           port in 1u8..32, protocol in 0usize..5) {
        let (model, target) = (model(), target());
        let requests = identify(&model, &target).unwrap();
        let own = passed(&requests[1], says(METER, "01040004611001301215"));
        let mut address = METER.as_bytes().to_vec();
        address[digit] = b'0' + other;
        let address = String::from_utf8(address).unwrap();
        let protocol = crate::domain::archive::PROTOCOLS[protocol];
        let same = (place, point, address.as_str(), port, protocol) == (7, 12, METER, 31, "DL/T 645-2007");
        let said = there(|meter| {
            (meter.place, meter.point, meter.port) = (place, point, port);
            meter.address = wire(&address);
            meter.protocol = archive::MeterProtocol::by_name(protocol).unwrap();
        });
        let said = answered(&requests[0], Fn::new(10).unwrap(), said);
        prop_assert_eq!(identified(&model, &target, &requests, &[Some(&said), Some(&own), None]).is_ok(), same);
    }

    /// Of any bytes that come back, only this meter's own acknowledgement is one.
    #[test]
    fn bytes_are_no_acknowledgement(bytes in proptest::collection::vec(any::<u8>(), 0..40), flip in 0usize..14, bit in 0u8..8) {
        let model = model();
        let request = encode(permit_of(Action::Disconnect, target()), &model, &manner()).unwrap();
        prop_assert_ne!(word(&request, &passed(&request, bytes)), Word::Done);
        let mut own = answer_frame(Address::parse(METER).unwrap(), Control(0x9C), 0, &[]);
        let flip = flip % own.len();
        own[flip] ^= 1 << bit;
        prop_assert_ne!(word(&request, &passed(&request, own)), Word::Done);
    }
}

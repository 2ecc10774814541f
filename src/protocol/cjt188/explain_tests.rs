//! Explanations name every byte, and what is broken says where.

use super::*;
use crate::protocol::cjt188::request::tests::any_request;
use crate::protocol::explain::explain_all;
use proptest::prelude::*;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// Fields lie one behind the other and cover the frame.
fn assert_covered(frame: &Explained) {
    let mut place = frame.start;
    for field in &frame.fields {
        assert_eq!(field.start, place, "{frame:?}");
        place = field.end;
    }
    assert_eq!(place, frame.end, "{frame:?}");
}

const ASKED: &str = "FEFEFEFE68104433221100337801031F90008016";
const ANSWER: &str = "FEFEFEFE68104433221100337881161F9000007766552C007766552C3101221105152021841316";

#[test]
fn a_question_and_its_answer_are_explained() {
    let frames = explain(&bytes(&[ASKED, ANSWER].concat()));
    let [Ok(asked), Ok(answer)] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_covered(asked);
    assert_covered(answer);
    assert_eq!(
        (asked.protocol, asked.direction, answer.direction),
        ("cjt188", Direction::Request, Direction::Response)
    );
    assert_eq!(
        (asked.address.as_str(), asked.function_name),
        ("78330011223344", Some("read"))
    );
    assert_eq!(
        (asked.items[0].id.as_str(), asked.items[0].name.as_str()),
        ("901F", "current data")
    );
    assert_eq!(
        (answer.start, answer.end, answer.control.as_deref()),
        (20, 59, Some("0x81"))
    );
    let items: Vec<_> = answer
        .items
        .iter()
        .map(|item| (item.quantity.as_deref(), item.value.as_deref(), item.unit.as_deref()))
        .collect();
    assert_eq!(
        items,
        [
            (Some("volume_total"), Some("556677.00"), Some("m3")),
            (Some("volume_settlement"), Some("556677.00"), Some("m3")),
            (None, Some("2015-05-11 22:01:31"), None),
            (Some("status_word"), Some("8421"), None),
        ]
    );
    let texts: Vec<_> = answer
        .fields
        .iter()
        .map(|field| (field.name, field.value.as_str()))
        .collect();
    assert!(texts.contains(&("type", "10, cold water")));
    assert!(texts.contains(&("di", "901F, current data, low byte first")));
    assert!(texts.contains(&("status", "valve closed, battery good, maker's byte 84")));
}

#[test]
fn noise_stands_as_an_error_at_its_place() {
    let noisy = bytes(&format!("0068FF{ASKED}6868{ANSWER}00"));
    let frames = explain(&noisy);
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| frame.as_ref().map(|f| f.start).map_err(|e| e.offset))
        .collect();
    assert_eq!(shown, [Err(3), Ok(3), Err(25), Ok(25), Err(64)]);
}

#[test]
fn what_is_broken_says_where() {
    let error = |text: &str| explain(&bytes(text)).remove(0).unwrap_err();
    // the published frame with its wrong sum
    let published = ANSWER.replace("841316", "840816");
    let wrong = error(&published);
    assert_eq!((wrong.offset, wrong.checksum_ok), (37, Some(false)));
    assert_eq!(wrong.error, "checksum on the wire is 08, computed 13");
    // recognised by itself, too
    let by_itself = explain_all(None, &bytes(&published)).remove(0).unwrap_err();
    assert_eq!(by_itself, wrong);
    let cut = error(&ANSWER[..60]);
    assert_eq!(
        (cut.offset, cut.error.as_str()),
        (30, "26 bytes are too few; the frame needs 35")
    );
    assert_eq!(error("FEFE").error, "no 68 that begins a frame");
}

#[test]
fn a_frame_of_dlt645_between_ours_is_told_apart() {
    // both begin with 68: a DL/T 645-2007 read of the total energy, then our question and answer
    let other = "FEFEFEFE68129078563412681104333334336816";
    let alone = explain_all(None, &bytes(other));
    assert!(
        matches!(alone.as_slice(), [Ok(frame)] if frame.protocol.starts_with("dlt645")),
        "{alone:?}"
    );
    let ours = explain_all(None, &bytes(&[ASKED, other, ANSWER].concat()));
    let shown: Vec<_> = ours
        .iter()
        .map(|frame| frame.as_ref().map(|f| f.protocol).ok())
        .collect();
    assert_eq!(shown, [Some("cjt188"), None, Some("cjt188")]);
}

#[test]
fn refusals_and_commands_are_named() {
    let refusal = explain(&bytes("FEFE681018021220200000C103070400B316"))
        .remove(0)
        .unwrap();
    assert_covered(&refusal);
    assert_eq!(refusal.refusal.map(|refusal| refusal.code), Some(4));
    let valve = explain(&bytes("FEFEFE6810011312190000000404A0170177EE16"))
        .remove(0)
        .unwrap();
    assert_eq!(valve.items[0].value.as_deref(), Some("a command of the maker's own"));
    let address = explain(&bytes("683003000000000000150A18A0FF050000000000007616"))
        .remove(0)
        .unwrap();
    assert_covered(&address);
    assert_eq!(address.items[0].value.as_deref(), Some("00000000000005"));
}

#[test]
fn values_that_are_none_are_said_so() {
    let gas = explain(&bytes(
        "68300300000000000081161F9002452301002CFFFFFFFF2C00000A010126200500F716",
    ))
    .remove(0)
    .unwrap();
    assert_eq!(gas.items[0].quantity.as_deref(), Some("gas_volume"));
    assert_eq!(
        (gas.items[1].value.as_deref(), gas.items[1].raw.as_deref()),
        (None, Some("FFFFFFFF2C"))
    );
    assert_eq!(gas.notes, ["meter time: 2026-01-01 0A:00:00 is no date and time"]);
}

proptest! {
    #[test]
    fn every_question_is_explained_whole(request in any_request(), preamble in 0usize..4) {
        let wire = [vec![0xFE; preamble], request.wire()].concat();
        let frames = explain(&wire);
        prop_assert!(frames.len() <= 2, "{:?}", frames);
        let last = frames.last().unwrap().as_ref().unwrap();
        assert_covered(last);
        prop_assert_eq!(last.end, wire.len());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x68u8)], 0..300)) {
        for frame in explain(&bytes).into_iter().flatten() {
            assert_covered(&frame);
        }
    }
}

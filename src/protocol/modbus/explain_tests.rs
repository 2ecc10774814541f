//! Explanations name every byte, and what is broken says where.

use super::*;
use crate::protocol::Protocol;
use crate::protocol::explain::{explain, explain_all};
use crate::protocol::modbus::request::tests::any_request;
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

#[test]
fn a_request_and_its_answer_are_explained_together() {
    let frames = explain(None, &bytes("0103000000 02C40B 010304 000006B2 79E6")).unwrap();
    let [request, answer] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_covered(request);
    assert_covered(answer);
    assert_eq!(
        (request.protocol, request.direction),
        ("modbus-rtu", Direction::Request)
    );
    assert_eq!((request.address.as_str(), request.function), ("1", Some(3)));
    assert_eq!(request.items[0].name, "registers 0 to 1");
    assert_eq!(
        (answer.direction, answer.start, answer.end),
        (Direction::Response, 8, 17)
    );
    let items: Vec<_> = answer
        .items
        .iter()
        .map(|i| (i.id.as_str(), i.value.as_deref()))
        .collect();
    assert_eq!(items, [("0x0000", Some("0")), ("0x0001", Some("1714"))]);
    assert_eq!(answer.checksum_ok, Some(true));
    // alone, the answer does not say where its registers are
    let alone = explain(Some(Protocol::ModbusRtu), &bytes("010304000006B279E6")).unwrap();
    assert_eq!(alone[0].items[1].id, "+1");
    assert_eq!(alone[0].notes.len(), 1);
}

#[test]
fn a_refusal_is_named() {
    let frames = explain(None, &bytes("0A8102B053")).unwrap();
    assert_covered(&frames[0]);
    let refusal = frames[0].refusal.unwrap();
    assert_eq!((refusal.code, refusal.name), (2, "illegal data address"));
    assert_eq!(
        (frames[0].function, frames[0].direction),
        (Some(1), Direction::Response)
    );
}

#[test]
fn the_second_of_two_equal_frames_is_the_answer() {
    let frames = explain(None, &bytes("0106000004354B1D0106000004354B1D")).unwrap();
    let directions: Vec<_> = frames.iter().map(|frame| frame.direction).collect();
    assert_eq!(directions, [Direction::Request, Direction::Response]);
}

#[test]
fn a_broadcast_is_a_request() {
    let frame = super::super::frame::seal(0, &[6, 0, 1, 0, 2]);
    let frames = explain(None, &frame).unwrap();
    assert_eq!(
        (frames[0].address.as_str(), frames[0].direction),
        ("0", Direction::Request)
    );
}

#[test]
fn what_is_broken_says_where() {
    let error = |text| explain(Some(Protocol::ModbusRtu), &bytes(text)).unwrap_err();
    assert_eq!(
        error("110306AE4156524340AD49"),
        ExplainError {
            checksum_ok: Some(false),
            ..ExplainError::new("crc on the wire is 49AD, computed AD49 (low byte first on the wire)", 9)
        }
    );
    assert_eq!(
        error("01030400"),
        ExplainError::new("the frame breaks off: it needs 9 bytes and has 4", 4)
    );
    assert_eq!(
        error("016500"),
        ExplainError::new("function 0x65 is not one of 1 to 6, 15, 16", 1)
    );
    assert_eq!(error("01").offset, 0);
    assert!(explain(None, &[]).unwrap().is_empty());
}

#[test]
fn noise_between_frames_is_an_error_and_the_search_goes_on() {
    let frames = explain_all(None, &bytes("FFFF 0103000000 02C40B EE 010304000006B279E6"));
    let kinds: Vec<bool> = frames.iter().map(Result::is_ok).collect();
    assert_eq!(kinds, [false, true, false, true]);
    let answer = frames[3].as_ref().unwrap();
    assert_eq!((answer.start, answer.items[1].id.as_str()), (11, "0x0001"));
}

#[test]
fn modbus_tcp_is_recognised() {
    let text = "000100000006 FF0300000002 000100000007 FF0304000006B2";
    let frames = explain(None, &bytes(text)).unwrap();
    let [request, answer] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_covered(request);
    assert_covered(answer);
    assert_eq!(
        (request.protocol, request.direction),
        ("modbus-tcp", Direction::Request)
    );
    assert_eq!((answer.direction, answer.checksum_ok), (Direction::Response, None));
    assert_eq!(answer.items[1].value.as_deref(), Some("1714"));
    let error = explain(Some(Protocol::ModbusTcp), &bytes("000100010006FF0300000002")).unwrap_err();
    assert_eq!(error.offset, 2);
}

proptest! {
    #[test]
    fn every_valid_conversation_is_explained_whole(request in any_request(), seed in any::<u64>()) {
        let reply = super::super::answer::tests::fitting(&request, seed);
        let answer = request.reply_frame(&reply).unwrap();
        let both = [request.wire(), answer].concat();
        let frames = explain(Some(Protocol::ModbusRtu), &both).unwrap();
        let directions: Vec<_> = frames.iter().map(|frame| frame.direction).collect();
        prop_assert_eq!(directions, vec![Direction::Request, Direction::Response]);
        for frame in &frames {
            assert_covered(frame);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for protocol in [None, Some(Protocol::ModbusRtu), Some(Protocol::ModbusTcp)] {
            for frame in explain_all(protocol, &bytes) {
                match frame {
                    Ok(frame) => prop_assert!(frame.start < frame.end && frame.end <= bytes.len()),
                    Err(error) => prop_assert!(error.offset <= bytes.len()),
                }
            }
        }
    }
}

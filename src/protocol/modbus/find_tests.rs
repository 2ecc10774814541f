//! What the finder promises, shown on random requests, every split, and the shared vectors.

use super::*;
use crate::base::hex;
use crate::protocol::modbus::answer::tests::fitting;
use crate::protocol::modbus::request::tests::any_request;
use crate::protocol::modbus::{FRAME_MAX, Function, Heard, Reply, hear};
use proptest::prelude::*;
use std::path::PathBuf;

/// Feeds `bytes` in pieces as a line would, drops noise and what was found as the line does, and returns the first
/// answer or refusal with what came before it.
fn feed(request: &Request, pieces: &[&[u8]]) -> (Option<(Vec<u8>, Verdict)>, Vec<Verdict>) {
    let (mut buffer, mut before) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match request.find(&buffer) {
                Finding::NeedMore { noise } => {
                    assert!(buffer.len() - noise <= FRAME_MAX, "holds more than a frame");
                    buffer.drain(..noise);
                    break;
                }
                Finding::Frame { span, verdict } => {
                    let frame = buffer[span.clone()].to_vec();
                    buffer.drain(..span.end);
                    if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                        return (Some((frame, verdict)), before);
                    }
                    before.push(verdict);
                }
            }
        }
    }
    (None, before)
}

fn read(unit: u8, code: u8, address: u16, count: u16) -> Request {
    Request::read(unit, Function::by_code(code).unwrap(), address, count).unwrap()
}

fn expected_verdict(reply: &Reply) -> Verdict {
    match reply {
        Reply::Exception(code) => Verdict::Refused(*code),
        _ => Verdict::Answer,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_found_behind_noise_in_any_split(
        request in any_request(),
        seed in any::<u64>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        first in 0usize..300,
        second in 0usize..300,
    ) {
        let reply = fitting(&request, seed);
        let frame = request.reply_frame(&reply).unwrap();
        let bytes = [noise, frame.clone()].concat();
        let mut cuts = [first % (bytes.len() + 1), second % (bytes.len() + 1)];
        cuts.sort_unstable();
        let [a, b] = cuts;
        // one byte more ends what noise may have begun; the line's deadline does it in the field
        let tail = vec![0u8; FRAME_MAX];
        let (found, _) = feed(&request, &[&bytes[..a], &bytes[a..b], &bytes[b..], &tail]);
        prop_assert_eq!(found, Some((frame, expected_verdict(&reply))));
    }

    #[test]
    fn an_answer_alone_is_found_with_its_last_byte_and_not_before(request in any_request(), seed in any::<u64>()) {
        let reply = fitting(&request, seed);
        let frame = request.reply_frame(&reply).unwrap();
        for cut in 0..frame.len() {
            prop_assert_eq!(request.find(&frame[..cut]), Finding::NeedMore { noise: 0 });
        }
        let len = frame.len();
        prop_assert_eq!(request.find(&frame), Finding::Frame { span: 0..len, verdict: expected_verdict(&reply) });
    }

    #[test]
    fn the_beginning_of_an_answer_is_never_noise(
        request in any_request(),
        seed in any::<u64>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        cut in 1usize..300,
    ) {
        let frame = request.reply_frame(&fitting(&request, seed)).unwrap();
        let begun = &frame[..1 + cut % (frame.len() - 1)];
        let bytes = [noise.as_slice(), begun].concat();
        match request.find(&bytes) {
            Finding::NeedMore { noise: dropped } => prop_assert!(dropped <= noise.len()),
            Finding::Frame { span, .. } => prop_assert!(span.end <= noise.len() + 2),
        }
    }

    #[test]
    fn no_flipped_bit_is_an_answer(request in any_request(), seed in any::<u64>(), bit in 0usize..3000) {
        let frame = request.reply_frame(&fitting(&request, seed)).unwrap();
        let mut broken = frame.clone();
        let bit = bit % (frame.len() * 8);
        broken[bit / 8] ^= 1 << (bit % 8);
        let found = request.find_last(&broken);
        let answered = matches!(found, Finding::Frame { verdict: Verdict::Answer | Verdict::Refused(_), .. });
        prop_assert!(!answered, "{found:?}");
    }

    #[test]
    fn a_late_answer_to_another_question_is_a_stray(
        request in any_request(),
        other in any_request(),
        seed in any::<u64>(),
    ) {
        let reply = fitting(&other, seed);
        let late = other.reply_frame(&reply).unwrap();
        // RTU has no transaction id: one of the same unit, function and length cannot be told apart
        prop_assume!(request.reply(&late).is_err());
        prop_assume!(late != request.wire());
        let len = late.len();
        prop_assert_eq!(request.find_last(&late), Finding::Frame { span: 0..len, verdict: Verdict::Foreign });
        let own = fitting(&request, 1);
        let answer = request.reply_frame(&own).unwrap();
        let (found, before) = feed(&request, &[&late, &answer]);
        prop_assert_eq!(found, Some((answer, expected_verdict(&own))));
        prop_assert_eq!(before, vec![Verdict::Foreign]);
    }

    #[test]
    fn random_bytes_never_panic_and_never_answer(
        request in any_request(),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        for found in [request.find(&bytes), request.find_last(&bytes)] {
            match found {
                Finding::NeedMore { noise } => prop_assert!(noise <= bytes.len()),
                Finding::Frame { span, .. } => prop_assert!(span.start < span.end && span.end <= bytes.len()),
            }
        }
        let _unused = hear(&bytes);
    }
}

#[test]
fn an_echo_is_skipped_and_the_answer_found() {
    let request = read(1, 3, 0, 2);
    let answer = request.reply_frame(&Reply::Registers(vec![0, 1714])).unwrap();
    let (found, before) = feed(&request, &[&request.wire(), &answer]);
    assert_eq!(found, Some((answer, Verdict::Answer)));
    assert_eq!(before, [Verdict::Echo]);
    // where the address looks like the byte count of the answer
    let request = read(1, 4, 0x0400, 2);
    let answer = request.reply_frame(&Reply::Registers(vec![1, 2])).unwrap();
    let (found, before) = feed(&request, &[&request.wire(), &answer]);
    assert_eq!((found, before), (Some((answer, Verdict::Answer)), vec![Verdict::Echo]));
    // and where even the lengths agree
    let request = read(1, 1, 0x0300, 20);
    assert_eq!(
        request.find(&request.wire()),
        Finding::Frame {
            span: 0..8,
            verdict: Verdict::Echo
        }
    );
}

#[test]
fn single_writes_are_answered_by_their_own_bytes_multiple_writes_are_not() {
    let single = Request::checked(17, Body::WriteRegister { address: 1, value: 3 }).unwrap();
    let wire = single.wire();
    let answered = Finding::Frame {
        span: 0..8,
        verdict: Verdict::Answer,
    };
    assert_eq!(single.find(&wire), answered);
    let many = Request::checked(
        17,
        Body::WriteRegisters {
            address: 100,
            registers: vec![0x1234, 0x5678],
        },
    )
    .unwrap();
    assert!(matches!(
        many.find(&many.wire()),
        Finding::Frame {
            verdict: Verdict::Echo,
            ..
        }
    ));
    assert_eq!(many.find(&hex::decode("1110006400020287").unwrap()), answered);
}

#[test]
fn other_units_functions_and_lengths_are_strays() {
    let request = read(1, 3, 0, 2);
    for other in [read(2, 3, 0, 2), read(1, 4, 0, 2), read(1, 3, 0, 1), read(1, 3, 0, 3)] {
        let registers = vec![7; other.count().into()];
        let frame = other.reply_frame(&Reply::Registers(registers)).unwrap();
        let (found, before) = feed(&request, &[&frame]);
        assert_eq!((found, before), (None, vec![Verdict::Foreign]));
        let refusal = other.reply_frame(&Reply::Exception(2)).unwrap();
        let mine = other.unit() == 1 && other.function() == request.function();
        assert_eq!(feed(&request, &[&refusal]).0.is_some(), mine);
    }
}

#[test]
fn what_may_still_be_the_answer_is_never_noise() {
    let request = read(1, 3, 0, 2);
    // a stray's last bytes, then the head of the answer
    let head = [0xFF, 0xFF, 1, 3, 4, 0, 0];
    assert_eq!(request.find(&head), Finding::NeedMore { noise: 2 });
    // a whole valid frame of another unit inside what may be the answer is data
    let request = read(1, 3, 0, 8);
    let inner = read(5, 3, 0, 1).wire();
    let mut bytes = vec![1, 3, 16, 0, 0];
    bytes.extend_from_slice(&inner);
    assert_eq!(request.find(&bytes), Finding::NeedMore { noise: 0 });
    assert_eq!(
        request.find_last(&bytes),
        Finding::Frame {
            span: 5..13,
            verdict: Verdict::Foreign
        }
    );
}

/// Noise that makes a valid frame of another unit together with the first three bytes of an answer.
fn noise_into(head: [u8; 3]) -> Vec<u8> {
    use crate::protocol::modbus::crc16;
    let [unit, crc @ ..] = head;
    // two adjacent free bytes reach every CRC
    let body = |free: u16| {
        let [high, low] = free.to_be_bytes();
        [200, 4, 4, 0, high, low, unit]
    };
    let found = (0..=u16::MAX).map(body).find(|body| crc16(body).to_le_bytes() == crc);
    found.unwrap()[..6].to_vec()
}

#[test]
fn a_stray_that_reaches_into_the_answer_is_not_believed() {
    for unit in [1, 2, 247] {
        let request = read(unit, 3, 0, 2);
        let answer = request.reply_frame(&Reply::Registers(vec![0, 1714])).unwrap();
        let noise = noise_into([answer[0], answer[1], answer[2]]);
        let bytes = [noise, answer.clone()].concat();
        assert_eq!(request.find(&bytes[..9]), Finding::NeedMore { noise: 0 });
        let verdict = Verdict::Answer;
        assert_eq!(request.find(&bytes), Finding::Frame { span: 6..15, verdict });
        // when the answer breaks off, the stray is one after all
        let verdict = Verdict::Foreign;
        assert_eq!(request.find_last(&bytes[..14]), Finding::Frame { span: 0..9, verdict });
    }
}

fn vectors() -> Option<String> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let file = shared.join("vectors/modbus-rtu.jsonl");
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("absent, so not checked: {}", file.display());
    }
    text
}

fn numbers<T: TryFrom<u64>>(value: &serde_json::Value) -> Option<Vec<T>> {
    let list = value.as_array()?;
    list.iter()
        .map(|v| v.as_u64().and_then(|v| T::try_from(v).ok()))
        .collect()
}

/// The request that a response vector would answer; its address is not on the wire.
fn asking(frame: &[u8], meaning: &serde_json::Value) -> Request {
    let (unit, function) = (frame[0], Function::by_code(frame[1] & 0x7F).unwrap());
    let address = u16::try_from(meaning["address"].as_u64().unwrap_or(0)).unwrap();
    match function {
        Function::WriteSingleCoil | Function::WriteSingleRegister if frame[1] & 0x80 == 0 => {
            Request::parse(frame).unwrap()
        }
        Function::WriteMultipleRegisters => {
            let registers = vec![0; usize::from(frame[5])];
            Request::checked(unit, Body::WriteRegisters { address, registers }).unwrap()
        }
        Function::WriteSingleRegister => Request::checked(unit, Body::WriteRegister { address, value: 7 }).unwrap(),
        f if f.is_bits() => {
            let listed = meaning["bits"].as_array().map(Vec::len);
            let count = listed.unwrap_or(usize::from(frame[2]) * 8);
            Request::read(unit, f, address, u16::try_from(count).unwrap()).unwrap()
        }
        f => Request::read(unit, f, address, u16::from(frame[2] / 2).max(1)).unwrap(),
    }
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    let Some(text) = vectors() else { return };
    let mut seen = 0;
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let frame = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
        let meaning = &vector["meaning"];
        seen += 1;
        if !meaning["error"].is_null() {
            let request = asking(&frame, meaning);
            assert!(request.reply(&frame).is_err(), "{line}");
            assert!(Request::parse(&frame).is_err(), "{line}");
            assert!(feed(&request, &[&frame]).0.is_none(), "{line}");
            continue;
        }
        if vector["direction"] == "request" {
            let request = Request::parse(&frame).unwrap();
            assert_eq!(request.wire(), frame, "{line}");
            assert_eq!(u64::from(request.unit()), meaning["unit"].as_u64().unwrap());
            assert_eq!(Some(u64::from(request.address())), meaning["address"].as_u64());
            if let Some(count) = meaning["count"].as_u64() {
                assert_eq!(u64::from(request.count()), count);
            }
            if let Body::WriteRegisters { registers, .. } = request.body() {
                assert_eq!(Some(registers.clone()), numbers(&meaning["registers"]));
            }
            assert!(matches!(hear(&frame), Heard::Request { .. }));
            continue;
        }
        let request = asking(&frame, meaning);
        let reply = request.reply(&frame).unwrap();
        assert_eq!(request.reply_frame(&reply).unwrap(), frame, "{line}");
        match &reply {
            Reply::Registers(registers) if !meaning["registers"].is_null() => {
                assert_eq!(Some(registers.clone()), numbers(&meaning["registers"]), "{line}");
            }
            Reply::Bits(bits) if !meaning["bits"].is_null() => {
                let said: Option<Vec<bool>> = meaning["bits"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|b| b.as_bool())
                    .collect();
                assert_eq!(Some(bits.clone()), said, "{line}");
            }
            Reply::Exception(code) => assert_eq!(meaning["exception"].as_u64(), Some(u64::from(*code))),
            _ => {}
        }
        for cut in 0..=frame.len() {
            let (found, before) = feed(&request, &[&frame[..cut], &frame[cut..]]);
            assert_eq!(
                found,
                Some((frame.clone(), expected_verdict(&reply))),
                "{line} cut at {cut}"
            );
            assert!(before.is_empty());
        }
        for bit in 0..frame.len() * 8 {
            let mut broken = frame.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(request.reply(&broken).is_err(), "{line} bit {bit}");
            assert!(feed(&request, &[&broken]).0.is_none(), "{line} bit {bit}");
        }
    }
    assert!(seen >= 70, "only {seen} vectors");
}

#[test]
fn the_projects_own_frames_answer_each_other() {
    let text = include_str!("../../../tests/frames/modbus-rtu.jsonl");
    for line in text.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = |key: &str| hex::decode(pair[key].as_str().unwrap()).unwrap();
        let (wire, answer) = (bytes("request"), bytes("answer"));
        let request = Request::parse(&wire).unwrap();
        assert_eq!(request.wire(), wire, "{line}");
        let reply = request.reply(&answer).unwrap();
        assert_eq!(request.reply_frame(&reply).unwrap(), answer, "{line}");
        match &reply {
            Reply::Registers(registers) => assert_eq!(Some(registers.clone()), numbers(&pair["registers"]), "{line}"),
            Reply::Exception(code) => assert_eq!(pair["exception"], *code, "{line}"),
            _ => {}
        }
        let span = 0..answer.len();
        let verdict = expected_verdict(&reply);
        assert_eq!(request.find(&answer), Finding::Frame { span, verdict }, "{line}");
    }
}

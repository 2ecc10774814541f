//! What the finder promises, shown on random questions, every split, and the shared vectors.

use super::*;
use crate::base::hex;
use crate::protocol::cjt188::request::tests::{answer_frame, any_request, refusal_frame};
use crate::protocol::cjt188::{
    Address, AnswerError, DataId, DiOrder, FRAME_MAX, Frame, Function, Heard, Target, hear, record, valve,
};
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

/// An answer or a refusal to a question.
fn reply(request: &Request, data: &[u8], refuses: bool) -> (Vec<u8>, Verdict) {
    if refuses {
        (refusal_frame(request, 0x41), Verdict::Refused(0x41))
    } else {
        (answer_frame(request, data, 4), Verdict::Answer)
    }
}

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=97)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_found_behind_noise_in_any_split(
        request in any_request(),
        data in any_data(),
        refuses in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        first in 0usize..300,
        second in 0usize..300,
    ) {
        let (frame, verdict) = reply(&request, &data, refuses);
        let bytes = [noise, frame.clone()].concat();
        let mut cuts = [first % (bytes.len() + 1), second % (bytes.len() + 1)];
        cuts.sort_unstable();
        let [a, b] = cuts;
        let (found, _) = feed(&request, &[&bytes[..a], &bytes[a..b], &bytes[b..]]);
        // FE bytes of the noise that stand before the frame are taken for its preamble
        let (found, said) = found.unwrap();
        prop_assert!(found.ends_with(&frame) && said == verdict);
    }

    #[test]
    fn an_answer_alone_is_found_with_its_last_byte_and_not_before(
        request in any_request(),
        data in any_data(),
        refuses in any::<bool>(),
    ) {
        let (frame, verdict) = reply(&request, &data, refuses);
        for cut in 0..frame.len() {
            prop_assert_eq!(request.find(&frame[..cut]), Finding::NeedMore { noise: 0 });
        }
        prop_assert_eq!(request.find(&frame), Finding::Frame { span: 0..frame.len(), verdict });
    }

    #[test]
    fn the_beginning_of_an_answer_is_never_noise(
        request in any_request(),
        data in any_data(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        cut in 1usize..300,
    ) {
        let frame = answer_frame(&request, &data, 4);
        let begun = &frame[..1 + cut % (frame.len() - 1)];
        let bytes = [noise.as_slice(), begun].concat();
        match request.find(&bytes) {
            Finding::NeedMore { noise: dropped } => prop_assert!(dropped <= noise.len()),
            Finding::Frame { span, .. } => prop_assert!(span.end <= noise.len() + 9),
        }
    }

    #[test]
    fn no_flipped_bit_is_an_answer(request in any_request(), data in any_data(), bit in 0usize..3000) {
        let frame = answer_frame(&request, &data, 0);
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
        data in any_data(),
    ) {
        let late = answer_frame(&other, &data, 2);
        prop_assume!(request.answer(&late).is_err());
        let len = late.len();
        prop_assert_eq!(request.find_last(&late), Finding::Frame { span: 0..len, verdict: Verdict::Foreign });
        let answer = answer_frame(&request, &[1, 2], 1);
        let (found, before) = feed(&request, &[&late, &answer]);
        prop_assert_eq!(found, Some((answer, Verdict::Answer)));
        prop_assert_eq!(before, vec![Verdict::Foreign]);
    }

    #[test]
    fn random_bytes_never_panic_and_never_answer(
        request in any_request(),
        bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x68u8), 1 => Just(0xFEu8)], 0..600),
    ) {
        for found in [request.find(&bytes), request.find_last(&bytes)] {
            match found {
                Finding::NeedMore { noise } => {
                    prop_assert!(noise <= bytes.len() && bytes.len() - noise <= FRAME_MAX);
                }
                Finding::Frame { span, verdict } => {
                    prop_assert!(span.start < span.end && span.end <= bytes.len());
                    prop_assert_eq!(verdict, Verdict::Foreign);
                }
            }
        }
    }
}

fn water() -> Target {
    Target {
        preamble: 2,
        ..Target::new(MeterType::COLD_WATER, Address::parse("19121301").unwrap())
    }
}

#[test]
fn an_echo_is_skipped_and_the_answer_found() {
    for request in [Request::read(water(), DataId::CURRENT), valve::open(water())] {
        let answer = answer_frame(&request, &[0, 0], 4);
        let (found, before) = feed(&request, &[&request.wire(), &answer]);
        assert_eq!((found, before), (Some((answer, Verdict::Answer)), vec![Verdict::Echo]));
    }
}

#[test]
fn wildcards_find_whoever_answers_but_not_their_own_echo() {
    let request = Request::read_address(Target::new(MeterType::ANY, Address::ANY));
    let frame = hex::decode("FEFEFEFE6810180212202000008303810A00F516").unwrap();
    let (found, before) = feed(&request, &[&request.wire(), &frame]);
    assert_eq!((found, before), (Some((frame, Verdict::Answer)), vec![Verdict::Echo]));
}

#[test]
fn an_answer_inside_a_stray_wins_and_a_stray_waits_for_a_begun_one() {
    let request = Request::read(water(), DataId::CURRENT);
    let answer = answer_frame(&request, &[7; 4], 0);
    // a maker's frame of another meter that happens to hold the answer
    let outer = Frame::new(
        MeterType::GAS,
        Address::parse("1").unwrap(),
        crate::protocol::cjt188::frame::Control(0xA1),
        answer.clone(),
    );
    let outer = outer.unwrap().wire(0);
    assert_eq!(feed(&request, &[&outer]).0, Some((answer.clone(), Verdict::Answer)));
    // its data break off where the answer has its whole head: until more comes nobody knows
    let head = &answer[..10];
    let stray = Frame::new(
        MeterType::GAS,
        Address::parse("1").unwrap(),
        crate::protocol::cjt188::frame::Control(0xA1),
        head.to_vec(),
    );
    let stray = stray.unwrap().wire(0);
    assert!(matches!(
        request.find_last(&stray),
        Finding::Frame {
            verdict: Verdict::Foreign,
            ..
        }
    ));
}

#[test]
fn a_stream_of_preambles_does_not_grow() {
    let request = Request::read(water(), DataId::CURRENT);
    let answer = answer_frame(&request, &[7; 4], 0);
    let bytes = [vec![0xFE; 1000], answer.clone()].concat();
    for cut in [1, 17, 500, 999, 1000, 1001] {
        let (found, _) = feed(&request, &[&bytes[..cut], &bytes[cut..]]);
        let (frame, verdict) = found.unwrap();
        assert_eq!(verdict, Verdict::Answer);
        assert!(frame.ends_with(&answer) && frame.len() <= answer.len() + PREAMBLE_MAX);
    }
}

fn vectors() -> Option<String> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let file = shared.join("vectors/cjt188.jsonl");
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("absent, so not checked: {}", file.display());
    }
    text
}

/// The question that a recorded answer answers.
fn asking(frame: &Frame, order: DiOrder) -> Request {
    let data = frame.data();
    let mut target = Target::new(frame.meter_type, frame.address);
    (target.order, target.ser) = (order, data[2]);
    match frame.control.function().unwrap() {
        Function::ReadAddress => Request::read_address(target),
        _ => Request::read(target, DataId::read([data[0], data[1]], order)),
    }
}

/// Every split, every flipped bit, and noise before it.
fn proves(frame: &[u8], request: &Request, line: &str) {
    let verdict = match request.answer(frame) {
        Err(AnswerError::Refused(code)) => Verdict::Refused(code),
        other => {
            other.unwrap();
            Verdict::Answer
        }
    };
    let wanted = Some((frame.to_vec(), verdict));
    for cut in 0..=frame.len() {
        let (found, before) = feed(request, &[&frame[..cut], &frame[cut..]]);
        assert_eq!((found, before), (wanted.clone(), vec![]), "{line} cut at {cut}");
    }
    let preamble = crate::protocol::cjt188::frame::preamble(frame);
    for bit in preamble * 8..frame.len() * 8 {
        let mut broken = frame.to_vec();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(request.answer(&broken).is_err(), "{line} bit {bit}");
        assert!(feed(request, &[&broken]).0.is_none(), "{line} bit {bit}");
    }
    let noisy = [&[0x00, 0x68, 0x10, 0x16, 0x68, 0x68][..], frame, &[0x68, 0x00]].concat();
    assert_eq!(feed(request, &[&noisy]).0, wanted, "{line} in noise");
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    let Some(text) = vectors() else { return };
    let mut seen = 0;
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
        let meaning = &vector["meaning"];
        seen += 1;
        if !meaning["error"].is_null() {
            assert!(Frame::parse(&bytes).is_err(), "{line}");
            continue;
        }
        let frame = Frame::parse(&bytes).unwrap();
        let preamble = meaning["wake_up_fe"].as_u64().unwrap_or(0);
        assert_eq!(frame.wire(preamble.try_into().unwrap()), bytes, "{line}");
        assert_eq!(format!("{:02X}", frame.meter_type.0), meaning["meter_type"], "{line}");
        assert_eq!(frame.meter_type.name(), meaning["type_name"], "{line}");
        assert_eq!(frame.address.to_string(), meaning["address"], "{line}");
        assert_eq!(format!("{:02X}", frame.control.0), meaning["control"], "{line}");
        assert_eq!(u64::from(frame.data()[2]), meaning["ser"].as_u64().unwrap(), "{line}");
        let (di, order) = DataId::guess([frame.data()[0], frame.data()[1]]);
        assert_eq!(
            hex::encode(&di.wire(order)),
            meaning["di_wire"].as_str().unwrap(),
            "{line}"
        );
        let said = meaning["di_byte_order"].as_str().unwrap();
        // one vector calls 18 A0 high first; its own `op` says write_address, which is A018: low first
        if meaning["op"] != "write_address" {
            assert_eq!(said == "low_first", order == DiOrder::LowFirst, "{line}");
        }
        if vector["direction"] == "request" {
            assert!(
                matches!(hear(&bytes), Heard::Request { span, .. } if span == (0..bytes.len())),
                "{line}"
            );
            if let Some(data) = meaning["data_hex"].as_str() {
                assert_eq!(hex::encode(&frame.data()[3..]), data, "{line}");
            }
            continue;
        }
        assert_eq!(di, DataId::CURRENT, "{line}");
        let request = asking(&frame, order);
        proves(&bytes, &request, line);
        let answer = request.answer(&bytes).unwrap();
        let layout = record::standard(answer.meter_type, di, &answer.data).unwrap();
        for ((item, place, value), key) in
            record::values(layout, &answer.data).zip(["total", "settlement_day", "time", "status_wire"])
        {
            let said = &meaning[key];
            match value {
                Ok(record::Value::Number(number, unit)) => {
                    assert_eq!(said["value"], number.to_string(), "{line} {}", item.name);
                    assert_eq!(said["unit"], unit.unwrap().symbol, "{line} {}", item.name);
                }
                Ok(record::Value::Time(at)) => assert_eq!(*said, at.to_string(), "{line}"),
                Ok(_) => assert_eq!(*said, hex::encode(&answer.data[place]), "{line}"),
                Err(crate::protocol::cjt188::value::ValueError::NoValue) => assert!(said.is_null(), "{line}"),
                // digits that are no time are kept as they stand
                Err(error) => assert!(error.to_string().starts_with(said.as_str().unwrap()), "{line}: {error}"),
            }
        }
    }
    assert!(seen >= 14, "only {seen} vectors");
}

#[test]
fn the_projects_own_frames_answer_each_other() {
    let text = include_str!("../../../tests/frames/cjt188.jsonl");
    for line in text.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = |key: &str| hex::decode(pair[key].as_str().unwrap()).unwrap();
        let (wire, answer) = (bytes("request"), bytes("answer"));
        let asked = Frame::parse(&wire).unwrap();
        assert_eq!(
            asked.wire(crate::protocol::cjt188::frame::preamble(&wire).try_into().unwrap()),
            wire,
            "{line}"
        );
        let (di, order) = DataId::guess([asked.data()[0], asked.data()[1]]);
        assert_eq!(di.to_string(), pair["di"], "{line}");
        let mut target = Target::new(asked.meter_type, asked.address);
        (target.order, target.ser) = (order, asked.data()[2]);
        target.preamble = crate::protocol::cjt188::frame::preamble(&wire).try_into().unwrap();
        let request = match asked.control.function().unwrap() {
            Function::ReadAddress => Request::read_address(target),
            Function::Write if di == DataId::VALVE => valve::open(target),
            Function::Write => Request::write(target, di, asked.data()[3..].to_vec()).unwrap(),
            _ => Request::read(target, di),
        };
        assert_eq!(request.wire(), wire, "{line}");
        proves(&answer, &request, line);
        let Ok(said) = request.answer(&answer) else { continue };
        let Some(values) = pair["values"].as_array() else {
            continue;
        };
        let layout = record::standard(said.meter_type, di, &said.data).unwrap();
        let read: Vec<String> = record::values(layout, &said.data)
            .map(|(_, _, value)| match value {
                Ok(record::Value::Number(number, Some(unit))) => format!("{number} {}", unit.name()),
                Ok(record::Value::Number(number, None)) => number.to_string(),
                Ok(record::Value::Time(at)) => at.to_string(),
                Ok(record::Value::Status(status)) => format!("{:04X}", status.word()),
                Ok(record::Value::Raw) => String::new(),
                Err(error) => error.to_string(),
            })
            .collect();
        let values: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
        assert_eq!(read, values, "{line}");
    }
}

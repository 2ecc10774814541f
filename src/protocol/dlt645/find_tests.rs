//! Answers among everything else that a line carries, on real frames.

use super::super::request::tests::{any_address, any_request};
use super::super::{Address, AnswerError, Control, Di, FrameError, Heard, Reply, answer_frame, hear, open, seal};
use super::*;
use crate::base::hex;
use proptest::prelude::*;
use std::path::PathBuf;

/// Feeds pieces as they would arrive; the first answer or refusal, and what was said before it.
pub(crate) fn feed(request: &Request, pieces: &[&[u8]]) -> (Option<(Vec<u8>, Verdict)>, Vec<Verdict>) {
    let (mut buffer, mut before) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match request.find(&buffer) {
                Finding::NeedMore { noise } => {
                    buffer.drain(..noise);
                    break;
                }
                Finding::Frame { span, verdict } => {
                    let frame = buffer[span.clone()].to_vec();
                    buffer.drain(..span.end);
                    match verdict {
                        Verdict::Answer | Verdict::Refused(_) => return (Some((frame, verdict)), before),
                        other => before.push(other),
                    }
                }
            }
        }
    }
    (None, before)
}

fn meter() -> Address {
    Address::parse("123456789012").unwrap()
}

fn energy() -> Request {
    Request::read(meter(), Di::E2007(0x0001_0000))
}

fn energy_answer() -> Vec<u8> {
    hex::decode("FEFEFEFE68129078563412689108333334338967453354 16").unwrap()
}

#[test]
fn preambles_belong_to_the_frame_and_noise_does_not() {
    let answer = energy_answer();
    let whole = |noise: usize| Finding::Frame {
        span: noise..noise + answer.len(),
        verdict: Verdict::Answer,
    };
    assert_eq!(energy().find(&answer), whole(0));
    let noisy = [vec![0x00, 0x68, 0x16], answer.clone()].concat();
    assert_eq!(energy().find(&noisy), whole(3));
    // any number of preambles, and none
    assert_eq!(
        energy().find(&answer[4..]),
        Finding::Frame {
            span: 0..20,
            verdict: Verdict::Answer
        }
    );
    let many = [vec![0xFE; 40], answer.clone()].concat();
    assert_eq!(
        energy().find(&many),
        Finding::Frame {
            span: 28..64,
            verdict: Verdict::Answer
        }
    );
    assert_eq!(energy().find(&[0xFE; 40]), Finding::NeedMore { noise: 24 });
    assert_eq!(energy().find(&[0x00, 0xFE, 0xFE]), Finding::NeedMore { noise: 1 });
}

#[test]
fn a_doubled_start_byte_is_noise() {
    let doubled = [vec![0x68], energy_answer()[4..].to_vec()].concat();
    let (found, _) = feed(&energy(), &[&doubled]);
    assert_eq!(found, Some((energy_answer()[4..].to_vec(), Verdict::Answer)));
    let behind_preambles = [vec![0xFE, 0xFE, 0x68], energy_answer()[4..].to_vec(), vec![0x16, 0x00]].concat();
    assert!(feed(&energy(), &[&behind_preambles]).0.is_some());
}

#[test]
fn a_checksum_that_equals_the_end_byte_ends_nothing() {
    // the energy whose checksum is 16
    let value = (0u8..=255).find_map(|low| {
        let data = [0x00, 0x00, 0x01, 0x00, low, 0x34, 0x12, 0x00];
        let frame = seal(meter(), Control(0x91), &data);
        (frame[18] == 0x16).then_some(frame)
    });
    let frame = value.unwrap();
    for cut in 0..frame.len() {
        let (found, before) = feed(&energy(), &[&frame[..cut], &frame[cut..]]);
        assert_eq!(
            (found, before),
            (Some((frame.clone(), Verdict::Answer)), vec![]),
            "{cut}"
        );
    }
}

#[test]
fn everything_else_is_foreign() {
    let data = [0x00, 0x00, 0x01, 0x00, 0x56, 0x34, 0x12, 0x00];
    let other = Address::parse("123456789013").unwrap();
    let strays = [
        seal(other, Control(0x91), &data),
        seal(meter(), Control(0x94), &data),
        seal(meter(), Control(0x81), &data),
        seal(meter(), Control(0x91), &[1, 0, 1, 0, 0x56, 0x34, 0x12, 0]),
        seal(meter(), Control(0x91), &[0, 0, 1]),
        seal(other, Control(0xD1), &[2]),
        seal(meter(), Control(0xD4), &[2]),
        seal(meter(), Control(0xD1), &[2, 0, 0]),
        seal(meter(), Control(0x11), &[1, 0, 1, 0]),
    ];
    for stray in strays {
        let (found, before) = feed(&energy(), &[&stray]);
        assert_eq!(
            (found, before),
            (None, vec![Verdict::Foreign]),
            "{}",
            hex::encode(&stray)
        );
        let (found, before) = feed(&energy(), &[&stray, &energy_answer()]);
        assert!(found.is_some() && before == [Verdict::Foreign]);
    }
    let (found, before) = feed(&energy(), &[&energy().wire(), &energy_answer()]);
    assert!(found.is_some() && before == [Verdict::Echo]);
    let refusal = seal(meter(), Control(0xD1), &[2]);
    assert_eq!(feed(&energy(), &[&refusal]).0, Some((refusal, Verdict::Refused(2))));
}

#[test]
fn wildcards_take_any_meter_and_nobody_answers_a_broadcast() {
    let anyone = Request::read(Address::ANYONE, Di::E2007(0x0001_0000));
    assert!(feed(&anyone, &[&energy_answer()]).0.is_some());
    let itself = seal(Address::ANYONE, Control(0x91), &[0, 0, 1, 0, 1, 0, 0, 0]);
    assert!(feed(&anyone, &[&itself]).0.is_some());
    let who = Request::read_address();
    let answer = hex::decode("681200000010206893064533333343531F16").unwrap();
    assert!(feed(&who, &[&answer]).0.is_some());
    let address = Address::parse("201000000012").unwrap();
    assert_eq!(who.reply(&answer), Ok(Reply::Address(address)));
    let to_all = Request::read(Address::BROADCAST, Di::E2007(0x0001_0000));
    let answer = seal(Address::BROADCAST, Control(0x91), &[0, 0, 1, 0, 1, 0, 0, 0]);
    assert_eq!(feed(&to_all, &[&answer]), (None, vec![Verdict::Foreign]));
}

#[test]
fn half_an_answer_holds_back_a_stray_until_the_deadline() {
    // an answer that breaks off inside, and a whole frame of another meter behind it
    let stray = seal(Address::parse("1").unwrap(), Control(0x91), &[0; 8]);
    let bytes = [energy_answer()[..15].to_vec(), stray.clone()].concat();
    // the broken answer takes the stray's first bytes for its own, and its checksum is wrong then
    let span = 15..15 + stray.len();
    let verdict = Verdict::Foreign;
    assert_eq!(energy().find(&bytes), Finding::Frame { span, verdict });
    let long = seal(meter(), Control(0x91), &[0u8; 100]);
    let bytes = [long[..20].to_vec(), stray.clone()].concat();
    assert_eq!(energy().find(&bytes), Finding::NeedMore { noise: 0 });
    let span = 20..20 + stray.len();
    assert_eq!(energy().find_last(&bytes), Finding::Frame { span, verdict });
}

#[test]
fn follow_ups_are_asked_until_all_is_there() {
    let block = Request::read(meter(), Di::E2007(0x0001_FF00));
    let head = [0x00, 0xFF, 0x01, 0x00];
    let frame = |control: u8, data: &[u8], seq: &[u8]| {
        let data = [&head, data, seq].concat();
        answer_frame(meter(), Control(control), 4, &data)
    };
    let first = frame(0xB1, &[1, 2, 3, 4], &[]);
    assert_eq!(block.reply(&first), Err(AnswerError::Unfinished { have: 1 }));
    let follow = block.follow_up(&first).unwrap();
    assert_eq!(
        (follow.data(), follow.di()),
        (vec![0x00, 0xFF, 0x01, 0x00, 1], block.di())
    );
    let second = frame(0xB2, &[5, 6], &[1]);
    assert!(matches!(
        follow.find(&second),
        Finding::Frame {
            verdict: Verdict::Answer,
            ..
        }
    ));
    // a follow-up of another number answers another question
    let late = frame(0xB2, &[5, 6], &[2]);
    assert!(matches!(
        follow.find(&late),
        Finding::Frame {
            verdict: Verdict::Foreign,
            ..
        }
    ));
    let so_far = [first.clone(), second.clone()].concat();
    let follow = block.follow_up(&so_far).unwrap();
    assert_eq!(follow.data()[4], 2);
    let all = [so_far, frame(0x92, &[7, 8], &[2])].concat();
    assert_eq!(block.follow_up(&all), None);
    assert_eq!(block.reply(&all), Ok(Reply::Data(vec![1, 2, 3, 4, 5, 6, 7, 8])));
    // out of order, and twice
    let wrong = [first.clone(), late].concat();
    assert_eq!(block.reply(&wrong), Err(AnswerError::Sequence { wanted: 1 }));
    let complete = [first, second.clone(), frame(0x92, &[], &[2]), second].concat();
    assert!(block.reply(&complete).is_err());
}

#[test]
fn a_meter_that_always_has_more_is_left_at_the_limit() {
    let block = Request::read(meter(), Di::E1997(0x901F));
    let first = answer_frame(meter(), Control(0xA1), 0, &[0x1F, 0x90, 1]);
    let more = answer_frame(meter(), Control(0xA2), 0, &[0x1F, 0x90, 1]);
    let mut answers = first;
    let mut asked = 0;
    while let Some(follow) = block.follow_up(&answers) {
        assert_eq!(follow.data(), [0x1F, 0x90]);
        answers.extend_from_slice(&more);
        asked += 1;
        assert!(asked < 100);
    }
    assert_eq!(asked, super::super::FOLLOW_UPS_MAX);
    assert!(block.reply(&answers).is_err());
}

proptest! {
    #[test]
    fn noise_and_a_frame_give_the_frame(
        noise in proptest::collection::vec(any::<u8>(), 0..80), cuts in (0usize..110, 0usize..110), tail in any::<u8>(),
    ) {
        let mut bytes = noise;
        bytes.extend(energy_answer());
        bytes.push(tail);
        let (a, b) = (cuts.0.min(cuts.1).min(bytes.len()), cuts.0.max(cuts.1).min(bytes.len()));
        let (found, _) = feed(&energy(), &[&bytes[..a], &bytes[a..b], &bytes[b..]]);
        let (frame, verdict) = found.expect("the answer");
        prop_assert_eq!(verdict, Verdict::Answer);
        prop_assert!(frame.ends_with(&energy_answer()[4..]));
    }

    #[test]
    fn any_bytes_are_searched_without_a_panic_and_noise_is_dropped(
        bytes in proptest::collection::vec(prop_oneof![Just(0x68u8), Just(0xFE), Just(0x16), any::<u8>()], 0..900),
        request in any_request(),
    ) {
        for finding in [request.find(&bytes), request.find_last(&bytes)] {
            match finding {
                // what is kept is at most a frame and its preambles
                Finding::NeedMore { noise } => {
                    prop_assert!(noise <= bytes.len());
                    prop_assert!(bytes.len() - noise <= super::super::FRAME_MAX + PREAMBLES_MAX);
                }
                Finding::Frame { span, .. } => prop_assert!(open(&bytes[span]).is_ok()),
            }
        }
        let _heard = hear(&bytes);
        let _replied = request.reply(&bytes);
        let _followed = request.follow_up(&bytes);
    }

    #[test]
    fn answers_are_found_in_any_split(request in any_request(), meter in any_address(), cut in 0usize..400) {
        let reply = match request.body() {
            Body::ReadAddress => Reply::Address(meter),
            Body::Read { .. } | Body::Follow { .. } => Reply::Data(vec![1, 2, 3]),
            _ => Reply::Done,
        };
        prop_assume!(request.expects_answer());
        let frame = request.reply_frame(request.address(), &reply);
        let cut = cut % frame.len();
        let (found, before) = feed(&request, &[&frame[..cut], &frame[cut..]]);
        prop_assert_eq!(found, Some((frame.clone(), Verdict::Answer)));
        prop_assert!(before.is_empty());
        prop_assert_eq!(request.reply(&frame), Ok(reply));
        let refusal = request.refusal_frame(request.address(), 0x04);
        prop_assert_eq!(feed(&request, &[&refusal]).0, Some((refusal, Verdict::Refused(4))));
    }
}

pub(crate) fn vectors(name: &str) -> Option<String> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let file = shared.join("vectors").join(name);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("absent, so not checked: {}", file.display());
    }
    text
}

/// A question that an answer vector answers.
fn asking(frame: &[u8], edition: Edition) -> Option<Request> {
    let view = open(frame).unwrap();
    let function = Function::by_code(edition, view.control.code()).unwrap();
    match function {
        Function::ReadAddress => Some(Request::read_address()),
        Function::Read if view.control.is_refusal() => Some(Request::read(view.address, any_di(edition))),
        Function::Read => Some(Request::read(view.address, view.di(edition).unwrap())),
        Function::Write => {
            let security = super::super::Security {
                password: super::super::Password::new(2, "000000").unwrap(),
                operator: super::super::Operator::new("00000000").unwrap(),
            };
            let (di, value) = (any_di(edition), vec![0]);
            Request::checked(edition, view.address, Body::Write { di, security, value }).ok()
        }
        _ => None,
    }
}

fn any_di(edition: Edition) -> Di {
    match edition {
        Edition::E1997 => Di::E1997(0x9010),
        Edition::E2007 => Di::E2007(0x0001_0000),
    }
}

fn check_vector(line: &str, edition: Edition) {
    let vector: serde_json::Value = serde_json::from_str(line).unwrap();
    let frame = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
    let meaning = &vector["meaning"];
    let error = match meaning["error"].as_str() {
        None => None,
        Some("bad_end_byte") => Some(FrameError::End(0x17)),
        Some("bad_checksum") => Some(FrameError::Checksum {
            found: 0x55,
            computed: 0x54,
        }),
        Some("second_start_byte_not_68") => Some(FrameError::SecondStart(0x69)),
        Some(other) => panic!("{other}"),
    };
    if let Some(error) = error {
        assert_eq!(open(&frame).map(|_| ()), Err(error), "{line}");
        assert_eq!(feed(&energy(), &[&frame]), (None, vec![]), "{line}");
        return;
    }
    let view = open(&frame).unwrap();
    assert_eq!(meaning["address"], view.address.to_string(), "{line}");
    assert_eq!(meaning["control"], format!("{:02X}", view.control.0), "{line}");
    assert_eq!(meaning["wake_up_fe"].as_u64().unwrap_or(0), preambles(&frame) as u64);
    if let Some(di) = meaning["di"].as_str() {
        assert_eq!(view.di(edition).map(|di| di.to_string()).as_deref(), Some(di), "{line}");
    }
    if vector["direction"] == "request" {
        if meaning["op"] == "security_request" {
            assert!(matches!(hear(&frame), Heard::Faulty { .. }), "{line}");
            return;
        }
        let Heard::Request { span, request } = hear(&frame) else {
            panic!("not heard: {line}")
        };
        assert_eq!((span, request.edition()), (0..frame.len(), edition), "{line}");
        assert_eq!(request.wire(), frame, "{line}");
        return;
    }
    let Some(request) = asking(&frame, edition) else { return };
    let refusal = view.control.is_refusal().then(|| view.at(0).unwrap());
    let verdict = refusal.map_or(Verdict::Answer, Verdict::Refused);
    for cut in 0..=frame.len() {
        let found = feed(&request, &[&frame[..cut], &frame[cut..]]);
        assert_eq!(found, (Some((frame.clone(), verdict)), vec![]), "{line} cut at {cut}");
    }
    for bit in 0..frame.len() * 8 {
        let mut broken = frame.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        // a preamble more or less is no harm
        if bit / 8 >= preambles(&frame) {
            assert!(open(&broken).is_err(), "{line} bit {bit}");
            assert!(feed(&request, &[&broken]).0.is_none(), "{line} bit {bit}");
        }
    }
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    for (name, edition, least) in [
        ("dlt645-2007.jsonl", Edition::E2007, 117),
        ("dlt645-1997.jsonl", Edition::E1997, 14),
    ] {
        let Some(text) = vectors(name) else { return };
        text.lines().for_each(|line| check_vector(line, edition));
        assert!(text.lines().count() >= least, "only {} vectors", text.lines().count());
    }
}

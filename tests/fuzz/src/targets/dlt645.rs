//! DL/T 645 of both editions: questions, the finder, answers in several frames, items, and what models make of them.

use super::{decoded, models, questions};
use crate::input::{Input, piece};
use crate::line::{self, Line, flipped, sum};
use crate::protocol::dlt645::items::{self, Value};
use crate::protocol::dlt645::{
    Address, AnswerError, Body, Control, DATA_MAX, Di, Edition, FOLLOW_UPS_MAX, FRAME_MAX, Heard, PREAMBLES_MAX, Reply,
    Request, hear, open,
};
use crate::protocol::{Protocol, Request as AnyRequest};
use crate::seeds::{Seeds, frames};

const BOTH: &[Protocol] = &[Protocol::Dlt645_1997, Protocol::Dlt645_2007];

/// A frame of any address, control and data.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input::new(bytes);
    let address: [u8; 6] = input.array();
    let control = input.byte();
    let data = input.take(DATA_MAX);
    let mut frame = vec![0x68];
    frame.extend(address);
    frame.extend([0x68, control, u8::try_from(data.len()).unwrap_or(u8::MAX)]);
    frame.extend(data.iter().map(|byte| byte.wrapping_add(0x33)));
    frame.push(sum(&frame));
    frame.push(0x16);
    frame
}

fn is_frame(bytes: &[u8]) -> bool {
    let woken = bytes.iter().take_while(|byte| **byte == 0xFE).count();
    let frame = &bytes[woken..];
    let Some([head @ .., found, 0x16]) = frame.get(..) else {
        return false;
    };
    woken <= PREAMBLES_MAX
        && head.len() >= 10
        && (head[0], head[7]) == (0x68, 0x68)
        && head.len() == 10 + usize::from(head[9])
        && sum(head) == *found
}

/// What the question is answered with: these data behind what is repeated of the question.
fn answer(request: &Request, data: &[u8]) -> Vec<u8> {
    if !request.expects_answer() {
        return Vec::new();
    }
    let mut input = Input::new(data);
    let choice = input.byte();
    let known = |byte: u8| if byte == 0xAA { 0x12 } else { byte };
    let meter = Address::from_wire(request.address().wire().map(known));
    if !request.address().covers(meter) {
        return Vec::new();
    }
    if choice == 0xFF {
        return request.refusal_frame(meter, input.byte());
    }
    let reply = match request.body() {
        Body::Read { .. } | Body::Follow { .. } => Reply::Data(input.take(DATA_MAX - 5).to_vec()),
        Body::ReadAddress => Reply::Address(meter),
        _ => Reply::Done,
    };
    request.reply_frame(meter, &reply)
}

fn line_of(request: &Request, input: &mut Input<'_>) {
    let any = AnyRequest::Dlt645(request.clone());
    let line = Line {
        find: &|bytes, last| if last { any.find_last(bytes) } else { any.find(bytes) },
        wire: any.wire(),
        answer: &|data| answer(request, data),
        seal: &seal,
        is_frame: &is_frame,
        held_max: FRAME_MAX + PREAMBLES_MAX,
        answer_max: FRAME_MAX + PREAMBLES_MAX,
    };
    let mut stream = line.stream(input);
    // a whole answer inside another one's data is taken for what it looks like
    stream.answer = stream
        .answer
        .filter(|answer| !answer.iter().skip(8).any(|byte| *byte == 0x68));
    line.check(&stream);
    joined(request, &stream.bytes);
    heard(&stream.bytes);
}

/// Answers in several frames: what is read is no more than what came, and no more follow-ups are asked for than there may be.
fn joined(request: &Request, answers: &[u8]) {
    match request.reply(answers) {
        Ok(Reply::Data(data)) => {
            assert!(data.len() <= answers.len());
            assert!(request.follow_up(answers).is_none(), "a whole answer is followed up");
            if let Body::Read { di, .. } = request.body() {
                itemised(*di, &data);
            }
        }
        Ok(_) => assert!(request.follow_up(answers).is_none()),
        Err(AnswerError::Unfinished { have }) => {
            let follow = request.follow_up(answers);
            assert!(have <= FOLLOW_UPS_MAX + 1, "{have} frames");
            assert!(follow.is_none_or(|next| matches!(next.body(), Body::Follow { .. })));
        }
        Err(_) => assert!(request.follow_up(answers).is_none()),
    }
}

/// Items lie behind one another within the data, and what is read of one is written back to the same bytes.
fn itemised(di: Di, data: &[u8]) {
    let Ok(parts) = items::split(di, data) else { return };
    let mut end = 0;
    for item in &parts {
        assert!(
            item.offset >= end && item.raw == &data[item.offset..][..item.raw.len()],
            "an item of other bytes"
        );
        end = item.offset + item.raw.len();
        let (Ok(value), raw) = (&item.value, item.raw) else {
            continue;
        };
        let Value::Number(number) = value else { continue };
        let digits = number.mantissa().unsigned_abs().to_string().len();
        assert!(digits <= 2 * raw.len(), "{number} of {raw:02X?}");
        let back = item.definition.format.write(value).expect("it was read in this form");
        // minus zero is written as zero
        assert!(
            number.is_zero() || back == raw,
            "{number} of {raw:02X?} is written as {back:02X?}"
        );
    }
}

/// Whatever a meter hears is a frame, and says the same again.
fn heard(bytes: &[u8]) {
    let mut from = 0;
    loop {
        match hear(&bytes[from..]) {
            Heard::NeedMore { noise } => {
                assert!(noise <= bytes.len() - from);
                return;
            }
            Heard::Request { span, request } => {
                let wire = &bytes[from..][span.clone()];
                assert!(is_frame(wire));
                let again = Request::parse(request.edition(), &request.wire());
                assert_eq!(again.as_ref(), Ok(&request), "parse(wire(x)) is not x");
                from += span.end;
            }
            Heard::Faulty { span, .. } => {
                assert!(is_frame(&bytes[from..][span.clone()]));
                from += span.end;
            }
        }
    }
}

fn read_by_a_model(input: &mut Input<'_>) {
    let models = models(BOTH);
    let model = &models[usize::from(input.byte()) % models.len()];
    let requests = questions(model);
    let (broken, bit) = (usize::from(input.byte()), usize::from(input.word()));
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    for request in &requests {
        let AnyRequest::Dlt645(request) = request else { return };
        let data = input.piece();
        answers.push((!data.is_empty()).then(|| answer(request, data)));
    }
    let views: Vec<Option<&[u8]>> = answers.iter().map(Option::as_deref).collect();
    let poll = decoded(model, &requests, &views);
    assert!(
        views.iter().any(Option::is_some) || poll.items.is_empty(),
        "values of no answer"
    );
    let at = broken % answers.len().max(1);
    let Some(Some(answer)) = answers.get(at) else { return };
    // another length may find another checksum, and a frame inside may be one; the line's own rules are for those
    let bit = bit % (answer.len() * 8);
    if bit / 8 == 9 || answer[8..].contains(&0x68) {
        return;
    }
    let wrong = flipped(answer, bit);
    let (mut without, mut with) = (views.clone(), views.clone());
    without[at] = None;
    with[at] = Some(&wrong);
    let (without, with) = (decoded(model, &requests, &without), decoded(model, &requests, &with));
    assert_eq!(without.items, with.items, "a value from a frame with a wrong checksum");
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    if choice % 4 == 3 {
        return read_by_a_model(&mut input);
    }
    let edition = if choice & 4 == 0 {
        Edition::E2007
    } else {
        Edition::E1997
    };
    let wire = seal(input.piece());
    let _any = open(&wire).map(|view| assert_eq!(view.data().len(), view.len()));
    let Ok(request) = Request::parse(edition, &wire) else {
        return heard(input.all());
    };
    let again = Request::parse(edition, &request.wire());
    assert_eq!(again.as_ref(), Ok(&request), "parse(wire(x)) is not x");
    assert!(is_frame(&request.wire()));
    line_of(&request, &mut input);
}

/// The content of a frame as [`seal`] takes it.
fn content(frame: &[u8]) -> Vec<u8> {
    let Ok(view) = open(frame) else { return Vec::new() };
    [&view.address.wire()[..], &[view.control.0], &view.data()].concat()
}

pub(super) fn seeds(seeds: &mut Seeds) {
    for (choice, name) in [(0, "dlt645-2007"), (4, "dlt645-1997")] {
        let all = frames(name);
        let edition = if choice == 0 { Edition::E2007 } else { Edition::E1997 };
        for frame in &all {
            let Ok(request) = Request::parse(edition, frame) else {
                continue;
            };
            let head = [&[choice][..], &piece(&content(frame))].concat();
            seeds.segment(&head, line::ANSWER, &[0; 40]);
            seeds.segment(&head, line::ECHO, &[]);
            for other in all.iter().filter(|other| request.reply(other).is_ok()) {
                seeds.segment(&head, line::RAW, other);
                seeds.segment(&head, line::SEALED, &content(other));
            }
        }
    }
    for (index, model) in models(BOTH).iter().enumerate() {
        let mut seed = vec![3, u8::try_from(index).unwrap_or_default(), 0, 0, 0];
        for _ in questions(model) {
            seed.extend(piece(&[0x12; 30]));
        }
        seeds.list.push(seed);
    }
}

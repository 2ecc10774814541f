//! CJ/T 188: frames, questions, the finder, records, and what models make of answers.

use super::{decoded, models, questions};
use crate::input::{Input, piece};
use crate::line::{self, Line, flipped, sum};
use crate::protocol::cjt188::{
    Address, Control, FRAME_MAX, Frame, Heard, Leniency, MeterType, Request, hear, record, value,
};
use crate::protocol::{Protocol, Request as AnyRequest};
use crate::seeds::{Seeds, frames};

/// A frame of any type, address, control and data.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input::new(bytes);
    let head: [u8; 9] = input.array();
    let data = input.take(255);
    let mut frame = vec![0x68];
    frame.extend(head);
    frame.push(u8::try_from(data.len()).unwrap_or(u8::MAX));
    frame.extend_from_slice(data);
    frame.push(sum(&frame));
    frame.push(0x16);
    frame
}

fn is_frame(bytes: &[u8]) -> bool {
    let woken = bytes.iter().take_while(|byte| **byte == 0xFE).count();
    let Some([head @ .., found, 0x16]) = bytes.get(woken..) else {
        return false;
    };
    head.len() >= 11 && head[0] == 0x68 && head.len() == 11 + usize::from(head[10]) && sum(head) == *found
}

/// What the question is answered with: these data behind what is repeated of the question.
fn answer(request: &Request, data: &[u8]) -> Vec<u8> {
    let target = request.target();
    let mut input = Input::new(data);
    let choice = input.byte();
    let known = |byte: u8, own: u8| if byte == 0xAA { own } else { byte };
    let meter_type = MeterType(known(target.meter_type.0, 0x10));
    let address = Address(target.address.0.map(|byte| known(byte, 0x12)));
    let (control, data) = if choice == 0xFF {
        (
            Control(request.function().code() | 0xC0),
            vec![target.ser, input.byte(), 0],
        )
    } else {
        let room = usize::from(request.longest()).saturating_sub(3);
        let [first, second] = request.di().wire(target.order);
        let head = [first, second, target.ser];
        (
            Control(request.function().code() | 0x80),
            [&head[..], input.take(room)].concat(),
        )
    };
    Frame::new(meter_type, address, control, data)
        .map(|frame| frame.wire(choice % 5))
        .unwrap_or_default()
}

fn line_of(request: &Request, input: &mut Input<'_>) {
    let any = AnyRequest::Cjt188(request.clone());
    let line = Line {
        find: &|bytes, last| if last { any.find_last(bytes) } else { any.find(bytes) },
        wire: any.wire(),
        answer: &|data| answer(request, data),
        seal: &seal,
        is_frame: &is_frame,
        held_max: FRAME_MAX,
        answer_max: any.answer_len_max(),
    };
    let stream = line.stream(input);
    line.check(&stream);
    if let Some(answer) = &stream.answer
        && let Ok(read) = request.answer(answer)
        && let Some(layout) = record::standard(read.meter_type, request.di(), &read.data)
    {
        let values = record::values(layout, &read.data).count();
        assert!(values <= layout.len());
    }
    heard(&stream.bytes);
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
            Heard::Request { span, frame } => {
                assert!(is_frame(&bytes[from..][span.clone()]));
                assert_eq!(
                    Frame::parse(&frame.wire(0)).as_ref(),
                    Ok(&frame),
                    "parse(wire(x)) is not x"
                );
                from += span.end;
            }
        }
    }
}

/// Numbers and times are exact or an error.
fn numbers(input: &mut Input<'_>) {
    let decimals = input.byte() % 8;
    let bytes = input.take(8);
    if let Ok(number) = value::number(bytes, decimals) {
        assert!(number.mantissa().unsigned_abs().to_string().len() <= 2 * bytes.len().max(1));
        let back = value::to_number(number, decimals, bytes.len());
        assert!(
            number.is_sign_negative() || back.as_deref() == Some(bytes),
            "{number} of {bytes:02X?} is {back:02X?}"
        );
    }
    let bytes = input.take(7);
    for order in [
        value::TimeOrder::SecondsFirst,
        value::TimeOrder::YearFirst,
        value::TimeOrder::NoCentury,
    ] {
        if let Ok(time) = value::time(bytes, order) {
            assert!(value::to_time(time).is_ok(), "{time} of {bytes:02X?}");
        }
    }
}

fn read_by_a_model(input: &mut Input<'_>) {
    let models = models(&[Protocol::Cjt188]);
    let model = &models[usize::from(input.byte()) % models.len()];
    let requests = questions(model);
    let (broken, bit) = (usize::from(input.byte()), usize::from(input.word()));
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    for request in &requests {
        let AnyRequest::Cjt188(request) = request else { return };
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
    let wrong = flipped(answer, bit);
    let woken = answer.iter().take_while(|byte| **byte == 0xFE).count();
    // the preamble is not part of the sum, and another length may find another one
    let flipped = (0..answer.len()).find(|at| answer[*at] != wrong[*at]);
    if flipped.is_none_or(|at| at < woken || at == woken + 10) {
        return;
    }
    let (mut without, mut with) = (views.clone(), views.clone());
    without[at] = None;
    with[at] = Some(&wrong);
    let (without, with) = (decoded(model, &requests, &without), decoded(model, &requests, &with));
    assert_eq!(without.items, with.items, "a value from a frame with a wrong checksum");
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    match choice % 4 {
        3 => return read_by_a_model(&mut input),
        2 => return numbers(&mut input),
        _ => {}
    }
    let wire = seal(input.piece());
    assert!(is_frame(&wire));
    let Ok(request) = Request::parse(&wire) else {
        return heard(input.all());
    };
    let again = Request::parse(&request.wire());
    assert_eq!(again.as_ref(), Ok(&request), "parse(wire(x)) is not x");
    let lenient = if choice & 4 == 0 {
        Leniency::default()
    } else {
        model_leniency()
    };
    line_of(&request.with_lenient(lenient), &mut input);
}

/// The most that a model takes.
fn model_leniency() -> Leniency {
    let lenient = |request: &AnyRequest| match request {
        AnyRequest::Cjt188(request) => Some(request.target().lenient),
        _ => None,
    };
    let all = models(&[Protocol::Cjt188]);
    let all = all
        .iter()
        .flat_map(|model| questions(model))
        .filter_map(|request| lenient(&request));
    all.max_by_key(|lenient| u8::from(lenient.ser) + u8::from(lenient.di_order))
        .unwrap_or_default()
}

/// The content of a frame as [`seal`] takes it.
fn content(frame: &Frame) -> Vec<u8> {
    [
        &[frame.meter_type.0][..],
        &frame.address.0,
        &[frame.control.0],
        frame.data(),
    ]
    .concat()
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let all = frames("cjt188");
    for frame in &all {
        let (Ok(request), Ok(asked)) = (Request::parse(frame), Frame::parse(frame)) else {
            continue;
        };
        for choice in [0, 4] {
            let head = [&[choice][..], &piece(&content(&asked))].concat();
            seeds.segment(&head, line::ANSWER, &[4; 40]);
            seeds.segment(&head, line::ECHO, &[]);
            for other in all.iter().filter(|other| request.answer(other).is_ok()) {
                seeds.segment(&head, line::RAW, other);
                let answered = Frame::parse(other).map(|frame| content(&frame)).unwrap_or_default();
                seeds.segment(&head, line::SEALED, &answered);
            }
        }
    }
    for (index, model) in models(&[Protocol::Cjt188]).iter().enumerate() {
        let mut seed = vec![3, u8::try_from(index).unwrap_or_default(), 0, 0, 0];
        for _ in questions(model) {
            seed.extend(piece(&[0x12; 60]));
        }
        seeds.list.push(seed);
    }
    seeds.add(&[
        &[2, 2],
        &[0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0],
        &[0x20, 0x15, 0x07, 0x10, 0x12, 0x00, 0x53],
    ]);
}

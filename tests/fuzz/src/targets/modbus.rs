//! Modbus: requests, answers, the finder, the slave's ear, and what models make of answers.

use super::{decoded, models, questions};
use crate::input::{Input, piece};
use crate::line::{self, Line, flipped};
use crate::protocol::modbus::{FRAME_MAX, Heard, Reply, Request, hear};
use crate::protocol::{Protocol, Request as AnyRequest};
use crate::seeds::{Seeds, frames};

/// CRC-16/MODBUS, bit by bit.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 }
        })
    })
}

fn seal(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc(bytes).to_le_bytes()].concat()
}

fn is_frame(bytes: &[u8]) -> bool {
    // with its own CRC behind it, a frame's CRC is zero
    bytes.len() >= 4 && crc(bytes) == 0
}

/// A reply of the right kind and size that carries these bytes; a refusal where they say so.
fn reply(request: &Request, data: &[u8]) -> Reply {
    let mut input = Input::new(data);
    let choice = input.byte();
    if choice == 0xFF {
        return Reply::Exception(input.byte());
    }
    match request.function() {
        function if !function.is_read() => Reply::Written,
        function if function.is_bits() => {
            let bytes: Vec<u8> = (0..request.count().div_ceil(8)).map(|_| input.byte()).collect();
            let bits = (0..usize::from(request.count())).map(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1);
            Reply::Bits(bits.collect())
        }
        _ => Reply::Registers((0..request.count()).map(|_| input.word().swap_bytes()).collect()),
    }
}

fn line_of(request: &Request, input: &mut Input<'_>) {
    let any = AnyRequest::Modbus(request.clone());
    let answer = |data: &[u8]| request.reply_frame(&reply(request, data)).expect("fits its request");
    let line = Line {
        find: &|bytes, last| if last { any.find_last(bytes) } else { any.find(bytes) },
        wire: any.wire(),
        answer: &answer,
        seal: &|bytes| seal(bytes),
        is_frame: &is_frame,
        // a whole stray, and an answer that begins in its last byte
        held_max: FRAME_MAX + any.answer_len_max().max(5),
        answer_max: any.answer_len_max().max(5),
    };
    let stream = line.stream(input);
    line.check(&stream);
    if let Some(answer) = &stream.answer {
        let read = request.reply(answer).expect("its own answer");
        assert_eq!(request.reply_frame(&read).expect("was read"), *answer);
    }
    heard(&stream.bytes);
}

/// Whatever a slave hears is a frame, and says the same again.
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
                let again = request.wire();
                // coils fill whole bytes; what stands in the bits behind the last of them means nothing and is not said again
                let padded = request.function().code() == 0x0F;
                assert_eq!(
                    again.len(),
                    wire.len(),
                    "what was heard is not as long as what was said"
                );
                assert!(padded || again == wire, "what was heard is not what was said");
                from += span.end;
            }
            Heard::Faulty { span, .. } => {
                assert!(is_frame(&bytes[from..][span.clone()]));
                from += span.end;
            }
        }
    }
}

/// A built-in model reads answers of these bytes; a flipped bit is no answer any more.
fn read_by_a_model(input: &mut Input<'_>) {
    let models = models(&[Protocol::ModbusRtu]);
    let model = &models[usize::from(input.byte()) % models.len()];
    let requests = questions(model);
    let (broken, bit) = (usize::from(input.byte()), usize::from(input.word()));
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    for request in &requests {
        let AnyRequest::Modbus(request) = request else { return };
        let data = input.piece();
        answers.push((!data.is_empty()).then(|| request.reply_frame(&reply(request, data)).expect("fits")));
    }
    let views: Vec<Option<&[u8]>> = answers.iter().map(Option::as_deref).collect();
    let poll = decoded(model, &requests, &views);
    assert!(
        views.iter().any(Option::is_some) || poll.items.is_empty(),
        "values of no answer"
    );
    // one broken answer is as good as none
    let Some(Some(answer)) = answers.get(broken % answers.len().max(1)) else {
        return;
    };
    let wrong = flipped(answer, bit);
    let (mut without, mut with) = (views.clone(), views.clone());
    let at = broken % answers.len();
    without[at] = None;
    with[at] = Some(&wrong);
    let (without, with) = (decoded(model, &requests, &without), decoded(model, &requests, &with));
    assert_eq!(without.items, with.items, "a value from a frame with a wrong checksum");
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() % 4 == 3 {
        return read_by_a_model(&mut input);
    }
    let unit = input.byte();
    let Ok(request) = Request::parse_pdu(unit, input.piece()) else {
        return heard(input.all());
    };
    let wire = request.wire();
    assert!(wire.len() <= FRAME_MAX && is_frame(&wire));
    assert_eq!(Request::parse(&wire).as_ref(), Ok(&request), "parse(wire(x)) is not x");
    line_of(&request, &mut input);
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let all = frames("modbus-rtu");
    let requests: Vec<Request> = all.iter().filter_map(|frame| Request::parse(frame).ok()).collect();
    for request in &requests {
        let head = [&[0, request.unit()][..], &piece(&request.pdu())].concat();
        seeds.segment(&head, line::ANSWER, &[0, 1, 2, 3, 4]);
        seeds.segment(&head, line::ECHO, &[]);
        for frame in all.iter().filter(|frame| request.reply(frame).is_ok()) {
            seeds.segment(&head, line::RAW, frame);
            seeds.segment(&head, line::SEALED, &frame[..frame.len() - 2]);
        }
    }
    for (index, model) in models(&[Protocol::ModbusRtu]).iter().enumerate() {
        let mut seed = vec![3, u8::try_from(index).unwrap_or_default(), 0, 0, 0];
        for _ in questions(model) {
            seed.extend(piece(&[0x42; 60]));
        }
        seeds.list.push(seed);
    }
}

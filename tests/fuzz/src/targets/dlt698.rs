//! DL/T 698.45: frames, parts, services, questions and what is found of their answers.

use crate::input::{Input, piece};
use crate::line::{self, Line};
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{
    APDU_MAX, Address, Apdu, BLOCKS_MAX, Control, FRAME_MAX, Frame, GetResult, Joined, Joiner, Kind, Next, Oad,
    PREAMBLES_MAX, Piid, Request, Segment, Table, ValueResult, next, objects, open, split,
};
use crate::protocol::{Finding, Verdict};
use crate::seeds::{Seeds, frames};

/// CRC-16/X-25, bit by bit.
fn crc(bytes: &[u8]) -> u16 {
    !bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x8408 } else { crc >> 1 }
        })
    })
}

/// A frame of a control byte, an address and data.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input::new(bytes);
    let (control, flags, client) = (Control(input.byte()), input.byte(), input.byte());
    let kinds = [Kind::Single, Kind::Wildcard, Kind::Group, Kind::Broadcast];
    let printed = input.take(1 + usize::from(flags & 0x0F));
    let address = Address::of(kinds[usize::from(flags >> 6)], flags >> 4 & 3, printed);
    let frame = address.and_then(|address| Frame::new(control, address, client, input.all().to_vec()).ok());
    frame.map(|frame| frame.wire()).unwrap_or_default()
}

fn is_frame(bytes: &[u8]) -> bool {
    let woken = bytes.iter().take_while(|byte| **byte == 0xFE).count();
    let Some([0x68, body @ .., low, high, 0x16]) = bytes.get(woken..) else {
        return false;
    };
    let length = body
        .first_chunk()
        .map(|head| usize::from(u16::from_le_bytes(*head) & 0x3FFF));
    length == Some(body.len() + 2) && crc(body) == u16::from_le_bytes([*low, *high])
}

fn service(bytes: &[u8]) {
    let Ok(apdu) = Apdu::parse(bytes) else { return };
    let wire = apdu.wire();
    let again = Apdu::parse(&wire);
    // a row may have one value for a column that stands for several, or one for each; what fits the bytes is taken
    if matches!(bytes.first(), Some(0x85 | 0x88 | 0x89)) {
        assert!(again.is_ok(), "{again:?} of {wire:02X?}");
    } else {
        assert_eq!(again.as_ref(), Ok(&apdu), "parse(wire(x)) is not x: {wire:02X?}");
    }
    assert!(!apdu.name().is_empty());
}

fn parts(input: &mut Input<'_>) {
    let size = usize::from(input.byte()).max(1);
    let mut joiner = Joiner::default();
    while input.byte() % 8 != 7 && !input.is_empty() {
        if let Ok(segment) = Segment::parse(input.piece()) {
            assert_eq!(Segment::parse(&segment.wire()).as_ref(), Ok(&segment));
            if let Ok(Joined::Whole(apdu)) = joiner.take(&segment) {
                assert!(apdu.len() <= APDU_MAX);
            }
        }
    }
    let apdu = input.all();
    let mut joiner = Joiner::default();
    let parts = split(apdu, size);
    let joined: Vec<Joined> = parts.iter().map_while(|part| joiner.take(part).ok()).collect();
    if let Some(Joined::Whole(whole)) = joined.last() {
        assert_eq!(whole, apdu, "parts of {size} bytes join to something else");
    }
}

/// Whatever is cut out of a stream is a frame and reads back as itself.
fn cut(bytes: &[u8]) {
    let mut from = 0;
    loop {
        match next(&bytes[from..]) {
            Next::NeedMore { noise } => {
                assert!(noise <= bytes.len() - from);
                return;
            }
            Next::Frame { span, frame } => {
                assert!(span.start < span.end && is_frame(&bytes[from..][span.clone()]));
                assert_eq!(open(&frame.wire()).as_ref(), Ok(&frame), "open(wire(x)) is not x");
                service(frame.data());
                from += span.end;
            }
        }
    }
}

fn asked(request: &Request, input: &mut Input<'_>) {
    let wire = request.wire();
    assert!(is_frame(&wire));
    assert_eq!(Request::parse(&wire).as_ref(), Ok(request), "parse(wire(x)) is not x");
    let address = request.address();
    let answer = |data: &[u8]| {
        let frame = Frame::new(Control(0xC3), address, 0, data.to_vec());
        frame.map(|frame| frame.wire()).unwrap_or_default()
    };
    let line = Line {
        find: &|bytes, last| {
            if last {
                request.find_last(bytes)
            } else {
                request.find(bytes)
            }
        },
        wire,
        answer: &answer,
        seal: &seal,
        is_frame: &is_frame,
        held_max: FRAME_MAX + PREAMBLES_MAX,
        answer_max: FRAME_MAX + PREAMBLES_MAX,
    };
    let mut stream = line.stream(input);
    // its data may answer anything
    stream.answer = None;
    line.check(&stream);
    if request.reply(&stream.bytes).is_ok() {
        assert!(
            request.follow_up(&stream.bytes).is_none(),
            "a whole answer is followed up"
        );
    }
    cut(&stream.bytes);
}

/// A device that has any value is asked for it, and it comes back, in however many parts.
fn device(input: &mut Input<'_>) {
    let oad = Oad::from_number(u32::from_le_bytes(input.array()));
    // in no more parts than are taken
    let size = usize::from(input.byte()).max(64);
    let head = [&[0x85, 1, 0][..], &oad.number().to_be_bytes(), &[1]].concat();
    let any = Apdu::parse(&[&head, input.all(), &[0, 0]].concat());
    let Ok(Apdu::GetAnswer(answered)) = any else { return };
    let GetResult::Normal(item) = answered.body else { return };
    let ValueResult::Data(data) = item.result else { return };
    for value in objects::values(oad, &data) {
        assert!(value.number.is_none_or(|number| number.scale() <= 28));
    }
    let meter = Address::parse("202611210001").expect("an address");
    let request = Request::get(meter, Piid::new(9), &[oad]).expect("a question");
    let (mut table, mut device) = (Table::new(), Device::new(meter, size));
    table.put(oad, data.clone());
    let (mut question, mut answers) = (request.clone(), Vec::new());
    for _ in 0..BLOCKS_MAX {
        let frame = open(&question.wire()).expect("our own");
        let wire = device.hear(&frame, &mut table).expect("an answer").wire();
        let (span, verdict) = (0..wire.len(), Verdict::Answer);
        assert_eq!(question.find(&wire), Finding::Frame { span, verdict });
        answers.extend(wire);
        match request.follow_up(&answers) {
            Some(follow) => question = follow,
            None => break,
        }
    }
    let reply = request.reply(&answers);
    let Ok(Apdu::GetAnswer(answered)) = reply else {
        panic!("{data:?} does not come back: {reply:?}")
    };
    let GetResult::Normal(item) = answered.body else {
        panic!("{data:?} comes back as something else")
    };
    assert_eq!(item.result, ValueResult::Data(data));
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        4 => device(&mut input),
        0 => service(input.all()),
        1 => parts(&mut input),
        2 => cut(input.all()),
        _ => {
            let wire = seal(input.piece());
            let Ok(frame) = open(&wire) else { return };
            if let Ok(request) = Request::of_frame(&frame) {
                asked(&request, &mut input);
            }
        }
    }
}

/// The content of a frame as [`seal`] takes it.
fn content(frame: &Frame) -> Vec<u8> {
    let printed = frame.address.printed();
    let flags = u8::try_from(printed.len() - 1).unwrap_or_default();
    [&[frame.control.0, flags, frame.client][..], printed, frame.data()].concat()
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let all: Vec<Vec<u8>> = ["dlt698", "dlt698.45", "dlt698.45-apdu"]
        .iter()
        .flat_map(|name| frames(name))
        .collect();
    let opened: Vec<Frame> = all.iter().filter_map(|bytes| open(bytes).ok()).collect();
    for bytes in &all {
        seeds.add(&[&[0], bytes]);
        seeds.add(&[&[2], bytes]);
    }
    for frame in &opened {
        seeds.add(&[&[0], frame.data()]);
        if let [0x85, 1, _, a, b, c, d, 1, value @ .., _, _] = frame.data() {
            seeds.add(&[&[4, *d, *c, *b, *a, 40], value]);
        }
        seeds.add(&[&[1, 5, 0], &piece(frame.data()), &[7], frame.data()]);
        let Ok(request) = Request::of_frame(frame) else {
            continue;
        };
        let head = [&[3][..], &piece(&content(frame))].concat();
        seeds.segment(&head, line::ECHO, &[]);
        for other in opened.iter().filter(|other| request.reply(&other.wire()).is_ok()) {
            seeds.segment(&head, line::RAW, &other.wire());
            seeds.segment(&head, line::ANSWER, other.data());
        }
    }
}

//! M-Bus: frames, requests, the finder, records of telegrams, records that we write, and what models make of answers.

use super::{decoded, models, questions};
use crate::input::{Input, piece};
use crate::line::{self, Line, flipped, sum};
use crate::protocol::mbus::{
    ACK, AnswerBody, FRAME_MAX, Frame, Header, Heard, Record, Records, Request, Selection, TELEGRAMS_MAX, Telegram,
    Value, hear,
};
use crate::protocol::{Protocol, Request as AnyRequest};
use crate::seeds::{Seeds, frames};
use std::path::{Path, PathBuf};

/// A control or long frame of any content: two bytes make the one, more the other.
fn seal(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [] => vec![ACK],
        [control] => vec![0x10, *control, 0, sum(bytes), 0x16],
        [control, address] => vec![0x10, *control, *address, sum(bytes), 0x16],
        _ => {
            let body = &bytes[..bytes.len().min(255)];
            let len = u8::try_from(body.len()).unwrap_or(u8::MAX);
            [&[0x68, len, len, 0x68][..], body, &[sum(body), 0x16]].concat()
        }
    }
}

fn is_frame(bytes: &[u8]) -> bool {
    match bytes {
        [ACK] => true,
        [0x10, body @ .., found, 0x16] if bytes.len() == 5 => sum(body) == *found,
        [0x68, first, second, 0x68, body @ .., found, 0x16] => {
            first == second && *first >= 3 && body.len() == usize::from(*first) && sum(body) == *found
        }
        _ => false,
    }
}

/// What the question is answered with.
fn answer(request: &Request, data: &[u8]) -> Vec<u8> {
    if request.address() == 255 {
        return Vec::new();
    }
    if !request.reads() {
        return vec![ACK];
    }
    let mut input = Input::new(data);
    // mostly the variable structure
    let ci = match input.byte() {
        choice @ 0x70..=0x7B => choice,
        _ => 0x72,
    };
    let mut body = vec![0x08, request.address(), ci];
    if let (Some(selection), true) = (request.selected(), ci == 0x72) {
        let _own = input.take(8);
        body.extend(selection.bytes().map(|byte| if byte == 0xFF { 0x11 } else { byte }));
    }
    body.extend_from_slice(input.take(255 - body.len()));
    seal(&body)
}

fn line_of(request: &Request, input: &mut Input<'_>) {
    let any = AnyRequest::Mbus(request.clone());
    let line = Line {
        find: &|bytes, last| if last { any.find_last(bytes) } else { any.find(bytes) },
        wire: any.wire(),
        answer: &|data| answer(request, data),
        seal: &seal,
        is_frame: &is_frame,
        held_max: FRAME_MAX,
        answer_max: FRAME_MAX,
    };
    let mut stream = line.stream(input);
    // a wildcard's answer need not be that of the selected meter, and a header may break off
    let sure = request.selected().is_none();
    stream.answer = stream.answer.filter(|answer| sure && answer.len() > 4 + 3 + 12);
    line.check(&stream);
    readout(request, &stream.bytes);
    heard(&stream.bytes);
}

fn readout(request: &Request, bytes: &[u8]) {
    if let Ok(readout) = request.readout(bytes) {
        assert!(!readout.telegrams.is_empty());
        readout.telegrams.iter().for_each(telegram);
    }
    let follow = request.follow_up(bytes);
    let count = Frame::split(bytes).map_or(0, |frames| frames.len());
    assert!(
        follow.is_none() || (1..TELEGRAMS_MAX).contains(&count),
        "{count} telegrams are followed up"
    );
}

/// The records of the fixed structure have no head of their own.
fn telegram(telegram: &Telegram) {
    match (&telegram.header, &telegram.body) {
        (Header::Fixed { .. }, _) => {}
        (_, AnswerBody::Records(records)) => all(records),
        _ => {}
    }
}

/// Records lie behind one another, each number is exact as far as its bytes tell it.
fn all(records: &Records) {
    let mut end = None;
    for record in &records.list {
        assert!(
            end.is_none_or(|end| record.offset >= end),
            "two records of the same bytes"
        );
        end = Some(record.offset + record.raw.len());
        one(record);
    }
}

fn one(record: &Record) {
    let _shown = record.words();
    assert!(record.head <= record.raw.len());
    match &record.value {
        Value::Number(number) => {
            assert!(number.scale() <= 28);
            let data = &record.raw[record.head..];
            // a float keeps what it has: seven digits
            if record.raw[0] & 0x0F == 5 && !number.is_zero() {
                let digits = number.normalize().mantissa().unsigned_abs().to_string();
                let significant = digits.trim_end_matches('0').len();
                assert!(significant <= 9, "{number} of a float {data:02X?}");
            }
            if record.raw[0] & 0x0F == 5 && number.is_zero() {
                // of either sign, in either order
                let nought = matches!(data, [0 | 0x80, 0, 0, 0] | [0, 0, 0, 0x80]);
                assert!(nought, "zero of the float {data:02X?}");
            }
        }
        Value::Text(text) => assert!(text.len() <= 4 * record.raw.len()),
        Value::Bytes(bytes) => assert!(bytes.len() <= record.raw.len()),
        _ => {}
    }
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
                assert_eq!(request.wire(), wire, "what was heard is not what was said");
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
    let models = models(&[Protocol::Mbus]);
    let model = &models[usize::from(input.byte()) % models.len()];
    let requests = questions(model);
    let (broken, bit) = (usize::from(input.byte()), usize::from(input.word()));
    let mut answers: Vec<Option<Vec<u8>>> = Vec::new();
    for request in &requests {
        let AnyRequest::Mbus(request) = request else { return };
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
        2 => {
            // records without a frame around them
            let high = choice & 4 != 0;
            let bytes = input.all();
            let records = Records::parse(&bytes[..bytes.len().min(252)], high);
            return all(&records);
        }
        _ => {}
    }
    let wire = seal(input.piece());
    assert!(is_frame(&wire), "{wire:02X?}");
    let frame = Frame::parse(&wire);
    assert_eq!(
        frame.as_ref().ok().and_then(|frame| frame.wire().ok()),
        Some(wire.clone()),
        "{frame:?}"
    );
    if let Ok(telegram) = Telegram::parse(&wire) {
        self::telegram(&telegram);
    }
    let Ok(mut request) = Request::parse(&wire) else {
        return heard(input.all());
    };
    assert_eq!(request.wire(), wire, "wire(parse(x)) is not x");
    if choice & 4 != 0 {
        request = Request::read_selected(Selection::of_bytes(input.array()));
    }
    line_of(&request, &mut input);
}

/// The content of a frame as [`seal`] takes it.
fn content(frame: &[u8]) -> Vec<u8> {
    match frame {
        [0x10, control, address, ..] => vec![*control, *address],
        [0x68, _, _, 0x68, body @ .., _, _] => body.to_vec(),
        _ => Vec::new(),
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let mut all = frames("mbus");
    all.extend(libmbus());
    let read = piece(&[0x7B, 5]);
    for frame in &all {
        let inner = content(frame);
        if Request::parse(frame).is_ok() {
            let head = [&[0][..], &piece(&inner)].concat();
            seeds.segment(&head, line::ANSWER, &[0x72; 40]);
            seeds.segment(&head, line::ECHO, &[]);
        }
        if let Some(data) = inner
            .get(2..)
            .filter(|data| Telegram::parse(frame).is_ok() && !data.is_empty())
        {
            let head = [&[0][..], &read].concat();
            seeds.segment(&head, line::ANSWER, data);
            seeds.segment(&head, line::RAW, frame);
            let selected = [&[4][..], &read, &[0xFF; 8]].concat();
            seeds.segment(&selected, line::ANSWER, data);
            seeds.add(&[&[2], data.get(13..).unwrap_or_default()]);
            for model in 0..models(&[Protocol::Mbus]).len() {
                let model = u8::try_from(model).unwrap_or_default();
                seeds.add(&[&[3, model, 0, 0, 0], &piece(data)]);
            }
        }
    }
}

/// Another project's telegrams, where they lie.
fn libmbus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or(root, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("vectors/mbus")) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let hex = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "hex"));
    let texts = hex.filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .filter_map(|text| crate::base::hex::decode(&text.split_whitespace().collect::<String>()).ok())
        .collect()
}

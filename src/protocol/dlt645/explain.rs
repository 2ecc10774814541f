//! DL/T 645 frames explained: what each byte is, in the words of a field engineer.

use super::explain_items;
use super::find::frames;
use super::frame::{DATA_MAX, View, open};
use super::function::{Control, Edition, ErrorWord, Function};
use super::slave::edition_of;
use crate::base::hex;
use crate::protocol::explain::{Direction, ExplainError, Explained, Field, Refusal};
use std::ops::Range;

type Frames = Vec<Result<Explained, ExplainError>>;

/// Explains the frames of one edition that stand in `bytes`; what lies between them is named as noise.
pub fn explain(edition: Edition, bytes: &[u8]) -> Frames {
    let mut explained = Vec::new();
    let mut from = 0;
    for (span, view) in frames(bytes) {
        if span.start > from {
            explained.push(Err(no_frame(bytes, from..span.start)));
        }
        from = span.end;
        explained.push(frame(edition, bytes, &span, &view));
    }
    if from < bytes.len() {
        explained.push(Err(no_frame(bytes, from..bytes.len())));
    }
    explained
}

/// Why bytes are no frame.
fn no_frame(bytes: &[u8], place: Range<usize>) -> ExplainError {
    let noise = bytes.get(place.clone()).unwrap_or_default();
    let start = noise.iter().position(|byte| *byte == 0x68);
    let (offset, why) = match start.map(|start| (start, open(noise.get(start..).unwrap_or_default()))) {
        Some((start, Err(error))) => (start, format!("no DL/T 645 frame: {error}")),
        _ => (0, format!("{} bytes of noise, no 68 among them", noise.len())),
    };
    let mut error = ExplainError::new(why, place.start + offset);
    if matches!(
        start.map(|s| open(noise.get(s..).unwrap_or_default())),
        Some(Err(super::FrameError::Checksum { .. }))
    ) {
        error.checksum_ok = Some(false);
    }
    error
}

fn frame(edition: Edition, bytes: &[u8], span: &Range<usize>, view: &View<'_>) -> Result<Explained, ExplainError> {
    let code = view.control.code();
    let function = match Function::by_code(edition, code) {
        Some(function) if code == 0x08 || edition_of(code) == edition => function,
        _ => {
            let what = format!("control byte {:02X} is not of this edition of DL/T 645", view.control.0);
            return Err(ExplainError::new(what, span.start));
        }
    };
    let protocol = match edition {
        Edition::E1997 => "dlt645-1997",
        Edition::E2007 => "dlt645-2007",
    };
    let refusal = view.at(0).filter(|_| view.control.is_refusal()).map(|bits| {
        let word = ErrorWord { edition, bits };
        Refusal {
            code: bits,
            name: word.meanings().next().unwrap_or("no reason given"),
        }
    });
    let whole = bytes.get(span.clone()).unwrap_or_default();
    let said = if view.control.is_answer() {
        explain_items::answer(edition, function, view)
    } else {
        explain_items::question(edition, function, view, whole)
    };
    Ok(Explained {
        protocol,
        direction: if view.control.is_answer() {
            Direction::Response
        } else {
            Direction::Request
        },
        address: view.address.to_string(),
        function: Some(code),
        function_name: Some(function.name()),
        control: Some(format!("0x{:02X}", view.control.0)),
        checksum_ok: Some(true),
        refusal,
        items: said.items,
        fields: fields(bytes, span, view, function),
        start: span.start,
        end: span.end,
        notes: said.notes,
    })
}

/// Every byte of the frame, field by field.
fn fields(bytes: &[u8], span: &Range<usize>, view: &View<'_>, function: Function) -> Vec<Field> {
    let frame_len = super::frame::OVERHEAD + view.len();
    let first = span.end - frame_len;
    let mut fields = Vec::new();
    let mut at = span.start;
    let mut push = |name, len: usize, value: String| {
        if len > 0 {
            fields.push(Field {
                name,
                start: at,
                end: at + len,
                value,
            });
            at += len;
        }
    };
    let woken = first - span.start;
    push("preamble", woken, format!("{woken} × FE"));
    push("start", 1, "68".to_owned());
    push("address", 6, view.address.to_string());
    push("start", 1, "68".to_owned());
    push("control", 1, control(view.control, function));
    push("length", 1, view.len().to_string());
    push("data", view.len().min(DATA_MAX), hex::encode(&view.data()));
    let checksum = bytes.get(span.end - 2).copied().unwrap_or_default();
    push("checksum", 1, format!("{checksum:02X}, right"));
    push("end", 1, "16".to_owned());
    fields
}

/// The control byte in words.
fn control(control: Control, function: Function) -> String {
    let who = match (control.is_answer(), control.is_refusal()) {
        (false, _) => "question",
        (true, false) => "answer",
        (true, true) => "refusal",
    };
    let more = if control.follows() { ", more follows" } else { "" };
    format!("{:02X}: {who}, {}{more}", control.0, function.name())
}

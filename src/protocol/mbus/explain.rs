//! M-Bus frames explained: control, address, header, records, and the place of every field.

use super::answer::{Body as AnswerBody, Telegram, error_name};
use super::frame::{ACK, Candidate, Frame, FrameError, SHORT_LEN, candidate};
use super::header::Header;
use super::record::{Function, Record, Records};
use super::request::{Body, Request, is_request};
use super::value::{Date, DateTime, Value};
use super::{BROADCAST, NETWORK, TEST, medium_name};
use crate::base::hex;
use crate::protocol::explain::{Direction, ExplainError, Explained, ExplainedItem, Field, Refusal};

/// Explains frames that stand one behind the other. A single E5 counts as a frame only where one may begin: first, or
/// directly behind another frame.
pub fn explain(bytes: &[u8]) -> Vec<Result<Explained, ExplainError>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let len = match candidate(rest) {
            Candidate::Whole(len) => len,
            _ if rest.first() == Some(&ACK) => 1,
            _ => {
                frames.push(Err(fault(rest, at)));
                at = next(bytes, at + 1);
                continue;
            }
        };
        let frame = rest.get(..len).unwrap_or_default();
        match Frame::parse(frame) {
            Ok(parsed) => frames.push(Ok(describe(&parsed, frame, at))),
            Err(error) => frames.push(Err(ExplainError::new(error.to_string(), at))),
        }
        at += len;
    }
    frames
}

/// Where the next whole frame begins.
fn next(bytes: &[u8], from: usize) -> usize {
    (from..bytes.len())
        .find(|at| matches!(candidate(bytes.get(*at..).unwrap_or_default()), Candidate::Whole(_)))
        .unwrap_or(bytes.len())
}

/// What is wrong with the bytes at the front, and where.
fn fault(bytes: &[u8], at: usize) -> ExplainError {
    let len = match bytes {
        [0x68, len, ..] => usize::from(*len) + 6,
        _ => SHORT_LEN,
    };
    let error = match Frame::parse(bytes) {
        Err(error) => error,
        Ok(_) => return ExplainError::new("not a frame", at),
    };
    let (text, offset) = match error {
        FrameError::Short { have, need } => {
            let text = format!("the frame breaks off: it needs {need} bytes and has {have}");
            (text, at + have)
        }
        FrameError::Lengths { .. } => (error.to_string(), at + 2),
        FrameError::SecondStart(_) => (error.to_string(), at + 3),
        FrameError::Length(_) => (error.to_string(), at + 1),
        FrameError::Checksum { .. } => (error.to_string(), at + len - 2),
        FrameError::Stop(_) => (error.to_string(), at + len - 1),
        _ => (error.to_string(), at),
    };
    ExplainError {
        checksum_ok: matches!(error, FrameError::Checksum { .. }).then_some(false),
        ..ExplainError::new(text, offset)
    }
}

/// An explanation that grows field by field.
struct Draft {
    explained: Explained,
    at: usize,
}

impl Draft {
    fn field(&mut self, name: &'static str, len: usize, value: impl Into<String>) {
        let (start, end) = (self.at, self.at + len);
        self.at = end;
        self.explained.fields.push(Field {
            name,
            start,
            end,
            value: value.into(),
        });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.explained.notes.push(text.into());
    }
}

fn describe(frame: &Frame, bytes: &[u8], at: usize) -> Explained {
    let (control, address) = match frame {
        Frame::Ack => (None, None),
        Frame::Short { control, address } | Frame::Long { control, address, .. } => (Some(*control), Some(*address)),
    };
    let asks = control.is_some_and(is_request);
    let request = Request::of_frame(frame).ok();
    let mut draft = Draft {
        explained: Explained {
            protocol: "mbus",
            direction: if asks { Direction::Request } else { Direction::Response },
            address: address.map_or_else(String::new, |address| address.to_string()),
            function: None,
            function_name: Some(function_name(frame, request.as_ref())),
            control: control.map(|control| format!("0x{control:02X}")),
            checksum_ok: (*frame != Frame::Ack).then_some(true),
            refusal: None,
            items: Vec::new(),
            fields: Vec::new(),
            start: at,
            end: at + bytes.len(),
            notes: Vec::new(),
        },
        at,
    };
    match frame {
        Frame::Ack => draft.field("acknowledgement", 1, "E5"),
        Frame::Short { control, address } => {
            draft.field("start", 1, "10");
            draft.field("control", 1, control_text(*control));
            draft.field("address", 1, address_text(*address));
        }
        Frame::Long {
            control,
            address,
            ci,
            data,
        } => {
            draft.field("start", 1, "68");
            draft.field("length", 2, format!("{}, twice", data.len() + 3));
            draft.field("start", 1, "68");
            draft.field("control", 1, control_text(*control));
            draft.field("address", 1, address_text(*address));
            draft.field("ci", 1, ci_text(*ci, asks));
            match request {
                Some(request) => asked(&mut draft, &request, data),
                None => told(&mut draft, frame, data),
            }
        }
    }
    if let [.., sum, _] = bytes
        && *frame != Frame::Ack
    {
        draft.at = at + bytes.len() - 2;
        draft.field("checksum", 1, format!("{sum:02X}, right"));
        draft.field("stop", 1, "16");
    }
    draft.explained
}

fn function_name(frame: &Frame, request: Option<&Request>) -> &'static str {
    match (frame, request.map(Request::body)) {
        (Frame::Ack, _) => "acknowledgement",
        (_, Some(Body::Reset)) => "SND_NKE",
        (_, Some(Body::ReadClass1)) => "REQ_UD1",
        (_, Some(Body::ReadClass2)) => "REQ_UD2",
        (_, Some(_)) => "SND_UD",
        (Frame::Long { control, .. }, None) if !is_request(*control) => "RSP_UD",
        _ => "unknown",
    }
}

fn control_text(control: u8) -> String {
    let mut text = format!("{control:02X}");
    if is_request(control) {
        if control & 0x10 != 0 {
            text.push_str(if control & 0x20 == 0 { ", fcb 0" } else { ", fcb 1" });
        }
        return text;
    }
    if control & 0x20 != 0 {
        text.push_str(", has alarms");
    }
    if control & 0x10 != 0 {
        text.push_str(", cannot take more");
    }
    text
}

fn address_text(address: u8) -> String {
    let meaning = match address {
        0 => " (not yet given)",
        NETWORK => " (who is selected)",
        TEST => " (all answer)",
        BROADCAST => " (all, nobody answers)",
        _ => "",
    };
    format!("{address}{meaning}")
}

fn ci_text(ci: u8, asks: bool) -> String {
    let meaning = match ci {
        0x50 => "application reset",
        0x51 => "data for the meter",
        0x52 => "selection",
        0xB8..=0xBF => "speed",
        0x70 => "application error",
        0x71 => "alarm",
        0x72 => "records behind a header of 12 bytes",
        0x73 => "two counters",
        0x76 => "records behind a header of 12 bytes, high byte first",
        0x77 => "two counters, high byte first",
        0x78 => "records without a header",
        0x7A => "records behind a header of 4 bytes",
        _ if asks => "for the meter",
        _ => "not known here",
    };
    format!("{ci:02X}, {meaning}")
}

/// What the master says behind the CI field.
fn asked(draft: &mut Draft, request: &Request, data: &[u8]) {
    match request.body() {
        Body::Select(selection) => {
            draft.field("identification", 4, format!("{:08X} (F: any)", selection.id));
            let any = || "any".to_owned();
            let byte = |byte: Option<u8>| byte.map_or_else(any, |byte| format!("{byte:02X}"));
            let letters = selection.manufacturer.map_or_else(any, |code| code.letters());
            draft.field("manufacturer", 2, letters);
            draft.field("version", 1, byte(selection.version));
            draft.field("medium", 1, byte(selection.medium));
        }
        Body::SetAddress(new) => draft.field("new primary address", data.len(), new.to_string()),
        Body::SetBaud(baud) => draft.note(format!("go to {} bit/s", baud.speed())),
        Body::ApplicationReset { subcode: Some(subcode) } => {
            draft.field("subcode", 1, format!("{subcode:02X}"));
        }
        Body::Send { ci: 0x51, data } => {
            let first = draft.at;
            records(draft, &Records::parse(data, false), first, data.len());
        }
        _ if !data.is_empty() => draft.field("data", data.len(), hex::encode(data)),
        _ => {}
    }
}

/// What a meter says behind the CI field.
fn told(draft: &mut Draft, frame: &Frame, data: &[u8]) {
    let telegram = match Telegram::of_frame(frame) {
        Ok(telegram) => telegram,
        Err(error) => {
            draft.field("data", data.len(), hex::encode(data));
            draft.note(error.to_string());
            return;
        }
    };
    header(draft, &telegram);
    let len = data.len() - (draft.at - draft.explained.start - 7).min(data.len());
    match &telegram.body {
        AnswerBody::Records(list) => {
            let first = draft.at;
            records(draft, list, first, len);
        }
        AnswerBody::Error(code) => {
            let code_or = code.unwrap_or_default();
            if let Some(code) = code {
                draft.field("error", 1, format!("{code}, {}", error_name(*code)));
            }
            draft.explained.refusal = Some(Refusal {
                code: code_or,
                name: error_name(code_or),
            });
        }
        AnswerBody::Alarm(bits) => draft.field("alarm", 1, format!("{bits:02X}")),
        AnswerBody::Encrypted { mode, data } => {
            draft.field("encrypted data", data.len(), hex::encode(data));
            draft.note(format!("the records are encrypted with security mode {mode}"));
        }
        AnswerBody::Unknown(data) => draft.field("data", data.len(), hex::encode(data)),
    }
}

fn header(draft: &mut Draft, telegram: &Telegram) {
    let status_text = |status: super::Status| {
        let words = status.words();
        match words.is_empty() {
            true => format!("{:02X}, all well", status.0),
            false => format!("{:02X}, {}", status.0, words.join(", ")),
        }
    };
    match telegram.header {
        Header::Long {
            identification,
            access,
            status,
            signature,
        } => {
            draft.field("identification", 4, format!("{:08X}", identification.id));
            let code = identification.manufacturer;
            draft.field("manufacturer", 2, format!("{} ({:04X})", code.letters(), code.0));
            draft.field("version", 1, identification.version.to_string());
            let medium = identification.medium;
            draft.field("medium", 1, format!("{medium:02X}, {}", medium_name(medium)));
            draft.field("access number", 1, access.to_string());
            draft.field("status", 1, status_text(status));
            draft.field("signature", 2, format!("{signature:04X}"));
            draft.note(format!("secondary address {identification}"));
        }
        Header::Short {
            access,
            status,
            signature,
        } => {
            draft.field("access number", 1, access.to_string());
            draft.field("status", 1, status_text(status));
            draft.field("signature", 2, format!("{signature:04X}"));
        }
        Header::Fixed { id, access, status, .. } => {
            draft.field("identification", 4, format!("{id:08X}"));
            draft.field("access number", 1, access.to_string());
            let counters = if status & 1 == 0 { "decimal" } else { "binary" };
            draft.field("status", 1, format!("{status:02X}, {counters} counters"));
            draft.field("units", 2, telegram.medium_name().unwrap_or_default());
        }
        Header::None => {}
    }
}

/// Records as items, and each as a field; `first` is the place of the first byte of user data, `len` its length.
fn records(draft: &mut Draft, records: &Records, first: usize, len: usize) {
    for record in &records.list {
        draft.at = first + record.offset;
        let item = item(record);
        let value = match (&item.value, &item.unit) {
            (Some(value), Some(unit)) => format!("{}: {value} {unit}", item.name),
            (Some(value), None) => format!("{}: {value}", item.name),
            (None, _) => item.name.clone(),
        };
        draft.field("record", record.raw.len(), value);
        draft.explained.items.push(item);
    }
    if !records.maker.is_empty() || records.more {
        draft.at = first + len.saturating_sub(records.maker.len() + 1);
        let text = match records.maker.is_empty() {
            true => "none".to_owned(),
            false => hex::encode(&records.maker),
        };
        draft.field("maker's own data", records.maker.len() + 1, text);
    }
    if records.more {
        draft.note("more records follow in another telegram");
    }
    if let Some(fault) = &records.fault {
        draft.note(fault.to_string());
    }
}

fn item(record: &Record) -> ExplainedItem {
    let mut name = record.words();
    match record.function {
        Function::Instant => {}
        Function::Maximum => name.push_str(", maximum"),
        Function::Minimum => name.push_str(", minimum"),
        Function::Error => name.push_str(", during an error"),
    }
    for (number, word) in [
        (record.storage, "storage"),
        (record.tariff.into(), "tariff"),
        (record.subunit.into(), "subunit"),
    ] {
        if number != 0 {
            name.push_str(&format!(", {word} {number}"));
        }
    }
    ExplainedItem {
        id: hex::encode(record.raw.get(..record.head).unwrap_or_default()),
        name,
        value: value_text(&record.value),
        unit: match (record.unit.name(), &record.unit_text) {
            (_, Some(text)) => Some(text.clone()),
            ("", None) => None,
            (unit, None) => Some(unit.to_owned()),
        },
        raw: Some(hex::encode(&record.raw)),
        ..ExplainedItem::default()
    }
}

/// A value as a field engineer would write it; none where there is none.
fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::Empty => None,
        Value::Number(number) => Some(number.to_string()),
        Value::Date(date) => Some(date_text(date)),
        Value::DateTime(time) => Some(time_text(time)),
        Value::Text(text) => Some(text.escape_debug().to_string()),
        Value::Bytes(bytes) => Some(hex::encode(bytes)),
        Value::Invalid(fault) => Some(format!("no value ({fault})")),
    }
}

fn part(part: Option<impl Into<u32>>, width: usize) -> String {
    part.map_or_else(|| "*".repeat(width), |part| format!("{:0width$}", part.into()))
}

fn date_text(date: &Date) -> String {
    format!("{}-{}-{}", part(date.year, 4), part(date.month, 2), part(date.day, 2))
}

fn time_text(time: &DateTime) -> String {
    let mut text = format!(
        "{} {}:{}:{:02}",
        date_text(&time.date),
        part(time.hour, 2),
        part(time.minute, 2),
        time.second
    );
    if time.summer {
        text.push_str(" summer time");
    }
    if time.invalid {
        text.push_str(", not valid by the meter");
    }
    text
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

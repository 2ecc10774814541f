//! Frames explained: terminal, function, points and items, values, and the place of every field.

use super::confirm::Confirmation;
use super::format::Value;
use super::frame::{Candidate, HEAD, OVERHEAD, judge, sum};
use super::items::{Edition, Way, layout};
use super::layout::{Entry, Stamped};
use super::message::{Message, Unit};
use super::{Afn, Frame, FrameError, archive, event, forward};
use crate::base::hex;
use crate::protocol::explain::{Direction, ExplainError, Explained, ExplainedItem, Field, Refusal};

type Frames = Vec<Result<Explained, ExplainError>>;

/// The name of the protocol, everywhere.
const NAME: &str = "gdw376.1";

/// Explains frames that stand one behind the other; what is none stands as an error at its place.
pub fn explain(bytes: &[u8]) -> Frames {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let next = (at..bytes.len()).find_map(|start| {
            let rest = bytes.get(start..)?;
            match judge(rest) {
                Candidate::Whole(length) => Some((start, Frame::parse(rest.get(..length)?).ok()?, length)),
                _ => None,
            }
        });
        let begin = next.as_ref().map_or(bytes.len(), |(start, ..)| *start);
        if begin > at {
            frames.push(Err(fault(bytes.get(at..begin).unwrap_or_default(), at)));
        }
        at = match next {
            Some((start, frame, length)) => {
                frames.push(describe(&frame, start));
                start + length
            }
            None => bytes.len(),
        };
    }
    frames
}

/// What is wrong with bytes that hold no whole frame, and where.
fn fault(bytes: &[u8], at: usize) -> ExplainError {
    let heads =
        |start: &usize| bytes.get(*start) == Some(&0x68) && bytes.get(start + 5).is_none_or(|byte| *byte == 0x68);
    let Some(start) = (0..bytes.len()).find(heads) else {
        return ExplainError::new("no 68 that begins a frame", at);
    };
    let rest = bytes.get(start..).unwrap_or_default();
    // what follows the length that the frame claims is not its own
    let claimed = rest
        .get(1..3)
        .and_then(|length| length.try_into().ok())
        .map_or(rest.len(), |length| {
            OVERHEAD + usize::from(u16::from_le_bytes(length) >> 2)
        });
    let frame = rest.get(..claimed.min(rest.len())).unwrap_or_default();
    let Err(error) = Frame::parse(frame) else {
        return ExplainError::new("not a frame", at + start);
    };
    let (begin, end) = (at + start, at + start + frame.len());
    let offset = match error {
        FrameError::Short { .. } | FrameError::Trailing { .. } => end,
        FrameError::Start { place, .. } => begin + place,
        FrameError::Lengths { .. } => begin + 3,
        FrameError::Empty(_) => begin + 1,
        FrameError::End(_) => end - 1,
        FrameError::Checksum { .. } => end - 2,
    };
    ExplainError {
        checksum_ok: matches!(error, FrameError::Checksum { .. }).then_some(false),
        ..ExplainError::new(error.to_string(), offset)
    }
}

/// The fields of a frame, one behind the other.
struct Fields {
    list: Vec<Field>,
    place: usize,
}

impl Fields {
    fn add(&mut self, name: &'static str, len: usize, value: impl Into<String>) {
        let (start, end) = (self.place, self.place + len);
        if len > 0 {
            self.list.push(Field {
                name,
                start,
                end,
                value: value.into(),
            });
        }
        self.place = end;
    }
}

fn describe(frame: &Frame, start: usize) -> Result<Explained, ExplainError> {
    let message = Message::of(frame).map_err(|error| ExplainError::new(error.to_string(), start + HEAD))?;
    let wire = frame.wire();
    let end = start + wire.len();
    let mut fields = Fields {
        list: Vec::new(),
        place: start,
    };
    fields.add("start", 1, "68");
    let length = wire.len() - OVERHEAD;
    fields.add("length", 4, format!("{length}, {}", frame.dialect.name()));
    fields.add("start", 1, "68");
    let control = frame.control;
    let from = if control.is_from_terminal() {
        "from the terminal"
    } else {
        "to the terminal"
    };
    let begins = if control.is_primary() { ", begins" } else { ", answers" };
    let waits = if control.has_events() { ", an event waits" } else { "" };
    fields.add(
        "control",
        1,
        format!("{control}, {}, {from}{begins}{waits}", control.function_name()),
    );
    let group = match (frame.address.is_broadcast(), frame.address.group) {
        (true, _) => ", all terminals",
        (false, true) => ", a group",
        (false, false) => "",
    };
    fields.add(
        "address",
        5,
        format!("{}, master station {}{group}", frame.address, frame.address.msa()),
    );
    fields.add("function", 1, format!("{}, {}", message.afn, message.afn.name()));
    fields.add("sequence", 1, sequence(&message));
    let mut explained = Explained {
        protocol: NAME,
        direction: if control.is_from_terminal() {
            Direction::Response
        } else {
            Direction::Request
        },
        address: frame.address.to_string(),
        function: Some(message.afn.0),
        function_name: Some(message.afn.name()),
        control: Some(format!("0x{control}")),
        checksum_ok: Some(true),
        refusal: None,
        items: Vec::new(),
        fields: Vec::new(),
        start,
        end,
        notes: Vec::new(),
    };
    body(&message, &mut explained, &mut fields);
    auxiliary(&message, &mut fields);
    let computed = sum(wire.get(HEAD..wire.len().saturating_sub(2)).unwrap_or_default());
    fields.add("checksum", 1, format!("{computed:02X}, right"));
    fields.add("end", 1, "16");
    explained.fields = fields.list;
    if !frame.address.is_decimal() {
        explained
            .notes
            .push("the region has other digits than decimal ones".to_owned());
    }
    Ok(explained)
}

fn sequence(message: &Message) -> String {
    let seq = message.seq;
    let part = match (seq.is_first(), seq.is_last()) {
        (true, true) => "single frame",
        (true, false) => "first of several frames",
        (false, true) => "last of several frames",
        (false, false) => "one of several frames",
    };
    let confirm = if seq.wants_confirmation() {
        ", to be confirmed"
    } else {
        ""
    };
    let tag = if seq.has_time_tag() { ", with time tag" } else { "" };
    format!("{seq}, number {}, {part}{confirm}{tag}", seq.number())
}

fn auxiliary(message: &Message, fields: &mut Fields) {
    if message.password.is_some() {
        let length = if message.dialect == super::Dialect::Gdw130 {
            2
        } else {
            16
        };
        fields.add("password", length, "not shown");
    }
    if let Some(events) = message.events {
        let text = format!("{} important, {} ordinary", events.important, events.ordinary);
        fields.add("event counters", 2, text);
    }
    if let Some(tag) = message.tag {
        let sent = match tag.sent() {
            Ok(value) => text_of(&value),
            Err(error) => error.to_string(),
        };
        let text = format!("frame {}, sent {sent}, valid {} min", tag.counter, tag.delay_min);
        fields.add("time tag", 6, text);
    }
}

/// The data units: by the layouts of 2013, and where these do not fit by those of 2009.
fn body(message: &Message, explained: &mut Explained, fields: &mut Fields) {
    let begin = fields.place;
    let (edition, units) = match message.units(Edition::E2013) {
        Ok(units) => (Edition::E2013, Ok(units)),
        Err(error) => match message.units(Edition::E2009) {
            Ok(units) => {
                explained.notes.push("laid out as in 2009".to_owned());
                (Edition::E2009, Ok(units))
            }
            Err(_) => (Edition::E2013, Err(error)),
        },
    };
    let units = match units {
        Ok(units) => units,
        Err(error) => {
            fields.add("data", message.body.len(), hex::encode(&message.body));
            explained.notes.push(error.to_string());
            return;
        }
    };
    for unit in &units {
        let id = begin + unit.start;
        if id > fields.place {
            // the identifier stands before the first of its units
            let named = units
                .iter()
                .filter(|other| other.start >= unit.start)
                .take(1)
                .map(|unit| unit.id.to_string());
            let id_text = message.body.get(fields.place - begin..unit.start).unwrap_or_default();
            fields.add(
                "identifier",
                id - fields.place,
                format!("{} {}", hex::encode(id_text), named.collect::<String>()),
            );
        }
        one(message, unit, edition, explained, fields);
    }
}

fn one(message: &Message, unit: &Unit, edition: Edition, explained: &mut Explained, fields: &mut Fields) {
    let name =
        layout(message.afn, unit.id.item, message.way(), edition).map_or("not in the standard", |layout| layout.name);
    let start = explained.items.len();
    match (message.afn, unit.id.item.number(), message.way()) {
        (Afn::CONFIRM, ..) => confirmation(message, explained),
        (Afn::FORWARD, 1, way) => forwarded(unit, way, explained),
        (Afn::EVENTS, 1 | 2, Way::Up) => events(unit, explained),
        (Afn::SET, 10, Way::Down) | (Afn::QUERY, 10, Way::Up) => meters(unit, explained),
        _ => {
            if let Some(reading) = &unit.reading {
                if let Stamped::Period(at) = &reading.stamped {
                    let value = at
                        .as_ref()
                        .map_or_else(|error| Err(error.to_string()), |value| Ok(text_of(value)));
                    explained.items.push(listed(unit, name, "of", value));
                }
                explained
                    .items
                    .extend(reading.entries.iter().map(|entry| entered(unit, entry)));
            }
        }
    }
    if explained.items.len() == start {
        explained.items.push(ExplainedItem {
            id: unit.id.to_string(),
            name: name.to_owned(),
            raw: (!unit.data.is_empty()).then(|| hex::encode(&unit.data)),
            ..ExplainedItem::default()
        });
    }
    if unit.reading.is_none()
        && !unit.data.is_empty()
        && !matches!(message.afn, Afn::FORWARD | Afn::EVENTS | Afn::CONFIRM)
    {
        explained
            .notes
            .push(format!("how the data of {} are laid out is not known", unit.id));
    }
    fields.add("data", unit.data.len(), format!("{}, {name}", unit.id));
}

fn listed(unit: &Unit, name: &str, field: &str, value: Result<String, String>) -> ExplainedItem {
    ExplainedItem {
        id: unit.id.to_string(),
        name: format!("{name}, {field}"),
        value: Some(value.unwrap_or_else(|error| error)),
        ..ExplainedItem::default()
    }
}

fn entered(unit: &Unit, entry: &Entry) -> ExplainedItem {
    let mut name = entry.field.name.to_owned();
    match entry.rate {
        Some(0) => name.push_str(", total"),
        Some(rate) => name.push_str(&format!(", tariff {rate}")),
        None => {}
    }
    if let Some(index) = entry.index {
        name.push_str(
            &entry
                .at
                .map_or_else(|| format!(", {}", index + 1), |at| format!(", {at}")),
        );
    }
    // what opens something is not repeated
    let secret = entry.field.name == "password";
    let value = match &entry.value {
        _ if secret => Some("not shown".to_owned()),
        Ok(Value::None) => None,
        Ok(value) => Some(text_of(value)),
        Err(error) => Some(error.to_string()),
    };
    ExplainedItem {
        id: unit.id.to_string(),
        name,
        quantity: entry.obis(),
        value,
        unit: (!entry.field.unit.is_empty()).then(|| entry.field.unit.to_owned()),
        raw: (!secret).then(|| hex::encode(unit.data.get(entry.span.clone()).unwrap_or_default())),
    }
}

/// A value as text: a number as digits, no unit.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::None => "no value".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Time(at) => at.to_string(),
        Value::Date(at) => at.to_string(),
        Value::Month(at) => at.format("%Y-%m").to_string(),
        Value::TimeOfDay(at) => at.format("%H:%M").to_string(),
        Value::Moment(at) => match at.month {
            Some(month) => format!("{month:02}-{:02} {}", at.day, at.time),
            None => format!("day {} {}", at.day, at.time),
        },
        Value::Bits(bits) => format!("{bits:X}"),
        Value::Digits(text) | Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => hex::encode(bytes),
    }
}

fn confirmation(message: &Message, explained: &mut Explained) {
    match Confirmation::of(message) {
        Ok(Confirmation::All) => explained.items.push(ExplainedItem {
            id: "F1".to_owned(),
            name: "all confirmed".to_owned(),
            ..ExplainedItem::default()
        }),
        Ok(Confirmation::None) => {
            explained.refusal = Some(Refusal {
                code: 1,
                name: "all denied",
            });
        }
        Ok(Confirmation::Each { afn, items }) => {
            let words = |error: u8| {
                if error == 0 {
                    "confirmed".to_owned()
                } else {
                    format!("denied, error {error}")
                }
            };
            explained.items.extend(items.iter().map(|(id, error)| ExplainedItem {
                id: id.to_string(),
                name: format!("{} ({afn})", afn.name()),
                value: Some(words(*error)),
                ..ExplainedItem::default()
            }));
            if let Some((_, code)) = items.iter().find(|(_, error)| *error != 0) {
                explained.refusal = Some(Refusal {
                    code: *code,
                    name: "some items denied",
                });
            }
        }
        Err(error) => explained.notes.push(error.to_string()),
    }
}

fn forwarded(unit: &Unit, way: Way, explained: &mut Explained) {
    let read = match way {
        Way::Down => forward::Question::read(&unit.data).map(|question| {
            let wait = question.passage.wait_ms();
            (
                question.passage.port,
                format!("frame to the meter, waits {wait} ms"),
                question.frame,
            )
        }),
        Way::Up => forward::Answer::read(&unit.data)
            .map(|answer| (answer.port, "frame from the meter".to_owned(), answer.frame)),
    };
    match read {
        Ok((port, words, frame)) => explained.items.push(ExplainedItem {
            id: unit.id.to_string(),
            name: format!("{words}, port {port}"),
            raw: Some(hex::encode(&frame)),
            ..ExplainedItem::default()
        }),
        Err(error) => explained.notes.push(error.to_string()),
    }
}

fn events(unit: &Unit, explained: &mut Explained) {
    match event::read(&unit.data) {
        Ok(events) => explained
            .items
            .extend(events.records.iter().map(|record| ExplainedItem {
                id: format!("ERC{}", record.code),
                name: record.name().to_owned(),
                value: record.at().ok().map(|at| text_of(&at)),
                raw: Some(hex::encode(&record.data)),
                ..ExplainedItem::default()
            })),
        Err(error) => explained.notes.push(error.to_string()),
    }
}

fn meters(unit: &Unit, explained: &mut Explained) {
    match archive::read(&unit.data) {
        Ok(meters) => explained.items.extend(meters.iter().map(|meter| ExplainedItem {
            id: format!("place {}", meter.place),
            name: format!(
                "meter of p{}, {}, port {}",
                meter.point,
                meter.protocol.name(),
                meter.port
            ),
            value: Some(meter.address_text()),
            ..ExplainedItem::default()
        })),
        Err(error) => explained.notes.push(error.to_string()),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

//! Modbus frames explained: address, function, items, and the place of every field.

use super::frame::{
    Candidate, EXCEPTION_FLAG, FRAME_MIN, FrameError, Shape, open, request_shape_of, response_shape_of,
};
use super::{Body, Function, Request, UNIT_MAX, exception_name};
use crate::base::hex;
use crate::protocol::explain::{Direction, ExplainError, Explained, ExplainedItem, Field, Refusal};

type Frames = Vec<Result<Explained, ExplainError>>;

/// The header of Modbus TCP (Messaging on TCP/IP implementation guide V1.0b, 3.1.3): transaction, protocol, length, unit.
const MBAP_LEN: usize = 7;

/// Explains RTU frames that stand one behind the other. An answer is explained with the addresses of the request before
/// it.
pub fn explain_rtu(bytes: &[u8]) -> Frames {
    let mut frames = Vec::new();
    let mut asked: Option<Request> = None;
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((len, direction)) = whole(rest, asked.as_ref()) else {
            frames.push(Err(fault(rest, at)));
            at = next(bytes, at + 1);
            continue;
        };
        let frame = rest.get(..len).unwrap_or_default();
        match open(frame) {
            Ok((unit, pdu)) => {
                let mut explained = describe(direction, unit, pdu, at, asked.as_ref());
                explained.protocol = "modbus-rtu";
                explained.checksum_ok = Some(true);
                explained.end = at + len;
                let crc = frame.get(len - 2..).unwrap_or_default();
                explained.fields.push(Field {
                    name: "crc",
                    start: at + len - 2,
                    end: at + len,
                    value: format!("{}, right", hex::encode(crc)),
                });
                asked = if direction == Direction::Request {
                    parse(unit, pdu)
                } else {
                    None
                };
                frames.push(Ok(explained));
            }
            Err(error) => frames.push(Err(ExplainError::new(error.to_string(), at))),
        }
        at += len;
    }
    frames
}

/// Explains Modbus TCP frames that stand one behind the other.
pub fn explain_tcp(bytes: &[u8]) -> Frames {
    let mut frames = Vec::new();
    let mut asked: Option<([u8; 2], Request)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        match mbap(rest) {
            Err((error, offset)) => {
                // without a checksum nothing tells where the next frame begins
                frames.push(Err(ExplainError::new(error, at + offset)));
                return frames;
            }
            Ok((transaction, unit, pdu)) => {
                let before = asked
                    .as_ref()
                    .filter(|(id, _)| *id == transaction)
                    .map(|(_, request)| request);
                let request = parse(unit, pdu);
                let answers = before.is_some_and(|before| before.unit() == unit);
                let direction = match request {
                    Some(_) if !answers => Direction::Request,
                    _ => Direction::Response,
                };
                let mut explained = describe(direction, unit, pdu, at + MBAP_LEN - 1, before);
                explained.protocol = "modbus-tcp";
                explained.start = at;
                explained.end = at + MBAP_LEN + pdu.len();
                let header = [
                    ("transaction", 0, u16::from_be_bytes(transaction).to_string()),
                    ("protocol", 2, "0, Modbus".to_owned()),
                    ("length", 4, format!("{}", pdu.len() + 1)),
                ];
                for (place, (name, offset, value)) in header.into_iter().enumerate() {
                    let (start, end) = (at + offset, at + offset + 2);
                    explained.fields.insert(
                        place,
                        Field {
                            name,
                            start,
                            end,
                            value,
                        },
                    );
                }
                at = explained.end;
                frames.push(Ok(explained));
                asked = request
                    .filter(|_| direction == Direction::Request)
                    .map(|request| (transaction, request));
            }
        }
    }
    frames
}

/// Transaction, unit and PDU.
type Mbap<'a> = ([u8; 2], u8, &'a [u8]);

/// Takes a Modbus TCP frame apart; what is wrong and where, if it is none.
fn mbap(bytes: &[u8]) -> Result<Mbap<'_>, (String, usize)> {
    let Some(([t0, t1, p0, p1, l0, l1, unit], rest)) = bytes.split_first_chunk::<MBAP_LEN>() else {
        let error = format!(
            "{} bytes are too few for the Modbus TCP header of {MBAP_LEN}",
            bytes.len()
        );
        return Err((error, bytes.len()));
    };
    let protocol = u16::from_be_bytes([*p0, *p1]);
    if protocol != 0 {
        return Err((format!("protocol id is {protocol}, Modbus TCP has 0"), 2));
    }
    let len = usize::from(u16::from_be_bytes([*l0, *l1]));
    if !(2..=254).contains(&len) {
        return Err((format!("length {len} is outside 2 to 254"), 4));
    }
    let Some(pdu) = rest.get(..len - 1) else {
        let error = format!("the frame needs {} bytes and has {}", len + 6, bytes.len());
        return Err((error, bytes.len()));
    };
    Ok(([*t0, *t1], *unit, pdu))
}

/// The request in a PDU; also of units that no device has (0 is the broadcast, Modbus TCP uses 255).
fn parse(unit: u8, pdu: &[u8]) -> Option<Request> {
    Request::parse_pdu(unit.clamp(1, UNIT_MAX), pdu).ok()
}

/// The length and direction of a whole frame at the front.
fn whole(bytes: &[u8], asked: Option<&Request>) -> Option<(usize, Direction)> {
    let request = request_shape_of(bytes).judge(bytes);
    let response = response_shape_of(bytes).judge(bytes);
    match (request, response) {
        (Candidate::Whole(a), Candidate::Whole(b)) if a == b => {
            let frame = bytes.get(..a)?;
            let answers = asked.is_some_and(|asked| asked.reply(frame).is_ok());
            let asks = Request::parse(frame).is_ok() || frame.first() == Some(&0);
            let direction = if asks && !answers {
                Direction::Request
            } else {
                Direction::Response
            };
            Some((a, direction))
        }
        (_, Candidate::Whole(len)) => Some((len, Direction::Response)),
        (Candidate::Whole(len), _) => Some((len, Direction::Request)),
        _ => None,
    }
}

/// Where the next whole frame begins.
fn next(bytes: &[u8], from: usize) -> usize {
    (from..bytes.len())
        .find(|at| whole(bytes.get(*at..).unwrap_or_default(), None).is_some())
        .unwrap_or(bytes.len())
}

/// What is wrong with the bytes at the front, and where.
fn fault(bytes: &[u8], at: usize) -> ExplainError {
    let shapes = [response_shape_of(bytes), request_shape_of(bytes)];
    let lens = shapes.iter().filter_map(|shape| match shape {
        Shape::Len(len) => Some(*len),
        _ => None,
    });
    let fitting = lens.clone().filter(|len| *len <= bytes.len());
    // of two readings that which ends with the bytes, else the longer
    let len = fitting.max_by_key(|len| (*len == bytes.len(), *len));
    if let Some(len) = len {
        let error = open(bytes.get(..len).unwrap_or_default()).err();
        let text = error.map_or_else(|| "not a frame".to_owned(), |error| error.to_string());
        return ExplainError {
            checksum_ok: error
                .is_some_and(|error| matches!(error, FrameError::Crc { .. }))
                .then_some(false),
            ..ExplainError::new(text, at + len - 2)
        };
    }
    let have = bytes.len();
    match (lens.max(), bytes.get(1)) {
        (Some(need), _) => {
            let text = format!("the frame breaks off: it needs {need} bytes and has {have}");
            ExplainError::new(text, at + have)
        }
        (None, Some(code)) if Function::by_code(code & !EXCEPTION_FLAG).is_none() => {
            ExplainError::new(FrameError::Function(*code).to_string(), at + 1)
        }
        _ => ExplainError::new(FrameError::Short { have, need: FRAME_MIN }.to_string(), at),
    }
}

/// Explains unit and PDU; `at` is the unit's place.
fn describe(direction: Direction, unit: u8, pdu: &[u8], at: usize, asked: Option<&Request>) -> Explained {
    let code = pdu.first().copied().unwrap_or_default();
    let function = Function::by_code(code & !EXCEPTION_FLAG);
    let mut explained = Explained {
        protocol: "",
        direction,
        address: unit.to_string(),
        function: Some(code & !EXCEPTION_FLAG),
        function_name: function.map(Function::name),
        control: None,
        checksum_ok: None,
        refusal: None,
        items: Vec::new(),
        fields: Vec::new(),
        start: at,
        end: at + 1 + pdu.len(),
        notes: Vec::new(),
    };
    let mut place = at;
    let mut field = |name, len: usize, value: String| {
        explained.fields.push(Field {
            name,
            start: place,
            end: place + len,
            value,
        });
        place += len;
    };
    field(
        "unit",
        1,
        if unit == 0 {
            "0, broadcast".to_owned()
        } else {
            unit.to_string()
        },
    );
    let named = function.map_or("not known", Function::name);
    if code & EXCEPTION_FLAG != 0 {
        field("function", 1, format!("0x{code:02X}, refusal of {named}"));
        if let Some(code) = pdu.get(1) {
            let name = exception_name(*code);
            field("exception", 1, format!("{code}, {name}"));
            explained.refusal = Some(Refusal { code: *code, name });
        }
        return explained;
    }
    field("function", 1, format!("{code}, {named}"));
    match (direction, parse(unit, pdu)) {
        (Direction::Request, Some(request)) => request_fields(&request, &mut field, &mut explained.items),
        _ => {
            let asked = asked.filter(|asked| asked.unit() == unit && asked.function().code() == code);
            response_fields(function, pdu, asked, &mut field, &mut explained.items);
            if asked.is_none() && function.is_some_and(Function::is_read) {
                let note = "an answer does not carry addresses; give the request before it to see them";
                explained.notes.push(note.to_owned());
            }
        }
    }
    if matches!(
        function,
        Some(Function::WriteSingleCoil | Function::WriteSingleRegister)
    ) && asked.is_none()
    {
        explained
            .notes
            .push("the answer has the same bytes as the request".to_owned());
    }
    explained
}

fn request_fields(
    request: &Request,
    field: &mut impl FnMut(&'static str, usize, String),
    items: &mut Vec<ExplainedItem>,
) {
    let first = request.address();
    field("address", 2, format!("0x{first:04X}"));
    let bits = request.function().is_bits();
    match request.body() {
        Body::Read { count, .. } => {
            field("count", 2, count.to_string());
            items.push(range(bits, first, *count, ""));
        }
        Body::WriteCoil { on, .. } => {
            field("value", 2, if *on { "on".to_owned() } else { "off".to_owned() });
            items.push(bit(Some(first), 0, *on));
        }
        Body::WriteRegister { value, .. } => {
            field("value", 2, value.to_string());
            items.push(register(Some(first), 0, *value));
        }
        Body::WriteCoils { bits: values, .. } => {
            let len = values.len().div_ceil(8);
            field("count", 2, values.len().to_string());
            field("byte count", 1, len.to_string());
            field("data", len, plural(values.len(), "coil"));
            items.extend(values.iter().enumerate().map(|(i, on)| bit(Some(first), i, *on)));
        }
        Body::WriteRegisters { registers, .. } => {
            field("count", 2, registers.len().to_string());
            field("byte count", 1, (registers.len() * 2).to_string());
            field("data", registers.len() * 2, plural(registers.len(), "register"));
            items.extend(
                registers
                    .iter()
                    .enumerate()
                    .map(|(i, value)| register(Some(first), i, *value)),
            );
        }
    }
}

fn response_fields(
    function: Option<Function>,
    pdu: &[u8],
    asked: Option<&Request>,
    field: &mut impl FnMut(&'static str, usize, String),
    items: &mut Vec<ExplainedItem>,
) {
    let Some(function) = function else {
        field(
            "data",
            pdu.len().saturating_sub(1),
            hex::encode(pdu.get(1..).unwrap_or_default()),
        );
        return;
    };
    let first = asked.map(Request::address);
    if function.is_read() {
        let Some((count, data)) = pdu.get(1..).and_then(<[u8]>::split_first) else {
            return;
        };
        field("byte count", 1, count.to_string());
        if function.is_bits() {
            let mut bits = super::request::unpack_bits(data);
            bits.truncate(asked.map_or(bits.len(), |asked| asked.count().into()));
            field("data", data.len(), plural(bits.len(), "bit"));
            items.extend(bits.iter().enumerate().map(|(i, on)| bit(first, i, *on)));
        } else {
            let registers = super::request::registers(data);
            field("data", data.len(), plural(registers.len(), "register"));
            items.extend(
                registers
                    .iter()
                    .enumerate()
                    .map(|(i, value)| register(first, i, *value)),
            );
        }
        return;
    }
    let words = super::request::registers(pdu.get(1..).unwrap_or_default());
    if let [address, word] = words.as_slice() {
        field("address", 2, format!("0x{address:04X}"));
        match function {
            Function::WriteSingleCoil => {
                field("value", 2, if *word == 0 { "off".to_owned() } else { "on".to_owned() });
                items.push(bit(Some(*address), 0, *word != 0));
            }
            Function::WriteSingleRegister => {
                field("value", 2, word.to_string());
                items.push(register(Some(*address), 0, *word));
            }
            _ => {
                field("count", 2, word.to_string());
                items.push(range(function.is_bits(), *address, *word, " written"));
            }
        }
    }
}

/// Several coils, inputs or registers, without their values.
fn range(bits: bool, first: u16, count: u16, verb: &str) -> ExplainedItem {
    let noun = if bits { "bit" } else { "register" };
    let last = first.saturating_add(count.saturating_sub(1));
    ExplainedItem {
        id: format!("0x{first:04X}"),
        name: match count {
            1 => format!("{noun} {first}{verb}"),
            _ => format!("{noun}s {first} to {last}{verb}"),
        },
        ..ExplainedItem::default()
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// Identifier and name of the `index`th of its kind; without the request only the index is known.
fn place(kind: &str, first: Option<u16>, index: usize) -> (String, String) {
    match first.and_then(|first| first.checked_add(u16::try_from(index).ok()?)) {
        Some(address) => (format!("0x{address:04X}"), format!("{kind} {address}")),
        None => (format!("+{index}"), format!("{kind} +{index}")),
    }
}

fn register(first: Option<u16>, index: usize, value: u16) -> ExplainedItem {
    let (id, name) = place("register", first, index);
    ExplainedItem {
        id,
        name,
        value: Some(value.to_string()),
        raw: Some(format!("{value:04X}")),
        ..ExplainedItem::default()
    }
}

fn bit(first: Option<u16>, index: usize, on: bool) -> ExplainedItem {
    let (id, name) = place("bit", first, index);
    ExplainedItem {
        id,
        name,
        value: Some(u8::from(on).to_string()),
        ..ExplainedItem::default()
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

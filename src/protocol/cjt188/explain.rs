//! Frames explained: address, function, values, and the place of every field.

use super::find::{front, starts};
use super::frame::{Candidate, Frame, FrameError, HEAD, OVERHEAD, judge};
use super::record::{self, Item, Value};
use super::value::{StatusBits, ValueError};
use super::{DataId, DiOrder, MeterType, valve};
use crate::base::hex;
use crate::protocol::explain::{Direction, ExplainError, Explained, ExplainedItem, Field, Refusal};

type Frames = Vec<Result<Explained, ExplainError>>;

/// Explains frames that stand one behind the other; what is none stands as an error at its place.
pub fn explain(bytes: &[u8]) -> Frames {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let next = starts(bytes).filter(|start| *start >= at).find_map(|start| {
            let rest = bytes.get(start..)?;
            match judge(rest) {
                Candidate::Whole(len) => Some((start, Frame::parse(rest.get(..len)?).ok()?, len)),
                _ => None,
            }
        });
        let begin = next
            .as_ref()
            .map_or(bytes.len(), |(start, ..)| front(bytes, *start).max(at));
        if begin > at {
            frames.push(Err(fault(bytes.get(at..begin).unwrap_or_default(), at)));
        }
        at = match next {
            Some((start, frame, len)) => {
                frames.push(Ok(describe(&frame, begin, start)));
                start + len
            }
            None => bytes.len(),
        };
    }
    frames
}

/// What is wrong with bytes that hold no whole frame, and where.
fn fault(bytes: &[u8], at: usize) -> ExplainError {
    let Some(start) = starts(bytes).next() else {
        return ExplainError::new("no 68 that begins a frame", at);
    };
    let rest = bytes.get(start..).unwrap_or_default();
    // what follows the length that the frame claims is not its own
    let claimed = rest
        .get(HEAD - 1)
        .map_or(rest.len(), |len| OVERHEAD + usize::from(*len));
    let frame = rest.get(..claimed.min(rest.len())).unwrap_or_default();
    let Err(error) = Frame::parse(frame) else {
        return ExplainError::new("not a frame", at + start);
    };
    let end = at + start + frame.len();
    let offset = match error {
        FrameError::Short { .. } | FrameError::Trailing { .. } => end,
        FrameError::Start(_) => at + start,
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

/// Explains a frame whose preamble begins at `begin` and whose 68 stands at `start`.
fn describe(frame: &Frame, begin: usize, start: usize) -> Explained {
    let control = frame.control;
    let mut fields = Fields {
        list: Vec::new(),
        place: begin,
    };
    fields.add("preamble", start - begin, format!("{} × FE", start - begin));
    fields.add("start", 1, "68");
    fields.add("type", 1, frame.meter_type.to_string());
    fields.add("address", 7, frame.address.to_string());
    let function = control.function();
    let named = function.map_or(
        if control.code() & 0x20 != 0 {
            "of the maker's own"
        } else {
            "reserved"
        },
        |f| f.name(),
    );
    let way = match (control.is_refusal(), control.is_from_meter()) {
        (true, _) => ", refused",
        (false, true) => ", answer",
        (false, false) => "",
    };
    fields.add("control", 1, format!("{control}, {named}{way}"));
    fields.add("length", 1, frame.data().len().to_string());
    let mut explained = Explained {
        protocol: "cjt188",
        direction: if control.is_from_meter() {
            Direction::Response
        } else {
            Direction::Request
        },
        address: frame.address.to_string(),
        function: Some(control.code()),
        function_name: function.map(super::Function::name),
        control: Some(format!("0x{control}")),
        checksum_ok: Some(true),
        refusal: None,
        items: Vec::new(),
        fields: Vec::new(),
        start: begin,
        end: start + OVERHEAD + frame.data().len(),
        notes: Vec::new(),
    };
    if control.is_refusal() {
        refused(frame.data(), &mut explained, &mut fields);
    } else {
        body(frame, &mut explained, &mut fields);
    }
    let sum = super::frame::sum(frame.wire(0).get(..HEAD + frame.data().len()).unwrap_or_default());
    fields.add("checksum", 1, format!("{sum:02X}, right"));
    fields.add("end", 1, "16");
    explained.fields = fields.list;
    if !frame.address.is_decimal() && !frame.address.has_wildcard() {
        explained
            .notes
            .push("the address has other digits than decimal ones, which the standard does not allow".to_owned());
    }
    if !frame.meter_type.is_known() {
        explained
            .notes
            .push(format!("type {:02X} is not in the standard", frame.meter_type.0));
    }
    explained
}

/// A refusal: serial number and status by the standard; some meters put the identifier before them.
fn refused(data: &[u8], explained: &mut Explained, fields: &mut Fields) {
    let (ser, status) = match data {
        [ser, status @ ..] if data.len() <= 3 => (Some(*ser), status),
        [di0, di1, ser, status @ ..] => {
            let (di, _) = DataId::guess([*di0, *di1]);
            fields.add("di", 2, di_text(di));
            (Some(*ser), status)
        }
        _ => (None, data),
    };
    if let Some(ser) = ser {
        fields.add("ser", 1, ser.to_string());
    }
    fields.add("status", status.len(), hex::encode(status));
    explained.refusal = Some(Refusal {
        code: status.first().copied().unwrap_or_default(),
        name: "refused by the meter",
    });
}

fn di_text(di: DataId) -> String {
    match (di.months_back(), di.name()) {
        (Some(1), _) => format!("{di}, last settlement month"),
        (Some(n), _) => format!("{di}, settlement month {n} back"),
        (None, Some(name)) => format!("{di}, {name}"),
        (None, None) => format!("{di}, not in the standard"),
    }
}

/// Identifier, serial number and what stands behind them.
fn body(frame: &Frame, explained: &mut Explained, fields: &mut Fields) {
    let Some(([di0, di1, ser], data)) = frame.data().split_first_chunk::<3>() else {
        fields.add("data", frame.data().len(), hex::encode(frame.data()));
        if !frame.data().is_empty() {
            explained
                .notes
                .push("too few data for an identifier and a serial number".to_owned());
        }
        return;
    };
    let (di, order) = DataId::guess([*di0, *di1]);
    let sent = match order {
        DiOrder::HighFirst => "high byte first",
        DiOrder::LowFirst => "low byte first",
    };
    fields.add("di", 2, format!("{}, {sent}", di_text(di)));
    fields.add("ser", 1, ser.to_string());
    if let (false, DataId::VALVE, [command]) = (frame.control.is_from_meter(), di, data) {
        let what = match *command {
            valve::OPEN => "open",
            valve::CLOSE => "close",
            _ => "a command of the maker's own",
        };
        fields.add("valve", 1, format!("{command:02X}, {what}"));
        explained.items.push(ExplainedItem {
            id: di.to_string(),
            name: "valve command".to_owned(),
            value: Some(what.to_owned()),
            raw: Some(hex::encode(data)),
            ..ExplainedItem::default()
        });
        return;
    }
    if let (DataId::WRITE_ADDRESS, Ok(bytes)) = (di, <[u8; 7]>::try_from(data)) {
        let new = super::Address(bytes).to_string();
        fields.add("new address", 7, new.clone());
        explained.items.push(ExplainedItem {
            id: di.to_string(),
            name: "new address".to_owned(),
            value: Some(new),
            raw: Some(hex::encode(data)),
            ..ExplainedItem::default()
        });
        return;
    }
    if data.is_empty() {
        explained.items.push(ExplainedItem {
            id: di.to_string(),
            name: di.name().unwrap_or("not in the standard").to_owned(),
            ..ExplainedItem::default()
        });
        return;
    }
    let Some(layout) = record::standard(frame.meter_type, di, data) else {
        fields.add("data", data.len(), hex::encode(data));
        explained.items.push(ExplainedItem {
            id: di.to_string(),
            name: di.name().unwrap_or("not in the standard").to_owned(),
            raw: Some(hex::encode(data)),
            ..ExplainedItem::default()
        });
        explained.notes.push(format!(
            "{} data bytes are no layout of the standard for {di}",
            data.len()
        ));
        return;
    };
    for (item, place, value) in record::values(layout, data) {
        let raw = hex::encode(data.get(place.clone()).unwrap_or_default());
        let (mut listed, text) = item_of(item, value, &mut explained.notes);
        fields.add(item.name, place.len(), text);
        listed.id = di.to_string();
        listed.quantity = quantity(item.name, frame.meter_type).map(str::to_owned);
        listed.raw = Some(raw);
        explained.items.push(listed);
    }
}

/// A value as an item and as a field's text.
fn item_of(item: &Item, value: Result<Value, ValueError>, notes: &mut Vec<String>) -> (ExplainedItem, String) {
    let mut listed = ExplainedItem {
        name: item.name.to_owned(),
        ..ExplainedItem::default()
    };
    let text = match value {
        Ok(Value::Number(number, unit)) => {
            let unit = unit.map_or_else(|| item.unit.to_owned(), |unit| unit.name());
            let text = format!("{number} {unit}").trim_end().to_owned();
            listed.value = Some(number.to_string());
            listed.unit = (!unit.is_empty()).then_some(unit);
            text
        }
        Ok(Value::Time(at)) => {
            listed.value = Some(at.to_string());
            at.to_string()
        }
        Ok(Value::Status(status)) => {
            let words = status.words(StatusBits::Low);
            listed.value = Some(format!("{:04X}", status.word()));
            words
        }
        Ok(Value::Raw) => String::new(),
        Err(ValueError::NoValue) => "no value".to_owned(),
        Err(error) => {
            notes.push(format!("{}: {error}", item.name));
            error.to_string()
        }
    };
    (listed, text)
}

/// The quantity of the closed list that an item of a standard layout is.
fn quantity(name: &str, meter_type: MeterType) -> Option<&'static str> {
    Some(match name {
        "total volume" if meter_type.is_gas() => "gas_volume",
        "total volume" | "volume" => "volume_total",
        "settlement day volume" if meter_type.is_water() => "volume_settlement",
        "heat energy" if meter_type == MeterType::COOLING => "cooling_energy",
        "heat energy" => "heat_energy",
        "settlement day heat" if meter_type == MeterType::HEAT => "heat_energy_settlement",
        "heat power" => "thermal_power",
        "flow" => "flow_rate",
        "supply temperature" => "temperature_flow",
        "return temperature" => "temperature_return",
        "working hours" => "operating_hours",
        "status" => "status_word",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

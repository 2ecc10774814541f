//! What the data of a frame say, item by item, for people.

use super::frame::View;
use super::function::{Di, Edition, ErrorWord, Function};
use super::items::{self, Definition, Value};
use super::request::clock_of;
use super::{Address, Body, Request, bcd};
use crate::base::hex;
use crate::protocol::explain::ExplainedItem;
use rust_decimal::Decimal;

/// Items and notes of a frame.
#[derive(Default)]
pub(super) struct Said {
    pub(super) items: Vec<ExplainedItem>,
    pub(super) notes: Vec<String>,
}

/// What an answer says.
pub(super) fn answer(edition: Edition, function: Function, view: &View<'_>) -> Said {
    let data = view.data();
    if view.control.is_refusal() {
        return refusal(edition, function, &data);
    }
    match function {
        Function::Read | Function::Reread | Function::ReadFollow => {
            read(edition, function, &data, view.control.follows())
        }
        Function::ReadAddress => match <[u8; 6]>::try_from(data.as_slice()) {
            Ok(wire) => said("address", "address of the meter", Address::from_wire(wire).to_string()),
            Err(_) => note(format!("{} bytes are no address", data.len())),
        },
        Function::Security if data.len() == 4 => match Di::from_data(edition, &data) {
            Some(di) => note(format!("{di}: done")),
            None => Said::default(),
        },
        _ if data.is_empty() => note("done"),
        _ => note(format!("done, with {} more bytes", data.len())),
    }
}

fn refusal(edition: Edition, function: Function, data: &[u8]) -> Said {
    let mut out = Said::default();
    match data {
        [low, high] if function == Function::Security => {
            out.notes
                .push(format!("the meter refuses: security error {high:02X}{low:02X}"));
            out.notes.extend(security_error(u16::from_le_bytes([*low, *high])));
        }
        [bits, ..] => {
            let word = ErrorWord { edition, bits: *bits };
            out.notes.push(format!("the meter refuses: {word}"));
        }
        [] => out.notes.push("the meter refuses and gives no reason".to_owned()),
    }
    out
}

/// The bits of a security error word (supplement to 2007 on cost control).
fn security_error(word: u16) -> Vec<String> {
    const NAMES: [&str; 8] = [
        "other error",
        "recharged before",
        "the security module's check failed",
        "not authenticated",
        "another customer number",
        "wrong purchase count",
        "more bought than allowed",
        "wrong address",
    ];
    let set = NAMES.iter().enumerate().filter(|(bit, _)| word >> bit & 1 != 0);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

fn read(edition: Edition, function: Function, data: &[u8], more: bool) -> Said {
    let Some(di) = Di::from_data(edition, data) else {
        return note("no identifier in the data");
    };
    let mut values = data.get(edition.di_len()..).unwrap_or_default();
    let mut out = Said::default();
    if function == Function::ReadFollow {
        if let ([rest @ .., seq], Edition::E2007) = (values, edition) {
            out.notes.push(format!("follow-up frame {seq}"));
            values = rest;
        }
        // where in the block this frame begins is not in it
        out.items.push(bytes(di, "data, continued", values));
    } else {
        match items::split(di, values) {
            Ok(split) => split
                .iter()
                .enumerate()
                .for_each(|(index, item)| value(&mut out, di, index, item)),
            // the frame ends where it is full, inside an item or not
            Err(items::SplitError::Short { .. }) if more => out.items.push(bytes(di, "data, first part", values)),
            Err(error) => {
                out.notes.push(error.to_string());
                out.items.push(bytes(di, "data", values));
            }
        }
    }
    if more {
        out.notes.push("more frames follow".to_owned());
    }
    out
}

fn bytes(di: Di, name: &str, raw: &[u8]) -> ExplainedItem {
    ExplainedItem {
        id: di.to_string(),
        name: name.to_owned(),
        raw: Some(hex::encode(raw)),
        ..ExplainedItem::default()
    }
}

fn value(out: &mut Said, block: Di, index: usize, item: &items::Item<'_>) {
    let di = item.definition.di;
    let id = di.map_or_else(|| format!("{block}+{index}"), |di| di.to_string());
    let mut explained = ExplainedItem {
        id,
        name: item.definition.to_string(),
        raw: Some(hex::encode(item.raw)),
        ..ExplainedItem::default()
    };
    match &item.value {
        Ok(value) => {
            explained.value = Some(value.to_string());
            if !item.definition.unit.is_empty() && *value != Value::None {
                explained.unit = Some(item.definition.unit.to_owned());
            }
            if let (Value::Bits(bits), Some(di)) = (value, di) {
                out.notes
                    .extend(items::status_bits(di, *bits).into_iter().map(str::to_owned));
            }
        }
        Err(error) => out.notes.push(format!("{}: {error}", item.definition)),
    }
    out.items.push(explained);
}

/// What a question asks.
pub(super) fn question(edition: Edition, function: Function, view: &View<'_>, frame: &[u8]) -> Said {
    let data = view.data();
    if function == Function::Security {
        return security(&data);
    }
    let request = match Request::parse(edition, frame) {
        Ok(request) => request,
        Err(error) => return note(error.to_string()),
    };
    let mut out = Said::default();
    match request.body() {
        Body::Read { di, tail } => {
            asked(&mut out, *di);
            if !tail.is_empty() {
                out.notes.push(tail_words(tail));
            }
        }
        Body::Follow { di, seq } => {
            asked(&mut out, *di);
            if edition == Edition::E2007 {
                out.notes.push(format!("asks for follow-up frame {seq}"));
            }
        }
        Body::Write {
            di,
            security,
            value: written,
        } => {
            prove(&mut out, edition, *security);
            match items::split(*di, written) {
                Ok(split) => split
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| value(&mut out, *di, index, item)),
                Err(_) => out.items.push(bytes(*di, "data", written)),
            }
        }
        Body::WriteAddress(new) => return said("address", "new address", new.to_string()),
        Body::Freeze(at) => out.notes.push(format!("freeze: {}", freeze_words(*at))),
        Body::Speed(speed) => out.notes.push(format!("{} bit/s", speed.bits_per_second())),
        Body::ChangePassword { old, new, .. } => {
            out.notes
                .push(format!("from level {} to level {}", old.level(), new.level()));
        }
        Body::BroadcastTime(time) => return said("time", "time to take over", time.to_string()),
        Body::ClearDemand(security) | Body::ClearMeter(security) => prove(&mut out, edition, *security),
        Body::ClearEvents { security, di } => {
            prove(&mut out, edition, *security);
            out.notes.push(match di.number() {
                0xFFFF_FFFF => "all events".to_owned(),
                _ => format!("events {di}"),
            });
        }
        Body::Relay(command) => {
            out.items.push(ExplainedItem {
                id: format!("{:02X}", command.action().code()),
                name: command.action().name().to_owned(),
                ..ExplainedItem::default()
            });
            prove(&mut out, edition, command.security());
            out.notes.push(match command.until() {
                Some(until) => format!("valid until {until}"),
                None => "valid without limit".to_owned(),
            });
        }
        Body::ReadAddress => {}
    }
    out
}

fn asked(out: &mut Said, di: Di) {
    let name = match (items::definition(di, 0), items::is_block(di)) {
        (Some(Definition { what, .. }), true) => format!("{what}, block"),
        (Some(definition), false) => definition.to_string(),
        (None, _) => "not in the table".to_owned(),
    };
    out.items.push(ExplainedItem {
        id: di.to_string(),
        name,
        ..ExplainedItem::default()
    });
}

fn prove(out: &mut Said, edition: Edition, security: super::Security) {
    let operator = match edition {
        Edition::E1997 => String::new(),
        Edition::E2007 => format!(", operator {}", security.operator),
    };
    out.notes.push(format!(
        "level {:02}, with password{operator}",
        security.password.level()
    ));
}

/// What stands behind the identifier of a load profile.
fn tail_words(tail: &[u8]) -> String {
    match tail {
        [count, rest @ ..] => {
            let count = bcd::byte(*count).map_or_else(|_| format!("{count:02X}"), |count| count.to_string());
            let from = match rest {
                [minute, hour, day, month, year] => clock_of([0, *minute, *hour, *day, *month, *year])
                    .map_or_else(|error| format!(", {error}"), |time| format!(" from {time}")),
                [] => String::new(),
                other => format!(" and {}", hex::encode(other)),
            };
            format!("{count} blocks{from}")
        }
        [] => String::new(),
    }
}

fn freeze_words(at: super::FreezeAt) -> String {
    let two = |part: Option<u8>| part.map_or_else(|| "any".to_owned(), |part| format!("{part:02}"));
    match at.minute {
        None => "now".to_owned(),
        Some(_) => format!(
            "month {}, day {}, {}:{}",
            two(at.month),
            two(at.day),
            two(at.hour),
            two(at.minute)
        ),
    }
}

/// A security frame: recharges of meters without a security module in full, others by identifier and operator.
fn security(data: &[u8]) -> Said {
    let Some(di) = Di::from_data(Edition::E2007, data) else {
        return note("no identifier in the data");
    };
    let mut out = Said::default();
    let item = |id: &str, name: &str, value: String, unit: Option<&str>| ExplainedItem {
        id: id.to_owned(),
        name: name.to_owned(),
        value: Some(value),
        unit: unit.map(str::to_owned),
        ..ExplainedItem::default()
    };
    let name = match di.number() {
        0x0700_00FF => "authentication",
        0x0701_01FF => "open account",
        0x0701_02FF => "recharge",
        0x0701_08FF => "refund",
        0x0701_04FF => "prepayment parameters",
        0x0781_02FF => "query of the purse",
        _ => "security",
    };
    out.items.push(ExplainedItem {
        id: di.to_string(),
        name: name.to_owned(),
        ..ExplainedItem::default()
    });
    let rest = data.get(4..).unwrap_or_default();
    let Some((operator, rest)) = rest.split_first_chunk::<4>() else {
        return out;
    };
    out.items.push(item(
        "operator",
        "operator, as on the wire",
        hex::encode(operator),
        None,
    ));
    // DI, operator, amount 4, order 8, MAC 4, address 6, MAC 4
    let recharge = rest
        .first_chunk::<26>()
        .filter(|_| matches!(name, "recharge" | "refund") && rest.len() == 26);
    if let Some(fields) = recharge {
        let (amount, fields) = fields.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let (order, fields) = fields.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let mut order = *order;
        order.reverse();
        let amount = Decimal::new(u32::from_le_bytes(*amount).into(), 2);
        out.items
            .push(item("amount", "amount", amount.to_string(), Some("yuan")));
        out.items.push(item("order", "order number", hex::encode(&order), None));
        let (mac_1, fields) = fields.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let (meter, fields) = fields.split_first_chunk::<6>().unwrap_or((&[0; 6], &[]));
        out.items.push(item("mac1", "first code", hex::encode(mac_1), None));
        out.items
            .push(item("meter", "meter", Address::from_wire(*meter).to_string(), None));
        out.items.push(item("mac2", "second code", hex::encode(fields), None));
    } else if !rest.is_empty() {
        out.items.push(bytes(di, "data", rest));
    }
    out
}

fn said(id: &str, name: &str, value: String) -> Said {
    Said {
        items: vec![ExplainedItem {
            id: id.to_owned(),
            name: name.to_owned(),
            value: Some(value),
            ..ExplainedItem::default()
        }],
        notes: Vec::new(),
    }
}

fn note(text: impl Into<String>) -> Said {
    Said {
        items: Vec::new(),
        notes: vec![text.into()],
    }
}

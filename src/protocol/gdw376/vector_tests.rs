//! The shared vectors: each means what it says, is written back byte for byte where it is ours to send, and survives every
//! split, noise and single-bit flip.

use super::format::Value;
use super::frame::tests::feed;
use super::*;
use crate::base::hex;
use serde_json::Value as Json;
use std::path::PathBuf;

fn vectors() -> Option<String> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let path = shared.join("vectors/gdw376.1.jsonl");
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("{} is not there: not tested", path.display());
    }
    text.ok()
}

/// Every split gives the frame, noise before it and a torso behind it change nothing, no single-bit flip is the original.
fn proves(bytes: &[u8], line: &str) {
    let frame = Frame::parse(bytes).unwrap();
    for cut in 0..=bytes.len() {
        assert_eq!(
            feed(&[&bytes[..cut], &bytes[cut..]]),
            std::slice::from_ref(&frame),
            "{line} split at {cut}"
        );
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(feed(&single), std::slice::from_ref(&frame), "{line}");
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.to_vec();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::parse(&broken).is_err(), "{line} bit {bit}");
        assert!(!feed(&[&broken]).contains(&frame), "{line} bit {bit}");
    }
    let noisy = [&[0x00, 0x68, 0x10, 0x16, 0x68, 0x68, 0xFE][..], bytes, &[0x68, 0x32]].concat();
    assert_eq!(feed(&[&noisy]), [frame], "{line} in noise");
}

fn number(value: &Json) -> u64 {
    value.as_u64().unwrap()
}

fn heads_agree(frame: &Frame, message: &Message, meaning: &Json, line: &str) {
    assert_eq!(
        u64::from(frame.dialect.bits()),
        number(&meaning["proto_bits"]),
        "{line}"
    );
    assert_eq!(frame.wire().len() as u64 - 8, number(&meaning["length"]), "{line}");
    assert_eq!(frame.control.to_string(), meaning["control"], "{line}");
    assert_eq!(
        u64::from(frame.control.is_from_terminal()),
        number(&meaning["dir"]),
        "{line}"
    );
    assert_eq!(u64::from(frame.control.is_primary()), number(&meaning["prm"]), "{line}");
    assert_eq!(
        u64::from(frame.control.bit_5()),
        number(&meaning["fcb_or_acd"]),
        "{line}"
    );
    assert_eq!(
        u64::from(frame.control.count_valid()),
        number(&meaning["fcv"]),
        "{line}"
    );
    assert_eq!(u64::from(frame.control.function()), number(&meaning["func"]), "{line}");
    assert_eq!(format!("{:04X}", frame.address.region), meaning["a1_region"], "{line}");
    assert_eq!(
        u64::from(frame.address.terminal),
        number(&meaning["a2_terminal"]),
        "{line}"
    );
    assert_eq!(u64::from(frame.address.msa()), number(&meaning["msa"]), "{line}");
    assert_eq!(Json::from(frame.address.group), meaning["group_address"], "{line}");
    assert_eq!(message.afn.to_string(), meaning["afn"], "{line}");
    let seq = message.seq;
    assert_eq!(seq.to_string(), meaning["seq"], "{line}");
    for (key, bit) in [
        ("tpv", seq.has_time_tag()),
        ("fir", seq.is_first()),
        ("fin", seq.is_last()),
        ("con", seq.wants_confirmation()),
    ] {
        assert_eq!(u64::from(bit), number(&meaning[key]), "{line} {key}");
    }
    assert_eq!(u64::from(seq.number()), number(&meaning["pseq"]), "{line}");
}

fn fields_agree(message: &Message, meaning: &Json, line: &str) {
    match (&message.tag, &meaning["tp"]) {
        (None, said) => assert!(said.is_null(), "{line}"),
        (Some(tag), said) => {
            assert_eq!(u64::from(tag.counter), number(&said["pfc"]), "{line}");
            assert_eq!(u64::from(tag.delay_min), number(&said["delay_min"]), "{line}");
            let time = match tag.sent().unwrap() {
                Value::Moment(at) => format!("DD {:02} hh {}", at.day, at.time.format("%H mm %M ss %S")),
                _ => "DD 00 hh 00 mm 00 ss 00".to_owned(),
            };
            assert_eq!(time, said["time"], "{line}");
        }
    }
    match (&message.events, &meaning["ec"]) {
        (None, said) => assert!(said.is_null(), "{line}"),
        (Some(events), said) => {
            assert_eq!(u64::from(events.important), number(&said["ec1"]), "{line}");
            assert_eq!(u64::from(events.ordinary), number(&said["ec2"]), "{line}");
        }
    }
    let password = message.password.map(|Password(bytes)| hex::encode(&bytes));
    assert_eq!(password.as_deref(), meaning["pw_hex"].as_str(), "{line}");
}

/// Points, items, and the bytes behind their identifier.
fn units_agree(message: &Message, meaning: &Json, line: &str) -> Vec<Unit> {
    let units = message.units(Edition::E2013).unwrap();
    let list = |key: &str| meaning[key].as_array().unwrap().iter().map(number).collect::<Vec<_>>();
    let (points, items) = (list("pn"), list("fn"));
    let said: Vec<(u64, u64)> = units
        .iter()
        .map(|unit| (unit.id.pn.number().unwrap().into(), unit.id.item.number().into()))
        .collect();
    let wanted: Vec<(u64, u64)> = points
        .iter()
        .flat_map(|pn| items.iter().map(move |item| (*pn, *item)))
        .collect();
    assert_eq!(said, wanted, "{line}");
    assert_eq!(
        hex::encode(message.first_data()),
        meaning["data_hex"].as_str().unwrap_or_default(),
        "{line}"
    );
    units
}

/// What the vector says of its values.
fn values_agree(message: &Message, units: &[Unit], meaning: &Json, line: &str) {
    let reading = units[0].reading.as_ref();
    let column = |name: &str| -> Vec<Json> {
        let entries = reading
            .unwrap()
            .entries
            .iter()
            .filter(|entry| entry.field.name.starts_with(name));
        entries
            .map(|entry| match entry.value.as_ref().unwrap() {
                Value::Number(number) => Json::from(number.to_string()),
                _ => Json::Null,
            })
            .collect()
    };
    match meaning["op"].as_str().unwrap() {
        "clock" => {
            let at = reading.unwrap().time("clock").unwrap();
            assert_eq!(at.to_string(), meaning["clock"], "{line}");
        }
        "F25" => {
            let at = reading.unwrap().time("terminal read at").unwrap();
            assert_eq!(at.format("%Y-%m-%d %H:%M").to_string(), meaning["time"], "{line}");
            let nothing = meaning["note"].as_str().unwrap().starts_with("all values");
            for (key, name) in [
                ("active_power_kW", "active power"),
                ("power_factor_percent", "power factor"),
                ("voltage_V", "voltage"),
                ("current_A", "current"),
            ] {
                let said = column(name);
                match meaning[key].as_array() {
                    Some(wanted) => assert_eq!(said, *wanted, "{line} {key}"),
                    None => assert!(nothing && said.iter().all(Json::is_null), "{line} {key}"),
                }
            }
            assert_eq!(column("neutral"), [Json::Null], "{line}");
        }
        "terminal version F1" => {
            let text = |name: &str| {
                let entry = reading
                    .unwrap()
                    .entries
                    .iter()
                    .find(|entry| entry.field.name == name)
                    .unwrap();
                super::explain_text(entry.value.as_ref().unwrap())
            };
            assert_eq!(text("vendor"), meaning["vendor"], "{line}");
            assert_eq!(text("device"), meaning["device"], "{line}");
            assert_eq!(text("software version"), meaning["software"], "{line}");
            assert_eq!(text("software date"), meaning["software_date"], "{line}");
        }
        "login" => assert_eq!(message.link(), Some(Link::Login), "{line}"),
        "heartbeat" => assert_eq!(message.link(), Some(Link::Heartbeat), "{line}"),
        "confirm_all" => assert_eq!(Confirmation::of(message), Ok(Confirmation::All), "{line}"),
        "confirm_item_by_item" => {
            let said = &meaning["confirmed"];
            let pn = Pn::new(u16::try_from(number(&said["pn"])).unwrap()).unwrap();
            let item = Fn::new(u8::try_from(number(&said["fn"])).unwrap()).unwrap();
            let items = vec![(Id { pn, item }, u8::try_from(number(&said["err"])).unwrap())];
            let wanted = Confirmation::Each { afn: Afn::LINK, items };
            assert_eq!(said["afn"], Afn::LINK.to_string());
            assert_eq!(Confirmation::of(message), Ok(wanted), "{line}");
        }
        "transparent_forward" => forwarded(message, &units[0], meaning, line),
        // a question: its points and items are all that it says
        _ => assert!(!message.control.is_from_terminal(), "{line}"),
    }
}

fn forwarded(message: &Message, unit: &Unit, meaning: &Json, line: &str) {
    let (port, frame) = match message.way() {
        Way::Down => {
            let question = forward::Question::read(&unit.data).unwrap();
            assert_eq!(question.write().unwrap(), unit.data, "{line}");
            let trips = meaning["inner"] == "relay trip";
            assert_eq!(question.kind() == forward::Kind::Relay, trips, "{line}");
            assert_eq!(question.passage.wait_ms(), 60_000, "{line}");
            (question.passage.port, question.frame)
        }
        Way::Up => {
            let answer = forward::Answer::read(&unit.data).unwrap();
            assert_eq!(answer.write().unwrap(), unit.data, "{line}");
            (answer.port, answer.frame)
        }
    };
    if let Some(said) = meaning["port"].as_u64() {
        assert_eq!(u64::from(port), said, "{line}");
    }
    if let Some(said) = meaning["inner_hex"].as_str() {
        assert_eq!(hex::encode(&frame), said, "{line}");
    }
    let inner = crate::protocol::explain::explain(None, &frame).unwrap();
    assert!(inner[0].protocol.starts_with("dlt645"), "{line}");
    if let Some(said) = meaning["inner_value"].as_str() {
        let value = inner[0].items[0].value.as_deref().unwrap();
        assert_eq!(format!("{value} kWh"), said, "{line}");
    }
}

/// A master's frame, made again from what it asks.
fn made_again(message: &Message, units: &[Unit]) -> Vec<u8> {
    let asks = units.iter().map(|unit| Ask {
        id: unit.id,
        data: unit.data.clone(),
    });
    let trips = units.iter().any(|unit| {
        let question = forward::Question::read(&unit.data);
        message.afn == Afn::FORWARD && question.is_ok_and(|question| question.kind() == forward::Kind::Relay)
    });
    let request = if trips {
        // nobody but the relay room makes it
        let refused = Request::new(message.address, message.afn, asks);
        assert!(matches!(refused, Err(RequestError::Relay(_))), "{refused:?}");
        let question = forward::Question::read(&units[0].data).unwrap();
        relay::forward(message.address, &question, Password::ZERO).unwrap()
    } else {
        Request::new(message.address, message.afn, asks).unwrap()
    };
    let request = request.numbered(message.seq.number()).with_control(message.control);
    let request = if message.seq.wants_confirmation() {
        request.to_confirm()
    } else {
        request
    };
    match message.tag {
        Some(tag) => request.with_tag(tag).wire(),
        None => request.wire(),
    }
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    let Some(text) = vectors() else { return };
    let (mut seen, mut sent) = (0, 0);
    for line in text.lines() {
        let vector: Json = serde_json::from_str(line).unwrap();
        let bytes = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
        let meaning = &vector["meaning"];
        seen += 1;
        if !meaning["error"].is_null() {
            assert!(Frame::parse(&bytes).is_err(), "{line}");
            assert!(feed(&[&bytes]).is_empty(), "{line}");
            continue;
        }
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.wire(), bytes, "{line}");
        proves(&bytes, line);
        let message = Message::of(&frame).unwrap();
        assert_eq!(message.frame().unwrap(), frame, "{line}");
        heads_agree(&frame, &message, meaning, line);
        fields_agree(&message, meaning, line);
        let units = units_agree(&message, meaning, line);
        values_agree(&message, &units, meaning, line);
        if message.control.is_from_terminal() {
            continue;
        }
        sent += 1;
        if message.afn == Afn::CONFIRM {
            // the answer to the login or heartbeat of that number
            let mut terminal = Terminal::new(message.address, Edition::E2013);
            let login = std::iter::repeat_with(|| terminal.say(Link::Heartbeat))
                .find(|login| login.seq.number() == message.seq.number());
            let again = Confirmation::of(&message).unwrap().to(&login.unwrap());
            assert_eq!(again.frame().unwrap().wire(), bytes, "{line}");
        } else {
            assert_eq!(made_again(&message, &units), bytes, "{line}");
        }
    }
    assert!(
        seen >= 28 && sent >= 12,
        "only {seen} vectors, {sent} of them a master's"
    );
}

#[test]
fn the_projects_own_frames_answer_each_other() {
    let text = include_str!("../../../tests/frames/gdw376.1.jsonl");
    let mut seen = 0;
    for line in text.lines() {
        let pair: Json = serde_json::from_str(line).unwrap();
        let wire = |value: &Json| hex::decode(value.as_str().unwrap()).unwrap();
        let request = wire(&pair["request"]);
        let edition = if pair["edition"] == 2009 {
            Edition::E2009
        } else {
            Edition::E2013
        };
        let asked = Message::of(&Frame::parse(&request).unwrap()).unwrap();
        proves(&request, line);
        let units = asked.units(edition).unwrap();
        assert_eq!(made_again(&asked, &units), request, "{line}");
        let asks = units.into_iter().map(|unit| Ask {
            id: unit.id,
            data: unit.data,
        });
        let question = Request::any(asked.address, asked.afn, asks)
            .unwrap()
            .numbered(asked.seq.number());
        let mut assembly = Assembly::new(64 * 1024);
        let mut whole = None;
        for answer in pair["answers"].as_array().unwrap() {
            let answer = wire(answer);
            proves(&answer, line);
            whole = assembly
                .push(Message::of(&Frame::parse(&answer).unwrap()).unwrap())
                .unwrap();
        }
        let answer = question.answer(&whole.expect(line), edition);
        seen += 1;
        if let Some(mismatch) = pair["mismatch"].as_str() {
            assert_eq!(answer.unwrap_err().to_string(), mismatch, "{line}");
            continue;
        }
        let answer = answer.unwrap();
        let words = |said: &Said| match said {
            Said::Data(_) => "data".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(words(&answer.said), pair["said"].as_str().unwrap_or("data"), "{line}");
        let missing: Vec<String> = answer.missing.iter().map(Id::to_string).collect();
        let wanted: Vec<&str> = pair["missing"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        assert_eq!(missing, wanted, "{line}");
        let Some(values) = pair["values"].as_array() else {
            continue;
        };
        let entries = answer
            .units()
            .flat_map(|unit| unit.reading.iter().flat_map(|reading| &reading.entries));
        let read: Vec<String> = entries
            .map(|entry| match &entry.value {
                Ok(value) => super::explain_text(value),
                Err(error) => error.to_string(),
            })
            .collect();
        let values: Vec<&str> = values.iter().filter_map(Json::as_str).collect();
        assert_eq!(read, values, "{line}");
    }
    assert!(seen >= 8, "only {seen} lines");
}

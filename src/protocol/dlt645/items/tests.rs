//! The tables on real frames: the shared vectors, and what they must refuse.

use super::super::find::tests::vectors;
use super::super::{Edition, ErrorWord, Heard, hear, open};
use super::*;
use crate::base::hex;
use crate::protocol::explain::{Explained, explain};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::Value as Json;

fn di(text: &str) -> Di {
    Di::parse(text).unwrap()
}

fn numbers(di: Di, data: &str) -> Vec<Option<String>> {
    let data = hex::decode(data).unwrap();
    let items = split(di, &data).unwrap();
    let text = |item: &Item<'_>| match item.value.clone().unwrap() {
        Value::None => None,
        value => Some(value.to_string()),
    };
    items.iter().map(text).collect()
}

#[test]
fn blocks_fall_into_items_with_and_without_separators_and_short_ones_end_early() {
    let some = |list: &[&str]| list.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        numbers(di("0201FF00"), "562 2 FFFF FFFF"),
        vec![Some("225.6".to_owned()), None, None]
    );
    assert_eq!(numbers(di("0201FF00"), "5622"), some(&["225.6"]));
    assert_eq!(
        numbers(di("0001FF00"), "56341200 00100000 56241200"),
        some(&["1234.56", "10.00", "1224.56"])
    );
    let separated = "56341200 AA 00100000 AA 56241200 AA";
    assert_eq!(
        numbers(di("0001FF00"), separated),
        some(&["1234.56", "10.00", "1224.56"])
    );
    assert_eq!(
        numbers(di("0203FF00"), "123480 123400 000000"),
        some(&["-0.3412", "0.3412", "0.0000"])
    );
    // settlement block: now and twelve settlements
    let items = 13;
    let data = "01000000".repeat(items);
    assert_eq!(numbers(di("000100FF"), &data).len(), items);
    assert!(split(di("000100FF"), &hex::decode(&"01000000".repeat(14)).unwrap()).is_err());
    assert_eq!(definition(di("0001FF00"), 2).unwrap().di, Some(di("00010200")));
    assert_eq!(definition(di("901F"), 1).unwrap().di, Some(di("9011")));
    assert_eq!(
        definition(di("050601 02".replace(' ', "").as_str()), 1).unwrap().part,
        Part::Tariff(1)
    );
}

#[test]
fn what_looks_like_a_number_and_is_none_has_a_name() {
    let value = |di: Di, data: &str| {
        let data = hex::decode(data).unwrap();
        let items = split(di, &data)?;
        Ok::<_, SplitError>(items[0].value.clone())
    };
    let energy = di("00010000");
    assert_eq!(value(energy, "FFFFFFFF"), Ok(Ok(Value::None)));
    assert!(matches!(value(energy, "563A1200"), Ok(Err(ValueError::Digits { .. }))));
    assert!(matches!(value(energy, "FFFFFF00"), Ok(Err(ValueError::Digits { .. }))));
    // 80 in the highest byte is a digit where there is no sign
    assert_eq!(
        value(energy, "00000080"),
        Ok(Ok(Value::Number(Decimal::new(80_000_000, 2))))
    );
    assert_eq!(
        value(di("00000000"), "01000080"),
        Ok(Ok(Value::Number(Decimal::new(-1, 2))))
    );
    assert!(matches!(
        value(energy, "563412"),
        Err(SplitError::Short { left: 3, .. })
    ));
    assert!(matches!(
        value(energy, "5634120000"),
        Err(SplitError::Trailing { left: 1, .. })
    ));
    assert!(matches!(value(di("0F0F0F0F"), "00"), Err(SplitError::Unknown(_))));
    assert!(matches!(
        value(di("0400010C"), "00000006 310226"),
        Ok(Err(ValueError::Time { .. }))
    ));
    assert!(matches!(
        value(di("04000102"), "6A0012"),
        Ok(Err(ValueError::Digits { .. }))
    ));
    let demand = value(di("01010000"), "00000000 00000000").unwrap().unwrap();
    assert_eq!(demand.to_string(), "0.0000, no time");
}

#[test]
fn lengths_for_time_outs_follow_the_table() {
    assert_eq!(data_len(di("00010000")), Some(4));
    assert_eq!(data_len(di("0001FF00")), Some(21));
    assert_eq!(data_len(di("0201FF00")), Some(7));
    assert_eq!(data_len(di("901F")), Some(21));
    assert_eq!(data_len(di("0F0F0F0F")), None);
}

fn any_di() -> impl Strategy<Value = Di> {
    let known = proptest::sample::select(vec![0x00u32, 0x01, 0x02, 0x03, 0x04, 0x05, 0x07]);
    prop_oneof![
        (
            known,
            0u32..0x100,
            proptest::sample::select(vec![0u32, 1, 2, 3, 0x10, 0xFF]),
            0u32..0x100
        )
            .prop_map(|(d3, d2, d1, d0)| Di::E2007(d3 << 24 | d2 << 16 | d1 << 8 | d0)),
        any::<u32>().prop_map(Di::E2007),
        (0x9000u16..0xC300).prop_map(Di::E1997),
        any::<u16>().prop_map(Di::E1997),
    ]
}

proptest! {
    #[test]
    fn any_data_are_split_without_a_panic(di in any_di(), data in proptest::collection::vec(any::<u8>(), 0..260)) {
        if let Ok(items) = split(di, &data) {
            let mut end = 0;
            for item in &items {
                prop_assert!(item.offset >= end);
                end = item.offset + item.raw.len();
                prop_assert_eq!(data.get(item.offset..end), Some(item.raw));
                // a separate read of the item means the same
                if let Some(own) = item.definition.di {
                    let alone = split(own, item.raw).unwrap();
                    prop_assert_eq!(&alone[0].value, &item.value);
                    prop_assert_eq!(alone[0].definition.what, item.definition.what);
                }
            }
        }
        let _len = data_len(di);
        for index in [0, 1, 63, 64, 255, 256, 70_000] {
            let _definition = definition(di, index);
        }
    }

    #[test]
    fn values_go_there_and_back(bytes in 1u8..=8, decimals in 0u8..=6, signed: bool, raw in any::<[u8; 8]>()) {
        let format = Format::Number { bytes, decimals, signed };
        let raw = &raw[..usize::from(bytes)];
        if let Ok(value) = format.read(raw) {
            let written = format.write(&value).unwrap();
            prop_assert_eq!(format.read(&written), Ok(value.clone()));
            // minus zero is zero
            if value != Value::Number(Decimal::ZERO) {
                prop_assert_eq!(written, raw);
            }
        }
    }
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("no text: {json}"))
}

/// The one frame, explained.
fn explained(frame: &[u8], name: &str) -> Explained {
    let mut frames = explain(None, frame).unwrap();
    assert_eq!(frames.len(), 1);
    let frame = frames.remove(0);
    assert_eq!(frame.protocol, name);
    frame
}

fn item<'a>(frame: &'a Explained, id: &str) -> &'a str {
    let found = frame.items.iter().find(|item| item.id == id);
    let found = found.unwrap_or_else(|| panic!("no {id} in {frame:?}"));
    found.value.as_deref().unwrap_or_default()
}

/// The peer that made these frames calls harmonics and distortion amperes and volts; the standard has per cent.
fn unit_of_peer(di: &str) -> bool {
    di.starts_with("0209") || di.starts_with("020A") || di.starts_with("020B")
}

fn check_read(line: &str, meaning: &Json, items: &[Item<'_>]) {
    let shown = |item: &Item<'_>| match item.value.clone().unwrap() {
        Value::None => Json::Null,
        Value::Demand { value, .. } => Json::String(value.to_string()),
        value => Json::String(value.to_string()),
    };
    if let Some(value) = meaning["value"].as_str() {
        assert_eq!(shown(&items[0]), value, "{line}");
        assert_eq!(items.len(), 1, "{line}");
    }
    if let Some(values) = meaning["values"].as_array() {
        let found: Vec<Json> = items.iter().map(shown).collect();
        assert_eq!(&found, values, "{line}");
    }
    if let (Some(unit), false) = (meaning["unit"].as_str(), unit_of_peer(text(&meaning["di"]))) {
        assert!(items.iter().all(|item| item.definition.unit == unit), "{line}");
    }
    if let Some(time) = meaning["time"].as_str() {
        let Ok(Value::Demand { at: Some(at), .. }) = &items[0].value else {
            panic!("no demand: {line}")
        };
        assert_eq!(at.format("%Y-%m-%d %H:%M").to_string(), time, "{line}");
    }
    if let Some(digits) = meaning["parameter_digits_high_first"].as_str() {
        let high_first: Vec<u8> = items[0].raw.iter().rev().copied().collect();
        assert_eq!(hex::encode(&high_first), digits, "{line}");
    }
    let value = |index: usize| items[index].value.clone().unwrap();
    for (key, said) in meaning["decoded"].as_object().into_iter().flatten() {
        match key.as_str() {
            "meter_cover_open_count" | "trip_count" => assert_eq!(value(0).to_string(), said.to_string(), "{line}"),
            "date" => assert_eq!(value(0).to_string(), text(said), "{line}"),
            "weekday" => assert_eq!(items[0].raw[0].to_string(), said.to_string(), "{line}"),
            other => panic!("{other}: {line}"),
        }
    }
    if let Some(relay) = meaning["relay"].as_str() {
        let Value::Bits(bits) = value(0) else { panic!("{line}") };
        assert_eq!(format!("{:?}", relay_state(bits)).to_lowercase(), relay);
        assert_eq!(format!("{bits:04X}"), text(&meaning["status_word_3"]), "{line}");
    }
    for (key, said) in meaning["fields"].as_object().into_iter().flatten() {
        let number = |index: usize| value(index).to_string();
        match key.as_str() {
            "rate_set_1_price_4" => assert_eq!(number(21), text(said), "{line}"),
            "rate_set_2_prices" => {
                let prices: Vec<Json> = (22..26).map(|index| Json::String(number(index))).collect();
                assert_eq!(&Json::Array(prices), said, "{line}");
            }
            // the source reads the step as a price; it is an energy of 0.01 kWh, and the digits are the same
            "step_set_1_threshold_1" => {
                assert_eq!(number(26).replace('.', ""), text(said).replace('.', ""), "{line}");
            }
            "price_scale" => {}
            other => panic!("{other}: {line}"),
        }
    }
}

fn check_question(line: &str, meaning: &Json, frame: &[u8], name: &str) {
    let shown = explained(frame, name);
    match text(&meaning["op"]) {
        "read_request" => assert_eq!(shown.items[0].id, text(&meaning["di"]), "{line}"),
        "security_request" => {
            assert_eq!(shown.items[0].name, text(&meaning["operation"]), "{line}");
            for key in ["amount", "order", "mac1", "mac2"] {
                assert_eq!(item(&shown, key), text(&meaning[key]), "{line}");
            }
            assert_eq!(item(&shown, "operator"), text(&meaning["operator_code_wire"]), "{line}");
        }
        "time_sync_unicast" | "broadcast_time_sync" => {
            assert_eq!(item(&shown, "time"), text(&meaning["time"]), "{line}")
        }
        "write_address_request" => assert_eq!(item(&shown, "address"), text(&meaning["new_address"]), "{line}"),
        "relay_control_request" => {
            assert_eq!(shown.items[0].id, text(&meaning["n1"]), "{line}");
            let command = text(&meaning["command"]).replace("close_permit", "allow closing");
            assert_eq!(shown.items[0].name, command, "{line}");
            let Heard::Request { request, .. } = hear(frame) else {
                panic!("{line}")
            };
            let super::super::Body::Relay(command) = request.body() else {
                panic!("{line}")
            };
            let [level, password @ ..] = command.security().password.wire();
            assert_eq!(meaning["password_level"], level, "{line}");
            assert_eq!(
                hex::encode(&password),
                text(&meaning["password_wire_low_byte_first"]),
                "{line}"
            );
            assert_eq!(
                command.security().operator.to_string(),
                text(&meaning["operator_code"]),
                "{line}"
            );
            let limited = text(&meaning["valid_until"]).starts_with("ss=00 mm=00 hh=00 DD=30 MM=12 YY=99");
            assert_eq!(
                command
                    .until()
                    .is_some_and(|at| at.to_string() == "2099-12-30 00:00:00"),
                limited,
                "{line}"
            );
        }
        "write_request" if meaning["command"].is_string() => {
            assert_eq!(shown.items[0].name, text(&meaning["command"]), "{line}");
        }
        "write_request" => {
            let raw = hex::decode(shown.items[0].raw.as_deref().unwrap()).unwrap();
            let high_first: Vec<u8> = raw.iter().rev().copied().collect();
            assert_eq!(
                hex::encode(&high_first),
                text(&meaning["value_digits_high_first"]),
                "{line}"
            );
            assert!(shown.notes[0].contains(&format!("level {:02}", meaning["password_level"].as_u64().unwrap())));
            assert!(shown.notes[0].contains(text(&meaning["operator_code"])), "{line}");
        }
        other => panic!("{other}: {line}"),
    }
}

fn check_vector(line: &str, edition: Edition, name: &str) {
    let vector: Json = serde_json::from_str(line).unwrap();
    let frame = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
    let meaning = &vector["meaning"];
    if !meaning["error"].is_null() {
        let named = if edition == Edition::E2007 {
            crate::protocol::Protocol::Dlt645_2007
        } else {
            crate::protocol::Protocol::Dlt645_1997
        };
        let error = explain(Some(named), &frame).unwrap_err();
        assert_eq!(
            error.checksum_ok == Some(false),
            meaning["error"] == "bad_checksum",
            "{line}"
        );
        return;
    }
    if vector["direction"] == "request" {
        return check_question(line, meaning, &frame, name);
    }
    let shown = explained(&frame, name);
    assert_eq!(shown.address, text(&meaning["address"]), "{line}");
    let view = open(&frame).unwrap();
    match text(&meaning["op"]) {
        "read_response" => {
            let data = view.data();
            let behind = &data[edition.di_len()..];
            if let Some(said) = meaning["data_hex"].as_str() {
                assert_eq!(hex::encode(behind), said, "{line}");
            }
            let items = split(view.di(edition).unwrap(), behind).unwrap_or_else(|error| panic!("{error}: {line}"));
            check_read(line, meaning, &items);
            assert_eq!(shown.items.len(), items.len());
            assert_eq!(view.control.follows(), meaning["more_follows"] == true, "{line}");
        }
        "error_response" => {
            let bits = view.at(0).unwrap();
            assert_eq!(format!("{bits:02X}"), text(&meaning["error_word"]), "{line}");
            let word = ErrorWord { edition, bits };
            let said: Vec<&str> = word.meanings().collect();
            let words = |name: &Json| match text(name) {
                "other" => "other error",
                "no_requested_data" => "no requested data",
                "password_or_unauthorised" => "wrong password or not authorised",
                other => panic!("{other}: {line}"),
            };
            let expected: Vec<&str> = meaning["error_bits"].as_array().unwrap().iter().map(words).collect();
            assert_eq!(said, expected, "{line}");
            assert_eq!(shown.refusal.unwrap().code, bits);
        }
        "relay_control_ok" | "security_response" => {
            assert!(shown.refusal.is_none() && shown.notes[0].contains("done"), "{line}");
        }
        "read_address_response" => assert_eq!(item(&shown, "address"), text(&meaning["meter_address"]), "{line}"),
        other => panic!("{other}: {line}"),
    }
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    for (name, edition) in [("dlt645-2007", Edition::E2007), ("dlt645-1997", Edition::E1997)] {
        let Some(text) = vectors(&format!("{name}.jsonl")) else {
            return;
        };
        text.lines().for_each(|line| check_vector(line, edition, name));
    }
}

/// The answer's frames one by one, asked for as a line asks.
fn whole_answer(asked: &super::super::Request, answer: &[u8]) -> Vec<u8> {
    use crate::protocol::{Finding, Verdict};
    let (mut taken, mut next) = (Vec::new(), Some(asked.clone()));
    while let Some(question) = next {
        let rest = &answer[taken.len()..];
        match question.find(rest) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } => taken.extend_from_slice(&rest[..span.end]),
            other => panic!("{other:?} to {question:?}"),
        }
        next = asked.follow_up(&taken);
    }
    taken
}

#[test]
fn the_projects_own_frames_answer_each_other() {
    use super::super::Reply;
    let of_2007 = include_str!("../../../../tests/frames/dlt645-2007.jsonl");
    let of_1997 = include_str!("../../../../tests/frames/dlt645-1997.jsonl");
    for line in of_2007.lines().chain(of_1997.lines()) {
        let pair: Json = serde_json::from_str(line).unwrap();
        let bytes = |key: &str| hex::decode(text(&pair[key])).unwrap();
        let (wire, answer) = (bytes("request"), bytes("answer"));
        let Heard::Request { span, request } = hear(&wire) else {
            panic!("{line}")
        };
        assert_eq!((span.end, request.wire()), (wire.len(), wire), "{line}");
        let reply = request.reply(&answer);
        if let Some(why) = pair["refused"].as_str() {
            assert_eq!(
                reply.unwrap_err().to_string(),
                format!("the meter refuses: {why}"),
                "{line}"
            );
            continue;
        }
        assert_eq!(whole_answer(&request, &answer), answer, "{line}");
        let Ok(Reply::Data(data)) = reply else {
            panic!("{reply:?}: {line}")
        };
        let items = split(request.di().unwrap(), &data);
        if let Some(why) = pair["error"].as_str() {
            let said = match items {
                Err(error) => error.to_string(),
                Ok(items) => items[0].value.clone().unwrap_err().to_string(),
            };
            assert_eq!(said, why, "{line}");
            continue;
        }
        let shown = |item: &Item<'_>| match item.value.clone().unwrap() {
            Value::None => Json::Null,
            value => Json::String(value.to_string()),
        };
        let found: Vec<Json> = items.unwrap().iter().map(shown).collect();
        assert_eq!(Json::Array(found), pair["values"], "{line}");
    }
}

#[test]
fn noise_before_and_between_frames_is_named() {
    let bytes = hex::decode(
        "00FF68 FEFEFEFE68370821112620681104333334336916 1234 68370821112620 6891083333343 36CB66C971216 68AA",
    );
    let frames = crate::protocol::explain::explain_all(None, &bytes.unwrap());
    let starts: Vec<usize> = frames
        .iter()
        .map(|frame| frame.as_ref().map_or_else(|error| error.offset, |frame| frame.start))
        .collect();
    assert_eq!(starts, [2, 3, 23, 25, 45]);
    assert_eq!(frames.iter().filter(|frame| frame.is_ok()).count(), 2);
}

//! Frames of real meters, read where they lie in the shared folder, against the records that libmbus reads in them. Where
//! we differ, [`DIFFERENCES`] says why, record by record.

use super::value::{Date, DateTime};
use super::{AnswerBody, Class, Function, Record, Records, Request, Telegram, Unit, Value};
use crate::base::hex;
use crate::protocol::{Finding, Verdict};
use rust_decimal::Decimal;
use std::path::PathBuf;
use std::str::FromStr;

/// File, record and reason of every record in which we and libmbus differ.
const DIFFERENCES: &[(&str, usize, &str)] = &[
    (
        "itron_bm_+m",
        2,
        "day and month are 0: no date, libmbus prints 2000-00-00",
    ),
    (
        "siemens_water",
        3,
        "day and month are 0: no date, libmbus prints 2000-00-00",
    ),
    (
        "siemens_wfh21",
        3,
        "day and month are 0: no date, libmbus prints 2000-00-00",
    ),
    (
        "landis+gyr_ultraheat_t230",
        32,
        "the year is 127, every year; libmbus counts on to 2027",
    ),
    (
        "sen_pollutherm",
        2,
        "VIF 7B without an extension is reserved: libmbus leaves its record empty, we keep the number without a kind",
    ),
    (
        "weptech humidity",
        4,
        "FB 1A is humidity in tenths of a percent since 2013; libmbus holds it for reserved",
    ),
    (
        "hyd heat meter",
        7,
        "the digits are BDEBDD: no number, libmbus reads 131113",
    ),
    (
        "hyd heat meter",
        8,
        "the digits are BDEBDDDD: no number, libmbus reads 13131113",
    ),
];

/// What another decoder says of a record.
#[derive(Clone, Debug, Default)]
struct Expected {
    function: String,
    storage: Option<u64>,
    tariff: Option<u32>,
    device: Option<u16>,
    quantity: String,
    unit: String,
    value: String,
}

fn shared(path: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("POLYPHASE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = shared.join(path);
    if path.exists() {
        return Some(path);
    }
    println!("absent, so not checked: {}", path.display());
    None
}

fn class_of(quantity: &str) -> Option<Class> {
    Some(match quantity {
        "Energy" => Class::Energy,
        "Volume" => Class::Volume,
        "Power" => Class::Power,
        "Volume flow" => Class::VolumeFlow,
        "Flow temperature" => Class::FlowTemperature,
        "Return temperature" => Class::ReturnTemperature,
        "Temperature difference" => Class::TemperatureDifference,
        "External temperature" => Class::ExternalTemperature,
        "Voltage" => Class::Voltage,
        "Current" => Class::Current,
        "On time" => Class::OnTime,
        "Operating time" => Class::OperatingTime,
        "Averaging Duration" => Class::AveragingDuration,
        "Actuality Duration" => Class::ActualityDuration,
        "Time point (date)" => Class::Date,
        "Time point (date & time)" => Class::DateTime,
        "Fabrication No" => Class::FabricationNumber,
        "(Enhanced) Identification" => Class::EnhancedIdentification,
        "H.C.A." => Class::CostAllocation,
        "Error flags" => Class::ErrorFlags,
        "Digital Input" => Class::DigitalInput,
        // a unit that the meter spells itself
        "%RH" | "cust. ID" | "bat. time" | "PW" => Class::PlainText,
        _ => return None,
    })
}

/// How many of libmbus's units one of ours makes, and its name there.
fn unit_of(unit: Unit) -> (&'static str, Decimal) {
    let one = Decimal::ONE;
    match unit {
        Unit::WattHour => ("Wh", one),
        Unit::Joule => ("J", one),
        Unit::CubicMetre => ("m^3", one),
        Unit::Watt => ("W", one),
        Unit::CubicMetrePerHour => ("m^3/h", one),
        Unit::Celsius => ("°C", one),
        Unit::Kelvin => ("K", one),
        Unit::Volt => ("V", one),
        Unit::Ampere => ("A", one),
        Unit::Second => ("s", one),
        Unit::Minute => ("s", Decimal::from(60)),
        Unit::Hour => ("s", Decimal::from(3600)),
        Unit::Day => ("s", Decimal::from(86_400)),
        _ => ("", one),
    }
}

fn date_text(date: &Date) -> String {
    date.single()
        .map_or_else(|| format!("{date:?}"), |date| date.to_string())
}

fn time_text(time: &DateTime) -> String {
    let single = DateTime {
        invalid: false,
        ..*time
    }
    .single();
    single.map_or_else(|| format!("{time:?}"), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Why our record is not theirs.
fn difference(expected: &Expected, record: &Record) -> Option<String> {
    let function = match record.function {
        Function::Instant => "Instantaneous value",
        Function::Maximum => "Maximum value",
        Function::Minimum => "Minimum value",
        Function::Error => "Value during error state",
    };
    if expected.function != function {
        return Some(format!("function {function}"));
    }
    let same = expected.storage.is_none_or(|storage| storage == record.storage)
        && expected.tariff.is_none_or(|tariff| tariff == record.tariff)
        && expected.device.is_none_or(|device| device == record.subunit);
    if !same {
        return Some(format!("storage {}, tariff {}", record.storage, record.tariff));
    }
    if let Some(class) = class_of(&expected.quantity)
        && class != record.class
    {
        return Some(format!("class {:?}", record.class));
    }
    let (unit, factor) = unit_of(record.unit);
    if !unit.is_empty() && unit != expected.unit {
        return Some(format!("unit {:?}", record.unit));
    }
    let same = match &record.value {
        Value::Number(number) => {
            Decimal::from_str(&expected.value).is_ok_and(|value| (number * factor - value).abs() <= Decimal::new(1, 6))
        }
        Value::Date(date) => date_text(date) == expected.value,
        Value::DateTime(time) => time_text(time) == expected.value,
        Value::Text(text) => text.trim() == expected.value.trim(),
        Value::Bytes(bytes) => {
            let spaced: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            spaced.join(" ") == expected.value
        }
        Value::Empty => expected.value.is_empty(),
        Value::Invalid(_) => false,
    };
    (!same).then(|| format!("value {:?}", record.value))
}

/// Compares all records; what differs, by record.
fn differences(expected: &[Expected], records: &Records) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut ours = records.list.iter();
    for (index, expected) in expected.iter().enumerate() {
        let different = match expected.function.as_str() {
            "More records follow" => (!records.more).then(|| "no more records follow".to_owned()),
            "Manufacturer specific" => {
                let bytes = hex::decode(&expected.value).unwrap();
                (bytes != records.maker).then(|| format!("maker's data {}", hex::encode(&records.maker)))
            }
            _ => match ours.next() {
                None => Some("no such record".to_owned()),
                Some(record) => difference(expected, record),
            },
        };
        out.extend(different.map(|different| (index, different)));
    }
    let extra = ours.count();
    if extra > 0 {
        out.push((expected.len(), format!("{extra} records more")));
    }
    out
}

/// The two counters of the fixed structure as libmbus shows them.
fn fixed_differences(expected: &[Expected], records: &Records) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut unit = String::new();
    for (index, (expected, record)) in expected.iter().zip(&records.list).enumerate() {
        // "historic" repeats the unit of the counter before it
        if !expected.unit.starts_with("reserved") {
            unit = expected.unit.clone();
        }
        let (class, factor) = match unit.as_str() {
            "l" => (Class::Volume, Decimal::new(1, 3)),
            "kWh" => (Class::Energy, Decimal::from(1000)),
            other => panic!("unit {other}"),
        };
        let value = Decimal::from_str(&expected.value).unwrap() * factor;
        if record.class != class || record.value != Value::Number(value.normalize()) && !is(&record.value, value) {
            out.push((index, format!("{record:?}")));
        }
    }
    out
}

fn is(found: &Value, wanted: Decimal) -> bool {
    matches!(found, Value::Number(number) if *number == wanted)
}

/// Counts what agrees and checks what differs against the table.
#[derive(Default)]
struct Tally {
    files: usize,
    records: usize,
    equal: usize,
    unexplained: Vec<String>,
    explained: usize,
}

impl Tally {
    fn compare(&mut self, file: &str, frame: &[u8], expected: &[Expected]) {
        self.files += 1;
        self.records += expected.len();
        let telegram = Telegram::parse(frame).unwrap_or_else(|error| panic!("{file}: {error}"));
        let AnswerBody::Records(records) = &telegram.body else {
            panic!("{file}: {:?}", telegram.body);
        };
        assert_eq!(records.fault, None, "{file}");
        let different = if matches!(telegram.ci, 0x73 | 0x77) {
            fixed_differences(expected, records)
        } else {
            differences(expected, records)
        };
        self.equal += expected.len() - different.iter().filter(|(index, _)| *index < expected.len()).count();
        for (index, text) in different {
            let known = DIFFERENCES
                .iter()
                .any(|(name, record, _)| *name == file && *record == index);
            if known {
                self.explained += 1;
            } else {
                self.unexplained.push(format!(
                    "{file} record {index}: {text}; expected {:?}",
                    expected.get(index)
                ));
            }
        }
    }

    fn check(&self, files: usize) {
        println!(
            "{} of {} records equal in {} files",
            self.equal, self.records, self.files
        );
        assert!(self.unexplained.is_empty(), "{}", self.unexplained.join("\n"));
        assert!(self.files >= files, "only {} files", self.files);
        assert!(
            self.equal * 100 >= self.records * 97,
            "{} of {}",
            self.equal,
            self.records
        );
    }
}

fn between<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!("<{tag}>"))?;
    behind.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&amp;", "&").trim().to_owned()
}

/// The records of a file of libmbus.
fn of_xml(text: &str) -> Vec<Expected> {
    let mut out = Vec::new();
    for part in text.split("<DataRecord").skip(1) {
        let field = |tag| between(part, tag).map(unescape);
        let number = |tag| field(tag).and_then(|text| text.parse().ok());
        out.push(Expected {
            function: field("Function").unwrap_or_default(),
            storage: number("StorageNumber"),
            tariff: number("Tariff").and_then(|n| u32::try_from(n).ok()),
            device: number("Device").and_then(|n| u16::try_from(n).ok()),
            quantity: field("Quantity").unwrap_or_default(),
            unit: field("Unit").unwrap_or_default(),
            value: field("Value").unwrap_or_default(),
        });
    }
    out
}

#[test]
fn the_files_of_libmbus_read_as_libmbus_reads_them() {
    let Some(folder) = shared("vectors/mbus") else { return };
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".hex").map(str::to_owned))
        .collect();
    names.sort();
    let mut tally = Tally::default();
    for name in names {
        let frame = hex::decode(
            std::fs::read_to_string(folder.join(format!("{name}.hex")))
                .unwrap()
                .trim(),
        )
        .unwrap();
        let xml = std::fs::read(folder.join(format!("{name}.norm.xml"))).unwrap();
        // ISO 8859-1 by its head, UTF-8 by its bytes, as libmbus writes it
        let xml =
            String::from_utf8(xml).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
        tally.compare(&name, &frame, &of_xml(&xml));
    }
    tally.check(40);
}

fn of_json(record: &serde_json::Value) -> Expected {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    Expected {
        function: text("function"),
        storage: record["storage"].as_u64(),
        tariff: record["tariff"].as_u64().and_then(|n| u32::try_from(n).ok()),
        device: record["device"].as_u64().and_then(|n| u16::try_from(n).ok()),
        quantity: text("quantity"),
        unit: text("unit"),
        value: text("value"),
    }
}

#[test]
fn the_shared_vectors_mean_what_they_say() {
    let Some(file) = shared("vectors/mbus.jsonl") else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let mut tally = Tally::default();
    let mut seen = 0;
    for line in text.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let frame = hex::decode(vector["frame_hex"].as_str().unwrap()).unwrap();
        let meaning = &vector["meaning"];
        seen += 1;
        if vector["direction"] == "request" {
            a_request_means(&frame, meaning, line);
            continue;
        }
        if meaning["op"] == "ack" {
            assert!(Request::reset(1).unwrap().is_acknowledged(&frame), "{line}");
            continue;
        }
        let broken = meaning["link_layer_valid"] == false
            || matches!(meaning["error"].as_str(), Some("bad_checksum" | "truncated"));
        if broken {
            assert!(Telegram::parse(&frame).is_err(), "{line}");
            continue;
        }
        an_answer_means(&frame, meaning, line);
        if let Some(records) = meaning["records"].as_array() {
            let name = meaning["file"].as_str().or(meaning["name"].as_str()).unwrap();
            let expected: Vec<_> = records.iter().map(of_json).collect();
            tally.compare(name.trim_end_matches(".hex"), &frame, &expected);
        }
    }
    assert!(seen >= 79, "only {seen} vectors");
    tally.check(40);
}

fn a_request_means(frame: &[u8], meaning: &serde_json::Value, line: &str) {
    let request = Request::parse(frame).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(request.wire(), frame, "{line}");
    if let Some(address) = meaning["address"].as_u64() {
        assert_eq!(u64::from(request.address()), address, "{line}");
    }
    match (meaning["op"].as_str(), request.body()) {
        (Some("REQ_UD2"), super::Body::ReadClass2) => assert_eq!(request.fcb(), meaning["fcb"] == 1),
        (Some("set_primary_address"), super::Body::SetAddress(new)) => {
            assert_eq!(meaning["new_address"], *new, "{line}");
        }
        (Some("select_secondary"), super::Body::Select(selection)) => assert_eq!(selection.id, 0x0FFF_FFFF),
        (None, _) => {}
        other => panic!("{line}: {other:?}"),
    }
}

fn an_answer_means(frame: &[u8], meaning: &serde_json::Value, line: &str) {
    let telegram = Telegram::parse(frame);
    if meaning["error"] == "too_short_header" {
        assert!(telegram.is_err(), "{line}");
        return;
    }
    let telegram = telegram.unwrap_or_else(|error| panic!("{line}: {error}"));
    if let Some(ci) = meaning["ci"].as_str() {
        assert_eq!(format!("{:02X}", telegram.ci), ci, "{line}");
    }
    if let Some(address) = meaning["primary_address"].as_u64() {
        assert_eq!(u64::from(telegram.address), address, "{line}");
    }
    if !meaning["application_error"].is_null() || telegram.ci == 0x70 {
        let code = meaning["application_error"].as_u64().and_then(|n| u8::try_from(n).ok());
        assert_eq!(telegram.body, AnswerBody::Error(code), "{line}");
    }
    // a fixed structure of which a byte is missing is a whole frame with half a counter
    if meaning["error"].is_string() || meaning["file"] == "invalid_length2.hex" {
        let AnswerBody::Records(records) = &telegram.body else {
            panic!("{line}: {telegram:?}");
        };
        assert!(records.fault.is_some(), "{line}: {records:?}");
    }
    if let (Some(id), Some(number)) = (meaning["id"].as_str(), id_of(&telegram)) {
        assert_eq!(
            format!("{number:X}"),
            id.trim_start_matches('0').to_owned().max(zero(id)),
            "{line}"
        );
    }
    if let Some(identification) = telegram.header.identification() {
        let text = |key: &str| meaning[key].as_str().unwrap_or_default().to_owned();
        if meaning["manufacturer"].is_string() {
            assert_eq!(identification.manufacturer.letters(), text("manufacturer"), "{line}");
            assert_eq!(identification.version.to_string(), text("version"), "{line}");
        }
    }
    found_in_every_split(frame, &telegram, line);
}

fn zero(id: &str) -> String {
    if id.trim_start_matches('0').is_empty() {
        "0".to_owned()
    } else {
        String::new()
    }
}

fn id_of(telegram: &Telegram) -> Option<u32> {
    match telegram.header {
        super::Header::Fixed { id, .. } => Some(id),
        _ => telegram.header.identification().map(|identification| identification.id),
    }
}

/// Every split gives the same frame, no flipped bit is taken for it, and noise before it changes nothing.
fn found_in_every_split(frame: &[u8], telegram: &Telegram, line: &str) {
    let request = Request::read(telegram.address, true).unwrap();
    let verdict = match &telegram.body {
        AnswerBody::Error(code) => Verdict::Refused(code.unwrap_or_default()),
        _ => Verdict::Answer,
    };
    for cut in 0..frame.len() {
        assert_eq!(request.find(&frame[..cut]), Finding::NeedMore { noise: 0 }, "{line}");
    }
    let span = 0..frame.len();
    assert_eq!(request.find(frame), Finding::Frame { span, verdict }, "{line}");
    let noisy = [&[0xFF, 0x00, 0xE5][..], frame].concat();
    let span = 3..noisy.len();
    assert_eq!(request.find(&noisy), Finding::Frame { span, verdict }, "{line}");
    for bit in 0..frame.len() * 8 {
        let mut broken = frame.to_vec();
        broken[bit / 8] ^= 1 << (bit % 8);
        let found = request.find_last(&broken);
        let answered = matches!(
            found,
            Finding::Frame {
                verdict: Verdict::Answer | Verdict::Refused(_),
                ..
            }
        );
        assert!(!answered, "{line} bit {bit}: {found:?}");
    }
}

#[test]
fn the_projects_own_frames_answer_each_other() {
    let text = include_str!("../../../tests/frames/mbus.jsonl");
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = |key: &str| hex::decode(row[key].as_str().unwrap()).unwrap();
        let (wire, answer) = (bytes("request"), bytes("answer"));
        let request = Request::parse(&wire).unwrap();
        assert_eq!(request.wire(), wire, "{line}");
        if row["acknowledged"] == true {
            assert!(request.is_acknowledged(&answer), "{line}");
            continue;
        }
        if let Some(code) = row["refused"].as_u64() {
            let found = request.find(&answer);
            let verdict = Verdict::Refused(u8::try_from(code).unwrap());
            assert_eq!(
                found,
                Finding::Frame {
                    span: 0..answer.len(),
                    verdict
                },
                "{line}"
            );
            continue;
        }
        let readout = request
            .readout(&answer)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let frames = super::explain(&answer);
        let items: Vec<_> = frames.iter().flat_map(|frame| &frame.as_ref().unwrap().items).collect();
        assert_eq!(items.len(), readout.records().count(), "{line}");
        let told: Vec<_> = items
            .iter()
            .map(|item| serde_json::json!([item.name, item.value, item.unit]))
            .collect();
        assert_eq!(serde_json::Value::from(told), row["items"], "{line}");
    }
}

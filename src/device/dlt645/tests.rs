//! Plans, fall-backs, decoding, clock and the past, on the built-in models and on models of the tests' own.

use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, ProblemKind, decode, decode_past, instant};
use crate::device::dlt645::history::Past;
use crate::device::fault::Fault;
use crate::device::model::{Folder, MeterModel};
use crate::device::parse::parse;
use crate::device::plan::{PlanError, check_address, clock, history, instead, plan};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Quality, Value};
use crate::protocol::dlt645::items;
use crate::protocol::dlt645::{Address, Control, Di, Edition, answer_frame};
use crate::protocol::{Protocol, Request, dlt645};
use rust_decimal::{Decimal, dec};
use std::sync::Arc;

const METER: &str = "202611210042";

fn model(protocol: Protocol, name: &str) -> Arc<MeterModel> {
    let catalogue = Catalogue::builtin().unwrap_or_else(|faults| panic!("{faults:?}"));
    Arc::clone(catalogue.get(protocol, name).unwrap())
}

fn three_phase() -> Arc<MeterModel> {
    model(Protocol::Dlt645_2007, "dlt645_2007_three_phase")
}

fn own(text: &str) -> Result<MeterModel, Vec<Fault>> {
    parse("own_meter.toml".as_ref(), Folder::Dlt645, text)
}

fn dis(requests: &[Request]) -> Vec<String> {
    let di = |request: &Request| match request {
        Request::Dlt645(request) => request.di().unwrap().to_string(),
        other => panic!("{other:?}"),
    };
    requests.iter().map(di).collect()
}

/// An answer with these data behind the identifier.
fn answer(request: &Request, data: &str) -> Vec<u8> {
    let Request::Dlt645(request) = request else { panic!() };
    let data = crate::base::hex::decode(data).unwrap();
    request.reply_frame(request.address(), &dlt645::Reply::Data(data))
}

fn read(model: &MeterModel, requests: &[Request], answers: &[&str]) -> DecodedPoll {
    let frames: Vec<Vec<u8>> = requests.iter().zip(answers).map(|(r, data)| answer(r, data)).collect();
    let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    decode(model, requests, &frames)
}

fn value(poll: &DecodedPoll, quantity: Quantity) -> Option<(Decimal, Quality)> {
    let item = poll
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(quantity))?;
    match item.value {
        Value::Decimal(value) => Some((value, item.quality)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocks_are_asked_where_they_bring_two_values_or_more() {
    let model = three_phase();
    let asked = |wanted: &[Quantity]| dis(&plan(&model, METER, wanted).unwrap());
    use Quantity as Q;
    assert_eq!(asked(&[Q::VoltageL1, Q::VoltageL2, Q::VoltageL3]), ["0201FF00"]);
    assert_eq!(asked(&[Q::VoltageL2]), ["02010200"]);
    assert_eq!(
        asked(&[Q::ActiveEnergyImport, Q::VoltageL1, Q::CurrentL1, Q::CurrentL2]),
        ["00010000", "02010100", "0202FF00"]
    );
    assert_eq!(asked(&[Q::RelayState, Q::StatusWord]), ["04000503"]);
    // 45 values in 20 questions
    let all = plan(&model, METER, &[]).unwrap();
    let polled = model.measurands().filter(|(_, polled)| *polled).count();
    assert!(all.len() * 2 <= polled, "{} for {polled}", all.len());
    assert!(matches!(
        plan(&model, METER, &[Q::VolumeTotal]),
        Err(PlanError::NothingToRead { .. })
    ));
}

#[test]
fn a_refused_block_falls_into_its_single_items() {
    let model = three_phase();
    let requests = plan(&model, METER, &[Quantity::VoltageL1, Quantity::VoltageL3]).unwrap();
    assert_eq!(dis(&requests), ["0201FF00"]);
    let finer = instead(&model, &requests[0]);
    assert_eq!(dis(&finer), ["02010100", "02010200", "02010300"]);
    assert!(instead(&model, &finer[0]).is_empty(), "what is single falls no further");
    // what the single items bring counts, whatever became of the block
    let all = [requests, finer].concat();
    let refused = answer_frame(Address::parse(METER).unwrap(), Control(0xD1), 0, &[2]);
    let singles: Vec<Vec<u8>> = all[1..].iter().map(|request| answer(request, "5023")).collect();
    let mut frames: Vec<Option<&[u8]>> = vec![Some(&refused)];
    frames.extend(singles.iter().map(|frame| Some(frame.as_slice())));
    let poll = decode(&model, &all, &frames);
    assert_eq!(
        value(&poll, Quantity::VoltageL3),
        Some((dec!(235.0), Quality::Measured))
    );
    assert_eq!(poll.problems, []);
    let poll = decode(&model, &all[..1], &frames[..1]);
    let ProblemKind::Undecodable(why) = &poll.problems[0].kind else {
        panic!()
    };
    assert!(why.contains("no requested data"), "{why}");
}

#[test]
fn values_come_in_canonical_units_with_sign_and_doubt() {
    let model = three_phase();
    use Quantity as Q;
    let wanted = [
        Q::ActivePowerTotal,
        Q::ActivePowerL1,
        Q::PowerFactorTotal,
        Q::MaxDemandActiveImport,
    ];
    let requests = plan(&model, METER, &wanted).unwrap();
    assert_eq!(dis(&requests), ["0203FF00", "02060000", "01010000"]);
    let poll = read(
        &model,
        &requests,
        &["123480 123400 FFFFFF 563A12", "0015", "785604 1830201126"],
    );
    assert_eq!(
        value(&poll, Q::ActivePowerTotal),
        Some((dec!(-341.2), Quality::Measured))
    );
    assert_eq!(value(&poll, Q::ActivePowerL1), Some((dec!(341.2), Quality::Measured)));
    // a power factor of 1.5 is kept and doubted
    assert_eq!(value(&poll, Q::PowerFactorTotal), Some((dec!(1.500), Quality::Suspect)));
    assert_eq!(value(&poll, Q::MaxDemandActiveImport), None);
    let problem = |quantity: Q| {
        let found = poll
            .problems
            .iter()
            .find(|p| p.measurand == Measurand::Standard(quantity));
        found.map(|problem| problem.kind.clone())
    };
    assert_eq!(problem(Q::ActivePowerL2), Some(ProblemKind::NoValue));
    let Some(ProblemKind::Unusable(why)) = problem(Q::ActivePowerL3) else {
        panic!()
    };
    assert!(why.contains("563A12"), "{why}");
    // hour 30 does not exist
    assert!(matches!(
        problem(Q::MaxDemandActiveImport),
        Some(ProblemKind::Unusable(_))
    ));
}

#[test]
fn a_short_block_brings_what_it_has_and_says_what_the_meter_has_not() {
    let model = three_phase();
    use Quantity as Q;
    let requests = plan(&model, METER, &[Q::VoltageL1, Q::VoltageL2]).unwrap();
    let poll = read(&model, &requests, &["5622"]);
    assert_eq!(value(&poll, Q::VoltageL1), Some((dec!(225.6), Quality::Measured)));
    let kinds: Vec<_> = poll.problems.iter().map(|problem| problem.kind.clone()).collect();
    assert_eq!(kinds, [ProblemKind::NoValue, ProblemKind::NoValue]);
}

#[test]
fn the_relay_is_what_status_word_3_says() {
    let model = model(Protocol::Dlt645_2007, "dlt645_2007_prepaid");
    use Quantity as Q;
    let requests = plan(&model, METER, &[Q::RelayState, Q::CreditBalance, Q::PurchaseCount]).unwrap();
    assert_eq!(dis(&requests), ["00900200", "03330201", "04000503"]);
    for (word, state) in [
        ("0000", dec!(1)),
        ("5000", dec!(0)),
        ("1000", dec!(0)),
        ("0010", dec!(1)),
    ] {
        let poll = read(&model, &requests, &["56980100", "1700", word]);
        assert_eq!(value(&poll, Q::RelayState), Some((state, Quality::Measured)), "{word}");
        assert_eq!(value(&poll, Q::CreditBalance), Some((dec!(198.56), Quality::Measured)));
        assert_eq!(value(&poll, Q::PurchaseCount), Some((dec!(17), Quality::Measured)));
    }
}

#[test]
fn the_clock_is_the_meters_own_local_time() {
    let model = three_phase();
    let requests = clock(&model, METER).unwrap();
    assert_eq!(dis(&requests), ["04000101", "04000102"]);
    let poll = read(&model, &requests, &["06211126", "300514"]);
    let local = "2026-11-21T14:05:30".parse().unwrap();
    assert_eq!(poll.meter_local, Some(local));
    let zone = chrono_tz::Asia::Shanghai;
    assert_eq!(poll.clock(zone).unwrap().to_rfc3339(), "2026-11-21T06:05:30+00:00");
    // in the first minute of a day the date that was read may be yesterday's
    assert_eq!(read(&model, &requests, &["06211126", "590000"]).meter_local, None);
    for (date, time) in [("06310226", "300514"), ("06211126", "300525"), ("FFFFFFFF", "300514")] {
        assert_eq!(
            read(&model, &requests, &[date, time]).meter_local,
            None,
            "{date} {time}"
        );
    }
    // the hour that autumn repeats, and the one that spring leaves out
    let berlin = chrono_tz::Europe::Berlin;
    let at = |text: &str| instant(text.parse().unwrap(), berlin).map(|at| at.to_rfc3339());
    assert_eq!(at("2026-10-25T02:30:00").as_deref(), Some("2026-10-25T00:30:00+00:00"));
    assert_eq!(at("2026-03-29T02:30:00"), None);
}

#[test]
fn the_past_comes_with_its_own_time() {
    let model = three_phase();
    let daily = history(&model, METER, Past::Daily(3), Default::default(), &[]).unwrap();
    assert_eq!(dis(&daily), ["05060003", "05060103", "05060203"]);
    let frames: Vec<Vec<u8>> = daily
        .iter()
        .zip(["0000191126", "00341200 00100000 AA 00240000 FFFFFFFF", "00000000"])
        .map(|(request, data)| answer(request, data))
        .collect();
    let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    let now = "2026-11-21T14:00:00".parse().unwrap();
    let past = decode_past(&model, Past::Daily(3), now, &daily, &frames);
    assert_eq!(past.at, Some("2026-11-19T00:00:00".parse().unwrap()));
    let values: Vec<_> = past
        .items
        .iter()
        .map(|item| (crate::device::decode::name(&item.measurand), item.value))
        .collect();
    assert_eq!(
        values,
        [
            ("active_energy_import", Value::Decimal(dec!(1234.00))),
            ("active_energy_import_t1", Value::Decimal(dec!(10.00))),
            ("active_energy_import_t2", Value::Decimal(dec!(24.00))),
            ("active_energy_export", Value::Decimal(dec!(0.00))),
        ]
    );
    assert!(past.problems.iter().all(|problem| problem.kind.is_no_value()));
    let settled = history(&model, METER, Past::Settlement(2), Default::default(), &[]).unwrap();
    assert_eq!(
        dis(&settled),
        ["04000B01", "04000B02", "04000B03", "0001FF02", "0002FF02"]
    );
    let data = ["0001", "9999", "9999", "00341200", "00000000"];
    let frames: Vec<Vec<u8>> = settled
        .iter()
        .zip(data)
        .map(|(request, data)| answer(request, data))
        .collect();
    let mut frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    let past = decode_past(&model, Past::Settlement(2), now, &settled, &frames);
    assert_eq!(past.at, Some("2026-10-01T00:00:00".parse().unwrap()));
    // not all settlement days known: not known which settlement it is
    frames[1] = None;
    assert_eq!(
        decode_past(&model, Past::Settlement(2), now, &settled, &frames).at,
        None
    );
    for none in [Past::Daily(0), Past::Daily(63), Past::Settlement(13)] {
        assert_eq!(
            history(&model, METER, none, Default::default(), &[]),
            Ok(vec![]),
            "{none:?}"
        );
    }
    let old = self::model(Protocol::Dlt645_1997, "dlt645_1997_single_phase");
    assert_eq!(
        dis(&history(&old, METER, Past::Settlement(2), Default::default(), &[]).unwrap()),
        ["C117", "9810", "9811", "9812", "9813", "9814"]
    );
}

#[test]
fn a_model_is_read_with_its_own_edition_and_addresses_are_digits() {
    let catalogue = Catalogue::builtin().unwrap();
    assert!(catalogue.get(Protocol::Dlt645_1997, "dlt645_2007_prepaid").is_none());
    let model = three_phase();
    assert!(check_address(&model, "42").is_ok() && check_address(&model, "AAAAAAAAAAAA").is_ok());
    for wrong in ["", "1234567890123", "12345678901B", "999999999999"] {
        let Err(PlanError::Address { help, .. }) = check_address(&model, wrong) else {
            panic!("{wrong}")
        };
        assert!(help.contains("12 digits"));
    }
}

const GOOD: &str = "vendor = \"X\"\nmodel = \"Y\"\nphases = 1\nedition = 2007\n\
    point = [\n{ quantity = \"voltage_l1\", di = \"02010100\" },\n{ quantity = \"voltage_l2\", di = \"02010200\" },\n]\n";
const SERIAL: &str = "[serial]\nbaud = 2400\nparity = \"even\"\n";

#[test]
fn faults_name_the_line_and_what_to_do() {
    assert!(own(&format!("{GOOD}blocks = [\"0201FF00\"]\n{SERIAL}")).is_ok());
    let cases = [
        (
            "edition = 2007",
            "edition = 2008",
            "4: `edition` is out of range; use 1997 to 2007",
        ),
        (
            "02010200",
            "B612",
            "7: \"B612\" is not an identifier of this edition; write 8 hex digits",
        ),
        (
            "02010200",
            "0201FF00",
            "7: 0201FF00 is a block; name the single item here",
        ),
        (
            "02010200",
            "0F0F0F0F",
            "7: 0F0F0F0F is not in the table of the standard; correct `di`, or say `bytes`",
        ),
        (
            "02010200",
            "04000101",
            "7: 04000101 is not a number; name an identifier that brings a number",
        ),
        (
            "02010200",
            "02020200",
            "7: `A` does not convert to V, the unit of voltage_l2; use mV, V, kV",
        ),
        (
            "voltage_l2",
            "voltage_l1",
            "7: voltage_l1 is given twice; keep one of the points",
        ),
        (
            "di = \"02010200\"",
            "di = \"02010200\", bit = 1",
            "7: 02010200 is a number, not a bit field",
        ),
        (
            "di = \"02010200\"",
            "di = \"02010200\", decimals = 1",
            "7: `decimals` or `signed` without `bytes`",
        ),
        ("di = \"02010200\"", "dl = 1", "7: `di` is missing"),
        (
            "]\n",
            "]\nblocks = [\"0202FF00\"]\n",
            "9: 0202FF00 brings 0 of the points",
        ),
        (
            "]\n",
            "]\nclock = [\"04000101\"]\n",
            "9: `clock` is not a date and a time; use 04000101 and 04000102",
        ),
        ("]\n", "]\nclock = [\"04000103\"]\n", "9: 04000103 is not a time"),
        (
            "]\n",
            "]\nhistory = [{ what = \"dayly\", max = 3, point = [] }]\n",
            "9: unknown past `dayly`; did you mean `daily`?",
        ),
        (
            "]\n",
            "]\nhistory = [{ what = \"daily\", max = 3, time = \"05060000\", point = [{ quantity = \"active_energy_import\", di = \"040001nn\" }] }]\n",
            "is not a number of the table; correct `di`, `item` or `max`",
        ),
        (
            "]\n",
            "]\nhistory = [{ what = \"daily\", max = 3, point = [{ quantity = \"active_energy_import\", di = \"050601nn\" }] }]\n",
            "9: nothing says when it was",
        ),
    ];
    for (from, to, wanted) in cases {
        let text = format!("{}{SERIAL}", GOOD.replacen(from, to, 1));
        let faults: Vec<String> = own(&text).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains(wanted)), "{to}: {faults:?}");
    }
}

#[test]
fn makers_may_depart_from_the_standard_point_by_point() {
    let text = GOOD.replace(
        "{ quantity = \"voltage_l2\", di = \"02010200\" }",
        "{ quantity = \"voltage_l2\", di = \"02010200\", bytes = 3, decimals = 3 },\n\
         { vendor = \"own\", di = \"0E0F0001\", bytes = 2, decimals = 1, signed = true, scale = 10, unit = \"°C\" },\n\
         { vendor = \"flags\", di = \"0E0F0002\", bytes = 1, bit_field = true, bit = 2, bits = 3, unit = \"1\" }",
    );
    let model = own(&format!("{text}{SERIAL}")).unwrap_or_else(|faults| panic!("{faults:?}"));
    let requests = plan(&model, "1", &[]).unwrap();
    let poll = read(&model, &requests, &["0123", "500230", "0581", "14"]);
    let values: Vec<Value> = poll.items.iter().map(|item| item.value).collect();
    let expected = [dec!(230.1), dec!(300.250), dec!(-105), dec!(5)];
    assert_eq!(values, expected.map(Value::Decimal), "{:?}", poll.problems);
    let short = read(&model, &requests, &["01", "500230", "0581", "14"]);
    assert!(matches!(&short.problems[0].kind, ProblemKind::Unusable(why) if why.contains("02010100")));
}

#[test]
fn the_most_that_a_model_asks_is_in_the_table() {
    for model in Catalogue::builtin()
        .unwrap()
        .iter()
        .filter(|model| model.folder == Folder::Dlt645)
    {
        let requests = plan(model, METER, &[]).unwrap();
        for request in &requests {
            let Request::Dlt645(request) = request else { panic!() };
            let di = request.di().unwrap();
            assert!(items::data_len(di).is_some(), "{di} of {}", model.name);
            assert_eq!(di.edition(), request.edition());
            let _both = (Edition::E1997, Di::E2007(0));
        }
    }
}

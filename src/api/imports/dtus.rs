//! Rows of DTUs. A DTU is known by its serial number, one that has none by its name; what a row leaves empty stays as it is.

use super::columns::Heading;
use super::judge::{Found, Line, Names, Rules, Unnamed};
use super::meters::object;
use crate::api::ApiState;
use crate::api::dtu_form::DtuCreate;
use crate::base::ids::{DtuId, ScheduleId};
use crate::port::dtus::{Dtu, DtuEdit, NewDtu};
use crate::port::imports::{ImportPlan, Sheet, Step};
use crate::port::meters::ScheduleChoice;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const TEXTS: [&str; 4] = ["sn", "name", "profile", "time_zone"];
const NUMBERS: [&str; 3] = ["silence_s", "timeout_ms", "pause_ms"];
/// Columns of how a DTU is reached, and the members of `connect` that they are.
const CONNECT: [(&str, &str); 4] = [
    ("connect_address", "address"),
    ("connect_device", "device"),
    ("connect_baud", "baud"),
    ("connect_parity", "parity"),
];

/// The DTU that a row is about, if it is there. The error is what is wrong with its name.
fn of(line: &Line<'_>, names: &Names) -> Result<Option<DtuId>, String> {
    match (line.text("sn"), line.text("name")) {
        (Some(sn), _) => Ok(names.dtu_by_sn(sn)),
        // a serial number that is wrong is no name of another
        (None, Some(name)) if line.cell("sn").is_none() => match names.bare_dtu(name) {
            Ok(id) => Ok(Some(id)),
            Err(Unnamed::Unknown) => Ok(None),
            Err(Unnamed::Several(count)) => Err(format!(
                "{count} DTUs without a serial number have this name; rename all but one of them first"
            )),
        },
        _ => Ok(None),
    }
}

/// The DTUs that a file names.
pub(super) fn named(sheet: &Sheet, heading: &Heading, names: &Names, rules: Rules) -> Vec<DtuId> {
    let mut found = Found::new(rules);
    let mut dtus = BTreeSet::new();
    for row in &sheet.rows {
        let line = Line::read(heading, row, &mut found);
        dtus.extend(of(&line, names).ok().flatten());
    }
    dtus.into_iter().collect()
}

pub(super) fn judge(
    state: &ApiState,
    sheet: &Sheet,
    heading: &Heading,
    (names, known): (&Names, &[Dtu]),
    found: &mut Found,
    now: DateTime<Utc>,
) -> ImportPlan {
    let by_id: HashMap<DtuId, &Dtu> = known.iter().map(|dtu| (dtu.id, dtu)).collect();
    let mut plan = Vec::new();
    let mut seen: HashMap<Result<String, String>, u32> = HashMap::new();
    for row in &sheet.rows {
        let mut line = Line::read(heading, row, found);
        let there = match of(&line, names) {
            Ok(id) => id.and_then(|id| by_id.get(&id).copied()),
            Err(problem) => {
                line.fault("name", problem);
                None
            }
        };
        let schedule = names.schedule(&mut line);
        let Some(dtu) = checked(state, &mut line, there, schedule, now) else {
            continue;
        };
        let key = match &dtu.sn {
            Some(sn) => Ok(sn.as_str().to_owned()),
            None => Err(dtu.name.clone()),
        };
        let column = if key.is_ok() { "sn" } else { "name" };
        if let Some(first) = seen.get(&key) {
            let text = format!("row {first} is about the same DTU");
            line.fault(column, text);
            continue;
        }
        seen.insert(key, line.number);
        let number = line.number;
        match there {
            None => {
                line.found().tally.made += 1;
                plan.push((number, Step::Make(dtu)));
            }
            Some(before) => {
                let (edit, columns) = difference(before, &dtu, schedule, names);
                if columns.is_empty() {
                    line.found().tally.unchanged += 1;
                } else {
                    line.found().change(number, before.id.0, columns);
                    plan.push((number, Step::Change(before.id, before.version, edit)));
                }
            }
        }
    }
    ImportPlan::Dtus(plan)
}

/// The DTU as it would be made by a request with what the row says and, of one that is there, what it leaves out.
fn checked(
    state: &ApiState,
    line: &mut Line<'_>,
    there: Option<&Dtu>,
    schedule: Option<ScheduleId>,
    now: DateTime<Utc>,
) -> Option<NewDtu> {
    let mut body = Map::new();
    match there {
        Some(dtu) => {
            body = object(json!({
                "sn": dtu.sn, "name": dtu.name, "profile": dtu.profile, "time_zone": dtu.time_zone,
                "silence_s": dtu.silence_s, "timeout_ms": dtu.timeout_ms, "pause_ms": dtu.pause_ms,
            }));
        }
        None => line.check_needed(),
    }
    line.put(&mut body, &TEXTS);
    line.put_numbers(&mut body, &NUMBERS);
    if let Some(connect) = connect(line, there) {
        body.insert("connect".to_owned(), connect);
    }
    if let Some(schedule) = schedule {
        body.insert("schedule".to_owned(), json!(schedule.0));
    }
    // stands for what is wrong already, so that the rest of the row is judged
    let sound = object(json!({ "sn": "0", "name": "-" }));
    if line.is_faulty("sn") {
        body.insert("sn".to_owned(), json!("0"));
    }
    body.entry("name").or_insert_with(|| json!("-"));
    let body: DtuCreate = line.body(body, &sound)?;
    let judged = body.checked(state, chrono_tz::UTC, now);
    line.judged(judged).filter(|_| line.is_sound())
}

/// How the DTU is reached, as a body says it; none: as it was, or inbound.
fn connect(line: &mut Line<'_>, there: Option<&Dtu>) -> Option<Value> {
    let given = |line: &Line<'_>| CONNECT.iter().any(|(column, _)| line.cell(column).is_some());
    let before = there.and_then(|dtu| serde_json::to_value(&dtu.connect).ok());
    if line.cell("connect").is_none() && !given(line) {
        return before;
    }
    let mut connect = before.map(object).unwrap_or_default();
    if let Some(kind) = line.text("connect")
        && connect.get("kind").and_then(Value::as_str) != Some(kind)
    {
        connect = object(json!({ "kind": kind }));
    }
    for (column, member) in CONNECT {
        let Some(text) = line.text(column) else { continue };
        if connect.get("kind").and_then(Value::as_str) == Some("inbound") {
            line.fault(column, "says nothing for a DTU that is inbound");
            continue;
        }
        let value = if member == "baud" {
            super::judge::number(text)
        } else {
            Value::String(text.to_owned())
        };
        connect.insert(member.to_owned(), value);
    }
    Some(Value::Object(connect))
}

/// What the row changes, as an edit and by column.
fn difference(
    before: &Dtu,
    dtu: &NewDtu,
    schedule: Option<ScheduleId>,
    names: &Names,
) -> (DtuEdit, BTreeMap<String, [String; 2]>) {
    let mut edit = DtuEdit::default();
    let mut columns = BTreeMap::new();
    let mut note = |column: &str, from: String, to: String| columns.insert(column.to_owned(), [from, to]);
    if dtu.name != before.name {
        note("name", before.name.clone(), dtu.name.clone());
        edit.name = Some(dtu.name.clone());
    }
    if dtu.connect != before.connect {
        let text = |connect| serde_json::to_string(connect).unwrap_or_default();
        note("connect", text(&before.connect), text(&dtu.connect));
        edit.connect = Some(dtu.connect.clone());
    }
    if dtu.profile != before.profile {
        let text = |profile: &Option<String>| profile.clone().unwrap_or_else(|| "auto".to_owned());
        note("profile", text(&before.profile), text(&dtu.profile));
        edit.profile = Some(dtu.profile.clone());
    }
    if dtu.time_zone != before.time_zone {
        let text = |zone: &Option<String>| zone.clone().unwrap_or_default();
        note("time_zone", text(&before.time_zone), text(&dtu.time_zone));
        edit.time_zone = Some(dtu.time_zone.clone());
    }
    let numbers = [
        ("silence_s", before.silence_s, dtu.silence_s, &mut edit.silence_s),
        ("timeout_ms", before.timeout_ms, dtu.timeout_ms, &mut edit.timeout_ms),
        ("pause_ms", before.pause_ms, dtu.pause_ms, &mut edit.pause_ms),
    ];
    for (column, from, to, into) in numbers {
        if let Some(to) = to.filter(|to| *to != from) {
            note(column, from.to_string(), to.to_string());
            *into = Some(to);
        }
    }
    if let Some(schedule) = schedule.filter(|schedule| before.schedule != Some(*schedule)) {
        let own = before.schedule.map(|id| names.schedule_name(id)).unwrap_or_default();
        note("schedule", own, names.schedule_name(schedule));
        edit.schedule = Some(Some(ScheduleChoice::Existing(schedule)));
    }
    (edit, columns)
}

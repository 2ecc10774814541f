//! Rows of meters. A meter is known by its DTU, protocol and address; what a row leaves empty stays as it is.

use super::columns::Heading;
use super::judge::{Found, Line, Names, lost_zeros};
use crate::api::ApiState;
use crate::api::meter_form::MeterBody;
use crate::base::ids::{DtuId, ScheduleId};
use crate::port::imports::{CellKind, ImportPlan, KnownMeter, Sheet, Step};
use crate::port::meters::{MeterEdit, NewMeter, ScheduleChoice};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Columns that go into the body as they stand.
const TEXTS: [&str; 7] = [
    "protocol", "address", "model", "name", "comment", "ct_ratio", "vt_ratio",
];

/// The DTUs that a file names.
pub(super) fn lines(sheet: &Sheet, heading: &Heading, names: &Names, rules: super::judge::Rules) -> Vec<DtuId> {
    let mut found = Found::new(rules);
    let mut dtus = BTreeSet::new();
    for row in &sheet.rows {
        let line = Line::read(heading, row, &mut found);
        dtus.extend(names.dtu_of(&line).ok());
    }
    dtus.into_iter().collect()
}

/// The meters behind the DTUs that a file names.
struct Meters<'a> {
    by_key: HashMap<(DtuId, &'a str, &'a str), &'a KnownMeter>,
    /// The models of each line's meters, by protocol.
    models: HashMap<(DtuId, &'a str), BTreeSet<&'a str>>,
}

impl<'a> Meters<'a> {
    fn new(known: &'a [KnownMeter]) -> Self {
        let mut meters = Self {
            by_key: HashMap::new(),
            models: HashMap::new(),
        };
        for meter in known {
            meters
                .by_key
                .insert((meter.dtu, &meter.protocol, &meter.address), meter);
            let models = meters.models.entry((meter.dtu, &meter.protocol)).or_default();
            models.insert(&meter.model);
        }
        meters
    }

    /// The meter that a row is about. The spelling of an address follows from protocol and model; a row without a model
    /// is tried with those of the line.
    fn of(&self, state: &ApiState, dtu: DtuId, line: &Line<'_>) -> Option<&'a KnownMeter> {
        let (protocol, address) = (line.text("protocol")?, line.text("address")?);
        let own = line.text("model").into_iter();
        let others = self.models.get(&(dtu, protocol)).into_iter().flatten().copied();
        own.chain(others).find_map(|model| {
            let address = state.models.check(protocol, model, address).ok()?;
            self.by_key.get(&(dtu, protocol, address.as_str())).copied()
        })
    }
}

pub(super) fn judge(
    state: &ApiState,
    sheet: &Sheet,
    heading: &Heading,
    (names, known): (&Names, &[KnownMeter]),
    found: &mut Found,
    now: DateTime<Utc>,
) -> ImportPlan {
    let meters = Meters::new(known);
    let mut plan = Vec::new();
    let mut seen: HashMap<(DtuId, String, String), u32> = HashMap::new();
    for row in &sheet.rows {
        let mut line = Line::read(heading, row, found);
        check_zeros(state, &mut line);
        let dtu = match names.dtu_of(&line) {
            Ok(dtu) => Some(dtu),
            Err((column, problem)) => {
                line.fault(column, problem);
                None
            }
        };
        let there = dtu.and_then(|dtu| meters.of(state, dtu, &line));
        let schedule = names.schedule(&mut line);
        let group = names.group(&mut line);
        let Some(meter) = checked(state, &mut line, (dtu, there, schedule, group.map(|id| id.0)), now) else {
            continue;
        };
        let key = (meter.dtu, meter.protocol.clone(), meter.address.clone());
        if let Some(first) = seen.get(&key) {
            let text = format!("row {first} has the same DTU, protocol and address");
            line.fault("address", text);
            continue;
        }
        seen.insert(key, line.number);
        let number = line.number;
        match there {
            None => {
                line.found().tally.made += 1;
                plan.push((number, Step::Make(meter)));
            }
            Some(before) => {
                let (edit, columns) = difference(before, &meter, schedule, names);
                if columns.is_empty() {
                    line.found().tally.unchanged += 1;
                } else {
                    line.found().change(number, before.id.0, columns);
                    plan.push((number, Step::Change(before.id, before.version, edit)));
                }
            }
        }
    }
    ImportPlan::Meters(plan)
}

/// A number cell has lost its zeros: where addresses have one length they are put back, elsewhere nobody knows.
fn check_zeros(state: &ApiState, line: &mut Line<'_>) {
    let is_number = line.cell("address").is_some_and(|cell| cell.kind == CellKind::Number);
    let matter = line
        .text("protocol")
        .is_some_and(|protocol| state.models.zeros_matter(protocol));
    if is_number
        && matter
        && !line.found().rules.numbers_as_text
        && let Some((problem, remedy)) = lost_zeros()
    {
        line.fault_with("address", problem, remedy);
    }
}

/// The meter as it would be made by a request with what the row says and, of one that is there, what it leaves out.
fn checked(
    state: &ApiState,
    line: &mut Line<'_>,
    (dtu, there, schedule, group): (Option<DtuId>, Option<&KnownMeter>, Option<ScheduleId>, Option<i32>),
    now: DateTime<Utc>,
) -> Option<NewMeter> {
    let mut body = Map::new();
    match there {
        Some(meter) => {
            let group = meter.group.map(|id| id.0);
            body = object(json!({
                "protocol": meter.protocol, "address": meter.address, "model": meter.model, "name": meter.name,
                "comment": meter.comment, "group_id": group, "ct_ratio": meter.ct_ratio, "vt_ratio": meter.vt_ratio,
            }));
        }
        None => line.check_needed(),
    }
    line.put(&mut body, &TEXTS);
    body.insert("dtu_id".to_owned(), json!(dtu.map_or(0, |dtu| dtu.0)));
    if let Some(group) = group {
        body.insert("group_id".to_owned(), json!(group));
    }
    if let Some(schedule) = schedule {
        body.insert("schedule".to_owned(), json!(schedule.0));
    }
    // stands for what is wrong already, so that the rest of the row is judged
    let sound = object(json!({ "protocol": "-", "address": "-", "model": "-", "name": "-" }));
    let whole = ["protocol", "address", "model"]
        .iter()
        .all(|name| !line.is_faulty(name));
    for (name, value) in &sound {
        body.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let body: MeterBody = line.body(body, &sound)?;
    let judged = body.checked(state, chrono_tz::UTC, now);
    let judged = if whole {
        judged
    } else {
        judged.map_err(|error| error.without(&["protocol", "address", "model"]))
    };
    line.judged(judged).filter(|_| line.is_sound())
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What the row changes, as an edit and by column.
fn difference(
    before: &KnownMeter,
    meter: &NewMeter,
    schedule: Option<ScheduleId>,
    names: &Names,
) -> (MeterEdit, BTreeMap<String, [String; 2]>) {
    let mut edit = MeterEdit::default();
    let mut columns = BTreeMap::new();
    let mut note = |column: &str, from: String, to: String| columns.insert(column.to_owned(), [from, to]);
    if meter.model != before.model {
        note("model", before.model.clone(), meter.model.clone());
        edit.model = Some(meter.model.clone());
    }
    if meter.name != before.name {
        note("name", before.name.clone(), meter.name.clone());
        edit.name = Some(meter.name.clone());
    }
    if meter.comment != before.comment {
        note("comment", before.comment.clone(), meter.comment.clone());
        edit.comment = Some(meter.comment.clone());
    }
    if meter.group != before.group {
        note("group", names.group_name(before.group), names.group_name(meter.group));
        edit.group = Some(meter.group);
    }
    if meter.ct_ratio != before.ct_ratio {
        note(
            "ct_ratio",
            before.ct_ratio.to_string(),
            meter.ct_ratio.normalize().to_string(),
        );
        edit.ct_ratio = Some(meter.ct_ratio);
    }
    if meter.vt_ratio != before.vt_ratio {
        note(
            "vt_ratio",
            before.vt_ratio.to_string(),
            meter.vt_ratio.normalize().to_string(),
        );
        edit.vt_ratio = Some(meter.vt_ratio);
    }
    if let Some(schedule) = schedule.filter(|schedule| before.schedules != [*schedule]) {
        let own: Vec<String> = before.schedules.iter().map(|id| names.schedule_name(*id)).collect();
        note("schedule", own.join(", "), names.schedule_name(schedule));
        edit.schedules = Some(vec![ScheduleChoice::Existing(schedule)]);
    }
    (edit, columns)
}

//! What was due, counted minute by minute and without the product's schedules, and whether it ended as it must.

use super::books::{Books, Rows, Slot};
use super::dtus::{is_dlt645, meter_id};
use super::world::World;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::ids::{MeterId, ScheduleId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Source};
use polyphase::domain::slot::{SlotEnding, SlotState};
use polyphase::port::ledger::PollRecord;
use std::collections::{BTreeMap, BTreeSet};

/// A read that begins within so many seconds of its due time is in time.
pub const WINDOW_S: u32 = 40;
/// A slot has an ending so many seconds after it was due, with a poll that began at the last moment.
pub const ENDED_S: i64 = 90;

/// A change of schedules is learned of within so many seconds, whatever is away.
const LEARNED_S: i64 = 240;

/// The first schedule of a meter, which people change, and the second, which they leave alone.
pub fn schedules(meter: MeterId) -> [ScheduleId; 2] {
    [ScheduleId(meter.0 * 10 + 1), ScheduleId(meter.0 * 10 + 2)]
}

/// What the two schedules want.
pub fn wanted(meter: MeterId) -> [Vec<Quantity>; 2] {
    if is_dlt645(meter) {
        [vec![Quantity::ActiveEnergyImport], vec![Quantity::ActiveEnergyExport]]
    } else {
        let both = vec![Quantity::ActiveEnergyExport, Quantity::ActiveEnergyImport];
        [vec![Quantity::ActiveEnergyTotal], both]
    }
}

/// Every how many minutes the second schedule comes due.
pub const SECOND_EVERY: i64 = 2;

/// From when on a meter's first schedule comes due every how many minutes.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub BTreeMap<MeterId, Vec<(DateTime<Utc>, i64)>>);

impl Rules {
    fn every(&self, meter: MeterId, at: DateTime<Utc>) -> Option<i64> {
        let rules = self.0.get(&meter)?;
        rules
            .iter()
            .rev()
            .find(|(from, _)| *from <= at)
            .map(|(_, every)| *every)
    }

    /// Whether a change of that meter's schedules may not have been learned of by then: the database was away, or the server.
    fn stood(&self, meter: MeterId, due_at: DateTime<Utc>) -> bool {
        let changes = self.0.get(&meter).into_iter().flatten().skip(1);
        let mut learned = changes.map(|(from, _)| *from..*from + TimeDelta::seconds(LEARNED_S));
        learned.any(|span| span.contains(&due_at))
    }

    /// The slots due in `[from, to)` with what they want.
    pub fn due(&self, world: &World, from: DateTime<Utc>, to: DateTime<Utc>) -> BTreeMap<Slot, Vec<Quantity>> {
        let mut due = BTreeMap::new();
        let minutes = from.timestamp() / 60..=to.timestamp() / 60;
        for minute in minutes {
            let at = DateTime::from_timestamp(minute * 60, 0).unwrap();
            if at < from || at >= to {
                continue;
            }
            for meter in all_meters(world) {
                let [first, second] = schedules(meter);
                let [one, other] = wanted(meter);
                if self.every(meter, at).is_some_and(|every| minute % every == 0) {
                    due.insert((meter, first, at), one);
                }
                if minute % SECOND_EVERY == 0 {
                    due.insert((meter, second, at), other);
                }
            }
        }
        due
    }
}

pub fn all_meters(world: &World) -> impl Iterator<Item = MeterId> {
    let meters = world.plan.meters;
    (0..world.plan.dtus).flat_map(move |dtu| (0..meters).map(move |place| meter_id(dtu, place)))
}

/// How a slot stands in the database; none: it has no ending.
pub fn state_of(rows: &Rows, slot: &Slot) -> Option<SlotState> {
    let (meter, _, due_at) = *slot;
    match rows.endings.get(slot).and_then(|versions| versions.last()) {
        Some(ending) => Some(ending.state),
        None => rows
            .readings
            .contains_key(&(due_at, meter, Source::Scheduled))
            .then_some(SlotState::Actual),
    }
}

/// Whatever was acknowledged is stored.
pub fn holds(world: &World, books: &Books, acknowledged: &[PollRecord]) {
    let rows = books.rows();
    let mut lost = Vec::new();
    for record in acknowledged {
        if let Some(reading) = &record.reading {
            let key = (reading.ts, reading.meter, reading.source);
            if rows
                .readings
                .get(&key)
                .is_none_or(|stored| stored.items != reading.items)
            {
                lost.push(format!("{reading:?}"));
            }
        }
        for ending in &record.endings {
            let versions = rows.endings.get(&(ending.meter, ending.schedule, ending.due_at));
            let says = |other: &SlotEnding| (other.state, other.reason) == (ending.state, ending.reason);
            if !versions.is_some_and(|versions| versions.iter().any(says)) {
                lost.push(format!("{ending:?}"));
            }
        }
    }
    drop(rows);
    for what in lost {
        world.wrong(format_args!("acknowledged and lost: {what}"));
    }
}

/// Every slot due before `to` has an ending.
pub fn ended(world: &World, books: &Books, rules: &Rules, to: DateTime<Utc>) {
    let rows = books.rows();
    let due = rules.due(world, rows.begun.unwrap_or(to), to);
    let open: Vec<_> = due
        .keys()
        .filter(|slot| state_of(&rows, slot).is_none())
        .copied()
        .collect();
    drop(rows);
    for (meter, schedule, due_at) in open {
        world.wrong(format_args!(
            "no ending: meter {meter} schedule {schedule} due {due_at}"
        ));
    }
}

/// All that is stored belongs to a slot that was due, in versions that make sense, and a slot that is actual has what it
/// wants.
pub fn sound(world: &World, books: &Books, rules: &Rules, to: DateTime<Utc>) {
    let rows = books.rows();
    let due = rules.due(world, rows.begun.unwrap_or(to), to);
    let instants: BTreeSet<_> = due.keys().map(|(meter, _, due_at)| (*due_at, *meter)).collect();
    let mut wrong = Vec::new();
    for (ts, meter, source) in rows.readings.keys() {
        if *source == Source::Scheduled && !instants.contains(&(*ts, *meter)) && !rules.stood(*meter, *ts) {
            wrong.push(format!("a reading of meter {meter} for {ts}, when nothing was due"));
        }
    }
    for (slot, versions) in &rows.endings {
        if !due.contains_key(slot) && !rules.stood(slot.0, slot.2) {
            wrong.push(format!("an ending of {slot:?}, which was not due"));
        }
        let states: Vec<SlotState> = versions.iter().map(|ending| ending.state).collect();
        if !matches!(states.as_slice(), [_] | [SlotState::Missing, SlotState::Late]) {
            wrong.push(format!("{slot:?} ended as {versions:?}"));
        }
    }
    for (slot, quantities) in &due {
        let state = state_of(&rows, slot);
        let reading = rows.readings.get(&(slot.2, slot.0, Source::Scheduled));
        let has = |quantity: &Quantity| {
            let wanted = Measurand::Standard(*quantity);
            reading.is_some_and(|reading| reading.items.iter().any(|item| item.measurand == wanted))
        };
        if matches!(state, Some(SlotState::Actual | SlotState::Late)) && !quantities.iter().all(has) {
            wrong.push(format!(
                "{slot:?} is {state:?}, and lacks some of {quantities:?}: {reading:?}"
            ));
        }
    }
    drop(rows);
    for what in wrong {
        world.wrong(format_args!("{what}"));
    }
}

/// The field is well, so the last slots were read in time.
pub fn well(world: &World, books: &Books, rules: &Rules, now: DateTime<Utc>) {
    let (from, to) = (now - TimeDelta::seconds(200), now - TimeDelta::seconds(ENDED_S));
    let due = rules.due(world, from, to);
    let rows = books.rows();
    let bad: Vec<_> = due
        .keys()
        .filter_map(|slot| {
            let state = state_of(&rows, slot);
            (state != Some(SlotState::Actual)).then(|| format!("{slot:?}: {state:?}, {:?}", rows.endings.get(slot)))
        })
        .collect();
    drop(rows);
    for what in bad {
        world.wrong(format_args!("all is well again, and yet {what}"));
    }
}

//! A batch made ready in memory: readings laid out, sorted by key, each key once; endings in rounds; days collected.

use super::partitions::{OUTSIDE, Window};
use crate::base::ids::{AccountId, MeterId, ScheduleId};
use crate::domain::quantity::Kind;
use crate::domain::reading::{Item, Reading};
use crate::domain::slot::SlotEnding;
use crate::port::frames::RecordedFrame;
use crate::port::ledger::PollRecord;
use crate::store::wide::{self, Cell, Laid};
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// The key of a reading: time first, as in the tables.
pub(super) type Key = (DateTime<Utc>, MeterId, i16);

/// A reading with its place in the tables.
#[derive(Clone, Debug)]
pub(super) struct Prepared<'a> {
    pub(super) key: Key,
    pub(super) reading: &'a Reading,
    pub(super) laid: Laid,
    /// A number for the set of quantities that it carries, the same in every release.
    pub(super) shape: i32,
}

impl Prepared<'_> {
    fn new(reading: &Reading) -> Prepared<'_> {
        // the tables keep microseconds; a key must not be finer than what is stored
        let ts = micros(reading.ts);
        Prepared {
            key: (ts, reading.meter, wide::source_code(reading.source)),
            reading,
            laid: wide::lay_out(reading),
            shape: 0,
        }
    }

    /// The UTC day of its partition.
    pub(super) fn day(&self) -> NaiveDate {
        self.key.0.date_naive()
    }

    /// Whether another laid-out reading says the same: values and qualities, however often and when they were fetched.
    pub(super) fn says(&self, other: &Laid) -> bool {
        self.laid.table == other.table
            && self.laid.quality == other.quality
            && self.laid.side.len() == other.side.len()
            && self
                .laid
                .side
                .iter()
                .zip(&other.side)
                .all(|(a, b)| a.name == b.name && a.quality == b.quality && same_side(a.value, b.value))
            && self.laid.cells.len() == other.cells.len()
            && self.laid.cells.iter().zip(&other.cells).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => same(*a, *b),
                (None, None) => true,
                _ => false,
            })
    }

    /// Whether a register is in a wide column: then consumption may change.
    pub(super) fn has_register(&self) -> bool {
        self.laid
            .table
            .quantities()
            .iter()
            .zip(&self.laid.cells)
            .any(|(quantity, cell)| cell.is_some() && quantity.kind() == Kind::Register)
    }

    /// FNV-1a over the names of the quantities that it carries.
    fn shape_of(&self) -> i32 {
        let wide = self
            .laid
            .table
            .quantities()
            .iter()
            .zip(&self.laid.cells)
            .filter(|(_, cell)| cell.is_some())
            .map(|(quantity, _)| quantity.name());
        let side = self.laid.side.iter().map(|row| row.name.as_str());
        let mut hash = 0x811c_9dc5_u32;
        for name in wide.chain(side) {
            for byte in name.bytes().chain([0]) {
                hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
        hash.cast_signed()
    }

    /// Whether another one carries the same quantities.
    fn carries_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.laid, &other.laid);
        a.table == b.table
            && a.side.is_empty()
            && b.side.is_empty()
            && a.cells
                .iter()
                .map(Option::is_some)
                .eq(b.cells.iter().map(Option::is_some))
    }
}

/// Equal as values; a NaN is equal to itself, else every replay of it would be a conflict.
fn same(a: Cell, b: Cell) -> bool {
    match (a, b) {
        (Cell::Real(a), Cell::Real(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Cell::Numeric(a), Cell::Numeric(b)) => a == b,
        _ => false,
    }
}

fn same_side(a: wide::SideValue, b: wide::SideValue) -> bool {
    match (a, b) {
        (wide::SideValue::Exact(a), wide::SideValue::Exact(b)) => a == b,
        (wide::SideValue::Approx(a), wide::SideValue::Approx(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => false,
    }
}

/// A different reading under a key that is taken.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) account: AccountId,
    pub(super) key: Key,
    pub(super) stored: Vec<Item>,
    pub(super) offered: Vec<Item>,
}

/// A part of a record that the database will not take.
#[derive(Clone, Debug)]
pub(super) struct Reject {
    pub(super) account: AccountId,
    pub(super) key: Key,
    /// Empty: refused by us.
    pub(super) sqlstate: String,
    pub(super) reason: String,
    /// The part, as JSON.
    pub(super) record: String,
}

impl Reject {
    pub(super) fn reading(reading: &Reading, sqlstate: &str, reason: &str) -> Self {
        Self {
            account: reading.account,
            key: (micros(reading.ts), reading.meter, wide::source_code(reading.source)),
            sqlstate: sqlstate.to_owned(),
            reason: printable(reason, 500),
            record: json(reading),
        }
    }

    pub(super) fn ending(ending: &SlotEnding, sqlstate: &str, reason: &str) -> Self {
        Self {
            account: ending.account,
            key: (micros(ending.due_at), ending.meter, 0),
            sqlstate: sqlstate.to_owned(),
            reason: printable(reason, 500),
            record: json(ending),
        }
    }
}

/// JSON that `jsonb` takes: it has no NUL (22P05).
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| format!("\"not shown: {}\"", error.to_string().replace(['"', '\\'], "'")))
        .replace("\\u0000", "\\ufffd")
}

/// Text that a `text` column takes and that a log can show.
pub(super) fn printable(text: &str, length_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(length_max).collect()
}

/// Rounded down to what the tables keep.
pub(super) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    /// Sorted by key, each key once.
    pub(super) readings: Vec<Prepared<'a>>,
    /// Rounds of endings; within one a slot is there once.
    pub(super) endings: Vec<Vec<&'a SlotEnding>>,
    pub(super) evidence: Vec<&'a RecordedFrame>,
    /// Equal readings under one key within the batch.
    pub(super) duplicates: u64,
    /// Different readings under one key within the batch; the first one is kept.
    pub(super) conflicts: Vec<Conflict>,
    /// What lies outside of the days that are kept.
    pub(super) refused: Vec<Reject>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(records: &'a [PollRecord], window: Window) -> Self {
        let mut batch = Self::default();
        let mut seen: BTreeMap<(DateTime<Utc>, MeterId, ScheduleId), usize> = BTreeMap::new();
        for record in records {
            if let Some(reading) = &record.reading {
                if window.holds(reading.ts) {
                    batch.readings.push(Prepared::new(reading));
                } else {
                    batch.refused.push(Reject::reading(reading, "", OUTSIDE));
                }
            }
            for ending in &record.endings {
                if !window.holds(ending.due_at) {
                    batch.refused.push(Reject::ending(ending, "", OUTSIDE));
                    continue;
                }
                let round = seen.entry((ending.due_at, ending.meter, ending.schedule)).or_insert(0);
                while batch.endings.len() <= *round {
                    batch.endings.push(Vec::new());
                }
                if let Some(endings) = batch.endings.get_mut(*round) {
                    endings.push(ending);
                }
                *round += 1;
            }
            batch.evidence.extend(&record.evidence);
        }
        batch.sort_readings();
        batch
    }

    /// Sorts by key and takes out what comes a second time; of each key the first that was offered stays.
    fn sort_readings(&mut self) {
        self.readings.sort_by_key(|row| row.key);
        let (duplicates, conflicts) = (&mut self.duplicates, &mut self.conflicts);
        self.readings.dedup_by(|row, first| {
            if row.key != first.key {
                return false;
            }
            if first.says(&row.laid) {
                *duplicates += 1;
            } else {
                conflicts.push(Conflict {
                    account: row.reading.account,
                    key: row.key,
                    stored: wide::items(&first.laid),
                    offered: wide::items(&row.laid),
                });
            }
            true
        });
        for at in 0..self.readings.len() {
            let (before, rest) = self.readings.split_at_mut(at);
            let Some(row) = rest.first_mut() else { break };
            row.shape = match before.last() {
                // meters of one model, one behind the other
                Some(last) if last.carries_same(row) => last.shape,
                _ => row.shape_of(),
            };
        }
    }

    /// The UTC days that must have partitions.
    pub(super) fn days(&self) -> BTreeSet<NaiveDate> {
        let readings = self.readings.iter().map(Prepared::day);
        let endings = self.endings.iter().flatten().map(|ending| ending.due_at.date_naive());
        readings.chain(endings).collect()
    }
}

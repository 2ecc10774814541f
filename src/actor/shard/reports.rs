//! What a terminal or a concentrator reports of meters behind it becomes readings of theirs, durable before the terminal learns of it.

use super::*;
use crate::actor::messages::KeepReport;
use crate::actor::meter::{TAKEN_AHEAD_MAX, micros, zone_of};
use crate::base::ids::PollId;
use crate::device::decode::{decode_reported, decode_reported_item, instant};
use crate::domain::reading::{Item, Reading, Source};
use crate::port::field::{FieldReport, ReportKept, ReportLost, ReportedRow};
use crate::port::ledger::PollRecord;
use crate::protocol::Protocol;
use crate::protocol::dlt698::{Address, Tsa};
use crate::telemetry::concentrator::StampRefused;
use chrono::{NaiveDateTime, TimeDelta};

/// The oldest moment that is believed: terminals keep a year of months.
const REPORTED_BEHIND_MAX: TimeDelta = TimeDelta::days(400);

impl Handler<KeepReport> for Shard {
    type Result = ResponseFuture<Result<ReportKept, ReportLost>>;

    fn handle(&mut self, KeepReport(report): KeepReport, _ctx: &mut Self::Context) -> Self::Result {
        let record = self.dtus.get(&report.dtu).map(|cell| Arc::clone(&cell.record));
        let (readings, left) = match record {
            Some(record) => readings_of(&self.parts, &record, &report),
            None => (Vec::new(), report.rows.len() + report.points.len()),
        };
        let log = Arc::clone(&self.parts.log);
        Box::pin(async move {
            let kept = ReportKept {
                readings: readings.len(),
                left,
            };
            let appends = readings.into_iter().map(|reading| {
                log.append(PollRecord {
                    reading: Some(reading),
                    ..PollRecord::default()
                })
            });
            for appended in futures::future::join_all(appends).await {
                let _durable = appended.map_err(|error| ReportLost(error.to_string()))?;
            }
            Ok(kept)
        })
    }
}

/// What a report makes, so far.
#[derive(Default)]
struct Made {
    readings: BTreeMap<(MeterId, DateTime<Utc>), Reading>,
    left: usize,
}

impl Made {
    /// Adds what one row says; none: it makes nothing.
    fn add(&mut self, parts: &ShardParts, report: &FieldReport, row: Option<(&MeterRecord, DateTime<Utc>, Vec<Item>)>) {
        let Some((meter, at, items)) = row else {
            self.left += 1;
            return;
        };
        let reading = self.readings.entry((meter.id, at)).or_insert_with(|| Reading {
            account: meter.account,
            meter: meter.id,
            ts: at,
            source: Source::Pushed,
            read_at: micros(report.read_at),
            meter_time: Some(at),
            poll: PollId(parts.polls.take()),
            frames: report.frames,
            items: Vec::new(),
        });
        if !join(&mut reading.items, items) {
            self.left += 1;
        }
    }
}

/// The readings that a report makes, one for each meter and moment, and how many of its rows make none.
fn readings_of(parts: &ShardParts, dtu: &DtuRecord, report: &FieldReport) -> (Vec<Reading>, usize) {
    let mut made = Made::default();
    for row in &report.rows {
        let placed = meter_of(dtu, &row.meter).and_then(|meter| {
            let at = moment_of(meter, row.at, report.read_at)?;
            let items = items_of(parts, meter, row)?;
            Some((meter, at, items))
        });
        made.add(parts, report, placed);
    }
    for row in &report.points {
        let placed = meter_at(dtu, row.point).and_then(|meter| {
            let model = parts.catalogue.get(Protocol::Gdw376, &meter.model)?;
            let state = decode_reported_item(model, row.afn, &row.unit)?;
            let at = moment_of(meter, state.at, report.read_at)?;
            Some((meter, at, state.items))
        });
        made.add(parts, report, placed);
    }
    let readings = made.readings.into_values().filter(|reading| !reading.items.is_empty());
    (readings.collect(), made.left)
}

/// The one meter behind the concentrator that has the measuring point.
fn meter_at(dtu: &DtuRecord, point: u16) -> Option<&MeterRecord> {
    let is_it = |meter: &&MeterRecord| {
        Protocol::by_name(&meter.protocol) == Some(Protocol::Gdw376) && meter.address.trim().parse() == Ok(point)
    };
    dtu.meters.iter().find(is_it)
}

/// The one meter behind the terminal that has the address.
fn meter_of<'a>(dtu: &'a DtuRecord, address: &Tsa) -> Option<&'a MeterRecord> {
    let is_it = |meter: &&MeterRecord| {
        Protocol::by_name(&meter.protocol) == Some(Protocol::Dlt698)
            && Address::parse(&meter.address).is_ok_and(|own| Tsa::of(&own) == *address)
    };
    dtu.meters.iter().find(is_it)
}

/// The moment of a row, if it can be true.
fn moment_of(meter: &MeterRecord, said: NaiveDateTime, read_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let at = instant(said, zone_of(meter));
    let why = match at {
        Some(at) if at > read_at + TAKEN_AHEAD_MAX => "ahead",
        Some(at) if at < read_at - REPORTED_BEHIND_MAX => "behind",
        Some(at) => return Some(micros(at)),
        // an hour that this zone leaves out
        None => "ahead",
    };
    StampRefused {
        meter: meter.id.0,
        why,
        said: &said.to_string(),
    }
    .emit();
    None
}

/// What a row says in the words of the meter's model; none where that is nothing.
fn items_of(parts: &ShardParts, meter: &MeterRecord, row: &ReportedRow) -> Option<Vec<Item>> {
    let model = parts.catalogue.get(Protocol::Dlt698, &meter.model)?;
    let items = decode_reported(model, &row.values).items;
    (!items.is_empty()).then_some(items)
}

/// Adds what another row says of the same meter and moment; false, and nothing is added, where they contradict each other.
fn join(items: &mut Vec<Item>, more: Vec<Item>) -> bool {
    let of = |item: &Item| items.iter().find(|known| known.measurand == item.measurand);
    if more.iter().any(|item| of(item).is_some_and(|known| known != item)) {
        return false;
    }
    let fresh: Vec<Item> = more.into_iter().filter(|item| of(item).is_none()).collect();
    items.extend(fresh);
    true
}

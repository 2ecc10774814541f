//! A daily slot missed during a cut is filled from the meter's own memory, and says so.

use super::books::register;
use super::field::{Field, at, dtu, schedule, virtually};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use polyphase::domain::device::{AppliedSchedule, DtuRecord, MissedRun};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Reading, Source};
use polyphase::domain::slot::{MissReason, SlotEnding, SlotState};
use std::sync::Arc;

/// One DL/T 645 meter, to be read at five past each midnight of Kyiv.
fn metered(missed_run: MissedRun) -> DtuRecord {
    let mut record = dtu(5, 1);
    let meter = &mut record.meters[0];
    meter.protocol = "dlt645-2007".into();
    meter.model = "dlt645_2007_single_phase".into();
    meter.address = format!("{:012}", meter.id.0);
    let with = |mut applied: AppliedSchedule| {
        let mut rule = applied.rules[0].clone();
        rule.missed_run = missed_run;
        applied.rules = Arc::new(vec![rule]);
        applied
    };
    meter.schedules = vec![with(schedule(
        9,
        at(0),
        "5 0 * * *",
        3600,
        vec![Quantity::ActiveEnergyImport],
    ))];
    record
}

/// Midnights of Kyiv between two instants.
fn midnights(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let kyiv = chrono_tz::Europe::Kyiv;
    let first = from.with_timezone(&kyiv).date_naive();
    let days = (0..30).map(|n| first + TimeDelta::days(n));
    let begins = days.filter_map(|day| kyiv.from_local_datetime(&day.and_hms_opt(0, 0, 0)?).earliest());
    begins
        .map(|at| at.with_timezone(&Utc))
        .filter(|at| *at >= from && *at < to)
        .collect()
}

/// What became of two days during which the DTU was away.
async fn after_a_cut(missed_run: MissedRun) -> (Vec<Reading>, Vec<SlotEnding>, Vec<DateTime<Utc>>) {
    let field = Field::new(vec![metered(missed_run)]).await;
    field.begin().await;
    let cut = 2 * 1440;
    field.clock.until(cut).await;
    let _link = field.connect("SN-5").await;
    field.clock.until(cut + 90).await;
    let endings = field.books.records().into_iter().flat_map(|(_, record)| record.endings);
    (field.books.readings(), endings.collect(), midnights(at(0), at(cut)))
}

#[test]
fn every_day_missed_during_a_cut_is_filled_from_the_freezes() {
    virtually(|| async {
        let (readings, endings, midnights) = after_a_cut(MissedRun::All).await;
        assert_eq!(midnights.len(), 2);
        let mut times: Vec<DateTime<Utc>> = readings.iter().map(|reading| reading.ts).collect();
        times.sort_unstable();
        assert_eq!(times, midnights);
        for reading in &readings {
            let day = reading.ts.with_timezone(&chrono_tz::Europe::Kyiv);
            let shown = format!("51{}", day.format("%d.%m"));
            assert_eq!(
                register(reading, Quantity::ActiveEnergyImport),
                Some(shown.parse().unwrap())
            );
            assert_eq!(
                (reading.source, reading.meter_time),
                (Source::BackFill, Some(reading.ts))
            );
            assert!(reading.read_at > *midnights.last().unwrap());
        }
        // each slot is missing first, for the reason that was true, and late then
        for midnight in midnights {
            let due = midnight + TimeDelta::minutes(5);
            let states: Vec<_> = endings
                .iter()
                .filter(|ending| ending.due_at == due)
                .map(|ending| (ending.state, ending.reason))
                .collect();
            assert_eq!(
                states,
                [
                    (SlotState::Missing, Some(MissReason::DtuOffline)),
                    (SlotState::Late, None)
                ],
                "{due}"
            );
        }
    });
}

#[test]
fn once_fills_the_newest_alone() {
    virtually(|| async {
        let (readings, endings, midnights) = after_a_cut(MissedRun::Once).await;
        let times: Vec<DateTime<Utc>> = readings.iter().map(|reading| reading.ts).collect();
        assert_eq!(times, midnights[midnights.len() - 1..]);
        let late = endings.iter().filter(|ending| ending.state == SlotState::Late);
        assert_eq!(late.count(), 1);
    });
}

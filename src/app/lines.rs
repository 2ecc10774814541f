//! Whether the schedules in the database fit into the time of their lines, before a server runs: what `check-config --lines`
//! tells. Nothing has been learned of any meter then, so turnarounds are guessed; `/dtus/{id}/line/plan` knows better.

use crate::actor::shard::expected_loads;
use crate::base::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::device::DtuRecord;
use crate::domain::slot::plan::RuleShelf;
use crate::exchange::feasible::{LinePlan, judge};
use crate::port::ledger::DeviceDirectory;
use crate::store::directory::PgDirectory;
use chrono::TimeDelta;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Lines that were judged: enabled DTUs with meters that are read.
    pub lines: usize,
    /// What is said of those that do not fit, each with what to drop.
    pub overfull: Vec<String>,
}

/// Judges every line over the coming day. The database is read and nothing else; its schema has to be up to date.
///
/// # Errors
/// When the database or the meter models cannot be read.
pub async fn check(config: &Config) -> anyhow::Result<Found> {
    let catalogue = super::catalogue(config)?;
    let opened = super::database::open_as_it_is(config).await?;
    let loaded = PgDirectory::new(&opened.database).load_all().await;
    opened.close().await;
    let (mut shelf, mut found) = (RuleShelf::default(), Found::default());
    let now = SystemClock.now();
    for dtu in loaded?.iter().filter(|dtu| dtu.enabled) {
        let loads = expected_loads(dtu, &catalogue, &mut shelf);
        let plan = judge(&loads, now, TimeDelta::days(1));
        if plan.slots == 0 {
            continue;
        }
        found.lines += 1;
        if !plan.fits() {
            found.overfull.push(told(dtu, &plan));
        }
    }
    Ok(found)
}

fn told(dtu: &DtuRecord, plan: &LinePlan) -> String {
    let sn = dtu.sn.as_ref().map(|sn| format!(" ({sn})")).unwrap_or_default();
    let drop: Vec<String> = plan.drop.iter().map(ToString::to_string).collect();
    format!(
        "DTU {}{sn}: its schedules need {:.0} % of the line's time, {:.0} % in the fullest hour; {} of {} slots of the coming day \
         would begin behind their windows; without schedule {} the rest has more room",
        dtu.id,
        plan.share() * 100.0,
        plan.fullest_hour * 100.0,
        plan.behind,
        plan.slots,
        drop.join(", "),
    )
}

//! How the database fares, as everybody may ask: well, or away in one of several ways. Told by who probes it and by who
//! writes to it; asked by the API (which refuses what it could not keep), by `/readyz` and by whoever waits for it.

use crate::base::clock::{Clock, SystemClock};
use crate::telemetry::storage::DatabaseStateChanged;
use chrono::{DateTime, Utc};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// In which way the database is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Nobody answers at its address, or it is starting or stopping.
    Absent,
    /// It takes connections and does not answer.
    Hung,
    /// It answers, and has no space to write (SQLSTATE 53100).
    Full,
    /// It has no connection or memory left for us (other SQLSTATEs of class 53).
    Crowded,
}

impl Outage {
    /// The name in metrics and problems.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Hung => "hung",
            Self::Full => "full",
            Self::Crowded => "crowded",
        }
    }

    /// Whether reading from it works all the same.
    pub fn reads_work(self) -> bool {
        self == Self::Full
    }
}

/// An outage that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In which way.
    pub outage: Outage,
    /// Since when, for people.
    pub since: DateTime<Utc>,
    /// Since when, for durations.
    pub since_on: Instant,
    /// What it said.
    pub detail: String,
}

/// What is known of the database. Clones share it.
#[derive(Clone, Debug)]
pub struct DatabaseCondition {
    known: Arc<RwLock<Known>>,
    clock: Arc<dyn Clock>,
}

impl Default for DatabaseCondition {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

#[derive(Debug, Default)]
struct Known {
    /// By asking it again and again.
    probed: Option<Trouble>,
    /// By writing to it; only what a probe does not meet.
    writing: Option<Trouble>,
}

impl Known {
    fn present(&self) -> Option<&Trouble> {
        self.probed.as_ref().or(self.writing.as_ref())
    }
}

fn update(known: &mut Option<Trouble>, outage: Option<Outage>, clock: &dyn Clock, detail: &str) {
    let Some(outage) = outage else {
        *known = None;
        return;
    };
    if known.as_ref().is_none_or(|trouble| trouble.outage != outage) {
        *known = Some(Trouble {
            outage,
            since: clock.now(),
            since_on: clock.monotonic(),
            detail: detail.to_owned(),
        });
    }
}

impl DatabaseCondition {
    /// Well, until somebody says otherwise.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            known: Arc::default(),
            clock,
        }
    }

    /// The outage of now; none: it is well.
    pub fn trouble(&self) -> Option<Trouble> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .present()
            .cloned()
    }

    /// A probe was answered (none) or not.
    pub fn probed(&self, outage: Option<Outage>, detail: &str) {
        self.change(|known| update(&mut known.probed, outage, &*self.clock, detail));
    }

    /// A write was committed (none) or refused.
    pub fn wrote(&self, outage: Option<Outage>, detail: &str) {
        // the others are the probe's to find, and to find gone
        let outage = outage.filter(|outage| matches!(outage, Outage::Full | Outage::Crowded));
        self.change(|known| update(&mut known.writing, outage, &*self.clock, detail));
    }

    /// Whether it has been hanging for this long: what waits for an answer since then will get none.
    pub fn hung_for(&self, least: Duration) -> bool {
        self.trouble().is_some_and(|trouble| {
            trouble.outage == Outage::Hung
                && self.clock.monotonic().saturating_duration_since(trouble.since_on) >= least
        })
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.present().map(|trouble| trouble.outage);
        change(&mut known);
        let now = known.present().cloned();
        drop(known);
        if before != now.as_ref().map(|trouble| trouble.outage) {
            DatabaseStateChanged {
                state: now.as_ref().map_or("up", |trouble| trouble.outage.as_str()),
                detail: now.as_ref().map_or("", |trouble| trouble.detail.as_str()),
            }
            .emit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    fn begin() -> (Arc<ManualClock>, DatabaseCondition) {
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        (Arc::clone(&clock), DatabaseCondition::new(clock))
    }

    fn state(condition: &DatabaseCondition) -> Option<Outage> {
        condition.trouble().map(|trouble| trouble.outage)
    }

    #[test]
    fn a_full_database_stays_full_until_a_write_is_taken() {
        let (_, condition) = begin();
        condition.wrote(Some(Outage::Full), "no space left");
        condition.probed(None, "");
        assert_eq!(state(&condition), Some(Outage::Full), "it answers, and takes nothing");
        condition.wrote(None, "");
        assert_eq!(state(&condition), None);
    }

    #[test]
    fn what_the_probe_says_comes_first_and_the_writer_does_not_end_it() {
        let (_, condition) = begin();
        condition.wrote(Some(Outage::Full), "");
        condition.probed(Some(Outage::Absent), "refused");
        assert_eq!(state(&condition), Some(Outage::Absent));
        condition.wrote(Some(Outage::Hung), "a writer cannot tell");
        assert_eq!(state(&condition), Some(Outage::Absent));
        condition.probed(None, "");
        assert_eq!(state(&condition), None);
    }

    #[test]
    fn an_outage_begins_once() {
        let (clock, condition) = begin();
        let begun = clock.now();
        condition.probed(Some(Outage::Hung), "first");
        clock.advance(Duration::from_secs(9));
        condition.probed(Some(Outage::Hung), "second");
        assert_eq!(condition.trouble().unwrap().since, begun);
        assert!(!condition.hung_for(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(1));
        assert!(condition.hung_for(Duration::from_secs(10)));
        condition.probed(Some(Outage::Absent), "gone");
        assert!(!condition.hung_for(Duration::ZERO), "what is gone says so itself");
    }
}

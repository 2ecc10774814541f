//! The desk of scans: which run, what they found by now, and for a day what ended ones found. Bounded, in memory; one
//! scan at a time has a line.

use super::problem::{ApiError, Kind};
use crate::base::ids::{AccountId, DtuId};
use crate::port::scan::{FoundMeter, ScanFailure, ScanProgress, WrittenPlace};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// How long an ended scan is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// Scans kept in all, and running at once for one account.
const SCANS_MAX: usize = 500;
const RUNNING_MAX: usize = 20;
/// The least time between two events of one scan; its end is always told.
const TELL_EVERY: TimeDelta = TimeDelta::seconds(1);

/// How a scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    /// It asks, or waits for the line to be idle.
    Running,
    /// Everything was asked.
    Done,
    /// It came to no end; `reason` says why. What was found by then stands.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// A meter that a scan found.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ScanItem {
    #[serde(flatten)]
    pub(super) found: FoundMeter,
    /// The meter that has this address on this line already.
    #[schema(value_type = Option<i32>)]
    pub(super) meter_id: Option<crate::base::ids::MeterId>,
}

/// A scan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ScanView {
    /// Its id, for `/scans/{id}`.
    #[schema(value_type = String)]
    pub(super) id: Uuid,
    /// The DTU whose line is searched.
    #[schema(value_type = i32)]
    pub(super) dtu_id: DtuId,
    /// How it stands.
    pub(super) state: ScanState,
    /// Questions asked.
    pub(super) asked: u32,
    /// Questions left, as far as can be told.
    pub(super) left: u32,
    /// The protocol that is searched for now.
    pub(super) searching: Option<String>,
    /// Who answered by now.
    pub(super) found: Vec<ScanItem>,
    /// Meters of ours that a concentrator's archive does not have; only when it was read to its end.
    #[schema(value_type = Vec<i32>)]
    pub(super) absent: Vec<crate::base::ids::MeterId>,
    /// What became of what was written into the archive of a concentrator, place by place; only of a scan that writes.
    pub(super) written: Vec<WrittenPlace>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// Why it failed.
    pub(super) reason: Option<String>,
    /// When it began.
    pub(super) began_at: DateTime<Utc>,
    /// When it ended.
    pub(super) ended_at: Option<DateTime<Utc>>,
}

struct Entry {
    account: AccountId,
    view: ScanView,
    task: Option<AbortHandle>,
    told_at: DateTime<Utc>,
}

impl Entry {
    fn is_running(&self) -> bool {
        self.view.state == ScanState::Running
    }
}

/// The scans of this process.
#[derive(Default)]
pub struct ScanDesk {
    entries: Mutex<HashMap<Uuid, Entry>>,
}

impl ScanDesk {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, account: AccountId, dtu: DtuId, now: DateTime<Utc>) -> Result<ScanView, ApiError> {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.is_running() || entry.view.ended_at.is_none_or(|at| now - at < KEPT));
        let mine = |entry: &&Entry| entry.account == account && entry.is_running();
        if let Some(other) = entries.values().filter(mine).find(|entry| entry.view.dtu_id == dtu) {
            return Err(ApiError::new(
                Kind::Conflict,
                format!("scan {} of this DTU is under way", other.view.id),
            ));
        }
        if entries.values().filter(mine).count() >= RUNNING_MAX {
            return Err(
                ApiError::new(Kind::Busy, format!("{RUNNING_MAX} scans of this account are under way")).retry_after(60),
            );
        }
        if entries.len() >= SCANS_MAX {
            // ids of version 7 grow with time
            let oldest = entries
                .iter()
                .filter(|(_, entry)| !entry.is_running())
                .map(|(id, _)| *id)
                .min();
            match oldest {
                Some(oldest) => drop(entries.remove(&oldest)),
                None => return Err(ApiError::new(Kind::Busy, "too many scans are under way").retry_after(60)),
            }
        }
        let view = ScanView {
            id: Uuid::now_v7(),
            dtu_id: dtu,
            state: ScanState::Running,
            asked: 0,
            left: 0,
            searching: None,
            found: Vec::new(),
            absent: Vec::new(),
            written: Vec::new(),
            notes: Vec::new(),
            reason: None,
            began_at: now,
            ended_at: None,
        };
        let entry = Entry {
            account,
            view: view.clone(),
            task: None,
            told_at: now,
        };
        entries.insert(view.id, entry);
        Ok(view)
    }

    pub(super) fn begun(&self, id: Uuid, task: AbortHandle) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.task = Some(task);
        }
    }

    /// Notes how far it is; the view, when it is time to tell listeners.
    pub(super) fn progress(&self, id: Uuid, progress: ScanProgress, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id).filter(|entry| entry.is_running())?;
        let view = &mut entry.view;
        (view.asked, view.left) = (progress.asked, progress.left);
        view.searching = progress.searching;
        view.notes = progress.notes;
        view.written = progress.written;
        let news = view.found.len() != progress.found.len();
        let found = progress.found.into_iter();
        view.found = found.map(|found| ScanItem { found, meter_id: None }).collect();
        if !news && now - entry.told_at < TELL_EVERY {
            return None;
        }
        entry.told_at = now;
        Some(entry.view.clone())
    }

    pub(super) fn end(&self, id: Uuid, outcome: Result<(), ScanFailure>, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let view = &mut entries.get_mut(&id).filter(|entry| entry.is_running())?.view;
        view.ended_at = Some(now);
        view.searching = None;
        match outcome {
            Ok(()) => (view.state, view.left) = (ScanState::Done, 0),
            Err(failure) => (view.state, view.reason) = (ScanState::Failed, Some(failure.to_string())),
        }
        Some(view.clone())
    }

    pub(super) fn cancel(&self, account: AccountId, id: Uuid, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id).filter(|entry| entry.account == account)?;
        if entry.is_running() {
            if let Some(task) = entry.task.take() {
                task.abort();
            }
            entry.view.state = ScanState::Cancelled;
            entry.view.ended_at = Some(now);
            entry.view.searching = None;
        }
        Some(entry.view.clone())
    }

    pub(super) fn find(&self, account: AccountId, id: Uuid) -> Option<ScanView> {
        let entries = self.lock();
        let entry = entries.get(&id).filter(|entry| entry.account == account)?;
        Some(entry.view.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
    }

    fn found(n: usize) -> ScanProgress {
        ScanProgress {
            asked: 3,
            found: vec![FoundMeter::default(); n],
            ..ScanProgress::default()
        }
    }

    #[test]
    fn a_line_has_one_scan_and_an_account_a_few() {
        let desk = ScanDesk::default();
        let first = desk.open(AccountId(1), DtuId(1), at(0)).unwrap();
        assert_eq!(
            desk.open(AccountId(1), DtuId(1), at(0)).err().unwrap().kind(),
            Kind::Conflict
        );
        for dtu in 2..=20 {
            desk.open(AccountId(1), DtuId(dtu), at(0)).unwrap();
        }
        assert_eq!(
            desk.open(AccountId(1), DtuId(21), at(0)).err().unwrap().kind(),
            Kind::Busy
        );
        assert!(desk.open(AccountId(2), DtuId(22), at(0)).is_ok());
        desk.end(first.id, Ok(()), at(1)).unwrap();
        assert!(desk.open(AccountId(1), DtuId(1), at(1)).is_ok());
    }

    #[test]
    fn listeners_hear_of_a_find_at_once_and_of_the_rest_each_second() {
        let desk = ScanDesk::default();
        let id = desk.open(AccountId(1), DtuId(1), at(0)).unwrap().id;
        assert_eq!(desk.progress(id, found(0), at(0)), None);
        assert_eq!(desk.progress(id, found(1), at(0)).unwrap().found.len(), 1);
        assert_eq!(desk.progress(id, found(1), at(0)), None);
        assert!(desk.progress(id, found(1), at(1)).is_some());
    }

    #[test]
    fn what_was_found_before_a_failure_stands_for_a_day_and_for_its_account() {
        let desk = ScanDesk::default();
        let id = desk.open(AccountId(1), DtuId(1), at(0)).unwrap().id;
        desk.progress(id, found(2), at(0));
        desk.end(id, Err(ScanFailure::Lost), at(5));
        let view = desk.find(AccountId(1), id).unwrap();
        assert_eq!((view.state, view.found.len()), (ScanState::Failed, 2));
        assert_eq!(desk.find(AccountId(2), id), None);
        assert_eq!(desk.cancel(AccountId(2), id, at(6)), None);
        // a late word of a task that was ended changes nothing
        assert_eq!(desk.progress(id, found(0), at(6)), None);
        let _next = desk.open(AccountId(1), DtuId(2), at(5 + 24 * 3600)).unwrap();
        assert_eq!(desk.find(AccountId(1), id), None);
    }
}

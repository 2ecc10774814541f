//! The desk of runs of settings: asks many terminals, a few at a time, and writes down what became of each as soon as it is known.
//!
//! What a run is lives in the database. This process only drives it: a restart ends it, and says so of every terminal whose turn
//! had not come or was not over.

use super::ApiState;
use super::problem::{ApiError, Kind};
use crate::base::ids::{AccountId, DtuId};
use crate::domain::parameter::{Parameter, ParameterAsk, ParameterOutcome, ParameterPlan, verdict};
use crate::domain::schedule::parse_zone;
use crate::port::dtus::DtuStore;
use crate::port::live::Topic;
use crate::port::parameters::{EntryState, ParameterRun, ParameterStore, RunEntry};
use crate::port::scan::{ScanFailure, ScanPlan, ScanProgress};
use crate::port::scope::{Scope, StoreError};
use crate::telemetry::concentrator::{ParametersLost, ParametersTold};
use chrono_tz::Tz;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Terminals that a run asks at once.
const AT_ONCE: usize = 8;
/// Runs at once of one account, and of all.
const ACCOUNT_MAX: usize = 4;
const RUNS_MAX: usize = 64;
/// How long a terminal may take: each of its settings may wait for its line.
const TERMINAL_MAX: Duration = Duration::from_secs(1_800);
/// What became of a terminal is written down so often, when the database is away.
const KEEP_TRIES: u32 = 60;
const KEEP_AGAIN: Duration = Duration::from_secs(1);

struct Open {
    account: AccountId,
    task: Option<AbortHandle>,
}

/// The runs that this process drives.
#[derive(Default)]
pub struct ParameterDesk {
    open: Mutex<HashMap<Uuid, Open>>,
    /// Terminals that are asked now; nobody writes to one that another run asks.
    busy: Mutex<HashSet<DtuId>>,
}

/// A terminal that one run asks.
struct Held<'a> {
    desk: &'a ParameterDesk,
    dtu: DtuId,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.desk.busy).remove(&self.dtu);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ParameterDesk {
    /// Takes a place for a run that is about to begin.
    pub(super) fn take(&self, account: AccountId, id: Uuid) -> Result<(), ApiError> {
        let mut open = lock(&self.open);
        if open.contains_key(&id) {
            return Err(ApiError::new(Kind::Conflict, "the run is under way"));
        }
        let mine = open.values().filter(|run| run.account == account).count();
        if mine >= ACCOUNT_MAX || open.len() >= RUNS_MAX {
            let text = format!("{mine} runs of this account, {} in all, are under way", open.len());
            return Err(ApiError::new(Kind::Busy, text).retry_after(60));
        }
        open.insert(id, Open { account, task: None });
        Ok(())
    }

    /// Gives a place back; whatever drives the run ends.
    pub(super) fn give_back(&self, id: Uuid) {
        if let Some(task) = lock(&self.open).remove(&id).and_then(|run| run.task) {
            task.abort();
        }
    }

    fn begun(&self, id: Uuid, task: AbortHandle) {
        if let Some(run) = lock(&self.open).get_mut(&id) {
            run.task = Some(task);
        }
    }

    fn hold(&self, dtu: DtuId) -> Option<Held<'_>> {
        // made only where it was free: a second one would give back what the first holds
        let free = lock(&self.busy).insert(dtu);
        free.then(|| Held { desk: self, dtu })
    }
}

/// What a run does now.
pub(super) struct Work {
    pub(super) id: Uuid,
    pub(super) protocol: String,
    /// Write what differs; else read and compare.
    pub(super) write: bool,
    /// The zone of terminals that name none.
    pub(super) zone: Tz,
    /// What is asked of whom; where it is written, with what the terminal said before.
    pub(super) terminals: Vec<(DtuId, Vec<ParameterAsk>, Vec<Parameter>)>,
}

/// Drives a run, whoever watches.
pub(super) fn start(state: &ApiState, scope: Scope, work: Work) {
    let id = work.id;
    let task = tokio::spawn(drive(state.clone(), scope, work));
    state.parameters.begun(id, task.abort_handle());
}

async fn drive(state: ApiState, scope: Scope, work: Work) {
    let Work {
        id,
        protocol,
        write,
        zone,
        terminals,
    } = work;
    let each = |(dtu, asks, before)| {
        let (state, scope, protocol) = (&state, &scope, &protocol);
        async move {
            let store: Box<dyn ParameterStore> = state.stores.in_account(scope.clone());
            match store.begin_entry(id, dtu).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return lost(dtu, &error),
            }
            let plan = ParameterPlan {
                protocol: protocol.clone(),
                asks,
                write,
                zone: zone_of(state, scope, dtu).await.unwrap_or(zone),
            };
            let entry = ask(state, dtu, plan, before).await;
            keep(state, &*store, id, &entry, write).await;
        }
    };
    futures::stream::iter(terminals)
        .map(each)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    // before anybody can see that it has compared, and have it written
    lock(&state.parameters.open).remove(&id);
    let store: Box<dyn ParameterStore> = state.stores.in_account(scope.clone());
    for _ in 0..KEEP_TRIES {
        match store.end_phase(id, state.clock.now()).await {
            Ok(run) => return publish(&state, scope.account, &run),
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(KEEP_AGAIN).await,
            Err(error) => return lost(DtuId(0), &error),
        }
    }
    lost(DtuId(0), &given_up());
}

async fn zone_of(state: &ApiState, scope: &Scope, dtu: DtuId) -> Option<Tz> {
    let dtus: Box<dyn DtuStore> = state.stores.in_account(scope.clone());
    let named = dtus.get(dtu, state.clock.now()).await.ok()?.time_zone?;
    parse_zone(&named).ok()
}

fn lost(dtu: DtuId, error: &StoreError) {
    let why = &error.to_string();
    ParametersLost { dtu: dtu.0, why }.emit();
}

fn given_up() -> StoreError {
    StoreError::Unavailable("given up".to_owned())
}

async fn keep(state: &ApiState, store: &dyn ParameterStore, id: Uuid, entry: &RunEntry, wrote: bool) {
    ParametersTold {
        dtu: entry.dtu_id.0,
        state: entry.state.as_str(),
        wrote,
    }
    .emit();
    for _ in 0..KEEP_TRIES {
        match store.end_entry(id, entry, wrote, state.clock.now()).await {
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(KEEP_AGAIN).await,
            Err(error) => return lost(entry.dtu_id, &error),
            Ok(()) => return,
        }
    }
    lost(entry.dtu_id, &given_up());
}

/// Asks one terminal.
async fn ask(state: &ApiState, dtu: DtuId, plan: ParameterPlan, before: Vec<Parameter>) -> RunEntry {
    let ended = |state, reason: Option<String>, parameters| RunEntry {
        dtu_id: dtu,
        state,
        reason,
        parameters,
        ended_at: None,
    };
    let Some(_held) = state.parameters.hold(dtu) else {
        let text = "another run asks this terminal".to_owned();
        return ended(EntryState::Failed, Some(text), before);
    };
    let asks = plan.asks.clone();
    let told: Arc<Mutex<Vec<Parameter>>> = Arc::default();
    let heard = Arc::clone(&told);
    let tell = move |progress: ScanProgress| *lock(&heard) = progress.settings;
    let scan = ScanPlan {
        settings: Some(plan),
        ..ScanPlan::default()
    };
    let asked = tokio::time::timeout(TERMINAL_MAX, state.fleet.scan(dtu, scan, Arc::new(tell))).await;
    let mut told = std::mem::take(&mut *lock(&told));
    if told.is_empty() {
        told = asks
            .iter()
            .map(|ask| Parameter::unread(ask, ParameterOutcome::Silent))
            .collect();
    }
    let touched = told.iter().any(|setting| {
        use ParameterOutcome::{Otherwise, Refused, Unknown, Written};
        matches!(setting.outcome, Otherwise | Refused | Unknown | Written)
    });
    let parameters = merged(before, told);
    match asked {
        Ok(Ok(())) => ended(verdict(&parameters).into(), None, parameters),
        Err(_) => ended(
            if touched {
                verdict(&parameters).into()
            } else {
                EntryState::NoAnswer
            },
            Some(format!("it took more than {} s", TERMINAL_MAX.as_secs())),
            parameters,
        ),
        Ok(Err(failure)) => {
            let state = match failure {
                _ if touched => verdict(&parameters).into(),
                ScanFailure::Offline | ScanFailure::Lost => EntryState::Offline,
                _ => EntryState::Failed,
            };
            ended(state, Some(failure.to_string()), parameters)
        }
    }
}

/// What a terminal said when it was compared, with what became of what was written.
fn merged(before: Vec<Parameter>, told: Vec<Parameter>) -> Vec<Parameter> {
    if before.is_empty() {
        return told;
    }
    let newer = |old: Parameter| {
        let mut told = told.iter();
        let new = told
            .find(|new| new.name == old.name && new.number == old.number)
            .cloned();
        match new {
            None => old,
            Some(new) => Parameter {
                present: new.present.clone().or(old.present),
                ..new
            },
        }
    };
    before.into_iter().map(newer).collect()
}

fn publish(state: &ApiState, account: AccountId, run: &ParameterRun) {
    // texts and numbers alone: it always serialises
    let data = serde_json::json!({ "kind": "parameters", "run": run });
    state.feed.publish(account, Topic::Jobs, None, None, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_asked_by_one_run_at_a_time() {
        let desk = ParameterDesk::default();
        let first = desk.hold(DtuId(1));
        assert!(first.is_some());
        assert!(desk.hold(DtuId(1)).is_none());
        assert!(desk.hold(DtuId(1)).is_none(), "who was refused gave nothing back");
        assert!(desk.hold(DtuId(2)).is_some());
        drop(first);
        assert!(desk.hold(DtuId(1)).is_some());
    }

    #[test]
    fn an_account_has_a_few_runs_and_each_is_driven_once() {
        let desk = ParameterDesk::default();
        let ids: Vec<Uuid> = (0..ACCOUNT_MAX).map(|_| Uuid::now_v7()).collect();
        for id in &ids {
            desk.take(AccountId(1), *id).unwrap();
        }
        let more = desk.take(AccountId(1), Uuid::now_v7()).err().unwrap();
        assert_eq!(more.kind(), Kind::Busy);
        let again = desk.take(AccountId(2), ids[0]).err().unwrap();
        assert_eq!(again.kind(), Kind::Conflict);
        desk.give_back(ids[0]);
        assert!(desk.take(AccountId(1), ids[0]).is_ok());
    }

    #[test]
    fn what_was_written_stands_beside_what_was_the_same() {
        let ask = |name: &str| ParameterAsk {
            name: name.to_owned(),
            number: 0,
            wanted: None,
            seen: None,
        };
        let same = Parameter::unread(&ask("apn"), ParameterOutcome::Same);
        let before = Parameter {
            present: Some(crate::domain::parameter::ParameterValue::Whole(5)),
            ..Parameter::unread(&ask("heartbeat"), ParameterOutcome::Differs)
        };
        let silent = Parameter::unread(&ask("heartbeat"), ParameterOutcome::Silent);
        let merged = merged(vec![same.clone(), before.clone()], vec![silent.clone()]);
        let kept = Parameter {
            present: before.present,
            ..silent
        };
        assert_eq!(merged, [same, kept]);
    }
}

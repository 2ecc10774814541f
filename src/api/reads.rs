//! `/meters/{id}/read` and `/reads/{id}`: reading a meter now, ahead of schedules.
//!
//! A read goes on when nobody waits any more; it is kept here for an hour, in a bounded desk, so that whoever asked can
//! come back for it. Its values are stored like all others.

use super::ApiState;
use super::auth::Caller;
use super::body::BodyOrDefault;
use super::handle::In;
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedule_form::quantities;
use crate::base::ids::{AccountId, MeterId};
use crate::domain::quantity::Quantity;
use crate::domain::slot::MissReason;
use crate::port::fleet::ReadFailure;
use crate::port::meters::{Meter, MeterState, MeterStore};
use crate::port::readings::{ReadingItem, items_of};
use actix_web::http::header;
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Seconds that a caller waits by default and at most.
const WAIT_S: u64 = 30;
const WAIT_S_MAX: u64 = 60;
/// How long a read may take, the wait for the line included.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long an ended read is kept.
const KEPT: TimeDelta = TimeDelta::hours(1);
/// Reads kept in all, and running at once for one account.
const READS_MAX: usize = 2_000;
const RUNNING_MAX: usize = 100;

/// How a read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadState {
    /// It waits for the line or runs.
    Running,
    /// It brought values.
    Done,
    /// It brought nothing; `reason` says why.
    Failed,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReadView {
    /// Its id, for `/reads/{id}`.
    #[schema(value_type = String)]
    id: Uuid,
    /// The meter.
    #[schema(value_type = i32)]
    meter_id: MeterId,
    /// How it stands.
    state: ReadState,
    /// What it brought.
    items: Vec<ReadingItem>,
    /// Why it failed, by the slot ledger's names.
    reason: Option<String>,
    /// More about why.
    detail: Option<String>,
    /// When it was asked for.
    asked_at: DateTime<Utc>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
}

struct Entry {
    account: AccountId,
    latest: watch::Receiver<Outcome>,
}

impl Entry {
    fn is_running(&self) -> bool {
        self.latest.borrow().view.state == ReadState::Running && !self.is_lost()
    }

    /// Its task went away without an outcome: a fault of ours, and the end of the read.
    fn is_lost(&self) -> bool {
        self.latest.borrow().view.state == ReadState::Running && self.latest.has_changed().is_err()
    }

    fn is_kept(&self, now: DateTime<Utc>) -> bool {
        let outcome = self.latest.borrow();
        now - outcome.view.ended_at.unwrap_or(outcome.view.asked_at) < KEPT
    }
}

#[derive(Clone)]
struct Outcome {
    view: ReadView,
    failure: Option<ReadFailure>,
}

/// The reads of this process. Bounded: ended ones give way to new ones, oldest first.
#[derive(Default)]
pub struct ReadDesk {
    entries: Mutex<HashMap<Uuid, Entry>>,
}

impl ReadDesk {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a read that begins; its outcome is told through the sender.
    fn open(
        &self,
        account: AccountId,
        meter: MeterId,
        now: DateTime<Utc>,
    ) -> Result<(watch::Sender<Outcome>, watch::Receiver<Outcome>), ApiError> {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.is_kept(now));
        if entries
            .values()
            .filter(|entry| entry.account == account && entry.is_running())
            .count()
            >= RUNNING_MAX
        {
            return Err(
                ApiError::new(Kind::Busy, format!("{RUNNING_MAX} reads of this account are under way")).retry_after(5),
            );
        }
        if entries.len() >= READS_MAX {
            // ids of version 7 grow with time
            let oldest = entries
                .iter()
                .filter(|(_, entry)| !entry.is_running())
                .map(|(id, _)| *id)
                .min();
            match oldest {
                Some(oldest) => drop(entries.remove(&oldest)),
                None => return Err(ApiError::new(Kind::Busy, "too many reads are under way").retry_after(5)),
            }
        }
        let id = Uuid::now_v7();
        let view = ReadView {
            id,
            meter_id: meter,
            state: ReadState::Running,
            items: Vec::new(),
            reason: None,
            detail: None,
            asked_at: now,
            ended_at: None,
        };
        let (told, latest) = watch::channel(Outcome { view, failure: None });
        let entry = Entry {
            account,
            latest: latest.clone(),
        };
        entries.insert(id, entry);
        Ok((told, latest))
    }

    /// A read of this account.
    fn find(&self, account: AccountId, id: Uuid) -> Option<ReadView> {
        let entries = self.lock();
        let entry = entries.get(&id).filter(|entry| entry.account == account)?;
        let mut view = entry.latest.borrow().view.clone();
        if entry.is_lost() {
            view.state = ReadState::Failed;
            view.reason = Some(MissReason::Internal.as_str().to_owned());
        }
        Some(view)
    }
}

/// What is to be read.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadBody {
    /// Quantities by name; none: all that the model polls.
    #[serde(default)]
    quantities: Vec<String>,
}

/// How long to wait.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadQuery {
    /// Seconds to wait for the values, 0 to 60; default 30.
    wait_s: Option<u64>,
}

/// The wanted quantities; the model must have each of them.
pub(super) fn wanted(state: &ApiState, meter: &Meter, names: &[String]) -> Result<Vec<Quantity>, ApiError> {
    let mut faults = Faults::new();
    let mut found = quantities("", names, &mut faults);
    if let Some(model) = state.models.model(&meter.model) {
        for quantity in &found {
            let has = model.points.iter().any(|point| point.quantity == quantity.name());
            faults.check(has, "quantities", format!("model {} has no {quantity}", meter.model));
        }
    }
    faults.done()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Runs a read to its end, whoever waits for it.
async fn run(state: ApiState, meter: MeterId, quantities: Vec<Quantity>, told: watch::Sender<Outcome>) {
    let outcome = state.fleet.read(meter, quantities, DEADLINE).await;
    let now = state.clock.now();
    told.send_modify(|latest| {
        latest.view.ended_at = Some(now);
        match outcome {
            Ok(reading) => {
                latest.view.state = ReadState::Done;
                latest.view.items = items_of(&reading);
            }
            Err(failure) => {
                latest.view.state = ReadState::Failed;
                let (reason, detail) = match &failure {
                    ReadFailure::Missed { reason, detail } => (reason.as_str(), detail.clone()),
                    ReadFailure::UnknownMeter => ("unknown_meter", None),
                    ReadFailure::Busy => ("busy", None),
                };
                latest.view.reason = Some(reason.to_owned());
                latest.view.detail = detail;
                latest.failure = Some(failure);
            }
        }
    });
}

fn problem(failure: &ReadFailure, id: Uuid) -> ApiError {
    match failure {
        ReadFailure::Missed { reason, .. } => ApiError::new(
            Kind::ReadFailed,
            format!("the meter could not be read ({failure}); read {id}"),
        )
        .because(reason.as_str()),
        ReadFailure::UnknownMeter => ApiError::new(Kind::Busy, format!("{failure} yet; try again"))
            .because("unknown_meter")
            .retry_after(5),
        ReadFailure::Busy => ApiError::new(Kind::Busy, failure.to_string())
            .because("busy")
            .retry_after(5),
    }
}

/// Reads a meter now, ahead of schedules: 200 with the values when it ended in time, a problem that names the reason
/// when it failed in time, else 202; the read then goes on, and `/reads/{id}` tells.
#[utoipa::path(tag = "readings", params(("id" = i32, Path), ReadQuery), request_body = Option<ReadBody>,
    responses((status = 200, body = ReadView), (status = 202, body = ReadView)))]
#[post("/meters/{id}/read")]
async fn read_meter(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Id(id): Id<MeterId>,
    Query(query): Query<ReadQuery>,
    BodyOrDefault(body): BodyOrDefault<ReadBody>,
) -> Result<HttpResponse, ApiError> {
    let wait = query.wait_s.unwrap_or(WAIT_S);
    if wait > WAIT_S_MAX {
        return Err(ApiError::bad_query(
            "wait_s",
            format!("must be 0 to {WAIT_S_MAX}, this is {wait}"),
        ));
    }
    let now = state.clock.now();
    let meter = meters.get(id, now).await?;
    if meter.state == MeterState::Removed {
        return Err(ApiError::new(
            Kind::Conflict,
            "the meter was exchanged for another and is read no more",
        ));
    }
    let quantities = wanted(&state, &meter, &body.quantities)?;
    let (told, mut latest) = state.reads.open(caller.account()?, id, now)?;
    tokio::spawn(run(ApiState::clone(&state), id, quantities, told));
    let ended = async {
        let outcome = latest
            .wait_for(|outcome| outcome.view.state != ReadState::Running)
            .await;
        outcome.map(|outcome| outcome.clone())
    };
    let ended = tokio::time::timeout(Duration::from_secs(wait), ended).await;
    let outcome = match ended {
        Ok(Ok(outcome)) => outcome,
        // its task was ended: the server stops
        Ok(Err(_)) => return Err(ApiError::new(Kind::Busy, "the read was broken off; the server stops").retry_after(5)),
        Err(_) => {
            let view = latest.borrow().view.clone();
            return Ok(HttpResponse::Accepted()
                .insert_header((header::LOCATION, format!("{}/reads/{}", super::BASE, view.id)))
                .json(view));
        }
    };
    match outcome.failure {
        Some(failure) => Err(problem(&failure, outcome.view.id)),
        None => Ok(HttpResponse::Ok().json(outcome.view)),
    }
}

/// How a read stands, for an hour after its end.
#[utoipa::path(tag = "readings", params(("id" = String, Path)), responses((status = 200, body = ReadView)))]
#[get("/reads/{id}")]
async fn get_read(state: web::Data<ApiState>, caller: Caller, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    let view = state
        .reads
        .find(caller.account()?, id)
        .ok_or_else(|| ApiError::not_found("read"))?;
    Ok(HttpResponse::Ok().json(view))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(read_meter).service(get_read);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
    }

    fn end(told: &watch::Sender<Outcome>, at: DateTime<Utc>) {
        told.send_modify(|latest| {
            latest.view.state = ReadState::Done;
            latest.view.ended_at = Some(at);
        });
    }

    #[test]
    fn reads_are_kept_for_their_account_and_an_hour() {
        let desk = ReadDesk::default();
        let (told, latest) = desk.open(AccountId(1), MeterId(7), at(0)).unwrap();
        let id = latest.borrow().view.id;
        assert_eq!(desk.find(AccountId(1), id).unwrap().state, ReadState::Running);
        assert_eq!(desk.find(AccountId(2), id), None);
        end(&told, at(10));
        assert_eq!(desk.find(AccountId(1), id).unwrap().state, ReadState::Done);
        let _other = desk.open(AccountId(1), MeterId(7), at(10 + 3600)).unwrap();
        assert_eq!(desk.find(AccountId(1), id), None);
    }

    #[test]
    fn one_account_cannot_take_the_desk_from_another() {
        let desk = ReadDesk::default();
        let mut open = Vec::new();
        for _ in 0..RUNNING_MAX {
            open.push(desk.open(AccountId(1), MeterId(7), at(0)).unwrap());
        }
        assert_eq!(
            desk.open(AccountId(1), MeterId(7), at(0)).err().unwrap().kind(),
            Kind::Busy
        );
        assert!(desk.open(AccountId(2), MeterId(9), at(0)).is_ok());
        end(&open[0].0, at(1));
        assert!(desk.open(AccountId(1), MeterId(7), at(1)).is_ok());
    }

    #[test]
    fn a_read_whose_task_went_away_has_failed() {
        let desk = ReadDesk::default();
        let (told, latest) = desk.open(AccountId(1), MeterId(7), at(0)).unwrap();
        drop(told);
        let view = desk.find(AccountId(1), latest.borrow().view.id).unwrap();
        assert_eq!(
            (view.state, view.reason.as_deref()),
            (ReadState::Failed, Some("internal"))
        );
    }

    #[test]
    fn the_desk_is_bounded_and_ended_reads_give_way() {
        let desk = ReadDesk::default();
        for n in 0..READS_MAX + 50 {
            let (told, _) = desk.open(AccountId(1), MeterId(7), at(0)).unwrap();
            end(&told, at(n as i64 / 1000));
        }
        assert_eq!(desk.lock().len(), READS_MAX);
    }
}

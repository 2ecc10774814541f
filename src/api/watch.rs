//! `/meters/{id}/watch`: reads a meter faster for a while (real-time voltage). The values are stored and told on the stream
//! like all that is read on demand.
//!
//! A watch takes at most half of the line's time: it rests at least as long as its last read took, and beats that it
//! comes too late for are left out, never made up. Watches live in this process and are bounded in number and time.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::handle::In;
use super::problem::{ApiError, Faults, Kind};
use super::query::Id;
use super::reads::wanted;
use crate::base::ids::{AccountId, MeterId};
use crate::domain::quantity::Quantity;
use crate::port::fleet::ReadFailure;
use crate::port::meters::{MeterState, MeterStore};
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const EVERY_S_MAX: u32 = 3_600;
const FOR_S_MAX: u32 = 3_600;
/// Watches in all, and of one account.
const WATCHES_MAX: usize = 200;
const ACCOUNT_MAX: usize = 20;
/// How long one read may take, the wait for the line included.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is to be watched.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchBody {
    /// Quantities by name; none: all that the model polls.
    #[serde(default)]
    #[schema(example = json!(["voltage_l1", "current_l1"]))]
    quantities: Vec<String>,
    /// A read begins so many seconds after the one before, when the line allows.
    #[schema(minimum = 1, maximum = 3600)]
    every_s: u32,
    /// For so many seconds.
    #[schema(minimum = 1, maximum = 3600)]
    for_s: u32,
}

/// A watch.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WatchView {
    /// Its id.
    #[schema(value_type = String)]
    id: Uuid,
    /// The meter.
    #[schema(value_type = i32)]
    meter_id: MeterId,
    /// What is read; none: all that the model polls.
    quantities: Vec<String>,
    /// Seconds between two reads, when the line allows.
    every_s: u32,
    /// When it began.
    began_at: DateTime<Utc>,
    /// When it ends.
    ends_at: DateTime<Utc>,
    /// Reads that brought values.
    reads: u32,
    /// Reads that brought none.
    failures: u32,
    /// Why the last one brought none, by the slot ledger's names.
    reason: Option<String>,
}

struct Entry {
    account: AccountId,
    view: WatchView,
    over: CancellationToken,
}

/// The watches of this process, one a meter.
#[derive(Default)]
pub struct WatchDesk {
    entries: Mutex<HashMap<MeterId, Entry>>,
}

impl WatchDesk {
    fn lock(&self) -> MutexGuard<'_, HashMap<MeterId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of the meter's watch, if it has one.
    fn open(&self, account: AccountId, view: WatchView) -> Result<CancellationToken, ApiError> {
        let mut entries = self.lock();
        let others = entries.iter().filter(|(meter, _)| **meter != view.meter_id);
        let (all, own) = others.fold((0, 0), |(all, own), (_, entry)| {
            (all + 1, own + usize::from(entry.account == account))
        });
        if all >= WATCHES_MAX || own >= ACCOUNT_MAX {
            return Err(ApiError::new(Kind::TooManyRequests, "too many meters are watched").retry_after(30));
        }
        let over = CancellationToken::new();
        let entry = Entry {
            account,
            over: over.clone(),
            view,
        };
        if let Some(before) = entries.insert(entry.view.meter_id, entry) {
            before.over.cancel();
        }
        Ok(over)
    }

    fn find(&self, account: AccountId, meter: MeterId) -> Option<WatchView> {
        let entries = self.lock();
        let entry = entries.get(&meter).filter(|entry| entry.account == account)?;
        Some(entry.view.clone())
    }

    fn note(&self, meter: MeterId, id: Uuid, failure: Option<&ReadFailure>) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&meter).filter(|entry| entry.view.id == id) else {
            return;
        };
        match failure {
            None => entry.view.reads = entry.view.reads.saturating_add(1),
            Some(failure) => {
                entry.view.failures = entry.view.failures.saturating_add(1);
                entry.view.reason = Some(reason(failure).to_owned());
            }
        }
    }

    /// Ends a watch; false: it had ended.
    fn close(&self, meter: MeterId, id: Option<Uuid>) -> bool {
        let mut entries = self.lock();
        let is_it = entries
            .get(&meter)
            .is_some_and(|entry| id.is_none_or(|id| entry.view.id == id));
        match is_it.then(|| entries.remove(&meter)).flatten() {
            Some(entry) => {
                entry.over.cancel();
                true
            }
            None => false,
        }
    }
}

fn reason(failure: &ReadFailure) -> &'static str {
    match failure {
        ReadFailure::Missed { reason, .. } => reason.as_str(),
        ReadFailure::UnknownMeter => "unknown_meter",
        ReadFailure::Busy => "busy",
    }
}

/// When the next read begins: on the beat after the last one, and not before the line had as long a rest.
fn next_beat(beat: Instant, every: Duration, began: Instant, ended: Instant) -> Instant {
    let rested = ended + ended.saturating_duration_since(began);
    let late = rested.saturating_duration_since(beat);
    let beats = u32::try_from(late.as_millis().div_ceil(every.as_millis().max(1))).unwrap_or(u32::MAX);
    beat + every.saturating_mul(beats.max(1))
}

/// Reads until the watch is over.
async fn run(state: ApiState, watch: WatchView, quantities: Vec<Quantity>, length: Duration, over: CancellationToken) {
    let every = Duration::from_secs(watch.every_s.into());
    let mut beat = Instant::now();
    let end = beat + length;
    while beat < end && !over.is_cancelled() {
        let began = Instant::now();
        let outcome = state.fleet.read(watch.meter_id, quantities.clone(), DEADLINE).await;
        state.watches.note(watch.meter_id, watch.id, outcome.as_ref().err());
        beat = next_beat(beat, every, began, Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(beat.min(end)) => {}
            () = over.cancelled() => break,
        }
    }
    state.watches.close(watch.meter_id, Some(watch.id));
}

/// Reads a meter faster for a while, as its line allows; the values come on the stream (topic `readings`) and are stored.
/// Another watch of the same meter takes the place of the one before.
#[utoipa::path(tag = "readings", params(("id" = i32, Path)), request_body = WatchBody,
    responses((status = 202, body = WatchView)))]
#[post("/meters/{id}/watch")]
async fn watch_meter(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Id(id): Id<MeterId>,
    Body(body): Body<WatchBody>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let meter = meters.get(id, now).await?;
    if meter.state == MeterState::Removed {
        return Err(ApiError::new(
            Kind::Conflict,
            "the meter was exchanged for another and is read no more",
        ));
    }
    let mut faults = Faults::new();
    for (field, value, most) in [("every_s", body.every_s, EVERY_S_MAX), ("for_s", body.for_s, FOR_S_MAX)] {
        faults.check((1..=most).contains(&value), field, format!("must be 1 to {most}"));
    }
    faults.done()?;
    let quantities = wanted(&state, &meter, &body.quantities)?;
    let view = WatchView {
        id: Uuid::now_v7(),
        meter_id: id,
        quantities: quantities.iter().map(|quantity| quantity.name().to_owned()).collect(),
        every_s: body.every_s,
        began_at: now,
        ends_at: now + TimeDelta::seconds(body.for_s.into()),
        reads: 0,
        failures: 0,
        reason: None,
    };
    let over = state.watches.open(caller.account()?, view.clone())?;
    let length = Duration::from_secs(body.for_s.into());
    tokio::spawn(run(ApiState::clone(&state), view.clone(), quantities, length, over));
    Ok(HttpResponse::Accepted().json(view))
}

/// The watch of a meter, while it lasts.
#[utoipa::path(tag = "readings", params(("id" = i32, Path)), responses((status = 200, body = WatchView)))]
#[get("/meters/{id}/watch")]
async fn get_watch(state: web::Data<ApiState>, caller: Caller, Id(id): Id<MeterId>) -> Result<HttpResponse, ApiError> {
    let found = state.watches.find(caller.account()?, id);
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| ApiError::not_found("watch"))?))
}

/// Ends the watch of a meter.
#[utoipa::path(tag = "readings", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/meters/{id}/watch")]
async fn end_watch(state: web::Data<ApiState>, caller: Caller, Id(id): Id<MeterId>) -> Result<HttpResponse, ApiError> {
    let found = state.watches.find(caller.account()?, id);
    if !found.is_some_and(|watch| state.watches.close(id, Some(watch.id))) {
        return Err(ApiError::not_found("watch"));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(watch_meter).service(get_watch).service(end_watch);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(meter: i32) -> WatchView {
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        WatchView {
            id: Uuid::now_v7(),
            meter_id: MeterId(meter),
            quantities: Vec::new(),
            every_s: 1,
            began_at: now,
            ends_at: now,
            reads: 0,
            failures: 0,
            reason: None,
        }
    }

    #[test]
    fn a_meter_has_one_watch_and_accounts_have_their_own() {
        let desk = WatchDesk::default();
        let (first, second) = (view(7), view(7));
        let over = desk.open(AccountId(1), first.clone()).unwrap();
        assert!(!over.is_cancelled());
        desk.open(AccountId(1), second.clone()).unwrap();
        assert!(over.is_cancelled(), "the one before is over");
        assert!(!desk.close(MeterId(7), Some(first.id)), "and ends nobody else's");
        desk.note(MeterId(7), first.id, None);
        desk.note(MeterId(7), second.id, Some(&ReadFailure::Busy));
        assert_eq!(desk.find(AccountId(2), MeterId(7)), None);
        let found = desk.find(AccountId(1), MeterId(7)).unwrap();
        assert_eq!(
            (found.reads, found.failures, found.reason.as_deref()),
            (0, 1, Some("busy"))
        );
        assert!(desk.close(MeterId(7), None));
    }

    #[test]
    fn one_account_cannot_take_all_watches() {
        let desk = WatchDesk::default();
        for meter in 0..i32::try_from(ACCOUNT_MAX).unwrap() {
            desk.open(AccountId(1), view(meter)).unwrap();
        }
        assert_eq!(
            desk.open(AccountId(1), view(999)).unwrap_err().kind(),
            Kind::TooManyRequests
        );
        assert!(desk.open(AccountId(1), view(0)).is_ok(), "in place of one's own");
        assert!(desk.open(AccountId(2), view(1000)).is_ok());
    }

    #[test]
    fn beats_that_are_missed_are_left_out_and_the_line_rests_as_long_as_it_worked() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let every = Duration::from_secs(1);
        assert_eq!(next_beat(at(0), every, at(0), at(100)), at(1000));
        assert_eq!(
            next_beat(at(0), every, at(0), at(700)),
            at(2000),
            "1400 ms: half of the line's time"
        );
        assert_eq!(next_beat(at(1000), every, at(4000), at(5200)), at(7000));
    }
}

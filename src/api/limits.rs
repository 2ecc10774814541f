//! How much one caller may ask for: requests per second of a key or session, and how many heavy operations of an account
//! run at once, so that one account's reports never take the database from another's reads.
//!
//! Heavy operations of an account queue for its few places, first come first served, and then for the places that all
//! accounts share; as one account holds at most its own few of those, the others' turns come. Everything is bounded:
//! buckets kept, requests that wait, and for how long.

use super::ApiState;
use super::access::{self, Verdict};
use super::auth::Caller;
use super::problem::{ApiError, Kind};
use crate::base::ids::AccountId;
use crate::port::auth::TokenHash;
use crate::telemetry::api::{RequestLimited, WhichLimit};
use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError, web};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Operations that read much: each may scan a year of an account.
pub const HEAVY: &[&str] = &[
    "get_series",
    "point_consumption",
    "meter_consumption",
    "line_loss",
    "summarise_slots",
    "get_profile",
    "try_alarm_rule",
];
/// Buckets kept; a full one need not be.
pub const BUCKETS_MAX: usize = 20_000;
/// A heavy operation waits so long for its turn, then it is refused.
pub const TURN: Duration = Duration::from_secs(20);
/// What a refused one is told to wait, seconds.
const HEAVY_RETRY_S: u64 = 5;

/// Bounds, from `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests per second of one key or session; 0: any number.
    pub requests_per_s: u32,
    /// So many may come at once.
    pub requests_burst: u32,
    /// Heavy operations of one account at once.
    pub heavy_per_account: usize,
    /// Of all accounts.
    pub heavy_total: usize,
    /// Of one account, running and waiting.
    pub heavy_waiting_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            requests_per_s: 0,
            requests_burst: 1,
            heavy_per_account: 2,
            heavy_total: 4,
            heavy_waiting_max: 32,
        }
    }
}

/// The counters. Bounded.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    /// When the bucket of a key is full again (GCRA: the theoretical arrival time).
    buckets: Mutex<HashMap<TokenHash, Instant>>,
    lanes: Mutex<HashMap<Option<AccountId>, Lane>>,
    total: Arc<Semaphore>,
}

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    inside: usize,
}

/// A place among the heavy operations; dropped, it is free.
#[derive(Debug)]
pub struct Turn {
    limits: Arc<Limits>,
    account: Option<AccountId>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permits.clear();
        let mut lanes = lock(&self.limits.lanes);
        if let Some(lane) = lanes.get_mut(&self.account) {
            lane.inside = lane.inside.saturating_sub(1);
            if lane.inside == 0 {
                lanes.remove(&self.account);
            }
        }
    }
}

impl Limits {
    /// With these bounds.
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            settings,
            buckets: Mutex::default(),
            lanes: Mutex::default(),
            total: Arc::new(Semaphore::new(settings.heavy_total.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }

    /// Takes a token of the key's bucket.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&self, key: &TokenHash, now: Instant) -> Result<(), Duration> {
        if self.settings.requests_per_s == 0 {
            return Ok(());
        }
        let every = Duration::from_secs(1) / self.settings.requests_per_s;
        let depth = every.saturating_mul(self.settings.requests_burst.max(1));
        let mut buckets = lock(&self.buckets);
        let full_at = buckets.get(key).copied().unwrap_or(now).max(now) + every;
        let ahead = full_at.saturating_duration_since(now);
        if ahead > depth {
            return Err(ahead.saturating_sub(depth));
        }
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(key) {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= BUCKETS_MAX {
                // the fullest one loses least by being forgotten
                let fullest = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| *key);
                fullest.and_then(|key| buckets.remove(&key));
            }
        }
        buckets.insert(*key, full_at);
        Ok(())
    }

    /// Waits for a place among the heavy operations.
    ///
    /// # Errors
    /// `too-many-requests`: too many of the account wait already, or its turn did not come.
    pub async fn turn(self: &Arc<Self>, account: Option<AccountId>) -> Result<Turn, ApiError> {
        let (mut turn, places) = self.queue(account)?;
        let total = Arc::clone(&self.total);
        let both = async {
            let own = places.acquire_owned().await;
            let shared = total.acquire_owned().await;
            [own, shared]
        };
        let permits = tokio::time::timeout(TURN, both)
            .await
            .map_err(|_| busy("reports of this account are under way and took too long to wait for"))?;
        turn.permits = permits.into_iter().flatten().collect();
        Ok(turn)
    }

    fn queue(self: &Arc<Self>, account: Option<AccountId>) -> Result<(Turn, Arc<Semaphore>), ApiError> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry(account).or_insert_with(|| Lane {
            places: Arc::new(Semaphore::new(
                self.settings.heavy_per_account.clamp(1, Semaphore::MAX_PERMITS),
            )),
            inside: 0,
        });
        if lane.inside >= self.settings.heavy_waiting_max.max(1) {
            return Err(busy("too many reports of this account are under way"));
        }
        lane.inside += 1;
        let turn = Turn {
            limits: Arc::clone(self),
            account,
            permits: Vec::new(),
        };
        Ok((turn, Arc::clone(&lane.places)))
    }
}

fn busy(text: &str) -> ApiError {
    RequestLimited {
        which: WhichLimit::Heavy,
    }
    .emit();
    ApiError::new(Kind::TooManyRequests, text).retry_after(HEAVY_RETRY_S)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The middleware behind the guard: who calls is known.
pub(super) async fn gate<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    match admit(&request).await {
        // the place is held until the answer's head is there: answers are made whole before
        Ok(_turn) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(problem) => {
            let response = problem.error_response();
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

async fn admit(request: &ServiceRequest) -> Result<Option<Turn>, ApiError> {
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(caller), Some(state)) = (caller, request.app_data::<web::Data<ApiState>>()) else {
        return Ok(None);
    };
    let (_, key) = caller.token();
    state.limits.take(key, state.clock.monotonic()).map_err(|wait| {
        RequestLimited {
            which: WhichLimit::Rate,
        }
        .emit();
        let detail = format!(
            "this key or session may send {} requests a second",
            state.limits.settings.requests_per_s
        );
        ApiError::new(Kind::TooManyRequests, detail).retry_after(wait.as_secs() + 1)
    })?;
    let route = request.match_pattern();
    let route = route.as_deref().and_then(|pattern| pattern.strip_prefix(super::BASE));
    match route.map(|route| access::find(request.method(), route)) {
        Some(Verdict::Operation(operation)) if HEAVY.contains(&operation.id) => {
            state.limits.turn(caller.account).await.map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn key(number: usize) -> TokenHash {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    fn limits(settings: LimitSettings) -> Arc<Limits> {
        Arc::new(Limits::new(settings))
    }

    #[test]
    fn heavy_operations_are_operations() {
        for id in HEAVY {
            assert!(access::OPERATIONS.iter().any(|row| row.id == *id), "{id}");
        }
    }

    #[test]
    fn a_key_has_its_rate_and_its_burst_and_no_other_key_pays_for_it() {
        let limits = limits(LimitSettings {
            requests_per_s: 10,
            requests_burst: 5,
            ..LimitSettings::default()
        });
        let (ann, bob) = (key(1), key(2));
        let mut now = Instant::now();
        for _ in 0..5 {
            assert_eq!(limits.take(&ann, now), Ok(()));
        }
        assert_eq!(limits.take(&ann, now), Err(Duration::from_millis(100)));
        assert_eq!(limits.take(&bob, now), Ok(()));
        now += Duration::from_millis(100);
        assert_eq!(limits.take(&ann, now), Ok(()), "what was refused costs nothing");
        assert!(limits.take(&ann, now).is_err());
        // over ten seconds: ten a second, whatever is tried
        let mut passed = 0;
        for _ in 0..1000 {
            now += Duration::from_millis(10);
            passed += u32::from(limits.take(&ann, now).is_ok());
        }
        assert_eq!(passed, 100);
        now += Duration::from_secs(3600);
        let at_once = (0..100).filter(|_| limits.take(&ann, now).is_ok()).count();
        assert_eq!(at_once, 5, "rest is not saved up");
    }

    #[test]
    fn buckets_are_bounded() {
        let limits = limits(LimitSettings {
            requests_per_s: 1,
            requests_burst: 5,
            ..LimitSettings::default()
        });
        let now = Instant::now();
        let greedy = key(BUCKETS_MAX + 100);
        for _ in 0..5 {
            limits.take(&greedy, now).unwrap();
        }
        for other in 0..BUCKETS_MAX + 100 {
            limits.take(&key(other), now).unwrap();
        }
        assert_eq!(lock(&limits.buckets).len(), BUCKETS_MAX);
        assert!(
            limits.take(&greedy, now).is_err(),
            "the emptiest bucket is not the one that is forgotten"
        );
    }

    #[tokio::test]
    async fn one_account_takes_its_places_and_others_theirs() {
        let limits = limits(LimitSettings {
            heavy_per_account: 2,
            heavy_total: 3,
            heavy_waiting_max: 4,
            ..LimitSettings::default()
        });
        let (ann, bob) = (Some(AccountId(1)), Some(AccountId(2)));
        let first = limits.turn(ann).await.unwrap();
        let _second = limits.turn(ann).await.unwrap();
        let mut third = Box::pin(limits.turn(ann));
        let mut fourth = Box::pin(limits.turn(ann));
        assert!((&mut third).now_or_never().is_none(), "two of an account");
        assert!((&mut fourth).now_or_never().is_none());
        let refused = limits.turn(ann).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests, "and two that wait");
        let bobs = limits
            .turn(bob)
            .now_or_never()
            .expect("another account does not wait")
            .unwrap();
        drop(first);
        let third = (&mut third).now_or_never().expect("first come, first served").unwrap();
        assert!((&mut fourth).now_or_never().is_none());
        drop(fourth); // whoever goes away while waiting leaves no trace
        drop((third, bobs, _second));
        assert!(lock(&limits.lanes).is_empty());
        assert_eq!(limits.total.available_permits(), 3);
    }
}

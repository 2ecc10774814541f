//! `/summary`: the counters of a front page in one call.

use super::ApiState;
use super::auth::Caller;
use super::handle::In;
use super::problem::ApiError;
use super::span;
use crate::port::alarms::AlarmStore;
use crate::port::control::CommandStore;
use crate::port::groups::CountStore;
use crate::port::slots::SlotTally;
use crate::telemetry::spool;
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use utoipa_actix_web::service_config::ServiceConfig;

/// DTUs by live state.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DtuCounts {
    /// All.
    total: i64,
    /// With a session now.
    online: i64,
    /// Without one.
    offline: i64,
}

/// The local log in front of the database, of the whole server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SpoolCounts {
    /// Durable records that the database does not have yet.
    backlog_records: i64,
    /// Bytes on disk.
    bytes: i64,
    /// Bytes that it may take.
    capacity_bytes: i64,
}

/// The counters.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Summary {
    /// When they were counted.
    at: DateTime<Utc>,
    /// DTUs.
    dtus: DtuCounts,
    /// Meters.
    meters: i64,
    /// Slots due since midnight in the account's zone, by ending.
    slots_today: SlotTally,
    /// Open alarms, without those that are a consequence of another.
    open_alarms: i64,
    /// Commands that wait for an approval.
    pending_approvals: i64,
    /// The spool.
    spool: SpoolCounts,
}

/// The first instant of today in the zone.
fn midnight(now: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let today = now.with_timezone(&zone).date_naive();
    // where midnight does not exist the day begins after the gap
    (0..=180)
        .find_map(|minute| {
            zone.from_local_datetime(&today.and_hms_opt(minute / 60, minute % 60, 0)?)
                .earliest()
        })
        .map_or(now, |local| local.with_timezone(&Utc))
}

/// The counters of a front page.
#[utoipa::path(tag = "summary", responses((status = 200, body = Summary)))]
#[get("/summary")]
async fn get_summary(
    state: web::Data<ApiState>,
    caller: Caller,
    counts: In<dyn CountStore>,
    commands: In<dyn CommandStore>,
    alarms: In<dyn AlarmStore>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let zone = span::zone(&state, &caller, None).await?;
    let stored = counts.counts(midnight(now, zone), now).await?;
    let live = state.fleet.counts(Some(caller.account()?)).await;
    let online = i64::try_from(live.online).unwrap_or(i64::MAX).min(stored.dtus);
    Ok(HttpResponse::Ok().json(Summary {
        at: now,
        dtus: DtuCounts {
            total: stored.dtus,
            online,
            offline: stored.dtus.saturating_sub(online),
        },
        meters: stored.meters,
        slots_today: stored.slots_today,
        open_alarms: alarms.open_count().await?,
        pending_approvals: commands.pending_approvals().await?,
        spool: SpoolCounts {
            backlog_records: spool::SPOOL_BACKLOG.get(),
            bytes: spool::SPOOL_BYTES.get(),
            capacity_bytes: spool::SPOOL_CAPACITY.get(),
        },
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(get_summary);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_of_the_zone() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let day = |now, zone| midnight(at(now), zone);
        assert_eq!(
            day("2026-03-01T00:30:00Z", chrono_tz::Europe::Berlin),
            at("2026-02-28T23:00:00Z")
        );
        // 29 March 2026 in Beirut begins at 01:00: the clock jumps at midnight
        assert_eq!(
            day("2026-03-29T12:00:00Z", chrono_tz::Asia::Beirut),
            at("2026-03-28T22:00:00Z")
        );
    }
}

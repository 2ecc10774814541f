//! `/schedules`: cron expressions, intervals and settlement days in a named zone; made, edited by dated rules, looked
//! ahead.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedule_form::{ScheduleBody, ScheduleEditBody, SettlementBody};
use super::span;
use crate::base::ids::{CalendarId, ScheduleId};
use crate::domain::device::{MissedRun, Overlap, RetryPolicy, SlotPriority};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{DayRule, Timing};
use crate::port::schedules::{Schedule, ScheduleStore};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "schedules";
/// Due times that `/next` shows at most.
const NEXT_MAX: u32 = 1000;

/// A schedule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ScheduleView {
    /// Its id.
    #[schema(value_type = i32)]
    id: ScheduleId,
    /// Its name.
    name: String,
    /// The cron expression as it was written; null for another timing.
    cron: Option<String>,
    /// The interval, minutes; null for another timing.
    every_min: Option<u16>,
    /// The settlement day and time; null for another timing.
    settlement: Option<SettlementBody>,
    /// IANA zone.
    time_zone: String,
    /// The calendar that it heeds.
    #[schema(value_type = Option<i32>)]
    calendar: Option<CalendarId>,
    /// On which of the calendar's days.
    #[schema(value_type = String, example = "every_day")]
    days: DayRule,
    /// Wanted quantities; none: all of the meter's model.
    #[schema(value_type = Vec<String>)]
    quantities: Vec<Quantity>,
    /// Spread, seconds.
    spread_s: u32,
    /// Window, seconds.
    window_s: u32,
    /// Retries.
    #[schema(inline)]
    retry: RetryView,
    /// Policy for missed slots.
    #[schema(value_type = String)]
    missed_run: MissedRun,
    /// Policy for slots that run into each other.
    #[schema(value_type = String, example = "queue_one")]
    overlap: Overlap,
    /// The place in the line's queue.
    #[schema(value_type = String, example = "scheduled")]
    priority: SlotPriority,
    /// Since when this rule is in force; what was due before followed the rules before.
    valid_from: DateTime<Utc>,
    /// Meters that it applies to now.
    meters: i64,
    /// The next due time.
    next_at: Option<DateTime<Utc>>,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

/// Retries within the window.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RetryView {
    /// Attempts on the line per transaction.
    attempts: u8,
    /// Wait before the poll is tried again, doubled each time, seconds.
    backoff_s: u32,
    /// No attempt begins later than this after the due time, seconds.
    deadline_s: u32,
    /// No new poll begins for a slot that has cost so many attempts on the line; null: no bound.
    budget: Option<u16>,
}

impl From<RetryPolicy> for RetryView {
    fn from(retry: RetryPolicy) -> Self {
        Self {
            attempts: retry.attempts,
            backoff_s: retry.backoff_s,
            deadline_s: retry.deadline_s,
            budget: retry.budget,
        }
    }
}

fn view(schedule: Schedule, now: DateTime<Utc>) -> ScheduleView {
    let next_at = schedule.recurrence().ok().and_then(|when| when.next_after(now));
    let spec = schedule.spec;
    let (mut cron, mut every_min, mut settlement) = (None, None, None);
    match spec.timing {
        Timing::Cron(text) => cron = Some(text),
        Timing::EveryMinutes(minutes) => every_min = Some(minutes),
        Timing::Settlement(at) => settlement = Some(at.into()),
    }
    ScheduleView {
        id: schedule.id,
        name: spec.name,
        cron,
        every_min,
        settlement,
        time_zone: spec.time_zone,
        calendar: spec.calendar,
        days: spec.days,
        quantities: spec.quantities,
        spread_s: spec.spread_s,
        window_s: spec.window_s,
        retry: spec.retry.into(),
        missed_run: spec.missed_run,
        overlap: spec.overlap,
        priority: spec.priority,
        valid_from: schedule.valid_from,
        meters: schedule.meters,
        next_at,
        created_at: schedule.created_at,
        version: schedule.version,
    }
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

impl ListQuery {
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

/// How far to look ahead.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NextQuery {
    /// How many due times, 1 to 1000; default 20.
    count: Option<u32>,
    /// After which instant; default now.
    after: Option<DateTime<Utc>>,
}

/// The schedules of the account.
#[utoipa::path(tag = "schedules", params(ListQuery), responses((status = 200, body = Page<ScheduleView>)))]
#[get("/schedules")]
async fn list_schedules(
    state: web::Data<ApiState>,
    schedules: In<dyn ScheduleStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    let rows = schedules.list(request.after.map(ScheduleId), request.fetch()).await?;
    let now = state.clock.now();
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0).map(|row| view(row, now))))
}

/// Makes a schedule. It reads nothing until it is given to an account, a DTU or a meter.
#[utoipa::path(tag = "schedules", request_body = ScheduleBody, responses((status = 201, body = ScheduleView)))]
#[post("/schedules")]
async fn create_schedule(
    state: web::Data<ApiState>,
    caller: Caller,
    schedules: In<dyn ScheduleStore>,
    Body(body): Body<ScheduleBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let now = state.clock.now();
    let mut faults = Faults::new();
    faults.check(body.name.is_some(), "name", "missing field `name`");
    let spec = body.spec("", zone, now, &mut faults);
    faults.done()?;
    let spec = spec.ok_or_else(|| ApiError::new(Kind::Internal, "a schedule without faults has no rule"))?;
    let made = schedules.create(&spec, now).await?;
    Ok(tagged(HttpResponse::Created(), made.version, &view(made, now)))
}

/// A schedule.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), responses((status = 200, body = ScheduleView)))]
#[get("/schedules/{id}")]
async fn get_schedule(
    state: web::Data<ApiState>,
    schedules: In<dyn ScheduleStore>,
    Id(id): Id<ScheduleId>,
) -> Result<HttpResponse, ApiError> {
    let found = schedules.get(id).await?;
    Ok(tagged(
        HttpResponse::Ok(),
        found.version,
        &view(found, state.clock.now()),
    ))
}

/// Edits a schedule: from now on the new rule is in force; what was due before stays as it was.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), request_body = ScheduleEditBody,
    responses((status = 200, body = ScheduleView)))]
#[patch("/schedules/{id}")]
async fn edit_schedule(
    state: web::Data<ApiState>,
    schedules: In<dyn ScheduleStore>,
    Id(id): Id<ScheduleId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ScheduleEditBody>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let before = schedules.get(id).await?;
    // an edit of `*` is made from what was just read, so a change in between is still seen
    let version = expected.version().unwrap_or(before.version);
    let spec = body.apply(before.spec, now)?;
    let change = schedules.update(id, &spec, Some(version), now).await?;
    for dtu in change.dtus {
        state.fleet.reload(dtu).await;
    }
    let schedule = change.schedule;
    Ok(tagged(HttpResponse::Ok(), schedule.version, &view(schedule, now)))
}

/// Deletes a schedule that nothing is assigned to.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/schedules/{id}")]
async fn delete_schedule(
    state: web::Data<ApiState>,
    schedules: In<dyn ScheduleStore>,
    Id(id): Id<ScheduleId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    schedules.delete(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The next due times of a schedule, by the rule that polls, daylight saving time and calendar included.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path), NextQuery),
    responses((status = 200, body = Page<String>)))]
#[get("/schedules/{id}/next")]
async fn next_due(
    state: web::Data<ApiState>,
    schedules: In<dyn ScheduleStore>,
    Id(id): Id<ScheduleId>,
    Query(query): Query<NextQuery>,
) -> Result<HttpResponse, ApiError> {
    let count = query.count.unwrap_or(20);
    if !(1..=NEXT_MAX).contains(&count) {
        return Err(ApiError::bad_query(
            "count",
            format!("must be 1 to {NEXT_MAX}, this is {count}"),
        ));
    }
    let schedule = schedules
        .get(id)
        .await?
        .recurrence()
        .map_err(|error| ApiError::new(Kind::Internal, error.to_string()))?;
    let mut due = query.after.unwrap_or_else(|| state.clock.now());
    let mut items = Vec::new();
    while items.len() < count as usize
        && let Some(next) = schedule.next_after(due)
    {
        items.push(next);
        due = next;
    }
    Ok(HttpResponse::Ok().json(Page {
        items,
        next: None,
        total: None,
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_schedules)
        .service(create_schedule)
        .service(get_schedule)
        .service(edit_schedule)
        .service(delete_schedule)
        .service(next_due);
}

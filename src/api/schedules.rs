//! `/schedules`: cron expressions in a named zone; made, edited by dated rules, looked ahead.

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, nullable};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::span;
use crate::base::ids::ScheduleId;
use crate::domain::device::{MissedRun, RetryPolicy};
use crate::domain::quantity::Quantity;
use crate::domain::schedule::{CompiledSchedule, check_rule};
use crate::port::meters::ScheduleChoice;
use crate::port::schedules::{Schedule, ScheduleSpec, ScheduleStore};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "schedules";
/// Due times that `/next` shows at most.
const NEXT_MAX: u32 = 1000;
const NAME_MAX: usize = 200;
/// Defaults, as far as the expression leaves room for them, seconds.
const WINDOW_S: u32 = 300;
const SPREAD_S: u32 = 30;

/// Retries within the window. What is left out has its default.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// Attempts on the line per transaction, 1 to 10; default 3.
    attempts: Option<u8>,
    /// Wait before the poll is tried again, doubled each time, seconds, 1 to 3600; default 5.
    backoff_s: Option<u32>,
    /// No attempt begins later than this after the due time, seconds; default the window.
    deadline_s: Option<u32>,
}

/// A schedule to be made.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleBody {
    /// Its name; in place (in a meter or DTU) it may be left out.
    #[schema(example = "quarter hours")]
    name: Option<String>,
    /// Cron expression of 5 fields, or 6 with seconds in front.
    #[schema(example = "*/15 * * * *")]
    cron: String,
    /// IANA zone; default the account's.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// Wanted quantities; none: all of the meter's model.
    #[serde(default)]
    quantities: Vec<String>,
    /// Polls are spread over this many seconds after the due time; default 30, or a quarter of a shorter interval.
    spread_s: Option<u32>,
    /// A read that begins within this many seconds after the due time is `actual`; default 300, or a shorter interval.
    window_s: Option<u32>,
    /// Retries.
    #[serde(default)]
    retry: RetryBody,
    /// What happens with slots that became due while nobody could read; default `once`.
    #[serde(default)]
    #[schema(value_type = String, example = "once")]
    missed_run: MissedRun,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEditBody {
    /// Another name.
    name: Option<String>,
    /// Another expression.
    cron: Option<String>,
    /// Another zone.
    time_zone: Option<String>,
    /// Other quantities; null or none: all of the meter's model.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>)]
    quantities: Option<Option<Vec<String>>>,
    /// Another spread, seconds.
    spread_s: Option<u32>,
    /// Another window, seconds.
    window_s: Option<u32>,
    /// Other retries; what is left out stays.
    #[serde(default)]
    retry: RetryBody,
    /// Another policy for missed slots.
    #[schema(value_type = Option<String>)]
    missed_run: Option<MissedRun>,
}

/// A schedule where a meter or DTU takes one: the id of one, or one in place.
#[derive(Clone, Debug)]
pub enum ScheduleRef {
    /// One that exists.
    Id(ScheduleId),
    /// One to be made with it.
    InPlace(Box<ScheduleBody>),
}

impl PartialSchema for ScheduleRef {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(<i32 as PartialSchema>::schema())
            .item(Ref::from_schema_name(ScheduleBody::name()))
            .description(Some("The id of a schedule, or a schedule to be made in place."))
            .into()
    }
}

impl ToSchema for ScheduleRef {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ScheduleBody::name().into_owned(), ScheduleBody::schema()));
        ScheduleBody::schemas(schemas);
    }
}

impl<'de> Deserialize<'de> for ScheduleRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ScheduleRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of a schedule, or a schedule as an object")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<ScheduleRef, E> {
                i32::try_from(id)
                    .map(|id| ScheduleRef::Id(ScheduleId(id)))
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(id), &self))
            }

            // the members are read by the object's own rules, so that a fault in one of them is named
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ScheduleRef, A::Error> {
                ScheduleBody::deserialize(MapAccessDeserializer::new(map))
                    .map(|body| ScheduleRef::InPlace(Box::new(body)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl ScheduleRef {
    /// Checks it; `field` is where it stands in the body, `owner` names one that has no name.
    pub(super) fn choice(
        &self,
        field: &str,
        owner: &str,
        zone: Tz,
        now: DateTime<Utc>,
        faults: &mut Faults,
    ) -> Option<ScheduleChoice> {
        match self {
            Self::Id(id) => Some(ScheduleChoice::Existing(*id)),
            Self::InPlace(body) => {
                let named = ScheduleBody {
                    name: Some(
                        body.name
                            .clone()
                            .unwrap_or_else(|| owner.chars().take(NAME_MAX).collect()),
                    ),
                    ..(**body).clone()
                };
                named
                    .spec(&format!("{field}."), zone, now, faults)
                    .map(ScheduleChoice::InPlace)
            }
        }
    }
}

/// Quantities by name; faults name the place in the list.
pub(super) fn quantities(prefix: &str, names: &[String], faults: &mut Faults) -> Vec<Quantity> {
    let mut found = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match Quantity::by_name(name) {
            Some(quantity) => found.push(quantity),
            None => faults.check(
                false,
                &format!("{prefix}quantities[{index}]"),
                format!("{name:?} is not in the list of quantities"),
            ),
        }
    }
    found
}

/// Window and spread that fit between two due times.
fn timing(cron: &str, time_zone: &str, now: DateTime<Utc>) -> (u32, u32) {
    let interval = CompiledSchedule::parse(cron, time_zone).ok().and_then(|schedule| {
        let first = schedule.next_after(now)?;
        let second = schedule.next_after(first)?;
        u32::try_from((second - first).num_seconds()).ok()
    });
    let interval = interval.unwrap_or(u32::MAX).max(1);
    (WINDOW_S.min(interval), SPREAD_S.min(interval / 4))
}

impl ScheduleBody {
    fn spec(&self, prefix: &str, zone: Tz, now: DateTime<Utc>, faults: &mut Faults) -> Option<ScheduleSpec> {
        let time_zone = self.time_zone.clone().unwrap_or_else(|| zone.name().to_owned());
        let (window_s, spread_s) = timing(&self.cron, &time_zone, now);
        let window_s = self.window_s.unwrap_or(window_s);
        let default = RetryPolicy::default();
        let spec = ScheduleSpec {
            name: self.name.clone().unwrap_or_default(),
            cron: self.cron.clone(),
            time_zone,
            quantities: quantities(prefix, &self.quantities, faults),
            spread_s: self.spread_s.unwrap_or(spread_s.min(window_s)),
            window_s,
            retry: RetryPolicy {
                attempts: self.retry.attempts.unwrap_or(default.attempts),
                backoff_s: self.retry.backoff_s.unwrap_or(default.backoff_s),
                deadline_s: self.retry.deadline_s.unwrap_or(window_s),
            },
            missed_run: self.missed_run,
        };
        check(&spec, prefix, now, faults).then_some(spec)
    }
}

/// Notes every fault of a schedule; false when there is one.
fn check(spec: &ScheduleSpec, prefix: &str, now: DateTime<Utc>, faults: &mut Faults) -> bool {
    faults.text(&format!("{prefix}name"), &spec.name, NAME_MAX);
    match check_rule(&spec.rule(now)) {
        Ok(_) => true,
        Err(found) => {
            for fault in found.0 {
                faults.check(false, &format!("{prefix}{}", fault.field), fault.message);
            }
            false
        }
    }
}

impl ScheduleEditBody {
    fn apply(self, mut spec: ScheduleSpec, now: DateTime<Utc>) -> Result<ScheduleSpec, ApiError> {
        let mut faults = Faults::new();
        if let Some(names) = self.quantities {
            spec.quantities = quantities("", &names.unwrap_or_default(), &mut faults);
        }
        spec.name = self.name.unwrap_or(spec.name);
        spec.cron = self.cron.unwrap_or(spec.cron);
        spec.time_zone = self.time_zone.unwrap_or(spec.time_zone);
        spec.spread_s = self.spread_s.unwrap_or(spec.spread_s);
        spec.window_s = self.window_s.unwrap_or(spec.window_s);
        spec.retry.attempts = self.retry.attempts.unwrap_or(spec.retry.attempts);
        spec.retry.backoff_s = self.retry.backoff_s.unwrap_or(spec.retry.backoff_s);
        spec.retry.deadline_s = self.retry.deadline_s.unwrap_or(spec.retry.deadline_s);
        spec.missed_run = self.missed_run.unwrap_or(spec.missed_run);
        check(&spec, "", now, &mut faults);
        faults.done()?;
        Ok(spec)
    }
}

/// A schedule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ScheduleView {
    /// Its id.
    #[schema(value_type = i32)]
    id: ScheduleId,
    /// Its name.
    name: String,
    /// The cron expression as it was written.
    cron: String,
    /// IANA zone.
    time_zone: String,
    /// Wanted quantities; none: all of the meter's model.
    #[schema(value_type = Vec<String>)]
    quantities: Vec<Quantity>,
    /// Spread, seconds.
    spread_s: u32,
    /// Window, seconds.
    window_s: u32,
    /// Retries.
    #[schema(value_type = RetryBody)]
    retry: RetryPolicy,
    /// Policy for missed slots.
    #[schema(value_type = String)]
    missed_run: MissedRun,
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

fn view(schedule: Schedule, now: DateTime<Utc>) -> ScheduleView {
    let spec = schedule.spec;
    let next_at = CompiledSchedule::parse(&spec.cron, &spec.time_zone)
        .ok()
        .and_then(|when| when.next_after(now));
    ScheduleView {
        id: schedule.id,
        name: spec.name,
        cron: spec.cron,
        time_zone: spec.time_zone,
        quantities: spec.quantities,
        spread_s: spec.spread_s,
        window_s: spec.window_s,
        retry: spec.retry,
        missed_run: spec.missed_run,
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

/// The next due times of a schedule, by the rule that polls, daylight saving time included.
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
    let spec = schedules.get(id).await?.spec;
    let schedule = CompiledSchedule::parse(&spec.cron, &spec.time_zone)
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

//! `/calendars`: working days and holidays of an account, which schedules heed; edited by dated versions.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use super::span;
use crate::base::ids::CalendarId;
use crate::domain::schedule::{Calendar, Holiday, Weekdays};
use crate::port::calendars::{CalendarSpec, CalendarStore, StoredCalendar};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, NaiveDate, Utc, Weekday};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "calendars";
const NAME_MAX: usize = 200;

/// A holiday: a date, or a date and its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a holiday is a date such as \"2026-12-25\", or {\"date\": \"2026-12-25\", \"name\": \"…\"}"
)]
pub enum HolidayBody {
    /// The date alone.
    Date(NaiveDate),
    /// With its name.
    Named(HolidayView),
}

/// A holiday and its name.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HolidayView {
    /// When.
    #[schema(value_type = String, format = Date, example = "2026-12-25")]
    date: NaiveDate,
    /// Its name, for people.
    #[serde(default)]
    name: Option<String>,
}

impl From<HolidayBody> for Holiday {
    fn from(body: HolidayBody) -> Self {
        match body {
            HolidayBody::Date(date) => Self {
                date,
                name: String::new(),
            },
            HolidayBody::Named(named) => Self {
                date: named.date,
                name: named.name.unwrap_or_default(),
            },
        }
    }
}

/// A calendar to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarBody {
    /// Its name.
    #[schema(example = "Bavaria")]
    name: String,
    /// IANA zone whose dates are meant; default the account's.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// Working weekdays, `mon` to `sun`; default Monday to Friday.
    #[schema(example = json!(["mon", "tue", "wed", "thu", "fri"]))]
    working_weekdays: Option<Vec<String>>,
    /// Holidays: dates, or objects with `date` and `name`.
    #[serde(default)]
    #[schema(value_type = Vec<HolidayView>)]
    holidays: Vec<HolidayBody>,
    /// Dates that are worked though their weekday is none.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["2026-10-10"]))]
    working_days: Vec<NaiveDate>,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CalendarEditBody {
    /// Another name.
    name: Option<String>,
    /// Another zone.
    time_zone: Option<String>,
    /// Other working weekdays.
    working_weekdays: Option<Vec<String>>,
    /// Other holidays, all of them.
    #[schema(value_type = Option<Vec<HolidayView>>)]
    holidays: Option<Vec<HolidayBody>>,
    /// Other extra working days, all of them.
    #[schema(value_type = Option<Vec<String>>)]
    working_days: Option<Vec<NaiveDate>>,
}

/// A calendar.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CalendarView {
    /// Its id.
    #[schema(value_type = i32)]
    id: CalendarId,
    /// Its name.
    name: String,
    /// IANA zone whose dates are meant.
    time_zone: String,
    /// Working weekdays.
    working_weekdays: Vec<String>,
    /// Holidays, by date.
    holidays: Vec<HolidayView>,
    /// Dates that are worked though their weekday is none, by date.
    #[schema(value_type = Vec<String>)]
    working_days: Vec<NaiveDate>,
    /// Since when it says so; what was due before followed what it said before.
    valid_from: DateTime<Utc>,
    /// Schedules that heed it now.
    schedules: i64,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

impl From<StoredCalendar> for CalendarView {
    fn from(stored: StoredCalendar) -> Self {
        let days = stored.spec.days;
        Self {
            id: stored.id,
            name: stored.spec.name,
            time_zone: days.zone().name().to_owned(),
            working_weekdays: days
                .weekdays()
                .iter()
                .map(|day| day.to_string().to_lowercase())
                .collect(),
            holidays: days
                .holidays()
                .iter()
                .map(|holiday| HolidayView {
                    date: holiday.date,
                    name: Some(holiday.name.clone()).filter(|name| !name.is_empty()),
                })
                .collect(),
            working_days: days.working_days().to_vec(),
            valid_from: stored.valid_from,
            schedules: stored.schedules,
            created_at: stored.created_at,
            version: stored.version,
        }
    }
}

fn weekdays(names: &[String], faults: &mut Faults) -> Weekdays {
    let mut days = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match name.parse::<Weekday>() {
            Ok(day) => days.push(day),
            Err(_) => faults.check(
                false,
                &format!("working_weekdays[{index}]"),
                format!("{name:?} is no weekday; write mon, tue, wed, thu, fri, sat or sun"),
            ),
        }
    }
    days.into_iter().collect()
}

/// Checks name and days; every fault is told.
fn spec(
    name: String,
    zone: &str,
    weekdays: Weekdays,
    holidays: Vec<Holiday>,
    working_days: Vec<NaiveDate>,
    mut faults: Faults,
) -> Result<CalendarSpec, ApiError> {
    faults.text("name", &name, NAME_MAX);
    let days = match Calendar::new(zone, weekdays, holidays, working_days) {
        Ok(days) => Some(days),
        Err(found) => {
            for fault in found {
                faults.check(false, &fault.field, fault.message);
            }
            None
        }
    };
    faults.done()?;
    let days =
        days.ok_or_else(|| ApiError::new(super::problem::Kind::Internal, "a calendar without faults is none"))?;
    Ok(CalendarSpec {
        name,
        days: Arc::new(days),
    })
}

/// The calendars of the account.
#[utoipa::path(tag = "schedules", params(ListQuery), responses((status = 200, body = Page<CalendarView>)))]
#[get("/calendars")]
async fn list_calendars(
    calendars: In<dyn CalendarStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit(), query.cursor())?;
    let rows = calendars.list(request.after.map(CalendarId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0).map(CalendarView::from)))
}

/// Makes a calendar. A schedule heeds it by its `calendar` and `days`.
#[utoipa::path(tag = "schedules", request_body = CalendarBody, responses((status = 201, body = CalendarView)))]
#[post("/calendars")]
async fn create_calendar(
    state: web::Data<ApiState>,
    caller: Caller,
    calendars: In<dyn CalendarStore>,
    Body(body): Body<CalendarBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let mut faults = Faults::new();
    let weekdays = match &body.working_weekdays {
        Some(names) => weekdays(names, &mut faults),
        None => Weekdays::MONDAY_TO_FRIDAY,
    };
    let spec = spec(
        body.name,
        body.time_zone.as_deref().unwrap_or(zone.name()),
        weekdays,
        body.holidays.into_iter().map(Holiday::from).collect(),
        body.working_days,
        faults,
    )?;
    let made = calendars.create(&spec, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Created(), made.version, &CalendarView::from(made)))
}

/// A calendar.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), responses((status = 200, body = CalendarView)))]
#[get("/calendars/{id}")]
async fn get_calendar(calendars: In<dyn CalendarStore>, Id(id): Id<CalendarId>) -> Result<HttpResponse, ApiError> {
    let found = calendars.get(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &CalendarView::from(found)))
}

/// Edits a calendar: from now on schedules heed what it says; what was due before stays as it was.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), request_body = CalendarEditBody,
    responses((status = 200, body = CalendarView)))]
#[patch("/calendars/{id}")]
async fn edit_calendar(
    state: web::Data<ApiState>,
    calendars: In<dyn CalendarStore>,
    Id(id): Id<CalendarId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<CalendarEditBody>,
) -> Result<HttpResponse, ApiError> {
    let before = calendars.get(id).await?;
    // an edit of `*` is made from what was just read, so a change in between is still seen
    let version = expected.version().unwrap_or(before.version);
    let days = before.spec.days;
    let mut faults = Faults::new();
    let weekdays = match &body.working_weekdays {
        Some(names) => weekdays(names, &mut faults),
        None => days.weekdays(),
    };
    let holidays = body.holidays.map(|all| all.into_iter().map(Holiday::from).collect());
    let spec = spec(
        body.name.unwrap_or(before.spec.name),
        body.time_zone.as_deref().unwrap_or(days.zone().name()),
        weekdays,
        holidays.unwrap_or_else(|| days.holidays().to_vec()),
        body.working_days.unwrap_or_else(|| days.working_days().to_vec()),
        faults,
    )?;
    let change = calendars.update(id, &spec, Some(version), state.clock.now()).await?;
    for dtu in change.dtus {
        state.fleet.reload(dtu).await;
    }
    let calendar = change.calendar;
    Ok(tagged(
        HttpResponse::Ok(),
        calendar.version,
        &CalendarView::from(calendar),
    ))
}

/// Deletes a calendar that no schedule refers to.
#[utoipa::path(tag = "schedules", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/calendars/{id}")]
async fn delete_calendar(
    state: web::Data<ApiState>,
    calendars: In<dyn CalendarStore>,
    Id(id): Id<CalendarId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    calendars.delete(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_calendars)
        .service(create_calendar)
        .service(get_calendar)
        .service(edit_calendar)
        .service(delete_calendar);
}

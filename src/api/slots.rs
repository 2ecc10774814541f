//! `/slots`: what was due and how it ended; success rates.

use super::ApiState;
use super::auth::Caller;
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::Query;
use super::span;
use crate::base::ids::{DtuId, MeterId, ScheduleId};
use crate::port::slots::{ShownState, SlotItem, SlotQuery, SlotStore, SlotSummaryItem, SlotSummaryQuery, SummaryBy};
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "slots";
const BACK: TimeDelta = TimeDelta::days(1);
/// The longest span of a list of one meter, and of all meters.
const LONGEST_ONE: TimeDelta = TimeDelta::days(400);
const LONGEST_ALL: TimeDelta = TimeDelta::days(31);
const SUMMARY_BACK: TimeDelta = TimeDelta::days(7);
const SUMMARY_LONGEST: TimeDelta = TimeDelta::days(400);
const SUMMARY_ROWS: u32 = 10_000;

/// The last slot of a page.
type Key = (MeterId, DateTime<Utc>, ScheduleId);

/// Which slots.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SlotParameters {
    /// Of this meter.
    meter_id: Option<i32>,
    /// Due from (included); default a day before `to`.
    from: Option<DateTime<Utc>>,
    /// Due to (excluded); default now, and never later.
    to: Option<DateTime<Utc>>,
    /// `open`, `actual`, `late`, `estimated` or `missing`.
    #[param(inline)]
    state: Option<ShownState>,
    /// Items of a page, 1 to 1000; default 100. A page can be shorter although there are more.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Which summary.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SummaryParameters {
    /// A row per `dtu`, `meter` or `day`; default `day`.
    #[param(inline)]
    #[param(inline)]
    by: Option<SummaryBy>,
    /// Due from (included); default 7 days before `to`.
    from: Option<DateTime<Utc>>,
    /// Due to (excluded); default now.
    to: Option<DateTime<Utc>>,
    /// Only behind this DTU.
    dtu_id: Option<i32>,
    /// Only of this meter.
    meter_id: Option<i32>,
    /// Whose days; default the account's zone.
    time_zone: Option<String>,
}

/// The due slots by meter and due time, each with how it stands.
#[utoipa::path(tag = "slots", params(SlotParameters), responses((status = 200, body = Page<SlotItem>)))]
#[get("/slots")]
async fn list_slots(
    state: web::Data<ApiState>,
    slots: In<dyn SlotStore>,
    Query(query): Query<SlotParameters>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<Key>::new(LIST, query.limit, query.cursor.as_deref())?;
    let longest = if query.meter_id.is_some() {
        LONGEST_ONE
    } else {
        LONGEST_ALL
    };
    let now = state.clock.now();
    let (from, to) = span::span(query.from, query.to, now, BACK, longest)?;
    let wanted = SlotQuery {
        meter: query.meter_id.map(MeterId),
        from,
        to,
        state: query.state,
        after: request.after,
        limit: request.limit(),
    };
    let page = slots.slots(&wanted, now).await?;
    Ok(HttpResponse::Ok().json(request.page_to(page.items, page.next)))
}

/// Success rates by DTU, meter or day. Slots of one meter that fall on one instant and were read count once.
#[utoipa::path(tag = "slots", params(SummaryParameters), responses((status = 200, body = Page<SlotSummaryItem>)))]
#[get("/slots/summary")]
async fn summarise_slots(
    state: web::Data<ApiState>,
    caller: Caller,
    slots: In<dyn SlotStore>,
    Query(query): Query<SummaryParameters>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, query.time_zone.as_deref()).await?;
    let (from, to) = span::span(query.from, query.to, state.clock.now(), SUMMARY_BACK, SUMMARY_LONGEST)?;
    let wanted = SlotSummaryQuery {
        by: query.by.unwrap_or(SummaryBy::Day),
        from,
        to,
        dtu: query.dtu_id.map(DtuId),
        meter: query.meter_id.map(MeterId),
        zone,
        limit: SUMMARY_ROWS,
    };
    Ok(HttpResponse::Ok().json(Page {
        items: slots.summary(&wanted).await?,
        next: None,
        total: None,
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_slots).service(summarise_slots);
}

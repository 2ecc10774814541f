//! Consumption: `/points/{id}/consumption`, whole across meter exchanges, and `/meters/{id}/consumption`.

use super::ApiState;
use super::auth::Caller;
use super::handle::In;
use super::page::Page;
use super::problem::ApiError;
use super::query::{Id, Query};
use super::span;
use crate::base::ids::{MeterId, PointId};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::port::readings::{ConsumptionItem, ConsumptionQuery, ConsumptionSubject, Per, ReadingHistory};
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

/// Which consumption.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsumptionParameters {
    /// From; taken back to the beginning of its slice. Default a day (hours), 31 days (days) or a year (months) before
    /// `to`.
    from: Option<DateTime<Utc>>,
    /// To; taken forward to the end of its slice. Default now.
    to: Option<DateTime<Utc>>,
    /// `hour`, `day` or `month`; default `day`.
    #[param(inline)]
    per: Option<Per>,
    /// Only these registers, separated by commas; none: all that the meters have.
    quantity: Option<String>,
    /// Whose hours, days and months; default the account's zone.
    time_zone: Option<String>,
}

/// The default span and the longest one.
fn spans(per: Per) -> (TimeDelta, TimeDelta) {
    match per {
        Per::Hour => (TimeDelta::days(1), TimeDelta::days(62)),
        Per::Day => (TimeDelta::days(31), TimeDelta::days(800)),
        Per::Month => (TimeDelta::days(365), TimeDelta::days(3_660)),
    }
}

fn registers(names: Option<&str>) -> Result<Vec<Quantity>, ApiError> {
    span::measurands("quantity", names)?
        .into_iter()
        .map(|measurand| match measurand {
            Measurand::Standard(quantity) if quantity.kind() == crate::domain::quantity::Kind::Register => Ok(quantity),
            Measurand::Standard(other) => Err(ApiError::bad_query("quantity", format!("{other} is no register"))),
            Measurand::Vendor(name) => Err(ApiError::bad_query("quantity", format!("{name:?} is no register"))),
        })
        .collect()
}

async fn answer(
    state: &ApiState,
    caller: &Caller,
    history: &dyn ReadingHistory,
    subject: ConsumptionSubject,
    query: ConsumptionParameters,
) -> Result<HttpResponse, ApiError> {
    let per = query.per.unwrap_or(Per::Day);
    let zone = span::zone(state, caller, query.time_zone.as_deref()).await?;
    let (back, longest) = spans(per);
    let (from, to) = span::span(query.from, query.to, state.clock.now(), back, longest)?;
    let wanted = ConsumptionQuery {
        subject,
        quantities: registers(query.quantity.as_deref())?,
        from,
        to,
        per,
        zone,
    };
    Ok(HttpResponse::Ok().json(Page {
        items: history.consumption(&wanted).await?,
        next: None,
        total: None,
    }))
}

/// What was consumed at a metering point, per hour, day or month of the zone; whole across meter exchanges, with
/// transformer ratios.
#[utoipa::path(tag = "points", params(("id" = i32, Path), ConsumptionParameters),
    responses((status = 200, body = Page<ConsumptionItem>)))]
#[get("/points/{id}/consumption")]
async fn point_consumption(
    state: web::Data<ApiState>,
    caller: Caller,
    history: In<dyn ReadingHistory>,
    Id(id): Id<PointId>,
    Query(query): Query<ConsumptionParameters>,
) -> Result<HttpResponse, ApiError> {
    answer(&state, &caller, &*history, ConsumptionSubject::Point(id), query).await
}

/// What one meter measured, per hour, day or month of the zone, with transformer ratios.
#[utoipa::path(tag = "meters", params(("id" = i32, Path), ConsumptionParameters),
    responses((status = 200, body = Page<ConsumptionItem>)))]
#[get("/meters/{id}/consumption")]
async fn meter_consumption(
    state: web::Data<ApiState>,
    caller: Caller,
    history: In<dyn ReadingHistory>,
    Id(id): Id<MeterId>,
    Query(query): Query<ConsumptionParameters>,
) -> Result<HttpResponse, ApiError> {
    answer(&state, &caller, &*history, ConsumptionSubject::Meter(id), query).await
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(point_consumption).service(meter_consumption);
}

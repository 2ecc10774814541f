//! What meters read: `/meters/{id}/readings`, `/meters/{id}/latest`.

use super::ApiState;
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use super::span;
use crate::base::ids::MeterId;
use crate::domain::reading::Reading;
use crate::port::readings::{ReadingHistory, ReadingItem, ReadingPlace, ReadingsQuery, item_of};
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "readings";
/// How far back a list goes when `from` is not given.
const BACK: TimeDelta = TimeDelta::days(1);
/// The longest span of a list; pages bound the work.
const LONGEST: TimeDelta = TimeDelta::days(3660);

/// Which readings.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadingQuery {
    /// From (included): the due time of scheduled readings, the start of others. Default a day before `to`.
    from: Option<DateTime<Utc>>,
    /// To (excluded); default now.
    to: Option<DateTime<Utc>>,
    /// Only these quantities, separated by commas.
    quantity: Option<String>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The items of readings behind `place`, each with the place behind it.
fn flatten(readings: &[Reading], place: Option<ReadingPlace>) -> Vec<(ReadingPlace, ReadingItem)> {
    let mut rows = Vec::new();
    for reading in readings {
        let seen = place.filter(|place| place.ts == reading.ts && place.source == reading.source);
        let skip = seen.map_or(0, |place| place.items);
        for (index, item) in (1u32..).zip(&reading.items).skip(skip as usize) {
            let place = ReadingPlace {
                ts: reading.ts,
                source: reading.source,
                items: index,
            };
            rows.push((place, item_of(reading, item)));
        }
    }
    rows
}

/// The values that a meter read, oldest first.
#[utoipa::path(tag = "readings", params(("id" = i32, Path), ReadingQuery),
    responses((status = 200, body = Page<ReadingItem>)))]
#[get("/meters/{id}/readings")]
async fn list_readings(
    state: web::Data<ApiState>,
    history: In<dyn ReadingHistory>,
    Id(id): Id<MeterId>,
    Query(query): Query<ReadingQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<ReadingPlace>::new(LIST, query.limit, query.cursor.as_deref())?;
    let (from, to) = span::span(query.from, query.to, state.clock.now(), BACK, LONGEST)?;
    let wanted = ReadingsQuery {
        from,
        to,
        measurands: span::measurands("quantity", query.quantity.as_deref())?,
        place: request.after,
        // every reading has at least one item, but for the one that the page before ended in
        limit: request.fetch().saturating_add(1),
    };
    let readings = history.readings(id, &wanted).await?;
    let rows = flatten(&readings, request.after);
    Ok(HttpResponse::Ok().json(request.page(rows, |(place, _)| *place).map(|(_, item)| item)))
}

/// The newest value of each quantity.
#[utoipa::path(tag = "readings", params(("id" = i32, Path)), responses((status = 200, body = Page<ReadingItem>)))]
#[get("/meters/{id}/latest")]
async fn latest_readings(history: In<dyn ReadingHistory>, Id(id): Id<MeterId>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(Page {
        items: history.latest(id).await?,
        next: None,
        total: None,
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_readings).service(latest_readings);
}

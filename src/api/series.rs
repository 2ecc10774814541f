//! `/series`: minimum, maximum and mean per bucket, for charts. Gaps are told, never bridged.

use super::ApiState;
use super::handle::In;
use super::problem::ApiError;
use super::query::Query;
use super::span;
use crate::base::ids::{GroupId, MeterId, PointId};
use crate::domain::reading::Measurand;
use crate::port::readings::{ReadingHistory, SeriesBucket, SeriesQuery, SeriesSubject};
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa_actix_web::service_config::ServiceConfig;

const POINTS: u32 = 1500;
const POINTS_MAX: u32 = 5000;
const BACK: TimeDelta = TimeDelta::days(1);
const LONGEST: TimeDelta = TimeDelta::days(1830);
/// Widths of buckets, seconds: those that people read on an axis.
const WIDTHS: &[u32] = &[
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
];

/// Which series. Exactly one of `meter_id`, `point_id` and `group_id`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesParameters {
    /// Of one meter.
    meter_id: Option<i32>,
    /// Of a metering point, over the meters that stood there.
    point_id: Option<i32>,
    /// Of all meters of a group: statistics over their single values, nothing is summed.
    group_id: Option<i32>,
    /// The quantity.
    quantity: String,
    /// From (included); default a day before `to`.
    from: Option<DateTime<Utc>>,
    /// To (excluded); default now.
    to: Option<DateTime<Utc>>,
    /// At most so many buckets, 1 to 5000; default 1500.
    points: Option<u32>,
}

/// One bucket; a gap has count 0 and null values.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SeriesItem {
    /// Its beginning.
    at: DateTime<Utc>,
    /// Values in it.
    count: u64,
    /// The least, a decimal string.
    min: Option<String>,
    /// The greatest, a decimal string.
    max: Option<String>,
    /// The mean, a decimal string.
    mean: Option<String>,
}

/// A series.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Series {
    /// The quantity.
    quantity: String,
    /// Its unit; null for vendor quantities.
    unit: Option<&'static str>,
    /// Beginning of the first bucket.
    from: DateTime<Utc>,
    /// End of the span that was asked for.
    to: DateTime<Utc>,
    /// Width of a bucket, seconds.
    bucket_s: u32,
    /// Every bucket, gaps included, oldest first.
    items: Vec<SeriesItem>,
}

/// The width with which at most `points` buckets cover the span, and where the first one begins.
fn buckets(from: DateTime<Utc>, to: DateTime<Utc>, points: u32) -> (DateTime<Utc>, u32) {
    let seconds = (to - from).num_seconds().max(1).unsigned_abs();
    let least = u32::try_from(seconds.div_ceil(u64::from(points.max(1)))).unwrap_or(u32::MAX);
    let mut last = least;
    for width in WIDTHS.iter().copied().filter(|width| *width >= least).chain([least]) {
        last = width;
        let begin = aligned(from, width);
        let count = (to - begin)
            .num_milliseconds()
            .max(0)
            .unsigned_abs()
            .div_ceil(u64::from(width) * 1000);
        if count <= u64::from(points) {
            return (begin, width);
        }
    }
    (from, last)
}

/// The last multiple of `width` seconds at or before `at`.
fn aligned(at: DateTime<Utc>, width: u32) -> DateTime<Utc> {
    let seconds = at.timestamp().div_euclid(i64::from(width)) * i64::from(width);
    DateTime::from_timestamp(seconds, 0).unwrap_or(at)
}

/// Every bucket of the span, those without a value as gaps.
fn fill(found: Vec<SeriesBucket>, from: DateTime<Utc>, to: DateTime<Utc>, width: u32) -> Vec<SeriesItem> {
    let mut found: BTreeMap<DateTime<Utc>, SeriesBucket> =
        found.into_iter().map(|bucket| (bucket.at, bucket)).collect();
    let mut items = Vec::new();
    let mut at = from;
    while at < to && items.len() <= POINTS_MAX as usize {
        let bucket = found.remove(&at);
        items.push(SeriesItem {
            at,
            count: bucket.as_ref().map_or(0, |bucket| bucket.count),
            min: bucket.as_ref().map(|bucket| bucket.min.to_string()),
            max: bucket.as_ref().map(|bucket| bucket.max.to_string()),
            mean: bucket.as_ref().map(|bucket| bucket.mean.to_string()),
        });
        at += TimeDelta::seconds(i64::from(width));
    }
    items
}

/// Minimum, maximum and mean of a quantity per bucket of time.
#[utoipa::path(tag = "readings", params(SeriesParameters), responses((status = 200, body = Series)))]
#[get("/series")]
async fn get_series(
    state: web::Data<ApiState>,
    history: In<dyn ReadingHistory>,
    Query(query): Query<SeriesParameters>,
) -> Result<HttpResponse, ApiError> {
    let subject = match (query.meter_id, query.point_id, query.group_id) {
        (Some(id), None, None) => SeriesSubject::Meter(MeterId(id)),
        (None, Some(id), None) => SeriesSubject::Point(PointId(id)),
        (None, None, Some(id)) => SeriesSubject::Group(GroupId(id)),
        _ => {
            return Err(ApiError::bad_query(
                "meter_id",
                "give exactly one of meter_id, point_id and group_id",
            ));
        }
    };
    let points = query.points.unwrap_or(POINTS);
    if !(1..=POINTS_MAX).contains(&points) {
        return Err(ApiError::bad_query(
            "points",
            format!("must be 1 to {POINTS_MAX}, this is {points}"),
        ));
    }
    let measurand = span::measurand("quantity", &query.quantity)?;
    let (from, to) = span::span(query.from, query.to, state.clock.now(), BACK, LONGEST)?;
    let (begin, bucket_s) = buckets(from, to, points);
    let unit = match &measurand {
        Measurand::Standard(quantity) => Some(quantity.unit().symbol()),
        Measurand::Vendor(_) => None,
    };
    let wanted = SeriesQuery {
        subject,
        measurand,
        from: begin,
        to,
        bucket_s,
    };
    let found = history.series(&wanted).await?;
    Ok(HttpResponse::Ok().json(Series {
        quantity: query.quantity,
        unit,
        from: begin,
        to,
        bucket_s,
        items: fill(found, begin, to, bucket_s),
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(get_series);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_cover_the_span_with_no_more_than_was_asked(
            from in 0i64..4_000_000_000, seconds in 1i64..158_000_000, points in 1u32..=5000,
        ) {
            let from = DateTime::from_timestamp(from, 0).unwrap();
            let to = from + TimeDelta::seconds(seconds);
            let (begin, width) = buckets(from, to, points);
            prop_assert!(begin <= from);
            let items = fill(Vec::new(), begin, to, width);
            prop_assert!(items.len() <= points as usize, "{} of {points}", items.len());
            prop_assert!(items.last().unwrap().at + TimeDelta::seconds(i64::from(width)) >= to);
        }
    }
}

//! `/dtus/{id}/archive`: the list of meters of a concentrator, as we want it beside what it says, and writing the difference.
//!
//! What we want is what was adopted of a scan, or put here. What the concentrator says is what the last scan read. Writing is
//! a scan that writes before it reads: `/scans/{id}` tells of each place what became of it.

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, BodyOrDefault};
use super::handle::In;
use super::problem::{ApiError, Faults, Kind};
use super::query::Id;
use super::scan_desk::ScanView;
use super::scans;
use crate::base::ids::DtuId;
use crate::domain::archive::{ArchiveComparison, ArchiveEntry, POINT_MAX, changes};
use crate::port::archive::{ArchiveStore, BothSides};
use crate::port::scan::ScanPlan;
use actix_web::{HttpResponse, get, post, put, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa_actix_web::service_config::ServiceConfig;

/// A concentrator's archive beside ours.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ArchiveView {
    /// When the concentrator said what it has; null: it was never read, and a scan reads it.
    read_at: Option<DateTime<Utc>>,
    /// What differs.
    #[serde(flatten)]
    comparison: ArchiveComparison,
}

impl From<BothSides> for ArchiveView {
    fn from(both: BothSides) -> Self {
        Self {
            read_at: both.read_at,
            comparison: both.comparison(),
        }
    }
}

/// The archive as we want it.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveBody {
    /// Every point that is wanted, each once.
    meters: Vec<ArchiveEntry>,
}

/// What is written.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveWriteBody {
    /// Only these measuring points; none: all that differ.
    #[serde(rename = "measuring_points")]
    points: Option<BTreeSet<u16>>,
    /// Take out what the concentrator has and we do not want.
    #[serde(default)]
    remove: bool,
}

/// The archive of a concentrator as it was read last beside the one that we want: what only it has, what only we have, and
/// what both have differently.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), responses((status = 200, body = ArchiveView)))]
#[get("/dtus/{id}/archive")]
async fn get_archive(archives: In<dyn ArchiveStore>, Id(id): Id<DtuId>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(ArchiveView::from(archives.both(id).await?)))
}

fn checked(meters: Vec<ArchiveEntry>) -> Result<Vec<ArchiveEntry>, ApiError> {
    let mut faults = Faults::new();
    let most = usize::from(POINT_MAX);
    faults.check(meters.len() <= most, "meters", format!("are at most {most}"));
    let (mut points, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mut settled = Vec::new();
    for (index, entry) in meters.into_iter().take(most).enumerate() {
        let entry = entry.settled();
        let field = |name: &str| format!("meters.{index}.{name}");
        for (name, text) in entry.faults() {
            faults.check(false, &field(name), text);
        }
        let twice = "is another meter's already";
        faults.check(points.insert(entry.point), &field("point"), twice);
        faults.check(places.insert(entry.place), &field("place"), twice);
        settled.push(entry);
    }
    faults.done()?;
    Ok(settled)
}

/// Says what is wanted in a concentrator's archive. Nothing is written to the concentrator; the answer says what differs.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), request_body = ArchiveBody,
    responses((status = 200, body = ArchiveView)))]
#[put("/dtus/{id}/archive")]
async fn set_archive(
    state: web::Data<ApiState>,
    archives: In<dyn ArchiveStore>,
    Id(id): Id<DtuId>,
    Body(body): Body<ArchiveBody>,
) -> Result<HttpResponse, ApiError> {
    archives.want(id, &checked(body.meters)?, state.clock.now()).await?;
    Ok(HttpResponse::Ok().json(ArchiveView::from(archives.both(id).await?)))
}

/// Writes what differs into the concentrator, reads it back, and then the whole archive: the scan that does it says of each
/// place what became of it. It is in the audit before it is written.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), request_body = Option<ArchiveWriteBody>,
    responses((status = 202, body = ScanView)))]
#[post("/dtus/{id}/archive")]
async fn write_archive(
    state: web::Data<ApiState>,
    caller: Caller,
    archives: In<dyn ArchiveStore>,
    Id(id): Id<DtuId>,
    BodyOrDefault(body): BodyOrDefault<ArchiveWriteBody>,
) -> Result<HttpResponse, ApiError> {
    let both = archives.both(id).await?;
    let refused = |text: String| Err(ApiError::new(Kind::Conflict, text));
    if both.read_at.is_none() {
        return refused("the concentrator's archive was never read; scan it first".to_owned());
    }
    let changes = changes(&both.comparison(), &both.there, body.points.as_ref(), body.remove);
    let changes = match changes {
        Ok(changes) if changes.is_empty() => return refused("nothing that is to be written differs".to_owned()),
        Ok(changes) => changes,
        Err(taken) => return refused(taken.to_string()),
    };
    scans::online(&state, id).await?;
    archives.begin_write(id, &changes, state.clock.now()).await?;
    let plan = ScanPlan {
        writes: changes,
        ..ScanPlan::default()
    };
    scans::begin(&state, &caller, id, plan)
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(get_archive).service(set_archive).service(write_archive);
}

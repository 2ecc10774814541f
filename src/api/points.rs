//! `/points`: metering points, and which meters stood there. Consumption is in [`super::consumption`].

use super::ApiState;
use super::body::{Body, nullable};
use super::etag::{IfMatch, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use crate::base::ids::{GroupId, PointId};
use crate::port::meters::{Installation, Point, PointStore};
use actix_web::{HttpResponse, get, patch, web};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "points";
const NAME_MAX: usize = 200;

/// Which points.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PointQuery {
    /// In the name, without regard to case.
    text: Option<String>,
    /// In this group.
    group_id: Option<i32>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PointEditBody {
    /// Another name.
    name: Option<String>,
    /// Another group; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    group_id: Option<Option<GroupId>>,
}

/// A metering point with its history.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PointDetail {
    #[serde(flatten)]
    point: Point,
    /// Which meters stood there, oldest first.
    installations: Vec<Installation>,
}

/// The metering points of the account, by id, with their total.
#[utoipa::path(tag = "points", params(PointQuery), responses((status = 200, body = Page<Point>)))]
#[get("/points")]
async fn list_points(points: In<dyn PointStore>, Query(query): Query<PointQuery>) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    if query
        .text
        .as_ref()
        .is_some_and(|text| text.chars().count() > NAME_MAX || text.contains('\0'))
    {
        return Err(ApiError::bad_query(
            "text",
            format!("has at most {NAME_MAX} characters and no NUL"),
        ));
    }
    let text = query.text.as_deref().filter(|text| !text.is_empty());
    let after = request.after.map(PointId);
    let (rows, total) = points
        .list(text, query.group_id.map(GroupId), after, request.fetch())
        .await?;
    let page = request
        .page(rows, |point| point.id.0)
        .of_total(u64::try_from(total).unwrap_or(0));
    Ok(HttpResponse::Ok().json(page))
}

/// A metering point, with the meters that stood there.
#[utoipa::path(tag = "points", params(("id" = i32, Path)), responses((status = 200, body = PointDetail)))]
#[get("/points/{id}")]
async fn get_point(points: In<dyn PointStore>, Id(id): Id<PointId>) -> Result<HttpResponse, ApiError> {
    let (point, installations) = points.get(id).await?;
    let detail = PointDetail { point, installations };
    Ok(tagged(HttpResponse::Ok(), detail.point.version, &detail))
}

/// Renames a metering point, or moves it to another group.
#[utoipa::path(tag = "points", params(("id" = i32, Path)), request_body = PointEditBody,
    responses((status = 200, body = Point)))]
#[patch("/points/{id}")]
async fn edit_point(
    state: web::Data<ApiState>,
    points: In<dyn PointStore>,
    Id(id): Id<PointId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<PointEditBody>,
) -> Result<HttpResponse, ApiError> {
    if let Some(name) = &body.name {
        let mut faults = Faults::new();
        faults.text("name", name, NAME_MAX);
        faults.done()?;
    }
    let now = state.clock.now();
    let point = points
        .update(id, body.name.as_deref(), body.group_id, expected.version(), now)
        .await?;
    Ok(tagged(HttpResponse::Ok(), point.version, &point))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_points).service(get_point).service(edit_point);
}

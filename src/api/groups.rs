//! `/groups`: groups of meters (sites), in a tree.

use super::ApiState;
use super::body::{Body, nullable};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::{GroupId, PointId};
use crate::port::groups::{Group, GroupStore};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "groups";
const NAME_MAX: usize = 200;

/// A group to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// Its name.
    #[schema(example = "Harbour, hall 3")]
    name: String,
    /// The group that it is part of.
    #[schema(value_type = Option<i32>)]
    parent_id: Option<GroupId>,
    /// The point whose meter counts what the group is supplied with; it need not be in the group.
    #[schema(value_type = Option<i32>)]
    sum_point_id: Option<PointId>,
}

impl GroupBody {
    /// Whether a group can be called so.
    pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
        let mut faults = Faults::new();
        faults.text("name", name, NAME_MAX);
        faults.done()
    }
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupEditBody {
    /// Another name.
    name: Option<String>,
    /// Another group to be part of; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    parent_id: Option<Option<GroupId>>,
    /// Another sum meter; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    sum_point_id: Option<Option<PointId>>,
}

/// The groups of the account.
#[utoipa::path(tag = "groups", params(ListQuery), responses((status = 200, body = Page<Group>)))]
#[get("/groups")]
async fn list_groups(groups: In<dyn GroupStore>, Query(query): Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit(), query.cursor())?;
    let rows = groups.list(request.after.map(GroupId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0)))
}

/// Makes a group.
#[utoipa::path(tag = "groups", request_body = GroupBody, responses((status = 201, body = Group)))]
#[post("/groups")]
async fn create_group(
    state: web::Data<ApiState>,
    groups: In<dyn GroupStore>,
    Body(body): Body<GroupBody>,
) -> Result<HttpResponse, ApiError> {
    GroupBody::check_name(&body.name)?;
    let group = groups
        .create(&body.name, body.parent_id, body.sum_point_id, state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Created(), group.version, &group))
}

/// A group.
#[utoipa::path(tag = "groups", params(("id" = i32, Path)), responses((status = 200, body = Group)))]
#[get("/groups/{id}")]
async fn get_group(groups: In<dyn GroupStore>, Id(id): Id<GroupId>) -> Result<HttpResponse, ApiError> {
    let group = groups.get(id).await?;
    Ok(tagged(HttpResponse::Ok(), group.version, &group))
}

/// Renames a group, moves it below another, or names its sum meter.
#[utoipa::path(tag = "groups", params(("id" = i32, Path)), request_body = GroupEditBody,
    responses((status = 200, body = Group)))]
#[patch("/groups/{id}")]
async fn edit_group(
    state: web::Data<ApiState>,
    groups: In<dyn GroupStore>,
    Id(id): Id<GroupId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<GroupEditBody>,
) -> Result<HttpResponse, ApiError> {
    if let Some(name) = &body.name {
        GroupBody::check_name(name)?;
    }
    let now = state.clock.now();
    let group = groups
        .update(
            id,
            body.name.as_deref(),
            body.parent_id,
            body.sum_point_id,
            expected.version(),
            now,
        )
        .await?;
    Ok(tagged(HttpResponse::Ok(), group.version, &group))
}

/// Deletes a group. Its meters and points stay, without a group.
#[utoipa::path(tag = "groups", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/groups/{id}")]
async fn delete_group(
    state: web::Data<ApiState>,
    groups: In<dyn GroupStore>,
    Id(id): Id<GroupId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    groups.delete(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_groups)
        .service(create_group)
        .service(get_group)
        .service(edit_group)
        .service(delete_group);
}

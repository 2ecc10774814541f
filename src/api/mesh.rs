//! `/dtus/{id}/mesh`: which meters a concentrator has, and how it reaches them, as it said when it was read last.

use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::DtuId;
use crate::port::mesh::{MeshPlace, MeshStore};
use actix_web::{HttpResponse, get};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "mesh";

/// The meters of a concentrator by measuring point: their own addresses, the meters that relay, phase, signal, failures, and
/// when it said so. A scan of the concentrator reads it anew.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), ListQuery), responses((status = 200, body = Page<MeshPlace>)))]
#[get("/dtus/{id}/mesh")]
async fn list_mesh(
    meshes: In<dyn MeshStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<u16>::new(LIST, query.limit(), query.cursor())?;
    let rows = meshes.list(id, request.after, request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.point)))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_mesh);
}

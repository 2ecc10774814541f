//! `/dtus/{id}/events`: what a concentrator recorded of events, as far as it told us.

use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::{DtuId, TerminalEventId};
use crate::port::terminal_events::{TerminalEventStore, TerminalEventView};
use actix_web::{HttpResponse, get};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "dtu-events";

/// The events that a concentrator recorded, what we learned of last first: each record once, however often it was told. Those
/// that it has among its important ones raise alarms of kind `terminal_event`.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), ListQuery), responses((status = 200, body = Page<TerminalEventView>)))]
#[get("/dtus/{id}/events")]
async fn list_dtu_events(
    events: In<dyn TerminalEventStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<TerminalEventId>::new(LIST, query.limit(), query.cursor())?;
    let rows = events.list(id, request.after, request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id)))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_dtu_events);
}

//! `/groups/{id}/line-loss`: what the sum meter of a group counted and its sub-meters did not.

use super::ApiState;
use super::auth::Caller;
use super::handle::In;
use super::problem::ApiError;
use super::query::{Id, Query};
use super::span;
use crate::base::ids::GroupId;
use crate::domain::quantity::{Kind, Quantity};
use crate::port::line_loss::{LineLoss, LineLossQuery, LineLossStore};
use crate::port::readings::Per;
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

/// Which line loss.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LineLossParameters {
    /// From; taken back to the beginning of its slice. Default a day (hours), 31 days (days) or a year (months) before
    /// `to`.
    from: Option<DateTime<Utc>>,
    /// To; taken forward to the end of its slice. Default now.
    to: Option<DateTime<Utc>>,
    /// `hour`, `day` or `month`, of the account's zone; default `day`.
    #[param(inline)]
    per: Option<Per>,
    /// The register that is compared; default `active_energy_import`.
    quantity: Option<String>,
}

/// The default span and the longest one.
fn spans(per: Per) -> (TimeDelta, TimeDelta) {
    match per {
        Per::Hour => (TimeDelta::days(1), TimeDelta::days(31)),
        Per::Day => (TimeDelta::days(31), TimeDelta::days(800)),
        Per::Month => (TimeDelta::days(365), TimeDelta::days(3_660)),
    }
}

fn register(name: Option<&str>) -> Result<Quantity, ApiError> {
    let name = name.unwrap_or(Quantity::ActiveEnergyImport.name());
    Quantity::by_name(name)
        .filter(|quantity| quantity.kind() == Kind::Register)
        .ok_or_else(|| ApiError::bad_query("quantity", format!("{name:?} is no register")))
}

/// What was supplied, sold and lost in a group, per hour, day or month: its sum meter (`sum_point_id`) against all meters in it
/// and in the groups within it. Sum meters of groups within are not sub-meters: their own are. Made of the roll-ups, so a
/// slice that is not over has no figures yet.
#[utoipa::path(tag = "groups", params(("id" = i32, Path), LineLossParameters),
    responses((status = 200, body = LineLoss)))]
#[get("/groups/{id}/line-loss")]
async fn line_loss(
    state: web::Data<ApiState>,
    caller: Caller,
    losses: In<dyn LineLossStore>,
    Id(id): Id<GroupId>,
    Query(query): Query<LineLossParameters>,
) -> Result<HttpResponse, ApiError> {
    let per = query.per.unwrap_or(Per::Day);
    let (back, longest) = spans(per);
    let (from, to) = span::span(query.from, query.to, state.clock.now(), back, longest)?;
    let wanted = LineLossQuery {
        group: id,
        quantity: register(query.quantity.as_deref())?,
        from,
        to,
        per,
        zone: span::zone(&state, &caller, None).await?,
    };
    Ok(HttpResponse::Ok().json(losses.line_loss(&wanted).await?))
}

/// Registers the operation.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(line_loss);
}

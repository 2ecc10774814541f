//! `/commands/emergency-stop`, `/control/…`, `/meters/{id}/protection`: what stops and bounds control.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::MeterId;
use crate::domain::command::{Policy, ProtectionKind};
use crate::port::control::{CommandStore, ProtectionView, Stop};
use crate::port::groups::GroupStore;
use crate::port::scope::StoreError;
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const TEXT_MAX: usize = 500;
/// The description has these counts as 32 bits with a sign.
const COUNT_MAX: u32 = i32::MAX.unsigned_abs();
const QUIET_HOURS_MAX: usize = 50;
const HOLIDAYS_MAX: usize = 1000;
const GROUPS_MAX: usize = 1000;

/// Why everything is stopped.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopBody {
    /// Why; stands in the audit.
    #[schema(example = "wrong list was uploaded")]
    reason: String,
}

/// Emergency stops.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct StopsView {
    /// Whether one is in force for the caller.
    stopped: bool,
    /// Those in force: the account's own, and that of the whole server.
    items: Vec<Stop>,
}

/// The emergency stops in force.
#[utoipa::path(tag = "control", responses((status = 200, body = StopsView)))]
#[get("/commands/emergency-stop")]
async fn get_emergency_stop(state: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let items = state.control.stops(caller.account).await;
    Ok(HttpResponse::Ok().json(StopsView {
        stopped: !items.is_empty(),
        items,
    }))
}

/// Stops everything at once: nothing of any command begins from the answer on, and what is pending is cancelled. Of the
/// caller's account; role `platform` without an account stops the whole server.
#[utoipa::path(tag = "control", request_body = StopBody, responses((status = 200, body = StopsView)))]
#[post("/commands/emergency-stop")]
async fn emergency_stop(
    state: web::Data<ApiState>,
    caller: Caller,
    Body(body): Body<StopBody>,
) -> Result<HttpResponse, ApiError> {
    // nothing about the text may keep the stop from being made
    let reason: String = body.reason.chars().take(TEXT_MAX).collect();
    state.control.stop(caller.account, caller.actor(), reason).await?;
    get_stops(&state, &caller).await
}

/// Ends the emergency stop. Nothing that was cancelled by it comes back.
#[utoipa::path(tag = "control", responses((status = 200, body = StopsView)))]
#[delete("/commands/emergency-stop")]
async fn end_emergency_stop(state: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    if !state.control.resume(caller.account, caller.actor()).await? {
        return Err(ApiError::not_found("emergency stop of yours"));
    }
    get_stops(&state, &caller).await
}

async fn get_stops(state: &ApiState, caller: &Caller) -> Result<HttpResponse, ApiError> {
    let items = state.control.stops(caller.account).await;
    Ok(HttpResponse::Ok().json(StopsView {
        stopped: !items.is_empty(),
        items,
    }))
}

/// The account's policy for commands.
#[utoipa::path(tag = "control", responses((status = 200, body = Policy)))]
#[get("/control/policy")]
async fn get_control_policy(commands: In<dyn CommandStore>) -> Result<HttpResponse, ApiError> {
    let (policy, version) = commands.policy().await?;
    Ok(tagged(HttpResponse::Ok(), version, &policy))
}

fn check(policy: &Policy) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    let interlocks = &policy.interlocks;
    faults.check(
        !policy.approve.is_empty(),
        "approve",
        "somebody has to be able to approve",
    );
    faults.check(
        interlocks.quiet_hours.len() <= QUIET_HOURS_MAX,
        "interlocks.quiet_hours",
        format!("at most {QUIET_HOURS_MAX}"),
    );
    let days = interlocks.quiet_hours.iter().flat_map(|hours| &hours.days);
    faults.check(
        days.clone().all(|day| (1..=7).contains(day)),
        "interlocks.quiet_hours.days",
        "days are 1 (Monday) to 7 (Sunday)",
    );
    faults.check(
        interlocks.holidays.len() <= HOLIDAYS_MAX,
        "interlocks.holidays",
        format!("at most {HOLIDAYS_MAX}"),
    );
    faults.check(
        interlocks.protected_groups.len() <= GROUPS_MAX,
        "interlocks.protected_groups",
        format!("at most {GROUPS_MAX}"),
    );
    let block = interlocks.block.as_deref().unwrap_or("-");
    faults.check(
        !block.is_empty() && block.chars().count() <= TEXT_MAX,
        "interlocks.block",
        format!("takes 1 to {TEXT_MAX} characters, or null"),
    );
    for (name, from) in [
        ("four_eyes.trip_from", policy.four_eyes.trip_from),
        ("four_eyes.close_from", policy.four_eyes.close_from),
        ("four_eyes.relay_from", policy.four_eyes.relay_from),
        ("four_eyes.parameter_from", policy.four_eyes.parameter_from),
        ("four_eyes.expert_from", policy.four_eyes.expert_from),
    ] {
        let fits = from.is_none_or(|from| (1..=COUNT_MAX).contains(&from));
        faults.check(fits, name, "takes 1 to 2147483647, or null for never");
    }
    let brake = policy.disconnects_max.is_none_or(|most| most <= COUNT_MAX);
    faults.check(
        brake,
        "disconnects_max",
        "takes at most 2147483647, or null for the server's",
    );
    faults.done()
}

/// Writes the account's policy, whole. What is left out has its default. It holds for what is pending, too: everything
/// is judged anew before it is sent.
#[utoipa::path(tag = "control", request_body = Policy, responses((status = 200, body = Policy)))]
#[put("/control/policy")]
async fn set_control_policy(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    groups: In<dyn GroupStore>,
    IfMatchOptional(expected): IfMatchOptional,
    Body(policy): Body<Policy>,
) -> Result<HttpResponse, ApiError> {
    check(&policy)?;
    // a group that is not there would protect nobody, and nobody would notice
    for (index, group) in policy.interlocks.protected_groups.iter().enumerate() {
        groups.get(*group).await.map_err(|error| match error {
            StoreError::NotFound(_) => ApiError::invalid(
                format!("interlocks.protected_groups[{index}]"),
                "there is no such group",
            ),
            other => other.into(),
        })?;
    }
    let version = commands
        .set_policy(&policy, expected.version(), state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Ok(), version, &policy))
}

/// The outside temperature.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemperatureBody {
    /// °C, as a decimal string.
    #[schema(value_type = String, example = "-3.5")]
    celsius: Decimal,
}

/// Tells the outside temperature, for the interlock by temperature. It is forgotten after six hours.
#[utoipa::path(tag = "control", request_body = TemperatureBody, responses((status = 204)))]
#[put("/control/temperature")]
async fn set_temperature(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    Body(body): Body<TemperatureBody>,
) -> Result<HttpResponse, ApiError> {
    let range = Decimal::from(-100)..=Decimal::from(100);
    if !range.contains(&body.celsius) {
        return Err(ApiError::invalid("celsius", "must be -100 to 100"));
    }
    commands.set_celsius(body.celsius, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Meters whose supply is kept, by id.
#[utoipa::path(tag = "control", params(ListQuery), responses((status = 200, body = Page<ProtectionView>)))]
#[get("/control/protections")]
async fn list_protections(
    commands: In<dyn CommandStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new("protections", query.limit(), query.cursor())?;
    let rows = commands.protections().await?;
    Ok(HttpResponse::Ok().json(request.page_of(rows, |row| row.meter_id.0)))
}

/// Why a meter is protected.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtectionBody {
    /// Why.
    kind: ProtectionKind,
    /// In words.
    #[serde(default)]
    note: String,
    /// Until when; null: until somebody ends it.
    until: Option<DateTime<Utc>>,
}

/// Protects a meter: from now on nobody's disconnect reaches it, approved or not.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), request_body = ProtectionBody,
    responses((status = 200, body = ProtectionView)))]
#[put("/meters/{id}/protection")]
async fn protect_meter(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    Id(id): Id<MeterId>,
    Body(body): Body<ProtectionBody>,
) -> Result<HttpResponse, ApiError> {
    if body.note.chars().count() > TEXT_MAX {
        return Err(ApiError::invalid(
            "note",
            format!("takes at most {TEXT_MAX} characters"),
        ));
    }
    let protection = ProtectionView {
        meter_id: id,
        kind: body.kind,
        note: body.note,
        until: body.until,
    };
    commands.protect(&protection, state.clock.now()).await?;
    Ok(HttpResponse::Ok().json(protection))
}

/// Ends a meter's protection.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/meters/{id}/protection")]
async fn unprotect_meter(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    Id(id): Id<MeterId>,
) -> Result<HttpResponse, ApiError> {
    commands.unprotect(id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(get_emergency_stop)
        .service(emergency_stop)
        .service(end_emergency_stop)
        .service(get_control_policy)
        .service(set_control_policy)
        .service(set_temperature)
        .service(list_protections)
        .service(protect_meter)
        .service(unprotect_meter);
}

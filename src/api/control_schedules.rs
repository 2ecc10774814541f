//! `/control/schedules`: commands by cron (street lamps, pump hours), under the same policy, interlocks and brake.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::commands::ActionBody;
use super::etag::{Expected, IfMatch, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use super::span;
use crate::base::ids::{GroupId, MeterId};
use crate::domain::schedule::CompiledSchedule;
use crate::port::control::{BATCH_MAX, CommandStore, ControlSchedule, ControlScheduleForm};
use actix_web::{HttpResponse, delete, get, post, put, web};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

const NAME_MAX: usize = 200;
const REASON_MAX: usize = 500;
const EXPIRES_MAX_S: u32 = 7 * 86_400;

/// A schedule of commands.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlScheduleBody {
    /// Its name.
    #[schema(example = "street lamps on")]
    name: String,
    /// Cron expression of 5 fields, or 6 with seconds in front.
    #[schema(example = "30 17 * * *")]
    cron: String,
    /// IANA zone; default the account's.
    time_zone: Option<String>,
    /// What to do.
    #[schema(example = "reconnect")]
    action: String,
    /// With `write_parameter`: its name in the meters' model.
    parameter: Option<String>,
    /// With `write_parameter`: its value.
    value: Option<String>,
    /// On which meters.
    #[serde(default)]
    #[schema(value_type = Vec<i32>)]
    meter_ids: Vec<MeterId>,
    /// And on those of this group and its sub-groups.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// None is sent later than so many seconds after the due time.
    expires_in_s: u32,
    /// Why.
    reason: String,
    /// Whether it runs; default true.
    #[serde(default = "on")]
    enabled: bool,
}

fn on() -> bool {
    true
}

async fn form(state: &ApiState, caller: &Caller, body: ControlScheduleBody) -> Result<ControlScheduleForm, ApiError> {
    let zone = match body.time_zone {
        Some(zone) => zone,
        None => span::zone(state, caller, None).await?.name().to_owned(),
    };
    let mut faults = Faults::new();
    let length = |text: &str, max| (1..=max).contains(&text.trim().chars().count());
    faults.check(
        length(&body.name, NAME_MAX),
        "name",
        format!("takes 1 to {NAME_MAX} characters"),
    );
    faults.check(
        length(&body.reason, REASON_MAX),
        "reason",
        format!("takes 1 to {REASON_MAX} characters"),
    );
    if let Err(error) = CompiledSchedule::parse(&body.cron, &zone) {
        faults.check(false, "cron", error.to_string());
    }
    let named = !body.meter_ids.is_empty() || body.group_id.is_some();
    faults.check(named, "meter_ids", "name meters or a group");
    faults.check(
        body.meter_ids.len() <= BATCH_MAX,
        "meter_ids",
        format!("at most {BATCH_MAX}"),
    );
    let expires = (1..=EXPIRES_MAX_S).contains(&body.expires_in_s);
    faults.check(expires, "expires_in_s", format!("must be 1 to {EXPIRES_MAX_S}"));
    let action = ActionBody {
        action: body.action,
        parameter: body.parameter,
        value: body.value,
        frame: None,
    };
    let action = action.action(&mut faults);
    faults.done()?;
    let action = action.ok_or_else(|| ApiError::invalid("action", "is not known"))?;
    Ok(ControlScheduleForm {
        name: body.name,
        cron: body.cron,
        time_zone: zone,
        action,
        meters: body.meter_ids,
        group: body.group_id,
        expires_in_s: body.expires_in_s,
        reason: body.reason,
        enabled: body.enabled,
    })
}

async fn one(commands: &dyn CommandStore, id: i32) -> Result<ControlSchedule, ApiError> {
    let found = commands.schedules(Some(id)).await?.pop();
    found.ok_or_else(|| ApiError::not_found("control schedule"))
}

/// Schedules of commands, by id.
#[utoipa::path(tag = "control", params(ListQuery), responses((status = 200, body = Page<ControlSchedule>)))]
#[get("/control/schedules")]
async fn list_control_schedules(
    commands: In<dyn CommandStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new("control-schedules", query.limit(), query.cursor())?;
    let rows = commands.schedules(None).await?;
    Ok(HttpResponse::Ok().json(request.page_of(rows, |row| row.id)))
}

/// Makes a schedule of commands. Whoever writes it asks for each run; where the policy wants a second person for so many
/// meters, either somebody approves the schedule as it stands, or each run waits to be approved.
#[utoipa::path(tag = "control", request_body = ControlScheduleBody, responses((status = 201, body = ControlSchedule)))]
#[post("/control/schedules")]
async fn create_control_schedule(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    Body(body): Body<ControlScheduleBody>,
) -> Result<HttpResponse, ApiError> {
    let form = form(&state, &caller, body).await?;
    let id = commands.write_schedule(None, &form, state.clock.now()).await?;
    let made = one(&*commands, id).await?;
    Ok(tagged(HttpResponse::Created(), made.version, &made))
}

/// A schedule of commands.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), responses((status = 200, body = ControlSchedule)))]
#[get("/control/schedules/{id}")]
async fn get_control_schedule(commands: In<dyn CommandStore>, Id(id): Id<i32>) -> Result<HttpResponse, ApiError> {
    let found = one(&*commands, id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &found))
}

/// Writes a schedule of commands anew, whole. Its approval is void then, and who wrote it asks for its runs.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), request_body = ControlScheduleBody,
    responses((status = 200, body = ControlSchedule)))]
#[put("/control/schedules/{id}")]
async fn edit_control_schedule(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    Id(id): Id<i32>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ControlScheduleBody>,
) -> Result<HttpResponse, ApiError> {
    let version = version_of(&*commands, id, expected).await?;
    let form = form(&state, &caller, body).await?;
    let id = commands
        .write_schedule(Some((id, version)), &form, state.clock.now())
        .await?;
    let written = one(&*commands, id).await?;
    Ok(tagged(HttpResponse::Ok(), written.version, &written))
}

async fn version_of(commands: &dyn CommandStore, id: i32, expected: Expected) -> Result<i32, ApiError> {
    match expected.version() {
        Some(version) => Ok(version),
        None => Ok(one(commands, id).await?.version),
    }
}

/// Approves a schedule as it stands, and with it the commands of its runs; not one's own.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), responses((status = 200, body = ControlSchedule)))]
#[post("/control/schedules/{id}/approve")]
async fn approve_control_schedule(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    Id(id): Id<i32>,
    IfMatch(expected): IfMatch,
) -> Result<HttpResponse, ApiError> {
    let version = version_of(&*commands, id, expected).await?;
    commands.approve_schedule(id, version, state.clock.now()).await?;
    let approved = one(&*commands, id).await?;
    Ok(tagged(HttpResponse::Ok(), approved.version, &approved))
}

/// Deletes a schedule of commands. What it asked for already stays.
#[utoipa::path(tag = "control", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/control/schedules/{id}")]
async fn delete_control_schedule(
    state: web::Data<ApiState>,
    commands: In<dyn CommandStore>,
    Id(id): Id<i32>,
) -> Result<HttpResponse, ApiError> {
    commands.delete_schedule(id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_control_schedules)
        .service(create_control_schedule)
        .service(get_control_schedule)
        .service(edit_control_schedule)
        .service(approve_control_schedule)
        .service(delete_control_schedule);
}

//! `/commands`, `/meters/{id}/commands`: asking for commands, deciding about them, looking at them. What is asked here is
//! judged, written down and carried out by the control desk; nothing of this room touches a device.

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, BodyOrDefault};
use super::handle::In;
use super::idempotency::IdempotencyKey;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::{CommandId, GroupId, MeterId};
use crate::domain::command::State;
use crate::domain::command::action::{Action, PARAMETER_NAME_MAX, PARAMETER_VALUE_MAX, RAW_MAX};
use crate::port::control::{
    Admitted, CommandFilter, CommandRequest, CommandStore, CommandView, ControlError, Decision, Refused,
};
use crate::port::meters::MeterStore;
use actix_web::http::header;
use actix_web::{HttpResponse, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const LIST: &str = "commands";
/// Commands that the answer to a request for many shows in full; the rest is found by `batch_id`.
const SHOWN_MAX: usize = 1000;
const ACTIONS: &str = "disconnect, reconnect, arm, keep_power, release_keep_power, alarm_on, alarm_off, sync_clock, \
                       freeze, read_parameter, write_parameter, raw";

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::Disabled => Self::new(Kind::ControlDisabled, text),
            ControlError::Stopped => Self::new(Kind::EmergencyStop, text),
            ControlError::Denied(_) => Self::new(Kind::Forbidden, text),
            ControlError::NotNow(_) => Self::new(Kind::Conflict, text),
            ControlError::Invalid {
                field: "Idempotency-Key",
                message,
            } => Self::new(Kind::IdempotencyMismatch, message).at("Idempotency-Key"),
            ControlError::Invalid { field, message } => Self::invalid(field, message),
            ControlError::Busy => Self::new(Kind::Busy, text).retry_after(5),
            ControlError::Store(error) => error.into(),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub struct ActionBody {
    /// `disconnect`, `reconnect`, `arm`, `keep_power`, `release_keep_power`, `alarm_on`, `alarm_off`, `sync_clock`,
    /// `freeze`, `read_parameter`, `write_parameter` or `raw`.
    #[schema(example = "disconnect")]
    pub(super) action: String,
    /// With `read_parameter` and `write_parameter`: its name in the meter's model.
    pub(super) parameter: Option<String>,
    /// With `write_parameter`: its value, as a decimal string in its unit.
    pub(super) value: Option<String>,
    /// With `raw`: a whole frame of the meter's protocol, as hex.
    pub(super) frame: Option<String>,
}

impl ActionBody {
    pub(super) fn action(&self, faults: &mut Faults) -> Option<Action> {
        let mut text = |name: &'static str, value: &Option<String>, max: usize| {
            let value = value.clone().unwrap_or_default();
            let fits = !value.is_empty() && value.len() <= max;
            faults.check(fits, name, format!("{} needs 1 to {max} characters here", self.action));
            fits.then_some(value)
        };
        Some(match self.action.as_str() {
            "disconnect" => Action::Disconnect,
            "reconnect" => Action::Reconnect,
            "arm" => Action::Arm,
            "keep_power" => Action::KeepPower,
            "release_keep_power" => Action::ReleaseKeepPower,
            "alarm_on" => Action::AlarmOn,
            "alarm_off" => Action::AlarmOff,
            "sync_clock" => Action::SyncClock,
            "freeze" => Action::Freeze,
            "read_parameter" => Action::ReadParameter {
                name: text("parameter", &self.parameter, PARAMETER_NAME_MAX)?,
            },
            "write_parameter" => Action::WriteParameter {
                name: text("parameter", &self.parameter, PARAMETER_NAME_MAX)?,
                value: text("value", &self.value, PARAMETER_VALUE_MAX)?,
            },
            "raw" => Action::Raw {
                frame: text("frame", &self.frame, RAW_MAX * 2)?,
            },
            other => {
                faults.check(false, "action", format!("{other:?} is not known; known are {ACTIONS}"));
                return None;
            }
        })
    }
}

/// A command for one meter.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// What to do.
    #[schema(example = "disconnect")]
    action: String,
    /// With `read_parameter` and `write_parameter`: its name in the meter's model.
    parameter: Option<String>,
    /// With `write_parameter`: its value.
    value: Option<String>,
    /// With `raw`: a whole frame as hex.
    frame: Option<String>,
    /// It is not sent later than so many seconds from now.
    #[schema(example = 60)]
    expires_in_s: u32,
    /// Why; stands in history and audit.
    #[schema(example = "arrears since March")]
    reason: String,
}

/// Commands for many meters.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkBody {
    /// What to do.
    action: String,
    /// With `read_parameter` and `write_parameter`: its name in the meters' model.
    parameter: Option<String>,
    /// With `write_parameter`: its value.
    value: Option<String>,
    /// With `raw`: a whole frame as hex.
    frame: Option<String>,
    /// On which meters.
    #[serde(default)]
    #[schema(value_type = Vec<i32>)]
    meter_ids: Vec<MeterId>,
    /// And on those of this group and its sub-groups.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// None is sent later than so many seconds from now.
    expires_in_s: u32,
    /// Why.
    reason: String,
}

/// What became of a request for many meters.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BulkView {
    /// The request; `/commands?batch_id=` finds its commands.
    #[schema(value_type = String)]
    batch_id: Uuid,
    /// How many commands were made.
    commands: usize,
    /// The first thousand of them.
    items: Vec<CommandView>,
    /// Meters for which there is none, and why.
    refused: Vec<Refused>,
}

/// What a person saw when they decided.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionBody {
    /// The command's `digest`: the approval holds for exactly that target, action and expiry.
    digest: Option<String>,
}

fn action_of(
    action: String,
    parameter: Option<String>,
    value: Option<String>,
    frame: Option<String>,
) -> Result<Action, ApiError> {
    let body = ActionBody {
        action,
        parameter,
        value,
        frame,
    };
    let mut faults = Faults::new();
    let action = body.action(&mut faults);
    faults.done()?;
    action.ok_or_else(|| ApiError::invalid("action", format!("known are {ACTIONS}")))
}

/// Why there is no command for the one meter asked for.
fn refusal(refused: Refused) -> ApiError {
    let kind = match refused.reason.as_str() {
        "unknown_meter" => return ApiError::not_found("meter"),
        "relay_busy" => Kind::Conflict,
        "not_supported" => Kind::NotSupported,
        _ => return ApiError::invalid("action", refused.detail),
    };
    ApiError::new(kind, refused.detail).because(refused.reason)
}

/// Asks for a command: 202 with the command as it stands. It is sent when nothing holds it and its meter can be reached,
/// and not later than `expires_in_s`. With an `Idempotency-Key` a repeated request gives the same command.
#[utoipa::path(tag = "commands", params(("id" = i32, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = CommandBody, responses((status = 202, body = CommandView)))]
#[post("/meters/{id}/commands")]
async fn request_command(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    commands: In<dyn CommandStore>,
    Id(id): Id<MeterId>,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<CommandBody>,
) -> Result<HttpResponse, ApiError> {
    meters.get(id, state.clock.now()).await?;
    let request = CommandRequest {
        action: action_of(body.action, body.parameter, body.value, body.frame)?,
        meters: vec![id],
        expires_in_s: body.expires_in_s,
        reason: body.reason,
        key,
    };
    let mut admitted = state.control.request(caller.scope()?, request).await?;
    let made = match (admitted.commands.pop(), admitted.refused.pop()) {
        (Some(made), _) => made,
        (None, Some(refused)) => return Err(refusal(refused)),
        (None, None) => return Err(ApiError::new(Kind::Internal, "the request made no command")),
    };
    let view = commands.get(made.id).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{}/commands/{}", super::BASE, view.id)))
        .json(view))
}

/// Asks for commands for many meters: 202 with what was made and what was not. From the policy's threshold on another
/// person has to approve each; what exceeds the brake waits for two.
#[utoipa::path(tag = "commands", params(("Idempotency-Key" = Option<String>, Header)), request_body = BulkBody, responses((status = 202, body = BulkView)))]
#[post("/commands")]
async fn request_commands(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    IdempotencyKey(key): IdempotencyKey,
    Body(body): Body<BulkBody>,
) -> Result<HttpResponse, ApiError> {
    let mut meters = body.meter_ids;
    if let Some(group) = body.group_id {
        meters.extend(commands.meters_of_group(group).await?);
    }
    let request = CommandRequest {
        action: action_of(body.action, body.parameter, body.value, body.frame)?,
        meters,
        expires_in_s: body.expires_in_s,
        reason: body.reason,
        key,
    };
    let admitted = state.control.request(caller.scope()?, request).await?;
    let Admitted {
        batch,
        commands: made,
        refused,
        ..
    } = admitted;
    let filter = CommandFilter {
        batch: Some(batch),
        ..CommandFilter::default()
    };
    let limit = u32::try_from(SHOWN_MAX).unwrap_or(u32::MAX);
    Ok(HttpResponse::Accepted().json(BulkView {
        batch_id: batch,
        commands: made.len(),
        items: commands.list(&filter, None, limit).await?,
        refused,
    }))
}

/// Which commands.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CommandsQuery {
    /// States, separated by commas, e.g. `held,unknown`.
    state: Option<String>,
    /// Of this meter.
    meter_id: Option<i32>,
    /// Of this request.
    #[param(value_type = Option<String>)]
    batch_id: Option<Uuid>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn states(text: Option<&str>) -> Result<Vec<State>, ApiError> {
    let names = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(|name| {
            State::by_name(name).ok_or_else(|| {
                let known: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
                ApiError::bad_query(
                    "state",
                    format!("{name:?} is not a state; known are {}", known.join(", ")),
                )
            })
        })
        .collect()
}

async fn page(
    commands: &dyn CommandStore,
    filter: CommandFilter,
    limit: Option<u32>,
    cursor: Option<&str>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i64>::new(LIST, limit, cursor)?;
    let rows = commands
        .list(&filter, request.after.map(CommandId), request.fetch())
        .await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0)))
}

/// Commands of all meters, newest first.
#[utoipa::path(tag = "commands", params(CommandsQuery), responses((status = 200, body = Page<CommandView>)))]
#[get("/commands")]
async fn list_commands(
    commands: In<dyn CommandStore>,
    Query(query): Query<CommandsQuery>,
) -> Result<HttpResponse, ApiError> {
    let filter = CommandFilter {
        states: states(query.state.as_deref())?,
        meter: query.meter_id.map(MeterId),
        batch: query.batch_id,
    };
    page(&*commands, filter, query.limit, query.cursor.as_deref()).await
}

/// Commands of a meter, newest first.
#[utoipa::path(tag = "commands", params(("id" = i32, Path), ListQuery),
    responses((status = 200, body = Page<CommandView>)))]
#[get("/meters/{id}/commands")]
async fn list_meter_commands(
    state: web::Data<ApiState>,
    meters: In<dyn MeterStore>,
    commands: In<dyn CommandStore>,
    Id(id): Id<MeterId>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    meters.get(id, state.clock.now()).await?;
    let filter = CommandFilter {
        meter: Some(id),
        ..CommandFilter::default()
    };
    page(&*commands, filter, query.limit(), query.cursor()).await
}

/// A command with its whole history.
#[utoipa::path(tag = "commands", params(("id" = i64, Path)), responses((status = 200, body = CommandView)))]
#[get("/commands/{id}")]
async fn get_command(commands: In<dyn CommandStore>, Id(id): Id<CommandId>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(commands.get(id).await?))
}

async fn decide(
    state: &ApiState,
    caller: &Caller,
    commands: &dyn CommandStore,
    id: CommandId,
    decision: Decision,
    digest: Option<String>,
) -> Result<HttpResponse, ApiError> {
    // of another account: it does not exist
    commands.get(id).await?;
    state.control.decide(caller.scope()?, id, decision, digest).await?;
    Ok(HttpResponse::Ok().json(commands.get(id).await?))
}

/// Approves a command that waits for people: not one's own, and not twice. `digest` binds it to what was seen.
#[utoipa::path(tag = "commands", params(("id" = i64, Path)), request_body = Option<DecisionBody>,
    responses((status = 200, body = CommandView)))]
#[post("/commands/{id}/approve")]
async fn approve_command(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    Id(id): Id<CommandId>,
    BodyOrDefault(body): BodyOrDefault<DecisionBody>,
) -> Result<HttpResponse, ApiError> {
    decide(&state, &caller, &*commands, id, Decision::Approve, body.digest).await
}

/// Says no to a command that is not sent yet.
#[utoipa::path(tag = "commands", params(("id" = i64, Path)), responses((status = 200, body = CommandView)))]
#[post("/commands/{id}/reject")]
async fn reject_command(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    Id(id): Id<CommandId>,
) -> Result<HttpResponse, ApiError> {
    decide(&state, &caller, &*commands, id, Decision::Reject, None).await
}

/// Withdraws a command that is not sent yet.
#[utoipa::path(tag = "commands", params(("id" = i64, Path)), responses((status = 200, body = CommandView)))]
#[post("/commands/{id}/cancel")]
async fn cancel_command(
    state: web::Data<ApiState>,
    caller: Caller,
    commands: In<dyn CommandStore>,
    Id(id): Id<CommandId>,
) -> Result<HttpResponse, ApiError> {
    decide(&state, &caller, &*commands, id, Decision::Cancel, None).await
}

/// Registers the operations. What has a fixed name below `/commands` is registered by `control`, before `{id}`.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(request_command)
        .service(list_meter_commands)
        .service(request_commands)
        .service(list_commands)
        .service(approve_command)
        .service(reject_command)
        .service(cancel_command)
        .service(get_command);
}

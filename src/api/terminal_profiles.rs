//! `/terminal-profiles`: settings that are wanted of many terminals, and comparing many with them.
//!
//! A profile holds nothing of group `communication`: what decides how a terminal reaches us is written to one terminal at a
//! time, by somebody who names it (see `parameters`).

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::parameters::{self, ParameterAsked, protocol_named};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::DtuId;
use crate::domain::parameter::ParameterAsk;
use crate::port::parameters::{NewRun, ParameterRun, ParameterStore, TerminalProfile, WantedParameter, find};
use crate::port::scan::Protocol;
use actix_web::{HttpResponse, delete, get, post, put, web};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const NAME_MAX: usize = 200;
/// Terminals of one run.
const TERMINALS_MAX: usize = 5_000;

/// A profile to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileBody {
    /// Its name.
    #[schema(example = "south, single phase")]
    name: String,
    /// Of which terminals: `gdw376.1` or `dlt698.45`.
    #[schema(example = "gdw376.1")]
    protocol: String,
    /// What is wanted; nothing of group `communication`.
    #[schema(min_items = 1, max_items = 200)]
    parameters: Vec<WantedParameter>,
}

/// A profile as it shall be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileEditBody {
    /// Its name.
    name: String,
    /// What is wanted; nothing of group `communication`.
    #[schema(min_items = 1, max_items = 200)]
    parameters: Vec<WantedParameter>,
}

/// Which terminals are compared.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileRunBody {
    /// The terminals.
    #[schema(value_type = Vec<i32>, min_items = 1, max_items = 5000)]
    dtu_ids: Vec<DtuId>,
}

/// The settings of a profile, checked and as they are compared.
fn checked(protocol: Protocol, name: &str, wanted: Vec<WantedParameter>, faults: &mut Faults) -> Vec<WantedParameter> {
    faults.text("name", name, NAME_MAX);
    faults.check(!wanted.is_empty(), "parameters", "names no setting");
    for (index, wanted) in wanted.iter().enumerate() {
        let guarded = find(protocol, &wanted.name).is_some_and(|parameter| parameter.spec.is_guarded());
        let text = "decides how the terminal reaches us; it is written to one terminal at a time, and not by a profile";
        faults.check(!guarded, &format!("parameters.{index}.name"), text);
    }
    let asked: Vec<ParameterAsked> = wanted.into_iter().map(ParameterAsked::from).collect();
    let asks = parameters::checked(protocol, asked, "parameters", faults);
    asks.into_iter()
        .filter_map(|ask| {
            Some(WantedParameter {
                name: ask.name,
                number: ask.number,
                value: ask.wanted?,
            })
        })
        .collect()
}

/// The terminal profiles of the account.
#[utoipa::path(tag = "parameters", params(ListQuery), responses((status = 200, body = Page<TerminalProfile>)))]
#[get("/terminal-profiles")]
async fn list_terminal_profiles(
    store: In<dyn ParameterStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<i32>::new("terminal-profiles", query.limit(), query.cursor())?;
    let rows = store.profiles(page.after, page.fetch()).await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |row| row.id)))
}

/// Makes a terminal profile. Nothing is written to any terminal.
#[utoipa::path(tag = "parameters", request_body = ProfileBody, responses((status = 201, body = TerminalProfile)))]
#[post("/terminal-profiles")]
async fn create_terminal_profile(
    state: web::Data<ApiState>,
    store: In<dyn ParameterStore>,
    Body(body): Body<ProfileBody>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    let Some(protocol) = protocol_named(&body.protocol) else {
        return Err(ApiError::invalid("protocol", "is gdw376.1 or dlt698.45"));
    };
    let wanted = checked(protocol, &body.name, body.parameters, &mut faults);
    faults.done()?;
    let made = store
        .create_profile(&body.name, protocol.name(), &wanted, state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Created(), made.version, &made))
}

/// A terminal profile.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path)), responses((status = 200, body = TerminalProfile)))]
#[get("/terminal-profiles/{id}")]
async fn get_terminal_profile(store: In<dyn ParameterStore>, Id(id): Id<i32>) -> Result<HttpResponse, ApiError> {
    let found = store.profile(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &found))
}

/// Gives a terminal profile another name and other settings. Terminals that were written keep what they have.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path)), request_body = ProfileEditBody,
    responses((status = 200, body = TerminalProfile)))]
#[put("/terminal-profiles/{id}")]
async fn edit_terminal_profile(
    state: web::Data<ApiState>,
    store: In<dyn ParameterStore>,
    Id(id): Id<i32>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ProfileEditBody>,
) -> Result<HttpResponse, ApiError> {
    let before = store.profile(id).await?;
    let mut faults = Faults::new();
    let wanted = checked(protocol_of(&before)?, &body.name, body.parameters, &mut faults);
    faults.done()?;
    let edited = store
        .edit_profile(id, &body.name, &wanted, expected.version(), state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Ok(), edited.version, &edited))
}

/// Deletes a terminal profile. Its runs stay.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/terminal-profiles/{id}")]
async fn delete_terminal_profile(
    state: web::Data<ApiState>,
    store: In<dyn ParameterStore>,
    Id(id): Id<i32>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    store.delete_profile(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Compares many terminals with a profile. Nothing is written; `/parameter-runs/{id}/write` writes what differs.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path)), request_body = ProfileRunBody,
    responses((status = 202, body = ParameterRun)))]
#[post("/terminal-profiles/{id}/runs")]
async fn compare_terminal_profile(
    caller: Caller,
    state: web::Data<ApiState>,
    store: In<dyn ParameterStore>,
    Id(id): Id<i32>,
    Body(mut body): Body<ProfileRunBody>,
) -> Result<HttpResponse, ApiError> {
    let profile = store.profile(id).await?;
    let mut faults = Faults::new();
    let fits = (1..=TERMINALS_MAX).contains(&body.dtu_ids.len());
    faults.check(fits, "dtu_ids", format!("are 1 to {TERMINALS_MAX}"));
    faults.done()?;
    body.dtu_ids.sort_unstable();
    body.dtu_ids.dedup();
    let asks = profile.parameters.iter().map(|wanted| ParameterAsk {
        name: wanted.name.clone(),
        number: wanted.number,
        wanted: Some(wanted.value.clone()),
        seen: None,
    });
    let run = NewRun {
        id: Uuid::now_v7(),
        protocol: profile.protocol.clone(),
        profile: Some(id),
        asks: asks.collect(),
        dtus: body.dtu_ids,
    };
    parameters::begin(&state, &caller, &*store, run).await
}

fn protocol_of(profile: &TerminalProfile) -> Result<Protocol, ApiError> {
    protocol_named(&profile.protocol).ok_or_else(|| ApiError::new(Kind::Internal, "a profile of an unknown protocol"))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_terminal_profiles)
        .service(create_terminal_profile)
        .service(get_terminal_profile)
        .service(edit_terminal_profile)
        .service(delete_terminal_profile)
        .service(compare_terminal_profile);
}

//! `/integrations`: webhooks and MQTT brokers that are told of readings and events, a test for each, and their secrets,
//! which are shown once.

use super::ApiState;
use super::body::{Body, nullable};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use crate::base::ids::{GroupId, IntegrationId};
use crate::domain::integration::naming::check_prefix;
use crate::domain::integration::{FeedTopic, Shape};
use crate::port::integrations::{
    IntegrationBook, IntegrationKind, IntegrationSpec, Lag, NewPassword, Options, StoredIntegration,
};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const LIST: &str = "integrations";
const NAME_MAX: usize = 200;
const TARGET_MAX: usize = 2000;
const LOGIN_MAX: usize = 200;
const PASSWORD_MAX: usize = 1000;
const QUANTITIES_MAX: usize = 200;
const QUANTITY_MAX: usize = 100;
const BATCH_MAX: u32 = 1000;
const WAIT_MAX_S: u32 = 60;
/// A year.
const EXPIRY_MAX_S: u32 = 31_536_000;
/// How long an old secret of a webhook signs beside the new one.
const OLD_SECRET: TimeDelta = TimeDelta::hours(24);
/// Failures in a row from which it is said to fail, not to be late by chance.
const FAILING_FROM: u32 = 3;

/// An integration to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IntegrationBody {
    /// Its name.
    #[schema(example = "billing system")]
    name: String,
    /// What is at the far side.
    kind: IntegrationKind,
    /// Where: `https://HOST/PATH` of a webhook, `mqtts://HOST:PORT` of a broker. `http://` and `mqtt://` only into
    /// networks that the operator of the server has allowed.
    #[schema(example = "https://billing.example.org/hooks/meters")]
    target: String,
    /// MQTT: the user name.
    login: Option<String>,
    /// MQTT: the password. It is kept sealed and never shown.
    #[schema(value_type = Option<String>)]
    password: Option<SecretString>,
    /// What is told; none: readings of a webhook, readings and sessions of a broker.
    #[serde(default)]
    topics: Vec<FeedTopic>,
    /// Only about meters of this group and the groups below it.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Only these quantities of readings; none: all.
    #[serde(default)]
    #[schema(example = json!(["active_energy_import"]))]
    quantities: Vec<String>,
    /// Webhook: items of one request, 1 to 1000; default 100.
    batch_max: Option<u32>,
    /// Webhook: seconds that an item waits for others, at most 60; default 1.
    batch_wait_s: Option<u32>,
    /// MQTT: the first levels of every topic; default `polyphase`.
    prefix: Option<String>,
    /// MQTT: `values` (a topic a quantity, the default) or `json` (a topic a meter).
    shape: Option<Shape>,
    /// MQTT: seconds after which the broker drops a value; default 0: never.
    expiry_s: Option<u32>,
    /// MQTT: the prefix of Home Assistant's discovery, `homeassistant` unless changed there; none: it is not told.
    discovery: Option<String>,
    /// Whether it is told; default true.
    enabled: Option<bool>,
}

/// What an edit changes; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IntegrationEditBody {
    /// Another name.
    name: Option<String>,
    /// Another target.
    target: Option<String>,
    /// Another user name; empty: none.
    login: Option<String>,
    /// Another password; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    password: Option<Option<SecretString>>,
    /// Other topics.
    topics: Option<Vec<FeedTopic>>,
    /// Another group; null: all meters.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    group_id: Option<Option<GroupId>>,
    /// Other quantities; empty: all.
    quantities: Option<Vec<String>>,
    /// Items of one request.
    batch_max: Option<u32>,
    /// Seconds that an item waits for others.
    batch_wait_s: Option<u32>,
    /// The first levels of every topic.
    prefix: Option<String>,
    /// How readings are told.
    shape: Option<Shape>,
    /// Seconds after which the broker drops a value.
    expiry_s: Option<u32>,
    /// The prefix of Home Assistant's discovery; null: it is not told.
    #[serde(default, deserialize_with = "nullable")]
    discovery: Option<Option<String>>,
    /// Whether it is told.
    enabled: Option<bool>,
}

/// How an integration fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationState {
    /// It takes what it is told.
    Working,
    /// The last attempt failed; it is tried again.
    Retrying,
    /// Several failed in a row.
    Failing,
    /// The server has stopped telling it after days of failure; `resume` goes on.
    Stopped,
    /// Switched off.
    Off,
}

/// An integration.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct IntegrationView {
    /// Its id.
    #[schema(value_type = i32)]
    id: IntegrationId,
    /// Its name.
    name: String,
    /// What is at the far side.
    kind: IntegrationKind,
    /// Where; of a URL without its query, which may hold a key.
    target: String,
    /// MQTT: the user name.
    login: String,
    /// Whether there is a password.
    has_password: bool,
    /// What is told.
    topics: Vec<FeedTopic>,
    /// Only about meters of this group and those below it.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Only these quantities; empty: all.
    quantities: Vec<String>,
    /// Webhook: items of one request at most.
    batch_max: u32,
    /// Webhook: seconds that an item waits for others.
    batch_wait_s: u32,
    /// MQTT: the first levels of every topic.
    prefix: String,
    /// MQTT: how readings are told.
    shape: Shape,
    /// MQTT: seconds after which the broker drops a value; 0: never.
    expiry_s: u32,
    /// MQTT: the prefix of Home Assistant's discovery.
    discovery: Option<String>,
    /// Whether it is told.
    enabled: bool,
    /// How it fares.
    state: IntegrationState,
    /// Failures in a row.
    attempts: u32,
    /// Since when it fails.
    failing_since: Option<DateTime<Utc>>,
    /// When it is tried again.
    next_at: Option<DateTime<Utc>>,
    /// What the last failure was.
    last_error: Option<String>,
    /// When the far side last took something.
    last_success_at: Option<DateTime<Utc>>,
    /// Since when the server has stopped telling it.
    stopped_at: Option<DateTime<Utc>>,
    /// Readings and events that were taken, ever.
    delivered: u64,
    /// Readings and events of the topics that went before they could be delivered, ever.
    lost: u64,
    /// Readings and events of the topics that wait, before any filter by group and quantity.
    lag: u64,
    /// When the oldest of them was stored.
    lag_since: Option<DateTime<Utc>>,
    /// The secret with which a webhook is signed (Standard Webhooks). Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

/// How a test ended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct IntegrationTest {
    /// The id under which it was sent.
    id: Uuid,
    /// Whether the far side took it.
    ok: bool,
    /// What failed.
    error: Option<String>,
}

/// A page of integrations.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IntegrationQuery {
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn state_of(stored: &StoredIntegration) -> IntegrationState {
    match &stored.status {
        _ if !stored.spec.enabled => IntegrationState::Off,
        status if status.stopped_at.is_some() => IntegrationState::Stopped,
        status if status.attempts >= FAILING_FROM => IntegrationState::Failing,
        status if status.attempts > 0 => IntegrationState::Retrying,
        _ => IntegrationState::Working,
    }
}

/// A target as it is shown: without what is behind the path.
fn shown(target: &str) -> String {
    match target.split_once(['?', '#']) {
        Some((before, _)) => format!("{before}?…"),
        None => target.to_owned(),
    }
}

fn view(stored: StoredIntegration, lag: Lag, secret: Option<String>) -> IntegrationView {
    let state = state_of(&stored);
    let (spec, status) = (stored.spec, stored.status);
    IntegrationView {
        id: stored.id,
        name: spec.name,
        kind: spec.kind,
        target: shown(&spec.target),
        login: spec.login,
        has_password: stored.sealed.is_some(),
        topics: spec.topics,
        group_id: spec.group,
        quantities: spec.quantities,
        batch_max: spec.options.batch_max,
        batch_wait_s: spec.options.batch_wait_s,
        prefix: spec.options.prefix,
        shape: spec.options.shape,
        expiry_s: spec.options.expiry_s,
        discovery: spec.options.discovery,
        enabled: spec.enabled,
        state,
        attempts: status.attempts,
        failing_since: status.failing_since,
        next_at: status.next_at,
        last_error: status.last_error,
        last_success_at: status.last_success_at,
        stopped_at: status.stopped_at,
        delivered: status.delivered,
        lost: status.lost,
        lag: lag.items,
        lag_since: lag.oldest,
        secret,
        created_at: stored.created_at,
        version: stored.version,
    }
}

fn secret_of(stored: &StoredIntegration, state: &ApiState) -> Option<String> {
    let salt = stored
        .salts
        .first()
        .filter(|_| stored.spec.kind == IntegrationKind::Webhook)?;
    Some(state.integrations.secret(*salt))
}

/// Each topic once, in one order.
fn sorted(mut topics: Vec<FeedTopic>) -> Vec<FeedTopic> {
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn usual(kind: IntegrationKind) -> Vec<FeedTopic> {
    match kind {
        IntegrationKind::Webhook => vec![FeedTopic::Readings],
        IntegrationKind::Mqtt => vec![FeedTopic::Readings, FeedTopic::Sessions],
    }
}

fn spec_of(body: &IntegrationBody) -> IntegrationSpec {
    let usual_options = Options::default();
    IntegrationSpec {
        name: body.name.trim().to_owned(),
        kind: body.kind,
        target: body.target.clone(),
        login: body.login.clone().unwrap_or_default(),
        topics: if body.topics.is_empty() {
            usual(body.kind)
        } else {
            sorted(body.topics.clone())
        },
        group: body.group_id,
        quantities: body.quantities.clone(),
        options: Options {
            batch_max: body.batch_max.unwrap_or(usual_options.batch_max),
            batch_wait_s: body.batch_wait_s.unwrap_or(usual_options.batch_wait_s),
            prefix: body.prefix.clone().unwrap_or(usual_options.prefix),
            shape: body.shape.unwrap_or_default(),
            expiry_s: body.expiry_s.unwrap_or(usual_options.expiry_s),
            discovery: body.discovery.clone(),
        },
        enabled: body.enabled.unwrap_or(true),
    }
}

fn edited(before: IntegrationSpec, body: &IntegrationEditBody) -> IntegrationSpec {
    let options = before.options;
    IntegrationSpec {
        name: body.name.as_deref().map_or(before.name, |name| name.trim().to_owned()),
        kind: before.kind,
        target: body.target.clone().unwrap_or(before.target),
        login: body.login.clone().unwrap_or(before.login),
        topics: body.topics.clone().map_or(before.topics, sorted),
        group: body.group_id.unwrap_or(before.group),
        quantities: body.quantities.clone().unwrap_or(before.quantities),
        options: Options {
            batch_max: body.batch_max.unwrap_or(options.batch_max),
            batch_wait_s: body.batch_wait_s.unwrap_or(options.batch_wait_s),
            prefix: body.prefix.clone().unwrap_or(options.prefix),
            shape: body.shape.unwrap_or(options.shape),
            expiry_s: body.expiry_s.unwrap_or(options.expiry_s),
            discovery: body.discovery.clone().unwrap_or(options.discovery),
        },
        enabled: body.enabled.unwrap_or(before.enabled),
    }
}

/// What is wrong with a specification. `target`: whether that is new; an old one stays, whatever the operator allows now.
fn check(
    state: &ApiState,
    spec: &IntegrationSpec,
    target: bool,
    password: Option<&SecretString>,
) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    faults.text("name", &spec.name, NAME_MAX);
    faults.text("target", &spec.target, TARGET_MAX);
    if target && !spec.target.is_empty() {
        faults.take("target", state.integrations.check_target(spec.kind, &spec.target));
    }
    faults.check(
        spec.login.chars().count() <= LOGIN_MAX && !spec.login.chars().any(char::is_control),
        "login",
        format!("takes at most {LOGIN_MAX} characters, none of them a control character"),
    );
    if let Some(password) = password {
        let bytes = password.expose_secret().len();
        faults.check(
            (1..=PASSWORD_MAX).contains(&bytes),
            "password",
            format!("takes 1 to {PASSWORD_MAX} bytes"),
        );
        let named = spec.kind == IntegrationKind::Mqtt && !spec.login.is_empty();
        faults.check(named, "password", "is for a broker, with a login");
    }
    faults.check(!spec.topics.is_empty(), "topics", "needs at least one topic");
    faults.check(
        spec.quantities.len() <= QUANTITIES_MAX,
        "quantities",
        format!("takes at most {QUANTITIES_MAX}"),
    );
    for name in &spec.quantities {
        let good = !name.is_empty() && name.len() <= QUANTITY_MAX && !name.chars().any(char::is_control);
        faults.check(good, "quantities", format!("each takes 1 to {QUANTITY_MAX} bytes"));
    }
    check_options(&mut faults, spec);
    faults.done()
}

fn check_options(faults: &mut Faults, spec: &IntegrationSpec) {
    let options = &spec.options;
    faults.check(
        (1..=BATCH_MAX).contains(&options.batch_max),
        "batch_max",
        format!("takes 1 to {BATCH_MAX}"),
    );
    faults.check(
        options.batch_wait_s <= WAIT_MAX_S,
        "batch_wait_s",
        format!("takes at most {WAIT_MAX_S}"),
    );
    faults.check(
        options.expiry_s <= EXPIRY_MAX_S,
        "expiry_s",
        format!("takes at most {EXPIRY_MAX_S}"),
    );
    faults.take("prefix", check_prefix(&options.prefix));
    if let Some(prefix) = &options.discovery {
        faults.take("discovery", check_prefix(prefix));
        faults.check(
            options.shape == Shape::Values,
            "discovery",
            "needs shape values: Home Assistant reads a topic for each quantity",
        );
    }
}

fn sealed(state: &ApiState, password: &SecretString) -> Result<Vec<u8>, ApiError> {
    state
        .integrations
        .seal(password)
        .map_err(|error| ApiError::new(Kind::Internal, error))
}

/// The integrations of the account.
#[utoipa::path(tag = "integrations", params(IntegrationQuery),
    responses((status = 200, body = Page<IntegrationView>)))]
#[get("/integrations")]
async fn list_integrations(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Query(query): Query<IntegrationQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    let rows = book
        .list(request.after.map(IntegrationId), request.fetch(), state.clock.now())
        .await?;
    let page = request.page(rows, |(row, _)| row.id.0);
    Ok(HttpResponse::Ok().json(page.map(|(row, lag)| view(row, lag, None))))
}

/// Makes an integration, which is told of what is stored from now on. Of a webhook the answer has its secret, which cannot
/// be shown again.
#[utoipa::path(tag = "integrations", request_body = IntegrationBody, responses((status = 201, body = IntegrationView)))]
#[post("/integrations")]
async fn create_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Body(body): Body<IntegrationBody>,
) -> Result<HttpResponse, ApiError> {
    let spec = spec_of(&body);
    check(&state, &spec, true, body.password.as_ref())?;
    let password = body.password.as_ref().map(|password| sealed(&state, password));
    let made = book.add(&spec, password.transpose()?, state.clock.now()).await?;
    let (version, secret) = (made.version, secret_of(&made, &state));
    Ok(tagged(
        HttpResponse::Created(),
        version,
        &view(made, Lag::default(), secret),
    ))
}

/// An integration.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), responses((status = 200, body = IntegrationView)))]
#[get("/integrations/{id}")]
async fn get_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
) -> Result<HttpResponse, ApiError> {
    let (found, lag) = book.get(id, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &view(found, lag, None)))
}

/// Edits an integration, or switches it off and on. What happened while it was off follows, as far as it is kept.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), request_body = IntegrationEditBody,
    responses((status = 200, body = IntegrationView)))]
#[patch("/integrations/{id}")]
async fn edit_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<IntegrationEditBody>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let (before, _) = book.get(id, now).await?;
    let version = expected.version().unwrap_or(before.version);
    let spec = edited(before.spec, &body);
    let password = body.password.as_ref().and_then(Option::as_ref);
    check(&state, &spec, body.target.is_some(), password)?;
    let password = match &body.password {
        None => NewPassword::Keep,
        Some(None) => NewPassword::Remove,
        Some(Some(password)) => NewPassword::Sealed(sealed(&state, password)?),
    };
    book.set(id, &spec, password, Some(version), now).await?;
    let (after, lag) = book.get(id, now).await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &view(after, lag, None)))
}

/// Gives a webhook another secret, which the answer shows once. The old one signs beside it for a day.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), responses((status = 200, body = IntegrationView)))]
#[post("/integrations/{id}/secret")]
async fn change_integration_secret(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    if book.get(id, now).await?.0.spec.kind != IntegrationKind::Webhook {
        return Err(ApiError::new(Kind::Conflict, "only webhooks have a secret"));
    }
    book.new_salt(id, now + OLD_SECRET, now).await?;
    let (after, lag) = book.get(id, now).await?;
    let secret = secret_of(&after, &state);
    Ok(tagged(HttpResponse::Ok(), after.version, &view(after, lag, secret)))
}

/// Sends a test now, once: `type` is `test` and there are no items; to a broker on the topic `_test` of the account. The
/// answer says how it ended.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), responses((status = 200, body = IntegrationTest)))]
#[post("/integrations/{id}/test")]
async fn test_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let (found, _) = book.get(id, now).await?;
    if !state.integrations.enabled() {
        return Err(ApiError::new(
            Kind::Conflict,
            "this server tells nobody: its operator has switched [integrations] off",
        ));
    }
    let sent = Uuid::new_v4();
    let ended = state.integrations.test(&found, sent, now).await;
    Ok(HttpResponse::Ok().json(IntegrationTest {
        id: sent,
        ok: ended.is_ok(),
        error: ended.err().map(|error| error.to_string()),
    }))
}

/// Tries again at once, also what the server has stopped after days of failure.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), responses((status = 200, body = IntegrationView)))]
#[post("/integrations/{id}/resume")]
async fn resume_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    book.resume(id, now).await?;
    let (after, lag) = book.get(id, now).await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &view(after, lag, None)))
}

/// Deletes an integration. What is retained at a broker stays there.
#[utoipa::path(tag = "integrations", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/integrations/{id}")]
async fn delete_integration(
    state: web::Data<ApiState>,
    book: In<dyn IntegrationBook>,
    Id(id): Id<IntegrationId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    book.remove(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_integrations)
        .service(create_integration)
        .service(get_integration)
        .service(edit_integration)
        .service(change_integration_secret)
        .service(test_integration)
        .service(resume_integration)
        .service(delete_integration);
}

//! `/dtus`: what dials in, or is dialled, with its live state.

use super::ApiState;
use super::accounts::is_zone;
use super::auth::Caller;
use super::body::{Body, KeyedBody};
use super::dtu_form::{Checked, ConnectShape, DtuCreate, DtuPatch, pinned};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::{In, Reach};
use super::idempotency::{IdempotencyKey, once};
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::span;
use crate::base::ids::{AccountId, DtuId, ScheduleId, SessionId};
use crate::domain::device::{Connect, SerialNumber};
use crate::port::dtus::{Dtu, DtuEdit, DtuStore, PastSession};
use crate::port::field::LinkStats;
use crate::port::fleet::DtuLive;
use crate::port::idempotency::IdempotencyStore;
use crate::port::scope::StoreError;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A DTU with its live state.
#[derive(Debug, Serialize, ToSchema)]
pub struct DtuView {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: DtuId,
    /// Its account.
    #[schema(value_type = i32)]
    pub account_id: AccountId,
    /// Its serial number.
    #[schema(value_type = Option<String>, example = "DTU20260001")]
    pub sn: Option<SerialNumber>,
    /// Its name.
    pub name: String,
    /// How it is reached.
    #[schema(value_type = ConnectShape)]
    pub connect: Connect,
    /// A pinned registration profile; null: the recogniser learns.
    pub profile: Option<String>,
    /// IANA zone; null: the account's.
    pub time_zone: Option<String>,
    /// The schedule of its meters that have none of their own.
    #[schema(value_type = Option<i32>)]
    pub schedule_id: Option<ScheduleId>,
    /// Silence after which its session is taken for dead, seconds.
    pub silence_s: u32,
    /// Reply time-out of its line, milliseconds.
    pub timeout_ms: u32,
    /// Pause between a reply and the next request, milliseconds.
    pub pause_ms: u32,
    /// Disabled DTUs are refused at the port.
    pub enabled: bool,
    /// How many meters it has.
    pub meters: i64,
    /// Whether it has a session now.
    pub online: bool,
    /// Since when it is in that state; null: since the server started.
    pub since: Option<DateTime<Utc>>,
    /// Where it comes from.
    pub peer: Option<String>,
    /// Its session.
    #[schema(value_type = Option<i64>)]
    pub session_id: Option<SessionId>,
    /// Share of the last 24 hours (or of its life, if shorter) with a session, 0 to 1.
    pub online_share: f64,
    /// What the recogniser learned: framing, registration, heartbeats.
    #[schema(value_type = Option<Object>)]
    pub learned: Option<serde_json::Value>,
    /// Counters of its session.
    #[schema(value_type = Option<Object>)]
    pub stats: Option<LinkStats>,
    /// Two devices seem to share its serial number: it was taken over again and again from more than one address.
    pub clone_suspected: bool,
    /// It connected again and again within a minute and is refused until then.
    pub banned_until: Option<DateTime<Utc>>,
    /// Made.
    pub created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    pub version: i32,
}

impl DtuView {
    fn new(dtu: Dtu, live: Option<DtuLive>) -> Self {
        let live = live.unwrap_or(DtuLive {
            online: false,
            since: None,
            session: None,
            peer: None,
            stats: None,
            clone_suspected: false,
            banned_until: None,
        });
        let learned_now = live
            .stats
            .as_ref()
            .filter(|stats| !stats.learned.registration.is_empty())
            .and_then(|stats| serde_json::to_value(&stats.learned).ok());
        Self {
            id: dtu.id,
            account_id: dtu.account,
            sn: dtu.sn,
            name: dtu.name,
            connect: dtu.connect,
            profile: dtu.profile,
            time_zone: dtu.time_zone,
            schedule_id: dtu.schedule,
            silence_s: dtu.silence_s,
            timeout_ms: dtu.timeout_ms,
            pause_ms: dtu.pause_ms,
            enabled: dtu.enabled,
            meters: dtu.meters,
            online: live.online,
            since: live.since,
            peer: live.peer,
            session_id: live.session,
            online_share: (dtu.online_share * 10_000.0).round() / 10_000.0,
            learned: learned_now.or(dtu.learned),
            stats: live.stats,
            clone_suspected: live.clone_suspected,
            banned_until: live.banned_until,
            created_at: dtu.created_at,
            version: dtu.version,
        }
    }
}

async fn view(state: &ApiState, dtu: Dtu) -> DtuView {
    let live = state.fleet.live(&[dtu.id]).await.pop();
    DtuView::new(dtu, live)
}

/// Which DTUs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DtuQuery {
    /// Part of the name or serial number.
    text: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The DTUs, with their live state.
#[utoipa::path(tag = "dtus", params(DtuQuery), responses((status = 200, body = Page<DtuView>)))]
#[get("/dtus")]
async fn list_dtus(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Query(query): Query<DtuQuery>,
) -> Result<web::Json<Page<DtuView>>, ApiError> {
    let page = PageRequest::<DtuId>::new("dtus", query.limit, query.cursor.as_deref())?;
    let (rows, total) = dtus
        .list(query.text.as_deref(), page.after, page.fetch(), state.clock.now())
        .await?;
    let page = page.page(rows, |dtu| dtu.id).of_total(total);
    let ids: Vec<DtuId> = page.items.iter().map(|dtu| dtu.id).collect();
    let mut live = state.fleet.live(&ids).await.into_iter();
    Ok(web::Json(page.map(|dtu| DtuView::new(dtu, live.next()))))
}

/// Registers a DTU. One that waits in quarantine with this serial number is taken without a reconnect.
#[utoipa::path(tag = "dtus", params(("Idempotency-Key" = Option<String>, Header)),
    request_body = DtuCreate, responses((status = 201, body = DtuView)))]
#[post("/dtus")]
async fn create_dtu(
    state: web::Data<ApiState>,
    caller: Caller,
    dtus: In<dyn DtuStore>,
    keys: In<dyn IdempotencyStore>,
    key: IdempotencyKey,
    KeyedBody(body, digest): KeyedBody<DtuCreate>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    // only a schedule in place asks for it
    let zone = match &body.schedule {
        Some(_) => span::zone(&state, &caller, body.time_zone.as_deref().filter(|zone| is_zone(zone))).await?,
        None => chrono_tz::UTC,
    };
    let dtu = body.checked(&state, zone, now)?;
    let (status, made) = once(key, &*keys, now, "create_dtu", &digest, async || {
        let made = dtus.create(&dtu, now).await?;
        state.fleet.reload(made.id).await;
        Ok((StatusCode::CREATED, json(&view(&state, made).await)?))
    })
    .await?;
    let version = made.get("version").and_then(Value::as_i64).unwrap_or_default();
    Ok(tagged(
        HttpResponse::build(status),
        i32::try_from(version).unwrap_or_default(),
        &made,
    ))
}

fn json(view: &DtuView) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(|error| StoreError::Internal(error.to_string()).into())
}

/// One DTU, with its live state.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), responses((status = 200, body = DtuView)))]
#[get("/dtus/{id}")]
async fn get_dtu(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
) -> Result<HttpResponse, ApiError> {
    let dtu = dtus.get(id, state.clock.now()).await?;
    let version = dtu.version;
    Ok(tagged(HttpResponse::Ok(), version, &view(&state, dtu).await))
}

/// Changes a DTU; in force when the answer comes.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), ("If-Match" = String, Header)),
    request_body = DtuPatch, responses((status = 200, body = DtuView)))]
#[patch("/dtus/{id}")]
async fn edit_dtu(
    state: web::Data<ApiState>,
    caller: Caller,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<DtuPatch>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    Checked {
        name: body.name.as_deref(),
        connect: body.connect.as_ref(),
        profile: body.profile.as_ref().and_then(Option::as_deref),
        time_zone: body.time_zone.as_ref().and_then(Option::as_deref),
        silence_s: body.silence_s,
        timeout_ms: body.timeout_ms,
        pause_ms: body.pause_ms,
    }
    .check(&state, &mut faults);
    let now = state.clock.now();
    let schedule = match &body.schedule {
        Some(Some(schedule)) => {
            let before = dtus.get(id, now).await?;
            let named = body.time_zone.clone().unwrap_or(before.time_zone);
            let zone = span::zone(&state, &caller, named.as_deref().filter(|zone| is_zone(zone))).await?;
            let owner = body.name.as_deref().unwrap_or(&before.name);
            Some(schedule.choice("schedule", owner, zone, now, &mut faults))
        }
        Some(None) => Some(None),
        None => None,
    };
    faults.done()?;
    let edit = DtuEdit {
        sn: body.sn,
        name: body.name.map(|name| name.trim().to_owned()),
        connect: body.connect,
        profile: body.profile.map(pinned),
        time_zone: body.time_zone,
        schedule,
        silence_s: body.silence_s,
        timeout_ms: body.timeout_ms,
        pause_ms: body.pause_ms,
        enabled: body.enabled,
    };
    let dtu = dtus.update(id, &edit, expected.version(), now).await?;
    state.fleet.reload(id).await;
    let version = dtu.version;
    Ok(tagged(HttpResponse::Ok(), version, &view(&state, dtu).await))
}

/// Deletes a DTU without meters. Its history stays; its session is closed.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/dtus/{id}")]
async fn delete_dtu(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    dtus.delete(id, expected.version(), state.clock.now()).await?;
    state.fleet.reload(id).await;
    Ok(HttpResponse::NoContent().finish())
}

/// A session in history.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionItem {
    /// Its id.
    #[schema(value_type = i64)]
    pub id: SessionId,
    /// Where it came from.
    pub peer: String,
    /// Began.
    pub began_at: DateTime<Utc>,
    /// Ended; null: open.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it ended.
    #[schema(example = "silence")]
    pub cause: Option<String>,
    /// Its counters at the end.
    #[schema(value_type = Object)]
    pub counters: serde_json::Value,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SessionQuery {
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The sessions of a DTU, newest first.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), SessionQuery),
    responses((status = 200, body = Page<SessionItem>)))]
#[get("/dtus/{id}/sessions")]
async fn list_dtu_sessions(
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<SessionQuery>,
) -> Result<web::Json<Page<SessionItem>>, ApiError> {
    let page = PageRequest::<(DateTime<Utc>, SessionId)>::new("dtu-sessions", query.limit, query.cursor.as_deref())?;
    if !dtus.owns(id).await? {
        return Err(ApiError::not_found("DTU"));
    }
    let rows: Vec<PastSession> = dtus.sessions(id, page.after, page.fetch()).await?;
    let page = page.page(rows, |session| (session.began_at, session.id));
    Ok(web::Json(page.map(|session| SessionItem {
        id: session.id,
        peer: session.peer,
        began_at: session.began_at,
        ended_at: session.ended_at,
        cause: session.cause,
        counters: session.counters,
    })))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_dtus)
        .service(create_dtu)
        .service(get_dtu)
        .service(edit_dtu)
        .service(delete_dtu)
        .service(list_dtu_sessions);
}

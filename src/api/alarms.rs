//! `/alarms`: what is wrong, and what people do about it. Rules are in [`super::alarm_rules`].

use super::ApiState;
use super::body::BodyOrDefault;
use super::etag::{IfMatchOptional, tagged};
use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use crate::base::ids::{AlarmId, DtuId, GroupId, MeterId};
use crate::domain::alarm::{AlarmEdge, AlarmKind, Severity};
use crate::port::alarms::{AlarmDeed, AlarmFilter, AlarmState, AlarmStepView, AlarmStore, AlarmView, VictimView};
use crate::port::live::Topic;
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "alarms";
const VICTIMS: &str = "alarm victims";
const NOTE_MAX: usize = 2_000;
const SHELVE_MAX: TimeDelta = TimeDelta::days(366);

/// Which alarms.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlarmsQuery {
    /// States, separated by commas: `raised`, `acknowledged`, `shelved`, `cleared`; `open` stands for the first three.
    #[param(example = "open")]
    state: Option<String>,
    /// Kinds, separated by commas.
    #[param(example = "dtu_offline,deviation")]
    kind: Option<String>,
    /// At least this severe: `info`, `warning`, `critical`.
    severity: Option<String>,
    /// About this DTU or its meters.
    dtu_id: Option<i32>,
    /// About this meter.
    meter_id: Option<i32>,
    /// About meters of this group and the groups below it.
    group_id: Option<i32>,
    /// Consequences of this alarm.
    parent_id: Option<i64>,
    /// `true`: without the consequences of other alarms.
    causes_only: Option<bool>,
    /// Raised at or after.
    from: Option<DateTime<Utc>>,
    /// Raised before.
    to: Option<DateTime<Utc>>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Names separated by commas, each found by `find`.
fn names<T>(
    field: &str,
    text: Option<&str>,
    known: &[&str],
    find: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let given = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    given
        .filter(|name| !name.is_empty())
        .map(|name| {
            find(name).ok_or_else(|| {
                let message = format!("{name:?} is not known; known are {}", known.join(", "));
                ApiError::bad_query(field, message)
            })
        })
        .collect()
}

fn states(text: Option<&str>) -> Result<Vec<AlarmState>, ApiError> {
    use AlarmState::{Acknowledged, Cleared, Raised, Shelved};
    let known = ["open", "raised", "acknowledged", "shelved", "cleared"];
    let found = names("state", text, &known, |name| match name {
        "open" => Some(vec![Raised, Acknowledged, Shelved]),
        "raised" => Some(vec![Raised]),
        "acknowledged" => Some(vec![Acknowledged]),
        "shelved" => Some(vec![Shelved]),
        "cleared" => Some(vec![Cleared]),
        _ => None,
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn filter(query: &AlarmsQuery) -> Result<AlarmFilter, ApiError> {
    let kinds: Vec<&str> = AlarmKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let severities = Severity::ALL.map(Severity::as_str);
    let severity = names("severity", query.severity.as_deref(), &severities, Severity::by_name)?;
    Ok(AlarmFilter {
        states: states(query.state.as_deref())?,
        kinds: names("kind", query.kind.as_deref(), &kinds, AlarmKind::by_name)?,
        severity: severity.into_iter().min(),
        dtu: query.dtu_id.map(DtuId),
        meter: query.meter_id.map(MeterId),
        group: query.group_id.map(GroupId),
        parent: query.parent_id.map(AlarmId),
        causes_only: query.causes_only.unwrap_or(false),
        from: query.from,
        to: query.to,
    })
}

/// Alarms, the newest first. For role `platform` without an account: of all accounts, and the server's own.
#[utoipa::path(tag = "alarms", params(AlarmsQuery), responses((status = 200, body = Page<AlarmView>)))]
#[get("/alarms")]
async fn list_alarms(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Query(query): Query<AlarmsQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i64>::new(LIST, query.limit, query.cursor.as_deref())?;
    let filter = filter(&query)?;
    let rows = alarms
        .list(&filter, request.after.map(AlarmId), request.fetch(), state.clock.now())
        .await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0)))
}

/// An alarm with what happened to it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlarmDetail {
    #[serde(flatten)]
    alarm: AlarmView,
    /// What happened, the oldest first.
    steps: Vec<AlarmStepView>,
}

/// An alarm with every step of its life.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), responses((status = 200, body = AlarmDetail)))]
#[get("/alarms/{id}")]
async fn get_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
) -> Result<HttpResponse, ApiError> {
    shown(&state, &*alarms, id).await
}

async fn shown(state: &ApiState, alarms: &dyn AlarmStore, id: AlarmId) -> Result<HttpResponse, ApiError> {
    let alarm = alarms.get(id, state.clock.now()).await?;
    let steps = alarms.steps(id).await?;
    let version = alarm.version;
    Ok(tagged(HttpResponse::Ok(), version, &AlarmDetail { alarm, steps }))
}

/// Which victims.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VictimsQuery {
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The DTUs that one alarm stands for, with when each came back.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path), VictimsQuery),
    responses((status = 200, body = Page<VictimView>)))]
#[get("/alarms/{id}/victims")]
async fn list_alarm_victims(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    Query(query): Query<VictimsQuery>,
) -> Result<HttpResponse, ApiError> {
    alarms.get(id, state.clock.now()).await?;
    let request = PageRequest::<i32>::new(VICTIMS, query.limit, query.cursor.as_deref())?;
    let rows = alarms.victims(id, request.after.map(DtuId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.dtu_id.0)))
}

/// What is said with it.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoteBody {
    /// In words, at most 2000 characters.
    #[schema(example = "electrician is on the way")]
    note: String,
}

/// Until when.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShelveBody {
    /// Until then; at most a year ahead.
    until: Option<DateTime<Utc>>,
    /// Why, at most 2000 characters.
    note: String,
}

async fn act(
    state: &ApiState,
    alarms: &dyn AlarmStore,
    id: AlarmId,
    deed: AlarmDeed,
    note: &str,
    expected: &IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    if note.chars().count() > NOTE_MAX {
        return Err(ApiError::invalid(
            "note",
            format!("takes at most {NOTE_MAX} characters"),
        ));
    }
    let edge = alarms
        .act(id, &deed, note, expected.0.version(), state.clock.now())
        .await?;
    show(state, &edge);
    shown(state, alarms, id).await
}

/// Shows a step on the live stream, as the alarm actor does with its own.
fn show(state: &ApiState, edge: &AlarmEdge) {
    let Some(account) = edge.account else { return };
    let (dtu, meter) = (edge.subject.dtu(), edge.subject.meter());
    state.feed.publish(account, Topic::Alarms, dtu, meter, edge.to_event());
}

/// Says that somebody takes care of it. Once is enough.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), request_body = Option<NoteBody>,
    responses((status = 200, body = AlarmDetail)))]
#[post("/alarms/{id}/acknowledge")]
async fn acknowledge_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    expected: IfMatchOptional,
    BodyOrDefault(body): BodyOrDefault<NoteBody>,
) -> Result<HttpResponse, ApiError> {
    act(&state, &*alarms, id, AlarmDeed::Acknowledge, &body.note, &expected).await
}

/// Adds a comment, also to what is cleared.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), request_body = NoteBody,
    responses((status = 200, body = AlarmDetail)))]
#[post("/alarms/{id}/comment")]
async fn comment_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    expected: IfMatchOptional,
    BodyOrDefault(body): BodyOrDefault<NoteBody>,
) -> Result<HttpResponse, ApiError> {
    if body.note.trim().is_empty() {
        return Err(ApiError::invalid(
            "note",
            "is what the comment says; it cannot be empty",
        ));
    }
    act(&state, &*alarms, id, AlarmDeed::Comment, &body.note, &expected).await
}

/// Puts an alarm aside until a time: it stays open, is not forwarded, and if it goes away and comes again before, it is
/// aside again.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), request_body = ShelveBody,
    responses((status = 200, body = AlarmDetail)))]
#[post("/alarms/{id}/shelve")]
async fn shelve_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    expected: IfMatchOptional,
    BodyOrDefault(body): BodyOrDefault<ShelveBody>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let until = body
        .until
        .ok_or_else(|| ApiError::invalid("until", "says until when; it is needed"))?;
    if until <= now || until.signed_duration_since(now) > SHELVE_MAX {
        return Err(ApiError::invalid("until", "lies in the past or more than a year ahead"));
    }
    act(&state, &*alarms, id, AlarmDeed::Shelve(until), &body.note, &expected).await
}

/// Takes an alarm back from where it was put aside.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), request_body = Option<NoteBody>,
    responses((status = 200, body = AlarmDetail)))]
#[post("/alarms/{id}/unshelve")]
async fn unshelve_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    expected: IfMatchOptional,
    BodyOrDefault(body): BodyOrDefault<NoteBody>,
) -> Result<HttpResponse, ApiError> {
    act(&state, &*alarms, id, AlarmDeed::Unshelve, &body.note, &expected).await
}

/// Says that it is over. What cannot become right again by itself (a register that went back, a clone) ends this way; of
/// what still is wrong a new alarm may come, so put that aside instead.
#[utoipa::path(tag = "alarms", params(("id" = i64, Path)), request_body = Option<NoteBody>,
    responses((status = 200, body = AlarmDetail)))]
#[post("/alarms/{id}/clear")]
async fn clear_alarm(
    state: web::Data<ApiState>,
    alarms: Reach<dyn AlarmStore>,
    Id(id): Id<AlarmId>,
    expected: IfMatchOptional,
    BodyOrDefault(body): BodyOrDefault<NoteBody>,
) -> Result<HttpResponse, ApiError> {
    act(&state, &*alarms, id, AlarmDeed::Clear, &body.note, &expected).await
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_alarms)
        .service(list_alarm_victims)
        .service(acknowledge_alarm)
        .service(comment_alarm)
        .service(shelve_alarm)
        .service(unshelve_alarm)
        .service(clear_alarm)
        .service(get_alarm);
}

//! `/alarm-rules` and `/meters/{id}/profile`: what is judged, where, and what a rule would have said of the past.

use super::ApiState;
use super::body::Body;
use super::etag::{Expected, IfMatch, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::span;
use crate::base::ids::{AlarmRuleId, CalendarId, GroupId, MeterId};
use crate::domain::alarm::deviation::profile;
use crate::domain::alarm::rule::{Check, DeviationCheck, NAME_MAX, Rule, Scope, defaults};
use crate::domain::alarm::trial::{Happened, Told, can_try, of_hours, of_readings};
use crate::domain::alarm::{Severity, Subject};
use crate::domain::quantity::{Kind as QuantityKind, Quantity};
use crate::domain::schedule::parse_zone;
use crate::port::alarms::{AlarmRuleForm, AlarmRuleStore, AlarmRuleVersion, AlarmRuleView, HourValue, Past, PastAsked};
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "alarm rules";
/// Meters of one trial.
const TRIAL_METERS_MAX: u32 = 50;
/// Readings of one meter in a trial.
const TRIAL_RECORDS_MAX: u32 = 10_000;
/// Alarms that a trial shows.
const TRIAL_TOLD_MAX: usize = 1_000;
const TRIAL_SPAN_MAX: TimeDelta = TimeDelta::days(62);

/// A rule.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmRuleBody {
    /// Its name.
    #[schema(example = "strong peaks in the south wing")]
    name: String,
    /// Only for meters of this group and the groups below it.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Only for this meter.
    #[schema(value_type = Option<i32>)]
    meter_id: Option<MeterId>,
    /// Off, it quiets what a less specific rule would say; default on.
    #[serde(default = "on")]
    enabled: bool,
    /// How much its alarms matter; default `warning`.
    #[serde(default)]
    severity: Severity,
    /// What is judged: `kind` and the fields of that kind.
    check: Check,
}

fn on() -> bool {
    true
}

fn scope(group: Option<GroupId>, meter: Option<MeterId>) -> Scope {
    match (group, meter) {
        (_, Some(meter)) => Scope::Meter(meter),
        (Some(group), None) => Scope::Group(group),
        (None, None) => Scope::Account,
    }
}

fn field(name: &str) -> String {
    format!("check.{name}")
}

fn form(body: AlarmRuleBody) -> Result<AlarmRuleForm, ApiError> {
    let mut faults = Faults::new();
    let length = body.name.trim().chars().count();
    faults.check(
        (1..=NAME_MAX).contains(&length),
        "name",
        format!("takes 1 to {NAME_MAX} characters"),
    );
    faults.check(
        body.group_id.is_none() || body.meter_id.is_none(),
        "meter_id",
        "name a group or a meter, not both",
    );
    let narrow = body.group_id.is_some() || body.meter_id.is_some();
    faults.check(
        !narrow || body.check.is_of_meters(),
        "check.kind",
        "is judged for the whole account: leave `group_id` and `meter_id` out",
    );
    for fault in body.check.faults() {
        faults.check(false, &field(fault.field), fault.message);
    }
    faults.done()?;
    Ok(AlarmRuleForm {
        name: body.name.trim().to_owned(),
        scope: scope(body.group_id, body.meter_id),
        enabled: body.enabled,
        severity: body.severity,
        check: body.check,
    })
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlarmRulesQuery {
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The account's own rules, by id. Where none of a kind applies, the built-in one does.
#[utoipa::path(tag = "alarms", params(AlarmRulesQuery), responses((status = 200, body = Page<AlarmRuleView>)))]
#[get("/alarm-rules")]
async fn list_alarm_rules(
    rules: In<dyn AlarmRuleStore>,
    Query(query): Query<AlarmRulesQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    let rows = rules.list(request.after.map(AlarmRuleId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.map_or(0, |id| id.0))))
}

/// Rules.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlarmRulesView {
    /// All of them.
    items: Vec<AlarmRuleView>,
}

/// The built-in rules: what applies where an account, a group or a meter has none of that kind.
#[utoipa::path(tag = "alarms", responses((status = 200, body = AlarmRulesView)))]
#[get("/alarm-rules/defaults")]
async fn list_default_alarm_rules() -> Result<HttpResponse, ApiError> {
    let items = defaults()
        .into_iter()
        .map(|rule| AlarmRuleView {
            id: None,
            name: match rule.check.quantity() {
                "" => rule.check.kind().to_string(),
                quantity => format!("{} of {quantity}", rule.check.kind()),
            },
            group_id: None,
            meter_id: None,
            enabled: rule.enabled,
            severity: rule.severity,
            check: rule.check,
            created_at: None,
            version: 0,
        })
        .collect();
    Ok(HttpResponse::Ok().json(AlarmRulesView { items }))
}

/// Makes a rule. From the next look on (some fifteen seconds) it takes the place of less specific ones of its kind, and for
/// thresholds, deviation and status bits of its quantity.
#[utoipa::path(tag = "alarms", request_body = AlarmRuleBody, responses((status = 201, body = AlarmRuleView)))]
#[post("/alarm-rules")]
async fn create_alarm_rule(
    state: web::Data<ApiState>,
    rules: In<dyn AlarmRuleStore>,
    Body(body): Body<AlarmRuleBody>,
) -> Result<HttpResponse, ApiError> {
    let made = rules.create(&form(body)?, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Created(), made.version, &made))
}

/// A rule.
#[utoipa::path(tag = "alarms", params(("id" = i32, Path)), responses((status = 200, body = AlarmRuleView)))]
#[get("/alarm-rules/{id}")]
async fn get_alarm_rule(rules: In<dyn AlarmRuleStore>, Id(id): Id<AlarmRuleId>) -> Result<HttpResponse, ApiError> {
    let found = rules.get(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &found))
}

/// What a rule said when.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlarmRuleVersionsView {
    /// The newest first.
    items: Vec<AlarmRuleVersion>,
}

/// Every version of a rule, also of a deleted one, with who wrote it and from when to when it was in force.
#[utoipa::path(tag = "alarms", params(("id" = i32, Path)), responses((status = 200, body = AlarmRuleVersionsView)))]
#[get("/alarm-rules/{id}/versions")]
async fn list_alarm_rule_versions(
    rules: In<dyn AlarmRuleStore>,
    Id(id): Id<AlarmRuleId>,
) -> Result<HttpResponse, ApiError> {
    let items = rules.versions(id).await?;
    Ok(HttpResponse::Ok().json(AlarmRuleVersionsView { items }))
}

fn version_of(expected: Expected) -> Option<i32> {
    expected.version()
}

/// Writes a rule anew, whole. What it raised stays until it is right by the new one; the old version stays readable.
#[utoipa::path(tag = "alarms", params(("id" = i32, Path)), request_body = AlarmRuleBody,
    responses((status = 200, body = AlarmRuleView)))]
#[put("/alarm-rules/{id}")]
async fn edit_alarm_rule(
    state: web::Data<ApiState>,
    rules: In<dyn AlarmRuleStore>,
    Id(id): Id<AlarmRuleId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<AlarmRuleBody>,
) -> Result<HttpResponse, ApiError> {
    let form = form(body)?;
    let written = rules.update(id, &form, version_of(expected), state.clock.now()).await?;
    Ok(tagged(HttpResponse::Ok(), written.version, &written))
}

/// Deletes a rule; the next look clears what it raised.
#[utoipa::path(tag = "alarms", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/alarm-rules/{id}")]
async fn delete_alarm_rule(
    state: web::Data<ApiState>,
    rules: In<dyn AlarmRuleStore>,
    Id(id): Id<AlarmRuleId>,
    IfMatch(expected): IfMatch,
) -> Result<HttpResponse, ApiError> {
    rules.delete(id, version_of(expected), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A rule and the past that it is tried on.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmTrialBody {
    /// What is judged.
    check: Check,
    /// On the meters of this group and the groups below it.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// On this meter; neither: on all of the account.
    #[schema(value_type = Option<i32>)]
    meter_id: Option<MeterId>,
    /// From when; default a week before `to`.
    from: Option<DateTime<Utc>>,
    /// Until when; default now. At most 62 days.
    to: Option<DateTime<Utc>>,
}

/// What a rule would have said of a meter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TrialItem {
    /// Which.
    #[schema(value_type = i32)]
    meter_id: MeterId,
    #[serde(flatten)]
    told: Told,
}

/// What a rule would have said.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlarmTrialView {
    /// From when it was tried.
    from: DateTime<Utc>,
    /// Until when.
    to: DateTime<Utc>,
    /// On how many meters: at most the first 50.
    meters: usize,
    /// The alarms that would have been, by meter and time; at most 1000.
    items: Vec<TrialItem>,
    /// There are more meters, readings or alarms than were looked at or are shown.
    cut: bool,
}

fn map(hours: &[HourValue]) -> HashMap<DateTime<Utc>, f64> {
    hours.iter().map(|hour| (hour.start, hour.value)).collect()
}

/// How far back comparable hours lie.
fn reach(check: &DeviationCheck) -> TimeDelta {
    TimeDelta::days(7 * i64::from(check.weeks) + 1)
}

fn asked(check: &Check, meter: MeterId, from: DateTime<Utc>, to: DateTime<Utc>) -> PastAsked {
    let deviation = match check {
        Check::Deviation(check) => Some(check),
        _ => None,
    };
    PastAsked {
        meter,
        from,
        to,
        records_max: if deviation.is_some() { 0 } else { TRIAL_RECORDS_MAX },
        hours_of: deviation.map(|check| (check.quantity, reach(check))),
        calendar: deviation.and_then(|check| check.calendar_id).map(|calendar| calendar.0),
    }
}

/// Tries a rule on one meter's past.
fn tried(rule: &Rule, past: &Past, from: DateTime<Utc>) -> Result<Vec<Told>, ApiError> {
    let Some(fact) = past.fact else { return Ok(Vec::new()) };
    if let Check::Deviation(check) = &rule.check {
        let zone = parse_zone(&past.zone).map_err(|error| ApiError::new(Kind::Internal, error.to_string()))?;
        return Ok(of_hours(check, zone, &past.holidays, &map(&past.hours), from));
    }
    let partial: std::collections::HashSet<DateTime<Utc>> = past
        .records
        .iter()
        .flat_map(|record| &record.endings)
        .filter(|ending| ending.state == crate::domain::slot::SlotState::Missing)
        .map(|ending| ending.due_at)
        .collect();
    let happened = past.records.iter().flat_map(|record| {
        let endings = record.endings.iter().map(Happened::Ending);
        let reading = record
            .reading
            .as_ref()
            .map(|reading| Happened::Reading(reading, partial.contains(&reading.ts)));
        endings.chain(reading)
    });
    let subject = Subject::Meter {
        meter: fact.id,
        dtu: fact.dtu,
    };
    Ok(of_readings(rule, fact.account, subject, happened))
}

/// Tries a rule on the past: which alarms it would have raised, and when they would have been over. Writes nothing.
#[utoipa::path(tag = "alarms", request_body = AlarmTrialBody, responses((status = 200, body = AlarmTrialView)))]
#[post("/alarm-rules/test")]
async fn try_alarm_rule(
    state: web::Data<ApiState>,
    rules: In<dyn AlarmRuleStore>,
    Body(body): Body<AlarmTrialBody>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    for fault in body.check.faults() {
        faults.check(false, &field(fault.field), fault.message);
    }
    faults.check(
        can_try(&body.check),
        "check.kind",
        "judges the present (sessions, commands, shares) and cannot be tried on a meter's past",
    );
    faults.done()?;
    let now = state.clock.now();
    let (from, to) = span::span(body.from, body.to, now, TimeDelta::days(7), TRIAL_SPAN_MAX)?;
    let scope = scope(body.group_id, body.meter_id);
    let mut meters = rules.meters(scope, TRIAL_METERS_MAX.saturating_add(1)).await?;
    let most = usize::try_from(TRIAL_METERS_MAX).unwrap_or(usize::MAX);
    let mut cut = meters.len() > most;
    meters.truncate(most);
    let rule = Rule {
        id: None,
        account: None,
        scope: Scope::Account,
        enabled: true,
        severity: Severity::default(),
        check: body.check,
    };
    let mut items = Vec::new();
    for meter in &meters {
        let past = rules.past(&asked(&rule.check, *meter, from, to)).await?;
        let records = usize::try_from(TRIAL_RECORDS_MAX).unwrap_or(usize::MAX);
        cut |= past.records.len() >= records;
        let told = tried(&rule, &past, from)?;
        items.extend(told.into_iter().map(|told| TrialItem { meter_id: *meter, told }));
    }
    cut |= items.len() > TRIAL_TOLD_MAX;
    items.truncate(TRIAL_TOLD_MAX);
    Ok(HttpResponse::Ok().json(AlarmTrialView {
        from,
        to,
        meters: meters.len(),
        items,
        cut,
    }))
}

/// Of what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProfileQuery {
    /// The register; default `active_energy_import`.
    quantity: Option<String>,
    /// Weeks of the past, 2 to 12; default 8.
    weeks: Option<u8>,
    /// A calendar whose holidays are left out.
    calendar_id: Option<i32>,
}

/// One hour of the week.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileBin {
    /// 1 Monday to 7 Sunday.
    weekday: u8,
    /// The hour of the account's wall clock.
    hour: u8,
    /// What is usual in such an hour (median), in the register's unit; null: too little is known.
    expected: Option<f64>,
    /// Its robust standard deviation.
    spread: Option<f64>,
    /// Hours that this rests on, the neighbours' included.
    samples: usize,
}

/// What is usual for a meter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProfileView {
    /// The register.
    quantity: &'static str,
    /// Its unit.
    unit: &'static str,
    /// The zone of the wall clock.
    time_zone: String,
    /// The 168 hours of the week, Monday midnight first.
    items: Vec<ProfileBin>,
}

/// What a meter usually consumes at each hour of the week: what deviations are judged by.
#[utoipa::path(tag = "alarms", params(("id" = i32, Path), ProfileQuery), responses((status = 200, body = ProfileView)))]
#[get("/meters/{id}/profile")]
async fn get_profile(
    state: web::Data<ApiState>,
    rules: In<dyn AlarmRuleStore>,
    Id(id): Id<MeterId>,
    Query(query): Query<ProfileQuery>,
) -> Result<HttpResponse, ApiError> {
    let name = query.quantity.as_deref().unwrap_or("active_energy_import");
    let quantity = Quantity::by_name(name)
        .filter(|quantity| quantity.kind() == QuantityKind::Register)
        .ok_or_else(|| ApiError::bad_query("quantity", format!("{name:?} is no register")))?;
    let check = DeviationCheck {
        quantity,
        weeks: query.weeks.unwrap_or(8),
        calendar_id: query.calendar_id.map(CalendarId),
        ..DeviationCheck::default()
    };
    if !(2..=12).contains(&check.weeks) {
        return Err(ApiError::bad_query("weeks", "must be 2 to 12"));
    }
    let now = state.clock.now();
    let wanted = Check::Deviation(check.clone());
    let past = rules.past(&asked(&wanted, id, now, now)).await?;
    let zone = parse_zone(&past.zone).map_err(|error| ApiError::new(Kind::Internal, error.to_string()))?;
    let items = profile(&check, zone, &past.holidays, &map(&past.hours), now)
        .into_iter()
        .map(|bin| ProfileBin {
            weekday: bin.weekday,
            hour: bin.hour,
            expected: bin.usual.map(|usual| usual.expected),
            spread: bin.usual.map(|usual| usual.spread),
            samples: bin.usual.map_or(0, |usual| usual.samples),
        })
        .collect();
    Ok(HttpResponse::Ok().json(ProfileView {
        quantity: quantity.name(),
        unit: quantity.unit().symbol(),
        time_zone: past.zone,
        items,
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_alarm_rules)
        .service(list_default_alarm_rules)
        .service(create_alarm_rule)
        .service(try_alarm_rule)
        .service(list_alarm_rule_versions)
        .service(get_alarm_rule)
        .service(edit_alarm_rule)
        .service(delete_alarm_rule)
        .service(get_profile);
}

//! `/dtus/{id}/scan` and `/scans/{id}`: finding out what hangs on a line, and making meters of what was found.
//!
//! A scan goes on when nobody watches; what it found is kept for a day in the desk ([`super::scan_desk`]). The server's
//! restart ends a scan: it has to be begun anew.

use super::ApiState;
use super::auth::Caller;
use super::body::BodyOrDefault;
use super::handle::In;
use super::meter_form::{choices, fitting, texts};
use super::problem::{ApiError, Faults, Kind};
use super::query::Id;
use super::scan_desk::{ScanState, ScanView};
use super::schedule_form::ScheduleRef;
use super::span;
use crate::base::ids::{AccountId, DtuId, GroupId};
use crate::domain::archive::ArchiveEntry;
use crate::port::archive::ArchiveStore;
use crate::port::dtus::DtuStore;
use crate::port::live::Topic;
use crate::port::mesh::MeshStore;
use crate::port::meters::{Meter, MeterQuery, MeterStore, NewMeter};
use crate::port::scan::{ArchivePlace, FoundMeter, Protocol, ScanPlan, ScanProgress};
use crate::port::scope::{Scope, StoreError};
use crate::telemetry::concentrator::MeshLost;
use actix_web::http::header;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Meters made by one call.
const ADOPT_MAX: usize = 2_040;
/// Meters of a DTU that are looked through at once.
const KNOWN_AT_ONCE: u32 = 1_000;

/// What is to be looked for.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanBody {
    /// Protocols by name; none: all that a line may carry.
    #[serde(default)]
    #[schema(example = json!(["dlt645-2007", "modbus-rtu"]))]
    protocols: Vec<String>,
    /// The Modbus units that are tried, first and last; default 1 and 247.
    units: Option<(u8, u8)>,
    /// Ask on where a meter was found already; takes long.
    #[serde(default)]
    thorough: bool,
}

fn plan(body: &ScanBody) -> Result<ScanPlan, ApiError> {
    let mut faults = Faults::new();
    let mut plan = ScanPlan {
        thorough: body.thorough,
        ..ScanPlan::default()
    };
    let on_lines: Vec<&str> = plan.protocols.iter().map(|protocol| protocol.name()).collect();
    let mut wanted = Vec::new();
    for name in &body.protocols {
        let known = Protocol::by_name(name).filter(|protocol| plan.protocols.contains(protocol));
        let text = format!("{name:?} is not one of {}", on_lines.join(", "));
        faults.check(known.is_some(), "protocols", text);
        wanted.extend(known);
    }
    if let Some((first, last)) = body.units {
        let fits = 1 <= first && first <= last && last <= plan.units.1;
        faults.check(
            fits,
            "units",
            format!("are the first and last of 1 to {}", plan.units.1),
        );
        plan.units = (first, last);
    }
    faults.done()?;
    if !wanted.is_empty() {
        wanted.dedup();
        plan.protocols = wanted;
    }
    Ok(plan)
}

/// Starts looking for meters on a DTU's line. Scheduled reads and commands go first; topic `jobs` of the stream tells
/// how far it is.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), request_body = Option<ScanBody>,
    responses((status = 202, body = ScanView)))]
#[post("/dtus/{id}/scan")]
async fn scan_dtu(
    state: web::Data<ApiState>,
    caller: Caller,
    dtus: In<dyn DtuStore>,
    Id(id): Id<DtuId>,
    BodyOrDefault(body): BodyOrDefault<ScanBody>,
) -> Result<HttpResponse, ApiError> {
    let plan = plan(&body)?;
    dtus.get(id, state.clock.now()).await?;
    online(&state, id).await?;
    begin(&state, &caller, id, plan)
}

/// Refuses to search where nobody is.
///
/// # Errors
/// `conflict` for a DTU that is offline.
pub(super) async fn online(state: &ApiState, id: DtuId) -> Result<(), ApiError> {
    if state.fleet.live(&[id]).await.first().is_some_and(|live| live.online) {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::Conflict,
        "the DTU is offline; its line cannot be searched",
    ))
}

/// Begins a scan, and answers where it is told of.
///
/// # Errors
/// `conflict` where one is under way, `busy` where too many are.
pub(super) fn begin(state: &ApiState, caller: &Caller, id: DtuId, plan: ScanPlan) -> Result<HttpResponse, ApiError> {
    let scope = caller.scope()?;
    let view = state.scans.open(scope.account, id, state.clock.now())?;
    let task = tokio::spawn(run(state.clone(), scope, id, view.id, plan));
    state.scans.begun(view.id, task.abort_handle());
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{}/scans/{}", super::BASE, view.id)))
        .json(view))
}

/// Runs a scan to its end, whoever watches.
async fn run(state: ApiState, scope: Scope, dtu: DtuId, id: Uuid, plan: ScanPlan) {
    let account = scope.account;
    let writes = !plan.writes.is_empty();
    let teller = state.clone();
    let tell = move |progress: ScanProgress| {
        if let Some(view) = teller.scans.progress(id, progress, teller.clock.now()) {
            publish(&teller, account, &view);
        }
    };
    let outcome = state.fleet.scan(dtu, plan, Arc::new(tell)).await;
    if let Some(view) = state.scans.end(id, outcome, state.clock.now()) {
        publish(&state, account, &view);
        if writes {
            note_written(&state, scope.clone(), &view).await;
        }
        keep_mesh(&state, scope, &view).await;
    }
}

/// What became of what was written is in the audit, like what was about to be.
async fn note_written(state: &ApiState, scope: Scope, view: &ScanView) {
    let archives: Box<dyn ArchiveStore> = state.stores.in_account(scope);
    let (reason, now) = (view.reason.as_deref(), state.clock.now());
    if let Err(error) = archives.end_write(view.dtu_id, &view.written, reason, now).await {
        let dtu = view.dtu_id.0;
        MeshLost {
            dtu,
            places: view.written.len(),
            why: &error.to_string(),
        }
        .emit();
    }
}

/// What a concentrator said of its meters outlives the scan.
async fn keep_mesh(state: &ApiState, scope: Scope, view: &ScanView) {
    let places: Vec<(u16, ArchivePlace)> = view
        .found
        .iter()
        .filter_map(|item| Some((item.found.point()?, item.found.archive.clone()?)))
        .collect();
    if places.is_empty() {
        return;
    }
    let meshes: Box<dyn MeshStore> = state.stores.in_account(scope);
    let whole = view.state == ScanState::Done;
    let kept = meshes
        .keep(view.dtu_id, &places, whole, view.ended_at.unwrap_or(view.began_at))
        .await;
    if let Err(error) = kept {
        let dtu = view.dtu_id.0;
        MeshLost {
            dtu,
            places: places.len(),
            why: &error.to_string(),
        }
        .emit();
    }
}

fn publish(state: &ApiState, account: AccountId, view: &ScanView) {
    // texts and numbers alone: it always serialises
    let data = serde_json::json!({ "kind": "scan", "scan": view });
    state.feed.publish(account, Topic::Jobs, Some(view.dtu_id), None, data);
}

/// Says which of the found ones are meters of this line already.
async fn marked(meters: &dyn MeterStore, mut view: ScanView, now: DateTime<Utc>) -> Result<ScanView, ApiError> {
    let mut query = MeterQuery {
        dtu: Some(view.dtu_id),
        limit: KNOWN_AT_ONCE,
        ..MeterQuery::default()
    };
    let mut known = HashMap::new();
    loop {
        let (page, _) = meters.list(&query, now).await?;
        query.after = page.last().map(|meter| meter.id);
        let more = page.len() >= usize::try_from(KNOWN_AT_ONCE).unwrap_or(usize::MAX);
        known.extend(
            page.into_iter()
                .map(|meter| ((meter.protocol, meter.address), meter.id)),
        );
        if !more {
            break;
        }
    }
    for item in &mut view.found {
        let place = (item.found.protocol.clone(), item.found.address.clone());
        item.meter_id = known.remove(&place);
    }
    // a concentrator's archive says who is there, so that it is known who is not
    let whole = view.state == ScanState::Done && view.found.iter().any(|item| item.found.archive.is_some());
    if whole {
        let archived = [Protocol::Gdw376, Protocol::Dlt698].map(Protocol::name);
        let of_archive = known
            .into_iter()
            .filter(|((protocol, _), _)| archived.contains(&protocol.as_str()));
        view.absent = of_archive.map(|(_, meter)| meter).collect();
        view.absent.sort_unstable();
    }
    Ok(view)
}

/// How a scan stands and what it found; for a day after its end.
#[utoipa::path(tag = "dtus", params(("id" = String, Path)), responses((status = 200, body = ScanView)))]
#[get("/scans/{id}")]
async fn get_scan(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let view = state.scans.find(caller.account()?, id);
    let view = view.ok_or_else(|| ApiError::not_found("scan"))?;
    let view = marked(&*meters, view, state.clock.now()).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// Ends a scan; what it found by now stays.
#[utoipa::path(tag = "dtus", params(("id" = String, Path)), responses((status = 200, body = ScanView)))]
#[delete("/scans/{id}")]
async fn cancel_scan(state: web::Data<ApiState>, caller: Caller, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    let account = caller.account()?;
    let view = state.scans.cancel(account, id, state.clock.now());
    let view = view.ok_or_else(|| ApiError::not_found("scan"))?;
    publish(&state, account, &view);
    Ok(HttpResponse::Ok().json(view))
}

/// One meter to be made of what was found.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptItem {
    /// Protocol of the found meter.
    protocol: String,
    /// Its address, as the scan says it.
    address: String,
    /// Its model; none: the one that the scan proposes.
    model: Option<String>,
    /// Its name; none: model and address.
    name: Option<String>,
}

/// Which meters are to be made.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptBody {
    /// Which; none: all that have a model and are no meter yet.
    meters: Option<Vec<AdoptItem>>,
    /// Their group.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Their schedule, one that exists; none: that of their DTU, else of their account.
    schedule: Option<ScheduleRef>,
}

/// What became of the found meters.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Adopted {
    /// Made, in order.
    meters: Vec<Meter>,
    /// Left out, and why.
    left_out: Vec<String>,
}

/// Makes meters, with their metering points, of what a scan found.
#[utoipa::path(tag = "dtus", params(("id" = String, Path)), request_body = Option<AdoptBody>,
    responses((status = 201, body = Adopted)))]
#[post("/scans/{id}/meters")]
async fn adopt_scan(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    archives: In<dyn ArchiveStore>,
    Id(id): Id<Uuid>,
    BodyOrDefault(body): BodyOrDefault<AdoptBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let now = state.clock.now();
    let view = state.scans.find(caller.account()?, id);
    let view = view.ok_or_else(|| ApiError::not_found("scan"))?;
    let view = marked(&*meters, view, now).await?;
    let (wanted, mut left_out) = wanted(&view, body.meters)?;
    let mut faults = Faults::new();
    let mut made = Vec::new();
    for (place, item) in wanted.into_iter().enumerate() {
        let prefix = format!("meters.{place}.");
        let model = item.model.unwrap_or_default();
        let address = fitting(&state, &item.protocol, &model, &item.address, &prefix, &mut faults);
        let name = item.name.unwrap_or_else(|| format!("{model} {address}"));
        texts(Some(&name), None, &mut faults);
        let schedules = choices(body.schedule.as_ref(), &[], &name, zone, now, &mut faults);
        made.push(NewMeter {
            dtu: view.dtu_id,
            protocol: item.protocol,
            address,
            model,
            name,
            comment: String::new(),
            group: body.group_id,
            schedules,
            ct_ratio: Decimal::ONE,
            vt_ratio: Decimal::ONE,
            point: None,
        });
    }
    faults.done()?;
    let mut adopted = Vec::new();
    for new in made {
        match meters.create(&new, now).await {
            Ok(change) => adopted.push(change.meter),
            // somebody made it in the meantime; the others are made all the same
            Err(error @ StoreError::Conflict { .. }) => {
                left_out.push(format!("{} {}: {error}", new.protocol, new.address));
            }
            Err(error) => {
                state.fleet.reload(view.dtu_id).await;
                return Err(error.into());
            }
        }
    }
    state.fleet.reload(view.dtu_id).await;
    want_adopted(&*archives, &view, &adopted).await?;
    Ok(HttpResponse::Created().json(Adopted {
        meters: adopted,
        left_out,
    }))
}

/// Meters that were made of places of an archive are wanted there.
async fn want_adopted(archives: &dyn ArchiveStore, view: &ScanView, adopted: &[Meter]) -> Result<(), ApiError> {
    let made: HashSet<(&str, &str)> = adopted
        .iter()
        .map(|meter| (meter.protocol.as_str(), meter.address.as_str()))
        .collect();
    let found = view.found.iter().map(|item| &item.found);
    let entries: Vec<ArchiveEntry> = found
        .filter(|found| made.contains(&(found.protocol.as_str(), found.address.as_str())))
        .filter_map(FoundMeter::entry)
        .collect();
    if !entries.is_empty() {
        archives.adopt(view.dtu_id, &entries).await?;
    }
    Ok(())
}

/// What is to be made, each with a model, and what is left out.
fn wanted(view: &ScanView, chosen: Option<Vec<AdoptItem>>) -> Result<(Vec<AdoptItem>, Vec<String>), ApiError> {
    let Some(chosen) = chosen else {
        let mut items = Vec::new();
        let mut left_out = Vec::new();
        for item in &view.found {
            let called = format!("{} {}", item.found.protocol, item.found.address);
            match (&item.found.model, item.meter_id) {
                (_, Some(meter)) => left_out.push(format!("{called}: it is meter {meter} already")),
                (None, None) => left_out.push(format!("{called}: no model fits it; name one")),
                (Some(model), None) => items.push(AdoptItem {
                    protocol: item.found.protocol.clone(),
                    address: item.found.address.clone(),
                    model: Some(model.clone()),
                    name: None,
                }),
            }
        }
        return Ok((items, left_out));
    };
    let mut faults = Faults::new();
    faults.check(chosen.len() <= ADOPT_MAX, "meters", format!("are at most {ADOPT_MAX}"));
    let mut items = Vec::new();
    for (place, mut item) in chosen.into_iter().take(ADOPT_MAX).enumerate() {
        let found = view
            .found
            .iter()
            .find(|known| known.found.protocol == item.protocol && known.found.address == item.address);
        let text = "is not among what the scan found".to_owned();
        faults.check(found.is_some(), &format!("meters.{place}.address"), text);
        item.model = item.model.or_else(|| found.and_then(|found| found.found.model.clone()));
        let text = "no model fits it; name one".to_owned();
        faults.check(
            item.model.is_some() || found.is_none(),
            &format!("meters.{place}.model"),
            text,
        );
        items.push(item);
    }
    faults.done()?;
    Ok((items, Vec::new()))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(scan_dtu)
        .service(get_scan)
        .service(cancel_scan)
        .service(adopt_scan);
}

//! `/dtus/{id}/scan` and `/scans/{id}`: finding out what hangs on a line, and making meters of what was found.
//!
//! A scan goes on when nobody watches; what it found is kept here for a day, in a bounded desk. One scan at a time has a
//! line. The server's restart ends a scan: it has to be begun anew.

use super::ApiState;
use super::auth::Caller;
use super::body::BodyOrDefault;
use super::handle::In;
use super::meter_form::{choices, fitting, texts};
use super::problem::{ApiError, Faults, Kind};
use super::query::Id;
use super::schedule_form::ScheduleRef;
use super::span;
use crate::base::ids::{AccountId, DtuId, GroupId};
use crate::domain::archive::ArchiveEntry;
use crate::port::dtus::DtuStore;
use crate::port::live::Topic;
use crate::port::mesh::MeshStore;
use crate::port::meters::{Meter, MeterQuery, MeterStore, NewMeter};
use crate::port::archive::ArchiveStore;
use crate::port::scan::{ArchivePlace, FoundMeter, Protocol, ScanFailure, ScanPlan, ScanProgress, WrittenPlace};
use crate::port::scope::{Scope, StoreError};
use crate::telemetry::concentrator::MeshLost;
use actix_web::http::header;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// How long an ended scan is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// Scans kept in all, and running at once for one account.
const SCANS_MAX: usize = 500;
const RUNNING_MAX: usize = 20;
/// The least time between two events of one scan; its end is always told.
const TELL_EVERY: TimeDelta = TimeDelta::seconds(1);
/// Meters made by one call.
const ADOPT_MAX: usize = 2_040;
/// Meters of a DTU that are looked through at once.
const KNOWN_AT_ONCE: u32 = 1_000;

/// How a scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    /// It asks, or waits for the line to be idle.
    Running,
    /// Everything was asked.
    Done,
    /// It came to no end; `reason` says why. What was found by then stands.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// A meter that a scan found.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ScanItem {
    #[serde(flatten)]
    found: FoundMeter,
    /// The meter that has this address on this line already.
    #[schema(value_type = Option<i32>)]
    meter_id: Option<crate::base::ids::MeterId>,
}

/// A scan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ScanView {
    /// Its id, for `/scans/{id}`.
    #[schema(value_type = String)]
    id: Uuid,
    /// The DTU whose line is searched.
    #[schema(value_type = i32)]
    dtu_id: DtuId,
    /// How it stands.
    state: ScanState,
    /// Questions asked.
    asked: u32,
    /// Questions left, as far as can be told.
    left: u32,
    /// The protocol that is searched for now.
    searching: Option<String>,
    /// Who answered by now.
    found: Vec<ScanItem>,
    /// Meters of ours that a concentrator's archive does not have; only when it was read to its end.
    #[schema(value_type = Vec<i32>)]
    absent: Vec<crate::base::ids::MeterId>,
    /// What became of what was written into the archive of a concentrator, place by place; only of a scan that writes.
    written: Vec<WrittenPlace>,
    /// What a person should know.
    notes: Vec<String>,
    /// Why it failed.
    reason: Option<String>,
    /// When it began.
    began_at: DateTime<Utc>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
}

struct Entry {
    account: AccountId,
    view: ScanView,
    task: Option<AbortHandle>,
    told_at: DateTime<Utc>,
}

impl Entry {
    fn is_running(&self) -> bool {
        self.view.state == ScanState::Running
    }
}

/// The scans of this process.
#[derive(Default)]
pub struct ScanDesk {
    entries: Mutex<HashMap<Uuid, Entry>>,
}

impl ScanDesk {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, account: AccountId, dtu: DtuId, now: DateTime<Utc>) -> Result<ScanView, ApiError> {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.is_running() || entry.view.ended_at.is_none_or(|at| now - at < KEPT));
        let mine = |entry: &&Entry| entry.account == account && entry.is_running();
        if let Some(other) = entries.values().filter(mine).find(|entry| entry.view.dtu_id == dtu) {
            return Err(ApiError::new(
                Kind::Conflict,
                format!("scan {} of this DTU is under way", other.view.id),
            ));
        }
        if entries.values().filter(mine).count() >= RUNNING_MAX {
            return Err(
                ApiError::new(Kind::Busy, format!("{RUNNING_MAX} scans of this account are under way")).retry_after(60),
            );
        }
        if entries.len() >= SCANS_MAX {
            // ids of version 7 grow with time
            let oldest = entries
                .iter()
                .filter(|(_, entry)| !entry.is_running())
                .map(|(id, _)| *id)
                .min();
            match oldest {
                Some(oldest) => drop(entries.remove(&oldest)),
                None => return Err(ApiError::new(Kind::Busy, "too many scans are under way").retry_after(60)),
            }
        }
        let view = ScanView {
            id: Uuid::now_v7(),
            dtu_id: dtu,
            state: ScanState::Running,
            asked: 0,
            left: 0,
            searching: None,
            found: Vec::new(),
            absent: Vec::new(),
            written: Vec::new(),
            notes: Vec::new(),
            reason: None,
            began_at: now,
            ended_at: None,
        };
        let entry = Entry {
            account,
            view: view.clone(),
            task: None,
            told_at: now,
        };
        entries.insert(view.id, entry);
        Ok(view)
    }

    fn begun(&self, id: Uuid, task: AbortHandle) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.task = Some(task);
        }
    }

    /// Notes how far it is; the view, when it is time to tell listeners.
    fn progress(&self, id: Uuid, progress: ScanProgress, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id).filter(|entry| entry.is_running())?;
        let view = &mut entry.view;
        (view.asked, view.left) = (progress.asked, progress.left);
        view.searching = progress.searching;
        view.notes = progress.notes;
        view.written = progress.written;
        let news = view.found.len() != progress.found.len();
        let found = progress.found.into_iter();
        view.found = found.map(|found| ScanItem { found, meter_id: None }).collect();
        if !news && now - entry.told_at < TELL_EVERY {
            return None;
        }
        entry.told_at = now;
        Some(entry.view.clone())
    }

    fn end(&self, id: Uuid, outcome: Result<(), ScanFailure>, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let view = &mut entries.get_mut(&id).filter(|entry| entry.is_running())?.view;
        view.ended_at = Some(now);
        view.searching = None;
        match outcome {
            Ok(()) => (view.state, view.left) = (ScanState::Done, 0),
            Err(failure) => (view.state, view.reason) = (ScanState::Failed, Some(failure.to_string())),
        }
        Some(view.clone())
    }

    fn cancel(&self, account: AccountId, id: Uuid, now: DateTime<Utc>) -> Option<ScanView> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&id).filter(|entry| entry.account == account)?;
        if entry.is_running() {
            if let Some(task) = entry.task.take() {
                task.abort();
            }
            entry.view.state = ScanState::Cancelled;
            entry.view.ended_at = Some(now);
            entry.view.searching = None;
        }
        Some(entry.view.clone())
    }

    fn find(&self, account: AccountId, id: Uuid) -> Option<ScanView> {
        let entries = self.lock();
        let entry = entries.get(&id).filter(|entry| entry.account == account)?;
        Some(entry.view.clone())
    }
}

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
        .filter_map(|item| Some((item.found.address.parse().ok()?, item.found.archive.clone()?)))
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
        let of_archive = known
            .into_iter()
            .filter(|((protocol, _), _)| protocol == Protocol::Gdw376.name());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
    }

    fn found(n: usize) -> ScanProgress {
        ScanProgress {
            asked: 3,
            found: vec![FoundMeter::default(); n],
            ..ScanProgress::default()
        }
    }

    #[test]
    fn a_line_has_one_scan_and_an_account_a_few() {
        let desk = ScanDesk::default();
        let first = desk.open(AccountId(1), DtuId(1), at(0)).unwrap();
        assert_eq!(
            desk.open(AccountId(1), DtuId(1), at(0)).err().unwrap().kind(),
            Kind::Conflict
        );
        for dtu in 2..=20 {
            desk.open(AccountId(1), DtuId(dtu), at(0)).unwrap();
        }
        assert_eq!(
            desk.open(AccountId(1), DtuId(21), at(0)).err().unwrap().kind(),
            Kind::Busy
        );
        assert!(desk.open(AccountId(2), DtuId(22), at(0)).is_ok());
        desk.end(first.id, Ok(()), at(1)).unwrap();
        assert!(desk.open(AccountId(1), DtuId(1), at(1)).is_ok());
    }

    #[test]
    fn listeners_hear_of_a_find_at_once_and_of_the_rest_each_second() {
        let desk = ScanDesk::default();
        let id = desk.open(AccountId(1), DtuId(1), at(0)).unwrap().id;
        assert_eq!(desk.progress(id, found(0), at(0)), None);
        assert_eq!(desk.progress(id, found(1), at(0)).unwrap().found.len(), 1);
        assert_eq!(desk.progress(id, found(1), at(0)), None);
        assert!(desk.progress(id, found(1), at(1)).is_some());
    }

    #[test]
    fn what_was_found_before_a_failure_stands_for_a_day_and_for_its_account() {
        let desk = ScanDesk::default();
        let id = desk.open(AccountId(1), DtuId(1), at(0)).unwrap().id;
        desk.progress(id, found(2), at(0));
        desk.end(id, Err(ScanFailure::Lost), at(5));
        let view = desk.find(AccountId(1), id).unwrap();
        assert_eq!((view.state, view.found.len()), (ScanState::Failed, 2));
        assert_eq!(desk.find(AccountId(2), id), None);
        assert_eq!(desk.cancel(AccountId(2), id, at(6)), None);
        // a late word of a task that was ended changes nothing
        assert_eq!(desk.progress(id, found(0), at(6)), None);
        let _next = desk.open(AccountId(1), DtuId(2), at(5 + 24 * 3600)).unwrap();
        assert_eq!(desk.find(AccountId(1), id), None);
    }
}

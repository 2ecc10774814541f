//! `/exports`: readings, consumption, slots, alarms and the audit as CSV or XLSX files, written by jobs in the background.

use super::ApiState;
use super::access;
use super::auth::Caller;
use super::body::Body;
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::send_file;
use super::span;
use crate::base::ids::{DtuId, GroupId, MeterId};
use crate::domain::quantity::{self, Quantity};
use crate::domain::reading::Measurand;
use crate::domain::schedule::parse_zone;
use crate::port::dtus::DtuStore;
use crate::port::exports::{ExportAsk, ExportBook, ExportFormat, ExportJob, ExportKind, ExportRefused, ExportState};
use crate::port::groups::GroupStore;
use crate::port::meters::MeterStore;
use crate::port::readings::Per;
use crate::port::scope::StoreError;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const LIST: &str = "exports";
/// Meters and quantities that an export can name.
const METERS_MAX: usize = 100;
const QUANTITIES_MAX: usize = 50;
/// The default span.
const BACK: TimeDelta = TimeDelta::days(1);
/// The longest spans: of slots, which are worked out from schedules, and of everything else.
const LONGEST_SLOTS: TimeDelta = TimeDelta::days(400);
const LONGEST: TimeDelta = TimeDelta::days(3_660);
/// After so many seconds a refused export may find a place.
const AGAIN_S: u64 = 30;

/// What is to be exported.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportBody {
    /// What. The audit is for role `admin` alone.
    kind: ExportKind,
    /// In which form.
    format: ExportFormat,
    /// From (included); default a day before `to`.
    from: Option<DateTime<Utc>>,
    /// To (excluded); default now.
    to: Option<DateTime<Utc>>,
    /// The zone in which times are written, and whose hours, days and months are meant; default the account's.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// Only of these meters; none: all. Not for the audit.
    #[serde(default)]
    #[schema(value_type = Vec<i32>, max_items = 100)]
    meter_ids: Vec<MeterId>,
    /// Only of meters directly in this group.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Only behind this DTU.
    #[schema(value_type = Option<i32>)]
    dtu_id: Option<DtuId>,
    /// Only these quantities; none: all. For readings and consumption.
    #[serde(default)]
    #[schema(max_items = 50, example = json!(["active_energy_import"]))]
    quantities: Vec<String>,
    /// The slices of a consumption; default `day`.
    per: Option<Per>,
    /// A CSV file begins with a byte order mark, by which spreadsheet programs know UTF-8; default false.
    #[serde(default)]
    bom: bool,
}

/// An export.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ExportView {
    #[serde(flatten)]
    job: ExportJob,
    /// Where the file is fetched, once it is there.
    #[schema(example = "/api/v1/exports/0198c3f0-0000-7000-8000-000000000000/file")]
    file: Option<String>,
}

impl From<ExportJob> for ExportView {
    fn from(job: ExportJob) -> Self {
        let there = job.state == ExportState::Done;
        Self {
            file: there.then(|| format!("{}/exports/{}/file", super::BASE, job.id)),
            job,
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportsQuery {
    /// Items of a page, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

impl From<ExportRefused> for ApiError {
    fn from(refused: ExportRefused) -> Self {
        match refused {
            ExportRefused::Store(error) => error.into(),
            full => Self::new(Kind::Busy, full.to_string()).retry_after(AGAIN_S),
        }
    }
}

/// The kinds that the caller may export and see.
fn kinds(caller: &Caller) -> Vec<ExportKind> {
    let may = |kind: &ExportKind| access::export(*kind).permits(caller.roles);
    ExportKind::ALL.into_iter().filter(may).collect()
}

/// The job, if it is of a kind that the caller may see.
async fn visible(caller: &Caller, book: &dyn ExportBook, id: Uuid) -> Result<ExportJob, ApiError> {
    let job = book.get(id).await?;
    if access::export(job.ask.kind).permits(caller.roles) {
        Ok(job)
    } else {
        Err(ApiError::not_found("export"))
    }
}

fn quantities(kind: ExportKind, names: &[String], faults: &mut Faults) {
    let takes = matches!(kind, ExportKind::Readings | ExportKind::Consumption);
    let text = format!("says nothing for {}", kind.as_str());
    faults.check(takes || names.is_empty(), "quantities", text);
    let text = format!("are at most {QUANTITIES_MAX}");
    faults.check(names.len() <= QUANTITIES_MAX, "quantities", text);
    for name in names.iter().take(QUANTITIES_MAX) {
        let known = span::measurand("quantities", name);
        let register = matches!(Quantity::by_name(name), Some(found) if found.kind() == quantity::Kind::Register);
        match known {
            Err(_) => faults.check(false, "quantities", format!("{name:?} is no name of a quantity")),
            Ok(Measurand::Standard(_) | Measurand::Vendor(_)) => faults.check(
                register || kind != ExportKind::Consumption,
                "quantities",
                format!("{name:?} is no register"),
            ),
        }
    }
}

/// An object of the account that a filter names.
fn found<T>(field: &str, id: i32, result: Result<T, StoreError>, faults: &mut Faults) -> Result<(), ApiError> {
    match result {
        Err(StoreError::NotFound(what)) => faults.check(false, field, format!("there is no {what} {id}")),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    Ok(())
}

struct Filters<'a> {
    meters: &'a dyn MeterStore,
    groups: &'a dyn GroupStore,
    dtus: &'a dyn DtuStore,
}

async fn check(body: &ExportBody, filters: Filters<'_>, now: DateTime<Utc>) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    let kind = body.kind;
    quantities(kind, &body.quantities, &mut faults);
    let filtered = !body.meter_ids.is_empty() || body.group_id.is_some() || body.dtu_id.is_some();
    let text = "the audit is not filtered by meters; leave it out";
    faults.check(kind != ExportKind::Audit || !filtered, "kind", text);
    let text = "is for consumption alone";
    faults.check(kind == ExportKind::Consumption || body.per.is_none(), "per", text);
    faults.check(body.format == ExportFormat::Csv || !body.bom, "bom", "is for CSV alone");
    let many = format!("are at most {METERS_MAX}");
    faults.check(body.meter_ids.len() <= METERS_MAX, "meter_ids", many);
    for id in body.meter_ids.iter().take(METERS_MAX) {
        found("meter_ids", id.0, filters.meters.get(*id, now).await, &mut faults)?;
    }
    if let Some(id) = body.group_id {
        found("group_id", id.0, filters.groups.get(id).await, &mut faults)?;
    }
    if let Some(id) = body.dtu_id {
        found("dtu_id", id.0, filters.dtus.get(id, now).await, &mut faults)?;
    }
    faults.done()
}

/// Starts an export. It is written in the background, one of an account at a time; topic `jobs` of the stream tells how
/// far it is (not of the audit's). Texts that a spreadsheet could take for formulas get an apostrophe in front in CSV.
/// A workbook has times as dates of the zone's wall clock with the offset in the column beside, and numbers as numbers
/// up to 15 digits; those with more are texts, so that nothing is lost.
#[utoipa::path(tag = "exports", request_body = ExportBody, responses((status = 202, body = ExportView)))]
#[post("/exports")]
async fn create_export(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    groups: In<dyn GroupStore>,
    dtus: In<dyn DtuStore>,
    Body(body): Body<ExportBody>,
) -> Result<HttpResponse, ApiError> {
    if !access::export(body.kind).permits(caller.roles) {
        let text = format!("an export of {} is not for your role", body.kind.as_str());
        return Err(ApiError::new(Kind::Forbidden, text));
    }
    let now = state.clock.now();
    let longest = if body.kind == ExportKind::Slots {
        LONGEST_SLOTS
    } else {
        LONGEST
    };
    let (from, to) = span::span(body.from, body.to, now, BACK, longest).map_err(of_body)?;
    let time_zone = match body.time_zone.as_deref() {
        Some(name) => parse_zone(name).map_err(|error| ApiError::invalid("time_zone", error.to_string()))?,
        None => span::zone(&state, &caller, None).await?,
    };
    let filters = Filters {
        meters: &*meters,
        groups: &*groups,
        dtus: &*dtus,
    };
    check(&body, filters, now).await?;
    let ask = ExportAsk {
        kind: body.kind,
        format: body.format,
        from,
        to,
        time_zone,
        meter_ids: body.meter_ids,
        group_id: body.group_id,
        dtu_id: body.dtu_id,
        quantities: body.quantities,
        per: body.per.unwrap_or(Per::Day),
        bom: body.bom,
    };
    let job = state.exports.ask(caller.scope()?, ask).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{}/exports/{}", super::BASE, job.id)))
        .json(ExportView::from(job)))
}

/// A fault of a span that stood in the body.
fn of_body(problem: ApiError) -> ApiError {
    ApiError::of_faults(Kind::Invalid, problem.faults().to_vec())
}

/// The exports of the account, the newest first. Those of the audit are shown to admins.
#[utoipa::path(tag = "exports", params(ExportsQuery), responses((status = 200, body = Page<ExportView>)))]
#[get("/exports")]
async fn list_exports(
    caller: Caller,
    book: In<dyn ExportBook>,
    Query(query): Query<ExportsQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<Uuid>::new(LIST, query.limit, query.cursor.as_deref())?;
    let rows = book.list(&kinds(&caller), page.after, page.fetch()).await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |job| job.id).map(ExportView::from)))
}

/// How an export stands.
#[utoipa::path(tag = "exports", params(("id" = Uuid, Path)), responses((status = 200, body = ExportView)))]
#[get("/exports/{id}")]
async fn get_export(caller: Caller, book: In<dyn ExportBook>, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    let job = visible(&caller, &*book, id).await?;
    Ok(HttpResponse::Ok().json(ExportView::from(job)))
}

/// The file. `Range` fetches a part of it, so that a broken download can go on.
#[utoipa::path(tag = "exports", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The file.", content(
            (Vec<u8> = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))),
        (status = 206, description = "The part that `Range` names.", content(
            (Vec<u8> = "text/csv"),
            (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))),
        (status = 416, description = "The file has no such part; `Content-Range` says how long it is.")))]
#[get("/exports/{id}/file")]
async fn get_export_file(
    state: web::Data<ApiState>,
    request: HttpRequest,
    caller: Caller,
    book: In<dyn ExportBook>,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let job = visible(&caller, &*book, id).await?;
    if job.state != ExportState::Done {
        let text = format!("the export is {}: there is no file", job.state.as_str());
        return Err(ApiError::new(Kind::Conflict, text));
    }
    let ask = &job.ask;
    let file = send_file::Download {
        path: state.exports.file(&job),
        name: format!(
            "{}-{}-{}.{}",
            ask.kind.as_str(),
            ask.from.format("%Y%m%d"),
            ask.to.format("%Y%m%d"),
            ask.format.as_str()
        ),
        media_type: ask.format.media_type(),
        tag: job.sha256.clone().unwrap_or_default(),
    };
    let opened = file.open(&request).await?;
    // who goes on with a broken download has been noted at its beginning
    if opened.begins_at_zero() {
        book.fetched(id, state.clock.now()).await?;
    }
    Ok(opened.answer())
}

/// Cancels an export, or deletes its file. That of somebody else only an admin can.
#[utoipa::path(tag = "exports", params(("id" = Uuid, Path)), responses((status = 200, body = ExportView)))]
#[delete("/exports/{id}")]
async fn delete_export(
    state: web::Data<ApiState>,
    caller: Caller,
    book: In<dyn ExportBook>,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let job = visible(&caller, &*book, id).await?;
    if job.user_id != Some(caller.user) && !access::OTHERS_EXPORTS.permits(caller.roles) {
        let text = "somebody else asked for this export; an admin can delete it";
        return Err(ApiError::new(Kind::Forbidden, text));
    }
    let job = state.exports.give_up(caller.scope()?, id).await?;
    Ok(HttpResponse::Ok().json(ExportView::from(job)))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(create_export)
        .service(list_exports)
        .service(get_export)
        .service(get_export_file)
        .service(delete_export);
}

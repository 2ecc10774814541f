//! `/imports`: DTUs, meters and groups from CSV and XLSX files, judged row by row by the rules of single requests, written
//! all together or not at all.

mod columns;
mod desk;
mod dtus;
mod groups;
mod judge;
mod meters;

pub use desk::{ImportDesk, ImportSettings};

use super::ApiState;
use super::auth::Caller;
use super::body::collect_within;
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Kind};
use super::query::{Id, Query};
use crate::base::hex;
use crate::port::imports::{ImportAsk, ImportBook, ImportFormat, ImportJob, ImportKind};
use crate::port::scope::StoreError;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use desk::ImportRefused;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const LIST: &str = "imports";
const CSV: &str = "text/csv";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// After so many seconds a refused import may find a place.
const AGAIN_S: u64 = 10;

/// What is sent, and what is to become of it.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// What is in the file.
    #[param(inline)]
    kind: ImportKind,
    /// Nothing is written; the job says what would be, and every fault. Default false.
    #[serde(default)]
    dry_run: bool,
    /// Number cells of a workbook in columns of serial numbers and addresses are taken as they stand, as if they had
    /// been written as text; without it they are faults where zeros in front could have been lost. Default false.
    #[serde(default)]
    numbers_as_text: bool,
}

/// In which form a template comes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TemplateQuery {
    /// `csv` (default) or `xlsx`, whose columns are formatted as text.
    #[param(inline)]
    format: Option<ImportFormat>,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportsQuery {
    /// Items of a page, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

impl From<ImportRefused> for ApiError {
    fn from(refused: ImportRefused) -> Self {
        Self::new(Kind::Busy, refused.to_string()).retry_after(AGAIN_S)
    }
}

/// The form of a body and its character set, by its `Content-Type`.
fn media(request: &HttpRequest) -> Result<(ImportFormat, Option<String>), ApiError> {
    let value = request.headers().get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.chars().take(40).collect())
    });
    match media.as_str() {
        CSV => Ok((ImportFormat::Csv, charset)),
        XLSX => Ok((ImportFormat::Xlsx, None)),
        _ => {
            let text = format!("send the file with Content-Type: {CSV} or {XLSX}, not {media:?}");
            Err(ApiError::new(Kind::UnsupportedMedia, text).at("Content-Type"))
        }
    }
}

/// Imports a file: CSV (commas, semicolons or tabs; UTF-8, or the `charset` of the content type) or XLSX (the first sheet).
/// Its first row names the columns; `GET /imports/templates/{kind}` has them. Every row is judged by the rules of
/// `POST /dtus`, `/meters` and `/groups`. One fault, and nothing is written; without any, all of it is, in one
/// transaction. What is there already (a DTU by its serial number, a meter by DTU, protocol and address, a group by its
/// name and parent) is changed where the file says otherwise; an empty cell leaves it as it is. The same file a second
/// time changes nothing. The answer is a job; topic `jobs` of the stream tells how far it is.
#[utoipa::path(tag = "imports", params(ImportQuery),
    request_body(content((String = "text/csv"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))),
    responses((status = 202, body = ImportJob)))]
#[post("/imports")]
async fn create_import(
    state: web::Data<ApiState>,
    caller: Caller,
    request: HttpRequest,
    Query(query): Query<ImportQuery>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (format, charset) = media(&request)?;
    let scope = caller.scope()?;
    // before the file is there: what is in memory is bounded by places
    let place = state.imports.place(scope.account).await?;
    let settings = state.imports.settings();
    let file = collect_within(payload.into_inner(), settings.bytes_max, settings.arrival).await?;
    let ask = ImportAsk {
        kind: query.kind,
        format,
        dry_run: query.dry_run,
        numbers_as_text: query.numbers_as_text,
        charset,
        bytes: i64::try_from(file.len()).unwrap_or(i64::MAX),
        sha256: hex::encode(&Sha256::digest(&file)).to_lowercase(),
    };
    let desk = state.imports.clone();
    let job = desk.take(state.into_inner(), place, scope, ask, file.into()).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{}/imports/{}", super::BASE, job.id)))
        .json(job))
}

/// The imports of the account, the newest first; without their faults and changes.
#[utoipa::path(tag = "imports", params(ImportsQuery), responses((status = 200, body = Page<ImportJob>)))]
#[get("/imports")]
async fn list_imports(book: In<dyn ImportBook>, Query(query): Query<ImportsQuery>) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<Uuid>::new(LIST, query.limit, query.cursor.as_deref())?;
    let rows = book.list(page.after, page.fetch()).await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |job| job.id)))
}

/// How an import stands, with its faults by row.
#[utoipa::path(tag = "imports", params(("id" = Uuid, Path)), responses((status = 200, body = ImportJob)))]
#[get("/imports/{id}")]
async fn get_import(book: In<dyn ImportBook>, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(book.get(id).await?))
}

/// A file with the columns of a kind (`dtus`, `meters` or `groups`) and nothing below them.
#[utoipa::path(tag = "imports", params(("kind" = String, Path), TemplateQuery),
    responses((status = 200, description = "The file.", content(
        (Vec<u8> = "text/csv"),
        (Vec<u8> = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")))))]
#[get("/imports/templates/{kind}")]
async fn get_import_template(
    state: web::Data<ApiState>,
    kind: web::Path<String>,
    Query(query): Query<TemplateQuery>,
) -> Result<HttpResponse, ApiError> {
    let kind = ImportKind::by_name(&kind).ok_or_else(|| ApiError::not_found("kind of import"))?;
    let format = query.format.unwrap_or(ImportFormat::Csv);
    let names: Vec<&str> = columns::of(kind).iter().map(|column| column.name).collect();
    let (media, file) = match format {
        // by the mark a spreadsheet program knows UTF-8
        ImportFormat::Csv => (
            "text/csv; charset=utf-8",
            format!("\u{feff}{}\r\n", names.join(",")).into_bytes(),
        ),
        ImportFormat::Xlsx => {
            let file = state.imports.sheets().template(kind.as_str(), &names);
            (XLSX, file.map_err(StoreError::Internal)?)
        }
    };
    let name = format!("attachment; filename=\"{}.{}\"", kind.as_str(), format.as_str());
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, media))
        .insert_header((header::CONTENT_DISPOSITION, name))
        .body(file))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(create_import)
        .service(list_imports)
        .service(get_import_template)
        .service(get_import);
}

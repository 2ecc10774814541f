//! `/backups`: those that are kept, another one now, and their files. For role `platform` alone.

use super::ApiState;
use super::handle::Across;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Kind};
use super::query::Query;
use super::schedules::ListQuery;
use super::send_file::Download;
use crate::port::backups::{Backup, BackupBook, BackupRefused};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde_json::json;
use utoipa_actix_web::service_config::ServiceConfig;

impl From<BackupRefused> for ApiError {
    fn from(refused: BackupRefused) -> Self {
        match refused {
            BackupRefused::UnderWay => Self::new(Kind::Conflict, refused.to_string()),
            BackupRefused::Failed(cause) => Self::new(Kind::Internal, cause),
            BackupRefused::Store(error) => error.into(),
        }
    }
}

/// The backups that are kept, the newest first; in front of them the one that is written, or the last that failed.
#[utoipa::path(tag = "backups", params(ListQuery), responses((status = 200, body = Page<Backup>)))]
#[get("/backups")]
async fn list_backups(state: web::Data<ApiState>, Query(query): Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<String>::new("backups", query.limit(), query.cursor())?;
    let mut items = state.backups.list().await.map_err(unreadable)?;
    // ids say when, so that they stand in the order of the list
    items.retain(|backup| request.after.as_ref().is_none_or(|after| backup.id < *after));
    Ok(HttpResponse::Ok().json(request.page(items, |backup| backup.id.clone())))
}

fn unreadable(error: std::io::Error) -> ApiError {
    ApiError::new(Kind::Internal, format!("the backups cannot be read: {error}"))
}

/// Begins a backup. It is written in the background; the list tells its end. Encrypted if the server has a key for it.
#[utoipa::path(tag = "backups", responses((status = 202, body = Backup)))]
#[post("/backups")]
async fn create_backup(state: web::Data<ApiState>, book: Across<dyn BackupBook>) -> Result<HttpResponse, ApiError> {
    let backup = state.backups.begin().await?;
    book.note("backup.create", &backup.id, json!({}), state.clock.now())
        .await?;
    Ok(HttpResponse::Accepted().json(backup))
}

/// The file. `Range` fetches a part of it, so that a broken download can go on.
#[utoipa::path(tag = "backups", params(("id" = String, Path, example = "polyphase-20260301T020000Z")),
    responses(
        (status = 200, description = "The file.", content((Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "The part that `Range` names.", content((Vec<u8> = "application/octet-stream"))),
        (status = 416, description = "The file has no such part; `Content-Range` says how long it is.")))]
#[get("/backups/{id}/file")]
async fn get_backup_file(
    state: web::Data<ApiState>,
    request: HttpRequest,
    book: Across<dyn BackupBook>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let path = state.backups.file(&id).ok_or_else(|| ApiError::not_found("backup"))?;
    let file = Download {
        path,
        name: format!("{id}.backup"),
        media_type: "application/octet-stream",
        // a backup is never written twice under one name
        tag: id.clone(),
    };
    let opened = file.open(&request).await?;
    if opened.begins_at_zero() {
        book.note("backup.download", &id, json!({}), state.clock.now()).await?;
    }
    Ok(opened.answer())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_backups)
        .service(create_backup)
        .service(get_backup_file);
}

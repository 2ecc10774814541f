//! `/audit`: who changed what when. Read only; entries are written with the changes themselves.

use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::Query;
use crate::port::audit::{AuditEntry, AuditFilter, AuditStore};
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// Which entries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// At or after this instant.
    from: Option<DateTime<Utc>>,
    /// Before this instant.
    to: Option<DateTime<Utc>>,
    /// By this actor: an e-mail address or `cli`.
    actor: Option<String>,
    /// Actions that begin so, e.g. `dtu.`.
    action: Option<String>,
    /// On this object, e.g. `dtu/7`.
    object: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The audit, newest first.
#[utoipa::path(tag = "audit", params(AuditQuery), responses((status = 200, body = Page<AuditEntry>)))]
#[get("/audit")]
async fn list_audit(
    audit: Reach<dyn AuditStore>,
    Query(query): Query<AuditQuery>,
) -> Result<web::Json<Page<AuditEntry>>, ApiError> {
    let page = PageRequest::<i64>::new("audit", query.limit, query.cursor.as_deref())?;
    let filter = AuditFilter {
        from: query.from,
        to: query.to,
        actor: query.actor,
        action: query.action,
        object: query.object,
    };
    let rows = audit.list(&filter, page.after, page.fetch()).await?;
    Ok(web::Json(page.page(rows, |entry| entry.id)))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_audit);
}

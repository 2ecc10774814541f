//! `/healthz`: the process answers. `/readyz`: it can do its work, with the reasons when it cannot.

use super::ApiState;
use crate::port::readiness::Readiness;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;

/// The answer of `/healthz`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// Version of the server.
    pub version: &'static str,
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// Whether every check passed.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<ReadyCheck>,
}

/// One check of `/readyz`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ReadyCheck {
    /// What was checked.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// Why not, or how well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the process is alive. Asks nobody.
#[utoipa::path(tag = "server", operation_id = "healthz", responses((status = 200, body = Health)))]
#[get("/healthz")]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whether the server can do its work: database or spool usable, listeners bound.
#[utoipa::path(tag = "server", operation_id = "readyz",
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "Not ready; `checks` says why.")))]
#[get("/readyz")]
pub(super) async fn readyz(state: web::Data<ApiState>) -> HttpResponse {
    let mut checks = Vec::with_capacity(state.readiness.len());
    for check in &state.readiness {
        let (ok, reason) = match check.check().await {
            Readiness::Ready => (true, None),
            Readiness::Degraded(reason) => (true, Some(reason)),
            Readiness::NotReady(reason) => (false, Some(reason)),
        };
        checks.push(ReadyCheck {
            name: check.name().to_owned(),
            ok,
            reason,
        });
    }
    let ready = checks.iter().all(|check| check.ok);
    let mut answer = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.json(Ready { ready, checks })
}

//! `/metrics`: what Prometheus scrapes. Names and labels are the telemetry room's.

use super::problem::{ApiError, Kind};
use crate::telemetry;
use crate::telemetry::api::RequestFailed;
use actix_web::{HttpResponse, get};

/// All metrics, in the Prometheus text format 0.0.4.
#[utoipa::path(tag = "server", operation_id = "metrics",
    responses((status = 200, content_type = "text/plain", body = String)))]
#[get("/metrics")]
pub(super) async fn metrics() -> Result<HttpResponse, ApiError> {
    let text = telemetry::gather().map_err(|error| {
        RequestFailed {
            cause: &error.to_string(),
        }
        .emit();
        ApiError::new(Kind::Internal, "the metrics could not be written")
    })?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}

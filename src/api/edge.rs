//! Around every request: its id (taken over or made), its metric, the security headers.

use super::problem::{ApiError, Kind};
use super::source;
use crate::telemetry::api::RequestAnswered;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use uuid::Uuid;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What stands outside the API's own base and is only read.
const READ_ONLY: &[&str] = &["/healthz", "/readyz", "/metrics", super::openapi::PATH];
/// An answer without end has no head alone.
const STREAM: &str = "/api/v1/stream";
const REQUEST_ID_MAX: usize = 100;
/// The API answers data, never a page: nothing may be loaded, framed or run.
const CSP_DATA: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
/// Pages of this server load from this server only; the API viewer sets styles and data images from its script.
const CSP_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);

/// A year of TLS and nothing else (RFC 6797); sent where browsers come over TLS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// No window of another site holds ours, and no other site loads what we answer.
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task serves.
pub fn request_id() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// The middleware.
pub(super) async fn around(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = request
        .app_data::<web::Data<super::ApiState>>()
        .map(|state| std::sync::Arc::clone(&state.clock));
    let began = began.map(|clock| (clock.monotonic(), clock));
    let id = taken_over(&request).unwrap_or_else(|| Uuid::now_v7().to_string());
    let method = method_label(request.method());
    // what can be got can be looked at without its body, which the server leaves out by itself (RFC 9110, 9.3.2)
    if *request.method() == Method::HEAD && request.path() != STREAM {
        request.head_mut().method = Method::GET;
    }
    // the pattern, not the path: ids in labels would have no bound
    let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
    let page = is_page(request.path());
    let state = request.app_data::<web::Data<super::ApiState>>().cloned();
    if let Some(state) = &state {
        source::note(&request, &state.settings.proxies);
    }

    let mut response = CURRENT.scope(id.clone(), next.call(request)).await?;

    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, if page { CSP_PAGE } else { CSP_DATA });
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE, HeaderValue::from_static("same-origin"));
    if state.is_some_and(|state| state.settings.secure_cookies) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if !page && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    RequestAnswered {
        method,
        route: &route,
        status: response.status().as_u16(),
        seconds: began.map_or(0.0, |(began, clock)| {
            clock.monotonic().saturating_duration_since(began).as_secs_f64()
        }),
        request_id: &id,
    }
    .emit();
    Ok(response)
}

fn is_page(path: &str) -> bool {
    path.starts_with("/api/docs")
}

/// A client's id is taken over when it is short, printable and harmless in a log.
fn taken_over(request: &ServiceRequest) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    (!id.is_empty() && id.len() <= REQUEST_ID_MAX && id.chars().all(harmless)).then(|| id.to_owned())
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What answers when no route does.
pub(super) async fn no_route(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if READ_ONLY.contains(&request.path()) {
        return Err(ApiError::new(Kind::MethodNotAllowed, "this route takes GET").allow("GET".to_owned()));
    }
    Err(ApiError::new(
        Kind::NotFound,
        "there is no such route; /api/docs lists those there are",
    ))
}

//! `/notices`: routes (who is told what), and the history of what happened, who was told and what became of it.

use super::ApiState;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::notice_channels::shown;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use crate::base::ids::{ChannelId, NoticeId, RecipientId, RouteId};
use crate::domain::notice::plan::Rule;
use crate::domain::notice::{ChannelKind, Severity, texts};
use crate::port::notices::{MessageQuery, MessageState, MessageView, NoticeBook, NoticeQuery, NoticeView, StoredRoute};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const ROUTES: &str = "notice-routes";
const NOTICES: &str = "notices";
const MESSAGES: &str = "notice-messages";
const NAME_MAX: usize = 200;
const TEXT_MAX: usize = 200;

/// A route to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteBody {
    /// Its name.
    #[schema(example = "Night shift, then the manager")]
    name: String,
    /// What it says.
    rule: Rule,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteEditBody {
    /// Another name.
    name: Option<String>,
    /// Another rule, all of it.
    rule: Option<Rule>,
    /// Whether it is used.
    enabled: Option<bool>,
}

/// A route.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RouteView {
    /// Its id.
    #[schema(value_type = i32)]
    id: RouteId,
    /// Its name.
    name: String,
    /// What it says.
    rule: Rule,
    /// Whether it is used.
    enabled: bool,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

impl From<StoredRoute> for RouteView {
    fn from(stored: StoredRoute) -> Self {
        Self {
            id: stored.id,
            name: stored.name,
            rule: stored.rule,
            enabled: stored.enabled,
            created_at: stored.created_at,
            version: stored.version,
        }
    }
}

fn check(name: &str, rule: &Rule) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    faults.text("name", name, NAME_MAX);
    for (field, message) in rule.faults() {
        faults.check(false, &format!("rule.{field}"), message);
    }
    faults.done()
}

/// The routes of the account.
#[utoipa::path(tag = "notices", params(ListQuery), responses((status = 200, body = Page<RouteView>)))]
#[get("/notices/routes")]
async fn list_notice_routes(
    book: In<dyn NoticeBook>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(ROUTES, query.limit(), query.cursor())?;
    let rows = book.routes(request.after.map(RouteId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0).map(RouteView::from)))
}

/// Makes a route: which happenings are told to whom, and to whom next while nobody acknowledges.
#[utoipa::path(tag = "notices", request_body = RouteBody, responses((status = 201, body = RouteView)))]
#[post("/notices/routes")]
async fn create_notice_route(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Body(body): Body<RouteBody>,
) -> Result<HttpResponse, ApiError> {
    check(&body.name, &body.rule)?;
    let made = book.add_route(&body.name, &body.rule, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Created(), made.version, &RouteView::from(made)))
}

/// A route.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 200, body = RouteView)))]
#[get("/notices/routes/{id}")]
async fn get_notice_route(book: In<dyn NoticeBook>, Id(id): Id<RouteId>) -> Result<HttpResponse, ApiError> {
    let found = book.route(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &RouteView::from(found)))
}

/// Edits a route. What is planned already stays planned.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), request_body = RouteEditBody,
    responses((status = 200, body = RouteView)))]
#[patch("/notices/routes/{id}")]
async fn edit_notice_route(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<RouteId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<RouteEditBody>,
) -> Result<HttpResponse, ApiError> {
    let before = book.route(id).await?;
    let version = expected.version().unwrap_or(before.version);
    let name = body.name.unwrap_or(before.name);
    let rule = body.rule.unwrap_or(before.rule);
    check(&name, &rule)?;
    let enabled = body.enabled.unwrap_or(before.enabled);
    let after = book
        .set_route(id, (&name, &rule, enabled), Some(version), state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &RouteView::from(after)))
}

/// Deletes a route. What it has planned is still told.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/notices/routes/{id}")]
async fn delete_notice_route(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<RouteId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    book.remove_route(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Which notices.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NoticeParameters {
    /// Happened from then on.
    from: Option<DateTime<Utc>>,
    /// Happened before then.
    to: Option<DateTime<Utc>>,
    /// Of this kind, e.g. `deviation`.
    kind: Option<String>,
    /// About this, e.g. `alarm/17`.
    subject: Option<String>,
    /// At least so severe.
    #[param(inline)]
    severity: Option<Severity>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// What happened and who is told of it, the newest first.
#[utoipa::path(tag = "notices", params(NoticeParameters), responses((status = 200, body = Page<NoticeView>)))]
#[get("/notices")]
async fn list_notices(
    book: In<dyn NoticeBook>,
    Query(query): Query<NoticeParameters>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i64>::new(NOTICES, query.limit, query.cursor.as_deref())?;
    let rows = book
        .notices(NoticeQuery {
            from: query.from,
            to: query.to,
            kind: query.kind,
            subject: query.subject,
            severity: query.severity,
            after: request.after.map(NoticeId),
            limit: request.fetch(),
        })
        .await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0)))
}

/// Which messages.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessageParameters {
    /// Made from then on.
    from: Option<DateTime<Utc>>,
    /// Made before then.
    to: Option<DateTime<Utc>>,
    /// With this text in what was written, whatever its case.
    text: Option<String>,
    /// To this person.
    recipient_id: Option<i32>,
    /// By this channel.
    channel_id: Option<i32>,
    /// By this kind of channel.
    #[param(inline)]
    kind: Option<ChannelKind>,
    /// In this state.
    #[param(inline)]
    state: Option<MessageState>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn view(mut message: MessageView) -> MessageView {
    message.address = shown(message.kind, &message.address);
    message
}

/// Messages, the newest first: what was written to whom, and what became of it.
#[utoipa::path(tag = "notices", params(MessageParameters), responses((status = 200, body = Page<MessageView>)))]
#[get("/notices/messages")]
async fn list_messages(
    book: In<dyn NoticeBook>,
    Query(query): Query<MessageParameters>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<(DateTime<Utc>, Uuid)>::new(MESSAGES, query.limit, query.cursor.as_deref())?;
    if query.text.as_ref().is_some_and(|text| text.chars().count() > TEXT_MAX) {
        return Err(ApiError::bad_query("text", format!("at most {TEXT_MAX} characters")));
    }
    let rows = book
        .messages(MessageQuery {
            from: query.from,
            to: query.to,
            text: query.text.filter(|text| !text.is_empty()),
            recipient: query.recipient_id.map(RecipientId),
            channel: query.channel_id.map(ChannelId),
            kind: query.kind,
            state: query.state,
            after: request.after,
            limit: request.fetch(),
        })
        .await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| (row.created_at, row.id)).map(view)))
}

/// A message.
#[utoipa::path(tag = "notices", params(("id" = Uuid, Path)), responses((status = 200, body = MessageView)))]
#[get("/notices/messages/{id}")]
async fn get_message(book: In<dyn NoticeBook>, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(view(book.message(id).await?)))
}

/// Gives a dead message another life: it is tried anew, under its old id.
#[utoipa::path(tag = "notices", params(("id" = Uuid, Path)), responses((status = 202, body = MessageView)))]
#[post("/notices/messages/{id}/resend")]
async fn resend_message(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let message = book.resend(id, state.clock.now()).await?;
    Ok(HttpResponse::Accepted().json(view(message)))
}

/// What this server can send by, and tell of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SendersView {
    /// The kinds of channels that are set up.
    channels: Vec<ChannelKind>,
    /// The kinds of happenings that have texts in every language.
    kinds: Vec<&'static str>,
}

/// What this server can send by.
#[utoipa::path(tag = "notices", responses((status = 200, body = SendersView)))]
#[get("/notices/senders")]
async fn list_senders(state: web::Data<ApiState>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(SendersView {
        channels: state.notices.kinds(),
        kinds: texts::kinds().collect(),
    }))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_notices)
        .service(list_senders)
        .service(list_messages)
        .service(get_message)
        .service(resend_message)
        .service(list_notice_routes)
        .service(create_notice_route)
        .service(get_notice_route)
        .service(edit_notice_route)
        .service(delete_notice_route);
}

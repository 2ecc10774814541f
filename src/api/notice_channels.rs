//! `/notices/channels`: the ways to reach recipients, a test for each, and the secrets of webhooks, which are shown once.

use super::ApiState;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use crate::base::ids::{ChannelId, RecipientId};
use crate::domain::notice::{ChannelKind, texts};
use crate::port::notices::{MessageState, MessageView, NoticeBook, StoredChannel, TestMessage};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

const LIST: &str = "notice-channels";
const ADDRESS_MAX: usize = 2000;
/// How long an old secret of a webhook signs beside the new one.
const OLD_SECRET: TimeDelta = TimeDelta::hours(24);
/// How long a test may be waited for, seconds.
const WAIT_MAX_S: u64 = 60;
const WAIT_STEP: Duration = Duration::from_millis(200);

/// A channel to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelBody {
    /// Whose.
    #[schema(value_type = i32)]
    recipient_id: RecipientId,
    /// How.
    kind: ChannelKind,
    /// Where to: an e-mail address, a Telegram chat's number, a telephone number such as +8613912345678, or a URL.
    #[schema(example = "li.wei@example.org")]
    address: String,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelEditBody {
    /// Another address.
    address: Option<String>,
    /// Whether it is used.
    enabled: Option<bool>,
}

/// A channel.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ChannelView {
    /// Its id.
    #[schema(value_type = i32)]
    id: ChannelId,
    /// Whose.
    #[schema(value_type = i32)]
    recipient_id: RecipientId,
    /// How.
    kind: ChannelKind,
    /// Where to; of a URL without its query, which may hold a key.
    address: String,
    /// Whether it is used.
    enabled: bool,
    /// Whether this server can send by it.
    configured: bool,
    /// The secret with which a webhook is signed (Standard Webhooks). Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

/// An address as it is shown: of a URL without what is behind the path.
pub(super) fn shown(kind: ChannelKind, address: &str) -> String {
    match (kind, address.split_once(['?', '#'])) {
        (ChannelKind::Webhook, Some((before, _))) => format!("{before}?…"),
        _ => address.to_owned(),
    }
}

fn view(stored: StoredChannel, state: &ApiState, with_secret: bool) -> ChannelView {
    let secret =
        (with_secret && stored.kind == ChannelKind::Webhook).then(|| state.notices.webhook_secret(stored.salt));
    ChannelView {
        id: stored.id,
        recipient_id: stored.recipient,
        kind: stored.kind,
        address: shown(stored.kind, &stored.address),
        enabled: stored.enabled,
        configured: state.notices.kinds().contains(&stored.kind),
        secret,
        created_at: stored.created_at,
        version: stored.version,
    }
}

/// Which channels.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChannelQuery {
    /// Of this recipient.
    recipient_id: Option<i32>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// How long a test is waited for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TestQuery {
    /// Seconds, at most 60; default 0: the answer comes at once.
    wait_s: Option<u64>,
}

/// The channels of the account.
#[utoipa::path(tag = "notices", params(ChannelQuery), responses((status = 200, body = Page<ChannelView>)))]
#[get("/notices/channels")]
async fn list_channels(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Query(query): Query<ChannelQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    let recipient = query.recipient_id.map(RecipientId);
    let rows = book
        .channels(recipient, request.after.map(ChannelId), request.fetch())
        .await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0).map(|row| view(row, &state, false))))
}

fn check(state: &ApiState, kind: ChannelKind, address: &str) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    faults.text("address", address, ADDRESS_MAX);
    faults.take("address", state.notices.check_address(kind, address));
    faults.done()
}

/// Makes a channel. Of a webhook the answer has its secret, which cannot be shown again.
#[utoipa::path(tag = "notices", request_body = ChannelBody, responses((status = 201, body = ChannelView)))]
#[post("/notices/channels")]
async fn create_channel(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Body(body): Body<ChannelBody>,
) -> Result<HttpResponse, ApiError> {
    check(&state, body.kind, &body.address)?;
    let made = book
        .add_channel(body.recipient_id, body.kind, &body.address, state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Created(), made.version, &view(made, &state, true)))
}

/// A channel.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 200, body = ChannelView)))]
#[get("/notices/channels/{id}")]
async fn get_channel(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<ChannelId>,
) -> Result<HttpResponse, ApiError> {
    let found = book.channel(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &view(found, &state, false)))
}

/// Edits a channel, or switches it off and on.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), request_body = ChannelEditBody,
    responses((status = 200, body = ChannelView)))]
#[patch("/notices/channels/{id}")]
async fn edit_channel(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<ChannelId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<ChannelEditBody>,
) -> Result<HttpResponse, ApiError> {
    let before = book.channel(id).await?;
    let version = expected.version().unwrap_or(before.version);
    if let Some(address) = &body.address {
        check(&state, before.kind, address)?;
    }
    let address = body.address.unwrap_or(before.address);
    let enabled = body.enabled.unwrap_or(before.enabled);
    let after = book
        .set_channel(id, &address, enabled, Some(version), state.clock.now())
        .await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &view(after, &state, false)))
}

/// Gives a webhook another secret, which the answer shows once. The old one signs beside it for a day.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 200, body = ChannelView)))]
#[post("/notices/channels/{id}/secret")]
async fn change_channel_secret(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<ChannelId>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    if book.channel(id).await?.kind != ChannelKind::Webhook {
        return Err(ApiError::new(Kind::Conflict, "only webhooks have a secret"));
    }
    let after = book.new_salt(id, now + OLD_SECRET, now).await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &view(after, &state, true)))
}

/// Sends a test message, past routes, quiet hours and rates; it is tried once. 200 when it ended within `wait_s`, sent or
/// dead with its error; else 202, and `/notices/messages/{id}` tells.
#[utoipa::path(tag = "notices", params(("id" = i32, Path), TestQuery),
    responses((status = 200, body = MessageView), (status = 202, body = MessageView)))]
#[post("/notices/channels/{id}/test")]
async fn test_channel(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<ChannelId>,
    Query(query): Query<TestQuery>,
) -> Result<HttpResponse, ApiError> {
    let wait_s = query.wait_s.unwrap_or(0);
    if wait_s > WAIT_MAX_S {
        return Err(ApiError::bad_query("wait_s", format!("at most {WAIT_MAX_S}")));
    }
    let channel = book.channel(id).await?;
    if !state.notices.kinds().contains(&channel.kind) {
        return Err(ApiError::new(
            Kind::Conflict,
            format!(
                "this server cannot send by {}: its operator has to set it up under [notify]",
                channel.kind.as_str()
            ),
        ));
    }
    let reader = book.recipient(channel.recipient).await?.spec;
    let text = texts::write_test(reader.language, reader.zone);
    let (message, now) = (Uuid::new_v4(), state.clock.now());
    let made = book
        .test(
            id,
            TestMessage {
                id: message,
                payload: json!({ "id": message, "type": "test", "created_at": now, "items": [] }),
                subject: text.subject,
                body: if channel.kind == ChannelKind::Sms {
                    text.short
                } else {
                    text.text
                },
            },
            now,
        )
        .await?;
    let ended = |message: &MessageView| matches!(message.state, MessageState::Sent | MessageState::Dead);
    let until = state.clock.monotonic() + Duration::from_secs(wait_s);
    let mut last = made;
    while !ended(&last) && state.clock.monotonic() < until {
        tokio::time::sleep(WAIT_STEP).await;
        last = book.message(message).await?;
    }
    let mut answer = if ended(&last) {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    last.address = shown(last.kind, &last.address);
    Ok(answer.json(last))
}

/// Deletes a channel. What waits for it is called off.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/notices/channels/{id}")]
async fn delete_channel(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<ChannelId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    book.remove_channel(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_channels)
        .service(create_channel)
        .service(get_channel)
        .service(edit_channel)
        .service(change_channel_secret)
        .service(test_channel)
        .service(delete_channel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_url_is_not_shown() {
        let shown = |address| shown(ChannelKind::Webhook, address);
        assert_eq!(shown("https://a.example/hook?key=1"), "https://a.example/hook?…");
        assert_eq!(shown("https://a.example/hook#x"), "https://a.example/hook?…");
        assert_eq!(shown("https://a.example/hook"), "https://a.example/hook");
    }
}

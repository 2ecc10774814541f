//! `/notices/recipients`: who can be told, when it suits them and in which language.

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, nullable};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use super::span;
use crate::base::ids::{RecipientId, UserId};
use crate::domain::notice::person::DIGEST_MIN;
use crate::domain::notice::{Digest, Language, Quiet};
use crate::domain::schedule::parse_zone;
use crate::port::notices::{NoticeBook, RecipientSpec, StoredRecipient};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "notice-recipients";
const NAME_MAX: usize = 200;

/// A recipient to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientBody {
    /// Their name.
    #[schema(example = "Li Wei, night shift")]
    name: String,
    /// The user that they are, if they are one.
    #[schema(value_type = Option<i32>)]
    user_id: Option<UserId>,
    /// What they read; default English.
    language: Option<Language>,
    /// IANA zone of their wall clock; default the account's.
    #[schema(example = "Asia/Shanghai")]
    time_zone: Option<String>,
    /// When they rest; default never.
    quiet: Option<Quiet>,
    /// How their happenings are gathered; default not at all.
    digest: Option<Digest>,
    /// Their own limit of messages per hour, ordinary and critical each; default the server's.
    #[schema(minimum = 1, maximum = 10000)]
    per_hour: Option<u32>,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientEditBody {
    /// Another name.
    name: Option<String>,
    /// Another user; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    user_id: Option<Option<UserId>>,
    /// Another language.
    language: Option<Language>,
    /// Another zone.
    time_zone: Option<String>,
    /// Other quiet hours; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Quiet>)]
    quiet: Option<Option<Quiet>>,
    /// Another digest; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Digest>)]
    digest: Option<Option<Digest>>,
    /// Another limit; null: the server's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    per_hour: Option<Option<u32>>,
    /// Whether they are told anything.
    enabled: Option<bool>,
}

/// A recipient.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RecipientView {
    /// Their id.
    #[schema(value_type = i32)]
    id: RecipientId,
    /// Their name.
    name: String,
    /// The user that they are.
    #[schema(value_type = Option<i32>)]
    user_id: Option<UserId>,
    /// What they read.
    language: Language,
    /// IANA zone of their wall clock.
    time_zone: String,
    /// When they rest.
    quiet: Option<Quiet>,
    /// How their happenings are gathered.
    digest: Option<Digest>,
    /// Their own limit of messages per hour.
    per_hour: Option<u32>,
    /// Whether they are told anything.
    enabled: bool,
    /// Made.
    created_at: DateTime<Utc>,
    /// Grows with every edit; also the `ETag`.
    version: i32,
}

impl From<StoredRecipient> for RecipientView {
    fn from(stored: StoredRecipient) -> Self {
        let spec = stored.spec;
        Self {
            id: stored.id,
            name: spec.name,
            user_id: spec.user,
            language: spec.language,
            time_zone: spec.zone.name().to_owned(),
            quiet: spec.quiet,
            digest: spec.digest,
            per_hour: spec.per_hour,
            enabled: spec.enabled,
            created_at: stored.created_at,
            version: stored.version,
        }
    }
}

/// The zone of a text, else the present one; a fault when the text is none.
fn zone(text: Option<&str>, present: Tz, faults: &mut Faults) -> Tz {
    let Some(text) = text else { return present };
    faults.take("time_zone", parse_zone(text)).unwrap_or(present)
}

fn check(spec: &RecipientSpec, mut faults: Faults) -> Result<(), ApiError> {
    faults.text("name", &spec.name, NAME_MAX);
    faults.check(
        spec.quiet.is_none_or(|quiet| quiet.from != quiet.to),
        "quiet.to",
        "must differ from quiet.from",
    );
    faults.check(
        spec.digest.is_none_or(|digest| DIGEST_MIN.contains(&digest.every_min)),
        "digest.every_min",
        format!("must be {} to {}", DIGEST_MIN.start(), DIGEST_MIN.end()),
    );
    faults.check(
        spec.per_hour.is_none_or(|limit| (1..=10_000).contains(&limit)),
        "per_hour",
        "must be 1 to 10000",
    );
    faults.done()
}

/// The recipients of the account.
#[utoipa::path(tag = "notices", params(ListQuery), responses((status = 200, body = Page<RecipientView>)))]
#[get("/notices/recipients")]
async fn list_recipients(book: In<dyn NoticeBook>, Query(query): Query<ListQuery>) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit(), query.cursor())?;
    let rows = book.recipients(request.after.map(RecipientId), request.fetch()).await?;
    Ok(HttpResponse::Ok().json(request.page(rows, |row| row.id.0).map(RecipientView::from)))
}

/// Makes a recipient. They are told by their channels, as routes say.
#[utoipa::path(tag = "notices", request_body = RecipientBody, responses((status = 201, body = RecipientView)))]
#[post("/notices/recipients")]
async fn create_recipient(
    state: web::Data<ApiState>,
    caller: Caller,
    book: In<dyn NoticeBook>,
    Body(body): Body<RecipientBody>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    let accounts = span::zone(&state, &caller, None).await?;
    let spec = RecipientSpec {
        zone: zone(body.time_zone.as_deref(), accounts, &mut faults),
        name: body.name,
        user: body.user_id,
        language: body.language.unwrap_or(Language::En),
        quiet: body.quiet,
        digest: body.digest,
        per_hour: body.per_hour,
        enabled: true,
    };
    check(&spec, faults)?;
    let made = book.add_recipient(&spec, state.clock.now()).await?;
    Ok(tagged(
        HttpResponse::Created(),
        made.version,
        &RecipientView::from(made),
    ))
}

/// A recipient.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 200, body = RecipientView)))]
#[get("/notices/recipients/{id}")]
async fn get_recipient(book: In<dyn NoticeBook>, Id(id): Id<RecipientId>) -> Result<HttpResponse, ApiError> {
    let found = book.recipient(id).await?;
    Ok(tagged(HttpResponse::Ok(), found.version, &RecipientView::from(found)))
}

/// Edits a recipient. What is planned already keeps its time.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), request_body = RecipientEditBody,
    responses((status = 200, body = RecipientView)))]
#[patch("/notices/recipients/{id}")]
async fn edit_recipient(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<RecipientId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<RecipientEditBody>,
) -> Result<HttpResponse, ApiError> {
    let before = book.recipient(id).await?;
    // an edit of `*` is made from what was just read, so a change in between is still seen
    let version = expected.version().unwrap_or(before.version);
    let before = before.spec;
    let mut faults = Faults::new();
    let spec = RecipientSpec {
        zone: zone(body.time_zone.as_deref(), before.zone, &mut faults),
        name: body.name.unwrap_or(before.name),
        user: body.user_id.unwrap_or(before.user),
        language: body.language.unwrap_or(before.language),
        quiet: body.quiet.unwrap_or(before.quiet),
        digest: body.digest.unwrap_or(before.digest),
        per_hour: body.per_hour.unwrap_or(before.per_hour),
        enabled: body.enabled.unwrap_or(before.enabled),
    };
    check(&spec, faults)?;
    let after = book.set_recipient(id, &spec, Some(version), state.clock.now()).await?;
    Ok(tagged(HttpResponse::Ok(), after.version, &RecipientView::from(after)))
}

/// Deletes a recipient with their channels. What waits for them is called off; the history stays.
#[utoipa::path(tag = "notices", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/notices/recipients/{id}")]
async fn delete_recipient(
    state: web::Data<ApiState>,
    book: In<dyn NoticeBook>,
    Id(id): Id<RecipientId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    book.remove_recipient(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_recipients)
        .service(create_recipient)
        .service(get_recipient)
        .service(edit_recipient)
        .service(delete_recipient);
}

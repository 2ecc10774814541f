//! `/api-keys`: long-lived tokens. A key has its person's roles of the moment, or what its scopes leave of them; its secret is
//! shown once.
//!
//! Everybody makes and revokes their own; an admin also those of others in the account.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::token::Token;
use crate::base::ids::{ApiKeyId, UserId};
use crate::domain::access::Role;
use crate::domain::scope::{KeyScope, Reach as Scopes};
use crate::port::api_keys::{ApiKey, ApiKeyStore, NewApiKey};
use crate::port::auth::TokenKind;
use crate::port::scope::StoreError;
use crate::port::users::UserStore;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const NAME_MAX: usize = 200;
const SCOPES_MAX: usize = 20;

/// Which keys.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyQuery {
    /// Whose; without role `admin` always the caller's own.
    #[param(value_type = Option<i32>)]
    user_id: Option<UserId>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A new key.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyCreate {
    /// What it is for.
    #[schema(example = "billing export", min_length = 1, max_length = 200)]
    name: String,
    /// Whose; the caller's own when left out.
    #[schema(value_type = Option<i32>)]
    user_id: Option<UserId>,
    /// Ends by itself; never when left out.
    expires_at: Option<DateTime<Utc>>,
    /// What of the person's rights it has: `read` for looking at everything, or `GROUP:read`, `GROUP:write` (which holds
    /// reading) with the groups `people`, `devices`, `readings`, `control`, `alarms`, `notices`, `exchange`, `server`; all of
    /// them when left out.
    #[schema(value_type = Option<Vec<String>>, example = json!(["read", "devices:write"]), min_items = 1, max_items = 20)]
    scopes: Option<Vec<String>>,
}

/// A new key with its secret, which is shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ApiKeyCreated {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// The secret; use it as `Authorization: Bearer KEY`.
    #[schema(example = "ph_k_…")]
    pub secret: String,
}

fn manages(caller: &Caller) -> bool {
    caller.roles.has(Role::Admin) || caller.is_platform()
}

/// The keys that the caller may see.
#[utoipa::path(tag = "api-keys", params(ApiKeyQuery), responses((status = 200, body = Page<ApiKey>)))]
#[get("/api-keys")]
async fn list_api_keys(
    caller: Caller,
    keys: Reach<dyn ApiKeyStore>,
    Query(query): Query<ApiKeyQuery>,
) -> Result<web::Json<Page<ApiKey>>, ApiError> {
    let page = PageRequest::<ApiKeyId>::new("api-keys", query.limit, query.cursor.as_deref())?;
    let user = if manages(&caller) {
        query.user_id
    } else {
        Some(caller.user)
    };
    let rows = keys.list(user, page.after, page.fetch()).await?;
    Ok(web::Json(page.page(rows, |key| key.id)))
}

/// Makes a key. The answer has the secret, which cannot be shown again.
#[utoipa::path(tag = "api-keys", request_body = ApiKeyCreate, responses((status = 201, body = ApiKeyCreated)))]
#[post("/api-keys")]
async fn create_api_key(
    state: web::Data<ApiState>,
    caller: Caller,
    keys: Reach<dyn ApiKeyStore>,
    users: Reach<dyn UserStore>,
    Body(body): Body<ApiKeyCreate>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let mut faults = Faults::new();
    faults.text("name", &body.name, NAME_MAX);
    faults.check(
        body.expires_at.is_none_or(|at| at > now),
        "expires_at",
        "must lie in the future",
    );
    let scopes = body.scopes.map(|scopes| read_scopes(&mut faults, &scopes));
    faults.done()?;
    let reach = scopes.clone().map_or(Scopes::Whole, Scopes::Only);
    if !caller.reach.covers(&reach) {
        return Err(ApiError::new(Kind::Forbidden, "a key makes no key that may more than itself").at("scopes"));
    }
    let user = body.user_id.unwrap_or(caller.user);
    if user != caller.user {
        may_act_for(&caller, &*users, user).await?;
    }
    let token = Token::generate(TokenKind::ApiKey).map_err(|error| StoreError::Internal(error.to_string()))?;
    let key = NewApiKey {
        user,
        name: body.name.trim().to_owned(),
        hash: token.hash,
        prefix: token.prefix(),
        expires_at: body.expires_at,
        scopes,
    };
    let key = keys.create(&key, now).await?;
    Ok(HttpResponse::Created().json(ApiKeyCreated {
        key,
        secret: token.secret,
    }))
}

/// Each scope once, in order.
fn read_scopes(faults: &mut Faults, texts: &[String]) -> Vec<KeyScope> {
    faults.check(
        (1..=SCOPES_MAX).contains(&texts.len()),
        "scopes",
        "must name 1 to 20 scopes",
    );
    let mut scopes = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        scopes.extend(faults.take(&format!("scopes[{index}]"), text.parse::<KeyScope>()));
    }
    scopes.into_iter().collect()
}

/// A key acts as its person: who makes one for another must stand above them.
async fn may_act_for(caller: &Caller, users: &dyn UserStore, user: UserId) -> Result<(), ApiError> {
    if !manages(caller) {
        return Err(ApiError::new(Kind::Forbidden, "only role admin makes keys for others").at("user_id"));
    }
    let target = users.get(user).await.map_err(|error| match error {
        StoreError::NotFound(_) => ApiError::invalid("user_id", "there is no such user"),
        other => other.into(),
    })?;
    if target.roles.contains(&Role::Platform) && !caller.is_platform() {
        return Err(ApiError::new(Kind::Forbidden, "only role platform makes keys for role platform").at("user_id"));
    }
    Ok(())
}

/// Revokes a key: it is worth nothing from now on.
#[utoipa::path(tag = "api-keys", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/api-keys/{id}")]
async fn revoke_api_key(
    state: web::Data<ApiState>,
    caller: Caller,
    keys: Reach<dyn ApiKeyStore>,
    Id(id): Id<ApiKeyId>,
) -> Result<HttpResponse, ApiError> {
    let key = keys.get(id).await?;
    if key.user_id != caller.user && !manages(&caller) {
        // another's key is none of the caller's business, not even that it exists
        return Err(ApiError::not_found("API key"));
    }
    keys.revoke(id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_api_keys)
        .service(create_api_key)
        .service(revoke_api_key);
}

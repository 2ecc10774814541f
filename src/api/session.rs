//! `/session`: who am I, sign out, another password. Signing in is `sign_in`'s.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::handle::Own;
use super::problem::{ApiError, Kind};
use super::second_factor::password_again;
use super::sign_in::no_cookie;
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::Role;
use crate::domain::scope::{KeyScope, Reach};
use crate::port::auth::TokenKind;
use crate::port::users::{UserEdit, UserStore};
use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};

/// The account a caller acts in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionAccount {
    /// Its id.
    #[schema(value_type = i32)]
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Its IANA time zone.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
}

/// Who calls.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionView {
    /// The person.
    #[schema(value_type = i32)]
    pub user_id: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their roles.
    pub roles: Vec<Role>,
    /// The account they act in; null for role `platform` without `?account=`.
    pub account: Option<SessionAccount>,
    /// The account's time zone, else `UTC`.
    pub time_zone: String,
    /// The API key in use, if it is one.
    #[schema(value_type = Option<i32>)]
    pub api_key_id: Option<ApiKeyId>,
    /// What of the person's rights the key has; null: all of them.
    #[schema(value_type = Option<Vec<String>>)]
    pub scopes: Option<Vec<KeyScope>>,
    /// A second factor has to be enrolled before anything else works.
    pub second_factor_due: bool,
}

/// Who calls, with which roles, in which account.
#[utoipa::path(tag = "session", responses((status = 200, body = SessionView)))]
#[get("/session")]
async fn who_am_i(state: web::Data<ApiState>, caller: Caller) -> Result<web::Json<SessionView>, ApiError> {
    let account = match caller.account {
        None => None,
        Some(id) => state.auth.account(id).await?.map(|account| SessionAccount {
            id: account.id,
            name: account.name,
            time_zone: account.time_zone,
        }),
    };
    Ok(web::Json(SessionView {
        user_id: caller.user,
        roles: caller.roles.list(),
        time_zone: account
            .as_ref()
            .map_or_else(|| "UTC".to_owned(), |account| account.time_zone.clone()),
        account,
        api_key_id: caller.api_key,
        scopes: match caller.reach {
            Reach::Whole => None,
            Reach::Only(scopes) => Some(scopes),
        },
        second_factor_due: caller.second_factor_due,
        email: caller.email,
        name: caller.name,
    }))
}

/// Signs out: the token is worth nothing from now on. An API key is not ended here but at `/api-keys/{id}`.
#[utoipa::path(tag = "session", responses((status = 204)))]
#[delete("/session")]
async fn sign_out(state: web::Data<ApiState>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let (kind, token) = caller.token();
    if kind == TokenKind::ApiKey {
        return Err(ApiError::new(
            Kind::Conflict,
            "an API key has no session to end; revoke it with DELETE /api/v1/api-keys/ID",
        ));
    }
    state
        .auth
        .end_session(token, state.clock.now(), &caller.actor())
        .await?;
    Ok(HttpResponse::NoContent().cookie(no_cookie(&state)).finish())
}

/// The own password, old and new.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password now.
    #[schema(format = Password, max_length = 512)]
    current: String,
    /// The new one, 8 characters or more.
    #[schema(format = Password, min_length = 8, max_length = 512)]
    new: String,
}

/// Changes the own password. Every session of the person ends, this one too; API keys go on.
#[utoipa::path(tag = "session", request_body = PasswordChange, responses((status = 204)))]
#[post("/session/password")]
async fn change_password(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Own<dyn UserStore>,
    Body(body): Body<PasswordChange>,
) -> Result<HttpResponse, ApiError> {
    password_again(&state, &caller, "current", body.current).await?;
    let hash = state
        .passwords
        .hash("new", body.new, &caller.email, &caller.name)
        .await?;
    let edit = UserEdit {
        password_hash: Some(hash),
        ..UserEdit::default()
    };
    users.update(caller.user, &edit, None, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().cookie(no_cookie(&state)).finish())
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(who_am_i).service(sign_out).service(change_password);
}

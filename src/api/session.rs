//! `/session`: sign in, who am I, sign out.

use super::ApiState;
use super::auth::{COOKIE, Caller};
use super::body::Body;
use super::handle::Reach;
use super::password::{self, PASSWORD_MAX};
use super::problem::{ApiError, Faults, Kind};
use super::token::Token;
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::Role;
use crate::port::auth::{NewSession, TokenKind};
use crate::port::scope::{Actor, StoreError};
use crate::port::users::{UserEdit, UserStore};
use crate::telemetry::api::{SignInOutcome, SignInTried};
use crate::telemetry::audit::AuditUnwritten;
use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// E-mail address and password.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The e-mail address; case does not matter.
    #[schema(example = "ann@example.org", max_length = 254)]
    email: String,
    /// The password.
    #[schema(format = Password, max_length = 512)]
    password: String,
}

/// A session that began.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionOpened {
    /// The token, shown once; also set as a cookie.
    #[schema(example = "ph_s_…")]
    pub token: String,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
}

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
}

/// Writes a refusal into the audit. Not what was typed: people type passwords into the wrong field. A refusal stays one
/// when it cannot be written.
async fn note_refusal(state: &ApiState, user: Option<UserId>, source: Option<String>) {
    let Some(unwritten) = state.throttle.note(state.clock.monotonic()) else {
        return;
    };
    let actor = Actor {
        user: None,
        api_key: None,
        name: "nobody".to_owned(),
        source,
        request_id: super::edge::request_id(),
    };
    let written = state
        .auth
        .sign_in_refused(user, unwritten, state.clock.now(), &actor)
        .await;
    if let Err(error) = written {
        AuditUnwritten {
            what: "session.refused",
            error: &error.to_string(),
        }
        .emit();
    }
}

/// Signs in: gives a token, and the same as a `SameSite=Strict` cookie.
#[utoipa::path(tag = "session", request_body = SignIn, responses((status = 201, body = SessionOpened)))]
#[post("/session")]
async fn sign_in(
    state: web::Data<ApiState>,
    request: HttpRequest,
    Body(SignIn { email, password }): Body<SignIn>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    faults.check((3..=254).contains(&email.len()), "email", "must be an e-mail address");
    faults.check(
        password.len() <= PASSWORD_MAX,
        "password",
        "is longer than any password here",
    );
    faults.done()?;
    let source = request.peer_addr().map(|peer| peer.ip());
    let source_text = source.map(|ip| ip.to_string());
    let tried = |outcome| {
        SignInTried {
            outcome,
            source: source_text.as_deref().unwrap_or("unknown"),
        }
        .emit();
    };
    let monotonic = state.clock.monotonic();
    state.throttle.admit(&email, source, monotonic).map_err(|wait| {
        tried(SignInOutcome::Throttled);
        too_often(wait.as_secs())
    })?;
    // counted before it is checked, so that guesses sent at once do not all pass
    state.throttle.failed(&email, source, monotonic);

    let record = state.auth.sign_in_record(email.trim()).await?;
    let phc = record.as_ref().map(|record| record.password_hash.clone());
    let right = state.passwords.verify(password, phc).await?;
    let tried_user = record.as_ref().map(|record| record.user);
    let refused = || {
        tried(SignInOutcome::Refused);
        ApiError::new(Kind::WrongCredentials, "the e-mail address or the password is wrong")
    };
    let Some(record) = record.filter(|_| right) else {
        note_refusal(&state, tried_user, source_text.clone()).await;
        return Err(refused());
    };
    state.throttle.succeeded(&email, source, monotonic);

    let token = Token::generate(TokenKind::Session).map_err(|error| StoreError::Internal(error.to_string()))?;
    let now = state.clock.now();
    let expires_at = now + TimeDelta::hours(i64::from(state.settings.session_hours));
    let session = NewSession {
        token: token.hash,
        user: record.user,
        now,
        expires_at,
        password_hash: record.password_hash,
    };
    let actor = Actor {
        user: Some(record.user),
        api_key: None,
        name: email.trim().to_lowercase(),
        source: source_text.clone(),
        request_id: super::edge::request_id(),
    };
    match state.auth.open_session(session, &actor).await {
        Err(StoreError::NotFound(_)) => {
            note_refusal(&state, tried_user, source_text.clone()).await;
            return Err(refused());
        }
        other => other?,
    }
    tried(SignInOutcome::Granted);
    Ok(HttpResponse::Created()
        .cookie(cookie(
            &state,
            token.secret.clone(),
            CookieDuration::hours(i64::from(state.settings.session_hours)),
        ))
        .json(SessionOpened {
            token: token.secret,
            expires_at,
        }))
}

fn cookie(state: &ApiState, value: String, life: CookieDuration) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(state.settings.secure_cookies)
        .max_age(life)
        .finish()
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
    Ok(HttpResponse::NoContent()
        .cookie(cookie(&state, String::new(), CookieDuration::ZERO))
        .finish())
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
    users: Reach<dyn UserStore>,
    Body(body): Body<PasswordChange>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    faults.take("new", password::check(&body.new));
    faults.check(body.current.len() <= PASSWORD_MAX, "current", "is wrong");
    faults.done()?;
    let monotonic = state.clock.monotonic();
    state
        .throttle
        .admit(&caller.email, caller.source, monotonic)
        .map_err(|wait| too_often(wait.as_secs()))?;
    state.throttle.failed(&caller.email, caller.source, monotonic);
    let record = state.auth.sign_in_record(&caller.email).await?;
    let phc = record.map(|record| record.password_hash);
    if !state.passwords.verify(body.current, phc).await? {
        return Err(ApiError::invalid("current", "is not the password"));
    }
    state.throttle.succeeded(&caller.email, caller.source, monotonic);
    let edit = UserEdit {
        password_hash: Some(state.passwords.hash(body.new).await?),
        ..UserEdit::default()
    };
    users.update(caller.user, &edit, None, state.clock.now()).await?;
    Ok(HttpResponse::NoContent()
        .cookie(cookie(&state, String::new(), CookieDuration::ZERO))
        .finish())
}

fn too_often(seconds: u64) -> ApiError {
    ApiError::new(Kind::TooManyRequests, "too many wrong passwords; wait and try again").retry_after(seconds.max(1))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(sign_in)
        .service(who_am_i)
        .service(sign_out)
        .service(change_password);
}

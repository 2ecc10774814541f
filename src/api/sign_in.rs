//! `POST /session`: address, password and, where a second factor counts, a code become a session.
//!
//! The order matters: a place at the desk (bounded), what is known of the person, the throttle (which goes by the person,
//! however the address was typed), the password, and only then a word about a code.

use super::ApiState;
use super::auth::COOKIE;
use super::body::Body;
use super::device_cookie::{self, Device};
use super::password::{Lane, PASSWORD_MAX, Turn};
use super::problem::{ApiError, Faults, Kind};
use super::second_factor::{self, Given};
use super::source;
use super::throttle::{Standing, Subject, Try};
use super::token::Token;
use crate::base::ids::UserId;
use crate::port::auth::{NewSession, Refusal, SignInRecord, TokenKind};
use crate::port::scope::{Actor, StoreError};
use crate::port::sign_ins::{AGENT_MAX, SignInEnd, Visitor};
use crate::telemetry::api::{SignInOutcome, SignInTried};
use crate::telemetry::audit::AuditUnwritten;
use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{DateTime, TimeDelta, Utc};
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// E-mail address and password.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The e-mail address; case does not matter.
    #[schema(example = "ann@example.org", min_length = 3, max_length = 254)]
    email: String,
    /// The password.
    #[schema(format = Password, max_length = 512)]
    password: String,
    /// Where a second factor is in use: the six digits of the app, or a recovery code.
    #[schema(example = "287082", max_length = 32)]
    code: Option<String>,
}

/// A session that began.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SessionOpened {
    /// The token, shown once; also set as a cookie.
    #[schema(example = "ph_s_…")]
    pub token: String,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The account asks for a second factor and there is none yet: until one is enrolled
    /// (`POST /session/second-factor`) the session can do nothing else.
    pub second_factor_due: bool,
}

/// Who knocks.
struct Caller {
    source: Option<IpAddr>,
    visitor: Visitor,
    device: Option<Device>,
}

impl Caller {
    fn of(state: &ApiState, request: &HttpRequest, email: &str) -> Self {
        let source = source::of(request);
        Self {
            source,
            visitor: Visitor {
                source: source.map(|ip| ip.to_string()),
                agent: agent(request),
                place: source.and_then(|ip| state.places.place(ip)),
            },
            device: device_cookie::of(request, &state.key, email, state.clock.now()),
        }
    }

    fn tell(&self, outcome: SignInOutcome) {
        SignInTried {
            outcome,
            source: self.visitor.source.as_deref().unwrap_or("unknown"),
        }
        .emit();
    }

    fn actor(&self, user: Option<UserId>, name: &str) -> Actor {
        Actor {
            user,
            api_key: None,
            name: name.to_owned(),
            source: self.visitor.source.clone(),
            request_id: super::edge::request_id(),
        }
    }
}

fn agent(request: &HttpRequest) -> String {
    let text = request
        .headers()
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let tame = text.unwrap_or_default().chars().filter(|c| !c.is_control());
    tame.take(AGENT_MAX).collect()
}

pub(super) fn too_often(wait: Duration) -> ApiError {
    ApiError::new(Kind::TooManyRequests, "too many tries; wait and try again").retry_after(wait.as_secs().max(1))
}

fn wrong() -> ApiError {
    ApiError::new(Kind::WrongCredentials, "the e-mail address or the password is wrong")
}

/// What is tried, by whom.
fn tried(email: &str, record: Option<&SignInRecord>, caller: &Caller) -> Try {
    let subject = record.map_or_else(|| Subject::name(email), |record| Subject::Person(record.user));
    let known = |device: Device| record.is_some_and(|record| record.user == device.user);
    let standing = match (caller.device.filter(|device| known(*device)), record) {
        (Some(device), _) => Standing::Known(device.number),
        (None, Some(record)) if record.known_source => Standing::KnownSource,
        _ => Standing::Stranger,
    };
    Try {
        subject,
        standing,
        source: caller.source,
    }
}

/// Signs in: gives a token, and the same as a `SameSite=Strict` cookie. With a second factor in use and no code the answer
/// is 401 `code-required`: send the same again with `code`.
#[utoipa::path(tag = "session", request_body = SignIn, responses((status = 201, body = SessionOpened)))]
#[post("/session")]
async fn sign_in(
    state: web::Data<ApiState>,
    request: HttpRequest,
    Body(SignIn { email, password, code }): Body<SignIn>,
) -> Result<HttpResponse, ApiError> {
    let mut faults = Faults::new();
    faults.check((3..=254).contains(&email.len()), "email", "must be an e-mail address");
    faults.check(
        password.len() <= PASSWORD_MAX,
        "password",
        "is longer than any password here",
    );
    let code = code.as_deref().map(Given::read);
    faults.check(
        !matches!(code, Some(Given::Nothing)),
        "code",
        "must be six digits, or a recovery code",
    );
    faults.done()?;
    let caller = Caller::of(&state, &request, &email);
    let throttled = |wait| {
        caller.tell(SignInOutcome::Throttled);
        too_often(wait)
    };
    let lane = if caller.device.is_some() {
        Lane::Known
    } else if state.throttle.is_familiar(caller.source) {
        Lane::Familiar
    } else {
        let may = state.throttle.source_may(caller.source, state.clock.monotonic());
        may.map_err(throttled)?;
        Lane::Stranger
    };
    let turn = state.passwords.enter(lane)?;
    let record = look_up(&state, &turn, email.trim(), &caller).await?;
    let tried = tried(&email, record.as_ref(), &caller);
    let before = state
        .throttle
        .take(&tried, state.clock.monotonic())
        .map_err(throttled)?;

    let phc = record.as_ref().map(|record| record.password_hash.clone());
    let right = turn.verify(password, phc).await?;
    let user = record.as_ref().map(|record| record.user);
    let refusal = |end| Refusal {
        user,
        end,
        visitor: caller.visitor.clone(),
        throttled: before,
        audited: state.throttle.note(state.clock.monotonic()),
        now: state.clock.now(),
    };
    let Some(record) = record.filter(|_| right) else {
        caller.tell(SignInOutcome::Refused);
        note(&state, refusal(SignInEnd::WrongPassword), &caller).await;
        return Err(wrong());
    };
    let actor = caller.actor(Some(record.user), &email.trim().to_lowercase());
    if let Some(factor) = &record.second_factor {
        let known = matches!(tried.standing, Standing::Known(_));
        let judged = second_factor::judge(&state, &actor, record.user, factor, code.as_ref(), known).await;
        if let Err(problem) = judged {
            if problem.kind() == Kind::CodeRequired {
                let end = if code.is_some() {
                    SignInEnd::WrongCode
                } else {
                    state.throttle.right(&tried);
                    SignInEnd::CodeRequired
                };
                caller.tell(SignInOutcome::CodeRequired);
                note(&state, refusal(end), &caller).await;
            }
            return Err(problem);
        }
    }
    state.throttle.right(&tried);
    open(&state, record, &caller, before, &actor).await
}

async fn look_up(
    state: &ApiState,
    turn: &Turn,
    email: &str,
    caller: &Caller,
) -> Result<Option<SignInRecord>, ApiError> {
    let _alone = turn.lookup().await?;
    let since = state.clock.now() - TimeDelta::days(device_cookie::LIFE_DAYS);
    let source = caller.visitor.source.as_deref();
    Ok(state.auth.sign_in_record(email, source, since).await?)
}

/// Writes a refusal down. Not what was typed: people type passwords into the wrong field. A refusal stays one when it
/// cannot be written.
async fn note(state: &ApiState, refusal: Refusal, caller: &Caller) {
    // of a name that is nobody's there is no history, and the audit has had enough of them
    if refusal.user.is_none() && refusal.audited.is_none() {
        return;
    }
    let actor = caller.actor(None, "nobody");
    if let Err(error) = state.auth.sign_in_refused(refusal, &actor).await {
        AuditUnwritten {
            what: "session.refused",
            error: &error.to_string(),
        }
        .emit();
    }
}

async fn open(
    state: &ApiState,
    record: SignInRecord,
    caller: &Caller,
    throttled: u32,
    actor: &Actor,
) -> Result<HttpResponse, ApiError> {
    let token = Token::generate(TokenKind::Session).map_err(|error| StoreError::Internal(error.to_string()))?;
    let now = state.clock.now();
    let life = TimeDelta::hours(i64::from(state.settings.session_hours));
    let expires_at = now + life;
    let session = NewSession {
        token: token.hash,
        user: record.user,
        now,
        expires_at,
        password_hash: record.password_hash,
        visitor: caller.visitor.clone(),
        second_factor: record.second_factor.is_some(),
        throttled,
        forget_before: now - TimeDelta::days(i64::from(state.settings.sign_ins_days)),
    };
    match state.auth.open_session(session, actor).await {
        // disabled, or another password, since we looked
        Err(StoreError::NotFound(_)) => {
            caller.tell(SignInOutcome::Refused);
            return Err(wrong());
        }
        other => other?,
    }
    caller.tell(SignInOutcome::Granted);
    state.throttle.remember(caller.source);
    let opened = state.auth.identify(TokenKind::Session, &token.hash, now).await?;
    let device = match caller.device.filter(|device| device.user == record.user) {
        Some(device) => device,
        None => Device {
            user: record.user,
            number: rand::rngs::OsRng
                .try_next_u64()
                .map_err(|error| StoreError::Internal(error.to_string()))?,
        },
    };
    let device = device_cookie::write(&state.key, device, &actor.name, now);
    Ok(HttpResponse::Created()
        .cookie(cookie(
            state,
            COOKIE,
            "/",
            token.secret.clone(),
            CookieDuration::seconds(life.num_seconds()),
        ))
        .cookie(cookie(
            state,
            device_cookie::COOKIE,
            "/api/v1/session",
            device,
            CookieDuration::days(device_cookie::LIFE_DAYS),
        ))
        .json(SessionOpened {
            token: token.secret,
            expires_at,
            second_factor_due: opened.is_some_and(|identity| state.must_enrol(&identity)),
        }))
}

/// The session cookie, taken back.
pub(super) fn no_cookie(state: &ApiState) -> Cookie<'static> {
    cookie(state, COOKIE, "/", String::new(), CookieDuration::ZERO)
}

fn cookie(
    state: &ApiState,
    name: &'static str,
    path: &'static str,
    value: String,
    life: CookieDuration,
) -> Cookie<'static> {
    Cookie::build(name, value)
        .path(path)
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(state.settings.secure_cookies)
        .max_age(life)
        .finish()
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(sign_in);
}

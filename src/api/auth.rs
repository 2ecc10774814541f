//! Who calls, and whether they may: the guard before every operation of the API.
//!
//! A token comes as `Authorization: Bearer` or in the session cookie. It is looked up at every request, so that
//! revoking, disabling, a new password or new roles work at once. Then the table in [`super::access`] decides; what it
//! does not name is denied.

use super::access::{self, Access, Verdict};
use super::edge;
use super::problem::{ApiError, Kind};
use super::query::account_parameter;
use super::scopes;
use super::source;
use super::token;
use super::{ApiState, BASE};
use crate::base::ids::{AccountId, ApiKeyId, UserId};
use crate::domain::access::{Role, RoleSet};
use crate::domain::scope::Reach;
use crate::port::auth::{TokenHash, TokenKind};
use crate::port::scope::{Actor, Scope};
use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use std::future::{Ready, ready};
use std::net::IpAddr;

/// The session cookie.
pub const COOKIE: &str = "polyphase_session";
/// Names the account in which role `platform` acts; same as `?account=`.
pub const ACCOUNT_HEADER: &str = "x-account";

/// Who calls. Handlers take it as an argument; there is none on public operations.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// The account they act in: their own, or for role `platform` the one the request names.
    pub account: Option<AccountId>,
    /// Their roles now.
    pub roles: RoleSet,
    /// The key they used, if any.
    pub api_key: Option<ApiKeyId>,
    /// Where the request comes from.
    pub source: Option<IpAddr>,
    /// What of their rights the token reaches.
    pub reach: Reach,
    /// Whether people with their roles need a second factor.
    pub second_factor_required: bool,
    /// Whether they have to enrol it before anything else.
    pub second_factor_due: bool,
    home: Option<AccountId>,
    kind: TokenKind,
    token: TokenHash,
}

impl Caller {
    /// Whether they act across accounts.
    pub fn is_platform(&self) -> bool {
        self.roles.has(Role::Platform)
    }

    /// The account they act in.
    ///
    /// # Errors
    /// `account-required` for role `platform` without an account.
    pub fn account(&self) -> Result<AccountId, ApiError> {
        self.account.ok_or_else(|| {
            ApiError::new(
                Kind::AccountRequired,
                "this works within one account, and you have none of your own: add ?account=ID",
            )
            .at("account")
        })
    }

    /// How the audit names them.
    pub fn actor(&self) -> Actor {
        Actor {
            user: Some(self.user),
            api_key: self.api_key,
            name: self.email.clone(),
            source: self.source.map(|ip| ip.to_string()),
            request_id: edge::request_id(),
        }
    }

    /// What their handles are made for.
    ///
    /// # Errors
    /// `account-required` for role `platform` without an account.
    pub fn scope(&self) -> Result<Scope, ApiError> {
        Ok(Scope {
            account: self.account()?,
            actor: self.actor(),
        })
    }

    /// Whether the token still stands, with the same account and at least the roles of `needed`; for answers that go on
    /// for long (streams), which have to end with the session.
    ///
    /// # Errors
    /// `database-away`: it is not known.
    pub async fn still_stands(&self, state: &ApiState, needed: RoleSet) -> Result<bool, ApiError> {
        let found = state.auth.identify(self.kind, &self.token, state.clock.now()).await?;
        Ok(found.is_some_and(|identity| {
            identity.roles.meets(needed) && (identity.roles.has(Role::Platform) || identity.account == self.account)
        }))
    }

    /// What handles of their own things are made for: their own account, whichever they act in; none: no account's.
    pub(super) fn own_scope(&self) -> Option<Scope> {
        Some(Scope {
            account: self.home?,
            actor: self.actor(),
        })
    }

    /// A number of the present session or key, for counting its tries.
    pub(super) fn session_number(&self) -> u64 {
        let (number, _) = self.token.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*number)
    }

    /// The token's hash, for ending its session.
    pub(super) fn token(&self) -> (TokenKind, &TokenHash) {
        (self.kind, &self.token)
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(unauthenticated))
    }
}

fn unauthenticated() -> ApiError {
    ApiError::new(
        Kind::Unauthenticated,
        "no valid key or session came with the request; send Authorization: Bearer KEY",
    )
}

/// The middleware around everything below [`BASE`].
pub(super) async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    match admit(&request).await {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(problem) => {
            let response = problem.error_response();
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

async fn admit(request: &ServiceRequest) -> Result<(), ApiError> {
    let pattern = request.match_pattern();
    let Some(route) = pattern.as_deref().and_then(|pattern| pattern.strip_prefix(BASE)) else {
        return Ok(()); // no route: the default service answers 404
    };
    let operation = match access::find(request.method(), route) {
        Verdict::Operation(operation) => operation,
        Verdict::OtherMethods(methods) => {
            return Err(ApiError::new(Kind::MethodNotAllowed, format!("this route takes {methods}")).allow(methods));
        }
        Verdict::Denied => return Err(ApiError::new(Kind::Forbidden, "nobody may call this operation")),
    };
    if operation.access == Access::Public {
        return Ok(());
    }
    let state = request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::new(Kind::Internal, "the server is not set up"))?;
    let caller = authenticate(request, state).await?;
    if !operation.access.permits(caller.roles) {
        let held: Vec<&str> = caller.roles.list().into_iter().map(Role::as_str).collect();
        return Err(ApiError::new(
            Kind::Forbidden,
            format!("{} is not for role {}", operation.id, held.join(", ")),
        ));
    }
    within_scopes(operation, &caller)?;
    if caller.second_factor_due && !enrols(operation.route) {
        return Err(ApiError::new(
            Kind::SecondFactorRequired,
            "people with your role need a second factor here: enrol one at POST /api/v1/session/second-factor",
        ));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Roles say what the person may, scopes what of it the key may.
fn within_scopes(operation: &access::Operation, caller: &Caller) -> Result<(), ApiError> {
    // everybody may ask who they are
    if operation.id == "who_am_i"
        || caller
            .reach
            .permits(scopes::group(operation), scopes::writes(operation))
    {
        return Ok(());
    }
    let group = scopes::group(operation).map_or("a person's own session", |group| group.as_str());
    let verb = if scopes::writes(operation) { "write" } else { "read" };
    Err(ApiError::new(
        Kind::Forbidden,
        format!("the key's scopes do not reach {} ({group}:{verb})", operation.id),
    )
    .because("scope"))
}

/// What a session may do whose person has to enrol a second factor.
fn enrols(route: &str) -> bool {
    route == "/session" || route.starts_with("/session/")
}

async fn authenticate(request: &ServiceRequest, state: &ApiState) -> Result<Caller, ApiError> {
    let (kind, token) = credential(request)?;
    let identity = state
        .auth
        .identify(kind, &token, state.clock.now())
        .await?
        .ok_or_else(unauthenticated)?;
    let account = match named_account(request)? {
        None => identity.account,
        Some(named) if identity.account == Some(named) => Some(named),
        Some(named) if identity.roles.has(Role::Platform) => Some(
            state
                .auth
                .account(named)
                .await?
                .ok_or_else(|| ApiError::not_found("account").at("account"))?
                .id,
        ),
        Some(_) => return Err(ApiError::not_found("account").at("account")),
    };
    Ok(Caller {
        user: identity.user,
        account,
        roles: identity.roles,
        api_key: identity.api_key,
        source: source::of(request.request()),
        second_factor_required: state.second_factor_wanted(&identity),
        second_factor_due: kind == TokenKind::Session && state.must_enrol(&identity),
        home: identity.account,
        reach: identity.reach,
        email: identity.email,
        name: identity.name,
        kind,
        token,
    })
}

/// The token of the request. A header goes before the cookie; a wrong header is never made good by a cookie.
fn credential(request: &ServiceRequest) -> Result<(TokenKind, TokenHash), ApiError> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthenticated());
        }
        return token::recognise(token.trim()).ok_or_else(unauthenticated);
    }
    let cookie = request.cookie(COOKIE).ok_or_else(unauthenticated)?;
    let found = token::recognise(cookie.value()).ok_or_else(unauthenticated)?;
    // a browser sends the cookie by itself: a change has to show that our own page asked for it
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || asked_by_own_page(request) {
        Ok(found)
    } else {
        Err(ApiError::new(
            Kind::CrossSite,
            "with the session cookie a change needs the header X-Requested-With, or an Origin of this server",
        ))
    }
}

fn asked_by_own_page(request: &ServiceRequest) -> bool {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()) {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        return authority.is_some() && authority == host;
    }
    headers.contains_key("x-requested-with")
}

fn named_account(request: &ServiceRequest) -> Result<Option<AccountId>, ApiError> {
    let header = request
        .headers()
        .get(ACCOUNT_HEADER)
        .and_then(|value| value.to_str().ok());
    match account_parameter(request.query_string()).or(header) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| ApiError::bad_query("account", format!("{text:?} is not the id of an account"))),
    }
}

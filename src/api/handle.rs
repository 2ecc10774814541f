//! How handlers get at stored things: account-scoped handles, made for the caller. There is no other way.

use super::ApiState;
use super::auth::Caller;
use super::problem::{ApiError, Kind};
use crate::port::scope::{AcrossAccounts, InAccount, Stores};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use std::future::{Ready, ready};
use std::ops::Deref;

/// A handle within the caller's account, e.g. `In<dyn DtuStore>`.
pub struct In<H: ?Sized>(Box<H>);

/// A handle across accounts; only callers with role `platform` get one.
pub struct Across<H: ?Sized>(Box<H>);

/// A handle that reaches the caller's account, or every account for role `platform` that names none.
pub struct Reach<H: ?Sized>(Box<H>);

/// A handle for the caller's own things (password, sessions, second factor): of their own account, whichever account role
/// `platform` has named for the request.
pub struct Own<H: ?Sized>(Box<H>);

impl<H: ?Sized> Deref for Own<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: ?Sized + 'static> FromRequest for Own<H>
where
    dyn Stores: InAccount<H> + AcrossAccounts<H>,
{
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(caller_and_state(request).map(|(caller, state)| {
            // people of the platform alone have no account: their rows are no account's
            Self(match caller.own_scope() {
                Some(scope) => state.stores.in_account(scope),
                None => state.stores.across_accounts(caller.actor()),
            })
        }))
    }
}

impl<H: ?Sized> Deref for In<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: ?Sized> Deref for Reach<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: ?Sized> Deref for Across<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: ?Sized + 'static> FromRequest for In<H>
where
    dyn Stores: InAccount<H>,
{
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(caller_and_state(request).and_then(|(caller, state)| Ok(Self(state.stores.in_account(caller.scope()?)))))
    }
}

impl<H: ?Sized + 'static> FromRequest for Across<H>
where
    dyn Stores: AcrossAccounts<H>,
{
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(caller_and_state(request).and_then(|(caller, state)| {
            // the table has said so already; a wrong row there must not open every account
            if caller.is_platform() {
                Ok(Self(state.stores.across_accounts(caller.actor())))
            } else {
                Err(ApiError::new(Kind::Forbidden, "this is for role platform"))
            }
        }))
    }
}

impl<H: ?Sized + 'static> FromRequest for Reach<H>
where
    dyn Stores: InAccount<H> + AcrossAccounts<H>,
{
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(caller_and_state(request).and_then(|(caller, state)| {
            Ok(Self(if caller.is_platform() && caller.account.is_none() {
                state.stores.across_accounts(caller.actor())
            } else {
                state.stores.in_account(caller.scope()?)
            }))
        }))
    }
}

fn caller_and_state(request: &HttpRequest) -> Result<(Caller, web::Data<ApiState>), ApiError> {
    let caller = request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| ApiError::new(Kind::Unauthenticated, "no valid key or session came with the request"))?;
    let state = request
        .app_data::<web::Data<ApiState>>()
        .cloned()
        .ok_or_else(|| ApiError::new(Kind::Internal, "the server is not set up"))?;
    Ok((caller, state))
}

//! Query parameters and path ids. Unknown parameters are refused; an id that is no number is an object that is not there.

use super::problem::ApiError;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::DeserializeOwned;
use std::future::{Ready, ready};
use std::str::FromStr;

/// The parameter with which role `platform` names the account it acts in; every route takes it.
pub(super) const ACCOUNT_PARAMETER: &str = "account";

/// Query parameters; `T` denies unknown fields.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Self))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let rest = text
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(ACCOUNT_PARAMETER))
        .collect::<Vec<_>>()
        .join("&");
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(rest.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let named = ["unknown field `", "missing field `", "duplicate field `"]
            .iter()
            .find_map(|prefix| message.strip_prefix(prefix))
            .and_then(|rest| rest.split('`').next());
        ApiError::bad_query(named.unwrap_or(&path), message.clone())
    })
}

/// The account named by the query, if any.
pub(super) fn account_parameter(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(ACCOUNT_PARAMETER)?.strip_prefix('='))
}

/// The id in the path, of any id type; what does not parse is `not-found`.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(
            request
                .match_info()
                .get("id")
                .and_then(|id| id.parse().ok())
                .map(Self)
                .ok_or_else(|| ApiError::not_found("object")),
        )
    }
}

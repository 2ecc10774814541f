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
        let advice = if TIME_ERRORS.contains(&message.as_str()) {
            ": a time is RFC 3339, such as 2026-01-31T00:00:00Z (in a query a + is written %2B)"
        } else {
            ""
        };
        ApiError::bad_query(named.unwrap_or(&path), format!("{message}{advice}"))
    })
}

/// What chrono says of a text that is no time; alone it helps nobody.
const TIME_ERRORS: [&str; 5] = [
    "input contains invalid characters",
    "premature end of input",
    "input is out of range",
    "trailing input",
    "input is not enough for unique date and time",
];

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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Span {
        from: DateTime<Utc>,
    }

    #[test]
    fn a_text_that_is_no_time_is_refused_with_an_example() {
        for text in [
            "yesterday",
            "2026-01-31",
            "2026-01-31T00:00:00",
            "2026-01-31T00:00:00+01:00",
            "2026-13-01T00:00:00Z",
        ] {
            let error = format!("{:?}", parse::<Span>(&format!("from={text}")).unwrap_err());
            assert!(
                error.contains("from") && error.contains("2026-01-31T00:00:00Z"),
                "{text}: {error}"
            );
        }
        let parsed: Span = parse("account=1&from=2026-01-31T00:00:00%2B01:00").unwrap();
        assert_eq!(parsed.from.to_rfc3339(), "2026-01-30T23:00:00+00:00");
    }
}

//! Versions of objects as entity tags: `ETag: "v3"`, and `If-Match` on edits (RFC 9110 §13.1.1, RFC 6585 §3).
//!
//! PATCH needs `If-Match` (428 without): the tag that was read, or `*` for "whatever it is now". DELETE honours it and
//! works without. A tag of another version is 412 and nothing is changed.

use super::problem::{ApiError, Kind};
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use std::future::{Ready, ready};

/// What version an edit was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `*`, or no header where none is needed.
    Any,
    /// This one.
    Version(i32),
}

impl Expected {
    /// For stores: the version that must be found, none: any.
    pub fn version(self) -> Option<i32> {
        match self {
            Self::Any => None,
            Self::Version(version) => Some(version),
        }
    }
}

/// `If-Match` where it must be sent (PATCH).
#[derive(Clone, Copy, Debug)]
pub struct IfMatch(pub Expected);

/// `If-Match` where it may be left out (DELETE).
#[derive(Clone, Copy, Debug)]
pub struct IfMatchOptional(pub Expected);

impl FromRequest for IfMatch {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(match expected(request.headers()) {
            Ok(Some(expected)) => Ok(Self(expected)),
            Ok(None) => Err(ApiError::new(
                Kind::PreconditionRequired,
                "send If-Match with the ETag that a GET of the object gave, or * to overwrite whatever is there",
            )
            .at("If-Match")),
            Err(error) => Err(error),
        })
    }
}

impl FromRequest for IfMatchOptional {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(expected(request.headers()).map(|found| Self(found.unwrap_or(Expected::Any))))
    }
}

fn expected(headers: &HeaderMap) -> Result<Option<Expected>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(Expected::Any));
    }
    // a proxy that compresses may weaken the tag; the version in it stays true
    let text = text.strip_prefix("W/").unwrap_or(text);
    let version = text
        .strip_prefix("\"v")
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|digits| digits.parse().ok());
    match version {
        Some(version) => Ok(Some(Expected::Version(version))),
        None => Err(ApiError::new(
            Kind::BadHeader,
            "If-Match takes * or one ETag of this server, such as \"v3\"",
        )
        .at("If-Match")),
    }
}

/// Answers an object with its tag.
pub fn tagged<T: Serialize>(mut builder: HttpResponseBuilder, version: i32, object: &T) -> HttpResponse {
    builder
        .insert_header((header::ETAG, format!("\"v{version}\"")))
        .json(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn read(value: &str) -> Result<Option<Expected>, Kind> {
        let request = TestRequest::default()
            .insert_header((header::IF_MATCH, value))
            .to_http_request();
        expected(request.headers()).map_err(|error| error.kind())
    }

    #[test]
    fn tags_are_read_strictly() {
        assert_eq!(read("\"v7\""), Ok(Some(Expected::Version(7))));
        assert_eq!(read("W/\"v7\""), Ok(Some(Expected::Version(7))));
        assert_eq!(read("*"), Ok(Some(Expected::Any)));
        for wrong in ["v7", "\"7\"", "\"v7\", \"v8\"", "", "\"v99999999999\""] {
            assert_eq!(read(wrong), Err(Kind::BadHeader), "{wrong}");
        }
    }
}

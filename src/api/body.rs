//! JSON bodies: bounded in size and time, unknown keys refused (`deny_unknown_fields` on every body type), and every
//! error names the field at fault.

use super::objects::Objects;
use super::problem::{ApiError, Kind};
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use bytes::BytesMut;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The largest JSON body, bytes.
pub const BODY_MAX: usize = 256 * 1024;
/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A JSON body that must be there.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body that must be there, and SHA-256 of its bytes, by which a repeated request is known.
#[derive(Debug)]
pub struct KeyedBody<T>(pub T, pub [u8; 32]);

/// A JSON body that may be left out; then it is `T::default()`.
#[derive(Debug)]
pub struct BodyOrDefault<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media = check_media(request);
        let payload = payload.take();
        Box::pin(async move {
            media?;
            let bytes = collect(payload).await?;
            parse(&bytes).map(Body)
        })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for KeyedBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media = check_media(request);
        let payload = payload.take();
        Box::pin(async move {
            media?;
            let bytes = collect(payload).await?;
            Ok(Self(parse(&bytes)?, Sha256::digest(&bytes).into()))
        })
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for BodyOrDefault<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let media = check_media(request);
        let payload = payload.take();
        Box::pin(async move {
            let bytes = collect(payload).await?;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Self(T::default()));
            }
            media?;
            parse(&bytes).map(Self)
        })
    }
}

fn check_media(request: &HttpRequest) -> Result<(), ApiError> {
    let media = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::UnsupportedMedia,
        format!("send the body with Content-Type: application/json, not {media:?}"),
    )
    .at("Content-Type"))
}

async fn collect(payload: Payload) -> Result<BytesMut, ApiError> {
    collect_within(payload, BODY_MAX, BODY_TIMEOUT).await
}

/// The bytes of a body, at most `most`, if they arrive within `time`.
///
/// # Errors
/// `too-large`, `timed-out`; `bad-json` when it breaks off.
pub(super) async fn collect_within(mut payload: Payload, most: usize, time: Duration) -> Result<BytesMut, ApiError> {
    let all = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| ApiError::new(Kind::BadJson, format!("the body broke off: {error}")))?;
            if bytes.len() + chunk.len() > most {
                return Err(ApiError::new(
                    Kind::TooLarge,
                    format!("a body may have at most {most} bytes"),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(time, all).await.unwrap_or_else(|_| {
        Err(ApiError::new(
            Kind::TimedOut,
            format!("the body did not arrive within {} s", time.as_secs()),
        ))
    })
}

/// Reads JSON; syntax errors are `bad-json`, all others `invalid` with the path of the field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut json)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            fault(&path, &without_position(&inner.to_string()))
        } else {
            ApiError::new(Kind::BadJson, inner.to_string())
        }
    })?;
    json.end()
        .map_err(|error| ApiError::new(Kind::BadJson, error.to_string()))?;
    Ok(value)
}

/// Serde names a missing or unknown field in its text only, at the path of the object around it.
fn fault(path: &str, message: &str) -> ApiError {
    let path = if path == "." { "" } else { path };
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    let last = path.rsplit('.').next().unwrap_or_default();
    let field = match (missing, unknown) {
        (Some(name), _) => join(path, name),
        (_, Some(name)) if last != name => join(path, name),
        _ => path.to_owned(),
    };
    ApiError::invalid(field, message)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn without_position(message: &str) -> String {
    match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or(message).to_owned(),
        None => message.to_owned(),
    }
}

/// For PATCH bodies: tells an absent key (`None`) from `null` (`Some(None)`).
/// Use with `#[serde(default, deserialize_with = "nullable")]` on an `Option<Option<T>>`.
///
/// # Errors
/// When the value is neither `null` nor a `T`.
pub fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::{Connect, SerialNumber};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Sample {
        sn: SerialNumber,
        connect: Option<Connect>,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Inner {
        count: u32,
    }

    fn at(json: &str) -> (Kind, String) {
        let error = parse::<Sample>(json.as_bytes()).unwrap_err();
        let field = error.faults().first().map(|fault| fault.field.clone());
        (error.kind(), field.unwrap_or_default())
    }

    #[test]
    fn the_field_at_fault_is_named() {
        assert_eq!(at(r#"{"sn": 5}"#), (Kind::Invalid, "sn".into()));
        assert_eq!(at(r#"{"sn": ""}"#), (Kind::Invalid, "sn".into()));
        assert_eq!(at("{}"), (Kind::Invalid, "sn".into()));
        assert_eq!(at(r#"{"sn": "A", "colour": 1}"#), (Kind::Invalid, "colour".into()));
        assert_eq!(
            at(r#"{"sn": "A", "list": [{"count": 1}, {"count": -1}]}"#),
            (Kind::Invalid, "list[1].count".into())
        );
        assert_eq!(
            at(r#"{"sn": "A", "list": [{}]}"#),
            (Kind::Invalid, "list[0].count".into())
        );
        assert_eq!(
            at(r#"{"sn": "A", "list": [{"count": 1, "x": 1}]}"#),
            (Kind::Invalid, "list[0].x".into())
        );
        let (kind, field) = at(r#"{"sn": "A", "connect": {"kind": "dial"}}"#);
        assert_eq!(kind, Kind::Invalid);
        assert!(field.starts_with("connect"), "{field}");
    }

    /// Found by schemathesis: `[null, null]` was taken for an edit of a body with two optional fields.
    #[test]
    fn an_array_is_no_object_wherever_it_stands() {
        #[derive(Debug, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Edit {
            name: Option<String>,
            inner: Option<Pair>,
            pairs: Vec<Pair>,
            range: Option<(u8, u8)>,
            mode: Option<Mode>,
        }
        #[derive(Debug, Default, PartialEq, Deserialize)]
        struct Pair {
            min: Option<u8>,
            max: Option<u8>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Mode {
            Plain,
            Between { min: u8 },
        }
        let fault = |json: &str| {
            let error = parse::<Edit>(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{json}");
            error
                .faults()
                .first()
                .map(|fault| fault.field.clone())
                .unwrap_or_default()
        };
        assert_eq!(fault("[]"), "");
        assert_eq!(fault("[null, null, [], null, null]"), "");
        assert_eq!(fault(r#"{"inner": [null, null]}"#), "inner");
        assert_eq!(fault(r#"{"pairs": [{"min": 1}, [1, 2]]}"#), "pairs[1]");
        assert!(fault(r#"{"mode": {"between": [1]}}"#).starts_with("mode"));
        let read = parse::<Edit>(
            br#"{"name": "x", "inner": {"min": 1}, "pairs": [{"max": 2}], "range": [3, 4], "mode": {"between": {"min": 5}}}"#,
        );
        let wanted = Edit {
            name: Some("x".into()),
            inner: Some(Pair {
                min: Some(1),
                max: None,
            }),
            pairs: vec![Pair {
                min: None,
                max: Some(2),
            }],
            range: Some((3, 4)),
            mode: Some(Mode::Between { min: 5 }),
        };
        assert_eq!(read.unwrap(), wanted);
        assert_eq!(parse::<Edit>(br#"{"mode": "plain"}"#).unwrap().mode, Some(Mode::Plain));
    }

    #[test]
    fn broken_json_is_told_apart_from_wrong_json() {
        assert_eq!(at("{").0, Kind::BadJson);
        assert_eq!(at("").0, Kind::BadJson);
        assert_eq!(at(r#"{"sn": "A"} x"#).0, Kind::BadJson);
        assert_eq!(at("[]").0, Kind::Invalid);
    }
}

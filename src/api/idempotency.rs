//! `Idempotency-Key`: a client that lost an answer sends the request again with the same key and gets the same answer;
//! the effect happens once. Keys are an account's and are kept for a day.

use super::problem::{ApiError, Kind};
use crate::port::idempotency::{IdempotencyStore, KeyState};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::future::{Ready, ready};

const HEADER: &str = "Idempotency-Key";
const KEY_MAX: usize = 200;

/// The header, if it was sent: 1 to 200 visible ASCII characters.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(pub Option<String>);

impl FromRequest for IdempotencyKey {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let Some(value) = request.headers().get(HEADER) else {
            return ready(Ok(Self(None)));
        };
        let text = value.to_str().unwrap_or_default();
        let fits = !text.is_empty() && text.len() <= KEY_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        ready(if fits {
            Ok(Self(Some(text.to_owned())))
        } else {
            Err(ApiError::new(
                Kind::BadHeader,
                format!("{HEADER} takes 1 to {KEY_MAX} visible ASCII characters"),
            )
            .at(HEADER))
        })
    }
}

/// What an effect answers.
pub type Outcome = (StatusCode, Value);

/// Runs `effect` once for a key and a request; without a key it just runs. `operation` and the digest of
/// `body` are what is compared.
///
/// # Errors
/// Those of `effect` (the key is free again then); `idempotency-mismatch` for a key that came with another request;
/// `conflict` while the first request is under way.
pub async fn once(
    key: IdempotencyKey,
    keys: &dyn IdempotencyStore,
    now: DateTime<Utc>,
    operation: &str,
    body: &[u8; 32],
    effect: impl AsyncFnOnce() -> Result<Outcome, ApiError>,
) -> Result<Outcome, ApiError> {
    let IdempotencyKey(Some(key)) = key else {
        return effect().await;
    };
    let mut digest = Sha256::new();
    digest.update(operation.as_bytes());
    digest.update([0]);
    digest.update(body);
    match keys.take(&key, &digest.finalize().into(), now).await? {
        KeyState::Taken => {}
        KeyState::Answered { status, response } => {
            return Ok((StatusCode::from_u16(status).unwrap_or(StatusCode::OK), response));
        }
        KeyState::UnderWay => {
            return Err(ApiError::new(
                Kind::Conflict,
                "a request with this Idempotency-Key is under way; one that was cut off can be sent again after two minutes",
            )
            .at(HEADER)
            .retry_after(2));
        }
        KeyState::Mismatch => {
            return Err(ApiError::new(
                Kind::IdempotencyMismatch,
                "this Idempotency-Key came before with another request; use a new one",
            )
            .at(HEADER));
        }
    }
    match effect().await {
        Ok((status, response)) => {
            keys.finish(&key, status.as_u16(), &response).await?;
            Ok((status, response))
        }
        Err(problem) => {
            keys.abandon(&key).await?;
            Err(problem)
        }
    }
}

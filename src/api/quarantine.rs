//! `/quarantine`: serial numbers at the port that nobody owns, and how they become somebody's.
//!
//! The list is for role `platform`, and for admins while the server has a single account. A claim goes by the setting
//! `access.claims`:
//! - `code` (default): an admin gives the code that role `platform` set for the serial number (printed on the device);
//!   it works once. While the server has a single account no code is needed: there is nobody to take a device from.
//! - `platform`: role `platform` alone.
//! - `open`: any admin.
//!
//! Role `platform` claims for any account, without a code. A wrong code and a serial number without a code are
//! answered alike, and guesses are throttled.

use super::auth::Caller;
use super::body::Body;
use super::handle::Across;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::Query;
use super::throttle::{Standing, Subject, Try};
use super::{ApiState, ClaimRule, token};
use crate::base::ids::{AccountId, DtuId};
use crate::domain::device::SerialNumber;
use crate::port::quarantine::{ClaimCodeStore, ClaimProof, ClaimStore};
use crate::port::scope::{InAccount, Scope, StoreError, Stores};
use crate::telemetry::api::ClaimTried;
use actix_web::{HttpResponse, get, post, put, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

const NAME_MAX: usize = 200;
/// Shortest code that may be set: with the throttle, some 10^12 guesses at a few a minute.
const CODE_MIN: usize = 8;
const CODE_MAX: usize = 64;

/// An unknown serial number at the port.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct QuarantineItem {
    /// The serial number.
    #[schema(value_type = String, example = "DTU20260001")]
    pub sn: SerialNumber,
    /// First seen.
    pub first_seen: DateTime<Utc>,
    /// Last seen.
    pub last_seen: DateTime<Utc>,
    /// Connections it made.
    pub connections: u32,
    /// Whether a socket is open now.
    pub connected: bool,
    /// Where it came from last.
    pub source: String,
    /// Its first bytes, as hex.
    pub first_bytes_hex: String,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct QuarantineQuery {
    /// Part of the serial number.
    text: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A claim.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The DTU's name.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// For which account; role `platform` names it, for others it is their own.
    #[schema(value_type = Option<i32>)]
    account: Option<AccountId>,
    /// The code of the serial number, where one is needed.
    #[schema(max_length = 64)]
    code: Option<String>,
}

/// What a claim made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Claimed {
    /// The new DTU.
    #[schema(value_type = i32)]
    pub id: DtuId,
    /// Its account.
    #[schema(value_type = i32)]
    pub account_id: AccountId,
    /// Its serial number.
    #[schema(value_type = String)]
    pub sn: SerialNumber,
    /// Its name.
    pub name: String,
}

/// A code to set.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimCode {
    /// The code printed on the device, 8 to 64 characters; one is made when left out.
    #[schema(min_length = 8, max_length = 64)]
    code: Option<String>,
}

/// A code that was set.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClaimCodeSet {
    /// The serial number.
    #[schema(value_type = String)]
    pub sn: SerialNumber,
    /// The code, shown this once.
    pub code: String,
}

fn serial(path: &web::Path<String>) -> Result<SerialNumber, ApiError> {
    SerialNumber::parse(path).map_err(|_| ApiError::not_found("serial number in quarantine"))
}

/// What is hashed: case, blanks and dashes do not matter, and equal codes of two devices have two hashes.
fn code_hash(sn: &SerialNumber, code: &str) -> [u8; 32] {
    let plain: String = code
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_uppercase)
        .collect();
    token::hash(&format!("claim\n{sn}\n{plain}"))
}

/// The serial numbers in quarantine, by serial number.
#[utoipa::path(tag = "quarantine", params(QuarantineQuery), responses((status = 200, body = Page<QuarantineItem>)))]
#[get("/quarantine")]
async fn list_quarantine(
    state: web::Data<ApiState>,
    caller: Caller,
    Query(query): Query<QuarantineQuery>,
) -> Result<web::Json<Page<QuarantineItem>>, ApiError> {
    if !caller.is_platform() && state.auth.account_count().await? > 1 {
        return Err(ApiError::new(
            Kind::Forbidden,
            "this server has several accounts: the quarantine is for role platform",
        ));
    }
    let page = PageRequest::<String>::new("quarantine", query.limit, query.cursor.as_deref())?;
    let wanted = query.text.unwrap_or_default().to_lowercase();
    let mut entries = state.fleet.quarantine().await;
    entries.retain(|entry| {
        entry.sn.as_str().to_lowercase().contains(&wanted)
            && page.after.as_deref().is_none_or(|after| entry.sn.as_str() > after)
    });
    entries.sort_by(|a, b| a.sn.cmp(&b.sn));
    entries.truncate(usize::try_from(page.fetch()).unwrap_or(usize::MAX));
    let page = page.page(entries, |entry| entry.sn.as_str().to_owned());
    Ok(web::Json(page.map(|entry| QuarantineItem {
        sn: entry.sn,
        first_seen: entry.first_seen,
        last_seen: entry.last_seen,
        connections: entry.connections,
        connected: entry.connected,
        source: entry.peer,
        first_bytes_hex: entry.first_bytes_hex,
    })))
}

/// Claims a serial number: it becomes a DTU of the account, and its waiting connection is taken without a reconnect.
#[utoipa::path(tag = "quarantine", params(("sn" = String, Path)), request_body = Claim,
    responses((status = 201, body = Claimed)))]
#[post("/quarantine/{sn}/claim")]
async fn claim(
    state: web::Data<ApiState>,
    caller: Caller,
    sn: web::Path<String>,
    Body(body): Body<Claim>,
) -> Result<HttpResponse, ApiError> {
    let sn = serial(&sn)?;
    let mut faults = Faults::new();
    faults.text("name", &body.name, NAME_MAX);
    faults.done()?;
    let account = claimant(&state, &caller, body.account).await?;
    let proof = proof(&state, &caller, &sn, body.code.as_deref()).await?;
    if !state.fleet.quarantine().await.iter().any(|entry| entry.sn == sn) {
        // only told to those who may see the list or know the code
        if proof == ClaimProof::NotNeeded {
            return Err(ApiError::not_found(
                "serial number in quarantine; POST /api/v1/dtus registers one in advance",
            ));
        }
    }
    let scope = Scope {
        account,
        actor: caller.actor(),
    };
    let claims: Box<dyn ClaimStore> = <dyn Stores as InAccount<dyn ClaimStore>>::in_account(&*state.stores, scope);
    let name = body.name.trim();
    let made = claims.claim(&sn, name, &proof, state.clock.now()).await?;
    ClaimTried {
        granted: made.is_some(),
        account: account.0,
    }
    .emit();
    let Some(id) = made else {
        return Err(refused());
    };
    if matches!(proof, ClaimProof::Code(_)) {
        state.throttle.right(&guess(account, &caller));
    }
    state.fleet.reload(id).await;
    Ok(HttpResponse::Created().json(Claimed {
        id,
        account_id: account,
        sn,
        name: name.to_owned(),
    }))
}

fn refused() -> ApiError {
    ApiError::new(
        Kind::ClaimRefused,
        "the code is not the one of this serial number; it is printed on the device, or the server's operator has it",
    )
    .at("code")
}

/// For whom: one's own account, and for role `platform` the one it names.
async fn claimant(state: &ApiState, caller: &Caller, named: Option<AccountId>) -> Result<AccountId, ApiError> {
    match named {
        None => caller.account(),
        Some(named) if caller.account == Some(named) => Ok(named),
        Some(named) if caller.is_platform() => match state.auth.account(named).await? {
            Some(account) => Ok(account.id),
            None => Err(ApiError::invalid("account", "there is no such account")),
        },
        Some(_) => Err(ApiError::invalid("account", "there is no such account")),
    }
}

/// A code tried for an account, counted by where it comes from.
fn guess(account: AccountId, caller: &Caller) -> Try {
    Try {
        subject: Subject::name(&format!("claim by account {account}")),
        standing: Standing::KnownSource,
        source: caller.source,
    }
}

/// What the rule in force asks of the caller.
async fn proof(
    state: &ApiState,
    caller: &Caller,
    sn: &SerialNumber,
    code: Option<&str>,
) -> Result<ClaimProof, ApiError> {
    if caller.is_platform() {
        return Ok(ClaimProof::NotNeeded);
    }
    match state.settings.claims {
        ClaimRule::Open => return Ok(ClaimProof::NotNeeded),
        ClaimRule::Platform => {
            return Err(ApiError::new(
                Kind::ClaimRefused,
                "on this server role platform alone gives out devices",
            ));
        }
        ClaimRule::Code => {}
    }
    if state.auth.account_count().await? == 1 {
        return Ok(ClaimProof::NotNeeded);
    }
    let code = code.ok_or_else(refused)?;
    let tried = guess(caller.account()?, caller);
    state.throttle.take(&tried, state.clock.monotonic()).map_err(|wait| {
        ApiError::new(Kind::TooManyRequests, "too many wrong codes; wait and try again")
            .retry_after(wait.as_secs().max(1))
    })?;
    Ok(ClaimProof::Code(code_hash(sn, code)))
}

/// Sets the code of a serial number, in place of an older one; also before the device is seen.
#[utoipa::path(tag = "quarantine", params(("sn" = String, Path)), request_body = ClaimCode,
    responses((status = 200, body = ClaimCodeSet)))]
#[put("/quarantine/{sn}/code")]
async fn set_claim_code(
    state: web::Data<ApiState>,
    codes: Across<dyn ClaimCodeStore>,
    sn: web::Path<String>,
    Body(body): Body<ClaimCode>,
) -> Result<HttpResponse, ApiError> {
    let sn = SerialNumber::parse(&sn).map_err(|error| ApiError::invalid("sn", error.to_string()))?;
    let code = match body.code {
        Some(code) => {
            let length = code.chars().filter(|c| c.is_alphanumeric()).count();
            let mut faults = Faults::new();
            faults.check(
                (CODE_MIN..=CODE_MAX).contains(&length),
                "code",
                format!("must have {CODE_MIN} to {CODE_MAX} letters and digits, this has {length}"),
            );
            faults.done()?;
            code
        }
        None => token::letters().map_err(|error| StoreError::Internal(error.to_string()))?,
    };
    codes.set(&sn, &code_hash(&sn, &code), state.clock.now()).await?;
    Ok(HttpResponse::Ok().json(ClaimCodeSet { sn, code }))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_quarantine).service(claim).service(set_claim_code);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let sn = SerialNumber::parse("DTU-1").unwrap();
        let code = token::letters().unwrap();
        assert_eq!(code.len(), 14);
        let typed = code.to_lowercase().replace('-', " ");
        assert_eq!(code_hash(&sn, &code), code_hash(&sn, &typed));
        assert_ne!(
            code_hash(&sn, &code),
            code_hash(&SerialNumber::parse("DTU-2").unwrap(), &code)
        );
        assert_ne!(code, token::letters().unwrap());
    }
}

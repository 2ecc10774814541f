//! `/session/second-factor`: one-time passwords of an authenticator app as a second factor, and codes for the day when the
//! telephone is lost. An admin can take another's away.
//!
//! The app's secret follows from the server's key and a salt; nowhere is it stored, and it is shown once.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::handle::{Own, Reach};
use super::password::{Lane, PASSWORD_MAX};
use super::problem::{ApiError, Faults, Kind};
use super::query::Id;
use super::sign_in::too_often;
use super::throttle::{Standing, Subject, Try};
use super::token::{self, NoRandomness};
use super::users::reachable;
use crate::base::ids::UserId;
use crate::domain::second_factor::TotpSecret;
use crate::port::auth::{TokenHash, TokenKind};
use crate::port::scope::{AcrossAccounts, Actor, StoreError, Stores};
use crate::port::second_factor::{SecondFactor, SecondFactorStore};
use crate::port::users::UserStore;
use actix_web::{HttpResponse, delete, get, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Recovery codes that are given out at once.
const RECOVERY_CODES: usize = 10;
/// How apps name the server.
const ISSUER: &str = "Polyphase";
const PURPOSE: &str = "totp";

/// What somebody typed as a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Six digits.
    Digits(String),
    /// A recovery code, without blanks and dashes, in capitals.
    Recovery(String),
    /// Neither.
    Nothing,
}

impl Given {
    pub(super) fn read(text: &str) -> Self {
        let tame: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let (length, plain) = (tame.len(), tame.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if length == 6 && tame.bytes().all(|byte| byte.is_ascii_digit()) {
            Self::Digits(tame)
        } else if plain && length == token::LETTERS {
            Self::Recovery(tame.to_ascii_uppercase())
        } else {
            Self::Nothing
        }
    }
}

fn secret(state: &ApiState, salt: Uuid) -> TotpSecret {
    TotpSecret::new(&state.key.derive(PURPOSE, salt))
}

fn recovery_hash(user: UserId, code: &str) -> TokenHash {
    token::hash(&format!("recovery {user} {code}"))
}

fn code_required(why: &str, reason: &str) -> ApiError {
    ApiError::new(Kind::CodeRequired, why).because(reason).at("code")
}

/// Judges the code of somebody whose password was right. Each works once. `known`: a browser or session that the person
/// has used before, for which wrong codes of others do not count.
///
/// # Errors
/// `code-required`, with reason `missing` or `wrong`; `too-many-requests`; `database-away`.
pub(super) async fn judge(
    state: &ApiState,
    actor: &Actor,
    user: UserId,
    factor: &SecondFactor,
    code: Option<&Given>,
    known: bool,
) -> Result<(), ApiError> {
    let code = code.ok_or_else(|| code_required("the password is right; add the code of your app", "missing"))?;
    let now = state.clock.now();
    if let Some(until) = factor.closed_until(now).filter(|_| !known) {
        return Err(too_often((until - now).to_std().unwrap_or_default()));
    }
    let store: Box<dyn SecondFactorStore> =
        <dyn Stores as AcrossAccounts<dyn SecondFactorStore>>::across_accounts(&*state.stores, actor.clone());
    let right = match code {
        Given::Digits(digits) => match secret(state, factor.salt).step_of(digits, now, factor.last_step) {
            Some(step) => store.take_step(user, step).await?,
            None => false,
        },
        Given::Recovery(text) => store.take_recovery(user, &recovery_hash(user, text), now).await?,
        Given::Nothing => false,
    };
    if right {
        return Ok(());
    }
    store.count_wrong(user, now).await?;
    Err(code_required("the code is wrong, or was used already", "wrong"))
}

/// The own second factor.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SecondFactorView {
    /// `none`, `pending` (enrolled and not confirmed: it does not count) or `active`.
    pub state: SecondFactorState,
    /// Whether one is asked for; then it cannot be removed.
    pub required: bool,
    /// Since when it counts.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Recovery codes not used yet.
    #[schema(minimum = 0)]
    pub recovery_codes_left: i64,
}

/// How far a second factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactorState {
    /// There is none.
    None,
    /// It waits for its first code.
    Pending,
    /// It counts.
    Active,
}

/// The password, once more.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordAgain {
    /// The password.
    #[schema(format = Password, max_length = 512)]
    password: String,
}

/// A new secret, shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Enrolment {
    /// For typing into an app: base32.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    pub secret: String,
    /// For a picture that an app reads.
    #[schema(example = "otpauth://totp/Polyphase:ann%40example.org?secret=…&issuer=Polyphase")]
    pub uri: String,
}

/// A code of the app.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeGiven {
    /// Its six digits.
    #[schema(example = "287082", max_length = 32)]
    code: String,
}

/// Password and code.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordAndCode {
    /// The password.
    #[schema(format = Password, max_length = 512)]
    password: String,
    /// Six digits of the app, or a recovery code.
    #[schema(example = "287082", max_length = 32)]
    code: String,
}

/// Recovery codes, shown this once. Each works once in place of the app's code.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RecoveryCodes {
    /// The codes.
    #[schema(example = json!(["ABCD-EFGH-JKLM"]))]
    pub recovery_codes: Vec<String>,
}

/// A person decides about it, at a session of theirs; a key cannot.
fn at_a_session(caller: &Caller) -> Result<(), ApiError> {
    if caller.token().0 == TokenKind::ApiKey {
        return Err(ApiError::new(
            Kind::Forbidden,
            "a second factor is the person's own: sign in, a key cannot do this",
        ));
    }
    Ok(())
}

/// Counts a try of the present session's person; give it back when it was right.
pub(super) fn own_try(state: &ApiState, caller: &Caller) -> Result<Try, ApiError> {
    let tried = Try {
        subject: Subject::Person(caller.user),
        standing: Standing::Known(caller.session_number()),
        source: caller.source,
    };
    let taken = state.throttle.take(&tried, state.clock.monotonic());
    taken.map(|_| tried).map_err(too_often)
}

/// Asks for the own password again.
///
/// # Errors
/// `invalid` at `field` when it is wrong; `too-many-requests`, `busy`, `database-away`.
pub(super) async fn password_again(
    state: &ApiState,
    caller: &Caller,
    field: &str,
    password: String,
) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    faults.check(password.len() <= PASSWORD_MAX, field, "is not the password");
    faults.done()?;
    let turn = state.passwords.enter(Lane::Known)?;
    let tried = own_try(state, caller)?;
    let record = state
        .auth
        .sign_in_record(&caller.email, None, state.clock.now())
        .await?;
    let phc = record.map(|record| record.password_hash);
    if !turn.verify(password, phc).await? {
        return Err(ApiError::invalid(field, "is not the password"));
    }
    state.throttle.right(&tried);
    Ok(())
}

/// Asks for a code of the own second factor.
async fn code_again(state: &ApiState, caller: &Caller, factor: &SecondFactor, code: &str) -> Result<(), ApiError> {
    let tried = own_try(state, caller)?;
    judge(
        state,
        &caller.actor(),
        caller.user,
        factor,
        Some(&Given::read(code)),
        true,
    )
    .await
    .map_err(|problem| match problem.kind() {
        // the session stands: it is the field that is wrong
        Kind::CodeRequired => ApiError::invalid("code", "is wrong, or was used already"),
        _ => problem,
    })?;
    state.throttle.right(&tried);
    Ok(())
}

fn none() -> ApiError {
    ApiError::new(Kind::Conflict, "there is no second factor in use")
}

async fn active(factors: &dyn SecondFactorStore, caller: &Caller) -> Result<SecondFactor, ApiError> {
    let found = factors.get(caller.user).await?;
    found.filter(|factor| factor.confirmed_at.is_some()).ok_or_else(none)
}

fn fresh_codes(user: UserId) -> Result<(RecoveryCodes, Vec<TokenHash>), ApiError> {
    let codes = (0..RECOVERY_CODES)
        .map(|_| token::letters())
        .collect::<Result<Vec<String>, NoRandomness>>()
        .map_err(|error| StoreError::Internal(error.to_string()))?;
    let hashes = codes
        .iter()
        .map(|code| recovery_hash(user, &code.replace('-', "")))
        .collect();
    Ok((RecoveryCodes { recovery_codes: codes }, hashes))
}

/// The own second factor.
#[utoipa::path(tag = "session", responses((status = 200, body = SecondFactorView)))]
#[get("/session/second-factor")]
async fn get_second_factor(
    caller: Caller,
    factors: Own<dyn SecondFactorStore>,
) -> Result<web::Json<SecondFactorView>, ApiError> {
    let found = factors.get(caller.user).await?;
    Ok(web::Json(SecondFactorView {
        state: match &found {
            None => SecondFactorState::None,
            Some(factor) if factor.confirmed_at.is_none() => SecondFactorState::Pending,
            Some(_) => SecondFactorState::Active,
        },
        required: caller.second_factor_required,
        confirmed_at: found.as_ref().and_then(|factor| factor.confirmed_at),
        recovery_codes_left: found.as_ref().map_or(0, |factor| factor.recovery_left),
    }))
}

/// Begins to enrol an authenticator app. It counts once a code of it has been given to `/session/second-factor/confirm`;
/// asking again gives a new secret.
#[utoipa::path(tag = "session", request_body = PasswordAgain, responses((status = 201, body = Enrolment)))]
#[post("/session/second-factor")]
async fn enrol_second_factor(
    state: web::Data<ApiState>,
    caller: Caller,
    factors: Own<dyn SecondFactorStore>,
    Body(body): Body<PasswordAgain>,
) -> Result<HttpResponse, ApiError> {
    at_a_session(&caller)?;
    password_again(&state, &caller, "password", body.password).await?;
    let salt = Uuid::new_v4();
    factors.enrol(caller.user, salt, state.clock.now()).await?;
    let secret = secret(&state, salt);
    Ok(HttpResponse::Created().json(Enrolment {
        secret: secret.base32(),
        uri: secret.uri(ISSUER, &caller.email),
    }))
}

/// Confirms an enrolment with a code of the app: from now on signing in takes one. The answer has the recovery codes,
/// which cannot be shown again.
#[utoipa::path(tag = "session", request_body = CodeGiven, responses((status = 200, body = RecoveryCodes)))]
#[post("/session/second-factor/confirm")]
async fn confirm_second_factor(
    state: web::Data<ApiState>,
    caller: Caller,
    factors: Own<dyn SecondFactorStore>,
    Body(body): Body<CodeGiven>,
) -> Result<web::Json<RecoveryCodes>, ApiError> {
    at_a_session(&caller)?;
    let pending = factors.get(caller.user).await?;
    let pending = pending
        .filter(|factor| factor.confirmed_at.is_none())
        .ok_or_else(|| ApiError::new(Kind::Conflict, "no enrolment is under way: begin one"))?;
    let tried = own_try(&state, &caller)?;
    let now = state.clock.now();
    let step = match Given::read(&body.code) {
        Given::Digits(digits) => secret(&state, pending.salt).step_of(&digits, now, 0),
        _ => None,
    };
    let step = step.ok_or_else(|| {
        ApiError::invalid(
            "code",
            "is not what the app should show now; is the clock of the telephone right?",
        )
    })?;
    state.throttle.right(&tried);
    let (codes, hashes) = fresh_codes(caller.user)?;
    factors.confirm(caller.user, pending.salt, step, &hashes, now).await?;
    Ok(web::Json(codes))
}

/// Gives new recovery codes in place of all others.
#[utoipa::path(tag = "session", request_body = CodeGiven, responses((status = 200, body = RecoveryCodes)))]
#[post("/session/second-factor/recovery-codes")]
async fn renew_recovery_codes(
    state: web::Data<ApiState>,
    caller: Caller,
    factors: Own<dyn SecondFactorStore>,
    Body(body): Body<CodeGiven>,
) -> Result<web::Json<RecoveryCodes>, ApiError> {
    at_a_session(&caller)?;
    let factor = active(&*factors, &caller).await?;
    code_again(&state, &caller, &factor, &body.code).await?;
    let (codes, hashes) = fresh_codes(caller.user)?;
    factors
        .replace_recovery(caller.user, &hashes, state.clock.now())
        .await?;
    Ok(web::Json(codes))
}

/// Takes the own second factor away, with password and code; not where the account asks for one.
#[utoipa::path(tag = "session", request_body = PasswordAndCode, responses((status = 204)))]
#[post("/session/second-factor/remove")]
async fn remove_second_factor(
    state: web::Data<ApiState>,
    caller: Caller,
    factors: Own<dyn SecondFactorStore>,
    Body(body): Body<PasswordAndCode>,
) -> Result<HttpResponse, ApiError> {
    at_a_session(&caller)?;
    if caller.second_factor_required {
        return Err(ApiError::new(
            Kind::SecondFactorRequired,
            "people with your role need a second factor here; an admin can reset it, so that you enrol anew",
        ));
    }
    let factor = active(&*factors, &caller).await?;
    password_again(&state, &caller, "password", body.password).await?;
    code_again(&state, &caller, &factor, &body.code).await?;
    factors.remove(caller.user, false, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes another person's second factor away, when telephone and recovery codes are lost. Ends every session of theirs.
#[utoipa::path(tag = "users", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/users/{id}/second-factor")]
async fn reset_second_factor(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    factors: Reach<dyn SecondFactorStore>,
    Id(id): Id<UserId>,
) -> Result<HttpResponse, ApiError> {
    let user = reachable(&caller, &*users, id).await?;
    if user.id == caller.user {
        return Err(ApiError::new(
            Kind::Forbidden,
            "one's own is taken away with password and code, at /session/second-factor/remove",
        ));
    }
    if !factors.remove(id, true, state.clock.now()).await? {
        return Err(ApiError::not_found("second factor"));
    }
    Ok(HttpResponse::NoContent().finish())
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(get_second_factor)
        .service(enrol_second_factor)
        .service(confirm_second_factor)
        .service(renew_recovery_codes)
        .service(remove_second_factor)
        .service(reset_second_factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        assert_eq!(Given::read(" 287 082 "), Given::Digits("287082".into()));
        assert_eq!(Given::read("abcd-efgh-jkmn"), Given::Recovery("ABCDEFGHJKMN".into()));
        assert_eq!(Given::read("abcd efgh jkmn"), Given::Recovery("ABCDEFGHJKMN".into()));
        for nothing in [
            "",
            "12345",
            "1234567",
            "abcd-efgh-jkm",
            "２８７０８２",
            "abcd-efgh-jkm\u{e9}",
        ] {
            assert_eq!(Given::read(nothing), Given::Nothing, "{nothing:?}");
        }
        let (codes, hashes) = fresh_codes(UserId(1)).unwrap();
        let read: Vec<TokenHash> = codes
            .recovery_codes
            .iter()
            .filter_map(|code| match Given::read(&code.to_lowercase()) {
                Given::Recovery(text) => Some(recovery_hash(UserId(1), &text)),
                _ => None,
            })
            .collect();
        assert_eq!(read, hashes);
        assert_ne!(
            recovery_hash(UserId(2), "ABCDEFGHJKMN"),
            recovery_hash(UserId(1), "ABCDEFGHJKMN")
        );
    }
}

//! `/accounts`: organisations that own fleets. Role `platform` makes and disables them; an admin sees and edits the own.

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, nullable};
use super::etag::{IfMatch, tagged};
use super::handle::{Across, Reach};
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use crate::base::ids::{AccountId, ScheduleId};
use crate::domain::access::Role;
use crate::port::accounts::{Account, AccountEdit, AccountStore, NewAccount};
use actix_web::{HttpResponse, get, patch, post, web};
use serde::Deserialize;
use std::collections::BTreeSet;

const NAME_MAX: usize = 200;

/// Which accounts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AccountQuery {
    /// Part of the name.
    text: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A new account.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountCreate {
    /// Its name; unique.
    #[schema(example = "Stadtwerke Musterstadt", min_length = 1, max_length = 200)]
    name: String,
    /// IANA zone in which its days and months begin; `UTC` when left out.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// ISO 4217 code; `EUR` when left out.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    currency: Option<String>,
}

/// What to change of an account.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountPatch {
    /// Its name; unique.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// IANA zone name.
    time_zone: Option<String>,
    /// ISO 4217 code.
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: Option<String>,
    /// The schedule of meters that have none of their own or of their DTU; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    schedule: Option<Option<ScheduleId>>,
    /// Disable or enable; role `platform` alone. Disabling ends every session of its people.
    disabled: Option<bool>,
    /// Roles whose people need a second factor to sign in; who has none yet can do nothing but enrol one.
    second_factor_roles: Option<Vec<Role>>,
}

/// Whether `zone` is in the IANA time zone database.
pub(super) fn is_zone(zone: &str) -> bool {
    zone.parse::<chrono_tz::Tz>().is_ok()
}

/// Notes a fault unless `zone` is in the IANA time zone database.
pub(super) fn check_zone(faults: &mut Faults, field: &str, zone: &str) {
    faults.check(
        is_zone(zone),
        field,
        format!("{zone:?} is not a time zone of the IANA database; an example is Europe/Berlin"),
    );
}

fn check(name: Option<&str>, time_zone: Option<&str>, currency: Option<&str>) -> Result<(), ApiError> {
    let mut faults = Faults::new();
    if let Some(name) = name {
        faults.text("name", name, NAME_MAX);
    }
    if let Some(zone) = time_zone {
        check_zone(&mut faults, "time_zone", zone);
    }
    if let Some(currency) = currency {
        faults.check(
            currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()),
            "currency",
            "must be an ISO 4217 code of three capital letters, such as EUR",
        );
    }
    faults.done()
}

/// The accounts that the caller may see.
#[utoipa::path(tag = "accounts", params(AccountQuery), responses((status = 200, body = Page<Account>)))]
#[get("/accounts")]
async fn list_accounts(
    accounts: Reach<dyn AccountStore>,
    Query(query): Query<AccountQuery>,
) -> Result<web::Json<Page<Account>>, ApiError> {
    let page = PageRequest::<AccountId>::new("accounts", query.limit, query.cursor.as_deref())?;
    let rows = accounts.list(query.text.as_deref(), page.after, page.fetch()).await?;
    Ok(web::Json(page.page(rows, |account| account.id)))
}

/// Makes an account.
#[utoipa::path(tag = "accounts", request_body = AccountCreate, responses((status = 201, body = Account)))]
#[post("/accounts")]
async fn create_account(
    state: web::Data<ApiState>,
    accounts: Across<dyn AccountStore>,
    Body(body): Body<AccountCreate>,
) -> Result<HttpResponse, ApiError> {
    check(Some(&body.name), body.time_zone.as_deref(), body.currency.as_deref())?;
    let account = NewAccount {
        name: body.name.trim().to_owned(),
        time_zone: body.time_zone.unwrap_or_else(|| "UTC".to_owned()),
        currency: body.currency.unwrap_or_else(|| "EUR".to_owned()),
    };
    let account = accounts.create(&account, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Created(), account.version, &account))
}

/// One account.
#[utoipa::path(tag = "accounts", params(("id" = i32, Path)), responses((status = 200, body = Account)))]
#[get("/accounts/{id}")]
async fn get_account(accounts: Reach<dyn AccountStore>, Id(id): Id<AccountId>) -> Result<HttpResponse, ApiError> {
    let account = accounts.get(id).await?;
    Ok(tagged(HttpResponse::Ok(), account.version, &account))
}

/// Changes an account.
#[utoipa::path(tag = "accounts", params(("id" = i32, Path), ("If-Match" = String, Header)),
    request_body = AccountPatch, responses((status = 200, body = Account)))]
#[patch("/accounts/{id}")]
async fn edit_account(
    state: web::Data<ApiState>,
    caller: Caller,
    accounts: Reach<dyn AccountStore>,
    Id(id): Id<AccountId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<AccountPatch>,
) -> Result<HttpResponse, ApiError> {
    check(
        body.name.as_deref(),
        body.time_zone.as_deref(),
        body.currency.as_deref(),
    )?;
    if body.disabled.is_some() && !caller.is_platform() {
        return Err(ApiError::new(Kind::Forbidden, "only role platform disables accounts").at("disabled"));
    }
    let roles = body.second_factor_roles.map(BTreeSet::from_iter);
    if roles.as_ref().is_some_and(|roles| roles.contains(&Role::Platform)) {
        return Err(ApiError::invalid(
            "second_factor_roles",
            "role platform is the server's: [access] second_factor_platform asks it of them",
        ));
    }
    let edit = AccountEdit {
        name: body.name.map(|name| name.trim().to_owned()),
        time_zone: body.time_zone,
        currency: body.currency,
        schedule: body.schedule,
        disabled: body.disabled,
        second_factor_roles: roles.map(|roles| roles.into_iter().collect()),
    };
    let account = accounts
        .update(id, &edit, expected.version(), state.clock.now())
        .await?;
    if edit.schedule.is_some() {
        state.fleet.reload_all().await;
    }
    Ok(tagged(HttpResponse::Ok(), account.version, &account))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_accounts)
        .service(create_account)
        .service(get_account)
        .service(edit_account);
}

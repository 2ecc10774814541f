//! `/users`: people who sign in.
//!
//! Nobody hands out more than they have: role `platform` is given, and people who hold it are changed, by role
//! `platform` alone.

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use crate::base::ids::UserId;
use crate::domain::access::Role;
use crate::port::users::{NewUser, User, UserEdit, UserStore};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use serde::Deserialize;
use std::collections::BTreeSet;

const NAME_MAX: usize = 200;
const EMAIL_MAX: usize = 254;

/// Which people.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UserQuery {
    /// Part of the name or e-mail address.
    text: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A new person.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// E-mail address; unique over the server.
    #[schema(example = "ann@example.org", max_length = 254)]
    email: String,
    /// Name.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// At least one role.
    #[schema(min_items = 1)]
    roles: Vec<Role>,
    /// Password, 8 characters or more.
    #[schema(format = Password, min_length = 8)]
    password: String,
}

/// What to change of a person. New roles, a new password and disabling end every session of theirs.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// Name.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// Roles, all of them.
    #[schema(min_items = 1)]
    roles: Option<Vec<Role>>,
    /// New password, 8 characters or more.
    #[schema(format = Password, min_length = 8)]
    password: Option<String>,
    /// Disable or enable.
    disabled: Option<bool>,
}

/// Why a text is not an e-mail address; the exact grammar is the mail server's business.
pub(crate) fn check_email(email: &str) -> Result<(), &'static str> {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return Err("must be an e-mail address, such as ann@example.org");
    };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '@';
    if local.is_empty() || domain.is_empty() || !local.chars().all(plain) || !domain.chars().all(plain) {
        return Err("must be an e-mail address, such as ann@example.org");
    }
    if email.len() > EMAIL_MAX {
        return Err("must have at most 254 bytes");
    }
    Ok(())
}

fn check_name(faults: &mut Faults, name: Option<&str>) {
    if let Some(name) = name {
        faults.check(
            name.chars().count() <= NAME_MAX && !name.chars().any(char::is_control),
            "name",
            format!("must have at most {NAME_MAX} characters and no control characters"),
        );
    }
}

/// Each role once, in the order of the list.
fn distinct(roles: &[Role]) -> Vec<Role> {
    roles.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

fn check_roles(caller: &Caller, roles: &[Role]) -> Result<(), ApiError> {
    if roles.is_empty() {
        return Err(ApiError::invalid("roles", "must name at least one role"));
    }
    if roles.contains(&Role::Platform) && !caller.is_platform() {
        return Err(ApiError::new(Kind::Forbidden, "only role platform gives role platform").at("roles"));
    }
    if caller.account.is_none() && roles != [Role::Platform] {
        return Err(ApiError::invalid(
            "roles",
            "without an account there is only [\"platform\"]; add ?account=ID for the other roles",
        ));
    }
    Ok(())
}

/// People with role `platform` can act everywhere: who may not, must not take over their sign-in.
pub(super) async fn reachable(caller: &Caller, users: &dyn UserStore, id: UserId) -> Result<User, ApiError> {
    let user = users.get(id).await?;
    if user.roles.contains(&Role::Platform) && !caller.is_platform() {
        return Err(ApiError::new(
            Kind::Forbidden,
            "only role platform changes people with role platform",
        ));
    }
    Ok(user)
}

/// The people that the caller may see.
#[utoipa::path(tag = "users", params(UserQuery), responses((status = 200, body = Page<User>)))]
#[get("/users")]
async fn list_users(
    users: Reach<dyn UserStore>,
    Query(query): Query<UserQuery>,
) -> Result<web::Json<Page<User>>, ApiError> {
    let page = PageRequest::<UserId>::new("users", query.limit, query.cursor.as_deref())?;
    let rows = users.list(query.text.as_deref(), page.after, page.fetch()).await?;
    Ok(web::Json(page.page(rows, |user| user.id)))
}

/// Makes a person.
#[utoipa::path(tag = "users", request_body = UserCreate, responses((status = 201, body = User)))]
#[post("/users")]
async fn create_user(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    Body(body): Body<UserCreate>,
) -> Result<HttpResponse, ApiError> {
    let email = body.email.trim().to_owned();
    let mut faults = Faults::new();
    faults.take("email", check_email(&email));
    check_name(&mut faults, body.name.as_deref());
    faults.done()?;
    check_roles(&caller, &body.roles)?;
    let name = body.name.unwrap_or_default();
    let user = NewUser {
        roles: distinct(&body.roles),
        password_hash: state.passwords.hash("password", body.password, &email, &name).await?,
        email,
        name,
    };
    let user = users.create(&user, state.clock.now()).await?;
    Ok(tagged(HttpResponse::Created(), user.version, &user))
}

/// One person.
#[utoipa::path(tag = "users", params(("id" = i32, Path)), responses((status = 200, body = User)))]
#[get("/users/{id}")]
async fn get_user(users: Reach<dyn UserStore>, Id(id): Id<UserId>) -> Result<HttpResponse, ApiError> {
    let user = users.get(id).await?;
    Ok(tagged(HttpResponse::Ok(), user.version, &user))
}

/// Changes a person.
#[utoipa::path(tag = "users", params(("id" = i32, Path), ("If-Match" = String, Header)),
    request_body = UserPatch, responses((status = 200, body = User)))]
#[patch("/users/{id}")]
async fn edit_user(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    Id(id): Id<UserId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<UserPatch>,
) -> Result<HttpResponse, ApiError> {
    let before = reachable(&caller, &*users, id).await?;
    let mut faults = Faults::new();
    check_name(&mut faults, body.name.as_deref());
    faults.done()?;
    if let Some(roles) = &body.roles {
        check_roles(&caller, roles)?;
        if before.account_id.is_none() && roles.as_slice() != [Role::Platform] {
            return Err(ApiError::invalid(
                "roles",
                "who has no account can only have role platform",
            ));
        }
    }
    let name = body.name.as_deref().unwrap_or(&before.name);
    let password_hash = match body.password {
        Some(new) => Some(state.passwords.hash("password", new, &before.email, name).await?),
        None => None,
    };
    let edit = UserEdit {
        name: body.name,
        roles: body.roles.as_deref().map(distinct),
        password_hash,
        disabled: body.disabled,
    };
    let user = users.update(id, &edit, expected.version(), state.clock.now()).await?;
    Ok(tagged(HttpResponse::Ok(), user.version, &user))
}

/// Deletes a person with their keys and sessions.
#[utoipa::path(tag = "users", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/users/{id}")]
async fn delete_user(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    Id(id): Id<UserId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    reachable(&caller, &*users, id).await?;
    users.delete(id, expected.version(), state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_users)
        .service(create_user)
        .service(get_user)
        .service(edit_user)
        .service(delete_user);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for good in ["a@b", "ann.o'neil+x@mail.example.org", "用户@例子.广告"] {
            assert_eq!(check_email(good), Ok(()), "{good}");
        }
        for bad in ["", "ann", "@b", "a@", "a b@c", "a@b c", "a@b@c", "a\n@b"] {
            assert!(check_email(bad).is_err(), "{bad:?}");
        }
    }
}

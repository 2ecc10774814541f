//! `/sessions` and `/sign-ins`: where one is signed in, and the history of who tried. An admin sees and ends those of the
//! account's people.

use super::ApiState;
use super::auth::Caller;
use super::handle::{Own, Reach};
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use super::users::reachable;
use crate::base::ids::UserId;
use crate::port::auth::TokenKind;
use crate::port::sign_ins::{OpenSession, SignInBook, SignInTold};
use crate::port::users::UserStore;
use actix_web::{HttpResponse, delete, get, web};
use serde::{Deserialize, Serialize};

/// Open sessions, the newest first; there are at most 50 of a person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OpenSessions {
    /// The sessions.
    pub items: Vec<OpenSession>,
    /// Always null: this is all of them.
    pub next: Option<String>,
}

impl From<Vec<OpenSession>> for OpenSessions {
    fn from(items: Vec<OpenSession>) -> Self {
        Self { items, next: None }
    }
}

/// Which page of a history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SignInQuery {
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The own open sessions.
#[utoipa::path(tag = "session", responses((status = 200, body = OpenSessions)))]
#[get("/sessions")]
async fn list_sessions(
    state: web::Data<ApiState>,
    caller: Caller,
    book: Own<dyn SignInBook>,
) -> Result<web::Json<OpenSessions>, ApiError> {
    let (_, token) = caller.token();
    let open = book.sessions(caller.user, Some(token), state.clock.now()).await?;
    Ok(web::Json(open.into()))
}

/// Ends every own session but the one that asks; asked by a key, all of them.
#[utoipa::path(tag = "session", responses((status = 204)))]
#[delete("/sessions")]
async fn end_other_sessions(
    state: web::Data<ApiState>,
    caller: Caller,
    book: Own<dyn SignInBook>,
) -> Result<HttpResponse, ApiError> {
    let (kind, token) = caller.token();
    let but = (kind == TokenKind::Session).then_some(token);
    book.end_all(caller.user, but, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends one own session.
#[utoipa::path(tag = "session", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/sessions/{id}")]
async fn end_session(
    state: web::Data<ApiState>,
    caller: Caller,
    book: Own<dyn SignInBook>,
    Id(id): Id<i32>,
) -> Result<HttpResponse, ApiError> {
    book.end(caller.user, id, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The own sign-ins, granted and refused, the newest first.
#[utoipa::path(tag = "session", params(SignInQuery), responses((status = 200, body = Page<SignInTold>)))]
#[get("/sign-ins")]
async fn list_sign_ins(
    caller: Caller,
    book: Own<dyn SignInBook>,
    Query(query): Query<SignInQuery>,
) -> Result<web::Json<Page<SignInTold>>, ApiError> {
    history(&*book, caller.user, &query).await
}

/// A person's open sessions.
#[utoipa::path(tag = "users", params(("id" = i32, Path)), responses((status = 200, body = OpenSessions)))]
#[get("/users/{id}/sessions")]
async fn list_user_sessions(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    book: Reach<dyn SignInBook>,
    Id(id): Id<UserId>,
) -> Result<web::Json<OpenSessions>, ApiError> {
    users.get(id).await?;
    let (_, token) = caller.token();
    let open = book.sessions(id, Some(token), state.clock.now()).await?;
    Ok(web::Json(open.into()))
}

/// Ends every session of a person. Their keys go on.
#[utoipa::path(tag = "users", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/users/{id}/sessions")]
async fn end_user_sessions(
    state: web::Data<ApiState>,
    caller: Caller,
    users: Reach<dyn UserStore>,
    book: Reach<dyn SignInBook>,
    Id(id): Id<UserId>,
) -> Result<HttpResponse, ApiError> {
    reachable(&caller, &*users, id).await?;
    book.end_all(id, None, state.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A person's sign-ins, granted and refused, the newest first.
#[utoipa::path(tag = "users", params(("id" = i32, Path), SignInQuery),
    responses((status = 200, body = Page<SignInTold>)))]
#[get("/users/{id}/sign-ins")]
async fn list_user_sign_ins(
    users: Reach<dyn UserStore>,
    book: Reach<dyn SignInBook>,
    Id(id): Id<UserId>,
    Query(query): Query<SignInQuery>,
) -> Result<web::Json<Page<SignInTold>>, ApiError> {
    users.get(id).await?;
    history(&*book, id, &query).await
}

async fn history(
    book: &dyn SignInBook,
    user: UserId,
    query: &SignInQuery,
) -> Result<web::Json<Page<SignInTold>>, ApiError> {
    let page = PageRequest::<i64>::new("sign-ins", query.limit, query.cursor.as_deref())?;
    let rows = book.history(user, page.after, page.fetch()).await?;
    Ok(web::Json(page.page(rows, |told| told.id)))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_sessions)
        .service(end_other_sessions)
        .service(end_session)
        .service(list_sign_ins)
        .service(list_user_sessions)
        .service(end_user_sessions)
        .service(list_user_sign_ins);
}

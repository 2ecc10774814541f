//! The OpenAPI 3.1 description, generated from the handlers, and its viewer without any outside asset.

use super::access::{self, Access};
use super::problem::Problem;
use super::{BASE, examples, shapes};
use actix_web::{HttpResponse, web};
use serde_json::Value;
use std::sync::Arc;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

/// Where the description is served.
pub const PATH: &str = "/api/openapi.json";
/// Where its viewer is.
pub const VIEWER: &str = "/api/docs";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Polyphase",
        description = "Head-end system for electricity and water meters. Times are RFC 3339 in UTC; registers and money \
                       are decimal strings; refusals are application/problem+json (RFC 9457) with a stable `type`; \
                       lists are `{\"items\": […], \"next\": CURSOR}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    modifiers(&Common)
)]
struct Base;

struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("An API key (`ph_k_…`) or a session token (`ph_s_…`)."))
                    .build(),
            ),
        );
        components.add_security_scheme(
            "cookie",
            SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
                super::auth::COOKIE,
                "The session cookie; changes also need the header X-Requested-With.",
            ))),
        );
    }
}

/// The description without routes.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// Adds to every operation what the framework does for it: authentication, roles, problems.
pub(super) fn finish(mut api: OpenApi) -> OpenApi {
    for (path, item) in &mut api.paths.paths {
        let route = path.strip_prefix(BASE).unwrap_or(path);
        for (method, operation) in operations(item) {
            let row = access::OPERATIONS
                .iter()
                .find(|row| row.route == route && row.method == method);
            describe(operation, row.map(|row| row.access));
            exemplify(operation);
        }
    }
    api
}

fn describe(operation: &mut Operation, access: Option<Access>) {
    let problem = ResponseBuilder::new()
        .description("A problem (RFC 9457); `type` tells which.")
        .content(
            "application/problem+json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .build(),
        )
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), problem.into());
    let roles = match access {
        None | Some(Access::Public) => {
            operation.security = Some(Vec::new());
            return;
        }
        Some(Access::SignedIn) => "any".to_owned(),
        Some(Access::Roles(roles)) => {
            let names: Vec<&str> = roles.list().iter().map(|role| role.as_str()).collect();
            names.join(", ")
        }
    };
    operation.security = Some(vec![
        SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []),
        SecurityRequirement::new::<_, [&str; 0], &str>("cookie", []),
    ]);
    let text = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{text}\n\nRoles: {roles}.").trim().to_owned());
}

/// Shows what a body may look like.
fn exemplify(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let (Some(RefOr::T(body)), Some(example)) = (operation.request_body.as_mut(), examples::request(id)) else {
        return;
    };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content {
            content.example = Some(example.clone());
        }
    }
}

/// The operations of a path, with the names of their methods.
pub(super) fn operations(item: &mut PathItem) -> Vec<(&'static str, &mut Operation)> {
    [
        (HttpMethod::Get, item.get.as_mut()),
        (HttpMethod::Post, item.post.as_mut()),
        (HttpMethod::Put, item.put.as_mut()),
        (HttpMethod::Patch, item.patch.as_mut()),
        (HttpMethod::Delete, item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((name(&method), operation?)))
    .collect()
}

fn name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

/// The description as JSON, put right.
pub(super) fn document(api: &OpenApi) -> Value {
    let mut json = serde_json::to_value(api).unwrap_or_default();
    shapes::mend(&mut json);
    json
}

/// Serves the description and the viewer. The viewer's files are in the binary.
pub(super) fn routes(cfg: &mut web::ServiceConfig, api: &OpenApi) {
    let json: Arc<str> = document(api).to_string().into();
    cfg.route(
        PATH,
        web::get().to(move || {
            let json = Arc::clone(&json);
            async move {
                HttpResponse::Ok()
                    .content_type("application/json")
                    .body(json.to_string())
            }
        }),
    );
    let config = utoipa_swagger_ui::Config::from(PATH)
        .try_it_out_enabled(true)
        .use_base_layout();
    cfg.route(
        VIEWER,
        web::get().to(|| async {
            HttpResponse::PermanentRedirect()
                .insert_header((actix_web::http::header::LOCATION, "/api/docs/"))
                .finish()
        }),
    );
    cfg.service(utoipa_swagger_ui::SwaggerUi::new("/api/docs/{tail:.*}").config(config));
}

//! HTTP: one file per resource, around them the framework. Handlers know ports only: no SQL, no actors.
//!
//! A request passes [`edge`] (id, metric, headers) and [`auth`] (who, and the table in [`access`]: may they), then its
//! handler, which takes what it needs as arguments: [`auth::Caller`], [`handle::In`] for an account-scoped handle,
//! [`body::Body`], [`query::Query`], [`query::Id`], [`etag::IfMatch`]. It answers JSON or a [`problem::ApiError`].
//!
//! A new resource: a trait in `port/`, its implementation in `store/`, a file here with `routes`, one line in
//! [`resources`], and a row per operation in [`access::OPERATIONS`].

pub mod access;
pub mod accounts;
pub mod alarm_rules;
pub mod alarms;
pub mod api_keys;
pub mod archive;
pub mod audit;
pub mod auth;
pub mod backups;
pub mod body;
pub mod calendars;
pub mod commands;
pub mod consumption;
pub mod control;
pub mod control_schedules;
pub mod device_cookie;
pub mod dtu_form;
pub mod dtus;
pub mod edge;
pub mod etag;
mod examples;
pub mod exports;
pub mod frames;
pub mod groups;
pub mod handle;
pub mod health;
pub mod idempotency;
pub mod imports;
pub mod integrations;
pub mod limits;
pub mod line;
pub mod line_loss;
pub mod mesh;
pub mod meter_form;
pub mod meter_models;
pub mod meters;
pub mod metrics_endpoint;
pub mod notice_channels;
pub mod notices;
mod objects;
pub mod openapi;
mod outage;
pub mod page;
pub mod parameter_desk;
pub mod parameters;
pub mod password;
pub mod points;
pub mod problem;
pub mod quarantine;
pub mod query;
pub mod readings;
pub mod reads;
pub mod recipients;
pub mod scan_desk;
pub mod scans;
pub mod schedule_form;
pub mod schedules;
mod scopes;
pub mod second_factor;
mod send_file;
pub mod series;
pub mod server;
pub mod session;
pub mod sessions;
mod shapes;
pub mod sign_in;
pub mod slots;
pub mod source;
pub(crate) mod span;
pub mod stream;
pub mod summary;
pub mod terminal_events;
pub mod terminal_profiles;
pub mod throttle;
pub mod tls;
pub mod token;
pub mod users;
pub mod watch;

pub use server::{HttpSettings, RunningServer, ServeError, serve};
pub use tls::TlsFiles;

use crate::base::clock::Clock;
use crate::base::server_key::ServerKey;
use crate::domain::access::Role;
use crate::port::auth::{AuthStore, Identity};
use crate::port::backups::BackupDesk;
use crate::port::control::Control;
use crate::port::exports::ExportDesk;
use crate::port::fleet::Fleet;
use crate::port::frames::{FrameExplainer, FrameLog};
use crate::port::integrations::IntegrationDesk;
use crate::port::live::{LiveFeed, LiveSource};
use crate::port::meter_models::MeterModels;
use crate::port::notices::NoticeDesk;
use crate::port::outage::DatabaseCondition;
use crate::port::places::Places;
use crate::port::readiness::ReadinessCheck;
use crate::port::scope::Stores;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, Error, HttpResponse, web};
use std::sync::Arc;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::service_config::ServiceConfig;

/// Where the API stands.
pub const BASE: &str = "/api/v1";

/// What handlers work with. Built once by `app`, shared by all workers.
#[derive(Clone)]
pub struct ApiState {
    /// Account-scoped handles.
    pub stores: Arc<dyn Stores>,
    /// Tokens and sign-ins.
    pub auth: Arc<dyn AuthStore>,
    /// The running front end.
    pub fleet: Arc<dyn Fleet>,
    /// The control desk.
    pub control: Arc<dyn Control>,
    /// Who makes backups.
    pub backups: Arc<dyn BackupDesk>,
    /// Who writes exports.
    pub exports: Arc<dyn ExportDesk>,
    /// Who takes files in.
    pub imports: imports::ImportDesk,
    /// Who sends notices.
    pub notices: Arc<dyn NoticeDesk>,
    /// Who tells integrators.
    pub integrations: Arc<dyn IntegrationDesk>,
    /// Raw frames. Blocking: use it through `web::block`.
    pub frames: Arc<dyn FrameLog>,
    /// What raw frames mean.
    pub explainer: Arc<dyn FrameExplainer>,
    /// Whether a text names a registration profile; else why not.
    pub check_profile: fn(&str) -> Result<(), String>,
    /// The catalogue of meter models.
    pub models: Arc<dyn MeterModels>,
    /// On-demand reads that run or ended lately.
    pub reads: Arc<reads::ReadDesk>,
    /// Meters that are read faster for a while.
    pub watches: Arc<watch::WatchDesk>,
    /// Scans that run or ended lately.
    pub scans: Arc<scan_desk::ScanDesk>,
    /// Runs of settings that this process drives.
    pub parameters: Arc<parameter_desk::ParameterDesk>,
    /// Where happenings of the API itself are told on the live stream.
    pub feed: Arc<dyn LiveFeed>,
    /// The live stream.
    pub live: Arc<dyn LiveSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the database fares.
    pub database: DatabaseCondition,
    /// What `/readyz` asks.
    pub readiness: Vec<Arc<dyn ReadinessCheck>>,
    /// Rules.
    pub settings: ApiSettings,
    /// Where passwords are hashed.
    pub passwords: password::PasswordDesk,
    /// Who guesses too often.
    pub throttle: Arc<throttle::Throttle>,
    /// Who asks for too much.
    pub limits: Arc<limits::Limits>,
    /// The server's key.
    pub key: ServerKey,
    /// Where addresses are.
    pub places: Arc<dyn Places>,
}

impl ApiState {
    /// Whether somebody's roles ask for a second factor: by their account, and for role `platform` by the server.
    fn second_factor_wanted(&self, identity: &Identity) -> bool {
        let platform = self.settings.second_factor_platform && identity.roles.has(Role::Platform);
        identity.second_factor_wanted || platform
    }

    /// Whether somebody can do nothing but enrol a second factor.
    fn must_enrol(&self, identity: &Identity) -> bool {
        self.second_factor_wanted(identity) && !identity.second_factor
    }
}

/// Rules of the API, from the configuration.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Life of a session, hours.
    pub session_hours: u32,
    /// Browsers come over TLS: `Secure` on cookies, and they are told to use nothing else.
    pub secure_cookies: bool,
    /// Days that sign-ins are told.
    pub sign_ins_days: u32,
    /// Role `platform` needs a second factor.
    pub second_factor_platform: bool,
    /// Proxies whose word about a client's address is taken.
    pub proxies: source::TrustedProxies,
    /// Who may claim an unknown serial number.
    pub claims: ClaimRule,
    /// How much one caller may ask for.
    pub limits: limits::LimitSettings,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            session_hours: 12,
            secure_cookies: false,
            sign_ins_days: 180,
            second_factor_platform: false,
            proxies: source::TrustedProxies::default(),
            claims: ClaimRule::Code,
            limits: limits::LimitSettings::default(),
        }
    }
}

/// Who may claim an unknown serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRule {
    /// Who knows its code; admins need none while the server has a single account.
    Code,
    /// Role `platform` alone.
    Platform,
    /// Any admin.
    Open,
}

/// Every resource of the API: one line each.
fn resources(cfg: &mut ServiceConfig<'_>) {
    cfg.configure(sign_in::routes)
        .configure(session::routes)
        .configure(second_factor::routes)
        .configure(sessions::routes)
        .configure(accounts::routes)
        .configure(users::routes)
        .configure(api_keys::routes)
        .configure(quarantine::routes)
        .configure(dtus::routes)
        .configure(frames::routes)
        .configure(line::routes)
        .configure(meters::routes)
        .configure(points::routes)
        .configure(groups::routes)
        .configure(readings::routes)
        .configure(reads::routes)
        .configure(watch::routes)
        .configure(scans::routes)
        .configure(mesh::routes)
        .configure(terminal_events::routes)
        .configure(archive::routes)
        .configure(parameters::routes)
        .configure(terminal_profiles::routes)
        .configure(consumption::routes)
        .configure(line_loss::routes)
        .configure(series::routes)
        .configure(slots::routes)
        .configure(schedules::routes)
        .configure(calendars::routes)
        .configure(meter_models::routes)
        .configure(stream::routes)
        .configure(summary::routes)
        .configure(audit::routes)
        .configure(exports::routes)
        .configure(imports::routes)
        .configure(backups::routes)
        .configure(alarms::routes)
        .configure(alarm_rules::routes)
        .configure(control::routes)
        .configure(control_schedules::routes)
        .configure(commands::routes)
        .configure(recipients::routes)
        .configure(notice_channels::routes)
        .configure(notices::routes)
        .configure(integrations::routes);
}

/// The application, one per worker.
pub fn app(
    state: web::Data<ApiState>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let (app, api) = App::new()
        .into_utoipa_app()
        .openapi(openapi::base())
        .app_data(state)
        .service(health::healthz)
        .service(health::readyz)
        .service(metrics_endpoint::metrics)
        .service(
            utoipa_actix_web::scope(BASE)
                .map(|scope| {
                    scope
                        .wrap(from_fn(limits::gate))
                        .wrap(from_fn(auth::guard))
                        .wrap(from_fn(outage::gate))
                })
                .configure(resources),
        )
        .split_for_parts();
    let api = openapi::finish(api);
    app.configure(|cfg| openapi::routes(cfg, &api))
        .service(web::resource("/problems/{slug}").route(web::get().to(explain_problem)))
        .default_service(web::to(edge::no_route))
        .wrap(Compress::default())
        .wrap(from_fn(edge::around))
}

/// The OpenAPI description as it is collected.
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, api) = App::new()
        .into_utoipa_app()
        .openapi(openapi::base())
        .service(health::healthz)
        .service(health::readyz)
        .service(metrics_endpoint::metrics)
        .service(utoipa_actix_web::scope(BASE).configure(resources))
        .split_for_parts();
    openapi::finish(api)
}

/// The OpenAPI description as it is served, as JSON.
pub fn document() -> serde_json::Value {
    openapi::document(&description())
}

/// What a problem's `type` means.
async fn explain_problem(slug: web::Path<String>) -> Result<HttpResponse, problem::ApiError> {
    let kind = problem::Kind::ALL
        .iter()
        .find(|kind| kind.slug() == slug.as_str())
        .ok_or_else(|| problem::ApiError::not_found("problem type"))?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{} ({})\n\n{}\n", kind.title(), kind.status(), kind.about())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Promise 15: every route has a row in the table, and every row a route.
    #[test]
    fn the_table_and_the_routes_are_the_same() {
        let mut api = description();
        let mut described = BTreeSet::new();
        for (path, item) in &mut api.paths.paths {
            let Some(route) = path.strip_prefix(BASE).map(str::to_owned) else {
                continue;
            };
            for (method, operation) in openapi::operations(item) {
                described.insert((
                    method,
                    route.clone(),
                    operation.operation_id.clone().unwrap_or_default(),
                ));
            }
        }
        let table: BTreeSet<_> = access::OPERATIONS
            .iter()
            .map(|row| (row.method, row.route.to_owned(), row.id.to_owned()))
            .collect();
        assert_eq!(described, table);
    }

    /// A parameter's type is not collected by itself: it has to be written in place (`#[param(inline)]`).
    #[test]
    fn every_reference_leads_somewhere() {
        let api = serde_json::to_value(description()).unwrap();
        for part in api.to_string().split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(
                api["components"]["schemas"].get(name).is_some(),
                "{name} is not described"
            );
        }
    }

    #[test]
    fn every_problem_is_in_the_documentation() {
        let page = include_str!("../../docs/API.md");
        for kind in problem::Kind::ALL {
            let row = format!("| `/problems/{}` | {} |", kind.slug(), kind.status().as_u16());
            assert!(page.contains(&row), "docs/API.md lacks {row}");
        }
    }

    #[test]
    fn every_operation_is_explained() {
        let mut api = description();
        for (path, item) in &mut api.paths.paths {
            for (method, operation) in openapi::operations(item) {
                let text = operation.summary.clone().or_else(|| operation.description.clone());
                assert!(text.is_some_and(|text| !text.is_empty()), "{method} {path} has no text");
                assert!(
                    operation.tags.as_ref().is_some_and(|tags| tags.len() == 1),
                    "{method} {path} needs one tag"
                );
            }
        }
    }
}

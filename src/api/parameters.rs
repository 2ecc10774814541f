//! `/parameters`, `/dtus/{id}/parameters`, `/parameter-runs`: settings of concentrators and terminals, by name.
//!
//! Two steps, always: a run reads and compares, and writes nothing; `/parameter-runs/{id}/write` writes what it showed to
//! differ, as long as it is still what it was. What decides how the terminal reaches us has to be named once more there, and
//! is written to one terminal at a time: a wrong address or access point loses a terminal for ever.

use super::ApiState;
use super::auth::Caller;
use super::body::BodyOrDefault;
use super::handle::In;
use super::page::{Page, PageRequest};
use super::parameter_desk::{self, Work};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedules::ListQuery;
use super::span;
use crate::base::ids::DtuId;
use crate::domain::parameter::{
    ASKS_MAX, Numbered, ParameterAsk, ParameterGroup, ParameterOutcome, ParameterSpec, ParameterValue,
};
use crate::port::dtus::DtuStore;
use crate::port::parameters::{
    EntryState, KnownParameter, NewRun, ParameterRun, ParameterStore, RunEntry, WantedParameter, catalogue, find,
};
use crate::port::scan::Protocol;
use actix_web::http::header;
use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// The protocols whose terminals have settings here.
const PROTOCOLS: [Protocol; 2] = [Protocol::Gdw376, Protocol::Dlt698];

/// A setting that terminals of a protocol have.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ParameterInfo {
    /// Of which terminals.
    #[schema(example = "gdw376.1")]
    protocol: &'static str,
    /// Its name.
    #[schema(example = "heartbeat")]
    name: &'static str,
    /// What kind of value it has.
    #[schema(example = "whole")]
    kind: &'static str,
    /// What may be wanted, in words.
    #[schema(example = "is a whole number from 1 to 255")]
    rule: String,
    /// Its unit; empty where it has none.
    #[schema(example = "min")]
    unit: &'static str,
    /// What it is about. `communication` has to be named once more to be written.
    group: ParameterGroup,
    /// Of what a terminal has several.
    numbered: Numbered,
    /// Whether it is written, too.
    writable: bool,
    /// The item or attribute, as its standard names it.
    #[schema(example = "F1")]
    item: &'static str,
    /// Where it is told.
    source: &'static str,
}

impl ParameterInfo {
    fn of(protocol: Protocol, spec: &ParameterSpec) -> Self {
        Self {
            protocol: protocol.name(),
            name: spec.name,
            kind: spec.kind.name(),
            rule: spec.kind.rule(),
            unit: spec.unit,
            group: spec.group,
            numbered: spec.numbered,
            writable: spec.writable,
            item: spec.item,
            source: spec.source,
        }
    }
}

/// A setting that is asked for.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterAsked {
    /// Its name, as `/parameters` has it.
    #[schema(example = "heartbeat")]
    name: String,
    /// Of which measuring point or task; 0, or left out: of the terminal.
    #[serde(default)]
    #[schema(maximum = 2040)]
    number: u16,
    /// What is wanted; left out: it is read.
    value: Option<ParameterValue>,
}

impl From<WantedParameter> for ParameterAsked {
    fn from(wanted: WantedParameter) -> Self {
        Self {
            name: wanted.name,
            number: wanted.number,
            value: Some(wanted.value),
        }
    }
}

/// What is compared.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareBody {
    /// The settings; none: all that a terminal has one of are read.
    #[schema(max_items = 200)]
    parameters: Option<Vec<ParameterAsked>>,
}

/// What is written.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteBody {
    /// Every setting of group `communication` that the run wants to change, by name: a wrong one can lose the terminal for ever.
    #[serde(default)]
    #[schema(max_items = 200, example = json!(["heartbeat"]))]
    communication: BTreeSet<String>,
}

/// Which terminals of a run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntriesQuery {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<EntryState>,
    /// Items of a page, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// The protocol of settings by its name.
pub(super) fn protocol_named(name: &str) -> Option<Protocol> {
    PROTOCOLS.into_iter().find(|protocol| protocol.name() == name)
}

/// Settings as they are asked for, each of its kind.
///
/// # Errors
/// Every fault, by `FIELD.INDEX.…`.
pub(super) fn checked(
    protocol: Protocol,
    asked: Vec<ParameterAsked>,
    field: &str,
    faults: &mut Faults,
) -> Vec<ParameterAsk> {
    faults.check(asked.len() <= ASKS_MAX, field, format!("are at most {ASKS_MAX}"));
    let mut seen = BTreeSet::new();
    let mut asks = Vec::new();
    for (index, asked) in asked.into_iter().take(ASKS_MAX).enumerate() {
        let at = |name: &str| format!("{field}.{index}.{name}");
        let Some(parameter) = find(protocol, &asked.name) else {
            let text = format!("is no setting of {}; /parameters has them", protocol.name());
            faults.check(false, &at("name"), text);
            continue;
        };
        let spec = &parameter.spec;
        let text = match spec.numbered {
            Numbered::Terminal => "is 0, or left out: a terminal has one of it",
            Numbered::MeasuringPoint => "is a measuring point, 1 to 2040",
            Numbered::Task => "is a task, 1 to 255",
        };
        faults.check(spec.numbered.has(asked.number), &at("number"), text);
        let twice = !seen.insert((asked.name.clone(), asked.number));
        faults.check(!twice, &at("name"), "is asked for twice");
        let wanted = match asked.value.as_ref().map(|value| spec.kind.wanted(value)) {
            None => None,
            Some(Ok(value)) => {
                faults.check(spec.writable, &at("value"), "is only read");
                Some(value)
            }
            Some(Err(error)) => {
                faults.check(false, &at("value"), error.to_string());
                None
            }
        };
        asks.push(ParameterAsk {
            name: asked.name,
            number: asked.number,
            wanted,
            seen: None,
        });
    }
    asks
}

/// Everything that a terminal has one of.
fn everything(protocol: Protocol) -> Vec<ParameterAsk> {
    let own = catalogue(protocol)
        .iter()
        .filter(|parameter| parameter.spec.numbered == Numbered::Terminal);
    own.map(|parameter| ParameterAsk {
        name: parameter.spec.name.to_owned(),
        number: 0,
        wanted: None,
        seen: None,
    })
    .collect()
}

/// Begins a run, and answers where it is told of.
pub(super) async fn begin(
    state: &ApiState,
    caller: &Caller,
    store: &dyn ParameterStore,
    run: NewRun,
) -> Result<HttpResponse, ApiError> {
    let scope = caller.scope()?;
    let zone = span::zone(state, caller, None).await?;
    state.parameters.take(scope.account, run.id)?;
    let made = match store.create_run(&run, state.clock.now()).await {
        Ok(made) => made,
        Err(error) => {
            state.parameters.give_back(run.id);
            return Err(error.into());
        }
    };
    let terminals = run
        .dtus
        .iter()
        .map(|dtu| (*dtu, run.asks.clone(), Vec::new()))
        .collect();
    let work = Work {
        id: run.id,
        protocol: run.protocol,
        write: false,
        zone,
        terminals,
    };
    parameter_desk::start(state, scope, work);
    Ok(told(&made))
}

fn told(run: &ParameterRun) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("{}/parameter-runs/{}", super::BASE, run.id)))
        .json(run)
}

/// The settings that terminals have: names, kinds, units, what may be wanted, and where their standard tells it.
#[utoipa::path(tag = "parameters", responses((status = 200, body = Page<ParameterInfo>)))]
#[get("/parameters")]
async fn list_parameters() -> HttpResponse {
    let of = |protocol: Protocol| {
        let all = catalogue(protocol).iter();
        all.map(move |parameter| ParameterInfo::of(protocol, &parameter.spec))
    };
    HttpResponse::Ok().json(Page {
        items: PROTOCOLS.into_iter().flat_map(of).collect(),
        next: None,
        total: None,
    })
}

/// The settings of a terminal as it said them last. A clock is not kept.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path), ListQuery), responses((status = 200, body = Page<KnownParameter>)))]
#[get("/dtus/{id}/parameters")]
async fn get_parameters(
    store: In<dyn ParameterStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<(String, u16)>::new("terminal-parameters", query.limit(), query.cursor())?;
    let rows = store.known(id, page.after.clone(), page.fetch()).await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |row| (row.name.clone(), row.number))))
}

/// Reads settings of a terminal, and compares them with what is wanted. Nothing is written.
#[utoipa::path(tag = "parameters", params(("id" = i32, Path)), request_body = Option<CompareBody>,
    responses((status = 202, body = ParameterRun)))]
#[post("/dtus/{id}/parameters")]
async fn compare_parameters(
    state: web::Data<ApiState>,
    caller: Caller,
    dtus: In<dyn DtuStore>,
    store: In<dyn ParameterStore>,
    Id(id): Id<DtuId>,
    BodyOrDefault(body): BodyOrDefault<CompareBody>,
) -> Result<HttpResponse, ApiError> {
    dtus.get(id, state.clock.now()).await?;
    let live = state.fleet.live(&[id]).await.into_iter().next();
    let stats = live.filter(|live| live.online).and_then(|live| live.stats);
    let Some(stats) = stats else {
        let text = "the terminal is offline; its settings cannot be read";
        return Err(ApiError::new(Kind::Conflict, text));
    };
    // a framing is called as its protocol is
    let Some(protocol) = protocol_named(&stats.learned.framing) else {
        let text = "this DTU is no concentrator or terminal; it has no settings that are known here";
        return Err(ApiError::new(Kind::Conflict, text));
    };
    let mut faults = Faults::new();
    let asks = match body.parameters {
        None => everything(protocol),
        Some(asked) => checked(protocol, asked, "parameters", &mut faults),
    };
    faults.check(!asks.is_empty(), "parameters", "names no setting");
    faults.done()?;
    let run = NewRun {
        id: Uuid::now_v7(),
        protocol: protocol.name().to_owned(),
        profile: None,
        asks,
        dtus: vec![id],
    };
    begin(&state, &caller, &*store, run).await
}

/// The runs of the account, the newest first.
#[utoipa::path(tag = "parameters", params(ListQuery), responses((status = 200, body = Page<ParameterRun>)))]
#[get("/parameter-runs")]
async fn list_parameter_runs(
    store: In<dyn ParameterStore>,
    Query(query): Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<Uuid>::new("parameter-runs", query.limit(), query.cursor())?;
    let rows = store.runs(page.after, page.fetch()).await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |run| run.id)))
}

/// How a run stands, and how many of its terminals stand how.
#[utoipa::path(tag = "parameters", params(("id" = Uuid, Path)), responses((status = 200, body = ParameterRun)))]
#[get("/parameter-runs/{id}")]
async fn get_parameter_run(store: In<dyn ParameterStore>, Id(id): Id<Uuid>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(store.run(id).await?))
}

/// The terminals of a run, with what became of each setting.
#[utoipa::path(tag = "parameters", params(("id" = Uuid, Path), EntriesQuery), responses((status = 200, body = Page<RunEntry>)))]
#[get("/parameter-runs/{id}/terminals")]
async fn list_parameter_run_terminals(
    store: In<dyn ParameterStore>,
    Id(id): Id<Uuid>,
    Query(query): Query<EntriesQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = PageRequest::<i32>::new("parameter-run-terminals", query.limit, query.cursor.as_deref())?;
    let rows = store
        .entries(id, query.state, page.after.map(DtuId), page.fetch())
        .await?;
    Ok(HttpResponse::Ok().json(page.page(rows, |row| row.dtu_id.0)))
}

/// Writes what a run showed to differ, to each terminal, and reads it back. A setting that is another than it was is not
/// written. It is in the audit before it is written, and what became of it behind.
#[utoipa::path(tag = "parameters", params(("id" = Uuid, Path)), request_body = Option<WriteBody>,
    responses((status = 202, body = ParameterRun)))]
#[post("/parameter-runs/{id}/write")]
async fn write_parameter_run(
    state: web::Data<ApiState>,
    caller: Caller,
    store: In<dyn ParameterStore>,
    Id(id): Id<Uuid>,
    BodyOrDefault(body): BodyOrDefault<WriteBody>,
) -> Result<HttpResponse, ApiError> {
    let run = store.run(id).await?;
    confirm(&run, &store.asks(id).await?, &body.communication)?;
    let scope = caller.scope()?;
    let zone = span::zone(&state, &caller, None).await?;
    state.parameters.take(scope.account, id)?;
    let differing = match store.begin_write(id, state.clock.now()).await {
        Ok(differing) => differing,
        Err(error) => {
            state.parameters.give_back(id);
            return Err(error.into());
        }
    };
    let work = Work {
        id,
        protocol: run.protocol,
        write: true,
        zone,
        terminals: differing.into_iter().map(to_write).collect(),
    };
    // nothing may fail between the two: a run that is being written has somebody who drives it
    parameter_desk::start(&state, scope, work);
    Ok(told(&store.run(id).await?))
}

/// Holds what decides how a terminal is reached against what is named.
fn confirm(run: &ParameterRun, asks: &[ParameterAsk], named: &BTreeSet<String>) -> Result<(), ApiError> {
    let guarded: BTreeSet<String> = asks
        .iter()
        .filter(|ask| ask.wanted.is_some())
        .filter(|ask| {
            let protocol = protocol_named(&run.protocol);
            let known = protocol.and_then(|protocol| find(protocol, &ask.name));
            known.is_some_and(|parameter| parameter.spec.is_guarded())
        })
        .map(|ask| ask.name.clone())
        .collect();
    if guarded == *named {
        return Ok(());
    }
    let list: Vec<&str> = guarded.iter().map(String::as_str).collect();
    let text = match list.as_slice() {
        [] => "names settings that this run does not write".to_owned(),
        names => format!(
            "must name exactly what this run wants of how the terminal is reached, because a wrong value can lose it for ever: {}",
            names.join(", ")
        ),
    };
    Err(ApiError::invalid("communication", text))
}

/// What of a terminal is written: what differs, as long as it is what was seen.
fn to_write(entry: RunEntry) -> (DtuId, Vec<ParameterAsk>, Vec<crate::domain::parameter::Parameter>) {
    let differs = entry
        .parameters
        .iter()
        .filter(|parameter| parameter.outcome == ParameterOutcome::Differs);
    let asks = differs
        .map(|parameter| ParameterAsk {
            name: parameter.name.clone(),
            number: parameter.number,
            wanted: parameter.wanted.clone(),
            seen: parameter.present.clone(),
        })
        .collect();
    (entry.dtu_id, asks, entry.parameters)
}

/// Ends a run. Terminals whose turn had not come are left alone; what was just being written may be written.
#[utoipa::path(tag = "parameters", params(("id" = Uuid, Path)), responses((status = 200, body = ParameterRun)))]
#[delete("/parameter-runs/{id}")]
async fn cancel_parameter_run(
    state: web::Data<ApiState>,
    store: In<dyn ParameterStore>,
    Id(id): Id<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let run = store.cancel(id, state.clock.now()).await?;
    state.parameters.give_back(id);
    Ok(HttpResponse::Ok().json(run))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_parameters)
        .service(get_parameters)
        .service(compare_parameters)
        .service(list_parameter_runs)
        .service(get_parameter_run)
        .service(list_parameter_run_terminals)
        .service(write_parameter_run)
        .service(cancel_parameter_run);
}

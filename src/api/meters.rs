//! `/meters`: made with their metering point, edited, exchanged, deleted. What they read is in [`super::readings`].

use super::ApiState;
use super::auth::Caller;
use super::body::{Body, nullable};
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::schedules::ScheduleRef;
use super::span;
use crate::base::ids::{DtuId, GroupId, MeterId, PointId};
use crate::domain::quantity::{Kind as QuantityKind, Quantity};
use crate::port::meter_models::ModelView;
use crate::port::meters::{
    Communication, Meter, MeterEdit, MeterExchange, MeterQuery, MeterState, MeterStore, NewMeter, Registers,
    ScheduleChoice,
};
use crate::port::readings::{ReadingHistory, ReadingItem};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "meters";
const NAME_MAX: usize = 200;
const COMMENT_MAX: usize = 2000;
const TEXT_MAX: usize = 200;
/// Schedules of one meter.
const SCHEDULES_MAX: usize = 20;
/// The largest transformer ratio, e.g. 400 kV / 100 V or 10 kA / 1 A with room to spare.
const RATIO_MAX: i64 = 100_000;
/// What a bare number in `closing` or `opening` means: the first of these that the model has.
const MAIN_REGISTERS: &[Quantity] = &[
    Quantity::ActiveEnergyImport,
    Quantity::ActiveEnergyTotal,
    Quantity::VolumeTotal,
    Quantity::GasVolume,
    Quantity::HeatEnergy,
    Quantity::CoolingEnergy,
];

/// An address: text, or a number where the protocol has numbers.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "an address as text or number")]
pub enum Address {
    /// As text.
    Text(String),
    /// As number.
    Number(u64),
}

impl Address {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A meter to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterBody {
    /// The DTU behind which it hangs.
    #[schema(value_type = i32)]
    dtu_id: DtuId,
    /// The protocol's name.
    #[schema(example = "modbus-rtu")]
    protocol: String,
    /// Its address in the protocol's own form, e.g. 1 to 247 for Modbus.
    address: Address,
    /// Its model in the catalogue.
    #[schema(example = "eastron_sdm630")]
    model: String,
    /// Its name.
    name: String,
    /// A remark.
    #[serde(default)]
    comment: String,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Its own schedule; none: its DTU's, else its account's.
    schedule: Option<ScheduleRef>,
    /// Its own schedules, where it has several.
    #[serde(default)]
    schedules: Vec<ScheduleRef>,
    /// Current transformer ratio; readings stay as the meter says them, consumption is multiplied. Default 1.
    #[schema(value_type = Option<String>, example = "40")]
    ct_ratio: Option<Decimal>,
    /// Voltage transformer ratio. Default 1.
    #[schema(value_type = Option<String>, example = "1")]
    vt_ratio: Option<Decimal>,
    /// The metering point where it stands; none: a new one.
    #[schema(value_type = Option<i32>)]
    point_id: Option<PointId>,
}

/// What an edit changes.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterEditBody {
    /// Another DTU.
    #[schema(value_type = Option<i32>)]
    dtu_id: Option<DtuId>,
    /// Another protocol.
    protocol: Option<String>,
    /// Another address.
    address: Option<Address>,
    /// Another model.
    model: Option<String>,
    /// Another name.
    name: Option<String>,
    /// Another remark.
    comment: Option<String>,
    /// Another group; null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    group_id: Option<Option<GroupId>>,
    /// Another schedule of its own; null: its DTU's, else its account's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<ScheduleRef>)]
    schedule: Option<Option<ScheduleRef>>,
    /// Other schedules of its own; an empty list: its DTU's, else its account's.
    schedules: Option<Vec<ScheduleRef>>,
    /// Another current transformer ratio, from now on.
    #[schema(value_type = Option<String>)]
    ct_ratio: Option<Decimal>,
    /// Another voltage transformer ratio, from now on.
    #[schema(value_type = Option<String>)]
    vt_ratio: Option<Decimal>,
}

/// The meter that takes another's place; what is left out is as with the old one.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMeterBody {
    /// The DTU.
    #[schema(value_type = Option<i32>)]
    dtu_id: Option<DtuId>,
    /// The protocol's name.
    protocol: Option<String>,
    /// Its address.
    address: Option<Address>,
    /// Its model.
    model: Option<String>,
    /// Its name.
    name: Option<String>,
    /// A remark.
    comment: Option<String>,
    /// Its group.
    #[schema(value_type = Option<i32>)]
    group_id: Option<GroupId>,
    /// Its own schedule.
    schedule: Option<ScheduleRef>,
    /// Its own schedules.
    schedules: Option<Vec<ScheduleRef>>,
    /// Current transformer ratio.
    #[schema(value_type = Option<String>)]
    ct_ratio: Option<Decimal>,
    /// Voltage transformer ratio.
    #[schema(value_type = Option<String>)]
    vt_ratio: Option<Decimal>,
}

/// Registers as they were read off: by quantity, or one number for the meter's main register.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(
    untagged,
    expecting = "registers by quantity such as {\"active_energy_import\": \"1234.5\"}, or one number"
)]
pub enum RegistersBody {
    /// The main register.
    #[schema(value_type = String)]
    Main(Decimal),
    /// By quantity.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    ByQuantity(BTreeMap<String, Decimal>),
}

/// An exchange of meters at one metering point.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeBody {
    /// When the meters were exchanged.
    at: DateTime<Utc>,
    /// The old meter's registers then.
    closing: RegistersBody,
    /// The new meter.
    new_meter: NewMeterBody,
    /// The new meter's registers then.
    opening: RegistersBody,
}

/// A meter with what it read last and how communication goes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MeterDetail {
    #[serde(flatten)]
    meter: Meter,
    /// The newest value of each quantity.
    latest: Vec<ReadingItem>,
    /// How communication goes.
    communication: Communication,
}

/// Which meters.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MeterListQuery {
    /// In name, remark, address, model or the DTU's SN, without regard to case.
    text: Option<String>,
    /// Behind this DTU.
    dtu_id: Option<i32>,
    /// In this group.
    group_id: Option<i32>,
    /// `new`, `ok`, `failing` or `removed`; none: all but removed ones.
    state: Option<MeterState>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn ratio(field: &str, ratio: Option<Decimal>, faults: &mut Faults) {
    let fits =
        ratio.is_none_or(|ratio| ratio > Decimal::ZERO && ratio <= Decimal::from(RATIO_MAX) && ratio.scale() <= 6);
    faults.check(
        fits,
        field,
        format!("must be above 0 and at most {RATIO_MAX}, with at most 6 decimals"),
    );
}

fn texts(name: Option<&str>, comment: Option<&str>, faults: &mut Faults) {
    if let Some(name) = name {
        faults.text("name", name, NAME_MAX);
    }
    let comment = comment.unwrap_or_default();
    faults.check(
        comment.chars().count() <= COMMENT_MAX && !comment.contains('\0'),
        "comment",
        format!("must have at most {COMMENT_MAX} characters and no NUL"),
    );
}

/// One schedule or several, checked.
fn choices(
    one: Option<&ScheduleRef>,
    several: &[ScheduleRef],
    owner: &str,
    zone: Tz,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Vec<ScheduleChoice> {
    faults.check(
        one.is_none() || several.is_empty(),
        "schedules",
        "give either `schedule` or `schedules`",
    );
    faults.check(
        several.len() <= SCHEDULES_MAX,
        "schedules",
        format!("a meter has at most {SCHEDULES_MAX} schedules"),
    );
    let mut found: Vec<ScheduleChoice> = Vec::new();
    found.extend(one.and_then(|one| one.choice("schedule", owner, zone, now, faults)));
    for (index, one) in several.iter().take(SCHEDULES_MAX).enumerate() {
        found.extend(one.choice(&format!("schedules[{index}]"), owner, zone, now, faults));
    }
    found
}

/// The address in its canonical form, if protocol, model and address fit each other.
fn fitting(state: &ApiState, protocol: &str, model: &str, address: &str, prefix: &str, faults: &mut Faults) -> String {
    state.models.check(protocol, model, address).unwrap_or_else(|fault| {
        faults.check(false, &format!("{prefix}{}", fault.field()), fault.to_string());
        String::new()
    })
}

/// The meters of the account, by id, with their total.
#[utoipa::path(tag = "meters", params(MeterListQuery), responses((status = 200, body = Page<Meter>)))]
#[get("/meters")]
async fn list_meters(
    state: web::Data<ApiState>,
    meters: In<dyn MeterStore>,
    Query(query): Query<MeterListQuery>,
) -> Result<HttpResponse, ApiError> {
    let request = PageRequest::<i32>::new(LIST, query.limit, query.cursor.as_deref())?;
    if query
        .text
        .as_ref()
        .is_some_and(|text| text.chars().count() > TEXT_MAX || text.contains('\0'))
    {
        return Err(ApiError::bad_query(
            "text",
            format!("has at most {TEXT_MAX} characters and no NUL"),
        ));
    }
    let wanted = MeterQuery {
        text: query.text.filter(|text| !text.is_empty()),
        dtu: query.dtu_id.map(DtuId),
        group: query.group_id.map(GroupId),
        state: query.state,
        after: request.after.map(MeterId),
        limit: request.fetch(),
    };
    let (rows, total) = meters.list(&wanted, state.clock.now()).await?;
    let page = request
        .page(rows, |meter| meter.id.0)
        .of_total(u64::try_from(total).unwrap_or(0));
    Ok(HttpResponse::Ok().json(page))
}

/// Makes a meter, and with it a metering point unless one is named. Its schedules are in force at once.
#[utoipa::path(tag = "meters", request_body = MeterBody, responses((status = 201, body = Meter)))]
#[post("/meters")]
async fn create_meter(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Body(body): Body<MeterBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let now = state.clock.now();
    let mut faults = Faults::new();
    texts(Some(&body.name), Some(&body.comment), &mut faults);
    ratio("ct_ratio", body.ct_ratio, &mut faults);
    ratio("vt_ratio", body.vt_ratio, &mut faults);
    let address = fitting(
        &state,
        &body.protocol,
        &body.model,
        &body.address.text(),
        "",
        &mut faults,
    );
    let schedules = choices(
        body.schedule.as_ref(),
        &body.schedules,
        &body.name,
        zone,
        now,
        &mut faults,
    );
    faults.done()?;
    let meter = NewMeter {
        dtu: body.dtu_id,
        protocol: body.protocol,
        address,
        model: body.model,
        name: body.name,
        comment: body.comment,
        group: body.group_id,
        schedules,
        ct_ratio: body.ct_ratio.unwrap_or(Decimal::ONE),
        vt_ratio: body.vt_ratio.unwrap_or(Decimal::ONE),
        point: body.point_id,
    };
    let change = meters.create(&meter, now).await?;
    reload(&state, &change.dtus).await;
    Ok(tagged(HttpResponse::Created(), change.meter.version, &change.meter))
}

async fn reload(state: &ApiState, dtus: &[DtuId]) {
    for dtu in dtus {
        state.fleet.reload(*dtu).await;
    }
}

/// A meter with its newest values and how communication goes.
#[utoipa::path(tag = "meters", params(("id" = i32, Path)), responses((status = 200, body = MeterDetail)))]
#[get("/meters/{id}")]
async fn get_meter(
    state: web::Data<ApiState>,
    meters: In<dyn MeterStore>,
    history: In<dyn ReadingHistory>,
    Id(id): Id<MeterId>,
) -> Result<HttpResponse, ApiError> {
    let now = state.clock.now();
    let meter = meters.get(id, now).await?;
    let latest = history.latest(id).await?;
    let communication = meters.communication(id, now).await?;
    let detail = MeterDetail {
        meter,
        latest,
        communication,
    };
    Ok(tagged(HttpResponse::Ok(), detail.meter.version, &detail))
}

/// Edits a meter. Another ratio holds from now on; what was measured before keeps the old one.
#[utoipa::path(tag = "meters", params(("id" = i32, Path)), request_body = MeterEditBody,
    responses((status = 200, body = Meter)))]
#[patch("/meters/{id}")]
async fn edit_meter(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Id(id): Id<MeterId>,
    IfMatch(expected): IfMatch,
    Body(body): Body<MeterEditBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let now = state.clock.now();
    let before = meters.get(id, now).await?;
    let version = expected.version().unwrap_or(before.version);
    let mut faults = Faults::new();
    texts(body.name.as_deref(), body.comment.as_deref(), &mut faults);
    ratio("ct_ratio", body.ct_ratio, &mut faults);
    ratio("vt_ratio", body.vt_ratio, &mut faults);
    let changes_address = body.protocol.is_some() || body.model.is_some() || body.address.is_some();
    let address = changes_address.then(|| {
        let protocol = body.protocol.as_deref().unwrap_or(&before.protocol);
        let model = body.model.as_deref().unwrap_or(&before.model);
        let address = body
            .address
            .as_ref()
            .map_or_else(|| before.address.clone(), Address::text);
        fitting(&state, protocol, model, &address, "", &mut faults)
    });
    let name = body.name.as_deref().unwrap_or(&before.name);
    let schedules = match (&body.schedule, &body.schedules) {
        (None, None) => None,
        (one, several) => {
            let one = one.as_ref().and_then(Option::as_ref);
            let several = several.as_deref().unwrap_or_default();
            Some(choices(one, several, name, zone, now, &mut faults))
        }
    };
    faults.done()?;
    let edit = MeterEdit {
        dtu: body.dtu_id,
        protocol: body.protocol,
        address,
        model: body.model,
        name: body.name,
        comment: body.comment,
        group: body.group_id,
        schedules,
        ct_ratio: body.ct_ratio,
        vt_ratio: body.vt_ratio,
    };
    let change = meters.update(id, &edit, Some(version), now).await?;
    reload(&state, &change.dtus).await;
    Ok(tagged(HttpResponse::Ok(), change.meter.version, &change.meter))
}

/// Deletes a meter: it is polled no more. What its point consumed stays.
#[utoipa::path(tag = "meters", params(("id" = i32, Path)), responses((status = 204)))]
#[delete("/meters/{id}")]
async fn delete_meter(
    state: web::Data<ApiState>,
    meters: In<dyn MeterStore>,
    Id(id): Id<MeterId>,
    IfMatchOptional(expected): IfMatchOptional,
) -> Result<HttpResponse, ApiError> {
    let dtus = meters.delete(id, expected.version(), state.clock.now()).await?;
    reload(&state, &dtus).await;
    Ok(HttpResponse::NoContent().finish())
}

/// Registers of a body by quantity; each must be a register that the model has.
fn registers(field: &str, body: &RegistersBody, model: Option<&ModelView>, faults: &mut Faults) -> Registers {
    let has = |quantity: Quantity| model.is_none_or(|model| model.points.iter().any(|p| p.quantity == quantity.name()));
    let mut found = Registers::new();
    match body {
        RegistersBody::Main(value) => match MAIN_REGISTERS.iter().find(|quantity| has(**quantity)) {
            Some(quantity) => {
                found.insert(*quantity, *value);
            }
            None => faults.check(
                false,
                field,
                "the model has no main register; give registers by quantity",
            ),
        },
        RegistersBody::ByQuantity(values) => {
            faults.check(!values.is_empty(), field, "must name at least one register");
            for (name, value) in values {
                match Quantity::by_name(name).filter(|q| q.kind() == QuantityKind::Register && has(*q)) {
                    Some(quantity) => {
                        found.insert(quantity, *value);
                    }
                    None => faults.check(
                        false,
                        &format!("{field}.{name}"),
                        "is no register of that meter's model",
                    ),
                }
            }
        }
    }
    found
}

/// Puts another meter in a meter's place. The point's consumption stays whole: the old meter counts up to its closing
/// registers, the new one from its opening registers.
#[utoipa::path(tag = "meters", params(("id" = i32, Path)), request_body = ExchangeBody,
    responses((status = 201, body = Meter)))]
#[post("/meters/{id}/exchange")]
async fn exchange_meter(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    Id(id): Id<MeterId>,
    Body(body): Body<ExchangeBody>,
) -> Result<HttpResponse, ApiError> {
    let zone = span::zone(&state, &caller, None).await?;
    let now = state.clock.now();
    let old = meters.get(id, now).await?;
    if old.state == MeterState::Removed {
        return Err(ApiError::new(
            Kind::Conflict,
            "the meter was exchanged before; exchange the one that stands there now",
        ));
    }
    let mut faults = Faults::new();
    faults.check(body.at <= now, "at", "lies in the future");
    let new = body.new_meter;
    texts(new.name.as_deref(), new.comment.as_deref(), &mut faults);
    ratio("new_meter.ct_ratio", new.ct_ratio, &mut faults);
    ratio("new_meter.vt_ratio", new.vt_ratio, &mut faults);
    let protocol = new.protocol.unwrap_or_else(|| old.protocol.clone());
    let model = new.model.unwrap_or_else(|| old.model.clone());
    let address = new.address.as_ref().map_or_else(|| old.address.clone(), Address::text);
    let address = fitting(&state, &protocol, &model, &address, "new_meter.", &mut faults);
    let closing = registers(
        "closing",
        &body.closing,
        state.models.model(&old.model).as_ref(),
        &mut faults,
    );
    let opening = registers(
        "opening",
        &body.opening,
        state.models.model(&model).as_ref(),
        &mut faults,
    );
    let name = new.name.unwrap_or_else(|| old.name.clone());
    let keep_schedules = new.schedule.is_none() && new.schedules.is_none();
    let several = new.schedules.unwrap_or_default();
    let schedules = choices(new.schedule.as_ref(), &several, &name, zone, now, &mut faults);
    faults.done()?;
    let exchange = MeterExchange {
        at: body.at,
        closing,
        opening,
        keep_schedules,
        new_meter: NewMeter {
            dtu: new.dtu_id.unwrap_or(old.dtu_id),
            protocol,
            address,
            model,
            name,
            comment: new.comment.unwrap_or(old.comment),
            group: new.group_id.or(old.group_id),
            schedules,
            ct_ratio: new.ct_ratio.unwrap_or(old.ct_ratio),
            vt_ratio: new.vt_ratio.unwrap_or(old.vt_ratio),
            point: old.point_id,
        },
    };
    let change = meters.exchange(id, &exchange, now).await?;
    reload(&state, &change.dtus).await;
    Ok(tagged(HttpResponse::Created(), change.meter.version, &change.meter))
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(list_meters)
        .service(create_meter)
        .service(get_meter)
        .service(edit_meter)
        .service(delete_meter)
        .service(exchange_meter);
}

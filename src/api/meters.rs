//! `/meters`: made with their metering point, edited, exchanged, deleted. What they read is in [`super::readings`].

use super::ApiState;
use super::auth::Caller;
use super::body::Body;
use super::etag::{IfMatch, IfMatchOptional, tagged};
use super::handle::In;
use super::meter_form::{Address, ExchangeBody, MeterBody, MeterEditBody, choices, fitting, ratio, registers, texts};
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Faults, Kind};
use super::query::{Id, Query};
use super::span;
use crate::base::ids::{DtuId, GroupId, MeterId};
use crate::port::meters::{
    Communication, Meter, MeterEdit, MeterExchange, MeterQuery, MeterState, MeterStore, NewMeter,
};
use crate::port::readings::{ReadingHistory, ReadingItem};
use actix_web::{HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use utoipa_actix_web::service_config::ServiceConfig;

const LIST: &str = "meters";
const TEXT_MAX: usize = 200;

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
    #[param(inline)]
    state: Option<MeterState>,
    /// Items of a page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
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
    let meter = body.checked(&state, zone, now)?;
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

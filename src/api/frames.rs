//! `/frames/{id}` and `/dtus/{id}/frames`: raw bytes and what they mean, for whoever wants to check a reading.

use super::ApiState;
use super::auth::Caller;
use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::{ApiError, Kind};
use super::query::{Id, Query};
use crate::base::hex;
use crate::base::ids::{DtuId, FrameId, MeterId, PollId};
use crate::port::dtus::DtuStore;
use crate::port::frames::{FrameKind, FrameLogError, RecordedFrame};
use crate::telemetry::api::RequestFailed;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A raw frame.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Frame {
    /// Its id.
    #[schema(value_type = i64)]
    pub id: FrameId,
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// The DTU; null while the connection had none.
    #[schema(value_type = Option<i32>)]
    pub dtu_id: Option<DtuId>,
    /// The meter that was asked.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// The visit to the meter.
    #[schema(value_type = Option<i64>)]
    pub poll_id: Option<PollId>,
    /// `sent` or `received`.
    pub direction: &'static str,
    /// What it is: `request`, `answer`, `refusal`, `stray`, `noise`, `registration` or `heartbeat`.
    #[schema(value_type = String, example = "answer")]
    pub kind: FrameKind,
    /// The protocol's name; null for what is of the DTU itself.
    pub protocol: Option<String>,
    /// The bytes, as hex.
    #[schema(example = "01030400EA015F5A54")]
    pub bytes: String,
    /// What it means, with the byte span of each field; `{"error": …, "offset": …}` when it does not decode.
    #[schema(value_type = Object)]
    pub explanation: serde_json::Value,
}

/// Which frames.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FrameQuery {
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn show(state: &ApiState, recorded: RecordedFrame) -> Frame {
    let explanation = state.explainer.explain(&recorded.frame);
    let frame = recorded.frame;
    Frame {
        id: recorded.id,
        at: frame.at,
        dtu_id: frame.dtu,
        meter_id: frame.meter,
        poll_id: frame.poll,
        direction: frame.kind.direction(),
        kind: frame.kind,
        protocol: (!frame.protocol.is_empty()).then(|| frame.protocol.into_owned()),
        bytes: hex::encode(&frame.bytes),
        explanation,
    }
}

/// Looks into the recorder on a thread that may block.
pub(super) async fn look<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FrameLogError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |cause: String| {
        RequestFailed { cause: &cause }.emit();
        ApiError::new(Kind::Internal, "the frame recorder cannot be read; the log has more")
    };
    match web::block(work).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The recent frames of a DTU, newest first, with their decoding.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), FrameQuery), responses((status = 200, body = Page<Frame>)))]
#[get("/dtus/{id}/frames")]
async fn list_dtu_frames(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<FrameQuery>,
) -> Result<web::Json<Page<Frame>>, ApiError> {
    let page = PageRequest::<FrameId>::new("frames", query.limit, query.cursor.as_deref())?;
    if !dtus.owns(id).await? {
        return Err(ApiError::not_found("DTU"));
    }
    let frames = std::sync::Arc::clone(&state.frames);
    let before = page.after;
    let limit = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
    let rows = look(move || frames.recent(id, before, limit)).await?;
    let page = page.page(rows, |row| row.id);
    Ok(web::Json(page.map(|row| show(&state, row))))
}

/// One raw frame: from the recorder's ring, or from the evidence that is kept longer.
#[utoipa::path(tag = "frames", params(("id" = i64, Path)), responses((status = 200, body = Frame)))]
#[get("/frames/{id}")]
async fn get_frame(
    state: web::Data<ApiState>,
    caller: Caller,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<FrameId>,
) -> Result<web::Json<Frame>, ApiError> {
    let frames = std::sync::Arc::clone(&state.frames);
    let found = match look(move || frames.get(id)).await? {
        Some(recorded) => {
            let within_reach = match recorded.frame.dtu {
                Some(dtu) => dtus.owns(dtu).await?,
                // bytes of a connection that nobody owned
                None => caller.is_platform(),
            };
            within_reach.then_some(recorded)
        }
        None => dtus.evidence(id).await?,
    };
    let recorded = found.ok_or_else(|| ApiError::not_found("frame"))?;
    Ok(web::Json(show(&state, recorded)))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(list_dtu_frames).service(get_frame);
}

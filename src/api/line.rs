//! `/dtus/{id}/line`: the transactions on a DTU's line, out of the frame recorder. `/dtus/{id}/line/plan`: the line time that the schedules of a DTU's meters need and have, what to drop when it does not
//! suffice, and what was learned of each meter on the line.

use super::ApiState;
use super::frames::look;
use super::handle::Reach;
use super::page::{Page, PageRequest};
use super::problem::ApiError;
use super::query::{Id, Query};
use super::span::check_open;
use crate::base::ids::{DtuId, FrameId, MeterId, ScheduleId};
use crate::port::dtus::DtuStore;
use crate::port::fleet::{LinePlan, LineState, MeterOnLine};
use crate::port::frames::{FrameLog, FrameLogError};
use crate::port::line::{Gathering, Transaction};
use actix_web::{get, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Duration;
use utoipa::ToSchema;

/// The line time that schedules need and have, and the meters on the line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinePlanView {
    /// Looked at from here on.
    pub from: DateTime<Utc>,
    /// Until here: a day, or less where it has very many slots.
    pub to: DateTime<Utc>,
    /// Whether every slot can begin within its window.
    pub fits: bool,
    /// Line time that all reads take, seconds.
    pub needs_s: f64,
    /// Line time that there is, seconds.
    pub has_s: f64,
    /// What is needed of what there is; over 1 it cannot fit.
    pub share: f64,
    /// The same for the fullest hour.
    pub fullest_hour: f64,
    /// Slots in that time.
    pub slots: u64,
    /// Slots that would begin behind their windows.
    pub behind: u64,
    /// What each schedule takes, the one that takes most first.
    pub schedules: Vec<ScheduleLoad>,
    /// Schedules without which the rest fits; empty when all fits.
    #[schema(value_type = Vec<i32>)]
    pub drop: Vec<ScheduleId>,
    /// The meters on the line.
    pub meters: Vec<MeterLine>,
}

/// What a schedule takes of the line.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleLoad {
    /// The schedule.
    #[schema(value_type = i32)]
    pub schedule_id: ScheduleId,
    /// Its slots, over all meters.
    pub slots: u64,
    /// Their line time, seconds.
    pub needs_s: f64,
    /// Those that would begin behind their windows.
    pub behind: u64,
}

/// A meter on the line, as it behaves.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterLine {
    /// The meter.
    #[schema(value_type = i32)]
    pub meter_id: MeterId,
    /// `closed`: it is read. `open`: it has not answered lately and is only probed.
    #[schema(example = "closed")]
    pub breaker: &'static str,
    /// When the next probe may go.
    pub probe_at: Option<DateTime<Utc>>,
    /// The time-out that it is asked with, without the line time of question and answer, milliseconds.
    pub timeout_ms: u64,
    /// Whether that is more than what is configured, because the meter needs it.
    pub timeout_learned: bool,
    /// How long it thinks before it answers, with the way to the line, milliseconds; null until it is known.
    pub turnaround_ms: Option<u64>,
    /// The rest it gets behind its answers, milliseconds.
    pub rest_ms: u64,
    /// The part of the last hour for which its questions held the line, 0 to 1.
    pub line_share: f64,
    /// What one read of everything takes, milliseconds; null without a model.
    pub read_ms: Option<u64>,
    /// How far its clock was ahead of ours (negative: behind), seconds; null until it was looked at.
    pub clock_drift_s: Option<i64>,
    /// When the clock was looked at.
    pub clock_seen_at: Option<DateTime<Utc>>,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Four digits behind the point are enough for a share.
fn share(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

impl From<MeterOnLine> for MeterLine {
    fn from(meter: MeterOnLine) -> Self {
        Self {
            meter_id: meter.meter,
            breaker: if meter.breaker_open { "open" } else { "closed" },
            probe_at: meter.probe_at,
            timeout_ms: millis(meter.timeout),
            timeout_learned: meter.timeout_learned,
            turnaround_ms: meter.turnaround.map(millis),
            rest_ms: millis(meter.rest),
            line_share: share(meter.share),
            read_ms: meter.visit.map(millis),
            clock_drift_s: meter.clock.map(|(drift, _)| drift.num_seconds()),
            clock_seen_at: meter.clock.map(|(_, at)| at),
        }
    }
}

impl From<LineState> for LinePlanView {
    fn from(line: LineState) -> Self {
        let LineState { meters, plan } = line;
        let (fits, part) = (plan.fits(), plan.share());
        let LinePlan {
            from,
            to,
            needs,
            fullest_hour,
            slots,
            behind,
            schedules,
            drop,
        } = plan;
        let schedules = schedules.into_iter().map(|load| ScheduleLoad {
            schedule_id: load.schedule,
            slots: load.slots,
            needs_s: load.takes.as_secs_f64(),
            behind: load.behind,
        });
        Self {
            from,
            to,
            fits,
            needs_s: needs.as_secs_f64(),
            has_s: (to - from).to_std().unwrap_or_default().as_secs_f64(),
            share: share(part),
            fullest_hour: share(fullest_hour),
            slots,
            behind,
            schedules: schedules.collect(),
            drop,
            meters: meters.into_iter().map(MeterLine::from).collect(),
        }
    }
}

/// The line time that the schedules behind a DTU need in the coming day, and what was learned of its meters.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path)), responses((status = 200, body = LinePlanView)))]
#[get("/dtus/{id}/line/plan")]
async fn get_line_plan(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
) -> Result<web::Json<LinePlanView>, ApiError> {
    if !dtus.owns(id).await? {
        return Err(ApiError::not_found("DTU"));
    }
    let line = state.fleet.line(id).await;
    line.map(|line| web::Json(line.into()))
        .ok_or_else(|| ApiError::not_found("line of this DTU"))
}

/// Which transactions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LineQuery {
    /// Written at or after this; as far as the recorder's ring reaches when left out.
    from: Option<DateTime<Utc>>,
    /// Written before this; until now when left out.
    to: Option<DateTime<Utc>>,
    /// Items of a page, 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A visit's frames are recorded when it is over, so that a higher one may stand before it: no question is recorded
/// longer behind a later one than this.
const VISIT_LONGEST: TimeDelta = TimeDelta::hours(1);

/// Frames that one page looks at; where more of them stand between, the page is short and `next` leads on.
const LOOKED_AT_MAX: usize = 50_000;

/// The transactions of a line in `[from, to)`, newest first.
fn walk(
    frames: &dyn FrameLog,
    dtu: DtuId,
    query: &LineQuery,
    page: &PageRequest<FrameId>,
) -> Result<Page<Transaction>, FrameLogError> {
    let begin = query.from.map(|from| from - VISIT_LONGEST);
    let mut gathering = Gathering::default();
    let mut found: Vec<Transaction> = Vec::new();
    let (mut looked_at, mut next) = (0, None);
    frames.walk(dtu, page.after, &mut |frame| {
        looked_at += 1;
        if begin.is_some_and(|begin| frame.frame.at < begin) {
            return ControlFlow::Break(());
        }
        let id = frame.id;
        let Some(transaction) = gathering.take(frame) else {
            return ControlFlow::Continue(());
        };
        let start = transaction.start;
        if query.from.is_none_or(|from| start >= from) && query.to.is_none_or(|to| start < to) {
            found.push(transaction);
        }
        // a page ends with a question, so that the next begins with what stands before it
        if found.len() >= page.limit() || looked_at >= LOOKED_AT_MAX {
            next = Some(id);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(page.page_to(found, next))
}

/// The transactions on a DTU's line, newest first: which meter was asked, how long the question waited for the line and
/// held it, what became of it, and its raw frames. As far back as the frame recorder's ring reaches.
#[utoipa::path(tag = "dtus", params(("id" = i32, Path), LineQuery),
    responses((status = 200, body = Page<Transaction>)))]
#[get("/dtus/{id}/line")]
async fn list_line(
    state: web::Data<ApiState>,
    dtus: Reach<dyn DtuStore>,
    Id(id): Id<DtuId>,
    Query(query): Query<LineQuery>,
) -> Result<web::Json<Page<Transaction>>, ApiError> {
    let page = PageRequest::<FrameId>::new("line", query.limit, query.cursor.as_deref())?;
    check_open(query.from, query.to)?;
    if !dtus.owns(id).await? {
        return Err(ApiError::not_found("DTU"));
    }
    let frames = std::sync::Arc::clone(&state.frames);
    let page = look(move || walk(&*frames, id, &query, &page)).await?;
    Ok(web::Json(page))
}

pub(super) fn routes(cfg: &mut utoipa_actix_web::service_config::ServiceConfig<'_>) {
    cfg.service(get_line_plan).service(list_line);
}

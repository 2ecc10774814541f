//! The desk of a connection: jobs come in over its link, outcomes go back, frames go to the recorder, and its end is told
//! once. What all kinds of connection share.

use super::NetDeps;
use super::link::{Errand, LinkHandle, LinkInbox, link};
use crate::base::ids::{ConnectionId, DtuId, FrameId, FrameRange};
use crate::exchange::Moment;
use crate::exchange::evidence::{self, EVIDENCE_FRAMES_MAX, Evidence};
use crate::exchange::members::Settled;
use crate::exchange::visit::{LineFrame, LineFrameKind, QueueFull, Ticket, VisitOutcome};
use crate::port::field::{
    EndCause, Link, LinkError, Owner, PollJob, PollOutcome, Registrar, TransactionError, TransactionReport,
};
use crate::port::frames::{FrameKind, RawFrame, RecordedFrame};
use crate::port::line::transactions;
use crate::port::live::Topic;
use crate::telemetry::field::{FrameStrayed, SessionEnded, TransactionEnded};
use chrono::{DateTime, Utc};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Jobs taken from the link at once.
const ERRANDS_AT_ONCE: usize = 16;

type Reply = oneshot::Sender<Result<PollOutcome, LinkError>>;

/// Who a connection belongs to before anything is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// It dialled us and has to say who it is.
    Inbound(SocketAddr),
    /// We reached it.
    Ours {
        /// The DTU.
        dtu: DtuId,
        /// Its address; none for a serial port.
        peer: Option<SocketAddr>,
    },
}

impl Origin {
    fn peer(self) -> String {
        match self {
            Self::Inbound(peer) | Self::Ours { peer: Some(peer), .. } => peer.to_string(),
            Self::Ours { peer: None, .. } => "serial".into(),
        }
    }
}

/// Tells the registrar once, even when the future is dropped or panics.
struct Farewell {
    registrar: Arc<dyn Registrar>,
    connection: ConnectionId,
    handle: LinkHandle,
    peer: String,
    dtu: Option<DtuId>,
    cause: EndCause,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        SessionEnded {
            dtu: self.dtu.map_or(0, |dtu| dtu.0),
            peer: &self.peer,
            cause: self.cause.as_str(),
        }
        .emit();
        self.registrar.ended(self.connection, self.cause, self.handle.stats());
    }
}

/// See the file's head.
pub(super) struct Desk {
    pub(super) id: ConnectionId,
    pub(super) inbox: LinkInbox,
    deps: NetDeps,
    farewell: Farewell,
    owner: Option<Owner>,
    waiting: Vec<Waiting>,
    /// Strays that came while nothing was asked; they go with the next outcome.
    strays: Vec<Evidence>,
}

/// Who waits for a job's outcome.
struct Waiting {
    ticket: Ticket,
    reply: Reply,
    /// Its frames are wanted whatever comes of it.
    evidence: bool,
}

impl Desk {
    pub(super) fn new(id: ConnectionId, origin: Origin, deps: NetDeps) -> Self {
        let (handle, inbox) = link();
        let farewell = Farewell {
            registrar: Arc::clone(&deps.registrar),
            connection: id,
            handle,
            peer: origin.peer(),
            dtu: match origin {
                Origin::Ours { dtu, .. } => Some(dtu),
                Origin::Inbound(_) => None,
            },
            // stands when the future is dropped or panics
            cause: EndCause::Internal,
        };
        Self {
            id,
            inbox,
            deps,
            farewell,
            owner: None,
            waiting: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// A handle for the registrar.
    pub(super) fn handle(&self) -> Arc<dyn Link> {
        Arc::new(self.farewell.handle.clone())
    }

    /// The peer, for people.
    pub(super) fn peer(&self) -> &str {
        &self.farewell.peer
    }

    /// The DTU, 0 when not known yet: for logs.
    pub(super) fn dtu(&self) -> i32 {
        self.farewell.dtu.map_or(0, |dtu| dtu.0)
    }

    /// Whose it is; none before it was adopted.
    pub(super) fn owner_dtu(&self) -> Option<DtuId> {
        self.owner.as_ref().map(|owner| owner.dtu)
    }

    /// It belongs to somebody now, and takes jobs.
    pub(super) fn adopt(&mut self, owner: Owner) {
        self.farewell.dtu = Some(owner.dtu);
        self.owner = Some(owner);
    }

    /// Takes a job and those that wait behind it; `submit` is the queue's door.
    pub(super) fn take(&mut self, errand: Errand, mut submit: impl FnMut(PollJob) -> Result<Ticket, QueueFull>) {
        self.take_one(errand, &mut submit);
        for _ in 1..ERRANDS_AT_ONCE {
            let Some(errand) = self.inbox.errand_now() else { return };
            self.take_one(*errand, &mut submit);
        }
    }

    fn take_one(&mut self, errand: Errand, submit: &mut impl FnMut(PollJob) -> Result<Ticket, QueueFull>) {
        let Errand { job, reply } = errand;
        if self.owner.is_none() {
            answer(reply, Err(LinkError::Closed));
        } else if !reply.is_closed() {
            let evidence = job.evidence;
            match submit(job) {
                Ok(ticket) => self.waiting.push(Waiting {
                    ticket,
                    reply,
                    evidence,
                }),
                Err(QueueFull { .. }) => answer(reply, Err(LinkError::Busy)),
            }
        }
    }

    /// A job has ended: its frames go to the recorder in one call, its outcome to the asker.
    pub(super) fn done(&mut self, ticket: Ticket, outcome: VisitOutcome, is_heartbeat: impl Fn(&[u8]) -> bool) {
        let VisitOutcome {
            began_at,
            reports,
            frames,
            late_by,
        } = outcome;
        for report in &reports {
            TransactionEnded {
                result: result_name(&report.result),
            }
            .emit();
        }
        let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket);
        let waiting = place.map(|place| self.waiting.swap_remove(place));
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let wanted = waiting.as_ref().is_some_and(|waiting| waiting.evidence);
        let kept: Vec<(usize, LineFrame)> = evidence::choose(&reports, &frames, wanted)
            .into_iter()
            .filter_map(|place| Some((place, frames.get(place)?.clone())))
            .filter(|(_, frame)| frame.kind != LineFrameKind::Noise || !is_heartbeat(&frame.bytes))
            .collect();
        let frames = frames.into_iter().map(|frame| self.raw(frame, &is_heartbeat)).collect();
        let frames = self.keep(frames);
        let Some(Waiting { reply, .. }) = waiting else { return };
        let evidence = self.evidence(frames, kept);
        told(reply, began_at, reports, (frames, evidence), late_by);
    }

    /// Visits that were asked together have ended: their frames are recorded once, and each asker gets its outcome with
    /// all of them. What is worth keeping goes with the first that wants it.
    pub(super) fn settled(&mut self, settled: Settled) {
        let Settled { outcomes, frames } = settled;
        let raw = frames.iter().cloned().map(|frame| self.raw(frame, &|_| false));
        let range = self.keep(raw.collect());
        let mut given = false;
        for (ticket, outcome) in outcomes {
            for report in &outcome.reports {
                TransactionEnded {
                    result: result_name(&report.result),
                }
                .emit();
            }
            let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket);
            let Some(waiting) = place.map(|place| self.waiting.swap_remove(place)) else {
                continue;
            };
            let chosen = match given {
                true => Vec::new(),
                false => evidence::choose(&outcome.reports, &frames, waiting.evidence),
            };
            given |= !chosen.is_empty();
            let kept = chosen
                .into_iter()
                .filter_map(|place| Some((place, frames.get(place)?.clone())));
            let evidence = self.evidence(range, kept.collect());
            let VisitOutcome {
                began_at,
                reports,
                late_by,
                ..
            } = outcome;
            told(waiting.reply, began_at, reports, (range, evidence), late_by);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }

    /// Records the frames of a visit in one call, and tells of its questions while somebody listens to the line.
    fn keep(&self, frames: Vec<RawFrame>) -> FrameRange {
        if frames.is_empty() {
            return FrameRange::EMPTY;
        }
        let account = self.owner.as_ref().map(|owner| owner.account);
        let Some(account) = account.filter(|account| self.deps.live.is_wanted(*account, Topic::Line)) else {
            return self.deps.recorder.record(frames);
        };
        let told = frames.clone();
        let range = self.deps.recorder.record(frames);
        let recorded = range.ids().zip(told).map(|(id, frame)| RecordedFrame { id, frame });
        for transaction in transactions(recorded.collect::<Vec<_>>().into_iter()) {
            let meter = transaction.meter_id;
            let mut event = serde_json::to_value(transaction).unwrap_or_default();
            if let Some(event) = event.as_object_mut() {
                event.insert("dtu_id".into(), self.dtu().into());
            }
            self.deps
                .live
                .publish(account, Topic::Line, self.farewell.dtu, meter, event);
        }
        range
    }

    /// Gives kept frames the ids that the recorder gave them; the strays of before stand in front.
    fn evidence(&mut self, range: FrameRange, kept: Vec<(usize, LineFrame)>) -> Vec<Evidence> {
        let connection = self.id;
        let mut evidence = std::mem::take(&mut self.strays);
        let recorded = kept.into_iter().filter(|(place, _)| *place < usize::from(range.count));
        evidence.extend(recorded.filter_map(|(place, frame)| {
            let id = FrameId(range.first.0.checked_add(i64::try_from(place).ok()?)?);
            Some(Evidence { id, connection, frame })
        }));
        evidence
    }

    /// Records a frame that belongs to no visit.
    pub(super) fn record_line(&mut self, frame: LineFrame, is_heartbeat: impl Fn(&[u8]) -> bool) -> FrameRange {
        let stray = (frame.kind == LineFrameKind::Stray).then(|| frame.clone());
        let frame = self.raw(frame, &is_heartbeat);
        let range = self.deps.recorder.record(vec![frame]);
        if let Some(frame) = stray.filter(|_| range.count > 0) {
            if self.strays.len() >= EVIDENCE_FRAMES_MAX {
                self.strays.remove(0);
            }
            self.strays.push(Evidence {
                id: range.first,
                connection: self.id,
                frame,
            });
        }
        range
    }

    /// Records what the DTU itself said.
    pub(super) fn record(&self, kind: FrameKind, now: Moment, bytes: Vec<u8>) {
        let _range = self.deps.recorder.record(vec![RawFrame {
            at: now.at,
            dtu: self.farewell.dtu,
            connection: self.id,
            meter: None,
            poll: None,
            kind,
            protocol: "".into(),
            bytes: bytes.into(),
            turn: None,
        }]);
    }

    /// The frame as it is recorded; a stray is counted here, whether it came amidst a visit or unasked.
    fn raw(&self, frame: LineFrame, is_heartbeat: &impl Fn(&[u8]) -> bool) -> RawFrame {
        if frame.kind == LineFrameKind::Stray {
            FrameStrayed {
                dtu: self.dtu(),
                bytes: frame.bytes.len(),
            }
            .emit();
        }
        let mut raw = RawFrame::of(frame, self.farewell.dtu, self.id);
        if raw.kind == FrameKind::Noise && is_heartbeat(&raw.bytes) {
            raw.kind = FrameKind::Heartbeat;
        }
        raw
    }

    /// No more jobs; those on their way are refused. The cause is told when the desk is dropped.
    pub(super) fn close(&mut self, cause: EndCause) {
        self.farewell.cause = cause;
        for errand in self.inbox.close() {
            answer(errand.reply, Err(LinkError::Closed));
        }
    }
}

/// Tells an asker what became of its job; one that was never begun when the session ended was refused.
fn told(
    reply: Reply,
    began_at: Option<DateTime<Utc>>,
    reports: Vec<TransactionReport>,
    (frames, evidence): (FrameRange, Vec<Evidence>),
    late_by: Option<Duration>,
) {
    let lost = reports
        .last()
        .is_some_and(|report| report.result == Err(TransactionError::SessionLost));
    let never_begun = lost && began_at.is_none();
    let outcome = PollOutcome {
        began_at,
        reports,
        frames,
        late_by,
        evidence,
    };
    answer(
        reply,
        if never_begun {
            Err(LinkError::Closed)
        } else {
            Ok(outcome)
        },
    );
}

/// The asker may have gone, which is its own affair.
fn answer(reply: Reply, with: Result<PollOutcome, LinkError>) {
    drop(reply.send(with));
}

fn result_name(result: &Result<Vec<u8>, TransactionError>) -> &'static str {
    match result {
        Ok(_) => "answered",
        Err(TransactionError::Refused(_)) => "refused",
        Err(TransactionError::Timeout) => "timeout",
        Err(TransactionError::Deadline) => "deadline",
        Err(TransactionError::SessionLost) => "session_lost",
        Err(TransactionError::Endless) => "endless",
        Err(TransactionError::Unfit) => "unfit",
        Err(TransactionError::LineSilent) => "line_silent",
    }
}

/// A length as a counter takes it.
pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

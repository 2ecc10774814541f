//! What a line makes of the bytes that come: finding the answer, believing it, and what is left over.

use super::{Asking, BYTE_GAP, DOUBTS_MAX, Line, LineEvent, REST_OF_REPLY, SETTLE_MIN, State, WINDOW_MAX};
use crate::base::bytes::FrameBytes;
use crate::exchange::Moment;
use crate::exchange::job::{Priority, TransactionError};
use crate::exchange::memory::{Accepted, Belief, fingerprint};
use crate::exchange::visit::{LineFrameKind, Progress, Ticket, Visit};
use crate::protocol::dtu::strip_candidates;
use crate::protocol::{Finding, Request, Verdict};
use std::ops::Range;
use std::time::{Duration, Instant};

impl Line {
    /// Looks for the answer in the window.
    pub(super) fn examine(&mut self, now: Moment, heartbeats: &[Vec<u8>]) {
        while let State::Asking(asking) = &self.state {
            let (echoed, timeout) = (asking.echoed, asking.timeout);
            let Some(visit) = self.queue.get(asking.ticket) else {
                return;
            };
            let Some(request) = visit.question() else { return };
            let protocol = request.protocol().name();
            let found = match request.find(&self.window) {
                Finding::Frame { span, verdict } => {
                    if is_reply(verdict) && tainted(&self.window, &span, heartbeats) {
                        match stripped(request, &self.window, heartbeats, self.window.get(span)) {
                            Some(whole) => Some(whole),
                            None => return self.settle(now),
                        }
                    } else {
                        Some(Found::take(&mut self.window, &span, verdict))
                    }
                }
                Finding::NeedMore { .. } => stripped(request, &self.window, heartbeats, None),
            };
            let Some(found) = found else { return };
            self.change(|asking| asking.settle_at = None);
            self.sift(now, found.before);
            self.window = found.after;
            let bytes = found.frame;
            match found.verdict {
                Verdict::Echo if !echoed => self.change(|asking| asking.echoed = true),
                Verdict::Answer => self.fits(now, bytes, None),
                Verdict::Refused(code) => self.fits(now, bytes, Some(code)),
                Verdict::Echo | Verdict::Foreign => self.stray(now, bytes, protocol, timeout),
            }
        }
    }

    /// The window holds a reply with a heartbeat's bytes in it: true data, or a heartbeat inside a longer reply whose
    /// check sum happens to fit (1 in 65,536). The rest of such a reply is about to come, so it gets a moment.
    fn settle(&mut self, now: Moment) {
        self.change(|asking| {
            let at = (now.on + REST_OF_REPLY).min(asking.until);
            asking.settle_at.get_or_insert(at);
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Asking)) {
        if let State::Asking(asking) = &mut self.state {
            change(asking);
        }
    }

    /// A frame that fits the question came.
    fn fits(&mut self, now: Moment, bytes: Vec<u8>, refused: Option<u8>) {
        let State::Asking(asking) = &mut self.state else { return };
        let Some(visit) = self.queue.get(asking.ticket) else {
            return;
        };
        let Some(request) = visit.question() else { return };
        let (question, frame) = (asking.question, fingerprint(&bytes));
        let mut belief = self.memory.judge(self.heard_since, visit.transaction, question, frame);
        if refused.is_some()
            && self
                .memory
                .owes_kin(self.heard_since, visit.transaction, &request.shape())
        {
            belief = Belief::Doubtful;
        }
        if matches!(belief, Belief::Sure | Belief::Again) {
            return self.believe(now, (bytes, frame), refused, belief == Belief::Sure);
        }
        let timeout = asking.timeout;
        let round_trip = self.stats.round_trip.unwrap_or(timeout);
        asking.until = asking.until.min(now.on + (round_trip * 4).max(SETTLE_MIN));
        asking.disturbed = true;
        asking.doubt = Some(frame);
        self.memory.doubted(now.on, self.heard_since, frame, timeout);
        self.stats.strays += 1;
        let protocol = request.protocol().name();
        self.keep(now, LineFrameKind::Stray, protocol, &bytes);
    }

    /// The answer (with its fingerprint) is taken. `paid`: it pays the attempt; one that may be a repeat does not.
    fn believe(&mut self, now: Moment, (bytes, frame): (Vec<u8>, u64), refused: Option<u8>, paid: bool) {
        let State::Asking(asking) = std::mem::replace(&mut self.state, State::Free) else {
            return;
        };
        let kind = if refused.is_some() {
            LineFrameKind::Refusal
        } else {
            LineFrameKind::Answer
        };
        let Some(visit) = self.queue.get_mut(asking.ticket) else {
            return;
        };
        let Some(request) = visit.question() else { return };
        let said = asking.asked_bytes.saturating_add(bytes.len());
        let answer = Accepted {
            transaction: visit.transaction,
            question: asking.question,
            frame,
            timeout: asking.timeout,
            paid,
            proven: visit.doubt == Some(frame),
        };
        let protocol = request.protocol().name();
        let length = bytes.len();
        visit.keep(now.at, kind, protocol, FrameBytes::from_slice(&bytes));
        self.memory.answered(now.on, answer);
        self.in_a_row = 0;
        self.breaker.answered();
        self.stats.answers += 1;
        self.free_at = now.on + self.pause;
        self.events.push_back(LineEvent::Answered { bytes: length });
        let clean = visit.written <= 1 && !asking.disturbed;
        let took = now.on.saturating_duration_since(asking.written_at);
        visit.held(took);
        if clean {
            visit.thought(took.saturating_sub(visit.job.line_time(said)));
        }
        let (meter, rest) = (visit.job.meter, visit.job.pause);
        let progress = match refused {
            None => visit.answered(now, bytes, self.settings.answer),
            Some(code) => visit.refused(now, code),
        };
        if progress != Progress::FollowUp {
            self.pinned = None;
        }
        self.rest(now.on, meter, rest);
        if clean {
            self.stats.round_trip = Some(self.stats.round_trip.map_or(took, |old| (old * 7 + took) / 8));
        } else {
            self.hold(now.on);
        }
        if progress == Progress::Over {
            self.finish(asking.ticket);
        }
    }

    /// A question without an answer is out.
    pub(super) fn passed(&mut self, now: Moment, ticket: Ticket) {
        self.close_window(now);
        // a stray among what came asks for quiet
        if let State::Passing { .. } = self.state {
            self.state = State::Free;
        }
        self.pinned = None;
        self.free_at = now.on + self.pause;
        let Some(visit) = self.queue.get_mut(ticket) else {
            return;
        };
        let (meter, rest) = (visit.job.meter, visit.job.pause);
        let over = visit.conclude(now, Ok(Vec::new()));
        self.rest(now.on, meter, rest);
        if over {
            self.finish(ticket);
        }
    }

    /// Whether the answer's deadline is put off because a frame is arriving: the window ends in the beginning of one, and
    /// its last byte came a moment ago.
    pub(super) fn awaits_rest(&mut self, now: Instant) -> bool {
        let State::Asking(asking) = &self.state else {
            return false;
        };
        let rest_by = (self.heard_at + BYTE_GAP).min(asking.at_most);
        let question = self.queue.get(asking.ticket).and_then(Visit::question);
        let begun = question.is_some_and(|request| match request.find(&self.window) {
            Finding::NeedMore { noise } => noise < self.window.len(),
            Finding::Frame { .. } => false,
        });
        // a frame in doubt has shortened the wait on purpose
        let late = now >= rest_by || !begun || asking.doubt.is_some();
        if !late {
            self.change(|asking| asking.until = rest_by);
        }
        !late
    }

    /// The wait is over, unless the rest of a frame is on its way.
    pub(super) fn time_out_unless_arriving(&mut self, now: Moment) {
        if !self.awaits_rest(now.on) {
            self.time_out(now);
        }
    }

    /// Nothing believable came in time.
    pub(super) fn time_out(&mut self, now: Moment) {
        self.close_window(now);
        let State::Asking(asking) = &self.state else { return };
        let (ticket, doubt) = (asking.ticket, asking.doubt);
        let held = now.on.saturating_duration_since(asking.written_at);
        self.hold(now.on);
        let Some(visit) = self.queue.get_mut(ticket) else {
            return;
        };
        visit.held(held);
        if let Some(frame) = doubt
            && visit.doubts < DOUBTS_MAX
            && visit.job.effect.is_none()
        {
            // not the meter's fault: asked again when the frame is in doubt no more
            visit.doubts += 1;
            visit.doubt = Some(frame);
            self.doubting = true;
            self.pinned = None;
            return;
        }
        visit.fail();
        // a search asks many who are not there; that says nothing about the line
        let searching = visit.job.priority == Priority::Discovery;
        if self.in_a_row == 0 {
            self.heard_in_row = false;
        }
        self.in_a_row = self.in_a_row.saturating_add(u32::from(!searching));
        // a peer that speaks lives, and another socket would not wake its meters
        if !searching && self.in_a_row == self.settings.dead_timeouts.max(1) && !self.heard_in_row {
            self.events.push_back(LineEvent::Dead);
        } else if self.in_a_row >= self.settings.dead_timeouts.max(1) {
            self.in_a_row = 0;
        }
        if !visit.is_tried(now.on) {
            return;
        }
        self.pinned = None;
        self.stats.timeouts += 1;
        let (meter, rest) = (visit.job.meter, visit.job.pause);
        let over = visit.conclude(now, Err(TransactionError::Timeout));
        let silent = !visit.is_answered();
        self.rest(now.on, meter, rest);
        if over {
            self.finish(ticket);
        }
        if silent && !searching {
            self.was_silent(now, meter);
        }
    }

    /// The window's time is over: what it still holds is strays and noise.
    pub(super) fn close_window(&mut self, now: Moment) {
        self.extract(now, true, &[]);
        let noise = std::mem::take(&mut self.window);
        self.noise(now, noise);
    }

    /// Takes whole frames out of bytes that nobody asked for.
    pub(super) fn extract(&mut self, now: Moment, last: bool, heartbeats: &[Vec<u8>]) {
        while !self.window.is_empty() {
            let Some((found, protocol, timeout)) = self.unasked(last, heartbeats) else {
                return;
            };
            self.window = found.after;
            self.noise(now, found.before);
            self.stray(now, found.frame, protocol, timeout);
        }
        self.window = Vec::new();
    }

    /// The first frame in the window, of any protocol of the line; heartbeats taken out where they stand inside.
    fn unasked(&self, last: bool, heartbeats: &[Vec<u8>]) -> Option<(Found, &'static str, Duration)> {
        if let Some(heard) = self.tongues.first_frame(&self.window, last) {
            let found = Found::cut(&self.window, &heard.span, heard.verdict);
            return Some((found, heard.protocol.name(), heard.timeout));
        }
        self.tongues.questions().find_map(|(question, timeout)| {
            let found = stripped(question, &self.window, heartbeats, None)?;
            Some((found, question.protocol().name(), timeout))
        })
    }

    /// Ends what came unasked.
    pub(super) fn flush(&mut self, now: Moment) {
        if !self.window.is_empty() {
            self.close_window(now);
        }
        self.memory.sweep(now.on);
        self.resting.retain(|(_, until)| *until > now.on);
    }

    /// Keeps the window within its bound.
    pub(super) fn trim(&mut self, now: Moment) {
        let over = self.window.len().saturating_sub(WINDOW_MAX);
        if over > 0 {
            let noise = self.window.drain(..over).collect();
            self.noise(now, noise);
        }
    }
}

/// A frame and what stood around it.
struct Found {
    before: Vec<u8>,
    frame: Vec<u8>,
    after: Vec<u8>,
    verdict: Verdict,
}

/// Whether it is the meter's word on the question.
fn is_reply(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Answer | Verdict::Refused(_))
}

impl Found {
    /// Cuts it out of a window that gets what is left; a frame that stands alone in it, as most do, is not copied.
    fn take(window: &mut Vec<u8>, span: &Range<usize>, verdict: Verdict) -> Self {
        if *span != (0..window.len()) {
            return Self::cut(window, span, verdict);
        }
        Self {
            before: Vec::new(),
            frame: std::mem::take(window),
            after: Vec::new(),
            verdict,
        }
    }

    fn cut(bytes: &[u8], span: &Range<usize>, verdict: Verdict) -> Self {
        Self {
            before: bytes.get(..span.start).unwrap_or_default().to_vec(),
            frame: bytes.get(span.clone()).unwrap_or_default().to_vec(),
            after: bytes.get(span.end..).unwrap_or_default().to_vec(),
            verdict,
        }
    }
}

/// The answer or refusal that stands in the window once heartbeats are taken out, with what stands before and after; not
/// one that is `known` already.
fn stripped(request: &Request, window: &[u8], heartbeats: &[Vec<u8>], known: Option<&[u8]>) -> Option<Found> {
    if heartbeats.is_empty() {
        return None;
    }
    // the first candidate is the window as it is, which was looked at
    let candidates = strip_candidates(window, heartbeats).into_iter().skip(1);
    candidates
        .map(|candidate| candidate.bytes)
        .find_map(|bytes| match request.find(&bytes) {
            Finding::Frame { span, verdict } => Some(Found::cut(&bytes, &span, verdict))
                .filter(|found| is_reply(found.verdict) && known != Some(found.frame.as_slice())),
            Finding::NeedMore { .. } => None,
        })
}

/// Whether a heartbeat, or the beginning of one at the window's end, reaches into the span.
fn tainted(window: &[u8], span: &Range<usize>, heartbeats: &[Vec<u8>]) -> bool {
    heartbeats
        .iter()
        .filter(|heartbeat| !heartbeat.is_empty())
        .any(|heartbeat| {
            let first = span.start.saturating_sub(heartbeat.len() - 1);
            (first..span.end).any(|at| {
                let there = window.get(at..).unwrap_or_default();
                let whole = there.starts_with(heartbeat);
                let begun = there.len() < heartbeat.len() && heartbeat.starts_with(there);
                whole || begun
            })
        })
}

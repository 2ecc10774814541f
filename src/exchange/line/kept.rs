//! What is kept of what happens: strays, noise, rests and quiet times.

use super::{GUARDS_MAX, Line, LineEvent, LineSettings, State};
use crate::base::bytes::FrameBytes;
use crate::base::ids::MeterId;
use crate::exchange::Moment;
use crate::exchange::visit::{LineFrame, LineFrameKind, Ticket};
use std::time::{Duration, Instant};

/// Meters whose lateness is remembered.
const LATE_MAX: usize = 64;

impl Line {
    /// A valid frame that answers nothing now; `timeout` is that of its protocol's questions.
    pub(super) fn stray(&mut self, now: Moment, bytes: Vec<u8>, protocol: &'static str, timeout: Duration) {
        self.stats.strays += 1;
        self.in_a_row = 0;
        let news = self.memory.stray(now.on, self.heard_since, &bytes, timeout);
        if let Some(late_by) = news.late_by {
            self.lateness = (self.lateness * 7 / 8).max(late_by);
            if let Some(meter) = news.meter {
                self.was_late(meter, late_by);
            }
        }
        self.keep(now, LineFrameKind::Stray, protocol, &bytes);
        match &mut self.state {
            State::Free => self.hold(now.on),
            State::Asking(asking) => asking.disturbed = true,
            State::Writing { .. } | State::Passing { .. } | State::Holding { .. } => {}
        }
    }

    /// Bytes that are no frame of the present question: frames of the line's other protocols are strays, the rest noise.
    pub(super) fn sift(&mut self, now: Moment, mut bytes: Vec<u8>) {
        while let Some(heard) = self.tongues.first_frame(&bytes, true) {
            let after = bytes.split_off(heard.span.end.min(bytes.len()));
            let frame = bytes.split_off(heard.span.start.min(bytes.len()));
            self.noise(now, bytes);
            self.stray(now, frame, heard.protocol.name(), heard.timeout);
            bytes = after;
        }
        self.noise(now, bytes);
    }

    pub(super) fn noise(&mut self, now: Moment, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.memory.garbled(now.on);
            self.events.push_back(LineEvent::Noise(bytes.clone()));
            self.keep(now, LineFrameKind::Noise, "", &bytes);
        }
    }

    pub(super) fn keep(&mut self, now: Moment, kind: LineFrameKind, protocol: &'static str, bytes: &[u8]) {
        let bytes = FrameBytes::from_slice(bytes);
        let running = self.running();
        match running.and_then(|ticket| self.queue.get_mut(ticket)) {
            Some(visit) => visit.keep(now.at, kind, protocol, bytes),
            None => self.events.push_back(LineEvent::Unasked(LineFrame {
                at: now.at,
                meter: None,
                poll: None,
                kind,
                protocol,
                bytes,
                turn: None,
            })),
        }
    }

    pub(super) fn rest(&mut self, now: Instant, meter: MeterId, pause: Duration) {
        self.resting
            .retain(|(resting, until)| *resting != meter && *until > now);
        if !pause.is_zero() {
            self.resting.push((meter, now + pause));
        }
    }

    pub(super) fn hold(&mut self, now: Instant) {
        let guard = guard_of(&self.settings, self.lateness);
        self.state = State::Holding {
            quiet_at: now + guard,
            at_most: now + guard * GUARDS_MAX,
        };
    }

    /// Remembers for the meter's next visit that its answer came late.
    fn was_late(&mut self, meter: MeterId, by: Duration) {
        if let Some((_, most)) = self.late.iter_mut().find(|(known, _)| *known == meter) {
            *most = by.max(*most);
        } else if self.late.len() < LATE_MAX {
            self.late.push((meter, by));
        }
    }

    /// The line is silent: a visit ends unasked.
    pub(super) fn give_up(&mut self, now: Moment, ticket: Ticket) {
        if let Some(visit) = self.queue.get_mut(ticket) {
            visit.give_up(now);
        }
        self.finish(ticket);
    }

    /// A visit brought no answer at all: the line's breaker counts it, and opens.
    pub(super) fn was_silent(&mut self, now: Moment, meter: MeterId) {
        if !self.breaker.silent(now.on, meter) {
            return;
        }
        let waiting = self.queue.iter().filter(|visit| !visit.has_begun());
        let barred: Vec<Ticket> = waiting
            .filter(|visit| !self.breaker.lets(now.on, visit.job.priority))
            .map(|visit| visit.ticket)
            .collect();
        for ticket in barred {
            self.give_up(now, ticket);
        }
    }

    pub(super) fn finish(&mut self, ticket: Ticket) {
        if self.pinned == Some(ticket) {
            self.pinned = None;
        }
        self.doubting = self.doubting && self.queue.iter().any(|visit| visit.doubt.is_some());
        if let Some(visit) = self.queue.remove(ticket) {
            let meter = visit.job.meter;
            let mut outcome = visit.finish();
            if let Some(place) = self.late.iter().position(|(late, _)| *late == meter) {
                outcome.late_by = Some(self.late.swap_remove(place).1);
            }
            self.events.push_back(LineEvent::Done { ticket, outcome });
        }
    }
}

/// The quiet time: a quarter more than the lateness seen, within its bounds.
pub(super) fn guard_of(settings: &LineSettings, lateness: Duration) -> Duration {
    (lateness + lateness / 4).clamp(settings.guard, settings.guard_max.max(settings.guard))
}

//! Whose turn it is: who may be asked, and when.

use super::{Line, State};
use crate::exchange::visit::{Ticket, Visit};
use crate::protocol::Request;
use std::time::Instant;

impl Line {
    pub(super) fn running(&self) -> Option<Ticket> {
        match &self.state {
            State::Writing { ticket, .. } | State::Passing { ticket, .. } => Some(*ticket),
            State::Asking(asking) => Some(asking.ticket),
            _ => None,
        }
    }

    /// When a visit may be asked.
    pub(super) fn asks_at(&self, now: Instant, visit: &Visit) -> Instant {
        let rest = self
            .resting
            .iter()
            .find(|(meter, _)| *meter == visit.job.meter)
            .map(|(_, until)| *until);
        let owed = visit
            .question()
            .and_then(|request| self.memory.asks_at(now, visit.transaction, request));
        let doubt = visit.doubt.and_then(|frame| self.memory.doubted_until(now, frame));
        [Some(visit.not_before), Some(self.free_at), rest, owed, doubt]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(now)
    }

    /// Whether a visit may get the line at all: not amidst another's transaction, and not where its answer would renew
    /// the doubt that another question of its shape waits to be over.
    pub(super) fn is_in_turn(&self, visit: &Visit) -> bool {
        if let Some(pinned) = self.pinned {
            return pinned == visit.ticket;
        }
        if !self.doubting {
            return true;
        }
        // its shape is asked for only where there is doubt, which is seldom
        let shape = |visit: &Visit| visit.question().map(Request::shape);
        self.queue
            .iter()
            .filter(|other| other.doubt.is_some() && other.ticket != visit.ticket)
            .filter(|other| visit.doubt.is_none() || other.ticket < visit.ticket)
            .all(|other| shape(other) != shape(visit))
    }

    pub(super) fn choose(&self, now: Instant) -> Option<Ticket> {
        if !matches!(self.state, State::Free) || self.queue.is_empty() {
            return None;
        }
        self.queue
            .pick(|visit| !visit.job.is_over(now) && self.asks_at(now, visit) <= now && self.is_in_turn(visit))
    }

    pub(super) fn next_ask(&self, now: Instant) -> Option<Instant> {
        self.queue
            .iter()
            .filter(|visit| self.is_in_turn(visit))
            .map(|visit| self.asks_at(now, visit))
            .min()
    }
}

//! The open slots of one instant: one poll serves them, and each ends by itself.

use super::order::Failure;
use crate::base::ids::ScheduleId;
use crate::domain::device::SlotPriority;
use crate::domain::quantity::Quantity;
use crate::domain::slot::MissReason;
use crate::domain::slot::plan::DueSlot;
use crate::exchange::job::Priority;
use chrono::{DateTime, TimeDelta, Utc};

/// An instant some seconds later; saturating.
pub(super) fn later(at: DateTime<Utc>, seconds: u32) -> DateTime<Utc> {
    at.checked_add_signed(TimeDelta::seconds(i64::from(seconds)))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The last instant at which a read of this slot may begin and be `actual`.
pub(super) fn window_end(slot: &DueSlot) -> DateTime<Utc> {
    later(slot.due_at, slot.rule.window_s)
}

/// How long after the due time this meter's poll waits, so that a minute mark is no stampede. At most three quarters of
/// the window, so that the line has time left.
pub(super) fn spread<'a>(slots: impl Iterator<Item = &'a DueSlot>, hash: u32) -> u32 {
    slots
        .map(|slot| slot.rule.spread_s.min(slot.rule.window_s / 4 * 3))
        .min()
        .map_or(0, |spread_s| hash % (spread_s.saturating_add(1)))
}

/// A slot of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) slot: DueSlot,
    /// It has its first ending.
    pub(super) ended: bool,
}

/// Slots of one instant, with what was tried for them.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) due_at: DateTime<Utc>,
    pub(super) members: Vec<Member>,
    /// Not polled before.
    pub(super) not_before: DateTime<Utc>,
    /// Not tried (again) before.
    pub(super) next_try: DateTime<Utc>,
    /// Polls that were sent and failed, sessions lost under them aside.
    pub(super) tries: u16,
    /// Attempts on the line.
    pub(super) attempts: u16,
    pub(super) failure: Option<Failure>,
    /// There was a session when it could have been polled.
    pub(super) seen_online: bool,
    /// The breaker held it back.
    pub(super) gated: bool,
}

impl Group {
    pub(super) fn new(due_at: DateTime<Utc>, members: Vec<Member>, hash: u32) -> Self {
        let open = members.iter().filter(|member| !member.ended);
        let not_before = later(due_at, spread(open.map(|member| &member.slot), hash));
        Self {
            due_at,
            members,
            not_before,
            next_try: not_before,
            tries: 0,
            attempts: 0,
            failure: None,
            seen_online: false,
            gated: false,
        }
    }

    /// More slots of the same instant. Their spread may be shorter.
    pub(super) fn join(&mut self, members: Vec<Member>, hash: u32) {
        let other = Self::new(self.due_at, members, hash);
        if !other.is_over() && other.not_before < self.not_before {
            self.not_before = other.not_before;
            if self.failure.is_none() {
                self.next_try = other.not_before;
            }
        }
        self.members.extend(other.members);
    }

    /// A group of slots that have ended, to be read late from `next_try` on.
    pub(super) fn to_catch_up(slot: DueSlot, next_try: DateTime<Utc>) -> Self {
        let mut group = Self::new(slot.due_at, vec![Member { slot, ended: true }], 0);
        (group.not_before, group.next_try) = (next_try, next_try);
        group
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &DueSlot> {
        self.members
            .iter()
            .filter(|member| !member.ended)
            .map(|member| &member.slot)
    }

    pub(super) fn is_over(&self) -> bool {
        self.members.iter().all(|member| member.ended)
    }

    /// When the first open slot ends unless it is read.
    pub(super) fn first_end(&self) -> Option<DateTime<Utc>> {
        self.open().map(window_end).chain(self.retries_end()).min()
    }

    /// Once the meter has failed, its slots end with the retry deadline.
    pub(super) fn retries_end(&self) -> Option<DateTime<Utc>> {
        let line_was_lost = self
            .failure
            .as_ref()
            .is_none_or(|failure| lost_the_line(failure.reason));
        if line_was_lost { None } else { self.retry_end() }
    }

    /// When the last open window ends.
    pub(super) fn last_end(&self) -> Option<DateTime<Utc>> {
        self.open().map(window_end).max()
    }

    /// When the last retry deadline of an open slot ends.
    fn retry_end(&self) -> Option<DateTime<Utc>> {
        self.open()
            .map(|slot| later(slot.due_at, slot.rule.retry.deadline_s))
            .max()
    }

    /// No attempt begins at or after this instant: the retry deadline, and once that is over (the line was away till
    /// now) the window.
    pub(super) fn deadline(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.retry_end().filter(|end| *end > now).or_else(|| self.last_end())
    }

    /// When a poll that failed for this reason may be tried again; none when it may not. `tries` counts it already.
    pub(super) fn retry_at(&self, now: DateTime<Utc>, reason: MissReason) -> Option<DateTime<Utc>> {
        let backoff_s = self.open().map(|slot| slot.rule.retry.backoff_s).min()?;
        if self.budget().is_some_and(|budget| self.attempts >= budget) {
            return None;
        }
        let (wait_s, end) = if lost_the_line(reason) {
            // not the meter's fault: it counts as soon as the line is back
            (1, self.last_end()?)
        } else {
            let doubled = u32::from(self.tries.saturating_sub(1)).min(16);
            (backoff_s.saturating_mul(1 << doubled), self.retry_end()?)
        };
        Some(later(now, wait_s)).filter(|at| *at < end)
    }

    /// Attempts on the line that its open slots may cost; none: one of them has no bound.
    fn budget(&self) -> Option<u16> {
        self.open()
            .map(|slot| slot.rule.retry.budget)
            .try_fold(0, |most, budget| budget.map(|budget| budget.max(most)))
    }

    /// The first place in the line's queue that one of its open slots (of all, when none is open) has.
    pub(super) fn priority(&self) -> Priority {
        let over = self.is_over();
        let members = self.members.iter().filter(|member| over || !member.ended);
        match members.map(|member| member.slot.rule.priority).min() {
            Some(SlotPriority::Settlement) => Priority::Settlement,
            Some(SlotPriority::Scheduled) | None => Priority::Scheduled,
            Some(SlotPriority::BackFill) => Priority::BackFill,
        }
    }

    /// Whether it has an open slot of this schedule.
    pub(super) fn awaits(&self, schedule: ScheduleId) -> bool {
        self.open().any(|slot| slot.schedule == schedule)
    }

    /// The union of what open slots want (all slots of a catch-up), sorted; empty: all of the model.
    pub(super) fn wanted(&self) -> Vec<Quantity> {
        let over = self.is_over();
        let mut union = Vec::new();
        for member in self.members.iter().filter(|member| over || !member.ended) {
            if member.slot.rule.quantities.is_empty() {
                return Vec::new();
            }
            union.extend_from_slice(&member.slot.rule.quantities);
        }
        union.sort_unstable();
        union.dedup();
        union
    }

    /// The most attempts per transaction that one of its slots allows.
    pub(super) fn attempts_per_transaction(&self) -> u8 {
        self.members
            .iter()
            .map(|member| member.slot.rule.retry.attempts)
            .max()
            .unwrap_or(1)
    }
}

/// Whether the line went away, rather than the meter failing.
pub(super) fn lost_the_line(reason: MissReason) -> bool {
    matches!(reason, MissReason::SessionLost | MissReason::DtuOffline)
}

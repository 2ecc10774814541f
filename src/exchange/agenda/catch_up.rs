//! Missed slots that are read late: the newest of each schedule, when the way to the meter is free again.

use super::Agenda;
use super::group::{Group, later, lost_the_line};
use crate::domain::device::MissedRun;
use crate::domain::slot::MissReason;
use crate::domain::slot::plan::DueSlot;
use chrono::{DateTime, Utc};

/// A late read is worth trying for so long, seconds.
pub(super) const DEADLINE_S: u32 = 300;

/// Late reads begin spread over so many seconds after the line or the server is back: no stampede.
pub(super) const SPREAD_S: u32 = 60;

/// A late read is tried so often.
pub(super) const TRIES_MAX: u16 = 3;

/// Wait before a late read is tried again, doubled each time, seconds.
pub(super) const BACKOFF_S: u32 = 60;

impl Agenda {
    /// Keeps the slot for a late read, if its policy asks for it and no newer one of its schedule waits.
    pub(super) fn remember_missed(&mut self, slot: DueSlot) {
        if slot.rule.missed_run == MissedRun::Skip {
            return;
        }
        let schedule = slot.schedule;
        let newer = |group: &Group| {
            let same = group.members.iter().any(|member| member.slot.schedule == schedule);
            same && group.due_at >= slot.due_at
        };
        let under_way = self
            .running
            .as_ref()
            .is_some_and(|running| running.catch_up && newer(&running.group));
        if under_way || self.missed.iter().any(newer) {
            return;
        }
        for group in &mut self.missed {
            group.members.retain(|member| member.slot.schedule != schedule);
        }
        self.missed.retain(|group| !group.members.is_empty());
        // a line that is gone sets the time anew when it comes back
        let at = later(self.now, self.hash % (SPREAD_S + 1));
        match self.missed.iter_mut().find(|group| group.due_at == slot.due_at) {
            Some(group) => group.members.push(super::group::Member { slot, ended: true }),
            None => self.missed.push(Group::to_catch_up(slot, at)),
        }
    }

    /// The DTU has a session again.
    pub(super) fn line_is_back(&mut self, now: DateTime<Utc>) {
        let at = later(now, self.hash % (SPREAD_S + 1));
        for group in &mut self.missed {
            group.next_try = group.next_try.max(at);
        }
        for group in self.fillings() {
            group.next_try = group.next_try.max(at);
        }
    }

    /// A late read that brought nothing. Its slot has its ending already, so giving up loses no more.
    pub(super) fn catch_up_failed(
        &mut self,
        now: DateTime<Utc>,
        mut group: Group,
        reason: MissReason,
    ) -> Option<DateTime<Utc>> {
        if group.tries >= TRIES_MAX {
            return None;
        }
        let wait_s = if lost_the_line(reason) {
            SPREAD_S
        } else {
            BACKOFF_S << group.tries.saturating_sub(1).min(TRIES_MAX)
        };
        group.next_try = later(now, wait_s);
        let at = group.next_try;
        // a newer slot of the schedule may have been missed meanwhile
        group.members.retain(|member| {
            !self.missed.iter().any(|other| {
                other.due_at > group.due_at
                    && other
                        .members
                        .iter()
                        .any(|newer| newer.slot.schedule == member.slot.schedule)
            })
        });
        if group.members.is_empty() {
            return None;
        }
        self.missed.push(group);
        Some(at)
    }
}

//! A slot comes due while an earlier one of its schedule is being read: one of them gives way.

use super::group::{Group, Member};
use super::{Agenda, Ended};
use crate::base::ids::ScheduleId;
use crate::domain::device::Overlap;
use crate::domain::slot::MissReason;
use crate::domain::slot::plan::SlotKey;
use chrono::{DateTime, Utc};

impl Agenda {
    /// Ends what has no room beside the polls that have begun: the new slots themselves, which are taken out of
    /// `members`, or those that waited. Slots that wait for a line that is away, or for their spread, are in nobody's
    /// way. What gives way is not turned late by a reading that another schedule brings for its instant.
    pub(super) fn make_room(&mut self, members: &mut Vec<Member>, now: DateTime<Utc>, ended: &mut Ended) {
        members.retain(|member| {
            let schedule = member.slot.schedule;
            if member.ended || !self.is_being_read(schedule) {
                return true;
            }
            if member.slot.rule.overlap == Overlap::Skip {
                ended
                    .endings
                    .push(self.missing(member.slot.key(), MissReason::Overlap, None, 0, now));
                return false;
            }
            for key in self.drop_waiting(schedule, member.slot.due_at) {
                ended.endings.push(self.missing(key, MissReason::Overlap, None, 0, now));
            }
            true
        });
    }

    /// Whether a poll for the schedule has begun that can still bring its reading.
    fn is_being_read(&self, schedule: ScheduleId) -> bool {
        let running = self.running.as_ref().filter(|running| !running.catch_up);
        running.is_some_and(|running| running.group.awaits(schedule))
            || self.open.iter().any(|group| has_begun(group) && group.awaits(schedule))
    }

    /// Takes out the schedule's slots due before `newer` whose poll has not begun.
    fn drop_waiting(&mut self, schedule: ScheduleId, newer: DateTime<Utc>) -> Vec<SlotKey> {
        let mut dropped = Vec::new();
        for group in self
            .open
            .iter_mut()
            .filter(|group| !has_begun(group) && group.due_at < newer)
        {
            group.members.retain(|member| {
                let gives_way = !member.ended && member.slot.schedule == schedule;
                if gives_way {
                    dropped.push(member.slot.key());
                }
                !gives_way
            });
        }
        self.open.retain(|group| !group.is_over());
        dropped
    }
}

/// A poll of it was sent, and the line did not go away under it.
fn has_begun(group: &Group) -> bool {
    group.tries > 0
}

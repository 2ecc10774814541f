//! After a restart and after a change of schedules: which slots are this agenda's to end.

use super::{Agenda, Ended, Failure, LOOK_BACK_S};
use crate::base::ids::{AccountId, MeterId, ScheduleId};
use crate::domain::slot::MissReason;
use crate::domain::slot::plan::{DuePoll, SlotKey, SlotPlan};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashSet;

/// What a previous process has ended.
#[derive(Debug)]
pub(super) struct Recovery {
    until: DateTime<Utc>,
    /// No schedule: a scheduled reading, which ends all slots of its instant.
    ended: HashSet<(DateTime<Utc>, Option<ScheduleId>)>,
}

impl Recovery {
    /// Leaves what has no ending yet.
    pub(super) fn drop_ended(&self, poll: &mut DuePoll) {
        if self.ended.contains(&(poll.due_at, None)) {
            poll.slots.clear();
        }
        poll.slots
            .retain(|slot| !self.ended.contains(&(slot.due_at, Some(slot.schedule))));
    }

    /// Whether all that a previous process can have ended has been taken.
    pub(super) fn is_over(&self, next: Option<&DuePoll>) -> bool {
        next.is_none_or(|poll| poll.due_at > self.until)
    }
}

impl Agenda {
    /// The agenda of a meter after a restart: it answers for every slot due at or after the durable `watermark` that is
    /// not in `ended` (due time, and the schedule of an ending with a row of its own; none for a scheduled reading,
    /// which ends all slots of its instant). Waking ends those whose window is over as missing with
    /// [`MissReason::ServerDown`] and polls the others. What the previous process had made durable but not yet written
    /// to the database must be in `ended` too: drain the spool first.
    pub fn recover(
        account: AccountId,
        meter: MeterId,
        plan: SlotPlan,
        now: DateTime<Utc>,
        watermark: DateTime<Utc>,
        ended: impl IntoIterator<Item = (DateTime<Utc>, Option<ScheduleId>)>,
    ) -> Self {
        let mut agenda = Self::new(account, meter, plan, watermark);
        let ended: HashSet<_> = ended.into_iter().filter(|(due_at, _)| *due_at >= watermark).collect();
        // with a clock that was set back, what was ended can lie ahead of now
        let until = ended.iter().map(|(due_at, _)| *due_at).fold(now, DateTime::max);
        if !ended.is_empty() {
            agenda.recovery = Some(Box::new(Recovery { until, ended }));
        }
        agenda
    }

    /// The agenda of a meter that appears while the server runs. A new one answers for its first slot on, for a
    /// reload is always a little late; one whose schedules are older than [`LOOK_BACK_S`] was another agenda's till now
    /// (it moved to another DTU), which has ended what was due before ([`Agenda::close`]).
    pub fn appear(account: AccountId, meter: MeterId, plan: SlotPlan, now: DateTime<Utc>) -> Self {
        let behind = now
            .checked_sub_signed(TimeDelta::seconds(i64::from(LOOK_BACK_S)))
            .unwrap_or(now);
        let since = plan.earliest().filter(|earliest| *earliest >= behind).unwrap_or(now);
        Self::new(account, meter, plan, since)
    }

    /// The meter leaves this agenda: deleted, or moved to another DTU. All that is due before `until` ends, at once, as
    /// missing for its last failure, else for `reason`; an outcome that comes later does not count. Whoever takes the meter
    /// over answers for slots from `until` on; it may lie ahead of now. What was due before is worked off in bounded
    /// pieces: call it until nothing is owed ([`Agenda::owes`]). Make each answer durable.
    pub fn close(&mut self, now: DateTime<Utc>, until: DateTime<Utc>, reason: MissReason) -> Ended {
        let mut ended = Ended::default();
        self.take_while(|due_at| due_at < until, now, false, &mut ended);
        if let Some(running) = self.running.take() {
            self.open.push_back(running.group);
        }
        while let Some(mut group) = self.open.pop_front() {
            if group.due_at < until {
                group.failure.get_or_insert(Failure::of(reason));
                self.end_missing(group, now, |_| true, &mut ended);
            }
        }
        ended.endings.append(&mut self.refused);
        self.refused_retry_at = None;
        self.missed.clear();
        self.forget_fillings();
        if self.next.as_ref().is_none_or(|next| next.due_at >= until) {
            self.plan = SlotPlan::default();
            self.look_ahead();
        }
        self.hand_out(&ended);
        ended
    }

    /// Whether slots due before `until` have no durable ending yet.
    pub fn owes(&self, until: DateTime<Utc>) -> bool {
        self.oldest_open().is_some_and(|due_at| due_at < until)
            || self.next.as_ref().is_some_and(|poll| poll.due_at < until)
    }

    /// The schedules changed. Open slots stay; what the dated history now says was due within the last
    /// [`LOOK_BACK_S`] seconds, and the old one did not, is taken too, because a change is always learned of a little late.
    /// Make the answer durable like any ending. Wake afterwards.
    pub fn replace(&mut self, now: DateTime<Utc>, plan: SlotPlan) -> Ended {
        let mut ended = Ended::default();
        let behind = TimeDelta::seconds(i64::from(LOOK_BACK_S));
        let since = self
            .cursor
            .checked_sub_signed(behind)
            .unwrap_or(self.cursor)
            .max(self.since);
        let to = self
            .cursor
            .checked_add_signed(TimeDelta::nanoseconds(1))
            .unwrap_or(self.cursor);
        let known: HashSet<SlotKey> = self
            .plan
            .due_between(since, to)
            .flat_map(|poll| poll.slots)
            .map(|slot| slot.key())
            .collect();
        let belated: Vec<DuePoll> = plan.due_between(since, to).collect();
        for mut poll in belated {
            poll.slots.retain(|slot| !known.contains(&slot.key()));
            if let Some(recovery) = &self.recovery {
                recovery.drop_ended(&mut poll);
            }
            self.take_belated(poll, now, &known, &mut ended);
        }
        self.plan = plan;
        self.look_ahead();
        self.hand_out(&ended);
        ended
    }

    fn take_belated(&mut self, poll: DuePoll, now: DateTime<Utc>, known: &HashSet<SlotKey>, ended: &mut Ended) {
        let is_open = self.open.iter().any(|group| group.due_at == poll.due_at);
        let was_known = known.iter().any(|key| key.due_at == poll.due_at);
        if was_known && !is_open {
            // its instant has been polled: the reading's key is taken
            for slot in &poll.slots {
                ended
                    .endings
                    .push(self.missing(slot.key(), MissReason::Overlap, None, 0, now));
            }
        } else {
            self.open_slots(poll, now, self.online, ended);
        }
    }
}

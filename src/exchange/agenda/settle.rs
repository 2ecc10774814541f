//! What follows from a poll's outcome or from none: readings, misses, and what the disk made of them.

use super::group::{Group, later, lost_the_line, window_end};
use super::order::key_of;
use super::{Agenda, BATCH, Ended, Failure, Got, PollVerdict, REFUSED_RETRY_S, Running, Settlement, UNSAVED_MAX};
use crate::domain::slot::plan::{DueSlot, SlotKey};
use crate::domain::slot::{MissReason, SlotEnding, SlotState};
use chrono::{DateTime, Utc};

impl Agenda {
    /// What became of the poll with this serial. Wake afterwards.
    pub fn outcome(&mut self, now: DateTime<Utc>, serial: u64, verdict: PollVerdict) -> Settlement {
        self.note(now, self.online);
        let Some(mut running) = self.running.take_if(|running| running.serial == serial) else {
            return Settlement::default();
        };
        running.group.attempts = running.group.attempts.saturating_add(verdict.attempts);
        let mut settlement = Settlement::default();
        if verdict.got == Got::Nothing {
            let failure = verdict.failure.unwrap_or(Failure::of(MissReason::Internal));
            settlement.breaker_opened = self.tell_breaker(now, failure.reason);
            settlement.retry_at = self.failed(now, running, failure, &mut settlement.ended);
        } else {
            self.breaker.answered();
            settlement.store = true;
            // the reading's key is taken now: this instant is not read again
            self.missed.retain(|group| group.due_at != running.group.due_at);
            self.read(now, &running.group, &verdict, &mut settlement.ended);
        }
        self.hand_out(&settlement.ended);
        settlement
    }

    /// These endings (and the reading with them) are durable. A miss of the same slot that the disk refused before is
    /// superseded: written now, it would stand behind what came later.
    pub fn saved(&mut self, ended: &Ended) {
        self.arrived(ended);
        if !self.refused.is_empty() {
            self.refused
                .retain(|refused| !ended.keys().any(|key| key == key_of(refused)));
        }
    }

    /// These are not on their way to the disk any more.
    fn arrived(&mut self, ended: &Ended) {
        for key in ended.keys() {
            if let Some(place) = self.unsaved.iter().position(|other| *other == key) {
                self.unsaved.swap_remove(place);
            }
        }
    }

    /// These endings (and the reading with them) could not be made durable. Their slots will end as missing with
    /// [`MissReason::StorageRefused`], misses with their own reason, as soon as that can be written. Later versions are
    /// dropped.
    pub fn refused(&mut self, now: DateTime<Utc>, ended: Ended) {
        self.arrived(&ended);
        let lost = Some(MissReason::StorageRefused);
        for key in ended.by_reading {
            let ending = self.missing(key, MissReason::StorageRefused, None, 0, now);
            self.refused.push(ending);
        }
        for mut ending in ended.endings {
            if ended.again.contains(&key_of(&ending)) {
                continue;
            }
            if ending.state == SlotState::Late || ending.reason == Some(MissReason::Partial) {
                (ending.state, ending.reason, ending.detail) = (SlotState::Missing, lost, None);
            }
            self.refused.push(ending);
        }
        while self.refused.len() > BATCH {
            let oldest = self.refused.remove(0);
            self.lower_floor(oldest.due_at);
        }
        self.refused_retry_at = (!self.refused.is_empty()).then(|| later(now, REFUSED_RETRY_S));
    }

    pub(super) fn hand_out_refused(&mut self, now: DateTime<Utc>, ended: &mut Ended) {
        if self.refused_retry_at.is_some_and(|at| now >= at) {
            // a later version that is on its way may make a refused one superfluous
            let unsaved = &self.unsaved;
            let (wait, go) = std::mem::take(&mut self.refused)
                .into_iter()
                .partition(|refused| unsaved.contains(&key_of(refused)));
            self.refused = wait;
            ended.endings.extend::<Vec<SlotEnding>>(go);
            self.refused_retry_at = (!self.refused.is_empty()).then(|| later(now, REFUSED_RETRY_S));
        }
    }

    /// Remembers what is on its way to the disk. Bounded, should the actor never say what became of it.
    pub(super) fn hand_out(&mut self, ended: &Ended) {
        self.unsaved.extend(ended.keys());
        while self.unsaved.len() > UNSAVED_MAX {
            let oldest = self.unsaved.remove(0);
            self.lower_floor(oldest.due_at);
        }
    }

    fn lower_floor(&mut self, due_at: DateTime<Utc>) {
        self.floor = Some(self.floor.map_or(due_at, |floor| floor.min(due_at)));
    }

    /// True when the breaker opened.
    pub(super) fn tell_breaker(&mut self, now: DateTime<Utc>, reason: MissReason) -> bool {
        match reason {
            MissReason::Timeout => self.breaker.silent(now),
            MissReason::Exception | MissReason::Undecodable | MissReason::Partial => {
                self.breaker.answered();
                false
            }
            _ => false,
        }
    }

    /// A poll that brought nothing: tried again, or its slots are missing.
    pub(super) fn failed(
        &mut self,
        now: DateTime<Utc>,
        running: Running,
        failure: Failure,
        ended: &mut Ended,
    ) -> Option<DateTime<Utc>> {
        let (mut group, reason) = (running.group, failure.reason);
        if let Some(sought) = running.sought {
            return self.past_failed(now, group, sought, reason);
        }
        if !lost_the_line(reason) {
            group.tries = group.tries.saturating_add(1);
        }
        group.failure = Some(failure);
        if running.catch_up {
            return self.catch_up_failed(now, group, reason);
        }
        match group.retry_at(now, reason) {
            Some(at) => {
                group.next_try = at;
                self.put_back(group);
                Some(at)
            }
            None => {
                self.end_missing(group, now, |_| true, ended);
                None
            }
        }
    }

    /// A poll that brought a reading: every slot of it ends.
    pub(super) fn read(&self, now: DateTime<Utc>, group: &Group, verdict: &PollVerdict, ended: &mut Ended) {
        let began_at = verdict.began_at.unwrap_or(now);
        let asked = group.wanted();
        let nothing = Vec::new();
        let missing = match &verdict.got {
            Got::Partly { missing } => missing,
            Got::Everything | Got::Nothing => &nothing,
        };
        let partly = matches!(verdict.got, Got::Partly { .. });
        for member in &group.members {
            let wanted = &member.slot.rule.quantities;
            let came = |quantity| (asked.is_empty() || asked.contains(quantity)) && !missing.contains(quantity);
            let whole = if wanted.is_empty() {
                asked.is_empty() && !partly
            } else {
                wanted.iter().all(came)
            };
            let key = member.slot.key();
            if whole && !member.ended && began_at <= window_end(&member.slot) {
                ended.by_reading.push(key);
            } else if whole {
                let mut late = self.missing(key, MissReason::Partial, None, group.attempts, now);
                (late.state, late.reason) = (SlotState::Late, None);
                ended.endings.push(late);
                if member.ended {
                    ended.again.push(key);
                }
            } else {
                let failure = verdict.failure.clone().unwrap_or(Failure::of(MissReason::Partial));
                let some = wanted.is_empty() || wanted.iter().any(came);
                if member.ended && !some {
                    continue;
                }
                let reason = if some { MissReason::Partial } else { failure.reason };
                ended
                    .endings
                    .push(self.missing(key, reason, failure.detail, group.attempts, now));
                if member.ended {
                    // a late read brought a part: a reading is there now, and the ledger says so
                    ended.again.push(key);
                }
            }
        }
    }

    /// Ends the open slots of a group that `which` picks, and gives the group back.
    pub(super) fn end_missing(
        &mut self,
        mut group: Group,
        now: DateTime<Utc>,
        which: impl Fn(&DueSlot) -> bool,
        ended: &mut Ended,
    ) -> Group {
        let failure = match &group.failure {
            Some(failure) => failure.clone(),
            None => Failure::of(self.why_untried(&group)),
        };
        for member in group
            .members
            .iter_mut()
            .filter(|member| !member.ended && which(&member.slot))
        {
            member.ended = true;
            ended.endings.push(self.missing(
                member.slot.key(),
                failure.reason,
                failure.detail.clone(),
                group.attempts,
                now,
            ));
        }
        // while one of them is open, its own poll can still serve the others
        if group.is_over() {
            for member in &group.members {
                let by_memory = may_be_remembered(failure.reason) && self.remember_for_memory(&member.slot);
                if !by_memory && lost_the_line(failure.reason) {
                    self.remember_missed(member.slot.clone());
                }
            }
        }
        group
    }

    /// Why a group was never polled.
    fn why_untried(&self, group: &Group) -> MissReason {
        if group.gated {
            MissReason::BreakerOpen
        } else if group.seen_online || self.running.is_some() {
            MissReason::Overlap
        } else {
            MissReason::DtuOffline
        }
    }

    pub(super) fn missing(
        &self,
        key: SlotKey,
        reason: MissReason,
        detail: Option<String>,
        attempts: u16,
        now: DateTime<Utc>,
    ) -> SlotEnding {
        SlotEnding {
            account: self.account,
            meter: self.meter,
            schedule: key.schedule,
            due_at: key.due_at,
            state: SlotState::Missing,
            reason: Some(reason),
            detail,
            attempts,
            ended_at: now,
        }
    }
}

/// Whether the meter's memory may have what a live read missed for this reason: nobody asked it, or it did not answer.
fn may_be_remembered(reason: MissReason) -> bool {
    matches!(
        reason,
        MissReason::DtuOffline
            | MissReason::SessionLost
            | MissReason::ServerDown
            | MissReason::Timeout
            | MissReason::LineBusy
            | MissReason::BreakerOpen
            | MissReason::Overload
            | MissReason::Overlap
    )
}

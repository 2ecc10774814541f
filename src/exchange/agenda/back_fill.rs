//! Missed slots that the meter's own memory can answer: its daily freezes and its settlements, read in the line's idle
//! time. The slot's ending becomes `late`; the reading is the meter's past state with the meter's own time.
//!
//! A slot asks for the freeze of the midnight before it, if it is its schedule's first since then (so a quarter hour at
//! noon asks for none); one of a settlement asks for the settlement of its day, else for the freeze. Which past state an
//! answer is, the meter says: a meter that had no power at midnight has a freeze less, so the one before or behind is
//! asked for then. What the memory does not hold falls back to a late live read, by the rules of `catch_up`.

use super::group::{Group, Member, later, lost_the_line};
use super::{Agenda, Failure, GUARD_S, Got, PollOrder, PollVerdict, Running, Settlement, catch_up};
use crate::domain::device::MissedRun;
use crate::domain::slot::plan::DueSlot;
use crate::domain::slot::{MissReason, SlotKind};
use crate::exchange::job::Priority;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// Past states that wait to be asked for; beyond it the oldest is let go.
pub const FILLINGS_MAX: usize = 64;

/// So far may the meter's time of a past state be from what is wanted: its clock drifts, and may keep winter time all
/// year, seconds.
const TOLERANCE_S: i64 = 2 * 3600;

/// So often is a neighbour asked for instead.
const STEPS_MAX: u8 = 4;

/// Past states of a meter's registers that can be asked for, by how many it keeps of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterMemory {
    /// Freezes at midnight.
    pub days: u8,
    /// Monthly settlements.
    pub settlements: u8,
}

/// A kind of past states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastKind {
    /// A freeze at midnight.
    Daily,
    /// A monthly settlement.
    Settlement,
}

/// Which past state a poll is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastOrder {
    /// Its kind.
    pub kind: PastKind,
    /// The how manieth last, from 1.
    pub back: u8,
    /// The zone that the meter's clock keeps, as far as is known: that of the schedule.
    pub zone: Tz,
}

/// A past state that is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    kind: PastKind,
    /// When it was.
    at: DateTime<Utc>,
    /// By how many the meter counts otherwise.
    shift: i16,
    steps: u8,
}

#[derive(Debug)]
struct Filling {
    sought: Sought,
    group: Group,
}

/// What waits to be filled.
#[derive(Debug, Default)]
pub(super) struct BackFill {
    memory: MeterMemory,
    waiting: Vec<Filling>,
}

impl Agenda {
    /// What the meter's memory keeps, from its model. None of it: nothing is filled.
    pub fn set_memory(&mut self, memory: MeterMemory) {
        if memory == MeterMemory::default() {
            self.back_fill = None;
        } else {
            self.back_fill.get_or_insert_default().memory = memory;
        }
    }

    /// Keeps a missed slot for the meter's memory to answer; false: it cannot, or shall not.
    pub(super) fn remember_for_memory(&mut self, slot: &DueSlot) -> bool {
        self.seek(slot, None)
    }

    /// The same, but only by kinds behind `tried`.
    fn seek(&mut self, slot: &DueSlot, tried: Option<PastKind>) -> bool {
        let Some(back_fill) = &mut self.back_fill else {
            return false;
        };
        if slot.rule.missed_run == MissedRun::Skip {
            return false;
        }
        let Some((kind, at)) = back_fill.memory.answers(slot, tried) else {
            return false;
        };
        if slot.rule.missed_run == MissedRun::Once && !back_fill.is_newest(slot) {
            // the newer one is the one that is caught up
            return true;
        }
        let next_try = later(self.now, self.hash % (catch_up::SPREAD_S + 1));
        let same = |filling: &&mut Filling| filling.sought.kind == kind && filling.sought.at == at;
        if let Some(filling) = back_fill.waiting.iter_mut().find(same) {
            let slot = slot.clone();
            filling.group.members.push(Member { slot, ended: true });
        } else {
            let sought = Sought {
                kind,
                at,
                shift: 0,
                steps: 0,
            };
            let group = Group::to_catch_up(slot.clone(), next_try);
            back_fill.waiting.push(Filling { sought, group });
        }
        if back_fill.waiting.len() > FILLINGS_MAX {
            back_fill.waiting.remove(0);
        }
        true
    }

    /// When the first past state may be asked for.
    pub(super) fn next_filling(&self) -> Option<DateTime<Utc>> {
        let waiting = self.back_fill.as_ref()?.waiting.iter();
        waiting.map(|filling| filling.group.next_try).min()
    }

    /// The groups that wait.
    pub(super) fn fillings(&mut self) -> impl Iterator<Item = &mut Group> {
        let waiting = self.back_fill.as_mut().map(|back_fill| back_fill.waiting.iter_mut());
        waiting.into_iter().flatten().map(|filling| &mut filling.group)
    }

    /// The meter leaves this agenda.
    pub(super) fn forget_fillings(&mut self) {
        if let Some(back_fill) = &mut self.back_fill {
            back_fill.waiting.clear();
        }
    }

    /// The poll for the newest past state that may be asked for now.
    pub(super) fn next_past_poll(&mut self, now: DateTime<Utc>) -> Option<PollOrder> {
        for _ in 0..=2 * FILLINGS_MAX {
            let back_fill = self.back_fill.as_mut()?;
            let ready = back_fill.waiting.iter().enumerate();
            let ready = ready.filter(|(_, filling)| filling.group.next_try <= now);
            let place = ready
                .max_by_key(|(_, filling)| filling.sought.at)
                .map(|(place, _)| place)?;
            let filling = back_fill.waiting.swap_remove(place);
            let back = filling
                .back(now)
                .filter(|back| back_fill.memory.keeps(filling.sought.kind, *back));
            let zone = filling.group.members.first().map(|member| member.slot.rule.when.zone());
            match (back, zone) {
                (Some(back), Some(zone)) => {
                    let kind = filling.sought.kind;
                    return Some(self.send_past(filling, PastOrder { kind, back, zone }, now));
                }
                _ => self.not_kept(filling.group, filling.sought),
            }
        }
        None
    }

    fn send_past(&mut self, filling: Filling, past: PastOrder, now: DateTime<Utc>) -> PollOrder {
        self.serial += 1;
        let Filling { sought, group } = filling;
        let deadline = later(now, catch_up::DEADLINE_S);
        let order = PollOrder {
            serial: self.serial,
            due_at: group.due_at,
            quantities: group.wanted(),
            priority: Priority::BackFill,
            attempts: group.attempts_per_transaction(),
            deadline,
            catch_up: true,
            past: Some(past),
            slots: group.members.iter().map(|member| member.slot.key()).collect(),
        };
        self.running = Some(Running {
            serial: self.serial,
            group,
            catch_up: true,
            sought: Some(sought),
            given_up_at: later(deadline, GUARD_S),
        });
        order
    }

    /// What became of the poll for a past state; `at`: when that was, by the meter's own clock. What is to be stored has
    /// this time. Wake afterwards.
    pub fn past_outcome(
        &mut self,
        now: DateTime<Utc>,
        serial: u64,
        verdict: PollVerdict,
        at: Option<DateTime<Utc>>,
    ) -> Settlement {
        self.note(now, self.online);
        let mut settlement = Settlement::default();
        let Some(mut running) = self.running.take_if(|running| running.serial == serial) else {
            return settlement;
        };
        let Some(mut sought) = running.sought else {
            return settlement;
        };
        running.group.attempts = running.group.attempts.saturating_add(verdict.attempts);
        if verdict.got == Got::Nothing {
            let failure = verdict.failure.unwrap_or(Failure::of(MissReason::Internal));
            settlement.breaker_opened = self.tell_breaker(now, failure.reason);
            settlement.retry_at = self.past_failed(now, running.group, sought, failure.reason);
            return settlement;
        }
        self.breaker.answered();
        let off = at.map(|at| at.signed_duration_since(sought.at).num_seconds());
        match off {
            Some(off) if off.abs() <= TOLERANCE_S => {
                settlement.store = true;
                self.read(now, &running.group, &verdict, &mut settlement.ended);
                self.hand_out(&settlement.ended);
            }
            Some(off) if sought.steps < STEPS_MAX => {
                // a newer state came: further back; an older one: the meter has one less
                sought.shift = sought.shift.saturating_add(if off > 0 { 1 } else { -1 });
                sought.steps += 1;
                running.group.next_try = now;
                self.fill_later(running.group, sought);
                settlement.retry_at = Some(now);
            }
            _ => self.not_kept(running.group, sought),
        }
        settlement
    }

    /// The way to the meter failed, or the meter refused.
    pub(super) fn past_failed(
        &mut self,
        now: DateTime<Utc>,
        mut group: Group,
        sought: Sought,
        reason: MissReason,
    ) -> Option<DateTime<Utc>> {
        let refused = matches!(
            reason,
            MissReason::Exception | MissReason::NoModel | MissReason::Undecodable
        );
        if !lost_the_line(reason) {
            group.tries = group.tries.saturating_add(1);
        }
        if refused || group.tries >= catch_up::TRIES_MAX {
            self.not_kept(group, sought);
            return None;
        }
        let wait_s = if lost_the_line(reason) {
            catch_up::SPREAD_S
        } else {
            catch_up::BACKOFF_S << group.tries.min(catch_up::TRIES_MAX)
        };
        group.next_try = later(now, wait_s);
        let at = group.next_try;
        self.fill_later(group, sought);
        Some(at)
    }

    fn fill_later(&mut self, group: Group, sought: Sought) {
        if let Some(back_fill) = &mut self.back_fill {
            back_fill.waiting.push(Filling { sought, group });
        }
    }

    /// The memory does not hold it: another kind may, else the slots take their late live read.
    fn not_kept(&mut self, group: Group, sought: Sought) {
        for member in group.members {
            if !self.seek(&member.slot, Some(sought.kind)) {
                self.remember_missed(member.slot);
            }
        }
    }
}

impl MeterMemory {
    fn keeps(self, kind: PastKind, back: u8) -> bool {
        let most = match kind {
            PastKind::Daily => self.days,
            PastKind::Settlement => self.settlements,
        };
        (1..=most).contains(&back)
    }

    /// The first kind of past state behind `tried` that answers a slot, and when it was.
    fn answers(self, slot: &DueSlot, tried: Option<PastKind>) -> Option<(PastKind, DateTime<Utc>)> {
        let settles = slot.rule.kind == SlotKind::Settlement && self.settlements > 0;
        if settles && tried.is_none() {
            return Some((PastKind::Settlement, slot.due_at));
        }
        if self.days == 0 || tried == Some(PastKind::Daily) {
            return None;
        }
        let midnight = slot.rule.when.day_begins(slot.due_at)?;
        let first = slot.rule.when.next_from(midnight)?;
        (first == slot.due_at).then_some((PastKind::Daily, midnight))
    }
}

impl BackFill {
    /// Whether no newer slot of its schedule waits; the older ones make way.
    fn is_newest(&mut self, slot: &DueSlot) -> bool {
        let of_schedule = |member: &Member| member.slot.schedule == slot.schedule;
        let members = self.waiting.iter().flat_map(|filling| &filling.group.members);
        if members
            .filter(|member| of_schedule(member))
            .any(|member| member.slot.due_at >= slot.due_at)
        {
            return false;
        }
        for filling in &mut self.waiting {
            filling.group.members.retain(|member| !of_schedule(member));
        }
        self.waiting.retain(|filling| !filling.group.members.is_empty());
        true
    }
}

impl Filling {
    /// The how manieth last state it is now, if the meter had power at all of them; none: too far back to be numbered.
    fn back(&self, now: DateTime<Utc>) -> Option<u8> {
        let when = &self.group.members.first()?.slot.rule.when;
        let behind = match self.sought.kind {
            PastKind::Daily => when
                .date_of(now)
                .signed_duration_since(when.date_of(self.sought.at))
                .num_days(),
            PastKind::Settlement => {
                let mut due = self.sought.at.checked_sub_signed(TimeDelta::nanoseconds(1))?;
                let mut count = -1;
                while let Some(next) = when.next_after(due).filter(|next| *next <= now && count < 255) {
                    (due, count) = (next, count + 1);
                }
                count
            }
        };
        u8::try_from(behind.checked_add(1)?.checked_add(i64::from(self.sought.shift))?).ok()
    }
}

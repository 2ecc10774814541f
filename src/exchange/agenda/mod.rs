//! A meter's agenda: which poll is due now, what a poll's outcome means for its slots, and when to look again.
//!
//! The plain struct that a meter actor wraps. "Now" is an argument; no actix, no I/O. The actor calls [`Agenda::wake`] at
//! [`Agenda::next_wake`] and on every change of the session until it answers [`Action::Sleep`], sends what it is told to
//! send, hands back each [`PollVerdict`], makes what [`Ended`] durable and says so. Rules:
//!
//! - Every due slot gets exactly one first ending, by its due time plus window (plus the attempt that is running then).
//!   Later endings (`late`) are later versions.
//! - A slot is `actual` where the read began within its window; the reading is that ending. One begun later is `late`.
//! - A failed poll is tried again with doubled waits until the retry deadline; one that lost its session, until the window
//!   ends; and never more often than the schedule's budget of attempts allows. Once a reading is stored for a due time that time is never polled again, for its key is taken.
//! - Missed: what the meter's own memory can answer is read from there when the way is free again (`back_fill`), each
//!   slot with the missed-run policy `all`, the newest of each schedule with `once`. Of what it cannot answer and was missed
//!   while the DTU or the server was away, the newest slot of each schedule is read late, live (`catch_up`).
//! - A wall clock set back re-runs nothing: slots are taken in their order, once, behind a high-water mark.

mod back_fill;
mod catch_up;
mod group;
mod order;
mod overlap;
mod recovery;
mod settle;

pub use back_fill::{FILLINGS_MAX, MeterMemory, PastKind, PastOrder};
pub use order::{Action, Ended, Failure, Got, PollOrder, PollVerdict, Settlement};

use crate::base::ids::{AccountId, MeterId};
use crate::domain::slot::plan::{DuePoll, DueSlot, SlotKey, SlotPlan};
use crate::domain::slot::{MissReason, SlotEnding};
use crate::exchange::breaker::{Breaker, Gate};
use crate::exchange::job::Priority;
use back_fill::{BackFill, Sought};
use chrono::{DateTime, TimeDelta, Utc};
use group::{Group, Member, later, spread, window_end};
use recovery::Recovery;
use std::collections::VecDeque;

/// Instants with open slots that a meter may have; beyond it the oldest ends early. Only a schedule far faster than its
/// line gets there.
pub const OPEN_MAX: usize = 64;

/// Endings that are handed out at once, and instants that are taken at once.
const BATCH: usize = 256;

/// Slots that may be on their way to the disk.
const UNSAVED_MAX: usize = 4 * BATCH;

/// A poll that has not been answered so long after its deadline is given up, seconds.
const GUARD_S: u32 = 120;

/// How far back a change of schedules may reach that is learned of late, seconds. The watermark stays so far behind.
pub const LOOK_BACK_S: u32 = 600;

/// Wait before endings that could not be made durable are handed out again, seconds.
const REFUSED_RETRY_S: u32 = 5;

#[derive(Debug)]
struct Running {
    serial: u64,
    group: Group,
    catch_up: bool,
    /// The past state that it is for.
    sought: Option<Sought>,
    given_up_at: DateTime<Utc>,
}

/// A meter's agenda.
#[derive(Debug)]
pub struct Agenda {
    account: AccountId,
    meter: MeterId,
    hash: u32,
    plan: SlotPlan,
    /// This agenda answers for slots from here on.
    since: DateTime<Utc>,
    /// Every slot due at or before this instant has been taken.
    cursor: DateTime<Utc>,
    next: Option<DuePoll>,
    /// The one behind it, for a long spread must not hide a short window behind it.
    second: Option<DuePoll>,
    /// Taken, not ended; oldest first.
    open: VecDeque<Group>,
    /// Ended as missing, to be read late; at most one slot a schedule.
    missed: Vec<Group>,
    /// Ended as missing, for the meter's memory to answer; none: it has none.
    back_fill: Option<Box<BackFill>>,
    running: Option<Running>,
    /// Ended, not known to be durable.
    unsaved: Vec<SlotKey>,
    refused: Vec<SlotEnding>,
    refused_retry_at: Option<DateTime<Utc>>,
    /// A slot before this instant has been given up without a durable ending; only a restart can end it.
    floor: Option<DateTime<Utc>>,
    recovery: Option<Box<Recovery>>,
    breaker: Breaker,
    serial: u64,
    online: bool,
    now: DateTime<Utc>,
}

impl Agenda {
    /// Spreads polls by another number than the meter's: meters with the same number are polled together.
    pub fn spread_by(&mut self, number: i32) {
        self.hash = hash(number);
    }

    /// An agenda that answers for every slot due at or after `since`. After a restart use [`Agenda::recover`], for a
    /// meter that appears later [`Agenda::appear`].
    pub fn new(account: AccountId, meter: MeterId, plan: SlotPlan, since: DateTime<Utc>) -> Self {
        let cursor = since.checked_sub_signed(TimeDelta::nanoseconds(1)).unwrap_or(since);
        let mut agenda = Self {
            account,
            meter,
            hash: hash(meter.0),
            next: None,
            second: None,
            plan,
            since,
            cursor,
            open: VecDeque::new(),
            missed: Vec::new(),
            back_fill: None,
            running: None,
            unsaved: Vec::new(),
            refused: Vec::new(),
            refused_retry_at: None,
            floor: None,
            recovery: None,
            breaker: Breaker::default(),
            serial: 0,
            online: false,
            now: since,
        };
        agenda.look_ahead();
        agenda
    }

    /// Finds the next two due instants behind the cursor.
    pub(super) fn look_ahead(&mut self) {
        self.next = self.plan.next_after(self.cursor);
        self.second = self.next.as_ref().and_then(|next| self.plan.next_after(next.due_at));
    }

    /// The meter's breaker, for polls beside the schedules to report to.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The same, to tell it what a read on demand met.
    pub fn breaker_mut(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    /// Whether a poll is under way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What to do now. Call it again after each answer but [`Action::Sleep`]. `online`: the DTU has a session.
    pub fn wake(&mut self, now: DateTime<Utc>, online: bool) -> Action {
        self.note(now, online);
        let mut ended = Ended::default();
        self.take_due(now, online, &mut ended);
        self.expire(now, &mut ended);
        self.give_up(now, &mut ended);
        self.hand_out_refused(now, &mut ended);
        if !ended.is_empty() {
            self.hand_out(&ended);
            return Action::End(ended);
        }
        if online
            && self.running.is_none()
            && let Some(order) = self.next_poll(now)
        {
            return Action::Poll(order);
        }
        Action::Sleep
    }

    /// When [`Agenda::wake`] has something to do if nothing happens before. May lie in the past: then wake at once.
    pub fn next_wake(&self) -> Option<DateTime<Utc>> {
        let due = self
            .next
            .as_ref()
            .map(|poll| later(poll.due_at, spread(poll.slots.iter(), self.hash)))
            .min(
                self.second
                    .as_ref()
                    .map(|poll| poll.due_at)
                    .or(Some(DateTime::<Utc>::MAX_UTC)),
            );
        let ends = self.open.iter().filter_map(Group::first_end).min();
        let polls = (self.online && self.running.is_none())
            .then(|| {
                let live = self.open.iter().chain(&self.missed).map(|group| group.next_try);
                let first = live.chain(self.next_filling()).min();
                match self.breaker.gate(self.now) {
                    Gate::Wait(until) => first.map(|at| at.max(until)),
                    Gate::Pass | Gate::Probe => first,
                }
            })
            .flatten();
        let guard = self.running.as_ref().map(|running| running.given_up_at);
        [due, ends, polls, guard, self.refused_retry_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The due time of the oldest slot that is taken and not durably ended.
    pub fn oldest_open(&self) -> Option<DateTime<Utc>> {
        let open = self.open.front().map(|group| group.due_at);
        let running = self
            .running
            .as_ref()
            .filter(|running| !running.group.is_over())
            .map(|running| running.group.due_at);
        let unsaved = self.unsaved.iter().map(|key| key.due_at).min();
        let refused = self.refused.iter().map(|ending| ending.due_at).min();
        [open, running, unsaved, refused, self.floor]
            .into_iter()
            .flatten()
            .min()
    }

    /// Every slot due before this instant has its durable ending: this meter's share of the watermark. Stays
    /// [`LOOK_BACK_S`] behind `now`, because a change of schedules can be learned of late.
    pub fn settled_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let untaken = self.next.as_ref().map(|poll| poll.due_at);
        let behind = now
            .checked_sub_signed(TimeDelta::seconds(i64::from(LOOK_BACK_S)))
            .unwrap_or(now);
        [self.oldest_open(), untaken]
            .into_iter()
            .flatten()
            .fold(behind, DateTime::min)
    }

    /// Notes time and session; a clock set back must not make waits longer.
    fn note(&mut self, now: DateTime<Utc>, online: bool) {
        if now < self.now {
            let by = self.now.signed_duration_since(now);
            for group in self.open.iter_mut().chain(&mut self.missed) {
                group.next_try = group.next_try.checked_sub_signed(by).unwrap_or(now);
            }
            for group in self.fillings() {
                group.next_try = group.next_try.checked_sub_signed(by).unwrap_or(now);
            }
            self.breaker.clock_went_back(by);
            for at in [
                self.running.as_mut().map(|running| &mut running.given_up_at),
                self.refused_retry_at.as_mut(),
            ]
            .into_iter()
            .flatten()
            {
                *at = at.checked_sub_signed(by).unwrap_or(now);
            }
        }
        self.now = now;
        if online && !self.online {
            self.breaker.line_is_new(now);
            self.line_is_back(now);
        }
        self.online = online;
        if online {
            for group in self.open.iter_mut().filter(|group| group.not_before <= now) {
                group.seen_online = true;
            }
        }
    }

    /// Takes the slots that came due. Those whose window is over already were not seen in time: nobody was awake.
    fn take_due(&mut self, now: DateTime<Utc>, online: bool, ended: &mut Ended) {
        self.take_while(|due_at| due_at <= now, now, online, ended);
    }

    fn take_while(&mut self, due: impl Fn(DateTime<Utc>) -> bool, now: DateTime<Utc>, online: bool, ended: &mut Ended) {
        for _ in 0..BATCH {
            if ended.endings.len() >= BATCH || self.next.as_ref().is_none_or(|poll| !due(poll.due_at)) {
                break;
            }
            let Some(mut poll) = self.next.take() else { break };
            self.cursor = poll.due_at;
            self.next = self.second.take();
            self.second = self.next.as_ref().and_then(|next| self.plan.next_after(next.due_at));
            if let Some(recovery) = &self.recovery {
                recovery.drop_ended(&mut poll);
            }
            self.open_slots(poll, now, online, ended);
        }
        if self
            .recovery
            .as_ref()
            .is_some_and(|recovery| recovery.is_over(self.next.as_ref()))
        {
            self.recovery = None;
        }
    }

    fn open_slots(&mut self, poll: DuePoll, now: DateTime<Utc>, online: bool, ended: &mut Ended) {
        let mut members: Vec<Member> = poll
            .slots
            .into_iter()
            .map(|slot| Member {
                ended: now >= window_end(&slot),
                slot,
            })
            .collect();
        for member in members.iter().filter(|member| member.ended) {
            ended
                .endings
                .push(self.missing(member.slot.key(), MissReason::ServerDown, None, 0, now));
        }
        self.make_room(&mut members, now, ended);
        if let Some(group) = self.open.iter_mut().find(|group| group.due_at == poll.due_at) {
            group.join(members, self.hash);
        } else if members.iter().all(|member| member.ended) {
            for member in members {
                if !self.remember_for_memory(&member.slot) {
                    self.remember_missed(member.slot);
                }
            }
        } else {
            let mut group = Group::new(poll.due_at, members, self.hash);
            group.seen_online = online && group.not_before <= now;
            self.put_back(group);
        }
        if self.open.len() > OPEN_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            self.end_missing(oldest, now, |_| true, ended);
        }
    }

    /// Keeps `open` sorted by due time.
    fn put_back(&mut self, group: Group) {
        let place = self.open.partition_point(|other| other.due_at < group.due_at);
        self.open.insert(place, group);
    }

    /// Ends the slots whose window is over, unless their poll is running.
    fn expire(&mut self, now: DateTime<Utc>, ended: &mut Ended) {
        for _ in 0..self.open.len() {
            let Some(group) = self.open.pop_front() else { break };
            let retries_end = group.retries_end();
            let over = |slot: &DueSlot| now >= window_end(slot) || retries_end.is_some_and(|end| now >= end);
            let group = self.end_missing(group, now, over, ended);
            if !group.is_over() {
                self.open.push_back(group);
            }
        }
    }

    /// A poll whose outcome never came: the actor or its connection failed.
    fn give_up(&mut self, now: DateTime<Utc>, ended: &mut Ended) {
        if let Some(running) = self.running.take_if(|running| now >= running.given_up_at) {
            self.failed(now, running, Failure::of(MissReason::Internal), ended);
        }
    }

    /// Of the open groups that may be polled the oldest of the first priority, else a missed one, else a past state.
    fn next_poll(&mut self, now: DateTime<Utc>) -> Option<PollOrder> {
        let ready = self.open.iter().enumerate().filter(|(_, group)| group.next_try <= now);
        let place = ready.min_by_key(|(_, group)| group.priority()).map(|(place, _)| place);
        let late = self.missed.iter().position(|group| group.next_try <= now);
        let past = self.next_filling().is_some_and(|at| at <= now);
        if place.is_none() && late.is_none() && !past {
            return None;
        }
        if let Gate::Wait(_) = self.breaker.gate(now) {
            for group in self.open.iter_mut().filter(|group| group.next_try <= now) {
                group.gated = true;
            }
            return None;
        }
        match (place, late) {
            (Some(place), _) => {
                let group = self.open.remove(place)?;
                Some(self.send(group, now, false))
            }
            (None, Some(late)) => {
                let group = self.missed.remove(late);
                Some(self.send(group, now, true))
            }
            (None, None) => self.next_past_poll(now),
        }
    }

    fn send(&mut self, group: Group, now: DateTime<Utc>, catch_up: bool) -> PollOrder {
        self.serial += 1;
        let deadline = group.deadline(now).unwrap_or_else(|| later(now, catch_up::DEADLINE_S));
        let order = PollOrder {
            serial: self.serial,
            due_at: group.due_at,
            quantities: group.wanted(),
            priority: if catch_up { Priority::BackFill } else { group.priority() },
            attempts: group.attempts_per_transaction(),
            deadline,
            catch_up,
            past: None,
            slots: group.members.iter().map(|member| member.slot.key()).collect(),
        };
        self.running = Some(Running {
            serial: self.serial,
            group,
            catch_up,
            sought: None,
            given_up_at: later(deadline, GUARD_S),
        });
        order
    }
}

/// Spreads meters evenly; the same for a meter at every due time and after a restart (SplitMix64's finaliser).
/// How many seconds behind the due time a meter's poll for these slots begins, so that a fleet's polls are spread evenly.
pub fn start_delay(meter: MeterId, poll: &DuePoll) -> u32 {
    spread(poll.slots.iter(), hash(meter.0))
}

fn hash(number: i32) -> u32 {
    let mut x = u64::from(number.unsigned_abs()).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((x ^ (x >> 31)) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests;

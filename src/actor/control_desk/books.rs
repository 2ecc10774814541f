//! What the desk knows: open commands, the brake, the time that never goes back, stops, and what is being sent.

use crate::base::ids::{AccountId, CommandId, DtuId};
use crate::domain::command::brake::{Spot, Trip};
use crate::domain::command::{Brake, BrakeLimit, BrakeLimits, Command, Hold, Moment, State, TimeGuard};
use crate::port::control::{Resumed, Stop};
use crate::port::field::Effect;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Between two tries at a meter that could not be reached or proven.
const RETRY: Duration = Duration::from_secs(5);

/// The books. Nothing in here waits.
pub(super) struct Books {
    pub(super) time: TimeGuard,
    pub(super) brake: Brake,
    pub(super) open: BTreeMap<CommandId, Command>,
    pub(super) stops: Vec<Stop>,
    /// Commands that a visit works on, with what keeps its frame from beginning.
    running: HashMap<CommandId, (DtuId, Effect)>,
    not_before: HashMap<CommandId, Instant>,
    /// Why the last try did not get to the frame, for the history.
    obstacles: HashMap<CommandId, String>,
    /// What is stored of these is not known: they are loaded before anything else. A trip that was counted for the step
    /// is taken back when it was not taken.
    doubtful: HashMap<CommandId, Option<Trip>>,
    /// Pending when the clock was found set back: they expire.
    voided: HashSet<CommandId>,
    /// The accounts that the brake holds by now and since when, so that it is said once.
    braked: HashMap<AccountId, DateTime<Utc>>,
    /// How long the brake looks back at most.
    quiet_for: TimeDelta,
}

impl Books {
    pub(super) fn new(limits: BrakeLimits, resumed: Resumed, now: DateTime<Utc>, monotonic: Instant) -> Self {
        let held = resumed.open.iter().filter(|command| by_brake(command));
        Self {
            // what an earlier process held was told of by it
            braked: held.map(|command| (command.account, now)).collect(),
            time: TimeGuard::resume(resumed.mark, now, monotonic),
            brake: Brake::resume(limits, resumed.trips),
            open: resumed.open.into_iter().map(|command| (command.id, command)).collect(),
            stops: resumed.stops,
            running: HashMap::new(),
            not_before: HashMap::new(),
            obstacles: HashMap::new(),
            doubtful: HashMap::new(),
            voided: HashSet::new(),
            quiet_for: Brake::horizon(&limits),
        }
    }

    /// Now. A clock that was set back voids everything that is pending; how much, when it just did.
    pub(super) fn moment(&mut self, now: DateTime<Utc>, monotonic: Instant) -> (DateTime<Utc>, Option<usize>) {
        let moment = self.time.moment(now, monotonic);
        let voided = moment.stepped_back.then(|| {
            let pending = self.open.values().filter(|command| command.state.is_pending());
            self.voided.extend(pending.map(|command| command.id));
            self.voided.len()
        });
        (moment.at, voided)
    }

    /// Now, as a command sees it.
    pub(super) fn moment_of(&self, command: CommandId, at: DateTime<Utc>) -> Moment {
        Moment {
            at,
            stepped_back: self.voided.contains(&command),
        }
    }

    /// The step may have been written down or not.
    pub(super) fn doubt(&mut self, command: CommandId, trip: Option<Trip>) {
        self.doubtful.insert(command, trip);
    }

    pub(super) fn doubtful(&self) -> Vec<CommandId> {
        self.doubtful.keys().copied().collect()
    }

    /// What is stored of a doubtful command, seen now.
    pub(super) fn seen(&mut self, stored: Command) {
        let counted = self.doubtful.remove(&stored.id).flatten();
        if let Some(trip) = counted.filter(|_| stored.state.is_pending()) {
            self.brake.take_back(trip);
        }
        self.put(stored);
    }

    /// Whether a stop concerns an account.
    pub(super) fn stopped(&self, account: AccountId) -> bool {
        self.stops
            .iter()
            .any(|stop| stop.account_id.is_none_or(|stopped| stopped == account))
    }

    /// Keeps every frame of the concerned accounts from beginning.
    pub(super) fn revoke(&self, account: Option<AccountId>) {
        for (id, (_, effect)) in &self.running {
            let concerned = match (account, self.open.get(id)) {
                (Some(account), Some(command)) => command.account == account,
                _ => true,
            };
            if concerned {
                effect.revoke();
            }
        }
    }

    /// The commands that are not sent yet and that a stop concerns, with who stopped them. What a visit works on finds the stop
    /// by itself.
    pub(super) fn stopped_pending(&self) -> Vec<(Command, String)> {
        let by = |account: AccountId| {
            let concerns = |stop: &&Stop| stop.account_id.is_none_or(|stopped| stopped == account);
            self.stops.iter().find(concerns).map(|stop| stop.began_by.clone())
        };
        self.open
            .values()
            .filter(|command| command.state.is_pending() && !self.doubtful.contains_key(&command.id))
            .filter(|command| !self.running.contains_key(&command.id))
            .filter_map(|command| Some((command.clone(), by(command.account)?)))
            .collect()
    }

    /// Takes a command up as it stands now.
    pub(super) fn put(&mut self, command: Command) {
        if command.state.is_open() {
            self.open.insert(command.id, command);
        } else {
            self.forget(command.id);
        }
    }

    /// It has ended.
    pub(super) fn forget(&mut self, command: CommandId) {
        self.open.remove(&command);
        self.not_before.remove(&command);
        self.obstacles.remove(&command);
        self.doubtful.remove(&command);
        self.voided.remove(&command);
    }

    /// Begins a visit; none: one is under way, or the DTU is busy with another command.
    pub(super) fn begin(&mut self, command: &Command) -> Option<Effect> {
        let busy = |(dtu, _): &(DtuId, Effect)| *dtu == command.target.dtu;
        if self.running.contains_key(&command.id) || self.running.values().any(busy) {
            return None;
        }
        let effect = Effect::default();
        self.running.insert(command.id, (command.target.dtu, effect.clone()));
        Some(effect)
    }

    pub(super) fn end(&mut self, command: CommandId, now: Instant) {
        self.running.remove(&command);
        if self.open.contains_key(&command) {
            self.not_before.insert(command, now + RETRY);
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// A command may be tried again at once: its DTU came back, or a person did something.
    pub(super) fn hurry(&mut self, command: CommandId) {
        self.not_before.remove(&command);
    }

    pub(super) fn note(&mut self, command: CommandId, obstacle: String) {
        self.obstacles.insert(command, obstacle);
    }

    pub(super) fn obstacle(&self, command: CommandId) -> Option<&str> {
        self.obstacles.get(&command).map(String::as_str)
    }

    /// Commands that want a visit now: what is unknown first, then what gives supplies back, then the oldest.
    pub(super) fn wanting(&self, now: Instant) -> Vec<(CommandId, DtuId)> {
        let mut wanting: Vec<_> = self
            .open
            .values()
            .filter(|command| command.state == State::Unknown || (command.is_ready() && !self.stopped(command.account)))
            .filter(|command| !self.running.contains_key(&command.id) && !self.doubtful.contains_key(&command.id))
            .filter(|command| self.not_before.get(&command.id).is_none_or(|at| *at <= now))
            .map(|command| {
                let rank = (command.state != State::Unknown, command.action.may_darken(), command.id);
                (rank, command.target.dtu)
            })
            .collect();
        wanting.sort_unstable();
        wanting.into_iter().map(|((_, _, id), dtu)| (id, dtu)).collect()
    }

    /// Pending commands whose time is over.
    pub(super) fn overdue(&self, at: DateTime<Utc>) -> Vec<Command> {
        self.open
            .values()
            .filter(|command| command.state.is_pending() && !self.running.contains_key(&command.id))
            .filter(|command| self.voided.contains(&command.id) || at >= command.expires_at)
            .filter(|command| !self.doubtful.contains_key(&command.id))
            .cloned()
            .collect()
    }

    /// Commands whose frame may be out, and whose visit is gone.
    pub(super) fn orphans(&self) -> Vec<Command> {
        self.open
            .values()
            .filter(|command| command.state == State::Sent)
            .filter(|command| !self.running.contains_key(&command.id) && !self.doubtful.contains_key(&command.id))
            .cloned()
            .collect()
    }

    /// How many are unknown.
    pub(super) fn unknown(&self) -> usize {
        self.open
            .values()
            .filter(|command| command.state == State::Unknown)
            .count()
    }

    /// Trips that will happen unless something comes between: what is ready and not sent yet.
    pub(super) fn planned(&self, now: DateTime<Utc>) -> Vec<Trip> {
        self.open
            .values()
            .filter(|command| command.is_ready() && command.action.may_darken())
            .map(|command| Trip {
                at: now,
                account: command.account,
                dtu: command.target.dtu,
            })
            .collect()
    }

    /// The limit that one more trip would exceed now.
    pub(super) fn exceeded(&self, now: DateTime<Utc>, spot: Spot) -> Option<BrakeLimit> {
        self.brake.exceeded(now, spot, &[])
    }

    /// Whether the brake has not been said to hold this account yet.
    pub(super) fn first_braked(&mut self, account: AccountId, now: DateTime<Utc>) -> bool {
        self.braked.insert(account, now).is_none()
    }

    /// The brake is free again for an account when nothing of it was held for as long as the brake looks back, and nothing
    /// waits for people.
    pub(super) fn forget_braked(&mut self, now: DateTime<Utc>) {
        let Self {
            open,
            braked,
            quiet_for,
            ..
        } = self;
        braked.retain(|account, last| {
            now - *last < *quiet_for
                || open
                    .values()
                    .any(|command| command.account == *account && by_brake(command))
        });
    }
}

/// Whether a command waits because it exceeds the brake.
fn by_brake(command: &Command) -> bool {
    command.state.is_pending() && command.holds.iter().any(|hold| matches!(hold, Hold::Brake(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn the_brake_is_told_of_once_a_flood() {
        let now = Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).unwrap();
        let resumed = Resumed {
            mark: None,
            open: Vec::new(),
            trips: Vec::new(),
            stops: Vec::new(),
        };
        let mut books = Books::new(BrakeLimits::default(), resumed, now, Instant::now());
        let quiet_for = Brake::horizon(&BrakeLimits::default());
        assert!(books.first_braked(AccountId(1), now));
        // a tick comes before what was held is admitted, and before anything was sent
        books.forget_braked(now);
        assert!(!books.first_braked(AccountId(1), now));
        assert!(
            books.first_braked(AccountId(2), now),
            "another account is told for itself"
        );
        books.forget_braked(now + quiet_for - TimeDelta::seconds(1));
        assert!(!books.first_braked(AccountId(1), now + quiet_for - TimeDelta::seconds(1)));
        books.forget_braked(now + quiet_for * 2);
        assert!(books.first_braked(AccountId(1), now + quiet_for * 2));
    }
}

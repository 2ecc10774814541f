//! How many messages a person, an account and a channel of the server get per hour. What exceeds it waits and is told
//! together with what came meanwhile; nothing is thrown away.
//!
//! The critical has its own share of each limit, so that a flood of the ordinary cannot hold it back.

use super::ChannelKind;
use crate::base::ids::{AccountId, RecipientId};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, VecDeque};

/// Over which time messages are counted.
pub const WINDOW: TimeDelta = TimeDelta::hours(1);

/// Messages per hour, ordinary and critical each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// To one person, unless they have a limit of their own.
    pub person: u32,
    /// Of one account.
    pub account: u32,
    /// By one kind of channel, the whole server.
    pub channels: HashMap<ChannelKind, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Person(RecipientId),
    Account(AccountId),
    Channel(ChannelKind),
}

/// A message, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose.
    pub account: AccountId,
    /// To whom.
    pub recipient: RecipientId,
    /// How.
    pub kind: ChannelKind,
    /// Whether it is critical.
    pub critical: bool,
}

/// What was sent within the last hour. As large as the limits allow.
#[derive(Clone, Debug)]
pub struct Rates {
    limits: RateLimits,
    sent: HashMap<(Key, bool), VecDeque<DateTime<Utc>>>,
}

impl Rates {
    /// Nothing was sent yet.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            sent: HashMap::new(),
        }
    }

    fn keys(message: &Counted) -> [Key; 3] {
        [
            Key::Person(message.recipient),
            Key::Account(message.account),
            Key::Channel(message.kind),
        ]
    }

    /// Forgets what is older than the window, and what a clock that was set back has left in the future.
    pub fn forget(&mut self, now: DateTime<Utc>) {
        self.sent.retain(|_, times| {
            times.retain(|at| *at > now - WINDOW && *at <= now);
            !times.is_empty()
        });
    }

    /// Whether a message may go now; else when to ask again. `person` is the person's own limit.
    ///
    /// # Errors
    /// The instant at which every limit has room again, if nothing else is sent.
    pub fn permit(&self, message: &Counted, person: Option<u32>, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let mut wait = None;
        for key in Self::keys(message) {
            let limit = match key {
                Key::Person(_) => person.unwrap_or(self.limits.person),
                Key::Account(_) => self.limits.account,
                Key::Channel(kind) => self.limits.channels.get(&kind).copied().unwrap_or(0),
            };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let empty = VecDeque::new();
            let times = self.sent.get(&(key, message.critical)).unwrap_or(&empty);
            let recent = times.iter().filter(|at| **at > now - WINDOW && **at <= now).count();
            if recent >= limit {
                // the message that has to leave the window before there is room
                let index = times.len() - recent + (recent - limit);
                let free = times.get(index).map_or(now + WINDOW, |at| *at + WINDOW);
                wait = wait.max(Some(free));
            }
        }
        wait.map_or(Ok(()), Err)
    }

    /// A message goes.
    pub fn count(&mut self, message: &Counted, at: DateTime<Utc>) {
        for key in Self::keys(message) {
            self.sent.entry((key, message.critical)).or_default().push_back(at);
        }
    }

    /// How many messages of a kind went within the last hour, the critical ones included.
    pub fn used(&self, kind: ChannelKind, now: DateTime<Utc>) -> usize {
        [false, true]
            .iter()
            .filter_map(|critical| self.sent.get(&(Key::Channel(kind), *critical)))
            .flatten()
            .filter(|at| **at > now - WINDOW && **at <= now)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> RateLimits {
        RateLimits {
            person: 3,
            account: 5,
            channels: ChannelKind::ALL.iter().map(|kind| (*kind, 7)).collect(),
        }
    }

    proptest! {
        /// In whatever order people are told over a day: no hour holds more than the limits, and who waits until the
        /// instant that they were given is served then, if nobody else was.
        #[test]
        fn no_hour_holds_more_than_the_limit(
            asks in proptest::collection::vec((0i32..3, 0i32..2, 0usize..4, any::<bool>(), 0i64..900), 1..300),
        ) {
            let mut rates = Rates::new(limits());
            let mut now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
            let mut went: Vec<(DateTime<Utc>, Counted)> = Vec::new();
            for (person, account, kind, critical, wait_s) in asks {
                now += TimeDelta::seconds(wait_s);
                rates.forget(now);
                let message = Counted {
                    account: AccountId(account), recipient: RecipientId(person * 10 + account),
                    kind: ChannelKind::ALL[kind], critical,
                };
                match rates.permit(&message, None, now) {
                    Ok(()) => { rates.count(&message, now); went.push((now, message)); }
                    Err(later) => {
                        prop_assert!(later > now && later <= now + WINDOW);
                        prop_assert_eq!(rates.permit(&message, None, later), Ok(()));
                    }
                }
            }
            for (at, message) in &went {
                let hour: Vec<&Counted> = went.iter()
                    .filter(|(other, _)| *other > *at - WINDOW && other <= at).map(|(_, m)| m)
                    .filter(|other| other.critical == message.critical).collect();
                prop_assert!(hour.iter().filter(|m| m.recipient == message.recipient).count() <= 3);
                prop_assert!(hour.iter().filter(|m| m.account == message.account).count() <= 5);
                prop_assert!(hour.iter().filter(|m| m.kind == message.kind).count() <= 7);
            }
        }
    }

    #[test]
    fn a_flood_does_not_hold_back_the_critical() {
        let mut rates = Rates::new(limits());
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let ordinary = Counted {
            account: AccountId(1),
            recipient: RecipientId(1),
            kind: ChannelKind::Sms,
            critical: false,
        };
        for _ in 0..3 {
            rates.count(&ordinary, now);
        }
        assert_eq!(rates.permit(&ordinary, None, now), Err(now + WINDOW));
        // their own, wider limit
        assert_eq!(rates.permit(&ordinary, Some(4), now), Ok(()));
        let critical = Counted {
            critical: true,
            ..ordinary
        };
        assert_eq!(rates.permit(&critical, None, now), Ok(()));
        // a limit of nothing is nothing
        assert!(rates.permit(&critical, Some(0), now).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_anybody() {
        let mut rates = Rates::new(limits());
        let now: DateTime<Utc> = "2026-01-02T00:00:00Z".parse().unwrap();
        let message = Counted {
            account: AccountId(1),
            recipient: RecipientId(1),
            kind: ChannelKind::Email,
            critical: false,
        };
        for _ in 0..5 {
            rates.count(&message, now);
        }
        let back = now - TimeDelta::days(1);
        rates.forget(back);
        assert_eq!(rates.permit(&message, None, back), Ok(()));
        assert_eq!(rates.used(ChannelKind::Email, back), 0);
    }
}

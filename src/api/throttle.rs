//! How often somebody may guess.
//!
//! | who tries | is counted | at most in [`WINDOW`] |
//! |---|---|---|
//! | a stranger | every try for a person, from wherever | [`PERSON_MAX`] |
//! | | failures for a person from one source | [`PAIR_MAX`] |
//! | | failures from one source | [`SOURCE_MAX`] |
//! | a source from which the person has signed in before | failures from there for that person | [`PAIR_MAX`] |
//! | a browser with which the person has signed in before, a session | its failures | [`PAIR_MAX`] |
//!
//! So strangers together have ten tries a minute for a person, and whatever they do, the owner gets in with a browser or
//! from a place used before. A window slides: no two halves of different windows add up. Nothing that still counts is
//! ever forgotten to make room: where [`KEYS_MAX`] counters are live, strangers wait. A restart forgets the last minute;
//! who is no stranger stands in the history of sign-ins and in sealed cookies.

use crate::base::ids::UserId;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A try counts for so long.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Tries for a person by strangers.
pub const PERSON_MAX: usize = 10;
/// Failures of one source or browser for a person.
pub const PAIR_MAX: usize = 5;
/// Failures of one source, whomever it tries.
pub const SOURCE_MAX: usize = 30;
/// Counters of strangers, and of others, each.
pub const KEYS_MAX: usize = 50_000;
/// Familiar sources that are remembered; the newest of them.
pub const FAMILIAR_MAX: usize = 20_000;
/// Refusals in a window that are written into the audit; a guesser from everywhere must not fill it.
const NOTED_MAX: u32 = 120;
/// Between two looks for counters that ran out, when there is no room.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Who is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Somebody there is.
    Person(UserId),
    /// A name that is nobody's; by its digest.
    Name([u8; 16]),
}

impl Subject {
    /// By a name that is nobody's. Case and blanks around it do not matter.
    pub fn name(name: &str) -> Self {
        Self::Name(name_digest(name))
    }
}

/// A name, whatever its case and the blanks around it, in 16 bytes.
pub(super) fn name_digest(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    let full = Sha256::digest(name.trim().to_lowercase().as_bytes());
    for (to, from) in short.iter_mut().zip(full.iter()) {
        *to = *from;
    }
    short
}

/// Who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody knows.
    Stranger,
    /// Somebody at a source from which the subject has signed in before.
    KnownSource,
    /// A browser with which the subject has signed in before, by its cookie's number, or a session.
    Known(u64),
}

/// One try.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// Who is tried.
    pub subject: Subject,
    /// Who tries.
    pub standing: Standing,
    /// From where.
    pub source: Option<IpAddr>,
}

/// An IPv6 customer has at least a /64 of its own, so that is one source.
fn place(source: Option<IpAddr>) -> Option<IpAddr> {
    source.map(|address| match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Person(Subject),
    Pair(Subject, Option<IpAddr>),
    Source(Option<IpAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum KnownKey {
    Pair(Subject, Option<IpAddr>),
    Number(Subject, u64),
}

/// The instants of what counts, the oldest first; never more than its limit.
#[derive(Debug, Default)]
struct Log {
    at: VecDeque<Instant>,
    refused: u32,
}

impl Log {
    fn live(&self, now: Instant) -> bool {
        let last = self.at.back();
        last.is_some_and(|last| now.saturating_duration_since(*last) < WINDOW)
    }

    /// After how long there is room for one more.
    fn wait(&mut self, max: usize, now: Instant) -> Option<Duration> {
        while let Some(first) = self.at.front() {
            let age = now.saturating_duration_since(*first);
            if age < WINDOW {
                break;
            }
            self.at.pop_front();
        }
        let first = self.at.front().filter(|_| self.at.len() >= max)?;
        Some(WINDOW.saturating_sub(now.saturating_duration_since(*first)))
    }
}

#[derive(Debug)]
struct Logs<K> {
    logs: HashMap<K, Log>,
    tidied: Option<Instant>,
}

impl<K> Default for Logs<K> {
    fn default() -> Self {
        Self {
            logs: HashMap::new(),
            tidied: None,
        }
    }
}

impl<K: Eq + Hash + Copy> Logs<K> {
    /// Counts a try under each key, unless one of them is full or there is no room; then after how long.
    fn take(&mut self, limits: &[(K, usize)], now: Instant) -> Result<(), Duration> {
        let wait = limits
            .iter()
            .filter_map(|(key, max)| self.logs.get_mut(key)?.wait(*max, now))
            .max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        let fresh = limits.iter().filter(|(key, _)| !self.logs.contains_key(key)).count();
        if self.logs.len() + fresh > KEYS_MAX {
            self.tidy(now);
            if self.logs.len() + fresh > KEYS_MAX {
                return Err(TIDY_EVERY);
            }
        }
        for (key, _) in limits {
            self.logs.entry(*key).or_default().at.push_back(now);
        }
        Ok(())
    }

    fn tidy(&mut self, now: Instant) {
        let due = self
            .tidied
            .is_none_or(|last| now.saturating_duration_since(last) >= TIDY_EVERY);
        if due {
            self.tidied = Some(now);
            self.logs.retain(|_, log| log.live(now));
        }
    }

    fn give_back(&mut self, key: &K) {
        if let Some(log) = self.logs.get_mut(key) {
            log.at.pop_back();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    count: u32,
    since: Instant,
}

/// Sources from which anybody has signed in, and when in order.
#[derive(Debug, Default)]
struct Familiar {
    sources: HashMap<Option<IpAddr>, u64>,
    next: u64,
}

impl Familiar {
    fn remember(&mut self, source: Option<IpAddr>) {
        self.next += 1;
        self.sources.insert(source, self.next);
        if self.sources.len() > FAMILIAR_MAX {
            // the older half goes at once, so that this is rare
            let mut ages: Vec<u64> = self.sources.values().copied().collect();
            let middle = ages.len() / 2;
            let (_, middle, _) = ages.select_nth_unstable(middle);
            let middle = *middle;
            self.sources.retain(|_, at| *at >= middle);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    familiar: Familiar,
    strangers: Logs<Key>,
    known: Logs<KnownKey>,
    noted: Option<Noted>,
    unnoted: u32,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
}

fn known_key(tried: &Try) -> Option<KnownKey> {
    match tried.standing {
        Standing::Stranger => None,
        Standing::KnownSource => Some(KnownKey::Pair(tried.subject, place(tried.source))),
        Standing::Known(number) => Some(KnownKey::Number(tried.subject, number)),
    }
}

impl Throttle {
    /// Lets a try through and counts it, before it is checked: guesses sent at once are counted at once. Gives how many
    /// tries for the same subject were not let through since the one before.
    ///
    /// # Errors
    /// The time to wait, at most [`WINDOW`].
    pub fn take(&self, tried: &Try, now: Instant) -> Result<u32, Duration> {
        let mut state = self.lock();
        let person = Key::Person(tried.subject);
        let taken = match known_key(tried) {
            Some(key) => state.known.take(&[(key, PAIR_MAX)], now),
            None => {
                let source = place(tried.source);
                let limits = [
                    (person, PERSON_MAX),
                    (Key::Pair(tried.subject, source), PAIR_MAX),
                    (Key::Source(source), SOURCE_MAX),
                ];
                state.strangers.take(&limits, now)
            }
        };
        let log = state.strangers.logs.get_mut(&person);
        match taken {
            Ok(()) => Ok(log.map_or(0, |log| std::mem::take(&mut log.refused))),
            Err(wait) => {
                if let Some(log) = log {
                    log.refused = log.refused.saturating_add(1);
                }
                Err(wait)
            }
        }
    }

    /// The try was right: it is no failure. As a stranger's try for the person it stays counted.
    pub fn right(&self, tried: &Try) {
        let mut state = self.lock();
        match known_key(tried) {
            Some(key) => state.known.give_back(&key),
            None => {
                let source = place(tried.source);
                state.strangers.give_back(&Key::Pair(tried.subject, source));
                state.strangers.give_back(&Key::Source(source));
            }
        }
    }

    /// Whether a source has tries left; asked before anything is looked up for a stranger.
    ///
    /// # Errors
    /// The time to wait.
    pub fn source_may(&self, source: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        let log = state.strangers.logs.get_mut(&Key::Source(place(source)));
        log.and_then(|log| log.wait(SOURCE_MAX, now)).map_or(Ok(()), Err)
    }

    /// Somebody has signed in from here.
    pub fn remember(&self, source: Option<IpAddr>) {
        self.lock().familiar.remember(place(source));
    }

    /// Whether anybody has signed in from here lately.
    pub fn is_familiar(&self, source: Option<IpAddr>) -> bool {
        self.lock().familiar.sources.contains_key(&place(source))
    }

    /// Whether a refusal is to be written into the audit; if so, how many before it were not.
    pub fn note(&self, now: Instant) -> Option<u32> {
        let mut state = self.lock();
        let fresh = |noted: &Noted| now.saturating_duration_since(noted.since) < WINDOW;
        let noted = state.noted.filter(fresh).unwrap_or(Noted { count: 0, since: now });
        if noted.count >= NOTED_MAX {
            state.unnoted = state.unnoted.saturating_add(1);
            return None;
        }
        state.noted = Some(Noted {
            count: noted.count + 1,
            ..noted
        });
        Some(std::mem::take(&mut state.unnoted))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;

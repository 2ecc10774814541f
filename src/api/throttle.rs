//! How often somebody may guess. Counts failures in a window, by who is tried and from where.
//!
//! A guesser is stopped by the pair (name, source) and by the source. The name alone has a far higher limit, and a
//! source from which that name has signed in before is exempt from it: nobody can lock the owner out by guessing
//! from elsewhere. Bounded: at most [`KEYS_MAX`] counters, the oldest go first.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures are forgotten after this time.
pub const WINDOW: Duration = Duration::from_secs(60);
const PAIR_MAX: u32 = 5;
const SOURCE_MAX: u32 = 30;
const NAME_MAX: u32 = 100;
/// Refusals in a window that are written down; a guesser from everywhere must not fill the audit.
const NOTED_MAX: u32 = 120;
/// Counters kept.
pub const KEYS_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pair([u8; 16], Option<IpAddr>),
    Source(Option<IpAddr>),
    Name([u8; 16]),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<Key, Count>,
    known: HashMap<([u8; 16], Option<IpAddr>), Instant>,
    noted: Option<Count>,
    unnoted: u32,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
}

impl Throttle {
    /// Whether `name` may be tried from `source` now; else after how long.
    ///
    /// # Errors
    /// The time to wait, at most [`WINDOW`].
    pub fn admit(&self, name: &str, source: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let state = self.lock();
        let name = digest(name);
        let known = state.known.contains_key(&(name, source));
        let limits = [
            (Key::Pair(name, source), PAIR_MAX),
            (Key::Source(source), SOURCE_MAX),
            (Key::Name(name), if known { u32::MAX } else { NAME_MAX }),
        ];
        let wait = limits
            .iter()
            .filter_map(|(key, max)| {
                let count = state.counts.get(key)?;
                let left = WINDOW.checked_sub(now.saturating_duration_since(count.since))?;
                (count.failures >= *max && !left.is_zero()).then_some(left)
            })
            .max();
        match wait {
            None => Ok(()),
            Some(left) => Err(left),
        }
    }

    /// Notes a failure. Call it before the check and take it back with [`Throttle::succeeded`], so that guesses sent
    /// at once are counted at once.
    pub fn failed(&self, name: &str, source: Option<IpAddr>, now: Instant) {
        let mut state = self.lock();
        let name = digest(name);
        for key in [Key::Pair(name, source), Key::Source(source), Key::Name(name)] {
            let count = state.counts.entry(key).or_insert(Count {
                failures: 0,
                since: now,
            });
            if now.saturating_duration_since(count.since) >= WINDOW {
                *count = Count {
                    failures: 0,
                    since: now,
                };
            }
            count.failures = count.failures.saturating_add(1);
        }
        state.bound(now);
    }

    /// Notes a success: the pair is clean, and the source is known for the name.
    pub fn succeeded(&self, name: &str, source: Option<IpAddr>, now: Instant) {
        let mut state = self.lock();
        let name = digest(name);
        state.counts.remove(&Key::Pair(name, source));
        for key in [Key::Source(source), Key::Name(name)] {
            if let Some(count) = state.counts.get_mut(&key) {
                count.failures = count.failures.saturating_sub(1);
            }
        }
        state.known.insert((name, source), now);
        state.bound(now);
    }

    /// Whether a refusal is to be written down; if so, how many before it were not.
    pub fn note(&self, now: Instant) -> Option<u32> {
        let mut state = self.lock();
        let fresh = |count: &Count| now.saturating_duration_since(count.since) < WINDOW;
        let count = state.noted.filter(fresh).unwrap_or(Count {
            failures: 0,
            since: now,
        });
        if count.failures >= NOTED_MAX {
            state.unnoted = state.unnoted.saturating_add(1);
            return None;
        }
        state.noted = Some(Count {
            failures: count.failures + 1,
            ..count
        });
        Some(std::mem::take(&mut state.unnoted))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn bound(&mut self, now: Instant) {
        if self.counts.len() > KEYS_MAX {
            self.counts
                .retain(|_, count| now.saturating_duration_since(count.since) < WINDOW);
            halve(&mut self.counts, |count| count.since);
        }
        halve(&mut self.known, |since| *since);
    }
}

/// Keeps the newer half of what is too much, so that trimming is rare.
fn halve<K: Copy + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, since: impl Fn(&V) -> Instant) {
    if map.len() <= KEYS_MAX {
        return;
    }
    let mut ages: Vec<(Instant, K)> = map.iter().map(|(key, value)| (since(value), *key)).collect();
    ages.sort_unstable_by_key(|(since, _)| *since);
    for (_, key) in ages.iter().take(ages.len() / 2) {
        map.remove(key);
    }
}

fn digest(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    let full = Sha256::digest(name.trim().to_lowercase().as_bytes());
    for (to, from) in short.iter_mut().zip(full.iter()) {
        *to = *from;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_guesser_waits_and_others_do_not() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for _ in 0..PAIR_MAX {
            assert_eq!(throttle.admit("Ann@x.org", ip(1), start), Ok(()));
            throttle.failed("ann@x.org ", ip(1), start);
        }
        assert!(throttle.admit("ann@x.org", ip(1), start).is_err());
        assert_eq!(throttle.admit("ann@x.org", ip(2), start), Ok(()));
        assert_eq!(throttle.admit("bob@x.org", ip(1), start), Ok(()));
        assert_eq!(throttle.admit("ann@x.org", ip(1), start + WINDOW), Ok(()));
    }

    #[test]
    fn one_source_cannot_try_many_names() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for i in 0..SOURCE_MAX {
            throttle.failed(&format!("user{i}"), ip(1), start);
        }
        assert!(throttle.admit("fresh", ip(1), start).is_err());
    }

    #[test]
    fn a_distributed_guesser_cannot_lock_the_owner_out() {
        let throttle = Throttle::default();
        let start = Instant::now();
        throttle.failed("ann", ip(200), start);
        throttle.succeeded("ann", ip(200), start);
        for i in 0..NAME_MAX {
            throttle.failed("ann", ip(u8::try_from(i % 199).unwrap()), start);
        }
        assert!(throttle.admit("ann", ip(199), start).is_err());
        assert_eq!(throttle.admit("ann", ip(200), start), Ok(()));
    }

    #[test]
    fn what_is_written_down_is_bounded_and_says_what_is_missing() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for _ in 0..NOTED_MAX {
            assert_eq!(throttle.note(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(throttle.note(start + WINDOW / 2), None);
        }
        assert_eq!(throttle.note(start + WINDOW), Some(7));
        assert_eq!(throttle.note(start + WINDOW), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for i in 0..u32::try_from(KEYS_MAX).unwrap() {
            throttle.failed(&i.to_string(), Some(IpAddr::from(i.to_be_bytes())), start);
        }
        assert!(throttle.lock().counts.len() <= KEYS_MAX);
    }
}

//! When which meter of a shard has to be woken: one heap, one timer for all. 24 bytes a meter.
//!
//! A later push for the same meter makes the older entry stale; stale entries are dropped when they come up.

use crate::base::ids::MeterId;
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The heap.
#[derive(Debug, Default)]
pub struct Wakes {
    heap: BinaryHeap<Reverse<(i64, MeterId)>>,
    current: HashMap<MeterId, i64>,
}

impl Wakes {
    /// Sets (or with none clears) the meter's next wake. Answers whether it is the earliest of all now.
    pub fn set(&mut self, meter: MeterId, at: Option<DateTime<Utc>>) -> bool {
        let Some(at) = at.map(|at| at.timestamp_millis()) else {
            self.current.remove(&meter);
            return false;
        };
        if self.current.insert(meter, at) == Some(at) {
            return false;
        }
        self.heap.push(Reverse((at, meter)));
        self.shrink();
        self.earliest_ms() == Some(at)
    }

    /// The next meter that is due at `now`.
    pub fn pop_due(&mut self, now: DateTime<Utc>) -> Option<MeterId> {
        let now = now.timestamp_millis();
        loop {
            let Reverse((at, meter)) = *self.heap.peek()?;
            if self.current.get(&meter) != Some(&at) {
                self.heap.pop();
                continue;
            }
            if at > now {
                return None;
            }
            self.heap.pop();
            self.current.remove(&meter);
            return Some(meter);
        }
    }

    /// When the earliest is due.
    pub fn earliest(&mut self) -> Option<DateTime<Utc>> {
        self.earliest_ms().and_then(DateTime::from_timestamp_millis)
    }

    fn earliest_ms(&mut self) -> Option<i64> {
        loop {
            let Reverse((at, meter)) = *self.heap.peek()?;
            if self.current.get(&meter) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
    }

    /// Stale entries never outnumber live ones by much: the heap is bounded by the number of meters.
    fn shrink(&mut self) {
        if self.heap.len() > 64 + self.current.len() * 2 {
            self.heap = self.current.iter().map(|(meter, at)| Reverse((*at, *meter))).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_latest_word_counts() {
        let mut wakes = Wakes::default();
        assert!(wakes.set(MeterId(1), Some(at(10))));
        assert!(!wakes.set(MeterId(2), Some(at(20))));
        assert!(!wakes.set(MeterId(1), Some(at(30))));
        assert_eq!(wakes.earliest(), Some(at(20)));
        assert_eq!(wakes.pop_due(at(19)), None);
        assert_eq!(wakes.pop_due(at(25)), Some(MeterId(2)));
        assert_eq!(wakes.pop_due(at(25)), None);
        wakes.set(MeterId(1), None);
        assert_eq!((wakes.pop_due(at(99)), wakes.earliest()), (None, None));
    }

    #[test]
    fn stale_entries_stay_bounded() {
        let mut wakes = Wakes::default();
        for second in 0..10_000 {
            wakes.set(MeterId(1), Some(at(20_000 - second)));
        }
        assert!(wakes.heap.len() <= 67, "{}", wakes.heap.len());
        assert_eq!(wakes.earliest(), Some(at(10_001)));
    }
}

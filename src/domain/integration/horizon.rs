//! Up to where a log that several transactions append to is settled.
//!
//! Numbers of rows are given out before the commit, so a row may become visible after one with a greater number; a reader
//! that went by the greatest number it sees would skip it for ever. But every transaction that holds a smaller number had
//! its own transaction number when the greatest one was seen (the feed's functions take care of that), and that is smaller
//! than the first one not yet given out (`xmax`). When the oldest transaction that still runs (`xmin`) has passed that
//! `xmax`, all of them have ended, and what was the greatest number then is settled now.
//!
//! Nothing of it is kept: transaction numbers begin anew in a restored database.

use std::collections::VecDeque;

/// Looks that wait for transactions to end; more of them only say the same more finely.
const WAITING_MAX: usize = 64;

/// One look at the database: all three of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The greatest number that is visible; 0: none.
    pub head: i64,
    /// The oldest transaction that still ran.
    pub xmin: u64,
    /// The first transaction number that was not given out.
    pub xmax: u64,
}

/// Remembers looks until what they saw is settled.
#[derive(Debug, Default)]
pub struct Horizon {
    settled: i64,
    newest: u64,
    waiting: VecDeque<Look>,
}

impl Horizon {
    /// Takes a look, and says up to where everything is settled.
    pub fn look(&mut self, look: Look) -> i64 {
        if look.xmax < self.newest {
            // another database than before
            self.waiting.clear();
            self.settled = 0;
        }
        self.newest = look.xmax;
        if look.xmin >= look.xmax {
            self.waiting.clear();
            self.settled = self.settled.max(look.head);
            return self.settled;
        }
        while let Some(first) = self.waiting.front()
            && first.xmax <= look.xmin
        {
            self.settled = self.settled.max(first.head);
            self.waiting.pop_front();
        }
        let known = self.waiting.back().map_or(self.settled, |last| last.head);
        if look.head > known && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(look);
        }
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A database as far as it matters: transactions that take numbers in one order and end in another.
    #[derive(Default)]
    struct Model {
        next_xid: u64,
        next_seq: i64,
        running: BTreeMap<u64, Vec<i64>>,
        visible: Vec<i64>,
    }

    impl Model {
        fn look(&self) -> Look {
            Look {
                head: self.visible.iter().copied().max().unwrap_or(0),
                xmin: self.running.keys().next().copied().unwrap_or(self.next_xid),
                xmax: self.next_xid,
            }
        }

        fn step(&mut self, kind: u8, pick: usize) {
            let chosen = self.running.keys().nth(pick % self.running.len().max(1)).copied();
            match (kind % 4, chosen) {
                (0, _) => {
                    self.running.insert(self.next_xid, Vec::new());
                    self.next_xid += 1;
                }
                (1, Some(xid)) => {
                    self.next_seq += 1;
                    let seq = self.next_seq;
                    self.running.get_mut(&xid).unwrap().push(seq);
                }
                (2, Some(xid)) => self.visible.extend(self.running.remove(&xid).unwrap()),
                (3, Some(xid)) if pick.is_multiple_of(3) => drop(self.running.remove(&xid)),
                _ => {}
            }
        }
    }

    proptest! {
        /// What is settled stays: no row with a smaller number appears later. And in the end everything is.
        #[test]
        fn nothing_is_skipped(steps in prop::collection::vec((any::<u8>(), any::<usize>(), any::<bool>()), 1..300)) {
            let mut model = Model { next_xid: 700, ..Model::default() };
            let mut horizon = Horizon::default();
            let mut settled = 0;
            for (kind, pick, look) in steps {
                model.step(kind, pick);
                if look {
                    let now = horizon.look(model.look());
                    prop_assert!(now >= settled);
                    settled = now;
                }
                for numbers in model.running.values() {
                    prop_assert!(numbers.iter().all(|seq| *seq > settled), "{settled} is taken for settled");
                }
            }
            while let Some(xid) = model.running.keys().next().copied() {
                model.visible.extend(model.running.remove(&xid).unwrap());
            }
            prop_assert_eq!(horizon.look(model.look()), model.look().head);
        }
    }

    #[test]
    fn load_without_a_pause_does_not_hold_it_up() {
        let mut horizon = Horizon::default();
        let mut settled = 0;
        for n in 0..1_000u32 {
            // there is always one transaction under way, and none is older than three looks
            settled = horizon.look(Look {
                head: i64::from(n),
                xmin: u64::from(n),
                xmax: u64::from(n) + 3,
            });
        }
        assert_eq!(settled, 996);
    }

    #[test]
    fn a_restored_database_begins_anew() {
        let mut horizon = Horizon::default();
        assert_eq!(
            horizon.look(Look {
                head: 50,
                xmin: 9_000,
                xmax: 9_000
            }),
            50
        );
        assert_eq!(
            horizon.look(Look {
                head: 20,
                xmin: 800,
                xmax: 801
            }),
            0
        );
        assert_eq!(
            horizon.look(Look {
                head: 21,
                xmin: 801,
                xmax: 803
            }),
            20
        );
    }
}

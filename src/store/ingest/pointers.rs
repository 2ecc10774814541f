//! When the pointers to the latest readings may be moved by a transaction of their own, beside the one that writes the readings.
//!
//! Moving them takes about as long as the readings themselves, and needs nothing of them. But between the two commits the
//! process may die, and then what comes again is a duplicate, to which no pointer is moved. So what was never seen to
//! end well is in doubt, and in doubt duplicates move pointers too, until a batch brings nothing but new readings: the storage
//! path gives batches in the order of the spool, and what came before a new one was stored to its end.

use super::batch::Prepared;
use super::readings::Outcome;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the batch before tells of the next one.
#[derive(Debug)]
pub(super) struct Pointers {
    state: AtomicU8,
}

/// Pointers may be missing for what is stored: after a start, and after a batch that failed.
const DOUBTFUL: u8 = 0;
/// The batch before had what was there already or could not be taken: the next one will have, too, and all is written together.
const TOGETHER: u8 = 1;
/// The batch before was new, to the last reading.
const APART: u8 = 2;

impl Default for Pointers {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(DOUBTFUL),
        }
    }
}

impl Pointers {
    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// Whether the next batch's pointers may be moved at the same time.
    pub(super) fn may_go_apart(&self) -> bool {
        self.state() == APART
    }

    /// Readings whose pointers are to be moved.
    pub(super) fn to_move<'p, 'a>(&self, outcome: &Outcome<'p, 'a>) -> Vec<&'p Prepared<'a>> {
        let there = if self.state() == DOUBTFUL {
            outcome.there.as_slice()
        } else {
            &[]
        };
        outcome.inserted.iter().chain(there).copied().collect()
    }

    /// A batch of so many readings was committed with its pointers.
    pub(super) fn wrote(&self, outcome: &Outcome<'_, '_>, readings: usize) {
        if readings == 0 {
            return;
        }
        let state = if outcome.inserted.len() == readings {
            APART
        } else {
            self.state().min(TOGETHER)
        };
        self.state.store(state, Ordering::Relaxed);
    }

    /// A batch failed, or nobody knows.
    pub(super) fn doubt(&self) {
        self.state.store(DOUBTFUL, Ordering::Relaxed);
    }
}

//! A line whose meters have all fallen silent: a cut cable, a converter without power. Each of its meters would be tried
//! with all its attempts again and again; after some of them in a row that said nothing the line is only probed, by one
//! visit now and then. Who waits for an answer is tried all the same.

use crate::base::ids::MeterId;
use crate::exchange::job::Priority;
use std::time::{Duration, Instant};

/// So many different meters in a row that say nothing open it. Fewer meters cost too little line time to matter, and a
/// few dead ones that happen to be asked one after the other must not close the line to their neighbours.
pub(super) const SILENT_METERS: usize = 8;
/// How long it stays open at first.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(30);
/// How long it stays open at most.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct LineBreaker {
    silent: Vec<MeterId>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Instant,
    wait: Duration,
}

impl LineBreaker {
    /// Whether a job of this priority may be asked.
    pub(super) fn lets(&self, now: Instant, priority: Priority) -> bool {
        // a search is how one finds out why a line is silent
        priority <= Priority::OnDemand
            || priority == Priority::Discovery
            || self.open.is_none_or(|open| now >= open.until)
    }

    /// Whether the line is taken for silent, also while it is probed.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Somebody answered.
    pub(super) fn answered(&mut self) {
        if self.open.is_some() || !self.silent.is_empty() {
            *self = Self::default();
        }
    }

    /// A visit brought nothing. Whether the line is closed for a time now.
    pub(super) fn silent(&mut self, now: Instant, meter: MeterId) -> bool {
        if let Some(open) = &mut self.open {
            let probed = now >= open.until;
            if probed {
                open.wait = (open.wait * 2).min(LONGEST_WAIT);
                open.until = now + open.wait;
            }
            return probed;
        }
        if !self.silent.contains(&meter) {
            self.silent.push(meter);
        }
        if self.silent.len() < SILENT_METERS {
            return false;
        }
        self.silent = Vec::new();
        self.open = Some(Open {
            until: now + FIRST_WAIT,
            wait: FIRST_WAIT,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_different_meters_and_one_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = LineBreaker::default();
        for _ in 0..100 {
            assert!(!breaker.silent(now, MeterId(1)), "one dead meter is no silent line");
        }
        for meter in 2..8 {
            assert!(!breaker.silent(now, MeterId(meter)));
        }
        breaker.answered();
        for meter in 1..8 {
            assert!(!breaker.silent(now, MeterId(meter)));
        }
        assert!(breaker.silent(now, MeterId(8)));
        assert!(breaker.is_open() && !breaker.lets(now, Priority::Settlement));
        assert!(breaker.lets(now, Priority::Control) && breaker.lets(now, Priority::OnDemand));
        // who is tried beside the probes does not put them off
        assert!(!breaker.silent(now + FIRST_WAIT / 2, MeterId(3)));
        assert!(breaker.lets(now + FIRST_WAIT, Priority::Discovery));
        assert!(breaker.silent(now + FIRST_WAIT, MeterId(1)));
        assert!(!breaker.lets(now + FIRST_WAIT * 2, Priority::Scheduled));
        assert!(breaker.lets(now + FIRST_WAIT * 3, Priority::Scheduled));
        let mut at = now + FIRST_WAIT;
        for _ in 0..10 {
            at += LONGEST_WAIT;
            breaker.silent(at, MeterId(1));
        }
        assert!(breaker.lets(at + LONGEST_WAIT, Priority::Scheduled), "never longer");
        breaker.answered();
        assert!(!breaker.is_open() && breaker.lets(now, Priority::Discovery));
    }
}

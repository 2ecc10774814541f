//! Per-meter circuit breaker: a dead meter must not take the line from its neighbours.
//!
//! Closed, every poll passes. After [`OPEN_AFTER`] polls in a row without an answer it opens: polls wait, until a single
//! one may probe (half-open). An answer closes it; silence opens it for twice as long, from [`FIRST_WAIT_S`] up to
//! [`LONGEST_WAIT_S`]. So a dead meter costs its line time-out × attempts per probe, at most four probes an hour in
//! the long run. Plain struct; knows no clock, no socket.

use chrono::{DateTime, TimeDelta, Utc};

/// So many polls in a row without an answer open it.
pub const OPEN_AFTER: u8 = 3;

/// How long it stays open first, seconds.
pub const FIRST_WAIT_S: u32 = 30;

/// How long it stays open at most, seconds.
pub const LONGEST_WAIT_S: u32 = 900;

/// May a poll go to the meter?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Pass,
    /// Yes, as a probe: the breaker was open.
    Probe,
    /// Not before this instant.
    Wait(DateTime<Utc>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { silent: u8 },
    Open { until: DateTime<Utc>, wait_s: u32 },
}

/// A meter's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker(State);

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { silent: 0 })
    }
}

impl Breaker {
    /// Whether a poll may go now.
    pub fn gate(&self, now: DateTime<Utc>) -> Gate {
        match self.0 {
            State::Closed { .. } => Gate::Pass,
            State::Open { until, .. } if now >= until => Gate::Probe,
            State::Open { until, .. } => Gate::Wait(until),
        }
    }

    /// Whether it is open (also while a probe is under way).
    pub fn is_open(&self) -> bool {
        matches!(self.0, State::Open { .. })
    }

    /// When the next probe may go; none while it is closed.
    pub fn probe_at(&self) -> Option<DateTime<Utc>> {
        match self.0 {
            State::Closed { .. } => None,
            State::Open { until, .. } => Some(until),
        }
    }

    /// The meter answered, be it with a refusal.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// A poll ended without any answer of the meter, the line being up. True when this opened the breaker.
    pub fn silent(&mut self, now: DateTime<Utc>) -> bool {
        let (state, opened) = match self.0 {
            State::Closed { silent } if silent + 1 < OPEN_AFTER => (State::Closed { silent: silent + 1 }, false),
            State::Closed { .. } => (Self::open(now, FIRST_WAIT_S), true),
            State::Open { wait_s, .. } => (Self::open(now, wait_s.saturating_mul(2).min(LONGEST_WAIT_S)), false),
        };
        self.0 = state;
        opened
    }

    /// The way to the meter is new (a new session): whatever was wrong may be gone, so a probe may go at once.
    pub fn line_is_new(&mut self, now: DateTime<Utc>) {
        if let State::Open { until, .. } = &mut self.0 {
            *until = now.min(*until);
        }
    }

    /// The wall clock was set back by `by`: waits must not grow by it.
    pub fn clock_went_back(&mut self, by: TimeDelta) {
        if let State::Open { until, .. } = &mut self.0 {
            *until = until.checked_sub_signed(by).unwrap_or(*until);
        }
    }

    fn open(now: DateTime<Utc>, wait_s: u32) -> State {
        let until = now
            .checked_add_signed(TimeDelta::seconds(i64::from(wait_s)))
            .unwrap_or(now);
        State::Open { until, wait_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    #[test]
    fn it_opens_after_silence_and_probes_ever_more_rarely() {
        let mut breaker = Breaker::default();
        assert!(!breaker.silent(at(0)));
        assert!(!breaker.silent(at(1)));
        assert_eq!(breaker.gate(at(2)), Gate::Pass);
        assert!(breaker.silent(at(2)));
        assert_eq!(breaker.gate(at(31)), Gate::Wait(at(32)));
        assert_eq!(breaker.gate(at(32)), Gate::Probe);
        assert!(!breaker.silent(at(35)), "it was open before");
        assert_eq!(breaker.gate(at(36)), Gate::Wait(at(95)));
        for _ in 0..20 {
            breaker.silent(at(1000));
        }
        assert_eq!(breaker.gate(at(1001)), Gate::Wait(at(1900)));
        breaker.answered();
        assert_eq!(breaker.gate(at(1001)), Gate::Pass);
        assert!(!breaker.silent(at(1001)), "counts from zero again");
    }

    #[test]
    fn an_answer_between_silences_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for i in 0..100 {
            if i % 3 == 2 {
                breaker.answered();
            } else {
                assert!(!breaker.silent(at(i)));
            }
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_new_line_is_probed_at_once_and_a_clock_set_back_adds_no_wait() {
        let mut breaker = Breaker::default();
        for i in 0..5 {
            breaker.silent(at(i));
        }
        let mut stepped = breaker;
        breaker.line_is_new(at(10));
        assert_eq!(breaker.gate(at(10)), Gate::Probe);
        let Gate::Wait(before) = stepped.gate(at(5)) else {
            panic!("closed");
        };
        stepped.clock_went_back(TimeDelta::hours(1));
        assert_eq!(stepped.gate(at(5 - 3600)), Gate::Wait(before - TimeDelta::hours(1)));
    }

    /// One dead meter on a line that is asked every minute: what its neighbours lose in a day.
    #[test]
    fn neighbours_lose_one_timed_out_poll_per_probe() {
        let (mut breaker, mut polls) = (Breaker::default(), 0);
        for minute in 0..24 * 60 {
            if !matches!(breaker.gate(at(minute * 60)), Gate::Wait(_)) {
                polls += 1;
                breaker.silent(at(minute * 60 + 3));
            }
        }
        // 3 to open, 5 while the wait grows, then one every 15 or 16 minutes
        assert!((90..=104).contains(&polls), "{polls} of 1440");
    }
}

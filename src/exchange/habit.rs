//! What is learned of one meter from its visits: how long it thinks, how long its answers are, whether it needs a longer
//! time-out or a longer pause than is configured, and which share of its line it takes. Plain; "now" is an argument.
//!
//! - **Time-out**: a quarter more than the longest turnaround seen lately, answers that came too late included; never
//!   less than what is configured, never more than [`TIMEOUTS_MAX`] times that or [`TIMEOUT_MAX`].
//! - **Pause**: a meter that answers the first question of a visit and needs a second attempt at a later one, visit after
//!   visit, is asked too soon behind its own answer; it gets a rest that doubles until that ends. What is configured is
//!   the least.
//! - **Share**: the time for which its questions held the line in the last hour.

use super::job::TransactionReport;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A learned time-out is at most so many times what is configured.
pub const TIMEOUTS_MAX: u32 = 4;
/// And never longer than this.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// The least rest that is learned.
pub const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest rest that is learned.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many visits in a row that needed a second attempt behind an answer lengthen the rest.
const HURRIED_VISITS: u8 = 5;
/// So many visits in a row that did not shorten it again.
const CALM_VISITS: u16 = 200;
/// The peak of turnarounds falls by this part of its distance with each answer.
const PEAK_DECAY: u32 = 64;

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Habit {
    typical: Option<Duration>,
    peak: Option<Duration>,
    answer_bytes: Option<u32>,
    pause: Duration,
    hurried: u8,
    calm: u16,
    share: Share,
}

/// A visit, as far as something can be learned of it.
#[derive(Clone, Copy, Debug)]
pub struct Visited<'a> {
    /// The time-out that it was asked with.
    pub timeout: Duration,
    /// What became of its questions.
    pub reports: &'a [TransactionReport],
    /// By how much an answer came later than its time-out since the visit before.
    pub late_by: Option<Duration>,
}

impl Habit {
    /// Learns from a visit.
    pub fn visited(&mut self, now: DateTime<Utc>, visit: &Visited<'_>) {
        if let Some(late_by) = visit.late_by {
            self.think(visit.timeout.saturating_add(late_by));
        }
        for report in visit.reports {
            self.share.add(now, report.held);
            if let Some(turnaround) = report.turnaround {
                self.think(turnaround);
                self.typical = Some(smooth(self.typical, turnaround));
            }
            if let Ok(answer) = &report.result {
                let bytes = u32::try_from(answer.len()).unwrap_or(u32::MAX);
                self.answer_bytes = Some(self.answer_bytes.map_or(bytes, |old| old - old / 8 + bytes / 8));
            }
        }
        self.haste(visit.reports);
    }

    fn think(&mut self, turnaround: Duration) {
        let fallen = self
            .peak
            .map(|peak| peak.saturating_sub(peak.saturating_sub(turnaround) / PEAK_DECAY));
        self.peak = Some(fallen.map_or(turnaround, |fallen| fallen.max(turnaround)));
    }

    /// Looks whether the meter is asked too soon behind its own answers.
    fn haste(&mut self, reports: &[TransactionReport]) {
        let [first, others @ ..] = reports else { return };
        let at_once = |report: &TransactionReport| report.result.is_ok() && report.attempts == 1;
        if others.is_empty() || !at_once(first) {
            return;
        }
        if others.iter().any(|report| report.result.is_ok() && report.attempts > 1) {
            self.calm = 0;
            self.hurried += 1;
            if self.hurried >= HURRIED_VISITS {
                self.hurried = 0;
                self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            }
        } else if others.iter().all(at_once) {
            self.hurried = 0;
            self.calm += 1;
            if self.calm >= CALM_VISITS {
                self.calm = 0;
                let less = self.pause / 2;
                self.pause = if less < PAUSE_MIN { Duration::ZERO } else { less };
            }
        }
    }

    /// The time-out for this meter where `configured` is what it would get else.
    pub fn timeout(&self, configured: Duration) -> Duration {
        let most = configured.saturating_mul(TIMEOUTS_MAX).min(TIMEOUT_MAX).max(configured);
        let learned = self.peak.map_or(Duration::ZERO, |peak| peak + peak / 4);
        learned.clamp(configured, most)
    }

    /// The rest for this meter behind its answers where `configured` is the least.
    pub fn pause(&self, configured: Duration) -> Duration {
        self.pause.max(configured)
    }

    /// How long it thinks before it answers, smoothed, with what the way to the line adds.
    pub fn turnaround(&self) -> Option<Duration> {
        self.typical
    }

    /// Bytes of an answer, smoothed, follow-ups included.
    pub fn answer_bytes(&self) -> Option<u32> {
        self.answer_bytes
    }

    /// The part of the last hour for which its questions held the line, 0 to 1.
    pub fn share(&self, now: DateTime<Utc>) -> f64 {
        self.share.of(now)
    }
}

fn smooth(old: Option<Duration>, new: Duration) -> Duration {
    old.map_or(new, |old| (old * 7 + new) / 8)
}

const HOUR_S: i64 = 3_600;

/// Line time of this hour and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    hour: i64,
    now: Duration,
    before: Duration,
}

impl Share {
    fn turn(&self, now: DateTime<Utc>) -> Self {
        let hour = now.timestamp().div_euclid(HOUR_S);
        match hour - self.hour {
            0 => *self,
            1 => Self {
                hour,
                now: Duration::ZERO,
                before: self.now,
            },
            // long ago, or a clock set back
            _ => Self {
                hour,
                ..Self::default()
            },
        }
    }

    fn add(&mut self, now: DateTime<Utc>, held: Duration) {
        *self = self.turn(now);
        self.now = self.now.saturating_add(held);
    }

    fn of(&self, now: DateTime<Utc>) -> f64 {
        let share = self.turn(now);
        let into = f64::from(i32::try_from(now.timestamp().rem_euclid(HOUR_S)).unwrap_or_default()) / 3_600.0;
        let seconds = share.now.as_secs_f64() + share.before.as_secs_f64() * (1.0 - into);
        (seconds / 3_600.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::job::TransactionError;
    use chrono::TimeDelta;

    const T: Duration = Duration::from_secs(1);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn report(turnaround_ms: u64, attempts: u8) -> TransactionReport {
        let turnaround = Duration::from_millis(turnaround_ms);
        TransactionReport {
            result: Ok(vec![0; 20]),
            attempts,
            sent_at: at(0),
            ended_at: at(0),
            turnaround: (attempts == 1).then_some(turnaround),
            held: turnaround,
        }
    }

    fn visit(habit: &mut Habit, reports: &[TransactionReport], late_ms: Option<u64>) {
        let visited = Visited {
            timeout: habit.timeout(T),
            reports,
            late_by: late_ms.map(Duration::from_millis),
        };
        habit.visited(at(0), &visited);
    }

    #[test]
    fn a_quick_meter_keeps_what_is_configured() {
        let mut habit = Habit::default();
        for _ in 0..1_000 {
            visit(&mut habit, &[report(80, 1), report(60, 1)], None);
        }
        assert_eq!((habit.timeout(T), habit.pause(Duration::ZERO)), (T, Duration::ZERO));
        let typical = habit.turnaround().unwrap().as_millis();
        assert!((60..=80).contains(&typical), "{typical}");
        assert_eq!(habit.answer_bytes(), Some(20));
    }

    /// A meter that answers at the edge of its time-out, or behind it.
    #[test]
    fn a_slow_meter_gets_the_time_it_needs_within_limits() {
        let mut habit = Habit::default();
        visit(&mut habit, &[report(950, 1)], None);
        assert_eq!(habit.timeout(T).as_millis(), 1_187);
        // late by 0.6 s at 1.187 s
        visit(&mut habit, &[], Some(600));
        assert_eq!(habit.timeout(T).as_micros(), (1_187_500 + 600_000) * 5 / 4);
        visit(&mut habit, &[], Some(60_000));
        assert_eq!(habit.timeout(T), T * 4);
        assert_eq!(habit.timeout(Duration::from_secs(20)), TIMEOUT_MAX);
        assert_eq!(habit.timeout(Duration::from_secs(40)), Duration::from_secs(40));
        // it is quick again: what was learned fades
        let mut visits = 0;
        while habit.timeout(T) > T {
            visit(&mut habit, &[report(100, 1)], None);
            visits += 1;
        }
        assert!((50..1_000).contains(&visits), "{visits}");
    }

    #[test]
    fn who_is_asked_too_soon_gets_a_rest_and_loses_it_again() {
        let mut habit = Habit::default();
        let hurried = [report(50, 1), report(50, 2), report(50, 1)];
        let calm = [report(50, 1), report(50, 1), report(50, 1)];
        for _ in 0..4 {
            visit(&mut habit, &hurried, None);
        }
        visit(&mut habit, &calm, None);
        assert_eq!(habit.pause(Duration::ZERO), Duration::ZERO, "now and then one is lost");
        let needs = Duration::from_millis(130);
        let mut visits = 0;
        while habit.pause(Duration::ZERO) < needs {
            visit(&mut habit, &hurried, None);
            visits += 1;
        }
        assert_eq!(visits, 4 * 5, "25, 50, 100, 200 ms");
        assert_eq!(habit.pause(Duration::from_millis(500)).as_millis(), 500);
        for _ in 0..4 * usize::from(CALM_VISITS) {
            visit(&mut habit, &calm, None);
        }
        assert_eq!(habit.pause(Duration::ZERO), Duration::ZERO);
        for _ in 0..1_000 {
            visit(&mut habit, &hurried, None);
        }
        assert_eq!(habit.pause(Duration::ZERO), PAUSE_MAX);
        // one that answers nothing, or only its first question late, is no sign of haste
        let mut other = Habit::default();
        let mut silent = report(50, 3);
        silent.result = Err(TransactionError::Timeout);
        for _ in 0..100 {
            visit(&mut other, &[report(50, 2), report(50, 2)], None);
            visit(&mut other, &[report(50, 1), silent.clone()], None);
        }
        assert_eq!(other.pause(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_share_is_that_of_the_last_hour() {
        let mut habit = Habit::default();
        // 6 s every minute
        for minute in 0..180 {
            let visited = Visited {
                timeout: T,
                reports: &[report(6_000, 1)],
                late_by: None,
            };
            habit.visited(at(minute * 60), &visited);
        }
        let now = at(180 * 60 - 1);
        assert!((habit.share(now) - 0.1).abs() < 0.005, "{}", habit.share(now));
        let half = habit.share(at(180 * 60 + 1_800));
        assert!((half - 0.05).abs() < 0.005, "{half}");
        assert!(habit.share(now + TimeDelta::hours(3)) < 1e-9);
        assert!(habit.share(now - TimeDelta::hours(5)) < 1e-9, "a clock set back");
    }
}

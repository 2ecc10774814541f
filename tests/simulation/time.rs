//! Virtual time that goes on over restarts of the server, and the wall clock that people step.

use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::clock::Clock;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// 2026-03-02, 00:00:30 UTC: where the wall clock stands at virtual zero.
pub fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_409_630, 0).unwrap()
}

#[derive(Debug)]
struct Time {
    /// Virtual time before the present life.
    base: Duration,
    origin: Option<tokio::time::Instant>,
    /// From which virtual millisecond on the wall clock is off by how many.
    steps: Vec<(u64, i64)>,
    highest: DateTime<Utc>,
}

/// The clock of a run. Its monotonic side is that of the present life's runtime.
#[derive(Debug)]
pub struct SimClock(Mutex<Time>);

impl SimClock {
    pub fn new() -> Self {
        Self(Mutex::new(Time {
            base: Duration::ZERO,
            origin: None,
            steps: vec![(0, 0)],
            highest: epoch(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap()
    }

    /// A runtime has begun.
    pub fn begin(&self) {
        self.lock().origin = Some(tokio::time::Instant::now());
    }

    /// The runtime is about to end.
    pub fn end(&self) {
        let mut time = self.lock();
        let lived = time.origin.take().map_or(Duration::ZERO, |origin| origin.elapsed());
        time.base += lived;
    }

    /// Time passes without a server.
    pub fn pass(&self, down: Duration) {
        self.lock().base += down;
    }

    pub fn ms(&self) -> u64 {
        self.lock().ms()
    }

    pub fn step(&self, by_ms: i64) {
        let mut time = self.lock();
        let (now, offset) = (time.ms(), time.steps.last().unwrap().1);
        time.note();
        time.steps.push((now, offset + by_ms));
    }

    /// The latest that the wall clock has ever shown.
    pub fn highest(&self) -> DateTime<Utc> {
        let mut time = self.lock();
        time.note();
        time.highest
    }

    /// The latest that the wall clock had shown by then.
    pub fn highest_at(&self, ms: u64) -> DateTime<Utc> {
        let time = self.lock();
        let ends = time.steps.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        time.steps
            .iter()
            .zip(ends)
            .take_while(|((from, _), _)| *from <= ms)
            .map(|((_, offset), end)| wall(end.min(ms), *offset))
            .max()
            .unwrap()
    }

    /// The first virtual millisecond from `least` on at which the wall clock showed this.
    pub fn virtual_of(&self, at: DateTime<Utc>, least: u64) -> Option<u64> {
        let time = self.lock();
        let ends = time.steps.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
        let shown = time.steps.iter().zip(ends).filter_map(|((from, offset), end)| {
            let ms = u64::try_from((at - wall(0, *offset)).num_milliseconds()).ok()?;
            (*from..=end).contains(&ms).then_some(ms)
        });
        shown.filter(|ms| *ms >= least).min()
    }

    /// Whether the wall clock was stepped between two virtual milliseconds.
    pub fn stepped(&self, from: u64, to: u64) -> bool {
        let steps = self.lock().steps.clone();
        steps.iter().skip(1).any(|(at, _)| (from..=to).contains(at))
    }

    /// Virtual milliseconds since the last step of the wall clock.
    pub fn since_step(&self) -> u64 {
        let time = self.lock();
        time.ms() - time.steps.last().unwrap().0
    }
}

fn wall(ms: u64, offset: i64) -> DateTime<Utc> {
    epoch() + TimeDelta::milliseconds(i64::try_from(ms).unwrap() + offset)
}

impl Time {
    fn elapsed(&self) -> Duration {
        self.base + self.origin.map_or(Duration::ZERO, |origin| origin.elapsed())
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap()
    }

    fn now(&self) -> DateTime<Utc> {
        let offset = self.steps.last().unwrap().1;
        epoch() + TimeDelta::from_std(self.elapsed()).unwrap() + TimeDelta::milliseconds(offset)
    }

    fn note(&mut self) {
        self.highest = self.highest.max(self.now());
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        self.lock().now()
    }

    fn monotonic(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

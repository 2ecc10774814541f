//! Floor 2: conversations without sockets. One transaction, the fair half-duplex line queue, the session from connect
//! to gone, retry and breaker. "Now" is an argument; no sockets, no clock, no actix.

pub mod admission;
pub mod agenda;
pub mod breaker;
pub mod dialogue;
pub mod drift;
pub mod evidence;
pub mod feasible;
pub mod habit;
pub mod job;
pub mod line;
pub mod members;
mod memory;
pub mod pace;
pub mod proxy;
pub mod scan;
pub mod session;
pub mod shed;
pub mod trunk;
pub mod turn;
pub mod visit;

use chrono::{DateTime, Utc};
use std::time::Instant;

/// An instant on both clocks: `at` is what people see, `on` is what durations are measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall time, UTC.
    pub at: DateTime<Utc>,
    /// Monotonic time.
    pub on: Instant,
}

#[cfg(test)]
mod load_tests;

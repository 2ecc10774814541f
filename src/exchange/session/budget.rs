//! What a peer may send: bytes and arrivals, each a token bucket (promises.md A4).

use std::time::Instant;

/// The byte and arrival budget of one session: two token buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloodBudget {
    /// Bytes a second, sustained.
    pub bytes_per_s: u32,
    /// Bytes at once.
    pub bytes_burst: u32,
    /// Arrivals (reads) a second, sustained.
    pub reads_per_s: u32,
    /// Arrivals at once.
    pub reads_burst: u32,
}

impl Default for FloodBudget {
    /// A line of 115,200 baud carries 11,520 bytes a second.
    fn default() -> Self {
        Self {
            bytes_per_s: 20_000,
            bytes_burst: 256 * 1024,
            reads_per_s: 200,
            reads_burst: 2_000,
        }
    }
}

/// Two token buckets.
#[derive(Debug)]
pub(super) struct Tokens {
    budget: FloodBudget,
    bytes: f64,
    reads: f64,
    at: Instant,
}

impl Tokens {
    pub(super) fn new(budget: FloodBudget, now: Instant) -> Self {
        Self {
            bytes: f64::from(budget.bytes_burst),
            reads: f64::from(budget.reads_burst),
            at: now,
            budget,
        }
    }

    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let budget = self.budget;
        let fill = |level: f64, rate: u32, burst: u32| (level + seconds * f64::from(rate)).min(f64::from(burst));
        self.bytes = fill(self.bytes, budget.bytes_per_s, budget.bytes_burst) - bytes as f64;
        self.reads = fill(self.reads, budget.reads_per_s, budget.reads_burst) - 1.0;
        self.bytes >= 0.0 && self.reads >= 0.0
    }

    pub(super) fn give_back(&mut self, reads: u32, bytes: usize) {
        self.bytes = (self.bytes + bytes as f64).min(f64::from(self.budget.bytes_burst));
        self.reads = (self.reads + f64::from(reads)).min(f64::from(self.budget.reads_burst));
    }
}

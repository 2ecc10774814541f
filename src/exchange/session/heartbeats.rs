//! What a session knows of its DTU's heartbeats: pinned, shipped by makers, or learned because the same bytes came
//! twice while nobody had asked anything.

use crate::protocol::dtu::heartbeat::{SHIPPED, is_shipped};
use crate::protocol::dtu::lineframe;
use crate::protocol::dtu::profile::PACKAGE_LEN_MAX;
use std::time::{Duration, Instant};

/// Heartbeats that a session remembers; a DTU has one, sometimes two.
const KNOWN_MAX: usize = 4;
/// Bytes seen once that may turn out to be one.
const CANDIDATES_MAX: usize = 4;
/// Closer than this they are one burst, not an interval.
const INTERVAL_MIN: Duration = Duration::from_millis(900);

#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    known: Vec<Vec<u8>>,
    candidates: Vec<Vec<u8>>,
    last_at: Option<Instant>,
    interval: Option<Duration>,
}

impl Heartbeats {
    pub(super) fn new(pinned: &[Vec<u8>]) -> Self {
        Self {
            known: pinned.iter().take(KNOWN_MAX).cloned().collect(),
            ..Self::default()
        }
    }

    /// Pinned ones come first and push out learned ones.
    pub(super) fn pin(&mut self, pinned: &[Vec<u8>]) {
        let learned = std::mem::take(&mut self.known);
        let fresh = learned.into_iter().filter(|known| !pinned.contains(known));
        self.known = pinned.iter().cloned().chain(fresh).take(KNOWN_MAX).collect();
    }

    pub(super) fn known(&self) -> &[Vec<u8>] {
        &self.known
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// A heartbeat came, whatever its bytes.
    pub(super) fn note_time(&mut self, now: Instant) {
        let since = self.last_at.map(|last| now.saturating_duration_since(last));
        if let Some(since) = since.filter(|since| *since >= INTERVAL_MIN) {
            self.interval = Some(since);
        }
        if since.is_none_or(|since| since >= INTERVAL_MIN) {
            self.last_at = Some(now);
        }
    }

    /// These bytes are a heartbeat: remember them.
    pub(super) fn learn(&mut self, now: Instant, bytes: &[u8]) {
        self.note_time(now);
        self.candidates.retain(|candidate| candidate != bytes);
        if !self.known.iter().any(|known| known == bytes) && self.known.len() < KNOWN_MAX {
            self.known.push(bytes.to_vec());
        }
    }

    /// The known or shipped heartbeat at the front: of several the longest. A short or single-byte one counts only
    /// alone, it could begin anything.
    pub(super) fn leading(&self, bytes: &[u8]) -> Option<usize> {
        let known = self.known.iter().map(|bytes| (bytes.as_slice(), bytes.len() > 1));
        let shipped = SHIPPED.iter().map(|shipped| (shipped.bytes, shipped.distinct));
        known
            .chain(shipped)
            .filter(|(pattern, distinct)| bytes.starts_with(pattern) && (*distinct || is_only(bytes, pattern)))
            .map(|(pattern, _)| pattern.len())
            .max()
    }

    /// Judges bytes that came while nobody had asked, or that a transaction did not want: whether they are a heartbeat.
    /// Where learning is allowed the second time they are the same they are one, unless they are a frame of a meter
    /// (a reply that was sent twice).
    pub(super) fn judge(&mut self, now: Instant, bytes: &[u8], may_learn: bool) -> bool {
        if bytes.is_empty() || bytes.len() > PACKAGE_LEN_MAX || lineframe::is_line_data(bytes) {
            return false;
        }
        if is_shipped(bytes) || self.known.iter().any(|known| known == bytes) {
            self.learn(now, bytes);
            return true;
        }
        if !may_learn {
            return false;
        }
        if self.candidates.iter().any(|candidate| candidate == bytes) {
            self.learn(now, bytes);
            return true;
        }
        if self.candidates.len() >= CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        self.candidates.push(bytes.to_vec());
        false
    }
}

fn is_only(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.chunks(pattern.len()).all(|chunk| chunk == pattern)
}

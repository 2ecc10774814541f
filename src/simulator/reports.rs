//! What a virtual terminal says of its own accord: each report again and again until it is confirmed, as terminals do.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Reports that wait for their confirmation; one more makes the oldest be forgotten.
const WAITING_MAX: usize = 8;
/// What is not confirmed is said again.
const AGAIN: Duration = Duration::from_secs(30);

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u8,
    wire: Vec<u8>,
    /// None: it was never said.
    said: Option<Instant>,
}

impl Reports {
    /// Has a report said under a number of its own.
    pub(super) fn push(&mut self, number: u8, wire: Vec<u8>) {
        self.waiting.retain(|waiting| waiting.number != number);
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        let said = None;
        self.waiting.push_back(Waiting { number, wire, said });
    }

    /// A report was confirmed; false where none of this number waits.
    pub(super) fn confirmed(&mut self, number: u8) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.number != number);
        self.waiting.len() < before
    }

    /// On a new connection all that waits is said again.
    pub(super) fn reconnected(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.said = None);
    }

    /// When the next one is to be said; none: nothing waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let at = |waiting: &Waiting| waiting.said.map_or(now, |said| said + AGAIN);
        self.waiting.iter().map(at).min()
    }

    /// What is to be said now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        let is_due = |waiting: &&mut Waiting| waiting.said.is_none_or(|said| said + AGAIN <= now);
        let waiting = self.waiting.iter_mut().find(is_due)?;
        waiting.said = Some(now);
        Some(waiting.wire.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_is_said_again() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        assert_eq!((reports.due(now), reports.next(now)), (None, None));
        (0..12).for_each(|number| reports.push(number, vec![number]));
        let said: Vec<_> = std::iter::from_fn(|| reports.next(now)).collect();
        assert_eq!(said, (4..12).map(|number| vec![number]).collect::<Vec<_>>());
        assert_eq!(reports.due(now), Some(now + AGAIN));
        assert!(reports.confirmed(5) && !reports.confirmed(5) && !reports.confirmed(0));
        let again = std::iter::from_fn(|| reports.next(now + AGAIN)).count();
        assert_eq!(again, 7);
        reports.reconnected();
        assert_eq!((reports.due(now), reports.next(now)), (Some(now), Some(vec![4])));
    }
}

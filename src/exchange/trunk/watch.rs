//! What a terminal has recorded of events, by the counters in its frames, and what of it was kept: which records are to be
//! asked for. A record is asked for until it was kept, or the terminal says that it does not have it.

use crate::protocol::gdw376::{Advance, EventCounters, advance};
use std::time::{Duration, Instant};

/// Records that are asked for at once; as many are read back of a terminal of which nothing is known yet.
const AT_ONCE: u8 = 32;
/// What could not be asked or kept is asked for again so much later.
const AGAIN: Duration = Duration::from_secs(60);

/// Records of one kind, from a pointer to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Of the important ones.
    pub(super) important: bool,
    /// The first.
    pub(super) from: u8,
    /// The one behind the last.
    pub(super) to: u8,
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// Its records are kept, or the terminal does not have them.
    Over,
    /// Nobody answered, or nobody could keep them.
    Nothing,
}

/// See the file's head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventWatch {
    said: Option<EventCounters>,
    /// Up to where records are kept: important, ordinary.
    kept: [Option<u8>; 2],
    busy: bool,
    not_before: Option<Instant>,
}

impl EventWatch {
    /// A frame says so.
    pub(super) fn count(&mut self, counters: EventCounters) {
        self.said = Some(counters);
    }

    /// When something may be asked again, if that is what it waits for.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.busy && self.said.is_some())
    }

    /// What to ask for now; it is under way then.
    pub(super) fn next(&mut self, now: Instant) -> Option<Span> {
        if self.busy || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = None;
        let said = self.said?;
        for (kept, important, counter) in [(0, true, said.important), (1, false, said.ordinary)] {
            let before = self.kept.get(kept).copied().flatten();
            let recent = counter.saturating_sub(AT_ONCE);
            let from = before.map_or(recent, |before| match advance(before, counter) {
                Advance::None => counter,
                Advance::By(_) => before,
                // reset, or another terminal: what it has now
                Advance::Jump { .. } => recent,
            });
            let many = counter.wrapping_sub(from).min(AT_ONCE);
            if many == 0 {
                self.keep(important, counter);
                continue;
            }
            self.busy = true;
            let to = from.wrapping_add(many);
            return Some(Span { important, from, to });
        }
        None
    }

    /// What was under way is not any more.
    pub(super) fn ended(&mut self, span: Span, became: Became, now: Instant) {
        self.busy = false;
        match became {
            Became::Over => self.keep(span.important, span.to),
            Became::Nothing => self.not_before = Some(now + AGAIN),
        }
    }

    /// A report with these records is kept: they need not be asked for, if nothing is missing before them.
    pub(super) fn reported(&mut self, span: Span) {
        let before = self.kept.get(usize::from(!span.important)).copied().flatten();
        if before == Some(span.from) && !self.busy {
            self.keep(span.important, span.to);
        }
    }

    fn keep(&mut self, important: bool, to: u8) {
        if let Some(kept) = self.kept.get_mut(usize::from(!important)) {
            *kept = Some(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(important: u8, ordinary: u8) -> EventCounters {
        EventCounters { important, ordinary }
    }

    fn span(important: bool, from: u8, to: u8) -> Option<Span> {
        Some(Span { important, from, to })
    }

    #[test]
    fn what_is_new_is_asked_for_in_pieces_and_once() {
        let (mut watch, now) = (EventWatch::default(), Instant::now());
        assert_eq!(watch.next(now), None, "nothing is known");
        watch.count(counters(40, 0));
        let first = watch.next(now);
        assert_eq!(first, span(true, 8, 40), "of one that is not known the latest");
        assert_eq!(watch.next(now), None, "it is under way");
        watch.ended(first.unwrap(), Became::Over, now);
        assert_eq!(watch.next(now), None);
        watch.count(counters(110, 3));
        for wanted in [(true, 40, 72), (true, 72, 104), (true, 104, 110), (false, 0, 3)] {
            let next = watch.next(now);
            assert_eq!(next, span(wanted.0, wanted.1, wanted.2));
            watch.ended(next.unwrap(), Became::Over, now);
        }
        assert_eq!(watch.next(now), None);
    }

    #[test]
    fn counters_go_round_and_jump() {
        let (mut watch, now) = (EventWatch::default(), Instant::now());
        watch.count(counters(250, 0));
        let next = watch.next(now).unwrap();
        watch.ended(next, Became::Over, now);
        watch.count(counters(2, 0));
        assert_eq!(watch.next(now), span(true, 250, 2), "eight, over the top");
        watch.ended(span(true, 250, 2).unwrap(), Became::Over, now);
        // it was reset: what it has now
        watch.count(counters(200, 0));
        let next = watch.next(now).unwrap();
        assert_eq!((next.from, next.to), (168, 200));
    }

    #[test]
    fn what_was_not_kept_is_asked_for_again_and_what_was_reported_is_not() {
        let (mut watch, now) = (EventWatch::default(), Instant::now());
        watch.count(counters(5, 0));
        let next = watch.next(now).unwrap();
        watch.ended(next, Became::Nothing, now);
        assert_eq!((watch.next(now), watch.next_deadline()), (None, Some(now + AGAIN)));
        assert_eq!(watch.next(now + AGAIN), Some(next));
        watch.ended(next, Became::Over, now);
        let report = Span {
            important: true,
            from: 5,
            to: 7,
        };
        watch.reported(report);
        watch.count(counters(7, 0));
        assert_eq!(watch.next(now + AGAIN), None);
        // one that leaves something out does not hide it
        watch.reported(Span {
            important: true,
            from: 9,
            to: 10,
        });
        watch.count(counters(10, 0));
        assert_eq!(watch.next(now + AGAIN), span(true, 7, 10));
    }
}

//! What a master must see in what a terminal sends of its own accord: the same report again, and a clock that was lost.

use super::message::Message;
use chrono::{Datelike, NaiveDateTime, TimeDelta};
use std::collections::VecDeque;

/// How many reports are remembered.
const REMEMBERED: usize = 32;

/// Reports that were seen lately, to know one that comes again: a terminal repeats what was not confirmed in time. It is
/// confirmed again and not kept again.
#[derive(Clone, Debug, Default)]
pub struct Replays {
    seen: VecDeque<u64>,
}

impl Replays {
    /// Whether this report was seen already. A heartbeat or login is never a replay: each is of its own time.
    pub fn is_replay(&mut self, message: &Message) -> bool {
        if message.link().is_some() {
            return false;
        }
        let mark = mark(message);
        if self.seen.contains(&mark) {
            return true;
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(mark);
        false
    }

    /// Forgets a report that could not be kept: it is to be told again.
    pub fn forget(&mut self, message: &Message) {
        let mark = mark(message);
        self.seen.retain(|seen| *seen != mark);
    }
}

/// FNV-1a of what makes a report itself: terminal, function, number and data. The time tag may differ when it is sent again.
fn mark(message: &Message) -> u64 {
    let address = message.address.wire();
    let head = [message.afn.0, message.seq.0];
    let all = address.iter().chain(&head).chain(&message.body);
    all.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A terminal's clock beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It was lost: 2000-01-01, as terminals have it that lost their supply and battery, or nothing at all. Nothing that
    /// this terminal stamps with a time can be believed.
    Lost,
    /// It is ahead by so much; behind where it is negative.
    Off(TimeDelta),
}

/// Judges a terminal's clock; both in its local time.
pub fn clock(theirs: Option<NaiveDateTime>, ours: NaiveDateTime) -> Clock {
    match theirs {
        Some(at) if (at.year(), at.ordinal()) != (2000, 1) => Clock::Off(at - ours),
        _ => Clock::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    #[test]
    fn a_clock_of_the_first_day_is_lost() {
        let at = |year, hour| NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(hour, 0, 0);
        let ours = at(2026, 12).unwrap();
        assert_eq!(clock(at(2000, 3), ours), Clock::Lost);
        assert_eq!(clock(None, ours), Clock::Lost);
        assert_eq!(clock(at(2026, 11), ours), Clock::Off(TimeDelta::hours(-1)));
    }
}

//! The control field C (Q/GDW 1376.1-2013, 5.1.3) and the sequence field SEQ (6.2).

use std::fmt;

const FROM_TERMINAL: u8 = 0x80;
const PRIMARY: u8 = 0x40;
const ACCESS_OR_COUNT: u8 = 0x20;
const COUNT_VALID: u8 = 0x10;
const FUNCTION: u8 = 0x0F;

/// The control field: direction DIR, primary PRM, FCB or ACD, FCV, function code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control(pub u8);

impl Control {
    /// 41: the master resets.
    pub const RESET: Self = Self(0x41);
    /// 4A: the master asks for data of class 1, sets and controls.
    pub const ASK_1: Self = Self(0x4A);
    /// 4B: the master asks for data of class 2 and all else.
    pub const ASK_2: Self = Self(0x4B);
    /// 00: the master confirms a report.
    pub const CONFIRM: Self = Self(0x00);
    /// 0B: the master answers a test of the link.
    pub const LINK_STATE: Self = Self(0x0B);
    /// C9: the terminal tests the link: login, logout, heartbeat.
    pub const LINK_TEST: Self = Self(0xC9);
    /// C4: the terminal reports of its own accord.
    pub const REPORT: Self = Self(0xC4);
    /// 88: the terminal answers with data.
    pub const ANSWER: Self = Self(0x88);
    /// 80: the terminal confirms.
    pub const CONFIRMED: Self = Self(0x80);
    /// 89: the terminal has no such data.
    pub const NO_DATA: Self = Self(0x89);

    /// DIR: whether a terminal sent it.
    pub fn is_from_terminal(self) -> bool {
        self.0 & FROM_TERMINAL != 0
    }

    /// PRM: whether the sender began the dialogue.
    pub fn is_primary(self) -> bool {
        self.0 & PRIMARY != 0
    }

    /// ACD of a terminal's frame: an important event waits, and the frame ends with the event counters.
    pub fn has_events(self) -> bool {
        self.is_from_terminal() && self.0 & ACCESS_OR_COUNT != 0
    }

    /// The same with ACD.
    #[must_use]
    pub fn with_events(self) -> Self {
        Self(self.0 | ACCESS_OR_COUNT)
    }

    /// Bit 5: FCB of a master's frame, ACD of a terminal's.
    pub fn bit_5(self) -> bool {
        self.0 & ACCESS_OR_COUNT != 0
    }

    /// FCV: the frame count bit counts. Reserved in a terminal's frame.
    pub fn count_valid(self) -> bool {
        self.0 & COUNT_VALID != 0
    }

    /// The function code.
    pub fn function(self) -> u8 {
        self.0 & FUNCTION
    }

    /// The function in words (tables 1 and 2).
    pub fn function_name(self) -> &'static str {
        match (self.is_primary(), self.function()) {
            (true, 1) => "reset",
            (true, 4) => "user data, no answer",
            (true, 9) => "link test",
            (true, 10) => "class 1 data",
            (true, 11) => "class 2 data",
            (false, 0) => "confirmed",
            (false, 8) => "user data",
            (false, 9) => "no such data",
            (false, 11) => "link state",
            _ => "reserved",
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

const TIME_TAG: u8 = 0x80;
const FIRST: u8 = 0x40;
const FINAL: u8 = 0x20;
const CONFIRM: u8 = 0x10;
const NUMBER: u8 = 0x0F;

/// The sequence field: TpV, FIR, FIN, CON and the sequence number PSEQ or RSEQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seq(pub u8);

impl Seq {
    /// A frame that is all of its message.
    pub fn single(number: u8) -> Self {
        Self(FIRST | FINAL | (number & NUMBER))
    }

    /// The same, and the receiver shall confirm.
    #[must_use]
    pub fn to_confirm(self) -> Self {
        Self(self.0 | CONFIRM)
    }

    /// The same with a time tag at the end of the frame.
    #[must_use]
    pub fn with_time_tag(self) -> Self {
        Self(self.0 | TIME_TAG)
    }

    /// One of several frames of a message.
    #[must_use]
    pub fn part(self, first: bool, last: bool) -> Self {
        let kept = self.0 & !(FIRST | FINAL);
        Self(kept | if first { FIRST } else { 0 } | if last { FINAL } else { 0 })
    }

    /// TpV: the frame ends with a time tag.
    pub fn has_time_tag(self) -> bool {
        self.0 & TIME_TAG != 0
    }

    /// FIR: the first frame of its message.
    pub fn is_first(self) -> bool {
        self.0 & FIRST != 0
    }

    /// FIN: the last one.
    pub fn is_last(self) -> bool {
        self.0 & FINAL != 0
    }

    /// CON: the receiver shall confirm.
    pub fn wants_confirmation(self) -> bool {
        self.0 & CONFIRM != 0
    }

    /// PSEQ of a question, RSEQ of an answer: 0 to 15.
    pub fn number(self) -> u8 {
        self.0 & NUMBER
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_stand_where_the_standard_has_them() {
        assert!(Control::LINK_TEST.is_from_terminal() && Control::LINK_TEST.is_primary());
        assert_eq!(Control::LINK_TEST.function_name(), "link test");
        assert!(Control(0xA8).has_events() && !Control(0x6B).has_events() && Control(0x6B).bit_5());
        assert_eq!(Control::ANSWER.with_events(), Control(0xA8));
        assert!(Control(0x7B).count_valid());
        let seq = Seq(0xE3);
        assert!(seq.has_time_tag() && seq.is_first() && seq.is_last() && !seq.wants_confirmation());
        assert_eq!(seq.number(), 3);
        assert_eq!(Seq::single(3).with_time_tag(), seq);
        assert_eq!(Seq::single(1).to_confirm(), Seq(0x71));
        assert_eq!(Seq::single(1).part(true, false), Seq(0x41));
        assert_eq!(Seq::single(1).part(false, true), Seq(0x21));
    }
}

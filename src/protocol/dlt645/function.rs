//! Editions, control codes, data identifiers and error words.

use std::fmt;

/// Which of the two standards a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Edition {
    /// DL/T 645-1997: identifiers of two bytes.
    E1997,
    /// DL/T 645-2007: identifiers of four bytes.
    E2007,
}

impl Edition {
    /// Bytes of a data identifier.
    pub fn di_len(self) -> usize {
        match self {
            Self::E1997 => 2,
            Self::E2007 => 4,
        }
    }
}

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Read data.
    Read,
    /// Read what did not fit into the frame before.
    ReadFollow,
    /// Read again (1997).
    Reread,
    /// Read the address of the only meter on the line (2007).
    ReadAddress,
    /// Write data.
    Write,
    /// Write the address.
    WriteAddress,
    /// Freeze data now or at a time (2007).
    Freeze,
    /// Change the speed of the line.
    Speed,
    /// Change a password.
    Password,
    /// Set the clock by broadcast.
    BroadcastTime,
    /// Clear the maximum demand.
    ClearDemand,
    /// Clear the whole meter (2007).
    ClearMeter,
    /// Clear event records (2007).
    ClearEvents,
    /// Trip, close, alarm, protection (2007).
    Relay,
    /// Security and prepayment (2007).
    Security,
}

impl Function {
    /// Every function.
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::ReadFollow,
        Self::Reread,
        Self::ReadAddress,
        Self::Write,
        Self::WriteAddress,
        Self::Freeze,
        Self::Speed,
        Self::Password,
        Self::BroadcastTime,
        Self::ClearDemand,
        Self::ClearMeter,
        Self::ClearEvents,
        Self::Relay,
        Self::Security,
    ];

    /// Bits D4 to D0 of its control code (2007: 5.2.4; 1997: 5.2.4); none where the edition does not have it.
    pub fn code(self, edition: Edition) -> Option<u8> {
        let (of_1997, of_2007) = match self {
            Self::Read => (Some(0x01), Some(0x11)),
            Self::ReadFollow => (Some(0x02), Some(0x12)),
            Self::Reread => (Some(0x03), None),
            Self::ReadAddress => (None, Some(0x13)),
            Self::Write => (Some(0x04), Some(0x14)),
            Self::WriteAddress => (Some(0x0A), Some(0x15)),
            Self::Freeze => (None, Some(0x16)),
            Self::Speed => (Some(0x0C), Some(0x17)),
            Self::Password => (Some(0x0F), Some(0x18)),
            Self::BroadcastTime => (Some(0x08), Some(0x08)),
            Self::ClearDemand => (Some(0x10), Some(0x19)),
            Self::ClearMeter => (None, Some(0x1A)),
            Self::ClearEvents => (None, Some(0x1B)),
            Self::Relay => (None, Some(0x1C)),
            Self::Security => (None, Some(0x03)),
        };
        match edition {
            Edition::E1997 => of_1997,
            Edition::E2007 => of_2007,
        }
    }

    /// The function of bits D4 to D0 in an edition.
    pub fn by_code(edition: Edition, code: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|function| function.code(edition) == Some(code))
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read data",
            Self::ReadFollow => "read follow-up data",
            Self::Reread => "read again",
            Self::ReadAddress => "read address",
            Self::Write => "write data",
            Self::WriteAddress => "write address",
            Self::Freeze => "freeze",
            Self::Speed => "change speed",
            Self::Password => "change password",
            Self::BroadcastTime => "broadcast time",
            Self::ClearDemand => "clear maximum demand",
            Self::ClearMeter => "clear meter",
            Self::ClearEvents => "clear events",
            Self::Relay => "relay, alarm, protection",
            Self::Security => "security and prepayment",
        }
    }
}

/// The control byte: D7 from the meter, D6 refused, D5 more frames follow, D4 to D0 function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control(pub u8);

impl Control {
    /// Of an answer.
    pub const FROM_METER: u8 = 0x80;
    /// Of a refusal.
    pub const ABNORMAL: u8 = 0x40;
    /// Of an answer that is not complete.
    pub const FOLLOWS: u8 = 0x20;

    /// Whether the meter says it.
    pub fn is_answer(self) -> bool {
        self.0 & Self::FROM_METER != 0
    }

    /// Whether the meter refuses.
    pub fn is_refusal(self) -> bool {
        self.is_answer() && self.0 & Self::ABNORMAL != 0
    }

    /// Whether more frames follow.
    pub fn follows(self) -> bool {
        self.is_answer() && self.0 & Self::FOLLOWS != 0
    }

    /// Bits D4 to D0.
    pub fn code(self) -> u8 {
        self.0 & 0x1F
    }

    /// Whether some edition has such a control byte.
    pub(super) fn is_known(self) -> bool {
        // a question has neither D6 nor D5, a refusal has no D5
        let flags = matches!(self.0 & 0xE0, 0x00 | 0x80 | 0xA0 | 0xC0);
        flags && matches!(self.code(), 0x01..=0x04 | 0x08 | 0x0A | 0x0C | 0x0F..=0x1C)
    }
}

/// A data identifier; its edition is told by its size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Di {
    /// DI1 DI0.
    E1997(u16),
    /// DI3 DI2 DI1 DI0.
    E2007(u32),
}

impl Di {
    /// Its edition.
    pub fn edition(self) -> Edition {
        match self {
            Self::E1997(_) => Edition::E1997,
            Self::E2007(_) => Edition::E2007,
        }
    }

    /// The number, DI0 the low byte.
    pub fn number(self) -> u32 {
        match self {
            Self::E1997(di) => di.into(),
            Self::E2007(di) => di,
        }
    }

    /// Hex digits as printed in the standard, DI3 (or DI1) first: eight of 2007, four of 1997.
    pub fn parse(text: &str) -> Option<Self> {
        match text.len() {
            _ if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
            4 => u16::from_str_radix(text, 16).ok().map(Self::E1997),
            8 => u32::from_str_radix(text, 16).ok().map(Self::E2007),
            _ => None,
        }
    }

    /// The identifier that data of an edition begin with, DI0 first.
    pub fn from_data(edition: Edition, data: &[u8]) -> Option<Self> {
        match edition {
            Edition::E1997 => data.first_chunk().map(|bytes| Self::E1997(u16::from_le_bytes(*bytes))),
            Edition::E2007 => data.first_chunk().map(|bytes| Self::E2007(u32::from_le_bytes(*bytes))),
        }
    }

    /// Puts it before data, DI0 first.
    pub fn push_to(self, data: &mut Vec<u8>) {
        match self {
            Self::E1997(di) => data.extend_from_slice(&di.to_le_bytes()),
            Self::E2007(di) => data.extend_from_slice(&di.to_le_bytes()),
        }
    }
}

impl fmt::Display for Di {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::E1997(di) => write!(f, "{di:04X}"),
            Self::E2007(di) => write!(f, "{di:08X}"),
        }
    }
}

impl fmt::Debug for Di {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error word of a refusal, which is a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorWord {
    /// Whose.
    pub edition: Edition,
    /// The bits.
    pub bits: u8,
}

impl ErrorWord {
    /// The meaning of each bit that is set (2007: 5.2.4; 1997: 5.2.4).
    pub fn meanings(self) -> impl Iterator<Item = &'static str> {
        let names = match self.edition {
            Edition::E1997 => [
                "data not valid",
                "wrong data identifier",
                "wrong password",
                "reserved bit 3",
                "too many year zones",
                "too many day slots",
                "too many tariffs",
                "reserved bit 7",
            ],
            Edition::E2007 => [
                "other error",
                "no requested data",
                "wrong password or not authorised",
                "speed cannot be changed",
                "too many year zones",
                "too many day slots",
                "too many tariffs",
                "reserved bit 7",
            ],
        };
        names
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.bits >> bit & 1 != 0)
            .map(|(_, name)| name)
    }

    /// Whether the meter says that it does not have what was asked for; such an item is asked for no more.
    pub fn is_no_data(self) -> bool {
        self.bits & 0x02 != 0
    }

    /// Whether the password is the trouble.
    pub fn is_password(self) -> bool {
        self.bits & 0x04 != 0
    }
}

impl fmt::Display for ErrorWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == 0 {
            return f.write_str("no reason given (error word 00)");
        }
        for (place, meaning) in self.meanings().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            f.write_str(meaning)?;
        }
        write!(f, " (error word {:02X})", self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_functions_agree() {
        for edition in [Edition::E1997, Edition::E2007] {
            for function in Function::ALL.iter().copied() {
                if let Some(code) = function.code(edition) {
                    assert_eq!(Function::by_code(edition, code), Some(function));
                    assert!(Control(code).is_known() && Control(code | 0x80).is_known());
                }
            }
        }
        assert_eq!(Function::by_code(Edition::E1997, 0x11), None);
        for unknown in [0x00, 0x05, 0x1F, 0x51, 0x31, 0xF1, 0x68] {
            assert!(!Control(unknown).is_known(), "{unknown:02X}");
        }
    }

    #[test]
    fn an_error_word_speaks() {
        let word = ErrorWord {
            edition: Edition::E2007,
            bits: 0x06,
        };
        assert_eq!(
            word.to_string(),
            "no requested data, wrong password or not authorised (error word 06)"
        );
        assert!(word.is_no_data() && word.is_password());
        let none = ErrorWord { bits: 0, ..word };
        assert!(none.to_string().contains("00"));
    }

    #[test]
    fn identifiers_are_printed_high_byte_first() {
        let di = Di::parse("0201FF00").unwrap();
        let mut data = Vec::new();
        di.push_to(&mut data);
        assert_eq!(data, [0x00, 0xFF, 0x01, 0x02]);
        assert_eq!(Di::from_data(Edition::E2007, &data), Some(di));
        assert_eq!(Di::parse("9010").map(|di| di.to_string()).as_deref(), Some("9010"));
        assert_eq!(
            (Di::parse("901"), Di::parse("90G0"), Di::parse("+123")),
            (None, None, None)
        );
    }
}

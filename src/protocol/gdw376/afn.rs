//! The application function AFN (Q/GDW 1376.1-2013, table 5).

use std::fmt;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Afn(pub u8);

impl Afn {
    /// 00: confirm or deny.
    pub const CONFIRM: Self = Self(0x00);
    /// 01: reset.
    pub const RESET: Self = Self(0x01);
    /// 02: link: login, logout, heartbeat.
    pub const LINK: Self = Self(0x02);
    /// 03: relay station.
    pub const RELAY_STATION: Self = Self(0x03);
    /// 04: set parameters.
    pub const SET: Self = Self(0x04);
    /// 05: control.
    pub const CONTROL: Self = Self(0x05);
    /// 06: identity and keys.
    pub const IDENTITY: Self = Self(0x06);
    /// 08: cascaded terminals.
    pub const CASCADE: Self = Self(0x08);
    /// 09: the terminal's configuration.
    pub const TERMINAL: Self = Self(0x09);
    /// 0A: query parameters.
    pub const QUERY: Self = Self(0x0A);
    /// 0B: data of a report task.
    pub const TASK: Self = Self(0x0B);
    /// 0C: class 1, the present.
    pub const REALTIME: Self = Self(0x0C);
    /// 0D: class 2, the past.
    pub const HISTORY: Self = Self(0x0D);
    /// 0E: class 3, events.
    pub const EVENTS: Self = Self(0x0E);
    /// 0F: files.
    pub const FILE: Self = Self(0x0F);
    /// 10: forwarded to a meter.
    pub const FORWARD: Self = Self(0x10);

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::CONFIRM => "confirm",
            Self::RESET => "reset",
            Self::LINK => "link",
            Self::RELAY_STATION => "relay station",
            Self::SET => "set parameters",
            Self::CONTROL => "control",
            Self::IDENTITY => "identity",
            Self::CASCADE => "cascaded terminals",
            Self::TERMINAL => "terminal configuration",
            Self::QUERY => "query parameters",
            Self::TASK => "task data",
            Self::REALTIME => "class 1 data",
            Self::HISTORY => "class 2 data",
            Self::EVENTS => "events",
            Self::FILE => "file transfer",
            Self::FORWARD => "data forwarding",
            _ => "reserved",
        }
    }

    /// Whether a master's frame of it ends with the message's authentication PW (6.5.2): what changes something.
    pub fn has_password(self) -> bool {
        matches!(
            self,
            Self::RESET | Self::SET | Self::CONTROL | Self::FILE | Self::FORWARD
        )
    }
}

impl fmt::Display for Afn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

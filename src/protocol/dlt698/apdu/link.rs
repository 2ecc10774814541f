//! LINK: how a terminal that dialled in says who it is and that it lives (DL/T 698.45-2017, 7.1.3.2).

use super::Piid;
use crate::protocol::dlt698::moments::DateTime;
use crate::protocol::dlt698::wire::{choice, sequence};

choice! {
    /// What a terminal wants of the link.
    #[derive(Copy)]
    pub enum LinkKind as "link request" {
        /// It is there from now on.
        0 => Login,
        /// It is still there.
        1 => Heartbeat,
        /// It goes.
        2 => Logout,
    }
}

impl LinkKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Heartbeat => "heartbeat",
            Self::Logout => "logout",
        }
    }
}

sequence! {
    /// A terminal's login, heartbeat or logout.
    pub struct LinkRequest {
        /// Its number.
        pub piid: Piid,
        /// What it wants.
        pub kind: LinkKind,
        /// How often it sends a heartbeat, seconds.
        pub heartbeat_s: u16,
        /// The terminal's clock.
        pub time: DateTime,
    }
}

sequence! {
    /// The head end's answer.
    pub struct LinkResponse {
        /// The request's number.
        pub piid: Piid,
        /// Bit 7: our clock may be trusted; bits 0..2: 0 done, 1 address used twice, 2 device not lawful, 3 no room left.
        pub result: u8,
        /// The request's time.
        pub requested: DateTime,
        /// When we had it.
        pub received: DateTime,
        /// When this was sent.
        pub responded: DateTime,
    }
}

impl LinkResponse {
    /// Our clock may be trusted.
    pub const CLOCK_TRUSTED: u8 = 0x80;

    /// The result in words.
    pub fn result_name(&self) -> &'static str {
        match self.result & 0x07 {
            0 => "done",
            1 => "address used twice",
            2 => "device not lawful",
            3 => "no room left",
            _ => "of no known result",
        }
    }
}

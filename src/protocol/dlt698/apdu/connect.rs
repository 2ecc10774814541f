//! CONNECT, RELEASE and the error answers (DL/T 698.45-2017, 7.1.3.3).

use super::{FollowReport, Piid, TimeTag};
use crate::protocol::dlt698::moments::DateTimeS;
use crate::protocol::dlt698::values::Text;
use crate::protocol::dlt698::wire::{Octets, choice, sequence};

sequence! {
    /// What both sides can.
    pub struct Parameters {
        /// The protocol's version.
        pub version: u16,
        /// Which services: bit 0 is the highest of the first byte.
        pub services: [u8; 8],
        /// Which functions.
        pub functions: [u8; 16],
        /// The longest frame sent, bytes.
        pub send_max: u16,
        /// The longest frame received, bytes.
        pub receive_max: u16,
        /// How many frames may be received one behind the other.
        pub window: u8,
        /// The longest APDU, bytes.
        pub apdu_max: u16,
        /// After how many quiet seconds the association ends.
        pub timeout_s: u32,
    }
}

impl Parameters {
    /// What we ask for: everything, frames of 1024 bytes, a window of 1.
    pub const ALL: Self = Self {
        version: 0x0010,
        services: [0xFF; 8],
        functions: [0xFF; 16],
        send_max: 1024,
        receive_max: 1024,
        window: 1,
        apdu_max: 8192,
        timeout_s: 7200,
    };
}

sequence! {
    /// A guarded session key.
    pub struct Ciphered {
        /// The guarded bytes.
        pub cipher: Octets,
        /// Their signature.
        pub signature: Octets,
    }
}

choice! {
    /// How the head end proves who it is.
    pub enum Auth as "kind of authentication" {
        /// Not at all.
        0 => None,
        /// By a password.
        1 => Password(password: Text),
        /// By a common key.
        2 => Symmetric(ciphered: Ciphered),
        /// By a signature.
        3 => Signature(ciphered: Ciphered),
    }
}

sequence! {
    /// Asks for an association.
    pub struct ConnectRequest {
        /// Its number.
        pub piid: Piid,
        /// What we can.
        pub parameters: Parameters,
        /// Who we are.
        pub auth: Auth,
        /// How late it may come.
        pub time_tag: Option<TimeTag>,
    }
}

sequence! {
    /// Who made a device, in ASCII padded with zeros.
    pub struct Factory {
        /// The maker.
        pub maker: [u8; 4],
        /// The software's version.
        pub software: [u8; 4],
        /// The software's date, YYMMDD.
        pub software_date: [u8; 6],
        /// The hardware's version.
        pub hardware: [u8; 4],
        /// The hardware's date, YYMMDD.
        pub hardware_date: [u8; 6],
        /// What the maker adds.
        pub extension: [u8; 8],
    }
}

sequence! {
    /// What the device proves itself by.
    pub struct SecurityData {
        /// Its random number.
        pub random: Octets,
        /// Its signature.
        pub signature: Octets,
    }
}

sequence! {
    /// Grants an association or not.
    pub struct ConnectResponse {
        /// The question's number.
        pub piid: Piid,
        /// Who made the device.
        pub factory: Factory,
        /// What was agreed.
        pub parameters: Parameters,
        /// 0 granted; 1 wrong password, 2 symmetric decryption, 3 asymmetric decryption, 4 signature, 5 version, 255 other.
        pub result: u8,
        /// What the device proves itself by.
        pub security: Option<SecurityData>,
        /// What it reports besides.
        pub follow: Option<FollowReport>,
        /// The question's time tag.
        pub time_tag: Option<TimeTag>,
    }
}

impl ConnectResponse {
    /// The result in words.
    pub fn result_name(&self) -> &'static str {
        match self.result {
            0 => "granted",
            1 => "wrong password",
            2 => "symmetric decryption failed",
            3 => "asymmetric decryption failed",
            4 => "wrong signature",
            5 => "protocol version does not match",
            _ => "refused",
        }
    }
}

sequence! {
    /// Ends an association.
    pub struct ReleaseRequest {
        /// Its number.
        pub piid: Piid,
        /// How late it may come.
        pub time_tag: Option<TimeTag>,
    }
}

sequence! {
    /// Says that it is ended.
    pub struct ReleaseResponse {
        /// The question's number.
        pub piid: Piid,
        /// 0: done.
        pub result: u8,
        /// What the device reports besides.
        pub follow: Option<FollowReport>,
        /// The question's time tag.
        pub time_tag: Option<TimeTag>,
    }
}

sequence! {
    /// The device ended an association that was quiet for too long.
    pub struct ReleaseNotice {
        /// Its number.
        pub piid: Piid,
        /// When it began.
        pub since: DateTimeS,
        /// The device's clock.
        pub now: DateTimeS,
        /// What it reports besides.
        pub follow: Option<FollowReport>,
        /// A time tag.
        pub time_tag: Option<TimeTag>,
    }
}

sequence! {
    /// A device could not do with an APDU.
    pub struct ErrorResponse {
        /// The question's number.
        pub piid: Piid,
        /// 1 cannot be read, 2 service not supported, 255 other.
        pub kind: u8,
        /// What it reports besides.
        pub follow: Option<FollowReport>,
        /// The question's time tag.
        pub time_tag: Option<TimeTag>,
    }
}

sequence! {
    /// The head end could not do with a device's APDU.
    pub struct RefusedRequest {
        /// The APDU's number.
        pub piid: Piid,
        /// 1 cannot be read, 2 service not supported, 255 other.
        pub kind: u8,
        /// A time tag.
        pub time_tag: Option<TimeTag>,
    }
}

/// An error's kind in words.
pub(in crate::protocol::dlt698) fn error_name(kind: u8) -> &'static str {
    match kind {
        1 => "the APDU cannot be read",
        2 => "the service is not supported",
        _ => "another error",
    }
}

impl ErrorResponse {
    /// The kind in words.
    pub fn name(&self) -> &'static str {
        error_name(self.kind)
    }
}

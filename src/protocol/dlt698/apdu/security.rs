//! SECURITY: an APDU within another that guards it (DL/T 698.45-2017, 7.1.3.9).

use crate::protocol::dlt698::dar::Dar;
use crate::protocol::dlt698::values::{Sid, SidMac};
use crate::protocol::dlt698::wire::{Octets, choice, sequence};

sequence! {
    /// A random number and the code over it.
    pub struct RnMac {
        /// The number.
        pub random: Octets,
        /// The code.
        pub mac: Octets,
    }
}

choice! {
    /// What a guarded question is proven by.
    pub enum Verification as "verification" {
        /// A code and what its key is chosen by.
        0 => SidMac(value: SidMac),
        /// A random number: the answer shall be proven with it.
        1 => Random(random: Octets),
        /// A random number with a code.
        2 => RandomMac(value: RnMac),
        /// What a key is chosen by.
        3 => Sid(sid: Sid),
    }
}

sequence! {
    /// A guarded question.
    pub struct Secured {
        /// The APDU, in clear or not.
        pub apdu: Octets,
        /// What it is proven by.
        pub verification: Verification,
    }
}

choice! {
    /// A guarded question.
    pub enum SecurityRequest as "security request" {
        /// Readable by all.
        0 => Plain(content: Secured),
        /// Enciphered.
        1 => Encrypted(content: Secured),
    }
}

choice! {
    /// What a guarded answer holds.
    pub enum Application as "security answer" {
        /// Readable by all.
        0 => Plain(apdu: Octets),
        /// Enciphered.
        1 => Encrypted(apdu: Octets),
        /// Nothing, and why.
        2 => Dar(dar: Dar),
    }
}

choice! {
    /// What a guarded answer is proven by.
    pub enum VerifiedBy as "verification of an answer" {
        /// A code.
        0 => Mac(mac: Octets),
        /// A code and what its key is chosen by.
        1 => SidMac(value: SidMac),
    }
}

sequence! {
    /// A guarded answer.
    pub struct SecuredAnswer {
        /// What it holds.
        pub application: Application,
        /// What it is proven by.
        pub verification: Option<VerifiedBy>,
    }
}

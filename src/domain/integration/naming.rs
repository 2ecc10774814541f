//! Where things stand at an MQTT broker: `PREFIX/ACCOUNT/DTU/METER/QUANTITY`.
//!
//! Names from the field cannot reach out of their level: what is not a letter, a digit, `.`, `-` or `_` is written as `%`
//! and two hex digits. What is ours beside such names begins with `_`, which neither a serial number nor an id does.

use crate::base::ids::{AccountId, DtuId, MeterId};
use std::fmt::Write as _;

/// The longest prefix, characters.
pub const PREFIX_MAX: usize = 100;

/// A text of the field as one level of a topic. The same text gives the same level, and different ones different levels.
pub fn level(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (place, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || (byte == b'_' && place > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            // writing to a String cannot fail
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    if out.is_empty() { "%00".to_owned() } else { out }
}

/// The level of a DTU: its serial number, else `_` and its id.
pub fn dtu_level(dtu: DtuId, sn: Option<&str>) -> String {
    sn.map_or_else(|| format!("_{dtu}"), level)
}

/// What is wrong with a prefix.
///
/// # Errors
/// Says what to give.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.is_empty() || prefix.len() > PREFIX_MAX {
        return Err(format!("needs 1 to {PREFIX_MAX} characters"));
    }
    if prefix.starts_with('$') {
        return Err("must not begin with $, which is the broker's own".to_owned());
    }
    if prefix.split('/').any(str::is_empty) {
        return Err("must not have an empty level: no / at its ends, no two in a row".to_owned());
    }
    if prefix.contains(['+', '#']) || prefix.chars().any(char::is_control) {
        return Err("must not hold +, # or control characters".to_owned());
    }
    Ok(())
}

/// The topics of one account below a prefix.
#[derive(Clone, Debug)]
pub struct Topics {
    root: String,
}

impl Topics {
    /// Below this prefix.
    pub fn new(prefix: &str, account: AccountId) -> Self {
        Self {
            root: format!("{prefix}/{account}"),
        }
    }

    /// Whether the server is connected: `online` or `offline`, retained.
    pub fn status(&self) -> String {
        format!("{}/_status", self.root)
    }

    /// Whether a DTU is connected, retained.
    pub fn dtu_status(&self, dtu: &str) -> String {
        format!("{}/{dtu}/_status", self.root)
    }

    /// The newest value of a quantity, retained.
    pub fn value(&self, dtu: &str, meter: MeterId, quantity: &str) -> String {
        format!("{}/{dtu}/{meter}/{}", self.root, level(quantity))
    }

    /// A value that is not the newest: back-filled, or late.
    pub fn past_value(&self, dtu: &str, meter: MeterId, quantity: &str) -> String {
        format!("{}/{dtu}/{meter}/_past/{}", self.root, level(quantity))
    }

    /// The newest reading as JSON, retained.
    pub fn reading(&self, dtu: &str, meter: MeterId) -> String {
        format!("{}/{dtu}/{meter}/_reading", self.root)
    }

    /// A reading that is not the newest, as JSON.
    pub fn past_reading(&self, dtu: &str, meter: MeterId) -> String {
        format!("{}/{dtu}/{meter}/_past/_reading", self.root)
    }

    /// Events of a topic, as JSON.
    pub fn events(&self, topic: &str) -> String {
        format!("{}/_events/{topic}", self.root)
    }

    /// A test.
    pub fn test(&self) -> String {
        format!("{}/_test", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the field says stays within its level, and can be told from everything else.
        #[test]
        fn a_level_is_one_level(one in ".{0,40}", other in ".{0,40}") {
            let level_one = level(&one);
            prop_assert!(!level_one.is_empty());
            prop_assert!(level_one.chars().all(|c| c.is_ascii_alphanumeric() || "._-%".contains(c)), "{level_one:?}");
            prop_assert!(!level_one.starts_with('_') && !level_one.starts_with('$'));
            if one.trim_matches('\0') != other.trim_matches('\0') {
                prop_assert_ne!(level_one, level(&other));
            }
        }
    }

    #[test]
    fn topics_are_as_documented() {
        let topics = Topics::new("polyphase", AccountId(3));
        let dtu = dtu_level(DtuId(9), Some("8613800138000"));
        assert_eq!(
            topics.value(&dtu, MeterId(17), "active_energy_import"),
            "polyphase/3/8613800138000/17/active_energy_import"
        );
        assert_eq!(topics.dtu_status(&dtu_level(DtuId(9), None)), "polyphase/3/_9/_status");
        assert_eq!(
            topics.past_value(&dtu, MeterId(17), "a/b+#"),
            "polyphase/3/8613800138000/17/_past/a%2Fb%2B%23"
        );
        assert_eq!(level("_status"), "%5Fstatus");
    }

    #[test]
    fn prefixes_are_checked() {
        for good in ["polyphase", "site/a/meters", "a b"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/+/b", "#", "$SYS", "a\nb"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}

//! Registration profiles by name. A listener or a DTU pins one; `auto` learns.
//!
//! ```text
//! NAME[+OPTION]…            ascii+every+echo      login+answer=4F4B0D0A     hex+len=8
//! custom[+OPTION]…:PATTERN  custom+heartbeat=4C4F47:LOGIN:{sn:digit,4-12}\r\n
//! ```

use super::pattern::{Pattern, PatternError};
use crate::base::hex::{self, HexError};
use std::fmt;
use std::time::Duration;

/// How the SN is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Found out from the bytes.
    Auto,
    /// Bare text: the whole text is the SN.
    Ascii,
    /// Bytes, shown as hex.
    Hex,
    /// 15 digits.
    Imei,
    /// 19 or 20 digits beginning with 89.
    Iccid,
    /// Six bytes, or their text with or without separators.
    Mac,
    /// Text behind a keyword: `LOGIN:`, `SN=`, `ID:`, `REG:` ….
    Login,
    /// `AA 01`, 11 digits, `0D`.
    InHand,
    /// Hongdian DDP.
    Ddp,
    /// Four-Faith PROT.
    Prot,
    /// A concentrator of Q/GDW 1376.1.
    Gdw376,
    /// A terminal of DL/T 698.45.
    Dlt698,
    /// A pattern of the user's own.
    Custom(Pattern),
}

/// A row of the table of profiles.
#[derive(Clone, Debug)]
pub struct ProfileRow {
    /// The name to pin.
    pub name: &'static str,
    /// How the SN is said; none: the pattern follows the name.
    pub form: Option<Form>,
    /// One line for people.
    pub about: &'static str,
}

/// Every profile.
pub const PROFILES: &[ProfileRow] = &[
    ProfileRow {
        name: "auto",
        form: Some(Form::Auto),
        about: "found out from the first bytes",
    },
    ProfileRow {
        name: "ascii",
        form: Some(Form::Ascii),
        about: "bare text, all of it the SN; CR, LF and NUL around it are dropped",
    },
    ProfileRow {
        name: "hex",
        form: Some(Form::Hex),
        about: "1 to 40 bytes; their hex digits are the SN",
    },
    ProfileRow {
        name: "imei",
        form: Some(Form::Imei),
        about: "15 digits, with or without IMEI: in front",
    },
    ProfileRow {
        name: "iccid",
        form: Some(Form::Iccid),
        about: "19 or 20 digits from 89, with or without ICCID: in front",
    },
    ProfileRow {
        name: "mac",
        form: Some(Form::Mac),
        about: "6 bytes, or 12 hex digits with or without separators; the SN is 12 upper-case digits",
    },
    ProfileRow {
        name: "login",
        form: Some(Form::Login),
        about: "text behind a keyword such as LOGIN:, SN=, ID: or REG:",
    },
    ProfileRow {
        name: "inhand",
        form: Some(Form::InHand),
        about: "AA 01, 11 digits, 0D",
    },
    ProfileRow {
        name: "ddp",
        form: Some(Form::Ddp),
        about: "Hongdian DDP packets (7B … 7B), answered and unwrapped",
    },
    ProfileRow {
        name: "prot",
        form: Some(Form::Prot),
        about: "Four-Faith PROT: the phone number is the SN; FD and FE are escaped",
    },
    ProfileRow {
        name: "gdw376.1",
        form: Some(Form::Gdw376),
        about: "a concentrator of Q/GDW 1376.1: region and number, as in 4403-00004; logins and heartbeats are confirmed",
    },
    ProfileRow {
        name: "dlt698.45",
        form: Some(Form::Dlt698),
        about: "a terminal of DL/T 698.45: its address is the SN; logins and heartbeats are answered with our time",
    },
    ProfileRow {
        name: "custom",
        form: None,
        about: "custom:PATTERN with {sn:digit|hexdigit|alnum|upper|any,MIN-MAX}, {hex:N}, {skip:N}",
    },
];

/// What a DTU wants to hear after its registration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Answer {
    /// Nothing (DDP's acknowledgement is part of its framing).
    #[default]
    Nothing,
    /// Its package back.
    Echo,
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Answer {
    /// The bytes to write for this package.
    pub fn to(&self, package: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Nothing => None,
            Self::Echo => Some(package.to_vec()),
            Self::Bytes(bytes) => Some(bytes.clone()),
        }
    }
}

/// The longest answer, pinned heartbeat and package that a DTU can be set to, bytes (USR-GPRS232-701: 80).
pub const PACKAGE_LEN_MAX: usize = 80;
const HEARTBEATS_MAX: usize = 4;
/// A pinned quiet gap lies between these, milliseconds.
const GAP_MS: std::ops::RangeInclusive<u64> = 50..=5000;

/// How a DTU registers, as pinned or as `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    text: String,
    /// How the SN is said.
    pub form: Form,
    /// The package stands before every packet (`every`) or comes once (`once`); none: learned.
    pub every_packet: Option<bool>,
    /// What we say back.
    pub answer: Answer,
    /// Heartbeats that are known beforehand.
    pub heartbeats: Vec<Vec<u8>>,
    /// The exact length of the package, bytes: decides without waiting for a quiet line.
    pub len: Option<usize>,
    /// The quiet time that ends a package without delimiter; none: the session's setting.
    pub quiet_gap: Option<Duration>,
}

/// Why a text is not a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No such name.
    #[error(
        "unknown registration profile {0:?}; known are auto, ascii, hex, imei, iccid, mac, login, inhand, ddp, prot and custom:PATTERN"
    )]
    Name(String),
    /// `custom` without its pattern.
    #[error("profile custom needs a pattern: custom:LOGIN:{{sn:digit,4-12}}")]
    NoPattern,
    /// A bad pattern.
    #[error("pattern: {0}")]
    Pattern(#[from] PatternError),
    /// No such option.
    #[error("unknown profile option {0:?}; known are every, once, echo, answer=HEX, heartbeat=HEX, len=BYTES, gap=MS")]
    Option(String),
    /// Bad hex in an option.
    #[error("profile option {option}: {error}")]
    Hex {
        /// The option.
        option: &'static str,
        /// What is wrong.
        error: HexError,
    },
    /// A value out of bounds.
    #[error("profile option {option} must lie between {low} and {high}")]
    Bounds {
        /// The option.
        option: &'static str,
        /// Lowest value.
        low: u64,
        /// Highest value.
        high: u64,
    },
}

impl Default for Profile {
    fn default() -> Self {
        Self::of("auto", Form::Auto)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Profile {
    fn of(text: &str, form: Form) -> Self {
        Self {
            text: text.into(),
            form,
            every_packet: None,
            answer: Answer::Nothing,
            heartbeats: Vec::new(),
            len: None,
            quiet_gap: None,
        }
    }

    /// Reads `NAME[+OPTION]…[:PATTERN]`.
    ///
    /// # Errors
    /// [`ProfileError`] says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let (head, pattern) = match text.split_once(':') {
            Some((head, pattern)) => (head, Some(pattern)),
            None => (text, None),
        };
        let mut words = head.split('+');
        let name = words.next().unwrap_or_default();
        let unknown = || ProfileError::Name(text.chars().take(40).collect());
        let row = PROFILES.iter().find(|row| row.name == name).ok_or_else(unknown)?;
        let form = match (&row.form, pattern) {
            (Some(form), None) => form.clone(),
            (Some(_), Some(_)) => return Err(unknown()),
            (None, None) => return Err(ProfileError::NoPattern),
            (None, Some(pattern)) => Form::Custom(Pattern::parse(pattern)?),
        };
        let mut profile = Self::of(text, form);
        for word in words {
            profile.option(word)?;
        }
        Ok(profile)
    }

    fn option(&mut self, word: &str) -> Result<(), ProfileError> {
        let (key, value) = word
            .split_once('=')
            .map_or((word, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("every", None) => self.every_packet = Some(true),
            ("once", None) => self.every_packet = Some(false),
            ("echo", None) => self.answer = Answer::Echo,
            ("answer", Some(value)) => self.answer = Answer::Bytes(bytes_of("answer", value)?),
            ("heartbeat", Some(value)) => {
                self.heartbeats.push(bytes_of("heartbeat", value)?);
                bounded("heartbeat", self.heartbeats.len() as u64, 1, HEARTBEATS_MAX as u64)?;
            }
            ("len", Some(value)) => {
                let len = number("len", value, 1, PACKAGE_LEN_MAX as u64)?;
                self.len = usize::try_from(len).ok();
            }
            ("gap", Some(value)) => {
                let gap = number("gap", value, *GAP_MS.start(), *GAP_MS.end())?;
                self.quiet_gap = Some(Duration::from_millis(gap));
            }
            _ => return Err(ProfileError::Option(word.chars().take(40).collect())),
        }
        Ok(())
    }

    /// The text that pins it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn bytes_of(option: &'static str, value: &str) -> Result<Vec<u8>, ProfileError> {
    let bytes = hex::decode(value).map_err(|error| ProfileError::Hex { option, error })?;
    bounded(option, bytes.len() as u64, 1, PACKAGE_LEN_MAX as u64)?;
    Ok(bytes)
}

fn number(option: &'static str, value: &str, low: u64, high: u64) -> Result<u64, ProfileError> {
    let number = value.parse().map_err(|_| ProfileError::Bounds { option, low, high })?;
    bounded(option, number, low, high)
}

fn bounded(option: &'static str, number: u64, low: u64, high: u64) -> Result<u64, ProfileError> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(ProfileError::Bounds { option, low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_read_with_their_options() {
        for row in PROFILES.iter().filter(|row| row.form.is_some()) {
            assert_eq!(Profile::parse(row.name).unwrap().form, row.form.clone().unwrap());
        }
        let profile = Profile::parse("login+every+answer=4F4B+heartbeat=4C4F47+gap=200").unwrap();
        assert_eq!(profile.every_packet, Some(true));
        assert_eq!(profile.answer, Answer::Bytes(b"OK".to_vec()));
        assert_eq!(profile.heartbeats, [b"LOG".to_vec()]);
        assert_eq!(profile.quiet_gap, Some(Duration::from_millis(200)));
        assert_eq!(profile.to_string(), "login+every+answer=4F4B+heartbeat=4C4F47+gap=200");
        let custom = Profile::parse("custom+echo+once:A+B:{sn:any,1-9}").unwrap();
        assert!(matches!(custom.form, Form::Custom(_)));
        assert_eq!((custom.answer, custom.every_packet), (Answer::Echo, Some(false)));
    }

    #[test]
    fn wrong_profiles_say_what_would_be_right() {
        for (text, says) in [
            ("telnet", "known are auto"),
            ("ascii:x", "unknown registration profile"),
            ("custom", "needs a pattern"),
            ("custom:abc", "exactly one {sn:"),
            ("ascii+loud", "unknown profile option \"loud\""),
            ("ascii+answer=4", "odd number of hexadecimal digits"),
            ("ascii+answer=", "between 1 and 80"),
            ("ascii+gap=20", "between 50 and 5000"),
            ("hex+len=0", "between 1 and 80"),
        ] {
            let error = Profile::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

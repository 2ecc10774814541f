//! What a write must prove: level, password, operator (DL/T 645-2007, 5.2.4.4). Never printed.

use std::fmt;

/// A password and the level that it opens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password {
    level: u8,
    // as printed, high digits first
    digits: [u8; 3],
}

/// Who writes: eight digits, for the meter's own record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Operator([u8; 4]);

/// What a write carries before its data: password and, in 2007, the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Security {
    /// Level and password.
    pub password: Password,
    /// The operator; not on the wire in 1997.
    pub operator: Operator,
}

/// Why a text is neither password nor operator. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {wanted} digits, given are {given} characters")]
pub struct SecretError {
    /// What it should be.
    pub what: &'static str,
    /// How many digits it has.
    pub wanted: usize,
    /// How many characters were given, or how many of them are digits.
    pub given: usize,
}

fn digits<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], SecretError> {
    let text = text.trim();
    let error = SecretError {
        what,
        wanted: N * 2,
        given: text.chars().filter(char::is_ascii_hexdigit).count(),
    };
    if text.len() != N * 2 || error.given != N * 2 {
        return Err(error);
    }
    let bytes = crate::base::hex::decode(text).map_err(|_| error)?;
    bytes.try_into().map_err(|_| error)
}

impl Password {
    /// As most meters leave the factory: level 2, six zeros.
    pub const FACTORY: Self = Self {
        level: 2,
        digits: [0; 3],
    };

    /// A password of six digits as printed, for a level (02 and 04 are usual).
    ///
    /// # Errors
    /// [`SecretError`] when it has not six digits.
    pub fn new(level: u8, printed: &str) -> Result<Self, SecretError> {
        digits("a password", printed).map(|digits| Self { level, digits })
    }

    /// The level.
    pub fn level(self) -> u8 {
        self.level
    }

    /// The bytes PA P0 P1 P2: level, then the digits low byte first.
    pub fn wire(self) -> [u8; 4] {
        let [high, middle, low] = self.digits;
        [self.level, low, middle, high]
    }

    pub(super) fn from_wire([level, low, middle, high]: [u8; 4]) -> Self {
        Self {
            level,
            digits: [high, middle, low],
        }
    }
}

impl Operator {
    /// An operator of eight digits as printed.
    ///
    /// # Errors
    /// [`SecretError`] when it has not eight digits.
    pub fn new(printed: &str) -> Result<Self, SecretError> {
        digits("an operator code", printed).map(Self)
    }

    /// The bytes C0 to C3, low byte first.
    pub fn wire(self) -> [u8; 4] {
        let mut wire = self.0;
        wire.reverse();
        wire
    }

    pub(super) fn from_wire(mut wire: [u8; 4]) -> Self {
        wire.reverse();
        Self(wire)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::base::hex::encode(&self.0))
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {:02X}, password hidden", self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_digits_go_low_byte_first_and_are_never_shown() {
        let password = Password::new(2, "123456").unwrap();
        assert_eq!(password.wire(), [2, 0x56, 0x34, 0x12]);
        assert_eq!(Password::from_wire(password.wire()), password);
        assert!(!format!("{password:?}").contains("34"));
        let operator = Operator::new("00000001").unwrap();
        assert_eq!(operator.wire(), [1, 0, 0, 0]);
        assert_eq!(operator.to_string(), "00000001");
        let error = Password::new(2, "secret!").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(Operator::new("1").is_err());
        assert!(Password::new(2, "12 456").is_err());
    }
}

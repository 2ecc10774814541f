//! The grammar of a serial number as it comes off the wire: the same as `domain::device::SerialNumber`, on bytes.
//!
//! It is strict on purpose (promises.md A9): what passes may stand in a log, a console and a CSV file unescaped.

/// The longest serial number, characters. DTUs allow packages of 40 bytes (USR-M100), as hex 80 characters.
pub const SN_LEN_MAX: usize = 80;

/// Why bytes are not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnError {
    /// Nothing there.
    #[error("the serial number is empty")]
    Empty,
    /// Over [`SN_LEN_MAX`].
    #[error("the serial number has {0} characters, at most {SN_LEN_MAX} are allowed")]
    TooLong(usize),
    /// A byte outside the grammar; shown as a number so that a log line stays a line.
    #[error(
        "byte 0x{byte:02x} at position {position} cannot stand in a serial number; allowed are A-Z a-z 0-9 . _ : - and the first must be a letter or digit"
    )]
    Byte {
        /// The byte.
        byte: u8,
        /// Its position, from 0.
        position: usize,
    },
}

/// Whether a byte may stand in a serial number after its first place.
pub fn is_sn_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
}

/// Checks the grammar: 1 to 80 of `A-Z a-z 0-9 . _ : -`, the first alphanumeric. Case is kept.
///
/// # Errors
/// [`SnError`] names the first fault.
pub fn check(bytes: &[u8]) -> Result<String, SnError> {
    let first = *bytes.first().ok_or(SnError::Empty)?;
    if bytes.len() > SN_LEN_MAX {
        return Err(SnError::TooLong(bytes.len()));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(SnError::Byte {
            byte: first,
            position: 0,
        });
    }
    if let Some((position, &byte)) = bytes.iter().enumerate().find(|(_, byte)| !is_sn_byte(**byte)) {
        return Err(SnError::Byte { byte, position });
    }
    Ok(bytes.iter().map(|&byte| char::from(byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_strict() {
        assert_eq!(check(b"12061204").unwrap(), "12061204");
        assert_eq!(check(b"A.b_c:d-9").unwrap(), "A.b_c:d-9");
        assert_eq!(check(b""), Err(SnError::Empty));
        assert_eq!(check(&[b'a'; 81]), Err(SnError::TooLong(81)));
        assert_eq!(
            check(b"-1"),
            Err(SnError::Byte {
                byte: b'-',
                position: 0
            })
        );
        for (text, byte, position) in [
            (b"<script>".as_slice(), b'<', 0),
            (b"=cmd", b'=', 0),
            (b"a\nb", b'\n', 1),
            (b"a\0", 0, 1),
            (b"a b", b' ', 1),
        ] {
            assert_eq!(check(text), Err(SnError::Byte { byte, position }));
        }
    }
}

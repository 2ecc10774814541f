//! Hexadecimal text of bytes, as field engineers write it.

/// Why a text is not hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// A character that is neither a hex digit nor a separator.
    #[error("character {found:?} at position {position} is not a hexadecimal digit")]
    Digit {
        /// The character.
        found: char,
        /// Its position in the text, counted in bytes from 0.
        position: usize,
    },
    /// Half a byte is left over.
    #[error("an odd number of hexadecimal digits ({digits}); every byte needs two")]
    Odd {
        /// How many digits there are.
        digits: usize,
    },
}

/// Upper-case digits without separators: `0103…`.
pub fn encode(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // writing to a String cannot fail
            let _ignored = write!(out, "{byte:02X}");
            out
        })
}

/// Reads digits of either case; blanks, `:`, `-`, `,` and a leading `0x` are skipped.
///
/// # Errors
/// [`HexError`] names the first wrong character or the odd digit count.
pub fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let (offset, body) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(body) => (2, body),
        None => (0, text),
    };
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut high: Option<u8> = None;
    let mut digits = 0usize;
    for (position, found) in body.char_indices() {
        if found.is_whitespace() || matches!(found, ':' | '-' | ',') {
            continue;
        }
        let Some(digit) = found.to_digit(16).and_then(|d| u8::try_from(d).ok()) else {
            return Err(HexError::Digit {
                found,
                position: position + offset,
            });
        };
        digits += 1;
        high = match high {
            None => Some(digit << 4),
            Some(high) => {
                out.push(high | digit);
                None
            }
        };
    }
    if high.is_some() {
        return Err(HexError::Odd { digits });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_engineers_write() {
        assert_eq!(decode("01 03:0a-FF").unwrap(), [1, 3, 10, 255]);
        assert_eq!(decode("0x0103").unwrap(), [1, 3]);
        assert_eq!(encode(&[1, 0xAB]), "01AB");
        assert_eq!(decode("010"), Err(HexError::Odd { digits: 3 }));
        assert_eq!(
            decode("0x01G0"),
            Err(HexError::Digit {
                found: 'G',
                position: 4
            })
        );
    }
}

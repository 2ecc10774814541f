//! The custom registration pattern: a small language that cannot run away, unlike a regular expression.
//!
//! ```text
//! LOGIN:{sn:digit,4-12}\r\n        literal text, the SN, CR LF
//! \xAA\x55{skip:2}{sn:any,1-40}\0  two bytes, two bytes of no interest, the SN, NUL
//! {hex:8}                          eight bytes, shown as hex, are the SN
//! ```
//!
//! Escapes in literals: `\r \n \t \0 \\ \{ \} \xHH`. Exactly one SN part (`sn` or `hex`); `{skip:N}` skips N bytes,
//! `{skip:A-B}` A to B (at most one such range). The work is bounded by (SN lengths) × (skip lengths) × (pattern length).

use super::sn::SN_LEN_MAX;
use crate::base::hex;
use std::ops::{Range, RangeInclusive};

/// The most bytes that a pattern can match.
pub const PATTERN_BYTES_MAX: usize = 256;
const SKIP_MAX: usize = 64;
const PARTS_MAX: usize = 16;

/// Which bytes an SN part takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Digit,
    HexDigit,
    Alnum,
    Upper,
    Any,
}

impl Charset {
    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "digit" | "0-9" => Self::Digit,
            "hexdigit" => Self::HexDigit,
            "alnum" => Self::Alnum,
            "upper" => Self::Upper,
            "any" => Self::Any,
            _ => return None,
        })
    }

    fn holds(self, byte: u8) -> bool {
        match self {
            Self::Digit => byte.is_ascii_digit(),
            Self::HexDigit => byte.is_ascii_hexdigit(),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Any => super::sn::is_sn_byte(byte),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Sn(Charset, RangeInclusive<usize>),
    Hex(usize),
    Skip(RangeInclusive<usize>),
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No SN part, or two.
    #[error("a pattern needs exactly one {{sn:…}} or {{hex:…}} part, this has {0}")]
    SnParts(usize),
    /// A part that is not known.
    #[error(
        "unknown part {{{0}}}; write {{sn:digit|hexdigit|alnum|upper|any,MIN-MAX}}, {{hex:N}}, {{skip:N}} or {{skip:A-B}}"
    )]
    Part(String),
    /// A brace without its partner.
    #[error("brace at position {0} has no partner; a literal brace is written \\{{ or \\}}")]
    Brace(usize),
    /// A bad escape.
    #[error("unknown escape at position {0}; known are \\r \\n \\t \\0 \\\\ \\{{ \\}} \\xHH")]
    Escape(usize),
    /// A length out of bounds.
    #[error(
        "length {0} is out of bounds: sn and hex 1 to {SN_LEN_MAX} characters of sn, skip 0 to {SKIP_MAX}, the lower first"
    )]
    Length(String),
    /// Too many parts or bytes.
    #[error("a pattern has at most {PARTS_MAX} parts, one skip range and {PATTERN_BYTES_MAX} bytes")]
    TooBig,
}

/// What a pattern says of the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternMatch {
    /// It matches. `open`: more bytes could make the SN longer.
    Whole {
        /// Where the SN stands.
        sn: Range<usize>,
        /// Whether the SN bytes are to be shown as hex.
        as_hex: bool,
        /// Bytes of the whole package.
        len: usize,
        /// Whether the SN could go on in bytes still to come.
        open: bool,
    },
    /// It could match with more bytes.
    Partial,
    /// It cannot match.
    No,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] names the first fault.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.char_indices();
        while let Some((at, found)) = chars.next() {
            match found {
                '\\' => literal.push(escape(&mut chars).ok_or(PatternError::Escape(at))?),
                '{' => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    let inner: String = chars.by_ref().map(|(_, c)| c).take_while(|c| *c != '}').collect();
                    if !text
                        .get(at + 1 + inner.len()..)
                        .is_some_and(|rest| rest.starts_with('}'))
                    {
                        return Err(PatternError::Brace(at));
                    }
                    parts.push(part(&inner)?);
                }
                '}' => return Err(PatternError::Brace(at)),
                other => {
                    let mut utf8 = [0; 4];
                    literal.extend_from_slice(other.encode_utf8(&mut utf8).as_bytes());
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }.checked()
    }

    fn checked(self) -> Result<Self, PatternError> {
        let is_sn = |part: &&Part| matches!(part, Part::Sn(..) | Part::Hex(_));
        let sn_parts = self.parts.iter().filter(is_sn).count();
        if sn_parts != 1 {
            return Err(PatternError::SnParts(sn_parts));
        }
        let is_range = |part: &&Part| matches!(part, Part::Skip(range) if range.start() != range.end());
        let ranges = self.parts.iter().filter(is_range).count();
        if ranges > 1 || self.parts.len() > PARTS_MAX || self.len_max() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooBig);
        }
        Ok(self)
    }

    /// The most bytes that it can match.
    pub fn len_max(&self) -> usize {
        let len = |part: &Part| match part {
            Part::Literal(bytes) => bytes.len(),
            Part::Sn(_, range) | Part::Skip(range) => *range.end(),
            Part::Hex(count) => *count,
        };
        self.parts.iter().map(len).sum()
    }

    /// Matches at the front of `buffer`. Of several ways the one with the shortest skip and then the longest SN wins.
    pub fn match_front(&self, buffer: &[u8]) -> PatternMatch {
        walk(&self.parts, buffer, 0, None)
    }
}

fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<u8> {
    Some(match chars.next()?.1 {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        '{' => b'{',
        '}' => b'}',
        'x' => {
            let mut digit = || chars.next().and_then(|(_, c)| c.to_digit(16));
            u8::try_from(digit()? * 16 + digit()?).ok()?
        }
        _ => return None,
    })
}

fn part(inner: &str) -> Result<Part, PatternError> {
    let unknown = || PatternError::Part(inner.chars().take(32).collect());
    let (name, value) = inner.split_once(':').ok_or_else(unknown)?;
    Ok(match name {
        "sn" => {
            let (charset, range) = value.split_once(',').ok_or_else(unknown)?;
            Part::Sn(
                Charset::by_name(charset).ok_or_else(unknown)?,
                range_of(range, 1, SN_LEN_MAX)?,
            )
        }
        "hex" => Part::Hex(*range_of(value, 1, SN_LEN_MAX / 2)?.end()),
        "skip" => Part::Skip(range_of(value, 0, SKIP_MAX)?),
        _ => return Err(unknown()),
    })
}

fn range_of(text: &str, low: usize, high: usize) -> Result<RangeInclusive<usize>, PatternError> {
    let wrong = || PatternError::Length(text.chars().take(32).collect());
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let from: usize = from.trim().parse().map_err(|_| wrong())?;
    let to: usize = to.trim().parse().map_err(|_| wrong())?;
    if from < low || to > high || from > to {
        return Err(wrong());
    }
    Ok(from..=to)
}

/// Depth is at most [`PARTS_MAX`]; only one SN part and one skip range branch.
fn walk(parts: &[Part], buffer: &[u8], at: usize, sn: Option<(Range<usize>, bool, bool)>) -> PatternMatch {
    let Some((first, rest)) = parts.split_first() else {
        return match sn {
            Some((sn, as_hex, open)) => PatternMatch::Whole {
                open: open && sn.end == at,
                sn,
                as_hex,
                len: at,
            },
            None => PatternMatch::No,
        };
    };
    let left = buffer.get(at..).unwrap_or_default();
    match first {
        Part::Literal(bytes) if left.starts_with(bytes) => walk(rest, buffer, at + bytes.len(), sn),
        Part::Literal(bytes) if bytes.starts_with(left) => PatternMatch::Partial,
        Part::Literal(_) => PatternMatch::No,
        Part::Hex(count) if left.len() < *count => PatternMatch::Partial,
        Part::Hex(count) => walk(rest, buffer, at + count, Some((at..at + count, true, false))),
        Part::Skip(range) => best(range.clone().map(|count| {
            if left.len() < count {
                PatternMatch::Partial
            } else {
                walk(rest, buffer, at + count, sn.clone())
            }
        })),
        Part::Sn(charset, range) => {
            let run = left
                .iter()
                .take(*range.end())
                .take_while(|b| charset.holds(**b))
                .count();
            let open = run == left.len() && run < *range.end();
            let tries = (*range.start()..=run).rev();
            let found = best(tries.map(|count| walk(rest, buffer, at + count, Some((at..at + count, false, open)))));
            match found {
                PatternMatch::No if open => PatternMatch::Partial,
                other => other,
            }
        }
    }
}

/// The first whole match, else partial if any is, else no.
fn best(tries: impl Iterator<Item = PatternMatch>) -> PatternMatch {
    let mut out = PatternMatch::No;
    for one in tries {
        match one {
            PatternMatch::Whole { .. } => return one,
            PatternMatch::Partial => out = PatternMatch::Partial,
            PatternMatch::No => {}
        }
    }
    out
}

/// The SN text of a match.
pub(super) fn sn_text(bytes: &[u8], as_hex: bool) -> Vec<u8> {
    if as_hex {
        hex::encode(bytes).into_bytes()
    } else {
        bytes.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sn(pattern: &str, bytes: &[u8]) -> Option<(String, usize, bool)> {
        match Pattern::parse(pattern).unwrap().match_front(bytes) {
            PatternMatch::Whole { sn, as_hex, len, open } => {
                let text = sn_text(&bytes[sn], as_hex);
                Some((String::from_utf8(text).unwrap(), len, open))
            }
            PatternMatch::Partial | PatternMatch::No => None,
        }
    }

    #[test]
    fn patterns_of_the_field() {
        let found = |text: &str, len, open| Some((text.to_owned(), len, open));
        assert_eq!(sn(r"LOGIN:{sn:digit,4-12}", b"LOGIN:1001"), found("1001", 10, true));
        assert_eq!(
            sn(r"LOGIN:{sn:digit,4-12}\r\n", b"LOGIN:1001\r\n"),
            found("1001", 12, false)
        );
        assert_eq!(
            sn(r"\xAA\x55{skip:2}{sn:any,1-40}\0", b"\xAA\x55..n.1\0"),
            found("n.1", 8, false)
        );
        assert_eq!(sn(r"{hex:3}", &[1, 0xAB, 3, 4]), found("01AB03", 3, false));
        assert_eq!(
            sn(r"{sn:any,1-20}-END", b"a-END-END"),
            found("a-END", 9, false),
            "the longest SN wins"
        );
        assert_eq!(sn(r"{skip:0-3}ID{sn:digit,2-2}", b"xxID42"), found("42", 6, false));
        assert_eq!(sn(r"\{{sn:alnum,1-9}\}", b"{ab}"), found("ab", 4, false));
        assert_eq!(sn(r"LOGIN:{sn:digit,4-12}", b"LOGIN:10"), None);
    }

    #[test]
    fn partial_and_impossible_are_told_apart() {
        let pattern = Pattern::parse(r"LOGIN:{sn:digit,4-12}\r").unwrap();
        for cut in 0..b"LOGIN:100123\r".len() {
            assert_eq!(
                pattern.match_front(&b"LOGIN:100123\r"[..cut]),
                PatternMatch::Partial,
                "cut at {cut}"
            );
        }
        for wrong in [
            b"LOGON".as_slice(),
            b"LOGIN:abc",
            b"LOGIN:100\r",
            b"LOGIN:1234567890123\r",
        ] {
            assert_eq!(pattern.match_front(wrong), PatternMatch::No);
        }
    }

    #[test]
    fn bad_patterns_say_why() {
        let error = |text: &str| Pattern::parse(text).unwrap_err();
        assert_eq!(error("LOGIN"), PatternError::SnParts(0));
        assert_eq!(error("{hex:2}{sn:any,1-2}"), PatternError::SnParts(2));
        assert_eq!(error("{sn:any,1-2"), PatternError::Brace(0));
        assert_eq!(error("a}"), PatternError::Brace(1));
        assert_eq!(error(r"\q"), PatternError::Escape(0));
        assert_eq!(error("{sn:all,1-2}"), PatternError::Part("sn:all,1-2".into()));
        assert_eq!(error("{sn:any,0-81}"), PatternError::Length("0-81".into()));
        assert_eq!(error("{sn:any,9-2}"), PatternError::Length("9-2".into()));
        assert_eq!(error("{skip:0-1}{skip:0-1}{sn:any,1-2}"), PatternError::TooBig);
        assert_eq!(
            error(&format!("{}{{sn:any,1-2}}", "x".repeat(300))),
            PatternError::TooBig
        );
    }
}

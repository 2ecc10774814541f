//! Short messages: what fits into one, and how a longer text is cut (3GPP TS 23.038 clauses 6.2.1 and 4, TS 23.040
//! clause 9.2.3.24.1); [`smpp`] carries them to a message centre.
//!
//! A text of the GSM default alphabet has 160 septets in one message, 153 in each of several; any other text goes as
//! UCS-2 with 70 and 67 units. A character outside the BMP is two units and is never cut apart.

pub mod smpp;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// The GSM 7 bit default alphabet with its extension table.
    Gsm,
    /// UCS-2, which in practice is UTF-16 big endian.
    Ucs2,
}

/// Segments of one text at most; what is longer is cut off.
pub const SEGMENTS_MAX: usize = 10;

/// TS 23.038 clause 6.2.1, by code.
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', 'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω',
    'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1b}', 'Æ', 'æ', 'ß', 'É', ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+',
    ',', '-', '.', '/', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?', '¡', 'A', 'B',
    'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y',
    'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§', '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p',
    'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// Clause 6.2.1.1: behind an escape.
const EXTENSION: [(char, u8); 9] = [
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];
const ESCAPE: u8 = 0x1b;

/// The septets of a character, one an octet; none: it is not in the alphabet.
fn septets(c: char) -> Option<Vec<u8>> {
    if let Some((_, code)) = EXTENSION.iter().find(|(known, _)| *known == c) {
        return Some(vec![ESCAPE, *code]);
    }
    let code = DEFAULT.iter().position(|known| *known == c && c != '\u{1b}')?;
    Some(vec![u8::try_from(code).ok()?])
}

/// A text, cut into messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// How it is written.
    pub alphabet: Alphabet,
    /// The text of each message.
    pub texts: Vec<String>,
}

impl Segments {
    /// Cuts a text.
    pub fn of(text: &str) -> Self {
        let gsm = text.chars().all(|c| septets(c).is_some());
        let alphabet = if gsm { Alphabet::Gsm } else { Alphabet::Ucs2 };
        let (single, each) = if gsm { (160, 153) } else { (70, 67) };
        let length = |c: char| {
            if gsm {
                septets(c).map_or(1, |s| s.len())
            } else {
                c.len_utf16()
            }
        };
        if text.chars().map(length).sum::<usize>() <= single {
            return Self {
                alphabet,
                texts: vec![text.to_owned()],
            };
        }
        let mut texts = vec![String::new()];
        let mut used = 0;
        for c in text.chars() {
            let more = length(c);
            if used + more > each {
                if texts.len() == SEGMENTS_MAX {
                    break;
                }
                texts.push(String::new());
                used = 0;
            }
            used += more;
            if let Some(last) = texts.last_mut() {
                last.push(c);
            }
        }
        Self { alphabet, texts }
    }

    /// The octets of a segment: septets one an octet, or UTF-16 big endian.
    pub fn octets(&self, text: &str) -> Vec<u8> {
        match self.alphabet {
            Alphabet::Gsm => text.chars().filter_map(septets).flatten().collect(),
            Alphabet::Ucs2 => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// The user data header of segment `index` (from 0): concatenation with an 8 bit reference.
    pub fn header(&self, reference: u8, index: usize) -> Option<[u8; 6]> {
        let total = u8::try_from(self.texts.len()).ok()?;
        let number = u8::try_from(index.checked_add(1)?).ok()?;
        (total > 1).then_some([0x05, 0x00, 0x03, reference, total, number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_one_message() {
        for (text, alphabet, segments) in [
            ("a".repeat(160), Alphabet::Gsm, 1),
            ("a".repeat(161), Alphabet::Gsm, 2),
            ("€".repeat(80), Alphabet::Gsm, 1),
            ("€".repeat(81), Alphabet::Gsm, 2),
            ("度".repeat(70), Alphabet::Ucs2, 1),
            ("度".repeat(71), Alphabet::Ucs2, 2),
            ("Ж".repeat(135), Alphabet::Ucs2, 3),
            ("😀".repeat(35), Alphabet::Ucs2, 1),
            ("a\u{1b}".to_owned(), Alphabet::Ucs2, 1),
            ("a".repeat(100_000), Alphabet::Gsm, SEGMENTS_MAX),
        ] {
            let cut = Segments::of(&text);
            assert_eq!((cut.alphabet, cut.texts.len()), (alphabet, segments), "{text:?}");
        }
        // TS 23.038: @ is 0, the euro sign is an escape and 0x65
        assert_eq!(Segments::of("@£€").octets("@£€"), [0x00, 0x01, 0x1b, 0x65]);
        assert_eq!(Segments::of("度").octets("度"), [0x5e, 0xa6]);
        assert_eq!(Segments::of("short").header(7, 0), None);
        assert_eq!(Segments::of(&"a".repeat(200)).header(7, 1), Some([5, 0, 3, 7, 2, 2]));
    }

    #[test]
    fn the_alphabet_names_each_character_once() {
        for (code, c) in DEFAULT.iter().enumerate() {
            assert_eq!(DEFAULT.iter().filter(|other| *other == c).count(), 1, "{c:?}");
            assert!(!c.is_ascii_alphanumeric() || *c as usize == code, "{c:?} {code}");
        }
    }

    proptest! {
        /// The segments are the text, none is too long for its message, and no character is cut apart.
        #[test]
        fn segments_are_the_text(text in "[ -~äöü€度Ж😀]{0,500}") {
            let cut = Segments::of(&text);
            prop_assert_eq!(cut.texts.concat(), text.as_str());
            for (index, part) in cut.texts.iter().enumerate() {
                let header = cut.header(1, index).map_or(0, |header| header.len());
                let octets = cut.octets(part).len();
                let most = match (cut.alphabet, header) {
                    (Alphabet::Gsm, 0) => 160,
                    (Alphabet::Gsm, _) => 153,
                    (Alphabet::Ucs2, header) => 140 - header,
                };
                prop_assert!(octets <= most, "{} of {}", octets, most);
            }
        }
    }
}

//! Four-Faith PROT: a register packet, then an escaped byte stream with FE as the heartbeat.
//!
//! ```text
//! register: id(4) phone(11 ASCII digits) 00 IP(4) 00
//! data:     FD -> FD ED, FE -> FD EE, both ways          heartbeat: FE
//! ```
//!
//! Source: Four-Faith "Modem(DTU) data in PROT mode", 2012 (protocols.md §9, S45).

use super::framing::FramingItem;
use crate::base::bytes::Reader;

/// Bytes of a register packet.
pub const REGISTER_LEN: usize = 21;
/// The heartbeat.
pub const HEARTBEAT: u8 = 0xFE;
const ESCAPE: u8 = 0xFD;
const ESCAPED_FD: u8 = 0xED;
const ESCAPED_FE: u8 = 0xEE;

/// A register packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The device id as it stands on the wire. The maker's text and its readers disagree about its byte order.
    pub id: [u8; 4],
    /// The phone number: 11 digits.
    pub phone: [u8; 11],
    /// The DTU's address in the mobile network.
    pub ip: [u8; 4],
}

impl Register {
    /// Reads a packet at the front, and says how many bytes it took. The plain form is tried first, then the escaped
    /// one: whether the packet itself is escaped is not written anywhere, and an address can hold FD or FE.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        if let Some(register) = Self::parse_plain(bytes) {
            return Some((register, REGISTER_LEN));
        }
        // each escape makes it one byte longer, and only the id and the address can hold any
        (REGISTER_LEN + 1..=REGISTER_LEN + 8).find_map(|len| {
            let plain = unescape(bytes.get(..len)?)?;
            (plain.len() == REGISTER_LEN).then_some(())?;
            Some((Self::parse_plain(&plain)?, len))
        })
    }

    /// Whether more bytes could make these a register packet.
    pub fn is_prefix(bytes: &[u8]) -> bool {
        let fits = |plain: &[u8]| {
            plain.len() < REGISTER_LEN
                && plain.iter().enumerate().all(|(at, byte)| match at {
                    4..15 => byte.is_ascii_digit(),
                    15 => *byte == 0,
                    _ => true,
                })
        };
        let whole = match bytes.split_last() {
            Some((&ESCAPE, front)) => front,
            _ => bytes,
        };
        fits(bytes) || unescape(whole).is_some_and(|plain| fits(&plain))
    }

    fn parse_plain(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(..REGISTER_LEN)?);
        let id = reader.array().ok()?;
        let phone: [u8; 11] = reader.array().ok()?;
        let gap = reader.u8().ok()?;
        let ip = reader.array().ok()?;
        let end = reader.u8().ok()?;
        (phone.iter().all(u8::is_ascii_digit) && gap == 0 && end == 0).then_some(Self { id, phone, ip })
    }

    /// The packet's bytes, plain.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(REGISTER_LEN);
        out.extend(self.id);
        out.extend(self.phone);
        out.push(0);
        out.extend(self.ip);
        out.push(0);
        out
    }
}

/// Escapes bytes for the wire.
pub fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            ESCAPE => out.extend([ESCAPE, ESCAPED_FD]),
            HEARTBEAT => out.extend([ESCAPE, ESCAPED_FE]),
            other => out.push(other),
        }
    }
    out
}

/// The reverse for a whole piece; none where an escape is broken or a bare FE stands inside.
fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            HEARTBEAT => return None,
            ESCAPE => match *rest.next()? {
                ESCAPED_FD => ESCAPE,
                ESCAPED_FE => HEARTBEAT,
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

/// Takes the escaping off a stream. Holds at most one byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    escape_open: bool,
}

impl Decoder {
    /// Takes bytes. An FD that is followed by neither ED nor EE is passed on as it is: the frame check decides.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<FramingItem> {
        let mut items = Vec::new();
        let mut line = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match (std::mem::take(&mut self.escape_open), byte) {
                (true, ESCAPED_FD) => line.push(ESCAPE),
                (true, ESCAPED_FE) => line.push(HEARTBEAT),
                (broken, byte) => {
                    if broken {
                        line.push(ESCAPE);
                    }
                    match byte {
                        ESCAPE => self.escape_open = true,
                        HEARTBEAT => {
                            if !line.is_empty() {
                                items.push(FramingItem::Line(std::mem::take(&mut line)));
                            }
                            items.push(FramingItem::Heartbeat(vec![HEARTBEAT]));
                        }
                        other => line.push(other),
                    }
                }
            }
        }
        if !line.is_empty() {
            items.push(FramingItem::Line(line));
        }
        items
    }

    /// How many bytes wait for the rest of an escape.
    pub fn pending(&self) -> usize {
        usize::from(self.escape_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex::decode;
    use proptest::prelude::*;

    #[test]
    fn reads_the_makers_example() {
        let bytes = decode("78563412 3133303636363638383838 00 C0A80142 00").unwrap();
        let (register, len) = Register::parse(&bytes).unwrap();
        assert_eq!(len, 21);
        assert_eq!(&register.phone, b"13066668888");
        assert_eq!(
            (register.id, register.ip),
            ([0x78, 0x56, 0x34, 0x12], [192, 168, 1, 66])
        );
        assert_eq!(register.encode(), bytes);
        for cut in 0..bytes.len() {
            assert!(Register::is_prefix(&bytes[..cut]) && Register::parse(&bytes[..cut]).is_none());
        }
    }

    #[test]
    fn an_address_with_the_escape_bytes_is_read_either_way() {
        let register = Register {
            id: [0xFE, 0, 0, 1],
            phone: *b"13066668888",
            ip: [10, 0xFD, 0, 0xFE],
        };
        let plain = register.encode();
        assert_eq!(Register::parse(&plain), Some((register.clone(), 21)));
        let escaped = escape(&plain);
        assert_eq!(Register::parse(&escaped), Some((register, escaped.len())));
        for cut in 0..escaped.len() {
            assert!(Register::is_prefix(&escaped[..cut]), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back_around_heartbeats(
            pieces in prop::collection::vec(
                prop::collection::vec(prop_oneof![any::<u8>(), Just(0xFD), Just(0xFE), Just(0xED), Just(0xEE)], 0..40), 1..6),
            cut in 1usize..7,
        ) {
            let wire: Vec<u8> = pieces.iter().flat_map(|p| [escape(p), vec![HEARTBEAT]].concat()).collect();
            let mut decoder = Decoder::default();
            let (mut line, mut heartbeats) = (Vec::new(), 0);
            for chunk in wire.chunks(cut) {
                for item in decoder.feed(chunk) {
                    match item {
                        FramingItem::Line(bytes) => line.extend(bytes),
                        FramingItem::Heartbeat(_) => heartbeats += 1,
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!(line, pieces.concat());
            prop_assert_eq!((heartbeats, decoder.pending()), (pieces.len(), 0));
        }
    }
}

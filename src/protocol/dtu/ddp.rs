//! Hongdian DDP, spoken by several makers' DTUs over TCP.
//!
//! ```text
//! 7B type len(2, high first, whole packet) id(11 ASCII) payload 7B
//! DTU:    01 register, payload IP(4) port(2)   09 line data
//! server: 81 answer to 01                      89 line data
//! ```
//!
//! Source: captures with their values and public servers of this protocol (protocols.md §9, S46). The register packet is
//! repeated as the heartbeat, and a DTU that gets no 81 dials again.

use crate::base::bytes::Reader;

/// First and last byte of a packet.
pub const FLAG: u8 = 0x7B;
/// DTU: register, also its heartbeat.
pub const REGISTER: u8 = 0x01;
/// DTU: bytes from the line.
pub const DATA: u8 = 0x09;
/// Server: answer to [`REGISTER`].
pub const REGISTER_ACK: u8 = 0x81;
/// Server: bytes for the line.
pub const SERVER_DATA: u8 = 0x89;

/// Bytes of a packet without payload.
pub const OVERHEAD: usize = 16;
/// The most payload that we send in one packet (Four-Faith's description of the same packet: below 1024 bytes).
pub const PAYLOAD_LEN_MAX: usize = 1024;
/// The longest packet that is waited for. Real ones end at 1040; a longer claim is noise.
pub const PACKET_LEN_MAX: usize = 2048;
const ID_LEN: usize = 11;

/// The id in every packet: 11 ASCII digits, by custom the phone number of the SIM card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id([u8; ID_LEN]);

impl Id {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes without the NUL or blank padding that short ids get.
    pub fn trimmed(&self) -> &[u8] {
        let end = self.0.iter().rposition(|b| !is_padding(*b)).map_or(0, |last| last + 1);
        self.0.get(..end).unwrap_or_default()
    }

    /// For logs and errors: escaped text.
    pub fn show(&self) -> String {
        self.trimmed().escape_ascii().to_string()
    }
}

fn is_padding(byte: u8) -> bool {
    matches!(byte, 0 | b' ')
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its type byte.
    pub kind: u8,
    /// The DTU.
    pub id: Id,
    /// What stands between id and end flag.
    pub payload: Vec<u8>,
}

impl Packet {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self.kind, self.id, &self.payload)
    }
}

/// Why bytes are not a DDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DdpError {
    /// No 7B in front.
    #[error("a ddp packet begins with 7b, not {0:02x}")]
    StartByte(u8),
    /// No 7B where the length says.
    #[error("the ddp packet of {len} bytes ends with {found:02x} instead of 7b")]
    EndByte {
        /// The claimed length.
        len: usize,
        /// What stands there.
        found: u8,
    },
    /// A length that no packet has.
    #[error("a ddp packet has {OVERHEAD} to {PACKET_LEN_MAX} bytes, this one claims {0}")]
    Length(usize),
    /// The id is no text.
    #[error("byte {byte:02x} at position {position} of the ddp id is neither text nor padding")]
    Id {
        /// The byte.
        byte: u8,
        /// Its position in the id.
        position: usize,
    },
}

/// A look at the front of a buffer: a packet and how many bytes it takes, or nothing yet.
///
/// # Errors
/// [`DdpError`] as soon as the bytes cannot become a packet, so that a wrong length is not waited for.
pub fn parse(bytes: &[u8]) -> Result<Option<(Packet, usize)>, DdpError> {
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        Ok(FLAG) => {}
        Ok(other) => return Err(DdpError::StartByte(other)),
        Err(_) => return Ok(None),
    }
    let (Ok(kind), Ok(len)) = (reader.u8(), reader.u16_be()) else {
        return Ok(None);
    };
    let len = usize::from(len);
    if !(OVERHEAD..=PACKET_LEN_MAX).contains(&len) {
        return Err(DdpError::Length(len));
    }
    let seen = reader.rest().get(..ID_LEN).unwrap_or(reader.rest());
    let wrong = |(position, byte): (usize, &u8)| !byte.is_ascii_graphic() && (position == 0 || !is_padding(*byte));
    if let Some((position, &byte)) = seen.iter().enumerate().find(|item| wrong(*item)) {
        return Err(DdpError::Id { byte, position });
    }
    let Some(&found) = bytes.get(len - 1) else {
        return Ok(None);
    };
    if found != FLAG {
        return Err(DdpError::EndByte { len, found });
    }
    let (Ok(id), Ok(payload)) = (reader.array::<ID_LEN>(), reader.take(len - OVERHEAD)) else {
        return Ok(None);
    };
    let packet = Packet {
        kind,
        id: Id(id),
        payload: payload.to_vec(),
    };
    Ok(Some((packet, len)))
}

/// One packet's bytes; what is over [`PACKET_LEN_MAX`] is cut off, callers split before.
pub fn encode(kind: u8, id: Id, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..PACKET_LEN_MAX - OVERHEAD).unwrap_or(payload);
    let len = u16::try_from(OVERHEAD + payload.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(OVERHEAD + payload.len());
    out.extend([FLAG, kind]);
    out.extend(len.to_be_bytes());
    out.extend(id.0);
    out.extend(payload);
    out.push(FLAG);
    out
}

/// The answer that a register packet must get.
pub fn register_ack(id: Id) -> Vec<u8> {
    encode(REGISTER_ACK, id, &[])
}

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A packet.
    Packet(Packet),
    /// Bytes between packets.
    Noise(Vec<u8>),
}

/// Cuts a stream into packets and hunts for the next flag after bad bytes. Holds less than [`PACKET_LEN_MAX`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for piece in bytes.chunks(PACKET_LEN_MAX) {
            self.buffer.extend_from_slice(piece);
            self.drain(&mut items);
        }
        items
    }

    /// How many bytes wait for the rest of a packet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    fn drain(&mut self, items: &mut Vec<Item>) {
        let mut done = 0;
        loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            let skip = match parse(rest) {
                Ok(None) => break,
                Ok(Some((packet, len))) => {
                    items.push(Item::Packet(packet));
                    done += len;
                    continue;
                }
                // the byte that is not a packet's first, and all up to the next flag
                Err(_) => rest
                    .iter()
                    .skip(1)
                    .position(|b| *b == FLAG)
                    .map_or(rest.len(), |at| at + 1),
            };
            let noise = rest.get(..skip).unwrap_or_default();
            match items.last_mut() {
                Some(Item::Noise(bytes)) => bytes.extend_from_slice(noise),
                _ => items.push(Item::Noise(noise.to_vec())),
            }
            done += skip;
        }
        self.buffer.drain(..done.min(self.buffer.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex::decode;
    use proptest::prelude::*;

    const REGISTER_HEX: &str = "7B01001631333430333135343332390A1BBE2D0FA07B";

    fn packet(kind: u8, payload: &[u8]) -> Packet {
        Packet {
            kind,
            id: Id(*b"13900000000"),
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn reads_a_captured_register_packet() {
        let bytes = decode(REGISTER_HEX).unwrap();
        let (packet, len) = parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (packet.kind, packet.id.trimmed(), len),
            (REGISTER, b"13403154329".as_slice(), 22)
        );
        assert_eq!(packet.payload, [10, 27, 190, 45, 0x0F, 0xA0], "10.27.190.45 port 4000");
        assert_eq!(packet.encode(), bytes);
        assert_eq!(
            register_ack(packet.id),
            decode("7B81001031333430333135343332397B").unwrap()
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let bad_end = decode("7B0100163133393030303030303030AC186A0213897C").unwrap();
        assert_eq!(parse(&bad_end), Err(DdpError::EndByte { len: 22, found: 0x7C }));
        assert_eq!(parse(&[0x7B, 1, 0, 5]), Err(DdpError::Length(5)));
        assert_eq!(parse(&[0x7B, 1, 0xFF, 0xFF]), Err(DdpError::Length(65535)));
        assert_eq!(parse(&[0x68]), Err(DdpError::StartByte(0x68)));
        assert_eq!(
            parse(&[0x7B, 9, 4, 0, b'1', 0x01]),
            Err(DdpError::Id { byte: 1, position: 1 })
        );
        assert_eq!(parse(&[0x7B, 9]), Ok(None));
    }

    #[test]
    fn a_wrong_length_does_not_swallow_the_next_packet_for_ever() {
        // claims 48 bytes: what is not 7B there is hunted through, and the packet behind is found
        let mut stream = decode("7B0900303133393030303030303030").unwrap();
        let real = packet(DATA, &[0xAB; 40]);
        stream.extend(real.encode());
        let items = Decoder::default().feed(&stream);
        assert_eq!(items.last(), Some(&Item::Packet(real)), "{items:?}");
    }

    proptest! {
        /// Packets with noise between them come out whole, however the stream is cut.
        #[test]
        fn every_split_gives_the_same_packets(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
            noise in prop::collection::vec(0x80u8.., 0..20),
            cuts in prop::collection::vec(1usize..40, 1..40),
        ) {
            let sent: Vec<Packet> = payloads.iter().map(|p| packet(DATA, p)).collect();
            let stream: Vec<u8> = sent.iter().flat_map(|p| [noise.clone(), p.encode()].concat()).collect();
            let mut decoder = Decoder::default();
            let (mut got, mut at, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
            while at < stream.len() {
                let end = (at + cuts.next().unwrap()).min(stream.len());
                got.extend(decoder.feed(&stream[at..end]));
                at = end;
            }
            let packets: Vec<Packet> = got
                .iter()
                .filter_map(|item| match item { Item::Packet(p) => Some(p.clone()), Item::Noise(_) => None })
                .collect();
            prop_assert_eq!(packets, sent);
            prop_assert_eq!(decoder.pending(), 0);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Nothing is lost, invented or kept past the limit.
        #[test]
        fn random_bytes_are_accounted_for(chunks in prop::collection::vec(
            prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x7B), 1 => Just(b'1'), 1 => 0u8..8], 0..700), 0..12),
        ) {
            let mut decoder = Decoder::default();
            let mut out = 0;
            for chunk in &chunks {
                for item in decoder.feed(chunk) {
                    out += match item { Item::Packet(p) => p.encode().len(), Item::Noise(n) => n.len() };
                }
                prop_assert!(decoder.pending() < PACKET_LEN_MAX);
            }
            prop_assert_eq!(out + decoder.pending(), chunks.iter().map(Vec::len).sum::<usize>());
        }
    }
}

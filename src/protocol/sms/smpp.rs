//! PDUs of SMPP 3.4 as a sender of messages needs them: bind as transmitter, submit, enquire link, unbind.
//!
//! Source: Short Message Peer-to-Peer Protocol Specification v3.4, issue 1.2. Every PDU begins with command_length,
//! command_id, command_status and sequence_number, 32 bits each, big endian (clause 3.2).

/// The longest PDU that is read, octets. The answers that we ask for have less than 100.
pub const PDU_MAX: usize = 4096;
/// The header, octets.
pub const HEADER: usize = 16;

/// Command ids (clause 5.1.2.1); an answer's has the highest bit set.
pub mod command {
    /// The far side does not understand.
    pub const GENERIC_NACK: u32 = 0x8000_0000;
    /// Log-in of a sender.
    pub const BIND_TRANSMITTER: u32 = 0x0000_0002;
    /// A message.
    pub const SUBMIT_SM: u32 = 0x0000_0004;
    /// The end.
    pub const UNBIND: u32 = 0x0000_0006;
    /// Whether the other side is there.
    pub const ENQUIRE_LINK: u32 = 0x0000_0015;
    /// The bit of answers.
    pub const RESPONSE: u32 = 0x8000_0000;
}

/// A PDU as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// What it is.
    pub command: u32,
    /// How it went (clause 5.1.3); 0: well.
    pub status: u32,
    /// By which an answer finds its question.
    pub sequence: u32,
    /// The rest.
    pub body: Vec<u8>,
}

/// Why bytes are no PDU: the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmppError {
    /// The length is impossible.
    #[error("a PDU of {0} octets")]
    Length(u32),
    /// A field is longer than the standard lets it be.
    #[error("{0} is too long or holds a zero")]
    Field(&'static str),
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

impl Pdu {
    /// The first PDU of what has come, and how many octets it has; none: more is needed.
    ///
    /// # Errors
    /// [`SmppError::Length`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, SmppError> {
        let Some(length) = word(bytes, 0) else { return Ok(None) };
        let octets = usize::try_from(length).unwrap_or(usize::MAX);
        if !(HEADER..=PDU_MAX).contains(&octets) {
            return Err(SmppError::Length(length));
        }
        let (Some(command), Some(status), Some(sequence), Some(body)) = (
            word(bytes, 4),
            word(bytes, 8),
            word(bytes, 12),
            bytes.get(HEADER..octets),
        ) else {
            return Ok(None);
        };
        Ok(Some((
            Self {
                command,
                status,
                sequence,
                body: body.to_vec(),
            },
            octets,
        )))
    }

    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        for word in [length, self.command, self.status, self.sequence] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&self.body);
        out
    }

    /// The answer to a question without fields (enquire_link, unbind).
    #[must_use]
    pub fn answer(&self) -> Self {
        Self {
            command: self.command | command::RESPONSE,
            status: 0,
            sequence: self.sequence,
            body: Vec::new(),
        }
    }

    /// A question without fields.
    pub fn plain(command: u32, sequence: u32) -> Self {
        Self {
            command,
            status: 0,
            sequence,
            body: Vec::new(),
        }
    }

    /// The first text of the body: the message's id in a submit_sm_resp (clause 4.4.2).
    pub fn text(&self) -> Option<String> {
        let end = self.body.iter().position(|octet| *octet == 0)?;
        self.body
            .get(..end)
            .map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

/// Writes fields of a body.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    /// A text that ends with a zero, of at most `max` octets with it.
    fn text(mut self, name: &'static str, text: &str, max: usize) -> Result<Self, SmppError> {
        if text.len() >= max || text.contains('\0') {
            return Err(SmppError::Field(name));
        }
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Ok(self)
    }

    fn octets(mut self, octets: &[u8]) -> Self {
        self.0.extend_from_slice(octets);
        self
    }
}

/// Log-in as transmitter (clause 4.1.1).
///
/// # Errors
/// [`SmppError::Field`].
pub fn bind_transmitter(sequence: u32, system_id: &str, password: &str, system_type: &str) -> Result<Pdu, SmppError> {
    let body = Body::default()
        .text("system_id", system_id, 16)?
        .text("password", password, 9)?
        .text("system_type", system_type, 13)?
        // interface_version 3.4, addr_ton, addr_npi, address_range: empty
        .octets(&[0x34, 0, 0, 0]);
    Ok(Pdu {
        body: body.0,
        ..Pdu::plain(command::BIND_TRANSMITTER, sequence)
    })
}

/// Type of number and numbering plan (clauses 5.2.5 and 5.2.6) of a sender as people write them: `+4912345` is
/// international, digits alone are of the network, anything else is a name.
fn kind_of_source(source: &str) -> (u8, u8) {
    if source.starts_with('+') {
        (1, 1)
    } else if source.chars().all(|c| c.is_ascii_digit()) {
        (0, 1)
    } else {
        (5, 0)
    }
}

/// One segment of a message (clause 4.4.1), with a receipt asked for by nobody.
///
/// # Errors
/// [`SmppError::Field`].
pub fn submit_sm(
    sequence: u32,
    source: &str,
    destination: &str,
    data_coding: u8,
    header: Option<[u8; 6]>,
    octets: &[u8],
) -> Result<Pdu, SmppError> {
    let (ton, npi) = kind_of_source(source);
    let header = header.unwrap_or_default();
    let header: &[u8] = if header == [0; 6] { &[] } else { &header };
    let length = u8::try_from(header.len() + octets.len())
        .ok()
        .filter(|length| *length <= 254)
        .ok_or(SmppError::Field("short_message"))?;
    // esm_class: bit 6 says that a user data header stands in front (clause 5.2.12)
    let esm_class = if header.is_empty() { 0 } else { 0x40 };
    let body = Body::default()
        .text("service_type", "", 6)?
        .octets(&[ton, npi])
        .text("source_addr", source.trim_start_matches('+'), 21)?
        .octets(&[1, 1])
        .text("destination_addr", destination.trim_start_matches('+'), 21)?
        // protocol_id, priority_flag; no schedule, no validity; no receipt, no replacing; coding; no canned message
        .octets(&[esm_class, 0, 0, 0, 0, 0, 0, data_coding, 0, length])
        .octets(header)
        .octets(octets);
    Ok(Pdu {
        body: body.0,
        ..Pdu::plain(command::SUBMIT_SM, sequence)
    })
}

/// What a status means for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Taken,
    /// The centre has no room or time now.
    Later,
    /// It will not take this one.
    Never,
}

/// Judges the status of an answer (clause 5.1.3).
pub fn verdict(status: u32) -> Verdict {
    match status {
        0 => Verdict::Taken,
        // wrong message length, priority or registered flags; wrong source, destination; wrong numbering of them; class
        0x01
        | 0x06
        | 0x07
        | 0x0A
        | 0x0B
        | 0x33
        | 0x34
        | 0x40
        | 0x42
        | 0x43
        | 0x48
        | 0x49
        | 0x50
        | 0x51
        | 0xC0..=0xC4 => Verdict::Never,
        // system error, bind refused, queue full (0x14), throttled (0x58), and what nobody knows
        _ => Verdict::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the specification, clause 3.2.1: a bind_transmitter.
    #[test]
    fn a_bind_is_that_of_the_specification() {
        let pdu = bind_transmitter(1, "SMPP3TEST", "secret08", "SUBMIT1").unwrap();
        let wire: Vec<u8> = [
            "0000002F 00000002 00000000 00000001",
            "534D50503354455354 00 7365637265743038 00 5355424D495431 00 00 01 01 00",
        ]
        .concat()
        .split_whitespace()
        .collect::<String>()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
        // the printed one names version 0 and a kind of address that we leave to the far side
        assert_eq!(pdu.encode()[..43], wire[..43]);
        assert_eq!(pdu.encode()[43..], [0x34, 0, 0, 0]);
        assert_eq!(wire.len(), 47);
    }

    #[test]
    fn fields_have_their_bounds() {
        assert!(bind_transmitter(1, "a".repeat(16).as_str(), "", "").is_err());
        assert!(bind_transmitter(1, "a", "ninechars", "").is_err());
        assert!(submit_sm(1, "Meter", "+8613912345678", 0, None, &[0; 255]).is_err());
        assert!(submit_sm(1, "Meter\0", "+8613912345678", 0, None, b"x").is_err());
        assert_eq!(kind_of_source("+49170"), (1, 1));
        assert_eq!(kind_of_source("10086"), (0, 1));
        assert_eq!(kind_of_source("Polyphase"), (5, 0));
        assert_eq!(verdict(0), Verdict::Taken);
        assert_eq!(verdict(0x58), Verdict::Later);
        assert_eq!(verdict(0x0B), Verdict::Never);
    }

    proptest! {
        /// Round trip, however the stream is cut; what follows is left alone.
        #[test]
        fn pdus_survive_the_wire(command: u32, status: u32, sequence: u32, body in proptest::collection::vec(any::<u8>(), 0..200), rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let pdu = Pdu { command, status, sequence, body };
            let mut wire = pdu.encode();
            let length = wire.len();
            for end in 0..length {
                prop_assert_eq!(Pdu::parse(&wire[..end]), Ok(None));
            }
            wire.extend(rest);
            prop_assert_eq!(Pdu::parse(&wire), Ok(Some((pdu, length))));
        }

        /// No bytes make it panic or take more than its bound.
        #[test]
        fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((pdu, used))) = Pdu::parse(&bytes) {
                prop_assert!(used <= PDU_MAX && pdu.body.len() + HEADER == used);
            }
        }
    }
}

//! The frame (DL/T 698.45-2017, 6.2):
//!
//! ```text
//! FE..  68  L L  C  SA flags, SA 1..16, CA  HCS HCS  DATA  FCS FCS  16
//! ```
//!
//! L counts all but 68 and 16. HCS is the CRC of L to CA, FCS that of L to the last data byte; each low byte first. So a
//! head is proven before its length is believed, and nothing waits for the rest of a frame that is none.

use super::Address;
use crc::{CRC_16_IBM_SDLC, Crc, Table};
use std::fmt;

/// Sent before a frame to wake the receiver; any number of them may come.
pub const PREAMBLE: u8 = 0xFE;
/// More of them in a row belong to no frame.
pub const PREAMBLES_MAX: usize = 16;
/// The most bytes of a frame, without preambles.
pub const FRAME_MAX: usize = LENGTH_MAX + 2;

const START: u8 = 0x68;
const END: u8 = 0x16;
/// Added to every byte of scrambled data.
const MASK: u8 = 0x33;
/// What 14 bits of length say.
const LENGTH_MAX: usize = 0x3FFF;
/// L, C, flags, one byte of address, CA, HCS, FCS.
const LENGTH_MIN: usize = 2 + 1 + 1 + 1 + 1 + 2 + 2;

static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);

/// What a frame is for: the control byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Control(pub u8);

impl Control {
    /// A terminal's login, heartbeat or logout.
    pub const LINK_REQUEST: Self = Self(0x81);
    /// Our answer to it.
    pub const LINK_RESPONSE: Self = Self(0x01);
    /// Our question.
    pub const QUESTION: Self = Self(0x43);
    /// The device's answer.
    pub const ANSWER: Self = Self(0xC3);
    /// What the device says of its own accord.
    pub const REPORT: Self = Self(0x83);
    /// Our confirmation of it.
    pub const CONFIRMATION: Self = Self(0x03);

    const FROM_DEVICE: u8 = 0x80;
    const OURS: u8 = 0x40;
    const SEGMENTED: u8 = 0x20;
    const SCRAMBLED: u8 = 0x08;

    /// Whether the device sends it (DIR).
    pub fn is_from_device(self) -> bool {
        self.0 & Self::FROM_DEVICE != 0
    }

    /// Whether it belongs to an exchange that the head end began (PRM).
    pub fn is_of_ours(self) -> bool {
        self.0 & Self::OURS != 0
    }

    /// Whether the data are a part of an APDU only.
    pub fn is_segmented(self) -> bool {
        self.0 & Self::SEGMENTED != 0
    }

    /// Whether 33 was added to every data byte.
    pub fn is_scrambled(self) -> bool {
        self.0 & Self::SCRAMBLED != 0
    }

    /// 1: the link's management; 3: services.
    pub fn function(self) -> u8 {
        self.0 & 0x07
    }

    /// Whether it carries services.
    pub fn is_service(self) -> bool {
        self.function() == 3
    }

    /// The same of a part of an APDU.
    #[must_use]
    pub fn segmented(self) -> Self {
        Self(self.0 | Self::SEGMENTED)
    }

    /// The same with scrambled data.
    #[must_use]
    pub fn scrambled(self) -> Self {
        Self(self.0 | Self::SCRAMBLED)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl fmt::Display for Control {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.function(), self.is_from_device(), self.is_of_ours()) {
            (1, true, false) => "the device's link request",
            (1, false, false) => "link response",
            (3, false, true) => "question",
            (3, true, true) => "answer",
            (3, true, false) => "report",
            (3, false, false) => "confirmation of a report",
            _ => "of no known use",
        };
        write!(f, "{what}")?;
        if self.is_segmented() {
            f.write_str(", one part of it")?;
        }
        if self.is_scrambled() {
            f.write_str(", scrambled")?;
        }
        Ok(())
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer than a frame needs.
    #[error("{have} bytes are too few; the frame needs {need}")]
    Short {
        /// How many there are, preambles not counted.
        have: usize,
        /// How many it needs at least.
        need: usize,
    },
    /// More than the frame holds.
    #[error("{extra} bytes after the end of the frame")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// It does not begin with 68.
    #[error("begins with {0:02X}, not 68")]
    Start(u8),
    /// A length that no frame has.
    #[error("a length of {0}; there are 10 to 16383, and no bits above them")]
    Length(u16),
    /// The address does not end before the frame.
    #[error("an address of {address} bytes in a frame of length {length}")]
    Address {
        /// Bytes of address.
        address: usize,
        /// What the length says.
        length: usize,
    },
    /// The head's checksum is wrong.
    #[error("checksum of the head (HCS) on the wire is {found:04X}, computed {computed:04X}")]
    Head {
        /// On the wire.
        found: u16,
        /// What it should be.
        computed: u16,
    },
    /// The frame's checksum is wrong.
    #[error("checksum of the frame (FCS) on the wire is {found:04X}, computed {computed:04X}")]
    Checksum {
        /// On the wire.
        found: u16,
        /// What it should be.
        computed: u16,
    },
    /// It does not end with 16.
    #[error("ends with {0:02X}, not 16")]
    End(u8),
    /// More data than a frame can carry.
    #[error("{have} bytes of data; the frame carries {max}")]
    TooLong {
        /// How many.
        have: usize,
        /// How many fit.
        max: usize,
    },
}

impl FrameError {
    /// Whether the bytes have a frame's shape, and a checksum alone is wrong.
    pub fn is_checksum(&self) -> bool {
        matches!(self, Self::Head { .. } | Self::Checksum { .. })
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub control: Control,
    /// The device, whoever sends it.
    pub address: Address,
    /// The head end's number (CA); 0 where nobody cares.
    pub client: u8,
    /// In clear.
    data: Vec<u8>,
}

impl Frame {
    /// A frame around data in clear.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the data do not fit.
    pub fn new(control: Control, address: Address, client: u8, data: Vec<u8>) -> Result<Self, FrameError> {
        let max = LENGTH_MAX.saturating_sub(LENGTH_MIN - 1 + address.printed().len());
        match data.len() {
            have if have > max => Err(FrameError::TooLong { have, max }),
            _ => Ok(Self {
                control,
                address,
                client,
                data,
            }),
        }
    }

    /// The data in clear.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Its bytes, without preambles.
    pub fn wire(&self) -> Vec<u8> {
        let length = LENGTH_MIN - 1 + self.address.printed().len() + self.data.len();
        let mut frame = Vec::with_capacity(length + 2);
        frame.push(START);
        // checked when it was made
        frame.extend_from_slice(&u16::try_from(length).unwrap_or_default().to_le_bytes());
        frame.push(self.control.0);
        self.address.push_to(&mut frame);
        frame.push(self.client);
        let head = checksum(frame.get(1..).unwrap_or_default());
        frame.extend_from_slice(&head.to_le_bytes());
        match self.control.is_scrambled() {
            true => frame.extend(self.data.iter().map(|byte| byte.wrapping_add(MASK))),
            false => frame.extend_from_slice(&self.data),
        }
        let whole = checksum(frame.get(1..).unwrap_or_default());
        frame.extend_from_slice(&whole.to_le_bytes());
        frame.push(END);
        frame
    }
}

/// CRC-16/X.25, on the wire low byte first.
pub fn checksum(bytes: &[u8]) -> u16 {
    CRC.checksum(bytes)
}

/// How many preambles stand at the front.
pub(super) fn preambles(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == PREAMBLE).count()
}

/// Takes one whole frame apart, preambles before it allowed, nothing behind it.
///
/// # Errors
/// [`FrameError`] says in which respect it is none.
pub fn open(bytes: &[u8]) -> Result<Frame, FrameError> {
    let frame = bytes.get(preambles(bytes)..).unwrap_or_default();
    let (view, len) = view(frame)?;
    match frame.len() - len {
        0 => Ok(view),
        extra => Err(FrameError::Trailing { extra }),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*pair))
}

/// The head of a frame: what may be believed before the frame is whole.
struct Head {
    control: Control,
    address: Address,
    client: u8,
    /// Where the data begin.
    data: usize,
    /// How long the frame is.
    len: usize,
}

fn head(bytes: &[u8]) -> Result<Head, FrameError> {
    let have = bytes.len();
    let short = |need| FrameError::Short { have, need };
    let first = *bytes.first().ok_or(short(LENGTH_MIN + 2))?;
    if first != START {
        return Err(FrameError::Start(first));
    }
    let said = u16_at(bytes, 1).ok_or(short(LENGTH_MIN + 2))?;
    let length = usize::from(said);
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Err(FrameError::Length(said));
    }
    let flags = *bytes.get(4).ok_or(short(length + 2))?;
    let address = Address::len_of(flags);
    if LENGTH_MIN - 1 + address > length {
        return Err(FrameError::Address { address, length });
    }
    let hcs = 1 + 2 + 1 + 1 + address + 1;
    let found = u16_at(bytes, hcs).ok_or(short(length + 2))?;
    let computed = checksum(bytes.get(1..hcs).unwrap_or_default());
    if found != computed {
        return Err(FrameError::Head { found, computed });
    }
    let (Some(control), Some(digits), Some(client)) = (bytes.get(3), bytes.get(5..5 + address), bytes.get(hcs - 1))
    else {
        return Err(short(length + 2));
    };
    let address = Address::of_wire(flags, digits).ok_or(short(length + 2))?;
    Ok(Head {
        control: Control(*control),
        address,
        client: *client,
        data: hcs + 2,
        len: length + 2,
    })
}

/// The frame at the front, and how long it is.
fn view(bytes: &[u8]) -> Result<(Frame, usize), FrameError> {
    let head = head(bytes)?;
    let (have, need) = (bytes.len(), head.len);
    let (Some(covered), Some(wire)) = (bytes.get(1..need - 3), bytes.get(head.data..need - 3)) else {
        return Err(FrameError::Short { have, need });
    };
    let (Some(found), Some(end)) = (u16_at(bytes, need - 3), bytes.get(need - 1)) else {
        return Err(FrameError::Short { have, need });
    };
    let computed = checksum(covered);
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    if *end != END {
        return Err(FrameError::End(*end));
    }
    let data = match head.control.is_scrambled() {
        true => wire.iter().map(|byte| byte.wrapping_sub(MASK)).collect(),
        false => wire.to_vec(),
    };
    let frame = Frame {
        control: head.control,
        address: head.address,
        client: head.client,
        data,
    };
    Ok((frame, need))
}

/// What bytes are that begin with a 68.
pub(super) enum Candidate {
    /// A whole frame of so many bytes.
    Whole(Frame, usize),
    /// May become one; the head is proven where it is given.
    Partial(Option<(Control, Address)>),
    /// Cannot.
    No,
}

/// Judges the bytes from a 68 on. As soon as a byte contradicts, they are no frame.
pub(super) fn judge(bytes: &[u8]) -> Candidate {
    match view(bytes) {
        Ok((frame, len)) => Candidate::Whole(frame, len),
        Err(FrameError::Short { .. }) => Candidate::Partial(head(bytes).ok().map(|head| (head.control, head.address))),
        Err(_) => Candidate::No,
    }
}

/// How long the whole, right frame is that stands at the front, preambles included; none where none does.
pub fn front_len(bytes: &[u8]) -> Option<usize> {
    let woken = preambles(bytes);
    match judge(bytes.get(woken..)?) {
        Candidate::Whole(_, len) if woken <= PREAMBLES_MAX => Some(woken + len),
        _ => None,
    }
}

/// What stands at the front of bytes that arrive on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// No whole frame yet; the first `noise` bytes cannot begin one and may be dropped.
    NeedMore {
        /// Bytes at the front that belong to no frame.
        noise: usize,
    },
    /// A frame; what stands before `span.start` is noise.
    Frame {
        /// Where it stands, preambles included.
        span: std::ops::Range<usize>,
        /// The frame.
        frame: Frame,
    },
}

/// The first whole frame in `buffer`. What may yet become a frame is waited for: with a proven head always, else unless a
/// whole frame stands behind it. Never more has to be kept than a frame and its preambles.
pub fn next(buffer: &[u8]) -> Next {
    let (mut offset, mut begin) = (0, None);
    while let Some(rest) = buffer.get(offset..).filter(|rest| !rest.is_empty()) {
        let woken = preambles(rest);
        let from = offset + woken - woken.min(PREAMBLES_MAX);
        let at = offset + woken;
        let body = buffer.get(at..).unwrap_or_default();
        if body.is_empty() {
            begin = begin.or(Some(from));
            break;
        }
        match judge(body) {
            Candidate::Whole(frame, len) => {
                let span = from..at + len;
                return Next::Frame { span, frame };
            }
            Candidate::Partial(head) => {
                begin = begin.or(Some(from));
                if head.is_some() {
                    break;
                }
            }
            Candidate::No => {}
        }
        offset = at + 1;
    }
    let noise = begin.unwrap_or(buffer.len());
    Next::NeedMore { noise }
}

/// Every whole frame in `bytes` and where it stands; what lies between is skipped, and what does not become whole.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (std::ops::Range<usize>, Frame)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            let woken = preambles(rest);
            let at = offset + woken;
            match judge(bytes.get(at..).unwrap_or_default()) {
                Candidate::Whole(frame, len) => {
                    offset = at + len;
                    return Some((at - woken.min(PREAMBLES_MAX)..offset, frame));
                }
                Candidate::Partial(_) | Candidate::No => offset = at + 1,
            }
        }
        None
    })
}

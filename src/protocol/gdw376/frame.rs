//! The frame: `68 L L 68 C A data CS 16` (Q/GDW 1376.1-2013, 5.1; FT1.2 of GB/T 18657.1).

use super::{Address, Control};

/// The longest frame, bytes: 14 bits of length (5.1.2) and what stands around them.
pub const FRAME_MAX: usize = LENGTH_MAX + OVERHEAD;
/// The most that L counts.
const LENGTH_MAX: usize = 0x3FFF;
/// The most bytes of application data in a frame: what L counts without C and A.
pub const DATA_MAX: usize = LENGTH_MAX - LINK;

const START: u8 = 0x68;
const END: u8 = 0x16;
/// Start, length twice, start.
pub(super) const HEAD: usize = 6;
/// C and A.
const LINK: usize = 6;
/// Head, sum, end.
pub(super) const OVERHEAD: usize = HEAD + 2;
/// The least that L counts: C, A, AFN, SEQ.
const LENGTH_MIN: usize = LINK + 2;

/// The lowest two bits of the length: which family of standards the frame is of (5.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 01: Q/GDW 130-2005, the form before.
    Gdw130,
    /// 10: Q/GDW 376.1-2009, Q/GDW 1376.1-2013, DL/T 698.41.
    #[default]
    Gdw376,
    /// 00 and 11: reserved; some terminals send them.
    Reserved(u8),
}

impl Dialect {
    fn of(bits: u8) -> Self {
        match bits & 0b11 {
            0b01 => Self::Gdw130,
            0b10 => Self::Gdw376,
            other => Self::Reserved(other),
        }
    }

    /// The two bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::Gdw130 => 0b01,
            Self::Gdw376 => 0b10,
            Self::Reserved(bits) => bits & 0b11,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gdw130 => "Q/GDW 130",
            Self::Gdw376 => "Q/GDW 376.1",
            Self::Reserved(_) => "reserved",
        }
    }
}

/// Why bytes are not the frame that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too few bytes.
    #[error("{have} bytes are too few; the frame needs {need}")]
    Short {
        /// How many there are.
        have: usize,
        /// How many it needs.
        need: usize,
    },
    /// More than the frame holds.
    #[error("{extra} bytes after the end of the frame")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// No 68 where one should stand.
    #[error("byte {place} is {found:02X}, not 68")]
    Start {
        /// 0 or 5.
        place: usize,
        /// What stands there.
        found: u8,
    },
    /// The two lengths differ.
    #[error("the length stands twice and differs: {first:04X} and {second:04X}")]
    Lengths {
        /// The first.
        first: u16,
        /// The second.
        second: u16,
    },
    /// Less than control, address, function and sequence need.
    #[error("the length is {0}; control, address, function and sequence need 8")]
    Empty(usize),
    /// No 16 at the end.
    #[error("the frame ends with {0:02X}, not 16")]
    End(u8),
    /// The sum is wrong.
    #[error("checksum on the wire is {found:02X}, computed {computed:02X}")]
    Checksum {
        /// On the wire.
        found: u8,
        /// What it should be.
        computed: u8,
    },
}

/// One frame, of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The family of standards.
    pub dialect: Dialect,
    /// Control field.
    pub control: Control,
    /// Address field.
    pub address: Address,
    /// From the application function on, auxiliary fields and all.
    data: Vec<u8>,
}

impl Frame {
    /// A frame; none where the data are more than [`DATA_MAX`] bytes or not even function and sequence.
    pub fn new(control: Control, address: Address, data: Vec<u8>) -> Option<Self> {
        let frame = Self {
            dialect: Dialect::Gdw376,
            control,
            address,
            data,
        };
        (LENGTH_MIN - LINK..=DATA_MAX)
            .contains(&frame.data.len())
            .then_some(frame)
    }

    /// The same in another dialect.
    #[must_use]
    pub fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// From the application function on.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes.
    pub fn wire(&self) -> Vec<u8> {
        // bounded at construction
        let length = u16::try_from(LINK + self.data.len()).unwrap_or_default();
        let [low, high] = (length << 2 | u16::from(self.dialect.bits())).to_le_bytes();
        let mut wire = Vec::with_capacity(OVERHEAD + LINK + self.data.len());
        wire.extend_from_slice(&[START, low, high, low, high, START, self.control.0]);
        wire.extend_from_slice(&self.address.wire());
        wire.extend_from_slice(&self.data);
        wire.push(sum(wire.get(HEAD..).unwrap_or_default()));
        wire.push(END);
        wire
    }

    /// Reads a whole frame.
    ///
    /// # Errors
    /// [`FrameError`] names what is wrong first.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let (have, need) = (bytes.len(), OVERHEAD + LENGTH_MIN);
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(FrameError::Short { have, need });
        };
        let [start, l0, l1, m0, m1, again] = *head;
        for (place, found) in [(0, start), (HEAD - 1, again)] {
            if found != START {
                return Err(FrameError::Start { place, found });
            }
        }
        let (first, second) = (u16::from_le_bytes([l0, l1]), u16::from_le_bytes([m0, m1]));
        if first != second {
            return Err(FrameError::Lengths { first, second });
        }
        let length = usize::from(first >> 2);
        if length < LENGTH_MIN {
            return Err(FrameError::Empty(length));
        }
        let need = OVERHEAD + length;
        let Some((body, [found, end, trailing @ ..])) = rest.split_at_checked(length) else {
            return Err(FrameError::Short { have, need });
        };
        if !trailing.is_empty() {
            return Err(FrameError::Trailing { extra: trailing.len() });
        }
        if *end != END {
            return Err(FrameError::End(*end));
        }
        let computed = sum(body);
        if *found != computed {
            return Err(FrameError::Checksum {
                found: *found,
                computed,
            });
        }
        let Some(([control, a10, a11, a20, a21, a3], data)) = body.split_first_chunk::<LINK>() else {
            return Err(FrameError::Empty(length));
        };
        Ok(Self {
            dialect: Dialect::of(l0),
            control: Control(*control),
            address: Address::from_wire([*a10, *a11, *a20, *a21, *a3]),
            data: data.to_vec(),
        })
    }
}

/// The sum of all bytes, modulo 256.
pub(super) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// What bytes are, seen as a frame from their first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// A whole frame of so many bytes, sum and end right.
    Whole(usize),
    /// May become one.
    Partial,
    /// Cannot.
    No,
}

/// Judges bytes as a frame. The six bytes of the head hold three bytes of redundancy, so a false head is rare.
pub(super) fn judge(bytes: &[u8]) -> Candidate {
    let at = |place: usize| bytes.get(place).copied();
    let agree = |one: usize, two: usize| at(two).is_none_or(|second| at(one) == Some(second));
    let starts = at(0).is_none_or(|byte| byte == START) && at(HEAD - 1).is_none_or(|byte| byte == START);
    if !(starts && agree(1, 3) && agree(2, 4)) {
        return Candidate::No;
    }
    let (Some(low), Some(high)) = (at(1), at(2)) else {
        return Candidate::Partial;
    };
    let length = usize::from(u16::from_le_bytes([low, high]) >> 2);
    if length < LENGTH_MIN {
        return Candidate::No;
    }
    match bytes.get(HEAD..OVERHEAD + length) {
        None => Candidate::Partial,
        Some([body @ .., found, END]) if sum(body) == *found => Candidate::Whole(OVERHEAD + length),
        Some(_) => Candidate::No,
    }
}

/// What a look into received bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No whole frame yet; the first `noise` bytes cannot begin one.
    NeedMore {
        /// Bytes at the front that may be dropped.
        noise: usize,
    },
    /// A whole frame; what stands before it is noise.
    Frame {
        /// Where it stands.
        span: std::ops::Range<usize>,
        /// What it says.
        frame: Frame,
    },
}

/// Looks for the first whole frame. Behind bytes that may still become a frame nothing is looked for, so that every
/// split of a stream gives the same frames.
pub fn find(buffer: &[u8]) -> Found {
    look(buffer, false)
}

/// The same when nothing more will come, or nothing came for too long: what might have grown into a frame holds nothing
/// back any more.
pub fn find_last(buffer: &[u8]) -> Found {
    look(buffer, true)
}

fn look(buffer: &[u8], last: bool) -> Found {
    let starts = buffer.iter().enumerate().filter(|(_, byte)| **byte == START);
    let mut begin = None;
    for (offset, _) in starts {
        let rest = buffer.get(offset..).unwrap_or_default();
        match judge(rest) {
            Candidate::No => {}
            Candidate::Partial if last => begin = begin.or(Some(offset)),
            Candidate::Partial => return Found::NeedMore { noise: offset },
            Candidate::Whole(length) => {
                if let Ok(frame) = Frame::parse(rest.get(..length).unwrap_or_default()) {
                    let span = offset..offset + length;
                    return Found::Frame { span, frame };
                }
            }
        }
    }
    Found::NeedMore {
        noise: begin.unwrap_or(buffer.len()),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
pub(super) mod tests;

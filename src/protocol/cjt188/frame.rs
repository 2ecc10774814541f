//! The frame: start, type, address, control, length, data, sum, end (CJ/T 188-2004, 5.2).

use super::{Address, MeterType};
use std::fmt;

/// FE bytes before a frame that are taken as its own; the standard has 2 to 4.
pub const PREAMBLE_MAX: usize = 16;
/// The longest frame with its preamble, bytes.
pub const FRAME_MAX: usize = PREAMBLE_MAX + OVERHEAD + u8::MAX as usize;

/// Wakes the meter up.
pub(super) const PREAMBLE: u8 = 0xFE;
/// Begins a frame.
pub(super) const START: u8 = 0x68;
/// Ends a frame.
const END: u8 = 0x16;
/// Start, type, address, control, length.
pub(super) const HEAD: usize = 11;
/// All but the data: head, sum, end.
pub(super) const OVERHEAD: usize = HEAD + 2;
/// Set in what a meter sends.
const FROM_METER: u8 = 0x80;
/// Set where the meter refuses.
const REFUSED: u8 = 0x40;

/// What a frame does: the control byte without its two flags (figure 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// 01, read.
    Read,
    /// 03, read address.
    ReadAddress,
    /// 04, write.
    Write,
    /// 09, read version of the key.
    ReadKeyVersion,
    /// 15, write address.
    WriteAddress,
    /// 16, write the counter's start.
    WriteCounter,
}

impl Function {
    const ALL: [Self; 6] = [
        Self::Read,
        Self::ReadAddress,
        Self::Write,
        Self::ReadKeyVersion,
        Self::WriteAddress,
        Self::WriteCounter,
    ];

    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Self::Read => 0x01,
            Self::ReadAddress => 0x03,
            Self::Write => 0x04,
            Self::ReadKeyVersion => 0x09,
            Self::WriteAddress => 0x15,
            Self::WriteCounter => 0x16,
        }
    }

    /// Finds a function by its code.
    pub fn by_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.code() == code)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadAddress => "read address",
            Self::Write => "write",
            Self::ReadKeyVersion => "read key version",
            Self::WriteAddress => "write address",
            Self::WriteCounter => "write counter start",
        }
    }
}

/// The control byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control(pub u8);

impl Control {
    /// A question.
    pub(super) fn ask(function: Function) -> Self {
        Self(function.code())
    }

    /// Its answer.
    pub(super) fn answered(function: Function) -> Self {
        Self(function.code() | FROM_METER)
    }

    /// Its refusal.
    pub(super) fn refused(function: Function) -> Self {
        Self(function.code() | FROM_METER | REFUSED)
    }

    /// Whether a meter sent it.
    pub fn is_from_meter(self) -> bool {
        self.0 & FROM_METER != 0
    }

    /// Whether a meter refuses with it.
    pub fn is_refusal(self) -> bool {
        self.is_from_meter() && self.0 & REFUSED != 0
    }

    /// The code without the flags.
    pub fn code(self) -> u8 {
        self.0 & !(FROM_METER | REFUSED)
    }

    /// The function, where it is one of ours.
    pub fn function(self) -> Option<Function> {
        Function::by_code(self.code())
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
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
    /// No 68 at the front.
    #[error("the frame begins with {0:02X}, not 68")]
    Start(u8),
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
    /// Meter type.
    pub meter_type: MeterType,
    /// Address.
    pub address: Address,
    /// Control byte.
    pub control: Control,
    /// What L counts, at most 255 bytes.
    data: Vec<u8>,
}

impl Frame {
    /// A frame; none where the data are more than 255 bytes.
    pub fn new(meter_type: MeterType, address: Address, control: Control, data: Vec<u8>) -> Option<Self> {
        let frame = Self {
            meter_type,
            address,
            control,
            data,
        };
        (frame.data.len() <= usize::from(u8::MAX)).then_some(frame)
    }

    /// What L counts.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes for a line, with so many FE before them.
    pub fn wire(&self, preamble: u8) -> Vec<u8> {
        let preamble = usize::from(preamble).min(PREAMBLE_MAX);
        let mut wire = vec![PREAMBLE; preamble];
        wire.extend_from_slice(&[START, self.meter_type.0]);
        wire.extend_from_slice(&self.address.0);
        // bounded at construction
        wire.extend_from_slice(&[self.control.0, u8::try_from(self.data.len()).unwrap_or(u8::MAX)]);
        wire.extend_from_slice(&self.data);
        wire.push(sum(wire.get(preamble..).unwrap_or_default()));
        wire.push(END);
        wire
    }

    /// Reads a whole frame; any number of FE before it.
    ///
    /// # Errors
    /// [`FrameError`] names what is wrong first.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let bytes = bytes.get(preamble(bytes)..).unwrap_or_default();
        let (have, mut need) = (bytes.len(), OVERHEAD);
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(FrameError::Short { have, need });
        };
        let [start, meter_type, a0, a1, a2, a3, a4, a5, a6, control, len] = *head;
        if start != START {
            return Err(FrameError::Start(start));
        }
        need += usize::from(len);
        let Some((data, [found, end, trailing @ ..])) = rest.split_at_checked(len.into()) else {
            return Err(FrameError::Short { have, need });
        };
        if !trailing.is_empty() {
            return Err(FrameError::Trailing { extra: trailing.len() });
        }
        if *end != END {
            return Err(FrameError::End(*end));
        }
        let computed = sum(bytes.get(..HEAD + usize::from(len)).unwrap_or_default());
        if *found != computed {
            return Err(FrameError::Checksum {
                found: *found,
                computed,
            });
        }
        Ok(Self {
            meter_type: MeterType(meter_type),
            address: Address([a0, a1, a2, a3, a4, a5, a6]),
            control: Control(control),
            data: data.to_vec(),
        })
    }
}

/// How many FE stand at the front.
pub(super) fn preamble(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == PREAMBLE).count()
}

/// The sum of all bytes, modulo 256.
pub(super) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// What bytes are, seen as a frame from their first byte on (no preamble).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// A whole frame of so many bytes, sum and end right.
    Whole(usize),
    /// May become one.
    Partial,
    /// Cannot.
    No,
}

/// Judges bytes as a frame. Length and end byte are looked at before the sum: most noise fails there.
pub(super) fn judge(bytes: &[u8]) -> Candidate {
    if bytes.first().is_some_and(|first| *first != START) {
        return Candidate::No;
    }
    let Some(len) = bytes.get(HEAD - 1) else {
        return Candidate::Partial;
    };
    let len = OVERHEAD + usize::from(*len);
    match bytes.get(..len) {
        None => Candidate::Partial,
        Some([body @ .., found, END]) if sum(body) == *found => Candidate::Whole(len),
        Some(_) => Candidate::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn the_worked_frame_of_the_fact_sheet_reads_and_writes() {
        let wire = hex::decode("FEFEFEFE68104433221100337801031F90008016").unwrap();
        let frame = Frame::parse(&wire).unwrap();
        assert_eq!(frame.meter_type, MeterType::COLD_WATER);
        assert_eq!(frame.address.to_string(), "78330011223344");
        assert_eq!(frame.control.function(), Some(Function::Read));
        assert_eq!(frame.data(), [0x1F, 0x90, 0x00]);
        assert_eq!(frame.wire(4), wire);
        assert_eq!(judge(&wire[4..]), Candidate::Whole(16));
    }

    #[test]
    fn faults_are_named() {
        let wire = hex::decode("68104433221100337801031F90008016").unwrap();
        let broken = |place: usize, byte: u8| {
            let mut wire = wire.clone();
            wire[place] = byte;
            Frame::parse(&wire).unwrap_err()
        };
        assert_eq!(broken(0, 0x69), FrameError::Start(0x69));
        assert_eq!(broken(15, 0x17), FrameError::End(0x17));
        assert_eq!(
            broken(14, 0x81),
            FrameError::Checksum {
                found: 0x81,
                computed: 0x80
            }
        );
        // a length that lies
        assert_eq!(broken(10, 4), FrameError::Short { have: 16, need: 17 });
        assert_eq!(broken(10, 2), FrameError::Trailing { extra: 1 });
        assert_eq!(Frame::parse(&wire[..9]), Err(FrameError::Short { have: 9, need: 13 }));
        assert_eq!(Frame::parse(&[]), Err(FrameError::Short { have: 0, need: 13 }));
    }
}

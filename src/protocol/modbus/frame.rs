//! RTU framing: unit, PDU, CRC; and how long a frame is that begins with given bytes.
//!
//! Over TCP the silence of 3.5 characters that ends a frame on the wire is lost, so the end follows from the length
//! that the function implies, and the CRC decides.

use super::{Function, UNIT_MAX};
use crc::{CRC_16_MODBUS, Crc};

/// The longest RTU frame in bytes (Modbus over serial line V1.02, 2.3).
pub const FRAME_MAX: usize = 256;

/// The shortest RTU frame in bytes: unit, function, CRC.
pub const FRAME_MIN: usize = 4;

/// The exception flag in a function code.
pub(super) const EXCEPTION_FLAG: u8 = 0x80;

/// The length of an exception frame.
pub(super) const EXCEPTION_LEN: usize = 5;

static CRC: Crc<u16, crc::Table<16>> = Crc::<u16, crc::Table<16>>::new(&CRC_16_MODBUS);

/// CRC-16/Modbus: polynomial 0xA001 reflected, start 0xFFFF. Sent low byte first.
pub fn crc16(bytes: &[u8]) -> u16 {
    CRC.checksum(bytes)
}

/// Why bytes are not the frame that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short to be a frame at all.
    #[error("{have} bytes are too few; the frame needs {need}")]
    Short {
        /// How many there are.
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
    /// The checksum is wrong.
    #[error("crc on the wire is {found:04X}, computed {computed:04X} (low byte first on the wire)")]
    Crc {
        /// On the wire.
        found: u16,
        /// What it should be.
        computed: u16,
    },
    /// A function that we do not speak.
    #[error("function 0x{0:02X} is not one of 1 to 6, 15, 16")]
    Function(u8),
    /// The byte count does not fit the rest.
    #[error("byte count {found} does not fit; {expected} expected")]
    ByteCount {
        /// On the wire.
        found: u8,
        /// What would fit.
        expected: usize,
    },
    /// A coil value other than FF00 and 0000.
    #[error("coil value {0:04X} is neither FF00 nor 0000")]
    CoilValue(u16),
}

/// Puts unit and CRC around a PDU.
pub(super) fn seal(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(pdu.len() + 3);
    frame.push(unit);
    frame.extend_from_slice(pdu);
    frame.extend_from_slice(&crc16(&frame).to_le_bytes());
    frame
}

/// Checks the CRC and takes unit and CRC off.
pub(super) fn open(frame: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    let short = FrameError::Short {
        have: frame.len(),
        need: FRAME_MIN,
    };
    let (body, crc) = frame.split_last_chunk::<2>().ok_or(short)?;
    let (unit, pdu) = body.split_first().ok_or(short)?;
    if pdu.is_empty() {
        return Err(short);
    }
    let (found, computed) = (u16::from_le_bytes(*crc), crc16(body));
    if found != computed {
        return Err(FrameError::Crc { found, computed });
    }
    Ok((*unit, pdu))
}

/// Whether the first `len` bytes are there and end in their CRC.
pub(super) fn is_sealed(bytes: &[u8], len: usize) -> bool {
    bytes.get(..len).is_some_and(|frame| open(frame).is_ok())
}

/// How long a frame is that begins with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// So many bytes.
    Len(usize),
    /// It may be a frame, but the bytes that tell its length are not there yet.
    Open,
    /// Nothing begins so.
    None,
}

impl Shape {
    /// What the bytes make of it.
    pub(super) fn judge(self, bytes: &[u8]) -> Candidate {
        match self {
            Self::None => Candidate::No,
            Self::Open => Candidate::Partial,
            Self::Len(len) if bytes.len() < len => Candidate::Partial,
            Self::Len(len) if is_sealed(bytes, len) => Candidate::Whole(len),
            Self::Len(_) => Candidate::No,
        }
    }
}

/// What bytes are, seen as one kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// A whole frame of so many bytes, CRC right.
    Whole(usize),
    /// May become one.
    Partial,
    /// Cannot.
    No,
}

fn known_unit(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|unit| (1..=UNIT_MAX).contains(unit))
}

/// The shape of a request to a device.
pub(super) fn request_shape(bytes: &[u8]) -> Shape {
    if known_unit(bytes) {
        request_shape_of(bytes)
    } else {
        Shape::None
    }
}

/// The same of any unit at all, broadcasts and the 255 of Modbus TCP included.
pub(super) fn request_shape_of(bytes: &[u8]) -> Shape {
    let Some(code) = bytes.get(1) else { return Shape::Open };
    match Function::by_code(*code) {
        None => Shape::None,
        Some(Function::WriteMultipleCoils | Function::WriteMultipleRegisters) => match bytes.get(6) {
            None => Shape::Open,
            Some(0 | 247..) => Shape::None,
            Some(count) => Shape::Len(9 + usize::from(*count)),
        },
        Some(_) => Shape::Len(8),
    }
}

/// The shape of an answer or exception of a device.
pub(super) fn response_shape(bytes: &[u8]) -> Shape {
    if known_unit(bytes) {
        response_shape_of(bytes)
    } else {
        Shape::None
    }
}

/// The same of any unit at all.
pub(super) fn response_shape_of(bytes: &[u8]) -> Shape {
    let Some(code) = bytes.get(1) else { return Shape::Open };
    if code & EXCEPTION_FLAG != 0 {
        let known = Function::by_code(code & !EXCEPTION_FLAG).is_some();
        let plausible = bytes.get(2).is_none_or(|code| (1..=11).contains(code));
        return if known && plausible {
            Shape::Len(EXCEPTION_LEN)
        } else {
            Shape::None
        };
    }
    match Function::by_code(*code) {
        None => Shape::None,
        Some(function) if function.is_read() => match bytes.get(2) {
            None => Shape::Open,
            Some(0 | 251..) => Shape::None,
            Some(count) => Shape::Len(5 + usize::from(*count)),
        },
        Some(_) => Shape::Len(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_that_of_the_standard() {
        // Modbus over serial line V1.02, 6.2.2: 02 07 has the CRC 41 12
        assert_eq!(crc16(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
        assert_eq!(seal(1, &[3, 0, 0, 0, 2]), [1, 3, 0, 0, 0, 2, 0xC4, 0x0B]);
    }

    #[test]
    fn swapped_crc_bytes_are_named() {
        assert_eq!(
            open(&[1, 3, 0, 0, 0, 2, 0x0B, 0xC4]),
            Err(FrameError::Crc {
                found: 0xC40B,
                computed: 0x0BC4
            })
        );
        assert_eq!(open(&[1, 3]), Err(FrameError::Short { have: 2, need: 4 }));
    }
}

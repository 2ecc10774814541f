//! The frame that both editions share (DL/T 645-2007, 5.2):
//!
//! ```text
//! FE..  68  A0 A1 A2 A3 A4 A5  68  C  L  DATA (each byte + 33)  CS  16
//! ```
//!
//! CS is the sum of all bytes from the first 68 to the last data byte. Nothing of it is proof alone: 68, 16 and FE stand in
//! addresses and data as well, so a frame is one when both 68, a known control byte, the length, CS and 16 agree.

use super::function::Control;
use super::{Address, Edition};

/// Sent before a frame to wake the receiver's converter; any number of them may come.
pub const PREAMBLE: u8 = 0xFE;
/// More of them in a row belong to no frame.
pub const PREAMBLES_MAX: usize = 16;
/// The most data of one frame. The standard says 200 in answers; one byte says the length, and meters use what it can say.
pub const DATA_MAX: usize = 255;
/// The most bytes of a frame, without preambles.
pub const FRAME_MAX: usize = OVERHEAD + DATA_MAX;

const START: u8 = 0x68;
const END: u8 = 0x16;
/// Added to every data byte.
const MASK: u8 = 0x33;
/// 68, address, 68, C, L.
const HEAD: usize = 10;
/// All but the data.
pub(super) const OVERHEAD: usize = HEAD + 2;

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
    /// The byte behind the address.
    #[error("{0:02X} stands behind the address, not 68")]
    SecondStart(u8),
    /// A control byte that no edition has.
    #[error("control byte {0:02X} is not of DL/T 645")]
    Control(u8),
    /// The checksum is wrong.
    #[error("checksum on the wire is {found:02X}, computed {computed:02X}")]
    Checksum {
        /// On the wire.
        found: u8,
        /// What it should be.
        computed: u8,
    },
    /// It does not end with 16.
    #[error("ends with {0:02X}, not 16")]
    End(u8),
}

/// A frame that was proven, over the bytes it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Whose.
    pub address: Address,
    /// What.
    pub control: Control,
    /// The data as on the wire, each byte with 33 added.
    masked: &'a [u8],
}

impl<'a> View<'a> {
    /// The data in clear.
    pub fn data(&self) -> Vec<u8> {
        self.masked.iter().map(|byte| byte.wrapping_sub(MASK)).collect()
    }

    /// The data in clear without so many bytes at the front and at the end.
    pub fn between(&self, front: usize, end: usize) -> impl Iterator<Item = u8> + use<'a> {
        let last = self.masked.len().saturating_sub(end);
        let part = self.masked.get(front..last).unwrap_or_default();
        part.iter().map(|byte| byte.wrapping_sub(MASK))
    }

    /// One byte of the data in clear.
    pub fn at(&self, index: usize) -> Option<u8> {
        self.masked.get(index).map(|byte| byte.wrapping_sub(MASK))
    }

    /// The first bytes of the data in clear.
    pub fn head<const N: usize>(&self) -> Option<[u8; N]> {
        self.masked
            .first_chunk::<N>()
            .map(|bytes| bytes.map(|byte| byte.wrapping_sub(MASK)))
    }

    /// How many data bytes there are.
    pub fn len(&self) -> usize {
        self.masked.len()
    }

    /// Whether there are no data.
    pub fn is_empty(&self) -> bool {
        self.masked.is_empty()
    }

    /// The data identifier that the data begin with.
    pub fn di(&self, edition: Edition) -> Option<super::Di> {
        match edition {
            Edition::E1997 => self.head().map(|bytes| super::Di::E1997(u16::from_le_bytes(bytes))),
            Edition::E2007 => self.head().map(|bytes| super::Di::E2007(u32::from_le_bytes(bytes))),
        }
    }
}

/// The sum of bytes modulo 256.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// A frame without preambles around data in clear. Data beyond [`DATA_MAX`] are cut off; no caller has so many.
pub fn seal(address: Address, control: Control, data: &[u8]) -> Vec<u8> {
    let data = data.get(..data.len().min(DATA_MAX)).unwrap_or_default();
    let mut frame = Vec::with_capacity(OVERHEAD + data.len());
    frame.push(START);
    frame.extend_from_slice(&address.wire());
    frame.push(START);
    frame.push(control.0);
    // at most DATA_MAX
    frame.push(u8::try_from(data.len()).unwrap_or(u8::MAX));
    frame.extend(data.iter().map(|byte| byte.wrapping_add(MASK)));
    frame.push(sum(&frame));
    frame.push(END);
    frame
}

/// The frame of a meter's answer: control with D7 set, preambles before it.
pub fn answer_frame(address: Address, control: Control, preambles: usize, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![PREAMBLE; preambles.min(PREAMBLES_MAX)];
    let control = Control(control.0 | Control::FROM_METER);
    frame.extend(seal(address, control, data));
    frame
}

/// How many preambles stand at the front.
pub(super) fn preambles(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == PREAMBLE).count()
}

/// Takes one whole frame apart, preambles before it allowed, nothing behind it.
///
/// # Errors
/// [`FrameError`] says in which respect it is none.
pub fn open(bytes: &[u8]) -> Result<View<'_>, FrameError> {
    let frame = bytes.get(preambles(bytes)..).unwrap_or_default();
    let (view, len) = view(frame)?;
    match frame.len() - len {
        0 => Ok(view),
        extra => Err(FrameError::Trailing { extra }),
    }
}

/// The frame at the front, and how long it is.
fn view(bytes: &[u8]) -> Result<(View<'_>, usize), FrameError> {
    let short = |need| FrameError::Short {
        have: bytes.len(),
        need,
    };
    let first = *bytes.first().ok_or(short(OVERHEAD))?;
    if first != START {
        return Err(FrameError::Start(first));
    }
    let ([_, a0, a1, a2, a3, a4, a5, second, control, len], rest) =
        bytes.split_first_chunk::<HEAD>().ok_or(short(OVERHEAD))?;
    if *second != START {
        return Err(FrameError::SecondStart(*second));
    }
    let control = Control(*control);
    if !control.is_known() {
        return Err(FrameError::Control(control.0));
    }
    let data_len = usize::from(*len);
    let need = short(OVERHEAD + data_len);
    let masked = rest.get(..data_len).ok_or(need)?;
    let (found, end) = match rest.get(data_len..data_len + 2) {
        Some([found, end]) => (*found, *end),
        _ => return Err(need),
    };
    let computed = sum(bytes.get(..HEAD + data_len).unwrap_or_default());
    if found != computed {
        return Err(FrameError::Checksum { found, computed });
    }
    if end != END {
        return Err(FrameError::End(end));
    }
    let address = Address::from_wire([*a0, *a1, *a2, *a3, *a4, *a5]);
    let view = View {
        address,
        control,
        masked,
    };
    Ok((view, OVERHEAD + data_len))
}

/// What bytes are that begin with a 68.
pub(super) enum Candidate<'a> {
    /// A whole frame of so many bytes.
    Whole(View<'a>, usize),
    /// May become one.
    Partial,
    /// Cannot.
    No,
}

/// Judges the bytes from a 68 on. As soon as a byte contradicts, they are no frame.
pub(super) fn judge(bytes: &[u8]) -> Candidate<'_> {
    match view(bytes) {
        Ok((view, len)) => Candidate::Whole(view, len),
        Err(FrameError::Short { .. }) => {
            let start = bytes.first().is_none_or(|byte| *byte == START);
            let second = bytes.get(7).is_none_or(|byte| *byte == START);
            let control = bytes.get(8).is_none_or(|byte| Control(*byte).is_known());
            if start && second && control {
                Candidate::Partial
            } else {
                Candidate::No
            }
        }
        Err(_) => Candidate::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use proptest::prelude::*;

    const WORKED: &str = "681290785634126891083333343389674533 5416";

    #[test]
    fn a_frame_opens_and_closes() {
        let bytes = hex::decode(WORKED).unwrap();
        let view = open(&bytes).unwrap();
        assert_eq!(view.address.to_string(), "123456789012");
        assert_eq!(view.control, Control(0x91));
        assert_eq!(view.data(), [0x00, 0x00, 0x01, 0x00, 0x56, 0x34, 0x12, 0x00]);
        assert_eq!(seal(view.address, view.control, &view.data()), bytes);
        let woken = answer_frame(view.address, Control(0x11), 4, &view.data());
        assert_eq!(open(&woken), Ok(view));
    }

    #[test]
    fn what_is_no_frame_says_why() {
        let good = hex::decode(WORKED).unwrap();
        let with = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            open(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(with(0, 0x69), FrameError::Start(0x69));
        assert_eq!(with(7, 0x69), FrameError::SecondStart(0x69));
        assert_eq!(with(8, 0x68), FrameError::Control(0x68));
        assert_eq!(with(9, 9), FrameError::Short { have: 20, need: 21 });
        assert!(matches!(with(18, 0), FrameError::Checksum { found: 0, .. }));
        assert_eq!(with(19, 0x17), FrameError::End(0x17));
        let longer = [good.clone(), vec![0x16]].concat();
        assert_eq!(open(&longer), Err(FrameError::Trailing { extra: 1 }));
        assert_eq!(open(&[]), Err(FrameError::Short { have: 0, need: 12 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _judged = open(&bytes);
            let _candidate = judge(&bytes);
        }

        #[test]
        fn every_frame_is_partial_until_it_is_whole(
            address in any::<[u8; 6]>(), data in proptest::collection::vec(any::<u8>(), 0..=255), cut in 0usize..300,
        ) {
            let frame = seal(Address::from_wire(address), Control(0x91), &data);
            let cut = cut % frame.len();
            prop_assert!(matches!(judge(&frame[..cut]), Candidate::Partial));
            prop_assert_eq!(open(&frame).unwrap().data(), data);
        }
    }
}

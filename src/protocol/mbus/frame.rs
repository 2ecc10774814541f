//! Frames of the link layer (EN 13757-2, 5.3; format class FT 1.2 of IEC 60870-5-1): the single character, the short
//! frame and the control or long frame.
//!
//! A frame of variable length begins with two equal lengths between two start characters and ends in a checksum and
//! the stop character; all of that is proven before anything inside is believed.

/// The single character by which a slave acknowledges.
pub const ACK: u8 = 0xE5;
/// The longest frame in bytes: 255 of user data, four of the start, checksum and stop.
pub const FRAME_MAX: usize = 261;
/// The shortest frame of variable length: control, address, CI.
pub(super) const LONG_MIN: usize = 9;
/// The length of a short frame.
pub(super) const SHORT_LEN: usize = 5;

const START_SHORT: u8 = 0x10;
pub(super) const START_LONG: u8 = 0x68;
const STOP: u8 = 0x16;

/// Control bits: from the master (C field of EN 13757-2, 5.4).
pub(super) const PRIMARY: u8 = 0x40;
/// The frame count bit.
pub(super) const FCB: u8 = 0x20;
/// The frame count bit is valid.
pub(super) const FCV: u8 = 0x10;

/// One frame, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The single character E5.
    Ack,
    /// A short frame.
    Short {
        /// The C field.
        control: u8,
        /// The A field.
        address: u8,
    },
    /// A control frame (no data) or a long frame.
    Long {
        /// The C field.
        control: u8,
        /// The A field.
        address: u8,
        /// The CI field.
        ci: u8,
        /// What follows the CI field, at most 252 bytes.
        data: Vec<u8>,
    },
}

/// Why bytes are not a frame.
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
    /// The first byte begins no frame.
    #[error("0x{0:02X} begins no frame; 10, 68 and E5 do")]
    Start(u8),
    /// The two lengths differ.
    #[error("the lengths {first} and {second} differ")]
    Lengths {
        /// The first.
        first: u8,
        /// The second.
        second: u8,
    },
    /// The length is below the three bytes that every such frame has.
    #[error("length {0} is less than control, address and ci need")]
    Length(u8),
    /// The second start character is missing.
    #[error("0x{0:02X} stands where the second start character 68 belongs")]
    SecondStart(u8),
    /// The checksum is wrong.
    #[error("checksum on the wire is {found:02X}, computed {computed:02X}")]
    Checksum {
        /// On the wire.
        found: u8,
        /// What it should be.
        computed: u8,
    },
    /// The last byte is not the stop character.
    #[error("the frame ends in 0x{0:02X}, not in 16")]
    Stop(u8),
    /// More data than a frame holds.
    #[error("{0} bytes of data do not fit a frame; 252 do")]
    TooLong(usize),
}

/// The sum of bytes modulo 256.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
}

impl Frame {
    /// Its bytes on the wire.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] for more than 252 bytes of data.
    pub fn wire(&self) -> Result<Vec<u8>, FrameError> {
        match self {
            Self::Ack => Ok(vec![ACK]),
            Self::Short { control, address } => {
                let sum = checksum(&[*control, *address]);
                Ok(vec![START_SHORT, *control, *address, sum, STOP])
            }
            Self::Long {
                control,
                address,
                ci,
                data,
            } => {
                let len = u8::try_from(data.len() + 3).map_err(|_| FrameError::TooLong(data.len()))?;
                let mut out = vec![START_LONG, len, len, START_LONG, *control, *address, *ci];
                out.extend_from_slice(data);
                out.push(checksum(out.get(4..).unwrap_or_default()));
                out.push(STOP);
                Ok(out)
            }
        }
    }

    /// Reads a frame, whole and without anything around it.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let len = whole_len(bytes)?;
        let frame = bytes.get(..len).ok_or(FrameError::Short {
            have: bytes.len(),
            need: len,
        })?;
        match frame {
            [ACK] => {}
            [.., stop] if *stop != STOP => return Err(FrameError::Stop(*stop)),
            [head @ .., found, _] => {
                let covered = head.get(if len == SHORT_LEN { 1 } else { 4 }..).unwrap_or_default();
                let computed = checksum(covered);
                if *found != computed {
                    return Err(FrameError::Checksum {
                        found: *found,
                        computed,
                    });
                }
            }
            _ => {}
        }
        if bytes.len() > len {
            return Err(FrameError::Trailing {
                extra: bytes.len() - len,
            });
        }
        Ok(match frame {
            [START_SHORT, control, address, ..] => Self::Short {
                control: *control,
                address: *address,
            },
            [START_LONG, _, _, _, control, address, ci, data @ .., _, _] => Self::Long {
                control: *control,
                address: *address,
                ci: *ci,
                data: data.to_vec(),
            },
            _ => Self::Ack,
        })
    }

    /// Takes the frames out of bytes in which they stand one behind the other.
    ///
    /// # Errors
    /// [`FrameError`] of the first that is none.
    pub fn split(bytes: &[u8]) -> Result<Vec<Self>, FrameError> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = whole_len(rest)?.min(rest.len());
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            frames.push(Self::parse(frame)?);
            rest = behind;
        }
        Ok(frames)
    }
}

/// The length that the first bytes claim, as far as they are right.
fn whole_len(bytes: &[u8]) -> Result<usize, FrameError> {
    let short = |need| FrameError::Short {
        have: bytes.len(),
        need,
    };
    match bytes {
        [] => Err(short(1)),
        [ACK, ..] => Ok(1),
        [START_SHORT, ..] => Ok(SHORT_LEN),
        [START_LONG, first, second, ..] if first != second => Err(FrameError::Lengths {
            first: *first,
            second: *second,
        }),
        [START_LONG, len @ 0..3, _, ..] => Err(FrameError::Length(*len)),
        [START_LONG, _, _, start, ..] if *start != START_LONG => Err(FrameError::SecondStart(*start)),
        [START_LONG, len, _, _, ..] => Ok(usize::from(*len) + 6),
        [START_LONG, ..] => Err(short(LONG_MIN)),
        [other, ..] => Err(FrameError::Start(*other)),
    }
}

/// What bytes are, seen as a frame that begins with the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// A whole frame of so many bytes, checksum and stop right.
    Whole(usize),
    /// May become one.
    Partial,
    /// Cannot.
    No,
}

/// Seen as a short, control or long frame; the single character is no frame here.
pub(super) fn candidate(bytes: &[u8]) -> Candidate {
    if bytes.first().is_none_or(|first| *first == ACK) {
        return Candidate::No;
    }
    match whole_len(bytes) {
        Ok(len) => match bytes.get(..len) {
            None => Candidate::Partial,
            Some(frame) if Frame::parse(frame).is_ok() => Candidate::Whole(len),
            Some(_) => Candidate::No,
        },
        Err(FrameError::Short { .. }) => Candidate::Partial,
        Err(_) => Candidate::No,
    }
}

/// Whether bytes have the whole start of a control or long frame.
pub(super) fn has_long_start(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes.first() == Some(&START_LONG) && whole_len(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::protocol::mbus) fn any_frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            Just(Frame::Ack),
            (any::<u8>(), any::<u8>()).prop_map(|(control, address)| Frame::Short { control, address }),
            (
                any::<u8>(),
                any::<u8>(),
                any::<u8>(),
                prop::collection::vec(any::<u8>(), 0..=252)
            )
                .prop_map(|(control, address, ci, data)| Frame::Long {
                    control,
                    address,
                    ci,
                    data
                }),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_as_itself(frame in any_frame()) {
            let wire = frame.wire().unwrap();
            prop_assert!(wire.len() <= FRAME_MAX);
            prop_assert_eq!(Frame::parse(&wire), Ok(frame.clone()));
            prop_assert_eq!(Frame::split(&[wire.clone(), wire].concat()), Ok(vec![frame.clone(), frame]));
        }

        #[test]
        fn a_cut_frame_is_partial_and_never_read(frame in any_frame(), cut in 0usize..300) {
            let wire = frame.wire().unwrap();
            prop_assume!(wire.len() > 1);
            let cut = 1 + cut % (wire.len() - 1);
            prop_assert_eq!(candidate(&wire[..cut]), Candidate::Partial);
            let broken = Frame::parse(&wire[..cut]);
            let short = matches!(broken, Err(FrameError::Short { .. }));
            prop_assert!(short, "{:?}", broken);
        }

        #[test]
        fn no_flipped_bit_reads_as_the_frame(frame in any_frame(), bit in 0usize..3000) {
            let wire = frame.wire().unwrap();
            prop_assume!(wire.len() > 1);
            let mut broken = wire.clone();
            let bit = bit % (wire.len() * 8);
            broken[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::parse(&broken).is_err());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _unused = Frame::parse(&bytes);
            let _unused = Frame::split(&bytes);
            let _unused = candidate(&bytes);
        }
    }

    #[test]
    fn faults_are_named() {
        let parse = |bytes: &[u8]| Frame::parse(bytes).unwrap_err();
        assert_eq!(parse(&[0x68, 4, 5, 0x68]), FrameError::Lengths { first: 4, second: 5 });
        assert_eq!(parse(&[0x68, 2, 2, 0x68]), FrameError::Length(2));
        assert_eq!(parse(&[0x68, 3, 3, 0x10]), FrameError::SecondStart(0x10));
        assert_eq!(
            parse(&[0x10, 0x40, 1, 0x42, 0x16]),
            FrameError::Checksum {
                found: 0x42,
                computed: 0x41
            }
        );
        assert_eq!(parse(&[0x10, 0x40, 1, 0x41, 0x17]), FrameError::Stop(0x17));
        assert_eq!(
            parse(&[0x10, 0x40, 1, 0x41, 0x16, 0]),
            FrameError::Trailing { extra: 1 }
        );
        assert_eq!(parse(&[0x00]), FrameError::Start(0));
        let frame = Frame::Long {
            control: 0x53,
            address: 1,
            ci: 0x51,
            data: vec![0; 253],
        };
        assert_eq!(frame.wire(), Err(FrameError::TooLong(253)));
    }

    #[test]
    fn a_checksum_that_looks_like_the_stop_character_ends_nothing() {
        let frame = Frame::Short {
            control: 0x40,
            address: 0xD6,
        };
        let wire = frame.wire().unwrap();
        assert_eq!(wire, [0x10, 0x40, 0xD6, 0x16, 0x16]);
        assert_eq!(candidate(&wire[..4]), Candidate::Partial);
        assert_eq!(candidate(&wire), Candidate::Whole(5));
    }
}

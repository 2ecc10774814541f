//! The headers behind the CI field (EN 13757-3, 5.3 and 5.4; fixed structure: EN 1434-3).
//!
//! Read here and not by the record crate, which refuses meters whose identification is not decimal.

use super::address::{Identification, Manufacturer};
use crate::base::bytes::{Reader, ShortRead};

/// CI fields of answers; one more than the low-byte-first form is the high-byte-first form of the first two.
pub(super) const CI_ERROR: u8 = 0x70;
pub(super) const CI_ALARM: u8 = 0x71;
pub(super) const CI_LONG: u8 = 0x72;
pub(super) const CI_FIXED: u8 = 0x73;
pub(super) const CI_LONG_HIGH: u8 = 0x76;
pub(super) const CI_FIXED_HIGH: u8 = 0x77;
pub(super) const CI_NONE: u8 = 0x78;
pub(super) const CI_SHORT: u8 = 0x7A;

/// What stands in front of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Twelve bytes, CI 72 and 76.
    Long {
        /// Who answers.
        identification: Identification,
        /// Counts the answers of the meter.
        access: u8,
        /// What the meter says of itself.
        status: Status,
        /// Signature or configuration word.
        signature: u16,
    },
    /// Four bytes, CI 7A.
    Short {
        /// Counts the answers of the meter.
        access: u8,
        /// What the meter says of itself.
        status: Status,
        /// Signature or configuration word.
        signature: u16,
    },
    /// None, CI 78.
    None,
    /// The eight bytes of the fixed structure, CI 73 and 77.
    Fixed {
        /// Eight digits.
        id: u32,
        /// Counts the answers of the meter.
        access: u8,
        /// Bit 0: counters are binary; bit 1: they were stored at a fixed date.
        status: u8,
        /// Units of both counters and the medium in the top bits.
        units: [u8; 2],
    },
}

/// The status byte of the variable structure (EN 13757-3, 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// 0 none, 1 the application is busy, 2 any application error, 3 abnormal condition or alarm.
    pub fn application(self) -> u8 {
        self.0 & 0x03
    }

    /// The battery is low.
    pub fn low_power(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// An error that stays until somebody repairs it.
    pub fn permanent_error(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// An error that passes.
    pub fn temporary_error(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// What it says in words; empty when all is well.
    pub fn words(self) -> Vec<String> {
        let mut words = Vec::new();
        match self.application() {
            1 => words.push("application busy".to_owned()),
            2 => words.push("application error".to_owned()),
            3 => words.push("abnormal condition".to_owned()),
            _ => {}
        }
        for (set, word) in [
            (self.low_power(), "battery low"),
            (self.permanent_error(), "permanent error"),
            (self.temporary_error(), "temporary error"),
        ] {
            if set {
                words.push(word.to_owned());
            }
        }
        if self.0 & 0xE0 != 0 {
            words.push(format!("maker's own bits {:02X}", self.0 & 0xE0));
        }
        words
    }
}

/// Whether multi-byte fields of a CI come high byte first.
pub(super) fn high_first(ci: u8) -> bool {
    matches!(ci, CI_LONG_HIGH | CI_FIXED_HIGH)
}

impl Header {
    /// Takes the header of a CI field; what is left are the records or counters.
    ///
    /// # Errors
    /// [`ShortRead`] when it breaks off. A CI field without a header that we know has [`Header::None`].
    pub fn parse(ci: u8, data: &[u8]) -> Result<(Self, &[u8]), ShortRead> {
        let mut reader = Reader::new(data);
        let high = high_first(ci);
        let word = |bytes: [u8; 2]| {
            if high {
                u16::from_be_bytes(bytes)
            } else {
                u16::from_le_bytes(bytes)
            }
        };
        let number = |bytes: [u8; 4]| {
            if high {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        let header = match ci {
            CI_LONG | CI_LONG_HIGH => Self::Long {
                identification: Identification {
                    id: number(reader.array()?),
                    manufacturer: Manufacturer(word(reader.array()?)),
                    version: reader.u8()?,
                    medium: reader.u8()?,
                },
                access: reader.u8()?,
                status: Status(reader.u8()?),
                signature: word(reader.array()?),
            },
            CI_SHORT => Self::Short {
                access: reader.u8()?,
                status: Status(reader.u8()?),
                signature: word(reader.array()?),
            },
            CI_FIXED | CI_FIXED_HIGH => Self::Fixed {
                id: number(reader.array()?),
                access: reader.u8()?,
                status: reader.u8()?,
                units: reader.array()?,
            },
            _ => Self::None,
        };
        Ok((header, reader.rest()))
    }

    /// Who answers, if the header says all of it.
    pub fn identification(&self) -> Option<Identification> {
        match self {
            Self::Long { identification, .. } => Some(*identification),
            _ => None,
        }
    }

    /// The status byte of the variable structure.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Long { status, .. } | Self::Short { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The access number.
    pub fn access(&self) -> Option<u8> {
        match self {
            Self::Long { access, .. } | Self::Short { access, .. } | Self::Fixed { access, .. } => Some(*access),
            Self::None => None,
        }
    }

    /// The security mode by which the records behind it are encrypted (EN 13757-3, configuration word). Wired meters put
    /// all kinds of things here, so only modes that exist count, and records that begin with two fillers are plain.
    pub fn encrypted(&self, records: &[u8]) -> Option<u8> {
        let (Self::Long { signature, .. } | Self::Short { signature, .. }) = self else {
            return None;
        };
        let [high, low] = signature.to_be_bytes();
        let mode = high & 0x1F;
        let blocks = low >> 4;
        match mode {
            2..=5 if blocks == 0 && low == 0 => None,
            2..=5 | 7..=10 | 13 if !records.starts_with(&[0x2F, 0x2F]) => Some(mode),
            _ => None,
        }
    }
}

//! APDUs that do not fit one frame (DL/T 698.45-2017, 6.3): parts with a running number, each but the last confirmed by
//! the receiver.
//!
//! ```text
//! number (bits 0..11), reserved, kind (bits 14, 15: 0 first, 1 last, 2 confirmation, 3 between), low byte first; data
//! ```

use super::wire::APDU_MAX;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The first of several.
    First,
    /// One between.
    Between,
    /// The last.
    Last,
    /// The receiver has this one, and waits for the next.
    Confirmation,
}

/// A part of an APDU: the data of a frame whose control byte says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// What it is.
    pub part: Part,
    /// Its number, 0 to 4095.
    pub number: u16,
    /// Its bytes of the APDU.
    pub data: &'a [u8],
}

/// Why parts make no APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Fewer than the two bytes that say what it is.
    #[error("{0} bytes are no part of an APDU; its head has two")]
    Short(usize),
    /// A part without data, or a confirmation with some.
    #[error("{0:?} with {1} bytes of data")]
    Data(Part, usize),
    /// Another than the next.
    #[error("part {found} of an APDU came, {wanted} was next")]
    Order {
        /// The next.
        wanted: u16,
        /// What came.
        found: u16,
    },
    /// A part between or last, and none before it.
    #[error("part {0} of an APDU of which the first never came")]
    NoFirst(u16),
    /// More than is taken.
    #[error("an APDU of more than {max} bytes")]
    TooLong {
        /// How many are taken.
        max: usize,
    },
}

impl<'a> Segment<'a> {
    /// Takes a frame's data apart.
    ///
    /// # Errors
    /// [`SegmentError`] when they are no part.
    pub fn parse(data: &'a [u8]) -> Result<Self, SegmentError> {
        let (head, rest) = data.split_first_chunk::<2>().ok_or(SegmentError::Short(data.len()))?;
        let word = u16::from_le_bytes(*head);
        let part = match word >> 14 {
            0 => Part::First,
            1 => Part::Last,
            2 => Part::Confirmation,
            _ => Part::Between,
        };
        if (part == Part::Confirmation) != rest.is_empty() {
            return Err(SegmentError::Data(part, rest.len()));
        }
        Ok(Self {
            part,
            number: word & 0x0FFF,
            data: rest,
        })
    }

    /// The data of its frame.
    pub fn wire(&self) -> Vec<u8> {
        let kind = match self.part {
            Part::First => 0,
            Part::Last => 1,
            Part::Confirmation => 2,
            Part::Between => 3,
        };
        let mut data = (self.number & 0x0FFF | kind << 14).to_le_bytes().to_vec();
        data.extend_from_slice(self.data);
        data
    }

    /// The confirmation of a part.
    pub fn confirmation(number: u16) -> Self {
        Self {
            part: Part::Confirmation,
            number,
            data: &[],
        }
    }
}

/// The parts of an APDU, each of at most `size` bytes of it. One part alone is none: such an APDU goes in one frame.
pub fn split(apdu: &[u8], size: usize) -> Vec<Segment<'_>> {
    let size = size.max(1);
    let count = apdu.len().div_ceil(size);
    let part = |index: usize| match index {
        0 => Part::First,
        index if index + 1 == count => Part::Last,
        _ => Part::Between,
    };
    let numbers = (0..=0x0FFFu16).cycle();
    let parts = apdu.chunks(size).zip(numbers).enumerate();
    parts
        .map(|(index, (data, number))| Segment {
            part: part(index),
            number,
            data,
        })
        .collect()
}

/// What a part brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// More is to come; part `confirm` has to be confirmed.
    More {
        /// Its number.
        confirm: u16,
    },
    /// The part before, sent again: its confirmation was lost.
    Again {
        /// What has to be confirmed once more.
        confirm: u16,
    },
    /// The APDU is whole.
    Whole(Vec<u8>),
}

/// Joins the parts of one dialogue's APDU. What is out of order changes nothing; a first part begins anew.
#[derive(Clone, Debug)]
pub struct Joiner {
    max: usize,
    data: Vec<u8>,
    /// The number of the last part, once there is one.
    last: Option<u16>,
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new(APDU_MAX)
    }
}

impl Joiner {
    /// For APDUs of at most so many bytes.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.min(APDU_MAX),
            data: Vec::new(),
            last: None,
        }
    }

    /// Whether parts are there and the last is not.
    pub fn is_open(&self) -> bool {
        self.last.is_some()
    }

    /// Forgets what is there.
    pub fn clear(&mut self) {
        self.data = Vec::new();
        self.last = None;
    }

    /// Takes a part.
    ///
    /// # Errors
    /// [`SegmentError`] when it is not the next, is a confirmation, or makes the APDU too long (all is forgotten then).
    pub fn take(&mut self, segment: &Segment<'_>) -> Result<Joined, SegmentError> {
        let number = segment.number;
        match (segment.part, self.last) {
            (Part::Confirmation, _) => return Err(SegmentError::Data(Part::Confirmation, 0)),
            (Part::First, last) => {
                // the same first part again, or the first of another APDU
                if last == Some(number) && self.data == segment.data {
                    return Ok(Joined::Again { confirm: number });
                }
                self.clear();
            }
            (_, None) => return Err(SegmentError::NoFirst(number)),
            (part, Some(last)) => {
                let wanted = (last + 1) & 0x0FFF;
                if number == last && part == Part::Between && self.data.ends_with(segment.data) {
                    return Ok(Joined::Again { confirm: number });
                }
                if number != wanted {
                    let found = number;
                    return Err(SegmentError::Order { wanted, found });
                }
            }
        }
        if self.data.len() + segment.data.len() > self.max {
            self.clear();
            return Err(SegmentError::TooLong { max: self.max });
        }
        self.data.extend_from_slice(segment.data);
        if segment.part == Part::Last {
            self.last = None;
            return Ok(Joined::Whole(std::mem::take(&mut self.data)));
        }
        self.last = Some(number);
        Ok(Joined::More { confirm: number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_out_of_order_and_doubled_ones_spoil_nothing() {
        let apdu: Vec<u8> = (0..=99).collect();
        let parts = split(&apdu, 40);
        assert_eq!(
            parts.iter().map(|part| part.part).collect::<Vec<_>>(),
            [Part::First, Part::Between, Part::Last]
        );
        let mut joiner = Joiner::new(100);
        assert_eq!(joiner.take(&parts[1]), Err(SegmentError::NoFirst(1)));
        assert_eq!(joiner.take(&parts[0]), Ok(Joined::More { confirm: 0 }));
        assert_eq!(joiner.take(&parts[0]), Ok(Joined::Again { confirm: 0 }));
        let order = SegmentError::Order { wanted: 1, found: 2 };
        assert_eq!(joiner.take(&parts[2]), Err(order));
        assert_eq!(joiner.take(&parts[1]), Ok(Joined::More { confirm: 1 }));
        assert_eq!(joiner.take(&parts[1]), Ok(Joined::Again { confirm: 1 }));
        assert!(joiner.take(&Segment::confirmation(1)).is_err());
        assert_eq!(joiner.take(&parts[2]), Ok(Joined::Whole(apdu)));
        assert!(!joiner.is_open());
    }

    #[test]
    fn more_than_the_limit_is_forgotten() {
        let apdu = [7; 101];
        let mut joiner = Joiner::new(100);
        let results: Vec<_> = split(&apdu, 50).iter().map(|part| joiner.take(part)).collect();
        assert_eq!(results[2], Err(SegmentError::TooLong { max: 100 }));
        assert!(!joiner.is_open() && joiner.data.is_empty());
    }

    #[test]
    fn heads_are_the_standards() {
        assert_eq!(Segment::confirmation(5).wire(), [0x05, 0x80]);
        assert_eq!(Segment::parse(&[0x01, 0xC0, 0xAA]).unwrap().part, Part::Between);
        assert_eq!(Segment::parse(&[0x02, 0x40, 0xAA]).unwrap().part, Part::Last);
        assert_eq!(Segment::parse(&[1]), Err(SegmentError::Short(1)));
        assert_eq!(Segment::parse(&[1, 0]), Err(SegmentError::Data(Part::First, 0)));
        assert_eq!(
            Segment::parse(&[1, 0x80, 9]),
            Err(SegmentError::Data(Part::Confirmation, 1))
        );
    }

    proptest! {
        #[test]
        fn what_is_split_is_joined(apdu in proptest::collection::vec(any::<u8>(), 2..3000), size in 1usize..700) {
            prop_assume!(apdu.len() > size);
            let mut joiner = Joiner::default();
            let mut whole = None;
            for part in split(&apdu, size) {
                let wire = part.wire();
                match joiner.take(&Segment::parse(&wire).unwrap()).unwrap() {
                    Joined::More { confirm } => prop_assert_eq!(confirm, part.number),
                    Joined::Whole(bytes) => whole = Some(bytes),
                    Joined::Again { .. } => prop_assert!(false),
                }
            }
            prop_assert_eq!(whole, Some(apdu));
        }

        #[test]
        fn any_parts_stay_within_the_limit(
            parts in proptest::collection::vec((0u16..=u16::MAX, proptest::collection::vec(any::<u8>(), 0..200)), 0..60),
        ) {
            let mut joiner = Joiner::new(1000);
            for (head, data) in parts {
                let wire = [head.to_le_bytes().to_vec(), data].concat();
                if let Ok(segment) = Segment::parse(&wire) {
                    let _taken = joiner.take(&segment);
                }
                prop_assert!(joiner.data.len() <= 1000);
            }
        }
    }
}

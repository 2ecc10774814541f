//! Which parts of long answers came lately, and to which question: the parts behind the first say nothing of it themselves.

use crate::protocol::dlt698::{Apdu, Frame, Request};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Parts that are remembered: those of the last few long answers.
const KEPT_MAX: usize = 256;
/// Where the number stands in questions and answers, behind service and choice; another number makes none other.
const NUMBER_AT: usize = 2;
/// What nobody asked for.
const NOBODY: u64 = 0;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Parts {
    came: VecDeque<Came>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Came {
    part: u64,
    question: u64,
}

impl Parts {
    /// Takes note of a frame that may be a part, of the answer to `question` or of nobody's. Whether this very part came
    /// before for something else.
    pub(super) fn came(&mut self, frame: &Frame, question: Option<&Request>) -> bool {
        if !frame.control.is_segmented() {
            return false;
        }
        let came = Came {
            part: hash(frame.data()),
            question: question.map_or(NOBODY, question_hash),
        };
        let same = |known: &&Came| known.part == came.part;
        let elsewhere = self.came.iter().filter(same).any(|known| *known != came);
        if !self.came.contains(&came) {
            if self.came.len() >= KEPT_MAX {
                self.came.pop_front();
            }
            self.came.push_back(came);
        }
        elsewhere
    }
}

fn question_hash(question: &Request) -> u64 {
    question.apdu().map_or(NOBODY, meaning).max(NOBODY + 1)
}

/// A mark of what an APDU says, whatever its number.
pub(super) fn meaning(apdu: &Apdu) -> u64 {
    let wire = apdu.wire();
    hash((wire.get(..NUMBER_AT), wire.get(NUMBER_AT + 1..)))
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::dlt698::{Address, Control, Oad, Piid};

    fn part(data: u8) -> Frame {
        let control = Control::ANSWER.segmented();
        Frame::new(control, Address::parse("1").unwrap(), 1, vec![1, 0xC0, data]).unwrap()
    }

    fn question(number: u8, oi: u16) -> Request {
        Request::get(Address::parse("1").unwrap(), Piid::new(number), &[Oad::new(oi, 2)]).unwrap()
    }

    #[test]
    fn a_part_is_doubtful_where_it_came_for_something_else() {
        let mut parts = Parts::default();
        let (first, again, other) = (question(1, 0x2000), question(9, 0x2000), question(1, 0x2001));
        assert!(!parts.came(&part(7), Some(&first)));
        // the same question asked again is answered by the same parts
        assert!(!parts.came(&part(7), Some(&again)));
        assert!(parts.came(&part(7), Some(&other)));
        assert!(parts.came(&part(7), Some(&other)));
        // a stray is nobody's
        assert!(!parts.came(&part(8), None));
        assert!(parts.came(&part(8), Some(&first)));
        // a whole answer has its own number
        let whole = Frame::new(Control::ANSWER, Address::parse("1").unwrap(), 1, vec![1, 0xC0, 7]).unwrap();
        assert!(!parts.came(&whole, Some(&question(1, 0x2002))));
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut parts = Parts::default();
        for data in 0..=255 {
            for number in 0..4 {
                parts.came(&part(data), Some(&question(1, number)));
                assert!(parts.came.len() <= KEPT_MAX);
            }
        }
        assert_eq!(parts.came.len(), KEPT_MAX);
    }
}

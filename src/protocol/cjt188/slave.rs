//! The other side of the line: finding questions among bytes, as a meter does.

use super::find::{front, starts};
use super::frame::{Candidate, judge};
use super::{Frame, FrameError};
use std::ops::Range;

/// What a meter hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// No whole question yet; the first `noise` bytes cannot begin one.
    NeedMore {
        /// Bytes at the front that may be dropped.
        noise: usize,
    },
    /// A valid frame of the master's, to any meter.
    Request {
        /// Where it stands, preamble and all.
        span: Range<usize>,
        /// What it says.
        frame: Frame,
    },
}

/// Looks for the first whole question, to any meter. Frames of other meters are passed over.
pub fn hear(buffer: &[u8]) -> Heard {
    let mut begin = None;
    for offset in starts(buffer) {
        let rest = buffer.get(offset..).unwrap_or_default();
        match judge(rest) {
            Candidate::No => {}
            Candidate::Partial => begin = begin.or(Some(front(buffer, offset))),
            Candidate::Whole(len) => {
                let frame: Result<Frame, FrameError> = Frame::parse(rest.get(..len).unwrap_or_default());
                if let Ok(frame) = frame
                    && !frame.control.is_from_meter()
                    && frame.meter_type.is_known()
                {
                    let span = front(buffer, offset)..offset + len;
                    return Heard::Request { span, frame };
                }
            }
        }
    }
    Heard::NeedMore {
        noise: begin.unwrap_or_else(|| front(buffer, buffer.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cjt188::request::tests::any_request;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn questions_are_heard_whole_and_in_any_split(request in any_request(), cut in 0usize..300) {
            let wire = request.wire();
            let cut = cut % wire.len();
            prop_assert_eq!(hear(&wire[..cut]), Heard::NeedMore { noise: 0 });
            let Heard::Request { span, frame } = hear(&wire) else { panic!("not heard") };
            prop_assert_eq!(span, 0..wire.len());
            prop_assert_eq!(frame.wire(request.target().preamble), wire);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Heard::NeedMore { noise } = hear(&bytes) {
                prop_assert!(noise <= bytes.len());
            }
        }
    }

    #[test]
    fn answers_of_other_meters_are_passed_over() {
        let answer = crate::base::hex::decode("68100100000508000081161F9000002301002C000000002C0000000000000000004816");
        let asked = crate::base::hex::decode("68100100000508000001031F90003916").unwrap();
        let both = [answer.unwrap(), asked.clone()].concat();
        let Heard::Request { span, .. } = hear(&both) else {
            panic!("not heard")
        };
        assert_eq!(&both[span], asked);
    }
}

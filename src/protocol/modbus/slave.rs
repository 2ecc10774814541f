//! The other side of the line: finding requests among bytes, as a slave does.

use super::frame::{Candidate, request_shape};
use super::{Request, RequestError};
use std::ops::Range;

/// What a slave hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// No whole request yet; the first `noise` bytes cannot begin one.
    NeedMore {
        /// Bytes at the front that may be dropped.
        noise: usize,
    },
    /// A valid request, to any unit.
    Request {
        /// Where it stands.
        span: Range<usize>,
        /// What it asks.
        request: Request,
    },
    /// A request whose CRC is right but which asks for something impossible.
    Faulty {
        /// Where it stands.
        span: Range<usize>,
        /// Why.
        error: RequestError,
    },
}

/// Looks for the first whole request, to any unit, of functions 1 to 6, 15, 16.
pub fn hear(buffer: &[u8]) -> Heard {
    let mut begin = None;
    for offset in 0..buffer.len() {
        let rest = buffer.get(offset..).unwrap_or_default();
        match request_shape(rest).judge(rest) {
            Candidate::No => {}
            Candidate::Partial => begin = begin.or(Some(offset)),
            Candidate::Whole(len) => {
                let span = offset..offset + len;
                return match Request::parse(rest.get(..len).unwrap_or_default()) {
                    Ok(request) => Heard::Request { span, request },
                    Err(error) => Heard::Faulty { span, error },
                };
            }
        }
    }
    Heard::NeedMore {
        noise: begin.unwrap_or(buffer.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::modbus::request::tests::any_request;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_are_heard_whole_and_in_any_split(request in any_request(), cut in 0usize..300) {
            let wire = request.wire();
            let cut = cut % wire.len();
            prop_assert_eq!(hear(&wire[..cut]), Heard::NeedMore { noise: 0 });
            prop_assert_eq!(hear(&wire), Heard::Request { span: 0..wire.len(), request });
        }
    }

    #[test]
    fn a_request_for_too_much_is_faulty() {
        let wire = super::super::frame::seal(1, &[3, 0, 0, 0, 126]);
        assert!(matches!(
            hear(&wire),
            Heard::Faulty {
                error: RequestError::Count { count: 126, .. },
                ..
            }
        ));
    }
}

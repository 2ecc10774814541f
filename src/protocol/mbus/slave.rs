//! The other side of the line: finding requests among bytes, as a slave does.

use super::frame::{Candidate, Frame, candidate};
use super::request::is_request;
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
    /// A valid request, to any address.
    Request {
        /// Where it stands.
        span: Range<usize>,
        /// What it asks.
        request: Request,
    },
    /// A whole frame of a master that asks for something that we do not know.
    Faulty {
        /// Where it stands.
        span: Range<usize>,
        /// Why.
        error: RequestError,
    },
}

/// Looks for the first whole request, to any address. Frames of slaves are passed over.
pub fn hear(buffer: &[u8]) -> Heard {
    let mut begin = None;
    let mut offset = 0;
    while offset < buffer.len() {
        let rest = buffer.get(offset..).unwrap_or_default();
        match candidate(rest) {
            Candidate::No => offset += 1,
            Candidate::Partial => {
                begin = begin.or(Some(offset));
                offset += 1;
            }
            Candidate::Whole(len) => {
                let (span, end) = (offset..offset + len, offset + len);
                let Ok(frame) = Frame::parse(rest.get(..len).unwrap_or_default()) else {
                    offset = end;
                    continue;
                };
                match Request::of_frame(&frame) {
                    Ok(request) => return Heard::Request { span, request },
                    Err(error) if of_master(&frame) => return Heard::Faulty { span, error },
                    // another slave's answer, heard on the same line
                    _ => {
                        begin = None;
                        offset = end;
                    }
                }
            }
        }
    }
    Heard::NeedMore {
        noise: begin.unwrap_or(buffer.len()),
    }
}

fn of_master(frame: &Frame) -> bool {
    match frame {
        Frame::Ack => false,
        Frame::Short { control, .. } | Frame::Long { control, .. } => is_request(*control),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::any_request;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_are_heard_whole_and_in_any_split(request in any_request(), cut in 0usize..300) {
            let wire = request.wire();
            let cut = cut % wire.len();
            prop_assert_eq!(hear(&wire[..cut]), Heard::NeedMore { noise: 0 });
            prop_assert_eq!(hear(&wire), Heard::Request { span: 0..wire.len(), request });
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _unused = hear(&bytes);
        }
    }

    #[test]
    fn what_nobody_asks_is_faulty() {
        let frame = Frame::Short {
            control: 0x49,
            address: 1,
        };
        assert!(matches!(
            hear(&frame.wire().unwrap()),
            Heard::Faulty {
                error: RequestError::Control(0x49),
                ..
            }
        ));
    }
}

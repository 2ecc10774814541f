//! The other side of the line: finding questions among bytes, as a meter does.

use super::find::frames;
use super::frame::{Candidate, PREAMBLES_MAX, judge, preambles};
use super::function::{Edition, Function};
use super::{Address, Control, Request, RequestError};
use std::ops::Range;

/// What a meter hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// No whole question yet; the first `noise` bytes cannot begin one.
    NeedMore {
        /// Bytes at the front that may be dropped.
        noise: usize,
    },
    /// A question, to anybody.
    Request {
        /// Where it stands, preambles included.
        span: Range<usize>,
        /// What it asks.
        request: Request,
    },
    /// A question that is not spoken here or whose data do not fit it.
    Faulty {
        /// Where it stands.
        span: Range<usize>,
        /// To whom.
        address: Address,
        /// Its control byte.
        control: Control,
        /// Why.
        error: RequestError,
    },
}

/// The edition that has a question's control code; 08 is of both, 03 taken for that of 2007.
pub(super) fn edition_of(code: u8) -> Edition {
    match Function::by_code(Edition::E2007, code) {
        Some(_) => Edition::E2007,
        None => Edition::E1997,
    }
}

/// Looks for the first whole question of either edition. Answers on the line are passed over.
pub fn hear(buffer: &[u8]) -> Heard {
    for (span, view) in frames(buffer) {
        if view.control.is_answer() {
            continue;
        }
        let bytes = buffer.get(span.clone()).unwrap_or_default();
        return match Request::parse(edition_of(view.control.code()), bytes) {
            Ok(request) => Heard::Request { span, request },
            Err(error) => Heard::Faulty {
                span,
                address: view.address,
                control: view.control,
                error,
            },
        };
    }
    Heard::NeedMore {
        noise: may_begin(buffer),
    }
}

/// Where something that may become a frame begins.
fn may_begin(buffer: &[u8]) -> usize {
    let mut offset = 0;
    while let Some(rest) = buffer.get(offset..).filter(|rest| !rest.is_empty()) {
        let woken = preambles(rest);
        let from = offset + woken - woken.min(PREAMBLES_MAX);
        let body = rest.get(woken..).unwrap_or_default();
        match judge(body) {
            _ if body.is_empty() => return from,
            Candidate::Partial => return from,
            Candidate::Whole(_, len) => offset += woken + len,
            Candidate::No => offset += woken + 1,
        }
    }
    buffer.len()
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::any_request;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn questions_are_heard_whole_and_in_any_split(request in any_request(), cut in 0usize..300) {
            let wire = request.wire();
            let cut = cut % wire.len();
            prop_assert_eq!(hear(&wire[..cut]), Heard::NeedMore { noise: 0 });
            let Heard::Request { span, request: heard } = hear(&wire) else { panic!("not heard: {request:?}") };
            prop_assert_eq!(span, 0..wire.len());
            prop_assert_eq!(heard.wire(), wire);
        }
    }

    #[test]
    fn answers_are_passed_over_and_what_is_not_spoken_is_faulty() {
        let answer = crate::base::hex::decode("68111111111111689108333333333683 9333A2").unwrap();
        assert_eq!(hear(&answer), Heard::NeedMore { noise: 0 });
        let security = super::super::seal(Address::ANYONE, Control(0x03), &[0; 12]);
        assert!(matches!(hear(&security), Heard::Faulty { .. }));
    }
}

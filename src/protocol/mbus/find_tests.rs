//! What the finder promises, shown on random requests, every split, and noise.

use super::super::request::tests::any_request;
use super::*;
use crate::protocol::mbus::{Identification, Manufacturer, Selection};
use proptest::prelude::*;

/// Feeds `bytes` in pieces as a line would, drops noise and what was found as the line does, and returns the first
/// answer or refusal with what came before it.
fn feed(request: &Request, pieces: &[&[u8]]) -> (Option<(Vec<u8>, Verdict)>, Vec<Verdict>) {
    let (mut buffer, mut before) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match request.find(&buffer) {
                Finding::NeedMore { noise } => {
                    assert!(buffer.len() - noise <= FRAME_MAX, "holds more than a frame");
                    buffer.drain(..noise);
                    break;
                }
                Finding::Frame { span, verdict } => {
                    let frame = buffer[span.clone()].to_vec();
                    buffer.drain(..span.end);
                    if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                        return (Some((frame, verdict)), before);
                    }
                    before.push(verdict);
                }
            }
        }
    }
    (None, before)
}

fn telegram(address: u8, ci: u8, data: &[u8]) -> Vec<u8> {
    let data = data.to_vec();
    Frame::Long {
        control: 0x08,
        address,
        ci,
        data,
    }
    .wire()
    .unwrap()
}

/// An answer that fits a request.
fn fitting(request: &Request, data: &[u8]) -> Vec<u8> {
    if request.reads() {
        telegram(request.address(), 0x72, data)
    } else {
        vec![ACK]
    }
}

fn header(identification: Identification) -> Vec<u8> {
    let mut bytes = Selection::exact(identification).bytes().to_vec();
    bytes.extend([1, 0, 0, 0]);
    bytes
}

fn answered(request: &Request) -> bool {
    request.address() != BROADCAST
}

/// Noise in which no frame begins: neither 10 nor 68 nor E5.
fn quiet() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        any::<u8>().prop_filter("begins a frame", |byte| ![0x10, 0x68, ACK].contains(byte)),
        0..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_found_behind_noise_in_any_split(
        request in any_request(),
        data in prop::collection::vec(any::<u8>(), 12..240),
        noise in quiet(),
        cuts in (0usize..300, 0usize..300),
    ) {
        prop_assume!(answered(&request));
        let frame = fitting(&request, &data);
        let bytes = [noise, frame.clone()].concat();
        let mut cuts = [cuts.0 % (bytes.len() + 1), cuts.1 % (bytes.len() + 1)];
        cuts.sort_unstable();
        let [a, b] = cuts;
        let (found, before) = feed(&request, &[&bytes[..a], &bytes[a..b], &bytes[b..]]);
        prop_assert_eq!(found, Some((frame, Verdict::Answer)));
        prop_assert!(before.is_empty());
    }

    #[test]
    fn an_answer_is_found_behind_any_noise_at_the_deadline(
        address in 0u8..=250,
        data in prop::collection::vec(any::<u8>(), 12..240),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let request = Request::read(address, true).unwrap();
        let frame = fitting(&request, &data);
        let mut buffer = [noise, frame.clone()].concat();
        loop {
            match request.find_last(&buffer) {
                Finding::Frame { span, verdict: Verdict::Answer } => {
                    prop_assert_eq!(&buffer[span], &frame[..]);
                    break;
                }
                Finding::Frame { span, .. } => { buffer.drain(..span.end); }
                Finding::NeedMore { .. } => prop_assert!(false, "lost the answer"),
            }
        }
    }

    #[test]
    fn every_cut_of_an_answer_is_awaited(
        request in any_request(),
        data in prop::collection::vec(any::<u8>(), 12..240),
    ) {
        prop_assume!(answered(&request));
        let frame = fitting(&request, &data);
        for cut in 0..frame.len() {
            prop_assert_eq!(request.find(&frame[..cut]), Finding::NeedMore { noise: 0 });
        }
        let span = 0..frame.len();
        prop_assert_eq!(request.find(&frame), Finding::Frame { span, verdict: Verdict::Answer });
    }

    #[test]
    fn no_flipped_bit_is_an_answer(
        request in any_request(),
        data in prop::collection::vec(any::<u8>(), 12..240),
        bit in 0usize..2500,
    ) {
        let frame = fitting(&request, &data);
        let mut broken = frame.clone();
        let bit = bit % (frame.len() * 8);
        broken[bit / 8] ^= 1 << (bit % 8);
        let found = request.find_last(&broken);
        let answered = matches!(found, Finding::Frame { verdict: Verdict::Answer | Verdict::Refused(_), .. });
        // data may hold a whole frame or end in E5, but a reading is not answered by what is inside its own answer
        prop_assert!(!answered, "{found:?}");
    }

    #[test]
    fn an_echo_is_skipped(request in any_request(), data in prop::collection::vec(any::<u8>(), 12..240)) {
        prop_assume!(answered(&request));
        let frame = fitting(&request, &data);
        let (found, before) = feed(&request, &[&request.wire(), &frame]);
        prop_assert_eq!(found, Some((frame, Verdict::Answer)));
        prop_assert_eq!(before, vec![Verdict::Echo]);
        // and a piece of it is no answer, whatever bytes it has
        let wire = request.wire();
        for cut in 0..wire.len() {
            let found = request.find(&wire[..cut]);
            prop_assert_eq!(found, Finding::NeedMore { noise: 0 });
            let found = request.find_last(&wire[..cut]);
            prop_assert!(matches!(found, Finding::NeedMore { .. }), "{:?}", found);
        }
    }

    #[test]
    fn random_bytes_never_panic(request in any_request(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for found in [request.find(&bytes), request.find_last(&bytes)] {
            match found {
                Finding::NeedMore { noise } => prop_assert!(noise <= bytes.len()),
                Finding::Frame { span, .. } => prop_assert!(span.start < span.end && span.end <= bytes.len()),
            }
        }
        let (found, _) = feed(&request, &[&bytes]);
        if request.reads() {
            prop_assert!(found.is_none_or(|(frame, _)| Frame::parse(&frame).is_ok()));
        }
        let _unused = request.readout(&bytes);
    }
}

#[test]
fn other_addresses_and_kinds_are_strays() {
    let data = [0u8; 12];
    let request = Request::read(5, true).unwrap();
    let foreign = (None, vec![Verdict::Foreign]);
    assert_eq!(feed(&request, &[&telegram(6, 0x72, &data)]), foreign);
    // a request of another master, and a late answer where an acknowledgement is due
    assert_eq!(feed(&request, &[&Request::reset(5).unwrap().wire()]), foreign);
    let reset = Request::reset(5).unwrap();
    assert_eq!(feed(&reset, &[&telegram(5, 0x72, &data)]), foreign);
    // a single character in a stray acknowledges nothing
    assert_eq!(feed(&reset, &[&telegram(5, 0x72, &[ACK; 40])]), foreign);
    let with_ack = telegram(5, 0x72, &[ACK; 40]);
    for cut in 0..with_ack.len() {
        assert_eq!(feed(&reset, &[&with_ack[..cut]]).0, None, "{cut}");
        let found = reset.find_last(&with_ack[..cut]);
        assert!(matches!(found, Finding::NeedMore { .. }), "{found:?}");
    }
    // everybody answers the test address
    let test = Request::read(254, true).unwrap();
    assert!(feed(&test, &[&telegram(6, 0x72, &data)]).0.is_some());
    let all = Request::read(255, true).unwrap();
    assert_eq!(feed(&all, &[&telegram(6, 0x72, &data)]), foreign);
    assert_eq!(all.answer_len_max(), 0);
}

#[test]
fn a_lone_single_character_answers_a_reading_only_at_the_deadline() {
    let request = Request::read(5, true).unwrap();
    assert_eq!(request.find(&[ACK]), Finding::NeedMore { noise: 0 });
    let span = 0..1;
    let verdict = Verdict::Answer;
    assert_eq!(request.find_last(&[ACK]), Finding::Frame { span, verdict });
    assert!(request.readout(&[ACK]).is_err());
    assert_eq!(request.find_last(&[0xFF, ACK]), Finding::NeedMore { noise: 1 });
    // and never stands in the way of the telegram behind it
    let answer = telegram(5, 0x72, &[0; 12]);
    assert_eq!(
        feed(&request, &[&[ACK], &answer]).0,
        Some((answer.clone(), Verdict::Answer))
    );
    let reset = Request::reset(5).unwrap();
    assert_eq!(
        feed(&reset, &[&[0xFF, 0x00, ACK]]).0,
        Some((vec![ACK], Verdict::Answer))
    );
    assert_eq!(feed(&reset, &[&[ACK, 0x00]]).0, None);
}

#[test]
fn at_253_the_header_says_who_answers() {
    let kam = |id| Identification {
        id,
        manufacturer: Manufacturer::of("KAM").unwrap(),
        version: 1,
        medium: 4,
    };
    let mask = Selection::parse("12345678.KAM").unwrap();
    let request = Request::read_selected(mask);
    let mine = telegram(17, 0x72, &header(kam(0x1234_5678)));
    assert_eq!(feed(&request, &[&mine]).0, Some((mine.clone(), Verdict::Answer)));
    let other = telegram(253, 0x72, &header(kam(0x1234_5679)));
    assert_eq!(feed(&request, &[&other]), (None, vec![Verdict::Foreign]));
    // the fixed structure tells the number alone, CI 78 nothing
    let fixed = telegram(253, 0x73, &[0x78, 0x56, 0x34, 0x12, 0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(feed(&request, &[&fixed]).0.is_some());
    assert_eq!(
        feed(&request, &[&telegram(253, 0x78, &[])]),
        (None, vec![Verdict::Foreign])
    );
    // half a header is nobody's
    assert_eq!(
        feed(&request, &[&telegram(253, 0x72, &[0x78, 0x56])]),
        (None, vec![Verdict::Foreign])
    );
    let refusal = telegram(253, 0x70, &[8]);
    assert_eq!(feed(&request, &[&refusal]).0, Some((refusal, Verdict::Refused(8))));
    assert_ne!(
        request.subject(),
        Request::read_selected(Selection::parse("12345679.KAM").unwrap()).subject()
    );
}

#[test]
fn a_refusal_has_its_code() {
    let request = Request::read(5, true).unwrap();
    for code in 0..=9 {
        let frame = telegram(5, 0x70, &[code]);
        assert_eq!(feed(&request, &[&frame]).0, Some((frame, Verdict::Refused(code))));
    }
    let bare = telegram(5, 0x70, &[]);
    assert_eq!(feed(&request, &[&bare]).0, Some((bare, Verdict::Refused(0))));
}

#[test]
fn lying_lengths_hold_back_until_the_deadline_and_no_longer() {
    let request = Request::read(5, true).unwrap();
    let answer = telegram(5, 0x72, &[0; 12]);
    let bytes = [&[0x68, 0xF8, 0xF8, 0x68, 0x08, 5, 0x72][..], &answer].concat();
    assert_eq!(request.find(&bytes), Finding::NeedMore { noise: 0 });
    let span = 7..bytes.len();
    let verdict = Verdict::Answer;
    assert_eq!(request.find_last(&bytes), Finding::Frame { span, verdict });
    // two lengths that differ begin nothing
    let bytes = [&[0x68, 0x10, 0x11, 0x68][..], &answer].concat();
    assert!(matches!(
        request.find(&bytes),
        Finding::Frame {
            verdict: Verdict::Answer,
            ..
        }
    ));
}

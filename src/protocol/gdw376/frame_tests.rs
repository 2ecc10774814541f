//! What the frame promises, on random frames: round trip, every split, noise, single-bit flips.

use super::*;
use crate::base::hex;
use proptest::prelude::*;

pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    let data = prop::collection::vec(any::<u8>(), 2..300);
    (any::<u8>(), any::<[u8; 5]>(), 0..4u8, data).prop_map(|(control, address, bits, data)| {
        let frame = Frame::new(Control(control), Address::from_wire(address), data).unwrap();
        frame.in_dialect(Dialect::of(bits))
    })
}

/// Feeds bytes in pieces, drops noise and what was found, and returns all frames.
pub(crate) fn feed(pieces: &[&[u8]]) -> Vec<Frame> {
    let (mut buffer, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match find(&buffer) {
                Found::NeedMore { noise } => {
                    buffer.drain(..noise);
                    assert!(buffer.len() < FRAME_MAX, "holds more than a frame");
                    break;
                }
                Found::Frame { span, frame } => {
                    buffer.drain(..span.end);
                    frames.push(frame);
                }
            }
        }
    }
    frames
}

#[test]
fn the_worked_login_reads_and_writes() {
    let wire = hex::decode("68320032 0068C90344040000027100000100 8816".replace(' ', "").as_str()).unwrap();
    let frame = Frame::parse(&wire).unwrap();
    assert_eq!(frame.dialect, Dialect::Gdw376);
    assert_eq!(frame.control, Control::LINK_TEST);
    assert_eq!(frame.address.to_string(), "4403-00004");
    assert_eq!(frame.data(), [0x02, 0x71, 0, 0, 1, 0]);
    assert_eq!(frame.wire(), wire);
}

#[test]
fn faults_are_named() {
    let wire = hex::decode("683200320068C903440400000271000001008816").unwrap();
    let broken = |place: usize, byte: u8| {
        let mut wire = wire.clone();
        wire[place] = byte;
        Frame::parse(&wire).unwrap_err()
    };
    assert_eq!(broken(0, 0x69), FrameError::Start { place: 0, found: 0x69 });
    assert_eq!(broken(5, 0x16), FrameError::Start { place: 5, found: 0x16 });
    let lengths = FrameError::Lengths {
        first: 0x32,
        second: 0x36,
    };
    assert_eq!(broken(3, 0x36), lengths);
    assert_eq!(broken(19, 0x17), FrameError::End(0x17));
    let checksum = FrameError::Checksum {
        found: 0x89,
        computed: 0x88,
    };
    assert_eq!(broken(18, 0x89), checksum);
    assert_eq!(Frame::parse(&wire[..19]), Err(FrameError::Short { have: 19, need: 20 }));
    assert_eq!(Frame::parse(&wire[..3]), Err(FrameError::Short { have: 3, need: 16 }));
    let trailing = [wire.as_slice(), &[0]].concat();
    assert_eq!(Frame::parse(&trailing), Err(FrameError::Trailing { extra: 1 }));
    let empty = hex::decode("681A001A0068C90344040016").unwrap();
    assert_eq!(Frame::parse(&empty), Err(FrameError::Empty(6)));
    // lengths that lie in both places
    let mut long = wire.clone();
    (long[1], long[3]) = (0x36, 0x36);
    assert_eq!(Frame::parse(&long), Err(FrameError::Short { have: 20, need: 21 }));
    assert_eq!(Frame::new(Control(0), Address::new(1, 1), vec![0]), None);
    assert_eq!(Frame::new(Control(0), Address::new(1, 1), vec![0; DATA_MAX + 1]), None);
    let longest = Frame::new(Control(0), Address::new(1, 1), vec![7; DATA_MAX]).unwrap();
    assert_eq!(longest.wire().len(), FRAME_MAX);
    assert_eq!(Frame::parse(&longest.wire()), Ok(longest));
}

#[test]
fn a_frame_that_never_ends_gives_way_when_nothing_more_comes() {
    let frame = hex::decode("683200320068C903440400000271000001008816").unwrap();
    let torso = hex::decode("68FEFFFEFF68C9").unwrap();
    let bytes = [torso.as_slice(), &frame].concat();
    assert_eq!(find(&bytes), Found::NeedMore { noise: 0 });
    assert!(matches!(find_last(&bytes), Found::Frame { span, .. } if span == (7..27)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn frames_read_back(frame in any_frame()) {
        prop_assert_eq!(Frame::parse(&frame.wire()), Ok(frame));
    }

    #[test]
    fn every_split_gives_the_same_frames(one in any_frame(), two in any_frame(), first in 0usize..700, second in 0usize..700) {
        let bytes = [one.wire(), two.wire()].concat();
        let mut cuts = [first % (bytes.len() + 1), second % (bytes.len() + 1)];
        cuts.sort_unstable();
        let [a, b] = cuts;
        prop_assert_eq!(feed(&[&bytes[..a], &bytes[a..b], &bytes[b..]]), [one, two]);
    }

    #[test]
    fn a_frame_is_found_behind_noise(noise in prop::collection::vec(any::<u8>().prop_filter("no start", |b| *b != 0x68), 0..60), frame in any_frame(), tail in prop::collection::vec(0..0x68u8, 0..10)) {
        let bytes = [noise.as_slice(), &frame.wire(), &tail].concat();
        prop_assert_eq!(feed(&[&bytes]), [frame]);
    }

    #[test]
    fn no_single_bit_flip_is_taken_for_the_original(frame in any_frame(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut wire = frame.wire();
        let at = place.index(wire.len());
        wire[at] ^= 1 << bit;
        prop_assert_ne!(Frame::parse(&wire), Ok(frame));
    }

    #[test]
    fn random_bytes_never_panic_nor_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        for frame in feed(&bytes.chunks(7).collect::<Vec<_>>()) {
            prop_assert!(frame.wire().len() <= FRAME_MAX);
        }
        if let Found::NeedMore { noise } = find_last(&bytes) {
            prop_assert!(noise <= bytes.len());
        }
    }
}

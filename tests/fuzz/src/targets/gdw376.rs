//! Q/GDW 1376.1: frames in every split, messages, their units in both editions, messages of several frames.

use crate::input::{Input, piece};
use crate::line::{flipped, sum};
use crate::protocol::Finding;
use crate::protocol::gdw376::{
    Assembly, Confirmation, Edition, FRAME_MAX, FRAMES_MAX, Found, Frame, Message, Request, find, find_last,
};
use crate::seeds::{Seeds, frames};

/// The most bytes of a joined message here.
const MESSAGE_MAX: usize = 2048;

/// A frame of a dialect's two bits and what its length counts: control, address, data.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let (dialect, body) = bytes.split_first().unwrap_or((&2, &[]));
    let length = u16::try_from(body.len()).unwrap_or_default() << 2 | u16::from(dialect & 3);
    let [low, high] = length.to_le_bytes();
    [&[0x68, low, high, low, high, 0x68][..], body, &[sum(body), 0x16]].concat()
}

fn is_frame(bytes: &[u8]) -> bool {
    let [0x68, l0, l1, m0, m1, 0x68, body @ .., found, 0x16] = bytes else {
        return false;
    };
    let length = usize::from(u16::from_le_bytes([*l0, *l1]) >> 2);
    (l0, l1) == (m0, m1) && body.len() == length && sum(body) == *found
}

fn cut(bytes: &[u8], size: usize) -> Vec<Frame> {
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    let pieces = bytes.chunks(size).map(|piece| (piece, false)).chain([(&[][..], true)]);
    for (piece, last) in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match if last { find_last(&buffer) } else { find(&buffer) } {
                Found::NeedMore { noise } => {
                    assert!(noise <= buffer.len());
                    buffer.drain(..noise);
                    assert!(last || buffer.len() < FRAME_MAX, "{} bytes are held back", buffer.len());
                    break;
                }
                Found::Frame { span, frame } => {
                    let wire = &buffer[span.clone()];
                    assert!(is_frame(wire), "a wrong checksum: {wire:02X?}");
                    assert_eq!(frame.wire(), wire, "what was found is not what was said");
                    buffer.drain(..span.end);
                    out.push(frame);
                }
            }
        }
    }
    out
}

/// What a question makes of the data of a frame is one frame.
fn question(wire: &[u8], said: &Message) {
    let Ok(asked) = Request::parse(wire, Edition::E2013) else {
        return;
    };
    assert!(asked.answer_len(Edition::E2013) <= FRAME_MAX);
    let Ok(units) = said.units(Edition::E2013) else { return };
    if let Some(excerpt) = asked.excerpt(said.afn, &units) {
        let whole = 0..excerpt.len();
        assert!(matches!(asked.find(&excerpt), Finding::Frame { span, .. } if span == whole));
    }
}

fn message(frame: &Frame, assembly: &mut Assembly) {
    let Ok(message) = Message::of(frame) else { return };
    assert_eq!(message.frame().as_ref(), Some(frame), "a message is written as another");
    for edition in [Edition::E2009, Edition::E2013] {
        let Ok(units) = message.units(edition) else { continue };
        let mut end = 0;
        for unit in &units {
            assert!(unit.start >= end, "two units of the same bytes");
            end = unit.start + unit.data.len();
            assert_eq!(message.body.get(unit.start..end), Some(unit.data.as_slice()));
        }
    }
    question(&frame.wire(), &message);
    let _words = (message.link(), message.first_id(), message.first_data(), message.way());
    if let Ok(confirmation) = Confirmation::of(&message) {
        assert!(confirmation.denied().count() <= message.body.len() * 64);
    }
    if let Ok(Some(whole)) = assembly.push(message) {
        let bytes: usize = whole.iter().map(|message| message.body.len()).sum();
        assert!(!whole.is_empty() && whole.len() <= FRAMES_MAX && bytes <= MESSAGE_MAX);
        assert!(!assembly.is_open());
    }
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let size = usize::from(input.byte()).max(1);
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 8192 {
        match input.byte() % 4 {
            0 => stream.extend_from_slice(input.piece()),
            1 => {
                let bit = usize::from(input.word());
                stream.extend(flipped(&seal(input.piece()), bit));
            }
            _ => stream.extend(seal(input.piece())),
        }
    }
    let whole = cut(&stream, stream.len().max(1));
    assert_eq!(whole, cut(&stream, 1), "byte by byte it is something else");
    assert_eq!(
        whole,
        cut(&stream, size),
        "in pieces of {size} bytes it is something else"
    );
    let mut assembly = Assembly::new(MESSAGE_MAX);
    whole.iter().for_each(|frame| message(frame, &mut assembly));
}

pub(super) fn seeds(seeds: &mut Seeds) {
    for bytes in frames("gdw376.1") {
        seeds.add(&[&[3, 0], &piece(&bytes)]);
        let [_, low, _, _, _, _, body @ .., _, _] = bytes.as_slice() else {
            continue;
        };
        let content = [&[low & 3][..], body].concat();
        seeds.add(&[&[2, 2], &piece(&content)]);
        seeds.add(&[
            &[5, 2],
            &piece(&content),
            &[0],
            &piece(&[0x68; 4]),
            &[2],
            &piece(&content),
        ]);
    }
}

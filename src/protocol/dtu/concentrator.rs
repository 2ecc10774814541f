//! Concentrators of Q/GDW 1376.1 as peers of the device port: their login says who they are, and logins, heartbeats and
//! logouts are confirmed at once, which is what keeps them connected. All other frames are left to whoever asks.

use super::framing::{FramingDecoder, FramingItem};
use super::recogniser::{Recognition, Registration, RegistrationKind};
use crate::protocol::gdw376::{Address, Confirmation, Found, Frame, Link, Message, find};

/// The terminal numbers that are nobody and everybody.
const NO_TERMINAL: [u16; 2] = [0, 0xFFFF];

/// Whether the bytes begin with the head of a frame of less than 1 KiB. Text cannot: the high byte of such a length is
/// below 10.
pub(super) fn begins(buffer: &[u8]) -> bool {
    matches!(buffer, [0x68, a, b, c, d, 0x68, ..] if (a, b) == (c, d) && *b < 0x10)
}

/// Who it is, once its first frame is whole. A terminal that believes itself logged in begins with a heartbeat or with a
/// report, which names it as well.
pub(super) fn recognise(buffer: &[u8]) -> Recognition {
    let (span, frame) = match find(buffer) {
        Found::NeedMore { noise: 0 } => return Recognition::NeedMore,
        // a head whose sum was wrong
        Found::NeedMore { noise } => {
            return Recognition::Skip {
                len: noise,
                heartbeat: false,
            };
        }
        Found::Frame { span, frame } => (span, frame),
    };
    let skip = |len| Recognition::Skip { len, heartbeat: false };
    if span.start > 0 {
        return skip(span.start);
    }
    let address = frame.address;
    if !frame.control.is_from_terminal() || NO_TERMINAL.contains(&address.terminal) {
        return skip(span.end);
    }
    let answer = said(&frame).map(|(_, answer)| answer);
    Recognition::Found(Registration {
        sn: address.to_string(),
        kind: RegistrationKind::Gdw376,
        len: if answer.is_some() { span.end } else { 0 },
        answer,
        decoder: FramingDecoder::Gdw376(Decoder::new(address)),
    })
}

/// What a frame says about the link, and the confirmation that it wants.
fn said(frame: &Frame) -> Option<(Link, Vec<u8>)> {
    let message = Message::of(frame).ok()?;
    let link = message.link()?;
    Some((link, Confirmation::All.to(&message).frame()?.wire()))
}

/// Cuts frames out of what a concentrator sends. Holds at most one that is not whole.
#[derive(Clone, Debug)]
pub struct Decoder {
    address: Address,
    buffer: Vec<u8>,
}

impl Decoder {
    /// For the terminal that logged in.
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            buffer: Vec::new(),
        }
    }

    /// Takes bytes off the wire.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<FramingItem> {
        self.buffer.extend_from_slice(bytes);
        let mut items = Vec::new();
        loop {
            match find(&self.buffer) {
                Found::NeedMore { noise } => {
                    self.drop_noise(noise, &mut items);
                    return items;
                }
                Found::Frame { span, frame } => {
                    self.drop_noise(span.start, &mut items);
                    let wire: Vec<u8> = self.buffer.drain(..span.len()).collect();
                    match said(&frame) {
                        Some(_) if !frame.address.is_terminal_of(self.address) => {
                            items.push(FramingItem::OtherId(frame.address.to_string()));
                        }
                        Some((_, answer)) => {
                            items.push(FramingItem::Heartbeat(wire));
                            items.push(FramingItem::Reply(answer));
                        }
                        None => items.push(FramingItem::Line(wire)),
                    }
                }
            }
        }
    }

    fn drop_noise(&mut self, len: usize, items: &mut Vec<FramingItem>) {
        if len > 0 {
            items.push(FramingItem::Noise(self.buffer.drain(..len).collect()));
        }
    }

    /// How many bytes wait for the rest of a frame.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use crate::protocol::gdw376::{Edition, FRAME_MAX, Terminal};
    use proptest::prelude::*;

    fn wire(message: &Message) -> Vec<u8> {
        message.frame().unwrap().wire()
    }

    fn terminal(number: u16) -> Terminal {
        Terminal::new(Address::new(0x4403, number), Edition::E2013)
    }

    #[test]
    fn the_first_frame_says_who_it_is() {
        let login = hex::decode("683200320068C900023412000271000001008516").unwrap();
        for cut in 6..login.len() {
            assert!(matches!(recognise(&login[..cut]), Recognition::NeedMore), "{cut}");
        }
        let Recognition::Found(found) = recognise(&login) else {
            panic!()
        };
        assert_eq!(
            (found.sn.as_str(), found.kind.name(), found.len),
            ("0200-04660", "gdw376.1", 20)
        );
        // the confirmation of the shared vectors
        let confirmed = hex::decode("6832003200680B0002341200006100000100B516").unwrap();
        assert_eq!(found.answer, Some(confirmed.clone()));
        // a report names its sender, and stays to be read
        let answer = hex::decode("684A004A00688800000100020C60000002004948111552151716").unwrap();
        let Recognition::Found(found) = recognise(&answer) else {
            panic!()
        };
        assert_eq!((found.sn.as_str(), found.len, found.answer), ("0000-00001", 0, None));
        // a master's frame, nobody's, and a broken one are no registration
        for (mut bytes, change) in [
            (confirmed, None),
            (login.clone(), Some((9, 0x00))),
            (login, Some((18, 0x00))),
        ] {
            if let Some((place, byte)) = change {
                bytes[place] = byte;
                bytes[9 + 1] = if place == 9 { 0 } else { bytes[10] };
                if place == 9 {
                    bytes[18] = bytes[6..18].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                }
            }
            assert!(
                matches!(recognise(&bytes), Recognition::Skip { heartbeat: false, .. }),
                "{bytes:02X?}"
            );
        }
        assert!(!begins(b"hababhababh"));
    }

    #[test]
    fn heartbeats_are_confirmed_and_other_frames_left() {
        let mut own = terminal(4);
        let mut decoder = Decoder::new(own.address());
        let heartbeat = own.say(Link::Heartbeat);
        let report = hex::decode("684A004A00688803440400000C60000002004948111552155F16").unwrap();
        let bytes = [&[0xFE][..], &wire(&heartbeat), &report].concat();
        let items = decoder.feed(&bytes);
        assert_eq!(
            items,
            [
                FramingItem::Noise(vec![0xFE]),
                FramingItem::Heartbeat(wire(&heartbeat)),
                FramingItem::Reply(wire(&Confirmation::All.to(&heartbeat))),
                FramingItem::Line(report),
            ]
        );
        let stranger = terminal(5).say(Link::Login);
        assert_eq!(
            decoder.feed(&wire(&stranger)),
            [FramingItem::OtherId("4403-00005".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_nor_grow(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut decoder = Decoder::new(Address::new(1, 1));
            for piece in bytes.chunks(11) {
                decoder.feed(piece);
                prop_assert!(decoder.pending() < FRAME_MAX);
            }
            if begins(&bytes) {
                recognise(&bytes);
            }
        }

        #[test]
        fn every_split_gives_the_same_items(cuts in prop::collection::vec(0usize..70, 0..5)) {
            let mut own = terminal(4);
            let bytes = [wire(&own.say(Link::Login)), wire(&own.say(Link::Heartbeat)), wire(&own.say(Link::Logout))].concat();
            let whole = Decoder::new(own.address()).feed(&bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
            cuts.sort_unstable();
            let mut decoder = Decoder::new(own.address());
            let mut items = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                items.extend(decoder.feed(&bytes[from..cut]));
                from = cut;
            }
            prop_assert_eq!(items, whole);
        }
    }
}

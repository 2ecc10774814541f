//! Terminals of DL/T 698.45 as peers of the device port: the address of their login says who they are. Logins, heartbeats and
//! logouts want an answer with our time, which this floor does not know: they are given out as heartbeats, and the
//! connection answers them. All other frames are left to whoever asks.

use super::framing::{FramingDecoder, FramingItem};
use super::recogniser::{Recognition, Registration, RegistrationKind};
use crate::protocol::dlt698::{self, Address, Apdu, Frame, LinkRequest, Next, next};

/// Whether the bytes may be, or begin, a frame that a terminal sends of its own accord. Text cannot: it has no such third and
/// fourth byte.
pub(super) fn begins(buffer: &[u8]) -> bool {
    match buffer {
        [0x68, _, high, control, ..] => {
            *high < 0x40
                && control & 0xC0 == 0x80
                && matches!(next(buffer), Next::NeedMore { noise: 0 } | Next::Frame { .. })
        }
        _ => false,
    }
}

/// Who it is, once its first frame is whole. A terminal that believes itself logged in begins with a heartbeat or with a
/// report, which names it as well.
pub(super) fn recognise(buffer: &[u8]) -> Recognition {
    let skip = |len| Recognition::Skip { len, heartbeat: false };
    let (span, frame) = match next(buffer) {
        Next::NeedMore { noise: 0 } => return Recognition::NeedMore,
        Next::NeedMore { noise } => return skip(noise),
        Next::Frame { span, frame } => (span, frame),
    };
    let len = span.end - span.start;
    if span.start > 0 && buffer.first() != Some(&dlt698::PREAMBLE) {
        return skip(span.start);
    }
    let address = frame.address;
    let is_its_own = frame.control.is_from_device() && !frame.control.is_of_ours();
    if !is_its_own || !is_terminal(&address) {
        return skip(len.max(1));
    }
    Recognition::Found(Registration {
        sn: address.to_string(),
        kind: RegistrationKind::Dlt698,
        len: if link_request(&frame).is_some() { span.end } else { 0 },
        answer: None,
        decoder: FramingDecoder::Dlt698(Decoder::new(address)),
    })
}

/// One device's digits, not all zeros, and of the device as a whole.
fn is_terminal(address: &Address) -> bool {
    address.is_device() && address.logical() == 0 && address.printed().iter().any(|byte| *byte != 0)
}

/// What a frame says about the link.
pub fn link_request(frame: &Frame) -> Option<LinkRequest> {
    match Apdu::parse(frame.data()) {
        Ok(Apdu::LinkRequest(request)) if frame.control.is_from_device() && frame.control.function() == 1 => {
            Some(request)
        }
        _ => None,
    }
}

/// Cuts frames out of what a terminal sends. Holds at most one that is not whole.
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
            match next(&self.buffer) {
                Next::NeedMore { noise } => {
                    self.drop_noise(noise, &mut items);
                    return items;
                }
                Next::Frame { span, frame } => {
                    self.drop_noise(span.start, &mut items);
                    let wire: Vec<u8> = self.buffer.drain(..span.len()).collect();
                    match link_request(&frame) {
                        Some(_) if frame.address != self.address => {
                            items.push(FramingItem::OtherId(frame.address.to_string()));
                        }
                        Some(_) => items.push(FramingItem::Heartbeat(wire)),
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
    use crate::protocol::dlt698::terminal::Device;
    use crate::protocol::dlt698::{Control, FRAME_MAX, LinkKind, Piid};
    use proptest::prelude::*;

    /// A captured login (DL/T 698.45 terminal, 2025-04-03).
    const LOGIN: &str = "681E008105111111111111009E76010000 00B407E90403040F14050000E8B016";

    fn login() -> Vec<u8> {
        hex::decode(&LOGIN.replace(' ', "")).unwrap()
    }

    fn own(kind: LinkKind) -> Vec<u8> {
        let at = "2026-11-21T08:00:00".parse().unwrap();
        let device = Device::new(Address::parse("112233445566").unwrap(), 1024);
        device.link(Piid::new(1), kind, 60, at).unwrap().wire()
    }

    #[test]
    fn the_first_frame_says_who_it_is() {
        let login = login();
        for cut in 4..login.len() {
            assert!(begins(&login[..cut]), "{cut}");
            assert!(matches!(recognise(&login[..cut]), Recognition::NeedMore), "{cut}");
        }
        let Recognition::Found(found) = recognise(&login) else {
            panic!()
        };
        assert_eq!(
            (found.sn.as_str(), found.kind.name(), found.len, found.answer),
            ("111111111111", "dlt698.45", 32, None)
        );
        // a head whose sum is wrong, a question of ours, an answer, text
        let mut broken = login.clone();
        broken[8] ^= 1;
        assert!(!begins(&broken));
        let question = Frame::new(Control::QUESTION, Address::parse("1").unwrap(), 1, vec![1]).unwrap();
        let answer = Frame::new(Control::ANSWER, Address::parse("1").unwrap(), 1, vec![1]).unwrap();
        for other in [question.wire(), answer.wire(), b"hababhababh".to_vec()] {
            assert!(!begins(&other), "{other:02X?}");
        }
        // nobody's login
        for text in ["0", "AAAAAAAAAAAA", "12/1"] {
            let device = Device::new(Address::parse(text).unwrap(), 1024);
            let frame = device.link(
                Piid::new(1),
                LinkKind::Login,
                60,
                "2026-11-21T08:00:00".parse().unwrap(),
            );
            let wire = frame.unwrap().wire();
            assert!(
                matches!(recognise(&wire), Recognition::Skip { heartbeat: false, .. }),
                "{text}"
            );
        }
        // a report names its sender, and stays to be read
        let report = Frame::new(Control::REPORT, Address::parse("5").unwrap(), 0, vec![0x88]).unwrap();
        let Recognition::Found(found) = recognise(&report.wire()) else {
            panic!()
        };
        assert_eq!((found.sn.as_str(), found.len), ("000000000005", 0));
    }

    #[test]
    fn links_are_heartbeats_and_other_frames_are_left() {
        let mut decoder = Decoder::new(Address::parse("112233445566").unwrap());
        let answer = Frame::new(Control::ANSWER, decoder.address, 1, vec![0x85, 1])
            .unwrap()
            .wire();
        let bytes = [&[0x55][..], &own(LinkKind::Heartbeat), &answer].concat();
        assert_eq!(
            decoder.feed(&bytes),
            [
                FramingItem::Noise(vec![0x55]),
                FramingItem::Heartbeat(own(LinkKind::Heartbeat)),
                FramingItem::Line(answer),
            ]
        );
        assert_eq!(
            decoder.feed(&login()),
            [FramingItem::OtherId("111111111111".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_nor_grow(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut decoder = Decoder::new(Address::parse("1").unwrap());
            for piece in bytes.chunks(11) {
                decoder.feed(piece);
                prop_assert!(decoder.pending() < FRAME_MAX + 32);
            }
            if begins(&bytes) {
                recognise(&bytes);
            }
        }

        #[test]
        fn every_split_gives_the_same_items(cuts in prop::collection::vec(0usize..100, 0..5)) {
            let kinds = [LinkKind::Login, LinkKind::Heartbeat, LinkKind::Logout];
            let bytes = kinds.map(own).concat();
            let address = Address::parse("112233445566").unwrap();
            let whole = Decoder::new(address).feed(&bytes);
            prop_assert_eq!(whole.len(), 3);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % bytes.len()).collect();
            cuts.sort_unstable();
            let mut decoder = Decoder::new(address);
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

//! The framings between a DTU and its server, behind one incremental decoder and one encoder.

use super::{concentrator, ddp, prot, terminal};
use std::borrow::Cow;

/// How a DTU wraps the line's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Framing {
    /// Not at all.
    #[default]
    Transparent,
    /// Hongdian DDP packets.
    HongdianDdp,
    /// Four-Faith PROT escaping.
    FourFaithProt,
    /// Not a line's bytes at all, but frames of a concentrator.
    Gdw376,
    /// The same of a terminal of DL/T 698.45.
    Dlt698,
}

impl Framing {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transparent => "transparent",
            Self::HongdianDdp => "hongdian_ddp",
            Self::FourFaithProt => "four_faith_prot",
            Self::Gdw376 => "gdw376.1",
            Self::Dlt698 => "dlt698.45",
        }
    }

    /// Whether the peer has meters of its own behind it, instead of a line.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Gdw376 | Self::Dlt698)
    }
}

/// What a framing decoder found, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramingItem {
    /// Bytes from the line.
    Line(Vec<u8>),
    /// A heartbeat of the framing (a repeated register packet, FE), whole.
    Heartbeat(Vec<u8>),
    /// Bytes to write back at once (the acknowledgement of a register packet).
    Reply(Vec<u8>),
    /// Bytes that belong to no packet.
    Noise(Vec<u8>),
    /// A register packet that names another DTU.
    OtherId(String),
}

/// Takes the framing off a byte stream. Holds at most one unfinished packet ([`ddp::PACKET_LEN_MAX`]).
#[derive(Clone, Debug)]
pub enum FramingDecoder {
    /// Passes through.
    Transparent,
    /// Hongdian DDP with the id that registered.
    Ddp {
        /// Packet decoder.
        decoder: ddp::Decoder,
        /// The id.
        id: ddp::Id,
    },
    /// Four-Faith PROT.
    Prot(prot::Decoder),
    /// A concentrator.
    Gdw376(concentrator::Decoder),
    /// A terminal of DL/T 698.45.
    Dlt698(terminal::Decoder),
}

impl FramingDecoder {
    /// Which framing this is.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Transparent => Framing::Transparent,
            Self::Ddp { .. } => Framing::HongdianDdp,
            Self::Prot(_) => Framing::FourFaithProt,
            Self::Gdw376(_) => Framing::Gdw376,
            Self::Dlt698(_) => Framing::Dlt698,
        }
    }

    /// Takes bytes off the wire.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<FramingItem> {
        match self {
            Self::Transparent if bytes.is_empty() => Vec::new(),
            Self::Transparent => vec![FramingItem::Line(bytes.to_vec())],
            Self::Ddp { decoder, id } => decoder
                .feed(bytes)
                .into_iter()
                .flat_map(|item| ddp_items(item, *id))
                .collect(),
            Self::Prot(decoder) => decoder.feed(bytes),
            Self::Gdw376(decoder) => decoder.feed(bytes),
            Self::Dlt698(decoder) => decoder.feed(bytes),
        }
    }

    /// Puts the framing around bytes for the line.
    pub fn wrap<'a>(&self, payload: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::Transparent | Self::Gdw376(_) | Self::Dlt698(_) => payload.into(),
            Self::Ddp { id, .. } => payload
                .chunks(ddp::PAYLOAD_LEN_MAX)
                .flat_map(|chunk| ddp::encode(ddp::SERVER_DATA, *id, chunk))
                .collect(),
            Self::Prot(_) => prot::escape(payload).into(),
        }
    }

    /// How many bytes wait for the rest of a packet.
    pub fn pending(&self) -> usize {
        match self {
            Self::Transparent => 0,
            Self::Ddp { decoder, .. } => decoder.pending(),
            Self::Prot(decoder) => decoder.pending(),
            Self::Gdw376(decoder) => decoder.pending(),
            Self::Dlt698(decoder) => decoder.pending(),
        }
    }
}

fn ddp_items(item: ddp::Item, own: ddp::Id) -> Vec<FramingItem> {
    let packet = match item {
        ddp::Item::Noise(bytes) => return vec![FramingItem::Noise(bytes)],
        ddp::Item::Packet(packet) => packet,
    };
    match packet.kind {
        ddp::REGISTER if packet.id != own => vec![FramingItem::OtherId(packet.id.show())],
        // a repeated register packet wants the same answer as the first
        ddp::REGISTER => vec![
            FramingItem::Heartbeat(packet.encode()),
            FramingItem::Reply(ddp::register_ack(own)),
        ],
        _ if packet.id != own => vec![FramingItem::Noise(packet.encode())],
        ddp::DATA => vec![FramingItem::Line(packet.payload)],
        _ => vec![FramingItem::Heartbeat(packet.encode())],
    }
}

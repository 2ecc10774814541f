//! DL/T 698.45-2017, the object-oriented protocol of Chinese meters and concentrators: the pure codec.
//!
//! A frame ([`Frame`], found among anything by [`next`]) carries an [`Apdu`], or one part of it ([`Joiner`]). A question
//! of the head end is a [`Request`]; it tells its answer from everything else on the link. A terminal that dials in
//! speaks first: [`LinkRequest`], answered by [`link_response`]. Both sides are read and written, because the simulator
//! stands on the other side ([`terminal`]). Knows no meter model, no socket, no clock. Facts: DL/T 698.45-2017.

mod address;
mod answer;
mod apdu;
pub mod archive;
mod dar;
mod data;
pub mod event;
mod explain;
mod explain_items;
mod frame;
mod guard;
mod link;
mod matching;
mod moments;
pub mod objects;
pub mod relay;
mod request;
mod security;
mod segment;
mod table;
pub mod terminal;
mod values;
mod wire;

pub use address::{Address, AddressError, Kind, Tsa};
pub use answer::{AnswerError, BLOCKS_MAX, Refusal};
pub use apdu::*;
pub use dar::Dar;
pub use data::{AtTime, Between, Csd, Data, Equal, Last, Ms, Region, Road, Rsd, Span};
pub use explain::explain;
pub use frame::{
    Control, FRAME_MAX, Frame, FrameError, Next, PREAMBLE, PREAMBLES_MAX, checksum, frames, front_len, next, open,
};
pub use link::{confirm_part_of_report, confirm_report, link_response};
pub use matching::Mismatch;
pub use moments::{Date, DateTime, DateTimeS, Time};
pub use request::{ADDRESS, CLIENT, CLOCK, FROZEN_AT, ROW_OF, Request, RequestError, STORED_AT, TASK_ROWS};
pub use security::{Clear, KeyProvider, Revealed, SecurityError};
pub use segment::{Joined, Joiner, Part, Segment, SegmentError, split};
pub use table::{Row, Table};
pub use values::{BitString, Comdcb, Float32, Float64, Oad, Omd, ScalerUnit, Sid, SidMac, Text, Ti};
pub use wire::{APDU_MAX, CodecError, DEPTH_MAX, ELEMENTS_MAX, Many, Octets};

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod terminal_tests;
#[cfg(test)]
mod vector_tests;

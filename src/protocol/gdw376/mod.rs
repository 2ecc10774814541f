//! Q/GDW 1376.1-2013 (and its kin Q/GDW 376.1-2009, DL/T 698.41): the pure codec of what concentrators and other terminals
//! speak with a master station.
//!
//! ```text
//! 68 L L L L 68 C A1 A1 A2 A2 A3 AFN SEQ | DA DA DT DT data .. | PW or EC  Tp | CS 16
//!    \_ length << 2 | 2, twice   \_ region, terminal, master     \_ by flags    \_ sum from C on
//! ```
//!
//! [`find`] cuts frames out of a stream; [`Message`] is what a frame says; [`Assembly`] joins the frames of one message;
//! [`Request`] is one question, and its `answer` the only way from frames to values: what was not asked is not read.
//! [`plan::questions`] asks for many points and items with the fewest frames. [`Confirmation`] is the master's word too,
//! to logins, heartbeats and reports. [`Terminal`] is the other side, for the simulator. Frames that move a relay are made
//! in [`relay`] alone. Knows no meter model, no socket, no clock.

mod address;
mod afn;
mod answer;
pub mod archive;
mod assembly;
mod confirm;
mod control;
pub mod event;
pub mod event_detail;
mod explain;
pub mod format;
pub mod forward;
mod frame;
mod items;
pub mod layout;
mod message;
pub mod plan;
mod point;
mod question;
pub mod relay;
mod report;
mod request;
mod terminal;

pub use address::{Address, AddressError};
pub use afn::Afn;
pub use answer::{Answer, Mismatch, Said};
pub use archive::ArchiveMeter;
pub use assembly::{Assembly, AssemblyError, FRAMES_MAX};
pub use confirm::{Confirmation, ConfirmationError};
pub use control::{Control, Seq};
pub use explain::explain;
pub use frame::{DATA_MAX, Dialect, FRAME_MAX, Found, Frame, FrameError, find, find_last};
pub use items::{Edition, Way, layout as item_layout};
pub use message::{
    Advance, EventCounters, Link, Message, MessageError, Password, TimeTag, UNITS_MAX, Unit, UnitError, advance,
};
pub use point::{Fn, ITEM_MAX, Id, POINT_MAX, Pn, UnitId, UnitIdError};
pub use question::{ABSENT, DENIED, NO_TERMINAL, ParseError, ask_len};
pub use report::{Clock, Replays, clock};
pub use request::{Ask, Request, RequestError};
pub use terminal::{Spoken, Terminal};

#[cfg(test)]
mod vector_tests;
#[cfg(test)]
use explain::text_of as explain_text;

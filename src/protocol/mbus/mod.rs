//! M-Bus on wires: the pure codec of the link layer of EN 13757-2 and the application layer of EN 13757-3.
//!
//! [`Request`] is one question of the master; its `find` tells the answer from everything else that a line may carry;
//! [`Readout`] is what the answers say, as [`Record`]s with exact decimals; [`Search`] finds the secondary addresses of
//! a line. Frames and records are read and written, because the simulator stands on the other side of the line.
//! What a DIF and VIF mean comes from the crate `m-bus-application-layer` (the record layer of m-bus-parser); frames,
//! headers and the data fields are read here. Knows no meter, no socket, no clock.

mod address;
mod answer;
mod explain;
mod find;
mod fixed;
mod frame;
mod header;
mod record;
mod request;
mod search;
mod slave;
mod value;
mod vif;
pub mod write;

#[cfg(test)]
mod corpus_tests;

pub use address::{
    AddressError, BROADCAST, Identification, Manufacturer, NETWORK, PRIMARY_MAX, Selection, TEST, medium_name,
};
pub use answer::{AnswerError, Body as AnswerBody, Readout, Telegram, error_name};
pub use explain::explain;
pub use frame::{ACK, FRAME_MAX, Frame, FrameError, checksum};
pub use header::{Header, Status};
pub use record::{Function, Record, RecordFault, Records};
pub use request::{Baud, Body, Request, RequestError, TELEGRAMS_MAX};
pub use search::{PROBES_MAX, Search, SearchHeard, SearchStep};
pub use slave::{Heard, hear};
pub use value::{Date, DateTime, Value, ValueFault};
pub use vif::{Class, Mark, Unit};

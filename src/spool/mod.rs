//! The durable local log in front of PostgreSQL, and the frame recorder beside it.
//!
//! A poll's outcome is appended ([`SpoolHandle`], a [`ReadingSink`](crate::port::ledger::ReadingSink)); its receipt
//! comes after the fsync that covers it. One reader ([`Drain`]) hands the durable records out in order and is told what
//! has been committed elsewhere; covered segments are then deleted. Must not know sqlx, sockets or actix.
//!
//! Read on: `record` (bytes of a segment), `codec` (bytes of a record), `writer`, `reader`, `recovery`, `cursor`.

mod codec;
mod cursor;
mod drain;
mod files;
mod handle;
mod os_disk;
mod reader;
mod record;
mod recorder;
mod recovery;
mod ring;
mod room;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

pub use drain::Drain;
pub use handle::{Receipt, Spool, SpoolHandle, Worker};
pub use os_disk::OsDisk;
pub use recorder::{Recorder, RecorderSettings};
pub use recovery::SpoolError;
pub use room::{SpoolSettings, SpoolState, SpoolStats};

//! The frame recorder's records: a frame linked to the one before it, and the saved index.

use super::{Field, Result, decode, encode};
use crate::base::bytes::Reader;
use crate::base::ids::DtuId;
use crate::port::frames::RawFrame;

/// A recorded frame, and where the same DTU's frame before it lies (segment, offset), as one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::spool) struct LinkedFrame {
    pub(in crate::spool) before: Option<(u64, u64)>,
    pub(in crate::spool) frame: RawFrame,
}

impl Field for (u64, u64) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok((u64::get(from)?, u64::get(from)?))
    }
}

fields!(LinkedFrame { before, frame });

/// The body of a recorded frame.
pub(in crate::spool) fn encode_frame(frame: &LinkedFrame) -> Vec<u8> {
    encode(frame)
}

/// Reads a recorded frame's body.
pub(in crate::spool) fn decode_frame(body: &[u8]) -> Result<LinkedFrame> {
    decode(body)
}

/// Where each DTU's newest frame lies, and the newest id: (id, (DTU, (segment, offset))).
pub(in crate::spool) type Newest = (u64, Vec<(DtuId, (u64, u64))>);

impl Field for (DtuId, (u64, u64)) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok((Field::get(from)?, Field::get(from)?))
    }
}

impl Field for Newest {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok((Field::get(from)?, Field::get(from)?))
    }
}

/// The content of a recorder's index file.
pub(in crate::spool) fn encode_newest(newest: &Newest) -> Vec<u8> {
    encode(newest)
}

/// Reads an index file.
pub(in crate::spool) fn decode_newest(body: &[u8]) -> Result<Newest> {
    decode(body)
}

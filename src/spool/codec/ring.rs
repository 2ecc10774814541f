//! The frame recorder's records: a frame linked to the one before it, and the saved index.

use super::{Field, Result, VERSION, decode, encode, wrong};
use crate::base::bytes::Reader;
use crate::base::ids::DtuId;
use crate::port::field::Priority;
use crate::port::frames::{RawFrame, Turn, TurnEnding};

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

codes!("priority" Priority {
    Control = 1, Money = 2, OnDemand = 3, Settlement = 4, Scheduled = 5, BackFill = 6, Discovery = 7,
});
codes!("ending of a turn" TurnEnding {
    Timeout = 1, Answered = 2, Refused = 3, SessionLost = 4, Endless = 5, Unfit = 6, Sent = 7,
});

fields!(Turn {
    priority,
    waited_ms,
    held_ms,
    ending
});

/// The turn stands at the end, where there is one: rings written before turns were known go on being read.
impl Field for LinkedFrame {
    fn put(&self, out: &mut Vec<u8>) {
        put_linked(self.before, &self.frame, out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let before = Field::get(from)?;
        let mut frame = RawFrame::get(from)?;
        if !from.is_empty() {
            frame.turn = Some(Field::get(from)?);
        }
        Ok(Self { before, frame })
    }
}

fn put_linked(before: Option<(u64, u64)>, frame: &RawFrame, out: &mut Vec<u8>) {
    before.put(out);
    frame.put(out);
    if let Some(turn) = &frame.turn {
        turn.put(out);
    }
}

/// The body of a recorded frame, in place of what `out` held.
pub(in crate::spool) fn encode_frame(before: Option<(u64, u64)>, frame: &RawFrame, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    put_linked(before, frame, out);
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

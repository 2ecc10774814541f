//! Raw frames: evidence. Recorded to a local ring; a stranger can check a reading against them.

use crate::base::bytes::FrameBytes;
use crate::base::ids::{ConnectionId, DtuId, FrameId, FrameRange, MeterId, PollId};
use crate::exchange::evidence::Evidence;
pub use crate::exchange::turn::{Turn, TurnEnding};
use crate::exchange::visit::{LineFrame, LineFrameKind};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// Direction and fate of raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// We wrote it.
    Request,
    /// The accepted answer of a request.
    Answer,
    /// The device's refusal of a request.
    Refusal,
    /// A valid frame that was nobody's answer.
    Stray,
    /// Bytes that form no frame.
    Noise,
    /// A registration package.
    Registration,
    /// A heartbeat package.
    Heartbeat,
}

/// Raw bytes from or to a DTU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFrame {
    /// When, our clock.
    pub at: DateTime<Utc>,
    /// The DTU, if known yet.
    pub dtu: Option<DtuId>,
    /// The connection.
    pub connection: ConnectionId,
    /// The meter that was asked, if any.
    pub meter: Option<MeterId>,
    /// The poll, if any.
    pub poll: Option<PollId>,
    /// What it is.
    pub kind: FrameKind,
    /// The protocol's name, or empty for registration, heartbeat and noise.
    pub protocol: Cow<'static, str>,
    /// The bytes.
    pub bytes: FrameBytes,
    /// Of a question that was asked in its turn on a line. The recorder keeps it; evidence in the database has none.
    #[serde(default)]
    pub turn: Option<Turn>,
}

/// A raw frame that has been given its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFrame {
    /// The id.
    pub id: FrameId,
    /// The frame.
    #[serde(flatten)]
    pub frame: RawFrame,
}

/// Takes raw frames. Never blocks and never fails: when its queue is full, frames are counted as dropped.
pub trait FrameRecorder: Send + Sync {
    /// Gives the frames consecutive ids at once and records them in the background.
    fn record(&self, frames: Vec<RawFrame>) -> FrameRange;
}

/// Why frames could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("frame log: {0}")]
pub struct FrameLogError(pub String);

/// Looks into the recorded ring. Blocking; call it from a blocking thread.
pub trait FrameLog: Send + Sync {
    /// Walks over the frames of a DTU, newest first, older than `before` if given, as long as `each` says so.
    ///
    /// # Errors
    /// [`FrameLogError`] when the ring cannot be read.
    fn walk(
        &self,
        dtu: DtuId,
        before: Option<FrameId>,
        each: &mut dyn FnMut(RecordedFrame) -> ControlFlow<()>,
    ) -> Result<(), FrameLogError>;

    /// The newest frames of a DTU, newest first, older than `before` if given; at most `limit`.
    ///
    /// # Errors
    /// [`FrameLogError`] when the ring cannot be read.
    fn recent(&self, dtu: DtuId, before: Option<FrameId>, limit: usize) -> Result<Vec<RecordedFrame>, FrameLogError> {
        let mut found = Vec::new();
        if limit > 0 {
            self.walk(dtu, before, &mut |frame| {
                found.push(frame);
                if found.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        Ok(found)
    }

    /// One frame, if it is still in the ring.
    ///
    /// # Errors
    /// [`FrameLogError`] when the ring cannot be read.
    fn get(&self, id: FrameId) -> Result<Option<RecordedFrame>, FrameLogError>;
}

/// Explains raw frames, as `polyphase decode` does; never fails: what does not decode is explained as such.
pub trait FrameExplainer: Send + Sync {
    /// The explanation as the API shows it: items, checksum verdict, the byte span of each field; for a frame that does
    /// not decode `{"error": …, "offset": …}`.
    fn explain(&self, frame: &RawFrame) -> serde_json::Value;
}

impl From<LineFrameKind> for FrameKind {
    fn from(kind: LineFrameKind) -> Self {
        match kind {
            LineFrameKind::Request => Self::Request,
            LineFrameKind::Answer => Self::Answer,
            LineFrameKind::Refusal => Self::Refusal,
            LineFrameKind::Stray => Self::Stray,
            LineFrameKind::Noise => Self::Noise,
        }
    }
}

impl RecordedFrame {
    /// A frame of a visit, with the DTU whose line it was on.
    pub fn of(evidence: Evidence, dtu: DtuId) -> Self {
        let Evidence { id, connection, frame } = evidence;
        Self {
            id,
            frame: RawFrame::of(frame, Some(dtu), connection),
        }
    }
}

impl RawFrame {
    /// Bytes on a line, with whose they are.
    pub fn of(frame: LineFrame, dtu: Option<DtuId>, connection: ConnectionId) -> Self {
        Self {
            at: frame.at,
            dtu,
            connection,
            meter: frame.meter.filter(|meter| *meter != MeterId::NOBODY),
            poll: frame.poll,
            kind: frame.kind.into(),
            protocol: frame.protocol.into(),
            bytes: frame.bytes,
            turn: frame.turn,
        }
    }
}

impl FrameKind {
    /// Whether it went to the field or came from there.
    pub fn direction(self) -> &'static str {
        match self {
            Self::Request => "sent",
            _ => "received",
        }
    }
}

//! Joining the frames of a message: FIR, FIN and the running number (Q/GDW 1376.1-2013, 6.2.3).

use super::message::Message;

/// The most frames that one message may have.
pub const FRAMES_MAX: usize = 256;

/// Frames of a message that has not ended.
#[derive(Clone, Debug)]
pub struct Assembly {
    bytes_max: usize,
    bytes: usize,
    frames: Vec<Message>,
}

/// Why a frame does not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// It continues what never began.
    #[error("frame {0} continues a message that did not begin")]
    Orphan(u8),
    /// It has another number than the next one. What was kept is gone.
    #[error("frame {found} came where frame {expected} was due; the message is lost")]
    Gap {
        /// Which was due.
        expected: u8,
        /// Which came.
        found: u8,
    },
    /// It is of another terminal, function or dialogue than those before. What was kept stays.
    #[error("the frame is of another message than those before it")]
    Foreign,
    /// It repeats the frame before it. What was kept stays.
    #[error("frame {0} came twice")]
    Repeated(u8),
    /// The message is longer than it may be. What was kept is gone.
    #[error("the message has more than {0} bytes or 256 frames")]
    Long(usize),
}

impl Assembly {
    /// Takes messages of at most so many bytes of data.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            frames: Vec::new(),
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_open(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Forgets what was kept; how many frames that were.
    pub fn clear(&mut self) -> usize {
        let count = self.frames.len();
        self.frames.clear();
        self.bytes = 0;
        count
    }

    /// Adds a frame; all frames of the message when it was the last. A first frame forgets what did not end before it.
    ///
    /// # Errors
    /// [`AssemblyError`]: it does not join.
    pub fn push(&mut self, frame: Message) -> Result<Option<Vec<Message>>, AssemblyError> {
        let found = frame.seq.number();
        if frame.seq.is_first() {
            if self.frames == [frame.clone()] {
                return Err(AssemblyError::Repeated(found));
            }
            self.clear();
        } else {
            let last = self.frames.last().ok_or(AssemblyError::Orphan(found))?;
            let same = last.address == frame.address
                && last.afn == frame.afn
                && last.control.0 & 0xDF == frame.control.0 & 0xDF;
            if !same {
                return Err(AssemblyError::Foreign);
            }
            if *last == frame {
                return Err(AssemblyError::Repeated(found));
            }
            let expected = last.seq.number().wrapping_add(1) & 0x0F;
            if found != expected {
                self.clear();
                return Err(AssemblyError::Gap { expected, found });
            }
        }
        if self.bytes + frame.body.len() > self.bytes_max || self.frames.len() >= FRAMES_MAX {
            self.clear();
            return Err(AssemblyError::Long(self.bytes_max));
        }
        self.bytes += frame.body.len();
        let is_last = frame.seq.is_last();
        self.frames.push(frame);
        if !is_last {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(std::mem::take(&mut self.frames)))
    }
}

//! Modbus application protocol V1.1b3 and Modbus over serial line V1.02 (RTU).

use super::Finding;

/// One Modbus question. (Grows into the codec.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Unit id 1..=247.
    pub unit: u8,
}

impl Request {
    /// The RTU frame.
    pub fn wire(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Looks for the answer.
    pub fn find(&self, buffer: &[u8]) -> Finding {
        Finding::NeedMore { noise: buffer.len() }
    }

    /// The most bytes of the answer frame.
    pub fn answer_len_max(&self) -> usize {
        256
    }
}

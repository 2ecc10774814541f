//! AFN 10 F1: a meter's own frame, through the terminal (Q/GDW 1376.1-2013, 7.17.2.1).

use crate::base::bytes::{Reader, ShortRead};
use crate::protocol::cjt188;
use crate::protocol::dlt645::{self, Body};

/// How a terminal shall pass a frame on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The terminal's port; 31 is the carrier.
    pub port: u8,
    /// The line's settings: speed in bits 7 to 5, stop bits 4, parity 3 and 2, data bits 1 and 0.
    pub line: u8,
    /// How long the terminal waits for the answer: seconds where bit 7 is set, else 10 ms; 0 to 127 of them.
    pub wait: u8,
    /// The pause within an answer that ends it, in 10 ms.
    pub gap: u8,
}

impl Passage {
    /// The carrier port as it was seen in the field: 2400 8E1, 60 s, 100 ms.
    pub const CARRIER: Self = Self {
        port: 31,
        line: 0x6B,
        wait: 0xBC,
        gap: 10,
    };

    /// How long the terminal waits, ms.
    pub fn wait_ms(self) -> u32 {
        let count = u32::from(self.wait & 0x7F);
        if self.wait & 0x80 != 0 {
            count * 1000
        } else {
            count * 10
        }
    }
}

/// A frame to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How.
    pub passage: Passage,
    /// What.
    pub frame: Vec<u8>,
}

/// A frame that was passed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From which port.
    pub port: u8,
    /// What the meter said; empty where it was silent.
    pub frame: Vec<u8>,
}

/// Why data are no forwarded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Cut off.
    #[error(transparent)]
    Short(#[from] ShortRead),
    /// More than the length says.
    #[error("{0} bytes behind the forwarded frame")]
    Trailing(usize),
    /// Longer than its length can say.
    #[error("{0} bytes are too many to forward")]
    Long(usize),
}

fn behind(reader: &Reader<'_>) -> Result<(), ForwardError> {
    match reader.rest().len() {
        0 => Ok(()),
        left => Err(ForwardError::Trailing(left)),
    }
}

impl Question {
    /// Reads the data of a master's F1.
    ///
    /// # Errors
    /// [`ForwardError`] where length and bytes disagree.
    pub fn read(data: &[u8]) -> Result<Self, ForwardError> {
        let mut reader = Reader::new(data);
        let [port, line, wait, gap] = reader.array()?;
        let length = reader.u16_le()?;
        let frame = reader.take(length.into())?.to_vec();
        behind(&reader)?;
        let passage = Passage { port, line, wait, gap };
        Ok(Self { passage, frame })
    }

    /// Writes them.
    ///
    /// # Errors
    /// [`ForwardError::Long`].
    pub fn write(&self) -> Result<Vec<u8>, ForwardError> {
        let Passage { port, line, wait, gap } = self.passage;
        let length = u16::try_from(self.frame.len()).map_err(|_| ForwardError::Long(self.frame.len()))?;
        let mut out = vec![port, line, wait, gap];
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.frame);
        Ok(out)
    }

    /// What the frame is: whether it may be forwarded by anybody, or by the relay room only.
    pub fn kind(&self) -> Kind {
        if let dlt645::Heard::Request { span, request } = dlt645::hear(&self.frame)
            && span == (0..self.frame.len())
        {
            return match request.body() {
                Body::Relay(_) => Kind::Relay,
                _ => Kind::Plain,
            };
        }
        match cjt188::Request::parse(&self.frame) {
            Ok(_) => Kind::Plain,
            Err(cjt188::RequestError::Valve(_)) => Kind::Relay,
            Err(_) => Kind::Unknown,
        }
    }
}

/// What a frame to be forwarded is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question of DL/T 645 or CJ/T 188 that moves neither relay nor valve.
    Plain,
    /// One that does.
    Relay,
    /// Nothing that is known here: what it would do cannot be told.
    Unknown,
}

impl Answer {
    /// Reads the data of a terminal's F1.
    ///
    /// # Errors
    /// [`ForwardError`] where length and bytes disagree.
    pub fn read(data: &[u8]) -> Result<Self, ForwardError> {
        let mut reader = Reader::new(data);
        let port = reader.u8()?;
        let length = reader.u16_le()?;
        let frame = reader.take(length.into())?.to_vec();
        behind(&reader)?;
        Ok(Self { port, frame })
    }

    /// Writes them.
    ///
    /// # Errors
    /// [`ForwardError::Long`].
    pub fn write(&self) -> Result<Vec<u8>, ForwardError> {
        let length = u16::try_from(self.frame.len()).map_err(|_| ForwardError::Long(self.frame.len()))?;
        let mut out = vec![self.port];
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.frame);
        Ok(out)
    }
}

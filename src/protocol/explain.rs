//! Frames explained for people and scripts: what each byte is. The words are shared by all protocols; each protocol's
//! folder fills them in.

use super::{Protocol, cjt188, dlt645, dlt698, gdw376, mbus, modbus};
use serde::Serialize;
use std::cmp::Reverse;

/// One frame, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Which way it goes, as far as its bytes tell.
    pub direction: Direction,
    /// The device's address in the protocol's own form.
    pub address: String,
    /// The function code, where the protocol has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<u8>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_name: Option<&'static str>,
    /// The control byte as `0x91`, where the protocol has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Whether the checksum is right; none where the protocol has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_ok: Option<bool>,
    /// The device's refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// What it asks for or carries.
    pub items: Vec<ExplainedItem>,
    /// Every field with its place.
    pub fields: Vec<Field>,
    /// The first byte of the frame in what was given.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the device.
    Request,
    /// From the device.
    Response,
}

/// A device's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The code in the protocol's numbering.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
}

/// One value in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExplainedItem {
    /// Its identifier or address.
    pub id: String,
    /// What it is.
    pub name: String,
    /// The quantity, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// The value as a decimal; none in a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The unit, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The bytes that carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

/// One field of a frame: bytes `start..end` of what was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// What it says.
    pub value: String,
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{error} (at byte {offset})")]
pub struct ExplainError {
    /// What is wrong.
    pub error: String,
    /// Where, from 0.
    pub offset: usize,
    /// False where the bytes have the shape of a frame and the checksum alone is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_ok: Option<bool>,
}

impl ExplainError {
    /// A fault at a place.
    pub fn new(error: impl Into<String>, offset: usize) -> Self {
        Self {
            error: error.into(),
            offset,
            checksum_ok: None,
        }
    }
}

/// Explains every frame in `bytes`; without a protocol, that which makes sense of all of them. What is no frame stands
/// as an error at its place, and the search goes on behind it.
pub fn explain_all(protocol: Option<Protocol>, bytes: &[u8]) -> Vec<Result<Explained, ExplainError>> {
    let explain = |protocol| match protocol {
        Protocol::ModbusRtu => modbus::explain_rtu(bytes),
        Protocol::ModbusTcp => modbus::explain_tcp(bytes),
        Protocol::Dlt645_2007 => dlt645::explain(dlt645::Edition::E2007, bytes),
        Protocol::Dlt645_1997 => dlt645::explain(dlt645::Edition::E1997, bytes),
        Protocol::Mbus => mbus::explain(bytes),
        Protocol::Cjt188 => cjt188::explain(bytes),
        Protocol::Gdw376 => gdw376::explain(bytes),
        Protocol::Dlt698 => dlt698::explain(bytes),
    };
    if let Some(protocol) = protocol {
        return explain(protocol);
    }
    let tried: Vec<_> = Protocol::ALL.iter().map(|protocol| explain(*protocol)).collect();
    let errors = |frames: &Vec<Result<Explained, ExplainError>>| frames.iter().filter(|f| f.is_err()).count();
    let useful = |frames: &Vec<Result<Explained, ExplainError>>| frames.iter().any(Result::is_ok);
    // of what explains nothing, that which has at least the shape of a frame, and of those that which gets furthest
    let shape = |frames: &Vec<Result<Explained, ExplainError>>| {
        let broken = frames.iter().filter_map(|frame| frame.as_ref().err());
        let sums = broken.filter(|error| error.checksum_ok == Some(false));
        sums.map(|error| error.offset + 1).max().unwrap_or(0)
    };
    // by chance bytes can be a frame of Modbus TCP, which has no checksum
    let proven = |frames: &Vec<Result<Explained, ExplainError>>| {
        let sums = frames.iter().flatten().map(|frame| frame.checksum_ok);
        sums.filter(|sum| *sum == Some(true)).count()
    };
    // the first of the best: a protocol that explains something before one that explains nothing
    tried
        .into_iter()
        .min_by_key(|frames| {
            let best = (Reverse(proven(frames)), Reverse(shape(frames)));
            (!useful(frames), errors(frames), best)
        })
        .unwrap_or_default()
}

/// Explains every frame in `bytes`.
///
/// # Errors
/// [`ExplainError`] for the first bytes that are no frame.
pub fn explain(protocol: Option<Protocol>, bytes: &[u8]) -> Result<Vec<Explained>, ExplainError> {
    explain_all(protocol, bytes).into_iter().collect()
}

//! A meter model: what is known of one kind of meter. Read from `config/meter-models/<folder>/<name>.toml`; the file
//! format is described in `docs/meter-models.md`.

use super::exchange::Exchange;
use crate::device::cjt188::{Record, RecordProfile};
use crate::device::dlt645::ItemProfile;
use crate::device::dlt698::ObjectProfile;
use crate::device::gdw376::PointProfile;
use crate::device::mbus::ReadoutProfile;
use crate::device::modbus::RegisterProfile;
use crate::domain::device::Parity;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::{Protocol, Request, cjt188, dlt645, dlt698, gdw376, mbus, modbus};
use rust_decimal::Decimal;
use serde::Serialize;
use std::sync::Arc;

/// One kind of meter, complete and checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeterModel {
    /// The name: the file's stem, `<vendor>_<model>`.
    pub name: Arc<str>,
    /// The folder it stands in, which says what it speaks.
    pub folder: Folder,
    /// Who makes it.
    pub vendor: String,
    /// The maker's name for it.
    pub model: String,
    /// 1 or 3.
    pub phases: u8,
    /// How it leaves the factory.
    pub serial: Serial,
    /// Pause that it needs between a reply and the next request, milliseconds.
    pub pause_ms: u32,
    /// Reply time-out that it needs, milliseconds, without the time on the line.
    pub timeout_ms: u32,
    /// Values by which a scan recognises it: all of them readable and within bounds.
    pub recognise: Vec<Recognise>,
    /// Where the facts are from.
    pub sources: Vec<String>,
    /// What a field engineer should know.
    pub notes: String,
    /// Where its values are.
    pub profile: Profile,
    /// Recorded conversations; each was replayed when the model was loaded.
    #[serde(skip)]
    pub exchanges: Vec<Exchange>,
}

/// The folders of `config/meter-models/`, one per family of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Folder {
    /// Modbus RTU and TCP.
    Modbus,
    /// DL/T 645 of both editions.
    Dlt645,
    /// Wired M-Bus.
    Mbus,
    /// CJ/T 188 of both editions.
    Cjt188,
    /// Measuring points behind concentrators of Q/GDW 1376.1.
    Gdw376,
    /// DL/T 698.45.
    Dlt698,
}

impl Folder {
    /// Every folder.
    pub const ALL: &'static [Self] = &[
        Self::Modbus,
        Self::Dlt645,
        Self::Cjt188,
        Self::Mbus,
        Self::Gdw376,
        Self::Dlt698,
    ];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modbus => "modbus",
            Self::Dlt645 => "dlt645",
            Self::Mbus => "mbus",
            Self::Cjt188 => "cjt188",
            Self::Gdw376 => "gdw376",
            Self::Dlt698 => "dlt698",
        }
    }

    /// The address of a meter whose model names none; empty where each meter leaves the factory with its own.
    pub(super) fn usual_address(self) -> &'static str {
        match self {
            Self::Modbus | Self::Mbus => "1",
            Self::Dlt645 | Self::Cjt188 | Self::Gdw376 | Self::Dlt698 => "",
        }
    }

    /// Where models of a protocol stand; none where there are none.
    pub fn of(protocol: Protocol) -> Option<Self> {
        Some(match protocol {
            Protocol::ModbusRtu | Protocol::ModbusTcp => Self::Modbus,
            Protocol::Dlt645_2007 | Protocol::Dlt645_1997 => Self::Dlt645,
            Protocol::Mbus => Self::Mbus,
            Protocol::Cjt188 => Self::Cjt188,
            Protocol::Gdw376 => Self::Gdw376,
            Protocol::Dlt698 => Self::Dlt698,
        })
    }

    /// The protocols that its models can be read with.
    pub fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Modbus => &[Protocol::ModbusRtu, Protocol::ModbusTcp],
            Self::Dlt645 => &[Protocol::Dlt645_2007, Protocol::Dlt645_1997],
            Self::Mbus => &[Protocol::Mbus],
            Self::Cjt188 => &[Protocol::Cjt188],
            Self::Gdw376 => &[Protocol::Gdw376],
            Self::Dlt698 => &[Protocol::Dlt698],
        }
    }

    /// Reads a recorded request; the text says why it is none.
    fn request(self, bytes: &[u8]) -> Result<Request, String> {
        match self {
            Self::Modbus => modbus::Request::parse(bytes)
                .map(Request::Modbus)
                .map_err(|error| error.to_string()),
            Self::Dlt645 => match dlt645::hear(bytes) {
                dlt645::Heard::Request { span, request } if span == (0..bytes.len()) => Ok(Request::Dlt645(request)),
                dlt645::Heard::Faulty { error, .. } => Err(error.to_string()),
                _ => Err("it is not one whole frame".to_owned()),
            },
            Self::Mbus => mbus::Request::parse(bytes)
                .map(Request::Mbus)
                .map_err(|error| error.to_string()),
            Self::Cjt188 => cjt188::Request::parse(bytes)
                .map(Request::Cjt188)
                .map_err(|error| error.to_string()),
            Self::Gdw376 => gdw376::Request::parse(bytes, gdw376::Edition::E2013)
                .map(Request::Gdw376)
                .map_err(|error| error.to_string()),
            Self::Dlt698 => dlt698::Request::parse(bytes)
                .map(Request::Dlt698)
                .map_err(|error| error.to_string()),
        }
    }
}

/// Factory settings of the serial side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Serial {
    /// Bits per second.
    pub baud: u32,
    /// Parity.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// Factory address, as a meter's address is written: for Modbus the unit id. Empty when each meter has its own.
    pub address: String,
}

impl Default for Serial {
    /// As most meters with RS-485 leave the factory.
    fn default() -> Self {
        Self {
            baud: 9600,
            parity: Parity::None,
            stop_bits: 1,
            address: String::new(),
        }
    }
}

/// A value by which a scan recognises the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recognise {
    /// Which.
    pub quantity: Quantity,
    /// The least, in the canonical unit.
    pub min: Decimal,
    /// The most.
    pub max: Decimal,
}

/// Where the values are, by family of protocols.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Profile {
    /// Modbus registers and bits.
    Modbus(RegisterProfile),
    /// Identifiers of DL/T 645.
    Dlt645(ItemProfile),
    /// Frames of CJ/T 188.
    Cjt188(RecordProfile),
    /// Records of M-Bus.
    Mbus(ReadoutProfile),
    /// Items of a concentrator's measuring points.
    Gdw376(PointProfile),
    /// Attributes of DL/T 698.45.
    Dlt698(ObjectProfile),
}

impl MeterModel {
    /// What the model can read, in the order of its file; with whether a poll of everything reads it.
    pub fn measurands(&self) -> impl Iterator<Item = (&Measurand, bool)> {
        let points: Vec<(&Measurand, bool)> = match &self.profile {
            Profile::Modbus(profile) => profile.points.iter().map(|p| (&p.measurand, p.poll)).collect(),
            Profile::Dlt645(profile) => profile.points.iter().map(|p| (&p.measurand, p.poll)).collect(),
            Profile::Cjt188(profile) => profile.records.iter().flat_map(Record::measurands).collect(),
            Profile::Mbus(profile) => profile.points.iter().map(|p| (&p.measurand, p.poll)).collect(),
            Profile::Gdw376(profile) => profile.points.iter().map(|p| (&p.measurand, p.poll)).collect(),
            Profile::Dlt698(profile) => profile.points.iter().map(|p| (&p.measurand, p.poll)).collect(),
        };
        points.into_iter()
    }

    /// The protocols that it can be read with; of its folder's those that the meter itself speaks.
    pub fn protocols(&self) -> &'static [Protocol] {
        match &self.profile {
            Profile::Modbus(_) | Profile::Cjt188(_) | Profile::Mbus(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => {
                self.folder.protocols()
            }
            Profile::Dlt645(profile) => match profile.edition {
                dlt645::Edition::E1997 => &[Protocol::Dlt645_1997],
                dlt645::Edition::E2007 => &[Protocol::Dlt645_2007],
            },
        }
    }

    /// Reads a recorded question to a meter of this model; the text says why it is none.
    ///
    /// # Errors
    /// Why it is none.
    pub fn request(&self, bytes: &[u8]) -> Result<Request, String> {
        let request = self.folder.request(bytes)?;
        Ok(match (&self.profile, request) {
            (Profile::Cjt188(profile), Request::Cjt188(request)) => Request::Cjt188(profile.as_asked(request)),
            (_, request) => request,
        })
    }

    /// Whether a meter that was found by this answer may be of this model, as far as the answer tells who it is from.
    pub(super) fn may_be(&self, answer: &[u8]) -> bool {
        match &self.profile {
            // these answers say nothing but that somebody is there
            Profile::Modbus(_) | Profile::Dlt645(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => true,
            Profile::Cjt188(profile) => profile.may_be(answer),
            Profile::Mbus(profile) => profile.may_be(answer),
        }
    }

    /// How much the answer by which a meter was found says for this model, where it may be of several.
    pub(super) fn weight(&self) -> usize {
        match &self.profile {
            Profile::Modbus(_) | Profile::Dlt645(_) | Profile::Cjt188(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => 0,
            Profile::Mbus(profile) => profile.weight(),
        }
    }

    /// Whether the model has a quantity.
    pub fn has(&self, quantity: Quantity) -> bool {
        self.measurands()
            .any(|(measurand, _)| *measurand == Measurand::Standard(quantity))
    }

    /// Which of the wanted quantities it does not have.
    pub fn lacks(&self, wanted: &[Quantity]) -> Vec<Quantity> {
        wanted.iter().copied().filter(|quantity| !self.has(*quantity)).collect()
    }
}

//! F10 of AFN 04 and 0A: the archive, which meters a terminal has and how it reaches them (Q/GDW 1376.1-2013, 7.5.2.10).

use crate::base::bcd;
use crate::base::bytes::{Reader, ShortRead};
use std::fmt;

/// Bytes of one meter.
pub const METER_LEN: usize = 27;

/// What the meter speaks (table of F10; 32 by the supplement for water, gas and heat).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeterProtocol(pub u8);

impl MeterProtocol {
    /// DL/T 645-1997.
    pub const DLT645_1997: Self = Self(1);
    /// An alternating-current sampler.
    pub const SAMPLER: Self = Self(2);
    /// DL/T 645-2007.
    pub const DLT645_2007: Self = Self(30);
    /// A narrow-band carrier module on a serial port.
    pub const CARRIER: Self = Self(31);
    /// CJ/T 188: a water, gas or heat meter.
    pub const CJT188: Self = Self(32);

    /// The one that is called so; none for a number that the table does not name.
    pub fn by_name(name: &str) -> Option<Self> {
        [1, 2, 30, 31, 32]
            .map(Self)
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "no meter",
            1 => "DL/T 645-1997",
            2 => "AC sampler",
            30 => "DL/T 645-2007",
            31 => "carrier module",
            32 => "CJ/T 188",
            _ => "reserved",
        }
    }
}

/// One meter of an archive.
#[derive(Clone, PartialEq, Eq)]
pub struct ArchiveMeter {
    /// Its place in the archive, from 1.
    pub place: u16,
    /// The measuring point that it serves; 0 deletes the place.
    pub point: u16,
    /// Speed on the line, code: 0 the port's own, 1 600, 2 1200, 3 2400, 4 4800, 5 7200, 6 9600, 7 19200.
    pub speed: u8,
    /// The terminal's port, 1 to 31.
    pub port: u8,
    /// What it speaks.
    pub protocol: MeterProtocol,
    /// Its address, twelve digits, low digits first, as on the wire.
    pub address: [u8; 6],
    /// Its password. Never printed.
    pub password: [u8; 6],
    /// How many tariffs, 0 to 63.
    pub tariffs: u8,
    /// Digits of its register before the point, 4 to 7.
    pub whole_digits: u8,
    /// And behind it, 1 to 4.
    pub decimals: u8,
    /// The collector it hangs on, as on the wire; zeros where it is none.
    pub collector: [u8; 6],
    /// Class and subclass of the customer, each 0 to 15.
    pub class: (u8, u8),
}

impl fmt::Debug for ArchiveMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveMeter")
            .field("place", &self.place)
            .field("point", &self.point)
            .field("port", &self.port)
            .field("protocol", &self.protocol.0)
            .field("address", &self.address_text())
            .field("collector", &digits(self.collector))
            .finish_non_exhaustive()
    }
}

/// High digits first, whatever digits they are.
fn digits(mut wire: [u8; 6]) -> String {
    wire.reverse();
    crate::base::hex::encode(&wire)
}

/// Why data are no archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Cut off.
    #[error(transparent)]
    Short(#[from] ShortRead),
    /// More than the count says.
    #[error("{0} bytes behind the last meter")]
    Trailing(usize),
    /// More meters than a list holds.
    #[error("{0} meters; a list counts 65535 at most")]
    Many(usize),
    /// A field that does not fit its bits.
    #[error("meter {place}: {field} is out of range")]
    Range {
        /// Which meter.
        place: u16,
        /// Which field.
        field: &'static str,
    },
}

impl ArchiveMeter {
    /// A DL/T 645-2007 meter as a concentrator for carrier meters has it: port 31, one tariff, 6 + 2 digits.
    pub fn new(place: u16, point: u16, address: [u8; 6]) -> Self {
        Self {
            place,
            point,
            speed: 0,
            port: 31,
            protocol: MeterProtocol::DLT645_2007,
            address,
            password: [0; 6],
            tariffs: 4,
            whole_digits: 6,
            decimals: 2,
            collector: [0; 6],
            class: (0, 0),
        }
    }

    /// The address as it is printed on the meter, twelve digits.
    pub fn address_text(&self) -> String {
        digits(self.address)
    }

    /// Whether the address is made of decimal digits.
    pub fn has_decimal_address(&self) -> bool {
        self.address.iter().all(|byte| bcd::byte(*byte).is_some())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ShortRead> {
        let (place, point) = (reader.u16_le()?, reader.u16_le()?);
        let [line, protocol] = reader.array()?;
        let (address, password) = (reader.array()?, reader.array()?);
        let [tariffs, form] = reader.array()?;
        let collector = reader.array()?;
        let class = reader.u8()?;
        Ok(Self {
            place,
            point,
            speed: line >> 5,
            port: line & 0x1F,
            protocol: MeterProtocol(protocol),
            address,
            password,
            tariffs: tariffs & 0x3F,
            whole_digits: (form >> 2 & 3) + 4,
            decimals: (form & 3) + 1,
            collector,
            class: (class >> 4, class & 0x0F),
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), ArchiveError> {
        let place = self.place;
        let fits = |holds: bool, field| {
            if holds {
                Ok(())
            } else {
                Err(ArchiveError::Range { place, field })
            }
        };
        fits(self.speed < 8, "speed")?;
        fits(self.port < 32, "port")?;
        fits(self.tariffs < 64, "tariffs")?;
        fits((4..=7).contains(&self.whole_digits), "digits before the point")?;
        fits((1..=4).contains(&self.decimals), "digits behind the point")?;
        fits(self.class.0 < 16 && self.class.1 < 16, "class")?;
        out.extend_from_slice(&self.place.to_le_bytes());
        out.extend_from_slice(&self.point.to_le_bytes());
        out.extend_from_slice(&[self.speed << 5 | self.port, self.protocol.0]);
        out.extend_from_slice(&self.address);
        out.extend_from_slice(&self.password);
        out.extend_from_slice(&[self.tariffs, (self.whole_digits - 4) << 2 | (self.decimals - 1)]);
        out.extend_from_slice(&self.collector);
        out.push(self.class.0 << 4 | self.class.1);
        Ok(())
    }
}

/// Reads the data of F10.
///
/// # Errors
/// [`ArchiveError`] where the count and the bytes disagree.
pub fn read(data: &[u8]) -> Result<Vec<ArchiveMeter>, ArchiveError> {
    let mut reader = Reader::new(data);
    let count = usize::from(reader.u16_le()?);
    let (offset, left, wanted) = (reader.offset(), reader.rest().len(), count * METER_LEN);
    if wanted > left {
        return Err(ShortRead { offset, wanted, left }.into());
    }
    let meters: Result<Vec<_>, ShortRead> = (0..count).map(|_| ArchiveMeter::read(&mut reader)).collect();
    match reader.rest().len() {
        0 => Ok(meters?),
        left => Err(ArchiveError::Trailing(left)),
    }
}

/// Writes the data of F10.
///
/// # Errors
/// [`ArchiveError`] for a field that does not fit, or too many meters.
pub fn write(meters: &[ArchiveMeter]) -> Result<Vec<u8>, ArchiveError> {
    let count = u16::try_from(meters.len()).map_err(|_| ArchiveError::Many(meters.len()))?;
    let mut out = count.to_le_bytes().to_vec();
    meters.iter().try_for_each(|meter| meter.write(&mut out))?;
    Ok(out)
}

/// The data of a question for places of the archive.
///
/// # Errors
/// [`ArchiveError::Many`].
pub fn places(places: &[u16]) -> Result<Vec<u8>, ArchiveError> {
    let count = u16::try_from(places.len()).map_err(|_| ArchiveError::Many(places.len()))?;
    let mut out = count.to_le_bytes().to_vec();
    places
        .iter()
        .for_each(|place| out.extend_from_slice(&place.to_le_bytes()));
    Ok(out)
}

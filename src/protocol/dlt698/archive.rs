//! The archive of a terminal: attribute 2 of object 6000, one structure for each meter that it reads (DL/T 698.45-2017,
//! collection archive unit).
//!
//! ```text
//! structure { number, basic { address, speed, protocol, port, password, tariffs, class, wiring, volts, amperes },
//!             extended { collector, asset, pt, ct }, annex }
//! ```
//!
//! What else a terminal puts behind these fields is left alone; passwords are not read at all.

use super::data::Data;
use super::values::Oad;
use super::wire::Octets;
use super::{Address, Tsa};
use std::fmt;

/// The archive as a whole.
pub const ARCHIVE: Oad = Oad::new(0x6000, 2);
/// The object of RS-485 ports, and that of carrier and wireless modules.
const RS485: u16 = 0xF201;
const CARRIER: u16 = 0xF209;
/// The code of a speed that the terminal finds out itself.
const SPEED_AUTO: u8 = 255;

/// What a terminal speaks with a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeterProtocol(pub u8);

impl MeterProtocol {
    /// DL/T 645-1997.
    pub const DLT645_1997: Self = Self(1);
    /// DL/T 645-2007.
    pub const DLT645_2007: Self = Self(2);
    /// DL/T 698.45.
    pub const DLT698: Self = Self(3);
    /// CJ/T 188: a water, gas or heat meter.
    pub const CJT188: Self = Self(4);

    /// In words.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "unknown",
            1 => "DL/T 645-1997",
            2 => "DL/T 645-2007",
            3 => "DL/T 698.45",
            4 => "CJ/T 188",
            _ => "reserved",
        }
    }
}

/// How a meter is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wiring {
    /// Not said.
    Unknown,
    /// One phase.
    Single,
    /// Three phases, three wires.
    ThreeWires,
    /// Three phases, four wires.
    FourWires,
}

impl Wiring {
    fn of(code: u8) -> Self {
        match code {
            1 => Self::Single,
            2 => Self::ThreeWires,
            3 => Self::FourWires,
            _ => Self::Unknown,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Single => 1,
            Self::ThreeWires => 2,
            Self::FourWires => 3,
        }
    }
}

/// One meter of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveMeter {
    /// Its number in the archive, from 1.
    pub number: u16,
    /// Its address.
    pub address: Address,
    /// What it speaks.
    pub protocol: MeterProtocol,
    /// The terminal's port.
    pub port: Oad,
    /// How many tariffs are kept of it.
    pub tariffs: u8,
    /// How it is wired.
    pub wiring: Wiring,
    /// The collector that it hangs on; none where there is none.
    pub collector: Option<Address>,
}

/// Why a value is no archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is no list of structures.
    #[error("an archive is an array of structures, this is {0}")]
    NoList(&'static str),
    /// A meter lacks a field, or has another type there.
    #[error("meter {place} of the list: {field} is missing or of another type")]
    Field {
        /// Which, from 1.
        place: usize,
        /// Which field.
        field: &'static str,
    },
}

/// The fields of a structure, told by name when one is missing.
struct Fields<'a> {
    place: usize,
    fields: &'a [Data],
}

impl<'a> Fields<'a> {
    fn missing(&self, field: &'static str) -> ArchiveError {
        let place = self.place;
        ArchiveError::Field { place, field }
    }

    fn take<T>(&self, at: usize, field: &'static str, read: impl Fn(&'a Data) -> Option<T>) -> Result<T, ArchiveError> {
        self.fields.get(at).and_then(read).ok_or_else(|| self.missing(field))
    }

    fn inner(&self, at: usize, field: &'static str) -> Result<Self, ArchiveError> {
        let fields = self.take(at, field, |data| match data {
            Data::Structure(fields) => Some(fields.as_slice()),
            _ => None,
        })?;
        Ok(Self {
            place: self.place,
            fields,
        })
    }

    fn tsa(&self, at: usize, field: &'static str) -> Result<Option<Address>, ArchiveError> {
        self.take(at, field, |data| match data {
            Data::Tsa(tsa) => Some(tsa.address()),
            _ => None,
        })
    }

    /// A small number, whichever type the terminal gives it.
    fn small(&self, at: usize, field: &'static str) -> Result<u8, ArchiveError> {
        self.take(at, field, |data| match data {
            Data::UInt8(value) | Data::Enum(value) => Some(*value),
            _ => None,
        })
    }
}

/// Nobody's address: no digits but zeros.
fn somebody(address: Address) -> Option<Address> {
    address.printed().iter().any(|byte| *byte != 0).then_some(address)
}

impl ArchiveMeter {
    fn read(place: usize, unit: &Data) -> Result<Self, ArchiveError> {
        let Data::Structure(fields) = unit else {
            return Err(ArchiveError::NoList(unit.type_name()));
        };
        let unit = Fields { place, fields };
        let basic = unit.inner(1, "basic object")?;
        let extended = unit.inner(2, "extended object")?;
        let address = basic.tsa(0, "address")?;
        Ok(Self {
            number: unit.take(0, "number", |data| match data {
                Data::UInt16(number) => Some(*number),
                _ => None,
            })?,
            address: address.and_then(somebody).ok_or_else(|| basic.missing("address"))?,
            protocol: MeterProtocol(basic.small(2, "protocol")?),
            port: basic.take(3, "port", |data| match data {
                Data::Oad(oad) => Some(*oad),
                _ => None,
            })?,
            tariffs: basic.small(5, "tariffs")?,
            wiring: Wiring::of(basic.small(7, "wiring")?),
            collector: extended.tsa(0, "collector")?.and_then(somebody),
        })
    }

    /// As a terminal has it; what is not said here is as it leaves the factory.
    pub fn data(&self) -> Data {
        let nobody = || Address::of(super::Kind::Single, 0, &[0; 6]).map(|address| Tsa::of(&address));
        let collector = self.collector.as_ref().map(Tsa::of).or_else(nobody);
        Data::Structure(vec![
            Data::UInt16(self.number),
            Data::Structure(vec![
                Data::Tsa(Tsa::of(&self.address)),
                Data::Enum(SPEED_AUTO),
                Data::Enum(self.protocol.0),
                Data::Oad(self.port),
                Data::Octets(Octets(vec![0; 6])),
                Data::UInt8(self.tariffs),
                Data::UInt8(0),
                Data::Enum(self.wiring.code()),
                Data::UInt16(2200),
                Data::UInt16(50),
            ]),
            Data::Structure(vec![
                collector.map_or(Data::Null, Data::Tsa),
                Data::Octets(Octets(vec![0; 8])),
                Data::UInt16(1),
                Data::UInt16(1),
            ]),
            Data::Array(Vec::new()),
        ])
    }

    /// The terminal's port as it is numbered in archives of Q/GDW 1376.1, too: 31 is the carrier's, 1 to 30 those of
    /// RS-485; 0 is another.
    pub fn port_number(&self) -> u8 {
        match (self.port.oi, self.port.index) {
            (CARRIER, _) => 31,
            (RS485, index @ 1..=30) => index,
            _ => 0,
        }
    }

    /// The port behind such a number.
    pub fn port_of(number: u8) -> Oad {
        match number {
            1..=30 => Oad::element(RS485, 2, number),
            _ => Oad::element(CARRIER, 2, 1),
        }
    }
}

/// The meters of an archive, in its order, and how many of the list could not be read, with the first reason.
///
/// # Errors
/// [`ArchiveError::NoList`] where it is no list at all.
pub fn archive(data: &Data) -> Result<Archive, ArchiveError> {
    let Data::Array(units) = data else {
        return Err(ArchiveError::NoList(data.type_name()));
    };
    let mut archive = Archive::default();
    for (place, unit) in units.iter().enumerate() {
        match ArchiveMeter::read(place + 1, unit) {
            Ok(meter) => archive.meters.push(meter),
            Err(error) => {
                archive.unread += 1;
                archive.why.get_or_insert(error);
            }
        }
    }
    Ok(archive)
}

/// What an archive says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Its meters.
    pub meters: Vec<ArchiveMeter>,
    /// Meters that could not be read.
    pub unread: usize,
    /// Why the first of them could not.
    pub why: Option<ArchiveError>,
}

impl fmt::Display for MeterProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex::decode;
    use crate::protocol::dlt698::{Apdu, GetResult, ValueResult};
    use proptest::prelude::*;

    fn meter(number: u16, address: &str, port: u8) -> ArchiveMeter {
        ArchiveMeter {
            number,
            address: Address::parse(address).unwrap(),
            protocol: MeterProtocol::DLT698,
            port: ArchiveMeter::port_of(port),
            tariffs: 4,
            wiring: Wiring::FourWires,
            collector: None,
        }
    }

    /// Written by hand from the standard's table: number 2, 202611210001, 9600, DL/T 645-2007, port F2010201, no password, four
    /// tariffs, class 1, one phase, 220.0 V, 5.0 A; collector 000000000009, no asset number, no transformers, nothing more.
    const UNIT: &str = "0101 0204 120002 020A 55070520261121 0001 1606 1602 51F2010201 0900 1104 1101 1601 120898 120032 \
        0204 550705000000000009 0900 120001 120001 0100";

    #[test]
    fn an_archive_means_what_the_standard_says() {
        let answer: String = format!("850101 60000200 01 {UNIT} 0000");
        let answer: String = answer.chars().filter(char::is_ascii_hexdigit).collect();
        let Ok(Apdu::GetAnswer(answered)) = Apdu::parse(&decode(&answer).unwrap()) else {
            panic!()
        };
        let GetResult::Normal(item) = answered.body else {
            panic!()
        };
        let ValueResult::Data(data) = item.result else { panic!() };
        let archive = archive(&data).unwrap();
        assert_eq!((archive.unread, archive.meters.len()), (0, 1));
        let meter = &archive.meters[0];
        assert_eq!(
            (
                meter.number,
                meter.address.to_string().as_str(),
                meter.protocol.name(),
                meter.port_number()
            ),
            (2, "202611210001", "DL/T 645-2007", 1)
        );
        let collector = meter.collector.map(|collector| collector.to_string());
        assert_eq!(
            (meter.tariffs, meter.wiring, collector.as_deref()),
            (4, Wiring::Single, Some("000000000009"))
        );
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_the_others_are_read() {
        let good = meter(7, "202611210007", 31).data();
        let Data::Structure(mut short) = meter(8, "202611210008", 31).data() else {
            panic!()
        };
        short.truncate(2);
        let nobody = ArchiveMeter {
            address: Address::parse("0").unwrap(),
            ..meter(9, "1", 31)
        };
        let list = Data::Array(vec![Data::Null, Data::Structure(short), good, nobody.data()]);
        let archive = archive(&list).unwrap();
        assert_eq!(
            (archive.unread, archive.meters),
            (3, vec![meter(7, "202611210007", 31)])
        );
        assert_eq!(
            archive.why.unwrap().to_string(),
            "an archive is an array of structures, this is null"
        );
        assert!(super::archive(&Data::UInt8(1)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            units in prop::collection::vec((1u16..=u16::MAX, "[0-9]{11}[1-9]", 1u8..=31, any::<u8>(), 0u8..5, any::<bool>()), 0..20),
        ) {
            let meters: Vec<ArchiveMeter> = units.iter().map(|(number, address, port, tariffs, protocol, behind)| ArchiveMeter {
                tariffs: *tariffs,
                protocol: MeterProtocol(*protocol),
                collector: behind.then(|| Address::parse("42").unwrap()),
                ..meter(*number, address, *port)
            }).collect();
            let data = Data::Array(meters.iter().map(ArchiveMeter::data).collect());
            let archive = archive(&data).unwrap();
            prop_assert_eq!(archive.unread, 0);
            prop_assert_eq!(&archive.meters, &meters);
            for (meter, unit) in archive.meters.iter().zip(&units) {
                prop_assert_eq!(meter.port_number(), unit.2);
            }
        }
    }
}

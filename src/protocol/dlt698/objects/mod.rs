//! Objects: what the attributes of metering are, in which unit and with which power of ten (DL/T 698.45-2017, annex E),
//! and how the array of an attribute falls into its values.
//!
//! The class of an object (annex E, clause 7.4) says which of its attributes is the value: 2 nearly always; for energies 4
//! is the same with two more digits.

mod table;

use super::data::Data;
use super::moments::DateTimeS;
use super::values::Oad;
use rust_decimal::Decimal;
use std::fmt;

/// How an object's value falls into elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One value.
    Single,
    /// The total, then the tariffs (class 1).
    Tariffs,
    /// The same, each with the moment when it was so (class 2).
    Demands,
    /// Phases A, B, C (class 3).
    Phases,
    /// The total, then phases A, B, C (class 4).
    TotalPhases,
    /// Of one phase: the whole, then the harmonics from the second on (class 5).
    Harmonics,
    /// Anything else.
    Other,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number.
    pub oi: u16,
    /// For people.
    pub name: &'static str,
    /// Of which phase its values all are; none: of none or of all.
    pub phase: Option<char>,
    /// The unit of its value; empty where it has none.
    pub unit: &'static str,
    /// The power of ten of its value.
    pub scaler: i8,
    /// How its value falls into elements.
    pub layout: Layout,
    /// The class (7.4).
    pub class: u8,
    /// The value groups C and D of its OBIS code, where it has one: of the total, of phase A.
    obis: Option<(u8, u8)>,
}

/// Which of several like values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is one only, or the whole is meant.
    Only,
    /// Of all tariffs, or all phases.
    Total,
    /// One tariff, from 1.
    Tariff(u8),
    /// One phase.
    Phase(char),
    /// One harmonic.
    Harmonic(u8),
    /// A number, from 1.
    Number(u8),
}

/// What one value of an attribute is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The attribute, with the value's own index.
    pub oad: Oad,
    /// The object; none where the standard, or this table, does not have it.
    pub object: Option<Object>,
    /// Which of several.
    pub part: Part,
    /// The unit; empty where there is none, or it is not known.
    pub unit: &'static str,
    /// The power of ten; 0 where it is not known.
    pub scaler: i8,
}

impl Item {
    /// The OBIS code (DL/T 790.61), where there is one.
    pub fn obis(&self) -> Option<String> {
        let object = self.object?;
        let (c, d) = object.obis?;
        // phases stand 20 apart (IEC 62056-61)
        let phase = |phase: char| match phase {
            'A' => Some(0),
            'B' => Some(20),
            'C' => Some(40),
            _ => None,
        };
        let (c, e) = match (self.part, object.phase, object.layout) {
            (Part::Total | Part::Only, Some(of), _) => (c + 20 + phase(of)?, 0),
            (Part::Tariff(tariff), Some(of), _) => (c + 20 + phase(of)?, tariff),
            (Part::Tariff(tariff), None, _) => (c, tariff),
            (Part::Phase(of), None, Layout::TotalPhases) => (c + 20 + phase(of)?, 0),
            (Part::Phase(of), None, _) => (c + phase(of)?, 0),
            (Part::Total | Part::Only, None, Layout::Phases) => return None,
            (Part::Total | Part::Only, None, _) => (c, 0),
            _ => return None,
        };
        Some(format!("1-0:{c}.{d}.{e}"))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            None => write!(f, "object {:04X}, not in the table", self.oad.oi)?,
            Some(object) => {
                f.write_str(object.name)?;
                if let Some(phase) = object.phase {
                    write!(f, ", phase {phase}")?;
                }
            }
        }
        match self.part {
            Part::Only => {}
            Part::Total => f.write_str(", total")?,
            Part::Tariff(tariff) => write!(f, ", tariff {tariff}")?,
            Part::Phase(phase) => write!(f, ", phase {phase}")?,
            Part::Harmonic(order) => write!(f, ", harmonic {order}")?,
            Part::Number(number) => write!(f, ", number {number}")?,
        }
        let precise = self.oad.attribute & 0x1F == 4 && self.object.is_some_and(|object| object.class == 1);
        match self.oad.attribute & 0x1F {
            2 => Ok(()),
            4 if precise => f.write_str(", high resolution"),
            other => write!(f, ", attribute {other}"),
        }
    }
}

/// What an object is.
pub fn object(oi: u16) -> Option<Object> {
    table::object(oi)
}

/// Every object of the table.
pub fn objects() -> impl Iterator<Item = Object> {
    (0..=u16::MAX).filter_map(table::object)
}

/// What element `index`, from 1, of an attribute is; 0 is the whole.
pub fn item(oad: Oad, index: u8) -> Item {
    let oad = Oad { index, ..oad };
    let object = object(oad.oi);
    let attribute = oad.attribute & 0x1F;
    let (value, precise) = match object {
        Some(object) => {
            let precise = object.class == 1 && attribute == 4;
            let neutral = oad.oi == table::CURRENT && attribute == 4;
            // in class 5 attributes 2, 3 and 4 are the phases
            let of_phase = object.layout == Layout::Harmonics && (2..=4).contains(&attribute);
            (attribute == 2 || precise || neutral || of_phase, precise)
        }
        None => (false, false),
    };
    let object_of = object.filter(|_| value);
    let layout = object_of.map_or(Layout::Other, |object| match attribute {
        4 if oad.oi == table::CURRENT => Layout::Single,
        _ => object.layout,
    });
    let phase = |number: u8| match number {
        1 => Part::Phase('A'),
        2 => Part::Phase('B'),
        3 => Part::Phase('C'),
        other => Part::Number(other),
    };
    let part = match (layout, index) {
        (_, 0) | (Layout::Single, 1) => Part::Only,
        (Layout::Tariffs | Layout::Demands | Layout::TotalPhases, 1) => Part::Total,
        (Layout::Tariffs | Layout::Demands, index) => Part::Tariff(index - 1),
        (Layout::Phases, index) => phase(index),
        (Layout::TotalPhases, index) => phase(index - 1),
        (Layout::Harmonics, 1) => Part::Total,
        (Layout::Harmonics, index) => Part::Harmonic(index),
        (Layout::Single | Layout::Other, index) => Part::Number(index),
    };
    Item {
        oad,
        object,
        part,
        unit: object_of.map_or("", |object| object.unit),
        scaler: match object_of {
            Some(object) if precise => object.scaler - 2,
            Some(object) => object.scaler,
            None => 0,
        },
    }
}

/// One value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// What it is.
    pub item: Item,
    /// As it came.
    pub data: &'a Data,
    /// As a number with its power of ten; none where it is no number.
    pub number: Option<Decimal>,
    /// When it was so; of maximum demands only.
    pub at: Option<DateTimeS>,
}

/// The values of an attribute: each element of an array, or the one that there is. Arrays longer than an index can say
/// give their first 255.
pub fn values<'a>(oad: Oad, data: &'a Data) -> Vec<Value<'a>> {
    match (oad.index, data) {
        (0, Data::Array(elements)) if !elements.is_empty() => {
            let indexed = (1..=u8::MAX).zip(elements);
            indexed
                .map(|(index, element)| value(item(oad, index), element))
                .collect()
        }
        (index, data) => vec![value(item(oad, index), data)],
    }
}

fn value(item: Item, data: &Data) -> Value<'_> {
    // a maximum demand: the value, and when it was so
    let (of, at) = match data {
        Data::Structure(fields) => match fields.as_slice() {
            [of, Data::DateTimeS(at)] => (of, Some(*at)),
            _ => (data, None),
        },
        data => (data, None),
    };
    let number = of.scaled(item.scaler);
    Value { item, data, number, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u32) -> (String, &'static str, i8, Option<String>) {
        let oad = Oad::from_number(number);
        let item = item(oad, oad.index);
        (item.to_string(), item.unit, item.scaler, item.obis())
    }

    #[test]
    fn the_usual_attributes_are_what_the_standard_says() {
        let obis = |code: &str| Some(code.to_owned());
        for (number, name, unit, scaler, code) in [
            (
                0x0010_0201,
                "forward active energy, total",
                "kWh",
                -2,
                obis("1-0:1.8.0"),
            ),
            (
                0x0010_0203,
                "forward active energy, tariff 2",
                "kWh",
                -2,
                obis("1-0:1.8.2"),
            ),
            (
                0x0010_0401,
                "forward active energy, total, high resolution",
                "kWh",
                -4,
                obis("1-0:1.8.0"),
            ),
            (
                0x0022_0201,
                "reverse active energy, phase B, total",
                "kWh",
                -2,
                obis("1-0:42.8.0"),
            ),
            (
                0x0050_0201,
                "reactive energy, quadrant I, total",
                "kvarh",
                -2,
                obis("1-0:5.8.0"),
            ),
            (
                0x1010_0202,
                "maximum forward active demand, tariff 1",
                "kW",
                -4,
                obis("1-0:1.6.1"),
            ),
            (0x2000_0202, "voltage, phase B", "V", -1, obis("1-0:52.7.0")),
            (0x2001_0201, "current, phase A", "A", -3, obis("1-0:31.7.0")),
            (0x2004_0201, "active power, total", "W", -1, obis("1-0:16.7.0")),
            (0x2004_0204, "active power, phase C", "W", -1, obis("1-0:76.7.0")),
            (0x200A_0201, "power factor, total", "", -3, obis("1-0:13.7.0")),
            (0x200F_0200, "grid frequency", "Hz", -2, obis("1-0:14.7.0")),
            (0x4000_0200, "clock", "", 0, None),
            (0x5004_0200, "day freeze", "", 0, None),
        ] {
            assert_eq!(said(number), (name.to_owned(), unit, scaler, code), "{number:08X}");
        }
        assert_eq!(said(0x2000_0200).3, None);
        assert_eq!(said(0x9999_0200).0, "object 9999, not in the table");
        assert!(objects().count() > 250, "{}", objects().count());
    }

    #[test]
    fn arrays_fall_into_their_values() {
        let energies = Data::Array([123_456u32, 100, 0].into_iter().map(Data::UInt32).collect());
        let values = values(Oad::from_number(0x0010_0200), &energies);
        let said: Vec<_> = values
            .iter()
            .map(|v| (v.item.part, v.number.unwrap().to_string()))
            .collect();
        assert_eq!(
            said,
            [
                (Part::Total, "1234.56".to_owned()),
                (Part::Tariff(1), "1.00".to_owned()),
                (Part::Tariff(2), "0.00".to_owned())
            ]
        );
        let at = DateTimeS {
            year: 2026,
            month: 11,
            day: 3,
            hour: 18,
            minute: 15,
            second: 0,
        };
        let demand = Data::Structure(vec![Data::UInt32(12_345), Data::DateTimeS(at)]);
        let values = super::values(Oad::from_number(0x1010_0201), &demand);
        assert_eq!(
            (values[0].number, values[0].at),
            (Some("1.2345".parse().unwrap()), Some(at))
        );
    }
}

//! What the records of events say behind their time, as far as it is published: the measuring point, whether it began or ended, and
//! the values of the moment.
//!
//! Layouts: Q/GDW 376.1-2009 and 1376.1-2013, annex D, as a master station's public source file 41965688272 reads them (a measuring
//! point in 12 bits of two bytes, the top bit: began). Q/GDW 130-2005 has the point in one byte; its records are one byte shorter
//! and are not read. A record of another length than its layout's is not read either; one that is longer has its beginning.

use super::explain::text_of;
use super::format::{Format, Value};
use crate::base::bytes::Reader;

/// What a record says besides what happened and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The measuring point.
    pub point: Option<u16>,
    /// Whether it began (true) or ended.
    pub began: Option<bool>,
    /// The values.
    pub fields: Vec<Said>,
}

/// A value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it is.
    pub name: &'static str,
    /// The unit; empty where there is none.
    pub unit: &'static str,
    /// The value.
    pub value: Value,
}

impl Said {
    /// The value as text.
    pub fn text(&self) -> String {
        text_of(&self.value)
    }
}

/// What stands behind the time.
#[derive(Clone, Copy)]
enum Part {
    /// The point.
    Point,
    /// The point, and in its top bit whether it began.
    PointBegan,
    /// A value.
    Field(&'static str, &'static str, Format),
}

use Part::{Field, Point, PointBegan};

const FLAGS: Part = Field("flags", "", Format::Bits(1));
const U_A: Part = Field("voltage, phase A", "V", Format::A7);
const U_B: Part = Field("voltage, phase B", "V", Format::A7);
const U_C: Part = Field("voltage, phase C", "V", Format::A7);
const I_A: Part = Field("current, phase A", "A", Format::A25);
const I_B: Part = Field("current, phase B", "A", Format::A25);
const I_C: Part = Field("current, phase C", "A", Format::A25);
const ENERGY: Part = Field("forward active energy", "kWh", Format::A14);
const BEFORE: Part = Field("forward active energy before", "kWh", Format::A14);
const AFTER: Part = Field("forward active energy after", "kWh", Format::A14);
const LIMIT: Part = Field("limit", "", Format::A22);

/// A loop: which phases and what, then voltages, currents and the register.
const LOOP: &[Part] = &[PointBegan, FLAGS, U_A, U_B, U_C, I_A, I_B, I_C, ENERGY];

fn layout(code: u8) -> &'static [Part] {
    match code {
        8 => &[Point, FLAGS],
        9 | 10 => LOOP,
        11 => &[
            PointBegan,
            Field("angle of the voltage, phase A", "°", Format::A5),
            Field("angle of the voltage, phase B", "°", Format::A5),
            Field("angle of the voltage, phase C", "°", Format::A5),
            Field("angle of the current, phase A", "°", Format::A5),
            Field("angle of the current, phase B", "°", Format::A5),
            Field("angle of the current, phase C", "°", Format::A5),
            ENERGY,
        ],
        12 => &[PointBegan],
        13 | 34 => &[PointBegan, FLAGS],
        14 => &[Field("supply back at", "", Format::A15)],
        15 => &[PointBegan, FLAGS],
        17 => &[
            PointBegan,
            FLAGS,
            Field("unbalance of the voltages", "%", Format::A5),
            Field("unbalance of the currents", "%", Format::A5),
            U_A,
            U_B,
            U_C,
            I_A,
            I_B,
            I_C,
        ],
        18 => &[PointBegan, FLAGS],
        21 => &[Field("fault", "", Format::Bin(1))],
        24 => &[PointBegan, FLAGS, U_A, U_B, U_C],
        25 => &[PointBegan, FLAGS, I_A, I_B, I_C],
        26 => &[
            PointBegan,
            FLAGS,
            Field("apparent power", "kVA", Format::A23),
            Field("limit of the apparent power", "kVA", Format::A23),
        ],
        27 => &[PointBegan, BEFORE, AFTER],
        28 | 29 => &[PointBegan, BEFORE, AFTER, LIMIT],
        30 => &[PointBegan, ENERGY, LIMIT],
        31 => &[
            PointBegan,
            Field("last read at", "", Format::A15),
            ENERGY,
            Field("forward reactive energy", "kvarh", Format::A11),
        ],
        32 => &[
            Field("traffic of the month", "bytes", Format::Bin(4)),
            Field("limit of the traffic", "bytes", Format::Bin(4)),
        ],
        33 => &[Point],
        _ => &[],
    }
}

/// Reads what stands behind the five bytes of the time; nothing of a record that is shorter than its layout.
pub fn detail(code: u8, data: &[u8]) -> Detail {
    let mut reader = Reader::new(data.get(5..).unwrap_or_default());
    let mut detail = Detail::default();
    for part in layout(code) {
        let (name, unit, format) = match part {
            Point | PointBegan => {
                let Ok(bytes) = reader.array::<2>() else {
                    return Detail::default();
                };
                let word = u16::from_le_bytes(bytes);
                detail.point = Some(word & 0x0FFF);
                detail.began = matches!(part, PointBegan).then_some(word & 0x8000 != 0);
                continue;
            }
            Field(name, unit, format) => (name, unit, format),
        };
        let Ok(bytes) = reader.take(format.size()) else {
            return Detail::default();
        };
        match format.read(bytes) {
            // the terminal has no value, or one that is none
            Ok(Value::None) | Err(_) => {}
            Ok(value) => detail.fields.push(Said { name, unit, value }),
        }
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::{Decimal, dec};

    const AT: [u8; 5] = [0x45, 0x11, 0x01, 0x03, 0x26];

    fn numbers(detail: &Detail) -> Vec<(&'static str, Decimal)> {
        let number = |said: &Said| match said.value {
            Value::Number(number) => Some((said.name, number)),
            _ => None,
        };
        detail.fields.iter().filter_map(number).collect()
    }

    #[test]
    fn a_voltage_outside_its_limits_says_of_which_point_and_which_it_was() {
        // point 300, began; phase B, above; 231.5 V, 264.8 V, none
        let data = [&AT[..], &[0x2C, 0x81, 0x42, 0x15, 0x23, 0x48, 0x26, 0xEE, 0xEE]].concat();
        let detail = detail(24, &data);
        assert_eq!((detail.point, detail.began), (Some(300), Some(true)));
        assert_eq!(
            numbers(&detail),
            [("voltage, phase A", dec!(231.5)), ("voltage, phase B", dec!(264.8))]
        );
        assert_eq!(detail.fields[0].value, Value::Bits(0x42));
    }

    #[test]
    fn a_meter_that_is_not_reached_says_when_it_was_last() {
        let last = [0x30, 0x10, 0x01, 0x03, 0x26];
        let energy = [0x78, 0x56, 0x34, 0x12, 0x00];
        let data = [&AT[..], &[0x07, 0x00], &last, &energy, &[0x21, 0x43, 0x65, 0x00]].concat();
        let detail = detail(31, &data);
        assert_eq!((detail.point, detail.began), (Some(7), Some(false)));
        let at = "2026-03-01T10:30:00".parse().unwrap();
        assert_eq!(detail.fields[0].value, Value::Time(at));
        let expected = [
            ("forward active energy", dec!(1234.5678)),
            ("forward reactive energy", dec!(6543.21)),
        ];
        assert_eq!(numbers(&detail), expected);
    }

    #[test]
    fn supply_that_came_back_says_when() {
        // the shared vector's kind of record: lost, and back
        let data = [&AT[..], &[0x50, 0x11, 0x01, 0x03, 0x26]].concat();
        let detail = detail(14, &data);
        assert_eq!((detail.point, detail.fields.len()), (None, 1));
    }

    #[test]
    fn a_record_that_is_too_short_or_not_laid_out_says_nothing_more() {
        assert_eq!(detail(24, &[&AT[..], &[0x2C, 0x81, 0x42]].concat()), Detail::default());
        assert_eq!(detail(3, &[&AT[..], &[1, 2, 3]].concat()), Detail::default());
        assert_eq!(detail(24, &[]), Detail::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(code: u8, data in prop::collection::vec(any::<u8>(), 0..255)) {
            let detail = detail(code, &data);
            prop_assert!(detail.point.is_none_or(|point| point <= 0x0FFF));
            prop_assert!(detail.fields.len() <= 10);
        }
    }
}

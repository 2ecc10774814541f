//! What a meter's data hold, one value behind the other: how each is written, and the layouts of the standard.
//!
//! Makers keep the frame and change the layout, so a meter model brings its own; those here are the standard's, for
//! explanations and as the models' vocabulary.

use super::value::{self, Status, TimeOrder, ValueError};
use super::{DataId, MeterType, Unit};
use chrono::NaiveDateTime;
use rust_decimal::Decimal;
use serde::Serialize;
use std::ops::Range;

/// Where the unit of a number is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitPlace {
    /// In the byte behind it, the standard.
    After,
    /// In the byte before it, some makers of heat meters.
    Before,
    /// Nowhere: it is always the same.
    Fixed,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Decimal digits, lowest first.
    Number {
        /// Bytes of digits, 1 to 9.
        bytes: u8,
        /// How many of the digits are decimals.
        decimals: u8,
        /// Where its unit is.
        unit: UnitPlace,
    },
    /// One byte, signed binary: temperatures of some makers.
    Byte,
    /// The meter's clock.
    Time(TimeOrder),
    /// The status word.
    Status,
    /// Bytes that nobody explains.
    Raw(u8),
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in its unit, if a byte says it.
    Number(Decimal, Option<&'static Unit>),
    /// The meter's own local time.
    Time(NaiveDateTime),
    /// The status word.
    Status(Status),
    /// Not explained.
    Raw,
}

impl Form {
    /// How many bytes it takes.
    pub fn len(self) -> usize {
        match self {
            Self::Number {
                bytes,
                unit: UnitPlace::Fixed,
                ..
            }
            | Self::Raw(bytes) => bytes.into(),
            Self::Number { bytes, .. } => usize::from(bytes) + 1,
            Self::Byte => 1,
            Self::Time(order) => order.len(),
            Self::Status => 2,
        }
    }

    /// Whether it takes none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Reads it from bytes that begin with it.
    ///
    /// # Errors
    /// [`ValueError`]: too few bytes, no value, digits that are none, a unit that nobody knows.
    pub fn read(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let (need, have) = (self.len(), bytes.len());
        let own = bytes.get(..need).ok_or(ValueError::Short { offset: 0, need, have })?;
        match self {
            Self::Number { decimals, unit, .. } => {
                let (code, digits) = match unit {
                    UnitPlace::After => own
                        .split_last()
                        .map_or((None, own), |(code, digits)| (Some(*code), digits)),
                    UnitPlace::Before => own
                        .split_first()
                        .map_or((None, own), |(code, digits)| (Some(*code), digits)),
                    UnitPlace::Fixed => (None, own),
                };
                let number = value::number(digits, decimals)?;
                let unit = code.map(|code| Unit::by_code(code).ok_or(ValueError::Unit(code)));
                Ok(Value::Number(number, unit.transpose()?))
            }
            Self::Byte => {
                let byte = own.first().copied().unwrap_or_default();
                Ok(Value::Number(i8::from_le_bytes([byte]).into(), None))
            }
            Self::Time(order) => value::time(own, order).map(Value::Time),
            Self::Status => match own {
                [first, second] => Ok(Value::Status(Status([*first, *second]))),
                _ => Err(ValueError::Short { offset: 0, need, have }),
            },
            Self::Raw(_) => Ok(Value::Raw),
        }
    }
}

/// A value of a layout of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is, in words.
    pub name: &'static str,
    /// How it is written.
    pub form: Form,
    /// The unit of a [`UnitPlace::Fixed`] number; empty for none.
    pub unit: &'static str,
}

const fn number(name: &'static str, bytes: u8, decimals: u8, unit: &'static str) -> Item {
    let form = Form::Number {
        bytes,
        decimals,
        unit: UnitPlace::Fixed,
    };
    Item { name, form, unit }
}

const fn measured(name: &'static str, decimals: u8, unit: UnitPlace) -> Item {
    let form = Form::Number {
        bytes: 4,
        decimals,
        unit,
    };
    Item { name, form, unit: "" }
}

const TIME: Item = Item {
    name: "meter time",
    form: Form::Time(TimeOrder::SecondsFirst),
    unit: "",
};
const STATUS: Item = Item {
    name: "status",
    form: Form::Status,
    unit: "",
};

const VOLUME: &[Item] = &[
    measured("total volume", 2, UnitPlace::After),
    measured("settlement day volume", 2, UnitPlace::After),
    TIME,
    STATUS,
];

const fn heat(unit: UnitPlace) -> [Item; 10] {
    [
        measured("settlement day heat", 2, unit),
        measured("heat energy", 2, unit),
        measured("heat power", 2, unit),
        measured("flow", 4, unit),
        measured("volume", 2, unit),
        number("supply temperature", 3, 2, "°C"),
        number("return temperature", 3, 2, "°C"),
        number("working hours", 3, 0, "h"),
        TIME,
        STATUS,
    ]
}

const HEAT: &[Item] = &heat(UnitPlace::After);
const HEAT_UNIT_FIRST: &[Item] = &heat(UnitPlace::Before);
const MONTH: &[Item] = &[measured("total at the settlement day", 2, UnitPlace::After)];
const PRICES: &[Item] = &[
    number("price 1", 3, 2, ""),
    number("amount 1", 3, 0, "m3"),
    number("price 2", 3, 2, ""),
    number("amount 2", 3, 0, "m3"),
    number("price 3", 3, 2, ""),
];
const DAY: &[Item] = &[number("day of the month", 1, 0, "")];
const PURCHASE: &[Item] = &[
    number("purchase number", 1, 0, ""),
    number("purchased amount", 4, 2, ""),
    number("purchased in all", 4, 2, ""),
    number("remaining amount", 4, 2, ""),
    STATUS,
];
const VERSION: &[Item] = &[number("key version", 1, 0, "")];
const CLOCK: &[Item] = &[TIME];
const STATUS_ONLY: &[Item] = &[STATUS];

/// The length of a layout, bytes.
pub fn len(layout: &[Item]) -> usize {
    layout.iter().map(|item| item.form.len()).sum()
}

/// The layout of the standard for what a meter answers, if its length fits: data behind the serial number. The heat
/// layout has a maker's variant of the same length with each unit before its number; the bytes tell which.
pub fn standard(meter_type: MeterType, di: DataId, data: &[u8]) -> Option<&'static [Item]> {
    let layout = match di {
        DataId::CURRENT if meter_type.is_heat() => {
            let known = |places: [usize; 5]| {
                let codes = places.into_iter().filter_map(|place| data.get(place));
                codes.filter(|code| Unit::by_code(**code).is_some()).count()
            };
            let (after, before) = (known([4, 9, 14, 19, 24]), known([0, 5, 10, 15, 20]));
            if before > after { HEAT_UNIT_FIRST } else { HEAT }
        }
        DataId::CURRENT => VOLUME,
        DataId::PRICES => PRICES,
        DataId::SETTLEMENT_DAY | DataId::READING_DAY => DAY,
        DataId::PURCHASE => PURCHASE,
        DataId::KEY_VERSION => VERSION,
        DataId::VALVE | DataId::WRITE_PURCHASE | DataId::WRITE_COUNTER => STATUS_ONLY,
        DataId::WRITE_CLOCK => CLOCK,
        _ if di.months_back().is_some() => MONTH,
        _ => return None,
    };
    (len(layout) == data.len()).then_some(layout)
}

/// Every value of a layout with its place in `data`.
pub fn values<'a>(
    layout: &'static [Item],
    data: &'a [u8],
) -> impl Iterator<Item = (&'static Item, Range<usize>, Result<Value, ValueError>)> + 'a {
    let mut offset = 0;
    layout.iter().map(move |item| {
        let place = offset..offset + item.form.len();
        offset = place.end;
        let value = item.form.read(data.get(place.start..).unwrap_or_default());
        (item, place, value)
    })
}

//! How the data of an item are laid out: fields, blocks by tariff, curves, lists. One description reads and writes.

use super::format::{Format, Value, ValueError};
use crate::base::bytes::{Reader, ShortRead};
use chrono::{NaiveDateTime, TimeDelta};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::ops::Range;

/// The most tariffs that a terminal may say it has; the standard has 12 (F33) and leaves room to 63 (F10).
const RATES_MAX: u8 = 63;

/// One value of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it is.
    pub name: &'static str,
    /// How it is written.
    pub format: Format,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// OBIS C and D of the quantity, with E the tariff (IEC 62056-6-1: medium 1, channel 0).
    pub obis: Option<(u8, u8)>,
}

impl Field {
    /// A field without unit.
    pub const fn new(name: &'static str, format: Format) -> Self {
        Self {
            name,
            format,
            unit: "",
            obis: None,
        }
    }

    /// The same in a unit.
    pub const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// The same as a quantity.
    pub const fn obis(self, c: u8, d: u8) -> Self {
        Self {
            obis: Some((c, d)),
            ..self
        }
    }
}

/// A part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// These fields once.
    One(&'static [Field]),
    /// The number of tariffs M in one byte; then each group M + 1 times, the total first.
    Rates(&'static [&'static [Field]]),
    /// As often as the curve's time stamp says.
    Points(&'static [Field]),
    /// The stamp of an hour: hour, density; then as often as the density says.
    Hour(&'static [Field]),
    /// A number of blocks in so many bytes, then the blocks.
    List(u8, &'static [Field]),
}

/// What stands before the data of an item of the past, and in the question for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing: the item is of the present.
    None,
    /// Td_d, A.20: a day.
    Day,
    /// Td_m, A.21: a month.
    Month,
    /// Td_c: start A.15, density, number of points.
    Curve,
}

impl Stamp {
    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::None => 0,
            Self::Day => 3,
            Self::Month => 2,
            Self::Curve => 7,
        }
    }
}

/// How far the points of a curve are apart (annex C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Density {
    /// 255: one minute.
    Minute,
    /// 254: five.
    Minutes5,
    /// 1: fifteen.
    Minutes15,
    /// 2: thirty.
    Minutes30,
    /// 3: an hour.
    Hour,
}

impl Density {
    const ALL: [Self; 5] = [
        Self::Minute,
        Self::Minutes5,
        Self::Minutes15,
        Self::Minutes30,
        Self::Hour,
    ];

    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Self::Minute => 255,
            Self::Minutes5 => 254,
            Self::Minutes15 => 1,
            Self::Minutes30 => 2,
            Self::Hour => 3,
        }
    }

    /// Finds a density by its code; 0 says that nothing is kept.
    pub fn by_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|density| density.code() == code)
    }

    /// Minutes from point to point.
    pub fn minutes(self) -> u8 {
        match self {
            Self::Minute => 1,
            Self::Minutes5 => 5,
            Self::Minutes15 => 15,
            Self::Minutes30 => 30,
            Self::Hour => 60,
        }
    }
}

/// The time stamp of a curve, Td_c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// The first point.
    pub start: NaiveDateTime,
    /// How far they are apart.
    pub density: Density,
    /// How many.
    pub points: u8,
}

/// The data of an item: what they are called and how they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the item is.
    pub name: &'static str,
    /// What stands before its data.
    pub stamp: Stamp,
    /// The data; none where this room does not know them: then only the last item of a frame can be told from others.
    pub parts: Option<&'static [Part]>,
}

/// One value of an item, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is; none for what stands in a stamp.
    pub field: &'static Field,
    /// The tariff: 0 the total. None where the field has no tariffs.
    pub rate: Option<u8>,
    /// Which block of a list or point of a curve, from 0.
    pub index: Option<u16>,
    /// When, for a point of a curve.
    pub at: Option<NaiveDateTime>,
    /// Its bytes in the item's data.
    pub span: Range<usize>,
    /// What it says.
    pub value: Result<Value, ValueError>,
}

impl Entry {
    /// The OBIS code of the quantity, `1-0:1.8.2`; where it has one.
    pub fn obis(&self) -> Option<String> {
        let (c, d) = self.field.obis?;
        Some(format!("1-0:{c}.{d}.{}", self.rate.unwrap_or_default()))
    }
}

/// Why data are not laid out as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// They end too early.
    #[error(transparent)]
    Short(#[from] ShortRead),
    /// More tariffs than there can be: the byte is not their number.
    #[error("{0} tariffs; at most 63 are possible")]
    Rates(u8),
    /// A density of annex C is wanted.
    #[error("{0} is no density of a curve")]
    Density(u8),
    /// The stamp of a curve is no time.
    #[error("the curve's time stamp is no time")]
    Stamp,
}

/// What a stamp says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamped {
    /// Of the present.
    None,
    /// Of a day or a month; no value where the terminal filled it with EE.
    Period(Result<Value, ValueError>),
    /// A curve.
    Curve(Curve),
}

impl Stamp {
    /// Reads a stamp.
    ///
    /// # Errors
    /// [`LayoutError`] for too few bytes, and for the stamp of a curve that says nothing: the number of its points is needed.
    pub fn read(self, reader: &mut Reader<'_>) -> Result<Stamped, LayoutError> {
        Ok(match self {
            Self::None => Stamped::None,
            Self::Day => Stamped::Period(Format::A20.read(reader.take(3)?)),
            Self::Month => Stamped::Period(Format::A21.read(reader.take(2)?)),
            Self::Curve => {
                let start = Format::A15.read(reader.take(5)?);
                let [density, points] = reader.array()?;
                let density = Density::by_code(density).ok_or(LayoutError::Density(density))?;
                let Ok(Value::Time(start)) = start else {
                    return Err(LayoutError::Stamp);
                };
                Stamped::Curve(Curve { start, density, points })
            }
        })
    }
}

impl Curve {
    /// To the wire; none for a year that two digits do not hold.
    pub fn wire(self) -> Option<Vec<u8>> {
        let mut wire = Format::A15.write(&Value::Time(self.start))?;
        wire.extend_from_slice(&[self.density.code(), self.points]);
        Some(wire)
    }
}

/// The data of an item, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Of when.
    pub stamped: Stamped,
    /// Its values in order; the numbers of tariffs and blocks are not among them.
    pub entries: Vec<Entry>,
}

struct Collector<'a, 'b> {
    reader: &'b mut Reader<'a>,
    base: usize,
    entries: Vec<Entry>,
}

impl Collector<'_, '_> {
    fn group(
        &mut self,
        fields: &'static [Field],
        rate: Option<u8>,
        index: Option<u16>,
        at: Option<NaiveDateTime>,
    ) -> Result<(), LayoutError> {
        for field in fields {
            let start = self.reader.offset() - self.base;
            let bytes = self.reader.take(field.format.size())?;
            self.entries.push(Entry {
                field,
                rate,
                index,
                at,
                span: start..start + bytes.len(),
                value: field.format.read(bytes),
            });
        }
        Ok(())
    }

    fn part(&mut self, part: Part, curve: Option<Curve>) -> Result<(), LayoutError> {
        match part {
            Part::One(fields) => self.group(fields, None, None, None),
            Part::Rates(groups) => {
                let rates = self.reader.u8()?;
                if rates > RATES_MAX {
                    return Err(LayoutError::Rates(rates));
                }
                for group in groups {
                    for rate in 0..=rates {
                        self.group(group, Some(rate), None, None)?;
                    }
                }
                Ok(())
            }
            Part::Points(fields) => {
                let curve = curve.ok_or(LayoutError::Stamp)?;
                for index in 0..u16::from(curve.points) {
                    let after = TimeDelta::minutes(i64::from(curve.density.minutes()) * i64::from(index));
                    let at = curve.start.checked_add_signed(after);
                    self.group(fields, None, Some(index), at)?;
                }
                Ok(())
            }
            Part::Hour(fields) => {
                let [_hour, density] = self.reader.array()?;
                let points = match Density::by_code(density) {
                    Some(density) => 60 / u16::from(density.minutes()),
                    None if density == 0 => 0,
                    None => return Err(LayoutError::Density(density)),
                };
                (0..points).try_for_each(|index| self.group(fields, None, Some(index), None))
            }
            Part::List(size, fields) => {
                let size = self.reader.take(size.into())?;
                let count = size
                    .iter()
                    .rev()
                    .fold(0u16, |count, byte| count << 8 | u16::from(*byte));
                let each: usize = fields.iter().map(|field| field.format.size()).sum();
                // before anything is kept: a count that lies costs nothing
                let (offset, left) = (self.reader.offset(), self.reader.rest().len());
                let wanted = each * usize::from(count);
                if wanted > left {
                    return Err(ShortRead { offset, wanted, left }.into());
                }
                (0..count).try_for_each(|index| self.group(fields, None, Some(index), None))
            }
        }
    }
}

impl Layout {
    /// Reads the data of one item from where the reader stands, and leaves it behind them. None where the layout is not
    /// known.
    ///
    /// # Errors
    /// [`LayoutError`]; the reader stands where it failed.
    pub fn read(&self, reader: &mut Reader<'_>) -> Option<Result<Reading, LayoutError>> {
        let parts = self.parts?;
        let base = reader.offset();
        Some(self.stamp.read(reader).and_then(|stamped| {
            let curve = match stamped {
                Stamped::Curve(curve) => Some(curve),
                _ => None,
            };
            let mut collector = Collector {
                reader,
                base,
                entries: Vec::new(),
            };
            parts.iter().try_for_each(|part| collector.part(*part, curve))?;
            Ok(Reading {
                stamped,
                entries: collector.entries,
            })
        }))
    }

    /// The most bytes that the item's data have with so many tariffs and points of a curve; lists are taken as empty.
    pub fn size(&self, rates: u8, points: u8) -> usize {
        let group = |fields: &[Field]| fields.iter().map(|field| field.format.size()).sum::<usize>();
        let part = |part: &Part| match part {
            Part::One(fields) => group(fields),
            Part::Rates(groups) => {
                let each: usize = groups.iter().map(|fields| group(fields)).sum();
                1 + each * (usize::from(rates) + 1)
            }
            Part::Points(fields) => group(fields) * usize::from(points),
            Part::Hour(fields) => 2 + group(fields) * 60,
            Part::List(size, _) => usize::from(*size),
        };
        self.stamp.size() + self.parts.unwrap_or_default().iter().map(part).sum::<usize>()
    }

    /// Writes the data of an item: the stamp as given, each value as `supply` says it. None where a value does not fit
    /// its format, or the layout is not known. `rates` tariffs, `points` points or blocks.
    pub fn write(
        &self,
        stamp: &[u8],
        rates: u8,
        points: u16,
        mut supply: impl FnMut(&'static Field, Option<u8>, Option<u16>) -> Value,
    ) -> Option<Vec<u8>> {
        if stamp.len() != self.stamp.size() {
            return None;
        }
        let mut out = stamp.to_vec();
        let mut group = |out: &mut Vec<u8>, fields: &'static [Field], rate, index| {
            fields.iter().try_for_each(|field| {
                out.extend_from_slice(&field.format.write(&supply(field, rate, index))?);
                Some(())
            })
        };
        for part in self.parts? {
            match *part {
                Part::One(fields) => group(&mut out, fields, None, None)?,
                Part::Rates(groups) => {
                    out.push(rates);
                    for fields in groups {
                        (0..=rates).try_for_each(|rate| group(&mut out, fields, Some(rate), None))?;
                    }
                }
                Part::Points(fields) => {
                    let points = u16::from(stamp.last().copied().unwrap_or_default());
                    (0..points).try_for_each(|index| group(&mut out, fields, None, Some(index)))?;
                }
                // nothing says which hour: whoever writes one writes its bytes
                Part::Hour(_) => return None,
                Part::List(size, fields) => {
                    let (count, above) = points
                        .to_le_bytes()
                        .split_at_checked(size.into())
                        .map(|(a, b)| (a.to_vec(), b.to_vec()))?;
                    if above.iter().any(|byte| *byte != 0) {
                        return None;
                    }
                    out.extend_from_slice(&count);
                    (0..points).try_for_each(|index| group(&mut out, fields, None, Some(index)))?;
                }
            }
        }
        Some(out)
    }
}

impl Reading {
    /// A number of the reading by the field's name and tariff.
    pub fn number(&self, name: &str, rate: Option<u8>) -> Option<Decimal> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.field.name == name && entry.rate == rate)?;
        match entry.value {
            Ok(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// The same as a count.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.number(name, None)?.to_u64()
    }

    /// The first time among the values that is called so.
    pub fn time(&self, name: &str) -> Option<NaiveDateTime> {
        self.entries
            .iter()
            .find(|entry| entry.field.name == name)
            .and_then(|entry| match entry.value {
                Ok(Value::Time(at)) => Some(at),
                _ => None,
            })
    }
}

//! How a reading lies in the tables: one wide row, and side rows for what has no column or would be rounded.
//!
//! Columns are named as their quantities. Registers are `numeric`, instantaneous values `real`. A real column is read
//! back as its shortest decimal text, so a decimal such as 230.1 fits it when that text gives the same decimal back.

use crate::domain::quantity::{Family, Kind, Quantity};
use crate::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use Quantity as Q;

/// The quantity columns of `reading_electricity`, in the order of the table.
pub const ELECTRICITY: &[Quantity] = &[
    Q::VoltageL1,
    Q::VoltageL2,
    Q::VoltageL3,
    Q::VoltageL1L2,
    Q::VoltageL2L3,
    Q::VoltageL3L1,
    Q::CurrentL1,
    Q::CurrentL2,
    Q::CurrentL3,
    Q::CurrentN,
    Q::ActivePowerTotal,
    Q::ActivePowerL1,
    Q::ActivePowerL2,
    Q::ActivePowerL3,
    Q::ReactivePowerTotal,
    Q::ReactivePowerL1,
    Q::ReactivePowerL2,
    Q::ReactivePowerL3,
    Q::ApparentPowerTotal,
    Q::ApparentPowerL1,
    Q::ApparentPowerL2,
    Q::ApparentPowerL3,
    Q::PowerFactorTotal,
    Q::PowerFactorL1,
    Q::PowerFactorL2,
    Q::PowerFactorL3,
    Q::Frequency,
    Q::DemandActiveImport,
    Q::MaxDemandActiveImport,
    Q::ActiveEnergyTotal,
    Q::ActiveEnergyTotalT1,
    Q::ActiveEnergyTotalT2,
    Q::ActiveEnergyTotalT3,
    Q::ActiveEnergyTotalT4,
    Q::ActiveEnergyImport,
    Q::ActiveEnergyImportT1,
    Q::ActiveEnergyImportT2,
    Q::ActiveEnergyImportT3,
    Q::ActiveEnergyImportT4,
    Q::ActiveEnergyImportL1,
    Q::ActiveEnergyImportL2,
    Q::ActiveEnergyImportL3,
    Q::ActiveEnergyExport,
    Q::ActiveEnergyExportT1,
    Q::ActiveEnergyExportT2,
    Q::ActiveEnergyExportT3,
    Q::ActiveEnergyExportT4,
    Q::ActiveEnergyExportL1,
    Q::ActiveEnergyExportL2,
    Q::ActiveEnergyExportL3,
    Q::ReactiveEnergyTotal,
    Q::ReactiveEnergyImport,
    Q::ReactiveEnergyExport,
    Q::ReactiveEnergyQ1,
    Q::ReactiveEnergyQ2,
    Q::ReactiveEnergyQ3,
    Q::ReactiveEnergyQ4,
    Q::ApparentEnergyImport,
];

/// The quantity columns of `reading_fluid`, in the order of the table.
pub const FLUID: &[Quantity] = &[
    Q::FlowRate,
    Q::ThermalPower,
    Q::Temperature,
    Q::TemperatureFlow,
    Q::TemperatureReturn,
    Q::TemperatureDifference,
    Q::Pressure,
    Q::VolumeTotal,
    Q::VolumeReverse,
    Q::VolumeSettlement,
    Q::HeatEnergy,
    Q::HeatEnergySettlement,
    Q::CoolingEnergy,
    Q::GasVolume,
    Q::OperatingHours,
];

/// The columns in front of the quantities, in the order in which `copy` writes them.
pub const HEADER: &[&str] = &[
    "ts",
    "read_at",
    "meter_time",
    "poll_id",
    "frame_first",
    "meter_id",
    "account_id",
    "source",
    "frame_count",
    "quality",
];

/// One of the two wide tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `reading_electricity`.
    Electricity,
    /// `reading_fluid`.
    Fluid,
}

static ELECTRICITY_COLUMNS: LazyLock<String> = LazyLock::new(|| column_list(ELECTRICITY));
static FLUID_COLUMNS: LazyLock<String> = LazyLock::new(|| column_list(FLUID));

fn column_list(quantities: &[Quantity]) -> String {
    let names: Vec<&str> = HEADER
        .iter()
        .copied()
        .chain(quantities.iter().map(|quantity| quantity.name()))
        .collect();
    names.join(", ")
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Electricity, Self::Fluid];

    /// The parent table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Electricity => "reading_electricity",
            Self::Fluid => "reading_fluid",
        }
    }

    /// Its quantity columns.
    pub fn quantities(self) -> &'static [Quantity] {
        match self {
            Self::Electricity => ELECTRICITY,
            Self::Fluid => FLUID,
        }
    }

    /// All columns, comma-separated: header, then quantities. For `SELECT` and `COPY`.
    pub fn columns(self) -> &'static str {
        match self {
            Self::Electricity => &ELECTRICITY_COLUMNS,
            Self::Fluid => &FLUID_COLUMNS,
        }
    }

    /// The number in `latest_reading.family`.
    pub fn code(self) -> i16 {
        match self {
            Self::Electricity => 0,
            Self::Fluid => 1,
        }
    }

    /// The table of a number in `latest_reading.family`.
    pub fn by_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.code() == code)
    }

    /// The table that has a column for `quantity`; none: it is in `reading_side`.
    pub fn of(quantity: Quantity) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|table| table.quantities().contains(&quantity))
    }
}

/// The number of a source in the tables.
pub fn source_code(source: Source) -> i16 {
    match source {
        Source::Scheduled => 0,
        Source::OnDemand => 1,
        Source::BackFill => 2,
        Source::Pushed => 3,
        Source::Manual => 4,
        Source::Imported => 5,
    }
}

/// The source of a number in the tables.
pub fn source_by_code(code: i16) -> Option<Source> {
    use Source::{BackFill, Imported, Manual, OnDemand, Pushed, Scheduled};
    [Scheduled, OnDemand, BackFill, Pushed, Manual, Imported]
        .into_iter()
        .find(|source| source_code(*source) == code)
}

/// The number of a quality in the tables; the larger, the worse.
pub fn quality_code(quality: Quality) -> i16 {
    match quality {
        Quality::Measured => 0,
        Quality::Estimated => 1,
        Quality::Substituted => 2,
        Quality::Suspect => 3,
    }
}

/// The quality of a number in the tables; what is unknown is not to be trusted.
pub fn quality_by_code(code: i16) -> Quality {
    match code {
        0 => Quality::Measured,
        1 => Quality::Estimated,
        2 => Quality::Substituted,
        _ => Quality::Suspect,
    }
}

/// The exceptions of a wide row's `quality` column by quantity name.
pub type QualityExceptions = BTreeMap<String, Quality>;

/// A value in a wide column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// In a `real` column.
    Real(f32),
    /// In a `numeric` column.
    Numeric(Decimal),
}

impl From<Cell> for Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Real(value) => Self::F32(value),
            Cell::Numeric(value) => Self::Decimal(value),
        }
    }
}

/// A value in `reading_side`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SideValue {
    /// In `exact`.
    Exact(Decimal),
    /// In `approx`.
    Approx(f64),
}

impl From<SideValue> for Value {
    fn from(value: SideValue) -> Self {
        match value {
            SideValue::Exact(value) => Self::Decimal(value),
            SideValue::Approx(value) => Self::F64(value),
        }
    }
}

/// A row of `reading_side`, without its reading's key.
#[derive(Clone, Debug, PartialEq)]
pub struct SideRow {
    /// The quantity's or vendor quantity's name.
    pub name: String,
    /// The value.
    pub value: SideValue,
    /// Its quality.
    pub quality: Quality,
}

/// A reading as it lies in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// Which wide table.
    pub table: Table,
    /// One cell per quantity of the table, in its order.
    pub cells: Vec<Option<Cell>>,
    /// Quality of cells that were not simply measured.
    pub quality: QualityExceptions,
    /// The rest, by name.
    pub side: Vec<SideRow>,
}

/// Lays a reading out. A second item of the same measurand is left out.
pub fn lay_out(reading: &Reading) -> Laid {
    let table = table_of(&reading.items);
    let quantities = table.quantities();
    let mut laid = Laid {
        table,
        cells: vec![None; quantities.len()],
        quality: QualityExceptions::new(),
        side: Vec::new(),
    };
    for item in &reading.items {
        let place = match &item.measurand {
            Measurand::Standard(quantity) => quantities.iter().position(|column| column == quantity),
            Measurand::Vendor(_) => None,
        };
        let fitting = match (&item.measurand, place) {
            (Measurand::Standard(quantity), Some(place)) => cell(quantity.kind(), item.value).map(|cell| (place, cell)),
            _ => None,
        };
        let name = measurand_name(&item.measurand);
        match fitting {
            Some((place, cell)) => {
                if let Some(slot @ None) = laid.cells.get_mut(place) {
                    *slot = Some(cell);
                    if item.quality != Quality::Measured {
                        laid.quality.insert(name.to_owned(), item.quality);
                    }
                }
            }
            None if laid.side.iter().all(|row| row.name != name) => laid.side.push(SideRow {
                name: name.to_owned(),
                value: side_value(item.value),
                quality: item.quality,
            }),
            None => {}
        }
    }
    laid.side.sort_by(|a, b| a.name.cmp(&b.name));
    laid
}

/// The items of a laid-out reading: columns in the table's order, then side rows by name.
pub fn items(laid: &Laid) -> Vec<Item> {
    let wide = laid
        .table
        .quantities()
        .iter()
        .zip(&laid.cells)
        .filter_map(|(quantity, cell)| {
            Some(Item {
                measurand: Measurand::Standard(*quantity),
                value: (*cell)?.into(),
                quality: laid.quality.get(quantity.name()).copied().unwrap_or(Quality::Measured),
            })
        });
    let side = laid.side.iter().map(|row| Item {
        measurand: measurand(&row.name),
        value: row.value.into(),
        quality: row.quality,
    });
    wide.chain(side).collect()
}

/// A wide row that was selected with [`Table::columns`]; its side rows are yet to be added.
///
/// # Errors
/// When a column is missing or has another type.
pub fn from_row(table: Table, row: &PgRow) -> Result<Laid, sqlx::Error> {
    let mut cells = Vec::with_capacity(table.quantities().len());
    for (place, quantity) in table.quantities().iter().enumerate() {
        let place = place + HEADER.len();
        cells.push(match quantity.kind() {
            Kind::Register => row.try_get::<Option<Decimal>, _>(place)?.map(Cell::Numeric),
            Kind::Instant | Kind::State => row.try_get::<Option<f32>, _>(place)?.map(Cell::Real),
        });
    }
    let quality: Option<Json<QualityExceptions>> = row.try_get("quality")?;
    Ok(Laid {
        table,
        cells,
        quality: quality.map(|json| json.0).unwrap_or_default(),
        side: Vec::new(),
    })
}

/// A side row that was selected with `quantity`, `exact`, `approx` and `quality`.
///
/// # Errors
/// When a column is missing or has another type.
pub fn side_from_row(row: &PgRow) -> Result<SideRow, sqlx::Error> {
    let exact: Option<Decimal> = row.try_get("exact")?;
    let approx: Option<f64> = row.try_get("approx")?;
    Ok(SideRow {
        name: row.try_get("quantity")?,
        // a check of the table says that one of them is there
        value: exact.map_or_else(|| SideValue::Approx(approx.unwrap_or(f64::NAN)), SideValue::Exact),
        quality: quality_by_code(row.try_get("quality")?),
    })
}

/// The name of a measurand in `reading_side` and in the API.
pub fn measurand_name(measurand: &Measurand) -> &str {
    match measurand {
        Measurand::Standard(quantity) => quantity.name(),
        Measurand::Vendor(name) => name,
    }
}

/// The measurand of a name in `reading_side`.
pub fn measurand(name: &str) -> Measurand {
    Quantity::by_name(name).map_or_else(|| Measurand::Vendor(name.into()), Measurand::Standard)
}

/// One header row per poll, in one table: a reading with any electricity is in the electricity table.
fn table_of(items: &[Item]) -> Table {
    let has = |family| {
        items.iter().any(|item| match &item.measurand {
            Measurand::Standard(quantity) => quantity.family() == family,
            Measurand::Vendor(_) => false,
        })
    };
    if !has(Family::Electricity) && has(Family::Fluid) {
        Table::Fluid
    } else {
        Table::Electricity
    }
}

/// The cell that gives `value` back exactly; none: the column's type cannot.
fn cell(kind: Kind, value: Value) -> Option<Cell> {
    match kind {
        Kind::Register => exact(value).map(Cell::Numeric),
        Kind::Instant | Kind::State => match value {
            Value::F32(value) => Some(Cell::Real(value)),
            #[expect(clippy::cast_possible_truncation, reason = "whether it truncates is what is asked")]
            Value::F64(value) => {
                let narrow = value as f32;
                (f64::from(narrow) == value).then_some(Cell::Real(narrow))
            }
            Value::Decimal(value) => {
                let narrow = f32::from_str(&value.to_string()).ok()?;
                let back = Decimal::from_str(&narrow.to_string()).ok()?;
                (back == value).then_some(Cell::Real(narrow))
            }
        },
    }
}

/// The decimal whose text is the value's shortest; none for what is not finite or too large.
fn exact(value: Value) -> Option<Decimal> {
    match value {
        Value::Decimal(value) => Some(value),
        Value::F32(value) => {
            let decimal = Decimal::from_str(&value.to_string()).ok()?;
            (f32::from_str(&decimal.to_string()) == Ok(value)).then_some(decimal)
        }
        Value::F64(value) => {
            let decimal = Decimal::from_str(&value.to_string()).ok()?;
            (f64::from_str(&decimal.to_string()) == Ok(value)).then_some(decimal)
        }
    }
}

fn side_value(value: Value) -> SideValue {
    match (value, exact(value)) {
        (Value::Decimal(value), _) => SideValue::Exact(value),
        // widened as it is, 0.1 would read back as 0.10000000149011612; so it goes by its text
        (Value::F32(_), Some(value)) => SideValue::Exact(value),
        (Value::F32(value), None) => {
            SideValue::Approx(f64::from_str(&value.to_string()).unwrap_or_else(|_| f64::from(value)))
        }
        (Value::F64(value), _) => SideValue::Approx(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{AccountId, FrameRange, MeterId, PollId};
    use chrono::DateTime;
    use proptest::prelude::*;

    fn reading(items: Vec<Item>) -> Reading {
        Reading {
            account: AccountId(1),
            meter: MeterId(2),
            ts: DateTime::UNIX_EPOCH,
            source: Source::Scheduled,
            read_at: DateTime::UNIX_EPOCH,
            meter_time: None,
            poll: PollId(3),
            frames: FrameRange::EMPTY,
            items,
        }
    }

    fn item(measurand: Measurand, value: Value) -> Item {
        Item {
            measurand,
            value,
            quality: Quality::Measured,
        }
    }

    #[test]
    fn a_decimal_that_real_would_round_goes_to_the_side() {
        let fits = item(
            Measurand::Standard(Q::VoltageL1),
            Value::Decimal("230.1".parse().unwrap()),
        );
        let rounds = item(
            Measurand::Standard(Q::VoltageL2),
            Value::Decimal("16777217".parse().unwrap()),
        );
        let laid = lay_out(&reading(vec![fits, rounds]));
        assert_eq!(laid.cells[0], Some(Cell::Real(230.1)));
        assert_eq!(laid.cells[1], None);
        assert_eq!(laid.side[0].value, SideValue::Exact("16777217".parse().unwrap()));
    }

    #[test]
    fn water_goes_to_the_fluid_table_and_a_relay_state_aside() {
        let laid = lay_out(&reading(vec![
            item(
                Measurand::Standard(Q::VolumeTotal),
                Value::Decimal("1.234".parse().unwrap()),
            ),
            item(Measurand::Standard(Q::ValveState), Value::Decimal(1.into())),
        ]));
        assert_eq!(laid.table, Table::Fluid);
        assert_eq!(laid.side[0].name, "valve_state");
    }

    #[test]
    fn codes_lead_back() {
        for code in 0..6 {
            assert_eq!(source_code(source_by_code(code).unwrap()), code);
        }
        assert_eq!(source_by_code(6), None);
        for code in 0..4 {
            assert_eq!(quality_code(quality_by_code(code)), code);
        }
    }

    fn text(value: Value) -> String {
        match value {
            Value::Decimal(value) => value.normalize().to_string(),
            Value::F32(value) => value.to_string(),
            Value::F64(value) => value.to_string(),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f32>().prop_map(Value::F32),
            any::<f64>().prop_map(Value::F64),
            (any::<i64>(), 0u32..12).prop_map(|(m, s)| Value::Decimal(Decimal::new(m, s))),
            (-9_999_999i64..9_999_999, 0u32..4).prop_map(|(m, s)| Value::Decimal(Decimal::new(m, s))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_read_back_has_the_same_text(
            quantity in proptest::sample::select(Quantity::ALL),
            value in value(),
        ) {
            let back = items(&lay_out(&reading(vec![item(Measurand::Standard(quantity), value)])));
            prop_assert_eq!(back.len(), 1);
            prop_assert_eq!(&back[0].measurand, &Measurand::Standard(quantity));
            // -0 is 0 to a decimal
            let plain = |value| match text(value).as_str() {
                "-0" => "0".to_owned(),
                other => other.to_owned(),
            };
            prop_assert_eq!(plain(value), plain(back[0].value));
        }
    }
}

//! Stored readings as the API shows them: history, latest values, series for charts, consumption.
//!
//! The shapes here are the outside contract, shared by `/readings`, on-demand reads and the live stream, so that a
//! value looks the same wherever it is met.

use crate::base::ids::{GroupId, MeterId, PointId};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use crate::port::scope::StoreError;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// One value of one reading.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReadingItem {
    /// The quantity's name; a vendor quantity has the name of its meter model.
    #[schema(example = "active_energy_import")]
    pub quantity: String,
    /// OBIS code A-B:C.D.E*F; null for vendor quantities.
    #[schema(example = "1-0:1.8.0*255")]
    pub obis: Option<&'static str>,
    /// The value as a decimal string, in `unit`.
    #[schema(example = "1234.56")]
    pub value: String,
    /// The canonical unit; null for vendor quantities.
    #[schema(example = "kWh")]
    pub unit: Option<&'static str>,
    /// How far it can be trusted.
    #[schema(value_type = String, example = "measured")]
    pub quality: Quality,
    /// The slot's due time; null unless the source is `scheduled`.
    pub due_at: Option<DateTime<Utc>>,
    /// When the last reply arrived, our clock.
    pub read_at: DateTime<Utc>,
    /// The meter's own time, if it was read.
    pub meter_time: Option<DateTime<Utc>>,
    /// Why the reading exists.
    #[schema(value_type = String, example = "scheduled")]
    pub source: Source,
    /// The raw frames it came from, for `/frames/{id}`.
    pub frame_ids: Vec<i64>,
}

/// The text of a value: a decimal number without exponent, as exact as it is known.
pub fn value_text(value: Value) -> String {
    match value {
        Value::Decimal(decimal) => decimal.to_string(),
        // the shortest text that gives the same float back; `Display` of floats has no exponent
        Value::F32(float) => float.to_string(),
        Value::F64(float) => float.to_string(),
    }
}

/// One item of a reading as the API shows it.
pub fn item_of(reading: &Reading, item: &Item) -> ReadingItem {
    let (quantity, obis, unit) = match &item.measurand {
        Measurand::Standard(quantity) => (
            quantity.name().to_owned(),
            Some(quantity.obis()),
            Some(quantity.unit().symbol()),
        ),
        Measurand::Vendor(name) => (name.to_string(), None, None),
    };
    ReadingItem {
        quantity,
        obis,
        value: value_text(item.value),
        unit,
        quality: item.quality,
        due_at: (reading.source == Source::Scheduled).then_some(reading.ts),
        read_at: reading.read_at,
        meter_time: reading.meter_time,
        source: reading.source,
        frame_ids: reading.frames.ids().map(|id| id.0).collect(),
    }
}

/// All items of a reading as the API shows them.
pub fn items_of(reading: &Reading) -> Vec<ReadingItem> {
    reading.items.iter().map(|item| item_of(reading, item)).collect()
}

/// Where a page of readings begins: at this reading's key, behind so many of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingPlace {
    /// Its key instant.
    pub ts: DateTime<Utc>,
    /// Its source.
    pub source: Source,
    /// Items of it that were shown already.
    pub items: u32,
}

/// Which readings of a meter.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingsQuery {
    /// Key instant from (included).
    pub from: DateTime<Utc>,
    /// Key instant to (excluded).
    pub to: DateTime<Utc>,
    /// Only these quantities; empty: all.
    pub measurands: Vec<Measurand>,
    /// Where the page begins.
    pub place: Option<ReadingPlace>,
    /// Readings (not items) at most.
    pub limit: u32,
}

/// Which readings over many meters.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepQuery {
    /// Key instant from (included).
    pub from: DateTime<Utc>,
    /// Key instant to (excluded).
    pub to: DateTime<Utc>,
    /// Only of these meters; empty: all of the account.
    pub meters: Vec<MeterId>,
    /// Only these quantities; empty: all.
    pub measurands: Vec<Measurand>,
    /// Behind this reading.
    pub after: Option<(DateTime<Utc>, MeterId, Source)>,
    /// Readings (not items) at most.
    pub limit: u32,
}

/// Whose values a series shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesSubject {
    /// One meter.
    Meter(MeterId),
    /// A metering point, over the meters that stood there.
    Point(PointId),
    /// All meters of a group, each value on its own (nothing is summed).
    Group(GroupId),
}

/// Which series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesQuery {
    /// Whose.
    pub subject: SeriesSubject,
    /// What.
    pub measurand: Measurand,
    /// From (included), a bucket's edge.
    pub from: DateTime<Utc>,
    /// To (excluded).
    pub to: DateTime<Utc>,
    /// Width of a bucket, seconds.
    pub bucket_s: u32,
}

/// What one bucket holds.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesBucket {
    /// Its beginning.
    pub at: DateTime<Utc>,
    /// Values in it.
    pub count: u64,
    /// The least.
    pub min: Decimal,
    /// The greatest.
    pub max: Decimal,
    /// The mean.
    pub mean: Decimal,
}

/// The slices of a consumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Hours of the zone's wall clock (as many as the day really has).
    Hour,
    /// Days of the zone, 23 to 25 hours long.
    Day,
    /// Calendar months of the zone.
    Month,
}

/// Whose consumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumptionSubject {
    /// A metering point: whole across meter exchanges, with transformer ratios.
    Point(PointId),
    /// What one meter measured while it stood at its points, with transformer ratios.
    Meter(MeterId),
}

/// Which consumption.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumptionQuery {
    /// Whose.
    pub subject: ConsumptionSubject,
    /// Which registers; empty: all that the meters have.
    pub quantities: Vec<Quantity>,
    /// From (included), on a slice's edge.
    pub from: DateTime<Utc>,
    /// To (excluded), on a slice's edge.
    pub to: DateTime<Utc>,
    /// The slices.
    pub per: Per,
    /// The zone whose hours, days and months are meant.
    pub zone: Tz,
}

/// One slice.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ConsumptionItem {
    /// The register's name.
    #[schema(example = "active_energy_import")]
    pub quantity: &'static str,
    /// Its OBIS code.
    #[schema(example = "1-0:1.8.0*255")]
    pub obis: &'static str,
    /// Its unit.
    #[schema(example = "kWh")]
    pub unit: &'static str,
    /// Beginning of the slice (included).
    pub from: DateTime<Utc>,
    /// End of the slice (excluded).
    pub to: DateTime<Utc>,
    /// Consumption as a decimal string; null where nothing is known.
    #[schema(value_type = Option<String>, example = "12.34")]
    pub value: Option<Decimal>,
    /// How far it can be trusted: `measured`, `estimated` (over a long gap, or a part of the slice only) or `suspect`
    /// (a register went back or jumped); null with the value.
    #[schema(value_type = Option<String>, example = "measured")]
    pub quality: Option<Quality>,
    /// An edge lies between two readings.
    pub interpolated: bool,
    /// Readings cover the whole slice.
    pub complete: bool,
}

/// The readings of one account.
#[async_trait]
pub trait ReadingHistory: Send + Sync {
    /// Readings of a meter by key instant and source, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a meter of another account.
    async fn readings(&self, meter: MeterId, query: &ReadingsQuery) -> Result<Vec<Reading>, StoreError>;

    /// Readings of many meters by key instant, meter and source, oldest first. Meters that are not there have none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep(&self, query: &SweepQuery) -> Result<Vec<Reading>, StoreError>;

    /// The newest value of each quantity of a meter, by name.
    ///
    /// # Errors
    /// As above.
    async fn latest(&self, meter: MeterId) -> Result<Vec<ReadingItem>, StoreError>;

    /// Statistics per bucket, oldest first; empty buckets are left out.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a subject of another account.
    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesBucket>, StoreError>;

    /// Consumption by register, then slice.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a subject of another account.
    async fn consumption(&self, query: &ConsumptionQuery) -> Result<Vec<ConsumptionItem>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{AccountId, FrameId, FrameRange, PollId};
    use chrono::TimeZone;
    use rust_decimal::dec;
    use serde_json::json;

    #[test]
    fn an_item_is_the_contracts() {
        let ts = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
        let mut reading = Reading {
            account: AccountId(1),
            meter: MeterId(7),
            ts,
            source: Source::Scheduled,
            read_at: ts + chrono::TimeDelta::seconds(2),
            meter_time: None,
            poll: PollId(1),
            frames: FrameRange {
                first: FrameId(10),
                count: 2,
            },
            items: vec![
                Item {
                    measurand: Measurand::Standard(Quantity::ActiveEnergyImport),
                    value: Value::Decimal(dec!(1234.50)),
                    quality: Quality::Measured,
                },
                Item {
                    measurand: Measurand::Vendor("dial_position".into()),
                    value: Value::F32(230.1),
                    quality: Quality::Suspect,
                },
            ],
        };
        let shown = serde_json::to_value(items_of(&reading)).unwrap();
        assert_eq!(
            shown[0],
            json!({"quantity": "active_energy_import", "obis": "1-0:1.8.0*255", "value": "1234.50", "unit": "kWh",
                "quality": "measured", "due_at": "2026-03-01T12:00:00Z", "read_at": "2026-03-01T12:00:02Z",
                "meter_time": null, "source": "scheduled", "frame_ids": [10, 11]})
        );
        assert_eq!(
            (
                shown[1]["quantity"].clone(),
                shown[1]["obis"].clone(),
                shown[1]["value"].clone()
            ),
            (json!("dial_position"), json!(null), json!("230.1"))
        );
        reading.source = Source::OnDemand;
        assert_eq!(items_of(&reading)[0].due_at, None);
    }

    #[test]
    fn floats_have_no_exponent() {
        assert_eq!(value_text(Value::F64(1e-7)), "0.0000001");
        assert_eq!(value_text(Value::F32(1e9)), "1000000000");
    }
}

//! Readings: one row a value, by the reading's instant, then meter.

use super::directory::Directory;
use super::{PAGE, RowSource, handle, word};
use crate::base::ids::MeterId;
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Reading, Source};
use crate::port::exports::ExportAsk;
use crate::port::readings::{ReadingHistory, SweepQuery, item_of};
use crate::port::scope::{Scope, StoreError, Stores};
use crate::report::table::{Cell, Column, Row};
use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveTime, Utc};

const COLUMNS: &[Column] = &[
    Column::plain("meter_id"),
    Column::plain("meter"),
    Column::plain("quantity"),
    Column::plain("obis"),
    Column::plain("value"),
    Column::plain("unit"),
    Column::plain("quality"),
    Column::plain("source"),
    Column::instant("due_at"),
    Column::instant("read_at"),
    Column::instant("meter_time"),
];

pub(super) struct Readings {
    history: Box<dyn ReadingHistory>,
    directory: Directory,
    measurands: Vec<Measurand>,
    /// What is still to be read of.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    after: Option<(DateTime<Utc>, MeterId, Source)>,
}

impl Readings {
    pub(super) async fn open(
        stores: &dyn Stores,
        scope: &Scope,
        ask: &ExportAsk,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let measurand = |name: &String| match Quantity::by_name(name) {
            Some(quantity) => Measurand::Standard(quantity),
            None => Measurand::Vendor(name.as_str().into()),
        };
        let directory = Directory::load(stores, scope, ask, now).await?;
        let nobody = directory.wanted.as_ref().is_some_and(Vec::is_empty);
        Ok(Self {
            history: handle(stores, scope),
            directory,
            measurands: ask.quantities.iter().map(measurand).collect(),
            from: if nobody { ask.to } else { ask.from },
            to: ask.to,
            after: None,
        })
    }

    fn rows(&self, reading: &Reading, rows: &mut Vec<Row>) {
        let name = self.directory.name(reading.meter);
        for item in &reading.items {
            let item = item_of(reading, item);
            rows.push(vec![
                Cell::Whole(reading.meter.0.into()),
                Cell::text(name.clone()),
                // a vendor quantity's name comes from a model, which may be a user's own
                Cell::Text(item.quantity),
                Cell::of(item.obis, Cell::Word),
                Cell::Number(item.value),
                Cell::of(item.unit, Cell::Word),
                Cell::Text(word(item.quality)),
                Cell::Text(word(item.source)),
                Cell::instant(item.due_at),
                Cell::Instant(item.read_at),
                Cell::instant(item.meter_time),
            ]);
        }
    }
}

/// The next midnight in UTC: where a day's tables end.
fn midnight(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let next = at.date_naive().checked_add_days(Days::new(1))?;
    Some(next.and_time(NaiveTime::MIN).and_utc())
}

#[async_trait]
impl RowSource for Readings {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        if self.from >= self.to {
            return Ok(None);
        }
        // a day at a time: each statement looks into the tables of one day, however long the span is
        let end = midnight(self.from).unwrap_or(self.to).min(self.to);
        let query = SweepQuery {
            from: self.from,
            to: end,
            meters: self.directory.wanted.clone().unwrap_or_default(),
            measurands: self.measurands.clone(),
            after: self.after,
            limit: PAGE,
        };
        let readings = self.history.sweep(&query).await?;
        let full = u32::try_from(readings.len()).is_ok_and(|count| count >= PAGE);
        match readings.last().filter(|_| full) {
            Some(last) => self.after = Some((last.ts, last.meter, last.source)),
            None => (self.from, self.after) = (end, None),
        }
        let mut rows = Vec::new();
        for reading in &readings {
            self.rows(reading, &mut rows);
        }
        Ok(Some(rows))
    }
}

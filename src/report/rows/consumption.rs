//! Consumption per hour, day or month: by metering point (or by meter, where meters are asked for), register and slice.

use super::directory::Directory;
use super::{PAGE, RowSource, handle, word};
use crate::base::ids::{MeterId, PointId};
use crate::domain::consumption::{self, boundaries};
use crate::domain::quantity::Quantity;
use crate::port::exports::ExportAsk;
use crate::port::meters::PointStore;
use crate::port::readings::{ConsumptionItem, ConsumptionQuery, ConsumptionSubject, Per, ReadingHistory};
use crate::port::scope::{Scope, StoreError, Stores};
use crate::report::table::{Cell, Column, Row};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::VecDeque;

const COLUMNS: &[Column] = &[
    Column::plain("point_id"),
    Column::plain("point"),
    Column::plain("meter_id"),
    Column::plain("meter"),
    Column::plain("quantity"),
    Column::plain("obis"),
    Column::plain("unit"),
    Column::instant("from"),
    Column::instant("to"),
    Column::plain("value"),
    Column::plain("quality"),
    Column::plain("interpolated"),
    Column::plain("complete"),
];

type Span = (DateTime<Utc>, DateTime<Utc>);

/// Whose consumption is read next.
struct Subject {
    of: ConsumptionSubject,
    name: Option<String>,
}

/// Where subjects come from.
enum Subjects {
    Points {
        points: Box<dyn PointStore>,
        after: Option<PointId>,
    },
    Meters(VecDeque<MeterId>, Box<Directory>),
    None,
}

pub(super) struct Consumption {
    history: Box<dyn ReadingHistory>,
    subjects: Subjects,
    waiting: VecDeque<Subject>,
    parts: Vec<Span>,
    /// The part of the first waiting subject that is read next.
    part: usize,
    group: Option<crate::base::ids::GroupId>,
    quantities: Vec<Quantity>,
    per: Per,
    zone: Tz,
}

/// The span in parts that a question takes, cut where months begin.
fn parts(ask: &ExportAsk) -> Result<Vec<Span>, StoreError> {
    let months = match ask.per {
        Per::Hour => 1,
        Per::Day => 12,
        Per::Month => 120,
    };
    let edges = boundaries(ask.time_zone, consumption::Per::Month, ask.from, ask.to)
        .map_err(|error| StoreError::Internal(error.to_string()))?;
    let mut cuts = vec![ask.from];
    let inner = edges.iter().copied().filter(|edge| *edge > ask.from && *edge < ask.to);
    cuts.extend(inner.step_by(months));
    cuts.push(ask.to);
    Ok(cuts.iter().copied().zip(cuts.iter().copied().skip(1)).collect())
}

impl Consumption {
    pub(super) async fn open(
        stores: &dyn Stores,
        scope: &Scope,
        ask: &ExportAsk,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let subjects = if ask.meter_ids.is_empty() && ask.dtu_id.is_none() {
            Subjects::Points {
                points: handle(stores, scope),
                after: None,
            }
        } else {
            let directory = Directory::load(stores, scope, ask, now).await?;
            let wanted = directory.wanted.clone().unwrap_or_default();
            Subjects::Meters(wanted.into(), Box::new(directory))
        };
        Ok(Self {
            history: handle(stores, scope),
            subjects,
            waiting: VecDeque::new(),
            parts: parts(ask)?,
            part: 0,
            group: ask.group_id,
            quantities: ask
                .quantities
                .iter()
                .filter_map(|name| Quantity::by_name(name))
                .collect(),
            per: ask.per,
            zone: ask.time_zone,
        })
    }

    /// Fetches more subjects; false: there are no more.
    async fn fetch(&mut self) -> Result<bool, StoreError> {
        match &mut self.subjects {
            Subjects::None => return Ok(false),
            Subjects::Points { points, after } => {
                let (page, _) = points.list(None, self.group, *after, PAGE).await?;
                match page.last() {
                    Some(last) => *after = Some(last.id),
                    None => self.subjects = Subjects::None,
                }
                self.waiting.extend(page.into_iter().map(|point| Subject {
                    of: ConsumptionSubject::Point(point.id),
                    name: Some(point.name),
                }));
            }
            Subjects::Meters(meters, directory) => {
                let subject = meters.pop_front().map(|meter| Subject {
                    of: ConsumptionSubject::Meter(meter),
                    name: directory.name(meter),
                });
                match subject {
                    Some(subject) => self.waiting.push_back(subject),
                    None => self.subjects = Subjects::None,
                }
            }
        }
        Ok(true)
    }
}

fn row(subject: &Subject, item: ConsumptionItem) -> Row {
    let name = Cell::text(subject.name.clone());
    let [point_id, point, meter_id, meter] = match subject.of {
        ConsumptionSubject::Point(id) => [Cell::Whole(id.0.into()), name, Cell::Empty, Cell::Empty],
        ConsumptionSubject::Meter(id) => [Cell::Empty, Cell::Empty, Cell::Whole(id.0.into()), name],
    };
    vec![
        point_id,
        point,
        meter_id,
        meter,
        Cell::Word(item.quantity),
        Cell::Word(item.obis),
        Cell::Word(item.unit),
        Cell::Instant(item.from),
        Cell::Instant(item.to),
        Cell::of(item.value, |value| Cell::Number(value.to_string())),
        Cell::of(item.quality, |quality| Cell::Text(word(quality))),
        Cell::Flag(item.interpolated),
        Cell::Flag(item.complete),
    ]
}

#[async_trait]
impl RowSource for Consumption {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let (Some(subject), Some((from, to))) = (self.waiting.front(), self.parts.get(self.part)) else {
            return Ok(self.fetch().await?.then(Vec::new));
        };
        let query = ConsumptionQuery {
            subject: subject.of,
            quantities: self.quantities.clone(),
            from: *from,
            to: *to,
            per: self.per,
            zone: self.zone,
        };
        let items = match self.history.consumption(&query).await {
            // deleted since the job began
            Err(StoreError::NotFound(_)) => Vec::new(),
            items => items?,
        };
        let rows = items.into_iter().map(|item| row(subject, item)).collect();
        self.part = self.part.saturating_add(1);
        if self.part >= self.parts.len() {
            self.part = 0;
            self.waiting.pop_front();
        }
        Ok(Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::exports::{ExportFormat, ExportKind};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn parts_meet_at_the_zones_months() {
        let ask = ExportAsk {
            kind: ExportKind::Consumption,
            format: ExportFormat::Csv,
            from: at("2026-02-10T00:00:00Z"),
            to: at("2026-04-05T00:00:00Z"),
            time_zone: Tz::Europe__Berlin,
            meter_ids: Vec::new(),
            group_id: None,
            dtu_id: None,
            quantities: Vec::new(),
            per: Per::Hour,
            bom: false,
        };
        let found = parts(&ask).unwrap();
        assert_eq!(
            found,
            [
                (ask.from, at("2026-02-28T23:00:00Z")),
                (at("2026-02-28T23:00:00Z"), at("2026-03-31T22:00:00Z")),
                (at("2026-03-31T22:00:00Z"), ask.to),
            ]
        );
        assert_eq!(
            parts(&ExportAsk {
                per: Per::Day,
                ..ask.clone()
            })
            .unwrap()
            .len(),
            2
        );
    }
}

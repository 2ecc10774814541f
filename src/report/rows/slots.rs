//! Due slots and how they ended: by meter, then due time.

use super::directory::Directory;
use super::{PAGE, RowSource, handle, word};
use crate::base::ids::{MeterId, ScheduleId};
use crate::port::exports::ExportAsk;
use crate::port::scope::{Scope, StoreError, Stores};
use crate::port::slots::{SlotItem, SlotQuery, SlotStore};
use crate::report::table::{Cell, Column, Row};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::VecDeque;

const COLUMNS: &[Column] = &[
    Column::plain("meter_id"),
    Column::plain("meter"),
    Column::instant("due_at"),
    Column::plain("schedule_id"),
    Column::plain("kind"),
    Column::plain("state"),
    Column::plain("reason"),
    Column::plain("detail"),
    Column::plain("attempts"),
    Column::instant("ended_at"),
    Column::plain("version"),
];

pub(super) struct Slots {
    slots: Box<dyn SlotStore>,
    directory: Directory,
    /// Whose slots are still to be read, one after the other; `None` in it: those of all meters.
    left: VecDeque<Option<MeterId>>,
    span: (DateTime<Utc>, DateTime<Utc>),
    after: Option<(MeterId, DateTime<Utc>, ScheduleId)>,
    now: DateTime<Utc>,
}

impl Slots {
    pub(super) async fn open(
        stores: &dyn Stores,
        scope: &Scope,
        ask: &ExportAsk,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let directory = Directory::load(stores, scope, ask, now).await?;
        let left = match &directory.wanted {
            None => VecDeque::from([None]),
            Some(meters) => meters.iter().copied().map(Some).collect(),
        };
        Ok(Self {
            slots: handle(stores, scope),
            directory,
            left,
            span: (ask.from, ask.to),
            after: None,
            now,
        })
    }

    fn row(&self, item: SlotItem) -> Row {
        vec![
            Cell::Whole(item.meter_id.0.into()),
            Cell::text(self.directory.name(item.meter_id)),
            Cell::Instant(item.due_at),
            Cell::Whole(item.schedule_id.0.into()),
            Cell::Text(word(item.kind)),
            Cell::Text(word(item.state)),
            Cell::of(item.reason, |reason| Cell::Text(word(reason))),
            Cell::text(item.detail),
            Cell::of(item.attempts, |attempts| Cell::Whole(attempts.into())),
            Cell::instant(item.ended_at),
            Cell::Whole(item.version.into()),
        ]
    }
}

#[async_trait]
impl RowSource for Slots {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let Some(meter) = self.left.front().copied() else {
            return Ok(None);
        };
        let query = SlotQuery {
            meter,
            from: self.span.0,
            to: self.span.1,
            state: None,
            after: self.after,
            limit: usize::try_from(PAGE).unwrap_or(usize::MAX),
        };
        let page = match self.slots.slots(&query, self.now).await {
            // deleted since the job began
            Err(StoreError::NotFound(_)) => Default::default(),
            page => page?,
        };
        self.after = page.next;
        if page.next.is_none() {
            self.left.pop_front();
        }
        Ok(Some(page.items.into_iter().map(|item| self.row(item)).collect()))
    }
}

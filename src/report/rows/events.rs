//! Alarms and the audit, the newest first.

use super::{PAGE, RowSource, handle, word};
use crate::base::ids::{AlarmId, MeterId};
use crate::port::alarms::{AlarmFilter, AlarmStore, AlarmView};
use crate::port::audit::{AuditEntry, AuditFilter, AuditStore};
use crate::port::exports::ExportAsk;
use crate::port::scope::{Scope, StoreError, Stores};
use crate::report::table::{Cell, Column, Row};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::VecDeque;

const ALARMS: &[Column] = &[
    Column::plain("id"),
    Column::plain("kind"),
    Column::plain("severity"),
    Column::plain("state"),
    Column::plain("sentence"),
    Column::plain("dtu_id"),
    Column::plain("dtu"),
    Column::plain("meter_id"),
    Column::plain("meter"),
    Column::plain("rule_id"),
    Column::plain("parent_id"),
    Column::plain("victims"),
    Column::plain("occurrences"),
    Column::instant("raised_at"),
    Column::instant("cause_at"),
    Column::instant("acknowledged_at"),
    Column::plain("acknowledged_by"),
    Column::instant("shelved_until"),
    Column::plain("shelved_by"),
    Column::instant("cleared_at"),
    Column::plain("cleared_by"),
];

const AUDIT: &[Column] = &[
    Column::plain("id"),
    Column::instant("at"),
    Column::plain("actor"),
    Column::plain("action"),
    Column::plain("object"),
    Column::plain("detail"),
    Column::plain("hash"),
];

pub(super) struct Alarms {
    alarms: Box<dyn AlarmStore>,
    filter: AlarmFilter,
    /// About which meters, one after the other; `None` in it: all that the filter lets through.
    left: VecDeque<Option<MeterId>>,
    after: Option<AlarmId>,
    now: DateTime<Utc>,
}

impl Alarms {
    pub(super) fn open(stores: &dyn Stores, scope: &Scope, ask: &ExportAsk, now: DateTime<Utc>) -> Self {
        let left = if ask.meter_ids.is_empty() {
            VecDeque::from([None])
        } else {
            ask.meter_ids.iter().copied().map(Some).collect()
        };
        Self {
            alarms: handle(stores, scope),
            filter: AlarmFilter {
                dtu: ask.dtu_id,
                group: ask.group_id,
                from: Some(ask.from),
                to: Some(ask.to),
                ..AlarmFilter::default()
            },
            left,
            after: None,
            now,
        }
    }
}

fn alarm_row(alarm: AlarmView) -> Row {
    vec![
        Cell::Whole(alarm.id.0),
        Cell::Text(word(alarm.kind)),
        Cell::Text(word(alarm.severity)),
        Cell::Text(word(alarm.state)),
        Cell::Text(alarm.sentence),
        Cell::of(alarm.dtu_id, |id| Cell::Whole(id.0.into())),
        Cell::text(alarm.dtu_name),
        Cell::of(alarm.meter_id, |id| Cell::Whole(id.0.into())),
        Cell::text(alarm.meter_name),
        Cell::of(alarm.rule_id, |id| Cell::Whole(id.0.into())),
        Cell::of(alarm.parent_id, |id| Cell::Whole(id.0)),
        Cell::Whole(alarm.victims),
        Cell::Whole(alarm.occurrences.into()),
        Cell::Instant(alarm.raised_at),
        Cell::Instant(alarm.cause_at),
        Cell::instant(alarm.acknowledged_at),
        Cell::text(alarm.acknowledged_by),
        Cell::instant(alarm.shelved_until),
        Cell::text(alarm.shelved_by),
        Cell::instant(alarm.cleared_at),
        Cell::text(alarm.cleared_by),
    ]
}

#[async_trait]
impl RowSource for Alarms {
    fn columns(&self) -> &'static [Column] {
        ALARMS
    }

    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let Some(meter) = self.left.front().copied() else {
            return Ok(None);
        };
        let filter = AlarmFilter {
            meter,
            ..self.filter.clone()
        };
        let page = self.alarms.list(&filter, self.after, PAGE, self.now).await?;
        self.after = page.last().map(|alarm| alarm.id);
        if page.is_empty() {
            self.left.pop_front();
        }
        Ok(Some(page.into_iter().map(alarm_row).collect()))
    }
}

pub(super) struct Audit {
    audit: Box<dyn AuditStore>,
    filter: AuditFilter,
    before: Option<i64>,
    done: bool,
}

impl Audit {
    pub(super) fn open(stores: &dyn Stores, scope: &Scope, ask: &ExportAsk) -> Self {
        Self {
            audit: handle(stores, scope),
            filter: AuditFilter {
                from: Some(ask.from),
                to: Some(ask.to),
                ..AuditFilter::default()
            },
            before: None,
            done: false,
        }
    }
}

fn audit_row(entry: AuditEntry) -> Row {
    vec![
        Cell::Whole(entry.id),
        Cell::Instant(entry.at),
        Cell::Text(entry.actor),
        Cell::Text(entry.action),
        Cell::Text(entry.object),
        Cell::Text(entry.detail.to_string()),
        Cell::Text(entry.hash),
    ]
}

#[async_trait]
impl RowSource for Audit {
    fn columns(&self) -> &'static [Column] {
        AUDIT
    }

    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let page = self.audit.list(&self.filter, self.before, PAGE).await?;
        self.before = page.last().map(|entry| entry.id);
        self.done = page.is_empty();
        Ok(Some(page.into_iter().map(audit_row).collect()))
    }
}

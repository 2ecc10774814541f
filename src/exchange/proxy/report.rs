//! What a terminal reports of its own accord: cut into rows of meters, confirmed once it is durable and not before.
//!
//! A row is taken when it says of which meter it is (202A) and of which moment: its freeze's (2021), or, of present values,
//! when they were collected (6041, 6040) or stored (6042). A row that mixes present and frozen values, or freezes of two kinds, has
//! no one moment and is left. What was confirmed and comes again is confirmed again and is not news.

use super::{Proxy, ProxyEvent};
use crate::exchange::Moment;
use crate::exchange::visit::{LineFrame, LineFrameKind};
use crate::protocol::dlt698::{
    ADDRESS, Answered, Csd, Data, FROZEN_AT, Frame, Oad, ROW_OF, RecordResult, Report, Road, Rows, STORED_AT, Tsa,
    confirm_report,
};
use chrono::NaiveDateTime;
use std::collections::VecDeque;

/// Reports that wait to be kept; a terminal repeats what it gets no confirmation of.
const WAITING_MAX: usize = 8;
/// Confirmed reports that are known when they come again.
const CONFIRMED_MAX: usize = 8;
/// When the terminal began to collect a row, and when it had it.
const BEGAN_AT: Oad = Oad::new(0x6040, 2);
const COLLECTED_AT: Oad = Oad::new(0x6041, 2);
/// What says of a row whose it is and when it was: no values.
const MARKS: [Oad; 6] = [ROW_OF, ADDRESS, FROZEN_AT, BEGAN_AT, COLLECTED_AT, STORED_AT];
/// Objects that keep freezes: 5000 to 5011.
const FREEZES: std::ops::RangeInclusive<u16> = 0x5000..=0x5011;

/// A report that waits for [`Proxy::kept`] or [`Proxy::left`].
#[derive(Clone, Debug)]
pub struct Reported {
    /// Names it.
    pub ticket: u64,
    /// The frame, not recorded yet.
    pub frame: LineFrame,
    /// What it is of.
    pub kind: &'static str,
    /// Its rows.
    pub rows: Vec<ReportedRow>,
    /// Rows, or other things that it says, of which nobody knows the meter or the moment.
    pub left: usize,
}

/// What is reported of one meter at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedRow {
    /// The meter.
    pub meter: Tsa,
    /// The moment, in the terminal's local time.
    pub at: NaiveDateTime,
    /// The values, each with its attribute.
    pub values: Vec<(Oad, Data)>,
}

/// Reports on their way.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last: u64,
    waiting: VecDeque<Waiting>,
    /// Frames of confirmed reports with their confirmations.
    confirmed: VecDeque<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    bytes: Vec<u8>,
    confirmation: Option<Vec<u8>>,
}

impl Proxy {
    /// A report came.
    pub(super) fn reported(&mut self, now: Moment, frame: &Frame, report: &Answered<Report>, bytes: &[u8]) {
        let line = super::hearing::line_frame(now, LineFrameKind::Answer, bytes);
        let known = self.reports.confirmed.iter().find(|(known, _)| known == bytes);
        if let Some(confirmation) = known.map(|(_, confirmation)| confirmation.clone()) {
            self.events.push_back(ProxyEvent::Unasked(line));
            self.events.push_back(ProxyEvent::Replay);
            return self.confirm(now, confirmation);
        }
        if self.reports.waiting.iter().any(|waiting| waiting.bytes == bytes) {
            // it is being kept
            return self.events.push_back(ProxyEvent::Unasked(line));
        }
        let (rows, left) = rows_of(&report.body);
        self.reports.last += 1;
        let ticket = self.reports.last;
        let reported = Reported {
            ticket,
            frame: line,
            kind: match report.body {
                Report::Items(_) => "attributes",
                Report::Records(_) => "records",
                Report::Transparent(_) => "bytes of a meter",
            },
            rows,
            left,
        };
        if self.reports.waiting.len() >= WAITING_MAX {
            // the oldest is confirmed no more; it comes again
            self.reports.waiting.pop_front();
        }
        self.reports.waiting.push_back(Waiting {
            ticket,
            bytes: bytes.to_vec(),
            confirmation: confirm_report(frame, report).map(|frame| frame.wire()),
        });
        self.events.push_back(ProxyEvent::Report(Box::new(reported)));
    }

    /// All of a report is durable: it is confirmed.
    pub fn kept(&mut self, now: Moment, ticket: u64) {
        let Some(waiting) = self.reports.take(ticket) else {
            return;
        };
        let Some(confirmation) = waiting.confirmation else {
            return;
        };
        if self.reports.confirmed.len() >= CONFIRMED_MAX {
            self.reports.confirmed.pop_front();
        }
        self.reports.confirmed.push_back((waiting.bytes, confirmation.clone()));
        self.confirm(now, confirmation);
    }

    /// Not all of a report is kept: it is not confirmed, and is a new one when it comes again.
    pub fn left(&mut self, ticket: u64) {
        let _not_confirmed = self.reports.take(ticket);
    }

    fn confirm(&mut self, now: Moment, confirmation: Vec<u8>) {
        let line = super::hearing::line_frame(now, LineFrameKind::Request, &confirmation);
        self.events.push_back(ProxyEvent::Unasked(line));
        self.events.push_back(ProxyEvent::Write(confirmation));
    }
}

impl Reports {
    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        self.waiting.remove(place)
    }
}

/// The rows of a report, and how much of it is none that can be placed.
fn rows_of(report: &Report) -> (Vec<ReportedRow>, usize) {
    let records = match report {
        Report::Records(records) => records.iter(),
        // attributes are the terminal's own, and bytes of a meter have no moment
        Report::Items(items) => return (Vec::new(), items.len()),
        Report::Transparent(_) => return (Vec::new(), 1),
    };
    let (mut rows, mut left) = (Vec::new(), 0);
    for record in records {
        match &record.rows {
            Rows::Dar(_) => left += 1,
            Rows::Rows(of_record) => {
                for row in of_record {
                    match row_of(record, row) {
                        Some(row) => rows.push(row),
                        None => left += 1,
                    }
                }
            }
        }
    }
    (rows, left)
}

fn row_of(record: &RecordResult, row: &[Data]) -> Option<ReportedRow> {
    let frozen = is_of_one_kind(record)?;
    let cells = record.cells(row);
    let twice = |place: usize, oad: Oad| cells.iter().skip(place + 1).any(|(other, _)| *other == oad);
    if cells.iter().enumerate().any(|(place, (oad, _))| twice(place, *oad)) {
        return None;
    }
    let cell = |oad: Oad| cells.iter().find(|(column, _)| *column == oad).map(|(_, data)| *data);
    let meter = match cell(ROW_OF)? {
        Data::Tsa(meter) => meter.clone(),
        _ => return None,
    };
    let when = |oad: Oad| cell(oad).and_then(Data::moment);
    let at = match when(FROZEN_AT) {
        Some(at) => at,
        None if frozen => return None,
        None => [COLLECTED_AT, BEGAN_AT, STORED_AT].into_iter().find_map(when)?,
    };
    let values: Vec<(Oad, Data)> = cells
        .iter()
        .filter(|(oad, _)| !MARKS.contains(oad))
        .map(|(oad, data)| (*oad, (*data).clone()))
        .collect();
    (!values.is_empty()).then_some(ReportedRow { meter, at, values })
}

/// Whether the values of a record's rows are frozen ones; none where only some are, or where they are of several freezes.
fn is_of_one_kind(record: &RecordResult) -> Option<bool> {
    let mut freezes = record.columns.iter().filter_map(|column| match column {
        Csd::Road(Road { oad, .. }) => Some(*oad),
        Csd::Oad(_) => None,
    });
    let plain = record.columns.iter().any(|column| match column {
        Csd::Oad(oad) => !MARKS.contains(oad),
        Csd::Road(_) => false,
    });
    match (freezes.next(), freezes.next()) {
        (None, _) => Some(FREEZES.contains(&record.oad.oi)),
        (Some(_), None) if !plain => Some(true),
        _ => None,
    }
}

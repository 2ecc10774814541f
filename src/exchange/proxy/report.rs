//! What a terminal reports of its own accord: cut into rows of meters and records of events, confirmed once it is durable and
//! not before. What it reports beside an answer is taken the same way; nobody confirms that, the answer was asked for.
//!
//! A report in several frames is joined: each part but the last is confirmed at once, so that the next comes, the report as any
//! other.
//!
//! A row is taken when it says of which meter it is (202A) and of which moment: its freeze's (2021), or, of present values,
//! when they were collected (6041, 6040) or stored (6042). A row that mixes present and frozen values, or freezes of two kinds, has
//! no one moment and is left. What was confirmed and comes again is confirmed again and is not news.

use super::{Proxy, ProxyEvent};
use crate::exchange::Moment;
use crate::exchange::visit::{LineFrame, LineFrameKind};
use crate::protocol::dlt698::event::{self, Event, Told};
use crate::protocol::dlt698::{
    ADDRESS, Answered, Apdu, Csd, Data, FROZEN_AT, FollowReport, Frame, Joined, Joiner, Oad, ROW_OF, RecordResult,
    Report, Road, Rows, STORED_AT, Segment, Tsa, confirm_part_of_report, confirm_report,
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
    /// The frame, the last one of several, not recorded yet; none where it came beside an answer.
    pub frame: Option<LineFrame>,
    /// What it is of.
    pub kind: &'static str,
    /// Its rows.
    pub rows: Vec<ReportedRow>,
    /// Its records of events.
    pub events: Vec<Event>,
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
    /// The one that comes in parts; its bounds are those of an APDU.
    joiner: Joiner,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    bytes: Vec<u8>,
    confirmation: Option<Vec<u8>>,
}

impl Proxy {
    /// A part of a report came; `bytes` are its frame's.
    pub(super) fn part_reported(&mut self, now: Moment, frame: &Frame, bytes: &[u8]) {
        let Some(joined) = Segment::parse(frame.data())
            .and_then(|part| self.reports.joiner.take(&part))
            .ok()
        else {
            return self.stray(now, bytes);
        };
        match joined {
            Joined::More { confirm } | Joined::Again { confirm } => {
                let line = super::hearing::line_frame(now, LineFrameKind::Answer, bytes);
                self.events.push_back(ProxyEvent::Unasked(line));
                if let Some(confirmation) = confirm_part_of_report(frame, confirm) {
                    self.confirm(now, confirmation.wire());
                }
            }
            Joined::Whole(apdu) => match Apdu::parse(&apdu) {
                Ok(Apdu::Report(report)) => self.reported(now, frame, &report, (bytes, &apdu)),
                _ => self.stray(now, bytes),
            },
        }
    }

    /// What an answer reports besides.
    pub(super) fn followed(&mut self, apdu: &Apdu) {
        let Some(follow) = apdu.follow() else { return };
        let (rows, told, left) = follows(follow);
        if rows.is_empty() && told.events.is_empty() {
            // status words, and what cannot be placed: nobody waits for it
            return;
        }
        self.reports.last += 1;
        self.events.push_back(ProxyEvent::Report(Box::new(Reported {
            ticket: self.reports.last,
            frame: None,
            kind: "beside an answer",
            rows,
            left,
            events: told.events,
        })));
    }

    /// A report came: the frame that ended it, what it is known by when it comes again, and it.
    pub(super) fn reported(
        &mut self,
        now: Moment,
        frame: &Frame,
        report: &Answered<Report>,
        (wire, bytes): (&[u8], &[u8]),
    ) {
        let line = super::hearing::line_frame(now, LineFrameKind::Answer, wire);
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
        let mut events = Told::of_report(&report.body);
        let (mut rows, mut left) = rows_of(&report.body);
        if let Some(follow) = &report.follow {
            let (more_rows, more, more_left) = follows(follow);
            rows.extend(more_rows);
            events.events.extend(more.events);
            left += more_left;
        }
        self.reports.last += 1;
        let ticket = self.reports.last;
        let reported = Reported {
            ticket,
            frame: Some(line),
            kind: match report.body {
                Report::Items(_) => "attributes",
                Report::Records(_) => "records",
                Report::Transparent(_) => "bytes of a meter",
            },
            rows,
            left: left + events.left,
            events: events.events,
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

/// The rows and events of what is reported beside something, and how much of it is a row or an event that cannot be placed.
/// Attributes are the terminal's own.
fn follows(follow: &FollowReport) -> (Vec<ReportedRow>, Told, usize) {
    let (rows, left) = match follow {
        FollowReport::Items(_) => (Vec::new(), 0),
        FollowReport::Records(records) => rows_of_records(records),
    };
    let told = Told::of_follow(follow);
    let left = left + told.left;
    (rows, told, left)
}

/// The rows of a report, and how much of it is none that can be placed. Events are no rows.
fn rows_of(report: &Report) -> (Vec<ReportedRow>, usize) {
    match report {
        Report::Records(records) => rows_of_records(records),
        // attributes are the terminal's own, and bytes of a meter have no moment
        Report::Items(items) => {
            let left = items.iter().filter(|item| !event::is_event(item.oad.oi));
            (Vec::new(), left.count())
        }
        Report::Transparent(_) => (Vec::new(), 1),
    }
}

fn rows_of_records(records: &[RecordResult]) -> (Vec<ReportedRow>, usize) {
    let (mut rows, mut left) = (Vec::new(), 0);
    for record in records.iter().filter(|record| !event::is_of_events(record)) {
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

//! Values that a terminal reports of its own accord, as its report tasks have it: cut by measuring point, confirmed once they are
//! durable and not before. They are of the same functions as answers: 0C present, 0D frozen.

use super::{LineFrame, LineFrameKind, Moment, Trunk, TrunkEvent};
use crate::base::bytes::FrameBytes;
use crate::exchange::dialogue::DialogueEvent;
use crate::protocol::Protocol;
use crate::protocol::gdw376::{Afn, Edition, Message, Unit};

/// What is reported of one item of a measuring point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointRow {
    /// The measuring point.
    pub point: u16,
    /// Present or frozen values.
    pub afn: Afn,
    /// The item.
    pub unit: Unit,
}

/// A report of values: [`Trunk::values_kept`] or [`Trunk::values_left`] is said of each.
#[derive(Debug)]
pub struct Values {
    /// Its last frame, not recorded yet.
    pub frame: LineFrame,
    /// What it says of measuring points.
    pub rows: Vec<PointRow>,
    /// Items of the terminal itself, which are of no meter.
    pub left: usize,
    report: Vec<Message>,
}

impl Values {
    /// The function that the report names, in words.
    pub fn function(&self) -> &'static str {
        self.report.first().map_or("", |message| message.afn.name())
    }

    /// How many frames it has.
    pub fn frames(&self) -> usize {
        self.report.len()
    }
}

/// The rows of a report of values; none where it is of something else, or cannot be read.
fn rows(report: &[Message]) -> Option<(Vec<PointRow>, usize)> {
    let (mut rows, mut left) = (Vec::new(), 0);
    for message in report {
        let afn = message.afn;
        if ![Afn::REALTIME, Afn::HISTORY].contains(&afn) {
            return None;
        }
        for unit in message.units(Edition::default()).ok()? {
            match unit.id.pn.number() {
                Some(point) if point > 0 => rows.push(PointRow { point, afn, unit }),
                _ => left += 1,
            }
        }
    }
    Some((rows, left))
}

impl Trunk {
    /// Takes a report of values, whose last frame this is, out of what the dialogue says; false where there is none.
    pub(super) fn take_values(&mut self, now: Moment, events: &mut Vec<DialogueEvent>, frame: &[u8]) -> bool {
        let found = events.iter().enumerate().find_map(|(place, event)| match event {
            DialogueEvent::Report(report) => rows(report).map(|rows| (place, rows)),
            _ => None,
        });
        let Some((place, (rows, left))) = found else {
            return false;
        };
        let DialogueEvent::Report(report) = events.remove(place) else {
            return false;
        };
        let frame = LineFrame {
            at: now.at,
            meter: None,
            poll: None,
            kind: LineFrameKind::Answer,
            protocol: Protocol::Gdw376.name(),
            bytes: FrameBytes::from_slice(frame),
            turn: None,
        };
        self.events.push_back(TrunkEvent::Values(Box::new(Values {
            frame,
            rows,
            left,
            report,
        })));
        true
    }

    /// All of a report is durable: it is confirmed.
    pub fn values_kept(&mut self, now: Moment, values: &Values) {
        self.confirm(now, &values.report);
    }

    /// Not all of a report is kept: it is not confirmed, and is a new one when it comes again.
    pub fn values_left(&mut self, values: &Values) {
        self.lost(&values.report);
    }
}

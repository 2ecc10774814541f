//! From answer frames to reading items.

use super::dlt645::history::{DecodedPast, Past};
use super::model::{MeterModel, Profile};
use super::{cjt188, dlt645, dlt698, gdw376, mbus, modbus};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand};
use crate::protocol::Request;
use crate::protocol::dlt698::{Data, Oad};
use crate::protocol::gdw376::{Afn, Unit};
use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// What the answers of one visit say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedPoll {
    /// The values, in canonical units; at most one per measurand. Everything that the answers hold: a read that runs
    /// across an unwanted value brings that as well, see [`DecodedPoll::only`].
    pub items: Vec<Item>,
    /// The meter's own time, if it was read and is an instant without regard to its zone.
    pub meter_time: Option<DateTime<Utc>>,
    /// The meter's own local time as it says it, if it was read; [`instant`] makes an instant of it by the meter's zone.
    pub meter_local: Option<NaiveDateTime>,
    /// When the values were taken, where who is asked keeps them: a concentrator's local time. Of several the oldest.
    pub taken_local: Option<NaiveDateTime>,
    /// What was asked for and did not come to a value.
    pub problems: Vec<Problem>,
}

/// A value that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", name(measurand))]
pub struct Problem {
    /// Which.
    pub measurand: Measurand,
    /// Why.
    pub kind: ProblemKind,
}

/// Why a value is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The request for it has no answer.
    #[error("not answered")]
    NotAnswered,
    /// The frame is not the answer to its request; why, in the protocol's words.
    #[error("{0}")]
    Undecodable(String),
    /// The meter itself says that it has no such value.
    #[error("the meter says that it has no value")]
    NoValue,
    /// The answer holds no usable number; why, with the bytes in question.
    #[error("{0}")]
    Unusable(String),
}

impl ProblemKind {
    /// Whether the meter answered in good order that it has no such value.
    pub fn is_no_value(&self) -> bool {
        *self == Self::NoValue
    }
}

impl DecodedPoll {
    /// The instant that the meter's clock says, by its zone where the clock knows none.
    pub fn clock(&self, zone: Tz) -> Option<DateTime<Utc>> {
        self.meter_time
            .or_else(|| self.meter_local.and_then(|local| instant(local, zone)))
    }

    /// Keeps the wanted quantities only; empty `wanted`: everything.
    #[must_use]
    pub fn only(mut self, wanted: &[Quantity]) -> Self {
        if !wanted.is_empty() {
            let keep = |measurand: &Measurand| matches!(measurand, Measurand::Standard(q) if wanted.contains(q));
            self.items.retain(|item| keep(&item.measurand));
            self.problems.retain(|problem| keep(&problem.measurand));
        }
        self
    }
}

/// Decodes the answers of a plan: one frame per request, none where there is no answer; missing ones at the end count as
/// none.
pub fn decode(model: &MeterModel, requests: &[Request], frames: &[Option<&[u8]>]) -> DecodedPoll {
    let frames = frames.iter().copied().chain(std::iter::repeat(None));
    match &model.profile {
        Profile::Modbus(profile) => {
            let answers = requests
                .iter()
                .zip(frames)
                .filter_map(|(request, frame)| match request {
                    Request::Modbus(request) => Some((request, frame)),
                    _ => None,
                });
            modbus::decode::decode(profile, answers)
        }
        Profile::Dlt645(profile) => dlt645::decode::decode(profile, items(requests.iter().zip(frames))),
        Profile::Cjt188(profile) => {
            let answers = requests.iter().zip(frames);
            cjt188::decode::decode(profile, records(answers))
        }
        Profile::Mbus(profile) => mbus::decode::decode(profile, readouts(requests.iter().zip(frames))),
        Profile::Gdw376(profile) => gdw376::decode::decode(profile, points(requests.iter().zip(frames))),
        Profile::Dlt698(profile) => dlt698::decode::decode(profile, attributes(requests.iter().zip(frames))),
    }
}

/// What the answers to [`super::plan::history`] say; frames as in [`decode`]. `now` is today's time at the meter, in its
/// own zone.
pub fn decode_past(
    model: &MeterModel,
    past: Past,
    now: NaiveDateTime,
    requests: &[Request],
    frames: &[Option<&[u8]>],
) -> DecodedPast {
    let frames = frames.iter().copied().chain(std::iter::repeat(None));
    match &model.profile {
        Profile::Modbus(_) => DecodedPast::default(),
        Profile::Cjt188(profile) => {
            let answers = requests.iter().zip(frames);
            cjt188::history::decode(profile, past, now, records(answers))
        }
        Profile::Dlt645(profile) => dlt645::history::decode(profile, past, now, items(requests.iter().zip(frames))),
        Profile::Mbus(profile) => mbus::decode::decode_past(profile, past, readouts(requests.iter().zip(frames))),
        Profile::Gdw376(profile) => gdw376::decode::decode_past(profile, past, points(requests.iter().zip(frames))),
        Profile::Dlt698(profile) => dlt698::decode::decode_past(profile, past, attributes(requests.iter().zip(frames))),
    }
}

/// What attributes say that a terminal reported of a meter of DL/T 698.45; nothing of any other model.
pub fn decode_reported(model: &MeterModel, values: &[(Oad, Data)]) -> DecodedPoll {
    match &model.profile {
        Profile::Dlt698(profile) => dlt698::decode::decode_reported(profile, values),
        _ => DecodedPoll::default(),
    }
}

/// What was reported of a meter at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedState {
    /// The moment, in the terminal's local time.
    pub at: NaiveDateTime,
    /// What it says in the words of the model; empty where the terminal has no value.
    pub items: Vec<Item>,
}

/// What an item says that a concentrator of Q/GDW 1376.1 reported of a measuring point; none where the model does not have the
/// item, or nothing says of which moment it is.
pub fn decode_reported_item(model: &MeterModel, afn: Afn, unit: &Unit) -> Option<ReportedState> {
    match &model.profile {
        Profile::Gdw376(profile) => gdw376::decode::decode_reported(profile, afn, unit),
        _ => None,
    }
}

fn items<'a>(
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a crate::protocol::dlt645::Request, Option<&'a [u8]>)> {
    answers.filter_map(|(request, frame)| match request {
        Request::Dlt645(request) => Some((request, frame)),
        _ => None,
    })
}

fn readouts<'a>(
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a crate::protocol::mbus::Request, Option<&'a [u8]>)> {
    answers.filter_map(|(request, frame)| match request {
        Request::Mbus(request) => Some((request, frame)),
        _ => None,
    })
}

fn attributes<'a>(
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a crate::protocol::dlt698::Request, Option<&'a [u8]>)> {
    answers.filter_map(|(request, frame)| match request {
        Request::Dlt698(request) => Some((request, frame)),
        _ => None,
    })
}

fn points<'a>(
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a crate::protocol::gdw376::Request, Option<&'a [u8]>)> {
    answers.filter_map(|(request, frame)| match request {
        Request::Gdw376(request) => Some((request, frame)),
        _ => None,
    })
}

fn records<'a>(
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a crate::protocol::cjt188::Request, Option<&'a [u8]>)> {
    answers.filter_map(|(request, frame)| match request {
        Request::Cjt188(request) => Some((request, frame)),
        _ => None,
    })
}

/// The instant of a meter's local time. In the hour that autumn repeats the earlier of both; none in the hour that spring
/// leaves out, where no clock that keeps the zone can stand.
pub fn instant(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    zone.from_local_datetime(&local)
        .earliest()
        .map(|at| at.with_timezone(&Utc))
}

/// The name of a measurand.
pub fn name(measurand: &Measurand) -> &str {
    match measurand {
        Measurand::Standard(quantity) => quantity.name(),
        Measurand::Vendor(name) => name,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

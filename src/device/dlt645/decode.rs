//! From answer frames to reading items.

use super::{ItemProfile, Point, block_items};
use crate::device::decode::{DecodedPoll, Problem, ProblemKind};
use crate::protocol::dlt645::items::{self, Value};
use crate::protocol::dlt645::{Di, Reply, Request};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use rust_decimal::Decimal;

/// Decodes every point that the requests bring, and the clock.
pub(in crate::device) fn decode<'a>(
    profile: &ItemProfile,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    let mut done: Vec<usize> = Vec::new();
    let (mut date, mut time) = (None, None);
    for (request, frames) in answers {
        let Some(asked) = request.di() else { continue };
        let data = frames.map(|frames| data(request, frames));
        if let (true, Some(Ok(data))) = (profile.clock.contains(&asked), &data) {
            match items::definition(asked, 0).and_then(|item| item.format.read(data).ok()) {
                Some(Value::Time(both)) => poll.meter_local = Some(both),
                Some(Value::Date(said)) => date = Some(said),
                Some(Value::TimeOfDay(said)) => time = Some(said),
                _ => {}
            }
        }
        let brought: Vec<Di> = if items::is_block(asked) {
            block_items(asked).collect()
        } else {
            vec![asked]
        };
        for (index, point) in profile.points.iter().enumerate() {
            if !brought.contains(&point.di) || done.contains(&index) {
                continue;
            }
            let value = match &data {
                None => Err(ProblemKind::NotAnswered),
                Some(Err(why)) => Err(ProblemKind::Undecodable(why.clone())),
                Some(Ok(data)) => number(point, asked, data),
            };
            match value {
                Ok(number) => {
                    done.push(index);
                    poll.items.push(point.item(number));
                }
                Err(kind) => poll.problems.push(Problem {
                    measurand: point.measurand.clone(),
                    kind,
                }),
            }
        }
    }
    // what failed in a block and came by itself is no problem
    let items = &poll.items;
    poll.problems
        .retain(|problem| !items.iter().any(|item| item.measurand == problem.measurand));
    if let (Some(date), Some(time)) = (date, time) {
        poll.meter_local = joined(date, time);
    }
    poll
}

/// Date and time of two reads. Within a minute of midnight the date may have been yesterday's when it was read, so nothing
/// is said.
fn joined(date: NaiveDate, time: NaiveTime) -> Option<NaiveDateTime> {
    (time.num_seconds_from_midnight() >= 60).then(|| date.and_time(time))
}

/// The data of an answer.
pub(super) fn data(request: &Request, frames: &[u8]) -> Result<Vec<u8>, String> {
    match request.reply(frames) {
        Ok(Reply::Data(data)) => Ok(data),
        Ok(_) => Err("the answer brings no data".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The number of a point in the data that answer `asked`.
fn number(point: &Point, asked: Di, data: &[u8]) -> Result<Decimal, ProblemKind> {
    let value = if asked == point.di {
        // the point's own form goes before the table's
        let data = match data.strip_suffix(&[0xAA]) {
            Some(rest) if rest.len() == point.format.size() => rest,
            _ => data,
        };
        point.format.read(data)
    } else {
        let split = items::split(asked, data).map_err(|error| ProblemKind::Unusable(error.to_string()))?;
        let item = split.iter().find(|item| item.definition.di == Some(point.di));
        // a block that ends before it: the meter has no such item
        let item = item.ok_or(ProblemKind::NoValue)?;
        point.format.read(item.raw)
    };
    match value.map_err(|error| ProblemKind::Unusable(format!("{asked}: {error}")))? {
        Value::None => Err(ProblemKind::NoValue),
        Value::Number(number) | Value::Demand { value: number, .. } => Ok(number),
        Value::Bits(bits) => Ok(Decimal::from(field(point, bits))),
        _ => Err(ProblemKind::Unusable(format!("{asked} brings no number"))),
    }
}

fn field(point: &Point, bits: u64) -> u64 {
    match point.bits {
        None => bits,
        Some((offset, width)) => {
            let mask = 1u64.checked_shl(width.into()).map_or(u64::MAX, |above| above - 1);
            let found = bits >> offset & mask;
            if point.invert { found ^ mask } else { found }
        }
    }
}

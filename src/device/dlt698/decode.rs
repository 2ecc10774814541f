//! From a meter's answers to reading items.

use super::plan::kept;
use super::{ObjectProfile, Point, whole};
use crate::device::decode::{DecodedPoll, Problem, ProblemKind};
use crate::device::dlt645::history::{DecodedPast, Past};
use crate::device::dlt645::item;
use crate::domain::reading::Item;
use crate::protocol::dlt698::{
    Apdu, CLOCK, Dar, Data, FROZEN_AT, GetBody, GetResult, ItemResult, Oad, Request, Rows, ValueResult,
};
use rust_decimal::Decimal;

type Answered<'a> = (&'a Request, Option<&'a [u8]>);
/// What was said of an attribute that was asked for.
type Said = Result<Data, ProblemKind>;

/// Decodes every point that the requests bring, and the clock.
pub(in crate::device) fn decode<'a>(
    profile: &ObjectProfile,
    answers: impl Iterator<Item = Answered<'a>>,
) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    for (request, frames) in answers {
        for (oad, said) in attributes(request, frames) {
            if oad == CLOCK {
                poll.meter_local = poll.meter_local.or(said.ok().as_ref().and_then(Data::moment));
                continue;
            }
            for point in profile.points.iter().filter(|point| brings(oad, point.oad)) {
                if !has(&poll.items, point) {
                    take(point, value(oad, point.oad, &said), &mut poll.items, &mut poll.problems);
                }
            }
        }
    }
    // what was refused in a list and came by itself is no problem
    let items = &poll.items;
    poll.problems
        .retain(|problem| !items.iter().any(|item| item.measurand == problem.measurand));
    poll
}

/// The same of attributes that came without a question.
pub(in crate::device) fn decode_reported(profile: &ObjectProfile, values: &[(Oad, Data)]) -> DecodedPoll {
    let mut poll = DecodedPoll::default();
    for (oad, data) in values {
        let said: Said = Ok(data.clone());
        for point in profile.points.iter().filter(|point| brings(*oad, point.oad)) {
            if !has(&poll.items, point) {
                take(
                    point,
                    value(*oad, point.oad, &said),
                    &mut poll.items,
                    &mut poll.problems,
                );
            }
        }
    }
    poll
}

/// The same of a freeze. Its moment is the one that stands in its row.
pub(in crate::device) fn decode_past<'a>(
    profile: &ObjectProfile,
    past: Past,
    answers: impl Iterator<Item = Answered<'a>>,
) -> DecodedPast {
    let mut out = DecodedPast::default();
    let Some(kept) = kept(profile, past) else {
        return out;
    };
    for (request, frames) in answers {
        let row = row(request, frames);
        let cell = |oad: Oad| match &row {
            Ok(cells) => cells
                .iter()
                .find(|(column, _)| *column == oad)
                .map_or(Err(ProblemKind::NoValue), |(_, data)| Ok(data.clone())),
            Err(kind) => Err(kind.clone()),
        };
        out.at = out.at.or(cell(FROZEN_AT).ok().as_ref().and_then(Data::moment));
        for point in &kept.points {
            let column = whole(point.oad);
            let number = value(column, point.oad, &cell(column));
            take(point, number, &mut out.items, &mut out.problems);
        }
    }
    out
}

/// Every attribute that a question asks for, with what was said of it. An answer that does not match says nothing of any.
fn attributes(request: &Request, frames: Option<&[u8]>) -> Vec<(Oad, Said)> {
    let Some(Apdu::Get(asked)) = request.apdu() else {
        return Vec::new();
    };
    let asked: Vec<Oad> = match &asked.body {
        GetBody::Normal(oad) => vec![*oad],
        GetBody::List(list) => list.iter().copied().collect(),
        _ => return Vec::new(),
    };
    let failed = |kind: ProblemKind| asked.iter().map(|oad| (*oad, Err(kind.clone()))).collect();
    let Some(frames) = frames else {
        return failed(ProblemKind::NotAnswered);
    };
    let results: Vec<ItemResult> = match request.reply(frames) {
        Ok(Apdu::GetAnswer(answered)) => match answered.body {
            GetResult::Normal(one) => vec![one],
            GetResult::List(list) => list.into_inner(),
            _ => Vec::new(),
        },
        Ok(_) => Vec::new(),
        Err(error) => return failed(ProblemKind::Undecodable(error.to_string())),
    };
    // matched before: the same attributes in the same order
    let said = |result: ItemResult| match result.result {
        ValueResult::Data(data) => (result.oad, Ok(data)),
        ValueResult::Dar(dar) => (result.oad, Err(refused(dar))),
    };
    results.into_iter().map(said).collect()
}

/// The cells of the one row that answers, by column.
fn row(request: &Request, frames: Option<&[u8]>) -> Result<Vec<(Oad, Data)>, ProblemKind> {
    let frames = frames.ok_or(ProblemKind::NotAnswered)?;
    let answer = request
        .reply(frames)
        .map_err(|error| ProblemKind::Undecodable(error.to_string()))?;
    let record = match answer {
        Apdu::GetAnswer(answered) => match answered.body {
            GetResult::Record(record) => record,
            _ => return Err(ProblemKind::Undecodable("the answer brings no record".to_owned())),
        },
        other => return Err(ProblemKind::Undecodable(format!("{} is no answer", other.name()))),
    };
    match &record.rows {
        Rows::Dar(dar) => Err(refused(*dar)),
        Rows::Rows(rows) => match rows.as_slice() {
            [] => Err(ProblemKind::NoValue),
            [row] => {
                let cells = record.cells(row).into_iter();
                Ok(cells.map(|(oad, data)| (oad, data.clone())).collect())
            }
            several => Err(ProblemKind::Unusable(format!(
                "one freeze was asked for, {} came",
                several.len()
            ))),
        },
    }
}

/// A device that does not know an object has no such value; everything else is a failure.
fn refused(dar: Dar) -> ProblemKind {
    match dar {
        Dar::UNDEFINED => ProblemKind::NoValue,
        // object does not exist
        Dar(6) => ProblemKind::NoValue,
        other => ProblemKind::Unusable(format!("the meter refuses: {other}")),
    }
}

/// Whether a question for `asked` brings the value at `oad`.
fn brings(asked: Oad, oad: Oad) -> bool {
    asked == oad || asked == whole(oad)
}

fn has(items: &[Item], point: &Point) -> bool {
    items.iter().any(|item| item.measurand == point.measurand)
}

/// The number at `oad` in what was said of `asked`.
fn value(asked: Oad, oad: Oad, said: &Said) -> Result<Decimal, ProblemKind> {
    let data = said.as_ref().map_err(Clone::clone)?;
    let element = match (asked.index, usize::from(oad.index), data) {
        (0, place @ 1.., Data::Array(elements)) => elements.get(place - 1).ok_or(ProblemKind::NoValue)?,
        // a meter with one value gives it without a list around it
        (0, 2.., _) => return Err(ProblemKind::NoValue),
        // asked for one element, some give a list of it
        (1.., _, Data::Array(elements)) => match elements.as_slice() {
            [one] => one,
            _ => return Err(ProblemKind::Unusable(format!("{asked} brings a list"))),
        },
        _ => data,
    };
    let element = match element {
        // a maximum demand, and when it was so
        Data::Structure(fields) => fields.first().unwrap_or(element),
        other => other,
    };
    match element {
        Data::Null => Err(ProblemKind::NoValue),
        other => other
            .number()
            .ok_or_else(|| ProblemKind::Unusable(format!("{oad} brings {}, no number", other.type_name()))),
    }
}

fn take(point: &Point, value: Result<Decimal, ProblemKind>, items: &mut Vec<Item>, problems: &mut Vec<Problem>) {
    match value {
        Ok(number) => items.push(item(&point.measurand, number, point.factor)),
        Err(kind) => problems.push(Problem {
            measurand: point.measurand.clone(),
            kind,
        }),
    }
}

//! What a meter keeps of the past: daily freezes and settlements, with the meter's own time, for filling what was missed.

use super::decode::data;
use super::plan::read;
use super::{ItemProfile, item};
use crate::device::decode::{Problem, ProblemKind};
use crate::domain::reading::{Item, Measurand};
use crate::protocol::dlt645::items::{self, Form, Value};
use crate::protocol::dlt645::{Address, Di, Request};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime};
use rust_decimal::Decimal;

/// One past state of a meter's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Past {
    /// The n-th last daily freeze, from 1. It is n days ago only if the meter was under power at each midnight: its time
    /// says which.
    Daily(u8),
    /// The n-th last settlement, from 1.
    Settlement(u8),
}

impl Past {
    /// How many back.
    pub fn back(self) -> u8 {
        match self {
            Self::Daily(n) | Self::Settlement(n) => n,
        }
    }

    /// Which kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::Daily(_) => Kind::Daily,
            Self::Settlement(_) => Kind::Settlement,
        }
    }
}

/// The kinds of past states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Daily freezes.
    Daily,
    /// Settlements.
    Settlement,
}

/// Identifiers of the n-th last state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// The low byte is n.
    LowByte(Di),
    /// One for each n, from 1.
    Listed(Vec<Di>),
}

impl Numbered {
    pub(super) fn nth(&self, back: u8) -> Option<Di> {
        match self {
            Self::LowByte(Di::E2007(di)) => Some(Di::E2007((di & !0xFF) | u32::from(back))),
            Self::LowByte(Di::E1997(di)) => Some(Di::E1997((di & !0xFF) | u16::from(back))),
            Self::Listed(list) => list.get(usize::from(back).checked_sub(1)?).copied(),
        }
    }
}

/// What is kept of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct PastProfile {
    /// Which.
    pub kind: Kind,
    /// How many.
    pub max: u8,
    /// Where the time of each is.
    pub time: Option<Numbered>,
    /// Where the day and hour of settlements are, when nothing says the time.
    pub days: Vec<Di>,
    /// The values.
    pub points: Vec<PastPoint>,
}

/// One value of a past state.
#[derive(Clone, Debug, PartialEq)]
pub struct PastPoint {
    /// What it is.
    pub measurand: Measurand,
    /// Where it is.
    pub di: Numbered,
    /// Which item of what the identifier brings, from 0.
    pub item: usize,
    /// What makes the canonical unit of it.
    pub factor: Decimal,
}

/// A past state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedPast {
    /// The values, in canonical units.
    pub items: Vec<Item>,
    /// When it was, in the meter's own local time; none where the meter does not say.
    pub at: Option<NaiveDateTime>,
    /// What is not there, and why.
    pub problems: Vec<Problem>,
}

/// The reads that bring a past state; nothing where the meter does not keep it. The times come first.
pub(in crate::device) fn requests(profile: &ItemProfile, address: Address, past: Past) -> Vec<Request> {
    let Some(kept) = kept(profile, past) else {
        return Vec::new();
    };
    let mut wanted: Vec<Di> = kept.time.iter().filter_map(|time| time.nth(past.back())).collect();
    if wanted.is_empty() {
        wanted.extend(&kept.days);
    }
    for di in kept.points.iter().filter_map(|point| point.di.nth(past.back())) {
        if !wanted.contains(&di) {
            wanted.push(di);
        }
    }
    wanted.into_iter().map(|di| read(profile, address, di)).collect()
}

fn kept(profile: &ItemProfile, past: Past) -> Option<&PastProfile> {
    let kind = past.kind();
    let of_kind = profile.history.iter().find(|kept| kept.kind == kind)?;
    (1..=of_kind.max).contains(&past.back()).then_some(of_kind)
}

/// What was asked, and its data or why there are none; none without an answer.
type Answer = (Di, Option<Result<Vec<u8>, String>>);

/// What the answers say of a past state. `now`: the meter's local time of today, to know of which month the last
/// settlement is.
pub(in crate::device) fn decode<'a>(
    profile: &ItemProfile,
    past: Past,
    now: NaiveDateTime,
    answers: impl Iterator<Item = (&'a Request, Option<&'a [u8]>)>,
) -> DecodedPast {
    let mut out = DecodedPast::default();
    let Some(kept) = kept(profile, past) else {
        return out;
    };
    let answers: Vec<Answer> = answers
        .filter_map(|(request, frames)| Some((request.di()?, frames.map(|frames| data(request, frames)))))
        .collect();
    let found = |di: Di| {
        answers
            .iter()
            .find(|(asked, _)| *asked == di)
            .and_then(|(_, data)| data.as_ref())
    };
    out.at = match &kept.time {
        Some(time) => time.nth(past.back()).and_then(|di| match found(di) {
            Some(Ok(data)) => time_of(di, data),
            _ => None,
        }),
        None => {
            let days = kept.days.iter().map(|di| match found(*di) {
                Some(Ok(data)) => day_of(*di, data),
                _ => None,
            });
            let days: Option<Vec<Day>> = days.collect();
            days.and_then(|days| settled_at(&days, now, past.back()))
        }
    };
    for point in &kept.points {
        let value = match point.di.nth(past.back()).map(|di| (di, found(di))) {
            None | Some((_, None)) => Err(ProblemKind::NotAnswered),
            Some((_, Some(Err(why)))) => Err(ProblemKind::Undecodable(why.clone())),
            Some((di, Some(Ok(data)))) => number(di, point.item, data),
        };
        match value {
            Ok(number) => out.items.push(item(&point.measurand, number, point.factor)),
            Err(kind) => out.problems.push(Problem {
                measurand: point.measurand.clone(),
                kind,
            }),
        }
    }
    out
}

fn number(di: Di, index: usize, data: &[u8]) -> Result<Decimal, ProblemKind> {
    let unusable = |why: String| ProblemKind::Unusable(why);
    let split = items::split(di, data).map_err(|error| unusable(error.to_string()))?;
    let item = split.get(index).ok_or(ProblemKind::NoValue)?;
    match &item.value {
        Ok(Value::None) => Err(ProblemKind::NoValue),
        Ok(Value::Number(number) | Value::Demand { value: number, .. }) => Ok(*number),
        Ok(_) => Err(unusable(format!("{di} brings no number"))),
        Err(error) => Err(unusable(format!("{di}: {error}"))),
    }
}

fn time_of(di: Di, data: &[u8]) -> Option<NaiveDateTime> {
    match items::split(di, data).ok()?.first()?.value {
        Ok(Value::Time(at)) => Some(at),
        _ => None,
    }
}

/// A settlement day of each month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// This day at this hour.
    At(u32, u32),
    /// Not in use: 9999 or 0000.
    Unused,
}

fn day_of(di: Di, data: &[u8]) -> Option<Day> {
    match &items::split(di, data).ok()?.first()?.value {
        Ok(Value::PartOfTime(Form::DayHour, digits)) => {
            let (day, hour) = digits.split_at_checked(2)?;
            let (day, hour): (u32, u32) = (day.parse().ok()?, hour.parse().ok()?);
            match (day, hour) {
                (1..=28, 0..=23) => Some(Day::At(day, hour)),
                (99, _) | (0, _) => Some(Day::Unused),
                _ => None,
            }
        }
        Ok(Value::None) => Some(Day::Unused),
        _ => None,
    }
}

/// The `back`-th last moment before `now` that is a settlement day's hour.
fn settled_at(days: &[Day], now: NaiveDateTime, back: u8) -> Option<NaiveDateTime> {
    let used: Vec<(u32, u32)> = days
        .iter()
        .filter_map(|day| match day {
            Day::At(day, hour) => Some((*day, *hour)),
            Day::Unused => None,
        })
        .collect();
    if used.is_empty() {
        return None;
    }
    let month = NaiveDate::from_ymd_opt(now.year(), now.month(), 1)?;
    let mut moments = Vec::new();
    for ago in 0..=u32::from(back) {
        let month = month.checked_sub_months(Months::new(ago))?;
        for (day, hour) in &used {
            let at = month.with_day(*day).and_then(|date| date.and_hms_opt(*hour, 0, 0));
            moments.extend(at.filter(|at| *at <= now));
        }
    }
    moments.sort_unstable();
    moments.dedup();
    moments.into_iter().rev().nth(usize::from(back).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn settlements_are_counted_back_from_now() {
        let now = at("2026-11-21T14:00:00");
        let first = [Day::At(1, 0)];
        assert_eq!(settled_at(&first, now, 1), Some(at("2026-11-01T00:00:00")));
        assert_eq!(settled_at(&first, now, 12), Some(at("2025-12-01T00:00:00")));
        let late = [Day::At(25, 23), Day::Unused];
        assert_eq!(settled_at(&late, now, 1), Some(at("2026-10-25T23:00:00")));
        let twice = [Day::At(1, 0), Day::At(15, 12), Day::Unused];
        assert_eq!(settled_at(&twice, now, 1), Some(at("2026-11-15T12:00:00")));
        assert_eq!(settled_at(&twice, now, 3), Some(at("2026-10-15T12:00:00")));
        assert_eq!(settled_at(&[Day::Unused], now, 1), None);
        // the very moment counts
        assert_eq!(
            settled_at(&first, at("2026-11-01T00:00:00"), 1),
            Some(at("2026-11-01T00:00:00"))
        );
        assert_eq!(
            settled_at(&first, at("2026-10-31T23:59:59"), 1),
            Some(at("2026-10-01T00:00:00"))
        );
    }
}

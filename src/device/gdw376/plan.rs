//! The questions for one measuring point: one an item. How few frames they become is decided where those of all points
//! meet (`exchange/trunk`).

use super::{Point, PointProfile};
use crate::device::dlt645::history::{Kind, Past};
use crate::device::plan::PlanError;
use crate::domain::quantity::Quantity;
use crate::protocol::gdw376::{Afn, Ask, Fn, Id, NO_TERMINAL, POINT_MAX, Pn, Request};
use chrono::{Days, Months, NaiveDate, NaiveDateTime};

/// A meter's address as its record has it: the measuring point.
pub(in crate::device) fn point(address: &str) -> Result<Pn, PlanError> {
    let digits = address.trim();
    let number = digits.parse::<u16>().ok();
    let number = number.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let point = number.filter(|number| *number > 0).and_then(Pn::new);
    point.ok_or_else(|| PlanError::Address {
        address: address.to_owned(),
        kind: "a measuring point",
        help: "use the point's number in the concentrator's archive, 1 to 2040",
    })
}

/// Asks for every item that holds something wanted.
pub(in crate::device) fn plan(
    profile: &PointProfile,
    pn: Pn,
    chosen: impl std::ops::Fn(&Point) -> bool,
) -> Result<Vec<Request>, PlanError> {
    let mut items: Vec<(Afn, Fn)> = Vec::new();
    for point in profile.points.iter().filter(|point| chosen(point)) {
        let item = (point.source.afn, point.source.item);
        if !items.contains(&item) {
            items.push(item);
        }
    }
    let asks = items
        .into_iter()
        .map(|(afn, item)| request(afn, Ask::plain(Id { pn, item })));
    asks.collect()
}

/// Asks for the terminal's clock.
pub(in crate::device) fn clock() -> Result<Request, PlanError> {
    request(Afn::REALTIME, Ask::plain(Id::terminal(Fn::F2)))
}

/// Asks for what of a day or a month that the concentrator keeps is wanted, none: all of it; `now` is its local time.
/// Nothing where it keeps none such.
pub(in crate::device) fn history(
    profile: &PointProfile,
    pn: Pn,
    past: Past,
    now: NaiveDateTime,
    wanted: &[Quantity],
) -> Result<Vec<Request>, PlanError> {
    let kept = profile.history.iter().find(|kept| kept.kind == past.kind());
    let Some((kept, day)) = kept.filter(|kept| past.back() <= kept.max).zip(stamped(past, now)) else {
        return Ok(Vec::new());
    };
    let mut items: Vec<(Afn, Fn)> = Vec::new();
    let is_wanted = |point: &&Point| wanted.is_empty() || point.quantity().is_some_and(|kept| wanted.contains(&kept));
    for point in kept.points.iter().filter(is_wanted) {
        let item = (point.source.afn, point.source.item);
        if !items.contains(&item) {
            items.push(item);
        }
    }
    let asks = items.into_iter().filter_map(|(afn, item)| {
        let id = Id { pn, item };
        let ask = match past.kind() {
            Kind::Daily => Ask::of_day(id, day),
            Kind::Settlement => Ask::of_month(id, day),
        };
        Some(request(afn, ask?))
    });
    asks.collect()
}

/// The stamp of the n-th last state: a day's is taken at the midnight behind it, a month's at its end.
fn stamped(past: Past, now: NaiveDateTime) -> Option<NaiveDate> {
    let back = past.back();
    if back == 0 {
        return None;
    }
    match past.kind() {
        Kind::Daily => now.date().checked_sub_days(Days::new(back.into())),
        Kind::Settlement => now.date().checked_sub_months(Months::new(back.into())),
    }
}

fn request(afn: Afn, ask: Ask) -> Result<Request, PlanError> {
    Request::new(NO_TERMINAL, afn, [ask]).map_err(|error| PlanError::Request(error.to_string()))
}

const _: () = assert!(POINT_MAX == 2040, "the help text names it");

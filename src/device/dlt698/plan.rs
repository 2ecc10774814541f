//! The questions to a meter of DL/T 698.45: as many attributes in one as the meter takes.

use super::{ObjectProfile, PastProfile, Point, whole};
use crate::device::dlt645::history::Past;
use crate::device::plan::PlanError;
use crate::protocol::dlt698::{Address, Apdu, CLOCK, GetBody, Oad, Piid, Request};

/// Where the numbers of the questions begin that are no part of a poll's list, so that those that follow one another have
/// different ones: single attributes instead of a list, the clock, freezes.
const SINGLE: u8 = 16;
const CLOCK_NUMBER: u8 = 40;
const PAST: u8 = 48;

/// Asks for every attribute that holds something wanted: whole where several of its values are, else the one.
pub(in crate::device) fn plan(
    profile: &ObjectProfile,
    address: Address,
    chosen: impl Fn(&Point) -> bool,
) -> Result<Vec<Request>, PlanError> {
    let wanted: Vec<Oad> = profile
        .points
        .iter()
        .filter(|point| chosen(point))
        .map(|point| point.oad)
        .collect();
    let mut oads: Vec<Oad> = Vec::new();
    for oad in &wanted {
        let alone = wanted.iter().all(|other| other == oad || whole(*other) != whole(*oad));
        let asked = if alone { *oad } else { whole(*oad) };
        if !oads.contains(&asked) {
            oads.push(asked);
        }
    }
    let lists = oads.chunks(profile.list_max.max(1)).zip((1..SINGLE).cycle());
    lists
        .map(|(list, number)| get(profile, address, number, list))
        .collect()
}

/// The attributes of a list one by one, for a meter that refuses the list as a whole.
pub(in crate::device) fn instead(profile: &ObjectProfile, request: &Request) -> Vec<Request> {
    let Some(Apdu::Get(asked)) = request.apdu() else {
        return Vec::new();
    };
    let GetBody::List(list) = &asked.body else {
        return Vec::new();
    };
    let singles = list.iter().zip((SINGLE..CLOCK_NUMBER).cycle());
    singles
        .filter_map(|(oad, number)| get(profile, request.address(), number, &[*oad]).ok())
        .collect()
}

/// Asks for the meter's clock.
pub(in crate::device) fn clock(profile: &ObjectProfile, address: Address) -> Result<Request, PlanError> {
    get(profile, address, CLOCK_NUMBER, &[CLOCK])
}

/// Asks for the n-th last freeze; nothing where the meter keeps none such.
pub(in crate::device) fn history(
    profile: &ObjectProfile,
    address: Address,
    past: Past,
) -> Result<Option<Request>, PlanError> {
    let Some(kept) = kept(profile, past) else {
        return Ok(None);
    };
    let mut columns: Vec<Oad> = Vec::new();
    for point in &kept.points {
        if !columns.contains(&whole(point.oad)) {
            columns.push(whole(point.oad));
        }
    }
    let number = Piid::new(PAST | (past.back() & 0x0F));
    let request = Request::frozen_back(address, number, kept.oad, past.back(), &columns);
    request
        .map(|request| Some(request.with_preambles(profile.preambles)))
        .map_err(fault)
}

/// What is kept of a past state, where the meter keeps it.
pub(in crate::device) fn kept(profile: &ObjectProfile, past: Past) -> Option<&PastProfile> {
    let of_kind = profile.history.iter().find(|kept| kept.kind == past.kind())?;
    (1..=of_kind.max).contains(&past.back()).then_some(of_kind)
}

fn get(profile: &ObjectProfile, address: Address, number: u8, oads: &[Oad]) -> Result<Request, PlanError> {
    let request = Request::get(address, Piid::new(number), oads).map_err(fault)?;
    Ok(request.with_preambles(profile.preambles))
}

fn fault(error: crate::protocol::dlt698::RequestError) -> PlanError {
    PlanError::Request(error.to_string())
}

//! From wanted quantities to the fewest requests.

use super::dlt645::history::{Kind, Past};
use super::model::{MeterModel, Profile};
use super::{cjt188, dlt645, dlt698, gdw376, mbus, modbus};
use crate::domain::quantity::Quantity;
use crate::protocol::Request;
use chrono::NaiveDateTime;

/// Why nothing can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The meter's address is not one of its protocol.
    #[error("{address:?} is not {kind}; {help}")]
    Address {
        /// As the meter's record has it.
        address: String,
        /// What it should be.
        kind: &'static str,
        /// How that is written.
        help: &'static str,
    },
    /// The model has none of the wanted quantities.
    #[error("model {model} has none of the wanted quantities")]
    NothingToRead {
        /// Which model.
        model: String,
    },
    /// A request of the plan is not valid; a fault of the model that its check should have found.
    #[error("{0}")]
    Request(String),
}

/// The fewest requests that bring the wanted quantities, always the same for the same input. Empty `wanted`: all that
/// the model polls, vendor quantities included. What the model does not have is left out (see [`MeterModel::lacks`]), so
/// that one schedule serves meters of different kinds.
///
/// # Errors
/// [`PlanError`] when the address is wrong or nothing is left to read.
pub fn plan(model: &MeterModel, address: &str, wanted: &[Quantity]) -> Result<Vec<Request>, PlanError> {
    let requests = match &model.profile {
        Profile::Modbus(profile) => {
            let chosen = |point: &modbus::Point| match point.quantity() {
                _ if wanted.is_empty() => point.poll,
                Some(quantity) => wanted.contains(&quantity),
                None => false,
            };
            let reads = modbus::plan::plan(profile, unit(address)?, chosen)?;
            reads.into_iter().map(Request::Modbus).collect::<Vec<_>>()
        }
        Profile::Dlt645(profile) => {
            let chosen = |point: &dlt645::Point| match point.quantity() {
                _ if wanted.is_empty() => point.poll,
                Some(quantity) => wanted.contains(&quantity),
                None => false,
            };
            let reads = dlt645::plan::plan(profile, dlt645::address(address)?, chosen);
            reads.into_iter().map(Request::Dlt645).collect()
        }
        Profile::Cjt188(profile) => {
            let reads = cjt188::plan::plan(profile, cjt188::plan::address(address)?, wanted);
            reads.into_iter().map(Request::Cjt188).collect()
        }
        Profile::Mbus(profile) => {
            let chosen = |point: &mbus::Point| match point.quantity() {
                _ if wanted.is_empty() => point.poll,
                Some(quantity) => wanted.contains(&quantity),
                None => false,
            };
            let reads = mbus::plan::plan(profile, mbus::Address::parse(address)?, chosen)?;
            reads.into_iter().map(Request::Mbus).collect()
        }
        Profile::Gdw376(profile) => {
            let chosen = |point: &gdw376::Point| match point.quantity() {
                _ if wanted.is_empty() => point.poll,
                Some(quantity) => wanted.contains(&quantity),
                None => false,
            };
            let reads = gdw376::plan::plan(profile, gdw376::plan::point(address)?, chosen)?;
            reads.into_iter().map(Request::Gdw376).collect()
        }
        Profile::Dlt698(profile) => {
            let chosen = |point: &dlt698::Point| match point.quantity() {
                _ if wanted.is_empty() => point.poll,
                Some(quantity) => wanted.contains(&quantity),
                None => false,
            };
            let reads = dlt698::plan::plan(profile, dlt698::address(address)?, chosen)?;
            reads.into_iter().map(Request::Dlt698).collect()
        }
    };
    if requests.is_empty() {
        return Err(PlanError::NothingToRead {
            model: model.name.to_string(),
        });
    }
    Ok(requests)
}

/// Checks a meter's address against its model.
///
/// # Errors
/// [`PlanError::Address`] says what an address looks like.
pub fn check_address(model: &MeterModel, address: &str) -> Result<(), PlanError> {
    match &model.profile {
        Profile::Modbus(_) => unit(address).map(|_| ()),
        Profile::Dlt645(_) => dlt645::address(address).map(|_| ()),
        Profile::Cjt188(_) => cjt188::plan::address(address).map(|_| ()),
        Profile::Mbus(_) => mbus::Address::parse(address).map(|_| ()),
        Profile::Gdw376(_) => gdw376::plan::point(address).map(|_| ()),
        Profile::Dlt698(_) => dlt698::address(address).map(|_| ()),
    }
}

/// The requests that stand for one which the meter refuses: the single items of a block that a model has and this meter
/// does not answer. Empty where there is nothing finer to ask.
pub fn instead(model: &MeterModel, request: &Request) -> Vec<Request> {
    match (&model.profile, request) {
        (Profile::Dlt645(profile), Request::Dlt645(request)) => {
            let finer = dlt645::plan::instead(profile, request);
            finer.into_iter().map(Request::Dlt645).collect()
        }
        (Profile::Dlt698(profile), Request::Dlt698(request)) => {
            let finer = dlt698::plan::instead(profile, request);
            finer.into_iter().map(Request::Dlt698).collect()
        }
        _ => Vec::new(),
    }
}

/// The requests that bring the meter's own clock; empty where the model does not say how. Their answers are decoded by
/// [`super::decode::decode`] like any others.
///
/// # Errors
/// [`PlanError::Address`] when the address is wrong.
pub fn clock(model: &MeterModel, address: &str) -> Result<Vec<Request>, PlanError> {
    match &model.profile {
        Profile::Modbus(_) => Ok(Vec::new()),
        Profile::Dlt645(profile) => {
            let reads = dlt645::plan::clock(profile, dlt645::address(address)?);
            Ok(reads.into_iter().map(Request::Dlt645).collect())
        }
        Profile::Cjt188(profile) => {
            let reads = cjt188::plan::clock(profile, cjt188::plan::address(address)?);
            Ok(reads.map(Request::Cjt188).into_iter().collect())
        }
        // the clock is a record of the readout; whether this meter tells one is seen in it
        Profile::Mbus(profile) => {
            let reads = mbus::plan::readout(profile, mbus::Address::parse(address)?)?;
            Ok(reads.into_iter().map(Request::Mbus).collect())
        }
        // the terminal's own; the questions of all its points share it
        Profile::Gdw376(_) => Ok(vec![Request::Gdw376(gdw376::plan::clock()?)]),
        Profile::Dlt698(profile) => {
            let read = dlt698::plan::clock(profile, dlt698::address(address)?)?;
            Ok(vec![Request::Dlt698(read)])
        }
    }
}

/// How many daily freezes and how many settlements a meter of the model keeps for [`history`].
pub fn kept(model: &MeterModel) -> (u8, u8) {
    match &model.profile {
        Profile::Dlt645(profile) => {
            let most = |kind| {
                let of_kind = profile.history.iter().find(|kept| kept.kind == kind);
                of_kind.map_or(0, |kept| kept.max)
            };
            (most(Kind::Daily), most(Kind::Settlement))
        }
        Profile::Mbus(profile) => {
            let most = |past| {
                let kept = profile.kept(past);
                kept.map_or(0, |kept| u8::try_from(kept.storages.len()).unwrap_or(u8::MAX))
            };
            (most(Past::Daily(1)), most(Past::Settlement(1)))
        }
        Profile::Cjt188(profile) => (0, profile.history.as_ref().map_or(0, |history| history.max)),
        Profile::Gdw376(profile) => {
            let most = |kind| {
                let of_kind = profile.history.iter().find(|kept| kept.kind == kind);
                of_kind.map_or(0, |kept| kept.max)
            };
            (most(Kind::Daily), most(Kind::Settlement))
        }
        Profile::Dlt698(profile) => {
            let most = |kind| {
                let of_kind = profile.history.iter().find(|kept| kept.kind == kind);
                of_kind.map_or(0, |kept| kept.max)
            };
            (most(Kind::Daily), most(Kind::Settlement))
        }
        Profile::Modbus(_) => (0, 0),
    }
}

/// The requests that bring a past state of the meter's registers; empty where it keeps none such. `now` is the local time
/// where the past is kept. `wanted` are the quantities that are enough, none: all; a concentrator is asked for their items
/// alone, others bring the whole state.
///
/// # Errors
/// [`PlanError::Address`] when the address is wrong.
pub fn history(
    model: &MeterModel,
    address: &str,
    past: Past,
    now: NaiveDateTime,
    wanted: &[Quantity],
) -> Result<Vec<Request>, PlanError> {
    match &model.profile {
        Profile::Modbus(_) => Ok(Vec::new()),
        Profile::Cjt188(profile) => {
            let reads = cjt188::history::requests(profile, cjt188::plan::address(address)?, past);
            Ok(reads.into_iter().map(Request::Cjt188).collect())
        }
        Profile::Dlt645(profile) => {
            let reads = dlt645::history::requests(profile, dlt645::address(address)?, past);
            Ok(reads.into_iter().map(Request::Dlt645).collect())
        }
        Profile::Mbus(profile) if profile.kept(past).is_some() => {
            let reads = mbus::plan::readout(profile, mbus::Address::parse(address)?)?;
            Ok(reads.into_iter().map(Request::Mbus).collect())
        }
        Profile::Mbus(_) => Ok(Vec::new()),
        Profile::Gdw376(profile) => {
            let reads = gdw376::plan::history(profile, gdw376::plan::point(address)?, past, now, wanted)?;
            Ok(reads.into_iter().map(Request::Gdw376).collect())
        }
        Profile::Dlt698(profile) => {
            let read = dlt698::plan::history(profile, dlt698::address(address)?, past)?;
            Ok(read.map(Request::Dlt698).into_iter().collect())
        }
    }
}

/// The unit id of a Modbus meter's address.
pub(super) fn unit(address: &str) -> Result<u8, PlanError> {
    let digits = address.trim();
    let unit = digits
        .parse::<u8>()
        .ok()
        .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    unit.filter(|unit| (1..=crate::protocol::modbus::UNIT_MAX).contains(unit))
        .ok_or_else(|| PlanError::Address {
            address: address.to_owned(),
            kind: "a Modbus unit id",
            help: "use 1 to 247",
        })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

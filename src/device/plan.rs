//! From wanted quantities to the fewest requests.

use super::modbus;
use super::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::protocol::Request;

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
    }
}

fn unit(address: &str) -> Result<u8, PlanError> {
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

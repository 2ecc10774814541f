//! From wanted quantities to the fewest requests.

use super::modbus;
use super::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::protocol::Request;
use crate::protocol::modbus::RequestError;

/// Why nothing can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The meter's address is not one of its protocol.
    #[error("{address:?} is not a Modbus unit id; use 1 to 247")]
    Address {
        /// As the meter's record has it.
        address: String,
    },
    /// The model has none of the wanted quantities.
    #[error("model {model} has none of the wanted quantities")]
    NothingToRead {
        /// Which model.
        model: String,
    },
    /// A request of the plan is not valid; a fault of the model that its check should have found.
    #[error("{0}")]
    Request(RequestError),
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
            modbus::plan::plan(profile, unit(address)?, chosen)?
        }
    };
    if requests.is_empty() {
        return Err(PlanError::NothingToRead {
            model: model.name.to_string(),
        });
    }
    Ok(requests.into_iter().map(Request::Modbus).collect())
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
        })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

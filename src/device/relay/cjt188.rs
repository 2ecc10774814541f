//! Valves of CJ/T 188: write A017, read back by the valve's bits in the status word. A valve turns for half a minute; on
//! its way it says neither open nor closed.
//!
//! What is proven before a frame is the meter's own address, as it stands in its answer to a read.

use super::{Answers, Judgement, Manner, RelayError, not_supported};
use crate::base::hex;
use crate::device::cjt188::{RecordProfile, plan as asking};
use crate::device::decode::decode;
use crate::device::model::{MeterModel, Profile};
use crate::device::plan;
use crate::domain::command::{Action, TripPermit};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::Request;
use crate::protocol::cjt188::{self, valve};
use rust_decimal::prelude::ToPrimitive;

pub(super) fn check(model: &MeterModel, action: &Action) -> Result<(), RelayError> {
    match action {
        Action::Disconnect | Action::Reconnect if model.has(Quantity::ValveState) => Ok(()),
        Action::SyncClock if has_clock(model) => Ok(()),
        Action::Raw { frame } => raw(frame).map(|_| ()),
        other => Err(not_supported(model, other)),
    }
}

fn has_clock(model: &MeterModel) -> bool {
    match &model.profile {
        Profile::Cjt188(profile) => asking::clock(profile, cjt188::Address::ANY).is_some(),
        _ => false,
    }
}

/// What is read to know the meter, and its valve.
fn reads(model: &MeterModel, address: &str) -> Result<Vec<Request>, RelayError> {
    let wanted: &[Quantity] = if model.has(Quantity::ValveState) {
        &[Quantity::ValveState]
    } else {
        &[]
    };
    Ok(plan::plan(model, address, wanted)?)
}

pub(super) fn identify(model: &MeterModel, address: &str) -> Result<Vec<Request>, RelayError> {
    reads(model, address)
}

pub(super) fn identified(requests: &[Request], answers: Answers<'_>) -> Result<String, RelayError> {
    for (request, answer) in requests.iter().zip(answers) {
        let (Request::Cjt188(request), Some(frame)) = (request, answer) else {
            continue;
        };
        let answer = request
            .answer(frame)
            .map_err(|error| RelayError::NotIdentified(error.to_string()))?;
        let asked = request.target().address;
        if answer.address != asked {
            let text = format!("the meter says that it is {}, not {asked}", answer.address);
            return Err(RelayError::NotIdentified(text));
        }
        return Ok(format!("meter address {}", answer.address));
    }
    Err(RelayError::NotIdentified("the meter answered nothing".to_owned()))
}

pub(super) fn encode(
    permit: &TripPermit,
    model: &MeterModel,
    profile: &RecordProfile,
    manner: &Manner,
) -> Result<Request, RelayError> {
    check(model, permit.action())?;
    let address = asking::address(&permit.target().address)?;
    let target = profile.ask.target(address);
    Ok(Request::Cjt188(match permit.action() {
        Action::Disconnect => valve::close(target),
        Action::Reconnect => valve::open(target),
        Action::SyncClock => cjt188::Request::write_clock(target, manner.now)
            .map_err(|error| RelayError::Parameter(error.to_string()))?,
        Action::Raw { frame } => {
            let request = raw(frame)?;
            if request.target().address != address {
                return Err(RelayError::OtherTarget {
                    permitted: address.to_string(),
                    asked: request.target().address.to_string(),
                });
            }
            request
        }
        other => return Err(not_supported(model, other)),
    }))
}

/// A raw frame: one whole question.
pub(super) fn raw(frame: &str) -> Result<cjt188::Request, RelayError> {
    let bytes = hex::decode(frame).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))?;
    cjt188::Request::parse(&bytes).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))
}

pub(super) fn read_back(model: &MeterModel, address: &str, action: &Action) -> Result<Vec<Request>, RelayError> {
    match action {
        Action::Disconnect | Action::Reconnect => reads(model, address),
        Action::SyncClock => Ok(plan::clock(model, address)?),
        _ => Ok(Vec::new()),
    }
}

pub(super) fn judge(
    model: &MeterModel,
    action: &Action,
    requests: &[Request],
    answers: Answers<'_>,
    manner: &Manner,
) -> Result<Judgement, RelayError> {
    let heard = decode(model, requests, answers);
    if *action == Action::SyncClock {
        return super::clock(heard.meter_local, manner);
    }
    let wanted = Measurand::Standard(Quantity::ValveState);
    let valve = heard.items.iter().find(|item| item.measurand == wanted);
    let valve = valve.and_then(|item| match &item.value {
        Value::Decimal(value) => value.to_u64(),
        Value::F32(_) | Value::F64(_) => None,
    });
    let (open, said) = match valve {
        Some(0) => (false, "valve closed"),
        Some(1) => (true, "valve open"),
        Some(_) => {
            return Ok(Judgement::Moving {
                said: "valve neither open nor closed".to_owned(),
            });
        }
        None => {
            return Err(RelayError::Undecodable(
                "the status does not tell of the valve".to_owned(),
            ));
        }
    };
    let said = said.to_owned();
    Ok(if open == (*action == Action::Reconnect) {
        Judgement::AsWanted { said }
    } else {
        Judgement::Otherwise { said }
    })
}

#[cfg(test)]
#[path = "cjt188_tests.rs"]
mod tests;

//! Relays of DL/T 645-2007: control code 1C with the deadline in the frame, read back by status word 3.
//!
//! A meter counts as one with a relay when its model reads `relay_state`. What is proven before a frame is the meter's
//! communication address, read from it (04000401); a meter that does not have that identifier is proven by answering
//! under its address, which stands in each of its frames. Meters of 1997 take a write to C028 from some makers, but
//! nothing in them shows the relay, so a disconnect could never be confirmed: they are not switched.

use super::{Answers, Judgement, Manner, RelayError, not_supported};
use crate::base::hex;
use crate::device::decode::decode;
use crate::device::dlt645::{ItemProfile, address};
use crate::device::model::MeterModel;
use crate::device::plan;
use crate::domain::command::{Action, TripPermit};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::Request;
use crate::protocol::dlt645::relay::{self, Action as Code};
use crate::protocol::dlt645::{self, Address, Body, Di, Edition, FreezeAt, Reply};
use rust_decimal::prelude::ToPrimitive;

/// The communication address (2007, table A.5).
const OWN_ADDRESS: Di = Di::E2007(0x0400_0401);
/// Status word 3, bit 6: the relay is commanded open.
const COMMANDED_OPEN: u64 = 1 << 6;

pub(super) fn check(model: &MeterModel, profile: &ItemProfile, action: &Action) -> Result<(), RelayError> {
    let has_relay = profile.edition == Edition::E2007 && model.has(Quantity::RelayState);
    match action {
        Action::Disconnect | Action::Reconnect | Action::Arm | Action::KeepPower | Action::ReleaseKeepPower
            if has_relay =>
        {
            Ok(())
        }
        Action::AlarmOn | Action::AlarmOff | Action::Freeze if profile.edition == Edition::E2007 => Ok(()),
        Action::SyncClock if !profile.clock.is_empty() => Ok(()),
        Action::Raw { frame } => raw(profile, frame).map(|_| ()),
        other => Err(not_supported(model, other)),
    }
}

fn meter(text: &str) -> Result<Address, RelayError> {
    let address = address(text)?;
    if address.is_meter() {
        Ok(address)
    } else {
        Err(RelayError::NotIdentified(format!("{text} calls any meter, not one")))
    }
}

pub(super) fn identify(model: &MeterModel, profile: &ItemProfile, text: &str) -> Result<Vec<Request>, RelayError> {
    let address = meter(text)?;
    let mut requests = Vec::new();
    if profile.edition == Edition::E2007 {
        let own = dlt645::Request::read(address, OWN_ADDRESS).with_preambles(profile.preambles);
        requests.push(Request::Dlt645(own));
    }
    let any = profile.points.iter().find_map(|point| point.quantity());
    let wanted = if model.has(Quantity::RelayState) {
        Some(Quantity::RelayState)
    } else {
        any
    };
    requests.extend(plan::plan(model, text, wanted.as_slice())?);
    Ok(requests)
}

pub(super) fn identified(requests: &[Request], answers: Answers<'_>) -> Result<String, RelayError> {
    let mut answered = None;
    for (request, answer) in requests.iter().zip(answers) {
        let (Request::Dlt645(request), Some(frame)) = (request, answer) else {
            continue;
        };
        let asked = request.address();
        match request.reply(frame) {
            Ok(Reply::Data(data)) if request.di() == Some(OWN_ADDRESS) => {
                let own = <[u8; 6]>::try_from(data.as_slice()).map(Address::from_wire);
                return match own {
                    Ok(own) if own == asked => Ok(format!("communication address {own}")),
                    Ok(own) => Err(RelayError::NotIdentified(format!(
                        "the meter says that it is {own}, not {asked}"
                    ))),
                    Err(_) => Err(RelayError::NotIdentified("its address has another length".to_owned())),
                };
            }
            Ok(_) => answered = Some(asked),
            Err(error) => return Err(RelayError::NotIdentified(error.to_string())),
        }
    }
    answered
        .map(|asked| format!("the meter answers under its address {asked}"))
        .ok_or_else(|| RelayError::NotIdentified("the meter answered nothing".to_owned()))
}

pub(super) fn encode(
    permit: &TripPermit,
    model: &MeterModel,
    profile: &ItemProfile,
    manner: &Manner,
) -> Result<Request, RelayError> {
    let address = meter(&permit.target().address)?;
    let (edition, security, until) = (profile.edition, manner.security, manner.until);
    check(model, profile, permit.action())?;
    let request = match permit.action() {
        Action::Disconnect => relay::trip(edition, address, security, until),
        Action::Reconnect => relay::close(edition, address, security, until),
        Action::Arm => relay::other(address, Code::AllowClose, security, until),
        Action::KeepPower => relay::other(address, Code::ProtectOn, security, until),
        Action::ReleaseKeepPower => relay::other(address, Code::ProtectOff, security, until),
        Action::AlarmOn => relay::other(address, Code::AlarmOn, security, until),
        Action::AlarmOff => relay::other(address, Code::AlarmOff, security, until),
        Action::Freeze => dlt645::Request::checked(edition, address, Body::Freeze(FreezeAt::default())),
        Action::SyncClock => dlt645::Request::checked(edition, address, Body::BroadcastTime(manner.now)),
        Action::Raw { frame } => {
            let request = raw(profile, frame)?;
            if request.address() != address {
                return Err(RelayError::OtherTarget {
                    permitted: address.to_string(),
                    asked: request.address().to_string(),
                });
            }
            return Ok(Request::Dlt645(request));
        }
        other => return Err(not_supported(model, other)),
    };
    request
        .map(|request| Request::Dlt645(request.with_preambles(profile.preambles)))
        .map_err(|error| RelayError::Parameter(error.to_string()))
}

/// A raw frame: one whole question to one meter.
pub(super) fn raw(profile: &ItemProfile, frame: &str) -> Result<dlt645::Request, RelayError> {
    let bytes = hex::decode(frame).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))?;
    dlt645::Request::parse(profile.edition, &bytes)
        .map_err(|error| RelayError::Parameter(format!("the frame: {error}")))
}

pub(super) fn read_back(model: &MeterModel, text: &str, action: &Action) -> Result<Vec<Request>, RelayError> {
    Ok(match action {
        Action::Disconnect | Action::Reconnect => plan::plan(model, text, &[Quantity::RelayState])?,
        Action::Arm => plan::plan(model, text, &[Quantity::RelayState, Quantity::StatusWord])?,
        Action::SyncClock => plan::clock(model, text)?,
        _ => Vec::new(),
    })
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
    let number = |quantity: Quantity| {
        let wanted = Measurand::Standard(quantity);
        heard
            .items
            .iter()
            .find(|item| item.measurand == wanted)
            .and_then(|item| match &item.value {
                Value::Decimal(value) => value.to_u64(),
                Value::F32(_) | Value::F64(_) => None,
            })
    };
    let closed = match number(Quantity::RelayState) {
        Some(0) => false,
        Some(_) => true,
        None => {
            return Err(RelayError::Undecodable(
                "the status word does not tell of the relay".to_owned(),
            ));
        }
    };
    let armed = number(Quantity::StatusWord).is_some_and(|word| word & COMMANDED_OPEN == 0);
    let said = match (closed, action) {
        (true, _) => "relay closed (status word 3)".to_owned(),
        (false, Action::Arm) if armed => "relay open, closing allowed (status word 3)".to_owned(),
        (false, _) => "relay open (status word 3)".to_owned(),
    };
    let as_wanted = match action {
        Action::Disconnect => !closed,
        Action::Arm => closed || armed,
        _ => closed,
    };
    Ok(if as_wanted {
        Judgement::AsWanted { said }
    } else {
        Judgement::Otherwise { said }
    })
}

#[cfg(test)]
#[path = "dlt645_tests.rs"]
mod tests;

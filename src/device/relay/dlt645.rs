//! Relays of DL/T 645-2007: control code 1C with the deadline in the frame, read back by status word 3.
//!
//! A meter counts as one with a relay when its model reads `relay_state`. What is proven before a frame is the meter's
//! communication address, read from it (04000401; 1997: the meter number C032); a meter that does not have that identifier
//! is proven by answering under its address, which stands in each of its frames. Meters of 1997 take a write to C028 from
//! some makers; the standard shows the relay nowhere, so only a model that names where its maker shows it (`relay_state`)
//! can be switched: a disconnect that cannot be confirmed is not sent.

use super::{Answers, Judgement, Manner, RelayError, no_parameter, not_supported};
use crate::base::hex;
use crate::device::decode::decode;
use crate::device::dlt645::parameter::Parameter;
use crate::device::dlt645::{ItemProfile, address};
use crate::device::model::MeterModel;
use crate::device::plan;
use crate::domain::command::{Action, TripPermit};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::Request;
use crate::protocol::dlt645::items::{self, Form, Format};
use crate::protocol::dlt645::relay::{self, Action as Code};
use crate::protocol::dlt645::{self, Address, Body, Di, Edition, FreezeAt, Reply};
use chrono::TimeDelta;
use rust_decimal::prelude::ToPrimitive;

/// The communication address (2007, table A.5).
const OWN_ADDRESS: Di = Di::E2007(0x0400_0401);
/// The meter number (1997, table A.2).
const OWN_NUMBER: Di = Di::E1997(0xC032);
/// So far may a clock be off that is set without a password.
const WITHOUT_PASSWORD: TimeDelta = TimeDelta::minutes(5);
/// Status word 3, bit 6: the relay is commanded open.
const COMMANDED_OPEN: u64 = 1 << 6;

pub(super) fn check(model: &MeterModel, profile: &ItemProfile, action: &Action) -> Result<(), RelayError> {
    let has_relay = model.has(Quantity::RelayState);
    let has_1c = has_relay && profile.edition == Edition::E2007;
    match action {
        Action::Disconnect | Action::Reconnect if has_relay => Ok(()),
        Action::Arm | Action::KeepPower | Action::ReleaseKeepPower if has_1c => Ok(()),
        Action::AlarmOn | Action::AlarmOff | Action::Freeze if profile.edition == Edition::E2007 => Ok(()),
        Action::SyncClock if !profile.clock.is_empty() => Ok(()),
        Action::ReadParameter { name } => parameter(model, profile, name).map(|_| ()),
        Action::WriteParameter { name, value } => {
            parameter(model, profile, name)?.bytes(value)?;
            Ok(())
        }
        Action::Raw { frame } => raw(profile, frame).map(|_| ()),
        other => Err(not_supported(model, other)),
    }
}

fn parameter<'a>(model: &MeterModel, profile: &'a ItemProfile, name: &str) -> Result<&'a Parameter, RelayError> {
    let found = profile.parameters.iter().find(|parameter| parameter.name == name);
    found.ok_or_else(|| {
        let known = profile.parameters.iter().map(|parameter| parameter.name.as_str());
        no_parameter(model, name, known)
    })
}

/// The question for a parameter.
fn ask(profile: &ItemProfile, address: Address, parameter: &Parameter) -> dlt645::Request {
    dlt645::Request::read(address, parameter.point.di).with_preambles(profile.preambles)
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
    let own = match profile.edition {
        Edition::E2007 => OWN_ADDRESS,
        Edition::E1997 => OWN_NUMBER,
    };
    let own = dlt645::Request::read(address, own).with_preambles(profile.preambles);
    requests.push(Request::Dlt645(own));
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
            // a number of 1997 need not be the address; it is told, and the address stands in the frame
            Ok(Reply::Data(data)) if request.di() == Some(OWN_NUMBER) => {
                let number: Vec<u8> = data.iter().rev().copied().collect();
                return Ok(format!("meter number {}, address {asked}", hex::encode(&number)));
            }
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
        Action::SyncClock => dlt645::Request::checked(edition, address, set_clock(profile, manner)?),
        Action::ReadParameter { name } => Ok(ask(profile, address, parameter(model, profile, name)?)),
        Action::WriteParameter { name, value } => {
            let parameter = parameter(model, profile, name)?;
            let body = Body::Write {
                di: parameter.point.di,
                security,
                value: parameter.bytes(value)?,
            };
            dlt645::Request::checked(edition, address, body)
        }
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
    };
    request
        .map(|request| Request::Dlt645(request.with_preambles(profile.preambles)))
        .map_err(|error| RelayError::Parameter(error.to_string()))
}

/// Sets the clock in one frame. What a meter takes without a password, it takes while it is up to five minutes off (2007,
/// 7.6; 1997, 5.7); what is more is written with one: the time of day alone, for it is the same day (no clock is set near
/// midnight).
fn set_clock(profile: &ItemProfile, manner: &Manner) -> Result<Body, RelayError> {
    if manner.ahead.is_none_or(|ahead| ahead.abs() <= WITHOUT_PASSWORD) {
        return Ok(Body::BroadcastTime(manner.now));
    }
    let time = profile.clock.iter().find_map(|di| {
        let format = items::definition(*di, 0)?.format;
        let time = items::Value::Time(manner.now);
        (format == Format::Time(Form::TimeOfDay)).then(|| format.write(&time).map(|value| (*di, value)))?
    });
    let (di, value) =
        time.ok_or_else(|| RelayError::Parameter("the model names no time of day to write".to_owned()))?;
    let security = manner.security;
    Ok(Body::Write { di, security, value })
}

/// A raw frame: one whole question to one meter.
pub(super) fn raw(profile: &ItemProfile, frame: &str) -> Result<dlt645::Request, RelayError> {
    let bytes = hex::decode(frame).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))?;
    dlt645::Request::parse(profile.edition, &bytes)
        .map_err(|error| RelayError::Parameter(format!("the frame: {error}")))
}

/// The question whose answer is what the command brings.
pub(super) fn question_of(
    model: &MeterModel,
    profile: &ItemProfile,
    text: &str,
    action: &Action,
) -> Result<Vec<Request>, RelayError> {
    match action {
        Action::ReadParameter { name } => {
            let parameter = parameter(model, profile, name)?;
            Ok(vec![Request::Dlt645(ask(profile, meter(text)?, parameter))])
        }
        Action::Raw { frame } => Ok(vec![Request::Dlt645(raw(profile, frame)?)]),
        other => Err(not_supported(model, other)),
    }
}

pub(super) fn read_back(
    model: &MeterModel,
    profile: &ItemProfile,
    text: &str,
    action: &Action,
) -> Result<Vec<Request>, RelayError> {
    Ok(match action {
        Action::Disconnect | Action::Reconnect => plan::plan(model, text, &[Quantity::RelayState])?,
        Action::Arm => plan::plan(model, text, &[Quantity::RelayState, Quantity::StatusWord])?,
        Action::SyncClock => plan::clock(model, text)?,
        Action::WriteParameter { name, .. } => {
            let parameter = parameter(model, profile, name)?;
            vec![Request::Dlt645(ask(profile, meter(text)?, parameter))]
        }
        _ => Vec::new(),
    })
}

/// What the answer says of a parameter.
fn judge_parameter(
    parameter: &Parameter,
    wanted: Option<&str>,
    requests: &[Request],
    answers: Answers<'_>,
) -> Result<Judgement, RelayError> {
    let (Some(Request::Dlt645(request)), Some(Some(frame))) = (requests.first(), answers.first()) else {
        return Err(RelayError::Undecodable("there is no answer".to_owned()));
    };
    let value = match request.reply(frame) {
        Ok(Reply::Data(data)) => parameter.value(&data)?,
        Ok(_) => return Err(RelayError::Undecodable("the answer brings no data".to_owned())),
        Err(error) => return Err(RelayError::Undecodable(error.to_string())),
    };
    let said = format!("{} = {value} {}", parameter.name, parameter.point.unit);
    let wanted = wanted.map(|text| parameter.number(text)).transpose()?;
    Ok(if wanted.is_none_or(|wanted| wanted == value) {
        Judgement::AsWanted { said }
    } else {
        Judgement::Otherwise { said }
    })
}

pub(super) fn judge(
    model: &MeterModel,
    profile: &ItemProfile,
    action: &Action,
    requests: &[Request],
    answers: Answers<'_>,
    manner: &Manner,
) -> Result<Judgement, RelayError> {
    match action {
        Action::ReadParameter { name } => {
            return judge_parameter(parameter(model, profile, name)?, None, requests, answers);
        }
        Action::WriteParameter { name, value } => {
            return judge_parameter(parameter(model, profile, name)?, Some(value), requests, answers);
        }
        // the answer itself is what a raw frame brings
        Action::Raw { .. } => {
            let said = answers.first().copied().flatten().map(hex::encode).unwrap_or_default();
            return Ok(Judgement::AsWanted { said });
        }
        _ => {}
    }
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

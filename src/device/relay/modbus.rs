//! Relays behind a Modbus coil or register, where and with which values the meter model says.
//!
//! Modbus has no meter number. What is proven before a frame is what the model names as identity (registers that hold a
//! serial number: what they say goes into the history), else that the unit answers in this session as the model says a
//! meter of it does: every value of `[recognise]` is there and within its bounds.

use super::{Answers, Judgement, RelayError, no_parameter, not_supported};
use crate::base::hex;
use crate::device::decode::decode;
use crate::device::modbus::RegisterProfile;
use crate::device::modbus::relay::{Parameter, RelayProfile};
use crate::device::model::MeterModel;
use crate::device::plan::{plan, unit};
use crate::domain::command::{Action, TripPermit};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::Request;
use crate::protocol::modbus::{self, Body, Function, Reply};
use rust_decimal::Decimal;

pub(super) fn check(model: &MeterModel, profile: &RegisterProfile, action: &Action) -> Result<(), RelayError> {
    match action {
        Action::Disconnect | Action::Reconnect => relay(model, profile, action).map(|_| ()),
        Action::ReadParameter { name } => parameter(model, profile, name).map(|_| ()),
        Action::WriteParameter { name, value } => write(parameter(model, profile, name)?, 1, value).map(|_| ()),
        Action::Raw { frame } => raw(frame).map(|_| ()),
        _ => Err(not_supported(model, action)),
    }
}

fn relay<'a>(
    model: &MeterModel,
    profile: &'a RegisterProfile,
    action: &Action,
) -> Result<&'a RelayProfile, RelayError> {
    profile.relay.as_ref().ok_or_else(|| not_supported(model, action))
}

fn parameter<'a>(model: &MeterModel, profile: &'a RegisterProfile, name: &str) -> Result<&'a Parameter, RelayError> {
    profile
        .parameters
        .iter()
        .find(|parameter| parameter.name == name)
        .ok_or_else(|| {
            let known = profile.parameters.iter().map(|parameter| parameter.name.as_str());
            no_parameter(model, name, known)
        })
}

fn question(request: Result<modbus::Request, modbus::RequestError>) -> Result<Request, RelayError> {
    request
        .map(Request::Modbus)
        .map_err(|error| RelayError::Parameter(error.to_string()))
}

pub(super) fn identify(
    model: &MeterModel,
    profile: &RegisterProfile,
    address: &str,
) -> Result<Vec<Request>, RelayError> {
    if let Some(identity) = profile.relay.as_ref().and_then(|relay| relay.identity) {
        let read = modbus::Request::read(unit(address)?, identity.function, identity.address, identity.count);
        return Ok(vec![question(read)?]);
    }
    let hints: Vec<Quantity> = model.recognise.iter().map(|hint| hint.quantity).collect();
    Ok(plan(model, address, &hints)?)
}

pub(super) fn identified(
    model: &MeterModel,
    profile: &RegisterProfile,
    requests: &[Request],
    answers: Answers<'_>,
) -> Result<String, RelayError> {
    if profile.relay.as_ref().is_some_and(|relay| relay.identity.is_some()) {
        let registers = match read(requests, answers)? {
            Reply::Registers(registers) => registers,
            _ => return Err(RelayError::NotIdentified("the identity is no registers".to_owned())),
        };
        if registers.iter().all(|register| *register == 0) || registers.iter().all(|register| *register == 0xFFFF) {
            return Err(RelayError::NotIdentified(
                "the identity registers hold nothing".to_owned(),
            ));
        }
        let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_be_bytes()).collect();
        return Ok(format!("identity registers 0x{}", hex::encode(&bytes)));
    }
    let heard = decode(model, requests, answers);
    if model.recognise.is_empty() && heard.items.is_empty() {
        return Err(RelayError::NotIdentified("the unit brought no value".to_owned()));
    }
    let mut said = Vec::new();
    for hint in &model.recognise {
        let wanted = Measurand::Standard(hint.quantity);
        let item = heard.items.iter().find(|item| item.measurand == wanted);
        let value = item.and_then(|item| decimal(&item.value));
        match value {
            Some(value) if hint.min <= value && value <= hint.max => said.push(format!("{}={value}", hint.quantity)),
            Some(value) => {
                let text = format!(
                    "{} is {value}, a {} has {} to {}",
                    hint.quantity, model.name, hint.min, hint.max
                );
                return Err(RelayError::NotIdentified(text));
            }
            None => return Err(RelayError::NotIdentified(format!("{} was not answered", hint.quantity))),
        }
    }
    Ok(format!("the unit answers as {}: {}", model.name, said.join(", ")))
}

fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Decimal(value) => Some(*value),
        Value::F32(value) => Decimal::try_from(*value).ok(),
        Value::F64(value) => Decimal::try_from(*value).ok(),
    }
}

/// What a single read was answered.
fn read(requests: &[Request], answers: Answers<'_>) -> Result<Reply, RelayError> {
    let (Some(Request::Modbus(request)), Some(Some(frame))) = (requests.first(), answers.first()) else {
        return Err(RelayError::Undecodable("there is no answer".to_owned()));
    };
    request
        .reply(frame)
        .map_err(|error| RelayError::Undecodable(error.to_string()))
}

pub(super) fn encode(
    permit: &TripPermit,
    model: &MeterModel,
    profile: &RegisterProfile,
) -> Result<Request, RelayError> {
    let unit = unit(&permit.target().address)?;
    let request = match permit.action() {
        action @ (Action::Disconnect | Action::Reconnect) => {
            let relay = relay(model, profile, action)?;
            let value = if *action == Action::Disconnect {
                relay.disconnect
            } else {
                relay.reconnect
            };
            modbus::Request::checked(unit, body(relay.write, relay.address, vec![value]))
        }
        Action::ReadParameter { name } => ask(parameter(model, profile, name)?, unit),
        Action::WriteParameter { name, value } => return write(parameter(model, profile, name)?, unit, value),
        Action::Raw { frame } => {
            let request = raw(frame)?;
            if request.unit() != unit {
                return Err(RelayError::OtherTarget {
                    permitted: format!("unit {unit}"),
                    asked: format!("unit {}", request.unit()),
                });
            }
            Ok(request)
        }
        other => return Err(not_supported(model, other)),
    };
    question(request)
}

fn body(write: Function, address: u16, registers: Vec<u16>) -> Body {
    let on = registers.first().is_some_and(|value| *value != 0);
    match (write, registers.as_slice()) {
        (Function::WriteSingleCoil, _) => Body::WriteCoil { address, on },
        (Function::WriteMultipleCoils, _) => Body::WriteCoils {
            address,
            bits: vec![on],
        },
        (Function::WriteSingleRegister, [value]) => Body::WriteRegister { address, value: *value },
        _ => Body::WriteRegisters { address, registers },
    }
}

fn ask(parameter: &Parameter, unit: u8) -> Result<modbus::Request, modbus::RequestError> {
    let point = &parameter.point;
    modbus::Request::read(unit, point.function, point.address, point.data.count())
}

fn write(parameter: &Parameter, unit: u8, value: &str) -> Result<Request, RelayError> {
    let name = &parameter.name;
    let function = parameter
        .write
        .ok_or_else(|| RelayError::Parameter(format!("{name} can only be read")))?;
    let value = number(name, value)?;
    if parameter.min.is_some_and(|min| value < min) || parameter.max.is_some_and(|max| value > max) {
        let bound = |bound: Option<Decimal>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
        return Err(RelayError::Parameter(format!(
            "{name} takes {} to {}, not {value}",
            bound(parameter.min),
            bound(parameter.max)
        )));
    }
    let registers = parameter
        .point
        .registers(Value::Decimal(value), &[])
        .map_err(|error| RelayError::Parameter(format!("{name}: {error}")))?;
    let held = parameter.point.value(&registers).ok();
    if held.as_ref().and_then(decimal) != Some(value) {
        return Err(RelayError::Parameter(format!("{name} cannot hold {value} exactly")));
    }
    question(modbus::Request::checked(
        unit,
        body(function, parameter.point.address, registers),
    ))
}

fn number(name: &str, text: &str) -> Result<Decimal, RelayError> {
    Decimal::from_str_exact(text.trim())
        .map_err(|_| RelayError::Parameter(format!("{name} takes a decimal number, not {text:?}")))
}

/// A raw frame: one whole request that the codec knows, so that its answer can be told from everything else.
fn raw(frame: &str) -> Result<modbus::Request, RelayError> {
    let bytes = hex::decode(frame).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))?;
    modbus::Request::parse(&bytes).map_err(|error| RelayError::Parameter(format!("the frame: {error}")))
}

pub(super) fn read_back(
    model: &MeterModel,
    profile: &RegisterProfile,
    address: &str,
    action: &Action,
) -> Result<Vec<Request>, RelayError> {
    let unit = unit(address)?;
    match action {
        Action::Disconnect | Action::Reconnect => {
            let back = &relay(model, profile, action)?.read_back;
            let read = modbus::Request::read(unit, back.function, back.address, 1);
            Ok(vec![question(read)?])
        }
        Action::WriteParameter { name, .. } => Ok(vec![question(ask(parameter(model, profile, name)?, unit))?]),
        _ => Ok(Vec::new()),
    }
}

pub(super) fn question_of(
    model: &MeterModel,
    profile: &RegisterProfile,
    address: &str,
    action: &Action,
) -> Result<Vec<Request>, RelayError> {
    match action {
        Action::ReadParameter { name } => Ok(vec![question(ask(parameter(model, profile, name)?, unit(address)?))?]),
        Action::Raw { frame } => Ok(vec![Request::Modbus(raw(frame)?)]),
        other => Err(not_supported(model, other)),
    }
}

pub(super) fn judge(
    profile: &RegisterProfile,
    action: &Action,
    requests: &[Request],
    answers: Answers<'_>,
) -> Result<Judgement, RelayError> {
    let reply = read(requests, answers)?;
    match action {
        Action::Disconnect | Action::Reconnect => {
            let relay = profile.relay.as_ref();
            let relay = relay.ok_or_else(|| RelayError::Undecodable("the model has no relay".to_owned()))?;
            let cell = match reply {
                Reply::Bits(bits) => bits.first().map(|bit| u16::from(*bit)),
                Reply::Registers(registers) => registers.first().copied(),
                Reply::Written | Reply::Exception(_) => None,
            };
            let cell = cell.ok_or_else(|| RelayError::Undecodable("the read-back brought no value".to_owned()))?;
            relay.read_back.judge(cell, *action == Action::Disconnect)
        }
        Action::ReadParameter { name } | Action::WriteParameter { name, .. } => {
            let parameter = profile.parameters.iter().find(|parameter| parameter.name == *name);
            let parameter = parameter.ok_or_else(|| RelayError::Undecodable(format!("no parameter {name}")))?;
            let registers = match reply {
                Reply::Registers(registers) => registers,
                Reply::Bits(bits) => bits.into_iter().map(u16::from).collect(),
                Reply::Written | Reply::Exception(_) => Vec::new(),
            };
            let value = parameter
                .point
                .value(&registers)
                .map_err(|error| RelayError::Undecodable(format!("{name}: {error}")))?;
            let value = decimal(&value).ok_or_else(|| RelayError::Undecodable(format!("{name} is no number")))?;
            let said = format!("{name} = {value} {}", parameter.point.unit);
            match action {
                Action::WriteParameter { value: wanted, .. } if number(name, wanted)? != value => {
                    Ok(Judgement::Otherwise { said })
                }
                _ => Ok(Judgement::AsWanted { said }),
            }
        }
        // the answer itself is what a raw frame brings
        _ => Ok(Judgement::AsWanted {
            said: answers.first().copied().flatten().map(hex::encode).unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
#[path = "modbus_tests.rs"]
mod tests;

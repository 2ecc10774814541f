//! Moving relays: the only caller of the encoders that can take a supply away. A frame costs a [`TripPermit`], which
//! the control desk alone mints; `tests/architecture.rs` proves that nothing else reaches those encoders.
//!
//! A command goes in three visits, all through one session: [`identify`] reads the meter's own number (or what its
//! protocol has instead, see [`identified`]), [`encode`] makes the one frame that changes something, [`read_back`] and
//! [`judge`] tell what the switch shows. It must not know sessions, clocks or the state machine.

mod cjt188;
mod dlt645;
mod gdw376;
mod modbus;

use super::decode::decode;
use super::dlt645::parameter::ParameterError;
use super::model::{MeterModel, Profile};
use super::plan::{PlanError, plan};
use crate::domain::command::{Action, Target, TripPermit};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::Request;
use crate::protocol::dlt645::Security;
use chrono::{NaiveDateTime, TimeDelta};
use rust_decimal::prelude::ToPrimitive;
use std::time::Duration;

/// Why a command cannot be made into frames, or its answers not into a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The model says of no way to do it.
    #[error("model {model} has no known way to {action}")]
    NotSupported {
        /// Which model.
        model: String,
        /// Which action.
        action: &'static str,
    },
    /// A wrong parameter.
    #[error("{0}")]
    Parameter(String),
    /// A parameter's value.
    #[error(transparent)]
    Value(#[from] ParameterError),
    /// The meter's address.
    #[error(transparent)]
    Address(#[from] PlanError),
    /// The permit is for another meter or model than the frame would be.
    #[error("the permit is for {permitted}, not for {asked}")]
    OtherTarget {
        /// In the permit.
        permitted: String,
        /// Asked for.
        asked: String,
    },
    /// Which meter stands at a measuring point is not certain.
    #[error("{0}")]
    NotPlaced(String),
    /// The answer does not prove who is there.
    #[error("the meter is not proven: {0}")]
    NotIdentified(String),
    /// The answer cannot be read.
    #[error("{0}")]
    Undecodable(String),
}

/// What a read-back shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is as the command wants it.
    AsWanted {
        /// What was read.
        said: String,
    },
    /// It is not.
    Otherwise {
        /// What was read.
        said: String,
    },
    /// It is on its way; ask again.
    Moving {
        /// What was read.
        said: String,
    },
}

/// What the answer to a relay's own frame says, where somebody stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The meter acknowledges it.
    Done,
    /// The meter refuses it, in words.
    Refused(String),
    /// The meter said nothing, or somebody else spoke: it may have been carried out or not.
    Silent(String),
}

/// What frames need besides the meter: its wall clock and what opens it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The meter's local time now.
    pub now: NaiveDateTime,
    /// The command's deadline in the meter's local time, for protocols that carry one.
    pub until: Option<NaiveDateTime>,
    /// Password and operator for DL/T 645.
    pub security: Security,
    /// How far the meter's clock is ahead, as it was read just now; none: it was not read.
    pub ahead: Option<TimeDelta>,
}

/// Answers of a visit, one per request; none where there is no answer.
pub type Answers<'a> = &'a [Option<&'a [u8]>];

/// Whether a model has a known way to do it to this meter.
///
/// # Errors
/// [`RelayError`] says what is missing.
pub fn check(model: &MeterModel, target: &Target, action: &Action) -> Result<(), RelayError> {
    match &model.profile {
        Profile::Modbus(profile) => modbus::check(model, profile, action),
        Profile::Dlt645(profile) => dlt645::check(model, profile, action),
        Profile::Cjt188(_) => cjt188::check(model, action),
        Profile::Gdw376(_) => gdw376::check(model, target, action),
        Profile::Mbus(_) | Profile::Dlt698(_) => Err(not_supported(model, action)),
    }
}

/// The questions that read the meter's own number.
///
/// # Errors
/// [`RelayError`].
pub fn identify(model: &MeterModel, target: &Target) -> Result<Vec<Request>, RelayError> {
    let address = &target.address;
    match &model.profile {
        Profile::Modbus(profile) => modbus::identify(model, profile, address),
        Profile::Dlt645(profile) => dlt645::identify(model, profile, address),
        Profile::Cjt188(_) => cjt188::identify(model, address),
        Profile::Gdw376(_) => gdw376::identify(target),
        Profile::Mbus(_) | Profile::Dlt698(_) => Ok(Vec::new()),
    }
}

/// What the answers prove, in words for the history.
///
/// # Errors
/// [`RelayError::NotIdentified`]: then no relay frame may go through this session.
pub fn identified(
    model: &MeterModel,
    target: &Target,
    requests: &[Request],
    answers: Answers<'_>,
) -> Result<String, RelayError> {
    match &model.profile {
        Profile::Modbus(profile) => modbus::identified(model, profile, requests, answers),
        Profile::Dlt645(_) => dlt645::identified(requests, answers),
        Profile::Cjt188(_) => cjt188::identified(requests, answers),
        Profile::Gdw376(_) => gdw376::identified(target, requests, answers),
        Profile::Mbus(_) | Profile::Dlt698(_) => Err(RelayError::NotIdentified("no way is known".to_owned())),
    }
}

/// The one frame that changes something. Uses the permit up.
///
/// # Errors
/// [`RelayError`]; the permit is gone all the same.
pub fn encode(permit: TripPermit, model: &MeterModel, manner: &Manner) -> Result<Request, RelayError> {
    let target = permit.target();
    if target.model != *model.name {
        return Err(RelayError::OtherTarget {
            permitted: target.model.clone(),
            asked: model.name.to_string(),
        });
    }
    match &model.profile {
        Profile::Modbus(profile) => modbus::encode(&permit, model, profile),
        Profile::Dlt645(profile) => dlt645::encode(&permit, model, profile, manner),
        Profile::Cjt188(profile) => cjt188::encode(&permit, model, profile, manner),
        Profile::Gdw376(_) => gdw376::encode(&permit, model, manner),
        Profile::Mbus(_) | Profile::Dlt698(_) => Err(not_supported(model, permit.action())),
    }
}

/// What the answer to the frame of [`encode`] says of the meter: what came as an answer is the meter's own, unless it is a
/// concentrator's that passed the frame on.
pub fn word(request: &Request, answer: &[u8]) -> Word {
    match request {
        Request::Gdw376(_) => gdw376::word(request, answer),
        _ => Word::Done,
    }
}

/// How long an answer may take beyond what the meter's model says: a concentrator waits for its meters.
pub fn answer_within(model: &MeterModel) -> Duration {
    match &model.profile {
        Profile::Gdw376(_) => gdw376::answer_within(),
        _ => Duration::ZERO,
    }
}

/// The questions that show whether it happened; none: what it did has no state to be read.
///
/// # Errors
/// [`RelayError`].
pub fn read_back(model: &MeterModel, target: &Target, action: &Action) -> Result<Vec<Request>, RelayError> {
    let address = &target.address;
    let mut requests = match &model.profile {
        Profile::Modbus(profile) => modbus::read_back(model, profile, address, action),
        Profile::Dlt645(profile) => dlt645::read_back(model, profile, address, action),
        Profile::Cjt188(_) => cjt188::read_back(model, address, action),
        Profile::Gdw376(_) => return gdw376::read_back(model, target, action),
        Profile::Mbus(_) | Profile::Dlt698(_) => Err(not_supported(model, action)),
    }?;
    // where the load can be seen, it has to fall
    if *action == Action::Disconnect && model.has(Quantity::ActivePowerTotal) {
        requests.extend(plan(model, address, &[Quantity::ActivePowerTotal])?);
    }
    Ok(requests)
}

/// The question whose answer [`judge`] can read where [`read_back`] has none: a parameter that is only read.
///
/// # Errors
/// [`RelayError`].
pub fn question_of(model: &MeterModel, target: &Target, action: &Action) -> Result<Vec<Request>, RelayError> {
    let address = &target.address;
    match &model.profile {
        Profile::Modbus(profile) => modbus::question_of(model, profile, address, action),
        Profile::Dlt645(profile) => dlt645::question_of(model, profile, address, action),
        Profile::Cjt188(_) => match action {
            Action::Raw { frame } => Ok(vec![Request::Cjt188(cjt188::raw(frame)?)]),
            other => Err(not_supported(model, other)),
        },
        Profile::Mbus(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => Err(not_supported(model, action)),
    }
}

/// What the answers to [`read_back`] show.
///
/// # Errors
/// [`RelayError::Undecodable`].
pub fn judge(
    model: &MeterModel,
    action: &Action,
    requests: &[Request],
    answers: Answers<'_>,
    manner: &Manner,
) -> Result<Judgement, RelayError> {
    let judgement = match &model.profile {
        Profile::Modbus(profile) => modbus::judge(profile, action, requests, answers),
        Profile::Dlt645(profile) => dlt645::judge(model, profile, action, requests, answers, manner),
        Profile::Cjt188(_) => cjt188::judge(model, action, requests, answers, manner),
        Profile::Gdw376(_) => return gdw376::judge(action, requests, answers),
        Profile::Mbus(_) | Profile::Dlt698(_) => Err(not_supported(model, action)),
    }?;
    Ok(match judgement {
        Judgement::AsWanted { said } if *action == Action::Disconnect => with_load(model, requests, answers, said),
        other => other,
    })
}

/// A switch that says that it is open is believed unless a load flows through it: a contact may be welded, or the meter
/// bridged.
fn with_load(model: &MeterModel, requests: &[Request], answers: Answers<'_>, said: String) -> Judgement {
    let heard = decode(model, requests, answers);
    let wanted = Measurand::Standard(Quantity::ActivePowerTotal);
    let item = heard.items.iter().find(|item| item.measurand == wanted);
    let watts = item.and_then(|item| match item.value {
        Value::Decimal(value) => value.to_f64(),
        Value::F32(value) => Some(value.into()),
        Value::F64(value) => Some(value),
    });
    match watts {
        Some(watts) if watts.abs() > LOAD_SEEN_W => Judgement::Otherwise {
            said: format!("{said}, but a load of {watts:.0} W flows"),
        },
        Some(watts) => Judgement::AsWanted {
            said: format!("{said}, load {watts:.0} W"),
        },
        None => Judgement::AsWanted { said },
    }
}

/// More than a meter's own noise, watts.
const LOAD_SEEN_W: f64 = 20.0;

/// What a meter's clock shows; `requests` are those of [`read_back`] for [`Action::SyncClock`].
///
/// # Errors
/// [`RelayError::Undecodable`] where the answers have no time.
pub fn clock_shown(
    model: &MeterModel,
    requests: &[Request],
    answers: Answers<'_>,
) -> Result<NaiveDateTime, RelayError> {
    let heard = decode(model, requests, answers);
    heard
        .meter_local
        .ok_or_else(|| RelayError::Undecodable("the clock was not answered".to_owned()))
}

/// How far a meter's clock may be off and still count as set.
const CLOCK_CLOSE_S: i64 = 10;

/// What a meter's clock says, after it was set.
fn clock(meter: Option<NaiveDateTime>, manner: &Manner) -> Result<Judgement, RelayError> {
    let local = meter.ok_or_else(|| RelayError::Undecodable("the clock was not answered".to_owned()))?;
    let off_s = (local - manner.now).num_seconds();
    let said = format!("the clock says {local}, {off_s} s off");
    Ok(if off_s.abs() <= CLOCK_CLOSE_S {
        Judgement::AsWanted { said }
    } else {
        Judgement::Otherwise { said }
    })
}

/// How long what a frame did may take to show: a relay snaps, a valve turns.
pub fn shows_within(model: &MeterModel) -> Duration {
    match &model.profile {
        Profile::Cjt188(_) => Duration::from_secs(90),
        Profile::Modbus(_) | Profile::Dlt645(_) | Profile::Mbus(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => {
            Duration::from_secs(12)
        }
    }
}

/// What a device's refusal means, in the words of its protocol; a wrong password is called one.
pub fn refusal(model: &MeterModel, code: u8) -> String {
    let protocol = model.protocols().first();
    protocol.map_or_else(|| format!("code 0x{code:02X}"), |protocol| protocol.refusal(code))
}

fn no_parameter<'a>(model: &MeterModel, name: &str, known: impl Iterator<Item = &'a str>) -> RelayError {
    let known: Vec<&str> = known.collect();
    RelayError::Parameter(format!(
        "model {} names no parameter {name:?}; it has [{}]",
        model.name,
        known.join(", ")
    ))
}

fn not_supported(model: &MeterModel, action: &Action) -> RelayError {
    RelayError::NotSupported {
        model: model.name.to_string(),
        action: action.name(),
    }
}

#[cfg(test)]
#[path = "kit_tests.rs"]
mod kit;

//! Relays of meters behind a concentrator of Q/GDW 1376.1: the meter's own relay frame of DL/T 645-2007, passed on by AFN 10
//! F1 (7.17.2.1), and its status word 3 read back the same way.
//!
//! The measuring point alone names nobody. The target is the meter whose address the archive that we want has at this point;
//! what is proven before a frame is that the concentrator has the same meter at this place of its archive (AFN 0A F10), and
//! that a meter answers under this address (04000401). The concentrator's own control rounds (AFN 05 F1, F2) are not used:
//! they switch a line, not a meter.

use super::{Answers, Judgement, LOAD_SEEN_W, Manner, RelayError, Word, not_supported};
use crate::device::gdw376::decode::read as outer;
use crate::device::gdw376::plan::point;
use crate::device::model::MeterModel;
use crate::domain::command::machine::{Behind, Target};
use crate::domain::command::{Action, TripPermit};
use crate::protocol::dlt645::items::{self, Value};
use crate::protocol::dlt645::relay::{self, Action as Code};
use crate::protocol::dlt645::{self, Address, AnswerError, Di, Edition, Reply};
use crate::protocol::gdw376::forward::{Passage, Question};
use crate::protocol::gdw376::{self, Afn, ArchiveMeter, Edition as Terminal, NO_TERMINAL, archive};
use crate::protocol::{Protocol, Request};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::time::Duration;

/// The communication address (DL/T 645-2007, table A.5).
const OWN_ADDRESS: Di = Di::E2007(0x0400_0401);
/// Status word 3 (table A.5): bit 4 the relay is open, bit 6 it was commanded open.
const STATUS_3: Di = Di::E2007(0x0400_0503);
const OPEN: u16 = 1 << 4;
const COMMANDED_OPEN: u16 = 1 << 6;
/// The present total active power (table A.3).
const POWER: Di = Di::E2007(0x0203_0000);
/// The edition by whose layouts the concentrator's own answers are cut; archive and forwarding are alike in both.
const TERMINAL: Terminal = Terminal::E2013;

/// How long an answer may take: as long as the concentrator waits for the meter, and the network besides.
pub(super) fn answer_within() -> Duration {
    Duration::from_millis(Passage::CARRIER.wait_ms().into()) + Duration::from_secs(15)
}

pub(super) fn check(model: &MeterModel, target: &Target, action: &Action) -> Result<(), RelayError> {
    if !matches!(action, Action::Disconnect | Action::Reconnect | Action::Arm) {
        return Err(not_supported(model, action));
    }
    meter(target).map(|_| ())
}

/// The meter behind a target, and how it is reached.
fn meter(target: &Target) -> Result<(&Behind, Address), RelayError> {
    let behind = target.behind.as_ref().ok_or_else(|| {
        RelayError::NotPlaced(format!(
            "the archive that is wanted of the concentrator does not name one meter at point {}",
            target.address
        ))
    })?;
    if behind.meter_protocol != archive::MeterProtocol::DLT645_2007.name() {
        return Err(RelayError::NotPlaced(format!(
            "the concentrator speaks {} with the meter at point {}, and only relays of DL/T 645-2007 are known",
            behind.meter_protocol, target.address
        )));
    }
    let address = Address::parse(&behind.meter_address).ok().filter(|own| own.is_meter());
    let address =
        address.ok_or_else(|| RelayError::NotPlaced(format!("{} is no address of one meter", behind.meter_address)))?;
    Ok((behind, address))
}

/// A meter's question, passed on; those that move a relay are made by [`encode`].
fn passed_on(behind: &Behind, inner: &dlt645::Request) -> Result<Request, RelayError> {
    let request = gdw376::Request::forward(NO_TERMINAL, &question(behind, inner)).map_err(parameter)?;
    Ok(Request::Gdw376(request))
}

/// As the concentrator is told to pass it on: without wake-up bytes, which are its own affair.
fn question(behind: &Behind, inner: &dlt645::Request) -> Question {
    Question {
        passage: Passage {
            port: behind.port,
            ..Passage::CARRIER
        },
        frame: inner.frame(),
    }
}

fn parameter(error: impl std::fmt::Display) -> RelayError {
    RelayError::Parameter(error.to_string())
}

pub(super) fn identify(target: &Target) -> Result<Vec<Request>, RelayError> {
    let (behind, address) = meter(target)?;
    let place = gdw376::Request::read_archive(NO_TERMINAL, &[behind.place]).map_err(parameter)?;
    Ok(vec![
        Request::Gdw376(place),
        passed_on(behind, &dlt645::Request::read(address, OWN_ADDRESS))?,
        passed_on(behind, &dlt645::Request::read(address, STATUS_3))?,
    ])
}

pub(super) fn identified(target: &Target, requests: &[Request], answers: Answers<'_>) -> Result<String, RelayError> {
    let (behind, address) = meter(target)?;
    let denied = || RelayError::NotIdentified("the concentrator does not tell its archive".to_owned());
    let (Some(Request::Gdw376(place)), Some(Some(bytes))) = (requests.first(), answers.first()) else {
        return Err(denied());
    };
    let answer = outer(place, bytes, TERMINAL).map_err(RelayError::NotIdentified)?;
    let there = answer
        .archive()
        .map_err(|error| RelayError::NotIdentified(error.to_string()))?;
    let [there] = there.as_slice() else {
        return Err(denied());
    };
    placed(target, behind, there)?;
    let mut under_address = false;
    for (request, answer) in requests.iter().zip(answers).skip(1) {
        let (Some((inner, reply)), Some(_)) = (said(request, *answer), answer) else {
            continue;
        };
        match reply {
            Ok(Reply::Data(data)) if inner.di() == Some(OWN_ADDRESS) => {
                let own = <[u8; 6]>::try_from(data.as_slice()).map(Address::from_wire);
                return match own {
                    Ok(own) if own == address => Ok(format!(
                        "place {} of the concentrator's archive, communication address {own}",
                        behind.place
                    )),
                    Ok(own) => Err(RelayError::NotIdentified(format!(
                        "the meter says that it is {own}, not {address}"
                    ))),
                    Err(_) => Err(RelayError::NotIdentified("its address has another length".to_owned())),
                };
            }
            Ok(_) => under_address = true,
            // it has no such identifier; the other one tells
            Err(Unsaid::Refused(_)) => {}
            Err(Unsaid::Silent(why)) => return Err(RelayError::NotIdentified(why)),
        }
    }
    if under_address {
        return Ok(format!(
            "place {} of the concentrator's archive, a meter answers under its address {address}",
            behind.place
        ));
    }
    Err(RelayError::NotIdentified("the meter answered nothing".to_owned()))
}

/// Whether the concentrator has the meter where we have it.
fn placed(target: &Target, behind: &Behind, there: &ArchiveMeter) -> Result<(), RelayError> {
    let point = point(&target.address)?;
    let same = there.place == behind.place
        && Some(there.point) == point.number()
        && there.address_text() == behind.meter_address
        && there.protocol.name() == behind.meter_protocol
        && there.port == behind.port;
    if same {
        return Ok(());
    }
    Err(RelayError::NotIdentified(format!(
        "place {} of the concentrator's archive has meter {} ({}) at point {}, port {}; wanted is {} ({}) at point {}, port {}",
        there.place,
        there.address_text(),
        there.protocol.name(),
        there.point,
        there.port,
        behind.meter_address,
        behind.meter_protocol,
        target.address,
        behind.port,
    )))
}

pub(super) fn encode(permit: &TripPermit, model: &MeterModel, manner: &Manner) -> Result<Request, RelayError> {
    check(model, permit.target(), permit.action())?;
    let (behind, address) = meter(permit.target())?;
    let (edition, security, until) = (Edition::E2007, manner.security, manner.until);
    let inner = match permit.action() {
        Action::Disconnect => relay::trip(edition, address, security, until),
        Action::Reconnect => relay::close(edition, address, security, until),
        Action::Arm => relay::other(address, Code::AllowClose, security, until),
        other => return Err(not_supported(model, other)),
    };
    let inner = inner.map_err(parameter)?;
    let password = gdw376::Password::ZERO;
    let request = gdw376::relay::forward(NO_TERMINAL, &question(behind, &inner), password).map_err(parameter)?;
    Ok(Request::Gdw376(request))
}

pub(super) fn read_back(model: &MeterModel, target: &Target, action: &Action) -> Result<Vec<Request>, RelayError> {
    check(model, target, action)?;
    let (behind, address) = meter(target)?;
    let mut requests = vec![passed_on(behind, &dlt645::Request::read(address, STATUS_3))?];
    // what the concentrator shows is as old as its last round: the meter itself says what flows
    if *action == Action::Disconnect {
        requests.push(passed_on(behind, &dlt645::Request::read(address, POWER))?);
    }
    Ok(requests)
}

/// What the answer to the relay frame itself says.
pub(super) fn word(request: &Request, answer: &[u8]) -> Word {
    match said(request, Some(answer)) {
        Some((_, Ok(_))) => Word::Done,
        Some((_, Err(Unsaid::Refused(why)))) => Word::Refused(why),
        Some((_, Err(Unsaid::Silent(why)))) => Word::Silent(why),
        None => Word::Silent("the frame passed nothing on".to_owned()),
    }
}

pub(super) fn judge(action: &Action, requests: &[Request], answers: Answers<'_>) -> Result<Judgement, RelayError> {
    let reply = |wanted: Di| {
        let mut passed = requests
            .iter()
            .zip(answers)
            .filter_map(|(request, answer)| said(request, *answer));
        passed
            .find(|(inner, _)| inner.di() == Some(wanted))
            .map(|(_, reply)| reply)
    };
    let word = match reply(STATUS_3) {
        Some(Ok(Reply::Data(data))) => <[u8; 2]>::try_from(data.as_slice()).map(u16::from_le_bytes).ok(),
        Some(Err(Unsaid::Refused(why) | Unsaid::Silent(why))) => return Err(RelayError::Undecodable(why)),
        _ => None,
    };
    let word = word.ok_or_else(|| RelayError::Undecodable("the status word does not tell of the relay".to_owned()))?;
    let (closed, armed) = (word & OPEN == 0, word & COMMANDED_OPEN == 0);
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
    if !as_wanted {
        return Ok(Judgement::Otherwise { said });
    }
    let watts = match reply(POWER) {
        Some(Ok(Reply::Data(data))) => watts(&data),
        _ => None,
    };
    Ok(match watts {
        Some(watts) if watts.abs() > LOAD_SEEN_W => Judgement::Otherwise {
            said: format!("{said}, but a load of {watts:.0} W flows"),
        },
        Some(watts) => Judgement::AsWanted {
            said: format!("{said}, load {watts:.0} W"),
        },
        None => Judgement::AsWanted { said },
    })
}

/// Power as a meter shows it, kilowatts.
fn watts(data: &[u8]) -> Option<f64> {
    match items::definition(POWER, 0)?.format.read(data).ok()? {
        Value::Number(kilowatts) => (kilowatts * Decimal::ONE_THOUSAND).to_f64(),
        _ => None,
    }
}

/// Why a meter's word did not come.
enum Unsaid {
    /// It refuses.
    Refused(String),
    /// It is silent, or somebody else spoke.
    Silent(String),
}

/// What a meter said through the concentrator to the question that was passed on; none where nothing was.
fn said(request: &Request, answer: Option<&[u8]>) -> Option<(dlt645::Request, Result<Reply, Unsaid>)> {
    let Request::Gdw376(request) = request else { return None };
    let (_, data) = request.asks().next().filter(|_| request.afn() == Afn::FORWARD)?;
    let asked = Question::read(data).ok()?;
    let inner = dlt645::Request::parse(Edition::E2007, &asked.frame).ok()?;
    let silent = |why: &str| Err(Unsaid::Silent(why.to_owned()));
    let Some(bytes) = answer else {
        return Some((inner, silent("the concentrator passed no answer of the meter on")));
    };
    let frame = match outer(request, bytes, TERMINAL).map(|answer| answer.forwarded()) {
        Err(why) => return Some((inner, silent(&why))),
        Ok(Err(error)) => return Some((inner, silent(&error.to_string()))),
        Ok(Ok(forwarded)) => forwarded.map(|forwarded| forwarded.frame).unwrap_or_default(),
    };
    if frame.is_empty() {
        return Some((inner, silent("the meter did not answer the concentrator")));
    }
    let reply = inner.reply(&frame).map_err(|error| match error {
        AnswerError::Refused(word) => Unsaid::Refused(Protocol::Dlt645_2007.refusal(word.bits)),
        other => Unsaid::Silent(other.to_string()),
    });
    Some((inner, reply))
}

#[cfg(test)]
#[path = "gdw376_tests.rs"]
mod tests;

//! Recorded exchanges of a model file: what was asked and answered on a real line, and what it means. Each is replayed
//! when the model is loaded: every answer must be found as the answer of its request and mean what it should.

use super::decode::{decode, name};
use super::fault::Faults;
use super::fields::{Fields, decimal, wrong_type};
use super::model::MeterModel;
use crate::base::hex;
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::{Finding, Request, Verdict};
use rust_decimal::Decimal;
use toml::Spanned;
use toml::de::DeValue;

/// A recorded conversation and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// How it was recorded.
    pub note: String,
    /// Request and answer; an answer of several frames as they came, one after another.
    pub frames: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the answers mean, in canonical units; none: no value.
    pub expect: Vec<(Measurand, Option<Decimal>)>,
}

/// Reads one `[[exchange]]`.
pub(super) fn exchange(faults: &mut Faults<'_>, mut table: Fields<'_, '_>) -> Option<Exchange> {
    let before = faults.len();
    let note = table.text(faults, "note").map_or("", |at| at.value).to_owned();
    let pairs = table.array(faults, "frames");
    let pairs = table.need(faults, "frames", pairs);
    let mut frames = Vec::new();
    for pair in pairs.iter().flat_map(|at| at.value.iter()) {
        let texts: Vec<_> = pair
            .get_ref()
            .as_array()
            .into_iter()
            .flat_map(|pair| pair.iter())
            .collect();
        match texts.as_slice() {
            [request, answer] => {
                if let (Some(request), Some(answer)) = (frame(faults, request), frame(faults, answer)) {
                    frames.push((request, answer));
                }
            }
            _ => faults.add(
                &pair.span(),
                "not a pair of frames",
                "write [\"request as hex\", \"answer as hex\"]",
            ),
        }
    }
    let expected = table.table(faults, "expect");
    let expected = table.need(faults, "expect", expected);
    let mut expect = Vec::new();
    for (key, value) in expected.iter().flat_map(Fields::entries) {
        let measurand =
            Quantity::by_name(key.value).map_or_else(|| Measurand::Vendor(key.value.into()), Measurand::Standard);
        if value.get_ref().as_str() == Some("none") {
            expect.push((measurand, None));
        } else if let Some(number) = decimal(faults, key.value, value) {
            expect.push((measurand, Some(number.value)));
        }
    }
    table.finish(faults);
    (faults.len() == before).then_some(Exchange { note, frames, expect })
}

fn frame(faults: &mut Faults<'_>, value: &Spanned<DeValue<'_>>) -> Option<Vec<u8>> {
    let Some(text) = value.get_ref().as_str() else {
        wrong_type(faults, "frames", value, "hex digits in quotes");
        return None;
    };
    match hex::decode(text) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            faults.add(&value.span(), error.to_string(), "write the frame as hex digits");
            None
        }
    }
}

/// Everything in which an exchange disagrees with the model.
pub(super) fn replay(model: &MeterModel, exchange: &Exchange) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for (index, (request, answer)) in exchange.frames.iter().enumerate() {
        let pair = index + 1;
        match model.request(request) {
            Err(error) => wrong.push(format!("request {pair} of the exchange: {error}")),
            Ok(request) => match answers_whole(&request, answer) {
                Ok(()) => {
                    requests.push(request);
                    answers.push(Some(answer.as_slice()));
                }
                Err(why) => wrong.push(format!(
                    "answer {pair} of the exchange is not the answer of its request: {why}"
                )),
            },
        }
    }
    if wrong.is_empty() {
        wrong.extend(compare(model, exchange, &requests, &answers));
    }
    wrong
}

/// The answer, and the answers of the follow-ups that it calls for, fill these bytes from the first to the last.
fn answers_whole(request: &Request, answer: &[u8]) -> Result<(), String> {
    let mut asked = request.clone();
    let mut from = 0;
    loop {
        let rest = answer.get(from..).unwrap_or_default();
        match asked.find(rest) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } if span.start == 0 => from += span.end,
            other => return Err(why_not(&asked, rest, &other)),
        }
        let so_far = answer.get(..from).unwrap_or_default();
        match request.follow_up(so_far) {
            Some(next) => asked = next,
            None if from == answer.len() => return Ok(()),
            None => return Err(format!("{} bytes are left over", answer.len() - from)),
        }
    }
}

/// Why bytes are not the answer.
fn why_not(request: &Request, bytes: &[u8], found: &Finding) -> String {
    let told = match request {
        Request::Modbus(request) => request.reply(bytes).err().map(|error| error.to_string()),
        Request::Dlt645(request) => request.reply(bytes).err().map(|error| error.to_string()),
        Request::Mbus(request) if request.reads() => request.readout(bytes).err().map(|error| error.to_string()),
        Request::Mbus(_) => None,
        Request::Cjt188(request) => request.answer(bytes).err().map(|error| error.to_string()),
        Request::Gdw376(_) => None,
        Request::Dlt698(request) => request.reply(bytes).err().map(|error| error.to_string()),
    };
    if let Some(told) = told {
        return told;
    }
    match found {
        Finding::NeedMore { .. } => "it holds no whole frame with a right checksum".to_owned(),
        Finding::Frame { span, verdict } => format!("bytes {} to {} are {verdict:?} to it", span.start, span.end),
    }
}

fn compare(model: &MeterModel, exchange: &Exchange, requests: &[Request], answers: &[Option<&[u8]>]) -> Vec<String> {
    let poll = decode(model, requests, answers);
    let mut wrong = Vec::new();
    for (measurand, expected) in &exchange.expect {
        let name = name(measurand);
        let item = poll.items.iter().find(|item| item.measurand == *measurand);
        let problem = poll.problems.iter().find(|problem| problem.measurand == *measurand);
        match (item, problem, expected) {
            (Some(item), _, Some(expected)) if equal(item.value, *expected) => {}
            (None, Some(problem), None) if problem.kind.is_no_value() => {}
            (Some(item), ..) => {
                let expected = expected.map_or_else(|| "none".to_owned(), |expected| expected.to_string());
                wrong.push(format!("{name} decodes to {:?}, expected is {expected}", item.value));
            }
            (None, Some(problem), _) => wrong.push(problem.to_string()),
            (None, None, _) => wrong.push(format!("{name} is expected, but the requests do not read it")),
        }
    }
    wrong
}

/// Decimals must be equal; a float must be the nearest to the expected decimal.
fn equal(value: Value, expected: Decimal) -> bool {
    let text = expected.to_string();
    match value {
        Value::Decimal(value) => value == expected,
        Value::F32(value) => text.parse() == Ok(value),
        Value::F64(value) => text.parse() == Ok(value),
    }
}

//! Replaying a recorded exchange: each answer must be found as the answer of its request, and mean what it should.

use super::decode::decode;
use super::{Exchange, RegisterProfile};
use crate::device::decode::name;
use crate::domain::reading::Value;
use crate::protocol::modbus::Request;
use crate::protocol::{Finding, Verdict};
use rust_decimal::Decimal;

/// Everything in which an exchange disagrees with the model.
pub(in crate::device) fn replay(profile: &RegisterProfile, exchange: &Exchange) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut requests = Vec::new();
    for (index, (request, answer)) in exchange.frames.iter().enumerate() {
        let pair = index + 1;
        match Request::parse(request) {
            Err(error) => wrong.push(format!("request {pair} of the exchange: {error}")),
            Ok(request) => {
                let whole = Finding::Frame {
                    span: 0..answer.len(),
                    verdict: Verdict::Answer,
                };
                if request.find(answer) == whole {
                    requests.push((request, answer.as_slice()));
                } else {
                    let why = request
                        .reply(answer)
                        .err()
                        .map_or_else(String::new, |e| format!(": {e}"));
                    wrong.push(format!(
                        "answer {pair} of the exchange is not the answer of its request{why}"
                    ));
                }
            }
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    let poll = decode(
        profile,
        requests.iter().map(|(request, answer)| (request, Some(*answer))),
    );
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

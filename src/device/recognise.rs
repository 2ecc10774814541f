//! Which model a found meter is: the models that the first answer does not rule out, and how well each fits what the
//! meter says when it is asked by it.

use super::catalogue::Catalogue;
use super::decode::DecodedPoll;
use super::model::MeterModel;
use super::plausible::approximate;
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Quality};
use crate::protocol::Protocol;
use rust_decimal::prelude::ToPrimitive;
use std::cmp::Ordering;
use std::sync::Arc;

/// The models of a protocol that may be behind the answer by which a meter was found, in the order of their names.
pub fn candidates(catalogue: &Catalogue, protocol: Protocol, answer: &[u8]) -> Vec<Arc<MeterModel>> {
    catalogue
        .iter()
        .filter(|model| model.protocols().contains(&protocol) && model.may_be(answer))
        .cloned()
        .collect()
}

/// What to ask a meter to tell whether it is of a model; empty: everything that it polls.
pub fn questions(model: &MeterModel) -> Vec<Quantity> {
    model.recognise.iter().map(|hint| hint.quantity).collect()
}

/// Whether the values that tell are all there and within bounds. A model without such values is what answers at all.
pub fn fits(model: &MeterModel, poll: &DecodedPoll) -> bool {
    let has = |hint: &super::model::Recognise| {
        poll.items.iter().any(|item| {
            let (Some(min), Some(max)) = (hint.min.to_f64(), hint.max.to_f64()) else {
                return false;
            };
            item.measurand == Measurand::Standard(hint.quantity) && (min..=max).contains(&approximate(item.value))
        })
    };
    if model.recognise.is_empty() {
        !poll.items.is_empty()
    } else {
        model.recognise.iter().all(has)
    }
}

/// How well a model explains a whole poll; the greater, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Values by which it is recognised.
    hints: usize,
    /// Values that are there and possible.
    good: usize,
    /// Values that are not there, or not possible.
    bad: usize,
}

impl Fit {
    /// Judges a poll of everything that the model polls.
    pub fn of(model: &MeterModel, poll: &DecodedPoll) -> Self {
        let good = poll
            .items
            .iter()
            .filter(|item| item.quality == Quality::Measured)
            .count();
        let missing = poll
            .problems
            .iter()
            .filter(|problem| !problem.kind.is_no_value())
            .count();
        Self {
            hints: model.recognise.len() + model.weight(),
            good,
            bad: poll.items.len() - good + missing,
        }
    }

    fn balance(self) -> i64 {
        // a value too many speaks louder against a model than one that fits speaks for it
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX / 8);
        count(self.good) - 4 * count(self.bad)
    }
}

impl PartialOrd for Fit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fit {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.balance(), self.hints, self.good).cmp(&(other.balance(), other.hints, other.good))
    }
}

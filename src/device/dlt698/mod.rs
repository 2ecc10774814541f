//! Meters of DL/T 698.45: which attributes bring which quantities, and which freezes a meter keeps. The same model serves a
//! meter on a line and one behind a terminal: a question names the meter alone, and whether a terminal has to pass it on is
//! the connection's affair (`exchange/proxy`).

pub(super) mod decode;
pub mod image;
pub(super) mod parse;
pub(super) mod plan;

use crate::device::dlt645::history::Kind;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::dlt698::{Address, Oad};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// What a meter of DL/T 698.45 has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectProfile {
    /// FE bytes before a question.
    pub preambles: usize,
    /// The most attributes that one question asks for.
    pub list_max: usize,
    /// Where the present values are.
    pub points: Vec<Point>,
    /// What it keeps of the past.
    #[serde(skip)]
    pub history: Vec<PastProfile>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it is.
    pub measurand: Measurand,
    /// The attribute, with the place of the value in it, from 1; 0 where the attribute is the value.
    #[serde(serialize_with = "shown")]
    pub oad: Oad,
    /// What makes the canonical unit of the number on the wire.
    pub factor: Decimal,
    /// Whether a poll of everything reads it.
    pub poll: bool,
}

/// What is kept of one kind of past.
#[derive(Clone, Debug, PartialEq)]
pub struct PastProfile {
    /// Daily freezes or settlements.
    pub kind: Kind,
    /// The record that keeps them.
    pub oad: Oad,
    /// How many.
    pub max: u8,
    /// The values.
    pub points: Vec<Point>,
}

impl Point {
    /// The quantity, if it is one of the list.
    pub fn quantity(&self) -> Option<Quantity> {
        match &self.measurand {
            Measurand::Standard(quantity) => Some(*quantity),
            Measurand::Vendor(_) => None,
        }
    }
}

/// The attribute of a value, whole.
pub(super) fn whole(oad: Oad) -> Oad {
    Oad { index: 0, ..oad }
}

/// A meter's address as its record has it: 1 to 32 digits, or AA…A where one meter is alone on its line.
pub(super) fn address(text: &str) -> Result<Address, super::plan::PlanError> {
    Address::parse(text)
        .ok()
        .filter(Address::is_answered)
        .ok_or_else(|| super::plan::PlanError::Address {
            address: text.to_owned(),
            kind: "a server address of DL/T 698.45",
            help: "use the 12 digits on the name plate",
        })
}

fn shown<S: Serializer>(oad: &Oad, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(oad)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

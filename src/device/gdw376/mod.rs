//! Meters behind a concentrator of Q/GDW 1376.1: which items of a measuring point bring which quantities, and which days
//! and months the concentrator keeps. A meter's address is its measuring point; which terminal has it is the connection's
//! affair ([`crate::protocol::gdw376::NO_TERMINAL`]).

pub(super) mod decode;
pub(super) mod parse;
pub(super) mod plan;

use crate::device::dlt645::history::Kind;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::gdw376::{Afn, Edition, Fn};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// What a concentrator has of one of its measuring points.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointProfile {
    /// Which edition's layouts it keeps to.
    #[serde(serialize_with = "edition")]
    pub edition: Edition,
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
    /// The item that brings it.
    pub source: Source,
    /// What makes the canonical unit of it.
    pub factor: Decimal,
    /// Whether a poll of everything reads it.
    pub poll: bool,
}

/// Where in an item a value stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The function.
    #[serde(serialize_with = "function")]
    pub afn: Afn,
    /// The item.
    #[serde(serialize_with = "item")]
    pub item: Fn,
    /// The name of its field in the standard's layout.
    pub field: &'static str,
    /// The tariff, 0 the total, where the field has tariffs.
    pub rate: Option<u8>,
}

/// What is kept of one kind of past.
#[derive(Clone, Debug, PartialEq)]
pub struct PastProfile {
    /// Days or months.
    pub kind: Kind,
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

fn edition<S: Serializer>(edition: &Edition, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(match edition {
        Edition::E2009 => 2009,
        Edition::E2013 => 2013,
    })
}

fn function<S: Serializer>(afn: &Afn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:02X}", afn.0))
}

fn item<S: Serializer>(item: &Fn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(item)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

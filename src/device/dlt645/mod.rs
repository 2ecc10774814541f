//! DL/T 645 meters: which identifiers bring which quantities, and what of that a meter keeps of the past.

pub(super) mod decode;
pub mod history;
pub mod parameter;
pub(super) mod parse;
mod parse_history;
pub(super) mod plan;

use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand, Quality, Value};
use crate::protocol::dlt645::items::{self, Format};
use crate::protocol::dlt645::{Address, Di, Edition};
use history::PastProfile;
use parameter::Parameter;
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// What a meter of DL/T 645 has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemProfile {
    /// Which standard it keeps to.
    #[serde(serialize_with = "edition")]
    pub edition: Edition,
    /// FE bytes before a question.
    pub preambles: usize,
    /// Where the values are.
    pub points: Vec<Point>,
    /// Block identifiers that it answers, besides single ones.
    #[serde(serialize_with = "shown")]
    pub blocks: Vec<Di>,
    /// Identifiers of date and time; one that has both, or two. Empty: its clock cannot be read.
    #[serde(serialize_with = "shown")]
    pub clock: Vec<Di>,
    /// What it keeps of the past.
    #[serde(skip)]
    pub history: Vec<PastProfile>,
    /// What can be read and written of its settings.
    pub parameters: Vec<Parameter>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it is.
    pub measurand: Measurand,
    /// Where it is.
    #[serde(serialize_with = "one_shown")]
    pub di: Di,
    /// How its bytes are read.
    #[serde(skip)]
    pub format: Format,
    /// A field of so many bits from bit so-and-so on.
    pub bits: Option<(u8, u8)>,
    /// A single bit taken the other way round.
    pub invert: bool,
    /// The unit of the file.
    pub unit: String,
    /// What makes the canonical unit of it.
    pub factor: Decimal,
    /// Whether a poll of everything reads it.
    pub poll: bool,
}

impl Point {
    /// The quantity, if it is one of the list.
    pub fn quantity(&self) -> Option<Quantity> {
        match &self.measurand {
            Measurand::Standard(quantity) => Some(*quantity),
            Measurand::Vendor(_) => None,
        }
    }

    /// The item of a number as the meter says it.
    fn item(&self, number: Decimal) -> Item {
        item(&self.measurand, number, self.factor)
    }
}

/// An item in the canonical unit, marked where it cannot be true.
pub(super) fn item(measurand: &Measurand, number: Decimal, factor: Decimal) -> Item {
    use rust_decimal::prelude::ToPrimitive;
    // a product has more digits than the meter said
    let value = if factor == Decimal::ONE {
        number
    } else {
        (number * factor).normalize()
    };
    let approximate = value.to_f64().unwrap_or(f64::MAX);
    let suspect = matches!(measurand, Measurand::Standard(q) if !super::plausible::plausible(*q, approximate));
    Item {
        measurand: measurand.clone(),
        value: Value::Decimal(value),
        quality: if suspect { Quality::Suspect } else { Quality::Measured },
    }
}

/// The identifiers of the items in a block, in their order.
fn block_items(block: Di) -> impl Iterator<Item = Di> {
    (0..256)
        .map_while(move |index| items::definition(block, index))
        .filter_map(|item| item.di)
}

/// A meter's address as its record has it: 1 to 12 digits, or AA for bytes of any digits where one meter is alone.
pub(super) fn address(text: &str) -> Result<Address, super::plan::PlanError> {
    Address::parse(text)
        .ok()
        .filter(|address| *address != Address::BROADCAST)
        .ok_or_else(|| super::plan::PlanError::Address {
            address: text.to_owned(),
            kind: "an address of DL/T 645",
            help: "use the 12 digits on the name plate",
        })
}

fn edition<S: Serializer>(edition: &Edition, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(match edition {
        Edition::E1997 => 1997,
        Edition::E2007 => 2007,
    })
}

fn one_shown<S: Serializer>(di: &Di, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(di)
}

fn shown<S: Serializer>(list: &[Di], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(ToString::to_string))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! The reverse of decoding, for the simulator: what an attribute of a virtual meter holds.

use super::{ObjectProfile, whole};
use crate::domain::reading::Measurand;
use crate::protocol::dlt698::objects::{self, Layout};
use crate::protocol::dlt698::{Data, Oad};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Tariffs of a register.
const TARIFFS: u8 = 4;

/// What stands in an attribute that the model reads, by what the meter shows of its quantities; none where the model reads
/// nothing of it. Values in a list that the model does not read are zero.
pub fn attribute(
    profile: &ObjectProfile,
    phases: u8,
    oad: Oad,
    shows: impl Fn(&Measurand) -> Option<Decimal>,
) -> Option<Data> {
    let attribute = whole(oad);
    let of_history = profile.history.iter().flat_map(|kept| &kept.points);
    let points: Vec<_> = profile
        .points
        .iter()
        .chain(of_history)
        .filter(|point| whole(point.oad) == attribute)
        .collect();
    let highest = points.iter().map(|point| point.oad.index).max()?;
    let layout = objects::object(oad.oi).map_or(Layout::Other, |object| object.layout);
    let count = match layout {
        Layout::Tariffs | Layout::Demands => 1 + TARIFFS,
        Layout::Phases => phases,
        Layout::TotalPhases => 1 + phases,
        _ => highest,
    };
    let element = |index: u8| {
        let point = points.iter().find(|point| point.oad.index == index);
        let number = point.and_then(|point| shows(&point.measurand).map(|value| (value / point.factor).round()));
        typed(oad.oi, number.unwrap_or_default())
    };
    match (highest, oad.index) {
        (0, 0) => Some(element(0)),
        (0, _) => None,
        (_, 0) => Some(Data::Array((1..=count).map(element).collect())),
        (_, index) => (index <= count).then(|| element(index)),
    }
}

/// A number in the type that the standard gives the object (DL/T 698.45-2017, annex E); what it cannot hold is null.
fn typed(oi: u16, number: Decimal) -> Data {
    let data = match oi {
        0x2000 | 0x200F => number.to_u16().map(Data::UInt16),
        0x200A => number.to_i16().map(Data::Int16),
        // combined registers have a sign
        0x0000 | 0x0030 | 0x0040 | 0x2001..=0x2FFF => number.to_i32().map(Data::Int32),
        _ => number.to_u32().map(Data::UInt32),
    };
    data.unwrap_or(Data::Null)
}

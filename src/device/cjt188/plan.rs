//! The frames to ask for: one a record.

use super::{Record, RecordProfile};
use crate::device::plan::PlanError;
use crate::domain::quantity::Quantity;
use crate::protocol::cjt188::record::Form;
use crate::protocol::cjt188::{Address, Request};

/// Identifier and serial number in an answer.
const DI_SER: usize = 3;

/// Asks for every record that holds something wanted.
pub(in crate::device) fn plan(profile: &RecordProfile, address: Address, wanted: &[Quantity]) -> Vec<Request> {
    let records = profile.records.iter().filter(|record| record.is_wanted(wanted));
    records.map(|record| read(profile, address, record)).collect()
}

/// Asks for the record that has the meter's clock in it, if one has.
pub(in crate::device) fn clock(profile: &RecordProfile, address: Address) -> Option<Request> {
    let has_clock = |record: &&Record| record.fields.iter().any(|field| matches!(field.form, Form::Time(_)));
    let record = profile.records.iter().find(has_clock)?;
    Some(read(profile, address, record))
}

/// Asks for a record.
fn read(profile: &RecordProfile, address: Address, record: &Record) -> Request {
    with_length(Request::read(profile.ask.target(address), record.di), record)
}

/// Lets a question take an answer as long as its record, where that is longer than the standard's longest. A shorter
/// answer is still one: what it lacks is named when it is decoded.
pub(super) fn with_length(request: Request, record: &Record) -> Request {
    match u8::try_from(record.len() + DI_SER) {
        Ok(longest) if longest > request.longest() => request.with_longest(longest),
        _ => request,
    }
}

/// Reads a meter's address as its record has it.
pub(in crate::device) fn address(text: &str) -> Result<Address, PlanError> {
    let wrong = || PlanError::Address {
        address: text.to_owned(),
        kind: "a CJ/T 188 address",
        help: "use the up to 14 digits of the name plate, without the AA of a wildcard",
    };
    let address = Address::parse(text).map_err(|_| wrong())?;
    if address.has_wildcard() {
        Err(wrong())
    } else {
        Ok(address)
    }
}

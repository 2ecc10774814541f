//! What is asked of an M-Bus meter: one readout for all.

use super::{Point, ReadoutProfile};
use crate::device::plan::PlanError;
use crate::protocol::mbus::{Body, NETWORK, PRIMARY_MAX, Request, RequestError, Selection};

/// Where a meter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a primary address, 1 to 250; 0 is that of a meter that has none yet.
    Primary(u8),
    /// Wherever it is: it is selected by its identification.
    Secondary(Selection),
}

impl Address {
    /// Reads `1` to `250`, or `12345678` with manufacturer, version and medium behind it, see
    /// [`Selection::parse`].
    ///
    /// # Errors
    /// [`PlanError::Address`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let trimmed = text.trim();
        if let Ok(selection) = Selection::parse(trimmed) {
            return Ok(Self::Secondary(selection));
        }
        let digits = (1..=3).contains(&trimmed.len()) && trimmed.bytes().all(|b| b.is_ascii_digit());
        trimmed
            .parse::<u8>()
            .ok()
            .filter(|address| digits && (1..=PRIMARY_MAX).contains(address))
            .map(Self::Primary)
            .ok_or_else(|| PlanError::Address {
                address: text.to_owned(),
                kind: "an M-Bus address",
                help: "use 1 to 250, or the eight digits of the meter as in 12345678 or 12345678.KAM.01.04",
            })
    }
}

impl std::fmt::Display for Address {
    /// One spelling of each.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Primary(address) => address.fmt(f),
            Self::Secondary(selection) => selection.fmt(f),
        }
    }
}

/// The readout that brings every chosen point; nothing when none is chosen.
pub(in crate::device) fn plan(
    profile: &ReadoutProfile,
    address: Address,
    chosen: impl Fn(&Point) -> bool,
) -> Result<Vec<Request>, PlanError> {
    if profile.points.iter().any(chosen) {
        readout(profile, address)
    } else {
        Ok(Vec::new())
    }
}

/// The readout.
pub(in crate::device) fn readout(profile: &ReadoutProfile, address: Address) -> Result<Vec<Request>, PlanError> {
    let request =
        |request: Result<Request, RequestError>| request.map_err(|error| PlanError::Request(error.to_string()));
    let mut requests = Vec::new();
    let to = match address {
        Address::Primary(address) => {
            if profile.ask.reset {
                requests.push(request(Request::reset(address))?);
            }
            address
        }
        // a selection begins the link anew, as a reset does
        Address::Secondary(selection) => {
            requests.push(Request::select(selection));
            NETWORK
        }
    };
    if let Some(subcode) = profile.ask.application_reset {
        let body = Body::ApplicationReset { subcode: Some(subcode) };
        requests.push(request(Request::send(to, false, body))?);
    }
    requests.push(match address {
        Address::Primary(address) => request(Request::read(address, true))?,
        Address::Secondary(selection) => Request::read_selected(selection),
    });
    Ok(requests)
}

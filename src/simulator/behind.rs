//! The meters behind a virtual concentrator as they speak themselves, when it passes a frame on: DL/T 645-2007 with a relay each.
//! What the concentrator shows of them is its own affair.

use crate::device::catalogue::Catalogue;
use crate::device::dlt645::ItemProfile;
use crate::device::model::Profile;
use crate::protocol::Protocol;
use crate::protocol::dlt645::{self, Address, Heard, Password};
use crate::simulator::dlt645::{Meter645, Quirks};
use crate::simulator::physics::Load;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What they are like.
const MODEL: &str = "dlt645_2007_single_phase";
/// What opens their relays: the head end's default.
const PASSWORD: (u8, &str) = (2, "000000");

/// Read once; none where the catalogue has no such model: then nobody answers.
static PROFILE: LazyLock<Option<Arc<ItemProfile>>> = LazyLock::new(|| {
    let catalogue = Catalogue::builtin().ok()?;
    match &catalogue.get(Protocol::Dlt645_2007, MODEL)?.profile {
        Profile::Dlt645(profile) => Some(Arc::new(profile.clone())),
        _ => None,
    }
});

/// The meters that were spoken with, by measuring point.
#[derive(Debug, Default)]
pub struct Meters {
    met: BTreeMap<u16, Meter645>,
}

/// Whose question a frame is; none where it is no whole question of DL/T 645.
pub fn asked(frame: &[u8]) -> Option<(Address, dlt645::Request)> {
    match dlt645::hear(frame) {
        Heard::Request { span, request } if span == (0..frame.len()) => Some((request.address(), request)),
        _ => None,
    }
}

impl Meters {
    /// What the meter of a point says to a question; none where it is silent.
    pub fn say(&mut self, point: u16, asked: &dlt645::Request, load: &Load, now: DateTime<Utc>) -> Option<Vec<u8>> {
        if let std::collections::btree_map::Entry::Vacant(place) = self.met.entry(point) {
            let (level, password) = PASSWORD;
            let password = Password::new(level, password).ok()?;
            let mut meter = Meter645::new(asked.address(), Arc::clone(PROFILE.as_ref()?), password);
            // its wake-up bytes are lost on the carrier
            meter.quirks = Quirks {
                preambles: 0,
                ..Quirks::default()
            };
            place.insert(meter);
        }
        self.met.get(&point)?.answer(asked, load, now)
    }

    /// Whether the relay of a point is open.
    pub fn is_open(&self, point: u16) -> bool {
        self.met.get(&point).is_some_and(Meter645::is_open)
    }
}

//! A virtual M-Bus slave: a load seen through the records of a meter model, at its primary address and at 253 when it is
//! selected, with the frame count bits and the telegrams that real ones have.

use crate::device::mbus::{DayEdge, Kept, Point, ReadoutProfile, image};
use crate::device::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::mbus::write::{self, Data, RECORDS_MAX};
use crate::protocol::mbus::{
    ACK, BROADCAST, Body, Identification, Manufacturer, NETWORK, Request, Selection, Status, TEST,
};
use crate::simulator::fluid::{HEAT_PER_ELECTRICITY, KWH_PER_M3_K, RETURN_C, SUPPLY_C, heat_kwh, month_start};
use crate::simulator::line::{LineMeter, Question, Spoken, Tongue};
use crate::simulator::meter::value_of;
use crate::simulator::physics::{Instant, Load};
use chrono::{DateTime, Duration, Utc};
use rust_decimal::Decimal;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Media of heat meters.
const HEAT: [u8; 3] = [0x04, 0x0C, 0x0D];

/// What a meter does otherwise than the standard says, or slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Never answers.
    pub mute: bool,
    /// Knows no selection.
    pub primary_only: bool,
    /// Answers at 253 as 253, not as its primary address.
    pub answers_as_253: bool,
    /// Does not answer SND_NKE.
    pub no_reset: bool,
    /// Bytes of records in a telegram; fewer make more telegrams.
    pub telegram: usize,
    /// Says for ever that more records follow.
    pub endless: bool,
    /// Thinks so long.
    pub slow: std::time::Duration,
    /// Seconds that its clock is ahead.
    pub clock_ahead_s: i64,
    /// Its battery is low.
    pub battery_low: bool,
}

impl Default for Quirks {
    /// As the standard has it.
    fn default() -> Self {
        Self {
            mute: false,
            primary_only: false,
            answers_as_253: false,
            no_reset: false,
            telegram: RECORDS_MAX,
            endless: false,
            slow: std::time::Duration::ZERO,
            clock_ahead_s: 0,
            battery_low: false,
        }
    }
}

/// The meter.
#[derive(Debug)]
pub struct MbusMeter {
    profile: ReadoutProfile,
    identification: Identification,
    load: Load,
    /// Whether it is a heat meter.
    heat: bool,
    quirks: Quirks,
    state: Mutex<State>,
}

/// What questions change.
#[derive(Clone, Debug, Default)]
struct State {
    primary: u8,
    selected: bool,
    /// The links at the primary address and at 253 count on their own.
    links: [Link; 2],
    access: u8,
    baud: u32,
}

/// One link.
#[derive(Clone, Debug, Default)]
struct Link {
    /// The frame count bit of the last reading.
    fcb: Option<bool>,
    /// What answered it.
    last: Vec<u8>,
    /// The telegrams of the readout in progress that were not told yet, the next one last.
    rest: Vec<Vec<u8>>,
}

/// A model's meter with this number, as its header says it: maker, version and medium are the first of the model's.
pub fn identification(model: &MeterModel, number: u32) -> Identification {
    let first = match &model.profile {
        Profile::Mbus(profile) => (
            profile.identify.manufacturers.first().copied(),
            profile.identify.versions.first().copied(),
            profile.identify.media.first().copied(),
        ),
        _ => (None, None, None),
    };
    let digits = format!("{:08}", number % 100_000_000);
    Identification {
        id: u32::from_str_radix(&digits, 16).unwrap_or_default(),
        manufacturer: first.0.or(Manufacturer::of("PPH")).unwrap_or(Manufacturer(0)),
        version: first.1.unwrap_or(1),
        medium: first.2.unwrap_or(0x07),
    }
}

impl MbusMeter {
    /// A meter of a model at a primary address, with the load of a seed. A model of another protocol makes a meter that
    /// tells nothing.
    pub fn new(primary: u8, identification: Identification, model: &MeterModel, seed: u64, quirks: Quirks) -> Self {
        let profile = match &model.profile {
            Profile::Mbus(profile) => profile.clone(),
            _ => ReadoutProfile::empty(),
        };
        let load = Load::new(seed, model.phases);
        let heat = HEAT.contains(&identification.medium);
        Self {
            profile,
            identification,
            load,
            heat,
            quirks,
            state: Mutex::new(State {
                primary,
                baud: 2400,
                ..State::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it says it is.
    pub fn identification(&self) -> Identification {
        self.identification
    }

    /// The primary address that it has now.
    pub fn primary(&self) -> u8 {
        self.state().primary
    }

    /// The speed that it was told to take, bits per second.
    pub fn baud(&self) -> u32 {
        self.state().baud
    }

    /// What it shows of a quantity at `at`, in the canonical unit, before rounding to its digits.
    pub fn shows(&self, quantity: Quantity, at: DateTime<Utc>) -> Option<Decimal> {
        use Quantity as Q;
        let shown = self.load.at(at);
        match (quantity, self.heat) {
            (Q::HeatEnergySettlement, _) => return self.shows(Q::HeatEnergy, month_start(at, 0)),
            (Q::VolumeSettlement, _) => {
                let volume = if self.identification.medium == 0x03 {
                    Q::GasVolume
                } else {
                    Q::VolumeTotal
                };
                return self.shows(volume, month_start(at, 0));
            }
            (Q::GasVolume, _) => return Some(shown.volume_m3),
            (Q::OperatingHours, _) => {
                let hours = (at - crate::simulator::physics::epoch()).num_hours().max(0);
                return Some(Decimal::from(hours));
            }
            (_, true) => {
                if let Some(value) = heat_of(quantity, &shown) {
                    return Some(value);
                }
            }
            _ => {}
        }
        match value_of(quantity, &shown)? {
            Value::Decimal(value) => Some(value),
            Value::F32(value) => Decimal::from_f32_retain(value),
            Value::F64(value) => Decimal::from_f64_retain(value),
        }
    }

    fn status(&self) -> Status {
        Status(if self.quirks.battery_low { 0x04 } else { 0x00 })
    }

    /// The records of a readout at `now`. What does not fit its field says that it is no value.
    fn records(&self, now: DateTime<Utc>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let told = |point: &Point, storage: Option<u64>, at: DateTime<Utc>| {
            let value = match &point.measurand {
                Measurand::Standard(quantity) => self.shows(*quantity, at),
                Measurand::Vendor(_) => Some(Decimal::ZERO),
            };
            if value.is_none() && point.optional {
                return Vec::new();
            }
            image::record(point, storage, value)
                .or_else(|_| image::record(point, storage, None))
                .unwrap_or_default()
        };
        out.extend(write::record(write::Place::NOW, &[0x78], &Data::Bcd(4, self.number())).ok());
        for point in &self.profile.points {
            out.push(told(point, None, now));
        }
        let clock = (now + Duration::seconds(self.quirks.clock_ahead_s)).naive_utc();
        out.extend(write::record(write::Place::NOW, &[0x6D], &Data::DateTime(clock)).ok());
        for kept in &self.profile.history {
            self.past(kept, now, &told, &mut out);
        }
        out.retain(|record| !record.is_empty());
        out
    }

    /// The states that it keeps: of the ends of the months before.
    fn past(
        &self,
        kept: &Kept,
        now: DateTime<Utc>,
        told: &impl Fn(&Point, Option<u64>, DateTime<Utc>) -> Vec<u8>,
        out: &mut Vec<Vec<u8>>,
    ) {
        for (storage, months) in kept.storages.iter().zip(0u32..) {
            let at = month_start(now, months);
            if at < crate::simulator::physics::epoch() {
                break;
            }
            let date = match kept.day {
                DayEdge::Begin => at.date_naive(),
                DayEdge::End => at.date_naive().pred_opt().unwrap_or_default(),
            };
            let place = write::Place {
                storage: *storage,
                ..write::Place::NOW
            };
            out.extend(write::record(place, &[0x6C], &Data::Date(date)).ok());
            for point in self.profile.registers() {
                if !self.profile.has_point_at(point, *storage) {
                    out.push(told(point, Some(*storage), at));
                }
            }
        }
    }

    /// Its digits as a number.
    fn number(&self) -> i64 {
        format!("{:X}", self.identification.id).parse().unwrap_or_default()
    }

    /// The next telegram of a link, or the last one again.
    fn read(&self, state: &mut State, link: usize, fcb: bool, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let primary = state.primary;
        let known = state.links.get_mut(link)?;
        if known.fcb == Some(fcb) && !known.last.is_empty() {
            return Some(known.last.clone());
        }
        if known.rest.is_empty() {
            known.rest = image::telegrams(&self.records(now), self.quirks.telegram);
            known.rest.reverse();
        }
        let mut records = known.rest.pop().unwrap_or_default();
        if self.quirks.endless && known.rest.is_empty() {
            records.push(0x1F);
        }
        state.access = state.access.wrapping_add(1);
        let address = if link == 1 && self.quirks.answers_as_253 {
            NETWORK
        } else {
            primary
        };
        let frame = write::telegram(address, self.identification, state.access, self.status(), &records).ok()?;
        let known = state.links.get_mut(link)?;
        known.fcb = Some(fcb);
        known.last.clone_from(&frame);
        Some(frame)
    }

    /// What it does with a question that it hears; the answer, if it was meant alone.
    fn react(&self, request: &Request, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let mut state = self.state();
        if let Body::Select(mask) = request.body() {
            return self.select(&mut state, mask);
        }
        let link = match request.address() {
            NETWORK if state.selected => 1,
            TEST | BROADCAST => 0,
            address if address == state.primary => 0,
            _ => return None,
        };
        let acknowledged = match request.body() {
            Body::ReadClass2 => return self.read(&mut state, link, request.fcb(), now),
            Body::Reset => {
                if let Some(link) = state.links.get_mut(link) {
                    *link = Link::default();
                }
                if link == 1 {
                    state.selected = false;
                }
                !self.quirks.no_reset
            }
            Body::ApplicationReset { .. } => {
                state.links.iter_mut().for_each(|link| link.rest.clear());
                true
            }
            Body::SetAddress(new) => {
                state.primary = *new;
                true
            }
            Body::SetBaud(baud) => {
                state.baud = baud.speed();
                true
            }
            // no alarms, and whatever else it is told it takes
            Body::ReadClass1 | Body::Send { .. } | Body::Select(_) => true,
        };
        acknowledged.then(|| vec![ACK])
    }

    fn select(&self, state: &mut State, mask: &Selection) -> Option<Vec<u8>> {
        state.selected = !self.quirks.primary_only && mask.fits(&self.identification);
        if let (true, Some(link)) = (state.selected, state.links.get_mut(1)) {
            *link = Link::default();
        }
        state.selected.then(|| vec![ACK])
    }
}

/// What a heat meter shows: volume, energy, flow, power and temperatures fit one another.
fn heat_of(quantity: Quantity, shown: &Instant) -> Option<Decimal> {
    use Quantity as Q;
    let carried = KWH_PER_M3_K * (SUPPLY_C - RETURN_C);
    let power_w = || Some(Decimal::from_f64_retain(shown.power_w)? * HEAT_PER_ELECTRICITY);
    Some(match quantity {
        Q::HeatEnergy => heat_kwh(shown),
        Q::VolumeTotal => heat_kwh(shown) / carried,
        Q::ThermalPower => power_w()?,
        Q::FlowRate => power_w()? / Decimal::ONE_THOUSAND / carried,
        Q::TemperatureFlow => SUPPLY_C,
        Q::TemperatureReturn => RETURN_C,
        Q::TemperatureDifference => SUPPLY_C - RETURN_C,
        _ => return None,
    })
}

impl LineMeter for MbusMeter {
    fn tongue(&self) -> Tongue {
        Tongue::Mbus
    }

    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken> {
        let Question::Mbus(request) = question else {
            return None;
        };
        if self.quirks.mute {
            return None;
        }
        let bytes = self.react(request, now)?;
        (request.address() != BROADCAST).then_some(Spoken {
            bytes,
            after: self.quirks.slow,
        })
    }

    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let Question::Mbus(request) = question else {
            return None;
        };
        if !request.reads() {
            return None;
        }
        let telegrams = image::telegrams(&self.records(now), self.quirks.telegram);
        let state = self.state();
        write::telegram(
            state.primary,
            self.identification,
            state.access,
            self.status(),
            telegrams.first()?,
        )
        .ok()
    }
}

#[cfg(test)]
#[path = "mbus_tests.rs"]
mod tests;

//! A virtual water, heat or gas meter that speaks CJ/T 188: a load seen through the frames of a meter model, with the
//! quirks that real ones have.
//!
//! Volume, energy, flow, power and temperatures fit one another: heat is volume × temperature difference × what a cubic
//! metre of water carries. A closed valve stops the counter.

use crate::device::cjt188::image::{self, Shown};
use crate::device::cjt188::{Part, RecordProfile};
use crate::device::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::cjt188::value::{self, TimeOrder, Valve};
use crate::protocol::cjt188::{Address, Control, DataId, Frame, Function, MeterType};
use crate::simulator::line::{LineMeter, Question, Spoken, Tongue};
use crate::simulator::meter::value_of;
use crate::simulator::physics::{Instant, Load};
use chrono::{DateTime, Datelike, Duration, Months, NaiveDateTime, NaiveTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::dec;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A household's heat in its electricity.
pub(super) const HEAT_PER_ELECTRICITY: Decimal = dec!(8);
/// Its cooling in its electricity.
const COOLING_PER_ELECTRICITY: Decimal = dec!(2);
/// What a cubic metre of water carries, kWh per kelvin.
pub(super) const KWH_PER_M3_K: Decimal = dec!(1.163);
/// Supply and return of a heating, °C.
pub(super) const SUPPLY_C: Decimal = dec!(65);
pub(super) const RETURN_C: Decimal = dec!(45);
/// How long a valve takes.
const VALVE_TRAVEL: Duration = Duration::seconds(20);

/// What a meter does otherwise than the standard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Never answers.
    pub mute: bool,
    /// FE bytes before an answer; 0: none.
    pub preamble: u8,
    /// Says this serial number, whatever the question's was.
    pub other_ser: Option<u8>,
    /// Repeats the identifier the other way round.
    pub other_di_order: bool,
    /// Answers to a question full of AA with the AA.
    pub keeps_wildcards: bool,
    /// Thinks so long.
    pub slow: std::time::Duration,
    /// The valve never arrives.
    pub valve_stuck: bool,
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
            preamble: 4,
            other_ser: None,
            other_di_order: false,
            keeps_wildcards: false,
            slow: std::time::Duration::ZERO,
            valve_stuck: false,
            clock_ahead_s: 0,
            battery_low: false,
        }
    }
}

/// The meter.
#[derive(Debug)]
pub struct FluidMeter {
    profile: RecordProfile,
    load: Load,
    quirks: Quirks,
    state: Mutex<State>,
}

/// What questions change.
#[derive(Clone, Debug)]
struct State {
    address: Address,
    clock_ahead: Duration,
    /// Where the valve was, and what it was told when.
    valve: Valve,
    told: Option<(Valve, DateTime<Utc>)>,
    /// When it was closed, and until when if it is open again.
    closings: Vec<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

impl FluidMeter {
    /// A meter of a model at an address, with the load of a seed. A model of another protocol makes a meter that knows
    /// no frame.
    pub fn new(address: Address, model: &MeterModel, seed: u64, quirks: Quirks) -> Self {
        let profile = match &model.profile {
            Profile::Cjt188(profile) => profile.clone(),
            _ => RecordProfile::empty(),
        };
        let state = State {
            address,
            clock_ahead: Duration::seconds(quirks.clock_ahead_s),
            valve: Valve::Open,
            told: None,
            closings: Vec::new(),
        };
        Self {
            profile,
            load: Load::new(seed, 1),
            quirks,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the meter shows of a quantity at `now`, before rounding to its digits.
    pub fn shows(&self, quantity: Quantity, now: DateTime<Utc>) -> Option<Decimal> {
        let mut state = self.state();
        self.settle(&mut state, now);
        self.number(&state, quantity, now)
    }

    /// Whether its valve is closed; one on its way is what it was.
    pub fn is_closed(&self, now: DateTime<Utc>) -> bool {
        let mut state = self.state();
        self.settle(&mut state, now);
        state.valve == Valve::Closed
    }

    /// Lets the valve arrive where it was told to go.
    fn settle(&self, state: &mut State, now: DateTime<Utc>) {
        let Some((wanted, at)) = state.told else { return };
        if now < at + VALVE_TRAVEL {
            return;
        }
        state.told = None;
        if self.quirks.valve_stuck {
            state.valve = Valve::Abnormal;
            return;
        }
        let arrived = at + VALVE_TRAVEL;
        let closed = state.closings.last_mut().filter(|(_, until)| until.is_none());
        match (wanted, closed) {
            (Valve::Closed, None) => state.closings.push((arrived, None)),
            (Valve::Open, Some((_, until))) => *until = Some(arrived),
            _ => {}
        }
        state.valve = wanted;
    }

    /// What would have been used with the valve always open.
    fn raw_volume(&self, at: DateTime<Utc>) -> Decimal {
        let shown = self.load.at(at);
        if self.is_heat() {
            heat_kwh(&shown) / (KWH_PER_M3_K * (SUPPLY_C - RETURN_C))
        } else {
            shown.volume_m3
        }
    }

    /// What the counter shows: nothing is used while the valve is closed.
    fn volume(&self, state: &State, at: DateTime<Utc>) -> Decimal {
        let unused = state.closings.iter().map(|(from, until)| {
            let until = until.unwrap_or(at).min(at);
            self.raw_volume(until) - self.raw_volume((*from).min(at))
        });
        self.raw_volume(at) - unused.sum::<Decimal>()
    }

    fn is_heat(&self) -> bool {
        self.profile.ask.meter_type.is_heat()
    }

    fn number(&self, state: &State, quantity: Quantity, now: DateTime<Utc>) -> Option<Decimal> {
        use Quantity as Q;
        let shown = self.load.at(now);
        let closed = state.closings.last().is_some_and(|(_, until)| until.is_none());
        let power_kw = || Decimal::from_f64_retain(shown.power_w / 1000.0).unwrap_or_default() * HEAT_PER_ELECTRICITY;
        Some(match quantity {
            Q::VolumeTotal | Q::GasVolume => self.volume(state, now),
            Q::VolumeSettlement => self.volume(state, month_start(now, 0)),
            Q::HeatEnergy => self.volume(state, now) * KWH_PER_M3_K * (SUPPLY_C - RETURN_C),
            Q::HeatEnergySettlement => self.number(state, Q::HeatEnergy, month_start(now, 0))?,
            Q::CoolingEnergy => shown.import_kwh * COOLING_PER_ELECTRICITY,
            Q::ThermalPower | Q::FlowRate if closed => Decimal::ZERO,
            Q::ThermalPower => power_kw() * dec!(1000),
            Q::FlowRate if self.is_heat() => power_kw() / (KWH_PER_M3_K * (SUPPLY_C - RETURN_C)),
            Q::TemperatureFlow => SUPPLY_C,
            Q::TemperatureReturn => RETURN_C,
            Q::OperatingHours => Decimal::from((now - crate::simulator::physics::epoch()).num_hours().max(0)),
            Q::BatteryVoltage => dec!(3.6),
            other => match value_of(other, &shown)? {
                Value::Decimal(value) => value,
                Value::F32(value) => Decimal::from_f32_retain(value)?,
                Value::F64(value) => Decimal::from_f64_retain(value)?,
            },
        })
    }

    fn shown(&self, state: &State, now: DateTime<Utc>) -> Shown {
        Shown {
            clock: clock(state, now),
            valve: state.valve,
            battery_low: self.quirks.battery_low,
        }
    }

    /// What stands behind identifier and serial number, or that the meter refuses.
    fn data(&self, frame: &Frame, di: DataId, given: &[u8], now: DateTime<Utc>) -> Option<Vec<u8>> {
        let mut state = self.state();
        self.settle(&mut state, now);
        let status = |state: &State| self.shown(state, now).status(self.status_bits()).0.to_vec();
        match (frame.control.function()?, di) {
            (Function::ReadAddress, DataId::READ_ADDRESS) => Some(Vec::new()),
            (Function::Read, DataId::SETTLEMENT_DAY | DataId::READING_DAY) => Some(vec![0x01]),
            (Function::Read, di) if di.months_back().is_some() => self.month(&state, di.months_back()?, now),
            (Function::Read, di) => {
                let record = self.profile.records.iter().find(|record| record.di == di)?;
                let shown = self.shown(&state, now);
                Some(image::data(record, shown, |measurand| self.of(&state, measurand, now)))
            }
            (Function::Write, DataId::VALVE) => {
                let wanted = match given {
                    [0x55] => Valve::Open,
                    [0x99] => Valve::Closed,
                    _ => return None,
                };
                state.told = Some((wanted, now));
                Some(status(&state))
            }
            (Function::Write, DataId::WRITE_CLOCK) => {
                let told = value::time(given, TimeOrder::SecondsFirst).ok()?;
                state.clock_ahead = told - now.naive_utc();
                Some(status(&state))
            }
            (Function::WriteAddress, DataId::WRITE_ADDRESS) => {
                state.address = Address(<[u8; 7]>::try_from(given).ok()?);
                Some(Vec::new())
            }
            _ => None,
        }
    }

    /// A number of a record: a quantity's, or for a vendor's name that of the settlement day's counter.
    fn of(&self, state: &State, measurand: &Measurand, now: DateTime<Utc>) -> Option<Decimal> {
        match measurand {
            Measurand::Standard(quantity) => self.number(state, *quantity, now),
            Measurand::Vendor(name) if name.ends_with("settlement") => {
                self.number(state, Quantity::VolumeSettlement, now)
            }
            Measurand::Vendor(_) => None,
        }
    }

    /// The total at the end of the n-th month back: five bytes, digits and unit (table 5).
    fn month(&self, state: &State, back: u8, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let at = month_start(now, u32::from(back) - 1);
        let (quantity, code) = if self.is_heat() {
            (Quantity::HeatEnergy, 0x05)
        } else {
            (Quantity::VolumeTotal, 0x2C)
        };
        if at < crate::simulator::physics::epoch() {
            return Some(vec![0xFF, 0xFF, 0xFF, 0xFF, code]);
        }
        let mut data = value::to_number(self.number(state, quantity, at)?, 2, 4)?;
        data.push(code);
        Some(data)
    }

    fn status_bits(&self) -> value::StatusBits {
        let fields = self.profile.records.iter().flat_map(|record| &record.fields);
        let word = fields.filter(|field| field.gives.iter().any(|given| given.part == Part::Word));
        word.filter_map(|field| field.status)
            .next()
            .unwrap_or(value::StatusBits::Low)
    }

    /// The frame that answers, whoever was meant.
    fn reply(&self, frame: &Frame, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let ([first, second, ser], given) = frame.data().split_first_chunk::<3>()?;
        let (di, order) = DataId::guess([*first, *second]);
        let address = self.state().address;
        let data = self.data(frame, di, given, now);
        let ser = self.quirks.other_ser.unwrap_or(*ser);
        let (flags, body) = match data {
            Some(data) => {
                let order = if self.quirks.other_di_order {
                    order.other()
                } else {
                    order
                };
                let [first, second] = di.wire(order);
                (0x80, [&[first, second, ser][..], &data].concat())
            }
            None => {
                let [low, high] = {
                    let state = self.state();
                    self.shown(&state, now).status(self.status_bits()).0
                };
                (0xC0, vec![ser, low, high])
            }
        };
        let (meter_type, address) = if self.quirks.keeps_wildcards && frame.address == Address::ANY {
            (MeterType::ANY, Address::ANY)
        } else {
            (self.profile.ask.meter_type, address)
        };
        let control = Control(frame.control.code() | flags);
        Frame::new(meter_type, address, control, body).map(|frame| frame.wire(self.quirks.preamble))
    }
}

/// The meter's clock: coordinated universal time, and what it is ahead.
fn clock(state: &State, now: DateTime<Utc>) -> NaiveDateTime {
    (now + state.clock_ahead).naive_utc()
}

pub(super) fn heat_kwh(shown: &Instant) -> Decimal {
    shown.import_kwh * HEAT_PER_ELECTRICITY
}

/// Midnight of the first of a month, so many months before this one.
pub(super) fn month_start(now: DateTime<Utc>, months_back: u32) -> DateTime<Utc> {
    let first = now
        .date_naive()
        .with_day(1)
        .and_then(|day| day.checked_sub_months(Months::new(months_back)));
    first.map_or(now, |day| day.and_time(NaiveTime::MIN).and_utc())
}

impl LineMeter for FluidMeter {
    fn tongue(&self) -> Tongue {
        Tongue::Cjt188
    }

    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken> {
        let Question::Cjt188(frame) = question else { return None };
        let types = [MeterType::ANY, self.profile.ask.meter_type];
        let meant = types.contains(&frame.meter_type) && frame.address.calls(&self.state().address);
        if self.quirks.mute || !meant {
            return None;
        }
        let bytes = self.reply(frame, now)?;
        let after = self.quirks.slow;
        Some(Spoken { bytes, after })
    }

    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>> {
        match question {
            // only what changes nothing
            Question::Cjt188(frame) if frame.control.function() == Some(Function::Read) => self.reply(frame, now),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "fluid_tests.rs"]
mod tests;

//! A virtual meter: a load seen through the registers of a meter model, or in the frames of one.

use crate::device::dlt645::ItemProfile;
use crate::device::dlt698::ObjectProfile;
use crate::device::image::RegisterImage;
use crate::device::model::{MeterModel, Profile};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol;
use crate::protocol::cjt188::Address;
use crate::protocol::dlt645::Password;
use crate::protocol::modbus::{Reply, Request};
use crate::simulator::dlt645::{self, ItemMeter, Meter645};
use crate::simulator::dlt698::ObjectMeter;
use crate::simulator::fluid::{FluidMeter, Quirks};
use crate::simulator::line::{LineMeter, Question, Spoken, Tongue};
use crate::simulator::mbus::{self, MbusMeter};
use crate::simulator::physics::{Instant, Load};
use crate::simulator::switch::Switch;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::sync::Arc;
use std::time::Duration;

/// What all virtual meters of one model share.
#[derive(Clone, Debug)]
pub struct Mould {
    /// The model.
    pub model: Arc<MeterModel>,
    shows: Shows,
    quantities: Arc<[Quantity]>,
}

/// In what a model shows its values.
#[derive(Clone, Debug)]
enum Shows {
    Registers(Arc<RegisterImage>),
    Records,
    Readout,
    Items(Arc<ItemProfile>),
    Objects(Arc<ObjectProfile>),
}

impl Mould {
    /// A mould of a model.
    pub fn new(model: Arc<MeterModel>) -> Self {
        let shows = match &model.profile {
            Profile::Modbus(profile) => Shows::Registers(Arc::new(RegisterImage::new(Arc::new(profile.clone())))),
            Profile::Cjt188(_) => Shows::Records,
            // a point behind a concentrator is on no line: such a meter tells nothing
            Profile::Mbus(_) | Profile::Gdw376(_) => Shows::Readout,
            Profile::Dlt645(profile) => Shows::Items(Arc::new(profile.clone())),
            Profile::Dlt698(profile) => Shows::Objects(Arc::new(profile.clone())),
        };
        let quantities = model
            .measurands()
            .filter_map(|(measurand, _)| match measurand {
                Measurand::Standard(quantity) => Some(*quantity),
                Measurand::Vendor(_) => None,
            })
            .collect();
        Self {
            model,
            shows,
            quantities,
        }
    }

    /// The address of the meter at a place, 1 and up, behind the DTU at an index.
    pub fn address(&self, dtu: usize, place: u8) -> String {
        match self.shows {
            Shows::Registers(_) | Shows::Readout => place.to_string(),
            Shows::Items(_) => item_address(dtu, place).to_string(),
            Shows::Records => fluid_address(dtu, place).to_string(),
            Shows::Objects(_) => object_address(dtu, place).to_string(),
        }
    }

    /// The meter at a place behind the DTU at an index, with the load of a seed. `odd`: a habit that the standard does not
    /// foresee, by a number, where its kind has such.
    pub fn meter(&self, dtu: usize, place: u8, seed: u64, mute: bool, odd: Option<u64>) -> Box<dyn LineMeter> {
        match &self.shows {
            Shows::Registers(_) => Box::new(SimMeter::new(place, self.clone(), seed, mute)),
            Shows::Items(profile) => {
                let mut meter = Meter645::new(item_address(dtu, place), Arc::clone(profile), Password::FACTORY);
                if let Some(habit) = odd {
                    meter.quirks = dlt645::Quirks::odd(habit);
                }
                let load = Load::new(seed, self.model.phases);
                Box::new(ItemMeter { meter, load, mute })
            }
            Shows::Objects(profile) => {
                let load = Load::new(seed, self.model.phases);
                let address = object_address(dtu, place);
                Box::new(ObjectMeter::new(address, Arc::clone(profile), load, mute))
            }
            Shows::Records => {
                let quirks = Quirks {
                    mute,
                    ..Quirks::default()
                };
                let meter = FluidMeter::new(fluid_address(dtu, place), &self.model, seed, quirks);
                Box::new(meter)
            }
            Shows::Readout => {
                let quirks = mbus::Quirks {
                    mute,
                    ..mbus::Quirks::default()
                };
                let number = u32::try_from((dtu + 1) * 1000 + usize::from(place)).unwrap_or(u32::MAX);
                let who = mbus::identification(&self.model, number);
                Box::new(MbusMeter::new(place, who, &self.model, seed, quirks))
            }
        }
    }
}

/// Twelve digits that no other meter of the fleet has.
fn item_address(dtu: usize, place: u8) -> protocol::dlt645::Address {
    let number = u64::try_from(dtu + 1).unwrap_or(u64::MAX).saturating_mul(1000) + u64::from(place);
    protocol::dlt645::Address::from_number(number)
}

/// The same of DL/T 698.45.
fn object_address(dtu: usize, place: u8) -> protocol::dlt698::Address {
    let digits = item_address(dtu, place).to_string();
    protocol::dlt698::Address::parse(&digits).unwrap_or(protocol::dlt698::Address::ANYONE)
}

/// Seven bytes of digits that no other meter of the fleet has.
fn fluid_address(dtu: usize, place: u8) -> Address {
    let number = format!("{:014}", (dtu + 1) * 1000 + usize::from(place));
    Address::parse(&number).unwrap_or(Address([0; 7]))
}

/// A meter that speaks Modbus.
#[derive(Debug)]
pub struct SimMeter {
    /// Unit id on the line.
    pub unit: u8,
    /// Never answers.
    pub mute: bool,
    mould: Mould,
    load: Load,
    switch: Option<Switch>,
}

impl SimMeter {
    /// A meter at this unit id, with the load of a seed.
    pub fn new(unit: u8, mould: Mould, seed: u64, mute: bool) -> Self {
        let load = Load::new(seed, mould.model.phases);
        let switch = match &mould.model.profile {
            Profile::Modbus(profile) => Switch::of(profile, seed),
            Profile::Dlt645(_) | Profile::Cjt188(_) | Profile::Mbus(_) | Profile::Gdw376(_) | Profile::Dlt698(_) => {
                None
            }
        };
        Self {
            unit,
            mute,
            mould,
            load,
            switch,
        }
    }

    /// Its relay, if its model has one.
    pub fn switch(&self) -> Option<&Switch> {
        self.switch.as_ref()
    }

    fn reply(&self, request: &Request, now: DateTime<Utc>) -> Reply {
        let mut shown = self.load.at(now);
        let Shows::Registers(blank) = &self.mould.shows else {
            // slave device failure
            return Reply::Exception(4);
        };
        if let Some(switch) = &self.switch {
            if let Some(reply) = switch.reply(request, shown.import_kwh) {
                return reply;
            }
            switch.dim(&mut shown);
        }
        let mut image = (**blank).clone();
        for quantity in self.mould.quantities.iter().copied() {
            if let Some(value) = value_of(quantity, &shown) {
                // a value that the registers cannot hold stays at zero, as a meter's counter would stay at its end
                let _held = image.set(&Measurand::Standard(quantity), value);
            }
        }
        image.reply(request)
    }

    /// What the meter shows of a quantity at `now`, before rounding to its registers; none: zero.
    pub fn shows(&self, quantity: Quantity, now: DateTime<Utc>) -> Option<Value> {
        let mut shown = self.load.at(now);
        if let Some(switch) = &self.switch {
            switch.dim(&mut shown);
        }
        value_of(quantity, &shown)
    }
}

impl LineMeter for SimMeter {
    fn tongue(&self) -> Tongue {
        Tongue::Modbus
    }

    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken> {
        let Question::Modbus(request) = question else {
            return None;
        };
        if self.mute || request.unit() != self.unit {
            return None;
        }
        let bytes = request.reply_frame(&self.reply(request, now)).ok()?;
        let after = Duration::ZERO;
        Some(Spoken { bytes, after })
    }

    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let Question::Modbus(request) = question else {
            return None;
        };
        if !request.function().is_read() {
            // it was not meant, so it must not act
            return None;
        }
        let mine = Request::checked(self.unit, request.body().clone()).ok()?;
        mine.reply_frame(&self.reply(&mine, now)).ok()
    }
}

/// The value of a quantity in its canonical unit.
pub(super) fn value_of(quantity: Quantity, shown: &Instant) -> Option<Value> {
    use Quantity as Q;
    let [u1, u2, u3] = shown.voltage_v;
    let [s1, s2, s3] = shown.share;
    let apparent = shown.power_w / shown.power_factor.max(0.1);
    let current = |share: f64, volts: f64| apparent * share / volts;
    let total_current = current(s1, u1) + current(s2, u2) + current(s3, u3);
    let float = match quantity {
        Q::VoltageL1 => u1,
        Q::VoltageL2 => u2,
        Q::VoltageL3 => u3,
        Q::VoltageAvg => (u1 + u2 + u3) / 3.0,
        Q::VoltageL1L2 => (u1 + u2) / 2.0 * 3f64.sqrt(),
        Q::VoltageL2L3 => (u2 + u3) / 2.0 * 3f64.sqrt(),
        Q::VoltageL3L1 => (u3 + u1) / 2.0 * 3f64.sqrt(),
        Q::CurrentL1 => current(s1, u1),
        Q::CurrentL2 => current(s2, u2),
        Q::CurrentL3 => current(s3, u3),
        Q::CurrentTotal => total_current,
        Q::ActivePowerTotal => shown.power_w,
        Q::ActivePowerL1 => shown.power_w * s1,
        Q::ActivePowerL2 => shown.power_w * s2,
        Q::ActivePowerL3 => shown.power_w * s3,
        Q::ReactivePowerTotal => shown.reactive_var,
        Q::ReactivePowerL1 => shown.reactive_var * s1,
        Q::ReactivePowerL2 => shown.reactive_var * s2,
        Q::ReactivePowerL3 => shown.reactive_var * s3,
        Q::ApparentPowerTotal => apparent,
        Q::ApparentPowerL1 => apparent * s1,
        Q::ApparentPowerL2 => apparent * s2,
        Q::ApparentPowerL3 => apparent * s3,
        Q::PowerFactorTotal | Q::PowerFactorL1 | Q::PowerFactorL2 | Q::PowerFactorL3 => shown.power_factor,
        Q::Frequency => shown.frequency_hz,
        Q::FlowRate => shown.flow_m3h,
        Q::Temperature => shown.temperature_c,
        _ => return register_of(quantity, shown).map(Value::Decimal),
    };
    Some(Value::F64(float))
}

fn register_of(quantity: Quantity, shown: &Instant) -> Option<Decimal> {
    use Quantity as Q;
    let energy = shown.import_kwh;
    let third = || (energy / Decimal::from(3)).trunc_with_scale(3);
    Some(match quantity {
        Q::ActiveEnergyImport | Q::ActiveEnergyTotal | Q::ActiveEnergyNet => energy,
        Q::ActiveEnergyImportL1 | Q::ActiveEnergyImportL2 | Q::ActiveEnergyTotalL1 | Q::ActiveEnergyTotalL2 => third(),
        Q::ActiveEnergyImportL3 | Q::ActiveEnergyTotalL3 => energy - third() - third(),
        // two tariffs that always sum to the whole
        Q::ActiveEnergyImportT1 | Q::ActiveEnergyTotalT1 => (energy * Decimal::new(65, 2)).trunc_with_scale(3),
        Q::ActiveEnergyImportT2 | Q::ActiveEnergyTotalT2 => energy - (energy * Decimal::new(65, 2)).trunc_with_scale(3),
        Q::ReactiveEnergyImport | Q::ReactiveEnergyTotal => (energy * Decimal::new(3, 1)).trunc_with_scale(3),
        Q::ApparentEnergyImport | Q::ApparentEnergyTotal => (energy * Decimal::new(105, 2)).trunc_with_scale(3),
        Q::VolumeTotal => shown.volume_m3,
        Q::CtRatio | Q::PtRatio => Decimal::ONE,
        _ => return None,
    })
}

//! A virtual meter of DL/T 698.45: a load seen through the attributes and freezes of a meter model. It keeps coordinated
//! universal time; days are frozen at midnight, settlements on the first of the month.

use crate::device::dlt645::history::Kind;
use crate::device::dlt698::{ObjectProfile, image};
use crate::domain::reading::{Measurand, Value};
use crate::protocol::dlt698::terminal::{Device, Objects};
use crate::protocol::dlt698::{
    ADDRESS, Address, Apdu, CLOCK, Csd, Dar, Data, DateTimeS, FROZEN_AT, Frame, GetRecord, Oad, Octets, Omd, Rsd,
};
use crate::simulator::fluid::month_start;
use crate::simulator::line::{LineMeter, Question, Spoken, Tongue};
use crate::simulator::meter::value_of;
use crate::simulator::physics::Load;
use chrono::{DateTime, Days, NaiveTime, Utc};
use rust_decimal::Decimal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most of an answer in one frame: longer ones go in parts.
const FRAME_DATA: usize = 512;

/// The meter.
#[derive(Debug)]
pub struct ObjectMeter {
    profile: Arc<ObjectProfile>,
    load: Arc<Load>,
    mute: bool,
    /// What remains of an answer in parts is remembered between questions.
    device: Mutex<Device>,
}

impl ObjectMeter {
    /// A meter at an address, with a load.
    pub fn new(address: Address, profile: Arc<ObjectProfile>, load: Load, mute: bool) -> Self {
        Self {
            profile,
            load: Arc::new(load),
            mute,
            device: Mutex::new(Device::new(address, FRAME_DATA)),
        }
    }

    fn hear(&self, device: &mut Device, frame: &Frame, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let mut shown = Shown {
            address: device.address(),
            profile: Arc::clone(&self.profile),
            load: Arc::clone(&self.load),
            now,
        };
        device.hear(frame, &mut shown).map(|frame| frame.wire())
    }
}

impl LineMeter for ObjectMeter {
    fn tongue(&self) -> Tongue {
        Tongue::Dlt698
    }

    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken> {
        let Question::Dlt698(frame) = question else { return None };
        if self.mute {
            return None;
        }
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.hear(&mut device, frame, now)?;
        let after = Duration::ZERO;
        Some(Spoken { bytes, after })
    }

    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let Question::Dlt698(frame) = question else { return None };
        // only what changes nothing
        if !matches!(Apdu::parse(frame.data()), Ok(Apdu::Get(_))) {
            return None;
        }
        let own = self.device.lock().unwrap_or_else(PoisonError::into_inner).address();
        let mine = Frame::new(frame.control, own, frame.client, frame.data().to_vec()).ok()?;
        self.hear(&mut Device::new(own, FRAME_DATA), &mine, now)
    }
}

/// What a meter shows at an instant.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) address: Address,
    pub(super) profile: Arc<ObjectProfile>,
    pub(super) load: Arc<Load>,
    pub(super) now: DateTime<Utc>,
}

impl Shown {
    fn attribute(&self, oad: Oad, at: DateTime<Utc>) -> Option<Data> {
        let shown = self.load.at(at);
        let phases = u8::try_from(shown.share.iter().filter(|share| **share > 0.0).count()).unwrap_or(3);
        image::attribute(&self.profile, phases, oad, |measurand| match measurand {
            Measurand::Standard(quantity) => match value_of(*quantity, &shown)? {
                Value::Decimal(value) => Some(value),
                Value::F32(value) => Decimal::from_f32_retain(value),
                Value::F64(value) => Decimal::from_f64_retain(value),
            },
            Measurand::Vendor(_) => None,
        })
    }

    /// The moments at which the rows that are asked for were frozen.
    fn frozen(&self, kind: Kind, max: u8, rows: &Rsd) -> Result<Vec<DateTime<Utc>>, Dar> {
        let back = |number: u8| {
            let before = number.checked_sub(1)?;
            match kind {
                Kind::Daily => {
                    let day = self.now.date_naive().checked_sub_days(Days::new(before.into()))?;
                    Some(day.and_time(NaiveTime::MIN).and_utc())
                }
                Kind::Settlement => Some(month_start(self.now, before.into())),
            }
        };
        let kept = (1..=max).filter_map(back);
        match rows {
            Rsd::Back(number) => Ok(kept.skip(usize::from(*number).saturating_sub(1)).take(1).collect()),
            Rsd::Equal(equal) if equal.oad == FROZEN_AT => Ok(kept
                .filter(|at| equal.value == Data::DateTimeS(DateTimeS::of(at.naive_utc())))
                .collect()),
            _ => Err(Dar::DENIED),
        }
    }
}

impl Objects for Shown {
    fn get(&mut self, oad: Oad) -> Result<Data, Dar> {
        match oad {
            CLOCK => Ok(Data::DateTimeS(DateTimeS::of(self.now.naive_utc()))),
            ADDRESS => Ok(Data::Octets(Octets(self.address.printed().to_vec()))),
            oad => self.attribute(oad, self.now).ok_or(Dar::UNDEFINED),
        }
    }

    fn set(&mut self, _oad: Oad, _data: &Data) -> Dar {
        Dar::DENIED
    }

    fn act(&mut self, _omd: Omd, _data: &Data) -> (Dar, Option<Data>) {
        (Dar::DENIED, None)
    }

    fn rows(&mut self, asked: &GetRecord) -> Result<Vec<Vec<Data>>, Dar> {
        let kept = self.profile.history.iter().find(|kept| kept.oad == asked.oad);
        let kept = kept.ok_or(Dar::UNDEFINED)?;
        let cell = |at: DateTime<Utc>, column: &Csd| match column {
            Csd::Oad(FROZEN_AT) => Data::DateTimeS(DateTimeS::of(at.naive_utc())),
            Csd::Oad(oad) => self.attribute(*oad, at).unwrap_or(Data::Null),
            Csd::Road(_) => Data::Null,
        };
        let moments = self.frozen(kept.kind, kept.max, &asked.rows)?;
        let row = |at: DateTime<Utc>| asked.columns.iter().map(|column| cell(at, column)).collect();
        Ok(moments.into_iter().map(row).collect())
    }
}

#[cfg(test)]
#[path = "dlt698_tests.rs"]
mod tests;

//! A virtual meter of DL/T 645: what it answers to questions, with the habits that real ones have. It shows what its model
//! says that it has; everything else it refuses.

use crate::device::dlt645::{ItemProfile, Point};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::dlt645::items::{self, Definition, Format, Period};
use crate::protocol::dlt645::relay::{Action, Command};
use crate::protocol::dlt645::{Address, Body, Control, Di, Edition, PREAMBLE, Password, Reply, Request, answer_frame};
use crate::simulator::line::{LineMeter, Question, Spoken, Tongue};
use crate::simulator::meter::value_of;
use crate::simulator::physics::Load;
use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDateTime, NaiveTime, Utc};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What real meters do, and the standard does not foresee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// FE bytes before an answer: 4, 1, or none.
    pub preambles: usize,
    /// The first 68 comes twice.
    pub doubled_start: bool,
    /// A byte behind the frame.
    pub trailing: bool,
    /// Blocks are refused.
    pub refuse_blocks: bool,
    /// A separator behind each item of a block.
    pub separators: bool,
    /// Bytes of data in one frame; what is more comes in follow-up frames.
    pub frame_max: Option<usize>,
    /// A question to a wildcard address is answered with the wildcard.
    pub wildcard_address: bool,
    /// Before it answers.
    pub turn_round_ms: u32,
}

impl Default for Quirks {
    /// As the standard has it.
    fn default() -> Self {
        Self {
            preambles: 4,
            doubled_start: false,
            trailing: false,
            refuse_blocks: false,
            separators: false,
            frame_max: None,
            wildcard_address: false,
            turn_round_ms: 5,
        }
    }
}

impl Quirks {
    /// One of the habits, by a number.
    pub fn odd(number: u64) -> Self {
        let mut quirks = Self::default();
        match number % 8 {
            0 => quirks.preambles = 0,
            1 => quirks.preambles = 1,
            2 => quirks.doubled_start = true,
            3 => quirks.trailing = true,
            4 => quirks.refuse_blocks = true,
            5 => quirks.separators = true,
            6 => quirks.frame_max = Some(12),
            _ => quirks.turn_round_ms = 480,
        }
        quirks
    }
}

/// What a meter keeps.
#[derive(Debug)]
struct State {
    address: Address,
    relay_open: bool,
    /// The last command was to open; it is taken back by an allowance to close.
    told_open: bool,
    /// Keeps the supply whatever is asked.
    kept: bool,
    /// How often a command moved the relay, or would have if it had stood otherwise.
    switched: u64,
    /// Settings as they were written.
    settings: BTreeMap<u32, Vec<u8>>,
    /// How far its clock is ahead.
    drift: Duration,
    /// Data of which a part was sent.
    rest: Option<(Di, Vec<u8>)>,
}

/// The meter.
#[derive(Debug)]
pub struct Meter645 {
    /// Its habits.
    pub quirks: Quirks,
    /// Its time zone, ahead of UTC.
    pub offset: Duration,
    /// What opens writes and the relay, at any level.
    pub password: Password,
    profile: Arc<ItemProfile>,
    state: Mutex<State>,
}

/// What becomes of a question.
enum Said {
    Data(Vec<u8>),
    Address(Address),
    Done,
    Refused(u8),
    Silent,
}

/// Error bits.
const OTHER: u8 = 0x01;
const NO_DATA: u8 = 0x02;
const PASSWORD: u8 = 0x04;

impl Meter645 {
    /// A meter of a model at an address.
    pub fn new(address: Address, profile: Arc<ItemProfile>, password: Password) -> Self {
        let state = State {
            address,
            relay_open: false,
            told_open: false,
            kept: false,
            switched: 0,
            settings: BTreeMap::new(),
            drift: Duration::zero(),
            rest: None,
        };
        Self {
            quirks: Quirks::default(),
            offset: Duration::zero(),
            password,
            profile,
            state: Mutex::new(state),
        }
    }

    /// The edition that it speaks.
    pub fn edition(&self) -> Edition {
        self.profile.edition
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.lock().address
    }

    /// Whether its relay is open.
    pub fn is_open(&self) -> bool {
        self.lock().relay_open
    }

    /// How often a trip or a close was carried out.
    pub fn switched(&self) -> u64 {
        self.lock().switched
    }

    /// Sets its clock this far ahead.
    pub fn set_drift(&self, drift: Duration) {
        self.lock().drift = drift;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a question is for it.
    pub fn hears(&self, request: &Request) -> bool {
        let mine = self.lock().address;
        request.edition() == self.profile.edition && (request.address().covers(mine) || request.address() == Address::BROADCAST)
            // a broadcast time is the same in both editions
            || (request.address() == Address::BROADCAST && matches!(request.body(), Body::BroadcastTime(_)))
    }

    /// The bytes that it answers; none where it is silent.
    pub fn answer(&self, request: &Request, load: &Load, now: DateTime<Utc>) -> Option<Vec<u8>> {
        if !self.hears(request) {
            return None;
        }
        let said = self.act(request, load, now);
        if !request.expects_answer() {
            return None;
        }
        let address = if self.quirks.wildcard_address && request.address().is_wild() {
            request.address()
        } else {
            self.lock().address
        };
        let mut frame = match said {
            Said::Silent => return None,
            Said::Refused(bits) => request.refusal_frame(address, bits),
            Said::Address(own) => request.reply_frame(address, &Reply::Address(own)),
            Said::Done => request.reply_frame(address, &Reply::Done),
            Said::Data(data) => self.frame(request, address, data),
        };
        if self.quirks.doubled_start {
            frame.insert(0, 0x68);
        }
        let mut bytes = vec![PREAMBLE; self.quirks.preambles];
        bytes.append(&mut frame);
        if self.quirks.trailing {
            bytes.push(0x00);
        }
        Some(bytes)
    }

    /// One frame of data; what does not fit is kept for follow-ups.
    fn frame(&self, request: &Request, address: Address, data: Vec<u8>) -> Vec<u8> {
        let Some(max) = self.quirks.frame_max.filter(|max| data.len() > *max) else {
            self.lock().rest = None;
            return request.reply_frame(address, &Reply::Data(data));
        };
        let (first, rest) = data.split_at_checked(max).unwrap_or((&data, &[]));
        let whole = request.reply_frame(address, &Reply::Data(first.to_vec()));
        self.lock().rest = request.di().map(|di| (di, rest.to_vec()));
        let Ok(view) = crate::protocol::dlt645::open(&whole) else {
            return whole;
        };
        answer_frame(address, Control(view.control.0 | Control::FOLLOWS), 0, &view.data())
    }

    fn act(&self, request: &Request, load: &Load, now: DateTime<Utc>) -> Said {
        match request.body() {
            Body::Read { di, .. } => self.read(*di, load, now),
            Body::Follow { di, .. } => {
                let rest = self.lock().rest.take();
                match rest {
                    Some((of, rest)) if of == *di => Said::Data(rest),
                    _ => Said::Refused(NO_DATA),
                }
            }
            Body::ReadAddress => Said::Address(self.lock().address),
            Body::WriteAddress(new) if request.address() == Address::ANYONE => {
                self.lock().address = *new;
                Said::Done
            }
            Body::WriteAddress(_) => Said::Silent,
            Body::Write { di, security, value } => match items::definition(*di, 0) {
                _ if security.password.wire().get(1..) != self.password.wire().get(1..) => Said::Refused(PASSWORD),
                Some(_) if self.profile.clock.contains(di) => {
                    self.lock().drift = Duration::zero();
                    Said::Done
                }
                _ if self
                    .profile
                    .parameters
                    .iter()
                    .any(|parameter| parameter.point.di == *di) =>
                {
                    self.lock().settings.insert(di.number(), value.clone());
                    Said::Done
                }
                Some(_) => Said::Done,
                None => Said::Refused(NO_DATA),
            },
            Body::BroadcastTime(time) => {
                // the standard lets a broadcast move a clock by five minutes at most
                let off = *time - (now.naive_utc() + self.offset);
                if off.abs() <= Duration::minutes(5) {
                    self.lock().drift = off;
                }
                Said::Silent
            }
            Body::Relay(command) => self.relay(command, now),
            Body::ClearDemand(security) | Body::ClearMeter(security) | Body::ClearEvents { security, .. } => {
                if security.password.wire().get(1..) == self.password.wire().get(1..) {
                    Said::Done
                } else {
                    Said::Refused(PASSWORD)
                }
            }
            Body::Freeze(_) => Said::Done,
            Body::Speed(_) | Body::ChangePassword { .. } => Said::Refused(OTHER),
        }
    }

    fn relay(&self, command: &Command, now: DateTime<Utc>) -> Said {
        if command.security().password.wire().get(1..) != self.password.wire().get(1..) {
            return Said::Refused(PASSWORD);
        }
        if command.until().is_some_and(|until| until < self.local(now)) {
            return Said::Refused(OTHER);
        }
        let mut state = self.lock();
        match command.action() {
            Action::Trip if state.kept => return Said::Refused(OTHER),
            Action::Trip => {
                (state.relay_open, state.told_open) = (true, true);
                state.switched += 1;
            }
            Action::Close => {
                (state.relay_open, state.told_open) = (false, false);
                state.switched += 1;
            }
            // the customer who is to press the button is not here
            Action::AllowClose => state.told_open = false,
            Action::ProtectOn => state.kept = true,
            Action::ProtectOff => state.kept = false,
            Action::AlarmOn | Action::AlarmOff => {}
        }
        Said::Done
    }

    /// What its clock shows.
    fn local(&self, now: DateTime<Utc>) -> NaiveDateTime {
        now.naive_utc() + self.offset + self.lock().drift
    }

    fn read(&self, di: Di, load: &Load, now: DateTime<Utc>) -> Said {
        let block = items::is_block(di);
        let known_block = self.profile.blocks.contains(&di)
            || !matches!(items::definition(di, 0), Some(d) if d.period == Period::Now);
        if block && (self.quirks.refuse_blocks || !known_block) {
            return Said::Refused(NO_DATA);
        }
        let mut data = Vec::new();
        let mut held_back = Vec::new();
        let mut found = false;
        for index in 0..64 {
            let Some(definition) = items::definition(di, index) else {
                break;
            };
            match self.item(di, &definition, load, now) {
                Some(bytes) => {
                    // items that it has not, before one that it has
                    data.append(&mut held_back);
                    data.extend(bytes);
                    found = true;
                }
                None => held_back.extend(vec![0xFF; definition.format.size()]),
            }
            if block && self.quirks.separators && held_back.is_empty() {
                data.push(0xAA);
            }
        }
        if found {
            Said::Data(data)
        } else {
            Said::Refused(NO_DATA)
        }
    }

    /// The bytes of one item; none where the meter has it not.
    fn item(&self, di: Di, definition: &Definition, load: &Load, now: DateTime<Utc>) -> Option<Vec<u8>> {
        let local = self.local(now);
        match (di, definition.format) {
            (di, Format::Time(_)) if self.profile.clock.contains(&di) => {
                return definition.format.write(&items::Value::Time(local));
            }
            (Di::E2007(0x0400_0401 | 0x0400_0402) | Di::E1997(0xC032), format) => {
                return format.write(&items::Value::Digits(self.address().to_string()));
            }
            // settled on the first of the month at 00:00; the other two days are not in use
            (Di::E2007(0x0400_0B01) | Di::E1997(0xC117), _) => return Some(vec![0x00, 0x01]),
            (Di::E2007(0x0400_0B02 | 0x0400_0B03), _) => return Some(vec![0x99, 0x99]),
            _ => {}
        }
        if let Some(parameter) = self
            .profile
            .parameters
            .iter()
            .find(|parameter| parameter.point.di == di)
        {
            let written = self.lock().settings.get(&di.number()).cloned();
            return written.or_else(|| parameter.point.format.write(&items::Value::Number(Decimal::from(15))));
        }
        let at = match definition.period {
            Period::Now => local,
            Period::Settlement(back) => {
                let month = local.date().with_day(1)?;
                let ago = u32::from(back).checked_sub(1)?;
                month.checked_sub_months(Months::new(ago))?.and_time(NaiveTime::MIN)
            }
            Period::Freeze("daily", back) => {
                let ago = u64::from(back).checked_sub(1)?;
                local.date().checked_sub_days(Days::new(ago))?.and_time(NaiveTime::MIN)
            }
            Period::Freeze(..) => return None,
            Period::Event(_) => local,
        };
        if let (Format::Time(_), Period::Freeze(..)) = (definition.format, definition.period) {
            return definition.format.write(&items::Value::Time(at));
        }
        let point = self.point(definition)?;
        // the clock may be wrong, the registers are not
        let true_at = (at - self.offset).and_utc().min(now);
        let value = self.value(point, load, true_at)?;
        definition.format.write(&match definition.format {
            Format::Bits(_) => items::Value::Bits(value.trunc().try_into().ok()?),
            Format::Demand { .. } => items::Value::Demand {
                value,
                at: at.date().and_hms_opt(0, 0, 0),
            },
            _ => items::Value::Number(value),
        })
    }

    /// The point of the model that an item is: its own identifier's, or for the past the one that is the same now.
    fn point(&self, definition: &Definition) -> Option<&Point> {
        let points = &self.profile.points;
        let own = definition.di.and_then(|di| points.iter().find(|point| point.di == di));
        let now = |point: &&Point| {
            let shows = items::definition(point.di, 0);
            shows.is_some_and(|now| {
                now.period == Period::Now && (now.what, now.part) == (definition.what, definition.part)
            })
        };
        own.or_else(|| points.iter().find(now).filter(|_| definition.period != Period::Now))
    }

    /// The number of a point in the unit of its bytes.
    fn value(&self, point: &Point, load: &Load, at: DateTime<Utc>) -> Option<Decimal> {
        let shown = load.at(at);
        let open = self.is_open();
        let quantity = match &point.measurand {
            Measurand::Standard(quantity) => *quantity,
            Measurand::Vendor(_) => return Some(Decimal::ZERO),
        };
        let canonical = match quantity {
            // both are fields of one word: bit 4 the relay, bit 6 what it was told
            Quantity::RelayState | Quantity::StatusWord => {
                let told_open = self.lock().told_open;
                let word = u8::from(open) << 4 | u8::from(told_open) << 6;
                return Some(Decimal::from(word));
            }
            Quantity::CreditBalance => Decimal::from(500) - shown.import_kwh % Decimal::from(500),
            Quantity::PurchaseCount => Decimal::from(3),
            Quantity::MaxDemandActiveImport => Decimal::from(4200),
            quantity => match value_of(quantity, &shown) {
                // an open relay lets nothing through
                Some(_) if open && carries_current(quantity) => Decimal::ZERO,
                Some(Value::Decimal(value)) => value,
                Some(Value::F64(value)) => format!("{value:.6}").parse().ok()?,
                Some(Value::F32(value)) => format!("{value:.6}").parse().ok()?,
                None => Decimal::ZERO,
            },
        };
        canonical.checked_div(point.factor)
    }
}

fn carries_current(quantity: Quantity) -> bool {
    let name = quantity.name();
    name.starts_with("current") || name.contains("power_") && !name.starts_with("power_factor")
}

/// A meter with its load, on a virtual line.
#[derive(Debug)]
pub struct ItemMeter {
    /// The meter.
    pub meter: Meter645,
    /// What it measures.
    pub load: Load,
    /// Never answers.
    pub mute: bool,
}

impl LineMeter for ItemMeter {
    fn tongue(&self) -> Tongue {
        Tongue::Dlt645
    }

    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken> {
        let Question::Dlt645(request) = question else {
            return None;
        };
        if self.mute {
            return None;
        }
        let bytes = self.meter.answer(request, &self.load, now)?;
        let after = std::time::Duration::from_millis(self.meter.quirks.turn_round_ms.into());
        Some(Spoken { bytes, after })
    }

    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>> {
        match question {
            // nothing that changes a meter is done for another
            Question::Dlt645(request) => match request.body() {
                Body::Read { di, .. } => {
                    let mine = Request::read(self.meter.address(), *di);
                    self.meter.answer(&mine, &self.load, now)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "dlt645_tests.rs"]
mod tests;

//! What a virtual concentrator knows of its measuring points: what they show, when it read them last, and the meters' own frames
//! behind it.

use super::behind::{self, Meters};
use super::concentrator::{CARRIER, PHASES, SimConcentrator, TARIFFS};
use super::faults::Dice;
use super::physics::Load;
use super::reports::Reports;
use crate::base::clock::Clock;
use crate::protocol::gdw376::format::{Format, Value};
use crate::protocol::gdw376::layout::{Field, Stamp, Stamped};
use crate::protocol::gdw376::{Afn, Edition, Id, Spoken, Way, item_layout};
use chrono::{DateTime, Days, Months, NaiveDateTime, TimeDelta, Timelike, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The shares of the four tariffs in a register, in hundredths.
const SHARES: [i64; 4] = [11, 34, 31, 24];
/// Between two readings of a point.
const READ_EVERY_S: i64 = 900;

/// What a concentrator knows of its points.
pub(super) struct Points {
    clock: Arc<dyn Clock>,
    began: DateTime<Utc>,
    terminal: u16,
    points: u16,
    seed: u64,
    mesh_failure: f64,
    clock_unset: bool,
    /// How far its clock was set ahead of what it would show.
    ahead: TimeDelta,
    loads: BTreeMap<u16, Load>,
    meters: Meters,
    pub(super) reports: Reports,
}

impl Points {
    pub(super) fn new(of: &SimConcentrator, clock: Arc<dyn Clock>) -> Self {
        Self {
            began: clock.now(),
            clock,
            terminal: of.address.terminal,
            points: of.points,
            seed: of.seed,
            mesh_failure: of.habits.mesh_failure,
            clock_unset: of.habits.clock_unset,
            ahead: TimeDelta::zero(),
            loads: BTreeMap::new(),
            meters: Meters::default(),
            reports: Reports::default(),
        }
    }

    /// The terminal's own clock; it keeps UTC.
    pub(super) fn local(&self) -> NaiveDateTime {
        self.shown(self.clock.now() + self.ahead)
    }

    /// An instant by the terminal's clock.
    fn shown(&self, at: DateTime<Utc>) -> NaiveDateTime {
        let first = DateTime::from_timestamp(946_684_800, 0).unwrap_or_default();
        let at = if self.clock_unset {
            first + (at - self.began)
        } else {
            at
        };
        at.naive_utc()
    }

    fn load_seed(&self, point: u16) -> u64 {
        self.seed.wrapping_mul(4099).wrapping_add(point.into())
    }

    pub(super) fn load(&mut self, point: u16) -> &Load {
        let seed = self.load_seed(point);
        self.loads.entry(point).or_insert_with(|| Load::new(seed, PHASES))
    }

    /// When a point was read last: the quarter hour, or the last of an hour in which its route held.
    pub(super) fn read_at(&self, point: u16, now: DateTime<Utc>) -> DateTime<Utc> {
        let last = now - TimeDelta::seconds(now.timestamp().rem_euclid(READ_EVERY_S));
        let mut at = last.with_nanosecond(0).unwrap_or(last);
        for _ in 0..48 {
            let hour = u64::try_from(at.timestamp() / 3600).unwrap_or_default();
            let seed = self.seed ^ u64::from(point) << 32 ^ hour;
            if !Dice::new(seed).chance(self.mesh_failure) {
                return at;
            }
            at -= TimeDelta::seconds(at.timestamp().rem_euclid(3600) + READ_EVERY_S);
        }
        at
    }

    /// What a field shows of a point at an instant.
    fn value(&mut self, point: u16, field: &Field, rate: Option<u8>, at: DateTime<Utc>, read: DateTime<Utc>) -> Value {
        match field.format {
            Format::A15 | Format::A1 => return Value::Time(self.shown(read)),
            // which phase it hangs on, and the rest of what is bits of the way to it
            Format::Bits(_) => return Value::Bits(1 << (point % 3)),
            Format::Bin(_) => return Value::Number(Decimal::from(route_number(point, field.name))),
            _ => {}
        }
        let mut shown = self.load(point).at(at);
        if self.meters.is_open(point) {
            (shown.power_w, shown.reactive_var) = (0.0, 0.0);
        }
        let kilo = |value: f64| Decimal::from_f64(value / 1000.0).unwrap_or_default().round_dp(4);
        let of = |value: f64, digits: u32| Decimal::from_f64(value).unwrap_or_default().round_dp(digits);
        let [a, b, c] = shown.share;
        let [va, vb, vc] = shown.voltage_v;
        let amps = |share: f64, volts: f64| of(shown.power_w * share / volts / shown.power_factor, 3);
        let number = match (field.obis, field.unit) {
            (Some((1, 8)), _) => of_tariff(shown.import_kwh, rate),
            (Some((_, 8)), _) => Decimal::ZERO,
            (Some((1, 7)), _) => kilo(shown.power_w),
            (Some((21, 7)), _) => kilo(shown.power_w * a),
            (Some((41, 7)), _) => kilo(shown.power_w * b),
            (Some((61, 7)), _) => kilo(shown.power_w * c),
            (Some((3, 7)), _) => kilo(shown.reactive_var),
            (Some((9, 7)), _) => kilo(shown.power_w / shown.power_factor),
            (_, "%") => of(shown.power_factor * 100.0, 1),
            (Some((32, 7)), _) => of(va, 1),
            (Some((52, 7)), _) => of(vb, 1),
            (Some((72, 7)), _) => of(vc, 1),
            (Some((31, 7)), _) => amps(a, va),
            (Some((51, 7)), _) => amps(b, vb),
            (Some((71, 7)), _) => amps(c, vc),
            _ => Decimal::ZERO,
        };
        Value::Number(number)
    }
}

/// The numbers of the way to a point (F170).
fn route_number(point: u16, name: &str) -> u16 {
    match name {
        "port" => 31,
        // the farther, the more meters relay
        "relay levels" => (point / 100).min(5),
        _ => 0,
    }
}

/// A tariff's share of a register; the total is their exact sum.
fn of_tariff(total: Decimal, rate: Option<u8>) -> Decimal {
    let part = |place: usize| {
        let share = SHARES.get(place).copied().unwrap_or_default();
        (total * Decimal::new(share, 2)).round_dp(4)
    };
    match rate.map(usize::from) {
        None | Some(0) => total,
        Some(4) => total - part(0) - part(1) - part(2),
        Some(rate) => part(rate - 1),
    }
}

impl Spoken for Points {
    fn forward(&mut self, port: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let (address, asked) = behind::asked(frame).filter(|_| port == CARRIER)?;
        // whoever has the address answers, wherever the archive has it
        let address = address.to_string();
        let (terminal, point) = address.split_at_checked(5)?;
        let point = point.parse().ok().filter(|point| (1..=self.points).contains(point))?;
        if terminal.parse() != Ok(self.terminal) {
            return None;
        }
        let now = self.clock.now();
        let seed = self.load_seed(point);
        let load = self.loads.entry(point).or_insert_with(|| Load::new(seed, PHASES));
        self.meters.say(point, &asked, load, now)
    }

    fn control(&mut self, id: Id, data: &[u8]) -> bool {
        // it lets its clock be set, and nothing else be done
        let Ok(Value::Time(shown)) = Format::A1.read(data) else {
            return false;
        };
        let set = id.item.number() == 31;
        if set {
            self.ahead += shown.signed_duration_since(self.local());
        }
        set
    }

    fn data(&mut self, afn: Afn, id: Id, stamp: &[u8]) -> Option<Vec<u8>> {
        let layout = item_layout(afn, id.item, Way::Up, Edition::E2013)?;
        if (afn, id.item.number(), id.pn.number()) == (Afn::REALTIME, 2, Some(0)) {
            let local = self.local();
            return layout.write(stamp, 0, 0, |_, _, _| Value::Time(local));
        }
        let point = id.pn.number().filter(|point| (1..=self.points).contains(point))?;
        let now = self.clock.now();
        let (at, read) = match layout.stamp {
            Stamp::None => {
                let read = self.read_at(point, now);
                (read, read)
            }
            Stamp::Day | Stamp::Month => {
                let end = end_of(layout.stamp, stamp)?;
                // what has not ended is not frozen yet
                (end <= now).then_some((end, end))?
            }
            Stamp::Curve => return None,
        };
        layout.write(stamp, TARIFFS, 0, |field, rate, _| {
            self.value(point, field, rate, at, read)
        })
    }
}

/// The end of the day or month of a stamp, in UTC.
fn end_of(kind: Stamp, stamp: &[u8]) -> Option<DateTime<Utc>> {
    let said = kind.read(&mut crate::base::bytes::Reader::new(stamp)).ok()?;
    let day = match said {
        Stamped::Period(Ok(Value::Date(day))) => day.checked_add_days(Days::new(1)),
        Stamped::Period(Ok(Value::Month(month))) => month.checked_add_months(Months::new(1)),
        _ => None,
    };
    Some(day?.and_hms_opt(0, 0, 0)?.and_utc())
}

//! Virtual concentrators of Q/GDW 1376.1: they dial a head end, log in, send heartbeats, and answer for hundreds of
//! measuring points from loads of their own. What they show is what they read last: every quarter of an hour, unless a
//! route of their mesh fails.

use crate::base::clock::Clock;
use crate::protocol::gdw376::format::{Format, Value};
use crate::protocol::gdw376::layout::{Field, Stamp, Stamped};
use crate::protocol::gdw376::{
    Address, Afn, ArchiveMeter, Edition, Found, Frame, Id, Link, Message, Spoken, Terminal, Way, archive, event, find,
    item_layout,
};
use crate::simulator::behind::{self, Meters};
use crate::simulator::dtu::FleetStats;
use crate::simulator::faults::{Dice, Fate, Faults};
use crate::simulator::physics::Load;
use chrono::{DateTime, Days, Months, NaiveDateTime, TimeDelta, Timelike, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How a concentrator behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Habits {
    /// What goes wrong with its answers.
    pub faults: Faults,
    /// Before it answers.
    pub thinks: Duration,
    /// The most bytes of data in one of its frames.
    pub frame_data: usize,
    /// How often the route to a point fails for an hour, 0 to 1.
    pub mesh_failure: f64,
    /// How often an event is recorded with an answer, 0 to 1.
    pub events: f64,
    /// Its clock was never set: it begins at 2000-01-01.
    pub clock_unset: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            thinks: Duration::from_millis(20),
            frame_data: 1024,
            mesh_failure: 0.0,
            events: 0.0,
            clock_unset: false,
        }
    }
}

/// Many of them.
#[derive(Clone, Debug)]
pub struct TerminalPlan {
    /// How many; terminals 1, 2, 3 … of the region.
    pub terminals: u16,
    /// Measuring points of each, from 1.
    pub points: u16,
    /// The region, `4403` as 0x4403.
    pub region: u16,
    /// The seed.
    pub seed: u64,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How they behave.
    pub habits: Habits,
}

impl TerminalPlan {
    /// The terminal at an index, from 0.
    pub fn terminal(&self, index: u16) -> SimConcentrator {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(index.into());
        SimConcentrator {
            address: Address::new(self.region, index.saturating_add(1)),
            points: self.points,
            seed,
            heartbeat: self.heartbeat,
            habits: self.habits.clone(),
        }
    }

    /// Starts every one, a few hundred a second, on the current runtime. Dropping the set ends them.
    pub async fn start(&self, server: &str, clock: &Arc<dyn Clock>, stats: &Arc<FleetStats>) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for index in 0..self.terminals {
            let terminal = self.terminal(index);
            set.spawn(terminal.run(server.to_owned(), Arc::clone(clock), Arc::clone(stats)));
            if index % 10 == 9 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        set
    }
}

/// One virtual concentrator.
#[derive(Clone, Debug)]
pub struct SimConcentrator {
    /// Its address; as a serial number `4403-00001`.
    pub address: Address,
    /// Its measuring points, from 1.
    pub points: u16,
    /// Seed of its loads and dice.
    pub seed: u64,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How it behaves.
    pub habits: Habits,
}

/// A login that is not confirmed is repeated.
const LOGIN_AGAIN: Duration = Duration::from_secs(10);
const REDIAL_FIRST: Duration = Duration::from_millis(500);
const REDIAL_LONGEST: Duration = Duration::from_secs(5);
/// Ports that it has: two serial ones and the carrier.
const PORTS: [u8; 3] = [1, 2, CARRIER];
/// The port of the carrier, on which all its meters hang.
const CARRIER: u8 = 31;
/// Of a load.
const PHASES: u8 = 3;
/// Tariffs of a point.
const TARIFFS: u8 = 4;
/// The shares of the four tariffs in a register, in hundredths.
const SHARES: [i64; 4] = [11, 34, 31, 24];
/// Between two readings of a point.
const READ_EVERY_S: i64 = 900;
/// Most bytes of what may be the beginning of a question.
const PENDING_MAX: usize = 4096;

impl SimConcentrator {
    /// The meter address that stands in its archive for a point.
    pub fn meter_address(&self, point: u16) -> String {
        format!("{:05}{:07}", self.address.terminal, point)
    }

    /// Dials and redials until it is dropped.
    pub async fn run(self, server: String, clock: Arc<dyn Clock>, stats: Arc<FleetStats>) {
        let mut dice = Dice::new(self.seed);
        let mut points = Points::new(&self, Arc::clone(&clock));
        let mut terminal = self.terminal();
        let mut wait = REDIAL_FIRST;
        loop {
            let ended = self
                .session(&server, &mut terminal, &mut points, &stats, &mut dice)
                .await;
            tracing::debug!(sn = %self.address, ?ended, "virtual concentrator lost its session");
            if ended.is_ok() {
                wait = REDIAL_FIRST;
            }
            let jitter = Duration::from_millis(dice.below(wait.as_millis().try_into().unwrap_or(1000)));
            tokio::time::sleep(wait + jitter).await;
            wait = (wait * 2).min(REDIAL_LONGEST);
        }
    }

    async fn session(
        &self,
        server: &str,
        terminal: &mut Terminal,
        points: &mut Points,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        stats.dialled.fetch_add(1, Ordering::Relaxed);
        stats.connected.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.carry(&mut stream, terminal, points, stats, dice).await {
            tracing::debug!(sn = %self.address, %error, "the connection failed");
        }
        stats.connected.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    async fn carry(
        &self,
        stream: &mut TcpStream,
        terminal: &mut Terminal,
        points: &mut Points,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<()> {
        let mut pending: Vec<u8> = Vec::new();
        let mut known = false;
        let mut speaks_at = Instant::now();
        loop {
            tokio::select! {
                ready = stream.readable() => ready?,
                () = tokio::time::sleep_until(speaks_at) => {
                    let (link, next) = if known { (Link::Heartbeat, self.heartbeat) } else { (Link::Login, LOGIN_AGAIN) };
                    stream.write_all(&wire(&terminal.say(link))).await?;
                    speaks_at = Instant::now() + next.max(Duration::from_secs(1));
                    continue;
                }
            }
            let mut chunk = [0u8; 1024];
            match stream.try_read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => pending.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            while let Found::Frame { span, frame } = find(&pending) {
                pending.drain(..span.end);
                let Ok(message) = Message::of(&frame) else { continue };
                if message.afn == Afn::CONFIRM {
                    known = true;
                    continue;
                }
                stats.requests.fetch_add(1, Ordering::Relaxed);
                if dice.chance(self.habits.events) {
                    terminal.happen(dice.chance(0.5), record(points.local()));
                }
                tokio::time::sleep(self.habits.thinks).await;
                if !self.reply(stream, terminal, &message, points, stats, dice).await? {
                    return Ok(());
                }
            }
            pending.drain(..pending.len().saturating_sub(PENDING_MAX));
        }
    }

    /// Answers; false: the connection shall be cut.
    async fn reply(
        &self,
        stream: &mut TcpStream,
        terminal: &mut Terminal,
        message: &Message,
        points: &mut Points,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<bool> {
        let frames: Vec<Vec<u8>> = terminal.answer(message, points).iter().map(Frame::wire).collect();
        if frames.is_empty() {
            return Ok(true);
        }
        // frames of one answer come joined, as a stack packs them
        let heartbeat = wire(&terminal.say(Link::Heartbeat));
        let foreign = || {
            let other = Address::new(self.address.region, self.address.terminal ^ 1);
            let whole = find(frames.first()?);
            let Found::Frame { mut frame, .. } = whole else {
                return None;
            };
            frame.address = other.with_msa(frame.address.msa());
            Some(frame.wire())
        };
        match self.habits.faults.fate(frames.concat(), &heartbeat, foreign, dice) {
            Fate::Cut => return Ok(false),
            Fate::Lost => {}
            Fate::Send(pieces) => {
                for piece in pieces {
                    tokio::time::sleep(piece.after).await;
                    stream.write_all(&piece.bytes).await?;
                }
                stats.replies.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    /// The terminal with its archive.
    fn terminal(&self) -> Terminal {
        let mut terminal = Terminal::new(self.address, Edition::E2013)
            .with_frames_of(self.habits.frame_data)
            .with_ports(&PORTS);
        for point in 1..=self.points {
            terminal.put_meter(self.archived(point));
        }
        terminal
    }

    fn archived(&self, point: u16) -> ArchiveMeter {
        let digits = self.meter_address(point);
        let mut address = [0u8; 6];
        for (byte, at) in address.iter_mut().rev().zip((0..12).step_by(2)) {
            let pair = digits.get(at..at + 2).unwrap_or("00");
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        ArchiveMeter {
            place: point,
            point,
            speed: 3,
            port: CARRIER,
            protocol: archive::MeterProtocol::DLT645_2007,
            address,
            password: [0; 6],
            tariffs: TARIFFS,
            whole_digits: 6,
            decimals: 2,
            collector: [0; 6],
            class: (5, 1),
        }
    }
}

fn wire(message: &Message) -> Vec<u8> {
    message.frame().as_ref().map(Frame::wire).unwrap_or_default()
}

/// An event: the terminal was without power.
fn record(at: NaiveDateTime) -> event::Record {
    let stamp = Format::A15.write(&Value::Time(at)).unwrap_or_default();
    event::Record {
        code: 14,
        data: [stamp.clone(), stamp].concat(),
    }
}

/// What a concentrator knows of its points.
struct Points {
    clock: Arc<dyn Clock>,
    began: DateTime<Utc>,
    terminal: u16,
    points: u16,
    seed: u64,
    mesh_failure: f64,
    clock_unset: bool,
    loads: BTreeMap<u16, Load>,
    meters: Meters,
}

impl Points {
    fn new(of: &SimConcentrator, clock: Arc<dyn Clock>) -> Self {
        Self {
            began: clock.now(),
            clock,
            terminal: of.address.terminal,
            points: of.points,
            seed: of.seed,
            mesh_failure: of.habits.mesh_failure,
            clock_unset: of.habits.clock_unset,
            loads: BTreeMap::new(),
            meters: Meters::default(),
        }
    }

    /// The terminal's own clock; it keeps UTC.
    fn local(&self) -> NaiveDateTime {
        self.shown(self.clock.now())
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

    fn load(&mut self, point: u16) -> &Load {
        let seed = self.load_seed(point);
        self.loads.entry(point).or_insert_with(|| Load::new(seed, PHASES))
    }

    /// When a point was read last: the quarter hour, or the last of an hour in which its route held.
    fn read_at(&self, point: u16, now: DateTime<Utc>) -> DateTime<Utc> {
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

    fn control(&mut self, id: Id, _data: &[u8]) -> bool {
        // it lets its clock be set, and nothing else be done
        id.item.number() == 31
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

#[cfg(test)]
#[path = "concentrator_tests.rs"]
mod tests;

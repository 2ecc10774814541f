//! Virtual concentrators of Q/GDW 1376.1: they dial a head end, log in, send heartbeats, and answer for hundreds of
//! measuring points from loads of their own. What they show is what they read last: every quarter of an hour, unless a
//! route of their mesh fails.

use crate::base::clock::Clock;
use crate::device::parameter::factory;
use crate::protocol::gdw376::format::{Format, Value};
use crate::protocol::gdw376::{
    Address, Afn, ArchiveMeter, Edition, Fn, Found, Frame, Id, Link, Message, Pn, Terminal, archive, event, find,
};
use crate::simulator::dtu::FleetStats;
use crate::simulator::faults::{Dice, Fate, Faults};
use crate::simulator::points::Points;
use chrono::NaiveDateTime;
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
    /// How often it says something of its own accord behind an answer, 0 to 1: its newest event, or values of a meter.
    pub reports: f64,
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
            reports: 0.0,
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
pub(super) const CARRIER: u8 = 31;
/// Of a load.
pub(super) const PHASES: u8 = 3;
/// Tariffs of a point.
pub(super) const TARIFFS: u8 = 4;
/// What report tasks bring: the registers with the time at which they were read (F129).
const REPORTED: u8 = 129;
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
        points.reports.reconnected();
        loop {
            while let Some(report) = points.reports.next(Instant::now()) {
                stream.write_all(&report).await?;
            }
            let report_at = points.reports.due(Instant::now());
            tokio::select! {
                ready = stream.readable() => ready?,
                () = tokio::time::sleep_until(report_at.unwrap_or(speaks_at)), if report_at.is_some() => continue,
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
                    if points.reports.confirmed(message.seq.number()) {
                        stats.confirmed.fetch_add(1, Ordering::Relaxed);
                    }
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
                if self.habits.reports > 0.0
                    && dice.chance(self.habits.reports)
                    && let Some(report) = self.report(terminal, points, dice)
                {
                    stats.reports.fetch_add(1, Ordering::Relaxed);
                    points.reports.push(report.seq.number(), wire(&report));
                }
            }
            pending.drain(..pending.len().saturating_sub(PENDING_MAX));
        }
    }

    /// What it says of its own accord: its newest event, or the registers of a point as its report task has it.
    fn report(&self, terminal: &mut Terminal, points: &mut Points, dice: &mut Dice) -> Option<Message> {
        if dice.chance(0.5)
            && let Some(event) = terminal.report_event(dice.chance(0.5))
        {
            return Some(event);
        }
        let point = dice.below(self.points.into()).saturating_add(1);
        let id = Id {
            pn: Pn::new(u16::try_from(point).ok()?)?,
            item: Fn::new(REPORTED)?,
        };
        terminal.report_data(Afn::REALTIME, &[(id, Vec::new())], points)
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
        for (id, data) in factory::items(self.points) {
            terminal.put(Afn::QUERY, id, &[], data);
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

#[cfg(test)]
#[path = "concentrator_tests.rs"]
mod tests;

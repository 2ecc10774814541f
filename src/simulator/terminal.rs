//! Virtual terminals of DL/T 698.45: they dial a head end, log in, send heartbeats, and pass questions on to hundreds of
//! meters, each with a load of its own. A meter whose route over the mesh fails is not reached for an hour.

use crate::base::clock::Clock;
use crate::device::dlt645::history::Kind;
use crate::device::dlt698::ObjectProfile;
use crate::device::model::{MeterModel, Profile};
use crate::device::parameter::factory;
use crate::protocol::dlt698::archive::{ARCHIVE, ArchiveMeter, MeterProtocol, Wiring};
use crate::protocol::dlt698::terminal::{Device, Objects};
use crate::protocol::dlt698::{
    Address, Apdu, CLOCK, Csd, Dar, Data, DateTimeS, FROZEN_AT, Frame, GetRecord, LinkKind, Many, Next, Oad, Omd, Piid,
    ROW_OF, RecordResult, Report, Road, Rows, Rsd, TASK_ROWS, Tsa, event, next,
};
use crate::simulator::concentrator::Habits;
use crate::simulator::dlt698::Shown;
use crate::simulator::dtu::FleetStats;
use crate::simulator::faults::{Dice, Fate};
use crate::simulator::physics::Load;
use crate::simulator::reports::Reports;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A login that is not answered is repeated.
const LOGIN_AGAIN: Duration = Duration::from_secs(10);
const REDIAL_FIRST: Duration = Duration::from_millis(500);
const REDIAL_LONGEST: Duration = Duration::from_secs(5);
/// Most bytes of what may be the beginning of a question.
const PENDING_MAX: usize = 4096;

/// Many of them.
#[derive(Clone, Debug)]
pub struct StationPlan {
    /// How many; terminals 1, 2, 3 … of the region.
    pub terminals: u16,
    /// Meters behind each.
    pub meters: u16,
    /// The region, four digits as they are printed: `4403` as 0x4403.
    pub region: u16,
    /// The seed.
    pub seed: u64,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How they behave.
    pub habits: Habits,
    /// What each meter is.
    pub model: Arc<MeterModel>,
}

impl StationPlan {
    /// The terminal at an index, from 0; none where the model is of another protocol.
    pub fn terminal(&self, index: u16) -> Option<SimTerminal> {
        let Profile::Dlt698(profile) = &self.model.profile else {
            return None;
        };
        let number = index.saturating_add(1);
        Some(SimTerminal {
            address: Address::parse(&format!("{:04X}{number:08}", self.region)).ok()?,
            number,
            meters: self.meters,
            seed: self.seed.wrapping_mul(1_000_003).wrapping_add(index.into()),
            heartbeat: self.heartbeat,
            habits: self.habits.clone(),
            profile: Arc::new(profile.clone()),
            phases: self.model.phases,
        })
    }

    /// Starts every one, a few hundred a second, on the current runtime. Dropping the set ends them.
    pub async fn start(&self, server: &str, clock: &Arc<dyn Clock>, stats: &Arc<FleetStats>) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for index in 0..self.terminals {
            if let Some(terminal) = self.terminal(index) {
                set.spawn(terminal.run(server.to_owned(), Arc::clone(clock), Arc::clone(stats)));
            }
            if index % 10 == 9 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        set
    }
}

/// One virtual terminal.
#[derive(Clone, Debug)]
pub struct SimTerminal {
    /// Its address, which is its serial number.
    pub address: Address,
    /// Its number in the region, from 1.
    number: u16,
    meters: u16,
    seed: u64,
    heartbeat: Duration,
    habits: Habits,
    profile: Arc<ObjectProfile>,
    phases: u8,
}

impl SimTerminal {
    /// The address of the meter at a place, from 1.
    pub fn meter_address(&self, place: u16) -> String {
        format!("{:05}{:07}", self.number, place)
    }

    /// Dials and redials until it is dropped.
    pub async fn run(self, server: String, clock: Arc<dyn Clock>, stats: Arc<FleetStats>) {
        let mut dice = Dice::new(self.seed);
        let mut station = Station::new(&self, Arc::clone(&clock));
        let mut wait = REDIAL_FIRST;
        loop {
            let ended = self.session(&server, &mut station, &stats, &mut dice).await;
            tracing::debug!(sn = %self.address, ?ended, "virtual terminal lost its session");
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
        station: &mut Station,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        stats.dialled.fetch_add(1, Ordering::Relaxed);
        stats.connected.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.carry(&mut stream, station, stats, dice).await {
            tracing::debug!(sn = %self.address, %error, "the connection failed");
        }
        stats.connected.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    async fn carry(
        &self,
        stream: &mut TcpStream,
        station: &mut Station,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<()> {
        let mut device = Device::new(self.address, self.habits.frame_data);
        let mut pending: Vec<u8> = Vec::new();
        let mut known = false;
        let mut speaks_at = Instant::now();
        let mut number = Piid::new(0);
        station.reports.reconnected();
        loop {
            while let Some(report) = station.reports.next(Instant::now()) {
                stream.write_all(&report).await?;
            }
            let report_at = station.reports.due(Instant::now());
            tokio::select! {
                ready = stream.readable() => ready?,
                () = tokio::time::sleep_until(report_at.unwrap_or(speaks_at)), if report_at.is_some() => continue,
                () = tokio::time::sleep_until(speaks_at) => {
                    let (kind, again) = if known { (LinkKind::Heartbeat, self.heartbeat) } else { (LinkKind::Login, LOGIN_AGAIN) };
                    stream.write_all(&self.link(&device, number, kind, station)).await?;
                    number = number.next();
                    speaks_at = Instant::now() + again.max(Duration::from_secs(1));
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
            while let Next::Frame { span, frame } = next(&pending) {
                pending.drain(..span.end);
                if frame.control.function() == 1 {
                    known = true;
                    continue;
                }
                if let Ok(Apdu::ReportAck(ack)) = Apdu::parse(frame.data()) {
                    if station.reports.confirmed(ack.piid.number()) {
                        stats.confirmed.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                stats.requests.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(self.habits.thinks).await;
                station.now = station.clock.now();
                let Some(answer) = device.hear(&frame, station) else {
                    continue;
                };
                let beat = self.link(&device, number, LinkKind::Heartbeat, station);
                if !self.reply(stream, &answer, &beat, stats, dice).await? {
                    return Ok(());
                }
                self.speak(&device, &mut number, station, stats, dice);
            }
            pending.drain(..pending.len().saturating_sub(PENDING_MAX));
        }
    }

    /// Any of its meters.
    fn place(&self, dice: &mut Dice) -> u16 {
        let place = dice.below(self.meters.into()).saturating_add(1);
        u16::try_from(place).unwrap_or(1)
    }

    /// What it says of its own accord behind an answer, if anything: that an event happened, and a freeze of a meter.
    fn speak(&self, device: &Device, number: &mut Piid, station: &mut Station, stats: &FleetStats, dice: &mut Dice) {
        let mut lists = Vec::new();
        if self.habits.events > 0.0 && dice.chance(self.habits.events) {
            station.happened = station.happened.saturating_add(1);
            lists.extend(event_of(station, &self.meter_address(self.place(dice))));
        }
        if self.habits.reports > 0.0 && dice.chance(self.habits.reports) {
            lists.extend(station.freeze_of(&self.meter_address(self.place(dice))));
        }
        for list in lists {
            let Some(frame) = device.report(*number, Report::Records(Many::one(list))) else {
                continue;
            };
            stats.reports.fetch_add(1, Ordering::Relaxed);
            station.reports.push(number.number(), frame.wire());
            *number = number.next();
        }
    }

    fn link(&self, device: &Device, number: Piid, kind: LinkKind, station: &Station) -> Vec<u8> {
        let every = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        let frame = device.link(number, kind, every, station.clock.now().naive_utc());
        frame.map(|frame| frame.wire()).unwrap_or_default()
    }

    /// Answers; false: the connection shall be cut.
    async fn reply(
        &self,
        stream: &mut TcpStream,
        answer: &Frame,
        heartbeat: &[u8],
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<bool> {
        // the same answer of a terminal that nobody asked
        let foreign = || {
            let mut digits = self.address.printed().to_vec();
            digits.reverse();
            let other = Address::of(answer.address.kind(), 0, &digits).filter(|other| *other != self.address)?;
            let frame = Frame::new(answer.control, other, answer.client, answer.data().to_vec()).ok()?;
            Some(frame.wire())
        };
        match self.habits.faults.fate(answer.wire(), heartbeat, foreign, dice) {
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
}

/// What a terminal knows of its meters.
struct Station {
    clock: Arc<dyn Clock>,
    now: DateTime<Utc>,
    own: Shown,
    /// Which meters it has, as it tells it.
    archive: Data,
    settings: BTreeMap<u32, Data>,
    /// How far its clock was set ahead of ours; it keeps UTC.
    ahead: TimeDelta,
    meters: BTreeMap<Vec<u8>, (u64, Shown)>,
    mesh_failure: f64,
    /// Events so far.
    happened: u32,
    reports: Reports,
}

/// The record of an event: the clock of a meter is off (3105).
fn event_of(station: &Station, meter: &str) -> Option<RecordResult> {
    let meter = Address::parse(meter).ok()?;
    let row = vec![
        Data::UInt32(station.happened),
        Data::DateTimeS(DateTimeS::of(station.now.naive_utc())),
        Data::Null,
        Data::Tsa(Tsa::of(&meter)),
        Data::Array(Vec::new()),
    ];
    let columns = [
        event::NUMBER,
        event::BEGAN_AT,
        event::ENDED_AT,
        event::SOURCE,
        event::REPORTED,
    ];
    Some(RecordResult {
        oad: Oad::new(0x3105, 2),
        columns: columns.map(Csd::Oad).to_vec(),
        rows: Rows::Rows(vec![row]),
    })
}

impl Station {
    fn new(of: &SimTerminal, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let shown = |address: Address, seed: u64| Shown {
            address,
            profile: Arc::clone(&of.profile),
            load: Arc::new(Load::new(seed, of.phases)),
            now,
        };
        let meters = (1..=of.meters).filter_map(|place| {
            let address = Address::parse(&of.meter_address(place)).ok()?;
            let seed = of.seed.wrapping_mul(4099).wrapping_add(place.into());
            Some((Tsa::of(&address).bytes().to_vec(), (seed, shown(address, seed))))
        });
        let wiring = if of.phases > 1 {
            Wiring::FourWires
        } else {
            Wiring::Single
        };
        let archive = (1..=of.meters).filter_map(|place| {
            let meter = ArchiveMeter {
                number: place,
                address: Address::parse(&of.meter_address(place)).ok()?,
                protocol: MeterProtocol::DLT698,
                port: ArchiveMeter::port_of(31),
                tariffs: 4,
                wiring,
                collector: None,
            };
            Some(meter.data())
        });
        Self {
            now,
            archive: Data::Array(archive.collect()),
            settings: factory::attributes()
                .into_iter()
                .map(|(oad, data)| (oad.number(), data))
                .collect(),
            ahead: TimeDelta::zero(),
            own: shown(of.address, of.seed),
            meters: meters.collect(),
            mesh_failure: of.habits.mesh_failure,
            happened: 0,
            reports: Reports::default(),
            clock,
        }
    }

    /// The last daily freeze of a meter, as its task brings it; none where the model has none.
    fn freeze_of(&mut self, meter: &str) -> Option<RecordResult> {
        let meter = Tsa::of(&Address::parse(meter).ok()?);
        let now = self.now;
        let (_, shown) = self.meters.get_mut(meter.bytes())?;
        shown.now = now;
        let profile = Arc::clone(&shown.profile);
        let kept = profile.history.iter().find(|kept| kept.kind == Kind::Daily)?;
        let mut columns = vec![FROZEN_AT];
        for point in &kept.points {
            let whole = Oad { index: 0, ..point.oad };
            if !columns.contains(&whole) {
                columns.push(whole);
            }
        }
        let asked = GetRecord {
            oad: kept.oad,
            rows: Rsd::Back(1),
            columns: columns.iter().copied().map(Csd::Oad).collect(),
        };
        let row = shown.rows(&asked).ok()?.into_iter().next()?;
        let road = Road { oad: kept.oad, columns };
        Some(RecordResult {
            oad: TASK_ROWS,
            columns: vec![Csd::Oad(ROW_OF), Csd::Road(road)],
            rows: Rows::Rows(vec![vec![Data::Tsa(meter), Data::Structure(row)]]),
        })
    }

    /// Whether the route to a meter holds in this hour.
    fn reaches(&self, seed: u64) -> bool {
        let hour = u64::try_from(self.now.timestamp() / 3600).unwrap_or_default();
        self.mesh_failure <= 0.0 || !Dice::new(seed ^ hour.rotate_left(32)).chance(self.mesh_failure)
    }
}

impl Objects for Station {
    fn get(&mut self, oad: Oad) -> Result<Data, Dar> {
        if oad == ARCHIVE {
            return Ok(self.archive.clone());
        }
        if oad == CLOCK {
            return Ok(Data::DateTimeS(DateTimeS::of((self.now + self.ahead).naive_utc())));
        }
        if let Some(setting) = self.settings.get(&oad.number()) {
            return Ok(setting.clone());
        }
        self.own.now = self.now;
        self.own.get(oad)
    }

    fn set(&mut self, oad: Oad, data: &Data) -> Dar {
        if oad == CLOCK {
            let Some(shown) = data.moment() else { return Dar::TYPE };
            self.ahead = shown.and_utc() - self.now;
            return Dar::SUCCESS;
        }
        match self.settings.get_mut(&oad.number()) {
            Some(kept) if kept.type_name() == data.type_name() => {
                *kept = data.clone();
                Dar::SUCCESS
            }
            Some(_) => Dar::TYPE,
            None => Dar::DENIED,
        }
    }

    fn act(&mut self, _omd: Omd, _data: &Data) -> (Dar, Option<Data>) {
        (Dar::DENIED, None)
    }

    fn rows(&mut self, asked: &GetRecord) -> Result<Vec<Vec<Data>>, Dar> {
        self.own.now = self.now;
        self.own.rows(asked)
    }

    fn behind(&mut self, server: &Tsa) -> Option<&mut dyn Objects> {
        let seed = self.meters.get(server.bytes()).map(|(seed, _)| *seed)?;
        if !self.reaches(seed) {
            return None;
        }
        let now = self.now;
        let (_, meter) = self.meters.get_mut(server.bytes())?;
        meter.now = now;
        Some(meter)
    }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;

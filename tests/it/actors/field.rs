//! The field on virtual time: a clock, meters that say who they are, lines that answer, fall silent or panic.

use super::books::{Books, Directory, History, energy};
use actix::{Actor, Addr, System};
use async_trait::async_trait;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use polyphase::actor::durable::PollLog;
use polyphase::actor::handles::{FleetHandle, RegistrarHandle};
use polyphase::actor::messages::{BeginSchedules, ConnectionTask};
use polyphase::actor::registry::{Registry, RegistryParts};
use polyphase::actor::session_log::SessionLog;
use polyphase::actor::shard::{Connector, Shard, ShardParts};
use polyphase::actor::storage::MeterIndex;
use polyphase::actor::supervise::RestartPolicy;
use polyphase::base::clock::Clock;
use polyphase::base::ids::{
    AccountId, ConnectionId, DtuId, FrameId, FrameRange, GrowingIds, MeterId, PollId, ScheduleId,
};
use polyphase::device::catalogue::Catalogue;
use polyphase::device::image::RegisterImage;
use polyphase::device::model::Profile;
use polyphase::domain::device::{
    AppliedSchedule, Connect, DtuRecord, MeterRecord, RetryPolicy, ScheduleRule, SerialNumber,
};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Reading, Value};
use polyphase::exchange::admission::FlapLimits;
use polyphase::exchange::evidence::Evidence;
use polyphase::exchange::pace::Pace;
use polyphase::exchange::shed::PressureGauge;
use polyphase::exchange::visit::{LineFrame, LineFrameKind};
use polyphase::port::field::{
    Admission, EndCause, Hello, Learned, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome, Registrar,
    TransactionError, TransactionReport,
};
use polyphase::port::fleet::Fleet;
use polyphase::port::ledger::EndedSlot;
use polyphase::port::live::{LiveFeed, Topic};
use polyphase::protocol::{Protocol, Request, dlt645};
use rust_decimal::Decimal;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// A DL/T 645 meter's clock is so many seconds ahead.
pub const CLOCK_AHEAD_S: i64 = 47;
/// The zone of schedules and clocks.
pub const ZONE: chrono_tz::Tz = chrono_tz::Europe::Kyiv;
pub const MODEL: &str = "hiking_dds238_zns";
pub static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin().unwrap()));
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// 2026-03-02, 00:00:30 UTC and some minutes.
pub fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_409_630, 0).unwrap() + TimeDelta::minutes(minutes)
}

/// Runs on a system of its own whose clock jumps whenever nobody has anything to do.
pub fn virtually<F: Future<Output = ()>>(work: impl FnOnce() -> F) {
    let system = System::with_tokio_rt(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    });
    system.block_on(async { work().await });
}

/// Wall time that follows the runtime's.
#[derive(Debug)]
pub struct VirtualClock {
    origin: tokio::time::Instant,
}

impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        at(0) + TimeDelta::from_std(self.origin.elapsed()).unwrap()
    }

    fn monotonic(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl VirtualClock {
    pub fn now_ms(&self) -> u128 {
        self.origin.elapsed().as_millis()
    }

    pub async fn until(&self, minutes: i64) {
        let wait = (at(minutes) - self.now()).to_std().expect("it is past");
        tokio::time::sleep(wait).await;
    }
}

/// How a meter takes a poll.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    Answers(Duration),
    Silent,
    Panics,
    /// The next so many polls panic.
    PanicsFor(u32),
}

pub const PROMPT: Manner = Manner::Answers(Duration::from_millis(150));

/// All meters and what they said.
pub struct World {
    pub clock: Arc<VirtualClock>,
    manners: Mutex<HashMap<MeterId, Manner>>,
    counts: Mutex<BTreeMap<MeterId, i64>>,
    said: Mutex<HashMap<PollId, (MeterId, Decimal)>>,
}

impl World {
    pub fn behave(&self, meter: MeterId, manner: Manner) {
        self.manners.lock().unwrap().insert(meter, manner);
    }

    /// The manner for this poll.
    fn manner(&self, meter: MeterId) -> Manner {
        let mut manners = self.manners.lock().unwrap();
        let manner = manners.entry(meter).or_insert(PROMPT);
        let now = *manner;
        if let Manner::PanicsFor(left) = now {
            *manner = if left > 1 { Manner::PanicsFor(left - 1) } else { PROMPT };
        }
        now
    }

    /// No meter ever shows the same energy twice, nor that of another.
    fn say(&self, job: &PollJob) -> Vec<Vec<u8>> {
        let count = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(job.meter).or_default();
            *count += 1;
            *count
        };
        let value = Decimal::from(i64::from(job.meter.0) * 100_000 + count);
        self.said.lock().unwrap().insert(job.poll, (job.meter, value));
        if let Some(Request::Dlt645(_)) = job.requests.first() {
            return job
                .requests
                .iter()
                .map(|request| self.say_645(job.meter, request))
                .collect();
        }
        let model = CATALOGUE.get(Protocol::ModbusRtu, MODEL).unwrap();
        let Profile::Modbus(profile) = &model.profile else {
            panic!("not Modbus: {}", model.name)
        };
        let mut image = RegisterImage::new(Arc::new(profile.clone()));
        let energy = Measurand::Standard(Quantity::ActiveEnergyTotal);
        image.set(&energy, Value::Decimal(value)).unwrap();
        let answer = |request: &Request| {
            let Request::Modbus(request) = request else {
                panic!("not Modbus: {request:?}")
            };
            assert_eq!(i32::from(request.unit()), job.meter.0, "asked at another's address");
            request.reply_frame(&image.reply(request)).unwrap()
        };
        job.requests.iter().map(answer).collect()
    }

    /// What a DL/T 645 meter says whose clock is [`CLOCK_AHEAD_S`] ahead.
    fn say_645(&self, meter: MeterId, request: &Request) -> Vec<u8> {
        let Request::Dlt645(request) = request else {
            panic!("{request:?}")
        };
        if let Some(dlt645::Di::E2007(di @ 0x0506_0000..=0x0506_FFFF)) = request.di() {
            return frozen(meter, request, di, self.clock.now());
        }
        let ahead = self.clock.now() + TimeDelta::seconds(CLOCK_AHEAD_S);
        let clock = ahead.with_timezone(&ZONE);
        let digits = |format: &str| {
            let text = clock.format(format).to_string();
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect::<Vec<u8>>()
        };
        let data = match request.di().unwrap().to_string().as_str() {
            "04000101" => [vec![0], digits("%d%m%y")].concat(),
            "04000102" => digits("%S%M%H"),
            energy if energy.starts_with("0001") => vec![0x56, 0x34, 0x12, 0],
            _ => vec![0x10, 0x22],
        };
        request.reply_frame(request.address(), &dlt645::Reply::Data(data))
    }

    /// The reading holds what its meter said in that visit.
    pub fn check(&self, reading: &Reading) {
        let said = self.said.lock().unwrap().get(&reading.poll).copied();
        let (meter, value) = said.unwrap_or_else(|| panic!("from nowhere: {reading:?}"));
        assert_eq!((reading.meter, energy(reading)), (meter, Some(value)));
    }
}

/// What a DL/T 645 meter says that keeps its last ten daily freezes and refuses older ones. The register of meter 51 at
/// midnight of 3 April shows 5103.04.
fn frozen(meter: MeterId, request: &dlt645::Request, di: u32, now: DateTime<Utc>) -> Vec<u8> {
    let back = i64::from(di & 0xFF);
    let day = now.with_timezone(&ZONE).date_naive() - TimeDelta::days(back - 1);
    let data = match di >> 8 {
        0x05_0600 if back <= 10 => dlt645::bcd::bytes(day.format("%y%m%d0000").to_string().parse().unwrap(), 5),
        0x05_0601 if back <= 10 => {
            let value = i64::from(meter.0) * 10_000 + i64::from(day.day()) * 100 + i64::from(day.month());
            dlt645::bcd::bytes(u64::try_from(value).unwrap(), 4)
        }
        _ => return request.refusal_frame(request.address(), 0x02),
    };
    request.reply_frame(request.address(), &dlt645::Reply::Data(data))
}

/// A line.
pub struct FakeLink {
    pub id: ConnectionId,
    world: Arc<World>,
    turn: tokio::sync::Mutex<()>,
    closed: watch::Sender<Option<EndCause>>,
    pub adopted: Mutex<Vec<Owner>>,
    /// Blocks refused.
    pub refused: AtomicU64,
    /// When who was asked.
    pub polls: Mutex<Vec<(DateTime<Utc>, MeterId)>>,
}

impl FakeLink {
    pub fn closed(&self) -> Option<EndCause> {
        *self.closed.borrow()
    }

    pub fn polls(&self) -> Vec<(DateTime<Utc>, MeterId)> {
        self.polls.lock().unwrap().clone()
    }
}

impl FakeLink {
    /// Blocks are refused, and asked item by item as the job says.
    fn answers(
        &self,
        job: &PollJob,
        report: impl Fn(Result<Vec<u8>, TransactionError>) -> TransactionReport,
    ) -> Vec<TransactionReport> {
        let said = self.world.say(job);
        let mut reports: Vec<_> = said.into_iter().map(|frame| report(Ok(frame))).collect();
        for (place, items) in job.instead.iter().enumerate().filter(|(_, items)| !items.is_empty()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            reports[place] = report(Err(TransactionError::Refused(2)));
            reports.extend(items.iter().map(|item| report(Ok(self.world.say_645(job.meter, item)))));
        }
        reports
    }
}

#[async_trait]
impl Link for FakeLink {
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError> {
        let _turn = self.turn.lock().await;
        let mut closed = self.closed.subscribe();
        if closed.borrow_and_update().is_some() {
            return Err(LinkError::Closed);
        }
        let began = self.world.clock.now();
        self.polls.lock().unwrap().push((began, job.meter));
        let manner = self.world.manner(job.meter);
        let (takes, attempts) = match manner {
            Manner::Answers(takes) => (takes, 1),
            Manner::Silent => (job.timeout * u32::from(job.attempts), job.attempts),
            Manner::Panics | Manner::PanicsFor(_) => panic!("injected: the visit to meter {} fails", job.meter),
        };
        let lost = tokio::select! {
            _ = closed.changed() => true,
            () = tokio::time::sleep(takes) => false,
        };
        let report = |result| TransactionReport {
            result,
            attempts,
            sent_at: began,
            ended_at: self.world.clock.now(),
            turnaround: Some(takes),
            held: takes,
        };
        let evidence = (manner == Manner::Silent).then(|| Evidence {
            id: FrameId(job.poll.0),
            connection: self.id,
            frame: LineFrame {
                at: began,
                meter: Some(job.meter),
                poll: Some(job.poll),
                kind: LineFrameKind::Request,
                protocol: "modbus-rtu",
                bytes: vec![1].into(),
                turn: None,
            },
        });
        let reports = match manner {
            _ if lost => vec![report(Err(TransactionError::SessionLost))],
            Manner::Silent => vec![report(Err(TransactionError::Timeout))],
            _ => self.answers(&job, report),
        };
        Ok(PollOutcome {
            began_at: Some(began),
            reports,
            frames: FrameRange::EMPTY,
            late_by: None,
            evidence: evidence.into_iter().collect(),
        })
    }

    fn adopt(&self, owner: Owner) {
        self.adopted.lock().unwrap().push(owner);
    }

    fn close(&self, cause: EndCause) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(cause);
            first
        });
    }

    fn stats(&self) -> LinkStats {
        LinkStats::default()
    }
}

struct Unheard;

impl LiveFeed for Unheard {
    fn publish(&self, _: AccountId, _: Topic, _: Option<DtuId>, _: Option<MeterId>, _: serde_json::Value) {}
}

struct NoDialler;

impl Connector for NoDialler {
    fn dial(&self, _dtu: DtuRecord) -> ConnectionTask {
        Box::new(|| Box::pin(std::future::pending()))
    }
}

/// A front end without sockets and database.
pub struct Field {
    pub clock: Arc<VirtualClock>,
    pub world: Arc<World>,
    pub books: Arc<Books>,
    pub history: Arc<History>,
    pub directory: Arc<Directory>,
    pub fleet: FleetHandle,
    pub registrar: RegistrarHandle,
    pub shards: Vec<Addr<Shard>>,
    pub pressure: Arc<PressureGauge>,
    _closing: watch::Sender<bool>,
}

impl Field {
    /// With these DTUs in the directory; schedules do not run yet.
    pub async fn new(dtus: Vec<DtuRecord>) -> Self {
        Self::paced(dtus, Pace::new(10_000, 10_000)).await
    }

    /// With so many sessions of a shard whose schedules may begin in one second after a connect.
    pub async fn paced(dtus: Vec<DtuRecord>, first_polls: Pace) -> Self {
        let clock = Arc::new(VirtualClock {
            origin: tokio::time::Instant::now(),
        });
        let world = Arc::new(World {
            clock: Arc::clone(&clock),
            manners: Mutex::default(),
            counts: Mutex::default(),
            said: Mutex::default(),
        });
        let books = Arc::new(Books::new(Arc::clone(&clock)));
        Self::on(clock, world, books, dtus, first_polls).await
    }

    /// The next process over the same world and books.
    pub async fn restarted(&self) -> Self {
        let dtus = self.directory.0.lock().unwrap().values().cloned().collect();
        let (clock, world, books) = (
            Arc::clone(&self.clock),
            Arc::clone(&self.world),
            Arc::clone(&self.books),
        );
        Self::on(clock, world, books, dtus, Pace::new(10_000, 10_000)).await
    }

    async fn on(
        clock: Arc<VirtualClock>,
        world: Arc<World>,
        books: Arc<Books>,
        dtus: Vec<DtuRecord>,
        first_polls: Pace,
    ) -> Self {
        let pressure = Arc::new(PressureGauge::default());
        let polls = Arc::new(GrowingIds::starting_at(clock.now()));
        let shard = || {
            Shard::new(ShardParts {
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                log: Arc::clone(&books) as Arc<dyn PollLog>,
                catalogue: Arc::clone(&CATALOGUE),
                connector: Arc::new(NoDialler),
                polls: Arc::clone(&polls),
                restarts: RestartPolicy::default(),
                shelf: RefCell::default(),
                first_polls,
                pressure: Arc::clone(&pressure),
            })
            .start()
        };
        let shards = vec![shard(), shard()];
        let history = Arc::new(History::default());
        let (closing, closed) = watch::channel(false);
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let (log, writer) = SessionLog::new(Arc::clone(&history) as _, Arc::clone(&dynamic), closed);
        actix::spawn(writer);
        let registry = Registry::new(RegistryParts {
            clock: Arc::clone(&dynamic),
            log,
            live: Arc::new(Unheard),
            shards: shards.clone(),
            quarantine_max: 3,
            flap: FlapLimits::default(),
        })
        .start();
        let directory = Arc::new(Directory(Mutex::new(
            dtus.into_iter().map(|dtu| (dtu.id, dtu)).collect(),
        )));
        let fleet = FleetHandle {
            registry: registry.clone(),
            shards: shards.clone(),
            directory: Arc::clone(&directory) as _,
            index: Arc::new(MeterIndex::default()),
            reads: Arc::new(Semaphore::new(10)),
            clock: dynamic,
            behind: Arc::default(),
        };
        fleet.load().await.unwrap();
        Self {
            clock,
            world,
            books,
            history,
            directory,
            fleet,
            registrar: RegistrarHandle(registry),
            shards,
            pressure,
            _closing: closing,
        }
    }

    /// As on a fresh database.
    pub async fn begin(&self) {
        self.begin_behind(self.clock.now(), Vec::new()).await;
    }

    pub async fn begin_behind(&self, watermark: DateTime<Utc>, ended: Vec<EndedSlot>) {
        let ended = Arc::new(ended);
        for shard in &self.shards {
            let ended = Arc::clone(&ended);
            shard.send(BeginSchedules { watermark, ended }).await.unwrap();
        }
    }

    /// A connection says this SN.
    pub async fn connect(&self, sn: &str) -> (Arc<FakeLink>, Admission) {
        self.connect_from(sn, 1).await
    }

    /// From the address 10.0.0.`host`.
    pub async fn connect_from(&self, sn: &str, host: u8) -> (Arc<FakeLink>, Admission) {
        let link = Arc::new(FakeLink {
            id: ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            world: Arc::clone(&self.world),
            turn: tokio::sync::Mutex::default(),
            closed: watch::channel(None).0,
            adopted: Mutex::default(),
            refused: AtomicU64::new(0),
            polls: Mutex::default(),
        });
        let hello = Hello {
            connection: link.id,
            sn: SerialNumber::parse(sn).unwrap(),
            peer: ([10, 0, 0, host], 4000).into(),
            first_bytes: sn.into(),
            learned: Learned::default(),
            link: Arc::clone(&link) as Arc<dyn Link>,
        };
        let admission = self.registrar.introduce(hello).await;
        (link, admission)
    }

    /// Every DTU of the directory gets a session.
    pub async fn connect_all(&self) -> BTreeMap<DtuId, Arc<FakeLink>> {
        let known: Vec<_> = self.directory.0.lock().unwrap().values().cloned().collect();
        let mut links = BTreeMap::new();
        for dtu in known {
            let (link, admission) = self.connect(dtu.sn.unwrap().as_str()).await;
            assert!(matches!(admission, Admission::Owner(_)), "{admission:?}");
            links.insert(dtu.id, link);
        }
        links
    }

    /// The line is gone, as a connection tells it.
    pub fn hang_up(&self, link: &FakeLink, cause: EndCause) {
        link.close(cause);
        self.registrar.ended(link.id, cause, link.stats());
    }

    /// Changes the directory as the API does.
    pub async fn edit(&self, dtu: DtuId, change: impl FnOnce(&mut DtuRecord)) {
        if let Some(record) = self.directory.0.lock().unwrap().get_mut(&dtu) {
            change(record);
        }
        self.fleet.reload(dtu).await;
    }

    pub fn meters(&self) -> Vec<MeterRecord> {
        let dtus = self.directory.0.lock().unwrap();
        dtus.values().flat_map(|dtu| dtu.meters.clone()).collect()
    }
}

/// A schedule from `from` on: cron, window in seconds, quantities.
pub fn schedule(id: i32, from: DateTime<Utc>, cron: &str, window_s: u32, quantities: Vec<Quantity>) -> AppliedSchedule {
    AppliedSchedule {
        schedule: ScheduleId(id),
        valid_from: from,
        valid_to: None,
        rules: Arc::new(vec![ScheduleRule {
            quantities,
            spread_s: 30,
            window_s,
            retry: RetryPolicy {
                attempts: 2,
                backoff_s: 5,
                deadline_s: 200,
                budget: None,
            },
            ..ScheduleRule::by_cron(cron, ZONE.name(), from)
        }]),
    }
}

/// DTU `id` with the SN `SN-id` and meters `id * 10 + 1 ..`, each with a fast and a slow schedule.
pub fn dtu(id: i32, meters: i32) -> DtuRecord {
    let meter = |n: i32| MeterRecord {
        id: MeterId(id * 10 + n),
        account: AccountId(7),
        dtu: DtuId(id),
        protocol: "modbus-rtu".into(),
        address: (id * 10 + n).to_string(),
        model: MODEL.into(),
        ct_ratio: Decimal::ONE,
        vt_ratio: Decimal::ONE,
        schedules: vec![
            schedule(1, at(0), "*/5 * * * *", 120, vec![Quantity::ActiveEnergyTotal]),
            schedule(2, at(0), "0,15,30 * * * *", 240, Vec::new()),
        ],
    };
    DtuRecord {
        id: DtuId(id),
        account: AccountId(7),
        sn: Some(SerialNumber::parse(&format!("SN-{id}")).unwrap()),
        connect: Connect::Inbound,
        profile: None,
        silence_s: 180,
        timeout_ms: 1000,
        pause_ms: 50,
        enabled: true,
        heartbeats: Vec::new(),
        meters: (1..=meters).map(meter).collect(),
    }
}

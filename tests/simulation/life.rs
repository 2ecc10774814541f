//! One run: lives of the server one after the other, each on a system of its own, over the same field, disk and database.

use super::books::{Books, Listener};
use super::dtus::{CATALOGUE, DLT645_MODEL, Door, Dtu, MODBUS_MODEL, Order, clone_of, is_dlt645, meter_id, sn};
use super::oracle::{self, ENDED_S, Rules, SECOND_EVERY, WINDOW_S, all_meters, schedules, wanted};
use super::plan::{Action, CALM_MS, STORMY_MS, Weather};
use super::time::epoch;
use super::world::{Planted, TIMEOUT_MS, Traced, World};
use actix::{Actor, Addr, System};
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::actor::handles::{FleetHandle, RegistrarHandle};
use polyphase::actor::messages::GetOpenSlots;
use polyphase::actor::session_log::SessionLog;
use polyphase::actor::shard::Shard;
use polyphase::actor::storage::{MeterIndex, Storage, StorageParts};
use polyphase::actor::supervise::RestartPolicy;
use polyphase::app::{self, field};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{AccountId, DtuId, FrameId, FrameRange, GrowingIds, MeterId};
use polyphase::config::Config;
use polyphase::domain::device::{
    AppliedSchedule, Connect, DtuRecord, MeterRecord, RetryPolicy, ScheduleRule, SerialNumber,
};
use polyphase::domain::quantity::Quantity;
use polyphase::net::{NetDeps, NetSettings};
use polyphase::port::disk_model::{Fault, ModelDisk};
use polyphase::port::fake::Unheard;
use polyphase::port::fleet::Fleet;
use polyphase::port::frames::{FrameRecorder, RawFrame};
use polyphase::port::ledger::{PollRecord, ReadingSink, SinkError};
use polyphase::port::live::LiveFeed;
use polyphase::simulator::faults::Dice;
use polyphase::spool::{Receipt, Spool, SpoolHandle, SpoolSettings, SpoolState, Worker};
use rust_decimal::Decimal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

const SPOOL_BYTES: u64 = 64 << 10;
const SEGMENT_BYTES: u64 = 4 << 10;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let (config, _) = polyphase::config::load_with_environment(None, BTreeMap::new()).unwrap();
    config
});

/// How a life of the server ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// The run is over.
    Over,
    /// The process is gone; the disk keeps what it was told.
    Killed { down_ms: u64 },
    /// The power went; the disk keeps what was synced, and of the rest what it likes.
    Unpowered,
}

/// What outlives the server.
struct Host {
    world: Arc<World>,
    books: Arc<Books>,
    disk: RefCell<ModelDisk>,
    rules: RefCell<Rules>,
    /// Which life it is.
    life: Cell<u64>,
    /// The next of the plan's actions.
    next: Cell<usize>,
    calm: Cell<bool>,
    /// How long the next loss of power lasts.
    unpowered_ms: Cell<u64>,
    /// What may be late by trouble of the disk: until then.
    troubled_until: Cell<u64>,
    acknowledged: Arc<Mutex<Vec<PollRecord>>>,
    dice: RefCell<Dice>,
}

/// A server that runs.
struct Server {
    fleet: FleetHandle,
    shards: Vec<Addr<Shard>>,
    spool: SpoolHandle,
    door: Door,
    orders: Vec<mpsc::Sender<Order>>,
    since_ms: u64,
    _closing: watch::Sender<bool>,
}

/// The spool, with somebody who remembers what it has acknowledged.
struct Witness {
    world: Arc<World>,
    spool: SpoolHandle,
    acknowledged: Arc<Mutex<Vec<PollRecord>>>,
}

impl ReadingSink for Witness {
    type Receipt = Receipt;

    async fn append(&self, mut record: PollRecord) -> Result<Receipt, SinkError> {
        match self.world.planted {
            Some(Planted::AcknowledgedEarly) => self.acknowledged.lock().unwrap().push(record.clone()),
            Some(Planted::MergedInPart) => {
                let items = record.reading.as_mut().map(|reading| &mut reading.items);
                if let Some(items) = items.filter(|items| items.len() > 1) {
                    items.pop();
                }
            }
            _ => {}
        }
        let receipt = ReadingSink::append(&self.spool, record.clone()).await?;
        self.acknowledged.lock().unwrap().push(record);
        Ok(receipt)
    }
}

#[derive(Default)]
struct Frames(AtomicI64);

impl FrameRecorder for Frames {
    fn record(&self, frames: Vec<RawFrame>) -> FrameRange {
        let count = u16::try_from(frames.len()).unwrap();
        FrameRange {
            first: FrameId(self.0.fetch_add(count.into(), Ordering::Relaxed)),
            count,
        }
    }
}

/// A worker of the spool that takes its time before it does what it is asked, as a thread does. Tells when its disk has
/// lost its power.
async fn slowly(worker: Worker, disk: ModelDisk, mut dice: Dice, unpowered: Rc<Notify>) {
    let mut work = Box::pin(worker.run());
    loop {
        let mut woken = false;
        let over = poll_fn(|cx| {
            if woken {
                return Poll::Ready(false);
            }
            woken = true;
            let worked = work.as_mut().poll(cx).map(|()| true);
            if disk.has_crashed() {
                unpowered.notify_one();
            }
            worked
        })
        .await;
        if over {
            return;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(8))).await;
    }
}

fn dtu_record(world: &World, dtu: usize) -> DtuRecord {
    let meters = (0..world.plan.meters).map(|place| {
        let id = meter_id(dtu, place);
        let (protocol, model, address) = if is_dlt645(id) {
            ("dlt645-2007", DLT645_MODEL, format!("{:012}", id.0))
        } else {
            ("modbus-rtu", MODBUS_MODEL, id.to_string())
        };
        let [first, second] = wanted(id);
        let [one, other] = schedules(id);
        let apply = |schedule, every, quantities| AppliedSchedule {
            schedule,
            valid_from: epoch(),
            valid_to: None,
            rules: Arc::new(vec![rule(every, epoch(), quantities)]),
        };
        MeterRecord {
            id,
            account: AccountId(7),
            dtu: DtuId(i32::try_from(dtu + 1).unwrap()),
            protocol: protocol.into(),
            address,
            model: model.into(),
            ct_ratio: Decimal::ONE,
            vt_ratio: Decimal::ONE,
            schedules: vec![apply(one, 1, first), apply(other, SECOND_EVERY, second)],
        }
    });
    DtuRecord {
        id: DtuId(i32::try_from(dtu + 1).unwrap()),
        account: AccountId(7),
        sn: Some(SerialNumber::parse(&sn(dtu)).unwrap()),
        connect: Connect::Inbound,
        profile: None,
        silence_s: 60,
        timeout_ms: u32::try_from(TIMEOUT_MS).unwrap(),
        pause_ms: 20,
        enabled: true,
        heartbeats: Vec::new(),
        meters: meters.collect(),
    }
}

fn rule(every: i64, from: DateTime<Utc>, quantities: Vec<Quantity>) -> ScheduleRule {
    ScheduleRule {
        quantities,
        spread_s: 10,
        window_s: WINDOW_S,
        retry: RetryPolicy {
            attempts: 2,
            backoff_s: 4,
            deadline_s: 35,
            budget: None,
        },
        ..ScheduleRule::by_cron(&format!("*/{every} * * * *"), "UTC", from)
    }
}

/// Runs a seed. What is wrong with it is in the world, as is the hash of its trace.
pub fn run(seed: u64, traced: Traced, planted: Option<Planted>) -> Arc<World> {
    let world = World::new(seed, traced, planted);
    world.trace(format_args!("{:?}", world.plan));
    let dtus = (0..world.plan.dtus).map(|dtu| dtu_record(&world, dtu)).collect();
    let rules = all_meters(&world).map(|meter| (meter, vec![(epoch(), 1)])).collect();
    let host = Rc::new(Host {
        books: Arc::new(Books::new(&world, dtus)),
        disk: RefCell::new(ModelDisk::new()),
        rules: RefCell::new(Rules(rules)),
        life: Cell::new(0),
        next: Cell::new(0),
        calm: Cell::new(false),
        unpowered_ms: Cell::new(0),
        troubled_until: Cell::new(0),
        acknowledged: Arc::default(),
        dice: RefCell::new(world.dice(2)),
        world: Arc::clone(&world),
    });
    loop {
        let system = System::with_tokio_rt(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_time().start_paused(true).build().unwrap()
        });
        let ending = system.block_on(life(Rc::clone(&host)));
        drop(system);
        world.trace(format_args!("the server is gone: {ending:?}"));
        host.life.set(host.life.get() + 1);
        match ending {
            Ending::Over => break,
            Ending::Killed { down_ms } => world.clock.pass(Duration::from_millis(down_ms)),
            Ending::Unpowered => {
                let survives = host.dice.borrow_mut().below(7);
                let disk = host.disk.borrow().reboot(survives);
                *host.disk.borrow_mut() = disk;
                world.clock.pass(Duration::from_millis(host.unpowered_ms.get()));
            }
        }
    }
    for panic in super::seeds::take_panics() {
        world.wrong(format_args!("a panic: {panic}"));
    }
    world
}

async fn life(host: Rc<Host>) -> Ending {
    host.world.clock.begin();
    let unpowered = Rc::new(Notify::new());
    let up: Rc<RefCell<Option<Rc<Server>>>> = Rc::default();
    let serving = async {
        match start(&host, &unpowered).await {
            Ok(server) => {
                let server = Rc::new(server);
                *up.borrow_mut() = Some(Rc::clone(&server));
                // after a failed fsync nothing can be acknowledged any more
                while server.spool.state() != SpoolState::Failed {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                host.world.trace(format_args!("the spool has failed"));
            }
            Err(error) => {
                host.world.trace(format_args!("no start: {error}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Ending::Killed { down_ms: 300 }
    };
    let ending = tokio::select! {
        biased;
        () = unpowered.notified() => Ending::Unpowered,
        ending = script(&host, &up) => ending,
        ending = serving => ending,
        never = looks(&host, &up) => match never {},
    };
    drop(up.borrow_mut().take());
    // within the runtime: outside of it time is real
    host.world.clock.end();
    ending
}

/// The start of the server, as `app` does it, with the ports of this world.
async fn start(host: &Rc<Host>, unpowered: &Rc<Notify>) -> anyhow::Result<Server> {
    let (world, books) = (&host.world, &host.books);
    let before = host.acknowledged.lock().unwrap().clone();
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let life = host.life.get();
    let settings = SpoolSettings {
        segment_bytes: SEGMENT_BYTES,
        capacity_bytes: SPOOL_BYTES,
        reserve_bytes: SEGMENT_BYTES,
        ..SpoolSettings::default()
    };
    let disk = host.disk.borrow().clone();
    let mut part = 500 + 2 * life;
    let place = |worker: Worker| {
        part += 1;
        actix::spawn(slowly(worker, disk.clone(), world.dice(part), Rc::clone(unpowered)));
        Ok(())
    };
    let opened = Spool::open_on(
        Arc::new(disk.clone()),
        Path::new("/spool"),
        settings,
        Arc::clone(&clock),
        place,
    );
    if disk.has_crashed() {
        unpowered.notify_one();
    }
    let (spool, drain) = opened?;
    let live: Arc<dyn LiveFeed> = Arc::new(Listener(Arc::clone(books)));
    let index = Arc::new(MeterIndex::default());
    let storage = StorageParts::new(
        Box::new(drain),
        Arc::clone(books) as _,
        Arc::clone(&live),
        Arc::clone(&index),
        Arc::clone(&clock),
    );
    Storage::new(storage, RestartPolicy::default()).start();
    let witness = Witness {
        world: Arc::clone(world),
        spool: spool.clone(),
        acknowledged: Arc::clone(&host.acknowledged),
    };
    let common = field::Common {
        clock: Arc::clone(&clock),
        log: Arc::new(witness),
        catalogue: Arc::clone(&CATALOGUE),
        dialler: Arc::default(),
        polls: Arc::new(GrowingIds::starting_at(clock.now())),
        first_polls: (CONFIG.limits.first_polls_per_s, CONFIG.limits.first_polls_burst),
        pressure: Arc::default(),
    };
    let shards = field::start_shards_here(world.plan.shards, &common);
    let (closing, closed) = watch::channel(false);
    let (log, writer) = SessionLog::new(Arc::clone(books) as _, Arc::clone(&clock), closed);
    actix::spawn(writer);
    let registry = field::start_registry(Arc::clone(&clock), log, live, shards.clone(), &CONFIG.limits);
    let fleet = FleetHandle {
        registry: registry.clone(),
        shards: shards.clone(),
        directory: Arc::clone(books) as _,
        index,
        reads: Arc::new(Semaphore::new(CONFIG.limits.reads_max)),
        clock: Arc::clone(&clock),
        behind: Arc::default(),
    };
    let deps = NetDeps {
        clock: Arc::clone(&clock),
        registrar: Arc::new(RegistrarHandle(registry)),
        recorder: Arc::new(Frames::default()),
        live: Arc::new(Unheard),
        terminal_events: Arc::new(polyphase::port::terminal_events::KeptNowhere),
        settings: Arc::new(NetSettings::default()),
        stop: CancellationToken::new(),
    };
    app::recover(&spool, &fleet, &shards, &**books, &*clock).await?;
    world.trace(format_args!("recovered"));
    recovered(host, &before);
    let (ledger, kept) = (Arc::clone(books), shards.clone());
    actix::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            app::move_watermark(&kept, &*ledger, &*clock).await;
        }
    });
    let door = Door {
        world: Arc::clone(world),
        deps,
        shards: shards.clone(),
    };
    let orders = (0..world.plan.dtus)
        .map(|dtu| {
            let (orders, inbox) = mpsc::channel(64);
            actix::spawn(Dtu::new(world, dtu, life).run(door.clone(), inbox));
            orders
        })
        .collect();
    Ok(Server {
        fleet,
        shards,
        spool,
        door,
        orders,
        since_ms: world.clock.ms(),
        _closing: closing,
    })
}

/// What an earlier process acknowledged is in the database now, and whatever lies before the watermark has ended.
fn recovered(host: &Host, acknowledged: &[PollRecord]) {
    oracle::holds(&host.world, &host.books, acknowledged);
    let watermark = host.books.rows().watermark.expect("recovered without a watermark");
    oracle::ended(&host.world, &host.books, &host.rules.borrow(), watermark);
}

/// Looks again and again whether the server is bounded and slots end.
async fn looks(host: &Rc<Host>, up: &RefCell<Option<Rc<Server>>>) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Some(server) = up.borrow().clone() else { continue };
        let world = &host.world;
        let stats = server.spool.stats();
        if stats.bytes > SPOOL_BYTES + SEGMENT_BYTES {
            world.wrong(format_args!("the spool has {} bytes", stats.bytes));
        }
        let now = world.clock.ms();
        if stats.state >= SpoolState::Full {
            host.troubled_until.set(now + 60_000);
        }
        let mut oldest: Option<DateTime<Utc>> = None;
        for shard in &server.shards {
            let open = shard.send(GetOpenSlots).await.unwrap();
            oldest = [oldest, open.oldest].into_iter().flatten().min();
        }
        let settled = server.since_ms.max(host.troubled_until.get()) + 90_000;
        let age = oldest.map_or(0, |oldest| (world.clock.now() - oldest).num_seconds());
        if now > settled && world.clock.since_step() > 90_000 && age > ENDED_S {
            world.wrong(format_args!("a slot is open for {age} s"));
        }
    }
}

/// Lets the plan's actions happen, then calm, and looks at the end.
async fn script(host: &Rc<Host>, up: &RefCell<Option<Rc<Server>>>) -> Ending {
    let world = &host.world;
    while let Some((at, action)) = world.plan.actions.get(host.next.get()).copied() {
        until(world, at).await;
        host.next.set(host.next.get() + 1);
        world.trace(format_args!("{action:?}"));
        let server = up.borrow().clone();
        if let Some(ending) = act(host, server, action).await {
            return ending;
        }
    }
    until(world, STORMY_MS).await;
    if !host.calm.replace(true) {
        world.trace(format_args!("calm"));
        world.state().weather = Weather::default();
        world.state().mute_until.clear();
        host.disk.borrow().heal();
        let mut rows = host.books.rows();
        (rows.away_until, rows.hangs_until, rows.answers_lost) = (0, 0, 0);
    }
    until(world, STORMY_MS + CALM_MS).await;
    // a clock that was set back has to pass what has been lived already
    let ahead = (world.clock.highest() - world.clock.now()).to_std().unwrap();
    if !ahead.is_zero() {
        tokio::time::sleep(ahead + Duration::from_secs(300)).await;
    }
    let Some(server) = up.borrow().clone() else {
        world.wrong(format_args!("the server does not start again"));
        return Ending::Over;
    };
    last_look(host, &server).await;
    Ending::Over
}

async fn until(world: &World, at_ms: u64) {
    let wait = at_ms.saturating_sub(world.clock.ms());
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

/// Lets something happen.
async fn act(host: &Rc<Host>, server: Option<Rc<Server>>, action: Action) -> Option<Ending> {
    let (world, now) = (&host.world, host.world.clock.ms());
    let tell = |dtu: usize, order: Order| {
        if let Some(server) = &server {
            // a DTU that is away hears of it later; one that has heard too much does not
            server.orders[dtu].try_send(order).ok();
        }
    };
    let disk = host.disk.borrow().clone();
    let trouble = |fault: Fault| {
        host.troubled_until.set(STORMY_MS);
        disk.inject(fault);
    };
    match action {
        Action::Cut { dtu, away_ms } => tell(dtu, Order::Cut(away_ms)),
        Action::HalfOpen { dtu, away_ms } => tell(dtu, Order::HalfOpen(away_ms)),
        Action::Flap { dtu, times } => (0..times).for_each(|_| tell(dtu, Order::Cut(0))),
        Action::Clone { dtu, times } => {
            if let Some(server) = &server {
                let dice = world.dice(900_000 + now);
                actix::spawn(clone_of(server.door.clone(), dtu, times, dice));
            }
        }
        Action::Mute { meter, for_ms } => {
            let meter = meter_at(world, meter);
            world.state().mute_until.insert(meter, now + for_ms);
        }
        Action::Kill { down_ms } => return Some(Ending::Killed { down_ms }),
        Action::Power { operations, down_ms } => {
            host.unpowered_ms.set(down_ms);
            trouble(Fault::Crash {
                at: disk.operations() + operations,
            });
        }
        Action::DiskFull { operations } => trouble(Fault::Full {
            from: disk.operations(),
            count: operations,
        }),
        // syncs come as every third operation or so
        Action::SyncFails { operations } => (0..3).for_each(|more| {
            trouble(Fault::Sync {
                at: disk.operations() + operations + more,
            });
        }),
        Action::DiskBroken { operations } => trouble(Fault::Broken {
            at: disk.operations() + operations,
        }),
        Action::StoreAway { for_ms } => host.books.rows().away_until = now + for_ms,
        Action::StoreHangs { for_ms } => host.books.rows().hangs_until = now + for_ms,
        Action::AnswersLost { commits } => host.books.rows().answers_lost = commits,
        Action::Step { by_ms } => world.clock.step(by_ms),
        Action::Edit { meter, every } => {
            if let Some(server) = server {
                edit(host, &server, meter_at(world, meter), every).await;
            }
        }
        Action::Read { meter, all } => {
            if let Some(server) = server {
                actix::spawn(read(
                    Arc::clone(world),
                    server.fleet.clone(),
                    meter_at(world, meter),
                    all,
                ));
            }
        }
    }
    None
}

fn meter_at(world: &World, place: usize) -> MeterId {
    all_meters(world).nth(place).unwrap()
}

async fn read(world: Arc<World>, fleet: FleetHandle, meter: MeterId, all: bool) {
    let [first, _] = wanted(meter);
    let quantities = if all { Vec::new() } else { first };
    let read = fleet.read(meter, quantities, Duration::from_secs(20)).await;
    world.trace(format_args!("read meter {meter}: {read:?}"));
    if let Ok(reading) = read {
        world.judge(&reading);
    }
}

/// A person changes the meter's first schedule from now on: never in what has been lived already.
async fn edit(host: &Rc<Host>, server: &Server, meter: MeterId, every: i64) {
    let from = host.world.clock.highest();
    let mut changed = None;
    for record in host.books.rows().dtus.values_mut() {
        let Some(meter) = record.meters.iter_mut().find(|one| one.id == meter) else {
            continue;
        };
        let mut rules = (*meter.schedules[0].rules).clone();
        let last = rules.last_mut().unwrap();
        if last.valid_from >= from {
            return;
        }
        last.valid_to = Some(from);
        let quantities = last.quantities.clone();
        rules.push(rule(every, from, quantities));
        meter.schedules[0].rules = Arc::new(rules);
        changed = Some(record.id);
    }
    host.rules.borrow_mut().0.get_mut(&meter).unwrap().push((from, every));
    let fleet = server.fleet.clone();
    actix::spawn(async move { fleet.reload(changed.unwrap()).await });
}

/// All faults are off for long: everything has drained, everybody is there, every slot has its ending.
async fn last_look(host: &Rc<Host>, server: &Server) {
    let world = &host.world;
    let online = server.fleet.counts(None).await.online;
    if online != u64::try_from(world.plan.dtus).unwrap() {
        world.wrong(format_args!("{online} of {} DTUs are online", world.plan.dtus));
    }
    let now = world.clock.now();
    let mut tries = 0;
    while server.spool.stats().backlog_records > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tries += 1;
        if tries > 100 {
            let backlog = server.spool.stats().backlog_records;
            return world.wrong(format_args!("{backlog} records do not drain"));
        }
    }
    let acknowledged = host.acknowledged.lock().unwrap().clone();
    let rules = host.rules.borrow().clone();
    oracle::holds(world, &host.books, &acknowledged);
    oracle::ended(world, &host.books, &rules, now - TimeDelta::seconds(ENDED_S));
    oracle::sound(world, &host.books, &rules, world.clock.highest());
    oracle::well(world, &host.books, &rules, now);
}

//! A desk, its database, and meters whose relays are watched: every frame that could move one is counted.

use super::concentrator::{Concentrator, moves, passed_on};
use crate::harness::db::TestDb;
use actix::Addr;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use polyphase::actor::control_desk::{CloseDesk, ControlDesk, ControlHandle, DeskParts, DeskSettings, Lines};
use polyphase::actor::durable::{Durable, PollLog};
use polyphase::actor::live::{LiveHub, LiveLimits};
use polyphase::actor::messages::LineNow;
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{AccountId, ApiKeyId, CommandId, DtuId, FrameRange, GrowingIds, MeterId, SessionId, UserId};
use polyphase::device::catalogue::Catalogue;
use polyphase::device::model::Profile;
use polyphase::domain::command::{Action, BrakeLimits, State};
use polyphase::domain::device::{Connect, DtuRecord, MeterRecord};
use polyphase::port::control::{Admitted, CommandRequest, CommandStore, CommandView, Control, ControlError, Decision};
use polyphase::port::field::{
    EndCause, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome, TransactionError, TransactionReport,
};
use polyphase::port::ledger::{PollRecord, SinkError};
use polyphase::port::scope::{Actor, InAccount, Scope};
use polyphase::protocol::dlt645::{Operator, Password, Security};
use polyphase::protocol::gdw376::Afn;
use polyphase::protocol::{Finding, Protocol, Request, Verdict, cjt188, dlt645};
use polyphase::simulator::dlt645::{ItemMeter, Meter645};
use polyphase::simulator::fluid::{FluidMeter, Quirks};
use polyphase::simulator::line::{LineMeter, Question};
use polyphase::simulator::meter::{Mould, SimMeter};
use polyphase::simulator::physics::Load;
use polyphase::store::PgStores;
use polyphase::store::commands::PgCommandLog;
use rust_decimal::Decimal;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

pub const MODEL: &str = "polyphase_virtual";
pub const ACCOUNT: AccountId = AccountId(1);
static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::builtin().unwrap()));

/// What becomes of a meter's next frame that changes something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It acts and answers.
    Answers,
    /// It acts, and the answer is lost.
    ReplyLost,
    /// It never arrives.
    RequestLost,
    /// It acts, and nobody ever says anything.
    Hangs,
}

/// Behind which DTU a meter hangs, and its relay.
pub struct Meter {
    pub dtu: DtuId,
    pub protocol: Protocol,
    pub model: &'static str,
    pub address: String,
    pub sim: Device,
}

/// A virtual meter of any protocol that has relays or valves.
pub enum Device {
    Modbus(SimMeter),
    Item(ItemMeter),
    Fluid(FluidMeter),
    Behind(Arc<Concentrator>),
}

impl Meter {
    pub fn modbus(dtu: i32, unit: u8, seed: u64) -> Self {
        let model = CATALOGUE.get(Protocol::ModbusRtu, MODEL).unwrap();
        Self {
            dtu: DtuId(dtu),
            protocol: Protocol::ModbusRtu,
            model: MODEL,
            address: unit.to_string(),
            sim: Device::Modbus(SimMeter::new(unit, Mould::new(Arc::clone(model)), seed, false)),
        }
    }

    /// A meter of DL/T 645 that opens to this password, in a zone so many hours ahead.
    pub fn item(dtu: i32, protocol: Protocol, model: &'static str, address: &str, password: &str, hours: i64) -> Self {
        let found = CATALOGUE.get(protocol, model).unwrap();
        let Profile::Dlt645(profile) = &found.profile else {
            panic!("{model}")
        };
        let own = dlt645::Address::parse(address).unwrap();
        let mut meter = Meter645::new(own, Arc::new(profile.clone()), Password::new(2, password).unwrap());
        meter.offset = TimeDelta::hours(hours);
        Self {
            dtu: DtuId(dtu),
            protocol,
            model,
            address: address.to_owned(),
            sim: Device::Item(ItemMeter {
                meter,
                load: Load::new(7, found.phases),
                mute: false,
            }),
        }
    }

    pub fn fluid(dtu: i32, model: &'static str, address: &str, quirks: Quirks) -> Self {
        let found = CATALOGUE.get(Protocol::Cjt188, model).unwrap();
        let own = cjt188::Address::parse(address).unwrap();
        Self {
            dtu: DtuId(dtu),
            protocol: Protocol::Cjt188,
            model,
            address: address.to_owned(),
            sim: Device::Fluid(FluidMeter::new(own, found, 9, quirks)),
        }
    }

    /// A measuring point of a concentrator.
    pub fn behind(dtu: i32, point: u16, concentrator: &Arc<Concentrator>) -> Self {
        Self {
            dtu: DtuId(dtu),
            protocol: Protocol::Gdw376,
            model: "gdw376_single_phase",
            address: point.to_string(),
            sim: Device::Behind(Arc::clone(concentrator)),
        }
    }

    /// The same with its clock so far ahead.
    pub fn ahead(self, by: TimeDelta) -> Self {
        match &self.sim {
            Device::Item(meter) => meter.meter.set_drift(by),
            Device::Modbus(_) | Device::Fluid(_) | Device::Behind(_) => panic!("set by its quirks"),
        }
        self
    }

    fn is_off(&self, now: DateTime<Utc>) -> bool {
        match &self.sim {
            Device::Modbus(meter) => meter.switch().unwrap().is_off(),
            Device::Item(meter) => meter.meter.is_open(),
            Device::Fluid(meter) => meter.is_closed(now),
            Device::Behind(concentrator) => concentrator.is_off(self.address.parse().unwrap()),
        }
    }

    /// What the line brings of its answer.
    fn say(&self, request: &Request, now: DateTime<Utc>) -> Result<Vec<u8>, TransactionError> {
        if let (Device::Behind(concentrator), Request::Gdw376(request)) = (&self.sim, request) {
            return concentrator.say(request, now);
        }
        let spoken = match (&self.sim, request) {
            (Device::Modbus(meter), Request::Modbus(request)) => {
                assert_eq!(request.unit(), meter.unit, "asked at another's address");
                meter.answer(&Question::Modbus(request.clone()), now)
            }
            (Device::Item(meter), Request::Dlt645(request)) => {
                assert_eq!(
                    request.address().to_string(),
                    self.address,
                    "asked at another's address"
                );
                meter.answer(&Question::Dlt645(request.clone()), now)
            }
            (Device::Fluid(meter), Request::Cjt188(request)) => {
                let frame = cjt188::Frame::parse(&request.wire()).unwrap();
                meter.answer(&Question::Cjt188(frame), now)
            }
            (_, other) => panic!("{other:?} to a {}", self.model),
        };
        if request.answer_len_max() == 0 {
            // done when its bytes are out
            return Ok(Vec::new());
        }
        let bytes = spoken.ok_or(TransactionError::Timeout)?.bytes;
        match request.find(&bytes) {
            Finding::Frame {
                span,
                verdict: Verdict::Answer,
            } => Ok(bytes[span].to_vec()),
            Finding::Frame {
                verdict: Verdict::Refused(code),
                ..
            } => Err(TransactionError::Refused(code)),
            other => panic!("{other:?}: {bytes:02X?} to {request:?}"),
        }
    }
}

/// All relays.
pub struct Field {
    pub clock: Arc<ManualClock>,
    pub meters: HashMap<MeterId, Meter>,
    fates: Mutex<HashMap<MeterId, Vec<Fate>>>,
    /// Every frame that could change something: when, whose meter, off or on.
    pub frames: Mutex<Vec<(DateTime<Utc>, MeterId, bool)>>,
    /// Their bytes.
    pub wires: Mutex<Vec<Vec<u8>>>,
    online: Mutex<HashSet<DtuId>>,
    session: Mutex<i64>,
    /// Every read waits so long.
    pub slow: Mutex<Duration>,
}

impl Field {
    pub fn frames_of(&self, meter: i32) -> usize {
        self.frames
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, m, _)| *m == MeterId(meter))
            .count()
    }

    pub fn frames(&self) -> usize {
        self.frames.lock().unwrap().len()
    }

    pub fn is_off(&self, meter: i32) -> bool {
        self.meters[&MeterId(meter)].is_off(self.clock.now())
    }

    pub fn fate(&self, meter: i32, fate: Fate) {
        self.fates.lock().unwrap().entry(MeterId(meter)).or_default().push(fate);
    }

    pub fn connect(&self, dtu: i32) {
        *self.session.lock().unwrap() += 1;
        self.online.lock().unwrap().insert(DtuId(dtu));
    }

    pub fn disconnect(&self, dtu: i32) {
        self.online.lock().unwrap().remove(&DtuId(dtu));
    }

    fn say(&self, job: &PollJob, request: &Request) -> Option<Result<Vec<u8>, TransactionError>> {
        let meter = &self.meters[&job.meter];
        let now = self.clock.now();
        if job.effect.is_none() {
            let reads = match request {
                Request::Modbus(request) => request.function().is_read(),
                Request::Dlt645(request) => matches!(request.body(), dlt645::Body::Read { .. }),
                Request::Cjt188(request) => request.function() == cjt188::Function::Read,
                // a frame that moves a relay has a type of its own
                Request::Gdw376(request) => matches!(request.afn(), Afn::QUERY | Afn::FORWARD) && !moves(request),
                Request::Mbus(_) | Request::Dlt698(_) => false,
            };
            assert!(reads, "a frame that changes something without a permit: {request:?}");
            return Some(meter.say(request, now));
        }
        assert_eq!(job.attempts, 1, "a relay frame that a line may repeat");
        let off = match request {
            Request::Modbus(request) => request.wire()[4] == 0,
            Request::Dlt645(request) => match request.body() {
                dlt645::Body::Relay(command) => command.action() == dlt645::relay::Action::Trip,
                _ => false,
            },
            Request::Gdw376(request) => {
                assert!(moves(request), "{request:?}");
                let inner = passed_on(request).unwrap();
                matches!(inner.body(), dlt645::Body::Relay(command) if command.action() == dlt645::relay::Action::Trip)
            }
            _ => request.wire().ends_with(&[0x99, 0x10, 0x16]),
        };
        self.frames.lock().unwrap().push((now, job.meter, off));
        self.wires.lock().unwrap().push(request.wire());
        let fate = self
            .fates
            .lock()
            .unwrap()
            .get_mut(&job.meter)
            .and_then(Vec::pop)
            .unwrap_or(Fate::Answers);
        if fate == Fate::RequestLost {
            return Some(Err(TransactionError::Timeout));
        }
        let answer = meter.say(request, now);
        match fate {
            Fate::Answers => Some(answer),
            Fate::Hangs => None,
            _ => Some(Err(TransactionError::Timeout)),
        }
    }
}

struct TestLink {
    field: Arc<Field>,
    dtu: DtuId,
}

#[async_trait]
impl Link for TestLink {
    async fn poll(&self, job: PollJob) -> Result<PollOutcome, LinkError> {
        let slow = *self.field.slow.lock().unwrap();
        tokio::time::sleep(slow).await;
        let began = self.field.clock.now();
        let mut reports = Vec::new();
        for request in &job.requests {
            let report = |result, attempts| TransactionReport {
                result,
                attempts,
                sent_at: began,
                ended_at: self.field.clock.now(),
                held: Default::default(),
                turnaround: Default::default(),
            };
            if !self.field.online.lock().unwrap().contains(&self.dtu) {
                reports.push(report(Err(TransactionError::SessionLost), 0));
                break;
            }
            if job.is_over(self.field.clock.monotonic()) {
                reports.push(report(Err(TransactionError::Deadline), 0));
                break;
            }
            match self.field.say(&job, request) {
                Some(result) => reports.push(report(result, 1)),
                None => std::future::pending().await,
            }
        }
        Ok(PollOutcome {
            began_at: Some(began),
            reports,
            frames: FrameRange::EMPTY,
            evidence: Default::default(),
            late_by: Default::default(),
        })
    }

    fn adopt(&self, _owner: Owner) {}

    fn close(&self, _cause: EndCause) {}

    fn stats(&self) -> LinkStats {
        LinkStats::default()
    }
}

/// Keeps raw frames nowhere.
struct FramesKept;

#[async_trait]
impl PollLog for FramesKept {
    async fn append(&self, _record: PollRecord) -> Result<Durable, SinkError> {
        Err(SinkError::Full("kept nowhere".into()))
    }
}

struct TestLines(Arc<Field>);

#[async_trait(?Send)]
impl Lines for TestLines {
    async fn lines(&self, dtus: Vec<DtuId>) -> Vec<Option<LineNow>> {
        let line = |dtu: DtuId| {
            let meters: Vec<_> = self.0.meters.iter().filter(|(_, meter)| meter.dtu == dtu).collect();
            let link: Arc<dyn Link> = Arc::new(TestLink {
                field: Arc::clone(&self.0),
                dtu,
            });
            let session = SessionId(*self.0.session.lock().unwrap());
            let online = self.0.online.lock().unwrap().contains(&dtu);
            Some(LineNow {
                record: Arc::new(record(dtu, &meters)),
                session: online.then_some((session, link)),
            })
        };
        dtus.into_iter().map(line).collect()
    }
}

fn record(dtu: DtuId, meters: &[(&MeterId, &Meter)]) -> DtuRecord {
    DtuRecord {
        id: dtu,
        account: ACCOUNT,
        sn: None,
        connect: Connect::Inbound,
        profile: None,
        silence_s: 180,
        timeout_ms: 200,
        pause_ms: 0,
        enabled: true,
        heartbeats: Vec::new(),
        meters: meters
            .iter()
            .map(|(id, meter)| MeterRecord {
                id: **id,
                account: ACCOUNT,
                dtu,
                protocol: meter.protocol.name().into(),
                address: meter.address.clone(),
                model: meter.model.into(),
                ct_ratio: Decimal::ONE,
                vt_ratio: Decimal::ONE,
                schedules: Vec::new(),
            })
            .collect(),
    }
}

/// A desk and all that it needs. Meter ids count from 1 over the DTUs; DTUs from 1.
pub struct World {
    pub db: TestDb,
    pub clock: Arc<ManualClock>,
    pub field: Arc<Field>,
    pub desk: Addr<ControlDesk>,
    pub settings: DeskSettings,
}

/// People: 1 and 2 and 3 operators of account 1, 4 its admin, 5 its viewer, 6 an operator of account 2.
pub fn person(user: i32) -> Scope {
    Scope {
        account: if user == 6 { AccountId(2) } else { ACCOUNT },
        actor: Actor {
            user: Some(UserId(user)),
            api_key: None::<ApiKeyId>,
            name: format!("p{user}@example.org"),
            source: None,
            request_id: None,
        },
    }
}

impl World {
    pub async fn new(dtus: i32, meters_each: u8) -> Self {
        let seed = |dtu: i32, unit: u8| u64::try_from((dtu - 1) * i32::from(meters_each) + i32::from(unit)).unwrap();
        let meters = (1..=dtus)
            .flat_map(|dtu| (1..=meters_each).map(move |unit| Meter::modbus(dtu, unit, seed(dtu, unit))))
            .collect();
        Self::of(meters).await
    }

    /// With these meters, whose ids count from 1.
    pub async fn of(meters: Vec<Meter>) -> Self {
        let dtus = meters.iter().map(|meter| meter.dtu.0).max().unwrap();
        let rows: Vec<String> = meters
            .iter()
            .map(|meter| {
                let (protocol, model) = (meter.protocol.name(), meter.model);
                format!(
                    "(1, {}, '{protocol}', '{}', '{model}', 'm', now())",
                    meter.dtu, meter.address
                )
            })
            .collect();
        let rows = rows.join(",\n");
        let db = TestDb::new().await;
        db.sql(&format!(
            "INSERT INTO account (name, created_at) VALUES ('a', now()), ('b', now());
             INSERT INTO app_user (account_id, email, password_hash, roles, created_at)
             SELECT CASE g WHEN 6 THEN 2 ELSE 1 END, 'p' || g || '@example.org', 'x',
                    ARRAY[CASE g WHEN 4 THEN 'admin' WHEN 5 THEN 'viewer' ELSE 'operator' END], now()
             FROM generate_series(1, 6) g;
             INSERT INTO dtu (account_id, sn, name, created_at)
             SELECT 1, 'SN-' || g, 'd' || g, now() FROM generate_series(1, {dtus}) g;
             INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at) VALUES {rows}"
        ))
        .await;
        let clock = Arc::new(ManualClock::new(
            Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).single().unwrap(),
        ));
        let meters = (1..).map(MeterId).zip(meters).collect();
        let field = Arc::new(Field {
            clock: Arc::clone(&clock),
            meters,
            fates: Mutex::default(),
            frames: Mutex::default(),
            wires: Mutex::default(),
            online: Mutex::new((1..=dtus).map(DtuId).collect()),
            session: Mutex::new(1),
            slow: Mutex::default(),
        });
        let settings = DeskSettings {
            enabled: true,
            limits: BrakeLimits::default(),
            visits_max: 64,
            open_max: 100_000,
            security: Security {
                password: Password::new(2, "000000").unwrap(),
                operator: Operator::new("00000001").unwrap(),
            },
        };
        let desk = open(&db, &clock, &field, settings.clone()).await;
        Self {
            db,
            clock,
            field,
            desk,
            settings,
        }
    }

    /// The next process over the same database and field. The one before is not asked to end in good order: it is gone.
    pub async fn killed(self) -> Self {
        self.killed_for(Duration::ZERO).await
    }

    /// The same, and so long nobody was there.
    pub async fn killed_for(self, down: Duration) -> Self {
        drop(self.desk);
        // its futures run on in this test's process; a real one is gone with them
        self.clock.advance(down);
        let desk = open(&self.db, &self.clock, &self.field, self.settings.clone()).await;
        Self { desk, ..self }
    }

    /// Ends in good order.
    pub async fn close(&self) {
        self.desk.send(CloseDesk).await.unwrap();
    }

    pub fn control(&self) -> ControlHandle {
        ControlHandle(self.desk.clone())
    }

    pub fn store(&self) -> Box<dyn CommandStore> {
        PgStores::new(self.db.database().clone()).in_account(person(1))
    }

    pub async fn ask(
        &self,
        user: i32,
        action: Action,
        meters: &[i32],
        expires_in_s: u32,
    ) -> Result<Admitted, ControlError> {
        let request = CommandRequest {
            action,
            meters: meters.iter().copied().map(MeterId).collect(),
            expires_in_s,
            reason: "test".into(),
            key: None,
        };
        self.control().request(person(user), request).await
    }

    /// One command for one meter, by person 1.
    pub async fn one(&self, action: Action, meter: i32) -> CommandId {
        self.ask(1, action, &[meter], 60).await.unwrap().commands[0].id
    }

    pub async fn decide(&self, user: i32, command: CommandId, decision: Decision) -> Result<State, ControlError> {
        self.control().decide(person(user), command, decision, None).await
    }

    pub async fn get(&self, command: CommandId) -> CommandView {
        self.store().get(command).await.unwrap()
    }

    pub async fn states(&self, command: CommandId) -> Vec<&'static str> {
        let history = self.get(command).await.history.unwrap();
        history.iter().map(|edge| edge.state.as_str()).collect()
    }

    /// Waits for a state, the clocks going on meanwhile.
    pub async fn until(&self, command: CommandId, wanted: State) -> CommandView {
        self.until_by(command, wanted, 4).await
    }

    /// The same, the clocks going on so many times as fast as real time.
    pub async fn until_by(&self, command: CommandId, wanted: State, factor: u32) -> CommandView {
        for _ in 0..1200 {
            let view = self.get(command).await;
            if view.state == wanted {
                return view;
            }
            self.pass(Duration::from_millis(25), factor).await;
        }
        let view = self.get(command).await;
        panic!("{command} is {:?}, not {wanted:?}: {view:#?}", view.state);
    }

    /// Real time passes, and `factor` times as much on the clocks.
    pub async fn pass(&self, real: Duration, factor: u32) {
        tokio::time::sleep(real).await;
        self.clock.advance(real * factor);
    }

    /// A few ticks pass: whatever was going to happen has.
    pub async fn settle(&self) {
        for _ in 0..6 {
            self.pass(Duration::from_millis(400), 3).await;
        }
    }

    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut self.db.superuser().await)
            .await
            .unwrap()
    }

    /// Sets the wall clock back while time goes on.
    pub fn set_back(&self, by: TimeDelta) {
        self.clock.step_to(self.clock.now() - by);
    }
}

async fn open(db: &TestDb, clock: &Arc<ManualClock>, field: &Arc<Field>, settings: DeskSettings) -> Addr<ControlDesk> {
    let parts = DeskParts {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        log: Arc::new(PgCommandLog::new(db.database())),
        lines: Rc::new(TestLines(Arc::clone(field))),
        catalogue: Arc::clone(&CATALOGUE),
        live: Arc::new(LiveHub::new(&**clock, LiveLimits::default())),
        polls: Arc::new(GrowingIds::starting_at(clock.now())),
        frames: Arc::new(FramesKept),
        settings,
    };
    ControlDesk::open(parts).await.unwrap()
}

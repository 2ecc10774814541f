//! Events of concentrators over a real socket and into a real database: each is kept once, a report is confirmed only behind
//! that, and what the counters tell of is asked for.

use crate::harness::db::TestDb;
use crate::net::{Port, port_with};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use polyphase::base::ids::{DtuId, MeterId, PollId};
use polyphase::net::NetSettings;
use polyphase::port::field::{PollJob, Priority};
use polyphase::port::scope::StoreError;
use polyphase::port::terminal_events::{TerminalEvent, TerminalEventLog};
use polyphase::protocol;
use polyphase::protocol::gdw376::event::{self, Events, Record};
use polyphase::protocol::gdw376::{
    self, Address, Afn, Ask, Control, Edition, Fn, Found, Id, Link, Message, NO_TERMINAL, Pn, Request, Spoken,
    Terminal, UnitId,
};
use polyphase::store::terminal_events::PgTerminalEvents;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const SN: &str = "4403-00004";
/// Nothing here takes so long.
const LONGEST: Duration = Duration::from_secs(120);

struct Mute;

impl Spoken for Mute {
    fn forward(&mut self, _: u8, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn control(&mut self, _: Id, _: &[u8]) -> bool {
        panic!("a control")
    }
}

/// The database's log, which counts what came of it.
struct Counted {
    inner: PgTerminalEvents,
    kept: AtomicUsize,
    failed: AtomicUsize,
}

#[async_trait]
impl TerminalEventLog for Counted {
    async fn keep(&self, dtu: DtuId, events: &[TerminalEvent], now: DateTime<Utc>) -> Result<u64, StoreError> {
        let kept = self.inner.keep(dtu, events, now).await;
        let count = if kept.is_ok() { &self.kept } else { &self.failed };
        count.fetch_add(1, Ordering::SeqCst);
        kept
    }
}

/// What a concentrator heard.
#[derive(Default)]
struct Heard {
    /// Confirmations of logins and heartbeats.
    links: usize,
    /// Confirmations of anything else.
    reports: usize,
    /// Questions for events.
    asked: usize,
}

/// A concentrator at the other end of a socket, written by hand: it answers questions, and reports when the test wants it.
struct Concentrator {
    terminal: Arc<Mutex<Terminal>>,
    heard: Arc<Mutex<Heard>>,
    socket: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Drop for Concentrator {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn wire(message: &Message) -> Vec<u8> {
    message.frame().unwrap().wire()
}

impl Concentrator {
    async fn dial(port: &Port, terminal: &Arc<Mutex<Terminal>>) -> Self {
        let (read, write) = TcpStream::connect(port.address).await.unwrap().into_split();
        let socket = Arc::new(tokio::sync::Mutex::new(write));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let reading = hear(read, Arc::clone(&socket), Arc::clone(terminal), Arc::clone(&heard));
        let concentrator = Self {
            terminal: Arc::clone(terminal),
            heard,
            socket,
            reading: tokio::spawn(reading),
        };
        concentrator.link(Link::Login).await;
        concentrator
    }

    async fn write(&self, bytes: &[u8]) {
        self.socket.lock().await.write_all(bytes).await.unwrap();
    }

    /// Says that it is there, until that is confirmed: whatever it said before has been heard then.
    async fn link(&self, link: Link) {
        let before = self.heard.lock().unwrap().links;
        let message = self.terminal.lock().unwrap().say(link);
        self.write(&wire(&message)).await;
        until("the confirmation of a link", async || {
            self.heard.lock().unwrap().links > before
        })
        .await;
    }

    /// A report of events, with a number of its own.
    fn report(&self, from: u8, records: &[Record]) -> Vec<u8> {
        let to = from + u8::try_from(records.len()).unwrap();
        let events = Events {
            counters: (to, 0),
            from,
            to,
            records: records.to_vec(),
        };
        let mut message = self.terminal.lock().unwrap().say(Link::Heartbeat);
        message.control = Control::REPORT;
        message.afn = Afn::EVENTS;
        let unit = UnitId::of(Id::terminal(Fn::F1));
        message.body = [&unit.wire()[..], &event::write(&events).unwrap()].concat();
        wire(&message)
    }

    /// Sends a report again and again, as terminals do, until something is so.
    async fn repeats(&self, report: &[u8], what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < LONGEST, "{what} did not happen");
            self.write(report).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn confirmed(&self) -> usize {
        self.heard.lock().unwrap().reports
    }

    fn asked(&self) -> usize {
        self.heard.lock().unwrap().asked
    }
}

/// The reading half: answers what is asked, and counts.
async fn hear(
    mut socket: OwnedReadHalf,
    answers: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    terminal: Arc<Mutex<Terminal>>,
    heard: Arc<Mutex<Heard>>,
) {
    let mut bytes = Vec::new();
    loop {
        while let Found::Frame { span, frame } = gdw376::find(&bytes) {
            bytes.drain(..span.end);
            let message = Message::of(&frame).unwrap();
            let said = {
                let mut heard = heard.lock().unwrap();
                match (message.afn, message.control) {
                    (Afn::CONFIRM, Control::LINK_STATE) => heard.links += 1,
                    (Afn::CONFIRM, _) => heard.reports += 1,
                    (Afn::EVENTS, _) => heard.asked += 1,
                    _ => {}
                }
                terminal.lock().unwrap().answer(&message, &mut Mute)
            };
            for frame in said {
                answers.lock().await.write_all(&frame.wire()).await.unwrap();
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return;
        }
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONGEST, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The supply went at 11:45 on the first of March; the number makes each record another one.
fn record(number: u8) -> Record {
    Record {
        code: 14,
        data: vec![0x45, 0x11, 0x01, 0x03, 0x26, number],
    }
}

fn point(number: u16) -> Id {
    Id {
        pn: Pn::new(number).unwrap(),
        item: Fn::new(129).unwrap(),
    }
}

/// A database with one concentrator in it, a port, and the terminal that will dial.
struct World {
    db: TestDb,
    log: Arc<Counted>,
    port: Port,
    terminal: Arc<Mutex<Terminal>>,
}

impl World {
    async fn new() -> Self {
        let db = TestDb::new().await;
        db.sql(&format!(
            "INSERT INTO account (name, created_at) VALUES ('a', '2026-01-01');
             INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, '{SN}', 'cellar', '2026-01-01')"
        ))
        .await;
        let log = Arc::new(Counted {
            inner: PgTerminalEvents::new(db.database()),
            kept: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        });
        let settings = NetSettings {
            gather_ms: 1,
            ..NetSettings::default()
        };
        let events = Arc::clone(&log) as Arc<dyn TerminalEventLog>;
        let port = port_with(settings, events, Duration::from_secs(3600));
        let mut terminal = Terminal::new(Address::parse(SN).unwrap(), Edition::E2013);
        let energy = [0x15, 0x08, 0x21, 0x11, 0x26, 0, 0, 0, 0, 0, 0];
        terminal.put(Afn::REALTIME, point(1), &[], energy.to_vec());
        Self {
            db,
            log,
            port,
            terminal: Arc::new(Mutex::new(terminal)),
        }
    }

    /// Dials, and is confirmed.
    async fn concentrator(&self) -> Concentrator {
        Concentrator::dial(&self.port, &self.terminal).await
    }

    /// How many rows there are, and how many different records.
    async fn rows(&self) -> (i64, i64) {
        sqlx::query_as("SELECT count(*), count(DISTINCT (code, data)) FROM terminal_event WHERE dtu_id = 1")
            .fetch_one(&mut self.db.superuser().await)
            .await
            .unwrap()
    }

    /// Reads a point, in whose answer the counters are seen.
    async fn visit(&self) {
        let ask = Request::new(NO_TERMINAL, Afn::REALTIME, [Ask::plain(point(1))]).unwrap();
        let job = || PollJob {
            poll: PollId(1),
            meter: MeterId(1),
            priority: Priority::OnDemand,
            requests: vec![protocol::Request::Gdw376(ask.clone())],
            instead: vec![Vec::new()],
            attempts: 3,
            timeout: Duration::from_secs(30),
            byte_time: Duration::ZERO,
            pause: Duration::ZERO,
            evidence: false,
            deadline: Instant::now() + LONGEST,
            effect: None,
        };
        // the link of the connection before may still be shown for a moment
        until("a visit", async || match self.port.link(SN).await.poll(job()).await {
            Ok(outcome) => outcome.reports.iter().all(|report| report.result.is_ok()),
            Err(_) => false,
        })
        .await;
    }
}

#[tokio::test]
async fn a_report_is_confirmed_behind_its_commit_and_kept_once() {
    let world = World::new().await;
    let concentrator = world.concentrator().await;
    // nobody can write: however often it is told, it is not confirmed
    let mut gate = world.db.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE terminal_event IN SHARE MODE")
        .execute(&mut gate)
        .await
        .unwrap();
    let report = concentrator.report(0, &[record(1), record(2)]);
    let mut other = world.db.superuser().await;
    concentrator
        .repeats(&report, "a write that waits", async || {
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                                WHERE NOT l.granted AND l.relation = 'terminal_event'::regclass
                                  AND d.datname = current_database())",
            )
            .fetch_one(&mut other)
            .await
            .unwrap()
        })
        .await;
    concentrator.link(Link::Heartbeat).await;
    assert_eq!((concentrator.confirmed(), world.rows().await), (0, (0, 0)));
    sqlx::raw_sql("ROLLBACK").execute(&mut gate).await.unwrap();
    concentrator
        .repeats(&report, "the confirmation", async || concentrator.confirmed() > 0)
        .await;
    assert_eq!(world.rows().await, (2, 2));

    // once more, as if the confirmation had been lost: confirmed again, kept no second time
    concentrator.link(Link::Heartbeat).await;
    let (confirmed, kept) = (concentrator.confirmed(), world.log.kept.load(Ordering::SeqCst));
    concentrator.write(&report).await;
    until("the second confirmation", async || concentrator.confirmed() > confirmed).await;
    assert_eq!(world.log.kept.load(Ordering::SeqCst), kept, "not told again");
    // and on another connection, where nobody remembers it: written down again, one row all the same
    drop(concentrator);
    let concentrator = world.concentrator().await;
    concentrator
        .repeats(&report, "the third confirmation", async || concentrator.confirmed() > 0)
        .await;
    assert!(world.log.kept.load(Ordering::SeqCst) > kept);
    assert_eq!(world.rows().await, (2, 2));
    let first: (i16, bool, Option<chrono::NaiveDateTime>) =
        sqlx::query_as("SELECT code, important, happened_at FROM terminal_event ORDER BY id LIMIT 1")
            .fetch_one(&mut world.db.superuser().await)
            .await
            .unwrap();
    assert_eq!(first, (14, true, Some("2026-03-01T11:45:00".parse().unwrap())));
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_confirmed_and_nothing_is_lost() {
    let world = World::new().await;
    let concentrator = world.concentrator().await;
    let name = &world.db.name;
    world
        .db
        .outside(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        .await;
    world
        .db
        .outside(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    let report = concentrator.report(0, &[record(1)]);
    concentrator
        .repeats(&report, "two writes that fail", async || {
            world.log.failed.load(Ordering::SeqCst) >= 2
        })
        .await;
    concentrator.link(Link::Heartbeat).await;
    assert_eq!(
        (concentrator.confirmed(), world.log.kept.load(Ordering::SeqCst)),
        (0, 0)
    );
    world
        .db
        .outside(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await;
    concentrator
        .repeats(&report, "the confirmation", async || concentrator.confirmed() > 0)
        .await;
    assert_eq!(world.rows().await, (1, 1));
}

#[tokio::test]
async fn where_the_counters_jump_the_events_are_asked_for_and_kept_once() {
    let world = World::new().await;
    let happen = |numbers: std::ops::Range<u8>| {
        let mut terminal = world.terminal.lock().unwrap();
        numbers.for_each(|number| terminal.happen(true, record(number)));
    };
    happen(0..3);
    world.terminal.lock().unwrap().happen(false, record(200));
    let concentrator = world.concentrator().await;
    world.visit().await;
    until("the first events", async || world.rows().await == (4, 4)).await;
    // forty more than were seen, which are more than are asked for at once
    happen(3..43);
    world.visit().await;
    until("the jump", async || world.rows().await == (44, 44)).await;
    let asked = concentrator.asked();
    world.visit().await;
    world.visit().await;
    assert_eq!(concentrator.asked(), asked, "nothing is new");
    // on another connection nobody knows what was seen: the latest are asked for again, and are there already
    drop(concentrator);
    let concentrator = world.concentrator().await;
    world.visit().await;
    until("both lists", async || concentrator.asked() >= 2).await;
    happen(43..44);
    world.visit().await;
    until("the last", async || world.rows().await == (45, 45)).await;
    assert_eq!(world.log.failed.load(Ordering::SeqCst), 0);
}

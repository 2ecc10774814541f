//! Events of DL/T 698.45 terminals over a real socket and into a real database: each is kept once, whole reports and reports in
//! parts, and confirmed only behind that.

use crate::harness::db::TestDb;
use crate::net::{Port, port_with};
use chrono::{NaiveDate, NaiveDateTime};
use polyphase::net::NetSettings;
use polyphase::port::terminal_events::{TerminalEventLog, event_detail};
use polyphase::protocol::dlt698::event::{BEGAN_AT, ENDED_AT, NUMBER, REPORTED, SOURCE};
use polyphase::protocol::dlt698::terminal::Device;
use polyphase::protocol::dlt698::{
    Address, Answered, Apdu, Control, Csd, Data, DateTimeS, Frame, LinkKind, Many, Next, Oad, Part, Piid, RecordResult,
    Report, Rows, Segment, Tsa, next, split,
};
use polyphase::store::terminal_events::PgTerminalEvents;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SN: &str = "112233445566";
const METER: &str = "202611220001";
const CLOCK_OFF: Oad = Oad::new(0x3105, 2);
/// Nothing here takes so long.
const LONGEST: Duration = Duration::from_secs(120);

fn at(minute: u32) -> NaiveDateTime {
    let day = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    day.and_hms_opt(10, minute % 60, 0).unwrap()
}

/// A report of records; how often it was reported before stands in it, and changes.
fn report(number: u8, records: std::ops::Range<u32>, before: u8) -> Apdu {
    let meter = Tsa::of(&Address::parse(METER).unwrap());
    let row = |number: u32| {
        vec![
            Data::UInt32(number),
            Data::DateTimeS(DateTimeS::of(at(number))),
            Data::Null,
            Data::Tsa(meter.clone()),
            Data::Array(vec![Data::UInt8(before)]),
        ]
    };
    let record = RecordResult {
        oad: CLOCK_OFF,
        columns: [NUMBER, BEGAN_AT, ENDED_AT, SOURCE, REPORTED].map(Csd::Oad).to_vec(),
        rows: Rows::Rows(records.map(row).collect()),
    };
    Apdu::Report(Answered::new(Piid::new(number), Report::Records(Many::one(record))))
}

/// The terminal's side of a connection.
struct Terminal {
    socket: TcpStream,
    device: Device,
    buffer: Vec<u8>,
}

impl Terminal {
    async fn dial(port: &Port) -> Self {
        let mut terminal = Self {
            socket: TcpStream::connect(port.address).await.unwrap(),
            device: Device::new(Address::parse(SN).unwrap(), 1024),
            buffer: Vec::new(),
        };
        terminal.link(LinkKind::Login).await;
        terminal
    }

    async fn write(&mut self, frame: &Frame) {
        self.socket.write_all(&frame.wire()).await.unwrap();
    }

    /// The next frame.
    async fn hears(&mut self) -> Frame {
        let hears = async {
            loop {
                if let Next::Frame { span, frame } = next(&self.buffer) {
                    self.buffer.drain(..span.end);
                    return frame;
                }
                assert_ne!(self.socket.read_buf(&mut self.buffer).await.unwrap(), 0, "it hangs up");
            }
        };
        tokio::time::timeout(LONGEST, hears).await.expect("it says nothing")
    }

    /// Says that it is there: whatever it said before has been heard when that is answered. What came before is told.
    async fn link(&mut self, kind: LinkKind) -> Vec<Frame> {
        let link = self.device.link(Piid::new(1), kind, 60, at(0)).unwrap();
        self.write(&link).await;
        let mut before = Vec::new();
        loop {
            let frame = self.hears().await;
            match Apdu::parse(frame.data()) {
                Ok(Apdu::LinkResponse(_)) => return before,
                _ => before.push(frame),
            }
        }
    }

    fn frame(&self, control: Control, data: Vec<u8>) -> Frame {
        Frame::new(control, self.device.address(), 0, data).unwrap()
    }

    /// Sends a report again and again, as terminals do, until something is so. How often it was confirmed meanwhile.
    async fn repeats(&mut self, apdu: &Apdu, what: &str, mut is_so: impl AsyncFnMut(usize) -> bool) -> usize {
        let (began, mut confirmed) = (Instant::now(), 0);
        while !is_so(confirmed).await {
            assert!(began.elapsed() < LONGEST, "{what} did not happen");
            let frame = self.frame(Control::REPORT, apdu.wire());
            self.write(&frame).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let heard = self.link(LinkKind::Heartbeat).await;
            confirmed += heard.iter().filter(|frame| confirms(frame, apdu)).count();
        }
        confirmed
    }
}

/// Whether a frame confirms a report.
fn confirms(frame: &Frame, report: &Apdu) -> bool {
    let Ok(Apdu::ReportAck(ack)) = Apdu::parse(frame.data()) else {
        return false;
    };
    assert_eq!(frame.control, Control::CONFIRMATION);
    report.piid().is_some_and(|piid| piid.number() == ack.piid.number())
}

struct World {
    db: TestDb,
    port: Port,
}

impl World {
    async fn new() -> Self {
        let db = TestDb::new().await;
        db.sql(&format!(
            "INSERT INTO account (name, created_at) VALUES ('a', '2026-01-01');
             INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, '{SN}', 'cellar', '2026-01-01')"
        ))
        .await;
        let log = Arc::new(PgTerminalEvents::new(db.database())) as Arc<dyn TerminalEventLog>;
        let port = port_with(NetSettings::default(), log, Duration::from_secs(3600));
        Self { db, port }
    }

    async fn rows(&self) -> Vec<(i16, bool, Option<NaiveDateTime>, Vec<u8>)> {
        sqlx::query_as("SELECT code, important, happened_at, data FROM terminal_event WHERE dtu_id = 1 ORDER BY id")
            .fetch_all(&mut self.db.superuser().await)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_report_of_events_is_confirmed_behind_its_commit_and_kept_once() {
    let world = World::new().await;
    let mut terminal = Terminal::dial(&world.port).await;
    // nobody can write: however often it is told, it is not confirmed
    let mut gate = world.db.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE terminal_event IN SHARE MODE")
        .execute(&mut gate)
        .await
        .unwrap();
    let told = report(3, 0..2, 0);
    let mut other = world.db.superuser().await;
    let confirmed = terminal
        .repeats(&told, "a write that waits", async |_| {
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
    assert_eq!((confirmed, world.rows().await.len()), (0, 0));
    sqlx::raw_sql("ROLLBACK").execute(&mut gate).await.unwrap();
    terminal
        .repeats(&told, "the confirmation", async |confirmed| confirmed > 0)
        .await;
    let rows = world.rows().await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].0, rows[0].1, rows[0].2), (0x3105, true, Some(at(0))));
    let detail = event_detail(0x3105, &rows[1].3);
    assert_eq!((detail.device.as_deref(), detail.number), (Some(METER), Some(1)));

    // on another connection, where nobody remembers it, under another number, with another state of its reports, and with one that
    // is new: the same records all the same
    drop(terminal);
    let mut terminal = Terminal::dial(&world.port).await;
    terminal
        .repeats(&report(9, 0..3, 2), "the second confirmation", async |confirmed| {
            confirmed > 0
        })
        .await;
    assert_eq!(world.rows().await.len(), 3);
}

#[tokio::test]
async fn a_report_in_parts_is_kept_as_one() {
    let world = World::new().await;
    let mut terminal = Terminal::dial(&world.port).await;
    let told = report(5, 0..60, 0);
    let wire = told.wire();
    let parts = split(&wire, 256);
    assert!(parts.len() > 3);
    // each when the one before was confirmed, and all of it again until the report is
    let began = Instant::now();
    'again: loop {
        assert!(began.elapsed() < LONGEST, "it is not confirmed");
        for part in &parts {
            let frame = terminal.frame(Control::REPORT.segmented(), part.wire());
            terminal.write(&frame).await;
            if part.part == Part::Last {
                break;
            }
            let heard = terminal.hears().await;
            if confirms(&heard, &told) {
                break 'again;
            }
            assert_eq!(heard.control, Control::CONFIRMATION.segmented());
            let confirmed = Segment::parse(heard.data()).unwrap();
            assert_eq!((confirmed.part, confirmed.number), (Part::Confirmation, part.number));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let heard = terminal.link(LinkKind::Heartbeat).await;
        if heard.iter().any(|frame| confirms(frame, &told)) {
            break;
        }
    }
    assert_eq!(world.rows().await.len(), 60);
}

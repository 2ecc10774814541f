//! What a terminal of DL/T 698.45 reports of its own accord, over a real socket: readings of the meters behind it, durable
//! before the terminal learns of it; nothing of meters that it does not have.

use super::books::Books;
use super::field::{Field, at, dtu};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, FrameId, FrameRange, MeterId};
use polyphase::domain::device::{DtuRecord, SerialNumber};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Reading, Source, Value};
use polyphase::net::{Accepted, Gate, Listener, NetDeps, NetSettings, accept_loop, run_connection};
use polyphase::port::fake::Unheard;
use polyphase::port::fleet::Fleet;
use polyphase::port::frames::{FrameRecorder, RawFrame};
use polyphase::protocol::dlt698::terminal::Device;
use polyphase::protocol::dlt698::{
    Address, Apdu, Csd, Data, DateTimeS, FROZEN_AT, LinkKind, Many, Next, Oad, Piid, ROW_OF, RecordResult, Report,
    Road, Rows, TASK_ROWS, Tsa, next,
};
use polyphase::protocol::dtu::Profile;
use rust_decimal::{Decimal, dec};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const TERMINAL: &str = "112233445566";
const ENERGY: Oad = Oad::new(0x0010, 2);
/// Long enough on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Numbered;

impl FrameRecorder for Numbered {
    fn record(&self, frames: Vec<RawFrame>) -> FrameRange {
        FrameRange {
            first: FrameId(77),
            count: u16::try_from(frames.len()).unwrap(),
        }
    }
}

fn address(meter: u32) -> String {
    format!("2026{meter:08}")
}

/// A terminal with the meters 11 and 12, in a zone that is two hours ahead.
fn terminal() -> DtuRecord {
    let mut record = dtu(1, 2);
    record.sn = Some(SerialNumber::parse(TERMINAL).unwrap());
    for meter in &mut record.meters {
        meter.protocol = "dlt698.45".into();
        meter.address = address(u32::try_from(meter.id.0).unwrap());
        meter.model = "dlt698_three_phase".into();
    }
    record
}

fn day(year: i32, month: u32, day: u32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(year, month, day)
        .unwrap()
        .and_hms_opt(0, 0, 0)
        .unwrap()
}

/// Freezes of meters, each with the register that it had then, in hundredths.
fn freezes(rows: &[(u32, NaiveDateTime, u32)]) -> Report {
    let columns = vec![FROZEN_AT, ENERGY];
    let oad = Oad::new(0x5004, 2);
    let row = |(meter, at, energy): &(u32, NaiveDateTime, u32)| {
        let meter = Tsa::of(&Address::parse(&address(*meter)).unwrap());
        let energies = Data::Array(vec![Data::UInt32(*energy); 5]);
        let frozen = vec![Data::DateTimeS(DateTimeS::of(*at)), energies];
        vec![Data::Tsa(meter), Data::Structure(frozen)]
    };
    Report::Records(Many::one(RecordResult {
        oad: TASK_ROWS,
        columns: vec![Csd::Oad(ROW_OF), Csd::Road(Road { oad, columns })],
        rows: Rows::Rows(rows.iter().map(row).collect()),
    }))
}

/// The terminal's side of a connection.
struct Peer {
    socket: TcpStream,
    device: Device,
    buffer: Vec<u8>,
}

impl Peer {
    /// Logs in, and is known.
    async fn new(port: SocketAddr, field: &Field) -> Self {
        let mut peer = Self {
            socket: TcpStream::connect(port).await.unwrap(),
            device: Device::new(Address::parse(TERMINAL).unwrap(), 1024),
            buffer: Vec::new(),
        };
        peer.says_on_the_link(LinkKind::Login).await;
        let known = async {
            while !field.fleet.live(&[DtuId(1)]).await[0].online {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        // answered behind the admission
        peer.says_on_the_link(LinkKind::Heartbeat).await;
        peer
    }

    async fn says_on_the_link(&mut self, kind: LinkKind) {
        let link = self.device.link(Piid::new(1), kind, 60, day(2026, 3, 2)).unwrap();
        self.socket.write_all(&link.wire()).await.unwrap();
        let answer = self.hears().await;
        assert!(matches!(answer, Apdu::LinkResponse(_)), "{answer:?}");
    }

    async fn reports(&mut self, number: u8, report: Report) {
        let frame = self.device.report(Piid::new(number), report).unwrap();
        self.socket.write_all(&frame.wire()).await.unwrap();
    }

    /// The next frame.
    async fn hears(&mut self) -> Apdu {
        loop {
            if let Next::Frame { span, frame } = next(&self.buffer) {
                let apdu = Apdu::parse(frame.data()).unwrap();
                self.buffer.drain(..span.end);
                return apdu;
            }
            let mut chunk = [0; 512];
            let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut chunk)).await;
            let read = read.expect("it says nothing").unwrap();
            assert_ne!(read, 0, "it hangs up");
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    /// Which report is confirmed next.
    async fn hears_confirmed(&mut self) -> u8 {
        match self.hears().await {
            Apdu::ReportAck(ack) => ack.piid.number(),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn port(field: &Field, stop: &CancellationToken) -> SocketAddr {
    let deps = NetDeps {
        clock: Arc::clone(&field.clock) as Arc<dyn Clock>,
        registrar: Arc::new(field.registrar.clone()),
        recorder: Arc::new(Numbered),
        live: Arc::new(Unheard),
        terminal_events: Arc::new(polyphase::port::terminal_events::KeptNowhere),
        settings: Arc::new(NetSettings::default()),
        stop: stop.clone(),
    };
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Profile::default(), &deps.settings).unwrap();
    let address = listener.address().unwrap();
    let gate = Gate::new(&deps.settings);
    let on_accept = move |accepted: Accepted| drop(tokio::spawn(run_connection(accepted, deps.clone())));
    actix::spawn(accept_loop(listener, gate, stop.clone(), on_accept));
    address
}

/// What a reading is known by, and its register.
fn essence(reading: &Reading) -> (MeterId, DateTime<Utc>, Source, Option<Decimal>) {
    let import = Measurand::Standard(Quantity::ActiveEnergyImport);
    let item = reading.items.iter().find(|item| item.measurand == import);
    let energy = item.and_then(|item| match item.value {
        Value::Decimal(value) => Some(value),
        _ => None,
    });
    (reading.meter, reading.ts, reading.source, energy)
}

pub(super) fn stored(books: &Books) -> Vec<(MeterId, DateTime<Utc>, Source, Option<Decimal>)> {
    let mut readings: Vec<_> = books.readings().iter().map(essence).collect();
    readings.sort_by_key(|(meter, ts, ..)| (*meter, *ts));
    readings
}

#[test]
fn what_a_terminal_reports_is_durable_before_it_is_confirmed_and_counts_once() {
    actix::System::new().block_on(async {
        let field = Field::new(vec![terminal()]).await;
        let (books, stop) = (&field.books, CancellationToken::new());
        let port = port(&field, &stop);
        let mut peer = Peer::new(port, &field).await;
        let (today, yesterday) = (day(2026, 3, 2), day(2026, 3, 1));
        // midnight in the meters' zone
        let began = |day: NaiveDateTime| day.and_utc() - chrono::TimeDelta::hours(2);

        // a disk that refuses: not confirmed; whoever comes again is kept then
        books.refuses.store(true, Ordering::SeqCst);
        let good = || freezes(&[(11, today, 123_456), (12, today, 654_321), (11, yesterday, 120_000)]);
        peer.reports(1, good()).await;
        let refused = async {
            while books.refused.load(Ordering::SeqCst) < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.unwrap();
        peer.says_on_the_link(LinkKind::Heartbeat).await;
        assert!(books.readings().is_empty());
        books.refuses.store(false, Ordering::SeqCst);
        // slow enough to be seen if it were not waited for
        books.takes_ms.store(300, Ordering::SeqCst);

        // one after the other: of a meter that it does not have; of a day that has not come; of a clock that was never set; and
        // one that is in order
        let next_year = day(2027, 3, 2);
        for (number, row) in [
            (2, (99, today, 1)),
            (3, (11, next_year, 1)),
            (4, (11, day(2000, 1, 1), 1)),
        ] {
            peer.reports(number, freezes(&[row])).await;
        }
        peer.reports(6, good()).await;
        assert_eq!(peer.hears_confirmed().await, 6);
        let expected = [
            (MeterId(11), began(yesterday), Source::Pushed, Some(dec!(1200))),
            (MeterId(11), began(today), Source::Pushed, Some(dec!(1234.56))),
            (MeterId(12), began(today), Source::Pushed, Some(dec!(6543.21))),
        ];
        assert_eq!(stored(books), expected, "durable by now, and nothing else is");
        for reading in books.readings() {
            assert_eq!(
                (reading.meter_time, reading.frames.first),
                (Some(reading.ts), FrameId(77))
            );
            assert!(reading.read_at >= at(0) && reading.items.len() == 5);
        }

        // the same again: confirmed again, and kept once
        peer.reports(6, good()).await;
        assert_eq!(peer.hears_confirmed().await, 6);
        assert_eq!(stored(books), expected);

        // a neighbour of somebody else's meter is kept, but the report is not confirmed
        let stranger = freezes(&[(12, yesterday, 650_000), (99, yesterday, 1)]);
        peer.reports(7, stranger).await;
        peer.reports(8, freezes(&[(12, today, 654_321)])).await;
        assert_eq!(peer.hears_confirmed().await, 8);
        let of_meter = |meter| stored(books).into_iter().filter(move |row| row.0 == MeterId(meter));
        assert!(of_meter(12).any(|row| row == (MeterId(12), began(yesterday), Source::Pushed, Some(dec!(6500)))));
        assert_eq!(
            (of_meter(11).count(), of_meter(12).count(), stored(books).len()),
            (2, 3, 5)
        );

        // a session later it makes the same readings: the store knows them by meter, moment and source
        drop(peer);
        let mut peer = Peer::new(port, &field).await;
        peer.reports(6, good()).await;
        assert_eq!(peer.hears_confirmed().await, 6);
        let mut all = stored(books);
        assert_eq!(all.len(), 8);
        all.dedup();
        assert_eq!(all.len(), 4);
        stop.cancel();
    });
}

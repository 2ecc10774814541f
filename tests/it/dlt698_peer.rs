//! An independent DL/T 698.45 device (PyPI dlt698, another people's reading of the standard) on a real socket: as a meter
//! that is dialled, and as a concentrator that dials in.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test's helper may fail its test"
)]

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use polyphase::exchange::Moment;
use polyphase::exchange::proxy::{Proxy, ProxyEvent, ProxySettings, Reported};
use polyphase::protocol::dlt698::event::Event;
use polyphase::protocol::dlt698::{
    self, ADDRESS, Address, AnswerError, Answered, Apdu, Auth, CLOCK, ConnectRequest, Csd, Dar, Data, DateTimeS, Frame,
    GetResult, LinkKind, Next, Oad, Omd, Parameters, Piid, ProxyResult, Refusal, Report, Request, Rows, Rsd, Tsa,
    ValueResult, objects,
};
use polyphase::protocol::{Finding, Verdict};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ENERGY: Oad = Oad::new(0x0010, 2);
const DAYS: Oad = Oad::new(0x5004, 2);
const NUMBER: Oad = Oad::new(0x2023, 2);
const WRITABLE: Oad = Oad::new(0x4500, 2);

/// The peer, ended when the test is over.
struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // its input ends, and so does it; whatever happens, it does not outlive the test
        drop(self.child.stdin.take());
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Peer {
    fn start(arguments: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/peers/bin/python");
        assert!(python.is_file(), "the peers are not there: run scripts/install.sh test");
        let mut child = Command::new(python)
            .arg(root.join("tests/peers/dlt698_peer.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The connection that it makes; it may not come up at all, and then nobody waits for ever.
    fn comes(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).unwrap();
                    return socket;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let ended = self.child.try_wait().unwrap();
                    assert!(ended.is_none(), "the peer ended: {ended:?}");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }
}

/// Our end of the socket.
struct Link {
    socket: TcpStream,
    buffer: Vec<u8>,
    address: Address,
    piid: Piid,
    /// How many parts and blocks were asked for.
    joined: usize,
}

impl Link {
    fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        Self {
            socket,
            buffer: Vec::new(),
            address: Address::parse("112233445566").unwrap(),
            piid: Piid::new(0),
            joined: 0,
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 512];
        let read = self.socket.read(&mut chunk).expect("bytes within the time");
        assert!(read > 0, "the peer hung up");
        self.buffer.extend_from_slice(&chunk[..read]);
    }

    /// The next frame, whatever it is.
    fn frame(&mut self) -> Frame {
        loop {
            match dlt698::next(&self.buffer) {
                Next::Frame { span, frame } => {
                    self.buffer.drain(..span.end);
                    return frame;
                }
                Next::NeedMore { noise } => {
                    self.buffer.drain(..noise);
                    self.read();
                }
            }
        }
    }

    fn send(&mut self, frame: &Frame) {
        self.socket.write_all(&frame.wire()).unwrap();
    }

    /// The answer's frame; strays are dropped.
    fn exchange(&mut self, request: &Request) -> Vec<u8> {
        self.socket.write_all(&request.wire()).unwrap();
        loop {
            match request.find(&self.buffer) {
                Finding::NeedMore { noise } => {
                    self.buffer.drain(..noise);
                    self.read();
                }
                Finding::Frame { span, verdict } => {
                    let frame = self.buffer[span.clone()].to_vec();
                    self.buffer.drain(..span.end);
                    if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                        return frame;
                    }
                }
            }
        }
    }

    /// Asks until the answer is whole, as a line does.
    fn ask(&mut self, request: &Request) -> Result<Apdu, AnswerError> {
        let (mut asked, mut answers) = (request.clone(), Vec::new());
        loop {
            answers.extend(self.exchange(&asked));
            match request.follow_up(&answers) {
                Some(follow) => asked = follow,
                None => return request.reply(&answers),
            }
            self.joined += 1;
        }
    }

    fn next_piid(&mut self) -> Piid {
        self.piid = self.piid.next();
        self.piid
    }

    fn connect(&mut self) {
        let connect = Apdu::ConnectRequest(Box::new(ConnectRequest {
            piid: self.next_piid(),
            parameters: Parameters::ALL,
            auth: Auth::None,
            time_tag: None,
        }));
        let answer = self.ask(&Request::new(self.address, connect).unwrap());
        assert!(matches!(answer, Ok(Apdu::ConnectResponse(_))), "{answer:?}");
    }

    /// The values of attributes, as people read them.
    fn values(&mut self, oads: &[Oad]) -> Vec<String> {
        let request = Request::get(self.address, self.next_piid(), oads).unwrap();
        let Ok(Apdu::GetAnswer(answered)) = self.ask(&request) else {
            panic!("no answer")
        };
        let items = match answered.body {
            GetResult::Normal(item) => vec![item],
            GetResult::List(list) => list.into_inner(),
            other => panic!("{other:?}"),
        };
        let mut texts = Vec::new();
        for item in &items {
            match &item.result {
                ValueResult::Dar(dar) => texts.push(dar.to_string()),
                ValueResult::Data(data) => texts.extend(objects::values(item.oad, data).iter().map(|value| {
                    let number = value
                        .number
                        .map_or_else(|| value.data.to_string(), |number| number.to_string());
                    let at = value.at.map_or_else(String::new, |at| format!(" at {at}"));
                    format!("{number} {}{at}", value.item.unit).trim().to_owned()
                })),
            }
        }
        texts
    }

    fn rows(&mut self, rows: Rsd, columns: &[Oad]) -> Vec<Vec<String>> {
        let columns = columns.iter().copied().map(Csd::Oad).collect();
        let request = Request::get_record(self.address, self.next_piid(), DAYS, rows, columns).unwrap();
        let Ok(Apdu::GetAnswer(Answered {
            body: GetResult::Record(record),
            ..
        })) = self.ask(&request)
        else {
            panic!("no record")
        };
        let Rows::Rows(rows) = &record.rows else {
            panic!("{record:?}")
        };
        let cells = |row: &Vec<Data>| record.cells(row).iter().map(|(_, data)| data.to_string()).collect();
        rows.iter().map(cells).collect()
    }
}

fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, number).unwrap()
}

/// Every value that the peer has, as it was given them.
fn agrees(link: &mut Link) {
    let energies = ["1234.56 kWh", "123.45 kWh", "222.22 kWh", "543.21 kWh", "345.68 kWh"];
    assert_eq!(link.values(&[ENERGY]), energies);
    let precise = [
        "1234.5678 kWh",
        "123.4500 kWh",
        "222.2200 kWh",
        "543.2100 kWh",
        "345.6878 kWh",
    ];
    assert_eq!(link.values(&[Oad::new(0x0010, 4)]), precise);
    let list = [0x2000, 0x2001, 0x2004, 0x200A, 0x200F, 0x2099].map(|oi| Oad::new(oi, 2));
    assert_eq!(
        link.values(&list),
        [
            "230.1 V",
            "231.2 V",
            "232.3 V",
            "5.123 A",
            "6.234 A",
            "-7.345 A",
            "1500.0 W",
            "500.0 W",
            "500.0 W",
            "-500.0 W",
            "0.987",
            "0.991",
            "0.985",
            "-0.980",
            "49.98 Hz",
            "object undefined (4)"
        ]
    );
    assert_eq!(link.values(&[CLOCK]), ["2026-11-21 08:23:59"]);
    assert_eq!(link.values(&[ADDRESS]), ["202611210001"]);
    assert_eq!(link.values(&[Oad::element(0x0010, 2, 3)]), ["222.22 kWh"]);
    assert_eq!(
        link.values(&[Oad::element(0x1010, 2, 1)]),
        ["1.2345 kW at 2026-11-11 18:15:00"]
    );

    // one day's freeze by its time, the last but one, and all of them, which do not fit a frame
    let columns = [NUMBER, Oad::element(0x0010, 2, 1)];
    let frozen = Request::frozen(link.address, link.next_piid(), DAYS, day(7), &columns).unwrap();
    let Ok(Apdu::GetAnswer(Answered {
        body: GetResult::Record(record),
        ..
    })) = link.ask(&frozen)
    else {
        panic!()
    };
    let at = Data::DateTimeS(DateTimeS::midnight(day(7)));
    assert_eq!(
        record.rows,
        Rows::Rows(vec![vec![at, Data::UInt32(7), Data::UInt32(1007)]])
    );
    assert_eq!(link.rows(Rsd::Back(1), &columns), [["20", "1020"]]);
    let all = link.rows(Rsd::All, &columns);
    assert_eq!(
        (all.len(), all[0].clone()),
        (20, vec!["1".to_owned(), "1001".to_owned()])
    );

    // written, read back, refused
    let set = Request::set(link.address, link.next_piid(), WRITABLE, Data::UInt16(360)).unwrap();
    assert!(link.ask(&set).is_ok());
    assert_eq!(link.values(&[WRITABLE]), ["360"]);
    let denied = Request::set(link.address, link.next_piid(), ENERGY, Data::Null).unwrap();
    assert!(matches!(link.ask(&denied), Err(AnswerError::Refused(Refusal::Dar(_)))));
    let unknown = Request::action(link.address, link.next_piid(), Omd::new(0x4500, 9), Data::Null).unwrap();
    assert!(matches!(link.ask(&unknown), Err(AnswerError::Refused(_))));
    let nobody = Request::get(link.address, link.next_piid(), &[Oad::new(0x2099, 2)]).unwrap();
    assert_eq!(
        link.ask(&nobody),
        Err(AnswerError::Refused(Refusal::Dar(Dar::UNDEFINED)))
    );
}

#[test]
fn an_independent_meter_is_read_and_agrees_on_every_value() {
    for how in ["parts", "blocks"] {
        let mut peer = Peer::start(&["meter", how]);
        let port: u16 = peer.says().parse().expect("the peer says its port");
        let mut link = Link::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
        link.connect();
        agrees(&mut link);
        // the peer with small frames sent its rows in several
        assert!(link.joined > 0, "{how}");
    }
}

fn now() -> NaiveDateTime {
    // any clock does: the peer does not judge it
    day(21).and_hms_milli_opt(8, 24, 4, 15).unwrap()
}

#[test]
fn an_independent_concentrator_dials_in_and_reads_its_meter_for_us() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut peer = Peer::start(&["terminal", &port]);
    let mut link = Link::new(peer.comes(&listener));

    let login = link.frame();
    let Ok(Apdu::LinkRequest(request)) = Apdu::parse(login.data()) else {
        panic!("{login:?}")
    };
    assert_eq!((request.kind, login.address), (LinkKind::Login, link.address));
    link.send(&dlt698::link_response(&login, &request, 0, now(), now()).unwrap());
    link.connect();
    agrees(&mut link);

    // one meter is behind it, another is not
    let meter = Address::parse("202611210001").unwrap();
    let within = NonZeroU16::new(30).unwrap();
    let asked = [(meter, vec![ENERGY, Oad::new(0x2099, 2)])];
    let request = Request::proxy_get(link.address, link.next_piid(), within, &asked).unwrap();
    let Ok(Apdu::ProxyAnswer(Answered {
        body: ProxyResult::Get(targets),
        ..
    })) = link.ask(&request)
    else {
        panic!()
    };
    assert_eq!((targets.len(), targets[0].server.clone()), (1, Tsa::of(&meter)));
    let ValueResult::Data(data) = &targets[0].items[0].result else {
        panic!("{targets:?}")
    };
    assert_eq!(data.elements()[0], Data::UInt32(123_456));
    assert_eq!(targets[0].items[1].result, ValueResult::Dar(Dar::UNDEFINED));

    peer.tell("heartbeat");
    let beat = link.frame();
    let Ok(Apdu::LinkRequest(request)) = Apdu::parse(beat.data()) else {
        panic!("{beat:?}")
    };
    assert_eq!((request.kind, request.heartbeat_s), (LinkKind::Heartbeat, 300));
    link.send(&dlt698::link_response(&beat, &request, 0, now(), now()).unwrap());
    assert_eq!(peer.says(), "done");

    peer.tell("report");
    let frame = link.frame();
    let Ok(Apdu::Report(report)) = Apdu::parse(frame.data()) else {
        panic!("{frame:?}")
    };
    let Report::Items(items) = &report.body else {
        panic!("{report:?}")
    };
    assert_eq!(items[0].oad, Oad::new(0x200F, 2));
    assert_eq!(items[0].result, ValueResult::Data(Data::UInt16(4998)));
    link.send(&dlt698::confirm_report(&frame, &report).unwrap());
    assert_eq!(peer.says(), "done");
}

/// What the proxy says, until it reports: the report. What it writes is sent.
fn reported(proxy: &mut Proxy, link: &mut Link) -> (Reported, usize) {
    let mut written = 0;
    loop {
        let frame = link.frame();
        proxy.feed(moment(), &frame.wire());
        if let Some(report) = said(proxy, link, &mut written) {
            return (report, written);
        }
    }
}

/// Sends what the proxy writes; the report, if there is one.
fn said(proxy: &mut Proxy, link: &mut Link, written: &mut usize) -> Option<Reported> {
    let mut reported = None;
    while let Some(event) = proxy.event() {
        match event {
            ProxyEvent::Write(wire) => {
                *written += 1;
                link.send(&dlt698::open(&wire).unwrap());
            }
            ProxyEvent::Report(report) => reported = Some(*report),
            _ => {}
        }
    }
    reported
}

fn moment() -> Moment {
    Moment {
        at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        on: Instant::now(),
    }
}

#[test]
fn an_independent_concentrator_reports_events_and_freezes_in_one_frame_and_in_several() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut peer = Peer::start(&["terminal", &port, "parts"]);
    let mut link = Link::new(peer.comes(&listener));
    let login = link.frame();
    let Ok(Apdu::LinkRequest(request)) = Apdu::parse(login.data()) else {
        panic!("{login:?}")
    };
    link.send(&dlt698::link_response(&login, &request, 0, now(), now()).unwrap());
    link.connect();
    let mut proxy = Proxy::new(ProxySettings::default(), link.address);
    // the second is longer than a frame of the peer's
    for (records, in_parts) in [(1u32, false), (60, true)] {
        peer.tell(&format!("events 202611210001 {records}"));
        let (report, written) = reported(&mut proxy, &mut link);
        assert_eq!(written > 0, in_parts, "each part but the last is confirmed");
        assert_eq!((report.left, report.rows.len()), (0, 0));
        let numbers: Vec<u32> = report.events.iter().filter_map(Event::number).collect();
        assert_eq!(numbers, (0..records).collect::<Vec<u32>>());
        for event in &report.events {
            assert_eq!(event.device().as_deref(), Some("202611210001"));
            assert_eq!(event.oad, Oad::new(0x3105, 2));
            let began = day(22).and_hms_opt(8, event.number().unwrap() % 60, 0);
            assert_eq!(event.began_at(), began);
        }
        proxy.kept(moment(), report.ticket);
        assert!(said(&mut proxy, &mut link, &mut 0).is_none());
        assert_eq!(peer.says(), "done", "confirmed as it wants it");
    }
    peer.tell("freeze 202611210001 2026-11-22 1234.56");
    let (report, _) = reported(&mut proxy, &mut link);
    assert_eq!((report.left, report.events.len()), (0, 0));
    let row = &report.rows[0];
    assert_eq!(row.meter, Tsa::of(&Address::parse("202611210001").unwrap()));
    assert_eq!(row.at, day(22).and_hms_opt(0, 0, 0).unwrap());
    assert_eq!(row.values, [(ENERGY, Data::Array(vec![Data::UInt32(123_456); 5]))]);
    proxy.kept(moment(), report.ticket);
    said(&mut proxy, &mut link, &mut 0);
    assert_eq!(peer.says(), "done");
}

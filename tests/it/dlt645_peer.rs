//! An independent meter (PyPI dlt645, another people's reading of the standard) on a real socket, read by our plans.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper may fail its test"
)]

use polyphase::device::catalogue::Catalogue;
use polyphase::device::decode::decode;
use polyphase::device::model::MeterModel;
use polyphase::device::plan::{clock, instead, plan};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Value};
use polyphase::protocol::dlt645::{self, Address, AnswerError, Body, Di, Edition, Operator, Password, Reply, Security};
use polyphase::protocol::{Finding, Protocol, Request, Verdict};
use rust_decimal::dec;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ADDRESS: &str = "202611210837";
const SHOWN: [&str; 14] = [
    "00010000=1234.56",
    "00020000=0.07",
    "00000000=-12.34",
    "01010000=4.5678@2026-11-20T18:45",
    "02010100=230.2",
    "02010200=229.9",
    "02010300=231.4",
    "02020100=5.123",
    "02030000=-1.1784",
    "02060000=0.995",
    "02800002=49.98",
    "04000101=26112106",
    "04000102=140530",
    "04000503=0010",
];

/// The peer, ended when the test is over.
struct Peer {
    child: Child,
    line: TcpStream,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // its input ends, and so does it; whatever happens, it does not outlive the test
        drop(self.child.stdin.take());
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn peer() -> Peer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/peers/bin/python");
    assert!(python.is_file(), "the peers are not there: run scripts/install.sh test");
    let mut child = Command::new(python)
        .arg(root.join("tests/peers/dlt645_meter.py"))
        .arg(ADDRESS)
        .args(SHOWN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let port: u16 = said.trim().parse().expect("the peer says its port");
    let line = TcpStream::connect(("127.0.0.1", port)).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    Peer { child, line }
}

impl Peer {
    /// Asks and waits for the answer or the refusal; strays and noise are dropped as a line drops them.
    fn ask(&mut self, request: &Request) -> (Vec<u8>, Verdict) {
        self.line.write_all(&request.wire()).unwrap();
        let (mut buffer, mut chunk) = (Vec::new(), [0; 64]);
        loop {
            let read = self.line.read(&mut chunk).expect("an answer within the time");
            assert!(read > 0, "the peer hung up");
            buffer.extend_from_slice(&chunk[..read]);
            loop {
                match request.find(&buffer) {
                    Finding::NeedMore { noise } => {
                        buffer.drain(..noise);
                        break;
                    }
                    Finding::Frame { span, verdict } => {
                        let frame = buffer[span.clone()].to_vec();
                        buffer.drain(..span.end);
                        if matches!(verdict, Verdict::Answer | Verdict::Refused(_)) {
                            return (frame, verdict);
                        }
                    }
                }
            }
        }
    }

    /// A whole plan, blocks that are refused item by item.
    fn read(&mut self, model: &MeterModel, mut questions: Vec<Request>) -> polyphase::device::decode::DecodedPoll {
        let mut frames = Vec::new();
        let mut place = 0;
        while let Some(question) = questions.get(place).cloned() {
            let (frame, verdict) = self.ask(&question);
            if matches!(verdict, Verdict::Refused(_)) {
                questions.extend(instead(model, &question));
            }
            frames.push((verdict == Verdict::Answer).then_some(frame));
            place += 1;
        }
        let frames: Vec<Option<&[u8]>> = frames.iter().map(Option::as_deref).collect();
        decode(model, &questions, &frames)
    }
}

fn model() -> Arc<MeterModel> {
    let catalogue = Catalogue::builtin().unwrap();
    Arc::clone(catalogue.get(Protocol::Dlt645_2007, "dlt645_2007_three_phase").unwrap())
}

#[test]
fn an_independent_meter_is_read() {
    use Quantity as Q;
    let (mut peer, model) = (peer(), model());
    let expected = [
        (Q::ActiveEnergyImport, dec!(1234.56)),
        (Q::ActiveEnergyExport, dec!(0.07)),
        (Q::ActiveEnergyNet, dec!(-12.34)),
        (Q::MaxDemandActiveImport, dec!(4567.8)),
        (Q::VoltageL1, dec!(230.2)),
        (Q::VoltageL2, dec!(229.9)),
        (Q::VoltageL3, dec!(231.4)),
        (Q::CurrentL1, dec!(5.123)),
        (Q::ActivePowerTotal, dec!(-1178.4)),
        (Q::PowerFactorTotal, dec!(0.995)),
        (Q::Frequency, dec!(49.98)),
    ];
    let wanted: Vec<Quantity> = expected.iter().map(|(quantity, _)| *quantity).collect();
    let questions = plan(&model, ADDRESS, &wanted).unwrap();
    // the voltages are planned as a block, which this meter refuses
    assert!(questions.len() < wanted.len());
    let poll = peer.read(&model, questions);
    assert_eq!(poll.problems, []);
    for (quantity, value) in expected {
        let item = poll
            .items
            .iter()
            .find(|item| item.measurand == Measurand::Standard(quantity));
        assert_eq!(item.map(|item| item.value), Some(Value::Decimal(value)), "{quantity}");
    }
    let poll = peer.read(&model, clock(&model, ADDRESS).unwrap());
    assert_eq!(poll.meter_local, Some("2026-11-21T14:05:30".parse().unwrap()));
}

#[test]
fn an_independent_meter_says_its_address_and_its_errors() {
    let mut peer = peer();
    let who = dlt645::Request::read_address();
    let (frame, verdict) = peer.ask(&Request::Dlt645(who.clone()));
    assert_eq!(verdict, Verdict::Answer);
    let address = Address::parse(ADDRESS).unwrap();
    assert_eq!(who.reply(&frame), Ok(Reply::Address(address)));

    let write = |password: &str| {
        let security = Security {
            password: Password::new(4, password).unwrap(),
            operator: Operator::new("00000001").unwrap(),
        };
        let (di, value) = (Di::E2007(0x0400_0103), vec![0x30]);
        dlt645::Request::checked(Edition::E2007, address, Body::Write { di, security, value }).unwrap()
    };
    let wrong = write("654321");
    let (frame, verdict) = peer.ask(&Request::Dlt645(wrong.clone()));
    assert_eq!(verdict, Verdict::Refused(0x04));
    let error = wrong.reply(&frame).unwrap_err();
    assert!(matches!(error, AnswerError::Refused(word) if word.is_password()));
    assert_eq!(
        error.to_string(),
        "the meter refuses: wrong password or not authorised (error word 04)"
    );
    let right = write("123456");
    let (frame, verdict) = peer.ask(&Request::Dlt645(right.clone()));
    assert_eq!((right.reply(&frame), verdict), (Ok(Reply::Done), Verdict::Answer));
    let period = dlt645::Request::read(address, Di::E2007(0x0400_0103));
    let (frame, _) = peer.ask(&Request::Dlt645(period.clone()));
    assert_eq!(period.reply(&frame), Ok(Reply::Data(vec![0x30])));

    let unknown = dlt645::Request::read(address, Di::E2007(0x0F0F_0F0F));
    let (_, verdict) = peer.ask(&Request::Dlt645(unknown));
    assert!(matches!(verdict, Verdict::Refused(bits) if bits != 0));
}

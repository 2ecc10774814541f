//! A virtual line of several protocols behind one virtual DTU, over a real socket: every meter is asked in its own
//! protocol and nobody's answer is taken for another's, whatever the line does to them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper may fail its test"
)]

use polyphase::base::clock::{Clock, ManualClock};
use polyphase::device::catalogue::Catalogue;
use polyphase::device::decode::{DecodedPoll, decode, name};
use polyphase::device::model::MeterModel;
use polyphase::device::plan::plan;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Value};
use polyphase::protocol::cjt188::{Address, MeterType, Request as Question188, Target};
use polyphase::protocol::{Finding, Protocol, Request, Verdict};
use polyphase::simulator::dtu::{FleetStats, Registration, SimDtu};
use polyphase::simulator::faults::Faults;
use polyphase::simulator::fluid::{FluidMeter, Quirks};
use polyphase::simulator::line::LineMeter;
use polyphase::simulator::meter::Mould;
use rust_decimal::Decimal;
use rust_decimal::dec;
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The head end's side of a DTU's connection.
struct Line {
    stream: TcpStream,
    asked: u32,
    foreign: u32,
}

impl Line {
    /// Asks until there is an answer, with its follow-ups; the frames one behind the other. None after `attempts`.
    async fn ask(&mut self, request: &Request, attempts: u32) -> Option<Vec<u8>> {
        let (mut answer, mut question) = (Vec::new(), request.clone());
        loop {
            let mut found = None;
            for _ in 0..attempts {
                found = self.once(&question).await;
                if found.is_some() {
                    break;
                }
            }
            answer.extend(found?);
            match request.follow_up(&answer) {
                Some(next) => question = next,
                None => return Some(answer),
            }
        }
    }

    async fn once(&mut self, question: &Request) -> Option<Vec<u8>> {
        self.asked += 1;
        self.stream.write_all(&question.wire()).await.unwrap();
        let (mut buffer, mut chunk) = (Vec::new(), [0; 512]);
        loop {
            let read = timeout(Duration::from_millis(1500), self.stream.read(&mut chunk)).await;
            let last = read.is_err();
            buffer.extend_from_slice(&chunk[..read.map_or(0, |read| read.unwrap())]);
            loop {
                match if last {
                    question.find_last(&buffer)
                } else {
                    question.find(&buffer)
                } {
                    Finding::NeedMore { noise } => {
                        buffer.drain(..noise);
                        break;
                    }
                    Finding::Frame { span, verdict } => {
                        let frame = buffer[span.clone()].to_vec();
                        buffer.drain(..span.end);
                        match verdict {
                            Verdict::Answer => {
                                // what else is under way belongs to nobody
                                while timeout(Duration::from_millis(80), self.stream.read(&mut chunk))
                                    .await
                                    .is_ok()
                                {}
                                return Some(frame);
                            }
                            Verdict::Foreign => self.foreign += 1,
                            Verdict::Echo | Verdict::Refused(_) => {}
                        }
                    }
                }
            }
            if last {
                return None;
            }
        }
    }

    /// A poll of everything.
    async fn poll(&mut self, model: &MeterModel, address: &str) -> DecodedPoll {
        let requests = plan(model, address, &[]).unwrap();
        let mut frames = Vec::new();
        for request in &requests {
            frames.push(self.ask(request, 20).await);
        }
        let frames: Vec<Option<&[u8]>> = frames.iter().map(|frame| frame.as_deref()).collect();
        decode(model, &requests, &frames)
    }
}

fn values(poll: &DecodedPoll) -> BTreeMap<String, f64> {
    let number = |value: Value| match value {
        Value::Decimal(value) => value.to_f64().unwrap(),
        Value::F32(value) => value.into(),
        Value::F64(value) => value,
    };
    poll.items
        .iter()
        .map(|item| (name(&item.measurand).to_owned(), number(item.value)))
        .collect()
}

/// A virtual DTU with these meters; dials a listener and stands there.
async fn connect(meters: Vec<Box<dyn LineMeter>>, faults: Faults, clock: Arc<dyn Clock>) -> Line {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dtu = SimDtu {
        sn: "MIXED00001".into(),
        registration: Registration::Ascii,
        heartbeat: Duration::ZERO,
        baud: 0,
        faults,
        seed: 11,
        meters,
    };
    let server = listener.local_addr().unwrap().to_string();
    tokio::spawn(Arc::new(dtu).run(server, clock, Arc::new(FleetStats::default())));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut hello = [0; 10];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"MIXED00001");
    Line {
        stream,
        asked: 0,
        foreign: 0,
    }
}

/// A clock that nobody moves, so that what a meter showed can be computed again.
fn standing() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new("2026-11-21T10:07:00Z".parse().unwrap()))
}

#[tokio::test]
async fn meters_of_every_protocol_are_read_behind_one_dtu() {
    let catalogue = Catalogue::builtin().unwrap();
    // models of every folder, both editions of DL/T 645, water and heat by CJ/T 188 and M-Bus
    let wanted = [
        "hiking_dds238_zns",
        "standard_valve_water_2004",
        "dlt645_1997_single_phase",
        "generic_heat",
        "standard_heat_2004",
        "dlt645_2007_three_phase",
        "eastron_sdm120",
        "generic_water",
        "jy_heat",
    ];
    let moulds: Vec<Mould> = wanted
        .iter()
        .map(|name| {
            let model = Protocol::ALL.iter().find_map(|protocol| catalogue.get(*protocol, name));
            Mould::new(Arc::clone(model.unwrap_or_else(|| panic!("no model {name}"))))
        })
        .collect();
    let place = |index: usize| u8::try_from(index + 1).unwrap();
    let meters = || -> Vec<Box<dyn LineMeter>> {
        let meters = moulds.iter().enumerate();
        meters
            .map(|(index, mould)| mould.meter(0, place(index), 100 + u64::from(place(index)), false, None))
            .collect()
    };
    let clock = standing();
    let mut quiet = connect(meters(), Faults::default(), Arc::clone(&clock)).await;
    let faults = Faults {
        noise: 0.3,
        split: 0.4,
        glue: 0.2,
        wrong_address: 0.3,
        drop: 0.1,
        ..Faults::default()
    };
    let mut rough = connect(meters(), faults, Arc::clone(&clock)).await;
    for (index, mould) in moulds.iter().enumerate() {
        let address = mould.address(0, place(index));
        let expected = quiet.poll(&mould.model, &address).await;
        assert_eq!(expected.problems, [], "{}", mould.model.name);
        for _ in 0..3 {
            let read = rough.poll(&mould.model, &address).await;
            assert_eq!(read.problems, [], "{}", mould.model.name);
            assert_eq!(values(&read), values(&expected), "{}", mould.model.name);
        }
    }
    assert_eq!(quiet.foreign, 0);
    assert!(rough.asked > quiet.asked && rough.foreign > 0, "the line was not rough");
}

#[tokio::test]
async fn wildcards_find_the_only_water_meter_and_of_two_nobody() {
    let catalogue = Catalogue::builtin().unwrap();
    let model = catalogue.get(Protocol::Cjt188, "standard_cold_water_2018").unwrap();
    let water = |number: &str| -> Box<dyn LineMeter> {
        Box::new(FluidMeter::new(
            Address::parse(number).unwrap(),
            model,
            5,
            Quirks::default(),
        ))
    };
    let modbus = Mould::new(Arc::clone(
        catalogue.get(Protocol::ModbusRtu, "eastron_sdm120").unwrap(),
    ));
    let anybody = Question188::read_address(Target::new(MeterType::ANY, Address::ANY));
    let question = Request::Cjt188(anybody.clone());
    let one = vec![modbus.meter(0, 1, 1, false, None), water("78330011223344")];
    let mut line = connect(one, Faults::default(), standing()).await;
    let frame = line.ask(&question, 1).await.unwrap();
    let found = anybody.answer(&frame).unwrap();
    assert_eq!(
        (found.meter_type, found.address.to_string().as_str()),
        (MeterType::COLD_WATER, "78330011223344")
    );
    // the address that was found is read at once, and shows what the meter shows
    let read = line.poll(model, &found.address.to_string()).await;
    let twin = FluidMeter::new(found.address, model, 5, Quirks::default());
    let shown = twin.shows(Quantity::VolumeTotal, standing().now()).unwrap();
    let item = read
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(Quantity::VolumeTotal))
        .unwrap();
    let Value::Decimal(value) = item.value else {
        panic!("a float")
    };
    assert!((shown - value).abs() < dec!(0.01) && value > Decimal::ZERO);

    let two = vec![water("78330011223344"), water("78330011223399")];
    let mut line = connect(two, Faults::default(), standing()).await;
    assert_eq!(
        line.ask(&question, 3).await,
        None,
        "two speak at once, and neither is heard"
    );
    // each alone is there
    for address in ["78330011223344", "78330011223399"] {
        assert_eq!(line.poll(model, address).await.problems, []);
    }
}

//! A virtual line on which M-Bus, CJ/T 188 and Modbus meters hang, behind one virtual DTU, over a real socket: each answers
//! its own, several M-Bus meters collide, and the search finds them all.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper may fail its test"
)]

use polyphase::base::clock::{Clock, SystemClock};
use polyphase::device::catalogue::Catalogue;
use polyphase::device::decode::decode;
use polyphase::device::model::MeterModel;
use polyphase::device::plan::plan;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Value};
use polyphase::protocol::mbus::{self, Search, SearchHeard, SearchStep, Telegram};
use polyphase::protocol::{Finding, Protocol, Request, Verdict};
use polyphase::simulator::dtu::{FleetStats, Registration, SimDtu};
use polyphase::simulator::faults::Faults;
use polyphase::simulator::line::LineMeter;
use polyphase::simulator::mbus::{MbusMeter, Quirks, identification};
use polyphase::simulator::meter::Mould;
use rust_decimal::prelude::ToPrimitive;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any answer of a line without line time.
const SILENCE: Duration = Duration::from_millis(1200);

fn model(protocol: Protocol, name: &str) -> Arc<MeterModel> {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());
    Arc::clone(CATALOGUE.get(protocol, name).unwrap())
}

/// Dials a listener of the test and gives its end of the connection.
async fn line(meters: Vec<Box<dyn LineMeter>>, baud: u32) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dtu = Arc::new(SimDtu {
        sn: "MIXED".to_owned(),
        registration: Registration::Ascii,
        heartbeat: Duration::ZERO,
        baud,
        faults: Faults::default(),
        seed: 1,
        meters,
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let running = tokio::spawn(dtu.run(address, clock, Arc::new(FleetStats::default())));
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut hello = [0; 5];
    socket.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"MIXED");
    (socket, running)
}

/// Asks; the answer, or none with what came instead.
async fn ask(socket: &mut TcpStream, request: &Request) -> Result<Vec<u8>, Vec<u8>> {
    socket.write_all(&request.wire()).await.unwrap();
    let (mut buffer, mut chunk) = (Vec::new(), [0; 512]);
    let deadline = tokio::time::Instant::now() + SILENCE + Duration::from_secs(3);
    loop {
        // after the first bytes the rest follows at once
        let wait = if buffer.is_empty() && request.answer_len_max() > 1 {
            deadline
        } else {
            tokio::time::Instant::now() + SILENCE
        };
        match tokio::time::timeout_at(wait.min(deadline), socket.read(&mut chunk)).await {
            Ok(read) => buffer.extend_from_slice(&chunk[..read.unwrap()]),
            Err(_) => return Err(buffer),
        }
        if let Finding::Frame {
            span,
            verdict: Verdict::Answer,
        } = request.find(&buffer)
        {
            return Ok(buffer[span].to_vec());
        }
    }
}

/// All frames of an answer.
async fn whole(socket: &mut TcpStream, request: &Request) -> Vec<u8> {
    let mut answers = ask(socket, request).await.unwrap();
    while let Some(next) = request.follow_up(&answers) {
        answers.extend(ask(socket, &next).await.unwrap());
    }
    answers
}

async fn value(socket: &mut TcpStream, model: &MeterModel, address: &str, quantity: Quantity) -> f64 {
    let requests = plan(model, address, &[quantity]).unwrap();
    let mut answers = Vec::new();
    for request in &requests {
        answers.push(whole(socket, request).await);
    }
    let frames: Vec<_> = answers.iter().map(|answer| Some(answer.as_slice())).collect();
    let poll = decode(model, &requests, &frames);
    let item = poll
        .items
        .iter()
        .find(|item| item.measurand == Measurand::Standard(quantity));
    match item.unwrap_or_else(|| panic!("{:?}", poll.problems)).value {
        Value::Decimal(value) => value.to_f64().unwrap(),
        Value::F32(value) => value.into(),
        Value::F64(value) => value,
    }
}

fn mbus_meter(name: &str, primary: u8, number: u32, telegram: usize) -> Box<dyn LineMeter> {
    let model = model(Protocol::Mbus, name);
    let quirks = Quirks {
        telegram,
        ..Quirks::default()
    };
    Box::new(MbusMeter::new(
        primary,
        identification(&model, number),
        &model,
        7,
        quirks,
    ))
}

#[tokio::test]
async fn meters_of_three_protocols_answer_on_one_line() {
    let modbus = Mould::new(model(Protocol::ModbusRtu, "eastron_sdm120"));
    let water = Mould::new(model(Protocol::Cjt188, "standard_cold_water_2004"));
    let meters = vec![
        modbus.meter(0, 1, 3, false, None),
        water.meter(0, 2, 3, false, None),
        mbus_meter("generic_heat", 1, 20_261_121, 60),
        mbus_meter("generic_water", 2, 20_261_122, 240),
    ];
    let (mut socket, dtu) = line(meters, 0).await;
    for _ in 0..2 {
        let heat = model(Protocol::Mbus, "generic_heat");
        let energy = value(&mut socket, &heat, "1", Quantity::HeatEnergy).await;
        assert!(value(&mut socket, &heat, "20261121", Quantity::HeatEnergy).await >= energy);
        let volts = value(
            &mut socket,
            &model(Protocol::ModbusRtu, "eastron_sdm120"),
            "1",
            Quantity::VoltageL1,
        )
        .await;
        assert!((200.0..260.0).contains(&volts), "{volts}");
        let cold = value(&mut socket, &water.model, &water.address(0, 2), Quantity::VolumeTotal).await;
        let warm = value(
            &mut socket,
            &model(Protocol::Mbus, "generic_water"),
            "2",
            Quantity::VolumeTotal,
        )
        .await;
        assert!(cold > 0.0 && warm > 0.0 && energy > 0.0);
    }
    let nobody = Request::Mbus(mbus::Request::reset(9).unwrap());
    assert_eq!(ask(&mut socket, &nobody).await, Err(Vec::new()));
    dtu.abort();
}

#[tokio::test]
async fn the_search_finds_all_through_collisions() {
    let numbers = [10_000_000, 20_000_000, 31_000_000];
    let meters = numbers
        .iter()
        .zip(1u8..)
        .map(|(number, primary)| mbus_meter("generic_water", primary, *number, 240));
    let (mut socket, dtu) = line(meters.collect(), 0).await;
    let mut search = Search::default();
    loop {
        let request = match search.step() {
            SearchStep::Done => break,
            SearchStep::Select(mask) => mbus::Request::select(mask),
            SearchStep::Read(mask) => mbus::Request::read_selected(mask),
        };
        let reads = request.reads();
        search.hear(match ask(&mut socket, &Request::Mbus(request)).await {
            // one collision of 256 has a checksum that fits
            Ok(frame) if reads => match Telegram::parse(&frame)
                .ok()
                .and_then(|said| said.header.identification())
            {
                Some(identification) => SearchHeard::Meter(identification),
                None => SearchHeard::Collision,
            },
            Ok(_) => SearchHeard::Ack,
            Err(bytes) if bytes.is_empty() => SearchHeard::Silence,
            Err(_) => SearchHeard::Collision,
        });
    }
    let mut found: Vec<String> = search.found().iter().map(|who| format!("{:08X}", who.id)).collect();
    found.sort();
    assert_eq!(found, ["10000000", "20000000", "31000000"]);
    dtu.abort();
}

#[tokio::test]
async fn a_long_answer_takes_its_time_at_2400_bits_a_second() {
    let (mut socket, dtu) = line(vec![mbus_meter("generic_heat", 1, 1, 240)], 2400).await;
    let request = Request::Mbus(mbus::Request::read(1, true).unwrap());
    let began = Instant::now();
    let answer = ask(&mut socket, &request).await.unwrap();
    let line_time = Duration::from_secs_f64((answer.len() + 5) as f64 * 11.0 / 2400.0);
    assert!(answer.len() > 90, "{} bytes", answer.len());
    assert!(
        began.elapsed() >= line_time,
        "{:?} for {} bytes",
        began.elapsed(),
        answer.len()
    );
    dtu.abort();
}

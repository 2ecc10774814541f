//! Real sockets on loopback, real time: a connection that panics is an end like any other to everybody else.

use super::books::{assert_actual, energy, tally};
use super::field::{CATALOGUE, Field, MODEL, at, dtu, schedule};
use chrono::TimeDelta;
use polyphase::actor::messages::{ConnectionTask, RunConnection, StopSchedules};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, FrameRange, MeterId};
use polyphase::device::image::RegisterImage;
use polyphase::device::model;
use polyphase::domain::device::RetryPolicy;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Reading, Value};
use polyphase::net::{Accepted, Gate, Listener, NetDeps, NetSettings, accept_loop, run_connection};
use polyphase::port::fake::Unheard;
use polyphase::port::fleet::Fleet;
use polyphase::port::frames::{FrameKind, FrameRecorder, RawFrame};
use polyphase::protocol::Protocol;
use polyphase::protocol::dtu::Profile;
use polyphase::protocol::modbus::{Heard, hear};
use rust_decimal::Decimal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Panics over the next so many answers of one DTU.
struct Mined {
    dtu: DtuId,
    left: AtomicU32,
}

impl FrameRecorder for Mined {
    fn record(&self, frames: Vec<RawFrame>) -> FrameRange {
        let mine = |frame: &RawFrame| frame.dtu == Some(self.dtu) && frame.kind == FrameKind::Answer;
        if frames.iter().any(mine) {
            let armed = self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            assert!(armed.is_err(), "injected: the recorder fails");
        }
        FrameRange::EMPTY
    }
}

/// A DTU with one meter behind it: dials, says its SN, waits for `greeting`, answers; dials again when it is cut off.
async fn device(address: SocketAddr, sn: String, unit: u8, greeting: &'static [u8]) {
    let model::Profile::Modbus(profile) = &CATALOGUE.get(Protocol::ModbusRtu, MODEL).unwrap().profile else {
        panic!("not Modbus: {MODEL}")
    };
    let mut image = RegisterImage::new(Arc::new(profile.clone()));
    let mut count = i64::from(unit) * 100_000;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(mut socket) = TcpStream::connect(address).await else {
            continue;
        };
        socket.write_all(sn.as_bytes()).await.unwrap();
        let mut greeted = vec![0; greeting.len()];
        if socket.read_exact(&mut greeted).await.is_err() {
            continue;
        }
        assert_eq!(greeted, greeting);
        let (mut buffer, mut chunk) = (Vec::new(), [0; 256]);
        while let Ok(read @ 1..) = socket.read(&mut chunk).await {
            buffer.extend_from_slice(&chunk[..read]);
            while let Heard::Request { span, request } = hear(&buffer) {
                buffer.drain(..span.end);
                assert_eq!(request.unit(), unit);
                count += 1;
                let energy = Measurand::Standard(Quantity::ActiveEnergyTotal);
                image.set(&energy, Value::Decimal(Decimal::from(count))).unwrap();
                let answer = request.reply_frame(&image.reply(&request)).unwrap();
                if socket.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_connection_that_panics_ends_alone_and_its_dtu_comes_back() {
    actix::System::new().block_on(async {
        let mut dtus = vec![dtu(1, 1), dtu(2, 1)];
        for dtu in &mut dtus {
            let mut often = schedule(3, at(0), "*/2 * * * * *", 6, vec![Quantity::ActiveEnergyTotal]);
            let mut rule = often.rules[0].clone();
            rule.spread_s = 0;
            rule.retry = RetryPolicy {
                attempts: 1,
                backoff_s: 1,
                deadline_s: 6,
                budget: None,
            };
            often.rules = Arc::new(vec![rule]);
            dtu.meters[0].schedules = vec![often];
        }
        // the directory's pin reaches the session: this one wants to hear something
        dtus[0].profile = Some("ascii+answer=4F4B".into());
        let field = Field::new(dtus).await;
        let mined = Arc::new(Mined {
            dtu: DtuId(1),
            left: AtomicU32::new(0),
        });
        let settings = Arc::new(NetSettings::default());
        let stop = CancellationToken::new();
        let deps = NetDeps {
            clock: Arc::clone(&field.clock) as Arc<dyn Clock>,
            registrar: Arc::new(field.registrar.clone()),
            recorder: Arc::clone(&mined) as Arc<dyn FrameRecorder>,
            live: Arc::new(Unheard),
            terminal_events: Arc::new(polyphase::port::terminal_events::KeptNowhere),
            settings: Arc::clone(&settings),
            stop: stop.clone(),
        };
        let profile = Profile::parse("ascii+len=4").unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), profile, &settings).unwrap();
        let address = listener.address().unwrap();
        let shard = field.shards[0].clone();
        let on_accept = move |accepted: Accepted| {
            let (connection, deps) = (accepted.connection, deps.clone());
            let task: ConnectionTask = Box::new(move || {
                Box::pin(async move {
                    run_connection(accepted, deps).await;
                })
            });
            shard.do_send(RunConnection { connection, task });
        };
        actix::spawn(accept_loop(listener, Gate::new(&settings), stop.clone(), on_accept));
        actix::spawn(device(address, "SN-1".into(), 11, b"OK"));
        actix::spawn(device(address, "SN-2".into(), 21, b""));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        field.begin().await;

        let begun = field.clock.now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        mined.left.store(2, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(mined.left.load(Ordering::SeqCst), 0, "nothing was injected");
        assert!(
            field
                .fleet
                .live(&[DtuId(1), DtuId(2)])
                .await
                .iter()
                .all(|dtu| dtu.online)
        );
        for shard in &field.shards {
            shard.send(StopSchedules).await.unwrap();
        }
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(500)).await;

        let end = begun + TimeDelta::seconds(11);
        let own = |reading: &Reading| {
            let energy = energy(reading).unwrap() / Decimal::from(100_000);
            assert_eq!(energy.trunc(), Decimal::from(reading.meter.0), "another meter's value");
        };
        let ends = field.books.audit_by(own, &field.meters(), begun, end);
        assert_actual(&ends, |slot| slot.0 == MeterId(21));
        let hit = tally(&ends, |slot| slot.0 == MeterId(11));
        assert!(hit.get(&("actual", "")).is_some_and(|read| *read >= 3), "{hit:?}");
        let last = ends
            .keys()
            .filter(|slot| slot.0 == MeterId(11))
            .map(|slot| slot.2)
            .max()
            .unwrap();
        assert_actual(&ends, |slot| slot.0 == MeterId(11) && slot.2 == last);
        let ended = |causes: &[&str]| causes.iter().map(|cause| Some((*cause).to_owned())).collect::<Vec<_>>();
        assert_eq!(
            field.history.sessions(DtuId(1)),
            ended(&["internal", "internal", "shutdown"])
        );
        assert_eq!(field.history.sessions(DtuId(2)), ended(&["shutdown"]));
    });
}

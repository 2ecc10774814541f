//! Connections over in-memory pipes on virtual time.

use super::*;
use crate::base::ids::{DtuId, MeterId, PollId};
use crate::net::NetSettings;
use crate::net::fakes::{World, owner, world};
use crate::port::field::{LinkError, PollJob, PollOutcome, Priority, TransactionError};
use crate::port::frames::RawFrame;
use crate::protocol::Request;
use crate::protocol::dtu::Profile;
use crate::protocol::modbus::{self, Function, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

fn peer() -> std::net::SocketAddr {
    "192.0.2.7:4000".parse().unwrap()
}

fn inbound(world: &World) -> (DuplexStream, JoinHandle<EndCause>) {
    let (near, far) = duplex(4_096);
    let deps = world.deps.clone();
    let session = Session::new(deps.session_settings(Profile::default()), deps.moment().on);
    let running = tokio::spawn(run(far, ConnectionId(1), Origin::Inbound(peer()), session, deps));
    (near, running)
}

fn question(unit: u8, address: u16) -> modbus::Request {
    modbus::Request::read(unit, Function::ReadHoldingRegisters, address, 2).unwrap()
}

fn job(poll: i64, questions: &[modbus::Request]) -> PollJob {
    PollJob {
        poll: PollId(poll),
        meter: MeterId(questions[0].unit().into()),
        priority: Priority::Scheduled,
        requests: questions.iter().cloned().map(Request::Modbus).collect(),
        attempts: 2,
        timeout: Duration::from_secs(1),
        byte_time: Duration::ZERO,
        evidence: false,
        instead: Vec::new(),
        pause: Duration::ZERO,
        deadline: (tokio::time::Instant::now() + Duration::from_secs(60)).into_std(),
        effect: None,
    }
}

fn says(question: &modbus::Request, registers: [u16; 2]) -> Vec<u8> {
    question.reply_frame(&Reply::Registers(registers.to_vec())).unwrap()
}

async fn heard(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    let count = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(count);
    bytes
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Registers and waits until the registrar has heard of it.
async fn registered(stream: &mut DuplexStream, world: &World) {
    stream.write_all(b"ABC12345\r\n").await.unwrap();
    pause(1_000).await;
    assert_eq!(*world.registrar.hellos.lock().unwrap(), ["ABC12345"]);
}

fn polling(world: &World, job: PollJob) -> JoinHandle<Result<PollOutcome, LinkError>> {
    let link = world.registrar.link();
    tokio::spawn(async move { link.poll(job).await })
}

fn recorded(world: &World) -> Vec<FrameKind> {
    world
        .recorder
        .frames
        .lock()
        .unwrap()
        .iter()
        .map(|frame| frame.kind)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn registers_answers_a_poll_and_records_its_frames_in_a_row() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let questions = [question(1, 0), question(1, 2)];
    let poll = polling(&world, job(9, &questions));
    for (n, question) in questions.iter().enumerate() {
        assert_eq!(heard(&mut dtu).await, question.wire());
        dtu.write_all(&says(question, [n as u16, 7])).await.unwrap();
    }
    let outcome = poll.await.unwrap().unwrap();
    assert_eq!(outcome.reports.len(), 2);
    assert_eq!(outcome.reports[1].result, Ok(says(&questions[1], [1, 7])));
    assert_eq!(
        recorded(&world),
        [
            FrameKind::Registration,
            FrameKind::Request,
            FrameKind::Answer,
            FrameKind::Request,
            FrameKind::Answer
        ]
    );
    assert_eq!((outcome.frames.first.0, outcome.frames.count), (1, 4));
    assert!(
        world.recorder.frames.lock().unwrap()[1..]
            .iter()
            .all(|frame| frame.dtu == Some(DtuId(5))
                && frame.poll == Some(PollId(9))
                && frame.protocol == "modbus-rtu")
    );
    let stats = world.registrar.link().stats();
    assert_eq!((stats.answers, stats.timeouts, stats.queued), (2, 0, 0));
    assert_eq!(stats.bytes_out, 16);
    drop(dtu);
    assert_eq!(running.await.unwrap(), EndCause::PeerClosed);
    assert_eq!(world.registrar.end(), EndCause::PeerClosed);
    assert_eq!(
        world.registrar.link().poll(job(10, &questions)).await.unwrap_err(),
        LinkError::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn what_failed_and_what_strayed_is_handed_over_as_evidence() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, _running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let asked = [question(1, 0)];
    let silent = polling(&world, job(1, &asked));
    heard(&mut dtu).await;
    heard(&mut dtu).await;
    let outcome = silent.await.unwrap().unwrap();
    let kinds = |outcome: &PollOutcome| {
        let kinds = outcome
            .evidence
            .iter()
            .map(|evidence| FrameKind::from(evidence.frame.kind));
        kinds.collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&outcome),
        [FrameKind::Request],
        "nothing was heard: one is enough"
    );
    // the answer comes late, while nothing is asked
    dtu.write_all(&says(&asked[0], [1, 1])).await.unwrap();
    pause(5_000).await;
    for (poll, wanted) in [(2, false), (3, false), (4, true)] {
        let mut job = job(poll, &asked);
        job.evidence = wanted;
        let going = polling(&world, job);
        heard(&mut dtu).await;
        dtu.write_all(&says(&asked[0], [poll as u16, 2])).await.unwrap();
        let outcome = going.await.unwrap().unwrap();
        let expected: &[FrameKind] = match poll {
            2 => &[FrameKind::Stray],
            3 => &[],
            _ => &[FrameKind::Request, FrameKind::Answer],
        };
        assert_eq!(kinds(&outcome), expected, "poll {poll}");
        for evidence in &outcome.evidence {
            let place = usize::try_from(evidence.id.0).unwrap();
            let recorded = world.recorder.frames.lock().unwrap()[place].clone();
            assert_eq!(
                recorded,
                RawFrame::of(evidence.frame.clone(), Some(DtuId(5)), evidence.connection)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn says_nothing_for_thirty_seconds() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (_dtu, running) = inbound(&world);
    let began = tokio::time::Instant::now();
    assert_eq!(running.await.unwrap(), EndCause::NoRegistration);
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(world.registrar.end(), EndCause::NoRegistration);
}

#[tokio::test(start_paused = true)]
async fn a_byte_every_ten_seconds_does_not_keep_the_door_open() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    let dripping = tokio::spawn(async move {
        while dtu.write_all(&[0x01]).await.is_ok() {
            pause(10_000).await;
        }
    });
    let began = tokio::time::Instant::now();
    let cause = running.await.unwrap();
    assert!(
        matches!(cause, EndCause::NoRegistration | EndCause::BadRegistration),
        "{cause:?}"
    );
    assert!(began.elapsed().as_secs() <= 31, "{:?}", began.elapsed());
    dripping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_session_and_heartbeats_keep_it() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    for _ in 0..10 {
        pause(60_000).await;
        dtu.write_all(b"heartbeat").await.unwrap();
    }
    let began = tokio::time::Instant::now();
    assert_eq!(running.await.unwrap(), EndCause::Silence);
    assert_eq!(began.elapsed().as_secs(), 180);
    let stats = &world.registrar.ends.lock().unwrap()[0].2;
    assert!(stats.heartbeats >= 8, "{stats:?}");
    assert_eq!(stats.learned.heartbeat_interval_s, Some(60));
}

#[tokio::test(start_paused = true)]
async fn waits_in_quarantine_and_is_read_after_adoption_without_reconnect() {
    let quarantined = Admission::Quarantined {
        silence: Duration::from_secs(300),
    };
    let world = world(quarantined, NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let asked = [question(1, 0)];
    assert_eq!(
        world.registrar.link().poll(job(1, &asked)).await.unwrap_err(),
        LinkError::Closed
    );
    world.registrar.link().adopt(owner());
    let poll = polling(&world, job(2, &asked));
    assert_eq!(heard(&mut dtu).await, asked[0].wire());
    dtu.write_all(&says(&asked[0], [4, 2])).await.unwrap();
    assert!(poll.await.unwrap().unwrap().reports[0].result.is_ok());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_closed_with_the_cause() {
    let world = world(Admission::Refused(EndCause::Disabled), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    dtu.write_all(b"ABC12345\r\n").await.unwrap();
    assert_eq!(running.await.unwrap(), EndCause::Disabled);
    assert_eq!(world.registrar.end(), EndCause::Disabled);
}

#[tokio::test(start_paused = true)]
async fn a_close_in_mid_poll_answers_the_asker() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let begun = polling(&world, job(1, &[question(1, 0)]));
    let waiting = polling(&world, job(2, &[question(2, 0)]));
    heard(&mut dtu).await;
    world.registrar.link().close(EndCause::Replaced);
    world.registrar.link().close(EndCause::Shutdown);
    assert_eq!(running.await.unwrap(), EndCause::Replaced, "the first cause stands");
    let outcome = begun.await.unwrap().unwrap();
    assert_eq!(outcome.reports[0].result, Err(TransactionError::SessionLost));
    assert_eq!(outcome.frames.count, 1, "the request is on record");
    assert_eq!(waiting.await.unwrap().unwrap_err(), LinkError::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dropped_still_says_so() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let poll = polling(&world, job(1, &[question(1, 0)]));
    heard(&mut dtu).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(world.registrar.end(), EndCause::Internal);
    assert_eq!(poll.await.unwrap().unwrap_err(), LinkError::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_dropped() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, far) = duplex(16);
    let deps = world.deps.clone();
    let session = Session::new(deps.session_settings(Profile::default()), deps.moment().on);
    let running = tokio::spawn(run(far, ConnectionId(1), Origin::Inbound(peer()), session, deps));
    registered(&mut dtu, &world).await;
    // the pipe holds two requests; the third stalls
    for unit in 1..4 {
        let mut one = job(unit.into(), &[question(unit, 0)]);
        one.attempts = 1;
        drop(polling(&world, one));
    }
    assert_eq!(running.await.unwrap(), EndCause::WriteStalled);
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_the_session_but_many_answers_do_not() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    // far more reads a second than the budget has, all of them asked for
    for n in 0..5_000u16 {
        let asked = question(1, 0);
        let poll = polling(&world, job(n.into(), std::slice::from_ref(&asked)));
        heard(&mut dtu).await;
        dtu.write_all(&says(&asked, [n, n])).await.unwrap();
        assert!(poll.await.unwrap().unwrap().reports[0].result.is_ok());
    }
    let mut sent = 0;
    while sent < 4 << 20 && dtu.write_all(&[0x55; 1_024]).await.is_ok() {
        sent += 1_024;
        tokio::task::yield_now().await;
    }
    assert_eq!(running.await.unwrap(), EndCause::Flood);
    assert!(sent < 1 << 20, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_lie_there_before_the_question_are_not_its_answer() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (mut dtu, running) = inbound(&world);
    registered(&mut dtu, &world).await;
    let asked = question(1, 0);
    dtu.write_all(&says(&asked, [0xBAD, 0xBAD])).await.unwrap();
    let poll = polling(&world, job(1, std::slice::from_ref(&asked)));
    assert_eq!(heard(&mut dtu).await, asked.wire());
    dtu.write_all(&says(&asked, [1, 1])).await.unwrap();
    let outcome = poll.await.unwrap().unwrap();
    assert_eq!(outcome.reports[0].result, Ok(says(&asked, [1, 1])));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_with_shutdown_and_ours_are_connected_by_their_dtu() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (near, far) = duplex(256);
    let deps = world.deps.clone();
    let session = Session::transparent(deps.session_settings(Profile::default()), deps.moment().on);
    let origin = Origin::Ours {
        dtu: DtuId(5),
        peer: None,
    };
    let running = tokio::spawn(run(far, ConnectionId(3), origin, session, deps));
    pause(10).await;
    assert_eq!(world.registrar.links.lock().unwrap().len(), 1);
    world.deps.stop.cancel();
    assert_eq!(running.await.unwrap(), EndCause::Shutdown);
    drop(near);
}

#[test]
fn an_idle_connection_is_small() {
    let world = world(Admission::Owner(owner()), NetSettings::default());
    let (_near, far) = duplex(16);
    let deps = world.deps.clone();
    let session = Session::new(deps.session_settings(Profile::default()), Instant::now());
    let future = run(far, ConnectionId(1), Origin::Inbound(peer()), session, deps);
    let size = std::mem::size_of_val(&future);
    println!(
        "future {size}, line {}, session {}",
        size_of::<Line>(),
        size_of::<Session>()
    );
    assert!(size <= 4_096, "{size} bytes");
}

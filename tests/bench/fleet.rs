//! What `run_bench.py` holds the whole server against: a fleet that answers at once, a bare tokio loop that polls it, and
//! a bare accept loop that reads its registrations. One thread each; results as one line of JSON on standard output.
//!
//! - `fleet slaves --connect HOST:PORT --dtus N [--prefix P] [--silent N] [--dead-unit U]`: N DTUs dial in, say `P000001` and so
//!   on, and answer every Modbus RTU read of holding registers at once; the last `--silent` of them never answer, and nobody answers for unit U. Says `{"connected":N}`
//!   when all are there and runs until it is killed.
//! - `fleet listen --bind HOST:PORT [--tcp]`: a slave that is dialled, RTU over TCP or Modbus TCP, for peers that are clients.
//! - `fleet poller --bind HOST:PORT --dtus N --warm S --seconds S [--round N --every-ms MS]`: takes N DTUs, then polls all of them in
//!   closed loops: write the question, read the answer under a time-out, check its CRC, make numbers of its registers. With a round,
//!   each asks so many questions in a row and then waits for its next turn, so that the load is that of a server with schedules.
//! - `fleet accept --bind HOST:PORT --dtus N`: takes connections and reads registrations until there are N; tells the
//!   seconds since the first.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    reason = "a bench talks on standard output and stops at the first fault"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Registers of a question, as the bench's meter models ask for them.
const COUNT: u16 = 24;
const REPLY: usize = 5 + 2 * COUNT as usize;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let Some(command) = words.next() else {
        println!("{{\"skipped\":\"run by tests/peers/run_bench.py\"}}");
        return;
    };
    let rest: Vec<String> = words.collect();
    let mut options = HashMap::new();
    let mut at = 0;
    while at < rest.len() {
        let name = rest[at].trim_start_matches("--").to_owned();
        let value = rest.get(at + 1).filter(|next| !next.starts_with("--"));
        at += if value.is_some() { 2 } else { 1 };
        options.insert(name, value.cloned().unwrap_or_default());
    }
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    let number = |name: &str| text(name).parse::<usize>().unwrap_or(0);
    match command.as_str() {
        "slaves" => {
            slaves(
                &text("connect"),
                number("dtus"),
                &text("prefix"),
                number("silent"),
                number("dead-unit"),
            )
            .await
        }
        "listen" => listen(&text("bind"), options.contains_key("tcp")).await,
        "poller" => {
            poller(
                &text("bind"),
                number("dtus"),
                number("warm"),
                number("seconds"),
                Pace {
                    round: number("round"),
                    every: Duration::from_millis(number("every-ms") as u64),
                },
            )
            .await
        }
        "accept" => accept(&text("bind"), number("dtus")).await,
        other => panic!("unknown command {other}"),
    }
}

/// The process' CPU time so far, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // clock ticks of 10 ms; sched has nanoseconds but not for all threads of a process
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn crc(bytes: &[u8]) -> u16 {
    polyphase::protocol::modbus::crc16(bytes)
}

/// Answers a read of holding registers: floats a little above 230 below the twentieth register of each hundred, counts above.
/// No two answers in a row are alike, as with a meter that measures: a repeat would be doubted by a head end that distrusts its line.
fn answer(question: &[u8], tick: &mut u32, reply: &mut Vec<u8>) {
    *tick = tick.wrapping_add(1);
    let start = u16::from_be_bytes([question[2], question[3]]);
    let count = u16::from_be_bytes([question[4], question[5]]);
    reply.extend([question[0], question[1], (count * 2) as u8]);
    for register in start..start + count {
        let word = match (register % 100 < 20, register % 2 == 0) {
            (true, true) => 0x4366,
            (false, true) => (*tick >> 16) as u16,
            (_, false) => *tick as u16,
        };
        reply.extend(u16::to_be_bytes(word));
    }
}

/// Where a meter's counts begin: ahead of all that it showed on an earlier connection, or each restart of a bench were a fleet of
/// meters whose registers go back, with an alarm for each.
fn first_tick() -> u32 {
    let since = std::time::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    (since.elapsed().map_or(0, |age| age.as_millis()) / 50) as u32
}

/// Answers on one line; nobody when it is silent, and nobody at unit `dead`.
async fn serve_rtu(mut socket: TcpStream, silent: bool, dead: usize) {
    let mut buffer = [0u8; 256];
    let mut have = 0;
    let mut reply = Vec::with_capacity(256);
    let mut tick = first_tick();
    loop {
        match socket.read(&mut buffer[have..]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => have += count,
        }
        if silent {
            have = 0;
            continue;
        }
        let mut from = 0;
        while have - from >= 8 {
            let question = &buffer[from..from + 8];
            assert_eq!(
                crc(&question[..6]).to_le_bytes(),
                question[6..8],
                "not a question: {question:02x?}"
            );
            from += 8;
            if usize::from(question[0]) == dead {
                continue;
            }
            reply.clear();
            answer(question, &mut tick, &mut reply);
            let sum = crc(&reply);
            reply.extend(sum.to_le_bytes());
            if socket.write_all(&reply).await.is_err() {
                return;
            }
        }
        buffer.copy_within(from..have, 0);
        have -= from;
    }
}

async fn serve_tcp(mut socket: TcpStream) {
    let mut question = [0u8; 12];
    let mut reply = Vec::with_capacity(256);
    let mut tick = first_tick();
    while socket.read_exact(&mut question).await.is_ok() {
        reply.clear();
        reply.extend(&question[..6]);
        answer(&question[6..], &mut tick, &mut reply);
        let length = (reply.len() - 6) as u16;
        reply[4..6].copy_from_slice(&length.to_be_bytes());
        if socket.write_all(&reply).await.is_err() {
            return;
        }
    }
}

async fn slaves(connect: &str, dtus: usize, prefix: &str, silent: usize, dead: usize) {
    let began = Instant::now();
    let connected = Arc::new(AtomicU64::new(0));
    // so many dial at once: a listener's backlog is not what is measured
    let gate = Arc::new(tokio::sync::Semaphore::new(512));
    for index in 1..=dtus {
        let (connect, connected, gate) = (connect.to_owned(), Arc::clone(&connected), Arc::clone(&gate));
        let sn = format!("{prefix}{index:06}");
        tokio::spawn(async move {
            let permit = gate.acquire().await.unwrap();
            let mut socket = loop {
                match TcpStream::connect(&connect).await {
                    Ok(socket) => break socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            socket.set_nodelay(true).unwrap();
            socket.write_all(sn.as_bytes()).await.unwrap();
            drop(permit);
            connected.fetch_add(1, Relaxed);
            serve_rtu(socket, index > dtus - silent, dead).await;
        });
    }
    while connected.load(Relaxed) < dtus as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{{\"connected\":{dtus},\"seconds\":{:.3}}}",
        began.elapsed().as_secs_f64()
    );
    std::future::pending::<()>().await;
}

async fn listen(bind: &str, tcp: bool) {
    let listener = TcpListener::bind(bind).await.unwrap();
    println!("{{\"listening\":true}}");
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        if tcp {
            tokio::spawn(serve_tcp(socket));
        } else {
            tokio::spawn(serve_rtu(socket, false, 0));
        }
    }
}

/// How a DTU is polled: so many questions in a row, once in so long; a round of none is a closed loop.
#[derive(Clone, Copy)]
struct Pace {
    round: usize,
    every: Duration,
}

impl Pace {
    /// The turn of DTU `at` of `of`: they are spread over the time between two rounds.
    fn turns(self, at: usize, of: usize) -> Option<tokio::time::Interval> {
        let first = tokio::time::Instant::now() + self.every.mul_f64(at as f64 / of as f64);
        (self.round > 0).then(|| tokio::time::interval_at(first, self.every))
    }
}

/// One DTU's closed loop, or its rounds.
async fn poll(mut socket: TcpStream, done: Arc<AtomicU64>, round: usize, mut turns: Option<tokio::time::Interval>) {
    let mut question = vec![1, 3, 0, 0, 0, COUNT as u8];
    let sum = crc(&question);
    question.extend(sum.to_le_bytes());
    let mut buffer = [0u8; 256];
    let mut asked = 0;
    loop {
        if let Some(turns) = turns.as_mut().filter(|_| asked % round == 0) {
            turns.tick().await;
        }
        asked += 1;
        socket.write_all(&question).await.unwrap();
        let mut have = 0;
        let whole = tokio::time::timeout(Duration::from_secs(2), async {
            while have < REPLY {
                match socket.read(&mut buffer[have..]).await {
                    Ok(0) | Err(_) => return false,
                    Ok(count) => have += count,
                }
            }
            true
        });
        if !matches!(whole.await, Ok(true)) {
            return;
        }
        let reply = &buffer[..REPLY];
        assert_eq!(crc(&reply[..REPLY - 2]).to_le_bytes(), reply[REPLY - 2..]);
        let mut values = [0f32; COUNT as usize / 2];
        for (value, bytes) in values.iter_mut().zip(reply[3..].chunks_exact(4)) {
            *value = f32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        black_box(values);
        done.fetch_add(1, Relaxed);
    }
}

async fn poller(bind: &str, dtus: usize, warm: usize, seconds: usize, pace: Pace) {
    let listener = TcpListener::bind(bind).await.unwrap();
    println!("{{\"listening\":true}}");
    let done = Arc::new(AtomicU64::new(0));
    for at in 0..dtus {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let mut sn = [0u8; 64];
            assert!(socket.read(&mut sn).await.unwrap() > 0);
            poll(socket, done, pace.round, pace.turns(at, dtus)).await;
        });
    }
    tokio::time::sleep(Duration::from_secs(warm as u64)).await;
    let (before, spent, began) = (done.load(Relaxed), cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let (round_trips, spent, took) = (done.load(Relaxed) - before, cpu() - spent, began.elapsed());
    println!(
        "{{\"round_trips\":{round_trips},\"seconds\":{:.3},\"cpu_s\":{:.3}}}",
        took.as_secs_f64(),
        spent.as_secs_f64()
    );
    std::process::exit(0);
}

async fn accept(bind: &str, dtus: usize) {
    let listener = TcpListener::bind(bind).await.unwrap();
    println!("{{\"listening\":true}}");
    let done = Arc::new(AtomicU64::new(0));
    let mut began = None;
    for _ in 0..dtus {
        let (mut socket, _) = listener.accept().await.unwrap();
        began.get_or_insert_with(Instant::now);
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let mut sn = [0u8; 64];
            assert!(socket.read(&mut sn).await.unwrap() > 0);
            done.fetch_add(1, Relaxed);
            // it stays open
            let _ = socket.read(&mut sn).await;
        });
    }
    while done.load(Relaxed) < dtus as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "{{\"registered\":{dtus},\"seconds\":{:.3}}}",
        began.unwrap().elapsed().as_secs_f64()
    );
    std::future::pending::<()>().await;
}

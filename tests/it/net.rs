//! The device port over real sockets: what the operating system does to it, which in-memory pipes cannot show.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use async_trait::async_trait;
use polyphase::base::clock::SystemClock;
use polyphase::base::ids::{AccountId, ConnectionId, DtuId, FrameRange, MeterId, PollId, SessionId};
use polyphase::domain::device::{Connect, DtuRecord};
use polyphase::net::{Accepted, Gate, Listener, NetDeps, NetSettings, accept_loop, run_connection, run_dialled};
use polyphase::port::fake::Unheard;
use polyphase::port::field::{
    Admission, EndCause, FieldReport, Hello, Link, LinkError, LinkStats, Owner, PollJob, PollOutcome, Priority,
    Registrar, ReportKept, ReportLost, TransactionError,
};
use polyphase::port::frames::{FrameRecorder, RawFrame};
use polyphase::port::terminal_events::{KeptNowhere, TerminalEventLog};
use polyphase::protocol::Request;
use polyphase::protocol::dtu::Profile;
use polyphase::protocol::modbus::{self, Function, Reply};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A registry in small: the newest session of an SN wins.
struct Newest {
    links: Mutex<HashMap<String, Arc<dyn Link>>>,
    ends: Mutex<Vec<EndCause>>,
    silence: Duration,
}

impl Newest {
    fn owner(&self) -> Owner {
        Owner {
            session: SessionId(1),
            dtu: DtuId(1),
            account: AccountId(1),
            silence: self.silence,
            pause: Duration::ZERO,
            profile: None,
        }
    }
}

#[async_trait]
impl Registrar for Newest {
    async fn introduce(&self, hello: Hello) -> Admission {
        let older = self.links.lock().unwrap().insert(hello.sn.to_string(), hello.link);
        if let Some(older) = older {
            older.close(EndCause::Replaced);
        }
        Admission::Owner(self.owner())
    }

    async fn connected(
        &self,
        _connection: ConnectionId,
        _dtu: DtuId,
        _peer: Option<SocketAddr>,
        link: Arc<dyn Link>,
    ) -> Admission {
        self.links.lock().unwrap().insert("ours".into(), link);
        Admission::Owner(self.owner())
    }

    async fn reported(&self, _report: FieldReport) -> Result<ReportKept, ReportLost> {
        Err(ReportLost("there are no books".to_owned()))
    }

    fn ended(&self, _connection: ConnectionId, cause: EndCause, _stats: LinkStats) {
        self.ends.lock().unwrap().push(cause);
    }
}

struct NoRecorder;

impl FrameRecorder for NoRecorder {
    fn record(&self, _frames: Vec<RawFrame>) -> FrameRange {
        FrameRange::EMPTY
    }
}

/// A device port that takes whoever dials for DTU 1.
pub struct Port {
    registrar: Arc<Newest>,
    deps: NetDeps,
    gate: Arc<Gate>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.deps.stop.cancel();
    }
}

fn port(settings: NetSettings) -> Port {
    port_with(settings, Arc::new(KeptNowhere), Duration::from_secs(2))
}

/// The same that keeps events of concentrators there, and ends a session after so much silence.
pub fn port_with(settings: NetSettings, terminal_events: Arc<dyn TerminalEventLog>, silence: Duration) -> Port {
    let registrar = Arc::new(Newest {
        links: Mutex::default(),
        ends: Mutex::default(),
        silence,
    });
    let deps = NetDeps {
        clock: Arc::new(SystemClock),
        registrar: Arc::clone(&registrar) as Arc<dyn Registrar>,
        recorder: Arc::new(NoRecorder),
        live: Arc::new(Unheard),
        terminal_events,
        settings: Arc::new(settings),
        stop: CancellationToken::new(),
    };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Profile::default(), &deps.settings).unwrap();
    let address = listener.address().unwrap();
    let gate = Gate::new(&deps.settings);
    let on_accept = {
        let deps = deps.clone();
        move |accepted: Accepted| drop(tokio::spawn(run_connection(accepted, deps.clone())))
    };
    tokio::spawn(accept_loop(listener, Arc::clone(&gate), deps.stop.clone(), on_accept));
    Port {
        registrar,
        deps,
        gate,
        address,
    }
}

async fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Port {
    async fn dtu(&self, sn: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(format!("{sn}\r\n").as_bytes()).await.unwrap();
        socket
    }

    /// The way to a device, once it is known.
    pub async fn link(&self, sn: &str) -> Arc<dyn Link> {
        until("registration", || self.registrar.links.lock().unwrap().get(sn).cloned()).await
    }

    async fn ends(&self, count: usize) -> Vec<EndCause> {
        until("the end", || {
            let ends = self.registrar.ends.lock().unwrap();
            (ends.len() >= count).then(|| ends.clone())
        })
        .await
    }
}

fn question(unit: u8, address: u16) -> modbus::Request {
    modbus::Request::read(unit, Function::ReadHoldingRegisters, address, 2).unwrap()
}

fn job(questions: &[modbus::Request]) -> PollJob {
    PollJob {
        poll: PollId(1),
        meter: MeterId(1),
        priority: Priority::OnDemand,
        requests: questions.iter().cloned().map(Request::Modbus).collect(),
        attempts: 2,
        timeout: Duration::from_millis(1_500),
        byte_time: Duration::ZERO,
        evidence: false,
        instead: Vec::new(),
        pause: Duration::ZERO,
        deadline: Instant::now() + Duration::from_secs(60),
        effect: None,
    }
}

fn says(question: &modbus::Request, registers: [u16; 2]) -> Vec<u8> {
    question.reply_frame(&Reply::Registers(registers.to_vec())).unwrap()
}

#[tokio::test]
async fn a_dtu_registers_and_a_newer_one_takes_over() {
    let port = port(NetSettings::default());
    let mut first = port.dtu("TAKEOVER1").await;
    let old = port.link("TAKEOVER1").await;
    let asked = question(3, 9);
    let poll = {
        let (old, asked) = (Arc::clone(&old), asked.clone());
        tokio::spawn(async move { old.poll(job(&[asked])).await })
    };
    let mut wire = [0; 8];
    first.read_exact(&mut wire).await.unwrap();
    assert_eq!(wire.as_slice(), asked.wire());
    first.write_all(&says(&asked, [1, 2])).await.unwrap();
    assert_eq!(poll.await.unwrap().unwrap().reports[0].result, Ok(says(&asked, [1, 2])));
    let _second = port.dtu("TAKEOVER1").await;
    assert_eq!(port.ends(1).await, [EndCause::Replaced]);
    assert_eq!(first.read(&mut wire).await.unwrap(), 0, "the old socket is closed");
    assert_eq!(old.poll(job(&[asked])).await.unwrap_err(), LinkError::Closed);
}

#[tokio::test]
async fn a_silent_session_ends_and_gives_its_place_back() {
    let port = port(NetSettings::default());
    let began = Instant::now();
    let _dtu = port.dtu("SILENT01").await;
    port.link("SILENT01").await;
    // the acceptor holds a permit for the next one, too
    let free = until("the next permit", || {
        let free = port.gate.free();
        (port.gate.size() - free == 2).then_some(free)
    })
    .await;
    assert_eq!(port.ends(1).await, [EndCause::Silence]);
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    until("its place", || (port.gate.free() == free + 1).then_some(())).await;
}

#[tokio::test]
async fn the_port_takes_no_more_than_it_may_and_recovers() {
    let port = port(NetSettings {
        connections_max: 2,
        ..NetSettings::default()
    });
    let one = port.dtu("LIMIT001").await;
    let _two = port.dtu("LIMIT002").await;
    port.link("LIMIT001").await;
    port.link("LIMIT002").await;
    let _three = port.dtu("LIMIT003").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        !port.registrar.links.lock().unwrap().contains_key("LIMIT003"),
        "waits in the backlog"
    );
    drop(one);
    port.link("LIMIT003").await;
}

#[tokio::test]
async fn admits_at_its_rate() {
    let port = port(NetSettings {
        accepts_per_s: 50,
        accepts_burst: 1,
        ..NetSettings::default()
    });
    let began = Instant::now();
    let mut sockets = Vec::new();
    for n in 0..20 {
        sockets.push(port.dtu(&format!("RATE{n:04}")).await);
    }
    until("all registered", || {
        (port.registrar.links.lock().unwrap().len() == 20).then_some(())
    })
    .await;
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
}

#[tokio::test]
async fn accepted_sockets_find_dead_peers_by_themselves() {
    let settings = NetSettings::default();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Profile::default(), &settings).unwrap();
    let address = listener.address().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let accepting = {
        let seen = Arc::clone(&seen);
        accept_loop(listener, Gate::new(&settings), stop.clone(), move |accepted| {
            seen.lock().unwrap().push(accepted);
        })
    };
    let accepting = tokio::spawn(accepting);
    let _socket = TcpStream::connect(address).await.unwrap();
    let accepted = until("accept", || seen.lock().unwrap().pop()).await;
    let socket = socket2::SockRef::from(accepted.socket());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
    assert!(socket.tcp_nodelay().unwrap());
    stop.cancel();
    accepting.await.unwrap();
}

fn dialled(connect: Connect) -> DtuRecord {
    DtuRecord {
        id: DtuId(1),
        account: AccountId(1),
        sn: None,
        connect,
        profile: None,
        silence_s: 180,
        timeout_ms: 300,
        pause_ms: 0,
        enabled: true,
        heartbeats: Vec::new(),
        meters: Vec::new(),
    }
}

#[tokio::test]
async fn a_converter_is_dialled_again_when_it_hangs_up() {
    let port = port(NetSettings {
        redial_ms: 20,
        ..NetSettings::default()
    });
    let converter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = converter.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let dialling = tokio::spawn(run_dialled(
        dialled(Connect::Dial { address }),
        port.deps.clone(),
        stop.clone(),
    ));
    drop(converter.accept().await.unwrap());
    let (mut socket, _) = converter.accept().await.unwrap();
    assert_eq!(port.ends(1).await, [EndCause::PeerClosed]);
    let asked = question(1, 0);
    let poll = async {
        // the link of the first connection may still be shown for a moment
        loop {
            match port.link("ours").await.poll(job(std::slice::from_ref(&asked))).await {
                Err(LinkError::Closed) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    };
    let converter = async {
        let mut wire = [0; 8];
        socket.read_exact(&mut wire).await.unwrap();
        socket.write_all(&says(&asked, [8, 9])).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(poll, converter);
    assert_eq!(outcome.unwrap().reports[0].result, Ok(says(&asked, [8, 9])));
    stop.cancel();
    dialling.await.unwrap();
    assert_eq!(port.ends(2).await[1], EndCause::Shutdown);
}

/// A Modbus TCP gateway of the test's own: unit 1 answers, unit 2 four seconds late, unit 3 refuses.
async fn gateway(listener: TcpListener, connections: Arc<Mutex<usize>>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        *connections.lock().unwrap() += 1;
        tokio::spawn(async move {
            let mut adu = [0; 12];
            while socket.read_exact(&mut adu).await.is_ok() {
                let address = u16::from_be_bytes([adu[8], adu[9]]);
                let pdu = match adu[6] {
                    3 => vec![0x83, 2],
                    unit => vec![3, 4, unit, 0, address.to_be_bytes()[0], address.to_be_bytes()[1]],
                };
                if adu[6] == 2 {
                    tokio::time::sleep(Duration::from_millis(4_000)).await;
                }
                let length = u8::try_from(pdu.len() + 1).unwrap();
                let mut answer = vec![adu[0], adu[1], 0, 0, 0, length, adu[6]];
                answer.extend_from_slice(&pdu);
                if socket.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn poll(port: &Port, questions: &[modbus::Request]) -> PollOutcome {
    port.link("ours").await.poll(job(questions)).await.unwrap()
}

#[tokio::test]
async fn a_modbus_tcp_gateway_is_read_and_redialled_after_a_time_out_only() {
    let port = port(NetSettings::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(Mutex::new(0));
    tokio::spawn(gateway(listener, Arc::clone(&connections)));
    let stop = CancellationToken::new();
    let record = dialled(Connect::ModbusTcp { address });
    let dialling = tokio::spawn(run_dialled(record, port.deps.clone(), stop.clone()));

    let good = [question(1, 100), question(1, 200)];
    let outcome = poll(&port, &good).await;
    assert_eq!(
        outcome.reports[0].result,
        Ok(says(&good[0], [0x0100, 100])),
        "as an RTU frame"
    );
    assert_eq!(outcome.reports[1].result, Ok(says(&good[1], [0x0100, 200])));
    let refused = poll(&port, &[question(3, 0)]).await;
    assert_eq!(refused.reports[0].result, Err(TransactionError::Refused(2)));
    assert_eq!(*connections.lock().unwrap(), 1);

    let late = poll(&port, &[question(2, 7)]).await;
    assert_eq!(late.reports[0].result, Err(TransactionError::Timeout));
    assert_eq!(late.reports[0].attempts, 2);
    let after = poll(&port, &good).await;
    assert_eq!(
        after.reports[1].result,
        Ok(says(&good[1], [0x0100, 200])),
        "not the late one"
    );
    assert_eq!(
        *connections.lock().unwrap(),
        3,
        "one more for each time-out, under the same link"
    );
    assert!(port.registrar.ends.lock().unwrap().is_empty());
    let stats = port.link("ours").await.stats();
    assert_eq!((stats.answers, stats.timeouts), (5, 1));
    stop.cancel();
    dialling.await.unwrap();
    assert_eq!(port.ends(1).await, [EndCause::Shutdown]);
}

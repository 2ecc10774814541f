//! A virtual DTU: dials a head end, says who it is, sends heartbeats, and answers for the meters on its line.

use crate::base::clock::Clock;
use crate::protocol::dtu::ddp;
use crate::simulator::faults::{Dice, Fate, Faults};
use crate::simulator::line::{LineMeter, Question, Tongue, next_question};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How a virtual DTU says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Registration {
    /// The serial number as text, once.
    Ascii,
    /// Text and a line end, once.
    Line,
    /// `LOGIN:` and the text, once.
    Login,
    /// The text in front of every packet.
    Every,
    /// Hongdian DDP packets; needs a serial number of 11 digits.
    Ddp,
}

/// One virtual DTU.
#[derive(Debug)]
pub struct SimDtu {
    /// Its serial number.
    pub sn: String,
    /// How it says it.
    pub registration: Registration,
    /// Between heartbeats; zero: none.
    pub heartbeat: Duration,
    /// Bits per second of its line; 0: no line time.
    pub baud: u32,
    /// What goes wrong.
    pub faults: Faults,
    /// Seed of its dice.
    pub seed: u64,
    /// Its meters.
    pub meters: Vec<Box<dyn LineMeter>>,
}

/// Counters of a simulated fleet.
#[derive(Debug, Default)]
pub struct FleetStats {
    /// Connections that are up.
    pub connected: AtomicU64,
    /// Connections made.
    pub dialled: AtomicU64,
    /// Requests heard.
    pub requests: AtomicU64,
    /// Replies sent.
    pub replies: AtomicU64,
    /// Reports that concentrators made of their own accord.
    pub reports: AtomicU64,
    /// Those that were confirmed.
    pub confirmed: AtomicU64,
}

const HEARTBEAT: &[u8] = b"HB";
/// Between a serial number and the first heartbeat, if the interval is not shorter.
const HELLO_PAUSE: Duration = Duration::from_secs(5);
/// Most bytes kept of what may be the beginning of a request.
const PENDING_MAX: usize = 512;
/// Turn-round of a meter on a line with a speed.
const TURN_ROUND: Duration = Duration::from_millis(15);
const REDIAL_FIRST: Duration = Duration::from_millis(500);
const REDIAL_LONGEST: Duration = Duration::from_secs(5);

impl SimDtu {
    /// Dials and redials until it is dropped.
    pub async fn run(self: Arc<Self>, server: String, clock: Arc<dyn Clock>, stats: Arc<FleetStats>) {
        let mut dice = Dice::new(self.seed);
        let mut wait = REDIAL_FIRST;
        loop {
            let ended = self.session(&server, &*clock, &stats, &mut dice).await;
            tracing::debug!(sn = self.sn, ?ended, "virtual DTU lost its session");
            if ended.is_ok() {
                // it was connected: the server is there, so it is tried again soon
                wait = REDIAL_FIRST;
            }
            let jitter = Duration::from_millis(dice.below(wait.as_millis().try_into().unwrap_or(1000)));
            tokio::time::sleep(wait + jitter).await;
            wait = (wait * 2).min(REDIAL_LONGEST);
        }
    }

    /// One connection from dialling to its end; an error when there was none.
    async fn session(&self, server: &str, clock: &dyn Clock, stats: &FleetStats, dice: &mut Dice) -> io::Result<()> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        stats.dialled.fetch_add(1, Ordering::Relaxed);
        stats.connected.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.carry(stream, clock, stats, dice).await {
            tracing::debug!(sn = self.sn, %error, "the connection failed");
        }
        stats.connected.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    async fn carry(
        &self,
        mut stream: TcpStream,
        clock: &dyn Clock,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<()> {
        stream.write_all(&self.hello()).await?;
        let mut pending: Vec<u8> = Vec::new();
        let tongues = self.tongues();
        let idle = if self.heartbeat.is_zero() {
            Duration::from_secs(86_400 * 365)
        } else {
            self.heartbeat
        };
        // the first one at a random point of the interval, so that a fleet does not beat as one heart, and not so soon
        // that it becomes a part of the serial number: what ends a bare text is a pause
        let first = idle.mul_f64(dice.below(1000) as f64 / 1000.0);
        let mut beat = Instant::now() + first.max(idle.min(HELLO_PAUSE));
        loop {
            tokio::select! {
                ready = stream.readable() => ready?,
                () = tokio::time::sleep_until(beat) => {
                    stream.write_all(&self.heartbeat()).await?;
                    beat = Instant::now() + idle;
                    continue;
                }
            }
            let mut chunk = [0u8; 300];
            match stream.try_read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => pending.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            while let Some((question, length)) = next_question(&mut pending, &tongues) {
                stats.requests.fetch_add(1, Ordering::Relaxed);
                if !self.reply(&question, length, &mut stream, clock, stats, dice).await? {
                    return Ok(());
                }
            }
            pending.drain(..pending.len().saturating_sub(PENDING_MAX));
            if pending.is_empty() {
                pending = Vec::new();
            }
        }
    }

    /// The first bytes of a connection.
    fn hello(&self) -> Vec<u8> {
        match self.registration {
            Registration::Ascii | Registration::Every => self.sn.clone().into_bytes(),
            Registration::Line => format!("{}\r\n", self.sn).into_bytes(),
            Registration::Login => format!("LOGIN:{}", self.sn).into_bytes(),
            Registration::Ddp => self.ddp(ddp::REGISTER, &[127, 0, 0, 1, 0x1F, 0x40]),
        }
    }

    fn heartbeat(&self) -> Vec<u8> {
        match self.registration {
            Registration::Ddp => self.hello(),
            _ => HEARTBEAT.to_vec(),
        }
    }

    fn ddp(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + ddp::OVERHEAD).unwrap_or(u16::MAX);
        let mut id = self.sn.clone().into_bytes();
        id.resize(11, 0);
        [
            &[ddp::FLAG, kind][..],
            &length.to_be_bytes(),
            &id,
            payload,
            &[ddp::FLAG],
        ]
        .concat()
    }

    /// What is spoken on the line, each once.
    fn tongues(&self) -> Vec<Tongue> {
        let mut tongues = Vec::new();
        for tongue in self.meters.iter().map(|meter| meter.tongue()) {
            if !tongues.contains(&tongue) {
                tongues.push(tongue);
            }
        }
        tongues
    }

    /// Answers; false: the connection shall be cut.
    async fn reply(
        &self,
        question: &Question,
        length: usize,
        stream: &mut TcpStream,
        clock: &dyn Clock,
        stats: &FleetStats,
        dice: &mut Dice,
    ) -> io::Result<bool> {
        let now = clock.now();
        // a wildcard may call several meters: all of them speak, one over the other
        let mut spoken = self.meters.iter().enumerate().filter_map(|(place, meter)| {
            let spoken = meter.answer(question, now)?;
            Some((place, spoken))
        });
        let Some((place, mut said)) = spoken.next() else {
            return Ok(true);
        };
        for (_, other) in spoken {
            said.bytes = collide(&said.bytes, &other.bytes);
        }
        tokio::time::sleep(said.after).await;
        let frame = said.bytes;
        if self.baud > 0 {
            let bytes = length + frame.len();
            tokio::time::sleep(TURN_ROUND + Duration::from_secs_f64(bytes as f64 * 11.0 / f64::from(self.baud))).await;
        }
        let foreign = || {
            let mut others = self.meters.iter().enumerate().filter(|(other, _)| *other != place);
            others.find_map(|(_, other)| other.answer_as_if_meant(question, clock.now()))
        };
        match self.faults.fate(frame, HEARTBEAT, foreign, dice) {
            Fate::Cut => return Ok(false),
            Fate::Lost => {}
            Fate::Send(pieces) => {
                for piece in pieces {
                    if !piece.after.is_zero() {
                        tokio::time::sleep(piece.after).await;
                    }
                    stream.write_all(&self.wrap(piece.bytes)).await?;
                }
                stats.replies.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    fn wrap(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.registration {
            Registration::Ddp => self.ddp(ddp::DATA, &bytes),
            Registration::Every => [self.sn.as_bytes(), &bytes].concat(),
            _ => bytes,
        }
    }
}

/// Two frames at once: on RS-485 and M-Bus a dominant bit wins, so what is heard is neither.
pub(super) fn collide(one: &[u8], other: &[u8]) -> Vec<u8> {
    let longer = one.len().max(other.len());
    let at = |bytes: &[u8], place: usize| bytes.get(place).copied().unwrap_or(0xFF);
    (0..longer).map(|place| at(one, place) & at(other, place)).collect()
}

//! The session from connect to gone, without a socket: bytes and "now" go in, events come out.
//!
//! ```text
//! bytes -> budget -> recogniser (until identified) -> framing -> line idle?  heartbeats, strays
//!                                                             -> line busy:  the transaction's bytes
//! ```
//!
//! The owner of the socket calls [`Session::feed`] with what it read, [`Session::tick`] at [`Session::next_deadline`],
//! and acts on the events in order. It measures silence itself: whatever arrives, even noise, shows that the peer lives.
//! Next: `exchange/line.rs`, which asks and judges answers.

mod budget;
mod heartbeats;
mod open;
mod registering;
#[cfg(test)]
mod tests;

use crate::domain::device::SerialNumber;
use crate::protocol::dtu::{Answer, Framing, FramingDecoder, Profile, RegistrationError, RegistrationKind, lineframe};
pub use budget::FloodBudget;
use budget::Tokens;
use heartbeats::Heartbeats;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// How many of the first bytes are shown in the quarantine.
pub const FIRST_BYTES_MAX: usize = 64;

/// What a session is told at its start.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// How the DTU registers.
    pub profile: Profile,
    /// Who has not said who it is by then is closed.
    pub registration_timeout: Duration,
    /// Quiet time that ends a package without delimiter, and a burst on an idle line. A profile can pin its own.
    pub quiet_gap: Duration,
    /// Byte and arrival budget.
    pub budget: FloodBudget,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            registration_timeout: Duration::from_secs(30),
            quiet_gap: Duration::from_millis(500),
            budget: FloodBudget::default(),
        }
    }
}

/// What a session has to say, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The DTU said who it is. Once per session.
    Identified {
        /// Its SN.
        sn: SerialNumber,
        /// How it was said.
        learned: LearnedProfile,
        /// The first bytes of the connection, at most [`FIRST_BYTES_MAX`].
        first_bytes: Vec<u8>,
        /// The registration package, for the frame record.
        package: Vec<u8>,
    },
    /// Bytes from the line, framing and per-packet registration removed. With a transaction open they are its bytes, at
    /// once; else strays or pushes, after the line fell quiet.
    Line(Vec<u8>),
    /// A heartbeat or repeated registration package, whole.
    Heartbeat(Vec<u8>),
    /// Bytes that belong to nothing (between packets of a framing, before the registration).
    Noise(Vec<u8>),
    /// To be written to the DTU at once, as it is (do not [`Session::wrap`] it).
    Reply(Vec<u8>),
    /// The session must be closed. Nothing follows.
    Fault(SessionFault),
}

/// Why a session must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// It did not say who it is in time.
    #[error("no registration within {} s; {bytes} bytes came", .waited.as_secs())]
    NoRegistration {
        /// How long it had.
        waited: Duration,
        /// Bytes that came.
        bytes: u64,
    },
    /// What it said is not acceptable.
    #[error(transparent)]
    BadRegistration(#[from] RegistrationError),
    /// A register packet with another id on the same connection.
    #[error("registered as {was}, now says {now}")]
    IdentityChanged {
        /// The id so far.
        was: String,
        /// The new one.
        now: String,
    },
    /// More than its budget.
    #[error("more than its budget: {bytes_per_s} bytes/s and {reads_per_s} reads/s")]
    Flood {
        /// The sustained byte rate allowed.
        bytes_per_s: u32,
        /// The sustained arrival rate allowed.
        reads_per_s: u32,
    },
}

/// What was learned of a DTU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LearnedProfile {
    /// Framing.
    pub framing: Framing,
    /// How the SN was said; none on a session that needs no registration.
    pub kind: Option<RegistrationKind>,
    /// Whether the package stands before every packet.
    pub every_packet: bool,
    /// The registration package.
    pub package: Vec<u8>,
    /// Heartbeats seen, at most 4.
    pub heartbeats: Vec<Vec<u8>>,
    /// Time between the last two heartbeats.
    pub heartbeat_interval: Option<Duration>,
}

impl LearnedProfile {
    /// How the SN was said, e.g. `ascii_once`, `ascii_every_packet`, `imei_once`; empty without registration.
    pub fn registration_name(&self) -> String {
        let Some(kind) = self.kind else {
            return String::new();
        };
        let mode = if self.every_packet { "every_packet" } else { "once" };
        format!("{}_{mode}", kind.name())
    }
}

/// One connection's session.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
    phase: Phase,
    tokens: Tokens,
    bytes_seen: u64,
    heartbeats: Heartbeats,
    busy: bool,
    /// Bytes that wait: on an idle line for quiet, on a busy one as a possible package prefix.
    held: Vec<u8>,
    held_until: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Unregistered {
        buffer: Vec<u8>,
        first_bytes: Vec<u8>,
        deadline: Instant,
        quiet_at: Option<Instant>,
        decide_at: Option<Instant>,
    },
    Open(Box<Open>),
    Ended,
}

#[derive(Debug)]
struct Open {
    decoder: FramingDecoder,
    kind: Option<RegistrationKind>,
    sn: String,
    package: Vec<u8>,
    pinned_every_packet: Option<bool>,
    /// Packets seen with the package in front.
    prefixed: u8,
}

impl Session {
    /// A session whose peer has to say who it is.
    pub fn new(settings: SessionSettings, now: Instant) -> Self {
        let phase = Phase::Unregistered {
            buffer: Vec::new(),
            first_bytes: Vec::new(),
            deadline: now + settings.registration_timeout,
            quiet_at: None,
            decide_at: None,
        };
        Self::with(settings, phase, now)
    }

    /// A session that needs no registration: a converter that we dialled, a serial port.
    pub fn transparent(settings: SessionSettings, now: Instant) -> Self {
        let open = Open {
            decoder: FramingDecoder::Transparent,
            kind: None,
            sn: String::new(),
            package: Vec::new(),
            pinned_every_packet: None,
            prefixed: 0,
        };
        Self::with(settings, Phase::Open(Box::new(open)), now)
    }

    fn with(settings: SessionSettings, phase: Phase, now: Instant) -> Self {
        Self {
            heartbeats: Heartbeats::new(&settings.profile.heartbeats),
            tokens: Tokens::new(settings.budget, now),
            settings,
            phase,
            bytes_seen: 0,
            busy: false,
            held: Vec::new(),
            held_until: None,
        }
    }

    /// Bytes arrived.
    pub fn feed(&mut self, now: Instant, bytes: &[u8]) -> Vec<SessionEvent> {
        // before the registration, bytes that are here prove that the line was not quiet, however late we look
        let mut events = match self.phase {
            Phase::Unregistered { .. } if !bytes.is_empty() => Vec::new(),
            _ => self.tick(now),
        };
        if bytes.is_empty() || matches!(self.phase, Phase::Ended) {
            return events;
        }
        self.bytes_seen = self.bytes_seen.saturating_add(bytes.len() as u64);
        if !self.tokens.take(now, bytes.len()) {
            let budget = self.settings.budget;
            self.fail(
                &mut events,
                SessionFault::Flood {
                    bytes_per_s: budget.bytes_per_s,
                    reads_per_s: budget.reads_per_s,
                },
            );
            return events;
        }
        if matches!(self.phase, Phase::Open(_)) {
            self.arrived(now, bytes, &mut events);
        } else {
            self.first_arrived(now, bytes, &mut events);
            // one that never falls quiet has its deadlines all the same
            events.extend(self.tick(now));
        }
        events
    }

    /// Time passed. Cheap and harmless when called too often.
    pub fn tick(&mut self, now: Instant) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        match &self.phase {
            Phase::Unregistered {
                deadline,
                quiet_at,
                decide_at,
                ..
            } => {
                let (deadline, quiet) = (
                    *deadline,
                    [*quiet_at, *decide_at].into_iter().flatten().any(|at| at <= now),
                );
                if quiet {
                    self.recognise(now, true, &mut events);
                }
                if deadline <= now && matches!(self.phase, Phase::Unregistered { .. }) {
                    let waited = self.settings.registration_timeout;
                    let bytes = self.bytes_seen;
                    self.fail(&mut events, SessionFault::NoRegistration { waited, bytes });
                }
            }
            Phase::Open(_) if self.held_until.is_some_and(|at| at <= now) => self.release(now, &mut events),
            Phase::Open(_) | Phase::Ended => {}
        }
        events
    }

    /// When [`Session::tick`] has to be called at the latest, if nothing arrives before.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Unregistered {
                deadline,
                quiet_at,
                decide_at,
                ..
            } => [Some(*deadline), *quiet_at, *decide_at].into_iter().flatten().min(),
            Phase::Open(_) => self.held_until,
            Phase::Ended => None,
        }
    }

    /// Tells whether a transaction is open. Say so *before* its request is written: what was held back until now comes
    /// out first, so that it is never taken for the answer.
    pub fn line_busy(&mut self, now: Instant, busy: bool) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        if busy != self.busy {
            self.release(now, &mut events);
            self.busy = busy;
        }
        events
    }

    /// Tells of bytes that the line took out of a transaction's window as noise or by
    /// [`strip_candidates`](crate::protocol::dtu::strip_candidates). Answers whether they are a heartbeat. This is how
    /// heartbeats are learned on a line that is never idle.
    pub fn noise(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        if !open.package.is_empty() && bytes == open.package {
            self.heartbeats.note_time(now);
            return true;
        }
        // what could be a torn reply is not learned, however often it comes
        let torn = bytes.len() < 2 || lineframe::is_modbus_head(bytes) || bytes.first() == Some(&0x68);
        // FE is a heartbeat that makers ship, and what a DL/T 645 or CJ/T 188 meter wakes the line with: around a question
        // it proves nothing, only a line that nobody asked teaches it
        let wake = lineframe::is_wake(bytes);
        if wake && !self.heartbeats.known().iter().any(|known| known == bytes) {
            return false;
        }
        self.heartbeats.judge(now, bytes, !torn)
    }

    /// The directory knows this DTU and pins a profile: from now on its heartbeats, its `every` or `once`, its quiet gap
    /// and its answer count. How the SN is said is past; an answer that was not given yet is given now.
    pub fn pin(&mut self, profile: Profile) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        self.heartbeats.pin(&profile.heartbeats);
        if let Phase::Open(open) = &mut self.phase {
            open.pinned_every_packet = profile.every_packet.or(open.pinned_every_packet);
            let answered = self.settings.profile.answer != Answer::Nothing || open.package.is_empty();
            let answer = profile.answer.to(&open.package).filter(|_| !answered && !self.busy);
            events.extend(answer.map(SessionEvent::Reply));
        }
        self.settings.profile = profile;
        events
    }

    /// Tells that these arrivals were asked for: an answer does not count as flood.
    pub fn asked_for(&mut self, reads: u32, bytes: usize) {
        self.tokens.give_back(reads, bytes);
    }

    /// Puts the framing around bytes for the line. Before the DTU has said who it is: as they are.
    pub fn wrap<'a>(&self, payload: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.phase {
            Phase::Open(open) => open.decoder.wrap(payload),
            Phase::Unregistered { .. } | Phase::Ended => payload.into(),
        }
    }

    /// What can stand before, between and inside replies of this DTU: its heartbeats and its registration package.
    pub fn heartbeat_patterns(&self) -> Vec<Vec<u8>> {
        let mut patterns = self.heartbeats.known().to_vec();
        if let Phase::Open(open) = &self.phase
            && open.decoder.framing() == Framing::Transparent
            && !open.package.is_empty()
        {
            patterns.push(open.package.clone());
        }
        patterns
    }

    /// What was learned so far.
    pub fn learned(&self) -> LearnedProfile {
        let mut learned = LearnedProfile {
            heartbeats: self.heartbeats.known().to_vec(),
            heartbeat_interval: self.heartbeats.interval(),
            ..LearnedProfile::default()
        };
        if let Phase::Open(open) = &self.phase {
            learned.framing = open.decoder.framing();
            learned.kind = open.kind;
            learned.every_packet = open.every_packet();
            learned.package.clone_from(&open.package);
        }
        learned
    }

    /// Whether the DTU has said who it is (or need not).
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Bytes held in the session now, for the memory ceiling.
    pub fn held_len(&self) -> usize {
        self.held.len()
            + match &self.phase {
                Phase::Unregistered { buffer, .. } => buffer.len(),
                Phase::Open(open) => open.decoder.pending(),
                Phase::Ended => 0,
            }
    }

    fn quiet_gap(&self) -> Duration {
        self.settings.profile.quiet_gap.unwrap_or(self.settings.quiet_gap)
    }

    fn fail(&mut self, events: &mut Vec<SessionEvent>, fault: SessionFault) {
        self.phase = Phase::Ended;
        self.held = Vec::new();
        self.held_until = None;
        events.push(SessionEvent::Fault(fault));
    }
}

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

mod heartbeats;
#[cfg(test)]
mod tests;

use crate::domain::device::SerialNumber;
use crate::protocol::dtu::{
    Answer, Framing, FramingDecoder, FramingItem, Profile, Recognition, Registration, RegistrationError,
    RegistrationKind, lineframe, recognise,
};
use heartbeats::Heartbeats;
use std::time::{Duration, Instant};

/// How many of the first bytes are shown in the quarantine.
pub const FIRST_BYTES_MAX: usize = 64;
/// Idle bytes are held back until quiet, to see a split heartbeat whole; at most this many.
const IDLE_LEN_MAX: usize = 512;
/// The first part of a registration package in front of a reply is held back for the rest at most this long.
const PREFIX_HOLD: Duration = Duration::from_millis(100);
/// A registration that never falls quiet is judged this long after its first byte.
const DECIDE_AFTER: Duration = Duration::from_secs(3);
/// A package shorter than this is left to the line's frame check: it could begin a reply by chance.
const PREFIX_LEN_MIN: usize = 4;

/// The byte and arrival budget of one session: two token buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloodBudget {
    /// Bytes a second, sustained.
    pub bytes_per_s: u32,
    /// Bytes at once.
    pub bytes_burst: u32,
    /// Arrivals (reads) a second, sustained.
    pub reads_per_s: u32,
    /// Arrivals at once.
    pub reads_burst: u32,
}

impl Default for FloodBudget {
    /// A line of 115,200 baud carries 11,520 bytes a second.
    fn default() -> Self {
        Self {
            bytes_per_s: 20_000,
            bytes_burst: 256 * 1024,
            reads_per_s: 200,
            reads_burst: 2_000,
        }
    }
}

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
    every_packet: Option<bool>,
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
            every_packet: None,
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
        let mut events = self.tick(now);
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
        self.heartbeats.is_heartbeat(now, bytes)
    }

    /// Tells that these arrivals were asked for: an answer does not count as flood.
    pub fn asked_for(&mut self, reads: u32, bytes: usize) {
        self.tokens.give_back(reads, bytes);
    }

    /// Puts the framing around bytes for the line. Before the DTU has said who it is: as they are.
    pub fn wrap(&self, payload: &[u8]) -> Vec<u8> {
        match &self.phase {
            Phase::Open(open) => open.decoder.wrap(payload),
            Phase::Unregistered { .. } | Phase::Ended => payload.to_vec(),
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
            learned.every_packet = open.every_packet.unwrap_or(false);
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

/// Until somebody has said who they are.
impl Session {
    fn first_arrived(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        let gap = self.quiet_gap();
        if let Phase::Unregistered {
            buffer,
            first_bytes,
            quiet_at,
            decide_at,
            ..
        } = &mut self.phase
        {
            let room = FIRST_BYTES_MAX.saturating_sub(first_bytes.len());
            first_bytes.extend(bytes.iter().take(room));
            buffer.extend_from_slice(bytes);
            *quiet_at = Some(now + gap);
            decide_at.get_or_insert(now + DECIDE_AFTER.max(gap));
        }
        self.recognise(now, false, events);
    }

    fn recognise(&mut self, now: Instant, ended: bool, events: &mut Vec<SessionEvent>) {
        loop {
            let Phase::Unregistered {
                buffer,
                quiet_at,
                decide_at,
                ..
            } = &mut self.phase
            else {
                return;
            };
            match recognise(&self.settings.profile, buffer, ended) {
                Recognition::NeedMore => {
                    if ended || buffer.is_empty() {
                        (*quiet_at, *decide_at) = (None, None);
                    }
                    return;
                }
                Recognition::Skip { len, heartbeat } => {
                    let skipped: Vec<u8> = buffer.drain(..len.clamp(1, buffer.len())).collect();
                    if heartbeat {
                        self.heartbeats.learn(now, &skipped);
                        events.push(SessionEvent::Heartbeat(skipped));
                    } else {
                        events.push(SessionEvent::Noise(skipped));
                    }
                }
                Recognition::Refused(error) => return self.fail(events, SessionFault::BadRegistration(error)),
                Recognition::Found(registration) => return self.identified(now, registration, ended, events),
            }
        }
    }

    fn identified(&mut self, now: Instant, found: Registration, ended: bool, events: &mut Vec<SessionEvent>) {
        // the recogniser's grammar is the domain's; should they ever part, the domain's word counts
        let Ok(sn) = SerialNumber::parse(&found.sn) else {
            let refused = RegistrationError::NotThis {
                wanted: "a serial number",
            };
            return self.fail(events, SessionFault::BadRegistration(refused));
        };
        let open = Open {
            decoder: found.decoder,
            kind: Some(found.kind),
            sn: found.sn,
            package: Vec::new(),
            every_packet: self.settings.profile.every_packet,
        };
        let was = std::mem::replace(&mut self.phase, Phase::Open(Box::new(open)));
        let Phase::Unregistered {
            mut buffer,
            first_bytes,
            ..
        } = was
        else {
            return;
        };
        let rest = buffer.split_off(found.len.min(buffer.len()));
        if let Phase::Open(open) = &mut self.phase {
            open.package.clone_from(&buffer);
        }
        events.push(SessionEvent::Identified {
            sn,
            learned: self.learned(),
            first_bytes,
            package: buffer.clone(),
        });
        let answer = match &self.settings.profile.answer {
            Answer::Nothing => None,
            Answer::Echo => Some(buffer),
            Answer::Bytes(bytes) => Some(bytes.clone()),
        };
        events.extend(found.answer.into_iter().chain(answer).map(SessionEvent::Reply));
        if !rest.is_empty() {
            self.behind_package(&rest);
            self.arrived(now, &rest, events);
            if ended {
                self.release(now, events);
            }
        }
    }

    /// A package with line data right behind it is how DTUs look that put it before every packet.
    fn behind_package(&mut self, rest: &[u8]) {
        if let Phase::Open(open) = &mut self.phase
            && open.every_packet.is_none()
            && lineframe::is_line_data(rest)
        {
            open.every_packet = Some(true);
        }
    }
}

/// Once it is known who this is.
impl Session {
    fn arrived(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        // PROT sends its register packet unescaped, so it must go before the decoder sees it
        let mut rest = bytes;
        if open.decoder.framing() == Framing::FourFaithProt {
            while let Some(behind) = rest
                .strip_prefix(open.package.as_slice())
                .filter(|_| !open.package.is_empty())
            {
                self.heartbeats.note_time(now);
                events.push(SessionEvent::Heartbeat(open.package.clone()));
                rest = behind;
            }
        }
        for item in open.decoder.feed(rest) {
            match item {
                FramingItem::Line(bytes) => self.line_bytes(now, &bytes, events),
                FramingItem::Heartbeat(bytes) => {
                    self.heartbeats.note_time(now);
                    self.acknowledge(&bytes, events);
                    events.push(SessionEvent::Heartbeat(bytes));
                }
                FramingItem::Reply(bytes) => events.push(SessionEvent::Reply(bytes)),
                FramingItem::Noise(bytes) => events.push(SessionEvent::Noise(bytes)),
                FramingItem::OtherId(now_id) => {
                    let was = match &self.phase {
                        Phase::Open(open) => open.sn.clone(),
                        _ => return,
                    };
                    return self.fail(events, SessionFault::IdentityChanged { was, now: now_id });
                }
            }
        }
    }

    /// A repeated register packet wants the same answer as the first.
    fn acknowledge(&mut self, packet: &[u8], events: &mut Vec<SessionEvent>) {
        use crate::protocol::dtu::ddp;
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        if let FramingDecoder::Ddp { id, .. } = &open.decoder
            && packet.get(1) == Some(&ddp::REGISTER)
        {
            events.push(SessionEvent::Reply(ddp::register_ack(*id)));
            if open.package.is_empty() {
                open.package = packet.to_vec();
            }
        }
    }

    fn line_bytes(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        self.held.extend_from_slice(bytes);
        if self.busy {
            return self.busy_bytes(now, events);
        }
        self.held_until = Some(now + self.quiet_gap());
        if self.held.len() > IDLE_LEN_MAX {
            self.release(now, events);
        }
    }

    /// With a transaction open everything goes to the line at once, but for the registration package in front.
    fn busy_bytes(&mut self, now: Instant, events: &mut Vec<SessionEvent>) {
        let taken = self.take_packages(now, events);
        if let Phase::Open(open) = &mut self.phase
            && open.prefixes_packets()
            && !self.held.is_empty()
        {
            if taken && open.every_packet.is_none() {
                open.every_packet = Some(true);
            }
            let unfinished = self.held.len() < open.package.len() && open.package.starts_with(&self.held);
            if unfinished && open.every_packet == Some(true) {
                self.held_until = Some(now + PREFIX_HOLD);
                return;
            }
        }
        self.held_until = None;
        if !self.held.is_empty() {
            events.push(SessionEvent::Line(std::mem::take(&mut self.held)));
        }
    }

    /// Takes whole registration packages off the front of what is held. A package alone is a heartbeat.
    fn take_packages(&mut self, now: Instant, events: &mut Vec<SessionEvent>) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        let mut taken = false;
        while open.prefixes_packets() && self.held.starts_with(&open.package) {
            self.held.drain(..open.package.len());
            taken = true;
            if self.held.is_empty() || self.held.starts_with(&open.package) {
                self.heartbeats.note_time(now);
                events.push(SessionEvent::Heartbeat(open.package.clone()));
            }
        }
        taken
    }

    /// Gives out what is held: the wait is over.
    fn release(&mut self, now: Instant, events: &mut Vec<SessionEvent>) {
        self.held_until = None;
        if self.busy {
            if !self.held.is_empty() {
                events.push(SessionEvent::Line(std::mem::take(&mut self.held)));
            }
            return;
        }
        while !self.held.is_empty() {
            let taken = self.take_packages(now, events);
            if taken
                && !self.held.is_empty()
                && let Phase::Open(open) = &mut self.phase
                && lineframe::is_line_data(&self.held)
            {
                open.every_packet.get_or_insert(true);
            }
            match self.heartbeats.leading(&self.held) {
                Some(len) => {
                    let heartbeat: Vec<u8> = self.held.drain(..len).collect();
                    self.heartbeats.learn(now, &heartbeat);
                    events.push(SessionEvent::Heartbeat(heartbeat));
                }
                None if self.held.is_empty() => {}
                None => {
                    let bytes = std::mem::take(&mut self.held);
                    let is_heartbeat = self.heartbeats.is_heartbeat(now, &bytes);
                    events.push(if is_heartbeat {
                        SessionEvent::Heartbeat(bytes)
                    } else {
                        SessionEvent::Line(bytes)
                    });
                }
            }
        }
    }
}

impl Open {
    /// Whether the package is safe to cut off the front of a packet without asking the frame check: long enough, and
    /// not such that a Modbus reply could begin with it.
    fn prefixes_packets(&self) -> bool {
        self.package.len() >= PREFIX_LEN_MIN
            && self.decoder.framing() == Framing::Transparent
            && !lineframe::is_modbus_head(&self.package)
    }
}

/// Two token buckets.
#[derive(Debug)]
struct Tokens {
    budget: FloodBudget,
    bytes: f64,
    reads: f64,
    at: Instant,
}

impl Tokens {
    fn new(budget: FloodBudget, now: Instant) -> Self {
        Self {
            bytes: f64::from(budget.bytes_burst),
            reads: f64::from(budget.reads_burst),
            at: now,
            budget,
        }
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let budget = self.budget;
        let fill = |level: f64, rate: u32, burst: u32| (level + seconds * f64::from(rate)).min(f64::from(burst));
        self.bytes = fill(self.bytes, budget.bytes_per_s, budget.bytes_burst) - bytes as f64;
        self.reads = fill(self.reads, budget.reads_per_s, budget.reads_burst) - 1.0;
        self.bytes >= 0.0 && self.reads >= 0.0
    }

    fn give_back(&mut self, reads: u32, bytes: usize) {
        self.bytes = (self.bytes + bytes as f64).min(f64::from(self.budget.bytes_burst));
        self.reads = (self.reads + f64::from(reads)).min(f64::from(self.budget.reads_burst));
    }
}

//! The one future that owns a connection, from the first byte to the last.
//!
//! ```text
//!  socket ─bytes─▶ session ─line bytes─▶ line ─answers─▶ outcome to the asker, frames to the recorder
//!    ▲                │ registration ─▶ registrar (introduce; owner, quarantine or refusal)
//!    └── replies ─────┘◀── requests ─── line ◀── jobs from the link
//! ```
//!
//! What a concentrator sent goes to its trunk (`connection/trunk.rs`) instead of a line, what a terminal of DL/T 698.45 sent to
//! its proxy (`connection/terminal.rs`).
//!
//! It knows no meaning of a reading. Whatever happens, panic included, it tells the registrar once that it has ended, and
//! every asker gets an answer.

mod in_turn;
mod terminal;
mod trunk;

use super::NetDeps;
use super::desk::{Desk, Origin, wide};
use super::link::Wish;
use super::settings::{millis, seconds};
use super::wire::{read_now, read_some, write_all};
use crate::base::hex;
use crate::base::ids::ConnectionId;
use crate::domain::device::SerialNumber;
use crate::exchange::Moment;
use crate::exchange::line::{Line, LineEvent, LineSettings};
use crate::exchange::proxy::Proxy;
use crate::exchange::session::{LearnedProfile, Session, SessionEvent, SessionFault};
use crate::exchange::trunk::Trunk;
use crate::exchange::visit::{AnswerBounds, LineFrame};
use crate::port::field::{Admission, EndCause, Hello, Learned, Owner};
use crate::port::frames::FrameKind;
use crate::protocol::dtu::Profile;
use crate::telemetry::field::NoiseHeard;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// The registrar's time for a verdict.
const INTRODUCE_MAX: Duration = Duration::from_secs(30);

type Introduction = Pin<Box<dyn Future<Output = Admission> + Send>>;

struct Connection<S> {
    io: S,
    origin: Origin,
    deps: NetDeps,
    session: Session,
    line: Line,
    /// The way to a concentrator's points; none while the peer is a DTU.
    trunk: Option<Box<Trunk>>,
    /// The same to the meters of a terminal of DL/T 698.45.
    proxy: Option<Box<Proxy>>,
    reports: terminal::Reports,
    put_away: trunk::PutAway,
    desk: Desk,
    introduction: Option<Introduction>,
    heartbeats: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    /// Reads and bytes since the present question was written, given back to the flood budget when it is answered.
    asked_reads: u32,
    asked_bytes: usize,
    silence: Duration,
    heard_on: Instant,
}

/// Runs a connection over any stream until it ends. No `async fn`: that would keep room for its arguments as long as it lives.
pub(super) fn run<S>(
    io: S,
    id: ConnectionId,
    origin: Origin,
    session: Session,
    deps: NetDeps,
) -> impl Future<Output = EndCause> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut connection = Connection::new(io, id, origin, session, deps);
    async move {
        let cause = match connection.live().await {
            Ok(never) => match never {},
            Err(cause) => cause,
        };
        connection.end(cause);
        cause
    }
}

/// How lines behave under these settings.
fn line_settings(deps: &NetDeps) -> LineSettings {
    let settings = &deps.settings;
    LineSettings {
        guard: millis(settings.guard_ms),
        guard_max: millis(settings.guard_max_ms),
        owed_timeouts: settings.owed_timeouts,
        owed_max: millis(settings.owed_max_ms),
        dead_timeouts: settings.dead_line_timeouts,
        queue_jobs: settings.queue_jobs,
        answer: AnswerBounds {
            follow_ups: settings.follow_ups,
            bytes: settings.answer_bytes,
        },
    }
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn new(io: S, id: ConnectionId, origin: Origin, session: Session, deps: NetDeps) -> Self {
        let now = deps.moment();
        Self {
            line: Line::new(line_settings(&deps), now),
            trunk: None,
            proxy: None,
            reports: terminal::Reports::default(),
            put_away: trunk::PutAway::default(),
            silence: seconds(deps.settings.silence_s),
            heard_on: now.on,
            introduction: None,
            desk: Desk::new(id, origin, deps.clone()),
            heartbeats: Vec::new(),
            bytes: Vec::new(),
            asked_reads: 0,
            asked_bytes: 0,
            io,
            origin,
            deps,
            session,
        }
    }

    /// Lives until there is a cause to end.
    async fn live(&mut self) -> Result<std::convert::Infallible, EndCause> {
        if let Origin::Ours { dtu, peer } = self.origin {
            let (registrar, id) = (Arc::clone(&self.deps.registrar), self.desk.id);
            let link = self.desk.handle();
            self.introduction = Some(Box::pin(in_time(async move {
                registrar.connected(id, dtu, peer, link).await
            })));
        }
        let stop = self.deps.stop.child_token();
        let stopped = stop.cancelled();
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(stopped, alarm);
        let mut now = self.deps.moment();
        loop {
            now = self.work(now).await?;
            let due = tokio::time::Instant::from_std(self.due(now));
            // an alarm that rings too early costs less than setting it anew for every question
            if due < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(due);
            }
            let introducing = self.introduction.is_some();
            tokio::select! {
                biased;
                count = read_some(&mut self.io, &mut self.bytes) => {
                    now = self.heard(count).await?;
                    continue;
                }
                admission = introduced(&mut self.introduction) => self.admit(admission).await?,
                wish = self.desk.inbox.next(!introducing) => self.grant(wish).await?,
                kept = self.reports.ended() => self.report_ended(kept),
                kept = self.put_away.ended() => self.was_put_away(kept),
                () = &mut alarm => {}
                () = &mut stopped => return Err(EndCause::Shutdown),
            }
            now = self.deps.moment();
        }
    }

    /// When there is something to do at the latest.
    fn due(&self, now: Moment) -> Instant {
        let silence = self.heard_on + self.silence;
        [
            self.line.next_deadline(now),
            self.session.next_deadline(),
            self.trunk.as_ref().and_then(|trunk| trunk.next_deadline()),
            self.proxy.as_ref().and_then(|proxy| proxy.next_deadline()),
        ]
        .into_iter()
        .flatten()
        .fold(silence, Instant::min)
    }

    /// Does all that can be done now: time, requests, outcomes. Gives what time it was when nothing was left to do: the clock is
    /// looked at where time may have passed only, for every question comes through here several times.
    async fn work(&mut self, mut now: Moment) -> Result<Moment, EndCause> {
        loop {
            if now.on >= self.heard_on + self.silence {
                return Err(EndCause::Silence);
            }
            let events = self.session.tick(now.on);
            now = self.act(now, events).await?;
            if self.trunk.is_some() || self.proxy.is_some() {
                // a frame is one as soon as it is whole, whatever was asked
                let events = self.session.line_busy(now.on, true);
                now = self.act(now, events).await?;
                self.trunk_works(now).await?;
                self.proxy_works(now).await?;
                return Ok(now);
            }
            self.line.tick(now);
            self.report(now)?;
            if !self.line.wants_to_ask(now) {
                let events = self.session.line_busy(now.on, self.line.is_busy());
                if events.is_empty() {
                    return Ok(now);
                }
                now = self.act(now, events).await?;
                continue;
            }
            // what came before the question is not its answer; the runtime gives what it has looked at only, and a busy one may
            // not have looked for longer than an answer can be late
            if self.line.expects_strays() {
                tokio::task::yield_now().await;
            }
            if let Some(count) = read_now(&mut self.io, &mut self.bytes).await {
                now = self.heard(count).await?;
                continue;
            }
            let events = self.session.line_busy(now.on, true);
            if !events.is_empty() {
                now = self.act(now, events).await?;
                continue;
            }
            // asked as of before the socket was read: what comes from then on may come behind the question
            if let Some(request) = self.line.ask(now) {
                let wire = self.session.wrap(&request);
                self.write(&wire).await?;
                now = self.deps.moment();
                self.line.written(now);
                (self.asked_reads, self.asked_bytes) = (0, 0);
            } else {
                now = self.deps.moment();
            }
        }
    }

    /// Bytes came, or the end. Gives what time it is behind it.
    async fn heard(&mut self, read: std::io::Result<usize>) -> Result<Moment, EndCause> {
        let count = match read {
            Ok(0) => return Err(EndCause::PeerClosed),
            Ok(count) => count,
            Err(_) => return Err(EndCause::SocketError),
        };
        let now = self.deps.moment();
        self.heard_on = now.on;
        self.line.peer_lives();
        self.asked_reads = self.asked_reads.saturating_add(1);
        self.asked_bytes = self.asked_bytes.saturating_add(count);
        self.desk.inbox.stats(|stats| {
            stats.bytes_in = stats.bytes_in.saturating_add(wide(count));
            stats.last_heard_at = Some(now.at);
        });
        let events = self.session.feed(now.on, &self.bytes);
        self.bytes.clear();
        self.act(now, events).await
    }

    /// Acts on what the session said at that time, and gives what time it is behind it.
    async fn act(&mut self, mut now: Moment, events: Vec<SessionEvent>) -> Result<Moment, EndCause> {
        for event in events {
            match event {
                SessionEvent::Line(bytes) if self.trunk.is_some() => {
                    if let Some(trunk) = self.trunk.as_mut() {
                        trunk.feed(now, &bytes);
                    }
                }
                SessionEvent::Line(bytes) if self.proxy.is_some() => {
                    if let Some(proxy) = self.proxy.as_mut() {
                        proxy.feed(now, &bytes);
                    }
                }
                SessionEvent::Line(bytes) => {
                    self.line.feed(now, bytes, &self.heartbeats);
                    self.report(now)?;
                }
                SessionEvent::Heartbeat(bytes) => {
                    self.beat();
                    let answer = self.link_answer(now, &bytes);
                    self.desk.record(FrameKind::Heartbeat, now, bytes);
                    if let Some(answer) = answer {
                        self.write(&answer).await?;
                        now = self.deps.moment();
                    }
                }
                SessionEvent::Noise(bytes) => {
                    self.noisy(bytes.len());
                    self.desk.record(FrameKind::Noise, now, bytes);
                }
                SessionEvent::Reply(bytes) => {
                    self.write(&bytes).await?;
                    now = self.deps.moment();
                }
                SessionEvent::Identified {
                    sn,
                    learned,
                    first_bytes,
                    package,
                } => {
                    self.trunk = trunk::trunk_of(sn.as_str(), &learned, &self.deps);
                    self.proxy = terminal::proxy_of(sn.as_str(), &learned, &self.deps);
                    let answer = self.link_answer(now, &package);
                    self.desk.record(FrameKind::Registration, now, package);
                    self.introduce(sn, &learned, first_bytes);
                    if let Some(answer) = answer {
                        self.write(&answer).await?;
                        now = self.deps.moment();
                    }
                }
                SessionEvent::Fault(fault) => return Err(self.fault(&fault)),
            }
        }
        Ok(now)
    }

    fn fault(&self, fault: &SessionFault) -> EndCause {
        tracing::info!(dtu.id = self.desk.dtu(), peer = self.desk.peer(), %fault, "session fault");
        match fault {
            SessionFault::NoRegistration { .. } => EndCause::NoRegistration,
            SessionFault::BadRegistration(_) | SessionFault::IdentityChanged { .. } => EndCause::BadRegistration,
            SessionFault::Flood { .. } => EndCause::Flood,
        }
    }

    // ---- who it is

    fn introduce(&mut self, sn: SerialNumber, learned: &LearnedProfile, first_bytes: Vec<u8>) {
        self.heartbeats = self.session.heartbeat_patterns();
        let learned = learned_of(learned);
        self.desk.inbox.stats(|stats| stats.learned = learned.clone());
        let Origin::Inbound(peer) = self.origin else { return };
        let hello = Hello {
            connection: self.desk.id,
            sn,
            peer,
            first_bytes,
            learned,
            link: self.desk.handle(),
        };
        let registrar = Arc::clone(&self.deps.registrar);
        self.introduction = Some(Box::pin(in_time(async move { registrar.introduce(hello).await })));
    }

    async fn admit(&mut self, admission: Admission) -> Result<(), EndCause> {
        self.introduction = None;
        match admission {
            Admission::Owner(owner) => self.adopt(owner).await?,
            Admission::Quarantined { silence } => self.silence = silence,
            Admission::Refused(cause) => return Err(cause),
        }
        self.admitted();
        self.parcels_admitted();
        Ok(())
    }

    async fn adopt(&mut self, owner: Owner) -> Result<(), EndCause> {
        self.silence = owner.silence;
        self.line.set_pause(owner.pause);
        let pinned = owner.profile.as_deref().map(Profile::parse);
        self.desk.adopt(owner);
        match pinned {
            None => {}
            Some(Ok(profile)) => {
                let events = self.session.pin(profile);
                self.heartbeats = self.session.heartbeat_patterns();
                let now = self.deps.moment();
                self.act(now, events).await?;
            }
            Some(Err(error)) => {
                tracing::warn!(dtu.id = self.desk.dtu(), %error, "the pinned profile cannot be used");
            }
        }
        Ok(())
    }

    async fn grant(&mut self, wish: Wish) -> Result<(), EndCause> {
        match wish {
            Wish::Close(cause) => return Err(cause),
            Wish::Adopt(owner) => self.adopt(owner).await?,
            Wish::Poll(errand) => {
                let (line, now) = (&mut self.line, self.deps.moment());
                match (self.trunk.as_mut(), self.proxy.as_mut()) {
                    (Some(trunk), _) => self.desk.take(*errand, |job| trunk.submit(now, job)),
                    (None, Some(proxy)) => self.desk.take(*errand, |job| proxy.submit(now, job)),
                    (None, None) => self.desk.take(*errand, |job| line.submit(now, job)),
                }
                self.count();
            }
        }
        Ok(())
    }

    // ---- what the line says

    fn report(&mut self, now: Moment) -> Result<(), EndCause> {
        let mut dead = false;
        let mut said = false;
        while let Some(event) = self.line.event() {
            said = true;
            match event {
                LineEvent::Done { ticket, outcome } => {
                    let heartbeats = &self.heartbeats;
                    self.desk
                        .done(ticket, outcome, |bytes| heartbeats.iter().any(|known| known == bytes));
                }
                LineEvent::Unasked(frame) => self.unasked(frame),
                LineEvent::Noise(bytes) => self.noise(now, &bytes),
                LineEvent::Answered { .. } => {
                    self.session.asked_for(self.asked_reads, self.asked_bytes);
                    (self.asked_reads, self.asked_bytes) = (0, 0);
                }
                LineEvent::Dead => dead = true,
            }
        }
        if said {
            self.count();
        }
        if dead { Err(EndCause::DeadLine) } else { Ok(()) }
    }

    fn count(&self) {
        let (said, queued) = match (&self.trunk, &self.proxy) {
            (Some(trunk), _) => (trunk.stats(), trunk.queued()),
            (None, Some(proxy)) => (proxy.stats(), proxy.queued()),
            (None, None) => (self.line.stats(), self.line.queued()),
        };
        let took = |took: Duration| u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.desk.inbox.stats(|stats| {
            stats.answers = said.answers;
            stats.timeouts = said.timeouts;
            stats.strays = said.strays;
            stats.round_trip_ms = said.round_trip.map(took);
            stats.queued = queued;
        });
    }

    fn unasked(&mut self, frame: LineFrame) {
        let heartbeats = &self.heartbeats;
        let is_heartbeat = |bytes: &[u8]| heartbeats.iter().any(|known| known == bytes);
        let _range = self.desk.record_line(frame, is_heartbeat);
    }

    /// The line could not use these bytes; the session may know them for a heartbeat.
    fn noise(&mut self, now: Moment, bytes: &[u8]) {
        if self.session.noise(now.on, bytes) {
            self.beat();
        } else {
            self.noisy(bytes.len());
        }
    }

    fn noisy(&self, bytes: usize) {
        self.desk
            .inbox
            .stats(|stats| stats.noise_bytes = stats.noise_bytes.saturating_add(wide(bytes)));
        let dtu = self.desk.dtu();
        NoiseHeard { dtu, bytes }.emit();
    }

    fn beat(&mut self) {
        self.heartbeats = self.session.heartbeat_patterns();
        let learned = learned_of(&self.session.learned());
        self.desk.inbox.stats(|stats| {
            stats.heartbeats = stats.heartbeats.saturating_add(1);
            stats.learned = learned;
        });
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), EndCause> {
        write_all(&mut self.io, bytes, seconds(self.deps.settings.write_s)).await?;
        self.desk
            .inbox
            .stats(|stats| stats.bytes_out = stats.bytes_out.saturating_add(wide(bytes.len())));
        Ok(())
    }

    /// Every asker gets an answer.
    fn end(&mut self, cause: EndCause) {
        let now = self.deps.moment();
        self.desk.close(cause);
        self.trunk_ends(now);
        self.proxy_ends(now);
        self.line.end(now);
        // a line that dies while it ends is as dead as it was
        let _ended = self.report(now);
        self.count();
    }
}

/// A registrar that does not answer is as good as none.
pub(super) async fn in_time(verdict: impl Future<Output = Admission>) -> Admission {
    let verdict = tokio::time::timeout(INTRODUCE_MAX, verdict).await;
    verdict.unwrap_or(Admission::Refused(EndCause::Internal))
}

/// The registrar's verdict; never, while nobody was introduced.
async fn introduced(introduction: &mut Option<Introduction>) -> Admission {
    match introduction {
        Some(introduction) => introduction.as_mut().await,
        None => std::future::pending().await,
    }
}

fn learned_of(learned: &LearnedProfile) -> Learned {
    Learned {
        framing: learned.framing.name().into(),
        registration: learned.registration_name(),
        registration_hex: hex::encode(&learned.package),
        heartbeats_hex: learned.heartbeats.iter().map(|bytes| hex::encode(bytes)).collect(),
        heartbeat_interval_s: learned
            .heartbeat_interval
            .map(|interval| u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;

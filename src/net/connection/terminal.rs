//! A connection on which a terminal of DL/T 698.45 logged in: its links are answered with our time, and its jobs go through
//! a proxy instead of a line.

use super::in_turn::InTurn;
use super::{Connection, EndCause, Moment};
use crate::base::ids::FrameRange;
use crate::exchange::proxy::{ClockSaid, Proxy, ProxyEvent, ProxySettings, Reported};
use crate::exchange::session::LearnedProfile;
use crate::exchange::visit::LineFrameKind;
use crate::net::NetDeps;
use crate::net::settings::NetSettings;
use crate::port::field::{FieldReport, ReportKept, ReportLost, ReportedRow};
use crate::port::terminal_events::{EVENT_MAX, TerminalEvent};
use crate::protocol::dlt698::event::Event;
use crate::protocol::dlt698::{Address, LinkKind, Next, link_response, next};
use crate::protocol::dtu::{Framing, terminal};
use crate::telemetry::concentrator::{EventsKept, FrameAsked, ReportLeft, ReportReplayed, ReportStored, TerminalSpoke};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Reports that wait to be kept; a terminal repeats what it gets no confirmation of.
const REPORTS_MAX: usize = 8;
/// How long keeping a report may take; it is not confirmed then, and comes again.
pub(super) const KEEP_WITHIN: Duration = Duration::from_secs(60);

/// What became of its rows; its events are kept then, too.
pub(super) type Kept = Result<ReportKept, ReportLost>;

/// A report, without its rows: they are on their way to where they are durable.
#[derive(Debug)]
pub(super) struct Told {
    ticket: u64,
    kind: &'static str,
    /// Rows that nobody could place.
    left: usize,
}

/// What goes to be kept.
pub(super) struct Fresh {
    rows: Vec<ReportedRow>,
    events: Vec<TerminalEvent>,
    read_at: DateTime<Utc>,
    frames: FrameRange,
}

/// Reports on their way to where they are durable, one after the other, and what became of each.
pub(super) type Reports = InTurn<(Told, Fresh), Told, Kept>;

/// A record as it is kept. A terminal reports of its own accord what it was told to: all of it is important.
fn event_of(event: &Event) -> TerminalEvent {
    TerminalEvent {
        important: true,
        code: event.oad.oi,
        happened_at: event.began_at(),
        data: event.bytes(),
    }
}

/// The way to a terminal's meters; none where the peer is none.
pub(super) fn proxy_of(sn: &str, learned: &LearnedProfile, deps: &NetDeps) -> Option<Box<Proxy>> {
    let address = (learned.framing == Framing::Dlt698)
        .then(|| Address::parse(sn).ok())
        .flatten()?;
    Some(Box::new(Proxy::new(settings(&deps.settings), address)))
}

fn settings(settings: &NetSettings) -> ProxySettings {
    let default = ProxySettings::default();
    ProxySettings {
        gather: Duration::from_millis(settings.gather_ms),
        // a terminal has many times the meters of a line
        queue_jobs: settings.queue_jobs.saturating_mul(16),
        dead_timeouts: settings.dead_line_timeouts,
        ..default
    }
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// What a login, heartbeat or logout is answered with at once, whoever owns the terminal; none where the peer is none. Our
    /// clock is not offered as one to follow: clocks are set by command only.
    pub(super) fn link_answer(&self, now: Moment, wire: &[u8]) -> Option<Vec<u8>> {
        self.proxy.as_ref()?;
        let Next::Frame { frame, .. } = next(wire) else {
            return None;
        };
        let request = terminal::link_request(&frame)?;
        let clock = ClockSaid::of(request.time.naive(), now.at);
        TerminalSpoke {
            dtu: self.desk.dtu(),
            link: request.kind.name(),
            login: request.kind == LinkKind::Login,
            clock: clock.word(),
            ahead_s: match clock {
                ClockSaid::Near { ahead_s, .. } => Some(ahead_s),
                ClockSaid::Wrong | ClockSaid::None => None,
            },
        }
        .emit();
        let local = clock.local(now.at);
        link_response(&frame, &request, 0, local, local).map(|answer| answer.wire())
    }

    /// Time passed, jobs or frames came: whatever the proxy has to say or to write.
    pub(super) async fn proxy_works(&mut self, now: Moment) -> Result<(), EndCause> {
        let Some(proxy) = self.proxy.as_mut() else {
            return Ok(());
        };
        proxy.tick(now);
        let mut dead = false;
        while let Some(event) = self.proxy.as_mut().and_then(|proxy| proxy.event()) {
            match event {
                ProxyEvent::Write(wire) => {
                    FrameAsked.emit();
                    self.write(&wire).await?;
                }
                ProxyEvent::Dead => dead = true,
                ProxyEvent::Done(settled) => self.desk.settled(settled),
                ProxyEvent::Unasked(frame) if frame.kind == LineFrameKind::Stray => self.unasked(frame),
                ProxyEvent::Unasked(frame) => {
                    let _range = self.desk.record_line(frame, |_| false);
                }
                ProxyEvent::Report(report) => self.reported(now, *report),
                ProxyEvent::Replay => ReportReplayed { dtu: self.desk.dtu() }.emit(),
                ProxyEvent::Answered => {
                    self.session.asked_for(self.asked_reads, self.asked_bytes);
                    (self.asked_reads, self.asked_bytes) = (0, 0);
                }
            }
        }
        self.count();
        if dead { Err(EndCause::DeadLine) } else { Ok(()) }
    }

    /// A report came: it is recorded, and what is known in it goes to be kept. One of which nothing is, one of a terminal
    /// that is nobody's, and one too many is left.
    fn reported(&mut self, now: Moment, report: Reported) {
        let frames = match report.frame {
            Some(frame) => self.desk.record_line(frame, |_| false),
            // it is recorded with the answer that it came with
            None => FrameRange::EMPTY,
        };
        let (ticket, kind, left) = (report.ticket, report.kind, report.left);
        // whose it is may be told in a moment
        let owned = self.desk.owner_dtu().is_some() || self.introduction.is_some();
        let empty = report.rows.is_empty() && report.events.is_empty();
        if empty || !owned || self.reports.waiting() >= REPORTS_MAX {
            return self.leave(ticket, kind);
        }
        let events: Vec<TerminalEvent> = report.events.iter().map(event_of).collect();
        let (events, long): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.data.len() <= EVENT_MAX);
        let left = left + long.len();
        let fresh = Fresh {
            rows: report.rows,
            events,
            read_at: now.at,
            frames,
        };
        self.reports.push((Told { ticket, kind, left }, fresh));
        self.keep_next();
    }

    /// It is told whose the terminal is: what it reported meanwhile is kept, or left if it is nobody's.
    pub(super) fn admitted(&mut self) {
        if self.desk.owner_dtu().is_some() {
            return self.keep_next();
        }
        while let Some((report, _)) = self.reports.pop() {
            self.leave(report.ticket, report.kind);
        }
    }

    /// Has the next report kept, if none is under way.
    fn keep_next(&mut self) {
        let Some(dtu) = self.desk.owner_dtu().filter(|_| !self.reports.is_busy()) else {
            return;
        };
        let Some((report, fresh)) = self.reports.pop() else {
            return;
        };
        let Fresh {
            rows,
            events,
            read_at,
            frames,
        } = fresh;
        let told = FieldReport {
            dtu,
            rows,
            points: Vec::new(),
            read_at,
            frames,
        };
        let (registrar, log) = (Arc::clone(&self.deps.registrar), Arc::clone(&self.deps.terminal_events));
        let keeping = async move {
            let keep = async {
                if !events.is_empty() {
                    let fresh = log.keep(dtu, &events, read_at).await;
                    let fresh = fresh.map_err(|error| ReportLost(error.to_string()))?;
                    let (dtu, told) = (dtu.0, events.len());
                    EventsKept { dtu, fresh, told }.emit();
                }
                match told.rows.is_empty() {
                    true => Ok(ReportKept::default()),
                    false => registrar.reported(told).await,
                }
            };
            let kept = tokio::time::timeout(KEEP_WITHIN, keep).await;
            kept.unwrap_or_else(|_| Err(ReportLost(format!("not durable within {} s", KEEP_WITHIN.as_secs()))))
        };
        self.reports.begin(report, keeping);
    }

    /// What is durable as a whole is confirmed.
    pub(super) fn report_ended(&mut self, (report, kept): (Told, Kept)) {
        let now = self.deps.moment();
        let dtu = self.desk.dtu();
        match kept {
            Ok(ReportKept { readings, left }) => {
                let left = left.saturating_add(report.left);
                ReportStored { dtu, readings, left }.emit();
                match self.proxy.as_mut().filter(|_| left == 0) {
                    Some(proxy) => proxy.kept(now, report.ticket),
                    None => self.leave(report.ticket, report.kind),
                }
            }
            Err(error) => {
                tracing::warn!(dtu.id = dtu, %error, "report of a terminal");
                self.leave(report.ticket, report.kind);
            }
        }
        self.keep_next();
    }

    /// A report is not confirmed.
    fn leave(&mut self, ticket: u64, kind: &str) {
        if let Some(proxy) = self.proxy.as_mut() {
            proxy.left(ticket);
        }
        ReportLeft {
            dtu: self.desk.dtu(),
            function: kind,
            frames: 1,
        }
        .emit();
    }

    /// The session has ended: every job of the proxy ends.
    pub(super) fn proxy_ends(&mut self, now: Moment) {
        let Some(proxy) = self.proxy.as_mut() else { return };
        proxy.end(now);
        while let Some(event) = self.proxy.as_mut().and_then(|proxy| proxy.event()) {
            if let ProxyEvent::Done(settled) = event {
                self.desk.settled(settled);
            }
        }
    }
}

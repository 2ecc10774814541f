//! A connection on which a terminal of DL/T 698.45 logged in: its links are answered with our time, and its jobs go through
//! a proxy instead of a line.

use super::{Connection, EndCause, Moment};
use crate::exchange::proxy::{ClockSaid, Proxy, ProxyEvent, ProxySettings};
use crate::exchange::session::LearnedProfile;
use crate::exchange::visit::LineFrameKind;
use crate::net::NetDeps;
use crate::net::settings::NetSettings;
use crate::protocol::dlt698::{Address, LinkKind, Next, Report, link_response, next};
use crate::protocol::dtu::{Framing, terminal};
use crate::telemetry::concentrator::{FrameAsked, ReportLeft, TerminalSpoke};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

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
                ProxyEvent::Unasked(frame) => self.desk.record_line(frame, |_| false),
                ProxyEvent::Report(report) => ReportLeft {
                    dtu: self.desk.dtu(),
                    function: match report.body {
                        Report::Items(_) => "attributes",
                        Report::Records(_) => "records",
                        Report::Transparent(_) => "bytes of a meter",
                    },
                    frames: 1,
                }
                .emit(),
                ProxyEvent::Answered => {
                    self.session.asked_for(self.asked_reads, self.asked_bytes);
                    (self.asked_reads, self.asked_bytes) = (0, 0);
                }
            }
        }
        self.count();
        if dead { Err(EndCause::DeadLine) } else { Ok(()) }
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

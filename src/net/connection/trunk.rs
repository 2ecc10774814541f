//! A connection on which a concentrator logged in: its jobs go through a trunk instead of a line.

use super::{Connection, EndCause, Moment};
use crate::exchange::session::LearnedProfile;
use crate::exchange::trunk::{Trunk, TrunkEvent, TrunkSettings};
use crate::exchange::visit::LineFrameKind;
use crate::net::NetDeps;
use crate::net::settings::NetSettings;
use crate::protocol::dtu::Framing;
use crate::protocol::gdw376::{Address, Advance};
use crate::telemetry::concentrator::{EventsRecorded, FrameAsked, FrameUnfit, ReportLeft, ReportReplayed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The trunk of a peer that said who it is; none where it is no concentrator.
pub(super) fn trunk_of(sn: &str, learned: &LearnedProfile, deps: &NetDeps) -> Option<Box<Trunk>> {
    let terminal = (learned.framing == Framing::Gdw376)
        .then(|| Address::parse(sn).ok())
        .flatten()?;
    Some(Box::new(Trunk::new(settings(&deps.settings), terminal)))
}

fn settings(settings: &NetSettings) -> TrunkSettings {
    let default = TrunkSettings::default();
    TrunkSettings {
        gather: Duration::from_millis(settings.gather_ms),
        // a concentrator has many times the meters of a line
        queue_jobs: settings.queue_jobs.saturating_mul(16),
        dead_timeouts: settings.dead_line_timeouts,
        ..default
    }
}

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Time passed, jobs or frames came: whatever the trunk has to say or to write.
    pub(super) async fn trunk_works(&mut self, now: Moment) -> Result<(), EndCause> {
        let Some(trunk) = self.trunk.as_mut() else {
            return Ok(());
        };
        trunk.tick(now);
        let mut dead = false;
        while let Some(event) = self.trunk.as_mut().and_then(|trunk| trunk.event()) {
            match event {
                TrunkEvent::Write(wire) => {
                    FrameAsked.emit();
                    self.write(&wire).await?;
                }
                TrunkEvent::Dead => dead = true,
                other => self.trunk_said(other),
            }
        }
        self.count();
        if dead { Err(EndCause::DeadLine) } else { Ok(()) }
    }

    fn trunk_said(&mut self, event: TrunkEvent) {
        let dtu = self.desk.dtu();
        match event {
            TrunkEvent::Done(settled) => self.desk.settled(settled),
            TrunkEvent::Unasked(frame) if frame.kind == LineFrameKind::Stray => self.unasked(frame),
            TrunkEvent::Unasked(frame) => {
                let _range = self.desk.record_line(frame, |_| false);
            }
            TrunkEvent::Strayed(stray) => FrameUnfit {
                dtu,
                why: &stray.to_string(),
            }
            .emit(),
            TrunkEvent::Report(report) => {
                let functions = report.first().map(|message| message.afn.name());
                ReportLeft {
                    dtu,
                    function: functions.unwrap_or_default(),
                    frames: report.len(),
                }
                .emit();
                // nobody keeps it, so it is not confirmed
                if let Some(trunk) = self.trunk.as_mut() {
                    trunk.lost(&report);
                }
            }
            TrunkEvent::Events(important, ordinary) => EventsRecorded {
                dtu,
                important: &format!("{important:?}"),
                ordinary: &format!("{ordinary:?}"),
                jumped: [important, ordinary]
                    .iter()
                    .any(|advance| matches!(advance, Advance::Jump { .. })),
            }
            .emit(),
            TrunkEvent::Answered => {
                self.session.asked_for(self.asked_reads, self.asked_bytes);
                (self.asked_reads, self.asked_bytes) = (0, 0);
            }
            TrunkEvent::Replay => ReportReplayed { dtu }.emit(),
            // done by the caller
            TrunkEvent::Write(_) | TrunkEvent::Dead => {}
        }
    }

    /// The session has ended: every job of the trunk ends.
    pub(super) fn trunk_ends(&mut self, now: Moment) {
        let Some(trunk) = self.trunk.as_mut() else { return };
        trunk.end(now);
        while let Some(event) = self.trunk.as_mut().and_then(|trunk| trunk.event()) {
            if let TrunkEvent::Done(settled) = event {
                self.desk.settled(settled);
            }
        }
    }
}

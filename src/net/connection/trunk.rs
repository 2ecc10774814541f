//! A connection on which a concentrator logged in: its jobs go through a trunk instead of a line.

use super::in_turn::InTurn;
use super::{Connection, EndCause, Moment};
use crate::exchange::session::LearnedProfile;
use crate::exchange::trunk::{Recorded, Trunk, TrunkEvent, TrunkSettings};
use crate::exchange::visit::LineFrameKind;
use crate::net::NetDeps;
use crate::net::settings::NetSettings;
use crate::port::terminal_events::TerminalEvent;
use crate::protocol::dtu::Framing;
use crate::protocol::gdw376::event::Record;
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::{Address, Advance};
use crate::telemetry::concentrator::{
    EventsKept, EventsLeft, EventsRecorded, EventsUnread, FrameAsked, FrameUnfit, ReportLeft, ReportReplayed,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Lists of records that wait to be put away; more are told again by the terminal, or asked for again.
const PUT_AWAY_MAX: usize = 8;

/// Records of events on their way to where they are durable, one list after the other, and whether each got there.
pub(super) type PutAway = InTurn<Recorded, Recorded, bool>;

/// A record as it is kept.
fn event_of((important, record): &(bool, Record)) -> TerminalEvent {
    let happened_at = match record.at() {
        Ok(Value::Time(at)) => Some(at),
        _ => None,
    };
    TerminalEvent {
        important: *important,
        code: record.code,
        happened_at,
        data: record.data.clone(),
    }
}

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
        if self.desk.owner_dtu().is_some() {
            trunk.keep_events();
        }
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
            TrunkEvent::Recorded(recorded) => {
                let trunk = self.trunk.as_mut();
                match (self.desk.owner_dtu(), trunk) {
                    (Some(_), _) if self.put_away.waiting() < PUT_AWAY_MAX => {
                        self.put_away.push(recorded);
                        self.put_away_next();
                    }
                    // nobody's yet, or too many at once
                    (_, Some(trunk)) => {
                        EventsLeft { dtu }.emit();
                        trunk.not_kept(self.deps.moment(), &recorded);
                    }
                    _ => {}
                }
            }
            TrunkEvent::Unread(why) => EventsUnread {
                dtu,
                why: &why.to_string(),
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

    /// Puts the next list away, if none is under way.
    fn put_away_next(&mut self) {
        let Some(dtu) = self.desk.owner_dtu().filter(|_| !self.put_away.is_busy()) else {
            return;
        };
        let Some(recorded) = self.put_away.pop() else {
            return;
        };
        let (log, now) = (Arc::clone(&self.deps.terminal_events), self.deps.clock.now());
        let events: Vec<TerminalEvent> = recorded.records.iter().map(event_of).collect();
        let keeping = async move {
            match log.keep(dtu, &events, now).await {
                Ok(fresh) => {
                    EventsKept {
                        dtu: dtu.0,
                        fresh,
                        told: events.len(),
                    }
                    .emit();
                    true
                }
                Err(error) => {
                    tracing::warn!(dtu.id = dtu.0, %error, "events of a concentrator not kept");
                    false
                }
            }
        };
        self.put_away.begin(recorded, keeping);
    }

    /// A list is durable, or is not.
    pub(super) fn was_put_away(&mut self, (recorded, kept): (Recorded, bool)) {
        let now = self.deps.moment();
        if let Some(trunk) = self.trunk.as_mut() {
            if kept {
                trunk.kept(now, &recorded);
            } else {
                EventsLeft { dtu: self.desk.dtu() }.emit();
                trunk.not_kept(now, &recorded);
            }
        }
        self.put_away_next();
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

//! A connection on which a concentrator logged in: its jobs go through a trunk instead of a line.

use super::in_turn::InTurn;
use super::terminal::KEEP_WITHIN;
use super::{Connection, EndCause, Moment};
use crate::base::ids::{DtuId, FrameRange};
use crate::exchange::session::LearnedProfile;
use crate::exchange::trunk::{Recorded, Trunk, TrunkEvent, TrunkSettings, Values};
use crate::exchange::visit::LineFrameKind;
use crate::net::NetDeps;
use crate::net::settings::NetSettings;
use crate::port::field::{FieldReport, Registrar};
use crate::port::terminal_events::{TerminalEvent, TerminalEventLog};
use crate::protocol::dtu::Framing;
use crate::protocol::gdw376::event::Record;
use crate::protocol::gdw376::format::Value;
use crate::protocol::gdw376::{Address, Advance};
use crate::telemetry::concentrator::{
    EventsKept, EventsLeft, EventsRecorded, EventsUnread, FrameAsked, FrameUnfit, ReportLeft, ReportReplayed,
    ReportStored,
};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Lists of records that wait to be put away; more are told again by the terminal, or asked for again.
const PUT_AWAY_MAX: usize = 8;

/// What is on its way to where it is durable.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Records of events.
    Events(Recorded),
    /// Values, and the raw frame in which they came.
    Values(Box<Values>, FrameRange),
}

/// Records of events and reported values on their way to where they are durable, one list after the other, and whether each got
/// there as a whole.
pub(super) type PutAway = InTurn<Parcel, Parcel, bool>;

/// A record as it is kept.
fn event_of((important, record): &(bool, Record)) -> TerminalEvent {
    let happened_at = match record.at() {
        Ok(Value::Time(at)) => Some(at),
        _ => None,
    };
    TerminalEvent {
        important: *important,
        code: record.code.into(),
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
            TrunkEvent::Recorded(recorded) => self.put_away(Parcel::Events(recorded)),
            TrunkEvent::Values(values) => {
                let frames = self.desk.record_line(values.frame.clone(), |_| false);
                self.put_away(Parcel::Values(values, frames));
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

    /// Has something put away, or leaves it: what is nobody's, and what is too many at once, is told again by the terminal, or
    /// asked for again.
    fn put_away(&mut self, parcel: Parcel) {
        // whose it is may be told in a moment; of events the trunk asks when it knows
        let waits = matches!(parcel, Parcel::Values(..)) && self.introduction.is_some();
        let owned = self.desk.owner_dtu().is_some() || waits;
        if !owned || self.put_away.waiting() >= PUT_AWAY_MAX {
            return self.leave_parcel(&parcel);
        }
        self.put_away.push(parcel);
        self.put_away_next();
    }

    /// It is told whose the concentrator is: what it reported meanwhile is put away, or left if it is nobody's.
    pub(super) fn parcels_admitted(&mut self) {
        if self.desk.owner_dtu().is_some() {
            return self.put_away_next();
        }
        while let Some(parcel) = self.put_away.pop() {
            self.leave_parcel(&parcel);
        }
    }

    /// Puts the next list away, if none is under way.
    fn put_away_next(&mut self) {
        let Some(dtu) = self.desk.owner_dtu().filter(|_| !self.put_away.is_busy()) else {
            return;
        };
        let Some(parcel) = self.put_away.pop() else {
            return;
        };
        let now = self.deps.clock.now();
        match &parcel {
            Parcel::Events(recorded) => {
                let events = recorded.records.iter().map(event_of).collect();
                let keeping = keep_events(Arc::clone(&self.deps.terminal_events), dtu, events, now);
                self.put_away.begin(parcel, keeping);
            }
            Parcel::Values(values, frames) => {
                let report = FieldReport {
                    dtu,
                    rows: Vec::new(),
                    points: values.rows.clone(),
                    read_at: values.frame.at,
                    frames: *frames,
                };
                let keeping = keep_values(Arc::clone(&self.deps.registrar), report, values.left);
                self.put_away.begin(parcel, keeping);
            }
        }
    }

    /// A list is durable, or is not.
    pub(super) fn was_put_away(&mut self, (parcel, kept): (Parcel, bool)) {
        let now = self.deps.moment();
        match (self.trunk.as_mut(), &parcel, kept) {
            (Some(trunk), Parcel::Events(recorded), true) => trunk.kept(now, recorded),
            (Some(trunk), Parcel::Values(values, _), true) => trunk.values_kept(now, values),
            _ => self.leave_parcel(&parcel),
        }
        self.put_away_next();
    }

    /// Something is not kept, or not as a whole: it is not confirmed.
    fn leave_parcel(&mut self, parcel: &Parcel) {
        let (dtu, now) = (self.desk.dtu(), self.deps.moment());
        match parcel {
            Parcel::Events(recorded) => {
                EventsLeft { dtu }.emit();
                if let Some(trunk) = self.trunk.as_mut() {
                    trunk.not_kept(now, recorded);
                }
            }
            Parcel::Values(values, _) => {
                ReportLeft {
                    dtu,
                    function: values.function(),
                    frames: values.frames(),
                }
                .emit();
                if let Some(trunk) = self.trunk.as_mut() {
                    trunk.values_left(values);
                }
            }
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

/// Whether all records are durable.
async fn keep_events(
    log: Arc<dyn TerminalEventLog>,
    dtu: DtuId,
    events: Vec<TerminalEvent>,
    now: DateTime<Utc>,
) -> bool {
    match log.keep(dtu, &events, now).await {
        Ok(fresh) => {
            let (dtu, told) = (dtu.0, events.len());
            EventsKept { dtu, fresh, told }.emit();
            true
        }
        Err(error) => {
            tracing::warn!(dtu.id = dtu.0, %error, "events of a concentrator not kept");
            false
        }
    }
}

/// Whether all that a report says is durable; `left` of it is of no meter.
async fn keep_values(registrar: Arc<dyn Registrar>, report: FieldReport, left: usize) -> bool {
    let dtu = report.dtu.0;
    match tokio::time::timeout(KEEP_WITHIN, registrar.reported(report)).await {
        Ok(Ok(kept)) => {
            let (readings, left) = (kept.readings, kept.left.saturating_add(left));
            ReportStored { dtu, readings, left }.emit();
            left == 0
        }
        Ok(Err(error)) => {
            tracing::warn!(dtu.id = dtu, %error, "report of a concentrator");
            false
        }
        Err(_) => {
            tracing::warn!(dtu.id = dtu, "report of a concentrator not durable in time");
            false
        }
    }
}

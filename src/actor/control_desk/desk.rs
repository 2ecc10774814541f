//! The desk itself, without actix: its books, how an edge is taken, and what is due.

use super::books::Books;
use super::{DeskParts, visit};
use crate::base::ids::DtuId;
use crate::domain::command::brake::Trip;
use crate::domain::command::machine::Evidence;
use crate::domain::command::permit::Mint;
use crate::domain::command::{Approval, Brake, Command, Edge, EdgeError};
use crate::port::control::{Step, Stop};
use crate::port::live::Topic;
use crate::port::scope::{Actor, StoreError};
use crate::telemetry::control::{BooksCounted, CommandStepped, ControlClockStepped, ControlUnwritten};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Expiries and the like that one tick writes down.
const STEPS_PER_TICK: usize = 500;
/// How often the high-water mark of time is stored while something is pending, and else.
const MARK_BUSY: Duration = Duration::from_secs(1);
const MARK_IDLE: Duration = Duration::from_secs(15);
/// How often schedules are looked at.
const SCHEDULES: Duration = Duration::from_secs(2);
/// How long a stop of the server waits for visits.
const CLOSE: Duration = Duration::from_secs(10);

/// Why an edge was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The machine forbids it.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// It could not be written down; what is stored is looked at before anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What goes with an edge.
#[derive(Debug, Default)]
pub(super) struct With {
    pub(super) approval: Option<Approval>,
    pub(super) trip: Option<Trip>,
}

pub(super) struct Desk {
    pub(super) parts: DeskParts,
    pub(super) mint: Mint,
    books: RefCell<Books>,
    /// Requests are admitted one after another, so that each sees what the one before plans.
    pub(super) admission: tokio::sync::Mutex<()>,
    closing: Cell<bool>,
    marked: Cell<Option<Instant>>,
    scheduled: Cell<Option<Instant>>,
}

impl Desk {
    pub(super) async fn resume(parts: DeskParts) -> Result<Self, StoreError> {
        let (now, monotonic) = (parts.clock.now(), parts.clock.monotonic());
        let limits = parts.settings.limits;
        let resumed = parts.log.resume(now - Brake::horizon(&limits)).await?;
        let desk = Self {
            books: RefCell::new(Books::new(limits, resumed, now, monotonic)),
            mint: Mint::new(),
            admission: tokio::sync::Mutex::new(()),
            closing: Cell::new(false),
            marked: Cell::new(None),
            scheduled: Cell::new(None),
            parts,
        };
        desk.now();
        desk.lose_orphans("the server was started anew while the outcome was open")
            .await;
        Ok(desk)
    }

    pub(super) fn books(&self) -> RefMut<'_, Books> {
        self.books.borrow_mut()
    }

    /// Now, on the clock that never goes back.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let clock = &self.parts.clock;
        let (at, voided) = self.books().moment(clock.now(), clock.monotonic());
        if let Some(pending) = voided {
            ControlClockStepped { pending }.emit();
        }
        at
    }

    /// Takes an edge: judged by the machine, written down with its audit entry, and only then in force.
    pub(super) async fn step(
        &self,
        before: &Command,
        edge: &Edge,
        who: &Actor,
        detail: Value,
        with: With,
    ) -> Result<Command, StepError> {
        let at = self.now();
        let moment = self.books().moment_of(before.id, at);
        let after = match before.apply(edge, moment) {
            Ok(after) => after,
            Err(error) => {
                if let Some(trip) = with.trip {
                    self.books().brake.take_back(trip);
                }
                return Err(error.into());
            }
        };
        let step = Step {
            after: after.clone(),
            actor: who.clone(),
            at,
            wall_at: self.parts.clock.now(),
            detail: detail.clone(),
            approval: with.approval,
            trip: with.trip,
        };
        if let Err(error) = self.parts.log.step(step).await {
            // the commit may have gone through all the same
            self.books().doubt(before.id, with.trip);
            ControlUnwritten {
                what: after.state.as_str(),
                error: &error,
            }
            .emit();
            return Err(error.into());
        }
        self.taken(&after, who, &detail);
        Ok(after)
    }

    /// An edge is written down: it is in force, and shown.
    pub(super) fn taken(&self, after: &Command, who: &Actor, detail: &Value) {
        CommandStepped {
            command: after.id.0,
            meter: after.target.meter.0,
            action: after.action.name(),
            state: after.state.as_str(),
        }
        .emit();
        let event = json!({
            "id": after.id,
            "meter_id": after.target.meter,
            "action": after.action.name(),
            "state": after.state,
            "actor": who.name,
            "detail": detail,
        });
        let (dtu, meter) = (Some(after.target.dtu), Some(after.target.meter));
        self.parts
            .live
            .publish(after.account, Topic::Commands, dtu, meter, event);
        self.books().put(after.clone());
    }

    /// Does what is due.
    pub(super) async fn tick(self: &Rc<Self>) {
        let at = self.now();
        self.clear_doubts().await;
        self.lose_orphans("the visit was broken off").await;
        self.cancel_stopped(STEPS_PER_TICK).await;
        let overdue = self.books().overdue(at);
        for command in overdue.into_iter().take(STEPS_PER_TICK) {
            self.expire(&command).await;
        }
        if !self.closing.get() {
            self.send_out().await;
            self.run_schedules(at).await;
        }
        self.mark(at).await;
        let mut books = self.books();
        books.forget_braked(at);
        BooksCounted {
            open: books.open.len(),
            unknown: books.unknown(),
            trips: books.brake.in_window(at),
            stops: books.stops.len(),
        }
        .emit();
    }

    async fn expire(&self, command: &Command) {
        let obstacle = self.books().obstacle(command.id).map(str::to_owned);
        let detail = json!({
            "cause": "expired",
            "last_obstacle": obstacle,
        });
        // what is wrong is logged by the step; the next tick tries again
        let _tried_again = self
            .step(command, &Edge::Expire, &Actor::control_desk(), detail, With::default())
            .await;
    }

    /// Looks at what is stored of commands whose last step may have been written or not.
    async fn clear_doubts(&self) {
        let doubtful = self.books().doubtful();
        for id in doubtful.into_iter().take(STEPS_PER_TICK) {
            match self.parts.log.load(id).await {
                Ok(Some(command)) => self.books().seen(command),
                Ok(None) => self.books().forget(id),
                Err(_) => return,
            }
        }
    }

    /// What may have been sent and has nobody who waits for its outcome is unknown.
    async fn lose_orphans(&self, cause: &str) {
        let orphans = self.books().orphans();
        for command in orphans.into_iter().take(STEPS_PER_TICK) {
            let detail = json!({ "cause": cause });
            let _tried_again = self
                .step(&command, &Edge::Lose, &Actor::control_desk(), detail, With::default())
                .await;
        }
    }

    /// Begins visits to meters whose line is up.
    async fn send_out(self: &Rc<Self>) {
        let wanting = self.books().wanting(self.parts.clock.monotonic());
        if wanting.is_empty() {
            return;
        }
        let mut dtus: Vec<DtuId> = wanting.iter().map(|(_, dtu)| *dtu).collect();
        dtus.sort_unstable();
        dtus.dedup();
        let lines = self.parts.lines.lines(dtus.clone()).await;
        let lines: HashMap<DtuId, _> = dtus
            .into_iter()
            .zip(lines)
            .filter_map(|(dtu, line)| Some((dtu, line?)))
            .collect();
        for (id, dtu) in wanting {
            if self.books().running() >= self.parts.settings.visits_max {
                return;
            }
            let Some(line) = lines.get(&dtu).filter(|line| line.session.is_some()) else {
                self.books().note(id, "the DTU is offline".to_owned());
                continue;
            };
            let begun = {
                let mut books = self.books();
                books
                    .open
                    .get(&id)
                    .cloned()
                    .and_then(|command| books.begin(&command).map(|effect| (command, effect)))
            };
            if let Some((command, effect)) = begun {
                let guard = visit::Guard::new(Rc::clone(self), id);
                actix::spawn(visit::visit(guard, command, line.clone(), effect));
            }
        }
    }

    async fn mark(&self, at: DateTime<Utc>) {
        let monotonic = self.parts.clock.monotonic();
        let every = if self.books().open.values().any(|command| command.state.is_pending()) {
            MARK_BUSY
        } else {
            MARK_IDLE
        };
        let fresh = |marked: Instant| monotonic.saturating_duration_since(marked) < every;
        if self.marked.get().is_some_and(fresh) {
            return;
        }
        self.marked.set(Some(monotonic));
        if let Err(error) = self.parts.log.keep_mark(at).await {
            tracing::warn!(%error, "the high-water mark of time is not stored now");
        }
    }

    /// Whether schedules are to be looked at.
    pub(super) fn schedules_due(&self) -> bool {
        let monotonic = self.parts.clock.monotonic();
        let fresh = |last: Instant| monotonic.saturating_duration_since(last) < SCHEDULES;
        if self.scheduled.get().is_some_and(fresh) {
            return false;
        }
        self.scheduled.set(Some(monotonic));
        true
    }

    /// The outcome of a command.
    pub(super) async fn resolve(&self, command: &Command, evidence: Evidence, detail: Value) -> Option<Command> {
        let edge = Edge::Resolve(evidence);
        self.step(command, &edge, &Actor::control_desk(), detail, With::default())
            .await
            .ok()
    }

    pub(super) fn stops(&self, account: Option<crate::base::ids::AccountId>) -> Vec<Stop> {
        let concerns = |stop: &&Stop| account.is_none() || stop.account_id.is_none() || stop.account_id == account;
        self.books().stops.iter().filter(concerns).cloned().collect()
    }

    /// Nothing new begins; waits for what was begun.
    pub(super) async fn close(&self) {
        self.closing.set(true);
        self.books().revoke(None);
        let waited = async {
            while self.books().running() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(CLOSE, waited).await.is_err() {
            tracing::warn!("commands are broken off; the next start reads back what became of them");
        }
    }
}

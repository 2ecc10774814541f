//! The actor of one meter: its schedules, its polls, its misses. Lives with or without a connection, so that misses are
//! known.
//!
//! What is due and how a slot ends is decided by [`Agenda`]; what to ask and what an answer means by `device/`. The
//! actor carries a poll to the line as one job, makes what came of it durable, and only then tells anybody.

mod blocks;
mod clock;
mod life;
mod visit;

use crate::actor::durable::Durable;
use crate::actor::shard::{Rearm, ShardParts};
use crate::actor::supervise::ExitGuard;
use crate::actor::verdict::{self, Heard};
use crate::actor::wakes::Wakes;
use crate::base::ids::{MeterId, PollId};
use crate::device::decode::instant;
use crate::device::model::MeterModel;
use crate::device::plan::{self, plan};
use crate::domain::device::{Connect, DtuRecord, MeterRecord, Parity};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Reading, Source};
use crate::domain::slot::MissReason;
pub use crate::exchange::agenda::Agenda;
use crate::exchange::agenda::{Action, Ended, Failure, Got, PollOrder, PollVerdict};
use crate::exchange::habit::Visited;
use crate::exchange::job::{PollJob, PollOutcome, Priority, byte_time};
use crate::port::field::{Link, LinkError};
use crate::port::fleet::ReadFailure;
use crate::port::ledger::PollRecord;
use crate::protocol::{Protocol, Request};
use crate::telemetry::actor::{ACTORS, PollEnded, PollShed, SlotEnded};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WeakAddr,
    WrapFuture,
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use chrono_tz::Tz;
pub(in crate::actor) use clock::zone_of;
pub use life::{Life, save};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
pub(in crate::actor) use visit::{TAKEN_AHEAD_MAX, byte_time_of, wants_of};

/// Actions taken in one turn before others run.
const ACTIONS_PER_TURN: usize = 32;

/// What a meter's actor is built of.
pub struct MeterParts {
    /// What all meters of the shard share.
    pub shard: Rc<ShardParts>,
    /// The meter.
    pub record: Arc<MeterRecord>,
    /// Its DTU.
    pub dtu: Option<Arc<DtuRecord>>,
    /// Its agenda, and what else outlives the actor.
    pub life: Rc<Life>,
    /// The shard's heap of wakes.
    pub wakes: Rc<RefCell<Wakes>>,
    /// Tells the shard that its timer is too late.
    pub rearm: Recipient<Rearm>,
    /// The way to the line, while there is one.
    pub link: Option<Arc<dyn Link>>,
    /// Schedules run.
    pub running: bool,
}

/// The actor.
pub struct Meter {
    parts: MeterParts,
    /// Found by the record: every poll needs them.
    model: Option<Arc<MeterModel>>,
    zone: Tz,
    guard: ExitGuard,
    /// Polls under way, and reads on demand.
    busy: usize,
    /// Schedules wait for their turn after a connect.
    held: bool,
    waiting_idle: Vec<oneshot::Sender<()>>,
}

/// Something is due.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Wake;

/// The session came or went.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LinkChanged {
    /// The way to the line, while there is one.
    pub link: Option<Arc<dyn Link>>,
    /// Schedules wait for their turn after a connect.
    pub held: bool,
}

/// The meter's record or its DTU's changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed {
    /// The meter.
    pub record: Arc<MeterRecord>,
    /// Its DTU.
    pub dtu: Option<Arc<DtuRecord>>,
}

/// The meter is gone from the directory.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire;

/// Begin (true) or end (false) polling; answered when nothing is under way any more (at once for true).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Run(pub bool);

/// Read now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OnDemand {
    /// What; empty: all.
    pub quantities: Vec<Quantity>,
    /// No attempt begins after it.
    pub deadline: Instant,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Reading, ReadFailure>>,
}

/// An instant as the database keeps it, so that what is shown before and after it is stored is the same.
pub(in crate::actor) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(at)
}

impl Meter {
    /// `guard` tells the shard on any end but an orderly one.
    pub fn new(parts: MeterParts, guard: ExitGuard) -> Self {
        Self {
            model: visit::model_of(&parts),
            zone: zone_of(&parts.record),
            parts,
            guard,
            busy: 0,
            held: false,
            waiting_idle: Vec::new(),
        }
    }

    fn id(&self) -> i32 {
        self.parts.record.id.0
    }

    fn now(&self) -> DateTime<Utc> {
        self.parts.shard.clock.now()
    }

    /// Does what the agenda says until it says sleep.
    fn step(&mut self, ctx: &mut Context<Self>) {
        if self.parts.running {
            let online = self.parts.link.is_some() && !self.held;
            for _ in 0..ACTIONS_PER_TURN {
                let action = self.parts.life.agenda.borrow_mut().wake(self.now(), online);
                match action {
                    Action::Poll(order) => {
                        self.parts.life.running.set(Some(order.serial));
                        self.poll(order, ctx);
                        // until it is over there is no other, and what ends meanwhile has its own wake
                        if self.parts.life.running.get().is_some() {
                            break;
                        }
                    }
                    Action::End(ended) => self.save(None, ended),
                    Action::Sleep => break,
                }
            }
        }
        if self.is_idle() {
            self.parts.life.awaited.set(false);
            for waiting in self.waiting_idle.drain(..) {
                let _gone = waiting.send(());
            }
        }
        self.set_wake();
    }

    fn set_wake(&self) {
        let next = if self.parts.running {
            self.parts.life.agenda.borrow().next_wake()
        } else {
            None
        };
        if self.parts.wakes.borrow_mut().set(self.parts.record.id, next) {
            self.parts.rearm.do_send(Rearm);
        }
    }

    fn poll(&mut self, order: PollOrder, ctx: &mut Context<Self>) {
        let left = (order.deadline - self.now()).to_std().unwrap_or(Duration::ZERO);
        let deadline = self.parts.shard.clock.monotonic() + left;
        let prepared = match order.past {
            Some(past) => self.prepare_past(past, &order.quantities, order.attempts, deadline),
            None => self.prepare(&order.quantities, order.priority, order.attempts, deadline),
        };
        match prepared {
            Ok(prepared) => {
                let poll = prepared.job.poll;
                let begun = self.parts.shard.clock.monotonic();
                self.run(prepared, ctx, move |meter, heard, _ctx| {
                    let heard = heard.wanting(&order.quantities);
                    let seconds = meter.parts.shard.clock.monotonic().duration_since(begun).as_secs_f64();
                    PollEnded {
                        meter: meter.id(),
                        poll: poll.0,
                        outcome: heard.outcome(),
                        seconds,
                    }
                    .emit();
                    meter.settle(&order, poll, heard);
                });
            }
            Err(failure) => {
                let heard = Heard::nothing(failure);
                self.settle(&order, PollId(0), heard);
            }
        }
    }

    /// One thing under way is over.
    fn done(&mut self, ctx: &mut Context<Self>) {
        self.busy = self.busy.saturating_sub(1);
        self.step(ctx);
    }

    fn is_idle(&self) -> bool {
        self.busy == 0 && self.parts.life.saving.get() == 0
    }

    fn reading(&self, ts: DateTime<Utc>, source: Source, poll: PollId, heard: &mut Heard) -> Option<Reading> {
        if heard.items.is_empty() {
            return None;
        }
        // how far the clock is off belongs to the present
        if source != Source::BackFill {
            heard.items.extend(self.drift_to_store());
        }
        Some(Reading {
            account: self.parts.record.account,
            meter: self.parts.record.id,
            ts,
            source,
            read_at: micros(heard.read_at.unwrap_or_else(|| self.now())),
            meter_time: heard.meter_time,
            poll,
            frames: heard.frames,
            items: std::mem::take(&mut heard.items),
        })
    }

    /// A scheduled poll is over: what ended becomes durable together with its reading. Of a past state the reading has
    /// the meter's own time of it.
    fn settle(&mut self, order: &PollOrder, poll: PollId, mut heard: Heard) {
        let past_at = order.past.and_then(|past| instant(heard.past_at?, past.zone));
        if order.past.is_some() {
            heard.lacking(&order.quantities);
        }
        let verdict = PollVerdict {
            began_at: heard.began_at,
            attempts: heard.attempts,
            got: heard.got(),
            failure: heard.failure.take(),
        };
        self.parts.life.running.set(None);
        let settlement = {
            let mut agenda = self.parts.life.agenda.borrow_mut();
            match order.past {
                Some(_) => agenda.past_outcome(self.now(), order.serial, verdict, past_at),
                None => agenda.outcome(self.now(), order.serial, verdict),
            }
        };
        let reading = match (settlement.store, order.past, past_at) {
            (false, ..) | (true, Some(_), None) => None,
            (true, Some(_), Some(at)) => {
                heard.meter_time = Some(at);
                self.reading(at, Source::BackFill, poll, &mut heard)
            }
            (true, None, _) => self.reading(order.due_at, Source::Scheduled, poll, &mut heard),
        };
        if reading.is_some() || !settlement.ended.is_empty() {
            self.save(reading, settlement.ended);
        }
    }

    fn save(&self, reading: Option<Reading>, ended: Ended) {
        save(
            &self.parts.shard,
            self.parts.record.id,
            &self.parts.life,
            reading,
            ended,
        );
    }

    /// The breaker learns from a read on demand too: an answer closes it, so that the schedules go on at once. Silence
    /// counts while it is closed; once open, impatience must not make its probes rarer.
    fn tell_breaker(&self, heard: &Heard) {
        let mut agenda = self.parts.life.agenda.borrow_mut();
        let breaker = agenda.breaker_mut();
        let reason = heard.failure.as_ref().map(|failure| failure.reason);
        match reason {
            _ if !heard.items.is_empty() => breaker.answered(),
            None | Some(MissReason::Exception | MissReason::Undecodable | MissReason::Partial) => breaker.answered(),
            Some(MissReason::Timeout) if !breaker.is_open() => {
                breaker.silent(self.now());
            }
            Some(_) => {}
        }
    }

    fn read_now(&mut self, read: OnDemand, ctx: &mut Context<Self>) {
        let missed = |failure: Failure| ReadFailure::Missed {
            reason: failure.reason,
            detail: failure.detail,
        };
        let ts = micros(self.now());
        match self.prepare(&read.quantities, Priority::OnDemand, 2, read.deadline) {
            Err(failure) => {
                let _gone = read.answer.send(Err(missed(failure)));
            }
            Ok(prepared) => {
                let poll = prepared.job.poll;
                self.run(prepared, ctx, move |meter, heard, ctx| {
                    meter.tell_breaker(&heard);
                    let mut heard = heard.wanting(&read.quantities);
                    match meter.reading(ts, Source::OnDemand, poll, &mut heard) {
                        Some(reading) => meter.save_on_demand(reading, read.answer, ctx),
                        None => {
                            let failure = heard.failure.unwrap_or_else(|| Failure::of(MissReason::Undecodable));
                            let _gone = read.answer.send(Err(missed(failure)));
                        }
                    }
                });
            }
        }
    }

    fn save_on_demand(
        &mut self,
        reading: Reading,
        answer: oneshot::Sender<Result<Reading, ReadFailure>>,
        ctx: &mut Context<Self>,
    ) {
        let record = PollRecord {
            reading: Some(reading.clone()),
            evidence: self.parts.life.evidence.take(),
            ..PollRecord::default()
        };
        let log = Arc::clone(&self.parts.shard.log);
        self.busy += 1;
        let append = async move { log.append(record).await };
        ctx.spawn(append.into_actor(self).map(move |saved, meter, ctx| {
            let result = match saved {
                Ok(_durable) => Ok(reading),
                Err(error) => Err(ReadFailure::Missed {
                    reason: MissReason::StorageRefused,
                    detail: Some(verdict::detail(&error.to_string())),
                }),
            };
            let _gone = answer.send(result);
            meter.done(ctx);
        }));
    }
}

impl Actor for Meter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["meter"]).inc();
        *self.parts.life.actor.borrow_mut() = Some(ctx.address().downgrade());
        self.parts.life.agenda.borrow_mut().spread_by(self.spread());
        self.parts.life.agenda.borrow_mut().set_memory(self.memory());
        self.step(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["meter"]).dec();
    }
}

impl Handler<Wake> for Meter {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.step(ctx);
    }
}

impl Handler<LinkChanged> for Meter {
    type Result = ();

    fn handle(&mut self, LinkChanged { link, held }: LinkChanged, ctx: &mut Self::Context) {
        self.parts.link = link;
        self.held = held;
        self.step(ctx);
    }
}

impl Handler<Changed> for Meter {
    type Result = ();

    fn handle(&mut self, changed: Changed, ctx: &mut Self::Context) {
        let (old, new) = (&self.parts.record, &changed.record);
        if (&old.protocol, &old.address, &old.model, old.dtu) != (&new.protocol, &new.address, &new.model, new.dtu) {
            self.parts.life.forget();
        }
        self.parts.record = changed.record;
        self.parts.dtu = changed.dtu;
        self.model = visit::model_of(&self.parts);
        self.zone = zone_of(&self.parts.record);
        self.parts.life.agenda.borrow_mut().spread_by(self.spread());
        self.parts.life.agenda.borrow_mut().set_memory(self.memory());
        self.step(ctx);
    }
}

impl Handler<Retire> for Meter {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.guard.disarm();
        ctx.stop();
    }
}

impl Handler<Run> for Meter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Run(running): Run, ctx: &mut Self::Context) -> Self::Result {
        self.parts.running = running;
        // recovery has put the real agenda there
        self.parts.life.agenda.borrow_mut().spread_by(self.spread());
        self.parts.life.agenda.borrow_mut().set_memory(self.memory());
        self.step(ctx);
        if running || self.is_idle() {
            return Box::pin(std::future::ready(()));
        }
        let (idle, waiting) = oneshot::channel();
        self.waiting_idle.push(idle);
        self.parts.life.awaited.set(true);
        Box::pin(async move {
            // an actor that dies is idle too
            let _idle = waiting.await;
        })
    }
}

impl Handler<OnDemand> for Meter {
    type Result = ();

    fn handle(&mut self, read: OnDemand, ctx: &mut Self::Context) {
        self.read_now(read, ctx);
    }
}

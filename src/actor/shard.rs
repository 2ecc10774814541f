//! A shard: one arbiter's DTUs with their meters and connections, and the one timer that wakes the meters.
//!
//! The shard is the supervisor of its children: a meter or connection that dies is built anew from its record after a
//! back-off, and nobody else is touched. A meter's agenda outlives its actor ([`MeterCell`]), so no slot is lost or
//! doubled with it.

mod handlers;
mod lines;
mod reports;

pub use lines::expected_loads;

use crate::actor::connection::{DtuConnection, StopConnection};
use crate::actor::durable::PollLog;
use crate::actor::messages::{
    BeginSchedules, ConnectionTask, DialledExited, GetLink, GetOpenSlots, MeterExited, OpenSlots, PlaceDtu, ReadMeter,
    RunConnection, ScanDtu, SessionDown, SessionUp, StopSchedules,
};
use crate::actor::meter::{self, Agenda, Changed, Life, LinkChanged, Meter, MeterParts, OnDemand, Retire, Run, Wake};
use crate::actor::scan::{self, LinkFinder, ScanParts};
use crate::actor::supervise::{ExitGuard, Generation, RestartPolicy, Restarts};
use crate::actor::wakes::Wakes;
use crate::base::clock::Clock;
use crate::base::ids::{ConnectionId, DtuId, GrowingIds, MeterId};
use crate::device::catalogue::Catalogue;
use crate::domain::device::{Connect, DtuRecord, MeterRecord};
use crate::domain::slot::MissReason;
use crate::domain::slot::plan::{RuleShelf, SlotPlan};
use crate::exchange::pace::Pace;
use crate::exchange::shed::PressureGauge;
use crate::port::field::Link;
use crate::port::fleet::ReadFailure;
use crate::telemetry::actor::{ACTORS, ActorRestarted, FirstPollsHeld};
use actix::{Actor, Addr, AsyncContext, Context, Handler, MessageResult, ResponseFuture, SpawnHandle};
use chrono::{DateTime, Utc};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The timer never sleeps longer, so that a step of the wall clock is noticed.
const TICK_MAX: Duration = Duration::from_secs(1);
/// Wakes handled in one go before the shard lets others run.
const WAKES_PER_TURN: usize = 512;

/// Makes the life of a connection that we dial, again after each death.
pub trait Connector: Send + Sync + 'static {
    /// The task for this DTU; it dials, redials and runs until it is dropped.
    fn dial(&self, dtu: DtuRecord) -> ConnectionTask;
}

/// What a shard is built of.
pub struct ShardParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where polls become durable.
    pub log: Arc<dyn PollLog>,
    /// Meter models.
    pub catalogue: Arc<Catalogue>,
    /// How dialled DTUs are reached.
    pub connector: Arc<dyn Connector>,
    /// Ids of polls, shared by all shards.
    pub polls: Arc<GrowingIds>,
    /// Limits of restarting.
    pub restarts: RestartPolicy,
    /// Compiled schedules, shared by the meters of the shard.
    pub shelf: RefCell<RuleShelf>,
    /// The sessions of this shard whose schedules may begin in one second after a connect.
    pub first_polls: Pace,
    /// What is shed, and from when on.
    pub pressure: Arc<PressureGauge>,
}

impl ShardParts {
    fn plan(&self, record: &MeterRecord) -> SlotPlan {
        let (plan, faults) = SlotPlan::compile(&record.schedules, &mut self.shelf.borrow_mut());
        for fault in faults {
            tracing::error!(meter.id = record.id.0, %fault, "a schedule's rule is left out");
        }
        plan
    }
}

/// A DTU of this shard.
struct DtuCell {
    record: Arc<DtuRecord>,
    link: Option<(ConnectionId, Arc<dyn Link>)>,
    dialled: Option<Dialled>,
}

struct Dialled {
    addr: Option<Addr<DtuConnection>>,
    generation: Generation,
    restarts: Restarts,
}

/// A meter of this shard; what outlives its actor.
struct MeterCell {
    addr: Option<Addr<Meter>>,
    generation: Generation,
    restarts: Restarts,
    dtu: DtuId,
    record: Arc<MeterRecord>,
    life: Rc<Life>,
}

/// A meter that has left, until all that it owed is durable.
struct Leaving {
    meter: MeterId,
    life: Rc<Life>,
    until: DateTime<Utc>,
}

impl Leaving {
    /// Ends what it owes by now; whether some of it is not durable yet.
    fn owes_after(&self, parts: &ShardParts) -> bool {
        let now = parts.clock.now();
        let ended = self
            .life
            .agenda
            .borrow_mut()
            .close(now, self.until, MissReason::MeterRemoved);
        if !ended.is_empty() {
            meter::save(parts, self.meter, &self.life, None, ended);
        }
        self.life.saving.get() > 0 || self.life.agenda.borrow().owes(self.until)
    }
}

/// The actor.
pub struct Shard {
    parts: Rc<ShardParts>,
    // in order, so that a run can be repeated exactly
    dtus: BTreeMap<DtuId, DtuCell>,
    meters: BTreeMap<MeterId, MeterCell>,
    wakes: Rc<RefCell<Wakes>>,
    timer: Option<SpawnHandle>,
    /// Meters that have left with endings that are not durable yet.
    leaving: Vec<Leaving>,
    /// Schedules run; before recovery and while stopping they do not.
    running: bool,
    first_polls: Pace,
}

/// A meter changed its next wake to the earliest of all.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Rearm;

impl Shard {
    /// An empty shard; its DTUs come by [`PlaceDtu`].
    pub fn new(parts: ShardParts) -> Self {
        Self {
            first_polls: parts.first_polls,
            parts: Rc::new(parts),
            dtus: BTreeMap::new(),
            meters: BTreeMap::new(),
            wakes: Rc::default(),
            timer: None,
            leaving: Vec::new(),
            running: false,
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if !self.running {
            return;
        }
        let now = self.parts.clock.now();
        let wait = self.wakes.borrow_mut().earliest().map_or(TICK_MAX, |at| {
            (at - now).to_std().unwrap_or(Duration::ZERO).min(TICK_MAX)
        });
        self.timer = Some(ctx.run_later(wait, |shard, ctx| {
            shard.timer = None;
            shard.wake_due();
            shard.see_off();
            shard.arm(ctx);
        }));
    }

    fn wake_due(&mut self) {
        let now = self.parts.clock.now();
        for _ in 0..WAKES_PER_TURN {
            let Some(meter) = self.wakes.borrow_mut().pop_due(now) else {
                break;
            };
            if let Some(addr) = self.meters.get(&meter).and_then(|cell| cell.addr.as_ref()) {
                addr.do_send(Wake);
            }
        }
    }

    fn start_meter(&mut self, id: MeterId, ctx: &mut Context<Self>) {
        let Some(cell) = self.meters.get_mut(&id) else { return };
        cell.generation = cell.generation.next();
        let (generation, shard) = (cell.generation, ctx.address());
        let guard = {
            let shard = shard.clone();
            ExitGuard::new(move || shard.do_send(MeterExited { meter: id, generation }))
        };
        let dtu = self.dtus.get(&cell.dtu);
        let parts = MeterParts {
            shard: Rc::clone(&self.parts),
            record: Arc::clone(&cell.record),
            dtu: dtu.map(|dtu| Arc::clone(&dtu.record)),
            life: Rc::clone(&cell.life),
            wakes: Rc::clone(&self.wakes),
            rearm: shard.recipient(),
            link: dtu.and_then(|dtu| dtu.link.as_ref()).map(|(_, link)| Arc::clone(link)),
            running: self.running,
        };
        cell.addr = Some(Meter::new(parts, guard).start());
    }

    fn start_dialled(&mut self, id: DtuId, ctx: &mut Context<Self>) {
        let Some(cell) = self.dtus.get_mut(&id) else { return };
        if matches!(cell.record.connect, Connect::Inbound) || !cell.record.enabled {
            return;
        }
        let task = self.parts.connector.dial((*cell.record).clone());
        let dialled = cell.dialled.get_or_insert_with(|| Dialled {
            addr: None,
            generation: Generation(0),
            restarts: Restarts::default(),
        });
        dialled.generation = dialled.generation.next();
        let (generation, shard) = (dialled.generation, ctx.address());
        let guard = ExitGuard::new(move || shard.do_send(DialledExited { dtu: id, generation }));
        dialled.addr = Some(DtuConnection::new(task, guard).start());
    }

    fn stop_dialled(&mut self, id: DtuId) {
        let dialled = self.dtus.get_mut(&id).and_then(|cell| cell.dialled.take());
        if let Some(addr) = dialled.and_then(|dialled| dialled.addr) {
            addr.do_send(StopConnection);
        }
    }

    /// The meter is gone; slots due before `until` get their endings all the same, if schedules run.
    fn remove_meter(&mut self, id: MeterId, until: DateTime<Utc>) {
        self.wakes.borrow_mut().set(id, None);
        let Some(cell) = self.meters.remove(&id) else { return };
        if let Some(addr) = cell.addr {
            addr.do_send(Retire);
        }
        let leaving = Leaving {
            meter: id,
            life: cell.life,
            until,
        };
        if self.running && leaving.owes_after(&self.parts) {
            self.leaving.push(leaving);
        }
    }

    /// Ends what meters that have left still owe.
    fn see_off(&mut self) {
        let parts = Rc::clone(&self.parts);
        self.leaving.retain(|leaving| leaving.owes_after(&parts));
    }

    fn place(&mut self, message: PlaceDtu, record: Arc<DtuRecord>, ctx: &mut Context<Self>) {
        let dtu = message.dtu;
        let redial = self
            .dtus
            .get(&dtu)
            .is_none_or(|cell| cell.record.connect != record.connect || cell.record.enabled != record.enabled);
        if redial {
            self.stop_dialled(dtu);
        }
        let before = match self.dtus.get_mut(&dtu) {
            Some(cell) => Some(std::mem::replace(&mut cell.record, Arc::clone(&record))),
            None => {
                let cell = DtuCell {
                    record: Arc::clone(&record),
                    link: None,
                    dialled: None,
                };
                self.dtus.insert(dtu, cell);
                None
            }
        };
        for old in before.iter().flat_map(|before| &before.meters) {
            let stays = record.meters.iter().any(|meter| meter.id == old.id);
            // one that moved within this shard belongs to its new DTU by now
            if !stays && self.meters.get(&old.id).is_some_and(|cell| cell.dtu == dtu) {
                self.remove_meter(old.id, message.until);
            }
        }
        for meter in &record.meters {
            let moved = message.moved.iter().find(|(id, _)| *id == meter.id);
            self.place_meter(&record, meter, moved.map(|(_, until)| *until), ctx);
        }
        if redial {
            self.start_dialled(dtu, ctx);
        }
    }

    fn place_meter(
        &mut self,
        dtu: &Arc<DtuRecord>,
        record: &MeterRecord,
        moved: Option<DateTime<Utc>>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.parts.clock.now();
        let Some(cell) = self.meters.get_mut(&record.id) else {
            let plan = self.parts.plan(record);
            // before schedules run it is a place holder: recovery puts the real one there
            let agenda = match moved {
                Some(since) => Agenda::new(record.account, record.id, plan, since),
                None => Agenda::appear(record.account, record.id, plan, now),
            };
            let cell = MeterCell {
                addr: None,
                generation: Generation(0),
                restarts: Restarts::default(),
                dtu: dtu.id,
                record: Arc::new(record.clone()),
                life: Rc::new(Life::new(agenda)),
            };
            self.meters.insert(record.id, cell);
            return self.start_meter(record.id, ctx);
        };
        cell.dtu = dtu.id;
        if cell.record.schedules != record.schedules {
            let ended = cell.life.agenda.borrow_mut().replace(now, self.parts.plan(record));
            if !ended.is_empty() {
                meter::save(&self.parts, record.id, &cell.life, None, ended);
            }
        }
        if *cell.record != *record {
            cell.record = Arc::new(record.clone());
        }
        if let Some(addr) = &cell.addr {
            addr.do_send(Changed {
                record: Arc::clone(&cell.record),
                dtu: Some(Arc::clone(dtu)),
            });
        }
    }

    /// `held`: schedules wait, somebody who asks does not.
    fn tell_meters(&self, dtu: DtuId, link: Option<&Arc<dyn Link>>, held: bool) {
        let Some(cell) = self.dtus.get(&dtu) else { return };
        for meter in &cell.record.meters {
            if let Some(addr) = self.meters.get(&meter.id).and_then(|meter| meter.addr.as_ref()) {
                addr.do_send(LinkChanged {
                    link: link.map(Arc::clone),
                    held,
                });
            }
        }
    }
}

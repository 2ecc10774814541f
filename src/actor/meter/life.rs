//! What outlives a meter's actor: its agenda, and saves under way.

use super::*;

/// What outlives the actor of a meter: it dies of a bug, its slots do not.
pub struct Life {
    /// The agenda.
    pub agenda: RefCell<Agenda>,
    /// The poll that the agenda waits for.
    pub running: Cell<Option<u64>>,
    /// Saves under way.
    pub saving: Cell<usize>,
    /// The actor that lives it at present; who ends a save wakes this one, not the one that began it.
    pub actor: RefCell<Option<WeakAddr<Meter>>>,
}

impl Life {
    /// A new life.
    pub fn new(agenda: Agenda) -> Self {
        Self {
            agenda: RefCell::new(agenda),
            running: Cell::new(None),
            saving: Cell::new(0),
            actor: RefCell::new(None),
        }
    }

    fn wake(&self) {
        if let Some(meter) = self.actor.borrow().as_ref().and_then(WeakAddr::upgrade) {
            meter.do_send(Wake);
        }
    }

    /// The actor died: the poll that it ran is lost. What follows from it is handed out again at the next wake.
    pub fn bereave(&self, now: DateTime<Utc>) {
        let Some(serial) = self.running.take() else { return };
        let verdict = PollVerdict {
            began_at: None,
            attempts: 0,
            got: Got::Nothing,
            failure: Some(Failure::of(MissReason::Internal)),
        };
        let mut agenda = self.agenda.borrow_mut();
        let settlement = agenda.outcome(now, serial, verdict);
        if !settlement.ended.is_empty() {
            agenda.refused(now, settlement.ended);
        }
    }
}

/// Makes endings (with their reading) durable, and only then shows them. Runs beside the actor, so that its death does
/// not leave a record half known.
pub fn save(shard: &ShardParts, meter: MeterId, life: &Rc<Life>, reading: Option<Reading>, ended: Ended) {
    let record = PollRecord {
        reading,
        endings: ended.endings.clone(),
        evidence: Vec::new(),
    };
    let (log, clock, life) = (Arc::clone(&shard.log), Arc::clone(&shard.clock), Rc::clone(life));
    life.saving.set(life.saving.get() + 1);
    actix_rt::spawn(async move {
        match log.append(record).await {
            Ok(durable) => {
                life.agenda.borrow_mut().saved(&ended);
                show(meter, &ended, &durable);
            }
            Err(error) => {
                tracing::error!(meter.id = meter.0, %error, "endings are not durable, they stay open");
                life.agenda.borrow_mut().refused(clock.now(), ended);
            }
        }
        life.saving.set(life.saving.get().saturating_sub(1));
        life.wake();
    });
}

fn show(meter: MeterId, ended: &Ended, _proof: &Durable) {
    for _ in &ended.by_reading {
        SlotEnded {
            meter: meter.0,
            state: "actual",
            reason: "",
        }
        .emit();
    }
    for ending in &ended.endings {
        let reason = ending.reason.map_or("", MissReason::as_str);
        SlotEnded {
            meter: meter.0,
            state: ending.state.as_str(),
            reason,
        }
        .emit();
    }
}

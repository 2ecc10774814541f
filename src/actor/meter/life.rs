//! What outlives a meter's actor: its agenda, and saves under way.

use super::blocks::RefusedBlocks;
use super::*;
use crate::base::ids::DtuId;
use crate::exchange::drift::ClockWatch;
use crate::exchange::evidence::{EVIDENCE_FRAMES_MAX, Evidence};
use crate::exchange::habit::Habit;
use crate::port::frames::RecordedFrame;

/// Frames that wait for a save at most: those of two visits.
const EVIDENCE_KEPT_MAX: usize = 2 * EVIDENCE_FRAMES_MAX;

/// What outlives the actor of a meter: it dies of a bug, its slots do not.
pub struct Life {
    /// The agenda.
    pub agenda: RefCell<Agenda>,
    /// The poll that the agenda waits for.
    pub running: Cell<Option<u64>>,
    /// Saves under way.
    pub saving: Cell<usize>,
    /// Somebody waits for the last of them.
    pub awaited: Cell<bool>,
    /// What was learned of the meter.
    pub habit: RefCell<Habit>,
    /// What is known of its clock.
    pub clock: Cell<ClockWatch>,
    /// How far the clock is off, until it is stored with a reading.
    pub drift: Cell<Option<TimeDelta>>,
    /// Blocks that it refuses.
    pub refused: RefCell<RefusedBlocks>,
    /// Raw frames that wait for the next save.
    pub evidence: RefCell<Vec<RecordedFrame>>,
    /// What came last could not be decoded: the next answers are wanted as evidence.
    pub puzzled: Cell<bool>,
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
            awaited: Cell::new(false),
            habit: RefCell::default(),
            clock: Cell::default(),
            drift: Cell::default(),
            refused: RefCell::default(),
            evidence: RefCell::default(),
            puzzled: Cell::new(false),
            actor: RefCell::new(None),
        }
    }

    /// Forgets what was learned: it is another meter, or hangs elsewhere.
    pub fn forget(&self) {
        self.habit.take();
        self.clock.take();
        self.drift.take();
        self.refused.borrow_mut().forget();
    }

    /// Keeps raw frames for the next save. Those of a dead meter that said nothing would say every time the same.
    pub fn keep(&self, evidence: Vec<Evidence>, dtu: DtuId) {
        if evidence.is_empty() {
            return;
        }
        let dead = self.agenda.borrow().breaker().is_open();
        if dead && evidence.iter().all(Evidence::is_question) {
            return;
        }
        let mut kept = self.evidence.borrow_mut();
        kept.extend(evidence.into_iter().map(|frame| RecordedFrame::of(frame, dtu)));
        let over = kept.len().saturating_sub(EVIDENCE_KEPT_MAX);
        kept.drain(..over);
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
        evidence: life.evidence.take(),
    };
    let (log, clock, life) = (Arc::clone(&shard.log), Arc::clone(&shard.clock), Rc::clone(life));
    life.saving.set(life.saving.get() + 1);
    actix_rt::spawn(async move {
        // what is durable makes nothing due: only a refusal has to be tried again
        let again = match log.append(record).await {
            Ok(durable) => {
                life.agenda.borrow_mut().saved(&ended);
                show(meter, &ended, &durable);
                false
            }
            Err(error) => {
                tracing::error!(meter.id = meter.0, %error, "endings are not durable, they stay open");
                life.agenda.borrow_mut().refused(clock.now(), ended);
                true
            }
        };
        life.saving.set(life.saving.get().saturating_sub(1));
        if again || life.awaited.get() {
            life.wake();
        }
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

//! One visit to the meter: from wanted quantities to a job for the line, and from its outcome to what was heard. What the
//! visit teaches is noted on the way.

use super::*;
use crate::device::dlt645::history::Past;
use crate::device::model::Folder;
use crate::domain::reading::Quality;
use crate::exchange::agenda::{MeterMemory, PastKind, PastOrder};
use crate::telemetry::concentrator::StampRefused;
use chrono_tz::Tz;

/// A concentrator's clock is this much ahead at most when it is believed.
pub(in crate::actor) const TAKEN_AHEAD_MAX: TimeDelta = TimeDelta::hours(1);
/// The oldest value that a concentrator shows as present; it has read the meter every day.
const TAKEN_BEHIND_MAX: TimeDelta = TimeDelta::days(7);

/// A job with what is needed to read its outcome.
pub(super) struct Prepared {
    pub(super) job: PollJob,
    link: Arc<dyn Link>,
    model: Arc<MeterModel>,
    requests: Vec<Request>,
    instead: Vec<Vec<Request>>,
    asks_clock: bool,
    /// The past state that is asked for, and the zone of the meter's clock.
    past: Option<(Past, Tz)>,
}

/// What a byte takes on a meter's line: at the port's speed where it is ours, else at the one the model is made for.
pub(in crate::actor) fn byte_time_of(dtu: Option<&DtuRecord>, model: &MeterModel) -> Duration {
    match dtu.map(|dtu| &dtu.connect) {
        Some(Connect::ModbusTcp { .. }) => Duration::ZERO,
        // no line: a socket
        _ if model.folder == Folder::Gdw376 => Duration::ZERO,
        Some(Connect::Serial { baud, parity, .. }) => byte_time(*baud, *parity != Parity::None, 1),
        Some(Connect::Inbound | Connect::Dial { .. }) | None => {
            let serial = &model.serial;
            byte_time(serial.baud, serial.parity != Parity::None, serial.stop_bits)
        }
    }
}

/// The time-out and the rest that DTU and model want for a meter.
pub(in crate::actor) fn wants_of(dtu: Option<&DtuRecord>, model: &MeterModel) -> (Duration, Duration) {
    let (timeout_ms, pause_ms) = dtu.map_or((1_000, 20), |dtu| (dtu.timeout_ms, dtu.pause_ms));
    (
        Duration::from_millis(timeout_ms.max(model.timeout_ms).into()),
        Duration::from_millis(pause_ms.max(model.pause_ms).into()),
    )
}

/// The model that a meter's record names, where there is one.
pub(super) fn model_of(parts: &MeterParts) -> Option<Arc<MeterModel>> {
    let record = &parts.record;
    let protocol = Protocol::by_name(&record.protocol)?;
    parts.shard.catalogue.get(protocol, &record.model).cloned()
}

impl Meter {
    /// A job for the line, or why there can be none.
    pub(super) fn prepare(
        &self,
        quantities: &[Quantity],
        priority: Priority,
        attempts: u8,
        deadline: Instant,
    ) -> Result<Prepared, Failure> {
        let record = &self.parts.record;
        let ask = |model: &MeterModel| {
            let requests = plan(model, &record.address, quantities)
                .map_err(|error| verdict::failure(MissReason::NoModel, &error.to_string()))?;
            Ok(self.parts.life.refused.borrow().plan(model, requests))
        };
        self.prepare_by(priority, attempts, deadline, None, ask)
    }

    /// A job that asks for a past state of the meter's registers, or why there can be none.
    pub(super) fn prepare_past(
        &self,
        past: PastOrder,
        quantities: &[Quantity],
        attempts: u8,
        deadline: Instant,
    ) -> Result<Prepared, Failure> {
        let state = match past.kind {
            PastKind::Daily => Past::Daily(past.back),
            PastKind::Settlement => Past::Settlement(past.back),
        };
        let record = &self.parts.record;
        let ask = |model: &MeterModel| {
            let local = self.now().with_timezone(&past.zone).naive_local();
            let requests = plan::history(model, &record.address, state, local, quantities)
                .map_err(|error| verdict::failure(MissReason::NoModel, &error.to_string()))?;
            if requests.is_empty() {
                return Err(verdict::failure(MissReason::NoModel, "the model keeps no such past"));
            }
            Ok(requests)
        };
        self.prepare_by(Priority::BackFill, attempts, deadline, Some((state, past.zone)), ask)
    }

    /// What the meter's own memory keeps, by its model.
    pub(super) fn memory(&self) -> MeterMemory {
        let (days, settlements) = self.model.as_deref().map_or((0, 0), plan::kept);
        MeterMemory { days, settlements }
    }

    fn prepare_by(
        &self,
        priority: Priority,
        attempts: u8,
        deadline: Instant,
        past: Option<(Past, Tz)>,
        ask: impl FnOnce(&MeterModel) -> Result<Vec<Request>, Failure>,
    ) -> Result<Prepared, Failure> {
        let pressure = self.parts.shard.pressure.now();
        if !pressure.admits(priority) {
            PollShed {
                priority: priority.as_str(),
            }
            .emit();
            return Err(verdict::failure(MissReason::Overload, pressure.as_str()));
        }
        let record = &self.parts.record;
        let model = self.model.clone().ok_or_else(|| {
            let lacking = match Protocol::by_name(&record.protocol) {
                Some(_) => &record.model,
                None => &record.protocol,
            };
            verdict::failure(MissReason::NoModel, lacking)
        })?;
        let mut requests = ask(&model)?;
        let habit = self.parts.life.habit.borrow();
        let clock = match past {
            Some(_) => Vec::new(),
            None => self.clock_questions(&model),
        };
        let asks_clock = !clock.is_empty();
        requests.extend(clock);
        let mut instead = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let finer = plan::instead(&model, request);
            if !finer.is_empty() {
                instead.resize(place, Vec::new());
                instead.push(finer);
            }
        }
        let link = self
            .parts
            .link
            .clone()
            .ok_or_else(|| Failure::of(MissReason::DtuOffline))?;
        let dtu = self.parts.dtu.as_deref();
        let (timeout, pause) = wants_of(dtu, &model);
        let job = PollJob {
            poll: PollId(self.parts.shard.polls.take()),
            meter: record.id,
            priority,
            requests: requests.clone(),
            instead: instead.clone(),
            attempts,
            timeout: habit.timeout(timeout),
            byte_time: byte_time_of(dtu, &model),
            evidence: priority <= Priority::Settlement && priority != Priority::OnDemand
                || self.parts.life.puzzled.get(),
            pause: habit.pause(pause),
            deadline,
            effect: None,
        };
        Ok(Prepared {
            job,
            link,
            model,
            requests,
            instead,
            asks_clock,
            past,
        })
    }

    /// Runs a job and hands what was heard to `then`.
    pub(super) fn run(
        &mut self,
        prepared: Prepared,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Heard, &mut Context<Self>) + 'static,
    ) {
        let Prepared {
            job,
            link,
            model,
            requests,
            instead,
            asks_clock,
            past,
        } = prepared;
        let timeout = job.timeout;
        self.busy += 1;
        let visit = async move { link.poll(job).await };
        ctx.spawn(
            visit
                .into_actor(self)
                .map(move |outcome: Result<PollOutcome, LinkError>, meter, ctx| {
                    let (requests, outcome) = meter.learn(timeout, requests, instead, outcome);
                    let (requests, outcome) = meter.look_at_clock(&model, requests, asks_clock, outcome);
                    let mut heard = match past {
                        Some((past, zone)) => {
                            let local = meter.now().with_timezone(&zone).naive_local();
                            verdict::hear_past(&model, past, local, &requests, outcome)
                        }
                        None => verdict::hear(&model, &requests, outcome),
                    };
                    meter.stamp(&mut heard);
                    meter.note(&mut heard);
                    then(meter, heard, ctx);
                    meter.done(ctx);
                }),
        );
    }

    /// Learns of a visit how the meter behaves, and gives what was asked in the end with what came of it.
    fn learn(
        &self,
        timeout: Duration,
        requests: Vec<Request>,
        instead: Vec<Vec<Request>>,
        outcome: Result<PollOutcome, LinkError>,
    ) -> (Vec<Request>, Result<PollOutcome, LinkError>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return (requests, Err(error)),
        };
        let life = &self.parts.life;
        let visited = Visited {
            timeout,
            reports: &outcome.reports,
            late_by: outcome.late_by,
        };
        life.habit.borrow_mut().visited(self.now(), &visited);
        let (asked, outcome, refused) = blocks::unfold(requests, instead, outcome);
        life.refused.borrow_mut().learn(refused);
        (asked, Ok(outcome))
    }

    /// Takes the time at which a concentrator read the meter for the reading's, if it can be true. Else its clock is wrong,
    /// and nobody knows how old the values are.
    fn stamp(&self, heard: &mut Heard) {
        let Some(local) = heard.taken_local.take() else { return };
        let read_at = heard.read_at.unwrap_or_else(|| self.now());
        let taken = instant(local, self.zone);
        let why = match taken {
            Some(at) if at > read_at + TAKEN_AHEAD_MAX => "ahead",
            Some(at) if at < read_at - TAKEN_BEHIND_MAX => "behind",
            Some(at) => {
                heard.meter_time = Some(at);
                return;
            }
            // an hour that this zone leaves out
            None => "ahead",
        };
        StampRefused {
            meter: self.id(),
            why,
            said: &local.to_string(),
        }
        .emit();
        for item in &mut heard.items {
            item.quality = item.quality.max(Quality::Suspect);
        }
    }

    /// By what the polls of this meter are spread within their schedule's time: those behind one concentrator go together.
    pub(super) fn spread(&self) -> i32 {
        let record = &self.parts.record;
        // a meter of DL/T 698.45 may stand behind a terminal; on a line they are asked one behind the other all the same
        let together = matches!(
            Protocol::by_name(&record.protocol),
            Some(Protocol::Gdw376 | Protocol::Dlt698)
        );
        if together { record.dtu.0 } else { record.id.0 }
    }

    /// What is noted of every visit, whatever it was for.
    fn note(&self, heard: &mut Heard) {
        let life = &self.parts.life;
        life.keep(std::mem::take(&mut heard.evidence), self.parts.record.dtu);
        let reason = heard.failure.as_ref().map(|failure| failure.reason);
        life.puzzled.set(reason == Some(MissReason::Undecodable));
    }
}

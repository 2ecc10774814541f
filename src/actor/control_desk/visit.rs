//! One visit for one command: prove who is there, judge everything anew, write `sent` down, mint the permit, send the one
//! frame, read back. And the visit to a command whose outcome is unknown, which reads and never sends.

mod clock;

use super::desk::{Desk, With};
use crate::actor::messages::LineNow;
use crate::actor::meter::{byte_time_of, wants_of};
use crate::base::ids::{CommandId, DtuId, PollId, SessionId};
use crate::device::model::MeterModel;
use crate::device::relay::{self, Judgement, Manner, RelayError, Word};
use crate::domain::command::brake::{Spot, Trip};
use crate::domain::command::machine::{BRAKE_NEEDS, Evidence};
use crate::domain::command::policy::clear;
use crate::domain::command::{Action, Clearance, Command, Edge, Facts, Hold, Obstacle, SessionProof, State};
use crate::domain::schedule::parse_zone;
use crate::exchange::evidence;
use crate::port::control::FactSheet;
use crate::port::field::{Effect, Link, LinkError, PollJob, PollOutcome, Priority, TransactionError};
use crate::port::frames::RecordedFrame;
use crate::port::ledger::PollRecord;
use crate::port::scope::Actor;
use crate::protocol::{Protocol, Request};
use crate::telemetry::control::BrakeHeld;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long reading may wait for the line.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Pauses before the read-backs behind a frame; a relay needs a moment, a valve a minute.
const SETTLE: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
const SETTLE_LONGEST: Duration = Duration::from_secs(5);
/// How long a read-back bears with a meter that does not answer.
const SILENT_FOR: Duration = Duration::from_secs(12);

/// Ends the visit in the books however the visit ends.
pub(super) struct Guard {
    desk: Rc<Desk>,
    command: CommandId,
}

impl Guard {
    pub(super) fn new(desk: Rc<Desk>, command: CommandId) -> Self {
        Self { desk, command }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.desk.books().end(self.command, self.desk.parts.clock.monotonic());
    }
}

/// A meter and the way to it.
struct Way {
    model: Arc<MeterModel>,
    link: Arc<dyn Link>,
    session: SessionId,
    timeout: Duration,
    pause: Duration,
    byte_time: Duration,
    dtu_meters: usize,
    zone: Option<Tz>,
    /// How far the meter's clock is ahead, if that is what is to be set.
    ahead: Option<TimeDelta>,
}

pub(super) async fn visit(guard: Guard, command: Command, line: LineNow, effect: Effect) {
    let desk = Rc::clone(&guard.desk);
    let mut way = match desk.way(&command, line) {
        Ok(way) => way,
        Err(why) => return desk.books().note(command.id, why),
    };
    if command.state == State::Unknown {
        desk.find_out(&command, &mut way).await;
    } else {
        desk.send(command, &mut way, effect).await;
    }
}

/// What the frame brought.
enum Brought {
    /// An answer.
    Answer(Vec<u8>),
    /// The device refused, in words.
    Refusal(String),
    /// It never began.
    Nothing(String),
    /// It may have arrived.
    Silence(String),
}

impl Desk {
    fn way(&self, command: &Command, line: LineNow) -> Result<Way, String> {
        let target = &command.target;
        let protocol = Protocol::by_name(&target.protocol).ok_or_else(|| format!("protocol {}", target.protocol))?;
        let model = self.parts.catalogue.get(protocol, &target.model).cloned();
        let model = model.ok_or_else(|| format!("model {} is not in the catalogue", target.model))?;
        let (session, link) = line.session.ok_or_else(|| "the DTU is offline".to_owned())?;
        let record = &*line.record;
        let (timeout, pause) = wants_of(Some(record), &model);
        Ok(Way {
            link,
            session,
            timeout: timeout.max(relay::answer_within(&model)),
            pause,
            byte_time: byte_time_of(Some(record), &model),
            dtu_meters: record.meters.len(),
            zone: None,
            ahead: None,
            model,
        })
    }

    /// A visit that only reads. The answers, one per request.
    async fn read(&self, command: &Command, way: &Way, requests: &[Request]) -> Result<Vec<Option<Vec<u8>>>, String> {
        // one behind the other, each may take long where somebody passes it on
        let each = relay::answer_within(&way.model);
        let questions = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let job = PollJob {
            deadline: self.parts.clock.monotonic() + READ_DEADLINE + each * questions,
            attempts: 2,
            effect: None,
            ..self.job(command, way, requests.to_vec())
        };
        let mut outcome = way.link.poll(job).await.map_err(|error| error.to_string())?;
        self.keep_frames(command.target.dtu, std::mem::take(&mut outcome.evidence));
        let mut answers = Vec::with_capacity(requests.len());
        for report in outcome.reports {
            match report.result {
                Ok(frame) => answers.push(Some(frame)),
                Err(TransactionError::Refused(_)) => answers.push(None),
                Err(error) => return Err(error.to_string()),
            }
        }
        answers.resize(requests.len(), None);
        Ok(answers)
    }

    /// Frames of control are kept in the database. What cannot be kept is in the recorder's ring all the same.
    fn keep_frames(&self, dtu: DtuId, evidence: Vec<evidence::Evidence>) {
        if evidence.is_empty() {
            return;
        }
        let log = Arc::clone(&self.parts.frames);
        let record = PollRecord {
            evidence: evidence
                .into_iter()
                .map(|frame| RecordedFrame::of(frame, dtu))
                .collect(),
            ..PollRecord::default()
        };
        actix::spawn(async move {
            if let Err(error) = log.append(record).await {
                tracing::warn!(%error, "frames of a command are not kept");
            }
        });
    }

    fn job(&self, command: &Command, way: &Way, requests: Vec<Request>) -> PollJob {
        PollJob {
            poll: PollId(self.parts.polls.take()),
            meter: command.target.meter,
            priority: Priority::Control,
            requests,
            instead: Vec::new(),
            attempts: 1,
            timeout: way.timeout,
            pause: way.pause,
            byte_time: way.byte_time,
            deadline: self.parts.clock.monotonic(),
            evidence: true,
            effect: None,
        }
    }

    /// The meter's wall clock and what opens it. Without a known zone there is no deadline in the frame: one of another
    /// zone could keep a command alive for hours.
    fn manner(&self, command: &Command, way: &Way) -> Manner {
        let local = |at: DateTime<Utc>| at.with_timezone(&way.zone.unwrap_or(Tz::UTC)).naive_local();
        Manner {
            now: local(self.parts.clock.now()),
            until: way.zone.map(|_| local(command.expires_at)),
            security: self.parts.settings.security,
            ahead: way.ahead,
        }
    }

    /// Reads the meter's own number through this session.
    async fn prove(&self, command: &Command, way: &Way) -> Result<SessionProof, String> {
        let text = |error: RelayError| error.to_string();
        let requests = relay::identify(&way.model, &command.target).map_err(text)?;
        let frames = self.read(command, way, &requests).await?;
        let said = relay::identified(&way.model, &command.target, &requests, &borrowed(&frames)).map_err(text)?;
        Ok(SessionProof {
            session: way.session,
            meter: command.target.meter,
            at: self.parts.clock.now(),
            said,
        })
    }

    async fn send(&self, command: Command, way: &mut Way, effect: Effect) {
        let proof = match self.prove(&command, way).await {
            Ok(proof) => proof,
            Err(why) => return self.books().note(command.id, why),
        };
        let clock = match self.look_at_clock(&command, way).await {
            Ok(clock) => clock,
            Err(why) => return self.books().note(command.id, why),
        };
        let mut people = vec![command.requested_by];
        people.extend(command.approvals.iter().map(|approval| approval.by));
        let facts = self
            .parts
            .log
            .facts(command.account, &[command.target.meter], &people)
            .await;
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => return self.books().note(command.id, error.to_string()),
        };
        way.zone = parse_zone(facts.meter_zone.as_deref().unwrap_or(&facts.zone)).ok();
        // people may have done something meanwhile
        let Some(command) = self.books().open.get(&command.id).cloned() else {
            return;
        };
        if let Some(Err(obstacle)) = clock.map(|clock| clock.judge(way)) {
            return self.stand_back(&command, obstacle).await;
        }
        let (clearance, trip) = match self.judge(&command, way, &facts) {
            Ok(cleared) => cleared,
            Err(obstacle) => return self.stand_back(&command, obstacle).await,
        };
        let detail = json!({
            "session": way.session, "proof": proof.said, "proven_at": proof.at, "trip_counted": trip.is_some(),
        });
        let edge = Edge::Send { clearance, proof };
        let with = With { trip, approval: None };
        let sent = self.step(&command, &edge, &Actor::control_desk(), detail, with).await;
        let Ok(sent) = sent else { return };
        let brought = self.one_frame(&sent, way, effect).await;
        self.settle(sent, way, brought).await;
    }

    /// Judges, and counts the trip in the same breath: whoever is judged next sees it.
    fn judge(&self, command: &Command, way: &Way, facts: &FactSheet) -> Result<(Clearance, Option<Trip>), Obstacle> {
        let at = self.now();
        let mut books = self.books();
        let spot = Spot {
            account: command.account,
            account_limit: facts.policy.disconnects_max,
            dtu: command.target.dtu,
            dtu_meters: way.dtu_meters,
        };
        let place = facts.meters.first();
        let clearance = clear(
            command,
            &Facts {
                policy: &facts.policy,
                zone: &facts.zone,
                site: place.map_or(&Default::default(), |(_, site)| site),
                people: &facts.people,
                target: place.map(|(target, _)| target),
                stopped: books.stopped(command.account),
                brake: books.exceeded(at, spot),
                moment: books.moment_of(command.id, at),
            },
        )?;
        let trip = command.action.may_darken().then_some(Trip {
            at,
            account: command.account,
            dtu: command.target.dtu,
        });
        if let Some(trip) = trip {
            books.brake.count(trip);
        }
        Ok((clearance, trip))
    }

    /// What an obstacle makes of a command.
    async fn stand_back(&self, command: &Command, obstacle: Obstacle) {
        let why = obstacle.to_string();
        let (edge, detail) = match obstacle {
            // the tick sees to it
            Obstacle::Expired | Obstacle::NotReady(_) => return self.books().note(command.id, why),
            Obstacle::Clock(obstacle) => match clock::edge(obstacle) {
                Some(edge) => edge,
                None => return self.books().note(command.id, why),
            },
            Obstacle::Stopped => (Edge::Cancel, json!({ "cause": "emergency_stop" })),
            Obstacle::TargetChanged => (Edge::Reject, json!({ "cause": "target_changed", "detail": why })),
            Obstacle::Requester(_) => (Edge::Reject, json!({ "cause": "requester_denied", "detail": why })),
            Obstacle::Approval => (Edge::Reject, json!({ "cause": "approval_void", "detail": why })),
            Obstacle::Interlock(interlock) => (
                Edge::Reject,
                json!({ "cause": "interlock", "interlock": interlock.name(), "detail": why }),
            ),
            Obstacle::Brake(limit) => {
                let at = self.now();
                let first = self.books().first_braked(command.account, at);
                BrakeHeld {
                    account: command.account.0,
                    limit: super::people::limit_name(limit),
                    commands: 1,
                    first,
                }
                .emit();
                let edge = Edge::Hold {
                    holds: vec![Hold::Brake(limit)],
                    needs: BRAKE_NEEDS,
                };
                (edge, json!({ "cause": "brake", "limit": limit }))
            }
        };
        let _tried_again = self
            .step(command, &edge, &Actor::control_desk(), detail, With::default())
            .await;
    }

    /// The one frame of a command that has just become `sent`.
    async fn one_frame(&self, sent: &Command, way: &Way, effect: Effect) -> Brought {
        let at = self.now();
        if self.books().stopped(sent.account) || effect.is_revoked() {
            return Brought::Nothing("an emergency stop came between".to_owned());
        }
        let permit = match self.mint.permit(sent, at) {
            Ok(permit) => permit,
            Err(error) => return Brought::Nothing(error.to_string()),
        };
        let left = (permit.begins_before() - at).to_std().unwrap_or(Duration::ZERO);
        let left = if sent.action == Action::SyncClock {
            left.min(clock::FRESH)
        } else {
            left
        };
        let request = match relay::encode(permit, &way.model, &self.manner(sent, way)) {
            Ok(request) => request,
            Err(error) => return Brought::Nothing(error.to_string()),
        };
        let job = PollJob {
            deadline: self.parts.clock.monotonic() + left,
            effect: Some(effect),
            ..self.job(sent, way, vec![request.clone()])
        };
        let mut outcome = way.link.poll(job).await;
        if let Ok(outcome) = &mut outcome {
            self.keep_frames(sent.target.dtu, std::mem::take(&mut outcome.evidence));
        }
        match read_outcome(outcome, &way.model) {
            Brought::Answer(frame) => match relay::word(&request, &frame) {
                Word::Done => Brought::Answer(frame),
                Word::Refused(why) => Brought::Refusal(why),
                Word::Silent(why) => Brought::Silence(why),
            },
            other => other,
        }
    }

    /// What is known behind the frame.
    async fn settle(&self, sent: Command, way: &mut Way, brought: Brought) {
        let (answer, what) = match brought {
            Brought::Nothing(why) => {
                let detail = json!({ "cause": "not_sent", "detail": why });
                self.resolve(&sent, Evidence::NeverBegan, detail).await;
                return;
            }
            Brought::Silence(why) => {
                if let Some(unknown) = self.lose(&sent, &why).await {
                    self.find_out(&unknown, way).await;
                }
                return;
            }
            Brought::Answer(frame) => (Some(frame), "the meter acknowledged".to_owned()),
            Brought::Refusal(why) => (None, format!("the meter refused: {why}")),
        };
        let back = relay::read_back(&way.model, &sent.target, &sent.action).unwrap_or_default();
        if back.is_empty() {
            let (evidence, detail) = self.answered(&sent, way, answer.as_deref(), &what);
            self.resolve(&sent, evidence, detail).await;
            return;
        }
        match self.read_back(&sent, way, &back).await {
            Ok(Judgement::AsWanted { said }) => {
                let detail = json!({ "answer": what, "read_back": said });
                self.resolve(&sent, Evidence::ReadBack { as_wanted: true }, detail)
                    .await;
            }
            Ok(Judgement::Otherwise { said }) => {
                let detail = json!({ "cause": "read_back", "answer": what, "read_back": said });
                self.resolve(&sent, Evidence::ReadBack { as_wanted: false }, detail)
                    .await;
            }
            Ok(Judgement::Moving { said }) => drop(self.lose(&sent, &format!("{what}; still {said}")).await),
            Err(why) => drop(self.lose(&sent, &format!("{what}; not read back: {why}")).await),
        }
    }

    /// The outcome of what has no state to be read back.
    fn answered(&self, sent: &Command, way: &Way, answer: Option<&[u8]>, what: &str) -> (Evidence, Value) {
        let Some(frame) = answer else {
            return (Evidence::Refused, json!({ "cause": "refused", "answer": what }));
        };
        let asked = relay::question_of(&way.model, &sent.target, &sent.action);
        let said = match asked.and_then(|asked| {
            relay::judge(
                &way.model,
                &sent.action,
                &asked,
                &[Some(frame)],
                &self.manner(sent, way),
            )
        }) {
            Ok(Judgement::AsWanted { said } | Judgement::Otherwise { said } | Judgement::Moving { said }) => said,
            Err(error) if sent.action.only_reads() => {
                return (
                    Evidence::Refused,
                    json!({ "cause": "undecodable", "detail": error.to_string() }),
                );
            }
            Err(_) => crate::base::hex::encode(frame),
        };
        (Evidence::Answered, json!({ "answer": what, "said": said }))
    }

    async fn lose(&self, sent: &Command, why: &str) -> Option<Command> {
        let detail = json!({ "cause": "no_answer", "detail": why });
        self.step(sent, &Edge::Lose, &Actor::control_desk(), detail, With::default())
            .await
            .ok()
    }

    /// Reads until the switch shows what is wanted, or its time to show it is over: a valve that still turns says what it
    /// was. Silence is borne for a while only; the session may be gone.
    async fn read_back(&self, command: &Command, way: &Way, back: &[Request]) -> Result<Judgement, String> {
        let begun = self.parts.clock.monotonic();
        let most = relay::shows_within(&way.model);
        let mut pauses = SETTLE.iter();
        loop {
            let pause = pauses.next().copied().unwrap_or(SETTLE_LONGEST);
            tokio::time::sleep(pause).await;
            let latest = self.look(command, way, back).await;
            let most = if latest.is_err() { most.min(SILENT_FOR) } else { most };
            let over = pauses.len() == 0 && self.parts.clock.monotonic().saturating_duration_since(begun) >= most;
            if over || matches!(latest, Ok(Judgement::AsWanted { .. })) {
                return latest;
            }
        }
    }

    async fn look(&self, command: &Command, way: &Way, back: &[Request]) -> Result<Judgement, String> {
        let frames = self.read(command, way, back).await?;
        relay::judge(
            &way.model,
            &command.action,
            back,
            &borrowed(&frames),
            &self.manner(command, way),
        )
        .map_err(|error| error.to_string())
    }

    /// Finds out what became of a command whose answer was lost. Reads, never sends.
    async fn find_out(&self, unknown: &Command, way: &mut Way) {
        let back = relay::read_back(&way.model, &unknown.target, &unknown.action).unwrap_or_default();
        if back.is_empty() {
            return self
                .books()
                .note(unknown.id, "what it did has no state to be read".to_owned());
        }
        if way.zone.is_none() {
            match self
                .parts
                .log
                .facts(unknown.account, &[unknown.target.meter], &[])
                .await
            {
                Ok(facts) => way.zone = parse_zone(facts.meter_zone.as_deref().unwrap_or(&facts.zone)).ok(),
                Err(error) => return self.books().note(unknown.id, error.to_string()),
            }
        }
        let way = &*way;
        let found = async {
            // the answers must be this meter's, through whatever session it is now
            let proof = self.prove(unknown, way).await?;
            self.read_back(unknown, way, &back)
                .await
                .map(|judgement| (judgement, proof))
        };
        let (as_wanted, said, proof): (bool, String, SessionProof) = match found.await {
            Ok((Judgement::AsWanted { said }, proof)) => (true, said, proof),
            Ok((Judgement::Otherwise { said }, proof)) => (false, said, proof),
            Ok((Judgement::Moving { said }, _)) => return self.books().note(unknown.id, said),
            Err(why) => return self.books().note(unknown.id, why),
        };
        let detail = json!({
            "cause": "found_out", "read_back": said, "session": proof.session, "proof": proof.said,
        });
        self.resolve(unknown, Evidence::ReadBack { as_wanted }, detail).await;
    }
}

fn borrowed(frames: &[Option<Vec<u8>>]) -> Vec<Option<&[u8]>> {
    frames.iter().map(|frame| frame.as_deref()).collect()
}

/// What became of the one frame. Only what surely was not written counts as nothing.
fn read_outcome(outcome: Result<PollOutcome, LinkError>, model: &MeterModel) -> Brought {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(LinkError::Busy) => return Brought::Nothing("the line's queue is full".to_owned()),
        // a connection that dies amidst a job says so too
        Err(LinkError::Closed) => return Brought::Silence("the session ended".to_owned()),
    };
    let Some(report) = outcome.reports.into_iter().next() else {
        return Brought::Silence("the line told nothing".to_owned());
    };
    match report.result {
        Ok(frame) => Brought::Answer(frame),
        Err(TransactionError::Refused(code)) => Brought::Refusal(relay::refusal(model, code)),
        Err(error) if report.attempts == 0 => Brought::Nothing(error.to_string()),
        Err(error) => Brought::Silence(error.to_string()),
    }
}

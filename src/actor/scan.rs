//! Drives a scan over a DTU's line: one question at a time at the lowest priority, so that every scheduled read and every
//! command goes first; then asks whoever answered by the models that may fit.
//!
//! It is a plain future, not an actor: it ends with the question that started it, and holds nothing but a link.

mod archive;
mod settings;
mod station;

use crate::base::clock::Clock;
use crate::base::ids::{GrowingIds, MeterId, PollId};
use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, decode, name};
use crate::device::model::MeterModel;
use crate::device::plan::plan;
use crate::device::recognise::{Fit, candidates, fits, questions};
use crate::domain::device::{Connect, Parity};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Value};
use crate::exchange::job::byte_time;
use crate::exchange::scan::{Found, Heard, Probe, ScanPlan, Survey};
use crate::exchange::visit::LineFrameKind;
use crate::port::field::{Link, LinkError, PollJob, PollOutcome, Priority, TransactionError};
use crate::port::scan::{FoundMeter, FoundValue, ScanFailure, ScanProgress, ScanTeller, WrittenPlace};
use crate::protocol::dtu::Framing;
use crate::protocol::{Protocol, Request};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one question may wait for an idle line.
const IDLE_WAIT: Duration = Duration::from_secs(300);
/// How long a scan waits for a DTU that went away to come back, or for a line's full queue.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries to hand a question over.
const AGAIN: Duration = Duration::from_secs(1);
/// A round trip to a DTU over 2G, when it is not known yet; seconds are seen in the field.
const ROUND_TRIP: Duration = Duration::from_millis(1_000);
/// Models whose whole poll is compared.
const FINALISTS: usize = 4;
/// Values that a proposal shows.
const VALUES_MAX: usize = 8;

/// Finds the present session of the DTU, again after each loss.
pub(crate) type LinkFinder = Arc<dyn Fn() -> futures::future::BoxFuture<'static, Option<Arc<dyn Link>>> + Send + Sync>;

/// What a scan needs.
pub(crate) struct ScanParts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Meter models.
    pub catalogue: Arc<Catalogue>,
    /// Ids of polls.
    pub polls: Arc<GrowingIds>,
    /// The way to the line.
    pub link: LinkFinder,
    /// How the DTU is reached; a serial port has a speed that we know.
    pub connect: Option<Connect>,
    /// Who wants to know.
    pub tell: ScanTeller,
}

/// What came of one question.
enum Answer {
    Bytes(Vec<u8>),
    Refused,
    Garbage,
    Silence,
}

struct Scan {
    parts: ScanParts,
    survey: Survey,
    meters: Vec<FoundMeter>,
    /// What the present meter was asked and said; its models share questions.
    answers: HashMap<Vec<u8>, Option<Vec<u8>>>,
    questions: u32,
    written: Vec<WrittenPlace>,
}

/// Runs a scan to its end.
///
/// # Errors
/// [`ScanFailure`] when the line was not there, or never idle. What was found by then has been told.
pub(crate) async fn run(plan: &ScanPlan, parts: ScanParts) -> Result<(), ScanFailure> {
    let mut scan = Scan {
        survey: Survey::new(plan),
        parts,
        meters: Vec::new(),
        answers: HashMap::new(),
        questions: 0,
        written: Vec::new(),
    };
    let framing = scan.framing().await;
    if let Some(settings) = &plan.settings {
        return scan.settings(settings, &framing).await;
    }
    if framing == Framing::Gdw376.name() {
        if !plan.writes.is_empty() {
            scan.write_archive(&plan.writes).await?;
        }
        return scan.archive().await;
    }
    let is_station = framing == Framing::Dlt698.name();
    if !plan.writes.is_empty() {
        return Err(match is_station {
            true => ScanFailure::ReadOnly,
            false => ScanFailure::NoConcentrator,
        });
    }
    if is_station {
        return scan.station().await;
    }
    let mut known = 0;
    while let Some(probe) = scan.survey.probe() {
        let answer = scan.ask(&probe).await?;
        scan.survey.hear(match &answer {
            Answer::Bytes(bytes) => Heard::Answer(bytes),
            Answer::Refused => Heard::Refused,
            Answer::Garbage => Heard::Garbage,
            Answer::Silence => Heard::Silence,
        });
        // recognised at once, so that whoever watches sees a meter and not a number
        while let Some(found) = scan.survey.found().get(known).cloned() {
            known += 1;
            let meter = scan.recognise(&found, probe.turnaround).await?;
            scan.meters.push(meter);
        }
        scan.tell();
    }
    scan.tell();
    Ok(())
}

impl Scan {
    /// What is behind the link, by its login; empty while nobody is there.
    async fn framing(&self) -> String {
        let link = (self.parts.link)().await;
        link.map(|link| link.stats().learned.framing.to_string())
            .unwrap_or_default()
    }

    fn tell(&self) {
        let (asked, left) = self.survey.progress();
        (self.parts.tell)(ScanProgress {
            asked: asked.saturating_add(self.questions),
            left,
            searching: self.survey.protocol().map(|protocol| protocol.name().to_owned()),
            found: self.meters.clone(),
            written: Vec::new(),
            settings: Vec::new(),
            notes: self
                .survey
                .notes()
                .iter()
                .map(|note| format!("{}: {}", note.protocol, note.text))
                .collect(),
        });
    }

    /// Asks one question when nobody else wants the line. Garbage must come twice: a heartbeat or a spike that fell
    /// into the window once is no collision of answers.
    async fn ask(&self, probe: &Probe) -> Result<Answer, ScanFailure> {
        match self.ask_once(probe, probe.attempts).await? {
            Answer::Garbage => self.ask_once(probe, 1).await,
            answer => Ok(answer),
        }
    }

    async fn ask_once(&self, probe: &Probe, attempts: u8) -> Result<Answer, ScanFailure> {
        let outcome = self
            .visit(vec![probe.request.clone()], probe.turnaround, attempts)
            .await?;
        let disturbed = outcome.evidence.iter().any(|kept| {
            let kind = kept.frame.kind;
            kept.frame.poll.is_some() && matches!(kind, LineFrameKind::Noise | LineFrameKind::Stray)
        });
        Ok(match outcome.reports.into_iter().next().map(|report| report.result) {
            Some(Ok(bytes)) => Answer::Bytes(bytes),
            Some(Err(TransactionError::Refused(_))) => Answer::Refused,
            Some(Err(_)) if disturbed => Answer::Garbage,
            Some(Err(_)) | None => Answer::Silence,
        })
    }

    /// What a byte takes: by the port's own speed, else by the usual one of what is asked.
    fn byte_time(&self, requests: &[Request]) -> Duration {
        match (&self.parts.connect, requests.first().map(Request::protocol)) {
            (Some(Connect::Serial { baud, parity, .. }), _) => byte_time(*baud, *parity != Parity::None, 1),
            (_, Some(Protocol::ModbusRtu | Protocol::ModbusTcp) | None) => byte_time(9_600, false, 1),
            (_, Some(_)) => byte_time(2_400, true, 1),
        }
    }

    /// Questions as the line takes them: once, when nobody else wants it.
    fn job(&self, requests: Vec<Request>, timeout: Duration, deadline: Instant) -> PollJob {
        PollJob {
            poll: PollId(self.parts.polls.take()),
            meter: MeterId::NOBODY,
            priority: Priority::Discovery,
            attempts: 1,
            timeout,
            byte_time: self.byte_time(&requests),
            requests,
            instead: Vec::new(),
            pause: Duration::ZERO,
            evidence: false,
            deadline,
            effect: None,
        }
    }

    /// Hands questions to the line, as often as it takes to have them asked.
    async fn visit(
        &self,
        requests: Vec<Request>,
        turnaround: Duration,
        attempts: u8,
    ) -> Result<PollOutcome, ScanFailure> {
        let began = self.parts.clock.monotonic();
        loop {
            let mut busy = false;
            let now = self.parts.clock.monotonic();
            if let Some(link) = (self.parts.link)().await {
                let round_trip = link.stats().round_trip_ms;
                let round_trip = round_trip.map_or(ROUND_TRIP, |ms| Duration::from_millis(u64::from(ms) * 2));
                let job = PollJob {
                    attempts,
                    ..self.job(requests.clone(), turnaround + round_trip, now + IDLE_WAIT)
                };
                match link.poll(job).await {
                    Ok(outcome) => match outcome.reports.last().map(|report| &report.result) {
                        None | Some(Err(TransactionError::Deadline)) => return Err(ScanFailure::LineBusy),
                        Some(Err(TransactionError::SessionLost)) => {}
                        Some(_) => return Ok(outcome),
                    },
                    Err(LinkError::Busy) => busy = true,
                    Err(LinkError::Closed) => {}
                }
            }
            if self.parts.clock.monotonic() >= began + PATIENCE {
                return Err(if busy { ScanFailure::LineBusy } else { ScanFailure::Lost });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Finds the model of a meter that answers.
    async fn recognise(&mut self, found: &Found, turnaround: Duration) -> Result<FoundMeter, ScanFailure> {
        self.answers.clear();
        let mut fitting = Vec::new();
        for model in candidates(&self.parts.catalogue, found.protocol, &found.answer) {
            let poll = self
                .poll(&model, &found.address, &questions(&model), turnaround)
                .await?;
            if poll.is_some_and(|poll| fits(&model, &poll)) {
                fitting.push(model);
            }
        }
        // the more a model is recognised by, the more it takes to fit by chance
        fitting.sort_by_key(|model| std::cmp::Reverse(model.recognise.len()));
        let mut judged = Vec::new();
        for model in fitting.into_iter().take(FINALISTS) {
            if let Some(poll) = self.poll(&model, &found.address, &[], turnaround).await? {
                judged.push((Fit::of(&model, &poll), model, poll));
            }
        }
        judged.sort_by(|(a, model_a, _), (b, model_b, _)| b.cmp(a).then_with(|| model_a.name.cmp(&model_b.name)));
        let mut judged = judged.into_iter();
        let best = judged.next();
        Ok(FoundMeter {
            protocol: found.protocol.name().to_owned(),
            address: found.address.clone(),
            model: best.as_ref().map(|(_, model, _)| model.name.to_string()),
            others: judged.map(|(_, model, _)| model.name.to_string()).collect(),
            values: best.map(|(_, _, poll)| values(&poll)).unwrap_or_default(),
            archive: None,
        })
    }

    /// Asks a meter as a model would; none when the model cannot be asked at all.
    async fn poll(
        &mut self,
        model: &MeterModel,
        address: &str,
        wanted: &[Quantity],
        turnaround: Duration,
    ) -> Result<Option<DecodedPoll>, ScanFailure> {
        let Ok(requests) = plan(model, address, wanted) else {
            return Ok(None);
        };
        // models share questions; but where one question sets the stage for the next, all are asked
        let staged = requests.iter().any(|request| request.protocol() == Protocol::Mbus);
        let open: Vec<Request> = requests
            .iter()
            .filter(|request| staged || !self.answers.contains_key(&request.wire()))
            .cloned()
            .collect();
        if !open.is_empty() {
            self.questions = self
                .questions
                .saturating_add(u32::try_from(open.len()).unwrap_or(u32::MAX));
            let turnaround = turnaround.max(Duration::from_millis(model.timeout_ms.into()));
            let outcome = self.visit(open.clone(), turnaround, 2).await?;
            let results = outcome.reports.into_iter().map(|report| report.result.ok());
            for (request, answer) in open.iter().zip(results.chain(std::iter::repeat(None))) {
                self.answers.insert(request.wire(), answer);
            }
        }
        let frames: Vec<Option<&[u8]>> = requests
            .iter()
            .map(|request| self.answers.get(&request.wire()).and_then(Option::as_deref))
            .collect();
        Ok(Some(decode(model, &requests, &frames)))
    }
}

/// What a person holds against the meter's display: registers first.
fn values(poll: &DecodedPoll) -> Vec<FoundValue> {
    let mut shown: Vec<_> = poll
        .items
        .iter()
        .filter_map(|item| match &item.measurand {
            Measurand::Standard(quantity) => Some((!matches!(item.value, Value::Decimal(_)), quantity, item)),
            Measurand::Vendor(_) => None,
        })
        .collect();
    shown.sort_by_key(|(instant, quantity, _)| (*instant, **quantity));
    shown
        .into_iter()
        .take(VALUES_MAX)
        .map(|(_, quantity, item)| FoundValue {
            quantity: name(&item.measurand).to_owned(),
            value: match item.value {
                Value::Decimal(value) => value.to_string(),
                Value::F32(value) => value.to_string(),
                Value::F64(value) => value.to_string(),
            },
            unit: quantity.unit().symbol().to_owned(),
        })
        .collect()
}

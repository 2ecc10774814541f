//! The meter's clock: read behind a poll once a day, its drift kept with that poll's reading and shown with the line.

use super::*;
use crate::device::decode::decode;
use crate::domain::reading::{Item, Measurand, Quality, Value};
use crate::exchange::job::TransactionError;
use chrono_tz::Tz;
use rust_decimal::Decimal;

/// The name under which the drift is stored: whole seconds that the meter's clock is ahead of ours.
const DRIFT: &str = "clock_drift_s";

/// The zone that a meter's clock is set to: that of its schedules.
pub(in crate::actor) fn zone_of(record: &MeterRecord) -> Tz {
    let schedules = record.schedules.iter().rev();
    let named = schedules.filter_map(|applied| applied.rules.last()).next();
    named.and_then(|rule| rule.time_zone.parse().ok()).unwrap_or(Tz::UTC)
}

impl Meter {
    /// What reads the clock, when it is time to.
    pub(super) fn clock_questions(&self, model: &MeterModel) -> Vec<Request> {
        if !self.parts.life.clock.get().is_due(self.now(), self.zone) {
            return Vec::new();
        }
        // an address that the model cannot have was told with the plan
        plan::clock(model, &self.parts.record.address).unwrap_or_default()
    }

    /// Looks at the clock, and takes what was asked for its sake (`questions`: something was) out of a poll: whether that
    /// was answered says nothing of the poll.
    pub(super) fn look_at_clock(
        &self,
        model: &MeterModel,
        mut asked: Vec<Request>,
        questions: bool,
        outcome: Result<PollOutcome, LinkError>,
    ) -> (Vec<Request>, Result<PollOutcome, LinkError>) {
        let (life, now, zone) = (&self.parts.life, self.now(), self.zone);
        let mut watch = life.clock.get();
        let mut outcome = match outcome {
            Ok(outcome) if questions || watch.is_due(now, zone) => outcome,
            other => return (asked, other),
        };
        let frames: Vec<_> = outcome
            .reports
            .iter()
            .map(|report| report.result.as_deref().ok())
            .collect();
        let answered = outcome.reports.iter().filter(|report| report.result.is_ok());
        let heard_at = answered.map(|report| report.ended_at).max();
        let clocks = plan::clock(model, &self.parts.record.address).unwrap_or_default();
        if !questions && !clocks.is_empty() {
            // it became due while the poll was under way
            return (asked, Ok(outcome));
        }
        if let Some(at) = heard_at {
            match decode(model, &asked, &frames).clock(zone) {
                Some(said) => life.drift.set(watch.saw(at, said)),
                // there was no time to ask: with the next read
                None if cut_short(&clocks, &asked, &outcome) => {}
                // neither asked for nor in the answers: not looked for in each of them
                None => watch.saw_nothing(now),
            }
            life.clock.set(watch);
        }
        for clock in clocks {
            if let Some(place) = asked.iter().position(|request| *request == clock) {
                asked.remove(place);
                if place < outcome.reports.len() {
                    outcome.reports.remove(place);
                }
            }
        }
        (asked, Ok(outcome))
    }

    /// The drift as an item of the next reading, once.
    pub(super) fn drift_to_store(&self) -> Option<Item> {
        let drift = self.parts.life.drift.take()?;
        Some(Item {
            measurand: Measurand::Vendor(DRIFT.into()),
            value: Value::Decimal(Decimal::from(drift.num_seconds())),
            quality: Quality::Measured,
        })
    }
}

/// Whether what reads the clock was not asked in the end: the visit's time was over, or its session or line was gone.
fn cut_short(clocks: &[Request], asked: &[Request], outcome: &PollOutcome) -> bool {
    use TransactionError as E;
    clocks.iter().any(|clock| {
        let place = asked.iter().position(|request| request == clock);
        match place.and_then(|place| outcome.reports.get(place)) {
            None => true,
            Some(report) => matches!(report.result, Err(E::Deadline | E::SessionLost | E::LineSilent)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::FrameRange;
    use crate::exchange::job::TransactionReport;
    use crate::protocol::dlt645::{self, Address, Di};
    use chrono::DateTime;

    fn outcome(results: &[Result<(), TransactionError>]) -> PollOutcome {
        let report = |result: &Result<(), TransactionError>| TransactionReport {
            result: result.map(|()| Vec::new()),
            attempts: 1,
            sent_at: DateTime::UNIX_EPOCH,
            ended_at: DateTime::UNIX_EPOCH,
            turnaround: None,
            held: Duration::ZERO,
        };
        PollOutcome {
            began_at: None,
            reports: results.iter().map(report).collect(),
            frames: FrameRange::EMPTY,
            late_by: None,
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_clock_that_there_was_no_time_to_ask_is_asked_with_the_next_read() {
        use TransactionError as E;
        let address = Address::parse("202611210837").unwrap();
        let read = |di| Request::Dlt645(dlt645::Request::read(address, Di::E2007(di)));
        let clocks = [read(0x0400_0101), read(0x0400_0102)];
        let asked = [read(0x0001_0000), clocks[0].clone(), clocks[1].clone()];
        let cut = |results: &[Result<(), E>]| cut_short(&clocks, &asked, &outcome(results));
        assert!(cut(&[Ok(())]), "never begun");
        assert!(cut(&[Ok(()), Ok(()), Err(E::Deadline)]));
        assert!(cut(&[Ok(()), Err(E::SessionLost)]));
        // it was asked, and that is that for today
        assert!(!cut(&[Ok(()), Ok(()), Ok(())]));
        assert!(!cut(&[Ok(()), Err(E::Refused(2)), Err(E::Refused(2))]));
        assert!(!cut(&[Ok(()), Err(E::Timeout), Err(E::Timeout)]));
        assert!(!cut_short(&[], &asked, &outcome(&[Ok(())])), "a meter without a clock");
    }
}

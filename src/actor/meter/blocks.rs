//! Blocks that a meter refuses: asked item by item in the same visit, and from then on at once.

use crate::device::model::MeterModel;
use crate::device::plan::instead;
use crate::exchange::job::{PollOutcome, TransactionError, TransactionReport};
use crate::protocol::Request;

/// Refused blocks remembered of one meter; a model has fewer.
const REFUSED_MAX: usize = 64;

/// The blocks that one meter refuses.
#[derive(Debug, Default)]
pub struct RefusedBlocks(Vec<Request>);

impl RefusedBlocks {
    /// The plan without what the meter refuses: its items in place of a block.
    pub fn plan(&self, model: &MeterModel, planned: Vec<Request>) -> Vec<Request> {
        if self.0.is_empty() {
            return planned;
        }
        let mut requests = Vec::with_capacity(planned.len());
        for request in planned {
            if self.0.contains(&request) {
                requests.extend(instead(model, &request));
            } else {
                requests.push(request);
            }
        }
        requests
    }

    /// Remembers what was refused.
    pub fn learn(&mut self, refused: Vec<Request>) {
        for block in refused {
            if self.0.len() < REFUSED_MAX && !self.0.contains(&block) {
                self.0.push(block);
            }
        }
    }

    /// Forgets all: the meter or its model is another.
    pub fn forget(&mut self) {
        self.0 = Vec::new();
    }
}

/// What was asked in the end, with the outcome of just that: in place of each refused block stand, behind the rest, the
/// items that were asked for it. Gives the refused blocks, too.
pub(super) fn unfold(
    requests: Vec<Request>,
    instead: Vec<Vec<Request>>,
    mut outcome: PollOutcome,
) -> (Vec<Request>, PollOutcome, Vec<Request>) {
    let is_refusal = |report: &TransactionReport| matches!(report.result, Err(TransactionError::Refused(_)));
    if !outcome.reports.iter().any(is_refusal) {
        return (requests, outcome, Vec::new());
    }
    let planned = requests.len();
    let mut finer = instead.into_iter();
    let (mut asked, mut behind, mut refused) = (Vec::with_capacity(planned), Vec::new(), Vec::new());
    let mut reports = std::mem::take(&mut outcome.reports).into_iter();
    for request in requests {
        let items = finer.next().unwrap_or_default();
        match reports.next() {
            Some(report) if !items.is_empty() && is_refusal(&report) => {
                behind.extend(items);
                refused.push(request);
            }
            Some(report) => {
                asked.push(request);
                outcome.reports.push(report);
            }
            None => asked.push(request),
        }
    }
    // the reports are in step with the questions only while none before them is without one
    if outcome.reports.len() == asked.len() {
        outcome.reports.extend(reports);
    }
    asked.extend(behind);
    (asked, outcome, refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::FrameRange;
    use crate::protocol::modbus::{self, Function};
    use chrono::DateTime;
    use std::time::Duration;

    fn request(address: u16) -> Request {
        Request::Modbus(modbus::Request::read(1, Function::ReadHoldingRegisters, address, 2).unwrap())
    }

    fn outcome(results: &[Result<u8, TransactionError>]) -> PollOutcome {
        let report = |result: &Result<u8, TransactionError>| TransactionReport {
            result: result.map(|byte| vec![byte]),
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

    fn said(outcome: &PollOutcome) -> Vec<Result<u8, TransactionError>> {
        let byte = |report: &TransactionReport| report.result.clone().map(|bytes| bytes[0]);
        outcome.reports.iter().map(byte).collect()
    }

    #[test]
    fn items_stand_behind_the_rest_with_their_own_reports() {
        let requests = vec![request(0), request(10), request(20)];
        let instead = vec![vec![request(1), request(2)], Vec::new(), vec![request(21)]];
        let refused = Err(TransactionError::Refused(2));
        let all = outcome(&[refused, Ok(10), refused, Ok(1), Ok(2), Ok(21)]);
        let (asked, left, blocks) = unfold(requests.clone(), instead.clone(), all);
        assert_eq!(asked, [request(10), request(1), request(2), request(21)]);
        assert_eq!(said(&left), [Ok(10), Ok(1), Ok(2), Ok(21)]);
        assert_eq!(blocks, [request(0), request(20)]);

        // a refusal of what has no items is a refusal
        let all = outcome(&[Ok(0), refused, Ok(20)]);
        let (asked, left, blocks) = unfold(requests.clone(), instead.clone(), all);
        assert_eq!((asked, blocks), (requests.clone(), Vec::new()));
        assert_eq!(said(&left), [Ok(0), refused, Ok(20)]);

        // the session ended in the middle: what was not asked has no report
        let all = outcome(&[refused, Err(TransactionError::SessionLost)]);
        let (asked, left, blocks) = unfold(requests, instead, all);
        assert_eq!(asked, [request(10), request(20), request(1), request(2)]);
        assert_eq!(said(&left), [Err(TransactionError::SessionLost)]);
        assert_eq!(blocks, [request(0)]);
    }
}

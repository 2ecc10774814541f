//! Which raw frames of a visit are worth keeping beside the recorder's ring: those of a failure and of strays, and of
//! visits for which somebody will ask. A visit that went well leaves none, and a meter that says nothing leaves one.

use super::job::TransactionReport;
use super::visit::{LineFrame, LineFrameKind};
use crate::base::ids::{ConnectionId, FrameId};

/// Frames kept of one visit at most.
pub const EVIDENCE_FRAMES_MAX: usize = 16;
/// Their bytes at most, all together.
pub const EVIDENCE_BYTES_MAX: usize = 4_096;

/// A raw frame that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its id in the recorder.
    pub id: FrameId,
    /// The connection it came over.
    pub connection: ConnectionId,
    /// The frame.
    pub frame: LineFrame,
}

impl Evidence {
    /// Whether we wrote it: alone it says no more than that somebody was asked.
    pub fn is_question(&self) -> bool {
        self.frame.kind == LineFrameKind::Request
    }
}

/// The places of the frames that are kept, in order: the latest, within the bounds. `all`: those of a visit that went
/// well, too.
pub fn choose(reports: &[TransactionReport], frames: &[LineFrame], all: bool) -> Vec<usize> {
    let failed = reports.iter().any(|report| report.result.is_err());
    let strayed = frames.iter().any(|frame| frame.kind == LineFrameKind::Stray);
    if !failed && !strayed && !all {
        return Vec::new();
    }
    let silent = frames.iter().all(|frame| frame.kind == LineFrameKind::Request);
    let most = if silent { 1 } else { EVIDENCE_FRAMES_MAX };
    let mut bytes = 0;
    let mut chosen: Vec<usize> = frames
        .iter()
        .enumerate()
        .rev()
        .take(most)
        .take_while(|(_, frame)| {
            bytes += frame.bytes.len();
            bytes <= EVIDENCE_BYTES_MAX
        })
        .map(|(place, _)| place)
        .collect();
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bytes::FrameBytes;
    use crate::exchange::job::TransactionError;
    use chrono::DateTime;
    use std::time::Duration;

    fn frames(kinds: &[(LineFrameKind, usize)]) -> Vec<LineFrame> {
        let frame = |(kind, len): &(LineFrameKind, usize)| LineFrame {
            at: DateTime::UNIX_EPOCH,
            meter: None,
            poll: None,
            kind: *kind,
            protocol: "",
            bytes: FrameBytes::from_elem(0, *len),
            turn: None,
        };
        kinds.iter().map(frame).collect()
    }

    fn reports(results: &[Result<(), TransactionError>]) -> Vec<TransactionReport> {
        let report = |result: &Result<(), TransactionError>| TransactionReport {
            result: result.map(|()| vec![1]),
            attempts: 1,
            sent_at: DateTime::UNIX_EPOCH,
            ended_at: DateTime::UNIX_EPOCH,
            turnaround: None,
            held: Duration::ZERO,
        };
        results.iter().map(report).collect()
    }

    #[test]
    fn what_went_well_leaves_nothing_unless_it_is_wanted() {
        use LineFrameKind::{Answer, Noise, Refusal, Request, Stray};
        let (well, ill) = (reports(&[Ok(())]), reports(&[Err(TransactionError::Timeout)]));
        let clean = frames(&[(Request, 8), (Noise, 2), (Answer, 9)]);
        assert_eq!(choose(&well, &clean, false), [0usize; 0]);
        assert_eq!(choose(&well, &clean, true), [0, 1, 2]);
        let late = frames(&[(Request, 8), (Stray, 9), (Answer, 9)]);
        assert_eq!(choose(&well, &late, false), [0, 1, 2]);
        let silent = frames(&[(Request, 8), (Request, 8), (Request, 8)]);
        assert_eq!(choose(&ill, &silent, false), [2]);
        let refused = frames(&[(Request, 8), (Refusal, 5)]);
        let said = reports(&[Err(TransactionError::Refused(2))]);
        assert_eq!(choose(&said, &refused, false), [0, 1]);
        assert_eq!(
            choose(&reports(&[Err(TransactionError::Deadline)]), &[], false),
            [0usize; 0]
        );
    }

    #[test]
    fn it_is_bounded_in_frames_and_bytes() {
        let ill = reports(&[Err(TransactionError::Timeout)]);
        let many = frames(&[(LineFrameKind::Stray, 8); 1_000]);
        let kept = choose(&ill, &many, false);
        assert_eq!((kept.len(), kept.last()), (EVIDENCE_FRAMES_MAX, Some(&999)));
        let long = frames(&[(LineFrameKind::Stray, 1_500); 10]);
        assert_eq!(choose(&ill, &long, false), [8, 9]);
    }
}

//! The transactions of a line, as the recorder's ring has them: each question that was written, with the frames that came
//! of it. Nothing is stored for them beside the frames.

use crate::base::ids::{ConnectionId, FrameId, MeterId, PollId};
use crate::port::frames::{FrameKind, RawFrame, RecordedFrame, TurnEnding};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Frames that are kept for the question that they belong to; a storm of strays has more, whose ids are left out.
const FRAMES_MAX: usize = 64;

/// One question on a line, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Transaction {
    /// The meter that was asked; null where one question is for many (a concentrator's points) or for nobody we know.
    #[schema(value_type = Option<i32>)]
    pub meter_id: Option<MeterId>,
    /// The visit that it belongs to.
    #[schema(value_type = Option<i64>)]
    pub poll_id: Option<PollId>,
    /// When it was written, by our clock.
    pub start: DateTime<Utc>,
    /// How long it had waited for the line, milliseconds: since the visit was asked for, or the question before it was
    /// over. Null for questions to a concentrator, which has no line of ours.
    pub wait_ms: Option<u32>,
    /// How long it held the line, milliseconds, up to its answer or to the end of the wait for one. Null while that is not
    /// known.
    pub duration_ms: Option<u32>,
    /// Its place in the line's queue: `control`, `money`, `on_demand`, `settlement`, `scheduled`, `back_fill` or
    /// `discovery`. Null for questions to a concentrator.
    #[schema(value_type = Option<String>, example = "scheduled")]
    pub priority: Option<&'static str>,
    /// `answered`, `refused`, `timeout`, `session_lost`, `endless` (more frames followed than a bound allows), `unfit`
    /// (what came answers something else) or `sent` (it has no answer).
    #[schema(value_type = String, example = "answered")]
    pub result: &'static str,
    /// The protocol.
    #[schema(example = "modbus-rtu")]
    pub protocol: String,
    /// Its raw frames: the question, then what came.
    #[schema(value_type = Vec<i64>)]
    pub frame_ids: Vec<FrameId>,
}

/// Whose question a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visit {
    connection: ConnectionId,
    poll: Option<PollId>,
}

impl Visit {
    fn of(frame: &RawFrame) -> Self {
        Self {
            connection: frame.connection,
            poll: frame.poll,
        }
    }
}

/// Puts transactions together from frames that come newest first, as the ring is walked.
#[derive(Debug, Default)]
pub struct Gathering {
    visit: Option<Visit>,
    /// Ids of what came behind the question, newest first.
    behind: Vec<FrameId>,
    /// The oldest answer or refusal among it.
    answer: Option<(FrameKind, DateTime<Utc>)>,
}

impl Gathering {
    /// Takes the next older frame; its transaction when it is a question.
    pub fn take(&mut self, recorded: RecordedFrame) -> Option<Transaction> {
        let RecordedFrame { id, frame } = recorded;
        match frame.kind {
            // the DTU's own words stand between those of a visit
            FrameKind::Registration | FrameKind::Heartbeat => return None,
            FrameKind::Request => {}
            FrameKind::Answer | FrameKind::Refusal | FrameKind::Stray | FrameKind::Noise => {
                self.keep(id, &frame);
                return None;
            }
        }
        let of_it = self.visit == Some(Visit::of(&frame));
        let behind = std::mem::take(self);
        let (answer, ids) = if of_it {
            (behind.answer, behind.behind)
        } else {
            (None, Vec::new())
        };
        Some(Self::transaction(id, frame, answer, &ids))
    }

    fn keep(&mut self, id: FrameId, frame: &RawFrame) {
        let visit = Visit::of(frame);
        if self.visit != Some(visit) {
            *self = Self {
                visit: Some(visit),
                ..Self::default()
            };
        }
        if self.behind.len() < FRAMES_MAX {
            self.behind.push(id);
        }
        if matches!(frame.kind, FrameKind::Answer | FrameKind::Refusal) {
            self.answer = Some((frame.kind, frame.at));
        }
    }

    fn transaction(
        id: FrameId,
        frame: RawFrame,
        answer: Option<(FrameKind, DateTime<Utc>)>,
        behind: &[FrameId],
    ) -> Transaction {
        let result = match (frame.turn.map(|turn| turn.ending), answer) {
            (Some(ending), _) => ending,
            (None, Some((FrameKind::Refusal, _))) => TurnEnding::Refused,
            (None, Some(_)) => TurnEnding::Answered,
            (None, None) => TurnEnding::Timeout,
        };
        let took = answer.and_then(|(_, at)| u32::try_from((at - frame.at).num_milliseconds()).ok());
        Transaction {
            meter_id: frame.meter,
            poll_id: frame.poll,
            start: frame.at,
            wait_ms: frame.turn.map(|turn| turn.waited_ms),
            duration_ms: frame.turn.map(|turn| turn.held_ms).or(took),
            priority: frame.turn.map(|turn| turn.priority.as_str()),
            result: result.as_str(),
            protocol: frame.protocol.into_owned(),
            frame_ids: std::iter::once(id).chain(behind.iter().rev().copied()).collect(),
        }
    }
}

/// The transactions among frames in the order in which they were recorded, oldest first.
pub fn transactions(frames: impl DoubleEndedIterator<Item = RecordedFrame>) -> Vec<Transaction> {
    let mut gathering = Gathering::default();
    let mut found: Vec<Transaction> = frames.rev().filter_map(|frame| gathering.take(frame)).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::DtuId;
    use crate::port::field::Priority;
    use crate::port::frames::Turn;

    fn frame(id: i64, poll: Option<i64>, kind: FrameKind, turn: Option<TurnEnding>) -> RecordedFrame {
        RecordedFrame {
            id: FrameId(id),
            frame: RawFrame {
                at: DateTime::from_timestamp_millis(1_767_225_600_000 + id * 100).unwrap(),
                dtu: Some(DtuId(1)),
                connection: ConnectionId(7),
                meter: poll.map(|_| MeterId(3)),
                poll: poll.map(PollId),
                kind,
                protocol: "modbus-rtu".into(),
                bytes: vec![1].into(),
                turn: turn.map(|ending| Turn {
                    priority: Priority::OnDemand,
                    waited_ms: 40,
                    held_ms: 90,
                    ending,
                }),
            },
        }
    }

    fn told(found: &[Transaction]) -> Vec<(&str, Vec<i64>)> {
        found
            .iter()
            .map(|one| (one.result, one.frame_ids.iter().map(|id| id.0).collect()))
            .collect()
    }

    #[test]
    fn a_visit_is_told_question_by_question() {
        use FrameKind::{Answer, Heartbeat, Noise, Refusal, Request, Stray};
        let frames = [
            frame(1, None, Stray, None),
            frame(2, Some(9), Request, Some(TurnEnding::Timeout)),
            frame(3, Some(9), Stray, None),
            frame(4, Some(9), Request, Some(TurnEnding::Answered)),
            frame(5, None, Heartbeat, None),
            frame(6, Some(9), Noise, None),
            frame(7, Some(9), Answer, None),
            frame(8, Some(9), Request, Some(TurnEnding::Refused)),
            frame(9, Some(9), Refusal, None),
            frame(10, None, Stray, None),
            frame(11, Some(10), Request, Some(TurnEnding::SessionLost)),
        ];
        let found = transactions(frames.into_iter());
        assert_eq!(
            told(&found),
            [
                ("timeout", vec![2, 3]),
                ("answered", vec![4, 6, 7]),
                ("refused", vec![8, 9]),
                ("session_lost", vec![11]),
            ]
        );
        let first = &found[0];
        assert_eq!(
            (first.wait_ms, first.duration_ms, first.priority),
            (Some(40), Some(90), Some("on_demand"))
        );
        assert_eq!(first.meter_id, Some(MeterId(3)));
    }

    #[test]
    fn frames_without_a_turn_are_told_by_what_came() {
        use FrameKind::{Answer, Refusal, Request};
        let frames = [
            frame(1, None, Request, None),
            frame(4, None, Answer, None),
            frame(5, None, Request, None),
            frame(6, None, Refusal, None),
            frame(7, None, Request, None),
        ];
        let found = transactions(frames.into_iter());
        assert_eq!(
            told(&found),
            [("answered", vec![1, 4]), ("refused", vec![5, 6]), ("timeout", vec![7])]
        );
        assert_eq!((found[0].duration_ms, found[0].wait_ms), (Some(300), None));
        assert_eq!(found[2].duration_ms, None);
    }

    #[test]
    fn what_belongs_to_another_visit_is_no_part_of_a_question() {
        use FrameKind::{Answer, Request};
        // the question of poll 2 was dropped by a full recorder
        let frames = [frame(1, Some(1), Request, None), frame(3, Some(2), Answer, None)];
        assert_eq!(told(&transactions(frames.into_iter())), [("timeout", vec![1])]);
    }
}

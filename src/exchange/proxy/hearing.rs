//! What a terminal says, told apart: reports, the association, answers in one frame or in parts, refusals, strays.
//!
//! Parts behind the first carry no number of the question that they answer. One that came before, to another question or to
//! none, may be a repeat: an answer that holds one is believed when the question, asked again, is answered the same.

use super::batch::Batch;
use super::parts::meaning;
use super::question::Question;
use super::{Association, CONNECT_MAX, FRAME_HEAD, PARTS_MAX, Proxy, ProxyEvent, QUESTION_MIN, SILENT_MAX, UnderWay};
use crate::base::bytes::FrameBytes;
use crate::exchange::Moment;
use crate::exchange::job::{Priority, TransactionError};
use crate::exchange::visit::{LineFrame, LineFrameKind};
use crate::protocol::dlt698::{Apdu, Control, Frame, Request};
use crate::protocol::{Finding, Protocol, Verdict};

impl Proxy {
    pub(super) fn heard(&mut self, now: Moment, frame: &Frame, bytes: &[u8]) {
        if frame.control.is_from_device() && !frame.control.is_of_ours() {
            let is_of = |control: Control| [control, control.scrambled()].contains(&frame.control);
            let ours = self.terminal.covers(&frame.address);
            if is_of(Control::REPORT.segmented()) {
                return match ours {
                    true => self.part_reported(now, frame, bytes),
                    false => self.stray(now, bytes),
                };
            }
            let reports = is_of(Control::REPORT);
            return match Apdu::parse(frame.data()) {
                Ok(Apdu::Report(_)) if reports && !ours => self.stray(now, bytes),
                Ok(Apdu::Report(report)) if reports => self.reported(now, frame, &report, (bytes, bytes)),
                _ => self.keep_unasked(now, LineFrameKind::Answer, bytes),
            };
        }
        if self.associated(now, frame, bytes) {
            return;
        }
        let Some((priority, mut way)) = self.under_way.take() else {
            self.parts.came(frame, None);
            return self.stray(now, bytes);
        };
        match verdict_of(way.follow.as_ref().unwrap_or(&way.request), bytes) {
            Verdict::Answer => {
                self.keep_in(now, priority, LineFrameKind::Answer, bytes);
                way.doubtful |= way.follow.is_some() && self.parts.came(frame, Some(&way.request));
                way.answers.extend_from_slice(bytes);
                if let Some(follow) = way.request.follow_up(&way.answers).filter(|_| way.parts < PARTS_MAX) {
                    way.parts += 1;
                    way.until = now.on + self.settings.way_within;
                    way.follow = Some(follow.clone());
                    self.under_way = Some((priority, way));
                    return self.write(now, &follow);
                }
                self.answered(now, priority, way);
            }
            Verdict::Refused(code) => {
                self.keep_in(now, priority, LineFrameKind::Refusal, bytes);
                self.stats.answers += 1;
                self.lives();
                self.spoiled(now, priority, way.question, TransactionError::Refused(code));
            }
            Verdict::Echo | Verdict::Foreign => {
                self.under_way = Some((priority, way));
                self.parts.came(frame, None);
                self.stray(now, bytes);
            }
        }
    }

    /// Takes the answer to the association, or a part of it; false when it is none.
    fn associated(&mut self, now: Moment, frame: &Frame, bytes: &[u8]) -> bool {
        let Association::Asked {
            request,
            follow,
            answers,
            until,
        } = &mut self.association
        else {
            return false;
        };
        match verdict_of(follow.as_ref().unwrap_or(request), bytes) {
            Verdict::Answer => {
                self.parts.came(frame, Some(request));
                answers.extend_from_slice(bytes);
                if let Some(next) = request.follow_up(answers).filter(|_| answers.len() < CONNECT_MAX) {
                    *until = now.on + self.settings.way_within;
                    *follow = Some(next.clone());
                    self.keep_unasked(now, LineFrameKind::Answer, bytes);
                    self.write(now, &next);
                    return true;
                }
                let reply = request.reply(answers);
                if let Ok(Apdu::ConnectResponse(response)) = &reply {
                    let most = usize::from(response.parameters.receive_max).saturating_sub(FRAME_HEAD);
                    self.settings.question_max = self.settings.question_max.min(most.max(QUESTION_MIN));
                }
                if let Ok(apdu) = &reply {
                    self.followed(apdu);
                }
            }
            Verdict::Refused(_) => {}
            Verdict::Echo | Verdict::Foreign => return false,
        }
        self.association = Association::Done;
        self.keep_unasked(now, LineFrameKind::Answer, bytes);
        self.lives();
        true
    }

    fn answered(&mut self, now: Moment, priority: Priority, mut way: UnderWay) {
        self.lives();
        let reply = way.request.reply(&way.answers);
        if way.doubtful && !way.question.doubt(reply.as_ref().ok().map(meaning)) {
            return self.doubted(now, priority, &way.question);
        }
        self.stats.answers += 1;
        let took = way.question.asked().took(now);
        let trip = self.stats.round_trip.map_or(took, |known| (known * 7 + took) / 8);
        self.stats.round_trip = Some(trip);
        match reply {
            Ok(apdu) => {
                self.followed(&apdu);
                if let Some(batch) = self.batch(priority) {
                    batch.silent = 0;
                    batch.answered(&way.question, now, &apdu);
                }
            }
            // one of its parts may have been another's
            Err(_) if way.parts > 0 && self.asks_again(priority, &way.question) => {}
            Err(_) => self.spoiled(now, priority, way.question, TransactionError::Unfit),
        }
        self.finish();
    }

    /// A part of the answer may be of another: it is nobody's, and the question is asked again.
    fn doubted(&mut self, now: Moment, priority: Priority, question: &Question) {
        self.stats.strays += 1;
        if !self.asks_again(priority, question)
            && let Some(batch) = self.batch(priority)
        {
            batch.conclude_all(question, now, TransactionError::Timeout);
        }
        self.finish();
    }

    fn asks_again(&mut self, priority: Priority, question: &Question) -> bool {
        self.batch(priority).is_some_and(|batch| batch.again(question))
    }

    /// A question that is refused as a whole, or answered by something else: halved, and alone it ends so.
    fn spoiled(&mut self, now: Moment, priority: Priority, question: Question, error: TransactionError) {
        if let Some(batch) = self.batch(priority)
            && !batch.halve(&question)
        {
            batch.conclude_all(&question, now, error);
        }
        self.finish();
    }

    /// Nothing came in time.
    pub(super) fn silent(&mut self, now: Moment) {
        let Some((priority, way)) = self.under_way.take() else {
            return;
        };
        self.stats.timeouts += 1;
        if let Some(batch) = self.batch(priority)
            && !batch.again(&way.question)
        {
            batch.conclude_all(&way.question, now, TransactionError::Timeout);
            batch.silent = batch.silent.saturating_add(1);
            if batch.silent >= SILENT_MAX {
                batch.give_up(now);
            }
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row == self.settings.dead_timeouts {
            self.events.push_back(ProxyEvent::Dead);
        }
    }

    fn lives(&mut self) {
        self.in_a_row = 0;
        self.events.push_back(ProxyEvent::Answered);
    }

    pub(super) fn batch(&mut self, priority: Priority) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.priority == priority)
    }

    pub(super) fn stray(&mut self, now: Moment, bytes: &[u8]) {
        self.stats.strays += 1;
        self.keep(now, LineFrameKind::Stray, bytes.to_vec());
    }

    /// Keeps a frame with what is under way, else says that nobody asked.
    pub(super) fn keep(&mut self, now: Moment, kind: LineFrameKind, bytes: Vec<u8>) {
        match self.under_way.as_ref().map(|(priority, _)| *priority) {
            Some(priority) => self.keep_in(now, priority, kind, &bytes),
            None => self.keep_unasked(now, kind, &bytes),
        }
    }

    fn keep_in(&mut self, now: Moment, priority: Priority, kind: LineFrameKind, bytes: &[u8]) {
        if let Some(batch) = self.batch(priority) {
            batch.keep(line_frame(now, kind, bytes));
        }
    }

    fn keep_unasked(&mut self, now: Moment, kind: LineFrameKind, bytes: &[u8]) {
        self.events.push_back(ProxyEvent::Unasked(line_frame(now, kind, bytes)));
    }
}

fn verdict_of(request: &Request, bytes: &[u8]) -> Verdict {
    match request.find_last(bytes) {
        Finding::Frame { verdict, .. } => verdict,
        Finding::NeedMore { .. } => Verdict::Foreign,
    }
}

pub(super) fn line_frame(now: Moment, kind: LineFrameKind, bytes: &[u8]) -> LineFrame {
    LineFrame {
        at: now.at,
        meter: None,
        poll: None,
        kind,
        protocol: Protocol::Dlt698.name(),
        bytes: FrameBytes::from_slice(bytes),
        turn: None,
    }
}

//! What hangs on a virtual line: meters of any protocol, each of which hears the questions of its own.

use crate::protocol::{cjt188, dlt645, dlt698, mbus, modbus};
use chrono::{DateTime, Utc};
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

/// What a family of meters understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// Modbus RTU.
    Modbus,
    /// CJ/T 188.
    Cjt188,
    /// M-Bus.
    Mbus,
    /// DL/T 645 of either edition.
    Dlt645,
    /// DL/T 698.45.
    Dlt698,
}

/// A question that somebody on the line may be meant by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Modbus RTU.
    Modbus(modbus::Request),
    /// CJ/T 188.
    Cjt188(cjt188::Frame),
    /// M-Bus.
    Mbus(mbus::Request),
    /// DL/T 645 of either edition.
    Dlt645(dlt645::Request),
    /// DL/T 698.45: a frame, for an answer in parts has its confirmations.
    Dlt698(dlt698::Frame),
}

/// What a meter says, and how long it thinks before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Longer than a quick meter's turn-round.
    pub after: Duration,
}

/// A meter on a virtual line.
pub trait LineMeter: Debug + Send + Sync {
    /// What it understands.
    fn tongue(&self) -> Tongue;

    /// What it says to a question; none: it is not meant, or it keeps silent.
    fn answer(&self, question: &Question, now: DateTime<Utc>) -> Option<Spoken>;

    /// What it would say to the same question under its own address.
    fn answer_as_if_meant(&self, question: &Question, now: DateTime<Utc>) -> Option<Vec<u8>>;
}

/// What one tongue makes of the bytes.
enum Heard {
    Question(Range<usize>, Question),
    Faulty(Range<usize>),
    Noise(usize),
}

fn hear(tongue: Tongue, pending: &[u8]) -> Heard {
    match tongue {
        Tongue::Modbus => match modbus::hear(pending) {
            modbus::Heard::Request { span, request } => Heard::Question(span, Question::Modbus(request)),
            modbus::Heard::Faulty { span, .. } => Heard::Faulty(span),
            modbus::Heard::NeedMore { noise } => Heard::Noise(noise),
        },
        Tongue::Cjt188 => match cjt188::hear(pending) {
            cjt188::Heard::Request { span, frame } => Heard::Question(span, Question::Cjt188(frame)),
            cjt188::Heard::NeedMore { noise } => Heard::Noise(noise),
        },
        Tongue::Mbus => match mbus::hear(pending) {
            mbus::Heard::Request { span, request } => Heard::Question(span, Question::Mbus(request)),
            mbus::Heard::Faulty { span, .. } => Heard::Faulty(span),
            mbus::Heard::NeedMore { noise } => Heard::Noise(noise),
        },
        Tongue::Dlt645 => match dlt645::hear(pending) {
            dlt645::Heard::Request { span, request } => Heard::Question(span, Question::Dlt645(request)),
            dlt645::Heard::Faulty { span, .. } => Heard::Faulty(span),
            dlt645::Heard::NeedMore { noise } => Heard::Noise(noise),
        },
        Tongue::Dlt698 => match dlt698::next(pending) {
            dlt698::Next::Frame { span, frame } => Heard::Question(span, Question::Dlt698(frame)),
            dlt698::Next::NeedMore { noise } => Heard::Noise(noise),
        },
    }
}

/// Takes the next question out of what came, in any of the tongues; with how many bytes it has. Packets of a framing are
/// opened by looking for the question in them: its checksum says where it stands.
pub fn next_question(pending: &mut Vec<u8>, tongues: &[Tongue]) -> Option<(Question, usize)> {
    loop {
        let mut first: Option<(Range<usize>, Question)> = None;
        let mut faulty: Option<usize> = None;
        let mut noise = pending.len();
        for tongue in tongues {
            match hear(*tongue, pending) {
                Heard::Question(span, question) => {
                    if first.as_ref().is_none_or(|(other, _)| span.end < other.end) {
                        first = Some((span, question));
                    }
                }
                Heard::Faulty(span) => faulty = Some(faulty.map_or(span.end, |end: usize| end.min(span.end))),
                Heard::Noise(more) => noise = noise.min(more),
            }
        }
        match (first, faulty) {
            (Some((span, question)), _) => {
                pending.drain(..span.end);
                return Some((question, span.len()));
            }
            (None, Some(end)) => {
                pending.drain(..end);
            }
            (None, None) => {
                pending.drain(..noise);
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;

    #[test]
    fn questions_of_three_protocols_are_heard_on_one_line() {
        let modbus = hex::decode("010300000002C40B").unwrap();
        let water = hex::decode("FEFEFEFE68104433221100337801031F90008016").unwrap();
        let power = hex::decode("FEFEFEFE68370821112620681104333334336916").unwrap();
        let all_tongues = [Tongue::Modbus, Tongue::Cjt188, Tongue::Dlt645];
        let orders = [
            [&modbus, &water],
            [&water, &modbus],
            [&power, &modbus],
            [&power, &water],
            [&water, &power],
        ];
        for order in orders {
            let all = order.map(Vec::as_slice).concat();
            for cut in 0..=all.len() {
                let (mut pending, mut heard) = (Vec::new(), Vec::new());
                for piece in [&all[..cut], &all[cut..]] {
                    pending.extend_from_slice(piece);
                    while let Some((question, len)) = next_question(&mut pending, &all_tongues) {
                        heard.push((matches!(question, Question::Modbus(_)), len));
                    }
                }
                let expected = order.map(|frame| (frame == &modbus, frame.len()));
                assert_eq!(heard, expected, "cut at {cut}");
            }
        }
    }
}

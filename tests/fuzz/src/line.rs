//! What every line protocol promises of its finder, for any request and any bytes.

use crate::input::Input;
use crate::protocol::{Finding, Verdict};

/// The most bytes of a stream; a line's buffer is smaller.
const STREAM_MAX: usize = 2048;
const SEGMENTS_MAX: usize = 8;

/// One protocol under test.
pub struct Line<'a> {
    /// Looks for the first frame; the flag says that nothing more will come.
    pub find: &'a dyn Fn(&[u8], bool) -> Finding,
    /// The question's bytes.
    pub wire: Vec<u8>,
    /// A whole answer that carries these bytes, as the device would send it; empty where nobody answers.
    pub answer: &'a dyn Fn(&[u8]) -> Vec<u8>,
    /// A frame around these bytes with a right checksum, whatever they say.
    pub seal: &'a dyn Fn(&[u8]) -> Vec<u8>,
    /// Whether bytes are a frame with a right checksum, told without the code under test.
    pub is_frame: &'a dyn Fn(&[u8]) -> bool,
    /// The most bytes that a finder may hold back.
    pub held_max: usize,
    /// The most bytes that an answer may have.
    pub answer_max: usize,
}

/// What a line brought.
pub struct Stream {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The answer, where it is nothing but one. Behind other bytes an answer can be made to look like something else.
    pub answer: Option<Vec<u8>>,
}

/// Segments of a stream, for the seeds too.
pub const RAW: u8 = 0;
/// A frame of any content.
pub const SEALED: u8 = 1;
/// The question itself.
pub const ECHO: u8 = 2;
/// An answer.
pub const ANSWER: u8 = 3;
/// An answer with one bit flipped.
pub const FLIPPED: u8 = 4;
/// The beginning of an answer.
pub const BEGUN: u8 = 5;
const KINDS: u8 = 6;

impl Line<'_> {
    /// Makes a stream of what is left of the input.
    pub fn stream(&self, input: &mut Input<'_>) -> Stream {
        let mut bytes = Vec::new();
        let mut kinds = Vec::new();
        let mut answer = None;
        while !input.is_empty() && kinds.len() < SEGMENTS_MAX && bytes.len() < STREAM_MAX {
            let kind = input.byte() % KINDS;
            kinds.push(kind);
            match kind {
                RAW => bytes.extend_from_slice(input.piece()),
                SEALED => bytes.extend((self.seal)(input.piece())),
                ECHO => bytes.extend_from_slice(&self.wire),
                ANSWER => {
                    let whole = (self.answer)(input.piece());
                    bytes.extend_from_slice(&whole);
                    answer = Some(whole);
                }
                FLIPPED => {
                    let bit = usize::from(input.word());
                    bytes.extend(flipped(&(self.answer)(input.piece()), bit));
                }
                _ => {
                    let len = usize::from(input.byte());
                    let whole = (self.answer)(input.piece());
                    bytes.extend_from_slice(&whole[..len.min(whole.len())]);
                }
            }
        }
        let clean = kinds == [ANSWER];
        Stream {
            bytes,
            answer: answer.filter(|answer| clean && !answer.is_empty()),
        }
    }

    /// Asserts what holds for any stream.
    pub fn check(&self, stream: &Stream) {
        let bytes = &stream.bytes;
        let whole = self.walk(std::iter::once(bytes.as_slice()));
        let single = self.walk(bytes.chunks(1));
        let some = self.walk(bytes.chunks(7));
        if let Some(answer) = &stream.answer {
            for found in [&whole, &single, &some] {
                let first = found.iter().find(|(_, verdict)| is_answer(*verdict));
                assert_eq!(
                    first.map(|(frame, _)| frame),
                    Some(answer),
                    "an answer that stands alone is found in every split: {found:?}"
                );
            }
        }
    }

    /// Feeds pieces as a line does, up to its deadline, and returns what was found.
    fn walk<'b>(&self, pieces: impl Iterator<Item = &'b [u8]>) -> Vec<(Vec<u8>, Verdict)> {
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            self.drain(&mut buffer, false, &mut found);
            assert!(
                buffer.len() <= self.held_max,
                "{} bytes are held back, {} at most",
                buffer.len(),
                self.held_max
            );
        }
        self.drain(&mut buffer, true, &mut found);
        found
    }

    fn drain(&self, buffer: &mut Vec<u8>, last: bool, found: &mut Vec<(Vec<u8>, Verdict)>) {
        loop {
            match (self.find)(buffer, last) {
                Finding::NeedMore { noise } => {
                    assert!(noise <= buffer.len(), "more noise than bytes");
                    buffer.drain(..noise);
                    return;
                }
                Finding::Frame { span, verdict } => {
                    assert!(span.start < span.end && span.end <= buffer.len(), "{span:?}");
                    let frame = buffer[span.clone()].to_vec();
                    self.judge(&frame, verdict);
                    found.push((frame, verdict));
                    buffer.drain(..span.end);
                }
            }
        }
    }

    fn judge(&self, frame: &[u8], verdict: Verdict) {
        assert!(
            (self.is_frame)(frame),
            "{verdict:?} with a wrong checksum: {frame:02X?}"
        );
        let alone = Finding::Frame {
            span: 0..frame.len(),
            verdict,
        };
        assert_eq!(
            (self.find)(frame, true),
            alone,
            "alone it is something else: {frame:02X?}"
        );
        match verdict {
            Verdict::Answer | Verdict::Refused(_) => {
                let len = frame.len();
                assert!(
                    len <= self.answer_max,
                    "an answer of {len} bytes, {} at most",
                    self.answer_max
                );
            }
            Verdict::Echo => {
                let wire = &self.wire;
                assert!(
                    wire.ends_with(frame) || frame.ends_with(wire),
                    "an echo that is not the question"
                );
            }
            Verdict::Foreign => {}
        }
    }
}

/// Whether it ends the wait.
pub fn is_answer(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Answer | Verdict::Refused(_))
}

/// The bytes with one bit flipped.
pub fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if !out.is_empty() {
        let bit = bit % (out.len() * 8);
        out[bit / 8] ^= 1 << (bit % 8);
    }
    out
}

/// The sum of bytes modulo 256, as DL/T 645, CJ/T 188 and M-Bus have it.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

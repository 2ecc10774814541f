//! Heartbeats: those that DTU makers ship, and how to take any of them out of a reply again.
//!
//! A heartbeat can fall before, between and inside replies (node-modbus/stream#17), and its bytes can also be a true
//! part of a reply. So nothing is cut out blindly: [`strip_candidates`] gives the buffer as it came first, then bounded
//! alternatives with occurrences removed, and the frame's own check (CRC) decides which one is the answer.

use std::borrow::Cow;
use std::ops::Range;

/// The most alternatives of one buffer, the raw one included.
pub const ALTERNATIVES_MAX: usize = 16;
/// The most occurrences that are looked at; more are only removed all together.
const OCCURRENCES_MAX: usize = 24;
/// How often removed ends may join to a new occurrence (a heartbeat inside a heartbeat).
const ROUNDS_MAX: usize = 4;

/// A heartbeat that makers ship.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// The package.
    pub bytes: &'static [u8],
    /// Long or odd enough that it is seen even when glued to a text.
    pub distinct: bool,
}

/// Factory settings of the field: ThingsGateway, USR-DR404 (also with its hex typed in as text), USR's manual, Four-Faith.
pub const SHIPPED: &[Shipped] = &[
    Shipped {
        bytes: &[0xFF, 0xFF, 0x80, 0x80],
        distinct: true,
    },
    Shipped {
        bytes: b"www.usr.cn",
        distinct: true,
    },
    Shipped {
        bytes: b"7777772E7573722E636E",
        distinct: true,
    },
    Shipped {
        bytes: b"LOG",
        distinct: false,
    },
    Shipped {
        bytes: &[0xFE],
        distinct: false,
    },
];

/// Whether these bytes are a shipped heartbeat.
pub fn is_shipped(bytes: &[u8]) -> bool {
    SHIPPED.iter().any(|shipped| shipped.bytes == bytes)
}

/// One reading of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripped<'a> {
    /// The bytes that are left.
    pub bytes: Cow<'a, [u8]>,
    /// What was taken out, as ranges of the raw buffer, in order, not overlapping.
    pub removed: Vec<Range<usize>>,
}

impl Stripped<'_> {
    /// Where the byte at `offset` of [`Stripped::bytes`] stood in the raw buffer; the end maps to the raw end of the
    /// byte before it, so that `raw_offset(span.end)` is what a found frame has consumed.
    pub fn raw_offset(&self, offset: usize) -> usize {
        let mut raw = offset;
        for gap in &self.removed {
            if gap.start < raw {
                raw += gap.len();
            }
        }
        raw
    }
}

/// The readings of `buffer` with occurrences of `patterns` removed: the raw one first, then each way to remove some, at
/// most [`ALTERNATIVES_MAX`] in all and no two with the same bytes. With up to three occurrences every subset is there;
/// with more: all, each alone, pairs, as far as the bound goes.
pub fn strip_candidates<'a, P: AsRef<[u8]>>(buffer: &'a [u8], patterns: &[P]) -> Vec<Stripped<'a>> {
    let mut out = vec![Stripped {
        bytes: Cow::Borrowed(buffer),
        removed: Vec::new(),
    }];
    let found = occurrences(buffer, patterns);
    if found.is_empty() {
        return out;
    }
    push(&mut out, buffer, greedy(&found));
    for one in &found {
        push(&mut out, buffer, vec![one.clone()]);
    }
    for inner in &found {
        push_outer(&mut out, buffer, patterns, inner);
    }
    for (at, first) in found.iter().enumerate() {
        for second in found.iter().skip(at + 1).filter(|second| second.start >= first.end) {
            push(&mut out, buffer, vec![first.clone(), second.clone()]);
        }
    }
    push_nested(&mut out, buffer, patterns);
    out
}

/// Every place where a pattern stands, overlapping ones too, by start.
fn occurrences<P: AsRef<[u8]>>(buffer: &[u8], patterns: &[P]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for pattern in patterns.iter().map(AsRef::as_ref).filter(|p| !p.is_empty()) {
        let places = buffer.windows(pattern.len()).enumerate();
        let starts = places.filter(|(_, window)| *window == pattern).map(|(at, _)| at);
        found.extend(starts.map(|at| at..at + pattern.len()).take(OCCURRENCES_MAX));
    }
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    found.dedup();
    found.truncate(OCCURRENCES_MAX);
    found
}

/// From left to right, the longest at a place, none overlapping.
fn greedy(found: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut end = 0;
    let mut out = Vec::new();
    for one in found {
        if one.start >= end {
            end = one.end;
            out.push(one.clone());
        }
    }
    out
}

fn without(buffer: &[u8], removed: &[Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(buffer.len());
    let mut at = 0;
    for gap in removed {
        out.extend_from_slice(buffer.get(at..gap.start).unwrap_or_default());
        at = gap.end;
    }
    out.extend_from_slice(buffer.get(at..).unwrap_or_default());
    out
}

fn push(out: &mut Vec<Stripped<'_>>, buffer: &[u8], removed: Vec<Range<usize>>) {
    if out.len() >= ALTERNATIVES_MAX {
        return;
    }
    let bytes = without(buffer, &removed);
    if out.iter().all(|other| *other.bytes != *bytes) {
        out.push(Stripped {
            bytes: Cow::Owned(bytes),
            removed,
        });
    }
}

/// One heartbeat that stands inside another: the inner one is taken out alone, since what else looks like it may be a
/// true part of the outer one (FE inside a longer package that has an FE of its own).
fn push_outer<P: AsRef<[u8]>>(out: &mut Vec<Stripped<'_>>, buffer: &[u8], patterns: &[P], inner: &Range<usize>) {
    let bytes = without(buffer, std::slice::from_ref(inner));
    for pattern in patterns.iter().map(AsRef::as_ref).filter(|p| p.len() > 1) {
        // it begins before the cut and ends behind it
        for start in (inner.start + 1).saturating_sub(pattern.len())..inner.start {
            if bytes.get(start..start + pattern.len()) == Some(pattern) {
                let end = start + pattern.len() + inner.len();
                let both = start..end;
                push(out, buffer, Vec::from([both]));
            }
        }
    }
}

/// Several heartbeats that cut others in two: remove all, look again, map the places back to the raw buffer.
fn push_nested<P: AsRef<[u8]>>(out: &mut Vec<Stripped<'_>>, buffer: &[u8], patterns: &[P]) {
    let mut kept: Vec<usize> = (0..buffer.len()).collect();
    for round in 0..ROUNDS_MAX {
        let bytes: Vec<u8> = kept.iter().filter_map(|at| buffer.get(*at).copied()).collect();
        let found = greedy(&occurrences(&bytes, patterns));
        if found.is_empty() {
            break;
        }
        let gone = |at: usize| found.iter().any(|range| range.contains(&at));
        let left = kept
            .iter()
            .enumerate()
            .filter(|(at, _)| !gone(*at))
            .map(|(_, raw)| *raw);
        kept = left.collect();
        if round > 0 {
            push(out, buffer, gaps(&kept, buffer.len()));
        }
    }
}

/// The ranges of `0..len` that are not in `kept`.
fn gaps(kept: &[usize], len: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = 0;
    for &raw in kept.iter().chain(std::iter::once(&len)) {
        if raw > at {
            out.push(at..raw);
        }
        at = raw + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);

    fn modbus_reply(unit: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![unit, 3, u8::try_from(data.len()).unwrap()];
        frame.extend(data);
        frame.extend(CRC.checksum(&frame).to_le_bytes());
        frame
    }

    /// As the line does: in each reading in turn, a frame of the wanted shape with a valid check, noise before it skipped.
    fn find_reply(buffer: &[u8], patterns: &[Vec<u8>], unit: u8, data_len: usize) -> Option<(Vec<u8>, usize)> {
        let len = data_len + 5;
        strip_candidates(buffer, patterns).into_iter().find_map(|reading| {
            let at = reading.bytes.windows(len).position(|frame| {
                frame[..3] == [unit, 3, u8::try_from(data_len).unwrap()]
                    && CRC.checksum(&frame[..len - 2]).to_le_bytes() == frame[len - 2..]
            })?;
            Some((reading.bytes[at..at + len].to_vec(), reading.raw_offset(at + len)))
        })
    }

    #[test]
    fn raw_comes_first_and_every_subset_of_three() {
        let found = strip_candidates(b"aXbXcXd", &[b"X"]);
        assert_eq!(found[0].bytes.as_ref(), b"aXbXcXd");
        let mut texts: Vec<String> = found
            .iter()
            .map(|r| String::from_utf8(r.bytes.to_vec()).unwrap())
            .collect();
        texts.sort();
        assert_eq!(
            texts,
            [
                "aXbXcXd", "aXbXcd", "aXbcXd", "aXbcd", "abXcXd", "abXcd", "abcXd", "abcd"
            ]
        );
        assert_eq!(strip_candidates(b"abc", &[b"X"]).len(), 1);
        assert_eq!(strip_candidates(b"abc", &[b""]).len(), 1);
    }

    #[test]
    fn a_true_part_of_a_reply_is_not_destroyed() {
        // four registers whose contents happen to be this DTU's heartbeat
        let reply = modbus_reply(1, b"LOG\xFF\xFF\x80\x80L");
        let patterns = [b"LOG".to_vec(), vec![0xFF, 0xFF, 0x80, 0x80]];
        assert_eq!(find_reply(&reply, &patterns, 1, 8), Some((reply.clone(), reply.len())));
        // and the same with a real heartbeat inside
        let mut mixed = reply.clone();
        mixed.splice(4..4, *b"LOG");
        assert_eq!(find_reply(&mixed, &patterns, 1, 8), Some((reply.clone(), mixed.len())));
    }

    #[test]
    fn the_consumed_length_is_that_of_the_raw_bytes() {
        let reply = modbus_reply(7, &[1, 2, 3, 4]);
        let raw = [b"HB".as_slice(), &reply[..4], b"HB", &reply[4..], b"HBnext"].concat();
        let (found, consumed) = find_reply(&raw, &[b"HB".to_vec()], 7, 4).unwrap();
        assert_eq!((found, &raw[consumed..]), (reply, b"HBnext".as_slice()));
    }

    #[test]
    fn a_heartbeat_inside_one_that_looks_like_it_is_taken_out_with_it() {
        // FE 00 02 is one package, FE another: the one within the other, and the other has an FE of its own
        let reply = modbus_reply(1, &[0, 0]);
        let patterns = [vec![0xFE], vec![0xFE, 0x00, 0x02]];
        let wire = [&reply[..3], &[0xFE, 0x00, 0xFE, 0x02], &reply[3..]].concat();
        assert_eq!(find_reply(&wire, &patterns, 1, 2), Some((reply, wire.len())));
    }

    fn heartbeats() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![0xFF, 0xFF, 0x80, 0x80]),
            Just(b"www.usr.cn".to_vec()),
            Just(b"LOG".to_vec()),
            Just(b"12061204".to_vec()),
            Just(vec![0xFE]),
            prop::collection::vec(any::<u8>(), 3..80),
        ]
    }

    proptest! {
        /// Up to two heartbeats anywhere, also one inside the other: one of the readings holds the reply. Not always the
        /// first that passes the check: one wrong reading in 65,536 does, and what becomes of it is the line's affair
        /// (`exchange::line::hearing`).
        #[test]
        fn replies_survive_heartbeats(
            unit in 1u8..=247,
            data in prop::collection::vec(0u8..0xFE, 2..250),
            pattern in heartbeats(),
            other in heartbeats(),
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..=2),
        ) {
            let reply = modbus_reply(unit, &data);
            // a check that holds an FE of its own is fine too, as long as the alternatives suffice
            let mut wire = reply.clone();
            for (place, first) in &places {
                let at = place.index(wire.len() + 1);
                wire.splice(at..at, if *first { pattern.clone() } else { other.clone() });
            }
            let patterns = [pattern, other];
            let place = strip_candidates(&wire, &patterns).into_iter().find_map(|reading| {
                let at = reading.bytes.windows(reply.len()).position(|frame| frame == reply)?;
                Some(reading.raw_offset(at + reply.len()))
            });
            prop_assert!(place.is_some_and(|consumed| consumed <= wire.len()));
        }

        #[test]
        fn alternatives_are_bounded_and_account_for_every_byte(
            buffer in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..600),
            patterns in prop::collection::vec(prop::collection::vec(0u8..3, 0..4), 0..5),
        ) {
            let all = strip_candidates(&buffer, &patterns);
            prop_assert!(!all.is_empty() && all.len() <= ALTERNATIVES_MAX);
            prop_assert_eq!(all[0].bytes.as_ref(), buffer.as_slice());
            for reading in &all {
                prop_assert_eq!(without(&buffer, &reading.removed), reading.bytes.to_vec());
                let gone: usize = reading.removed.iter().map(ExactSizeIterator::len).sum();
                prop_assert_eq!(reading.bytes.len() + gone, buffer.len());
                prop_assert!(reading.raw_offset(reading.bytes.len()) <= buffer.len());
            }
        }
    }
}

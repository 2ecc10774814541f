//! Where a text package ends, and whether what follows it may follow it.

use super::{BARE_LEN_MIN, Recognition, RegistrationError, glued_frames, read, too_long, without_heartbeat_tail};
use crate::protocol::dtu::heartbeat::SHIPPED;
use crate::protocol::dtu::profile::Profile;
use crate::protocol::dtu::text::{self, Style, TEXT_LEN_MAX};
use crate::protocol::dtu::{lineframe, sn};

/// A frame's first bytes can be printable: a Modbus unit, or 68 and a BCD address of DL/T 645.
const PRINTABLE_HEAD_MAX: usize = 9;

/// Where a text package at the front of a buffer ends.
pub(super) struct TextCut {
    /// Bytes of text.
    pub(super) text: usize,
    /// Bytes of text and the CR, LF or NUL that end it.
    pub(super) package: usize,
    /// It was ended by a mark (CR, LF, NUL, a heartbeat, a frame), not only by silence.
    pub(super) by_mark: bool,
    /// It was ended by bytes that are none of these.
    pub(super) ends_oddly: bool,
}

impl TextCut {
    pub(super) fn of(profile: &Profile, buffer: &[u8]) -> Self {
        let run = text::run_len(buffer);
        if let Some(at) = glued_frames(buffer, run.saturating_sub(PRINTABLE_HEAD_MAX), run) {
            return Self::marked(at, at);
        }
        let whole = buffer.get(..run).unwrap_or_default();
        let front = without_heartbeat_tail(profile, whole).len();
        if front < run {
            return Self::marked(front, front);
        }
        let tail = buffer.get(run..).unwrap_or_default();
        let ends = line_ends(tail);
        let by_mark =
            ends > 0 || begins_known(profile, tail) || (!tail.is_empty() && lineframe::whole_len(tail).is_some());
        Self {
            text: run,
            package: run + ends,
            by_mark,
            ends_oddly: !by_mark && !tail.is_empty(),
        }
    }

    fn marked(text: usize, package: usize) -> Self {
        Self {
            text,
            package,
            by_mark: true,
            ends_oddly: false,
        }
    }

    /// Whether the first part of a frame stands behind the text.
    pub(super) fn before_head(&self, buffer: &[u8]) -> bool {
        buffer.get(self.package..).is_some_and(lineframe::is_head)
    }
}

/// Bytes that have not ended: wait, unless it is too much text already.
pub(super) fn unended(buffer: &[u8]) -> Recognition {
    if text::run_len(buffer) > TEXT_LEN_MAX {
        too_long(buffer, TEXT_LEN_MAX)
    } else {
        Recognition::NeedMore
    }
}

/// CR and LF before a text.
pub(super) fn leading_line_ends(buffer: &[u8]) -> usize {
    let count = buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let behind = buffer.get(count..).map_or(0, text::run_len);
    if behind >= BARE_LEN_MIN { count } else { 0 }
}

/// The CR, LF and NUL at the front, up to a frame of unit 10 or 13.
pub(super) fn line_ends(tail: &[u8]) -> usize {
    let ends = tail.iter().take_while(|b| text::is_delimiter(**b)).count();
    let frame = (0..ends).find(|at| tail.get(*at..).is_some_and(|rest| lineframe::whole_len(rest).is_some()));
    frame.unwrap_or(ends)
}

fn begins_known(profile: &Profile, bytes: &[u8]) -> bool {
    let pinned = profile.heartbeats.iter().any(|h| bytes.starts_with(h));
    pinned || SHIPPED.iter().any(|s| bytes.starts_with(s.bytes))
}

/// Judges a cut text.
pub(super) fn found(profile: &Profile, buffer: &[u8], cut: &TextCut, style: Style) -> Recognition {
    if cut.text > TEXT_LEN_MAX {
        return too_long(buffer, TEXT_LEN_MAX);
    }
    let package = buffer.get(..cut.package).unwrap_or_default();
    let rest = buffer.get(cut.package..).unwrap_or_default();
    if !may_follow(profile, package, rest, cut) {
        return Recognition::Refused(RegistrationError::TextGoesOn(cut.package));
    }
    read(
        text::read(package.get(..cut.text).unwrap_or_default(), style),
        cut.package,
    )
}

/// After its end a text may be followed by a heartbeat, by itself, by line data; after CR or LF also by one clean word
/// (an unknown heartbeat). Anything else looks like two lines smuggled into one SN.
fn may_follow(profile: &Profile, package: &[u8], rest: &[u8], cut: &TextCut) -> bool {
    let run = text::run_len(rest);
    let ends = package.get(cut.text..).unwrap_or_default();
    let ended_by_line = !ends.is_empty() && !ends.contains(&0);
    let clean_word = || sn::check(rest.get(..run).unwrap_or_default()).is_ok();
    run == 0
        || rest.starts_with(package)
        || begins_known(profile, rest)
        || lineframe::whole_len(rest).is_some()
        || (ended_by_line && clean_word())
}

/// Profiles that pin a text.
pub(super) fn pinned(profile: &Profile, buffer: &[u8], ended: bool, style: Style) -> Recognition {
    if let Some(len) = profile.len {
        return match buffer.get(..len) {
            Some(package) => read(text::read(without_line_ends(package), style), len),
            None => Recognition::NeedMore,
        };
    }
    if !ended {
        return match known_len(buffer, style) {
            Some(len) => {
                let package = len + line_ends(buffer.get(len..).unwrap_or_default());
                read(text::read(buffer.get(..len).unwrap_or_default(), style), package)
            }
            None => unended(buffer),
        };
    }
    let lead = leading_line_ends(buffer);
    if lead > 0 {
        return Recognition::Skip {
            len: lead,
            heartbeat: false,
        };
    }
    let cut = TextCut::of(profile, buffer);
    if cut.text == 0 {
        return Recognition::Refused(RegistrationError::NotThis { wanted: "text" });
    }
    if style == Style::Bare && cut.text < BARE_LEN_MIN && !cut.by_mark {
        return Recognition::NeedMore;
    }
    found(profile, buffer, &cut, style)
}

fn without_line_ends(package: &[u8]) -> &[u8] {
    let last = package.iter().rposition(|b| !text::is_delimiter(*b));
    last.and_then(|last| package.get(..=last)).unwrap_or_default()
}

/// A number of known length whose end is certain, because something else follows: no need to wait for quiet. A line end
/// alone does not count, it may still go on.
fn known_len(buffer: &[u8], style: Style) -> Option<usize> {
    let len = match style {
        Style::Imei => 15,
        Style::Iccid => 20,
        Style::Auto | Style::Bare | Style::Keyword | Style::Mac => return None,
    };
    let digits = buffer.iter().take_while(|b| b.is_ascii_digit()).count();
    let tail = buffer.get(len..)?;
    let certain = lineframe::whole_len(tail).is_some() || (digits == len && line_ends(tail) < tail.len());
    (digits >= len && certain).then_some(len)
}

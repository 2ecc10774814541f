//! Profile `auto`: which of the forms is this? In order: no DTU at all, packages with their own marks, and when the
//! bytes have ended text before bare bytes.

use super::fixed::{self, sn_hex};
use super::texts::{self, TextCut};
use super::{
    BARE_LEN_MIN, HEX_LEN_MAX, Recognition, RegistrationError, RegistrationKind, glued_frames, read, too_long,
    without_heartbeat_tail,
};
use crate::protocol::dtu::profile::Profile;
use crate::protocol::dtu::text::{self, Style};
use crate::protocol::dtu::{concentrator, ddp, lineframe, prot, terminal};

/// A bare binary registration has at least this many bytes; shorter ones are somebody's heartbeat.
const HEX_LEN_MIN: usize = 4;
const MAC_LEN: usize = 6;
/// Text this long with the head of a frame behind it is text; shorter, the whole is bytes.
const TEXT_BEFORE_HEAD_MIN: usize = 8;
/// This many bytes of a PROT register packet are no coincidence: the id and four digits.
const PROT_PREFIX_MIN: usize = 8;

pub(super) fn recognise(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    if let Some(who) = foreign(buffer) {
        return Recognition::Refused(RegistrationError::Foreign(who));
    }
    match buffer {
        [ddp::FLAG] | [ddp::FLAG, _] | [0xAA] => return Recognition::NeedMore,
        // the high byte of a DDP length is at most 8; an object goes on with text
        [ddp::FLAG, _, 0..=8, ..] => return fixed::ddp_packet(buffer),
        [ddp::FLAG, ..] => return fixed::object(buffer, ended),
        _ if fixed::inhand_fits(buffer) => return fixed::inhand(buffer),
        _ if concentrator::begins(buffer) => return concentrator::recognise(buffer),
        _ if terminal::begins(buffer) => return terminal::recognise(buffer),
        _ => {}
    }
    // if all four bytes of its id are printable it would rather be text
    let binary_id = buffer.get(..4).is_some_and(|id| !id.iter().all(|b| text::is_text(*b)));
    if binary_id && let Some((register, len)) = prot::Register::parse(buffer) {
        return fixed::prot_found(&register, len);
    }
    if !ended {
        return texts::unended(buffer);
    }
    if binary_id && buffer.len() >= PROT_PREFIX_MIN && prot::Register::is_prefix(buffer) {
        return Recognition::NeedMore;
    }
    if let Some(len) = lineframe::whole_len(buffer) {
        return Recognition::Skip { len, heartbeat: false };
    }
    let lead = texts::leading_line_ends(buffer);
    if lead > 0 {
        return Recognition::Skip {
            len: lead,
            heartbeat: false,
        };
    }
    as_text(profile, buffer).unwrap_or_else(|| as_bytes(profile, buffer))
}

/// Scanners and browsers that find every open port.
fn foreign(buffer: &[u8]) -> Option<&'static str> {
    const HTTP: [&[u8]; 6] = [b"GET /", b"POST /", b"HEAD /", b"OPTIONS ", b"PUT /", b"CONNECT "];
    match buffer {
        [0x16, 0x03, 0..=4, ..] => Some("a tls client"),
        [0x03, 0x00, 0x00, _, _, 0xE0, ..] => Some("a remote desktop client"),
        _ if HTTP.iter().any(|verb| buffer.starts_with(verb)) => Some("an http client"),
        _ if buffer.starts_with(b"SSH-") => Some("an ssh client"),
        _ => None,
    }
}

/// None: these are rather bytes.
fn as_text(profile: &Profile, buffer: &[u8]) -> Option<Recognition> {
    let run = text::run_len(buffer);
    if run == 0 || is_concentrator(buffer) {
        return None;
    }
    let cut = TextCut::of(profile, buffer);
    if cut.ends_oddly && (buffer.len() == MAC_LEN || run < TEXT_BEFORE_HEAD_MIN || !cut.before_head(buffer)) {
        return None;
    }
    if cut.text < BARE_LEN_MIN && !cut.by_mark {
        return Some(Recognition::NeedMore);
    }
    Some(texts::found(profile, buffer, &cut, Style::Auto))
}

fn as_bytes(profile: &Profile, buffer: &[u8]) -> Recognition {
    if is_concentrator(buffer) {
        return Recognition::NeedMore;
    }
    let frames = glued_frames(buffer, HEX_LEN_MIN, HEX_LEN_MAX.min(buffer.len()));
    let front = frames.and_then(|at| buffer.get(..at)).unwrap_or(buffer);
    let package = without_heartbeat_tail(profile, front);
    match package.len() {
        len if len < HEX_LEN_MIN => Recognition::Skip {
            len: buffer.len(),
            heartbeat: false,
        },
        MAC_LEN if is_mac(package) => read(sn_hex(package, RegistrationKind::Mac), MAC_LEN),
        len if len <= HEX_LEN_MAX => read(sn_hex(package, RegistrationKind::Hex), len),
        _ => too_long(buffer, HEX_LEN_MAX),
    }
}

/// 68 begins the login of a concentrator, of which the first bytes are here, or a text with an h: Q/GDW 1376.1 repeats its
/// length, DL/T 698.45 has a high byte of length that is no text.
fn is_concentrator(buffer: &[u8]) -> bool {
    match buffer {
        [0x68, a, b, c, d, 0x68, ..] if (a, b) == (c, d) => true,
        [0x68, ..] => text::run_len(buffer) < BARE_LEN_MIN,
        _ => false,
    }
}

/// A single station's address (IEEE 802: the lowest bit of the first byte is 0) that is no filler.
fn is_mac(bytes: &[u8]) -> bool {
    let first = bytes.first().copied().unwrap_or(1);
    first & 1 == 0 && bytes.iter().any(|b| *b != first)
}

//! Packages with a form of their own: marks, lengths, a pinned pattern.

use super::texts::{line_ends, pinned};
use super::{
    HEX_LEN_MAX, Recognition, Registration, RegistrationError, RegistrationKind, UNREGISTERED_LEN_MAX, glued_frames,
    read, too_long, without_heartbeat_tail,
};
use crate::base::hex;
use crate::protocol::dtu::framing::FramingDecoder;
use crate::protocol::dtu::pattern::{self, Pattern, PatternMatch};
use crate::protocol::dtu::profile::Profile;
use crate::protocol::dtu::text::{self, Style};
use crate::protocol::dtu::{concentrator, ddp, json, prot, sn, terminal};

const INHAND_HEAD: [u8; 2] = [0xAA, 0x01];
const INHAND_END: u8 = 0x0D;
const INHAND_LEN: usize = 14;
const MAC_LEN: usize = 6;
const MAC_TEXT_LEN: usize = 12;

type Said = Result<(String, RegistrationKind), RegistrationError>;

fn said(bytes: &[u8], kind: RegistrationKind) -> Said {
    Ok((sn::check(bytes)?, kind))
}

fn not_this(wanted: &'static str) -> Recognition {
    Recognition::Refused(RegistrationError::NotThis { wanted })
}

/// Bytes, shown as hex.
pub(super) fn sn_hex(bytes: &[u8], kind: RegistrationKind) -> Said {
    said(hex::encode(bytes).as_bytes(), kind)
}

/// Profile `hex`.
pub(super) fn hex_bytes(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    if let Some(len) = profile.len {
        return match buffer.get(..len) {
            Some(package) => read(sn_hex(package, RegistrationKind::Hex), len),
            None => Recognition::NeedMore,
        };
    }
    if !ended {
        return Recognition::NeedMore;
    }
    let frames = glued_frames(buffer, 1, HEX_LEN_MAX.min(buffer.len()));
    let front = frames.and_then(|at| buffer.get(..at)).unwrap_or(buffer);
    let package = without_heartbeat_tail(profile, front);
    if package.len() > HEX_LEN_MAX {
        return too_long(buffer, HEX_LEN_MAX);
    }
    read(sn_hex(package, RegistrationKind::Hex), package.len())
}

/// Profile `mac`: six bytes, or their text.
pub(super) fn mac(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    let run = buffer.get(..text::run_len(buffer)).unwrap_or_default();
    let like_text = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'-');
    let all_like_text = buffer.iter().take(MAC_TEXT_LEN).all(like_text);
    if text::behind_keyword(run).is_some() || (all_like_text && buffer.len() >= MAC_TEXT_LEN) {
        return pinned(profile, buffer, ended, Style::Mac);
    }
    match buffer.get(..MAC_LEN) {
        Some(bytes) if !bytes.iter().all(like_text) => read(sn_hex(bytes, RegistrationKind::Mac), MAC_LEN),
        // six bytes that all look like digits: half a text, unless they stay six
        Some(bytes) if ended && buffer.len() == MAC_LEN => read(sn_hex(bytes, RegistrationKind::Mac), MAC_LEN),
        _ => Recognition::NeedMore,
    }
}

/// Whether the bytes are an InHand package or its first part.
pub(super) fn inhand_fits(buffer: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| match at {
        0 | 1 => INHAND_HEAD.get(at) == Some(byte),
        2..13 => byte.is_ascii_digit(),
        _ => *byte == INHAND_END,
    };
    buffer.iter().take(INHAND_LEN).enumerate().all(fits)
}

/// Profile `inhand`.
pub(super) fn inhand(buffer: &[u8]) -> Recognition {
    if !inhand_fits(buffer) {
        return not_this("aa 01, 11 digits and 0d");
    }
    match buffer.get(..INHAND_LEN).and_then(|package| package.get(2..13)) {
        Some(digits) => read(said(digits, RegistrationKind::InHand), INHAND_LEN),
        None => Recognition::NeedMore,
    }
}

/// Profile `ddp`. A data packet names its sender as well: a DTU that believes itself registered goes on with data.
pub(super) fn ddp_packet(buffer: &[u8]) -> Recognition {
    let (packet, len) = match ddp::parse(buffer) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Recognition::NeedMore,
        Err(error) => return Recognition::Refused(error.into()),
    };
    let registers = packet.kind == ddp::REGISTER;
    match sn::check(packet.id.trimmed()) {
        Ok(sn) => Recognition::Found(Registration {
            sn,
            kind: RegistrationKind::Ddp,
            len: if registers { len } else { 0 },
            answer: registers.then(|| ddp::register_ack(packet.id)),
            decoder: FramingDecoder::Ddp {
                decoder: ddp::Decoder::default(),
                id: packet.id,
            },
        }),
        Err(error) => Recognition::Refused(error.into()),
    }
}

/// Profile `gdw376.1`. Noise before the login is passed over.
pub(super) fn concentrator(buffer: &[u8]) -> Recognition {
    match buffer.iter().position(|byte| *byte == 0x68) {
        Some(0) if buffer.len() < 6 || concentrator::begins(buffer) => concentrator::recognise(buffer),
        Some(at) => Recognition::Skip {
            len: at.max(1),
            heartbeat: false,
        },
        None => Recognition::Skip {
            len: buffer.len(),
            heartbeat: false,
        },
    }
}

/// Profile `dlt698.45`. Noise before the login is passed over.
pub(super) fn terminal(buffer: &[u8]) -> Recognition {
    match buffer.iter().position(|byte| *byte == 0x68) {
        Some(0) if buffer.len() < 4 || terminal::begins(buffer) => terminal::recognise(buffer),
        Some(at) => Recognition::Skip {
            len: at.max(1),
            heartbeat: false,
        },
        None => Recognition::Skip {
            len: buffer.len(),
            heartbeat: false,
        },
    }
}

/// Profile `prot`.
pub(super) fn prot_packet(buffer: &[u8]) -> Recognition {
    match prot::Register::parse(buffer) {
        Some((register, len)) => prot_found(&register, len),
        None if prot::Register::is_prefix(buffer) => Recognition::NeedMore,
        None => not_this("a prot register packet of 21 bytes"),
    }
}

/// A PROT register packet.
pub(super) fn prot_found(register: &prot::Register, len: usize) -> Recognition {
    match sn::check(&register.phone) {
        Ok(sn) => Recognition::Found(Registration {
            sn,
            kind: RegistrationKind::Prot,
            len,
            decoder: FramingDecoder::Prot(prot::Decoder::default()),
            answer: None,
        }),
        Err(error) => Recognition::Refused(error.into()),
    }
}

/// A JSON object. It carries its end, but a line end may still belong to it.
pub(super) fn object(buffer: &[u8], ended: bool) -> Recognition {
    let Some(len) = json::object_len(buffer) else {
        return if buffer.len() > json::JSON_LEN_MAX {
            too_long(buffer, json::JSON_LEN_MAX)
        } else {
            Recognition::NeedMore
        };
    };
    let package = len + line_ends(buffer.get(len..).unwrap_or_default());
    if package == buffer.len() && !ended {
        return Recognition::NeedMore;
    }
    let sn = json::sn_of(buffer.get(..len).unwrap_or_default());
    read(sn.and_then(|sn| said(sn.as_bytes(), RegistrationKind::Json)), package)
}

/// Profile `custom`.
pub(super) fn custom(pattern: &Pattern, buffer: &[u8], ended: bool) -> Recognition {
    match pattern.match_front(buffer) {
        PatternMatch::Whole { open: true, .. } if !ended => Recognition::NeedMore,
        PatternMatch::Whole { sn, as_hex, len, .. } => {
            let text = pattern::sn_text(buffer.get(sn).unwrap_or_default(), as_hex);
            read(said(&text, RegistrationKind::Custom), len)
        }
        PatternMatch::Partial if buffer.len() > UNREGISTERED_LEN_MAX => too_long(buffer, UNREGISTERED_LEN_MAX),
        PatternMatch::Partial => Recognition::NeedMore,
        PatternMatch::No => not_this("what the pattern says"),
    }
}

//! The recogniser: who is this, by its first bytes?
//!
//! It is asked again with each arrival, with the bytes so far and whether they have *ended* (the line has been quiet, or
//! no more are waited for). Packages that carry their own end are recognised at once; text and bare bytes only when they
//! have ended, so that the first half of a split registration is never taken for a shorter SN.

use super::ddp::{self, DdpError};
use super::framing::FramingDecoder;
use super::heartbeat::SHIPPED;
use super::json;
use super::lineframe;
use super::pattern::{self, PatternMatch};
use super::profile::{Form, Profile};
use super::prot;
use super::sn::{self, SnError};
use super::text::{self, Style};
use crate::base::hex;

/// The most bytes that are kept before somebody has said who they are.
pub const UNREGISTERED_LEN_MAX: usize = 1024;
/// Bare text shorter than this is waited on (an end of line counts as well): half of something longer, more likely.
const BARE_LEN_MIN: usize = 4;
/// A bare binary registration has at least this many bytes; shorter ones are somebody's heartbeat.
const HEX_LEN_MIN: usize = 4;
/// The longest bare binary registration (USR-M100, EByte: 40 bytes).
const HEX_LEN_MAX: usize = 40;
const INHAND_HEAD: [u8; 2] = [0xAA, 0x01];
const INHAND_END: u8 = 0x0D;
const INHAND_LEN: usize = 14;

/// How the SN was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationKind {
    /// Bare text.
    Ascii,
    /// Bytes, shown as hex.
    Hex,
    /// IMEI.
    Imei {
        /// Whether its check digit holds.
        luhn_ok: bool,
    },
    /// ICCID.
    Iccid,
    /// MAC address.
    Mac,
    /// Behind a keyword.
    Login,
    /// In a JSON object.
    Json,
    /// InHand bridge.
    InHand,
    /// Hongdian DDP register packet.
    Ddp,
    /// Four-Faith PROT register packet.
    Prot,
    /// By a pinned pattern.
    Custom,
}

impl RegistrationKind {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ascii => "ascii",
            Self::Hex => "hex",
            Self::Imei { .. } => "imei",
            Self::Iccid => "iccid",
            Self::Mac => "mac",
            Self::Login => "login",
            Self::Json => "json",
            Self::InHand => "inhand",
            Self::Ddp => "ddp",
            Self::Prot => "prot",
            Self::Custom => "custom",
        }
    }
}

/// A registration package at the front of the buffer.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The serial number, checked against the grammar of [`sn::check`].
    pub sn: String,
    /// How it was said.
    pub kind: RegistrationKind,
    /// Bytes of the package, with the CR, LF or NUL that end it.
    pub len: usize,
    /// Takes the framing off what follows.
    pub decoder: FramingDecoder,
    /// What the framing itself demands as an answer.
    pub answer: Option<Vec<u8>>,
}

/// What is known of the first bytes.
#[derive(Clone, Debug)]
pub enum Recognition {
    /// Not enough yet.
    NeedMore,
    /// The first `len` bytes are no registration: a heartbeat or line data before it. Drop them and ask again.
    Skip {
        /// How many.
        len: usize,
        /// Whether it is a heartbeat.
        heartbeat: bool,
    },
    /// A registration package stands at the front.
    Found(Registration),
    /// These bytes can never become an acceptable registration.
    Refused(RegistrationError),
}

/// Why first bytes are not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The SN breaks the grammar.
    #[error("registration: {0}")]
    Sn(#[from] SnError),
    /// Too many bytes.
    #[error("registration of {len} bytes or more, at most {max} are accepted")]
    TooLong {
        /// Bytes seen.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A pinned profile that these bytes do not suit.
    #[error("the first bytes are not {wanted}, which the profile demands")]
    NotThis {
        /// What the profile demands.
        wanted: &'static str,
    },
    /// More text after the end of the package, which could smuggle a second line or value.
    #[error("text goes on after the end of the registration at byte {0}")]
    TextGoesOn(usize),
    /// Somebody who is no DTU.
    #[error("this is {0}, not a dtu")]
    Foreign(&'static str),
    /// A broken DDP packet.
    #[error("registration: {0}")]
    Ddp(#[from] DdpError),
    /// A JSON object without an SN.
    #[error("registration object: {0}")]
    Json(&'static str),
}

/// Looks at the bytes since the connection began (or since the last [`Recognition::Skip`]).
pub fn recognise(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    if buffer.is_empty() {
        return Recognition::NeedMore;
    }
    let found = match &profile.form {
        Form::Auto => auto(profile, buffer, ended),
        Form::Ascii => bare(profile, buffer, ended, Style::Bare),
        Form::Login => bare(profile, buffer, ended, Style::Keyword),
        Form::Imei => bare(profile, buffer, ended, Style::Imei),
        Form::Iccid => bare(profile, buffer, ended, Style::Iccid),
        Form::Mac => mac(profile, buffer, ended),
        Form::Hex => hex_bytes(profile, buffer, ended),
        Form::InHand => inhand(buffer),
        Form::Ddp => ddp_packet(buffer),
        Form::Prot => prot_packet(buffer),
        Form::Custom(pattern) => custom(pattern, buffer, ended),
    };
    let undecided = matches!(found, Recognition::NeedMore | Recognition::Refused(_));
    if undecided
        && ended
        && let Some(len) = leading_heartbeat(profile, buffer)
    {
        return Recognition::Skip { len, heartbeat: true };
    }
    match found {
        Recognition::NeedMore if buffer.len() > UNREGISTERED_LEN_MAX => too_long(buffer, UNREGISTERED_LEN_MAX),
        // the front may be the first part of a heartbeat: judge when it has ended
        Recognition::Refused(error) if error.may_be_heartbeat() && !ended => Recognition::NeedMore,
        other => other,
    }
}

impl RegistrationError {
    fn may_be_heartbeat(&self) -> bool {
        matches!(self, Self::NotThis { .. } | Self::Ddp(DdpError::StartByte(_)))
    }
}

fn too_long(buffer: &[u8], max: usize) -> Recognition {
    Recognition::Refused(RegistrationError::TooLong { len: buffer.len(), max })
}

fn found(sn: String, kind: RegistrationKind, len: usize) -> Recognition {
    Recognition::Found(Registration {
        sn,
        kind,
        len,
        decoder: FramingDecoder::Transparent,
        answer: None,
    })
}

fn read(result: Result<(String, RegistrationKind), RegistrationError>, len: usize) -> Recognition {
    match result {
        Ok((sn, kind)) => found(sn, kind, len),
        Err(error) => Recognition::Refused(error),
    }
}

/// A heartbeat at the front. `LOG` is one, but not where it begins `LOGIN:`.
fn leading_heartbeat(profile: &Profile, buffer: &[u8]) -> Option<usize> {
    if text::behind_keyword(buffer.get(..text::run_len(buffer))?).is_some() {
        return None;
    }
    let pinned = profile.heartbeats.iter().map(Vec::as_slice);
    let by_itself = |shipped: &&[u8]| buffer.len() == shipped.len();
    let shipped = SHIPPED
        .iter()
        .filter(|s| s.distinct || by_itself(&s.bytes) || !s.bytes.iter().all(u8::is_ascii));
    pinned
        .chain(shipped.map(|s| s.bytes))
        .filter(|bytes| buffer.starts_with(bytes))
        .map(<[u8]>::len)
        .max()
}

fn auto(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    if let Some(who) = foreign(buffer) {
        return Recognition::Refused(RegistrationError::Foreign(who));
    }
    match buffer {
        [ddp::FLAG] | [ddp::FLAG, _] => return Recognition::NeedMore,
        // the high byte of a DDP length is at most 8; an object goes on with text
        [ddp::FLAG, _, 0..=8, ..] => return ddp_packet(buffer),
        [ddp::FLAG, ..] => return object(buffer),
        [0xAA] if !ended => return Recognition::NeedMore,
        _ if buffer.starts_with(&INHAND_HEAD) && inhand_fits(buffer) => return inhand(buffer),
        _ => {}
    }
    // all printable, the four bytes of the id would rather be text
    let binary_id = buffer.get(..4).is_some_and(|id| !id.iter().all(|b| text::is_text(*b)));
    if binary_id && let Some((register, len)) = prot::Register::parse(buffer) {
        return prot_found(&register, len);
    }
    if !ended {
        return endless(buffer);
    }
    if binary_id && buffer.len() >= 8 && prot::Register::is_prefix(buffer) {
        return Recognition::NeedMore;
    }
    let lead = leading_line_ends(buffer);
    if lead > 0 {
        return Recognition::Skip {
            len: lead,
            heartbeat: false,
        };
    }
    auto_text(profile, buffer).unwrap_or_else(|| auto_binary(buffer))
}

/// Nothing has ended yet: is it too long already?
fn endless(buffer: &[u8]) -> Recognition {
    if text::run_len(buffer) > text::TEXT_LEN_MAX {
        too_long(buffer, text::TEXT_LEN_MAX)
    } else {
        Recognition::NeedMore
    }
}

/// Scanners and browsers that find every open port.
fn foreign(buffer: &[u8]) -> Option<&'static str> {
    let is_tls = matches!(buffer, [0x16, 0x03, 0..=4, ..]);
    let is_rdp = matches!(buffer, [0x03, 0x00, 0x00, _, _, 0xE0, ..]);
    let is_http = [
        b"GET /".as_slice(),
        b"POST /",
        b"HEAD /",
        b"OPTIONS ",
        b"PUT /",
        b"CONNECT ",
    ]
    .iter()
    .any(|verb| buffer.starts_with(verb));
    match () {
        () if is_tls => Some("a tls client"),
        () if is_rdp => Some("a remote desktop client"),
        () if is_http => Some("an http client"),
        () if buffer.starts_with(b"SSH-") => Some("an ssh client"),
        () => None,
    }
}

/// CR and LF before a text.
fn leading_line_ends(buffer: &[u8]) -> usize {
    let count = buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let behind = buffer.get(count..).map_or(0, text::run_len);
    if behind >= BARE_LEN_MIN { count } else { 0 }
}

/// Where a text package ends and what of its end belongs to it.
struct TextCut {
    text: usize,
    package: usize,
    /// It ended by CR, LF or NUL, a heartbeat or a frame, not only by silence.
    by_mark: bool,
}

fn cut_text(profile: &Profile, buffer: &[u8]) -> Option<TextCut> {
    let run = text::run_len(buffer);
    // a frame glued to the text: its first bytes (unit, or 68 and a BCD address) can be printable
    let glued = (run.saturating_sub(9).max(1)..=run).find(|at| {
        buffer
            .get(*at..)
            .is_some_and(|tail| lineframe::whole_len(tail).is_some())
    });
    if let Some(at) = glued {
        return Some(TextCut {
            text: at,
            package: at,
            by_mark: true,
        });
    }
    let tail = buffer.get(run..).unwrap_or_default();
    let ends = tail.iter().take_while(|b| text::is_delimiter(**b)).count();
    let known = |bytes: &[u8]| {
        let pinned = profile.heartbeats.iter().any(|h| bytes.starts_with(h));
        pinned || SHIPPED.iter().any(|s| bytes.starts_with(s.bytes))
    };
    if ends == 0 && !tail.is_empty() && !known(tail) && !lineframe::is_head(tail) {
        return None;
    }
    let whole = buffer.get(..run).unwrap_or_default();
    let front = without_heartbeat_tail(profile, whole);
    Some(TextCut {
        text: front,
        package: if front < run { front } else { run + ends },
        by_mark: front < run || !tail.is_empty(),
    })
}

/// The length of the text before heartbeats that are glued to its end.
fn without_heartbeat_tail(profile: &Profile, text: &[u8]) -> usize {
    let mut len = text.len();
    while let Some(shorter) = text.get(..len).and_then(|front| {
        let pinned = profile.heartbeats.iter().map(Vec::as_slice);
        let shipped = SHIPPED.iter().filter(|s| s.distinct).map(|s| s.bytes);
        let heartbeat = pinned
            .chain(shipped)
            .find(|h| front.len() > h.len() && front.ends_with(h))?;
        Some(len - heartbeat.len())
    }) {
        len = shorter;
    }
    len
}

/// None: rather not a text.
fn auto_text(profile: &Profile, buffer: &[u8]) -> Option<Recognition> {
    let run = text::run_len(buffer);
    if run == 0 {
        return None;
    }
    if run > text::TEXT_LEN_MAX {
        return Some(too_long(buffer, text::TEXT_LEN_MAX));
    }
    let cut = cut_text(profile, buffer)?;
    if profile.len.is_none() && cut.text < BARE_LEN_MIN && !cut.by_mark {
        return Some(Recognition::NeedMore);
    }
    // six bytes that are not all text are an address, whatever its first ones look like
    if cut.text < BARE_LEN_MIN && buffer.len() == 6 && run < 5 {
        return None;
    }
    Some(text_found(profile, buffer, &cut, Style::Auto))
}

fn text_found(profile: &Profile, buffer: &[u8], cut: &TextCut, style: Style) -> Recognition {
    let package = buffer.get(..cut.package).unwrap_or_default();
    let rest = buffer.get(cut.package..).unwrap_or_default();
    if !rest_is_harmless(profile, package, rest, cut) {
        return Recognition::Refused(RegistrationError::TextGoesOn(cut.package));
    }
    read(
        text::read(package.get(..cut.text).unwrap_or_default(), style),
        cut.package,
    )
}

/// After its end a text may be followed by a heartbeat, by itself, by line data; after CR or LF also by one clean word
/// (an unknown heartbeat). Anything else looks like two lines smuggled into one SN.
fn rest_is_harmless(profile: &Profile, package: &[u8], rest: &[u8], cut: &TextCut) -> bool {
    let run = text::run_len(rest);
    let ended_by_line = package
        .get(cut.text..)
        .is_some_and(|end| !end.is_empty() && !end.contains(&0));
    let known = |heartbeat: &[u8]| rest.starts_with(heartbeat);
    run == 0
        || rest.starts_with(package)
        || profile.heartbeats.iter().any(|h| known(h))
        || SHIPPED.iter().any(|s| known(s.bytes))
        || lineframe::whole_len(rest).is_some()
        || (ended_by_line && sn::check(rest.get(..run).unwrap_or_default()).is_ok())
}

fn auto_binary(buffer: &[u8]) -> Recognition {
    if let Some(len) = lineframe::whole_len(buffer) {
        return Recognition::Skip { len, heartbeat: false };
    }
    if buffer.first() == Some(&0x68) {
        // a concentrator's login, which is not this recogniser's
        return Recognition::NeedMore;
    }
    let distinct = SHIPPED.iter().filter(|s| s.distinct).map(|s| s.bytes);
    let mut package = buffer;
    while let Some(front) = distinct
        .clone()
        .find_map(|h| package.strip_suffix(h).filter(|f| !f.is_empty()))
    {
        package = front;
    }
    match package.len() {
        0..HEX_LEN_MIN => Recognition::Skip {
            len: buffer.len(),
            heartbeat: false,
        },
        6 if is_mac(package) => read(sn_hex(package, RegistrationKind::Mac), 6),
        len if len <= HEX_LEN_MAX => read(sn_hex(package, RegistrationKind::Hex), len),
        _ => too_long(buffer, HEX_LEN_MAX),
    }
}

fn sn_hex(bytes: &[u8], kind: RegistrationKind) -> Result<(String, RegistrationKind), RegistrationError> {
    Ok((sn::check(hex::encode(bytes).as_bytes())?, kind))
}

/// A single station's address (IEEE 802: the lowest bit of the first byte is 0) that is no filler.
fn is_mac(bytes: &[u8]) -> bool {
    let first = bytes.first().copied().unwrap_or(1);
    first & 1 == 0 && bytes.iter().any(|b| *b != first)
}

/// Pinned text profiles.
fn bare(profile: &Profile, buffer: &[u8], ended: bool, style: Style) -> Recognition {
    if let Some(len) = profile.len {
        return match buffer.get(..len) {
            Some(package) => read(text::read(trim(package), style), len),
            None => Recognition::NeedMore,
        };
    }
    if let Some(len) = fixed_len(buffer, style) {
        return read(
            text::read(buffer.get(..len).unwrap_or_default(), style),
            with_line_end(buffer, len),
        );
    }
    if !ended {
        return endless(buffer);
    }
    let lead = leading_line_ends(buffer);
    if lead > 0 {
        return Recognition::Skip {
            len: lead,
            heartbeat: false,
        };
    }
    match cut_text(profile, buffer) {
        Some(cut) if cut.text > text::TEXT_LEN_MAX => too_long(buffer, text::TEXT_LEN_MAX),
        Some(cut) if cut.text > 0 => text_found(profile, buffer, &cut, style),
        _ => Recognition::Refused(RegistrationError::NotThis { wanted: "text" }),
    }
}

fn trim(package: &[u8]) -> &[u8] {
    let end = package
        .iter()
        .rposition(|b| !text::is_delimiter(*b))
        .map_or(0, |last| last + 1);
    package.get(..end).unwrap_or_default()
}

/// A text of known length with something behind it: no need to wait.
fn fixed_len(buffer: &[u8], style: Style) -> Option<usize> {
    let digits = buffer.iter().take_while(|b| b.is_ascii_digit()).count();
    let len = match style {
        Style::Imei => 15,
        Style::Iccid => 20,
        _ => return None,
    };
    (digits >= len && buffer.len() > len).then_some(len)
}

fn with_line_end(buffer: &[u8], len: usize) -> usize {
    let tail = buffer.get(len..).unwrap_or_default();
    if lineframe::whole_len(tail).is_some() {
        return len;
    }
    len + tail.iter().take_while(|b| text::is_delimiter(**b)).count()
}

fn mac(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    let textual = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'-');
    let as_text = text::behind_keyword(buffer.get(..text::run_len(buffer)).unwrap_or_default()).is_some()
        || buffer.iter().take(12).all(textual) && buffer.len() >= 12;
    if as_text {
        return bare(profile, buffer, ended, Style::Mac);
    }
    match buffer.get(..6) {
        // six bytes could all look like digits: then only their end tells
        Some(bytes) if ended || !bytes.iter().all(textual) => read(sn_hex(bytes, RegistrationKind::Mac), 6),
        Some(_) => Recognition::NeedMore,
        None if ended && !buffer.iter().all(textual) => Recognition::NeedMore,
        None => Recognition::NeedMore,
    }
}

fn hex_bytes(profile: &Profile, buffer: &[u8], ended: bool) -> Recognition {
    if let Some(len) = profile.len {
        return match buffer.get(..len) {
            Some(package) => read(sn_hex(package, RegistrationKind::Hex), len),
            None => Recognition::NeedMore,
        };
    }
    if !ended {
        return if buffer.len() > UNREGISTERED_LEN_MAX {
            too_long(buffer, HEX_LEN_MAX)
        } else {
            Recognition::NeedMore
        };
    }
    // line data and heartbeats glued behind it are cut off where they are certain
    let frame_at = (1..buffer.len().min(HEX_LEN_MAX + 1))
        .find(|at| buffer.get(*at..).is_some_and(lineframe::is_line_data))
        .unwrap_or(buffer.len());
    let mut package = buffer.get(..frame_at).unwrap_or_default();
    let heartbeats = profile.heartbeats.iter().map(Vec::as_slice);
    let known = heartbeats.chain(SHIPPED.iter().filter(|s| s.distinct).map(|s| s.bytes));
    while let Some(front) = known
        .clone()
        .find_map(|h| package.strip_suffix(h).filter(|f| !f.is_empty()))
    {
        package = front;
    }
    if profile.heartbeats.iter().any(|h| h == package) {
        return Recognition::NeedMore;
    }
    match package.len() {
        len if len > HEX_LEN_MAX => too_long(buffer, HEX_LEN_MAX),
        len => read(sn_hex(package, RegistrationKind::Hex), len),
    }
}

fn inhand_fits(buffer: &[u8]) -> bool {
    buffer.iter().take(INHAND_LEN).enumerate().all(|(at, byte)| match at {
        0 | 1 => INHAND_HEAD.get(at) == Some(byte),
        2..13 => byte.is_ascii_digit(),
        _ => *byte == INHAND_END,
    })
}

fn inhand(buffer: &[u8]) -> Recognition {
    if !inhand_fits(buffer) {
        return Recognition::Refused(RegistrationError::NotThis {
            wanted: "aa 01, 11 digits and 0d",
        });
    }
    match buffer.get(2..INHAND_LEN) {
        Some(tail) => {
            let digits = tail.get(..11).unwrap_or_default();
            read(
                sn::check(digits)
                    .map(|sn| (sn, RegistrationKind::InHand))
                    .map_err(Into::into),
                INHAND_LEN,
            )
        }
        None => Recognition::NeedMore,
    }
}

fn ddp_packet(buffer: &[u8]) -> Recognition {
    let (packet, len) = match ddp::parse(buffer) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Recognition::NeedMore,
        Err(error) => return Recognition::Refused(error.into()),
    };
    match sn::check(packet.id.trimmed()) {
        // a data packet names its sender as well: a DTU that was registered with a server before us goes on with data
        Ok(sn) => Recognition::Found(Registration {
            sn,
            kind: RegistrationKind::Ddp,
            len: if packet.kind == ddp::REGISTER { len } else { 0 },
            answer: (packet.kind == ddp::REGISTER).then(|| ddp::register_ack(packet.id)),
            decoder: FramingDecoder::Ddp {
                decoder: ddp::Decoder::default(),
                id: packet.id,
            },
        }),
        Err(error) => Recognition::Refused(error.into()),
    }
}

fn prot_packet(buffer: &[u8]) -> Recognition {
    match prot::Register::parse(buffer) {
        Some((register, len)) => prot_found(&register, len),
        None if prot::Register::is_prefix(buffer) => Recognition::NeedMore,
        None => Recognition::Refused(RegistrationError::NotThis {
            wanted: "a prot register packet of 21 bytes",
        }),
    }
}

fn prot_found(register: &prot::Register, len: usize) -> Recognition {
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

fn object(buffer: &[u8]) -> Recognition {
    match json::object_len(buffer) {
        Some(len) => {
            let sn = json::sn_of(buffer.get(..len).unwrap_or_default());
            let checked = sn.and_then(|sn| Ok((sn::check(sn.as_bytes())?, RegistrationKind::Json)));
            read(checked, with_line_end(buffer, len))
        }
        None if buffer.len() > json::JSON_LEN_MAX => too_long(buffer, json::JSON_LEN_MAX),
        None => Recognition::NeedMore,
    }
}

fn custom(pattern: &pattern::Pattern, buffer: &[u8], ended: bool) -> Recognition {
    match pattern.match_front(buffer) {
        PatternMatch::Whole { open: true, .. } if !ended => Recognition::NeedMore,
        PatternMatch::Whole { sn, as_hex, len, .. } => {
            let text = pattern::sn_text(buffer.get(sn).unwrap_or_default(), as_hex);
            read(
                sn::check(&text)
                    .map(|sn| (sn, RegistrationKind::Custom))
                    .map_err(Into::into),
                len,
            )
        }
        PatternMatch::Partial => Recognition::NeedMore,
        PatternMatch::No => Recognition::Refused(RegistrationError::NotThis {
            wanted: "what the pattern says",
        }),
    }
}

//! The recogniser: who is this, by its first bytes?
//!
//! It is asked again with each arrival, with the bytes so far and whether they have *ended* (the line has been quiet, or
//! no more are waited for). Packages that carry their own end are recognised at once; text and bare bytes only when they
//! have ended, so that the first half of a split registration is never taken for a shorter SN.

mod auto;
mod fixed;
#[cfg(test)]
mod tests;
mod texts;

use super::ddp::DdpError;
use super::framing::FramingDecoder;
use super::heartbeat::SHIPPED;
use super::lineframe;
use super::profile::{Form, Profile};
use super::sn::SnError;
use super::text::{self, Style};

/// The most bytes that are kept before somebody has said who they are.
pub const UNREGISTERED_LEN_MAX: usize = 1024;
/// The longest bare binary registration (USR-M100, EByte: 40 bytes).
pub const HEX_LEN_MAX: usize = 40;
/// Bare text shorter than this is waited on (an end of line counts as well): half of something longer, more likely.
const BARE_LEN_MIN: usize = 4;

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
    /// The address of a concentrator of Q/GDW 1376.1.
    Gdw376,
    /// The address of a terminal of DL/T 698.45.
    Dlt698,
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
            Self::Gdw376 => "gdw376.1",
            Self::Dlt698 => "dlt698.45",
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
    let by_length = profile.len.is_some() || profile.form == Form::Mac;
    if by_length && let Some(front) = distinct_heartbeat(profile, buffer, ended) {
        return front;
    }
    if ended
        && profile.form.is_open_ended()
        && let Some(len) = leading_heartbeat(profile, buffer)
    {
        return Recognition::Skip { len, heartbeat: true };
    }
    let judged = match &profile.form {
        Form::Auto => auto::recognise(profile, buffer, ended),
        Form::Ascii => texts::pinned(profile, buffer, ended, Style::Bare),
        Form::Login => texts::pinned(profile, buffer, ended, Style::Keyword),
        Form::Imei => texts::pinned(profile, buffer, ended, Style::Imei),
        Form::Iccid => texts::pinned(profile, buffer, ended, Style::Iccid),
        Form::Mac => fixed::mac(profile, buffer, ended),
        Form::Hex => fixed::hex_bytes(profile, buffer, ended),
        Form::InHand => fixed::inhand(buffer),
        Form::Ddp => fixed::ddp_packet(buffer),
        Form::Prot => fixed::prot_packet(buffer),
        Form::Gdw376 => fixed::concentrator(buffer),
        Form::Dlt698 => fixed::terminal(buffer),
        Form::Custom(pattern) => fixed::custom(pattern, buffer, ended),
    };
    match judged {
        // a heartbeat, or the first part of one, in front of a package with a form of its own
        Recognition::Refused(error) if error.may_be_heartbeat() => match leading_heartbeat(profile, buffer) {
            Some(len) if ended => Recognition::Skip { len, heartbeat: true },
            _ if ended => Recognition::Refused(error),
            _ => limited(buffer),
        },
        Recognition::NeedMore => limited(buffer),
        other => other,
    }
}

fn limited(buffer: &[u8]) -> Recognition {
    if buffer.len() > UNREGISTERED_LEN_MAX {
        too_long(buffer, UNREGISTERED_LEN_MAX)
    } else {
        Recognition::NeedMore
    }
}

impl RegistrationError {
    fn may_be_heartbeat(&self) -> bool {
        matches!(self, Self::NotThis { .. } | Self::Ddp(DdpError::StartByte(_)))
    }
}

impl Form {
    /// Whether any bytes could be taken for its package, so that heartbeats have to be known beforehand.
    fn is_open_ended(&self) -> bool {
        matches!(
            self,
            Self::Auto | Self::Ascii | Self::Login | Self::Imei | Self::Iccid | Self::Hex
        )
    }
}

fn too_long(buffer: &[u8], max: usize) -> Recognition {
    Recognition::Refused(RegistrationError::TooLong { len: buffer.len(), max })
}

/// A transparent registration, or why not.
fn read(result: Result<(String, RegistrationKind), RegistrationError>, len: usize) -> Recognition {
    match result {
        Ok((sn, kind)) => Recognition::Found(Registration {
            sn,
            kind,
            len,
            decoder: FramingDecoder::Transparent,
            answer: None,
        }),
        Err(error) => Recognition::Refused(error),
    }
}

/// A heartbeat at the front. `LOG` is one, but not where it begins `LOGIN:`; FE is one, but not where it begins bytes.
fn leading_heartbeat(profile: &Profile, buffer: &[u8]) -> Option<usize> {
    let has_keyword = |bytes: &[u8]| {
        let run = bytes.get(..text::run_len(bytes)).unwrap_or_default();
        text::behind_keyword(run).is_some()
    };
    if has_keyword(buffer) {
        return None;
    }
    let is_certain = |heartbeat: &[u8]| {
        let rest = buffer.get(heartbeat.len()..).unwrap_or_default();
        let alone = buffer.chunks(heartbeat.len()).all(|chunk| chunk == heartbeat);
        let before_text = !heartbeat.is_ascii() && text::run_len(rest) >= BARE_LEN_MIN;
        alone || before_text || has_keyword(rest)
    };
    let pinned = profile.heartbeats.iter().map(Vec::as_slice);
    let shipped = SHIPPED
        .iter()
        .filter(|s| s.distinct || is_certain(s.bytes))
        .map(|s| s.bytes);
    pinned
        .chain(shipped)
        .filter(|bytes| buffer.starts_with(bytes))
        .map(<[u8]>::len)
        .max()
}

/// Where a length decides, a heartbeat in front has to be seen before: skip it, or wait for the rest of it.
fn distinct_heartbeat(profile: &Profile, buffer: &[u8], ended: bool) -> Option<Recognition> {
    known_heartbeats(profile).find_map(|heartbeat| {
        if buffer.starts_with(heartbeat) {
            let len = heartbeat.len();
            return Some(Recognition::Skip { len, heartbeat: true });
        }
        (!ended && heartbeat.starts_with(buffer)).then_some(Recognition::NeedMore)
    })
}

/// The pinned heartbeats and those distinct enough to be seen in bare text or bytes.
fn known_heartbeats(profile: &Profile) -> impl Iterator<Item = &[u8]> + Clone {
    let pinned = profile.heartbeats.iter().map(Vec::as_slice);
    pinned.chain(SHIPPED.iter().filter(|s| s.distinct).map(|s| s.bytes))
}

/// Takes heartbeats off the end.
fn without_heartbeat_tail<'a>(profile: &Profile, bytes: &'a [u8]) -> &'a [u8] {
    let known = known_heartbeats(profile);
    let mut left = bytes;
    while let Some(front) = known
        .clone()
        .find_map(|h| left.strip_suffix(h).filter(|front| !front.is_empty()))
    {
        left = front;
    }
    left
}

/// Where valid line frames begin that fill the buffer to its end, behind at least one byte.
fn glued_frames(buffer: &[u8], from: usize, to: usize) -> Option<usize> {
    (from.max(1)..=to).find(|at| buffer.get(*at..).is_some_and(lineframe::is_line_data))
}

//! Registration packages that are text: a bare SN, an SN behind a keyword, IMEI, ICCID, a MAC address.

use super::recogniser::{RegistrationError, RegistrationKind};
use super::sn;

/// Words that DTUs put before their SN, with `:` or `=` behind them.
const KEYWORDS: [&str; 17] = [
    "LOGIN", "REGISTER", "REG", "SN", "ID", "DTU", "DTUID", "DEV", "DEVICE", "DEVICEID", "DEVID", "CLIENTID", "IMEI",
    "ICCID", "CCID", "MAC", "NAME",
];
/// The longest text that is waited for: keyword, blanks, SN.
pub(super) const TEXT_LEN_MAX: usize = 128;

/// Which texts are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Any; a keyword is taken off.
    Auto,
    /// The whole text is the SN.
    Bare,
    /// A keyword must stand in front.
    Keyword,
    /// 15 digits.
    Imei,
    /// 19 or 20 digits from 89.
    Iccid,
    /// A MAC address.
    Mac,
}

/// Printable ASCII.
pub(super) fn is_text(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E)
}

/// How many printable characters stand at the front.
pub(super) fn run_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| is_text(**b)).count()
}

/// CR, LF or NUL, which end a text.
pub(super) fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// What stands behind a keyword and its `:` or `=`.
pub(super) fn behind_keyword(text: &[u8]) -> Option<&[u8]> {
    let at = text.iter().position(|b| matches!(b, b':' | b'='))?;
    let (word, rest) = (text.get(..at)?.trim_ascii(), text.get(at + 1..)?);
    let known = KEYWORDS.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    known.then(|| rest.trim_ascii())
}

/// Reads a whole text package.
///
/// # Errors
/// [`RegistrationError`] when the text does not suit the style or the SN's grammar.
pub(super) fn read(text: &[u8], style: Style) -> Result<(String, RegistrationKind), RegistrationError> {
    let text = text.trim_ascii();
    let value = behind_keyword(text);
    let mismatch = |wanted| RegistrationError::NotThis { wanted };
    match style {
        Style::Bare => Ok((sn::check(text)?, RegistrationKind::Ascii)),
        Style::Keyword => {
            let value = value.ok_or(mismatch("a keyword such as LOGIN: or SN= and the serial number"))?;
            Ok((sn::check(value)?, RegistrationKind::Login))
        }
        Style::Imei => {
            let imei = value.unwrap_or(text);
            let checked = imei_check(imei).ok_or(mismatch("an imei of 15 digits"))?;
            Ok((sn::check(imei)?, RegistrationKind::Imei { luhn_ok: checked }))
        }
        Style::Iccid => {
            let iccid = value.unwrap_or(text);
            is_iccid(iccid)
                .then_some(())
                .ok_or(mismatch("an iccid of 19 or 20 digits from 89"))?;
            Ok((sn::check(&iccid.to_ascii_uppercase())?, RegistrationKind::Iccid))
        }
        Style::Mac => {
            let mac = mac_digits(value.unwrap_or(text)).ok_or(mismatch("a mac address of 6 bytes or 12 hex digits"))?;
            Ok((mac, RegistrationKind::Mac))
        }
        Style::Auto => auto(text, value),
    }
}

fn auto(text: &[u8], value: Option<&[u8]>) -> Result<(String, RegistrationKind), RegistrationError> {
    let inner = value.unwrap_or(text);
    if let Some(luhn_ok) = imei_check(inner) {
        return Ok((sn::check(inner)?, RegistrationKind::Imei { luhn_ok }));
    }
    if is_iccid(inner) {
        return Ok((sn::check(inner)?, RegistrationKind::Iccid));
    }
    // twelve hex digits without separators stay as they are: they may well be a number of the owner's own
    if let Some(mac) = mac_digits(inner).filter(|_| inner.len() > 12) {
        return Ok((mac, RegistrationKind::Mac));
    }
    let kind = if value.is_some() {
        RegistrationKind::Login
    } else {
        RegistrationKind::Ascii
    };
    Ok((sn::check(inner)?, kind))
}

/// Whether 15 digits are an IMEI, and if so whether the Luhn digit holds (3GPP TS 23.003 annex B). Cheap modules ship
/// numbers that fail it, so it is noted and not enforced.
fn imei_check(text: &[u8]) -> Option<bool> {
    if text.len() != 15 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sum: u32 = text
        .iter()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            let doubled = digit * 2;
            if at % 2 == 0 {
                digit
            } else {
                doubled / 10 + doubled % 10
            }
        })
        .sum();
    Some(sum.is_multiple_of(10))
}

/// ITU-T E.118 with 19 or 20 places from 89; some operators use letters up to F in the last ones.
fn is_iccid(text: &[u8]) -> bool {
    matches!(text.len(), 19 | 20)
        && text.starts_with(b"89")
        && text.iter().take(12).all(u8::is_ascii_digit)
        && text.iter().all(u8::is_ascii_hexdigit)
}

/// Twelve upper-case digits out of `d4ad20010203`, `D4:AD:20:01:02:03` or `D4-AD-20-01-02-03`.
fn mac_digits(text: &[u8]) -> Option<String> {
    let digits: Vec<u8> = match text.len() {
        12 => text.to_vec(),
        17 => {
            let separator = *text.get(2).filter(|b| matches!(b, b':' | b'-'))?;
            let pairs: Vec<&[u8]> = text.split(|b| *b == separator).collect();
            (pairs.len() == 6 && pairs.iter().all(|pair| pair.len() == 2)).then(|| pairs.concat())?
        }
        _ => return None,
    };
    digits.iter().all(u8::is_ascii_hexdigit).then(|| {
        digits
            .iter()
            .map(|digit| char::from(digit.to_ascii_uppercase()))
            .collect()
    })
}

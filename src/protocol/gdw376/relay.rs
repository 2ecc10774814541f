//! Frames that move a relay: AFN 05 F1 and F2 (the terminal's own control rounds), and a meter's relay frame that is passed
//! on by AFN 10 F1 (Q/GDW 1376.1-2013, 7.6 and 7.17).
//!
//! Called by `device/relay` alone, which demands a permit. [`super::Request::new`] refuses all of these.

use super::Address;
use super::afn::Afn;
use super::forward::{Kind, Question};
use super::message::Password;
use super::point::{Fn, Id, Pn};
use super::request::{Ask, Request, RequestError};

/// The most that four bits hold.
const NIBBLE_MAX: u8 = 0x0F;

/// Opens the switches of a control round after a warning.
///
/// `warning_min` 0 to 15 minutes; `half_hours` how long it stays open: 0 until it is allowed to close, else 1 to 15 half
/// hours.
///
/// # Errors
/// [`RequestError::Long`] for more than four bits hold.
pub fn trip(
    address: Address,
    round: Pn,
    warning_min: u8,
    half_hours: u8,
    password: Password,
) -> Result<Request, RequestError> {
    if warning_min > NIBBLE_MAX || half_hours > NIBBLE_MAX {
        return Err(RequestError::Long(usize::from(warning_min.max(half_hours))));
    }
    let id = Id {
        pn: round,
        item: Fn::F1,
    };
    let data = vec![warning_min << 4 | half_hours];
    Ok(Request::any(address, Afn::CONTROL, [Ask { id, data }])?.with_password(password))
}

/// Allows the switches of a control round to close.
///
/// # Errors
/// As [`Request::new`].
pub fn allow_close(address: Address, round: Pn, password: Password) -> Result<Request, RequestError> {
    let id = Id {
        pn: round,
        item: Fn::F2,
    };
    Ok(Request::any(address, Afn::CONTROL, [Ask::plain(id)])?.with_password(password))
}

/// Passes on a meter's relay frame.
///
/// # Errors
/// [`RequestError::Unknown`] for a frame that moves none.
pub fn forward(address: Address, question: &Question, password: Password) -> Result<Request, RequestError> {
    if question.kind() != Kind::Relay {
        return Err(RequestError::Unknown);
    }
    let id = Id::terminal(Fn::F1);
    let data = question.write()?;
    Ok(Request::any(address, Afn::FORWARD, [Ask { id, data }])?.with_password(password))
}

//! Questions that move a relay: object 8000, remote control, and 8001, keeping the supply (DL/T 698.45-2017, annex E.9).
//!
//! They are made here only, and the functions here are called by `device/relay` alone, which demands a permit. A general
//! [`Request`] refuses them.

use super::apdu::{ActionBody, ActionItem, Apdu, Asked, Piid, ProxyBody, ProxyList, ProxyTransparent, Target};
use super::data::Data;
use super::request::RequestError;
use super::values::{Oad, Omd};
use super::wire::Many;
use super::{Address, Kind, Request, Tsa};
use std::num::NonZeroU16;

/// The first relay (F2050201).
pub const FIRST: Oad = Oad::element(0xF205, 2, 1);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Open the relay (8000, method 129).
    Trip {
        /// How long the device warns before, minutes.
        alarm_min: u8,
        /// For how long, minutes; 0: until it is closed.
        limit_min: u16,
        /// Whether it closes by itself then.
        auto_close: bool,
    },
    /// Allow closing; the customer presses a button (8000, method 130).
    AllowClose,
    /// Close the relay (8000, method 130).
    Close,
    /// Alarm on (8000, method 127).
    AlarmOn,
    /// Alarm off (8000, method 128).
    AlarmOff,
    /// Keep the supply whatever happens (8001, method 127).
    ProtectOn,
    /// End of that (8001, method 128).
    ProtectOff,
}

impl Action {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trip { .. } => "trip",
            Self::AllowClose => "allow closing",
            Self::Close => "close",
            Self::AlarmOn => "alarm on",
            Self::AlarmOff => "alarm off",
            Self::ProtectOn => "protection on",
            Self::ProtectOff => "protection off",
        }
    }

    /// The method with its data for a relay.
    fn item(self, relay: Oad) -> ActionItem {
        let one = |fields: Vec<Data>| Data::Array(vec![Data::Structure(fields)]);
        let (oi, method, data) = match self {
            Self::Trip {
                alarm_min,
                limit_min,
                auto_close,
            } => {
                let fields = vec![
                    Data::Oad(relay),
                    Data::UInt8(alarm_min),
                    Data::UInt16(limit_min),
                    Data::Bool(auto_close),
                ];
                (0x8000, 129, one(fields))
            }
            Self::AllowClose => (0x8000, 130, one(vec![Data::Oad(relay), Data::Enum(0)])),
            Self::Close => (0x8000, 130, one(vec![Data::Oad(relay), Data::Enum(1)])),
            Self::AlarmOn => (0x8000, 127, Data::Null),
            Self::AlarmOff => (0x8000, 128, Data::Null),
            Self::ProtectOn => (0x8001, 127, Data::Null),
            Self::ProtectOff => (0x8001, 128, Data::Null),
        };
        let omd = Omd::new(oi, method);
        ActionItem { omd, data }
    }

    /// The action and the relay that an item of an ACTION does; none for another, and for data of another form.
    pub fn of_item(item: &ActionItem) -> Option<(Self, Option<Oad>)> {
        let (oi, method) = (item.omd.oi, item.omd.method);
        let fields = item.data.elements().first().map(Data::elements).unwrap_or_default();
        let found = match (oi, method, fields) {
            (0x8000, 127, _) => (Self::AlarmOn, None),
            (0x8000, 128, _) => (Self::AlarmOff, None),
            (
                0x8000,
                129,
                [
                    Data::Oad(relay),
                    Data::UInt8(alarm_min),
                    Data::UInt16(limit_min),
                    Data::Bool(auto),
                ],
            ) => {
                let action = Self::Trip {
                    alarm_min: *alarm_min,
                    limit_min: *limit_min,
                    auto_close: *auto,
                };
                (action, Some(*relay))
            }
            (0x8000, 130, [Data::Oad(relay), Data::Enum(0)]) => (Self::AllowClose, Some(*relay)),
            (0x8000, 130, [Data::Oad(relay), Data::Enum(1)]) => (Self::Close, Some(*relay)),
            (0x8001, 127, _) => (Self::ProtectOn, None),
            (0x8001, 128, _) => (Self::ProtectOff, None),
            _ => return None,
        };
        Some(found)
    }
}

/// Moves the relay of a device itself.
///
/// # Errors
/// [`RequestError::Guarded`] when it goes to more than one device.
pub fn command(address: Address, piid: Piid, action: Action, relay: Oad) -> Result<Request, RequestError> {
    single(&address)?;
    let body = ActionBody::Normal(action.item(relay));
    Request::unguarded(address, Apdu::Action(Asked::new(piid, body)))
}

/// Has a terminal move the relay of a meter behind it.
///
/// # Errors
/// [`RequestError::Guarded`] when it goes to more than one device.
pub fn proxied(
    terminal: Address,
    piid: Piid,
    timeout_s: NonZeroU16,
    meter: &Address,
    action: Action,
    relay: Oad,
) -> Result<Request, RequestError> {
    single(&terminal)?;
    single(meter)?;
    let target = Target {
        server: Tsa::of(meter),
        timeout_s: 0,
        items: Many::one(action.item(relay)),
    };
    let targets = Many::one(target);
    let body = ProxyBody::Action(ProxyList { timeout_s, targets });
    Request::unguarded(terminal, Apdu::Proxy(Asked::new(piid, body)))
}

/// Has a terminal send a frame of another protocol to a meter, whatever the frame does.
///
/// # Errors
/// [`RequestError`] when it goes to more than one terminal, or is too long.
pub fn transparent(terminal: Address, piid: Piid, transparent: ProxyTransparent) -> Result<Request, RequestError> {
    single(&terminal)?;
    let body = ProxyBody::Transparent(transparent);
    Request::unguarded(terminal, Apdu::Proxy(Asked::new(piid, body)))
}

fn single(address: &Address) -> Result<(), RequestError> {
    match address.kind() == Kind::Single {
        true => Ok(()),
        false => Err(RequestError::Guarded("it moves the relays of more than one device")),
    }
}

//! What moves a relay, and what may: such a question is made in [`relay`](super::relay) alone.

use super::apdu::{ActionBody, Apdu, ProxyBody, SecurityRequest, SetBody};
use super::frame::frames;
use super::request::Request;
use crate::protocol::{cjt188, dlt645, modbus};

/// The control of loads (8000 to 81FF), whose methods and settings decide on supply.
const CONTROL: std::ops::RangeInclusive<u16> = 0x8000..=0x81FF;
/// The relay itself.
const RELAY: u16 = 0xF205;

const MOVES: &str = "it has something done by the control of relays";
const SETS: &str = "it sets something of the control of relays";
const UNKNOWN: &str = "the bytes for another device are not known to read only";
const HIDDEN: &str = "it is enciphered, so what it does cannot be seen";

fn is_guarded(oi: u16) -> bool {
    CONTROL.contains(&oi) || oi == RELAY
}

/// Whether an APDU moves no relay.
///
/// # Errors
/// Why it does, or may.
pub(super) fn check(apdu: &Apdu) -> Result<(), &'static str> {
    match apdu {
        Apdu::Action(asked) => moves(match &asked.body {
            ActionBody::Normal(item) => is_guarded(item.omd.oi),
            ActionBody::List(list) => list.iter().any(|item| is_guarded(item.omd.oi)),
            ActionBody::ThenGet(list) => list.iter().any(|item| is_guarded(item.omd.oi)),
        }),
        Apdu::Set(asked) => sets(match &asked.body {
            SetBody::Normal(item) => is_guarded(item.oad.oi),
            SetBody::List(list) => list.iter().any(|item| is_guarded(item.oad.oi)),
            SetBody::ThenGet(list) => list.iter().any(|item| is_guarded(item.oad.oi)),
        }),
        Apdu::Proxy(asked) => proxy(&asked.body),
        Apdu::Security(SecurityRequest::Plain(secured)) => match Apdu::parse(&secured.apdu.0) {
            Ok(Apdu::Security(_)) => Err(HIDDEN),
            Ok(inner) => check(&inner),
            Err(_) => Err(UNKNOWN),
        },
        Apdu::Security(SecurityRequest::Encrypted(_)) => Err(HIDDEN),
        _ => Ok(()),
    }
}

fn moves(guarded: bool) -> Result<(), &'static str> {
    if guarded { Err(MOVES) } else { Ok(()) }
}

fn sets(guarded: bool) -> Result<(), &'static str> {
    if guarded { Err(SETS) } else { Ok(()) }
}

fn proxy(body: &ProxyBody) -> Result<(), &'static str> {
    match body {
        ProxyBody::Get(_) | ProxyBody::Record(_) => Ok(()),
        ProxyBody::Set(list) => {
            let mut items = list.targets.iter().flat_map(|target| target.items.iter());
            sets(items.any(|item| is_guarded(item.oad.oi)))
        }
        ProxyBody::SetThenGet(list) => {
            let mut items = list.targets.iter().flat_map(|target| target.items.iter());
            sets(items.any(|item| is_guarded(item.oad.oi)))
        }
        ProxyBody::Action(list) => {
            let mut items = list.targets.iter().flat_map(|target| target.items.iter());
            moves(items.any(|item| is_guarded(item.omd.oi)))
        }
        ProxyBody::ActionThenGet(list) => {
            let mut items = list.targets.iter().flat_map(|target| target.items.iter());
            moves(items.any(|item| is_guarded(item.omd.oi)))
        }
        ProxyBody::Transparent(transparent) => match reads_only(&transparent.command.0) {
            true => Ok(()),
            false => Err(UNKNOWN),
        },
    }
}

/// Whether bytes are one frame, of a protocol that we know, which only reads. What is not sure is not.
fn reads_only(bytes: &[u8]) -> bool {
    let mut own = frames(bytes);
    if let (Some((span, frame)), None) = (own.next(), own.next()) {
        let reads = Request::of_frame(&frame).is_ok_and(|request| matches!(request.apdu(), Some(Apdu::Get(_))));
        return reads && span == (0..bytes.len());
    }
    let reads_645 = |edition| {
        let request = dlt645::Request::parse(edition, bytes);
        let is_read = |request: dlt645::Request| {
            use dlt645::Function::{Read, ReadAddress, ReadFollow};
            matches!(request.function(), Read | ReadFollow | ReadAddress)
        };
        request.is_ok_and(is_read)
    };
    let reads_188 =
        || cjt188::Request::parse(bytes).is_ok_and(|request| matches!(request.function(), cjt188::Function::Read));
    let reads_modbus = || modbus::Request::parse(bytes).is_ok_and(|request| request.function().is_read());
    reads_645(dlt645::Edition::E2007) || reads_645(dlt645::Edition::E1997) || reads_188() || reads_modbus()
}

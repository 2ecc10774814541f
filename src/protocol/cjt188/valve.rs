//! Moving a valve (CJ/T 188-2004, table 8: write A017).
//!
//! Closing cuts somebody's water or gas off, and opening can flood a room. Only `device/relay` may call this, with a
//! permit; nothing else makes these frames: [`Request::write`] refuses the identifier.

use super::{Request, Target};

/// Opens by the standard.
pub const OPEN: u8 = 0x55;
/// Closes by the standard.
pub const CLOSE: u8 = 0x99;

/// Opens the valve. The answer says the status word after it; read the status again to see whether it moved. Gas meters
/// want the identifier low byte first: see [`Target::order`].
pub fn open(target: Target) -> Request {
    Request::write_valve(target, OPEN)
}

/// Closes the valve: a trip.
pub fn close(target: Target) -> Request {
    Request::write_valve(target, CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use crate::protocol::cjt188::{Address, DataId, MeterType, RequestError};

    #[test]
    fn the_frames_are_those_of_the_capture() {
        let mut target = Target::new(MeterType::COLD_WATER, Address::parse("19121301").unwrap());
        (target.ser, target.preamble) = (1, 3);
        assert_eq!(
            hex::encode(&open(target).wire()),
            "FEFEFE6810011312190000000404A0170155CC16"
        );
        let closing = close(target).wire();
        assert_eq!(hex::encode(&closing), "FEFEFE6810011312190000000404A01701991016");
    }

    #[test]
    fn no_other_way_leads_to_the_valve() {
        let target = Target::new(MeterType::GAS, Address::parse("3").unwrap());
        for di in [DataId(0xA017), DataId(0x17A0)] {
            assert_eq!(Request::write(target, di, vec![CLOSE]), Err(RequestError::Valve(di)));
        }
    }
}

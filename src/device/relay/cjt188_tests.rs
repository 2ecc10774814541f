//! Valve frames of CJ/T 188 against a captured one (shared vectors) and the standard's status word.

use super::super::kit::{manner, model as found, permit as permitted, target};
use super::super::*;
use crate::base::hex;
use crate::protocol::Protocol;

const METER: &str = "19121301";
const MODEL: &str = "standard_valve_water_2004";

fn model() -> MeterModel {
    found(Protocol::Cjt188, MODEL)
}

fn frame(action: Action, address: &str) -> Result<String, RelayError> {
    let permit = permitted(action, Protocol::Cjt188, MODEL, address);
    encode(permit, &model(), &manner()).map(|request| hex::encode(&request.wire()))
}

/// The answer to a read of 901F: 1234.56 m3, a time, and a status word.
fn says(address: &str, status: &str) -> Vec<u8> {
    let body = format!("6810{address}8116901F01563412002C003412002C10200821112620{status}");
    let bytes = hex::decode(&body).unwrap();
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    [bytes, vec![sum, 0x16]].concat()
}

const WIRE: &str = "01131219000000";

#[test]
fn the_frames_are_those_of_the_capture() {
    // captured with three preambles, ours has four
    assert_eq!(
        frame(Action::Reconnect, METER).unwrap(),
        "FEFEFEFE6810011312190000000404A0170155CC16"
    );
    assert_eq!(
        frame(Action::Disconnect, METER).unwrap(),
        "FEFEFEFE6810011312190000000404A01701991016"
    );
    assert!(matches!(
        frame(Action::Arm, METER),
        Err(RelayError::NotSupported { .. })
    ));
    assert!(
        frame(Action::Disconnect, "AAAAAAAAAAAAAA").is_err(),
        "every valve on the line"
    );
}

#[test]
fn no_raw_frame_moves_a_valve_or_calls_another_meter() {
    for raw in [
        "6810011312190000000404A01701991016",
        // a read of another meter
        "FEFEFEFE6810690590051533780103901F01EF16",
    ] {
        let action = Action::Raw { frame: raw.into() };
        assert!(frame(action, METER).is_err(), "{raw}");
    }
}

#[test]
fn the_meters_own_address_is_read_before() {
    let model = model();
    let requests = identify(&model, &target(METER)).unwrap();
    let own = says(WIRE, "0000");
    let said = identified(&model, &target("1"), &requests, &[Some(&own)]).unwrap();
    assert_eq!(said, "meter address 00000019121301");
    let stranger = says("02131219000000", "0000");
    assert!(identified(&model, &target("1"), &requests, &[Some(&stranger)]).is_err());
    assert!(identified(&model, &target("1"), &requests, &[None]).is_err());
}

#[test]
fn the_status_tells_of_the_valve_and_of_its_way() {
    let model = model();
    let judged = |action: &Action, status: &str| {
        let requests = read_back(&model, &target(METER), action).unwrap();
        judge(&model, action, &requests, &[Some(&says(WIRE, status))], &manner()).unwrap()
    };
    // bits 1 and 0 of the first byte: 00 open, 01 closed, 10 undefined, 11 abnormal
    let closing = |status| judged(&Action::Disconnect, status);
    assert!(matches!(closing("0000"), Judgement::Otherwise { .. }));
    assert!(matches!(closing("0100"), Judgement::AsWanted { .. }));
    assert!(matches!(closing("0200"), Judgement::Moving { .. }));
    assert!(matches!(closing("0300"), Judgement::Moving { .. }));
    assert!(matches!(judged(&Action::Reconnect, "0000"), Judgement::AsWanted { .. }));
    assert!(matches!(
        judged(&Action::Reconnect, "0100"),
        Judgement::Otherwise { .. }
    ));
    let requests = read_back(&model, &target(METER), &Action::Disconnect).unwrap();
    assert!(judge(&model, &Action::Disconnect, &requests, &[None], &manner()).is_err());
    assert!(
        shows_within(&model) > std::time::Duration::from_secs(30),
        "a valve takes half a minute"
    );
}

#[test]
fn a_meter_without_a_valve_is_not_switched() {
    let model = found(Protocol::Cjt188, "standard_cold_water_2018");
    let has = model.has(crate::domain::quantity::Quantity::ValveState);
    assert_eq!(check(&model, &target("1"), &Action::Disconnect).is_ok(), has);
}

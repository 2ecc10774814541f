//! Frames of the virtual meter's relay, by hand against the Modbus application protocol V1.1b3, 6.2, 6.3 and 6.5.

use super::super::kit::{manner, model as found, permit as permitted, target};
use super::super::*;
use crate::base::hex;
use crate::protocol::Protocol;

fn model(name: &str) -> MeterModel {
    found(Protocol::ModbusRtu, name)
}

fn permit(action: Action, model: &str, address: &str) -> TripPermit {
    permitted(action, Protocol::ModbusRtu, model, address)
}

fn frame(action: Action, address: &str) -> Result<String, RelayError> {
    let permit = permit(action, "polyphase_virtual", address);
    encode(permit, &model("polyphase_virtual"), &manner()).map(|request| hex::encode(&request.wire()))
}

#[test]
fn a_trip_is_the_frame_of_the_standard_to_the_meters_own_unit() {
    // write single coil 0 off at unit 1; on at unit 17 (0x11)
    assert_eq!(frame(Action::Disconnect, "1").unwrap(), "010500000000CDCA");
    assert_eq!(frame(Action::Reconnect, "17").unwrap(), "11050000FF008EAA");
    assert!(matches!(frame(Action::Arm, "1"), Err(RelayError::NotSupported { .. })));
}

#[test]
fn a_permit_opens_nothing_but_its_own_meter_and_model() {
    let stranger = permit(Action::Disconnect, "eastron_sdm120", "1");
    assert!(matches!(
        encode(stranger, &model("polyphase_virtual"), &manner()),
        Err(RelayError::OtherTarget { .. })
    ));
    // a raw frame to another unit behind the same DTU
    let raw = Action::Raw {
        frame: "0205000000008C39".into(),
    };
    assert!(check(&model("polyphase_virtual"), &target("1"), &raw).is_err() || frame(raw.clone(), "1").is_err());
}

#[test]
fn a_model_without_a_relay_cannot_be_switched() {
    for name in ["eastron_sdm120", "hiking_dds238_zns"] {
        let error = check(&model(name), &target("1"), &Action::Disconnect).unwrap_err();
        assert!(matches!(error, RelayError::NotSupported { .. }), "{name}: {error}");
    }
}

fn ask(requests: &[Request], answers: &[&str]) -> (Vec<Request>, Vec<Vec<u8>>) {
    (
        requests.to_vec(),
        answers.iter().map(|answer| hex::decode(answer).unwrap()).collect(),
    )
}

fn judged(action: &Action, answer: &str) -> Result<Judgement, RelayError> {
    let model = model("polyphase_virtual");
    let requests = read_back(&model, &target("1"), action).unwrap();
    let (requests, frames) = ask(&requests, &[answer]);
    let answers: Vec<Option<&[u8]>> = frames.iter().map(|frame| Some(frame.as_slice())).collect();
    judge(&model, action, &requests, &answers, &manner())
}

fn sealed(pdu: &str) -> String {
    let bytes = hex::decode(pdu).unwrap();
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&bytes);
    format!("{pdu}{:02X}{:02X}", crc & 0xFF, crc >> 8)
}

#[test]
fn the_contact_tells_whether_the_supply_is_off() {
    let requests = read_back(&model("polyphase_virtual"), &target("1"), &Action::Disconnect).unwrap();
    assert_eq!(hex::encode(&requests[0].wire()), sealed("010200000001"));
    let (off, on) = (sealed("01020100"), sealed("01020101"));
    assert!(matches!(
        judged(&Action::Disconnect, &off),
        Ok(Judgement::AsWanted { .. })
    ));
    assert!(matches!(
        judged(&Action::Disconnect, &on),
        Ok(Judgement::Otherwise { .. })
    ));
    assert!(matches!(
        judged(&Action::Reconnect, &on),
        Ok(Judgement::AsWanted { .. })
    ));
    // another unit's answer, and none at all
    assert!(judged(&Action::Disconnect, &sealed("02020100")).is_err());
}

#[test]
fn a_meter_that_says_no_number_is_not_proven() {
    let model = model("polyphase_virtual");
    let requests = identify(&model, &target("1")).unwrap();
    assert_eq!(hex::encode(&requests[0].wire()), sealed("010302000002"));
    let say = |answer: &str| {
        let frame = hex::decode(&sealed(answer)).unwrap();
        identified(&model, &target("1"), &requests, &[Some(&frame)])
    };
    assert!(say("0103040001E240").unwrap().contains("0001E240"));
    assert!(matches!(say("01030400000000"), Err(RelayError::NotIdentified(_))));
    assert!(matches!(say("010304FFFFFFFF"), Err(RelayError::NotIdentified(_))));
    assert!(identified(&model, &target("1"), &requests, &[None]).is_err());
}

#[test]
fn parameters_keep_their_bounds_and_are_read_back() {
    let write = |value: &str| Action::WriteParameter {
        name: "demand_period".into(),
        value: value.into(),
    };
    assert_eq!(frame(write("15"), "1").unwrap(), sealed("01060100000F"));
    for wrong in ["0", "61", "1.5", "fifteen"] {
        assert!(
            check(&model("polyphase_virtual"), &target("1"), &write(wrong)).is_err(),
            "{wrong}"
        );
    }
    let (same, other) = (sealed("010302000F"), sealed("010302000E"));
    assert!(matches!(judged(&write("15"), &same), Ok(Judgement::AsWanted { .. })));
    assert!(matches!(judged(&write("15"), &other), Ok(Judgement::Otherwise { .. })));
}

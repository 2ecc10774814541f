//! Frames in words.

use super::*;
use crate::protocol::explain::Direction;

fn one(text: &str) -> Explained {
    let bytes = hex::decode(text).unwrap();
    let mut frames = explain(&bytes);
    assert_eq!(frames.len(), 1);
    let explained = frames.remove(0).unwrap();
    // every byte has a field, in order
    let mut place = 0;
    for field in &explained.fields {
        assert_eq!(field.start, place, "{}", field.name);
        place = field.end;
    }
    assert_eq!(place, bytes.len());
    explained
}

fn field<'a>(explained: &'a Explained, name: &str) -> &'a str {
    &explained.fields.iter().find(|field| field.name == name).unwrap().value
}

#[test]
fn a_login_is_a_login() {
    let login = one("683200320068C903440400000271000001008816");
    assert_eq!((login.protocol, login.address.as_str()), ("gdw376.1", "4403-00004"));
    assert_eq!(login.direction, Direction::Response);
    assert_eq!(field(&login, "control"), "C9, link test, from the terminal, begins");
    assert_eq!(field(&login, "sequence"), "71, number 1, single frame, to be confirmed");
    assert_eq!(
        (login.items[0].id.as_str(), login.items[0].name.as_str()),
        ("F1 of p0", "login")
    );
}

#[test]
fn values_have_units_and_codes() {
    let answer = one(
        "6856015601688800410100200CE30101010318152208164203003300002600008102000060030034000024000001038806960664078306702370237023200000100000000200EEEEEEEEEEEEEEEEEEEEEEEEEEEEEE042621152205AE16",
    );
    let power = &answer.items[1];
    assert_eq!(
        (power.name.as_str(), power.value.as_deref(), power.unit.as_deref()),
        ("active power", Some("0.0342"), Some("kW"))
    );
    assert_eq!(
        (power.quantity.as_deref(), power.raw.as_deref()),
        (Some("1-0:1.7.0"), Some("420300"))
    );
    let nothing = answer.items.iter().find(|item| item.name == "neutral current").unwrap();
    assert_eq!(nothing.value, None);
    assert_eq!(field(&answer, "time tag"), "frame 4, sent day 22 15:21:26, valid 5 min");
    assert!(answer.notes.is_empty(), "{:?}", answer.notes);
}

#[test]
fn denials_and_forwarded_frames_are_told() {
    let each = one("684A004A00688003440400040061000004000401010103024016");
    assert_eq!(each.items[0].value.as_deref(), Some("denied, error 2"));
    assert_eq!(each.refusal.unwrap().code, 2);
    let refused = one("6832003200688003440400040061000002003216");
    assert_eq!(refused.refusal.unwrap().name, "all denied");
    let relay = one(
        "6812011201684B000234120410E5000001001F6BBC0A1C0068611001301215681C10356A3935343333334D333333336345CC2C1600000000000000000000000000000000053405002205CC16",
    );
    assert_eq!(relay.items[0].name, "frame to the meter, waits 60000 ms, port 31");
    assert_eq!(field(&relay, "password"), "not shown");
}

#[test]
fn what_is_no_frame_is_an_error_at_its_place() {
    let bytes = hex::decode("0000683200320068C903440400000271000001008916").unwrap();
    let error = explain(&bytes).remove(0).unwrap_err();
    assert_eq!((error.offset, error.checksum_ok), (20, Some(false)));
    let lengths = hex::decode("683200360068C9").unwrap();
    assert_eq!(explain(&lengths).remove(0).unwrap_err().offset, 3);
    assert!(explain(&[]).is_empty());
    // items of nobody's knowledge are bytes with a note
    let unknown = one("6842004200688803440400040C6100001000010203045E16");
    assert_eq!(unknown.notes, ["how the data of F5 of p0 are laid out is not known"]);
}

//! Relay frames of DL/T 645-2007 against captures of two real controllers (shared vectors), with the answers of real meters.

use super::super::kit::{manner, model as found, permit as permitted, target};
use super::super::*;
use crate::base::hex;
use crate::device::model::Folder;
use crate::device::parse::parse;
use crate::protocol::Protocol;
use crate::protocol::dlt645::{Address, Control, Password, answer_frame};
use chrono::NaiveDate;

/// Of the captures.
const METER: &str = "151230011061";
const MODEL: &str = "dlt645_2007_single_phase";

fn model() -> MeterModel {
    found(Protocol::Dlt645_2007, MODEL)
}

fn permit(action: Action, address: &str) -> TripPermit {
    permitted(action, Protocol::Dlt645_2007, MODEL, address)
}

fn frame(action: Action, manner: &Manner) -> String {
    let request = encode(permit(action, METER), &model(), manner).unwrap();
    hex::encode(&request.wire())
}

/// An answer of the meter: data with the identifier in front, low byte first.
fn says(address: &str, data: &str) -> Vec<u8> {
    let address = Address::parse(address).unwrap();
    answer_frame(address, Control(0x91), 0, &hex::decode(data).unwrap())
}

#[test]
fn the_frames_are_those_of_real_controllers() {
    assert_eq!(
        frame(Action::Disconnect, &manner()),
        "FEFEFEFE68611001301215681C10356A3935343333334D333333336345CC2C16"
    );
    assert_eq!(
        frame(Action::Arm, &manner()),
        "FEFEFEFE68611001301215681C10356A3935343333334E333333336345CC2D16"
    );
    // N1 of the others (DL/T 645-2007, annex on cost control): 1C, 3A, 3B, 2A, 2B
    for (action, n1) in [
        (Action::Reconnect, 0x1C),
        (Action::KeepPower, 0x3A),
        (Action::ReleaseKeepPower, 0x3B),
        (Action::AlarmOn, 0x2A),
        (Action::AlarmOff, 0x2B),
    ] {
        let bytes = hex::decode(&frame(action, &manner())).unwrap();
        assert_eq!((bytes[12], bytes[22].wrapping_sub(0x33)), (0x1C, n1));
    }
}

#[test]
fn the_deadline_stands_in_the_frame_in_the_meters_time() {
    let mut manner = manner();
    manner.until = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap().and_hms_opt(17, 4, 59);
    let bytes = hex::decode(&frame(Action::Disconnect, &manner)).unwrap();
    let until: Vec<u8> = bytes[24..30].iter().map(|byte| byte.wrapping_sub(0x33)).collect();
    // N3 to N8: ss mm hh DD MM YY
    assert_eq!(hex::encode(&until), "590417211126");
    // a meter whose zone is not known gets no deadline rather than one of another zone
    manner.until = None;
    let bytes = hex::decode(&frame(Action::Disconnect, &manner)).unwrap();
    assert!(bytes[24..30].iter().all(|byte| *byte == 0x33));
}

#[test]
fn only_one_meter_is_ever_switched() {
    for address in ["AAAAAAAAAAAA", "AAAA00000001", "999999999999"] {
        assert!(
            encode(permit(Action::Disconnect, address), &model(), &manner()).is_err(),
            "{address}"
        );
        assert!(identify(&model(), &target(address)).is_err(), "{address}");
    }
    // the permit is for another model
    let stranger = permitted(Action::Disconnect, Protocol::Dlt645_2007, "dlt645_2007_prepaid", METER);
    assert!(matches!(
        encode(stranger, &model(), &manner()),
        Err(RelayError::OtherTarget { .. })
    ));
    // a raw trip to the neighbour, and to all
    for frame in [
        "68989921000000681C1035333333636363634D333333333333335A16",
        "68999999999999681C10356A3935343333334D333333336345CCF916",
    ] {
        let action = Action::Raw { frame: frame.into() };
        assert!(encode(permit(action, METER), &model(), &manner()).is_err(), "{frame}");
    }
}

#[test]
fn the_meters_own_address_is_read_before() {
    let model = model();
    let requests = identify(&model, &target(METER)).unwrap();
    let asked: Vec<String> = requests.iter().map(|request| hex::encode(&request.wire())).collect();
    // 04000401 first, then status word 3
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("110434373337"), "{asked:?}");
    assert!(asked[1].contains("110436383337"), "{asked:?}");

    let word = hex::decode("686110013012156891063638333733336E16").unwrap();
    let own = says(METER, "01040004611001301215");
    let said = identified(&model, &target("1"), &requests, &[Some(&own), Some(&word)]).unwrap();
    assert_eq!(said, "communication address 151230011061");
    // the frame is of the one we asked, what it says is of another: a meter behind a box that rewrites addresses
    let other = says(METER, "01040004621001301215");
    let error = identified(&model, &target("1"), &requests, &[Some(&other), Some(&word)]).unwrap_err();
    assert!(error.to_string().contains("151230011062"), "{error}");
    // it does not know the identifier, and answers under its address
    let said = identified(&model, &target("1"), &requests, &[None, Some(&word)]).unwrap();
    assert_eq!(said, "the meter answers under its address 151230011061");
    // another meter's answer, and none at all
    let stranger = says("151230011062", "030500040000");
    assert!(identified(&model, &target("1"), &requests, &[None, Some(&stranger)]).is_err());
    assert!(identified(&model, &target("1"), &requests, &[None, None]).is_err());
}

fn judged(action: &Action, word: &str) -> Judgement {
    let model = model();
    let requests = read_back(&model, &target(METER), action).unwrap();
    let answer = says(METER, &format!("03050004{word}"));
    let answers: Vec<Option<&[u8]>> = requests.iter().map(|_| Some(answer.as_slice())).collect();
    judge(&model, action, &requests, &answers, &manner()).unwrap()
}

#[test]
fn status_word_3_tells_what_became_of_it() {
    // low byte first: bit 4 the relay is open, bit 6 it is commanded open
    for (action, closed, open, permitted) in [
        (Action::Disconnect, false, true, true),
        (Action::Reconnect, true, false, false),
        (Action::Arm, true, false, true),
    ] {
        for (word, as_wanted) in [("0000", closed), ("5000", open), ("1000", permitted)] {
            let judgement = judged(&action, word);
            assert_eq!(
                matches!(judgement, Judgement::AsWanted { .. }),
                as_wanted,
                "{action:?} {word}: {judgement:?}"
            );
            assert!(!matches!(judgement, Judgement::Moving { .. }));
        }
    }
    // the capture of a closed relay
    let model = model();
    let requests = read_back(&model, &target(METER), &Action::Disconnect).unwrap();
    let captured = hex::decode("686110013012156891063638333733336E16").unwrap();
    let verdict = judge(&model, &Action::Disconnect, &requests, &[Some(&captured)], &manner());
    assert!(matches!(verdict, Ok(Judgement::Otherwise { .. })), "{verdict:?}");
    let silent = judge(&model, &Action::Disconnect, &requests, &[None], &manner());
    assert!(matches!(silent, Err(RelayError::Undecodable(_))), "{silent:?}");
}

#[test]
fn a_relay_that_says_open_and_lets_a_load_through_is_not_believed() {
    let model = model();
    let requests = read_back(&model, &target(METER), &Action::Disconnect).unwrap();
    assert_eq!(requests.len(), 2, "status word 3 and the power");
    let judged = |power: Option<&str>| {
        let (word, power) = (says(METER, "030500045000"), power.map(|power| says(METER, power)));
        let answers = [Some(word.as_slice()), power.as_deref()];
        judge(&model, &Action::Disconnect, &requests, &answers, &manner()).unwrap()
    };
    let open = "relay open (status word 3)".to_owned();
    // 02030000: 0.0000 kW, 1.1784 kW, and one backwards
    assert_eq!(
        judged(Some("00000302000000")),
        Judgement::AsWanted {
            said: format!("{open}, load 0 W")
        }
    );
    assert_eq!(
        judged(Some("00000302841701")),
        Judgement::Otherwise {
            said: format!("{open}, but a load of 1178 W flows")
        }
    );
    assert!(matches!(judged(Some("00000302841781")), Judgement::Otherwise { .. }));
    // a meter that does not tell is judged by its relay alone
    assert_eq!(judged(None), Judgement::AsWanted { said: open });
    // nothing of the kind holds a reconnection up
    assert_eq!(read_back(&model, &target(METER), &Action::Reconnect).unwrap().len(), 1);
}

#[test]
fn a_wrong_password_is_called_one() {
    // 68 … DC 01 04: refused, error word bit 2
    assert_eq!(
        refusal(&model(), 0x04),
        "wrong password or not authorised (error word 04)"
    );
    let text = format!("{:?}", manner());
    assert!(!text.contains("020637") && !text.contains("37"), "{text}");
    assert!(Password::new(2, "nonsense").is_err());
}

#[test]
fn meters_without_a_relay_are_not_switched() {
    for (protocol, name) in [
        (Protocol::Dlt645_2007, "dlt645_2007_three_phase_ct"),
        (Protocol::Dlt645_1997, "dlt645_1997_single_phase"),
    ] {
        let model = found(protocol, name);
        for action in [Action::Disconnect, Action::Reconnect, Action::Arm] {
            let error = check(&model, &target("1"), &action).unwrap_err();
            assert!(matches!(error, RelayError::NotSupported { .. }), "{name}: {error}");
            let permit = permitted(action, protocol, name, METER);
            assert!(encode(permit, &model, &manner()).is_err(), "{name}");
        }
    }
}

fn write(name: &str, value: &str) -> Action {
    Action::WriteParameter {
        name: name.into(),
        value: value.into(),
    }
}

#[test]
fn a_named_parameter_is_written_with_the_password_and_read_back() {
    let model = model();
    let action = write("demand_period", "30");
    let bytes = hex::decode(&frame(action.clone(), &manner())).unwrap();
    let data: Vec<u8> = bytes[14..bytes.len() - 2]
        .iter()
        .map(|byte| byte.wrapping_sub(0x33))
        .collect();
    // 14: DI low byte first, PA P0 P1 P2, C0 to C3, the value as BCD (2007, 5.2.4.4)
    assert_eq!(
        (bytes[12], hex::encode(&data).as_str()),
        (0x14, "03010004023706020100000030")
    );
    let back = read_back(&model, &target(METER), &action).unwrap();
    let judged = |answer: &str| {
        let answer = says(METER, answer);
        judge(&model, &action, &back, &[Some(&answer)], &manner())
    };
    assert_eq!(
        judged("0301000430"),
        Ok(Judgement::AsWanted {
            said: "demand_period = 30 min".into()
        })
    );
    assert!(matches!(judged("0301000415"), Ok(Judgement::Otherwise { .. })));
    assert!(judged("03010004FF").is_err(), "the meter has no value");
    // what a model does not name, what is out of bounds, what has no such digits
    for (action, says) in [
        (write("passwords", "1"), "demand_period, demand_slide"),
        (write("demand_period", "61"), "1 to 60"),
        (write("demand_period", "1.5"), "exactly"),
        (write("demand_period", "many"), "decimal number"),
    ] {
        let error = check(&model, &target("1"), &action).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(encode(permit(action, METER), &model, &manner()).is_err());
    }
    let read = Action::ReadParameter {
        name: "demand_period".into(),
    };
    assert!(frame(read, &manner()).contains("68110436343337"));
}

#[test]
fn passwords_and_the_relay_are_no_parameters() {
    let file = |edition: u16, di: &str| {
        format!(
            "vendor = \"x\"\nmodel = \"y\"\nphases = 1\nedition = {edition}\nsources = [\"x\"]\n\
             point = [{{ quantity = \"active_energy_import\", di = \"{}\" }}]\n\
             parameter = [{{ vendor = \"p\", di = \"{di}\", bytes = 4, unit = \"1\", write = true }}]\n\
             [serial]\nbaud = 1200\nparity = \"even\"\n",
            if edition == 2007 { "00010000" } else { "9010" }
        )
    };
    for (edition, di) in [(2007, "04000C01"), (2007, "04000C0A"), (1997, "C028")] {
        let faults = parse("own.toml".as_ref(), Folder::Dlt645, &file(edition, di)).unwrap_err();
        assert!(
            faults
                .iter()
                .any(|fault| format!("{fault:?}").contains("cannot be written")),
            "{faults:?}"
        );
    }
}

/// A meter of 1997 whose maker shows the relay in a word of its own.
fn of_1997() -> MeterModel {
    let text = "vendor = \"x\"\nmodel = \"y\"\nphases = 1\nedition = 1997\nsources = [\"x\"]\nclock = []\n\
                point = [{ quantity = \"active_energy_import\", di = \"9010\" },\n\
                { quantity = \"relay_state\", di = \"C02F\", bytes = 1, bit_field = true, bit = 0, invert = true }]\n\
                [serial]\nbaud = 1200\nparity = \"even\"\n";
    parse("own_1997.toml".as_ref(), Folder::Dlt645, text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[test]
fn a_meter_of_1997_is_switched_where_its_maker_shows_the_relay() {
    let model = of_1997();
    let address = "000000109288";
    let mut manner = manner();
    manner.security.password = Password::new(0, "000000").unwrap();
    let sent = |action: Action| {
        let permit = permitted(action, Protocol::Dlt645_1997, &model.name, address);
        encode(permit, &model, &manner).map(|request| hex::encode(&request.wire()))
    };
    // the capture of a public controller
    assert_eq!(
        sent(Action::Disconnect).unwrap(),
        "FEFEFEFE688892100000006804085BF33333333388660E16"
    );
    assert_eq!(
        sent(Action::Reconnect).unwrap(),
        "FEFEFEFE688892100000006804085BF33333333399CC8516"
    );
    assert!(matches!(sent(Action::Arm), Err(RelayError::NotSupported { .. })));
    let back = read_back(&model, &target(address), &Action::Disconnect).unwrap();
    assert_eq!(back.len(), 1);
    let word = |byte: &str| {
        let data = hex::decode(&format!("2FC0{byte}")).unwrap();
        answer_frame(Address::parse(address).unwrap(), Control(0x81), 0, &data)
    };
    let judged = |byte: &str| judge(&model, &Action::Disconnect, &back, &[Some(&word(byte))], &manner).unwrap();
    assert!(matches!(judged("01"), Judgement::AsWanted { .. }));
    assert!(matches!(judged("00"), Judgement::Otherwise { .. }));
    // proven by its number, which need not be its address
    let requests = identify(&model, &target(address)).unwrap();
    let number = hex::decode("32C0785634129000").unwrap();
    let number = answer_frame(Address::parse(address).unwrap(), Control(0x81), 0, &number);
    let said = identified(&model, &target("1"), &requests, &[Some(&number), Some(&word("00"))]).unwrap();
    assert_eq!(said, "meter number 009012345678, address 000000109288");
    assert_eq!(refusal(&model, 0x04), "wrong password (error word 04)");
}

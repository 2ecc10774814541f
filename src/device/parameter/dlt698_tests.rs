//! Values of attributes: by hand from the standard's tables, and of every setting that there is.

use super::super::{any_value, catalogue, factory, find};
use super::*;
use crate::base::hex::decode;
use crate::protocol::Protocol;
use crate::protocol::dlt698::{Address, Apdu, GetResult, Piid, Request, SetBody, ValueResult};
use proptest::prelude::*;

fn setting(name: &str) -> (&'static Parameter, Place) {
    let parameter = find(Protocol::Dlt698, name).unwrap();
    match parameter.place {
        AnyPlace::Dlt698(place) => (parameter, place),
        AnyPlace::Gdw376(_) => panic!(),
    }
}

fn text(text: &str) -> ParameterValue {
    ParameterValue::Text(text.to_owned())
}

fn factory_of(oad: Oad) -> Data {
    factory::attributes()
        .into_iter()
        .find(|(known, _)| *known == oad)
        .unwrap()
        .1
}

/// Attribute 3 of 4500 by its table, 58.251.74.101:6434 and nobody.
#[test]
fn the_master_stations_are_read_and_written_as_the_standard_has_them() {
    let answer = "850101 45000300 01 0102 0202 0904 3AFB4A65 121922 0202 0904 00000000 120000 0000";
    let answer: String = answer.chars().filter(char::is_ascii_hexdigit).collect();
    let Ok(Apdu::GetAnswer(answered)) = Apdu::parse(&decode(&answer).unwrap()) else {
        panic!()
    };
    let GetResult::Normal(item) = answered.body else {
        panic!()
    };
    let ValueResult::Data(mut data) = item.result else {
        panic!()
    };
    let (master, at) = setting("master_address");
    let (port, port_at) = setting("master_port");
    assert_eq!(read(master, &at, &data, 0), Ok(text("58.251.74.101")));
    assert_eq!(read(port, &port_at, &data, 0), Ok(ParameterValue::Whole(6_434)));
    write(port, &port_at, &mut data, 0, &ParameterValue::Whole(8_899)).unwrap();
    let request = Request::set(Address::ANYONE, Piid::new(1), at.oad, data).unwrap();
    let Some(Apdu::Set(asked)) = request.apdu() else {
        panic!()
    };
    let SetBody::Normal(_) = &asked.body else { panic!() };
    assert_eq!(
        crate::base::hex::encode(&request.apdu().unwrap().wire()),
        "06010145000300010202020904".to_owned() + "3AFB4A65" + "1222C3" + "0202090400000000120000" + "00"
    );
}

#[test]
fn time_out_and_attempts_share_a_byte() {
    let (attempts, at) = setting("attempts");
    let (within, within_at) = setting("answer_within");
    let mut data = factory_of(at.oad);
    assert_eq!(read(attempts, &at, &data, 0), Ok(ParameterValue::Whole(3)));
    assert_eq!(read(within, &within_at, &data, 0), Ok(ParameterValue::Whole(30)));
    write(attempts, &at, &mut data, 0, &ParameterValue::Whole(1)).unwrap();
    assert_eq!(read(within, &within_at, &data, 0), Ok(ParameterValue::Whole(30)));
    let Data::Structure(fields) = &data else { panic!() };
    assert_eq!(fields[10], Data::UInt8(0b0111_1001));
    assert_eq!(
        write(attempts, &at, &mut data, 0, &ParameterValue::Whole(4)),
        Err(PlaceError::Unfit("attempts"))
    );
}

#[test]
fn tasks_are_found_by_their_number_and_only_read() {
    let (task, at) = setting("task");
    let mut data = factory_of(at.oad);
    assert_eq!(read(task, &at, &data, 1), Ok(text("runs")));
    assert_eq!(read(task, &at, &data, 2), Err(PlaceError::Missing("task")));
    assert_eq!(
        write(task, &at, &mut data, 1, &text("stopped")),
        Err(PlaceError::ReadOnly("task"))
    );
    let (begins, at) = setting("task_begins_at");
    assert_eq!(read(begins, &at, &data, 1), Ok(text("2026-01-01T00:00:00")));
}

#[test]
fn another_type_than_the_standards_is_no_value() {
    let (heartbeat, at) = setting("heartbeat");
    let Data::Structure(mut fields) = factory_of(at.oad) else {
        panic!()
    };
    fields[11] = Data::Visible(Text::new("180"));
    let mut data = Data::Structure(fields);
    assert_eq!(read(heartbeat, &at, &data, 0), Err(PlaceError::NoValue("heartbeat")));
    assert_eq!(
        write(heartbeat, &at, &mut data, 0, &ParameterValue::Whole(60)),
        Err(PlaceError::Unfit("heartbeat"))
    );
    assert_eq!(
        read(heartbeat, &at, &Data::Null, 0),
        Err(PlaceError::Missing("heartbeat"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Of every setting: what is written is read, its type stays, and nothing beside it is touched.
    #[test]
    fn what_is_written_is_read_and_its_neighbours_stay(
        (place, value) in (0..catalogue(Protocol::Dlt698).len())
            .prop_flat_map(|place| (Just(place), any_value(&catalogue(Protocol::Dlt698)[place].spec.kind))),
    ) {
        let parameter = &catalogue(Protocol::Dlt698)[place];
        let AnyPlace::Dlt698(at) = parameter.place else { return Ok(()) };
        if is_clock(&at) || !parameter.spec.writable { return Ok(()) }
        let mut data = factory_of(at.oad);
        let neighbours = |data: &Data| -> Vec<_> {
            catalogue(Protocol::Dlt698)
                .iter()
                .filter(|other| other.spec.name != parameter.spec.name)
                .filter_map(|other| match other.place {
                    AnyPlace::Dlt698(place) if place.oad == at.oad => Some(read(other, &place, data, 0)),
                    _ => None,
                })
                .collect()
        };
        let before = neighbours(&data);
        let had = stepped(&data, at.path, 0).unwrap().type_name();
        write(parameter, &at, &mut data, 0, &value).unwrap();
        prop_assert_eq!(read(parameter, &at, &data, 0), Ok(value));
        prop_assert_eq!(neighbours(&data), before);
        prop_assert_eq!(stepped(&data, at.path, 0).unwrap().type_name(), had);
    }
}

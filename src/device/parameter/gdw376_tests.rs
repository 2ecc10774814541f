//! Values of items: by hand from the standard's tables, and of every setting that there is.

use super::super::{any_value, catalogue, factory, find};
use super::*;
use crate::protocol::Protocol;
use crate::protocol::gdw376::{Address, Ask, Message, Request, find as find_frame};
use proptest::prelude::*;

fn setting(name: &str) -> (&'static Parameter, Place) {
    let parameter = find(Protocol::Gdw376, name).unwrap();
    match parameter.place {
        AnyPlace::Gdw376(place) => (parameter, place),
        AnyPlace::Dlt698(_) => panic!(),
    }
}

fn said(name: &str, data: &[u8]) -> ParameterValue {
    let (parameter, place) = setting(name);
    read(parameter, &place, data).unwrap()
}

fn put(name: &str, data: &mut [u8], value: ParameterValue) {
    let (parameter, place) = setting(name);
    let value = parameter.spec.kind.wanted(&value).unwrap();
    write(parameter, &place, data, &value).unwrap();
}

fn text(text: &str) -> ParameterValue {
    ParameterValue::Text(text.to_owned())
}

/// F1 by its table: 20 ms × 0, 2 min, 30 s and 2 attempts, class 3 to be confirmed, 5 min.
#[test]
fn communication_is_read_and_one_value_of_it_written() {
    let mut data = [0, 2, 0x1E, 0x20, 0x04, 5];
    for (name, value) in [
        ("send_delay", 2),
        ("answer_within", 30),
        ("attempts", 2),
        ("heartbeat", 5),
    ] {
        assert_eq!(said(name, &data), ParameterValue::Whole(value), "{name}");
    }
    assert_eq!(said("confirmed_reports", &data), ParameterValue::Numbers([3].into()));
    put("heartbeat", &mut data, ParameterValue::Whole(10));
    put("attempts", &mut data, ParameterValue::Whole(3));
    put("answer_within", &mut data, ParameterValue::Whole(4_095));
    assert_eq!(data, [0, 2, 0xFF, 0x3F, 0x04, 10]);
    // as a frame: AFN 04 F1 of terminal 4403-00004, as the table has it
    let id = Id::terminal(Fn::F1);
    let ask = Ask {
        id,
        data: data.to_vec(),
    };
    let request = Request::new(Address::new(0x4403, 4), Afn::SET, [ask]).unwrap();
    let wire = request.wire();
    let crate::protocol::gdw376::Found::Frame { frame, .. } = find_frame(&wire) else {
        panic!()
    };
    let units = Message::of(&frame).unwrap().units(Edition::default()).unwrap();
    assert_eq!((units[0].id, units[0].data.as_slice()), (id, data.as_slice()));
}

#[test]
fn the_master_station_is_an_address_a_port_and_an_access_point() {
    // 58.251.74.101:6434, nobody, CMNET
    let mut data = vec![58, 251, 74, 101, 0x22, 0x19, 0, 0, 0, 0, 0, 0];
    data.extend(b"CMNET\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(said("master_address", &data), text("58.251.74.101"));
    assert_eq!(said("master_port", &data), ParameterValue::Whole(6_434));
    assert_eq!(said("apn", &data), text("CMNET"));
    put("apn", &mut data, text("a.private.net"));
    assert_eq!(&data[12..], b"a.private.net\0\0\0");
    assert_eq!(said("master_address", &data), text("58.251.74.101"));
}

#[test]
fn modes_events_limits_and_tasks_mean_what_their_tables_say() {
    // TCP, client, always online
    let mut mode = [0x11, 60, 0, 3, 10, 0xFF, 0xFF, 0xFF];
    assert_eq!(said("transport", &mode), text("tcp"));
    assert_eq!(said("work_mode", &mode), text("client"));
    assert_eq!(said("online_mode", &mode), text("always"));
    put("transport", &mut mode, text("udp"));
    assert_eq!(mode[0], 0x91);
    mode[0] = 0x30;
    assert_eq!(said("work_mode", &mode), text("code 3"));

    let mut events = [0u8; 16];
    put("events_kept", &mut events, ParameterValue::Numbers([1, 14, 64].into()));
    assert_eq!(events[..8], [0x01, 0x20, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(said("events_important", &events), ParameterValue::Numbers([].into()));

    let limits = factory::items(1);
    let (_, mut limits) = limits.into_iter().find(|(id, _)| id.item.number() == 26).unwrap();
    assert_eq!(said("voltage_upper_limit", &limits), text("235.0"));
    assert_eq!(said("overcurrent_limit", &limits), text("70.000"));
    put("voltage_upper_limit", &mut limits, text("242"));
    assert_eq!(limits[..2], [0x20, 0x24]);

    let tasks = factory::items(0);
    let (_, task) = tasks.into_iter().find(|(id, _)| id.item.number() == 65).unwrap();
    assert_eq!(said("class1_task_period", &task), ParameterValue::Whole(1));
    assert_eq!(said("class1_task_period_unit", &task), text("hours"));
    assert_eq!(said("class1_task_first_at", &task), text("2026-01-01T00:00:00"));
    assert_eq!(said("class1_task", &[0xAA]), text("stopped"));
}

#[test]
fn what_is_cut_off_or_no_value_is_none() {
    let (heartbeat, place) = setting("heartbeat");
    assert_eq!(read(heartbeat, &place, &[0, 2]), Err(PlaceError::Missing("heartbeat")));
    let (limit, place) = setting("voltage_upper_limit");
    let mut data = factory::items(1)
        .into_iter()
        .find(|(id, _)| id.item.number() == 26)
        .unwrap()
        .1;
    data[..2].copy_from_slice(&[0xEE, 0xEE]);
    assert_eq!(
        read(limit, &place, &data),
        Err(PlaceError::NoValue("voltage_upper_limit"))
    );
    let (clock, place) = setting("clock");
    let mut shown = [0x49, 0x48, 0x11, 0x15, 0x52, 0x15];
    assert_eq!(read(clock, &place, &shown), Ok(text("2015-12-15T11:48:49")));
    assert!(write(clock, &place, &mut shown, &text("now")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Of every setting: what is written over whatever stood there is read, and nothing beside it is touched.
    #[test]
    fn what_is_written_is_read_and_its_neighbours_stay(
        noise in prop::collection::vec(any::<u8>(), 96),
        (place, value) in (0..catalogue(Protocol::Gdw376).len())
            .prop_flat_map(|place| (Just(place), any_value(&catalogue(Protocol::Gdw376)[place].spec.kind))),
    ) {
        let parameter = &catalogue(Protocol::Gdw376)[place];
        let AnyPlace::Gdw376(at @ Place::Field { item, .. }) = parameter.place else { return Ok(()) };
        let layout = item_layout(Afn::QUERY, Fn::new(item).unwrap(), Way::Up, Edition::default()).unwrap();
        let mut data = noise[..layout.size(0, 0)].to_vec();
        if matches!(item, 65 | 66) {
            // no list behind it
            *data.last_mut().unwrap() = 0;
        }
        let neighbours = |data: &[u8]| -> Vec<_> {
            catalogue(Protocol::Gdw376)
                .iter()
                .filter(|other| other.spec.name != parameter.spec.name)
                .filter_map(|other| match other.place {
                    AnyPlace::Gdw376(place @ Place::Field { item: theirs, .. }) if theirs == item => {
                        Some((other.spec.name, read(other, &place, data)))
                    }
                    _ => None,
                })
                .collect()
        };
        let before = neighbours(&data);
        write(parameter, &at, &mut data, &value).unwrap();
        prop_assert_eq!(read(parameter, &at, &data), Ok(value));
        prop_assert_eq!(neighbours(&data), before);
    }

    /// Whatever a terminal says is a value or none, and never a panic.
    #[test]
    fn any_bytes_are_read(noise in prop::collection::vec(any::<u8>(), 0..120)) {
        for parameter in catalogue(Protocol::Gdw376) {
            if let AnyPlace::Gdw376(place) = parameter.place {
                let _value = read(parameter, &place, &noise);
            }
        }
    }
}

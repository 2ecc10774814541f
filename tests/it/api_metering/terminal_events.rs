//! `/dtus/{id}/events`: what concentrators recorded.

use super::House;
use polyphase::base::ids::DtuId;
use polyphase::port::terminal_events::{TerminalEvent, TerminalEventLog};
use polyphase::protocol::dlt698::event::{self, Cell, Event};
use polyphase::protocol::dlt698::{Address, Data, Oad, Tsa};
use polyphase::store::terminal_events::PgTerminalEvents;
use serde_json::json;

#[tokio::test]
async fn the_events_of_a_concentrator_are_listed_the_newest_first() {
    let house = House::new().await;
    let dtu = house.dtu("4403-00001").await;
    let path = format!("/dtus/{dtu}/events");
    house.get("/dtus/999999/events").await.expect(404);
    assert!(house.walk(&path, 10).await.is_empty());
    let log = PgTerminalEvents::new(house.api.db.database());
    for number in 0..5 {
        let event = TerminalEvent {
            important: number > 0,
            code: 14 + u16::from(number),
            happened_at: (number > 0).then(|| "2026-03-01T11:45:00".parse().unwrap()),
            data: vec![0x45, 0x11, 0x01, 0x03, 0x26, number],
        };
        let dtu = DtuId(i32::try_from(dtu).unwrap());
        assert_eq!(log.keep(dtu, &[event], house.api.now()).await.unwrap(), 1);
    }
    let items = house.walk(&path, 2).await;
    let codes: Vec<i64> = items.iter().map(|item| item["code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [18, 17, 16, 15, 14]);
    let (newest, oldest) = (&items[0], &items[4]);
    assert_eq!(
        newest,
        &json!({"id": newest["id"], "code": 18, "name": "capacitors locked", "important": true,
                "happened_at": "2026-03-01T11:45:00", "found_at": "2026-03-01T12:00:00Z", "data": "451101032604",
                "detail": {"point": null, "device": null, "object": null, "number": null, "began": null, "ended_at": null,
                           "values": []}})
    );
    assert_eq!(
        (&oldest["important"], &oldest["happened_at"]),
        (&json!(false), &json!(null))
    );
    house.get(&format!("{path}?limit=0")).await.expect(400);
}

#[tokio::test]
async fn what_is_understood_of_a_record_stands_beside_it() {
    let house = House::new().await;
    let dtu = house.dtu("112233445566").await;
    let log = PgTerminalEvents::new(house.api.db.database());
    let device = Tsa::of(&Address::parse("202611220001").unwrap());
    let cell = |oad, data| Cell { oad, data };
    let cells = vec![
        cell(event::NUMBER, Data::UInt32(7)),
        cell(event::SOURCE, Data::Tsa(device)),
        cell(Oad::element(0x2000, 2, 1), Data::UInt16(1873)),
    ];
    let oad = Oad::new(0x3001, 7);
    let records = [
        // of a concentrator: point 300, voltage of phase B above its limit; phase C has no value
        (
            24,
            vec![
                0x45, 0x11, 0x01, 0x03, 0x26, 0x2C, 0x81, 0x42, 0x15, 0x23, 0x48, 0x26, 0xEE, 0xEE,
            ],
        ),
        (0x3001, Event { oad, cells }.bytes()),
        // longer than an index takes
        (0x3105, vec![0xA5; 8000]),
    ];
    for (code, data) in records {
        let event = TerminalEvent {
            important: true,
            code,
            happened_at: None,
            data,
        };
        let dtu = DtuId(i32::try_from(dtu).unwrap());
        // and the same again is the same
        for fresh in [1, 0] {
            assert_eq!(
                log.keep(dtu, std::slice::from_ref(&event), house.api.now())
                    .await
                    .unwrap(),
                fresh
            );
        }
    }
    let items = house.walk(&format!("/dtus/{dtu}/events"), 10).await;
    let shown: Vec<_> = items
        .iter()
        .map(|item| (&item["code"], &item["name"], &item["detail"]))
        .collect();
    let nothing = json!({"point": null, "device": null, "object": null, "number": null, "began": null, "ended_at": null,
                         "values": []});
    assert_eq!(
        shown[0],
        (&json!(0x3105), &json!("meter's clock too far off"), &nothing)
    );
    let of_meter = json!({"point": null, "device": "202611220001", "object": "30010700", "number": 7, "began": null,
                          "ended_at": null,
                          "values": [{"name": "voltage, phase A", "value": "187.3", "unit": "V"}]});
    assert_eq!(shown[1], (&json!(0x3001), &json!("undervoltage"), &of_meter));
    let of_point = json!({"point": 300, "device": null, "object": null, "number": null, "began": true, "ended_at": null,
                          "values": [{"name": "flags", "value": "42", "unit": ""},
                                     {"name": "voltage, phase A", "value": "231.5", "unit": "V"},
                                     {"name": "voltage, phase B", "value": "264.8", "unit": "V"}]});
    assert_eq!(shown[2], (&json!(24), &json!("voltage outside its limits"), &of_point));
}

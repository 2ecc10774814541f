//! `/dtus/{id}/events`: what concentrators recorded.

use super::House;
use polyphase::base::ids::DtuId;
use polyphase::port::terminal_events::{TerminalEvent, TerminalEventLog};
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
            code: 14 + number,
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
                "happened_at": "2026-03-01T11:45:00", "found_at": "2026-03-01T12:00:00Z", "data": "451101032604"})
    );
    assert_eq!(
        (&oldest["important"], &oldest["happened_at"]),
        (&json!(false), &json!(null))
    );
    house.get(&format!("{path}?limit=0")).await.expect(400);
}

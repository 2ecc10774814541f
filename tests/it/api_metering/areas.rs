//! Line loss of groups, and the mesh of concentrators.

use super::{House, id};
use polyphase::domain::archive::ArchiveChange;
use polyphase::port::scan::{ArchivePlace, FoundMeter, Route, WriteOutcome, WrittenPlace};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// Rows of the roll-up of a point: whole days from the 26th of February on; `None` is a day that is not covered whole.
async fn days(house: &House, point: &Json, quantity: &str, values: &[Option<&str>]) {
    for (day, value) in values.iter().enumerate() {
        let account = house.ann.account.expect("an account").0;
        house
            .api
            .db
            .sql(&format!(
                "INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
                 VALUES ('2026-02-26'::timestamptz + interval '1 day' * {day}, '2026-02-27'::timestamptz + interval '1 day' * {day},
                         {point}, {account}, {}, false, {}, '{quantity}', {})",
                if day == 1 { 1 } else { 0 },
                value.is_none(),
                value.unwrap_or("0.5")
            ))
            .await;
    }
}

async fn group(house: &House, body: Json) -> i64 {
    id(&house.post("/groups", body).await.expect(201).json())
}

/// A meter that has stood at its point for long.
async fn stands(house: &House, dtu: i64, address: u8, group: i64) -> Json {
    let mut body = House::meter_body(dtu, address);
    body["group_id"] = json!(group);
    let meter = house.post("/meters", body).await.expect(201).json();
    let point = meter["point_id"].clone();
    let sql = format!("UPDATE installation SET valid_from = '2025-01-01' WHERE point_id = {point}");
    house.api.db.sql(&sql).await;
    point
}

#[tokio::test]
async fn line_loss_is_what_the_sum_meter_counted_and_the_sub_meters_did_not() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let area = group(&house, json!({ "name": "transformer 7" })).await;
    let hall = group(&house, json!({ "name": "hall", "parent_id": area })).await;
    let main = stands(&house, dtu, 1, area).await;
    let hall_main = stands(&house, dtu, 2, hall).await;
    let first = stands(&house, dtu, 3, area).await;
    let second = stands(&house, dtu, 4, hall).await;
    let water = stands(&house, dtu, 5, hall).await;
    let energy = "active_energy_import";
    days(&house, &main, energy, &[Some("100"), Some("200.5"), Some("90")]).await;
    days(&house, &hall_main, energy, &[Some("60"), Some("110"), Some("50")]).await;
    days(&house, &first, energy, &[Some("40"), Some("80"), Some("39")]).await;
    days(&house, &second, energy, &[Some("56.5"), Some("105"), None]).await;
    days(&house, &water, "volume_total", &[Some("3"), Some("4"), Some("5")]).await;
    let path = format!("/groups/{area}/line-loss?from=2026-02-26T00:00:00Z&to=2026-03-01T12:00:00Z");

    // without a sum meter nothing is supplied
    let none = house.get(&path).await.expect(200).json();
    assert_eq!(
        (&none["sum_point_id"], &none["items"][0]["supplied"]),
        (&Json::Null, &Json::Null)
    );
    for (of, sum) in [(area, &main), (hall, &hall_main)] {
        house
            .patch(&format!("/groups/{of}"), json!({ "sum_point_id": sum }))
            .await
            .expect(200);
    }
    let told = house.get(&path).await.expect(200).json();
    assert_eq!((&told["sum_point_id"], &told["unit"]), (&main, &json!("kWh")));
    // the hall's own sum meter and the water meter are no sub-meters
    let items = told["items"].as_array().unwrap();
    assert_eq!(items.len(), 4);
    assert_eq!(
        items[0],
        json!({"from": "2026-02-26T00:00:00Z", "to": "2026-02-27T00:00:00Z", "supplied": "100", "sold": "96.5", "loss": "3.5",
               "loss_percent": "3.5", "sub_meters": 2, "covered": 2, "complete": true, "quality": "measured"})
    );
    let figures = |item: &Json| {
        let text = |name: &str| item[name].as_str().map(str::to_owned);
        (
            text("supplied"),
            text("sold"),
            text("loss_percent"),
            item["covered"].as_i64(),
            item["complete"] == true,
        )
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        figures(&items[1]),
        (some("200.5"), some("185"), some("7.73"), Some(2), true)
    );
    assert_eq!(items[1]["quality"], "estimated");
    // one sub-meter does not cover the day: its share is within the loss, and that is said
    assert_eq!(
        figures(&items[2]),
        (some("90"), some("39"), some("56.67"), Some(1), false)
    );
    // the day that is not over
    assert_eq!(figures(&items[3]), (None, None, None, Some(0), false));

    let hall_alone = house
        .get(&path.replace(&format!("/groups/{area}/"), &format!("/groups/{hall}/")))
        .await
        .expect(200)
        .json();
    assert_eq!(
        figures(&hall_alone["items"][0]),
        (some("60"), some("56.5"), some("5.83"), Some(1), true)
    );
    // a month is whole when all its days are
    let month = house.get(&format!("{path}&per=month")).await.expect(200).json();
    assert_eq!(
        (month["items"].as_array().unwrap().len(), &month["items"][0]["supplied"]),
        (2, &Json::Null)
    );
    // hours have roll-ups of their own
    let account = house.ann.account.expect("an account").0;
    for (point, value) in [(&main, "5"), (&first, "2"), (&second, "2.5")] {
        house
            .api
            .db
            .sql(&format!(
                "INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
                 VALUES ('2026-03-01T10:00Z', '2026-03-01T11:00Z', {point}, {account}, 0, false, false, '{energy}', {value})"
            ))
            .await;
    }
    let hours = house
        .get(&format!(
            "/groups/{area}/line-loss?per=hour&from=2026-03-01T10:00:00Z&to=2026-03-01T11:00:00Z"
        ))
        .await
        .expect(200)
        .json();
    assert_eq!(
        figures(&hours["items"][0]),
        (some("5"), some("4.5"), some("10"), Some(2), true)
    );

    for wrong in ["&quantity=voltage_l1", "&quantity=x", "&per=year", "&x=1"] {
        house.get(&format!("{path}{wrong}")).await.expect(400);
    }
    house.get("/groups/999999/line-loss").await.expect(404);
    house
        .patch(&format!("/groups/{area}"), json!({ "sum_point_id": 999_999 }))
        .await
        .expect(422);
    let cleared = house
        .patch(&format!("/groups/{area}"), json!({ "sum_point_id": null }))
        .await
        .expect(200)
        .json();
    assert_eq!(cleared["sum_point_id"], Json::Null);
}

fn found(point: u16, relays: Option<u8>) -> FoundMeter {
    let route = relays.map(|relays| Route {
        relays: Some(relays),
        phase_bits: Some(2),
        signal_bits: Some(0xC0),
        failures: Some(1),
        last_success: "2026-03-01T11:45:00".parse().ok(),
    });
    FoundMeter {
        protocol: "gdw376.1".to_owned(),
        address: point.to_string(),
        model: Some("gdw376_single_phase".to_owned()),
        archive: Some(ArchivePlace {
            place: point + 10,
            meter_address: format!("{point:012}"),
            meter_protocol: "DL/T 645-2007".to_owned(),
            port: 31,
            collector: String::new(),
            tariffs: 4,
            route,
        }),
        ..FoundMeter::default()
    }
}

fn online(house: &House, dtu: i64) {
    let live = polyphase::port::fleet::DtuLive {
        online: true,
        since: Some(house.api.now()),
        session: None,
        peer: None,
        stats: None,
        clone_suspected: false,
        banned_until: None,
    };
    let dtu = polyphase::base::ids::DtuId(i32::try_from(dtu).unwrap());
    house.api.fleet.set_live(dtu, live);
}

/// A scan to its end.
async fn ended(house: &House, scan: &Json) -> Json {
    let path = format!("/scans/{}", scan["id"].as_str().unwrap());
    loop {
        let view = house.get(&path).await.expect(200).json();
        if view["state"] != "running" {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Scans a DTU to the end.
async fn scan(house: &House, dtu: i64) -> Json {
    let scan = house
        .post(&format!("/dtus/{dtu}/scan"), json!({}))
        .await
        .expect(202)
        .json();
    ended(house, &scan).await
}

/// The mesh, once it has so many places: it is stored behind the end of the scan.
async fn mesh(house: &House, dtu: i64, places: usize) -> Vec<Json> {
    let path = format!("/dtus/{dtu}/mesh");
    for _ in 0..12_000 {
        let items = house.walk(&path, 2).await;
        if items.len() == places {
            return items;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no mesh of {places} places");
}

#[tokio::test]
async fn the_mesh_of_a_concentrator_outlives_the_scan_that_read_it() {
    let house = House::new().await;
    let dtu = house.dtu("4403-00001").await;
    house.get("/dtus/999999/mesh").await.expect(404);
    assert!(mesh(&house, dtu, 0).await.is_empty());
    online(&house, dtu);
    let body = json!({"dtu_id": dtu, "protocol": "gdw376.1", "address": "2", "model": "gdw376_single_phase", "name": "flat 2"});
    let meter = house.post("/meters", body).await.expect(201).json();
    house
        .api
        .fleet
        .set_found(vec![found(1, Some(0)), found(2, Some(3)), found(300, None)]);
    scan(&house, dtu).await;
    let items = mesh(&house, dtu, 3).await;
    assert_eq!(
        items[1],
        json!({"point": 2, "meter_id": id(&meter), "read_at": "2026-03-01T12:00:00Z", "place": 12, "meter_address": "000000000002",
               "meter_protocol": "DL/T 645-2007", "port": 31, "collector": "", "tariffs": 4,
               "route": {"relays": 3, "phase_bits": 2, "signal_bits": 192, "failures": 1, "last_success": "2026-03-01T11:45:00"}})
    );
    assert_eq!((&items[0]["meter_id"], &items[2]["route"]), (&Json::Null, &Json::Null));

    // read to its end, what is not in it is gone; what stays is as it is said now
    house.api.clock.advance(Duration::from_secs(3600));
    house.api.fleet.set_found(vec![found(2, Some(4)), found(300, Some(1))]);
    scan(&house, dtu).await;
    let items = mesh(&house, dtu, 2).await;
    assert_eq!(
        (
            &items[0]["route"]["relays"],
            &items[0]["read_at"],
            &items[1]["route"]["relays"]
        ),
        (&json!(4), &json!("2026-03-01T13:00:00Z"), &json!(1))
    );
    // a line without a concentrator leaves it alone
    house.api.fleet.set_found(vec![FoundMeter {
        protocol: "modbus-rtu".to_owned(),
        address: "9".to_owned(),
        ..FoundMeter::default()
    }]);
    scan(&house, dtu).await;
    assert_eq!(mesh(&house, dtu, 2).await, items);
}

#[tokio::test]
async fn an_archive_is_compared_and_what_differs_is_written_and_audited() {
    let house = House::new().await;
    let dtu = house.dtu("4403-00001").await;
    let path = format!("/dtus/{dtu}/archive");
    let never = house.get(&path).await.expect(200).json();
    assert_eq!(
        never,
        json!({"read_at": null, "same": 0, "only_there": [], "only_here": [], "different": []})
    );
    house.post(&path, json!({})).await.expect(409);
    house.get("/dtus/999999/archive").await.expect(404);
    online(&house, dtu);
    house
        .api
        .fleet
        .set_found(vec![found(1, None), found(2, None), found(3, None)]);
    let view = scan(&house, dtu).await;
    mesh(&house, dtu, 3).await;
    // what is adopted is wanted
    let adopt = json!({"meters": [{"protocol": "gdw376.1", "address": "1"}, {"protocol": "gdw376.1", "address": "2"}]});
    house
        .post(&format!("/scans/{}/meters", view["id"].as_str().unwrap()), adopt)
        .await
        .expect(201);
    let adopted = house.get(&path).await.expect(200).json();
    assert_eq!(
        (
            &adopted["same"],
            &adopted["only_there"][0]["point"],
            adopted["only_there"].as_array().unwrap().len()
        ),
        (&json!(2), &json!(3), 1)
    );

    let mine =
        |point: u16, place: u16, address: &str| json!({"point": point, "place": place, "meter_address": address});
    let wanted =
        json!({"meters": [mine(1, 11, "000000000001"), mine(2, 12, "00000000009a"), mine(5, 15, "000000000005")]});
    let compared = house
        .api
        .call(&house.ann, "PUT", &path, Some(wanted))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&compared["same"], &compared["read_at"]),
        (&json!(1), &json!("2026-03-01T12:00:00Z"))
    );
    assert_eq!(compared["only_here"][0]["point"], 5);
    assert_eq!(compared["only_there"][0]["point"], 3);
    assert_eq!(
        (
            &compared["different"][0]["fields"],
            &compared["different"][0]["here"]["meter_address"]
        ),
        (&json!(["meter_address"]), &json!("00000000009A"))
    );
    for wrong in [
        json!({"meters": [mine(0, 1, "000000000001")]}),
        json!({"meters": [mine(1, 1, "1")]}),
        json!({"meters": [mine(1, 1, "000000000001"), mine(1, 2, "000000000002")]}),
        json!({"meters": [mine(1, 1, "000000000001"), mine(2, 1, "000000000002")]}),
    ] {
        house.api.call(&house.ann, "PUT", &path, Some(wrong)).await.expect(422);
    }

    // only what is named, and nothing is taken out unless it is said
    house.api.fleet.take_plans();
    house.post(&path, json!({"measuring_points": [1, 3]})).await.expect(409);
    house.api.fleet.set_written(vec![
        WrittenPlace {
            place: 12,
            point: 2,
            removed: false,
            outcome: WriteOutcome::Denied,
            code: Some(1),
        },
        WrittenPlace {
            place: 15,
            point: 5,
            removed: false,
            outcome: WriteOutcome::Written,
            code: None,
        },
    ]);
    let begun = house.post(&path, json!({"remove": true})).await.expect(202).json();
    let view = ended(&house, &begun).await;
    assert_eq!(
        view["written"][0],
        json!({"place": 12, "point": 2, "removed": false, "outcome": "denied", "code": 1})
    );
    let plans = house.api.fleet.take_plans();
    let changed: Vec<(u16, u16, bool)> = plans[0]
        .writes
        .iter()
        .map(|change| {
            (
                change.place(),
                change.point(),
                matches!(change, ArchiveChange::Remove { .. }),
            )
        })
        .collect();
    assert_eq!(
        (plans.len(), changed),
        (1, vec![(13, 3, true), (12, 2, false), (15, 5, false)])
    );
    // it is in the audit what was about to be written, and what became of it
    let count = "SELECT count(*) FROM audit WHERE action IN ('archive.set', 'archive.write', 'archive.written')";
    for _ in 0..12_000 {
        let audited: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut house.api.db.superuser().await)
            .await
            .unwrap();
        if audited == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let details: Vec<Json> =
        sqlx::query_scalar("SELECT detail->'change' FROM audit WHERE action LIKE 'archive.writ%' ORDER BY id")
            .fetch_all(&mut house.api.db.superuser().await)
            .await
            .unwrap();
    assert_eq!(details.len(), 2);
    assert_eq!(
        details[0]["changes"][0],
        json!({"do": "remove", "place": 13, "point": 3})
    );
    assert_eq!(
        (&details[1]["written"], &details[1]["other"][0]["outcome"]),
        (&json!(1), &json!("denied"))
    );
}

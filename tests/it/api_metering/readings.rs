//! Readings, series, consumption, on-demand reads.

use super::{House, at, energy, id, item, meter_id};
use chrono::TimeDelta;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Source, Value};
use polyphase::domain::slot::MissReason;
use polyphase::port::fleet::ReadFailure;
use polyphase::port::ledger::{Hours, PollRecord, ReadingStore};
use polyphase::store::ingest::{PgReadingStore, Retention};
use serde_json::{Value as Json, json};

#[tokio::test]
async fn readings_look_as_the_contract_says_and_page() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let now = house.api.now();
    let vendor = Item {
        measurand: Measurand::Vendor("dial_position".into()),
        value: Value::Decimal("3".parse().unwrap()),
        quality: Quality::Suspect,
    };
    let scheduled = vec![
        energy("1234.50"),
        item(Quantity::VoltageL1, Value::F32(230.1)),
        item(Quantity::RelayState, Value::Decimal(1.into())),
        vendor,
    ];
    let mut on_demand = house.reading(
        &meter,
        now - TimeDelta::minutes(1),
        Source::OnDemand,
        vec![energy("1234.75"), item(Quantity::Frequency, Value::F32(49.98))],
    );
    on_demand.meter_time = Some(now - TimeDelta::minutes(3));
    house
        .store(&[
            house.read(&meter, now - TimeDelta::minutes(30), scheduled.clone()),
            house.read(&meter, now - TimeDelta::minutes(15), vec![energy("1234.60")]),
            PollRecord {
                reading: Some(on_demand),
                ..PollRecord::default()
            },
        ])
        .await;
    let path = format!("/meters/{}/readings", id(&meter));
    let all = house.items(&path).await;
    assert_eq!(all.len(), 7);
    let first = all
        .iter()
        .find(|item| item["quantity"] == "active_energy_import")
        .unwrap();
    assert_eq!(
        *first,
        json!({"quantity": "active_energy_import", "obis": "1-0:1.8.0*255", "value": "1234.50", "unit": "kWh",
               "quality": "measured", "due_at": "2026-03-01T11:30:00Z", "read_at": "2026-03-01T11:30:02Z",
               "meter_time": null, "source": "scheduled", "frame_ids": [700, 701]})
    );
    let dial = all.iter().find(|item| item["quantity"] == "dial_position").unwrap();
    assert_eq!(
        (&dial["obis"], &dial["unit"], &dial["quality"], &dial["value"]),
        (&Json::Null, &Json::Null, &json!("suspect"), &json!("3"))
    );
    assert!(
        all.iter()
            .any(|item| item["quantity"] == "voltage_l1" && item["value"] == "230.1" && item["unit"] == "V")
    );
    let asked: Vec<&Json> = all.iter().filter(|item| item["source"] == "on_demand").collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (&asked[0]["due_at"], &asked[0]["meter_time"]),
        (&Json::Null, &json!("2026-03-01T11:57:00Z"))
    );

    for limit in [1, 2, 3, 5, 7] {
        assert_eq!(house.walk(&path, limit).await, all, "pages of {limit}");
    }
    let only = house.walk(&format!("{path}?quantity=dial_position,frequency"), 1).await;
    assert_eq!(
        only.iter()
            .map(|item| item["quantity"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["dial_position", "frequency"]
    );
    let energies = house
        .items(&format!(
            "{path}?quantity=active_energy_import&from=2026-03-01T11:45:00Z"
        ))
        .await;
    assert_eq!(energies.len(), 2);
    assert_eq!(house.items(&format!("{path}?to=2026-03-01T11:30:00Z")).await.len(), 0);
    for wrong in [
        "?from=x",
        "?quantity=a%20b",
        "?from=2026-03-01T12:00:00Z&to=2026-03-01T12:00:00Z",
        "?limit=1001",
    ] {
        house.get(&format!("{path}{wrong}")).await.expect(400);
    }

    let latest = house.items(&format!("/meters/{}/latest", id(&meter))).await;
    let value = |name: &str| {
        latest
            .iter()
            .find(|item| item["quantity"] == name)
            .map(|item| item["value"].clone())
    };
    assert_eq!(value("active_energy_import"), Some(json!("1234.75")));
    assert_eq!(
        (value("relay_state"), value("voltage_l1"), value("frequency")),
        (Some(json!("1")), Some(json!("230.1")), Some(json!("49.98")))
    );
    assert_eq!(latest.len(), 5);
    let detail = house.get(&format!("/meters/{}", id(&meter))).await.expect(200).json();
    assert_eq!((&detail["latest"], &detail["state"]), (&json!(latest), &json!("ok")));
}

#[tokio::test]
async fn a_series_tells_its_gaps() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let begin = at("2026-03-01T10:00:00Z");
    let minute = TimeDelta::minutes(1);
    let volts = |n: i32, value: f32| {
        house.read(
            &meter,
            begin + minute * n,
            vec![item(Quantity::VoltageL1, Value::F32(value))],
        )
    };
    house.store(&[volts(0, 230.1), volts(1, 231.3), volts(4, 229.0)]).await;
    let span = "from=2026-03-01T10:00:00Z&to=2026-03-01T10:06:00Z&points=3&quantity=voltage_l1";
    for subject in [
        format!("meter_id={}", id(&meter)),
        format!("point_id={}", meter["point_id"]),
    ] {
        let series = house.get(&format!("/series?{subject}&{span}")).await.expect(200).json();
        let installed = subject.starts_with("meter");
        assert_eq!((&series["bucket_s"], &series["unit"]), (&json!(120), &json!("V")));
        let items = series["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(
            items[1],
            json!({"at": "2026-03-01T10:02:00Z", "count": 0, "min": null, "max": null, "mean": null})
        );
        if installed {
            assert_eq!(
                items[0],
                json!({"at": "2026-03-01T10:00:00Z", "count": 2, "min": "230.1", "max": "231.3", "mean": "230.7"})
            );
            assert_eq!(items[2]["count"], 1);
        } else {
            // the meter was put in place at noon: what it read before is not the point's
            assert_eq!((&items[0]["count"], &items[2]["count"]), (&json!(0), &json!(0)));
        }
    }
    for wrong in [
        "quantity=voltage_l1",
        "meter_id=1&point_id=1&quantity=voltage_l1",
        "meter_id=1&quantity=voltage_l1&points=5001",
    ] {
        house.get(&format!("/series?{wrong}")).await.expect(400);
    }
}

/// A register that grows by 0.25 every quarter of an hour from the meter's making on.
async fn steady(house: &House, until: &str) -> Json {
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let begin = house.api.now();
    let until = at(until);
    house.api.clock.step_to(until);
    let mut records = Vec::new();
    let mut due = begin;
    let mut n = 0u32;
    while due <= until {
        // read late by a changing number of seconds, so that edges lie between readings
        let mut record = house.read(&meter, due, vec![energy(&format!("{}.{:02}", n / 4, n % 4 * 25))]);
        record.reading.as_mut().unwrap().meter_time = Some(due);
        records.push(record);
        due += TimeDelta::minutes(15);
        n += 1;
    }
    for batch in records.chunks(1000) {
        house.store(batch).await;
    }
    meter
}

#[tokio::test]
async fn a_day_of_23_hours_has_the_consumption_of_23_hours() {
    let house = House::new().await;
    house.api.clock.step_to(at("2026-03-27T12:00:00Z"));
    let meter = steady(&house, "2026-03-31T12:00:00Z").await;
    let base = format!("/points/{}/consumption", meter["point_id"]);
    let span = "time_zone=Europe/Berlin&from=2026-03-28T12:00:00Z&to=2026-03-30T12:00:00Z";
    let days = house.items(&format!("{base}?per=day&{span}")).await;
    let shown: Vec<(&str, &str, &str)> = days
        .iter()
        .map(|day| {
            (
                day["from"].as_str().unwrap(),
                day["to"].as_str().unwrap(),
                day["value"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "24"),
            ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "23"),
            ("2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z", "24"),
        ]
    );
    assert_eq!(
        (&days[1]["quality"], &days[1]["complete"], &days[1]["unit"]),
        (&json!("measured"), &json!(true), &json!("kWh"))
    );
    let day = "time_zone=Europe/Berlin&from=2026-03-28T23:00:00Z&to=2026-03-29T22:00:00Z";
    let hours = house.items(&format!("{base}?per=hour&{day}")).await;
    assert_eq!(hours.len(), 23);
    assert!(hours.iter().all(|hour| hour["value"] == "1"), "{hours:?}");
    // the meter alone, and the month so far
    let own = house
        .items(&format!(
            "/meters/{}/consumption?per=month&time_zone=Europe/Berlin",
            id(&meter)
        ))
        .await;
    let month = own.last().unwrap();
    assert_eq!(
        (&month["complete"], &month["from"]),
        (&json!(false), &json!("2026-02-28T23:00:00Z"))
    );
    assert_eq!(month["value"], "96");
}

#[tokio::test]
async fn the_roll_up_and_the_readings_give_the_same() {
    let house = House::new().await;
    let meter = steady(&house, "2026-03-03T12:20:00Z").await;
    let list = |per: &str, zone: &str| {
        format!(
            "/points/{}/consumption?per={per}&time_zone={zone}&from=2026-03-01T00:00:00Z&to=2026-03-03T12:00:00Z",
            meter["point_id"]
        )
    };
    let asked = [
        list("hour", "UTC"),
        list("day", "UTC"),
        list("day", "Asia/Kathmandu"),
        list("month", "UTC"),
    ];
    let mut live = Vec::new();
    for path in &asked {
        live.push(house.items(path).await);
    }
    let days: Vec<&Json> = live[1].iter().map(|day| &day["value"]).collect();
    assert_eq!(days, [&json!("12"), &json!("24"), &json!("12.25")]);
    let store = PgReadingStore::new(house.api.db.database(), house.api.clock.clone(), Retention::default());
    store.roll_up(house.api.now(), Hours::All).await.expect("roll up");
    for (path, live) in asked.iter().zip(&live) {
        assert_eq!(house.items(path).await, *live, "{path}");
    }

    // that the roll-up is asked at all shows in values that no reading says; the running day and a zone off the hour
    // are computed
    house.api.db.sql("UPDATE consumption_hour SET value = 2").await;
    let values = |items: Vec<Json>| items.iter().map(|day| day["value"].clone()).collect::<Vec<_>>();
    assert_eq!(
        values(house.items(&asked[1]).await),
        [json!("12"), json!("48"), json!("12.25")]
    );
    assert_eq!(house.items(&asked[2]).await, live[2]);
    // an hour that is marked is not taken: its day is computed from the readings again
    house
        .api
        .db
        .sql(&format!(
            "SELECT mark_consumption({}, {}, '2026-03-02T05:00:00Z', '2026-03-02T05:30:00Z')",
            house.ann.account.unwrap(),
            meter_id(&meter)
        ))
        .await;
    assert_eq!(house.items(&asked[1]).await, live[1]);
}

#[tokio::test]
async fn a_watch_reads_again_and_again_until_it_is_ended() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let path = format!("/meters/{}/watch", id(&meter));
    let reading = house.reading(&meter, house.api.now(), Source::OnDemand, vec![energy("7.5")]);
    house.api.fleet.set_reading(meter_id(&meter), Ok(reading));
    assert_eq!(house.get(&path).await.status, 404);
    for (body, field) in [
        (json!({"every_s": 0, "for_s": 60}), "every_s"),
        (json!({"every_s": 1, "for_s": 3601}), "for_s"),
        (
            json!({"every_s": 1, "for_s": 60, "quantities": ["warp"]}),
            "quantities[0]",
        ),
        (json!({"for_s": 60}), "every_s"),
    ] {
        let refused = house.post(&path, body).await.expect(422);
        assert_eq!(refused.json()["field"], field);
    }
    let body = json!({"quantities": ["active_energy_import"], "every_s": 1, "for_s": 3600});
    let view = house.post(&path, body).await.expect(202).json();
    assert_eq!(
        (&view["every_s"], &view["quantities"]),
        (&json!(1), &json!(["active_energy_import"]))
    );
    // it goes on by itself
    for _ in 0..600 {
        if house.get(&path).await.expect(200).json()["reads"].as_u64().unwrap() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let reads = house.api.fleet.take_reads();
    assert!(reads.len() >= 2, "{reads:?}");
    assert!(
        reads
            .iter()
            .all(|read| *read == (meter_id(&meter), vec![Quantity::ActiveEnergyImport]))
    );
    house.delete(&path).await.expect(204);
    assert_eq!(house.get(&path).await.status, 404);
    assert_eq!(house.delete(&path).await.status, 404);
}

#[tokio::test]
async fn a_read_now_answers_with_values_a_reason_or_later() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let path = format!("/meters/{}/read", id(&meter));
    let reading = house.reading(&meter, house.api.now(), Source::OnDemand, vec![energy("7.5")]);
    house.api.fleet.set_reading(meter_id(&meter), Ok(reading));
    let done = house
        .post(&path, json!({"quantities": ["active_energy_import"]}))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&done["state"], &done["items"][0]["value"], &done["items"][0]["source"]),
        (&json!("done"), &json!("7.5"), &json!("on_demand"))
    );
    assert_eq!(
        house.api.fleet.take_reads(),
        [(meter_id(&meter), vec![Quantity::ActiveEnergyImport])]
    );
    let kept = house
        .get(&format!("/reads/{}", done["id"].as_str().unwrap()))
        .await
        .expect(200)
        .json();
    assert_eq!(kept, done);

    // without a body: all; without waiting: 202 and a place to look
    let later = house
        .api
        .call(&house.ann, "POST", &format!("{path}?wait_s=0"), None)
        .await;
    if later.status == 202 {
        let place = later
            .header("location")
            .unwrap()
            .trim_start_matches("/api/v1")
            .to_owned();
        let mut view = house.get(&place).await.expect(200).json();
        for _ in 0..50 {
            if view["state"] != "running" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            view = house.get(&place).await.expect(200).json();
        }
        assert_eq!(view["state"], "done");
    } else {
        assert_eq!(later.status, 200, "{}", later.text);
    }
    assert_eq!(house.api.fleet.take_reads(), [(meter_id(&meter), vec![])]);

    let missed = ReadFailure::Missed {
        reason: MissReason::Exception,
        detail: Some("0x02".into()),
    };
    house.api.fleet.set_reading(meter_id(&meter), Err(missed));
    let failed = house.post(&path, json!({})).await;
    assert_eq!((failed.status, failed.problem().as_str()), (502, "read-failed"));
    assert_eq!(failed.json()["reason"], "exception");
    assert!(failed.json()["detail"].as_str().unwrap().contains("0x02"));
    house.api.fleet.set_reading(meter_id(&meter), Err(ReadFailure::Busy));
    let busy = house.post(&path, json!({})).await;
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("5")));

    assert_eq!(
        house
            .post(&path, json!({"quantities": ["warp"]}))
            .await
            .expect(422)
            .json()["field"],
        "quantities[0]"
    );
    assert_eq!(
        house
            .post(&path, json!({"quantities": ["volume_total"]}))
            .await
            .expect(422)
            .json()["field"],
        "quantities"
    );
    house.post(&format!("{path}?wait_s=61"), json!({})).await.expect(400);
    house
        .get("/reads/00000000-0000-0000-0000-000000000000")
        .await
        .expect(404);
    house.get("/reads/7").await.expect(404);
    // another account's read does not exist
    let bob = house.api.someone(polyphase::domain::access::Role::Admin, "Bob").await;
    let other = house
        .api
        .call(&bob, "GET", &format!("/reads/{}", done["id"].as_str().unwrap()), None)
        .await;
    assert_eq!(other.status, 404);
}

//! Schedules and the slot ledger.

use super::{House, at, energy, id};
use chrono::TimeDelta;
use polyphase::domain::slot::SlotState;
use serde_json::{Value as Json, json};

#[tokio::test]
async fn schedules_are_checked_made_edited_and_deleted() {
    let house = House::new().await;
    let bad = house
        .post(
            "/schedules",
            json!({"name": "", "cron": "* * * *", "time_zone": "Europe/Berln", "quantities": ["warp"], "window_s": 0,
                   "retry": {"attempts": 99}}),
        )
        .await
        .expect(422)
        .json();
    let fields: Vec<&str> = bad["errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|fault| fault["field"].as_str())
        .collect();
    for field in [
        "name",
        "cron",
        "time_zone",
        "quantities[0]",
        "window_s",
        "retry.attempts",
    ] {
        assert!(fields.contains(&field), "{field} is not in {fields:?}");
    }
    assert!(bad["detail"].as_str().unwrap().contains("Europe/Berlin"), "{bad}");
    assert_eq!(
        house.post("/schedules", json!({"name": "x"})).await.json()["field"],
        "cron"
    );

    let body = json!({"name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "quantities": ["active_energy_import"]});
    let made = house.post("/schedules", body).await.expect(201).json();
    assert_eq!(
        (&made["missed_run"], &made["window_s"], &made["retry"]["attempts"]),
        (&json!("once"), &json!(300), &json!(3))
    );
    let path = format!("/schedules/{}", id(&made));
    // 02:30 does not exist on 29 March: it runs at 03:00, the first instant after the gap
    let next = house
        .items(&format!("{path}/next?count=3&after=2026-03-27T12:00:00Z"))
        .await;
    assert_eq!(
        next,
        [
            json!("2026-03-28T01:30:00Z"),
            json!("2026-03-29T01:00:00Z"),
            json!("2026-03-30T00:30:00Z")
        ]
    );
    house.get(&format!("{path}/next?count=0")).await.expect(400);

    let edited = house
        .patch(&path, json!({"cron": "0 3 * * *"}))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&edited["cron"], &edited["version"], &edited["name"]),
        (&json!("0 3 * * *"), &json!(2), &json!("nightly"))
    );
    assert_eq!(
        house.patch(&path, json!({"cron": "x"})).await.expect(422).json()["field"],
        "cron"
    );
    let unmatched = house
        .api
        .call(&house.ann, "PATCH", &path, Some(json!({"name": "y"})))
        .await;
    assert_eq!(
        (unmatched.status, unmatched.problem().as_str()),
        (428, "precondition-required")
    );

    let dtu = house.dtu("SN-1").await;
    let mut meter = House::meter_body(dtu, 1);
    meter["schedule"] = made["id"].clone();
    let meter = house.post("/meters", meter).await.expect(201).json();
    assert_eq!(house.get(&path).await.json()["meters"], 1);
    let used = house.delete(&path).await;
    assert_eq!(used.status, 409);
    assert!(used.text.contains("1 meters"), "{}", used.text);
    // an edit tells the front end of the DTUs concerned
    house.api.fleet.take_reloads();
    house
        .patch(
            &path,
            json!({"window_s": 60, "spread_s": 10, "retry": {"deadline_s": 60}}),
        )
        .await
        .expect(200);
    assert_eq!(house.api.fleet.take_reloads().len(), 1);
    house
        .patch(&format!("/meters/{}", id(&meter)), json!({"schedules": []}))
        .await
        .expect(200);
    house.delete(&path).await.expect(204);
    house.get(&path).await.expect(404);
}

#[tokio::test]
async fn short_intervals_get_short_defaults() {
    let house = House::new().await;
    let made = house
        .post("/schedules", json!({"name": "fast", "cron": "*/10 * * * * *"}))
        .await
        .expect(201)
        .json();
    assert_eq!((&made["window_s"], &made["spread_s"]), (&json!(10), &json!(2)));
}

/// Every quarter of an hour from 12:00; the clock ends at 14:07.
async fn ledger(house: &House) -> (Json, i64) {
    let dtu = house.dtu("SN-1").await;
    let schedule = id(&house
        .post("/schedules", json!({"name": "q", "cron": "*/15 * * * *"}))
        .await
        .expect(201)
        .json());
    let mut body = House::meter_body(dtu, 1);
    body["schedule"] = json!(schedule);
    let meter = house.post("/meters", body).await.expect(201).json();
    let begin = house.api.now();
    let quarter = TimeDelta::minutes(15);
    house.api.clock.step_to(begin + TimeDelta::minutes(127));
    house
        .store(&[
            house.read(&meter, begin, vec![energy("1")]),
            house.read(&meter, begin + quarter, vec![energy("2")]),
            house.ended(&meter, schedule, begin + quarter * 2, SlotState::Missing),
            house.ended(&meter, schedule, begin + quarter * 3, SlotState::Missing),
            house.read(&meter, begin + quarter * 4, vec![energy("5")]),
            // read, but begun after the window: the ending says so
            house.ended(&meter, schedule, begin + quarter * 4, SlotState::Late),
        ])
        .await;
    // a later ending is a new version
    let mut estimated = house.ended(&meter, schedule, begin + quarter * 3, SlotState::Estimated);
    estimated.endings[0].ended_at = begin + quarter * 5;
    house.store(&[estimated]).await;
    (meter, schedule)
}

#[tokio::test]
async fn slots_follow_from_schedules_readings_and_endings() {
    let house = House::new().await;
    let (meter, schedule) = ledger(&house).await;
    let list = format!(
        "/slots?meter_id={}&from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z",
        id(&meter)
    );
    let slots = house.items(&list).await;
    let states: Vec<(&str, &str)> = slots
        .iter()
        .map(|slot| (slot["due_at"].as_str().unwrap(), slot["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [
            ("2026-03-01T12:00:00Z", "actual"),
            ("2026-03-01T12:15:00Z", "actual"),
            ("2026-03-01T12:30:00Z", "missing"),
            ("2026-03-01T12:45:00Z", "estimated"),
            ("2026-03-01T13:00:00Z", "late"),
            ("2026-03-01T13:15:00Z", "open"),
            ("2026-03-01T13:30:00Z", "open"),
            ("2026-03-01T13:45:00Z", "open"),
            ("2026-03-01T14:00:00Z", "open"),
        ]
    );
    assert_eq!(
        slots[2],
        json!({"meter_id": meter["id"], "due_at": "2026-03-01T12:30:00Z", "schedule_id": schedule, "kind": "regular", "state": "missing",
               "reason": "timeout", "detail": null, "attempts": 3, "ended_at": "2026-03-01T12:31:30Z", "version": 1})
    );
    assert_eq!(
        (&slots[0]["ended_at"], &slots[0]["version"]),
        (&json!("2026-03-01T12:00:02Z"), &json!(1))
    );
    assert_eq!(
        (&slots[3]["version"], &slots[5]["version"], &slots[5]["ended_at"]),
        (&json!(2), &json!(0), &Json::Null)
    );

    // pages make up the list, with and without a filter, of one meter and of all
    for limit in [1, 2, 4] {
        assert_eq!(house.walk(&list, limit).await, slots);
        assert_eq!(
            house
                .walk("/slots?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z", limit)
                .await,
            slots
        );
    }
    let open = house.walk(&format!("{list}&state=open"), 3).await;
    assert_eq!(open, slots[5..]);
    assert_eq!(house.items(&format!("{list}&state=missing")).await, slots[2..3]);
    house.get("/slots?from=2020-01-01T00:00:00Z").await.expect(400);
    house.get(&format!("{list}&state=lost")).await.expect(400);
}

#[tokio::test]
async fn an_edit_of_a_schedule_does_not_change_what_was_due() {
    let house = House::new().await;
    let (meter, schedule) = ledger(&house).await;
    let list = format!(
        "/slots?meter_id={}&from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z",
        id(&meter)
    );
    let before = house.items(&list).await;
    house
        .patch(
            &format!("/schedules/{schedule}"),
            json!({"cron": "0 * * * *", "name": "hourly"}),
        )
        .await
        .expect(200);
    assert_eq!(house.items(&list).await, before);
    house.api.clock.step_to(at("2026-03-01T16:30:00Z"));
    let dues: Vec<Json> = house
        .items(&list)
        .await
        .iter()
        .map(|slot| slot["due_at"].clone())
        .collect();
    assert_eq!(
        dues[before.len()..],
        [json!("2026-03-01T15:00:00Z"), json!("2026-03-01T16:00:00Z")]
    );
    // nor does the end of the meter
    house
        .patch(&format!("/meters/{}", id(&meter)), json!({"schedule": null}))
        .await
        .expect(200);
    assert_eq!(house.items(&list).await.len(), before.len() + 2);
}

#[tokio::test]
async fn summaries_count_by_meter_dtu_and_day() {
    let house = House::new().await;
    let (meter, _) = ledger(&house).await;
    let span = "from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z";
    let counts = json!({"actual": 2, "late": 1, "estimated": 1, "missing": 1, "success": 0.6});
    for (by, key, value) in [
        ("meter", "meter_id", meter["id"].clone()),
        ("dtu", "dtu_id", meter["dtu_id"].clone()),
        ("day", "day", json!("2026-03-01")),
    ] {
        let rows = house.items(&format!("/slots/summary?by={by}&{span}")).await;
        let mut wanted = counts.clone();
        wanted[key] = value;
        assert_eq!(rows, [wanted], "{by}");
    }
    // the day is the zone's
    let rows = house
        .items(&format!("/slots/summary?by=day&{span}&time_zone=Pacific/Auckland"))
        .await;
    assert_eq!(rows[0]["day"], "2026-03-02");
    let detail = house.get(&format!("/meters/{}", id(&meter))).await.expect(200).json();
    assert_eq!(detail["communication"]["slots_24h"], counts);
    assert_eq!(detail["communication"]["last_miss_reason"], "timeout");
}

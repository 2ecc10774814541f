//! Meters, points, groups, models, exchange, and that another account's do not exist.

use super::{House, MODEL, at, energy, id, meter_id};
use chrono::TimeDelta;
use polyphase::base::ids::DtuId;
use polyphase::domain::access::Role;
use polyphase::domain::slot::SlotState;
use serde_json::{Value as Json, json};

#[tokio::test]
async fn a_meter_is_made_with_its_point_edited_and_deleted() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    house.api.fleet.take_reloads();
    let mut body = House::meter_body(dtu, 7);
    body["schedule"] = json!({"cron": "*/15 * * * *"});
    body["ct_ratio"] = json!("40");
    let made = house.post("/meters", body).await.expect(201);
    assert_eq!(made.header("etag"), Some("\"v1\""));
    let meter = made.json();
    assert_eq!(
        (
            &meter["address"],
            &meter["ct_ratio"],
            &meter["state"],
            &meter["schedules_from"]
        ),
        (&json!("7"), &json!("40"), &json!("new"), &json!("meter"))
    );
    let small = DtuId(i32::try_from(dtu).unwrap());
    assert_eq!(house.api.fleet.take_reloads(), [Some(small)]);

    let point = house
        .get(&format!("/points/{}", meter["point_id"]))
        .await
        .expect(200)
        .json();
    assert_eq!((&point["name"], &point["meter_id"]), (&json!("meter 7"), &meter["id"]));
    assert_eq!(point["installations"][0]["ct_ratio"], "40");

    let path = format!("/meters/{}", id(&meter));
    let stale = house
        .api
        .call_with(
            &house.ann,
            "PATCH",
            &path,
            &[("If-Match", "\"v9\"")],
            Some(json!({"name": "x"})),
        )
        .await;
    assert_eq!((stale.status, stale.problem().as_str()), (412, "stale"));
    let edited = house
        .patch(&path, json!({"name": "cellar", "schedule": null}))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (
            &edited["name"],
            &edited["schedules"],
            &edited["schedules_from"],
            &edited["version"]
        ),
        (&json!("cellar"), &json!([]), &json!("none"), &json!(2))
    );

    house.delete(&path).await.expect(204);
    house.get(&path).await.expect(404);
    assert_eq!(house.get("/meters").await.json()["total"], 0);
    // its address is free again, and its point has no meter
    house.meter(dtu, 7).await;
    let point = house.get(&format!("/points/{}", meter["point_id"])).await.json();
    assert_eq!(point["meter_id"], Json::Null);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_field() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    house.meter(dtu, 7).await;
    let with = |field: &str, value: Json| {
        let mut body = House::meter_body(dtu, 8);
        body[field] = value;
        body
    };
    for (body, status, field) in [
        (with("protocol", json!("modbus")), 422, "protocol"),
        (with("model", json!("nobody_nothing")), 422, "model"),
        (with("address", json!(0)), 422, "address"),
        (with("address", json!("248")), 422, "address"),
        (with("address", json!("007")), 409, "address"),
        (with("name", json!(" ")), 422, "name"),
        (with("ct_ratio", json!("0")), 422, "ct_ratio"),
        (with("vt_ratio", json!("-1")), 422, "vt_ratio"),
        (with("dtu_id", json!(999)), 422, "dtu_id"),
        (with("group_id", json!(999)), 422, "group_id"),
        (with("point_id", json!(999)), 422, "point_id"),
        (with("point_id", json!(1)), 409, "point_id"),
        (with("schedule", json!(999)), 422, "schedule"),
        (with("schedule", json!({"cron": "61 * * * *"})), 422, "schedule.cron"),
        (
            with("schedule", json!({"cron": "* * * * *", "colour": 1})),
            422,
            "schedule.colour",
        ),
        (with("colour", json!(1)), 422, "colour"),
    ] {
        let answer = house.post("/meters", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["field"], field, "{body}: {}", answer.text);
    }
    assert_eq!(
        house.get("/meters").await.json()["total"],
        1,
        "a refusal leaves nothing behind"
    );
    assert_eq!(house.items("/points").await.len(), 1);
    assert_eq!(house.items("/schedules").await.len(), 0);
}

#[tokio::test]
async fn lists_filter_and_page_with_a_total() {
    let house = House::new().await;
    let (one, two) = (house.dtu("SN-ONE").await, house.dtu("SN-TWO").await);
    let group = id(&house
        .post("/groups", json!({"name": "harbour"}))
        .await
        .expect(201)
        .json());
    for address in 1..=5 {
        house.meter(one, address).await;
    }
    let mut body = House::meter_body(two, 1);
    body["group_id"] = json!(group);
    body["comment"] = json!("100% behind_the_wall");
    let last = house.post("/meters", body).await.expect(201).json();

    let walked: Vec<i64> = house.walk("/meters", 2).await.iter().map(id).collect();
    assert_eq!(walked, [1, 2, 3, 4, 5, 6]);
    for (query, total) in [
        (String::new(), 6),
        (format!("?dtu_id={one}"), 5),
        (format!("?group_id={group}"), 1),
        ("?text=sn-two".into(), 1),
        ("?text=METER%205".into(), 1),
        ("?text=100%25".into(), 1),
        ("?text=behind_the".into(), 1),
        ("?text=%25".into(), 1),
        ("?state=new".into(), 6),
        ("?state=ok".into(), 0),
    ] {
        let page = house.get(&format!("/meters{query}")).await.expect(200).json();
        assert_eq!(page["total"], total, "{query}");
        assert_eq!(page["items"].as_array().unwrap().len() as i64, total, "{query}");
    }
    for wrong in ["?state=bad", "?limit=0", "?cursor=x", "?colour=1", "?dtu_id=x"] {
        house.get(&format!("/meters{wrong}")).await.expect(400);
    }

    // states follow what was read and what was missed
    let schedule = id(&house
        .post("/schedules", json!({"name": "s", "cron": "* * * * *"}))
        .await
        .expect(201)
        .json());
    let now = house.api.now();
    house
        .store(&[house.read(&last, now - TimeDelta::minutes(5), vec![energy("1")])])
        .await;
    assert_eq!(house.get("/meters?state=ok").await.json()["total"], 1);
    let missed = house.ended(&last, schedule, now - TimeDelta::minutes(1), SlotState::Missing);
    house.store(&[missed]).await;
    let failing = house.items("/meters?state=failing").await;
    assert_eq!(failing.iter().map(id).collect::<Vec<_>>(), [id(&last)]);
}

#[tokio::test]
async fn groups_are_a_tree_that_cannot_bite_its_tail() {
    let house = House::new().await;
    let top = house.post("/groups", json!({"name": "top"})).await.expect(201).json();
    let below = house
        .post("/groups", json!({"name": "below", "parent_id": top["id"]}))
        .await
        .expect(201)
        .json();
    let ring = house
        .patch(&format!("/groups/{}", id(&top)), json!({"parent_id": below["id"]}))
        .await;
    assert_eq!((ring.status, ring.json()["field"].clone()), (422, json!("parent_id")));
    house.delete(&format!("/groups/{}", id(&top))).await.expect(204);
    let orphan = house.get(&format!("/groups/{}", id(&below))).await.expect(200).json();
    assert_eq!(orphan["parent_id"], Json::Null);
}

#[tokio::test]
async fn the_catalogue_is_shown() {
    let house = House::new().await;
    let found = house
        .get(&format!("/meter-models?text={MODEL}"))
        .await
        .expect(200)
        .json();
    assert_eq!(found["total"], 1);
    let model = house.get(&format!("/meter-models/{MODEL}")).await.expect(200).json();
    let points = model["points"].as_array().unwrap();
    let energy = points
        .iter()
        .find(|point| point["quantity"] == "active_energy_import")
        .unwrap();
    assert_eq!(
        (&energy["unit"], &energy["obis"]),
        (&json!("kWh"), &json!("1-0:1.8.0*255"))
    );
    house.get("/meter-models/nobody").await.expect(404);
}

#[tokio::test]
async fn an_exchange_keeps_the_points_consumption_whole() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let mut body = House::meter_body(dtu, 1);
    body["schedule"] = json!({"cron": "0 * * * *"});
    let old = house.post("/meters", body).await.expect(201).json();
    let begin = house.api.now();
    let hour = TimeDelta::hours(1);
    house
        .store(&[
            house.read(&old, begin, vec![energy("100")]),
            house.read(&old, begin + hour, vec![energy("110")]),
        ])
        .await;
    // 100 to 115 on the old one, 5 to 12 on the new one
    house.api.clock.step_to(begin + hour * 4);
    let path = format!("/meters/{}/exchange", id(&old));
    let exchange = |at| json!({"at": at, "closing": {"active_energy_import": "115"}, "new_meter": {"name": "new one"}, "opening": "5"});
    let early = house.post(&path, exchange(begin - hour)).await;
    assert_eq!((early.status, early.json()["field"].clone()), (422, json!("at")));
    let mut wrong = exchange(begin + hour * 2);
    wrong["closing"] = json!({"voltage_l1": "230"});
    assert_eq!(house.post(&path, wrong).await.json()["field"], "closing.voltage_l1");
    let new = house.post(&path, exchange(begin + hour * 2)).await.expect(201).json();
    assert_eq!(
        (&new["point_id"], &new["address"], &new["name"], &new["schedules"]),
        (&old["point_id"], &old["address"], &json!("new one"), &old["schedules"])
    );
    house
        .store(&[
            house.read(&new, begin + hour * 3, vec![energy("9")]),
            house.read(&new, begin + hour * 4, vec![energy("12")]),
        ])
        .await;

    let span = "from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z&quantity=active_energy_import";
    let days = house
        .items(&format!("/points/{}/consumption?per=day&{span}", old["point_id"]))
        .await;
    assert_eq!((days.len(), &days[0]["value"]), (1, &json!("22")), "{days:?}");
    let hours = house
        .items(&format!("/points/{}/consumption?per=hour&{span}", old["point_id"]))
        .await;
    let known: Vec<&str> = hours.iter().filter_map(|hour| hour["value"].as_str()).collect();
    let sum: f64 = known.iter().map(|value| value.parse::<f64>().unwrap()).sum();
    assert!((sum - 22.0).abs() < 1e-9, "{known:?}");
    // each meter by itself
    let own = |meter: &Json| format!("/meters/{}/consumption?per=day&{span}", id(meter));
    assert_eq!(house.items(&own(&old)).await[0]["value"], "15");
    assert_eq!(house.items(&own(&new)).await[0]["value"], "7");

    // the old one is history: shown, but no longer listed, read or exchanged
    let shown = house.get(&format!("/meters/{}", id(&old))).await.expect(200).json();
    assert_eq!(shown["state"], "removed");
    assert_eq!(house.items("/meters").await.len(), 1);
    assert_eq!(house.items("/meters?state=removed").await.len(), 1);
    house.post(&path, exchange(begin + hour * 3)).await.expect(409);
    let point = house.get(&format!("/points/{}", old["point_id"])).await.json();
    assert_eq!(
        point["installations"][0]["closing"],
        json!({"active_energy_import": "115"})
    );
    assert_eq!(
        point["installations"][1]["opening"],
        json!({"active_energy_import": "5"})
    );
    assert_eq!(point["meter_id"], new["id"]);
}

#[tokio::test]
async fn another_ratio_holds_from_now_on() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let begin = house.api.now();
    let hour = TimeDelta::hours(1);
    house.store(&[house.read(&meter, begin, vec![energy("0")])]).await;
    house
        .store(&[house.read(&meter, begin + hour, vec![energy("10")])])
        .await;
    house.api.clock.step_to(begin + hour + TimeDelta::seconds(2));
    house
        .patch(&format!("/meters/{}", id(&meter)), json!({"ct_ratio": "3"}))
        .await
        .expect(200);
    house.api.clock.step_to(begin + hour * 2 + TimeDelta::minutes(1));
    house
        .store(&[house.read(&meter, begin + hour * 2, vec![energy("20")])])
        .await;
    let span = "per=day&from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z";
    let day = house
        .items(&format!("/points/{}/consumption?{span}", meter["point_id"]))
        .await;
    assert_eq!(day[0]["value"], "40", "{day:?}");
}

#[tokio::test]
async fn another_accounts_things_do_not_exist() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let now = house.api.now();
    house.store(&[house.read(&meter, now, vec![energy("1")])]).await;
    let schedule = id(&house
        .post("/schedules", json!({"name": "s", "cron": "* * * * *"}))
        .await
        .expect(201)
        .json());
    let group = id(&house.post("/groups", json!({"name": "g"})).await.expect(201).json());
    let bob = house.api.someone(Role::Admin, "Bob").await;
    let (m, p) = (id(&meter), meter["point_id"].clone());
    let any = [("If-Match", "*")];
    let edit = Some(json!({"name": "mine"}));
    for (method, path, body) in [
        ("GET", format!("/meters/{m}"), None),
        ("PATCH", format!("/meters/{m}"), edit.clone()),
        ("DELETE", format!("/meters/{m}"), None),
        ("GET", format!("/meters/{m}/readings"), None),
        ("GET", format!("/meters/{m}/latest"), None),
        ("GET", format!("/meters/{m}/consumption"), None),
        ("POST", format!("/meters/{m}/read"), None),
        (
            "POST",
            format!("/meters/{m}/exchange"),
            Some(json!({"at": now, "closing": "1", "opening": "1", "new_meter": {}})),
        ),
        ("GET", format!("/points/{p}"), None),
        ("PATCH", format!("/points/{p}"), edit.clone()),
        ("GET", format!("/points/{p}/consumption"), None),
        ("GET", format!("/groups/{group}"), None),
        ("PATCH", format!("/groups/{group}"), edit.clone()),
        ("DELETE", format!("/groups/{group}"), None),
        ("GET", format!("/schedules/{schedule}"), None),
        ("GET", format!("/schedules/{schedule}/next"), None),
        ("PATCH", format!("/schedules/{schedule}"), edit.clone()),
        ("DELETE", format!("/schedules/{schedule}"), None),
        (
            "GET",
            format!("/series?meter_id={m}&quantity=active_energy_import"),
            None,
        ),
        (
            "GET",
            format!("/series?point_id={p}&quantity=active_energy_import"),
            None,
        ),
        (
            "GET",
            format!("/series?group_id={group}&quantity=active_energy_import"),
            None,
        ),
        ("GET", format!("/slots?meter_id={m}"), None),
        ("GET", format!("/slots/summary?meter_id={m}"), None),
        ("GET", format!("/slots/summary?dtu_id={dtu}"), None),
        ("GET", format!("/stream?meter_id={m}"), None),
        ("GET", format!("/stream?dtu_id={dtu}"), None),
    ] {
        let answer = house.api.call_with(&bob, method, &path, &any, body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (404, "not-found"),
            "{method} {path}: {}",
            answer.text
        );
    }
    for list in [
        "/meters",
        "/points",
        "/groups",
        "/schedules",
        "/slots",
        "/slots/summary",
    ] {
        let page = house.api.call(&bob, "GET", list, None).await.expect(200).json();
        assert_eq!(page["items"], json!([]), "{list}");
    }
    // nor can they be built upon
    let mut body = House::meter_body(dtu, 9);
    assert_eq!(
        house.api.call(&bob, "POST", "/meters", Some(body.clone())).await.json()["field"],
        "dtu_id"
    );
    let own = house
        .api
        .call(&bob, "POST", "/dtus", Some(json!({"sn": "SN-B", "name": "b"})))
        .await
        .expect(201)
        .json();
    body["dtu_id"] = own["id"].clone();
    for (field, value) in [
        ("group_id", json!(group)),
        ("point_id", p),
        ("schedule", json!(schedule)),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let answer = house.api.call(&bob, "POST", "/meters", Some(body)).await;
        assert_eq!((answer.status, answer.json()["field"].clone()), (422, json!(field)));
    }
    let still = house.get(&format!("/meters/{m}")).await.expect(200).json();
    assert_eq!(still["name"], "meter 1");
    assert_eq!(meter_id(&still), meter_id(&meter));
}

#[tokio::test]
async fn the_front_page_counts() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let schedule = id(&house
        .post("/schedules", json!({"name": "s", "cron": "* * * * *"}))
        .await
        .expect(201)
        .json());
    let due = at("2026-03-01T11:00:00Z");
    house
        .store(&[
            house.read(&meter, due, vec![energy("1")]),
            house.ended(&meter, schedule, due + TimeDelta::minutes(1), SlotState::Missing),
            // read, but late: the ending counts and not the reading
            house.read(&meter, due + TimeDelta::minutes(2), vec![energy("2")]),
            house.ended(&meter, schedule, due + TimeDelta::minutes(2), SlotState::Late),
            // yesterday's do not count
            house.read(&meter, due - TimeDelta::days(1), vec![energy("0")]),
        ])
        .await;
    let summary = house.get("/summary").await.expect(200).json();
    assert_eq!((&summary["dtus"]["total"], &summary["meters"]), (&json!(1), &json!(1)));
    assert_eq!(
        summary["slots_today"],
        json!({"actual": 1, "late": 1, "estimated": 0, "missing": 1, "success": 0.6667})
    );
}

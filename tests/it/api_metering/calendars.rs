//! Calendars, and schedules that heed them; intervals, settlement days and policies of schedules.

use super::{House, at, id};
use polyphase::base::ids::DtuId;
use polyphase::domain::slot::plan::due_slots;
use polyphase::port::ledger::DeviceDirectory;
use polyphase::store::directory::PgDirectory;
use serde_json::{Value as Json, json};

/// Errors of a refusal, by field.
fn fields(answer: &Json) -> Vec<&str> {
    let errors = answer["errors"].as_array().unwrap();
    errors.iter().filter_map(|fault| fault["field"].as_str()).collect()
}

#[tokio::test]
async fn calendars_are_checked_made_edited_and_deleted() {
    let house = House::new().await;
    let bad = json!({"name": "", "time_zone": "Europe/Berln", "working_weekdays": ["mon", "freeday"],
                     "holidays": ["2026-12-25", {"date": "2026-12-25", "name": "again"}], "working_days": ["2026-12-25"]});
    let bad = house.post("/calendars", bad).await.expect(422).json();
    assert_eq!(
        fields(&bad),
        [
            "working_weekdays[1]",
            "name",
            "time_zone",
            "holidays[1]",
            "working_days[0]"
        ]
    );
    house
        .post("/calendars", json!({"name": "x", "holidays": ["25.12.2026"]}))
        .await
        .expect(422);

    let body = json!({"name": "China", "time_zone": "Asia/Shanghai", "working_days": ["2026-10-10"],
                      "holidays": [{"date": "2026-10-02", "name": "National Day, second day"}, "2026-10-01"]});
    let made = house.post("/calendars", body).await.expect(201).json();
    assert_eq!(made["working_weekdays"], json!(["mon", "tue", "wed", "thu", "fri"]));
    assert_eq!(
        made["holidays"],
        json!([{"date": "2026-10-01", "name": null}, {"date": "2026-10-02", "name": "National Day, second day"}])
    );
    let path = format!("/calendars/{}", id(&made));
    assert_eq!(house.get(&path).await.expect(200).json(), made);
    assert_eq!(house.items("/calendars").await, std::slice::from_ref(&made));

    // what a GET gave, a PATCH takes
    let edit = json!({"holidays": made["holidays"], "working_weekdays": ["sat", "Sun"]});
    let edited = house.patch(&path, edit).await.expect(200).json();
    assert_eq!(
        (&edited["working_weekdays"], &edited["version"]),
        (&json!(["sat", "sun"]), &json!(2))
    );
    assert_eq!(house.patch(&path, json!({})).await.expect(200).json()["version"], 2);

    let schedule = json!({"name": "s", "cron": "0 9 * * *", "calendar": made["id"]});
    let schedule = house.post("/schedules", schedule).await.expect(201).json();
    assert_eq!(
        (&schedule["days"], &schedule["calendar"]),
        (&json!("working_days"), &made["id"])
    );
    let used = house.delete(&path).await;
    assert_eq!(used.status, 409);
    assert!(used.text.contains("1 schedules refer"), "{}", used.text);
    let schedule = format!("/schedules/{}", id(&schedule));
    let freed = house
        .patch(&schedule, json!({"calendar": null}))
        .await
        .expect(200)
        .json();
    assert_eq!((&freed["days"], &freed["calendar"]), (&json!("every_day"), &Json::Null));
    house.delete(&path).await.expect(204);
    house.get(&path).await.expect(404);
    let gone = house
        .patch(&schedule, json!({"calendar": made["id"]}))
        .await
        .expect(422)
        .json();
    assert_eq!(gone["field"], "calendar");
}

#[tokio::test]
async fn another_accounts_calendar_does_not_exist() {
    let house = House::new().await;
    let made = house
        .post("/calendars", json!({"name": "ours"}))
        .await
        .expect(201)
        .json();
    let path = format!("/calendars/{}", id(&made));
    let eve = house
        .api
        .someone(polyphase::domain::access::Role::Operator, "Eve")
        .await;
    for (method, body) in [("GET", None), ("PATCH", Some(json!({"name": "x"}))), ("DELETE", None)] {
        let answer = house
            .api
            .call_with(&eve, method, &path, &[("If-Match", "*")], body)
            .await;
        answer.expect(404);
    }
    let theirs = json!({"name": "s", "cron": "0 9 * * *", "calendar": made["id"]});
    let answer = house.api.call(&eve, "POST", "/schedules", Some(theirs)).await;
    assert_eq!(answer.expect(422).json()["field"], "calendar");
}

#[tokio::test]
async fn a_changed_calendar_changes_what_is_due_from_then_on() {
    let house = House::new().await;
    // the clock of these tests begins on Sunday, 1 March 2026, at noon
    let calendar = json!({"name": "Bavaria", "time_zone": "Europe/Berlin"});
    let calendar = house.post("/calendars", calendar).await.expect(201).json();
    let path = format!("/calendars/{}", id(&calendar));
    let schedule = json!({"name": "mornings", "cron": "0 8 * * *", "time_zone": "Europe/Berlin",
                          "calendar": calendar["id"], "days": "working_days"});
    let schedule = id(&house.post("/schedules", schedule).await.expect(201).json());
    let dtu = house.dtu("SN-1").await;
    let mut meter = House::meter_body(dtu, 1);
    meter["schedule"] = json!(schedule);
    let meter = house.post("/meters", meter).await.expect(201).json();

    // Wednesday evening; the calendar learns of two holidays, one of them past, and of a working Saturday
    house.api.clock.step_to(at("2026-03-04T18:00:00Z"));
    house.api.fleet.take_reloads();
    let edit = json!({"holidays": ["2026-03-03", "2026-03-05"], "working_days": ["2026-03-07"]});
    house.patch(&path, edit).await.expect(200);
    assert_eq!(
        house.api.fleet.take_reloads(),
        [Some(DtuId(i32::try_from(dtu).unwrap()))]
    );
    house.api.clock.step_to(at("2026-03-10T12:00:00Z"));

    let slots = house
        .items(&format!(
            "/slots?meter_id={}&from=2026-03-01T00:00:00Z&to=2026-03-11T00:00:00Z",
            id(&meter)
        ))
        .await;
    let due: Vec<&str> = slots.iter().filter_map(|slot| slot["due_at"].as_str()).collect();
    let wanted = [
        "2026-03-02T07:00:00Z",
        "2026-03-03T07:00:00Z", // was due before the calendar said otherwise
        "2026-03-04T07:00:00Z",
        "2026-03-06T07:00:00Z",
        "2026-03-07T07:00:00Z",
        "2026-03-09T07:00:00Z",
        "2026-03-10T07:00:00Z",
    ];
    assert_eq!(due, wanted);

    // the front end plans by the same dated rules
    let directory = PgDirectory::new(house.api.db.database());
    let record = directory
        .load(DtuId(i32::try_from(dtu).unwrap()))
        .await
        .unwrap()
        .unwrap();
    let planned: Vec<String> = due_slots(
        &record.meters[0].schedules,
        &mut polyphase::domain::slot::plan::RuleShelf::default(),
        at("2026-03-01T00:00:00Z"),
        at("2026-03-11T00:00:00Z"),
        100,
    )
    .iter()
    .map(|slot| slot.due_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    .collect();
    assert_eq!(planned, wanted);

    // and so does the look ahead: Saturday 14 March is no working day, a holiday rule waits for the next holiday
    let next = house
        .items(&format!(
            "/schedules/{schedule}/next?count=4&after=2026-03-11T12:00:00Z"
        ))
        .await;
    assert_eq!(
        next,
        [
            "2026-03-12T07:00:00Z",
            "2026-03-13T07:00:00Z",
            "2026-03-16T07:00:00Z",
            "2026-03-17T07:00:00Z"
        ]
    );
    let holidays = house
        .patch(&format!("/schedules/{schedule}"), json!({"days": "holidays"}))
        .await
        .expect(200)
        .json();
    assert_eq!(holidays["next_at"], Json::Null);
    house
        .patch(&path, json!({"holidays": ["2026-04-06"]}))
        .await
        .expect(200);
    assert_eq!(
        house.get(&format!("/schedules/{schedule}")).await.json()["next_at"],
        "2026-04-06T06:00:00Z"
    );
}

#[tokio::test]
async fn settlement_days_intervals_and_policies() {
    let house = House::new().await;
    let settlement = json!({"name": "months", "settlement": {"day": "last", "hour": 23, "minute": 45},
                            "time_zone": "Australia/Adelaide", "quantities": ["active_energy_import"]});
    let made = house.post("/schedules", settlement).await.expect(201).json();
    assert_eq!(made["settlement"], json!({"day": "last", "hour": 23, "minute": 45}));
    assert_eq!(
        (
            &made["priority"],
            &made["window_s"],
            &made["cron"],
            &made["every_min"],
            &made["retry"]["budget"]
        ),
        (
            &json!("settlement"),
            &json!(14400),
            &Json::Null,
            &Json::Null,
            &Json::Null
        )
    );
    let path = format!("/schedules/{}", id(&made));
    let next = house
        .items(&format!("{path}/next?count=3&after=2026-02-01T00:00:00Z"))
        .await;
    assert_eq!(
        next,
        ["2026-02-28T13:15:00Z", "2026-03-31T13:15:00Z", "2026-04-30T14:15:00Z"]
    );
    // its slots say what they are
    let dtu = house.dtu("SN-1").await;
    let mut meter = House::meter_body(dtu, 1);
    meter["schedules"] = json!([made["id"]]);
    let meter = house.post("/meters", meter).await.expect(201).json();
    house.api.clock.step_to(at("2026-04-01T00:00:00Z"));
    let slots = house
        .items(&format!("/slots?meter_id={}&from=2026-03-01T00:00:00Z", id(&meter)))
        .await;
    assert_eq!(
        slots
            .iter()
            .map(|slot| (&slot["due_at"], &slot["kind"]))
            .collect::<Vec<_>>(),
        [(&json!("2026-03-31T13:15:00Z"), &json!("settlement"))]
    );

    // another timing brings its own priority
    let edit = json!({"every_min": 90, "overlap": "skip", "retry": {"budget": 6}});
    let edited = house.patch(&path, edit).await.expect(200).json();
    assert_eq!(
        (
            &edited["priority"],
            &edited["every_min"],
            &edited["settlement"],
            &edited["overlap"]
        ),
        (&json!("scheduled"), &json!(90), &Json::Null, &json!("skip"))
    );
    assert_eq!(edited["retry"]["budget"], 6);
    let edit = json!({"priority": "back_fill", "retry": {"budget": null}});
    let edited = house.patch(&path, edit).await.expect(200).json();
    assert_eq!(
        (&edited["priority"], &edited["retry"]["budget"]),
        (&json!("back_fill"), &Json::Null)
    );

    for (body, field) in [
        (json!({"settlement": {"day": 29}}), "settlement.day"),
        (json!({"settlement": {"day": 1, "hour": 24}}), "settlement.hour"),
        (json!({"settlement": {"day": "first"}}), "settlement.day"),
        (
            json!({"settlement": {"day": 1}, "calendar": 1, "days": "holidays"}),
            "days",
        ),
        (json!({"every_min": 7}), "every_min"),
        (json!({"every_min": 15, "cron": "0 * * * *"}), "cron"),
        (json!({"cron": "0 * * * *", "days": "holidays"}), "calendar"),
        (json!({"cron": "0 * * * *", "calendar": 4711}), "calendar"),
        (json!({"cron": "0 * * * *", "retry": {"budget": 0}}), "retry.budget"),
        (json!({"cron": "0 * * * *", "overlap": "queue"}), "overlap"),
        (json!({}), "cron"),
    ] {
        let mut named = body.clone();
        named["name"] = json!("x");
        let answer = house.post("/schedules", named).await.expect(422).json();
        assert_eq!(answer["field"], field, "{body}: {answer}");
    }
    // in place, the field says where
    let mut meter = House::meter_body(dtu, 2);
    meter["schedule"] = json!({"cron": "0 * * * *", "calendar": 4711});
    let answer = house.post("/meters", meter).await.expect(422).json();
    assert_eq!(answer["field"], "schedule.calendar");
}

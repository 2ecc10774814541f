//! Alarms and their rules over HTTP: whose they are, what people do with them, and what a rule would have said.

use super::bench::{fleet, record};
use crate::harness::api::Api;
use chrono::{TimeDelta, Utc};
use polyphase::base::clock::Clock;
use polyphase::domain::access::Role;
use polyphase::domain::quantity::Quantity;
use polyphase::port::ledger::ReadingStore;
use polyphase::store::ingest::{PgReadingStore, Retention};
use serde_json::{Value, json};
use std::sync::Arc;

const ALARMS: &str = "
    INSERT INTO alarm (account_id, key, kind, severity, dtu_id, meter_id, detail, sentence, raised_at, cause_at, judged_at)
    SELECT 1, 'clock_drift@meter/' || g, 'clock_drift', CASE WHEN g = 3 THEN 'critical' ELSE 'info' END, g, g, '{\"value\": \"90\"}',
           's', '2026-03-01T11:00:00Z'::timestamptz + g * interval '1 min', '2026-03-01T11:00:00Z', '2026-03-01T11:00:00Z'
    FROM generate_series(1, 5) g;
    INSERT INTO alarm (account_id, key, kind, severity, detail, sentence, raised_at, cause_at, judged_at)
    VALUES (NULL, 'database@server', 'database', 'critical', '{}', 's', '2026-03-01T11:00:00Z', '2026-03-01T11:00:00Z', '2026-03-01T11:00:00Z')";

fn ids(answer: &Value) -> Vec<i64> {
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn alarms_live_in_their_account_and_every_step_is_written_down() {
    let api = Api::start().await;
    fleet(&api.db, 5).await;
    api.db.sql(ALARMS).await;
    let ann = api.someone(Role::Operator, "a").await;
    let viewer = api.someone(Role::Viewer, "a").await;
    let bob = api.someone(Role::Admin, "Bob").await;
    let root = api.platform().await;
    let get = async |who, path: &str| api.call(who, "GET", path, None).await;
    let list = async |path: &str| ids(&get(&ann, path).await.json());

    assert_eq!(list("/alarms").await, [5, 4, 3, 2, 1]);
    assert_eq!(list("/alarms?severity=warning").await, [3]);
    assert_eq!(list("/alarms?meter_id=2").await, [2]);
    assert_eq!(
        list("/alarms?state=open&kind=clock_drift&from=2026-03-01T11:04:00Z").await,
        [5, 4]
    );
    assert_eq!(get(&ann, "/alarms?state=gone").await.status, 400);
    assert_eq!(
        ids(&get(&root, "/alarms").await.json()).len(),
        6,
        "the server's own as well"
    );
    assert!(ids(&get(&bob, "/alarms").await.json()).is_empty());
    assert_eq!(get(&bob, "/alarms/1").await.status, 404);
    assert_eq!(get(&ann, "/summary").await.json()["open_alarms"], 5);

    let act = async |who, path: &str, body: Value| api.call(who, "POST", path, Some(body)).await;
    assert_eq!(act(&viewer, "/alarms/1/acknowledge", json!({})).await.status, 403);
    assert_eq!(act(&bob, "/alarms/1/acknowledge", json!({})).await.status, 404);
    let seen = act(&ann, "/alarms/1/acknowledge", json!({"note": "on my way"}))
        .await
        .json();
    assert_eq!(
        (&seen["state"], &seen["acknowledged_by"]),
        (&json!("acknowledged"), &json!(ann.email))
    );
    let again = act(&ann, "/alarms/1/acknowledge", json!({})).await.json();
    assert_eq!(again["version"], seen["version"], "once is enough");
    assert_eq!(act(&ann, "/alarms/1/comment", json!({"note": " "})).await.status, 422);
    act(&ann, "/alarms/1/comment", json!({"note": "battery"})).await;
    let until = "2026-03-02T12:00:00Z";
    let shelved = act(&ann, "/alarms/2/shelve", json!({"until": until, "note": "known"}))
        .await
        .json();
    assert_eq!(
        (&shelved["state"], &shelved["shelved_until"]),
        (&json!("shelved"), &json!(until))
    );
    assert_eq!(
        act(&ann, "/alarms/2/shelve", json!({"until": "2026-02-02T12:00:00Z"}))
            .await
            .status,
        422
    );
    assert_eq!(list("/alarms?state=raised").await, [5, 4, 3]);
    act(&ann, "/alarms/2/unshelve", json!({})).await;
    let cleared = act(&ann, "/alarms/1/clear", json!({"note": "changed"})).await.json();
    assert_eq!(cleared["cleared_by"], json!(ann.email));
    let steps: Vec<(&str, &str)> = cleared["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["note"].as_str().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [
            ("acknowledged", "on my way"),
            ("commented", "battery"),
            ("cleared", "changed")
        ]
    );
    assert_eq!(act(&ann, "/alarms/1/shelve", json!({"until": until})).await.status, 409);
    let stale = api
        .call_with(
            &ann,
            "POST",
            "/alarms/2/acknowledge",
            &[("If-Match", "\"v1\"")],
            Some(json!({})),
        )
        .await;
    assert_eq!(stale.status, 412);
    let audited: Vec<String> = sqlx::query_scalar("SELECT action FROM audit WHERE object = 'alarm/1' ORDER BY id")
        .fetch_all(&mut api.db.superuser().await)
        .await
        .unwrap();
    assert_eq!(audited, ["alarm.acknowledged", "alarm.commented", "alarm.cleared"]);
    api.stop().await;
}

#[tokio::test]
async fn rules_are_written_in_versions_and_refused_with_the_field_at_fault() {
    let api = Api::start().await;
    fleet(&api.db, 2).await;
    let ann = api.someone(Role::Operator, "a").await;
    let bob = api.someone(Role::Operator, "Bob").await;
    let call = async |who, method: &str, path: &str, body: Option<Value>| api.call(who, method, path, body).await;
    let body = |over: u32, meter: Option<i32>| json!({"name": "clocks", "meter_id": meter, "severity": "warning", "check": {"kind": "clock_drift", "over_s": over}});
    let defaults = call(&ann, "GET", "/alarm-rules/defaults", None).await.json();
    assert!(defaults["items"].as_array().unwrap().len() > 15);
    let made = call(&ann, "POST", "/alarm-rules", Some(body(30, Some(1)))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    for (wrong, field) in [
        (body(1, None), "check.over_s"),
        (body(30, Some(99)), "meter_id"),
        (json!({"name": "", "check": {"kind": "clone"}}), "name"),
        (
            json!({"name": "x", "meter_id": 1, "check": {"kind": "dtu_offline"}}),
            "check.kind",
        ),
        (
            json!({"name": "x", "check": {"kind": "threshold", "quantity": "frequency"}}),
            "check.above",
        ),
    ] {
        let refused = call(&ann, "POST", "/alarm-rules", Some(wrong)).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(
            refused.text.contains(&format!("\"{field}\"")),
            "{field}: {}",
            refused.text
        );
    }
    let unknown = json!({"name": "x", "check": {"kind": "low_balance"}});
    assert!(call(&ann, "POST", "/alarm-rules", Some(unknown)).await.status >= 400);
    assert_eq!(call(&bob, "GET", "/alarm-rules/1", None).await.status, 404);
    let put = async |tag: &str, body: Value| {
        api.call_with(&ann, "PUT", "/alarm-rules/1", &[("If-Match", tag)], Some(body))
            .await
    };
    let etag = "\"v1\"";
    let written = put(etag, body(45, None)).await;
    assert_eq!(written.status, 200, "{}", written.text);
    assert_eq!(put(etag, body(46, None)).await.status, 412);
    let deleted = api
        .call_with(&ann, "DELETE", "/alarm-rules/1", &[("If-Match", "\"v2\"")], None)
        .await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert!(ids(&call(&ann, "GET", "/alarm-rules", None).await.json()).is_empty());
    let versions = call(&ann, "GET", "/alarm-rules/1/versions", None).await.json();
    let over: Vec<(&Value, bool)> = versions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (&version["check"]["over_s"], version["valid_to"].is_null()))
        .collect();
    assert_eq!(over, [(&json!(45), false), (&json!(30), false)]);
    let audited: Vec<String> = sqlx::query_scalar("SELECT action FROM audit WHERE object = 'alarm_rule/1' ORDER BY id")
        .fetch_all(&mut api.db.superuser().await)
        .await
        .unwrap();
    assert_eq!(audited, ["alarm_rule.create", "alarm_rule.update", "alarm_rule.delete"]);
    api.stop().await;
}

#[tokio::test]
async fn a_rule_is_tried_on_the_past_and_the_profile_is_shown() {
    let api = Api::start().await;
    fleet(&api.db, 2).await;
    let ann = api.someone(Role::Operator, "a").await;
    let clock: Arc<dyn Clock> = api.clock.clone();
    let retention = Retention {
        readings_days: 1_000,
        endings_days: 1_000,
        evidence_days: 30,
    };
    let store = PgReadingStore::new(api.db.database(), clock, retention);
    let begin = api.now() - TimeDelta::hours(20);
    let records: Vec<_> = (0..40)
        .map(|n| {
            // twice too much for an hour
            let amps = if (8..12).contains(&n) || n >= 38 { "20.5" } else { "5.5" };
            record(begin + TimeDelta::minutes(15 * n), 1, &[(Quantity::CurrentL1, amps)])
        })
        .collect();
    store.write(&records).await.unwrap();
    let trial =
        json!({"meter_id": 1, "check": {"kind": "threshold", "quantity": "current_l1", "above": 16, "for_s": 900}});
    let told = api.call(&ann, "POST", "/alarm-rules/test", Some(trial)).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let told = told.json();
    let at = |n: i64| {
        let at = begin + TimeDelta::minutes(15 * n);
        at.with_timezone(&Utc)
            .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    };
    let items: Vec<(&Value, &Value)> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["raised_at"], &item["cleared_at"]))
        .collect();
    assert_eq!(items, [(&json!(at(9)), &json!(at(13))), (&json!(at(39)), &Value::Null)]);
    let alarms: i64 = sqlx::query_scalar("SELECT count(*) FROM alarm")
        .fetch_one(&mut api.db.superuser().await)
        .await
        .unwrap();
    assert_eq!(alarms, 0, "a trial writes nothing");
    let never = json!({"check": {"kind": "dtu_offline"}});
    assert_eq!(
        api.call(&ann, "POST", "/alarm-rules/test", Some(never)).await.status,
        422
    );

    let now = api.now();
    api.db
        .sql(&format!(
            "INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
             SELECT t, t + interval '1 hour', 1, 1, 0, false, false, 'active_energy_import',
                    CASE WHEN t >= '{now}'::timestamptz - interval '10 hours' AND t < '{now}'::timestamptz - interval '7 hours'
                         THEN 6 ELSE 1 + extract(hour FROM t AT TIME ZONE 'UTC') / 100 END
             FROM generate_series('{now}'::timestamptz - interval '60 days', '{now}'::timestamptz - interval '1 hour', '1 hour') t"
        ))
        .await;
    let profile = api.call(&ann, "GET", "/meters/1/profile", None).await.json();
    let items = profile["items"].as_array().unwrap();
    assert_eq!((items.len(), &profile["unit"]), (168, &json!("kWh")));
    assert!(items.iter().all(|bin| bin["samples"].as_u64().unwrap() >= 21));
    let noon = &items[12];
    assert!((noon["expected"].as_f64().unwrap() - 1.12).abs() < 1e-9, "{noon}");
    assert_eq!(api.call(&ann, "GET", "/meters/9/profile", None).await.status, 404);
    let trial = json!({"check": {"kind": "deviation"}, "from": now - TimeDelta::days(2)});
    let told = api.call(&ann, "POST", "/alarm-rules/test", Some(trial)).await.json();
    let items = told["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{told}");
    assert_eq!(
        (&items[0]["meter_id"], &items[0]["kind"]),
        (&json!(1), &json!("deviation"))
    );
    assert!(!items[0]["cleared_at"].is_null());
    api.stop().await;
}

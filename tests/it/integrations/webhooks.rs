//! Webhooks: what was committed arrives, in order per meter, signed, and under the same id when it comes twice.

use super::world::{World, now, reading, settings, until};
use crate::notices::peers::{HttpPeer, answer};
use chrono::TimeDelta;
use polyphase::domain::integration::{FeedTopic, Position};
use polyphase::port::integrations::{FeedQuery, FeedStore};
use serde_json::{Value, json};
use sqlx::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Nobody is slow here, but a machine may be.
const CALM: Duration = Duration::from_secs(60);

fn bodies(peer: &HttpPeer) -> Vec<Value> {
    let asked = peer.asked.lock().unwrap();
    asked
        .iter()
        .map(|asked| serde_json::from_str(&asked.body).unwrap())
        .collect()
}

/// The items of every request, in the order in which they came.
fn items(peer: &HttpPeer) -> Vec<Value> {
    bodies(peer)
        .iter()
        .flat_map(|body| body["items"].as_array().unwrap().clone())
        .collect()
}

fn ids(peer: &HttpPeer) -> BTreeSet<String> {
    items(peer)
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn readings_and_events_arrive_signed_and_in_order() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    // before there is anybody to tell, nothing is written into the feed
    world.stored(vec![reading(1, 0, 1)]).await;
    assert_eq!(world.rows().await, 0);
    let made = world
        .webhook(
            peer.address,
            json!({ "topics": ["readings", "alarms", "sessions", "slots"], "batch_max": 7 }),
        )
        .await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let integrator = world.integrator(settings(), CALM);
    for minute in 1..=5 {
        let batch = (1..=4).map(|meter| reading(meter, minute * 60, minute)).collect();
        world.stored(batch).await;
    }
    // a replay of what is there is no news
    world.stored(vec![reading(1, 60, 1), reading(2, 120, 2)]).await;
    world
        .api
        .db
        .sql(
            "INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES (77, 1, 1, '10.0.0.1:5', now());
             UPDATE dtu_session SET ended_at = now(), cause = 'silent' WHERE id = 77;
             INSERT INTO alarm (account_id, key, kind, severity, dtu_id, detail, sentence, raised_at, cause_at, judged_at)
             VALUES (1, 'k', 'dtu_offline', 'warning', 1, '{}', 'gone', now(), now(), now());
             INSERT INTO alarm_edge (alarm_id, account_id, at, step, actor, quiet)
             VALUES (1, 1, now(), 'raised', 'rules', false);
             INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state, reason)
             VALUES (now(), now(), 3, 1, 1, 1, 2, 'missing', 'timeout')",
        )
        .await;
    until("20 readings and 4 events arrive", async || ids(&peer).len() == 24).await;
    let (all, bodies) = (items(&peer), bodies(&peer));
    assert_eq!(all.len(), 24, "each of them once");
    assert!(bodies.iter().all(|body| body["items"].as_array().unwrap().len() <= 7));
    let mut by_meter: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for item in all.iter().filter(|item| item["topic"] == "readings") {
        assert_eq!(
            (&item["dtu_id"], &item["data"]["items"][0]["quantity"]),
            (&json!(1), &json!("voltage_l1"))
        );
        let meter = item["meter_id"].as_i64().unwrap();
        by_meter
            .entry(meter)
            .or_default()
            .push(item["data"]["ts"].as_str().unwrap().to_owned());
    }
    assert_eq!(by_meter.len(), 4);
    for times in by_meter.values() {
        assert!(times.len() == 5 && times.is_sorted(), "{times:?}");
    }
    let told = |topic: &str| all.iter().filter(|item| item["topic"] == topic).collect::<Vec<_>>();
    let states: Vec<&Value> = told("sessions").iter().map(|item| &item["data"]["state"]).collect();
    assert_eq!(states, ["began", "ended"]);
    assert_eq!(told("alarms")[0]["data"]["sentence"], "gone");
    assert_eq!(told("slots")[0]["data"]["reason"], "timeout");
    for asked in peer.asked.lock().unwrap().iter() {
        assert!(asked.is_signed(&secret));
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body["id"], asked.header("webhook-id"));
    }
    let seen = async || world.look(&made["id"]).await;
    until("it is written down", async || seen().await["delivered"] == 24).await;
    let shown = seen().await;
    assert_eq!(
        (&shown["state"], &shown["lag"], &shown["secret"]),
        (&json!("working"), &json!(0), &Value::Null)
    );
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn a_receiver_that_fails_hangs_and_redirects_gets_the_same_request_again() {
    let world = World::new().await;
    let plan = vec![
        answer("500 Oops", "", "broken"),
        None,
        answer("302 Found", "Location: http://127.0.0.1:1/elsewhere\r\n", ""),
        answer("429 Slow", "Retry-After: 1\r\n", ""),
        answer("204 No Content", "", ""),
    ];
    let peer = HttpPeer::start(plan).await;
    let made = world.webhook(peer.address, json!({})).await;
    let integrator = world.integrator(settings(), Duration::from_secs(5));
    world.stored(vec![reading(1, 60, 1), reading(2, 60, 2)]).await;
    until("the fifth attempt is taken", async || {
        world.look(&made["id"]).await["delivered"] == 2
    })
    .await;
    let asked = peer.asked.lock().unwrap().clone();
    // a busy machine may find a good answer late and ask once more
    assert!(asked.len() >= 5);
    for again in &asked {
        assert_eq!(again.header("webhook-id"), asked[0].header("webhook-id"));
        assert_eq!(again.body, asked[0].body);
    }
    // the next batch is another request
    world.stored(vec![reading(1, 120, 3)]).await;
    until("it goes on", async || ids(&peer).len() == 3).await;
    assert_ne!(peer.last().header("webhook-id"), asked[0].header("webhook-id"));
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn what_was_on_its_way_at_a_kill_comes_again_under_its_id() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![None, answer("200 OK", "", "")]).await;
    world.webhook(peer.address, json!({ "batch_max": 3 })).await;
    world.stored((1..=4).map(|meter| reading(meter, 60, 1)).collect()).await;
    let first = world.integrator(settings(), CALM);
    until("a request is under way", async || peer.count() == 1).await;
    first.kill().await;
    // what comes meanwhile does not slip into it
    world.stored(vec![reading(1, 120, 2)]).await;
    let second = world.integrator(settings(), CALM);
    until("everything is there", async || {
        ids(&peer).len() == 5 && items(&peer).len() >= 8
    })
    .await;
    let asked = peer.asked.lock().unwrap().clone();
    assert_eq!(asked[0].header("webhook-id"), asked[1].header("webhook-id"));
    assert_eq!(asked[0].body, asked[1].body);
    assert_eq!(items(&peer).len(), 8, "three came twice");
    second.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn a_commit_that_comes_late_is_not_skipped() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    world
        .webhook(peer.address, json!({ "topics": ["readings", "sessions"] }))
        .await;
    let integrator = world.integrator(settings(), CALM);
    // takes a number in the feed and does not commit
    let mut slow = world.api.db.superuser().await;
    let mut late = slow.begin().await.unwrap();
    sqlx::query("INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES (5, 1, 1, 'x', now())")
        .execute(&mut *late)
        .await
        .unwrap();
    world.stored(vec![reading(1, 60, 1)]).await;
    // the pump has looked more than once: the reading waits for its elder
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(peer.count(), 0);
    late.commit().await.unwrap();
    until("both arrive", async || ids(&peer).len() == 2).await;
    let topics: Vec<Value> = items(&peer).iter().map(|item| item["topic"].clone()).collect();
    assert_eq!(topics, ["sessions", "readings"]);
    // and one that is rolled back holds nothing up
    let mut never = slow.begin().await.unwrap();
    sqlx::query("INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES (6, 1, 1, 'x', now())")
        .execute(&mut *never)
        .await
        .unwrap();
    world.stored(vec![reading(1, 120, 2)]).await;
    never.rollback().await.unwrap();
    until("the reading arrives", async || ids(&peer).len() == 3).await;
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn groups_and_quantities_filter() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    world
        .webhook(
            peer.address,
            json!({ "group_id": 1, "quantities": ["active_energy_import"] }),
        )
        .await;
    let integrator = world.integrator(settings(), CALM);
    world.stored((1..=4).map(|meter| reading(meter, 60, 5)).collect()).await;
    let mut voltage_only = reading(1, 120, 6);
    voltage_only.items.truncate(1);
    world.stored(vec![voltage_only]).await;
    world.stored(vec![reading(4, 180, 7), reading(2, 180, 7)]).await;
    until("the last one arrives", async || ids(&peer).len() == 3).await;
    for item in items(&peer) {
        assert!(item["meter_id"].as_i64().unwrap() < 3, "{item}");
        let values = item["data"]["items"].as_array().unwrap();
        assert_eq!(
            (values.len(), &values[0]["quantity"]),
            (1, &json!("active_energy_import"))
        );
    }
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn days_of_failure_stop_it_and_tell_people_and_resume_goes_on() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("503 Away", "", "")]).await;
    let made = world.webhook(peer.address, json!({})).await;
    let mut impatient = settings();
    impatient.stop_after = TimeDelta::seconds(2);
    let integrator = world.integrator(impatient, CALM);
    world.stored(vec![reading(1, 60, 1)]).await;
    until("it is stopped", async || {
        world.look(&made["id"]).await["state"] == "stopped"
    })
    .await;
    let stopped = world.look(&made["id"]).await;
    assert!(stopped["last_error"].as_str().unwrap().contains("503"), "{stopped}");
    assert_eq!(stopped["lag"], 1);
    let notices = "SELECT count(*) FROM notice WHERE kind = 'integration_stopped' AND account_id = 1";
    assert_eq!(world.count(notices).await, 1);
    let audited = "SELECT count(*) FROM audit WHERE action = 'integration.stop' AND account_id = 1";
    assert_eq!(world.count(audited).await, 1);
    assert!(peer.count() >= 2);
    integrator.stop().await;
    // the receiver is well again; what happened meanwhile follows
    drop(peer);
    let well = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    let integrator = world.integrator(settings(), CALM);
    world.stored(vec![reading(2, 60, 1)]).await;
    let path = format!("/integrations/{}", made["id"]);
    let target = json!({ "target": format!("http://{}/hook", well.address) });
    let any = [("If-Match", "*")];
    let edited = world
        .api
        .call_with(&world.admin, "PATCH", &path, &any, Some(target))
        .await;
    assert_eq!(
        edited.expect(200).json()["state"],
        "stopped",
        "an edit alone does not begin it again"
    );
    let resumed = world
        .api
        .call(&world.admin, "POST", &format!("{path}/resume"), None)
        .await;
    assert_eq!(resumed.expect(200).json()["state"], "working");
    until("what waited arrives", async || ids(&well).len() == 2).await;
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn what_is_taken_is_dropped_and_what_is_too_old_is_counted_as_lost() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    let made = world.webhook(peer.address, json!({})).await;
    world.stored((1..=4).map(|meter| reading(meter, 60, 1)).collect()).await;
    world
        .stored((1..=3).map(|meter| reading(meter, 120, 2)).collect())
        .await;
    world
        .api
        .db
        .sql("UPDATE feed SET at = now() - interval '8 days' WHERE seq = 1")
        .await;
    // the integrator begins with its house: the old row goes before it is told
    assert_eq!(world.feed().prune(now() - TimeDelta::days(7), 100).await.unwrap(), 1);
    assert_eq!(world.look(&made["id"]).await["lost"], 4);
    let integrator = world.integrator(settings(), CALM);
    until("the rest arrives", async || ids(&peer).len() == 3).await;
    assert_eq!(bodies(&peer)[0]["lost"], 4);
    world.stored(vec![reading(1, 180, 3)]).await;
    until("it goes on", async || ids(&peer).len() == 4).await;
    assert_eq!(bodies(&peer)[1]["lost"], 0, "it is told once");
    integrator.stop().await;
    // everybody has it: nothing is kept but the row in which the cursor stands
    world.feed().prune(now() - TimeDelta::days(7), 100).await.unwrap();
    assert!(world.rows().await <= 1);
    assert_eq!(world.look(&made["id"]).await["lost"], 4);
    world.api.stop().await;
}

/// A page can be taken up anywhere, and nothing is left out or doubled whatever its size.
#[actix_web::test]
async fn pages_of_any_size_give_the_same_feed() {
    let world = World::new().await;
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    world.webhook(peer.address, json!({})).await;
    for minute in 1..=9 {
        let meters = 1..=(minute % 4 + 1);
        world
            .stored(
                meters
                    .map(|meter| reading(i32::try_from(meter).unwrap(), minute * 60, minute))
                    .collect(),
            )
            .await;
    }
    let feed = world.feed();
    let integration = feed.active(10, now()).await.unwrap().remove(0);
    assert_eq!(integration.spec.topics, [FeedTopic::Readings]);
    let settled = Position::behind(feed.look().await.unwrap().head);
    let mut expected: Option<Vec<String>> = None;
    for limit in [1, 2, 3, 5, 100] {
        let (mut from, mut seen) = (Position::default(), Vec::new());
        loop {
            let query = FeedQuery {
                from,
                to: settled,
                limit,
            };
            let page = feed.page(&integration, query).await.unwrap();
            assert!(page.items.len() <= usize::try_from(limit).unwrap());
            assert!(
                page.items
                    .iter()
                    .all(|item| item.place > from && item.place <= page.reached)
            );
            seen.extend(page.items.into_iter().map(|item| item.id));
            from = page.reached;
            if page.end {
                break;
            }
        }
        assert_eq!(from, settled);
        let unique: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len());
        let first = expected.get_or_insert_with(|| seen.clone());
        assert_eq!(&seen, first, "pages of {limit}");
    }
    world.api.stop().await;
}

//! Who may do what over HTTP: accounts apart, roles, sessions, throttling, problems. Real PostgreSQL, a real port.

use crate::harness::api::{Api, PASSWORD, Someone};
use crate::harness::http;
use chrono::TimeDelta;
use polyphase::api::access::{Access, OPERATIONS};
use polyphase::base::ids::{ConnectionId, DtuId, FrameId, MeterId, ScheduleId};
use polyphase::domain::access::{Role, RoleSet};
use polyphase::domain::device::SerialNumber;
use polyphase::exchange::feasible::{LinePlan, LoadOfSchedule};
use polyphase::port::fleet::{DtuLive, LineState, MeterOnLine, QuarantineEntry};
use polyphase::port::frames::{FrameKind, RawFrame, RecordedFrame};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn waiting(api: &Api, sn: &str) -> QuarantineEntry {
    QuarantineEntry {
        sn: SerialNumber::parse(sn).expect("a serial number"),
        first_seen: api.now(),
        last_seen: api.now(),
        connections: 1,
        connected: true,
        peer: "192.0.2.7:4711".into(),
        first_bytes_hex: "41".into(),
    }
}

async fn make_dtu(api: &Api, who: &Someone, sn: &str) -> i32 {
    let made = api
        .call(
            who,
            "POST",
            "/dtus",
            Some(json!({"sn": sn, "name": format!("dtu {sn}")})),
        )
        .await
        .expect(201);
    i32::try_from(made.json()["id"].as_i64().expect("an id")).expect("small")
}

fn frame(id: i64, dtu: Option<i32>) -> RecordedFrame {
    RecordedFrame {
        id: FrameId(id),
        frame: RawFrame {
            at: chrono::DateTime::UNIX_EPOCH,
            dtu: dtu.map(DtuId),
            connection: ConnectionId(1),
            meter: None,
            poll: None,
            kind: FrameKind::Answer,
            protocol: "modbus-rtu".into(),
            bytes: vec![1, 3, 2, 0, 7, 0xF9, 0x86].into(),
            turn: None,
        },
    }
}

#[tokio::test]
async fn another_accounts_things_do_not_exist() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let bob = api.someone(Role::Admin, "Bob").await;
    let dtu = make_dtu(&api, &bob, "BOB-1").await;
    api.frames.add(frame(1, Some(dtu)));
    api.frames.add(frame(2, None));
    let keys = api.call(&bob, "GET", "/api-keys", None).await.json();
    let key = keys["items"][0]["id"].as_i64().expect("a key");
    let account = bob.account.expect("an account");
    let user = bob.user;

    let any = [("If-Match", "*")];
    let foreign: Vec<(&str, String, Option<Value>)> = vec![
        ("GET", format!("/dtus/{dtu}"), None),
        ("PATCH", format!("/dtus/{dtu}"), Some(json!({"name": "mine"}))),
        ("DELETE", format!("/dtus/{dtu}"), None),
        ("GET", format!("/dtus/{dtu}/sessions"), None),
        ("GET", format!("/dtus/{dtu}/frames"), None),
        ("GET", "/frames/1".into(), None),
        ("GET", "/frames/2".into(), None),
        ("GET", format!("/users/{user}"), None),
        ("PATCH", format!("/users/{user}"), Some(json!({"disabled": true}))),
        ("DELETE", format!("/users/{user}"), None),
        ("DELETE", format!("/api-keys/{key}"), None),
        ("GET", format!("/accounts/{account}"), None),
        ("PATCH", format!("/accounts/{account}"), Some(json!({"name": "mine"}))),
        ("GET", format!("/dtus?account={account}"), None),
        ("GET", "/dtus/999999".into(), None),
        ("GET", "/dtus/x".into(), None),
    ];
    for (method, path, body) in foreign {
        let answer = api.call_with(&ann, method, &path, &any, body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (404, "not-found"),
            "{method} {path}"
        );
    }
    // lists hold the own alone
    for path in ["/dtus", "/users", "/api-keys", "/accounts", "/audit"] {
        let list = api.call(&ann, "GET", path, None).await.expect(200).text;
        assert!(
            !list.contains("BOB-1") && !list.contains("bob.example"),
            "{path}: {list}"
        );
    }
    // an id in the body is no way in either
    let key_for_bob = json!({"name": "x", "user_id": user});
    let answer = api.call(&ann, "POST", "/api-keys", Some(key_for_bob)).await.expect(422);
    assert_eq!(answer.json()["field"], "user_id");
    // and Bob's things are as they were
    let mine = api.call(&bob, "GET", &format!("/dtus/{dtu}"), None).await.expect(200);
    assert_eq!(mine.json()["name"], "dtu BOB-1");
    api.stop().await;
}

/// Calls every operation of the table with every role: refused exactly where the table says so.
#[tokio::test]
async fn the_table_decides_for_every_role() {
    let api = Api::start().await;
    let mut people: Vec<(Option<Role>, Someone)> = Vec::new();
    for role in [Role::Admin, Role::Operator, Role::Billing, Role::Viewer] {
        people.push((Some(role), api.someone(role, "Ann").await));
    }
    let root = api.platform().await;
    people.push((Some(Role::Platform), root.clone()));
    let stranger = Someone {
        key: "ph_k_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(),
        ..root
    };
    people.push((None, stranger));
    for row in OPERATIONS {
        for (role, who) in &people {
            let permitted = match (row.access, role) {
                (Access::Public, _) => true,
                (_, None) => false,
                (Access::SignedIn, _) => true,
                (Access::Roles(roles), Some(role)) => roles.meets(RoleSet::of(&[*role])),
            };
            // nothing there has this id, and no body is right: whoever passes the guard gets another refusal
            let path = row.route.replace("{id}", "0").replace("{sn}", "0");
            if row.route.contains("stream") || row.id == "sign_out" {
                continue;
            }
            let body = (row.method != "GET").then(|| json!({"no such": "key"}));
            let answer = api.call(who, row.method, &path, body).await;
            let refused_by_guard = match role {
                None => answer.status == 401,
                Some(_) => answer.status == 403 && answer.text.contains(&format!("{} is not for role", row.id)),
            };
            assert_eq!(!refused_by_guard, permitted, "{} as {role:?}: {}", row.id, answer.text);
            assert_ne!(answer.status, 500, "{} as {role:?}: {}", row.id, answer.text);
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn nobody_hands_out_more_than_they_have() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let database = api.db.database();
    let boss = polyphase::cli::access::add_user(
        database,
        &*api.clock,
        "boss@ann.example",
        Role::Platform,
        Some("Ann"),
        PASSWORD,
    )
    .await
    .expect("a platform person of the account");

    let new = json!({"email": "x@y.example", "roles": ["platform"], "password": PASSWORD});
    let answer = api.call(&ann, "POST", "/users", Some(new)).await.expect(403);
    assert_eq!(answer.json()["field"], "roles");
    let path = format!("/users/{}", ann.user);
    let any = [("If-Match", "*")];
    let raise = json!({"roles": ["admin", "platform"]});
    api.call_with(&ann, "PATCH", &path, &any, Some(raise)).await.expect(403);
    let path = format!("/users/{}", boss.id);
    let take_over = json!({"password": "another horse"});
    api.call_with(&ann, "PATCH", &path, &any, Some(take_over))
        .await
        .expect(403);
    let key = json!({"name": "x", "user_id": boss.id});
    api.call(&ann, "POST", "/api-keys", Some(key)).await.expect(403);
    // mass assignment: what is not in the body type is refused, not ignored
    let smuggle = json!({"name": "x", "account_id": 1, "version": 9});
    let answer = api.call_with(&ann, "PATCH", &path, &any, Some(smuggle)).await;
    assert_ne!(answer.status, 200);
    // the last admin stays
    let path = format!("/users/{}", ann.user);
    let answer = api
        .call_with(&ann, "PATCH", &path, &any, Some(json!({"disabled": true})))
        .await
        .expect(409);
    assert!(answer.text.contains("nobody who can manage people"));
    api.call(&ann, "DELETE", &path, None).await.expect(409);
    api.stop().await;
}

#[tokio::test]
async fn sessions_end_with_sign_out_time_and_every_change_of_the_person() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let eve = api.someone(Role::Viewer, "Ann").await;
    let open = async || {
        let answer = api.sign_in(&eve.email.to_uppercase(), PASSWORD).await.expect(201);
        let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
        for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(flag), "{cookie}");
        }
        Someone {
            key: answer.json()["token"].as_str().expect("a token").to_owned(),
            ..eve.clone()
        }
    };
    let path = format!("/users/{}", eve.user);
    let any = [("If-Match", "*")];

    let session = open().await;
    let view = api.call(&session, "GET", "/session", None).await.expect(200).json();
    assert_eq!(view["roles"], json!(["viewer"]));
    assert_eq!(view["account"]["name"], "Ann");
    assert_eq!(view["time_zone"], "UTC");
    api.call(&session, "DELETE", "/session", None).await.expect(204);
    api.call(&session, "GET", "/session", None).await.expect(401);

    for change in [
        json!({"roles": ["operator"]}),
        json!({"password": "a new horse"}),
        json!({"disabled": true}),
    ] {
        let session = open().await;
        api.call(&session, "GET", "/session", None).await.expect(200);
        api.call_with(&ann, "PATCH", &path, &any, Some(change.clone()))
            .await
            .expect(200);
        let answer = api.call(&session, "GET", "/session", None).await;
        assert_eq!(answer.status, 401, "{change}");
        if change["password"] == "a new horse" {
            api.sign_in(&eve.email, PASSWORD).await.expect(401);
            let back = Some(json!({"password": PASSWORD}));
            api.call_with(&ann, "PATCH", &path, &any, back).await.expect(200);
        }
    }
    // disabled: neither sign-in nor key; enabled again: the key works, the old session does not
    api.sign_in(&eve.email, PASSWORD).await.expect(401);
    api.call(&eve, "GET", "/session", None).await.expect(401);
    api.call_with(&ann, "PATCH", &path, &any, Some(json!({"disabled": false})))
        .await
        .expect(200);
    api.call(&eve, "GET", "/session", None).await.expect(200);

    let session = open().await;
    api.clock.advance(Duration::from_secs(12 * 3600 - 1));
    api.call(&session, "GET", "/session", None).await.expect(200);
    api.clock.advance(Duration::from_secs(2));
    api.call(&session, "GET", "/session", None).await.expect(401);

    let session = open().await;
    let change = json!({"current": "wrong horse", "new": "a new horse"});
    api.call(&session, "POST", "/session/password", Some(change))
        .await
        .expect(422);
    let change = json!({"current": PASSWORD, "new": "a new horse"});
    api.call(&session, "POST", "/session/password", Some(change))
        .await
        .expect(204);
    api.call(&session, "GET", "/session", None).await.expect(401);
    api.sign_in(&eve.email, "a new horse").await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn guessing_is_throttled_and_the_owner_is_not_locked_out_for_long() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    for _ in 0..5 {
        let known = api.sign_in(&ann.email, "wrong horse").await.expect(401);
        assert_eq!(known.problem(), "wrong-credentials");
    }
    let throttled = api.sign_in(&ann.email, PASSWORD).await.expect(429);
    let wait: u64 = throttled
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&wait));
    // an unknown address is answered word for word alike
    let unknown = api.sign_in("nobody@nowhere.example", PASSWORD).await.expect(401).json();
    let known = api.sign_in("somebody@ann.example", "x").await.expect(401).json();
    assert_eq!(unknown["detail"], known["detail"]);
    api.clock.advance(Duration::from_secs(wait));
    api.sign_in(&ann.email, PASSWORD).await.expect(201);
    // each refusal is in the audit, without what was typed; the account sees those of its own people
    let list = api
        .call(&ann, "GET", "/audit?action=session.", None)
        .await
        .expect(200)
        .json();
    let items = list["items"].as_array().expect("items");
    let actions: Vec<&str> = items.iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert_eq!(actions, [&["session.open"][..], &["session.refused"; 5]].concat());
    assert_eq!(items[1]["object"], items[0]["object"], "whose address was tried");
    assert_eq!(items[1]["detail"]["source"], "127.0.0.1");
    let count = "SELECT count(*) FROM audit WHERE action = 'session.refused' AND account_id IS NULL
                 AND NOT (audit::text LIKE '%nowhere%')";
    let strangers: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut api.db.superuser().await)
        .await
        .expect("count");
    assert_eq!(strangers, 2);
    api.stop().await;
}

#[tokio::test]
async fn a_cookie_alone_changes_nothing() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let answer = api.sign_in(&ann.email, PASSWORD).await.expect(201);
    let cookie = answer
        .header("set-cookie")
        .expect("a cookie")
        .split(';')
        .next()
        .expect("a pair")
        .to_owned();
    let cookie = ("Cookie", cookie.as_str());
    let new = || Some(json!({"sn": "A-1", "name": "one"}));
    let post = async |headers: &[(&str, &str)]| api.send("POST", "/api/v1/dtus", headers, new()).await;

    api.send("GET", "/api/v1/dtus", &[cookie], None).await.expect(200);
    let answer = post(&[cookie]).await.expect(403);
    assert_eq!(answer.problem(), "cross-site");
    post(&[cookie, ("Origin", "https://evil.example")]).await.expect(403);
    post(&[cookie, ("Origin", "https://evil.example"), ("X-Requested-With", "x")])
        .await
        .expect(403);
    post(&[cookie, ("Origin", "null")]).await.expect(403);
    // a wrong header is not made good by the cookie
    post(&[cookie, ("Authorization", "Bearer nonsense"), ("X-Requested-With", "x")])
        .await
        .expect(401);
    post(&[cookie, ("X-Requested-With", "polyphase")]).await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn keys_are_shown_once_and_end_when_revoked_or_due() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let eve = api.someone(Role::Viewer, "Ann").await;
    let due = api.now() + TimeDelta::hours(1);
    let made = api
        .call(
            &eve,
            "POST",
            "/api-keys",
            Some(json!({"name": "export", "expires_at": due})),
        )
        .await
        .expect(201)
        .json();
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("ph_"));
    let with_key = Someone {
        key: secret.clone(),
        ..eve.clone()
    };
    api.call(&with_key, "GET", "/session", None).await.expect(200);
    let list = api.call(&eve, "GET", "/api-keys", None).await.expect(200).text;
    assert!(!list.contains(&secret) && list.contains(&secret[..10]));
    // the database has no secret either
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM api_key WHERE api_key::text LIKE '%' || $1 || '%'")
        .bind(&secret)
        .fetch_one(&mut api.db.superuser().await)
        .await
        .expect("count");
    assert_eq!(stored, 0);

    api.clock.advance(Duration::from_secs(3601));
    api.call(&with_key, "GET", "/session", None).await.expect(401);
    let past = json!({"name": "x", "expires_at": due});
    api.call(&eve, "POST", "/api-keys", Some(past)).await.expect(422);

    // a viewer cannot revoke another's, an admin can
    let of_ann = api
        .call(&ann, "POST", "/api-keys", Some(json!({"name": "a"})))
        .await
        .expect(201)
        .json();
    let path = format!("/api-keys/{}", of_ann["id"]);
    api.call(&eve, "DELETE", &path, None).await.expect(404);
    let own = api
        .call(&eve, "POST", "/api-keys", Some(json!({"name": "b"})))
        .await
        .expect(201)
        .json();
    let path = format!("/api-keys/{}", own["id"]);
    api.call(&ann, "DELETE", &path, None).await.expect(204);
    let gone = Someone {
        key: own["secret"].as_str().expect("a secret").to_owned(),
        ..eve
    };
    api.call(&gone, "GET", "/session", None).await.expect(401);
    api.stop().await;
}

#[tokio::test]
async fn wrong_bodies_name_the_field() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let cases = [
        (json!({"sn": "A 1", "name": "x"}), "sn"),
        (json!({"sn": "A1"}), "name"),
        (json!({"sn": "A1", "name": "x", "colour": "red"}), "colour"),
        (json!({"sn": "A1", "name": "x", "silence_s": "long"}), "silence_s"),
        (json!({"sn": "A1", "name": "x", "silence_s": 1}), "silence_s"),
        (json!({"sn": "A1", "name": "x", "time_zone": "Mars/Base"}), "time_zone"),
        (json!({"sn": "A1", "name": "x", "profile": "nonsense"}), "profile"),
        (
            json!({"sn": "A1", "name": "x", "connect": {"kind": "dial", "address": "nowhere"}}),
            "connect.address",
        ),
        (
            json!({"name": "x", "connect": {"kind": "serial", "device": "/etc/passwd", "baud": 9600, "parity": "none"}}),
            "connect.device",
        ),
        (
            json!({"sn": "A1", "name": "x", "schedule": {"cron": "61 * * * *"}}),
            "schedule.cron",
        ),
        (
            json!({"sn": "A1", "name": "x", "schedule": {"crom": "* * * * *"}}),
            "schedule.crom",
        ),
        (json!({"sn": "A1", "name": "x", "schedule": 999}), "schedule"),
        (json!({"name": "x"}), "sn"),
        (json!({"sn": "A1", "name": " "}), "name"),
    ];
    for (body, field) in cases {
        let answer = api.call(&ann, "POST", "/dtus", Some(body.clone())).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{body}: {problem}");
        assert_eq!(problem["type"], "/problems/invalid");
    }
    let good = json!({"sn": "A1", "name": "x", "schedule": {"cron": "*/15 * * * *", "time_zone": "Asia/Kolkata"}});
    let made = api.call(&ann, "POST", "/dtus", Some(good)).await.expect(201).json();
    assert!(made["schedule_id"].is_number(), "{made}");
    let answer = api.call(&ann, "GET", "/dtus?limit=0", None).await.expect(400);
    assert_eq!(answer.json()["field"], "limit");
    let answer = api.call(&ann, "GET", "/dtus?page=2", None).await.expect(400);
    assert_eq!(answer.json()["field"], "page");
    let bearer = format!("Bearer {}", ann.key);
    let form = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = http::send(api.address, "POST", "/api/v1/dtus", &form, Some("sn=A1"))
        .await
        .expect(415);
    assert_eq!(answer.problem(), "unsupported-media");
    let json = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    http::send(api.address, "POST", "/api/v1/dtus", &json, Some("{"))
        .await
        .expect(400);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300_000));
    http::send(api.address, "POST", "/api/v1/dtus", &json, Some(&large))
        .await
        .expect(413);
    let answer = api.call(&ann, "PUT", "/dtus", Some(json!({}))).await.expect(405);
    assert!(answer.header("allow").expect("allow").contains("POST"));
    api.call(&ann, "GET", "/nothing", None).await.expect(404);
    api.stop().await;
}

#[tokio::test]
async fn edits_need_the_version_they_were_made_from() {
    let api = Api::start().await;
    let ann = api.someone(Role::Operator, "Ann").await;
    let dtu = make_dtu(&api, &ann, "A-1").await;
    let path = format!("/dtus/{dtu}");
    let edit = || Some(json!({"name": "renamed", "profile": "ascii"}));
    let answer = api.call(&ann, "PATCH", &path, edit()).await.expect(428);
    assert_eq!(answer.problem(), "precondition-required");
    let tag = api
        .call(&ann, "GET", &path, None)
        .await
        .expect(200)
        .header("etag")
        .expect("a tag")
        .to_owned();
    let edited = api
        .call_with(&ann, "PATCH", &path, &[("If-Match", &tag)], edit())
        .await
        .expect(200);
    assert_ne!(edited.header("etag"), Some(tag.as_str()));
    assert_eq!(edited.json()["profile"], "ascii");
    let answer = api
        .call_with(&ann, "PATCH", &path, &[("If-Match", &tag)], edit())
        .await
        .expect(412);
    assert_eq!(answer.problem(), "stale");
    api.call_with(&ann, "DELETE", &path, &[("If-Match", &tag)], None)
        .await
        .expect(412);
    let unpin = Some(json!({"profile": null}));
    let answer = api
        .call_with(&ann, "PATCH", &path, &[("If-Match", "*")], unpin)
        .await
        .expect(200);
    assert_eq!(answer.json()["profile"], Value::Null);
    // without its serial number an inbound DTU could never be known
    let nameless = Some(json!({"sn": null}));
    let answer = api
        .call_with(&ann, "PATCH", &path, &[("If-Match", "*")], nameless)
        .await
        .expect(422);
    assert_eq!(answer.json()["field"], "sn");
    api.call(&ann, "DELETE", &path, None).await.expect(204);
    api.call(&ann, "GET", &path, None).await.expect(404);
    // the number is free again, the front end heard of every change
    let again = make_dtu(&api, &ann, "A-1").await;
    let reloads = api.fleet.take_reloads();
    assert!(reloads.contains(&Some(DtuId(dtu))) && reloads.last() == Some(&Some(DtuId(again))));
    api.stop().await;
}

#[tokio::test]
async fn a_repeated_request_with_a_key_takes_effect_once() {
    let api = Api::start().await;
    let ann = api.someone(Role::Operator, "Ann").await;
    let bob = api.someone(Role::Operator, "Bob").await;
    let key = [("Idempotency-Key", "k-1")];
    let new = |sn: &str| Some(json!({"sn": sn, "name": "x"}));
    let first = api.call_with(&ann, "POST", "/dtus", &key, new("A-1")).await.expect(201);
    let again = api.call_with(&ann, "POST", "/dtus", &key, new("A-1")).await.expect(201);
    assert_eq!(
        (first.json(), first.header("etag")),
        (again.json(), again.header("etag"))
    );
    let other = api.call_with(&ann, "POST", "/dtus", &key, new("A-2")).await.expect(422);
    assert_eq!(other.problem(), "idempotency-mismatch");
    // a refused request gives its key back, and another account's keys are its own
    let key2 = [("Idempotency-Key", "k-2")];
    api.call_with(&ann, "POST", "/dtus", &key2, new("A-1"))
        .await
        .expect(409);
    api.call_with(&ann, "POST", "/dtus", &key2, new("A-3"))
        .await
        .expect(201);
    api.call_with(&bob, "POST", "/dtus", &key, new("B-1")).await.expect(201);
    // two at once: one effect
    let key3 = [("Idempotency-Key", "k-3")];
    let (a, b) = tokio::join!(
        api.call_with(&ann, "POST", "/dtus", &key3, new("A-4")),
        api.call_with(&ann, "POST", "/dtus", &key3, new("A-4"))
    );
    for answer in [a, b] {
        assert!(
            answer.status == 201 || answer.text.contains("under way"),
            "{}",
            answer.text
        );
    }
    assert_eq!(
        api.call(&ann, "GET", "/dtus", None).await.expect(200).json()["total"],
        3
    );
    // one that its server died over: under way for its lease, then tried again
    let key4 = [("Idempotency-Key", "k-4")];
    api.call_with(&ann, "POST", "/dtus", &key4, new("A-6"))
        .await
        .expect(201);
    api.db
        .sql("UPDATE idempotency_key SET status = NULL, response = NULL WHERE key = 'k-4'; DELETE FROM dtu WHERE sn = 'A-6'")
        .await;
    let waits = api
        .call_with(&ann, "POST", "/dtus", &key4, new("A-6"))
        .await
        .expect(409);
    assert!(waits.text.contains("under way"), "{}", waits.text);
    api.clock.advance(std::time::Duration::from_secs(121));
    let other = api
        .call_with(&ann, "POST", "/dtus", &key4, new("A-7"))
        .await
        .expect(422);
    assert_eq!(other.problem(), "idempotency-mismatch");
    api.call_with(&ann, "POST", "/dtus", &key4, new("A-6"))
        .await
        .expect(201);
    api.call_with(&ann, "POST", "/dtus", &key4, new("A-6"))
        .await
        .expect(201);
    api.call_with(&ann, "POST", "/dtus", &[("Idempotency-Key", "a b")], new("A-5"))
        .await
        .expect(400);
    api.stop().await;
}

#[tokio::test]
async fn the_plan_of_a_line_says_what_fits_and_how_its_meters_behave() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let op = api.someone(Role::Operator, "Ann").await;
    let stranger = api.someone(Role::Admin, "Bob").await;
    let id = make_dtu(&api, &op, "SN-1").await;
    let path = format!("/dtus/{id}/line/plan");
    api.call(&ann, "GET", &path, None).await.expect(404);
    let now = api.now();
    let line = LineState {
        meters: vec![MeterOnLine {
            meter: MeterId(5),
            breaker_open: true,
            probe_at: Some(now),
            timeout: Duration::from_millis(1_187),
            timeout_learned: true,
            turnaround: Some(Duration::from_millis(950)),
            rest: Duration::from_millis(20),
            share: 0.25,
            visit: None,
            clock: Some((chrono::TimeDelta::seconds(-74), now)),
        }],
        plan: LinePlan {
            from: now,
            to: now + chrono::TimeDelta::days(1),
            needs: Duration::from_secs(129_600),
            fullest_hour: 1.0,
            slots: 1_440,
            behind: 480,
            schedules: vec![LoadOfSchedule {
                schedule: ScheduleId(3),
                slots: 1_440,
                takes: Duration::from_secs(129_600),
                behind: 480,
            }],
            drop: vec![ScheduleId(3)],
        },
    };
    api.fleet.set_line(DtuId(id), line);
    let plan = api.call(&ann, "GET", &path, None).await.expect(200).json();
    assert_eq!(plan["fits"], false);
    assert_eq!(
        (&plan["share"], &plan["has_s"], &plan["drop"]),
        (&json!(1.5), &json!(86_400.0), &json!([3]))
    );
    assert_eq!(plan["schedules"][0]["behind"], 480);
    let meter = &plan["meters"][0];
    assert_eq!(
        (&meter["breaker"], &meter["timeout_ms"]),
        (&json!("open"), &json!(1_187))
    );
    assert_eq!(
        (&meter["timeout_learned"], &meter["turnaround_ms"]),
        (&json!(true), &json!(950))
    );
    assert_eq!(
        (&meter["clock_drift_s"], &meter["read_ms"]),
        (&json!(-74), &json!(null))
    );
    api.call(&stranger, "GET", &path, None).await.expect(404);
}

#[tokio::test]
async fn lists_are_paged_filtered_and_counted_with_live_state() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let op = api.someone(Role::Operator, "Ann").await;
    let mut made = BTreeSet::new();
    for i in 0..7 {
        made.insert(i64::from(make_dtu(&api, &op, &format!("SN-{i}")).await));
    }
    let first = i32::try_from(*made.first().expect("one")).expect("small");
    api.fleet.set_live(
        DtuId(first),
        DtuLive {
            online: true,
            since: Some(api.now()),
            session: None,
            peer: Some("192.0.2.9:5000".into()),
            stats: None,
            clone_suspected: true,
            banned_until: None,
        },
    );
    let mut seen = BTreeSet::new();
    let mut next: Option<String> = None;
    for _ in 0..4 {
        let cursor = next.as_ref().map(|next| format!("&cursor={next}")).unwrap_or_default();
        let page = api
            .call(&ann, "GET", &format!("/dtus?limit=3{cursor}"), None)
            .await
            .expect(200)
            .json();
        assert_eq!(page["total"], 7);
        for item in page["items"].as_array().expect("items") {
            assert!(seen.insert(item["id"].as_i64().expect("an id")), "twice");
            let is_first = item["id"] == first;
            assert_eq!(item["online"], is_first);
            assert_eq!(item["peer"].is_string(), is_first);
        }
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    assert_eq!((seen, next), (made, None));
    let found = api.call(&ann, "GET", "/dtus?text=sn-3", None).await.expect(200).json();
    assert_eq!(
        (found["total"].as_i64(), found["items"][0]["sn"].as_str()),
        (Some(1), Some("SN-3"))
    );

    // two of the last 24 hours online, one session over the edge of the day, two overlapping
    api.db
        .sql(&format!(
            "INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at, ended_at) SELECT v.id, d.id, d.account_id, 'p', \
             v.began, v.ended FROM dtu d, (VALUES \
             (1, timestamptz '2026-02-28 10:00Z', timestamptz '2026-02-28 13:00Z'), \
             (2, timestamptz '2026-03-01 11:00Z', timestamptz '2026-03-01 11:45Z'), \
             (3, timestamptz '2026-03-01 11:30Z', null)) AS v(id, began, ended) WHERE d.id = {first}; \
             UPDATE dtu SET created_at = '2026-01-01' WHERE id = {first}"
        ))
        .await;
    let dtu = api
        .call(&ann, "GET", &format!("/dtus/{first}"), None)
        .await
        .expect(200)
        .json();
    let share = dtu["online_share"].as_f64().expect("a share");
    assert!((share - 2.0 / 24.0).abs() < 1e-4, "{share}");
    let sessions = api
        .call(&ann, "GET", &format!("/dtus/{first}/sessions?limit=2"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(sessions["items"][0]["id"], 3);
    assert_eq!(sessions["items"][0]["ended_at"], Value::Null);
    let next = sessions["next"].as_str().expect("more");
    let path = format!("/dtus/{first}/sessions?limit=2&cursor={next}");
    let rest = api.call(&ann, "GET", &path, None).await.expect(200).json();
    assert_eq!(
        (rest["items"][0]["id"].as_i64(), rest["next"].is_null()),
        (Some(1), true)
    );
    api.stop().await;
}

#[tokio::test]
async fn frames_come_with_their_decoding() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let op = api.someone(Role::Operator, "Ann").await;
    let dtu = make_dtu(&api, &op, "A-1").await;
    for id in 1..=3 {
        api.frames.add(frame(id, Some(dtu)));
    }
    let page = api
        .call(&ann, "GET", &format!("/dtus/{dtu}/frames?limit=2"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(page["items"][0]["id"], 3);
    assert_eq!(page["items"][0]["bytes"], "01030200 07F986".replace(' ', ""));
    assert_eq!(page["items"][0]["direction"], "received");
    assert_eq!(page["items"][0]["explanation"]["length"], 7);
    let next = page["next"].as_str().expect("more");
    let path = format!("/dtus/{dtu}/frames?limit=2&cursor={next}");
    assert_eq!(
        api.call(&ann, "GET", &path, None).await.expect(200).json()["items"][0]["id"],
        1
    );
    api.call(&ann, "GET", "/frames/1", None).await.expect(200);
    // gone from the ring, kept as evidence
    api.db
        .sql(&format!(
            "INSERT INTO frame_evidence (id, account_id, dtu_id, connection_id, at, kind, protocol, bytes) \
             SELECT 77, account_id, id, 5, now(), 'stray', 'modbus-rtu', '\\x0103' FROM dtu WHERE id = {dtu}"
        ))
        .await;
    let kept = api.call(&ann, "GET", "/frames/77", None).await.expect(200).json();
    assert_eq!(
        (kept["kind"].as_str(), kept["bytes"].as_str()),
        (Some("stray"), Some("0103"))
    );
    let bob = api.someone(Role::Admin, "Bob").await;
    api.call(&bob, "GET", "/frames/77", None).await.expect(404);
    api.stop().await;
}

#[tokio::test]
async fn a_claim_needs_the_code_once_there_are_several_accounts() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    api.fleet
        .set_quarantine(vec![waiting(&api, "Q-1"), waiting(&api, "Q-2"), waiting(&api, "Q-3")]);
    // one account: the admin sees the list and claims
    let list = api.call(&ann, "GET", "/quarantine", None).await.expect(200).json();
    assert_eq!(list["items"][0]["sn"], "Q-1");
    let named = |name: &str| Some(json!({"name": name}));
    let claimed = api
        .call(&ann, "POST", "/quarantine/Q-1/claim", named("first"))
        .await
        .expect(201)
        .json();
    let id = i32::try_from(claimed["id"].as_i64().expect("an id")).expect("small");
    assert_eq!(api.fleet.take_reloads(), [Some(DtuId(id))]);
    api.call(&ann, "POST", "/quarantine/Q-1/claim", named("again"))
        .await
        .expect(409);
    api.call(&ann, "POST", "/quarantine/NOT-HERE/claim", named("x"))
        .await
        .expect(404);

    // a second account: the list is closed, a code is needed
    let bob = api.someone(Role::Admin, "Bob").await;
    let root = api.platform().await;
    api.call(&ann, "GET", "/quarantine", None).await.expect(403);
    api.call(&root, "GET", "/quarantine", None).await.expect(200);
    let answer = api
        .call(&bob, "POST", "/quarantine/Q-2/claim", named("x"))
        .await
        .expect(403);
    assert_eq!(answer.problem(), "claim-refused");
    api.call(&bob, "PUT", "/quarantine/Q-2/code", Some(json!({})))
        .await
        .expect(403);
    let code = api
        .call(&root, "PUT", "/quarantine/Q-2/code", Some(json!({})))
        .await
        .expect(200)
        .json();
    let code = code["code"].as_str().expect("a code").to_owned();
    let with = |code: &str| Some(json!({"name": "mine", "code": code}));
    let wrong = api
        .call(&ann, "POST", "/quarantine/Q-2/claim", with("WRONG-CODE"))
        .await
        .expect(403);
    // no oracle: an SN that nobody ever saw is refused in the same words
    let nowhere = api
        .call(&ann, "POST", "/quarantine/NOT-HERE/claim", with(&code))
        .await
        .expect(403);
    assert_eq!(wrong.json()["detail"], nowhere.json()["detail"]);
    // the code of one device opens no other
    api.call(&bob, "POST", "/quarantine/Q-3/claim", with(&code))
        .await
        .expect(403);
    let typed = code.to_lowercase().replace('-', " ");
    let claimed = api
        .call(&bob, "POST", "/quarantine/Q-2/claim", with(&typed))
        .await
        .expect(201)
        .json();
    assert_eq!(claimed["account_id"], json!(bob.account));
    api.call(&ann, "POST", "/quarantine/Q-2/claim", with(&code))
        .await
        .expect(403);
    // guessing codes is throttled
    for _ in 0..5 {
        api.call(&ann, "POST", "/quarantine/Q-3/claim", with("WRONG-CODE"))
            .await;
    }
    api.call(&ann, "POST", "/quarantine/Q-3/claim", with("WRONG-CODE"))
        .await
        .expect(429);
    // the platform gives it to whom it wants
    let give = json!({"name": "given", "account": ann.account});
    let claimed = api
        .call(&root, "POST", "/quarantine/Q-3/claim", Some(give))
        .await
        .expect(201)
        .json();
    assert_eq!(claimed["account_id"], json!(ann.account));
    api.stop().await;
}

#[tokio::test]
async fn every_change_is_in_the_chain() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let dtu = make_dtu(&api, &ann, "A-1").await;
    let any = [("If-Match", "*")];
    let path = format!("/dtus/{dtu}");
    api.call_with(
        &ann,
        "PATCH",
        &path,
        &[any[0], ("X-Request-Id", "req-7")],
        Some(json!({"name": "b"})),
    )
    .await
    .expect(200);
    api.call(&ann, "DELETE", &path, None).await.expect(204);
    let list = api
        .call(&ann, "GET", &format!("/audit?object=dtu/{dtu}"), None)
        .await
        .expect(200)
        .json();
    let actions: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|e| e["action"].as_str())
        .collect();
    assert_eq!(actions, ["dtu.delete", "dtu.update", "dtu.create"]);
    assert_eq!(list["items"][1]["actor"], ann.email.as_str());
    assert_eq!(list["items"][1]["detail"]["request_id"], "req-7");
    assert_eq!(list["items"][1]["detail"]["change"]["name"], "b");
    let mut superuser = api.db.superuser().await;
    let verify = "SELECT audit_verify()";
    let broken: Option<i64> = sqlx::query_scalar(verify)
        .fetch_one(&mut superuser)
        .await
        .expect("verify");
    assert_eq!(broken, None);
    api.db
        .sql("UPDATE audit SET actor = 'somebody else' WHERE action = 'dtu.update'")
        .await;
    let broken: Option<i64> = sqlx::query_scalar(verify)
        .fetch_one(&mut superuser)
        .await
        .expect("verify");
    assert!(broken.is_some());
    api.stop().await;
}

#[tokio::test]
async fn the_description_is_true_and_needs_no_outside() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let description = api.send("GET", "/api/openapi.json", &[], None).await.expect(200).json();
    assert!(description["openapi"].as_str().expect("a version").starts_with("3.1"));
    // every reference leads somewhere
    let text = description.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(
            description["components"]["schemas"].get(name).is_some(),
            "{name} is not described"
        );
    }
    // every described route answers, and none that is described is unknown to the router
    for (path, methods) in description["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "0").replace("{sn}", "0");
        if path.contains("stream") || methods.get("get").is_none() {
            continue;
        }
        let answer = api
            .send("GET", &path, &[("Authorization", &format!("Bearer {}", ann.key))], None)
            .await;
        assert!(!answer.text.contains("no such route"), "{path}");
    }
    for path in [
        "/api/docs/",
        "/api/docs/swagger-ui.css",
        "/api/docs/swagger-initializer.js",
    ] {
        let answer = api.send("GET", path, &[], None).await.expect(200);
        assert!(
            !answer.text.contains("//cdn") && !answer.text.contains("petstore"),
            "{path}"
        );
    }
    assert!(
        api.send("GET", "/api/docs/swagger-initializer.js", &[], None)
            .await
            .text
            .contains("/api/openapi.json")
    );
    api.stop().await;
}

#[tokio::test]
async fn answers_carry_their_id_and_guard_browsers() {
    let api = Api::start().await;
    let answer = api
        .send("GET", "/healthz", &[("X-Request-Id", "abc-1")], None)
        .await
        .expect(200);
    assert_eq!(answer.json()["status"], "ok");
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert!(
        answer
            .header("content-security-policy")
            .expect("a policy")
            .contains("frame-ancestors 'none'")
    );
    // what could forge a log line is not taken over
    let answer = api
        .send("GET", "/api/v1/dtus", &[("X-Request-Id", "a b")], None)
        .await
        .expect(401);
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert_ne!(id, "a b");
    assert_eq!(answer.json()["request_id"], id.as_str());
    assert!(answer.header("www-authenticate").is_some());
    api.send("GET", "/readyz", &[], None).await.expect(200);
    let metrics = api.send("GET", "/metrics", &[], None).await.expect(200).text;
    assert!(
        metrics.contains("route=\"/api/v1/dtus\",status=\"401\""),
        "no request metric"
    );
    let answer = api.send("GET", "/problems/stale", &[], None).await.expect(200);
    assert!(answer.text.contains("If-Match"));
    api.send("GET", "/../etc/passwd", &[], None).await.expect(404);
    api.stop().await;
}

#[tokio::test]
async fn the_platform_acts_in_the_account_it_names() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let root = api.platform().await;
    let dtu = make_dtu(&api, &ann, "A-1").await;
    let account = ann.account.expect("an account");
    // across accounts it sees all; what belongs to an account needs its name
    assert_eq!(
        api.call(&root, "GET", "/dtus", None).await.expect(200).json()["total"],
        1
    );
    let answer = api
        .call(&root, "POST", "/dtus", Some(json!({"sn": "B-1", "name": "b"})))
        .await
        .expect(400);
    assert_eq!(answer.problem(), "account-required");
    let path = format!("/dtus?account={account}");
    let made = api
        .call(&root, "POST", &path, Some(json!({"sn": "B-1", "name": "b"})))
        .await
        .expect(201)
        .json();
    assert_eq!(made["account_id"], json!(account));
    api.call_with(&root, "GET", "/dtus", &[("X-Account", "99999")], None)
        .await
        .expect(404);
    api.call(&root, "GET", &format!("/dtus/{dtu}"), None).await.expect(200);
    let new = json!({"name": "Cee", "time_zone": "Asia/Kolkata"});
    let made = api
        .call(&root, "POST", "/accounts", Some(new.clone()))
        .await
        .expect(201)
        .json();
    assert_eq!(
        api.call(&root, "POST", "/accounts", Some(new)).await.expect(409).json()["field"],
        "name"
    );
    // disabling an account shuts its people out
    let path = format!("/accounts/{account}");
    let any = [("If-Match", "*")];
    api.call_with(&ann, "PATCH", &path, &any, Some(json!({"disabled": true})))
        .await
        .expect(403);
    api.call_with(&root, "PATCH", &path, &any, Some(json!({"disabled": true})))
        .await
        .expect(200);
    api.call(&ann, "GET", "/session", None).await.expect(401);
    api.sign_in(&ann.email, PASSWORD).await.expect(401);
    assert!(made["id"].is_number());
    api.stop().await;
}

#[tokio::test]
async fn the_command_line_gives_first_access() {
    use polyphase::cli::access::{AccessError, add_user, create_api_key};
    let api = Api::start().await;
    let (db, clock) = (api.db.database(), &*api.clock);
    let ann = add_user(db, clock, "ann@x.example", Role::Admin, None, PASSWORD)
        .await
        .expect("the first account");
    let bob = add_user(db, clock, "bob@x.example", Role::Viewer, None, PASSWORD)
        .await
        .expect("the same account");
    assert_eq!(ann.account_id, bob.account_id);
    add_user(db, clock, "cy@x.example", Role::Admin, Some("Second"), PASSWORD)
        .await
        .expect("a new account");
    let again = add_user(db, clock, "ANN@x.example", Role::Admin, Some("Third"), PASSWORD).await;
    assert!(again.expect_err("taken").to_string().contains("already"));
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM account")
        .fetch_one(&mut api.db.superuser().await)
        .await
        .expect("count");
    assert_eq!(accounts, 2, "no account is left behind by a refused user");
    let which = add_user(db, clock, "di@x.example", Role::Admin, None, PASSWORD).await;
    assert!(matches!(which, Err(AccessError::WhichAccount)));
    assert!(
        add_user(db, clock, "di@x.example", Role::Admin, Some("Main"), "short")
            .await
            .is_err()
    );
    let key = create_api_key(db, clock, "Ann@x.example", "cli").await.expect("a key");
    let who = Someone {
        account: ann.account_id,
        user: ann.id.0,
        email: ann.email,
        key,
    };
    let view = api.call(&who, "GET", "/session", None).await.expect(200).json();
    assert_eq!(view["account"]["name"], "Main");
    assert!(matches!(
        create_api_key(db, clock, "no@x.example", "cli").await,
        Err(AccessError::NoUser(_))
    ));
    api.stop().await;
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let api = Api::start().await;
    let mut socket = tokio::net::TcpStream::connect(api.address).await.expect("connect");
    socket
        .write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        .await
        .expect("write");
    let began = std::time::Instant::now();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open after {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_secs(13), "{:?}", began.elapsed());
    api.stop().await;
}

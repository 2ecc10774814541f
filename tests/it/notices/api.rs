//! The operations of `/notices`: people, channels, routes, tests, history; and that accounts and roles are kept apart.

use super::peers::{HttpPeer, Peer, answer};
use super::world::{NoChance, happens, settings};
use crate::harness::api::{Api, Someone};
use crate::harness::notices::key;
use actix::Actor;
use polyphase::actor::notifier::{self, NotifierParts};
use polyphase::actor::supervise::RestartPolicy;
use polyphase::base::clock::{Clock, SystemClock};
use polyphase::domain::access::Role;
use polyphase::domain::notice::target::networks;
use polyphase::domain::notice::{ChannelKind, Edge, Happening, Severity};
use polyphase::outbound::email::{Email, EmailSettings, Security};
use polyphase::outbound::http::{Http, client_tls};
use polyphase::outbound::webhook::Webhook;
use polyphase::port::notices::{Sender, Senders};
use polyphase::store::notices::PgOutbox;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn recipient(api: &Api, who: &Someone, body: Value) -> Value {
    api.call(who, "POST", "/notices/recipients", Some(body))
        .await
        .expect(201)
        .json()
}

async fn channel(api: &Api, who: &Someone, recipient: &Value, kind: &str, address: &str) -> Value {
    let body = json!({ "recipient_id": recipient["id"], "kind": kind, "address": address });
    api.call(who, "POST", "/notices/channels", Some(body))
        .await
        .expect(201)
        .json()
}

#[actix_web::test]
async fn people_channels_and_routes_are_kept() {
    let api = Api::start().await;
    let admin = api.someone(Role::Admin, "a").await;
    let li = recipient(
        &api,
        &admin,
        json!({ "name": "Li", "language": "zh", "time_zone": "Asia/Shanghai",
                "quiet": { "from": "22:00", "to": "07:00" }, "digest": { "every_min": 60 }, "per_hour": 5 }),
    )
    .await;
    assert_eq!(
        li["quiet"],
        json!({ "from": "22:00", "to": "07:00", "unless": "critical" })
    );
    assert_eq!(
        li["digest"],
        json!({ "every_min": 60, "at": "08:00", "up_to": "warning" })
    );
    let path = format!("/notices/recipients/{}", li["id"]);
    let edited = api
        .call_with(
            &admin,
            "PATCH",
            &path,
            &[("If-Match", "\"v1\"")],
            Some(json!({ "quiet": null, "language": "ja" })),
        )
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&edited["quiet"], &edited["language"], &edited["version"]),
        (&json!(null), &json!("ja"), &json!(2))
    );
    let stale = api
        .call_with(
            &admin,
            "PATCH",
            &path,
            &[("If-Match", "\"v1\"")],
            Some(json!({ "name": "x" })),
        )
        .await;
    assert_eq!(stale.expect(412).problem(), "stale");
    for (body, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x", "time_zone": "Mars/North" }), "time_zone"),
        (json!({ "name": "x", "language": "fr" }), "language"),
        (
            json!({ "name": "x", "quiet": { "from": "07:00", "to": "07:00" } }),
            "quiet.to",
        ),
        (json!({ "name": "x", "digest": { "every_min": 1 } }), "digest.every_min"),
        (json!({ "name": "x", "user_id": 9999 }), "user_id"),
    ] {
        let refused = api
            .call(&admin, "POST", "/notices/recipients", Some(body))
            .await
            .expect(422);
        assert_eq!(refused.json()["field"], field, "{}", refused.text);
    }
    for (kind, address) in [
        ("email", "nobody"),
        ("telegram", "li"),
        ("sms", "0139"),
        ("webhook", "https://user:pw@a.example/"),
        ("webhook", "https://10.0.0.1/"),
    ] {
        let body = json!({ "recipient_id": li["id"], "kind": kind, "address": address });
        let refused = api
            .call(&admin, "POST", "/notices/channels", Some(body))
            .await
            .expect(422);
        assert_eq!(refused.json()["field"], "address", "{}", refused.text);
    }
    let rule = json!({ "steps": [{ "recipients": [li["id"]] }] });
    let route = json!({ "name": "all", "rule": rule });
    let made = api
        .call(&admin, "POST", "/notices/routes", Some(route))
        .await
        .expect(201)
        .json();
    assert_eq!(made["rule"]["min_severity"], "warning");
    for (rule, field) in [
        (json!({ "steps": [] }), "rule.steps"),
        (json!({ "steps": [{ "recipients": [9999] }] }), "steps"),
        (
            json!({ "steps": [{ "recipients": [li["id"]] }], "groups": [77] }),
            "groups",
        ),
    ] {
        let body = json!({ "name": "x", "rule": rule });
        let refused = api
            .call(&admin, "POST", "/notices/routes", Some(body))
            .await
            .expect(422);
        assert_eq!(refused.json()["field"], field, "{}", refused.text);
    }
    let off = api
        .call_with(
            &admin,
            "PATCH",
            &format!("/notices/routes/{}", made["id"]),
            &[("If-Match", "*")],
            Some(json!({ "enabled": false })),
        )
        .await
        .expect(200)
        .json();
    assert_eq!(off["enabled"], false);
    // nobody else sees or changes them
    let other = api.someone(Role::Admin, "b").await;
    let viewer = api.someone(Role::Viewer, "a").await;
    let operator = api.someone(Role::Operator, "a").await;
    api.call(&other, "GET", &path, None).await.expect(404);
    let foreign = json!({ "recipient_id": li["id"], "kind": "email", "address": "x@example.org" });
    api.call(&other, "POST", "/notices/channels", Some(foreign))
        .await
        .expect(422);
    api.call(&viewer, "GET", "/notices/recipients", None).await.expect(403);
    api.call(&operator, "GET", "/notices/recipients", None)
        .await
        .expect(200);
    api.call(&operator, "POST", "/notices/recipients", Some(json!({ "name": "x" })))
        .await
        .expect(403);
    api.call(&admin, "DELETE", &path, None).await.expect(204);
    api.call(&admin, "GET", &path, None).await.expect(404);
    api.stop().await;
}

#[actix_web::test]
async fn a_webhooks_secret_is_shown_once_and_stored_nowhere() {
    let api = Api::start().await;
    let admin = api.someone(Role::Admin, "a").await;
    let machine = recipient(&api, &admin, json!({ "name": "ticket system" })).await;
    let hook = channel(&api, &admin, &machine, "webhook", "https://a.example/hook?key=geheim").await;
    let secret = hook["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(hook["address"], "https://a.example/hook?…");
    let path = format!("/notices/channels/{}", hook["id"]);
    let again = api.call(&admin, "GET", &path, None).await.expect(200);
    assert!(
        again.json().get("secret").is_none() && !again.text.contains("geheim"),
        "{}",
        again.text
    );
    let changed = api
        .call(&admin, "POST", &format!("{path}/secret"), None)
        .await
        .expect(200)
        .json();
    assert_ne!(changed["secret"], json!(secret));
    let dump: String = sqlx::query_scalar(
        "SELECT coalesce((SELECT string_agg(c::text, ' ') FROM notice_channel c), '')
             || coalesce((SELECT string_agg(a::text, ' ') FROM audit a), '')",
    )
    .fetch_one(&mut api.db.superuser().await)
    .await
    .unwrap();
    assert!(!dump.contains("whsec") && !dump.contains(&secret[6..]));
    assert!(
        !dump
            .split("notice_channel.create")
            .nth(1)
            .unwrap_or_default()
            .contains("geheim")
    );
    let mail = channel(&api, &admin, &machine, "email", "a@example.org").await;
    assert!(mail.get("secret").is_none());
    let none = api
        .call(
            &admin,
            "POST",
            &format!("/notices/channels/{}/secret", mail["id"]),
            None,
        )
        .await;
    assert_eq!(none.expect(409).problem(), "conflict");
    api.stop().await;
}

/// A notifier as the server has it, in real time, over the API's database.
fn notifier(api: &Api, senders: Senders) -> CancellationToken {
    let stop = CancellationToken::new();
    let parts = NotifierParts {
        // the API's clock stands; what it makes is due for this one
        clock: Arc::new(SystemClock),
        outbox: Arc::new(PgOutbox::new(api.db.database())),
        senders: Arc::new(senders),
        chance: Arc::new(NoChance),
        settings: settings(),
    };
    notifier::notifier(parts, RestartPolicy::default(), stop.clone()).start();
    stop
}

#[actix_web::test]
async fn each_channel_can_be_tested_and_the_history_searched() {
    let api = Api::start().await;
    let admin = api.someone(Role::Admin, "a").await;
    let mail = Peer::start("mail_server.py", &["plain"]);
    let hook = HttpPeer::start(vec![answer("500 Broken", "", "oops"), answer("200 OK", "", "")]).await;
    let email = Email::new(&EmailSettings {
        host: "localhost".into(),
        port: mail.port,
        security: Security::Plain,
        user: String::new(),
        password: String::new().into(),
        from: "hes@example.org".into(),
        roots_pem: None,
        timeout: Duration::from_secs(60),
    })
    .unwrap();
    let http = Http::new(client_tls(None).unwrap(), Duration::from_secs(60)).unwrap();
    let here = networks("127.0.0.0/8").unwrap();
    let webhook = Webhook::new(http, key(), here, Arc::new(SystemClock));
    let stop = notifier(
        &api,
        Senders::from([
            (ChannelKind::Email, Arc::new(email) as Arc<dyn Sender>),
            (ChannelKind::Webhook, Arc::new(webhook)),
        ]),
    );
    let li = recipient(&api, &admin, json!({ "name": "Li", "language": "ja" })).await;
    let by_mail = channel(&api, &admin, &li, "email", "li@example.org").await;
    let by_hook = channel(&api, &admin, &li, "webhook", &format!("http://{}/", hook.address)).await;
    let test = |channel: &Value| format!("/notices/channels/{}/test?wait_s=60", channel["id"]);

    let tested = api.call(&admin, "POST", &test(&by_mail), None).await.expect(200).json();
    assert_eq!(
        (&tested["state"], &tested["test"], &tested["attempts"]),
        (&json!("sent"), &json!(true), &json!(1))
    );
    assert_eq!(mail.next().await["subject"], "Polyphase：テスト送信");
    // a test is tried once, and says what is wrong
    let broken = api.call(&admin, "POST", &test(&by_hook), None).await.expect(200).json();
    assert_eq!(broken["state"], "dead");
    assert!(broken["last_error"].as_str().unwrap().contains("500: oops"), "{broken}");
    let whole = api.call(&admin, "POST", &test(&by_hook), None).await.expect(200).json();
    assert_eq!(whole["state"], "sent");
    let came = hook.last();
    assert!(
        came.is_signed(by_hook["secret"].as_str().unwrap()),
        "with the secret that was shown"
    );
    assert_eq!(serde_json::from_str::<Value>(&came.body).unwrap()["type"], "test");

    // and a happening goes the whole way
    let rule = json!({ "name": "all", "rule": { "steps": [{ "recipients": [li["id"]] }] } });
    api.call(&admin, "POST", "/notices/routes", Some(rule))
        .await
        .expect(201);
    let happening = Happening {
        account: admin.account.unwrap(),
        subject: "alarm/7".into(),
        edge: Edge::Raised,
        severity: Severity::Warning,
        kind: "clock_drift".into(),
        facts: [("meter".to_owned(), "Halle 100%_".to_owned())].into(),
        groups: Vec::new(),
        at: SystemClock.now(),
    };
    happens(&api.db, happening, false, true).await;
    assert_eq!(mail.next().await["subject"], "【警告】時計のずれ：Halle 100%_");
    let find = async |query: &str| -> Vec<Value> {
        let answer = api
            .call(&admin, "GET", &format!("/notices/messages?{query}"), None)
            .await
            .expect(200);
        answer.json()["items"].as_array().unwrap().clone()
    };
    while find("state=waiting").await.len() + find("state=sending").await.len() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(find("text=halle%20100%25_").await.len(), 2);
    assert_eq!(find("text=halle%20100%25x").await.len(), 0);
    assert_eq!(find("state=dead").await.len(), 1);
    assert_eq!(find("kind=email").await.len(), 2);
    assert_eq!(find(&format!("channel_id={}&state=sent", by_hook["id"])).await.len(), 2);
    let page = api
        .call(&admin, "GET", "/notices/messages?limit=3", None)
        .await
        .expect(200)
        .json();
    let next = page["next"].as_str().unwrap();
    assert_eq!(find(&format!("limit=3&cursor={next}")).await.len(), 2);
    let notices = api
        .call(&admin, "GET", "/notices?subject=alarm/7&severity=warning", None)
        .await
        .expect(200)
        .json();
    assert_eq!(notices["items"][0]["items"].as_array().unwrap().len(), 2);
    let dead = &find("state=dead").await[0];
    let other = api.someone(Role::Admin, "b").await;
    let path = format!("/notices/messages/{}", dead["id"].as_str().unwrap());
    api.call(&other, "GET", &path, None).await.expect(404);
    api.call(&other, "POST", &format!("{path}/resend"), None)
        .await
        .expect(404);
    let theirs = api
        .call(&other, "GET", "/notices/messages", None)
        .await
        .expect(200)
        .json();
    assert_eq!(theirs["items"], json!([]));
    stop.cancel();
    api.stop().await;
}

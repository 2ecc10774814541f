//! `/integrations`: secrets once, targets within bounds, nothing of another account.

use super::world::World;
use crate::notices::peers::{HttpPeer, answer};
use polyphase::domain::access::Role;
use serde_json::{Value, json};

#[actix_web::test]
async fn an_integration_is_made_edited_and_deleted_with_an_audit_of_it() {
    let world = World::new().await;
    let (api, admin) = (&world.api, &world.admin);
    let made = world
        .add(
            json!({ "name": "broker", "kind": "mqtt", "target": "mqtts://broker.example.org", "login": "hes",
                     "password": "s3cret!", "discovery": "homeassistant" }),
        )
        .await;
    assert_eq!(
        (&made["has_password"], &made["topics"]),
        (&json!(true), &json!(["readings", "sessions"]))
    );
    assert!(made.get("secret").is_none() && made.get("password").is_none());
    assert!(!made.to_string().contains("s3cret"));
    let path = format!("/integrations/{}", made["id"]);
    let version = api.call(admin, "GET", &path, None).await.expect(200);
    let tag = version.header("etag").unwrap().to_owned();
    let edit = json!({ "name": "other", "password": null, "discovery": null, "shape": "json" });
    let edited = api
        .call_with(admin, "PATCH", &path, &[("If-Match", &tag)], Some(edit.clone()))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&edited["name"], &edited["has_password"], &edited["shape"]),
        (&json!("other"), &json!(false), &json!("json"))
    );
    let stale = api
        .call_with(admin, "PATCH", &path, &[("If-Match", &tag)], Some(edit))
        .await;
    assert_eq!(stale.expect(412).problem(), "stale");
    let none = api.call(admin, "POST", &format!("{path}/secret"), None).await;
    assert_eq!(none.expect(409).problem(), "conflict");
    api.call(admin, "DELETE", &path, None).await.expect(204);
    api.call(admin, "GET", &path, None).await.expect(404);
    let kept: String = sqlx::query_scalar(
        "SELECT string_agg(action || detail::text, ' ') FROM audit WHERE action LIKE 'integration%'",
    )
    .fetch_one(&mut api.db.superuser().await)
    .await
    .unwrap();
    for action in ["integration.create", "integration.update", "integration.delete"] {
        assert!(kept.contains(action), "{kept}");
    }
    assert!(!kept.contains("s3cret"));
    let sealed = "SELECT count(*) FROM integration WHERE sealed IS NOT NULL";
    assert_eq!(world.count(sealed).await, 0, "a deleted one keeps no password");
    world.api.stop().await;
}

#[actix_web::test]
async fn targets_and_options_are_checked_and_every_fault_is_named() {
    let world = World::new().await;
    let (api, admin) = (&world.api, &world.admin);
    for target in [
        "http://93.184.216.34/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "ftp://example.org",
        "mqtts://example.org",
    ] {
        let body = json!({ "name": "x", "kind": "webhook", "target": target });
        let refused = api.call(admin, "POST", "/integrations", Some(body)).await;
        // plain http is judged when the addresses are known; nothing goes out
        if target.starts_with("http://") {
            let id = refused.expect(201).json()["id"].clone();
            let test = api.call(admin, "POST", &format!("/integrations/{id}/test"), None).await;
            assert_eq!(test.expect(200).json()["ok"], false);
        } else {
            let fault = refused.expect(422).json();
            assert!(fault.to_string().contains("target"), "{fault}");
        }
    }
    let body = json!({ "name": " ", "kind": "mqtt", "target": "mqtts://a.example/topic", "password": "x",
                       "batch_max": 0, "prefix": "a/#", "shape": "json", "discovery": "homeassistant" });
    let all = api
        .call(admin, "POST", "/integrations", Some(body))
        .await
        .expect(422)
        .json()
        .to_string();
    for field in ["name", "target", "password", "batch_max", "prefix", "discovery"] {
        assert!(all.contains(&format!("\"{field}\"")), "{field}: {all}");
    }
    let body = json!({ "name": "x", "kind": "webhook", "target": "https://a.example", "group_id": 99 });
    let group = api.call(admin, "POST", "/integrations", Some(body)).await;
    assert!(group.expect(422).json().to_string().contains("group_id"));
    world.api.stop().await;
}

#[actix_web::test]
async fn a_test_is_sent_at_once_and_a_secret_can_be_changed() {
    let world = World::new().await;
    let (api, admin) = (&world.api, &world.admin);
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    let made = world.webhook(peer.address, json!({})).await;
    let path = format!("/integrations/{}", made["id"]);
    let test = api
        .call(admin, "POST", &format!("{path}/test"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(test["ok"], true);
    let asked = peer.last();
    assert!(asked.is_signed(made["secret"].as_str().unwrap()));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["type"], &body["id"]), (&json!("test"), &test["id"]));
    let changed = api
        .call(admin, "POST", &format!("{path}/secret"), None)
        .await
        .expect(200)
        .json();
    assert_ne!(changed["secret"], made["secret"]);
    api.call(admin, "POST", &format!("{path}/test"), None).await.expect(200);
    let asked = peer.last();
    // for a day both sign
    for secret in [&made["secret"], &changed["secret"]] {
        assert!(asked.is_signed(secret.as_str().unwrap()));
    }
    world.api.stop().await;
}

#[actix_web::test]
async fn only_admins_of_the_account_see_it() {
    let world = World::new().await;
    let made = world.webhook("127.0.0.1:9".parse().unwrap(), json!({})).await;
    let path = format!("/integrations/{}", made["id"]);
    let stranger = world.api.someone(Role::Admin, "b").await;
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/test")),
        ("POST", format!("{path}/secret")),
        ("POST", format!("{path}/resume")),
    ] {
        world.api.call(&stranger, method, &path, None).await.expect(404);
    }
    let list = world
        .api
        .call(&stranger, "GET", "/integrations", None)
        .await
        .expect(200)
        .json();
    assert_eq!(list["items"], json!([]));
    for role in [Role::Operator, Role::Billing, Role::Viewer] {
        let other = world.api.someone(role, "a").await;
        world.api.call(&other, "GET", &path, None).await.expect(403);
    }
    world.api.stop().await;
}

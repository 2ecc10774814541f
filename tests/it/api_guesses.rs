//! Guessing passwords from everywhere: few guesses pass, the owner gets in, others are served. The long form is
//! `tests/peers/run_guesses.py`.

use crate::harness::api::{Api, PASSWORD, Someone};
use futures::StreamExt;
use polyphase::api::ApiSettings;
use polyphase::api::source::TrustedProxies;
use polyphase::domain::access::Role;
use polyphase::domain::notice::target::networks;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A server that takes the word of a proxy on this host.
async fn behind_a_proxy() -> Api {
    let proxies = TrustedProxies {
        networks: networks("127.0.0.1").expect("a network"),
        ..TrustedProxies::default()
    };
    Api::start_with(ApiSettings {
        proxies,
        ..ApiSettings::default()
    })
    .await
}

async fn guess(api: &Api, email: &str, password: &str, from: &str, cookie: Option<&str>) -> u16 {
    let mut headers = vec![("X-Forwarded-For", from)];
    headers.extend(cookie.map(|cookie| ("Cookie", cookie)));
    let body = json!({"email": email, "password": password});
    api.send("POST", "/api/v1/session", &headers, Some(body)).await.status
}

/// Guesses from so many sources at once; how often each status came.
async fn flood(api: &Api, who: &Someone, count: u32, salt: u32) -> BTreeMap<u16, u32> {
    let guesses = futures::stream::iter(0..count).map(|n| async move {
        let from = format!("198.{}.{}.{}", 18 + salt % 2, n / 200, n % 200);
        // the same person, however it is typed
        let email = if n % 2 == 0 {
            who.email.to_uppercase()
        } else {
            format!(" {}", who.email)
        };
        guess(api, &email, &format!("guess {salt} {n}"), &from, None).await
    });
    guesses
        .buffer_unordered(24)
        .fold(BTreeMap::new(), |mut seen, status| async move {
            *seen.entry(status).or_insert(0) += 1;
            seen
        })
        .await
}

/// The clock stands: exactly ten of all sources together came to the password, but for those that a busy host sent away
/// from there. How many were told that it is wrong.
fn ten_passed(seen: &BTreeMap<u16, u32>, of: u32) -> u32 {
    let count = |status: u16| seen.get(&status).copied().unwrap_or(0);
    let (wrong, busy) = (count(401), count(503));
    assert!(wrong <= 10 && wrong + busy >= 10, "{seen:?}");
    assert_eq!(wrong + busy + count(429), of, "{seen:?}");
    wrong
}

#[tokio::test]
async fn ten_guesses_a_minute_pass_and_the_owner_gets_in() {
    let api = behind_a_proxy().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let bob = api.someone(Role::Viewer, "Bob").await;
    // the owner was here before: from an office, and with a browser that travels
    let body = json!({"email": ann.email, "password": PASSWORD});
    let answer = api
        .send(
            "POST",
            "/api/v1/session",
            &[("X-Forwarded-For", "203.0.113.5")],
            Some(body),
        )
        .await
        .expect(201);
    let device = answer
        .headers
        .iter()
        .find(|(name, value)| name == "set-cookie" && value.starts_with("polyphase_device="))
        .map(|(_, value)| value.clone())
        .expect("a device cookie");
    for flag in [
        "HttpOnly",
        "SameSite=Strict",
        "Path=/api/v1/session",
        "Max-Age=15552000",
    ] {
        assert!(device.contains(flag), "{device}");
    }
    let device = device.split(';').next().expect("a pair").to_owned();
    // a stranger's try for Ann was that one: it counts
    api.clock.advance(Duration::from_secs(60));

    let mut passed = 0;
    for minute in 0..3 {
        let seen = flood(&api, &ann, 300, minute).await;
        passed += ten_passed(&seen, 300);
        // a stranger waits even with the right password, the owner does not
        assert_eq!(guess(&api, &ann.email, PASSWORD, "192.0.2.99", None).await, 429);
        assert_eq!(guess(&api, &ann.email, PASSWORD, "203.0.113.5", None).await, 201);
        assert_eq!(guess(&api, &ann.email, PASSWORD, "192.0.2.7", Some(&device)).await, 201);
        // a cookie of one's own opens nobody else's door, a forged one none
        assert_eq!(guess(&api, &bob.email, "wrong", "192.0.2.77", Some(&device)).await, 401);
        let (begin, end) = device.split_at(device.len() - 40);
        let other = if end.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{begin}{other}{}", &end[1..]);
        assert_eq!(
            guess(&api, &ann.email, PASSWORD, "192.0.2.78", Some(&forged)).await,
            429
        );
        api.call(&bob, "GET", "/session", None).await.expect(200);
        api.clock.advance(Duration::from_secs(60));
    }
    // Ann sees what happened, in few rows
    let told = api.call(&ann, "GET", "/sign-ins", None).await.expect(200).json();
    let refused = told["items"].as_array().expect("items").iter();
    let refused = refused.filter(|item| item["outcome"] == "wrong_password");
    let (times, throttled) = refused.fold((0, 0), |(times, throttled), item| {
        (
            times + item["times"].as_i64().unwrap_or(0),
            throttled + item["throttled_before"].as_i64().unwrap_or(0),
        )
    });
    assert_eq!(times, i64::from(passed));
    assert!(throttled > 0, "{told}");
    api.stop().await;
}

/// What the owner has used before outlives the server.
#[tokio::test]
async fn after_a_restart_the_owner_is_still_known() {
    let api = behind_a_proxy().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    assert_eq!(guess(&api, &ann.email, PASSWORD, "203.0.113.5", None).await, 201);
    let api = api.restart().await;
    ten_passed(&flood(&api, &ann, 60, 0).await, 60);
    assert_eq!(guess(&api, &ann.email, PASSWORD, "203.0.113.6", None).await, 429);
    assert_eq!(guess(&api, &ann.email, PASSWORD, "203.0.113.5", None).await, 201);
    // not for ever
    api.clock.advance(Duration::from_secs(181 * 86_400));
    flood(&api, &ann, 60, 1).await;
    assert_eq!(guess(&api, &ann.email, PASSWORD, "203.0.113.5", None).await, 429);
    api.stop().await;
}

/// One source that tries many names is stopped before anything is looked up, whoever they are.
#[tokio::test]
async fn one_source_has_thirty_tries_a_minute() {
    let api = behind_a_proxy().await;
    let mut passed = 0;
    for n in 0..60 {
        let status = guess(&api, &format!("user{n}@nowhere.example"), "x", "198.51.100.9", None).await;
        assert!([401, 429].contains(&status), "{status}");
        passed += u32::from(status == 401);
    }
    assert_eq!(passed, 30);
    api.stop().await;
}

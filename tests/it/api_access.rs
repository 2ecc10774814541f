//! Second factors, sessions, the history of sign-ins, scopes of keys, and whose word about a client's address is taken.

use crate::harness::api::{Api, PASSWORD, Someone};
use crate::harness::http::Answer;
use chrono::{DateTime, Utc};
use polyphase::api::ApiSettings;
use polyphase::api::source::TrustedProxies;
use polyphase::domain::access::Role;
use polyphase::domain::notice::target::networks;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use totp_rs::{Builder, Secret};

/// An authenticator app.
struct App(totp_rs::Totp);

impl App {
    fn new(base32: &str) -> Self {
        let secret = Secret::try_from_base32(base32).expect("base32");
        Self(Builder::new().with_secret(secret).build().expect("a secret"))
    }

    fn code(&self, at: DateTime<Utc>) -> String {
        self.0
            .generate(u64::try_from(at.timestamp()).expect("after 1970"))
            .to_string()
    }
}

async fn sign_in(api: &Api, email: &str, code: Option<&str>) -> Answer {
    let body = json!({"email": email, "password": PASSWORD, "code": code});
    api.send("POST", "/api/v1/session", &[], Some(body)).await
}

fn session(who: &Someone, answer: &Answer) -> Someone {
    Someone {
        key: answer.json()["token"].as_str().expect("a token").to_owned(),
        ..who.clone()
    }
}

/// Signs in and enrols; gives the session, the app and the recovery codes.
async fn enrolled(api: &Api, who: &Someone) -> (Someone, App, Vec<String>) {
    let answer = sign_in(api, &who.email, None).await.expect(201);
    let at = session(who, &answer);
    let body = Some(json!({"password": PASSWORD}));
    let made = api
        .call(&at, "POST", "/session/second-factor", body)
        .await
        .expect(201)
        .json();
    let app = App::new(made["secret"].as_str().expect("a secret"));
    assert!(
        made["uri"]
            .as_str()
            .expect("a URI")
            .starts_with("otpauth://totp/Polyphase:")
    );
    let body = Some(json!({"code": app.code(api.now())}));
    let codes = api
        .call(&at, "POST", "/session/second-factor/confirm", body)
        .await
        .expect(200)
        .json();
    let codes = codes["recovery_codes"].as_array().expect("codes");
    let codes = codes.iter().filter_map(|code| code.as_str().map(str::to_owned));
    (at, app, codes.collect())
}

#[tokio::test]
async fn a_second_factor_counts_once_confirmed_and_each_code_once() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let at = session(&ann, &sign_in(&api, &ann.email, None).await.expect(201));
    let view = async |who: &Someone| {
        let view = api.call(who, "GET", "/session/second-factor", None).await.expect(200);
        view.json()["state"].as_str().expect("a state").to_owned()
    };
    assert_eq!(view(&at).await, "none");
    // neither a key nor a wrong password begins one
    let body = || Some(json!({"password": PASSWORD}));
    api.call(&ann, "POST", "/session/second-factor", body())
        .await
        .expect(403);
    let wrong = Some(json!({"password": "wrong horse"}));
    api.call(&at, "POST", "/session/second-factor", wrong).await.expect(422);
    let first = api
        .call(&at, "POST", "/session/second-factor", body())
        .await
        .expect(201)
        .json();
    assert_eq!(view(&at).await, "pending");
    sign_in(&api, &ann.email, None).await.expect(201);
    // asked again: another secret, and the one before is worth nothing
    let second = api
        .call(&at, "POST", "/session/second-factor", body())
        .await
        .expect(201)
        .json();
    assert_ne!(first["secret"], second["secret"]);
    let confirm = |code: String| Some(json!({"code": code}));
    let (before, app) = (
        App::new(first["secret"].as_str().unwrap()),
        App::new(second["secret"].as_str().unwrap()),
    );
    let path = "/session/second-factor/confirm";
    api.call(&at, "POST", path, confirm(before.code(api.now())))
        .await
        .expect(422);
    let used = app.code(api.now());
    let codes = api
        .call(&at, "POST", path, confirm(used.clone()))
        .await
        .expect(200)
        .json();
    assert_eq!(codes["recovery_codes"].as_array().unwrap().len(), 10);
    assert_eq!(view(&at).await, "active");
    api.call(&at, "POST", path, confirm(used.clone())).await.expect(409);

    // the password first, and only then a word about codes
    let refused = api.sign_in(&ann.email, "wrong horse").await.expect(401);
    assert_eq!(refused.problem(), "wrong-credentials");
    let body = json!({"email": ann.email, "password": "wrong horse", "code": app.code(api.now())});
    let refused = api.send("POST", "/api/v1/session", &[], Some(body)).await.expect(401);
    assert_eq!(refused.problem(), "wrong-credentials");
    let missing = sign_in(&api, &ann.email, None).await.expect(401);
    assert_eq!(
        (missing.problem().as_str(), &missing.json()["reason"]),
        ("code-required", &json!("missing"))
    );
    // the code that confirmed it is used up
    let replay = sign_in(&api, &ann.email, Some(&used)).await.expect(401);
    assert_eq!(
        (replay.problem().as_str(), &replay.json()["reason"]),
        ("code-required", &json!("wrong"))
    );
    api.clock.advance(Duration::from_secs(60));
    // one step of drift either way, two are too many
    let drift = |steps: i64| app.code(api.now() + chrono::TimeDelta::seconds(30 * steps));
    sign_in(&api, &ann.email, Some(&drift(2))).await.expect(401);
    sign_in(&api, &ann.email, Some(&drift(0))).await.expect(201);
    // what was due before a used one is worth nothing either
    sign_in(&api, &ann.email, Some(&drift(-1))).await.expect(401);
    let ahead = drift(1);
    let spaced = format!("{} {}", &ahead[..3], &ahead[3..]);
    sign_in(&api, &ann.email, Some(&spaced)).await.expect(201);
    // across a restart
    let api = api.restart().await;
    sign_in(&api, &ann.email, Some(&ahead)).await.expect(401);
    api.clock.advance(Duration::from_secs(90));
    sign_in(&api, &ann.email, Some(&app.code(api.now()))).await.expect(201);
    // a key goes on without
    api.call(&ann, "GET", "/session", None).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn recovery_codes_work_once_each_and_nothing_of_them_is_stored() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let (at, app, codes) = enrolled(&api, &ann).await;
    let typed = codes[0].to_lowercase().replace('-', " ");
    sign_in(&api, &ann.email, Some(&typed)).await.expect(201);
    sign_in(&api, &ann.email, Some(&codes[0])).await.expect(401);
    let view = api.call(&at, "GET", "/session/second-factor", None).await.json();
    assert_eq!(view["recovery_codes_left"], 9);
    // new ones take the place of all others
    api.clock.advance(Duration::from_secs(60));
    let body = Some(json!({"code": app.code(api.now())}));
    let fresh = api
        .call(&at, "POST", "/session/second-factor/recovery-codes", body)
        .await
        .expect(200)
        .json();
    sign_in(&api, &ann.email, Some(&codes[1])).await.expect(401);
    let fresh = fresh["recovery_codes"][0].as_str().unwrap();
    sign_in(&api, &ann.email, Some(fresh)).await.expect(201);
    // neither codes nor the app's secret stand anywhere
    let secret = "SELECT string_agg(f::text || r::text, ' ') FROM second_factor f JOIN recovery_code r USING (user_id)";
    let stored: String = sqlx::query_scalar(secret)
        .fetch_one(&mut api.db.superuser().await)
        .await
        .expect("rows");
    for code in codes.iter().map(String::as_str).chain([fresh]) {
        assert!(!stored.contains(&code.replace('-', "")));
    }
    // removed with password and code
    api.clock.advance(Duration::from_secs(60));
    let remove = |password: &str, code: String| Some(json!({"password": password, "code": code}));
    let path = "/session/second-factor/remove";
    api.call(&at, "POST", path, remove("wrong horse", app.code(api.now())))
        .await
        .expect(422);
    api.call(&at, "POST", path, remove(PASSWORD, "000000".into()))
        .await
        .expect(422);
    api.call(&at, "POST", path, remove(PASSWORD, app.code(api.now())))
        .await
        .expect(204);
    api.call(&at, "POST", path, remove(PASSWORD, app.code(api.now())))
        .await
        .expect(409);
    sign_in(&api, &ann.email, None).await.expect(201);
    let audit = api
        .call(&ann, "GET", "/audit?action=second_factor.", None)
        .await
        .expect(200)
        .text;
    for action in ["enrol", "recovery", "new_recovery_codes", "remove"] {
        assert!(audit.contains(&format!("second_factor.{action}")), "{action}: {audit}");
    }
    api.stop().await;
}

#[tokio::test]
async fn an_account_can_ask_for_it_and_an_admin_can_reset_it() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let op = api.someone(Role::Operator, "Ann").await;
    let bob = api.someone(Role::Admin, "Bob").await;
    let path = format!("/accounts/{}", ann.account.expect("an account"));
    let any = [("If-Match", "*")];
    let ask = |roles: Value| Some(json!({"second_factor_roles": roles}));
    api.call_with(&ann, "PATCH", &path, &any, ask(json!(["platform"])))
        .await
        .expect(422);
    let before = session(&op, &sign_in(&api, &op.email, None).await.expect(201));
    let account = api
        .call_with(&ann, "PATCH", &path, &any, ask(json!(["operator"])))
        .await
        .expect(200);
    assert_eq!(account.json()["second_factor_roles"], json!(["operator"]));
    // sessions that stand already as well
    let refused = api.call(&before, "GET", "/dtus", None).await.expect(403);
    assert_eq!(refused.problem(), "second-factor-required");
    let opened = sign_in(&api, &op.email, None).await.expect(201);
    assert_eq!(opened.json()["second_factor_due"], true);
    // others are not asked, keys go on
    assert_eq!(
        sign_in(&api, &ann.email, None).await.expect(201).json()["second_factor_due"],
        false
    );
    api.call(&op, "GET", "/dtus", None).await.expect(200);
    let who = api.call(&before, "GET", "/session", None).await.expect(200).json();
    assert_eq!(who["second_factor_due"], true);
    let (at, app, _) = enrolled(&api, &op).await;
    api.call(&at, "GET", "/dtus", None).await.expect(200);
    api.clock.advance(Duration::from_secs(60));
    let body = Some(json!({"password": PASSWORD, "code": app.code(api.now())}));
    let kept = api
        .call(&at, "POST", "/session/second-factor/remove", body)
        .await
        .expect(403);
    assert_eq!(kept.problem(), "second-factor-required");

    // reset: by another admin of the account alone, and it ends the sessions
    let reset = format!("/users/{}/second-factor", op.user);
    api.call(&op, "DELETE", &reset, None).await.expect(403);
    api.call(&bob, "DELETE", &reset, None).await.expect(404);
    api.call(&ann, "DELETE", &reset, None).await.expect(204);
    api.call(&ann, "DELETE", &reset, None).await.expect(404);
    let own = format!("/users/{}/second-factor", ann.user);
    api.call(&ann, "DELETE", &own, None).await.expect(403);
    api.call(&at, "GET", "/session", None).await.expect(401);
    assert_eq!(
        sign_in(&api, &op.email, None).await.expect(201).json()["second_factor_due"],
        true
    );
    let audit = api
        .call(&ann, "GET", "/audit?action=second_factor.reset", None)
        .await
        .json();
    assert_eq!(audit["items"][0]["actor"], ann.email.as_str());
    assert_eq!(audit["items"][0]["object"], format!("user/{}", op.user));
    api.stop().await;
}

#[tokio::test]
async fn the_server_can_ask_it_of_its_platform_people() {
    let settings = ApiSettings {
        second_factor_platform: true,
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings).await;
    let root = api.platform().await;
    let opened = sign_in(&api, &root.email, None).await.expect(201);
    assert_eq!(opened.json()["second_factor_due"], true);
    let at = session(&root, &opened);
    api.call(&at, "GET", "/accounts", None).await.expect(403);
    let (at, ..) = enrolled(&api, &root).await;
    api.call(&at, "GET", "/accounts", None).await.expect(200);
    // acting in an account changes nothing about whose second factor it is
    let ann = api.someone(Role::Admin, "Ann").await;
    let path = format!("/session/second-factor?account={}", ann.account.unwrap());
    let view = api.call(&at, "GET", &path, None).await.expect(200).json();
    assert_eq!((&view["state"], &view["required"]), (&json!("active"), &json!(true)));
    // nobody above them: the command line
    let (db, clock) = (api.db.database(), &*api.clock);
    let reset = polyphase::cli::access::reset_second_factor(db, clock, &root.email).await;
    assert!(reset.expect("reset"));
    api.call(&at, "GET", "/session", None).await.expect(401);
    sign_in(&api, &root.email, None).await.expect(201);
    api.stop().await;
}

/// Who has the password and guesses codes: ten an hour, and the owner's own browser is not shut out by it.
#[tokio::test]
async fn codes_cannot_be_guessed_and_the_owners_browser_gets_in() {
    let settings = ApiSettings {
        proxies: TrustedProxies {
            networks: networks("127.0.0.1").unwrap(),
            ..TrustedProxies::default()
        },
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings).await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let (_, app, _) = enrolled(&api, &ann).await;
    api.clock.advance(Duration::from_secs(60));
    let with = async |code: &str, headers: &[(&str, &str)]| {
        let body = json!({"email": ann.email, "password": PASSWORD, "code": code});
        api.send("POST", "/api/v1/session", headers, Some(body)).await
    };
    let granted = with(&app.code(api.now()), &[("X-Forwarded-For", "198.51.100.1")])
        .await
        .expect(201);
    let device = granted
        .headers
        .iter()
        .find(|(name, value)| name == "set-cookie" && value.starts_with("polyphase_device="))
        .and_then(|(_, value)| value.split(';').next())
        .expect("a device cookie")
        .to_owned();
    let (mut judged, mut closed) = (0, 0);
    for guess in 0..60u32 {
        // half a minute apart, each from elsewhere: the throttle of tries lets them all through
        api.clock.advance(Duration::from_secs(30));
        let right: Vec<String> = [-1, 0, 1]
            .map(|step| app.code(api.now() + chrono::TimeDelta::seconds(30 * step)))
            .into();
        let code = (0..)
            .map(|n| format!("{:06}", guess * 7 + n))
            .find(|code| !right.contains(code))
            .unwrap();
        let from = format!("203.0.113.{guess}");
        match with(&code, &[("X-Forwarded-For", &from)]).await.status {
            401 => judged += 1,
            429 => closed += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((judged, closed), (10, 50));
    // the right code of a stranger waits as well, the owner's browser does not
    let code = app.code(api.now());
    with(&code, &[("X-Forwarded-For", "203.0.113.200")]).await.expect(429);
    with(&code, &[("X-Forwarded-For", "203.0.113.201"), ("Cookie", &device)])
        .await
        .expect(201);
    api.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_or_all() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let op = api.someone(Role::Operator, "Ann").await;
    let bob = api.someone(Role::Admin, "Bob").await;
    let body = json!({"email": op.email, "password": PASSWORD});
    let agent = [("User-Agent", "Browser/1")];
    let mut at = Vec::new();
    for _ in 0..3 {
        let answer = api
            .send("POST", "/api/v1/session", &agent, Some(body.clone()))
            .await
            .expect(201);
        at.push(session(&op, &answer));
    }
    let list = api.call(&at[2], "GET", "/sessions", None).await.expect(200).json();
    let items = list["items"].as_array().unwrap();
    let current: Vec<bool> = items.iter().map(|item| item["current"] == true).collect();
    assert_eq!(current, [true, false, false]);
    assert_eq!(
        (&items[0]["agent"], &items[0]["source"]),
        (&json!("Browser/1"), &json!("127.0.0.1"))
    );
    assert!(items[0]["last_used_at"].is_string());
    let oldest = items[2]["id"].as_i64().unwrap();
    // nobody ends another's, not by number either
    api.call(&bob, "DELETE", &format!("/sessions/{oldest}"), None)
        .await
        .expect(404);
    api.call(&ann, "DELETE", &format!("/sessions/{oldest}"), None)
        .await
        .expect(404);
    api.call(&at[2], "DELETE", &format!("/sessions/{oldest}"), None)
        .await
        .expect(204);
    api.call(&at[0], "GET", "/session", None).await.expect(401);
    api.call(&at[2], "DELETE", "/sessions", None).await.expect(204);
    api.call(&at[1], "GET", "/session", None).await.expect(401);
    api.call(&at[2], "GET", "/session", None).await.expect(200);
    // an admin sees and ends those of the account's people
    let path = format!("/users/{}/sessions", op.user);
    api.call(&bob, "GET", &path, None).await.expect(404);
    api.call(&bob, "DELETE", &path, None).await.expect(404);
    let list = api.call(&ann, "GET", &path, None).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    api.call(&ann, "DELETE", &path, None).await.expect(204);
    api.call(&at[2], "GET", "/session", None).await.expect(401);
    // many sign-ins leave no more than fifty open
    let now = api.now();
    let many = format!(
        "INSERT INTO login_session (account_id, user_id, token_hash, session_epoch, created_at, expires_at)
         SELECT account_id, id, sha256(n::text::bytea), session_epoch, '{now}', '{now}'::timestamptz + interval '1 hour'
         FROM app_user, generate_series(1, 70) n WHERE id = {}",
        op.user
    );
    api.db.sql(&many).await;
    let last = session(&op, &api.sign_in(&op.email, PASSWORD).await.expect(201));
    let list = api.call(&last, "GET", "/sessions", None).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 50);
    api.stop().await;
}

#[tokio::test]
async fn sign_ins_are_told_with_address_agent_and_place() {
    struct Towns;
    impl polyphase::port::places::Places for Towns {
        fn place(&self, address: IpAddr) -> Option<String> {
            (address.to_string() == "198.51.100.7").then(|| "Berlin, DE".to_owned())
        }
    }
    let settings = ApiSettings {
        proxies: TrustedProxies {
            networks: networks("127.0.0.1").unwrap(),
            ..TrustedProxies::default()
        },
        ..ApiSettings::default()
    };
    let api = Api::start_as(settings, |state| state.places = Arc::new(Towns)).await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let bob = api.someone(Role::Admin, "Bob").await;
    let eve = api.someone(Role::Viewer, "Ann").await;
    let attempt = async |password: &str, from: &str| {
        let body = json!({"email": eve.email, "password": password});
        let headers = [("X-Forwarded-For", from), ("User-Agent", "Browser/2")];
        api.send("POST", "/api/v1/session", &headers, Some(body)).await
    };
    for _ in 0..3 {
        attempt("wrong horse", "1.1.1.1, 198.51.100.7").await.expect(401);
    }
    api.clock.advance(Duration::from_secs(120));
    let opened = attempt(PASSWORD, "198.51.100.8").await.expect(201);
    let list = api.call(&eve, "GET", "/sign-ins", None).await.expect(200).json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{list}");
    assert_eq!(
        (&items[0]["outcome"], &items[0]["source"]),
        (&json!("granted"), &json!("198.51.100.8"))
    );
    assert_eq!(items[0]["place"], Value::Null);
    assert_eq!(
        (&items[1]["outcome"], &items[1]["times"]),
        (&json!("wrong_password"), &json!(3))
    );
    assert_eq!(
        (&items[1]["place"], &items[1]["agent"]),
        (&json!("Berlin, DE"), &json!("Browser/2"))
    );
    // the audit has the same address
    let audit = api.call(&ann, "GET", "/audit?action=session.open", None).await.json();
    assert_eq!(audit["items"][0]["detail"]["source"], "198.51.100.8");
    // an admin of the account reads it, nobody else
    let path = format!("/users/{}/sign-ins?limit=1", eve.user);
    let page = api.call(&ann, "GET", &path, None).await.expect(200).json();
    let next = page["next"].as_str().expect("more");
    let rest = api
        .call(&ann, "GET", &format!("{path}&cursor={next}"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&rest["items"][0]["id"], &rest["next"]),
        (&items[1]["id"], &Value::Null)
    );
    api.call(&bob, "GET", &path, None).await.expect(404);
    let at = session(&eve, &opened);
    api.call(&at, "GET", &path, None).await.expect(403);
    // what is older than 180 days is forgotten with the next sign-in, which is another's business no more
    api.clock.advance(Duration::from_secs(181 * 86_400));
    attempt(PASSWORD, "198.51.100.9").await.expect(201);
    let list = api.call(&eve, "GET", "/sign-ins", None).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    // refused ones can wash neither the granted ones nor the disk away
    let flood = format!(
        "INSERT INTO sign_in (account_id, user_id, at, last_at, outcome, source, agent)
         SELECT account_id, id, '{0}', '{0}', 'wrong_password', n::text, '' FROM app_user, generate_series(1, 900) n WHERE id = {1}",
        api.now(),
        eve.user
    );
    api.db.sql(&flood).await;
    attempt("wrong horse", "198.51.100.10").await.expect(401);
    let counts: Vec<(String, i64)> =
        sqlx::query_as("SELECT outcome, count(*) FROM sign_in GROUP BY outcome ORDER BY outcome")
            .fetch_all(&mut api.db.superuser().await)
            .await
            .expect("counts");
    assert_eq!(counts, [("granted".to_owned(), 1), ("wrong_password".to_owned(), 300)]);
    api.stop().await;
}

#[tokio::test]
async fn a_key_with_scopes_reaches_what_they_name() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let eve = api.someone(Role::Viewer, "Ann").await;
    let key = async |who: &Someone, scopes: Value| {
        let made = api
            .call(who, "POST", "/api-keys", Some(json!({"name": "k", "scopes": scopes})))
            .await
            .expect(201)
            .json();
        Someone {
            key: made["secret"].as_str().unwrap().to_owned(),
            ..who.clone()
        }
    };
    for (scopes, field) in [
        (json!([]), "scopes"),
        (json!(["readings"]), "scopes[0]"),
        (json!(["read", "everything:write"]), "scopes[1]"),
    ] {
        let body = Some(json!({"name": "k", "scopes": scopes}));
        let refused = api.call(&ann, "POST", "/api-keys", body).await.expect(422);
        assert_eq!(refused.json()["field"], field);
    }
    let new = |sn: &str| Some(json!({"sn": sn, "name": "x"}));
    let reader = key(&ann, json!(["read"])).await;
    api.call(&reader, "GET", "/dtus", None).await.expect(200);
    api.call(&reader, "GET", "/audit", None).await.expect(200);
    let refused = api.call(&reader, "POST", "/dtus", new("A-1")).await.expect(403);
    assert_eq!(
        (refused.problem().as_str(), &refused.json()["reason"]),
        ("forbidden", &json!("scope"))
    );
    let fitter = key(&ann, json!(["devices:write"])).await;
    api.call(&fitter, "POST", "/dtus", new("A-1")).await.expect(201);
    api.call(&fitter, "GET", "/dtus", None).await.expect(200);
    api.call(&fitter, "GET", "/alarms", None).await.expect(403);
    let view = api.call(&fitter, "GET", "/session", None).await.expect(200).json();
    assert_eq!(view["scopes"], json!(["devices:write"]));
    for (method, path) in [("DELETE", "/session"), ("GET", "/session/second-factor")] {
        let refused = api.call(&fitter, method, path, None).await.expect(403);
        assert_eq!(refused.json()["reason"], "scope");
    }
    // roles and scopes both have to allow it
    let weak = key(&eve, json!(["devices:write"])).await;
    let refused = api.call(&weak, "POST", "/dtus", new("A-2")).await.expect(403);
    assert!(refused.text.contains("not for role viewer"));
    // a key hands out no more than it has
    let keeper = key(&ann, json!(["people:write", "devices:read"])).await;
    let ask = |scopes: Value| Some(json!({"name": "k", "scopes": scopes}));
    api.call(&keeper, "POST", "/api-keys", ask(json!(["devices:read"])))
        .await
        .expect(201);
    for more in [
        json!(["devices:write"]),
        json!(["read"]),
        json!(["control:read"]),
        Value::Null,
    ] {
        let refused = api.call(&keeper, "POST", "/api-keys", ask(more.clone())).await;
        assert_eq!(refused.status, 403, "{more}");
    }
    let list = api.call(&ann, "GET", "/api-keys", None).await.expect(200).json();
    let scopes: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["scopes"])
        .collect();
    assert!(
        scopes.contains(&&Value::Null) && scopes.contains(&&json!(["read"])),
        "{scopes:?}"
    );
    // a hundred are enough
    let many = format!(
        "INSERT INTO api_key (account_id, user_id, name, hash, prefix, created_at)
         SELECT account_id, id, 'x', sha256(n::text::bytea), '', now() FROM app_user, generate_series(1, 100) n WHERE id = {}",
        eve.user
    );
    api.db.sql(&many).await;
    api.call(&eve, "POST", "/api-keys", ask(json!(["read"])))
        .await
        .expect(409);
    api.stop().await;
}

#[tokio::test]
async fn what_everybody_takes_for_a_password_is_refused() {
    let api = Api::start().await;
    let ann = api.someone(Role::Admin, "Ann").await;
    let new = |password: &str| {
        Some(
            json!({"email": "joan.miller@works.example", "name": "Joan Miller", "roles": ["viewer"], "password": password}),
        )
    };
    for easy in [
        "short",
        "password1",
        "joanmiller",
        "joan.miller@works.example",
        "Polyphase1",
    ] {
        let refused = api.call(&ann, "POST", "/users", new(easy)).await.expect(422);
        assert_eq!(refused.json()["field"], "password", "{easy}");
    }
    let made = api
        .call(&ann, "POST", "/users", new("drei nasse hunde"))
        .await
        .expect(201)
        .json();
    let path = format!("/users/{}", made["id"]);
    let any = [("If-Match", "*")];
    let patch = Some(json!({"password": "millerjoan"}));
    api.call_with(&ann, "PATCH", &path, &any, patch).await.expect(422);
    let at = session(&ann, &sign_in(&api, &ann.email, None).await.expect(201));
    let change = Some(json!({"current": PASSWORD, "new": "admin@ann.example"}));
    let refused = api.call(&at, "POST", "/session/password", change).await.expect(422);
    assert_eq!(refused.json()["field"], "new");
    api.stop().await;
}

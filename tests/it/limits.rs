//! Bounds of the API: requests of a key, heavy operations of an account, items of a list, spans of time.

use crate::harness::api::Api;
use futures::future::join_all;
use polyphase::api::access::OPERATIONS;
use polyphase::api::limits::LimitSettings;
use polyphase::api::{ApiSettings, BASE};
use polyphase::base::ids::AccountId;
use polyphase::domain::access::Role;
use serde_json::Value;
use sqlx::{Connection, Executor};
use std::time::Duration;

/// Lists without pages, and what bounds them.
const WHOLE: &[(&str, &str)] = &[
    ("list_parameters", "the catalogue"),
    ("list_default_alarm_rules", "the built-in rules"),
    ("list_alarm_rule_versions", "LIMIT in the query"),
    ("list_sessions", "the open sessions of one person"),
    ("list_user_sessions", "the open sessions of one person"),
    ("list_senders", "one a kind of channel"),
    ("get_profile", "the hours of a week"),
    ("get_read", "the quantities of one reading"),
    ("latest_readings", "one a quantity of the meter"),
    ("point_consumption", "the longest span, a register each"),
    ("meter_consumption", "the longest span, a register each"),
    ("line_loss", "the longest span"),
    ("get_series", "at most 5000 points"),
    ("next_due", "count of at most 1000"),
    ("summarise_slots", "the longest span, a row each"),
    ("get_emergency_stop", "one an account and the server's"),
];

#[actix_web::test]
async fn a_key_has_its_rate_and_another_key_does_not_pay_for_it() {
    let settings = ApiSettings {
        limits: LimitSettings {
            requests_per_s: 10,
            requests_burst: 5,
            ..LimitSettings::default()
        },
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings).await;
    let ann = api.someone(Role::Viewer, "A").await;
    let bob = api.someone(Role::Viewer, "B").await;
    for _ in 0..5 {
        api.call(&ann, "GET", "/dtus", None).await.expect(200);
    }
    let refused = api.call(&ann, "GET", "/dtus", None).await.expect(429);
    assert_eq!(refused.problem(), "too-many-requests");
    assert_eq!(refused.header("retry-after"), Some("1"));
    api.call(&bob, "GET", "/dtus", None).await.expect(200);
    // a second later there is room again, and no more than the burst
    api.clock.advance(Duration::from_secs(1));
    for _ in 0..5 {
        api.call(&ann, "GET", "/dtus", None).await.expect(200);
    }
    api.call(&ann, "GET", "/dtus", None).await.expect(429);
    let metrics = api.send("GET", "/metrics", &[], None).await.expect(200);
    assert!(
        metrics.text.contains("polyphase_http_limited_total{limit=\"rate\"}"),
        "{}",
        metrics.text
    );
    api.stop().await;
}

/// Whatever one account asks for, the database keeps connections for the others: counted, not timed.
#[actix_web::test]
async fn heavy_reports_of_one_account_leave_the_others_their_reads() {
    let settings = ApiSettings {
        limits: LimitSettings {
            heavy_per_account: 2,
            heavy_total: 3,
            heavy_waiting_max: 10,
            ..LimitSettings::default()
        },
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings).await;
    let ann = api.someone(Role::Viewer, "A").await;
    let bob = api.someone(Role::Viewer, "B").await;
    let mut holder = api.db.superuser().await;
    let mut watcher = api.db.superuser().await;
    // every report hangs as long as this is held
    let mut held = holder.begin().await.unwrap();
    held.execute("LOCK TABLE slot_ending IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    held.execute("LOCK TABLE meter_hour, meter_day IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let hanging =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

    let reports = join_all((0..30).map(|_| api.call(&ann, "GET", "/slots/summary?by=day", None)));
    let others = async {
        let mut most = 0;
        while most == 0 {
            most = sqlx::query_scalar::<_, i64>(hanging)
                .fetch_one(&mut watcher)
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..20 {
            for path in ["/dtus", "/groups", "/schedules"] {
                api.call(&bob, "GET", path, None).await.expect(200);
            }
            most = most.max(
                sqlx::query_scalar::<_, i64>(hanging)
                    .fetch_one(&mut watcher)
                    .await
                    .unwrap(),
            );
        }
        held.commit().await.unwrap();
        most
    };
    let (answers, most) = futures::join!(reports, others);
    assert!(
        (1..=2).contains(&most),
        "{most} reports of one account in the database at once"
    );
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(refused >= 20, "ten may run and wait, {refused} of 30 were refused");
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        assert!(answer.header("retry-after").is_some());
    }
    // the places are free again
    api.call(&ann, "GET", "/slots/summary?by=day", None).await.expect(200);
    api.stop().await;
}

fn parameters(operation: &Value) -> Vec<&str> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    all.filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str())
        .collect()
}

/// Every list has a page of at most 1000 items, and says so; none is asked for more.
#[actix_web::test]
async fn every_list_is_bounded() {
    let api = Api::start().await;
    let admin = api.someone(Role::Admin, "A").await;
    let document = polyphase::api::document();
    let schemas = &document["components"]["schemas"];
    let mut paged = 0;
    for row in OPERATIONS.iter().filter(|row| row.method == "GET") {
        let described = &document["paths"][format!("{BASE}{}", row.route)]["get"];
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        let name = schema["$ref"]
            .as_str()
            .and_then(|name| name.rsplit('/').next())
            .unwrap_or_default();
        let is_list = schemas[name]["properties"]["items"].is_object() || schema["properties"]["items"].is_object();
        let names = parameters(described);
        if is_list && !names.contains(&"limit") {
            let known = WHOLE.iter().any(|(id, _)| *id == row.id);
            assert!(
                known,
                "{} is a list without pages: what bounds it? Say it in tests/it/limits.rs",
                row.id
            );
        }
        if !names.contains(&"limit") {
            continue;
        }
        assert!(names.contains(&"cursor"), "{}", row.id);
        paged += 1;
        let route = row.route.replace("{id}", "1");
        for (limit, fits) in [
            ("1000", true),
            ("1001", false),
            ("0", false),
            ("-1", false),
            ("4294967296", false),
        ] {
            let answer = api.call(&admin, "GET", &format!("{route}?limit={limit}"), None).await;
            let refused = answer.status == 400 && answer.json()["field"] == "limit";
            // an object that is not there, and a list that is not for this caller, may be said first
            let other = matches!(answer.status, 403 | 404);
            assert!(
                refused != fits || other,
                "{} with limit={limit}: {}",
                row.id,
                answer.text
            );
        }
    }
    assert!(paged > 15, "{paged}");
    api.stop().await;
}

/// Whoever asks for all of time gets pages, or is told to ask in parts.
#[actix_web::test]
async fn every_span_is_bounded() {
    let api = Api::start().await;
    let admin = api.someone(Role::Admin, "A").await;
    let document = polyphase::api::document();
    let mut spans = 0;
    for row in OPERATIONS.iter().filter(|row| row.method == "GET") {
        let described = &document["paths"][format!("{BASE}{}", row.route)]["get"];
        let names = parameters(described);
        if !(names.contains(&"from") && names.contains(&"to")) {
            continue;
        }
        spans += 1;
        let route = row.route.replace("{id}", "1");
        let needed = if names.contains(&"quantity") && row.id == "get_series" {
            "&meter_id=1&quantity=voltage_l1"
        } else {
            ""
        };
        let path = format!("{route}?from=1970-01-02T00:00:00Z&to=9998-01-01T00:00:00Z{needed}");
        let answer = api.call(&admin, "GET", &path, None).await;
        let in_parts = answer.status == 400 && answer.json()["field"] == "from";
        let by_pages = names.contains(&"limit") && matches!(answer.status, 200 | 404);
        assert!(
            in_parts || by_pages,
            "{} over all of time: {} {}",
            row.id,
            answer.status,
            answer.text
        );
    }
    assert!(spans >= 5, "{spans}");
    api.stop().await;
}

/// What runs for too long is ended by the database itself.
#[actix_web::test]
async fn the_database_ends_what_takes_too_long() {
    let api = Api::start().await;
    let database = api.db.database();
    let scoped = database.scoped(AccountId(1)).begin().await.unwrap();
    let platform = database.platform().begin().await.unwrap();
    for mut transaction in [scoped, platform] {
        let set: String = sqlx::query_scalar("SELECT current_setting('statement_timeout')")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_ne!(set, "0");
    }
    api.stop().await;
}

//! What the contract says that no description shows: the list of a line's transactions, heads without bodies.

use crate::harness::api::{Api, Someone};
use chrono::TimeDelta;
use polyphase::base::ids::{ConnectionId, DtuId, FrameId, MeterId, PollId};
use polyphase::domain::access::Role;
use polyphase::port::field::Priority;
use polyphase::port::frames::{FrameKind, RawFrame, RecordedFrame, Turn, TurnEnding};
use serde_json::{Value, json};

async fn dtu(api: &Api, who: &Someone, sn: &str) -> i32 {
    let body = json!({"sn": sn, "name": sn});
    let made = api.call(who, "POST", "/dtus", Some(body)).await.expect(201);
    i32::try_from(made.json()["id"].as_i64().expect("an id")).expect("small")
}

/// A question every minute of which every third was not answered, and a heartbeat behind each.
fn record(api: &Api, dtu: i32, questions: i64) {
    for n in 0..questions {
        let answered = n % 3 != 2;
        let frame = |place: i64, kind, turn| RecordedFrame {
            id: FrameId(n * 10 + place),
            frame: RawFrame {
                at: api.now() + TimeDelta::minutes(n) + TimeDelta::milliseconds(place),
                dtu: Some(DtuId(dtu)),
                connection: ConnectionId(1),
                meter: (place < 3).then_some(MeterId(7)),
                poll: (place < 3).then_some(PollId(n)),
                kind,
                protocol: "modbus-rtu".into(),
                bytes: vec![1].into(),
                turn,
            },
        };
        let ending = if answered {
            TurnEnding::Answered
        } else {
            TurnEnding::Timeout
        };
        let turn = Turn {
            priority: Priority::Scheduled,
            waited_ms: 40,
            held_ms: 85,
            ending,
        };
        api.frames.add(frame(1, FrameKind::Request, Some(turn)));
        if answered {
            api.frames.add(frame(2, FrameKind::Answer, None));
        }
        api.frames.add(frame(3, FrameKind::Heartbeat, None));
    }
}

fn starts(items: &Value) -> Vec<String> {
    let items = items["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["start"].as_str().expect("a time").to_owned())
        .collect()
}

#[actix_web::test]
async fn the_transactions_of_a_line_are_listed_newest_first_by_span_and_page() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let maker = api.someone(Role::Admin, "Ann").await;
    let id = dtu(&api, &maker, "LINE-1").await;
    record(&api, id, 20);
    let all = api
        .call(&ann, "GET", &format!("/dtus/{id}/line"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (all["items"].as_array().expect("items").len(), &all["next"]),
        (20, &Value::Null)
    );
    let newest = &all["items"][1];
    assert_eq!(
        (
            &newest["meter_id"],
            &newest["priority"],
            &newest["result"],
            &newest["frame_ids"]
        ),
        (&json!(7), &json!("scheduled"), &json!("answered"), &json!([181, 182]))
    );
    assert_eq!((&newest["wait_ms"], &newest["duration_ms"]), (&json!(40), &json!(85)));
    assert_eq!(
        (&all["items"][0]["result"], &all["items"][0]["frame_ids"]),
        (&json!("answered"), &json!([191, 192]))
    );
    assert_eq!(
        (&all["items"][2]["result"], &all["items"][2]["frame_ids"]),
        (&json!("timeout"), &json!([171]))
    );
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/dtus/{id}/line?limit=7{cursor}");
        let page = api.call(&ann, "GET", &path, None).await.expect(200).json();
        paged.extend(starts(&page));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, starts(&all));
    let at = |minute: i64| {
        let at = api.now() + TimeDelta::minutes(minute);
        at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let path = format!("/dtus/{id}/line?from={}&to={}", at(5), at(9));
    let some = api.call(&ann, "GET", &path, None).await.expect(200).json();
    assert_eq!(starts(&some), &starts(&all)[11..15]);
    for wrong in [
        "from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z",
        "from=today",
        "cursor=x",
        "limit=0",
    ] {
        let path = format!("/dtus/{id}/line?{wrong}");
        assert_eq!(
            api.call(&ann, "GET", &path, None).await.expect(400).problem(),
            "bad-query",
            "{wrong}"
        );
    }
    let other = api.someone(Role::Admin, "Bob").await;
    assert_eq!(
        api.call(&other, "GET", &format!("/dtus/{id}/line"), None).await.status,
        404
    );
}

#[actix_web::test]
async fn what_can_be_got_has_a_head() {
    let api = Api::start().await;
    let ann = api.someone(Role::Viewer, "Ann").await;
    let key = format!("Bearer {}", ann.key);
    let headers = [("Authorization", key.as_str())];
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/openapi.json",
        "/api/v1/session",
        "/api/v1/meters",
    ] {
        let head = api.send("HEAD", path, &headers, None).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert!(
            head.header("content-type").is_some() && head.header("x-request-id").is_some(),
            "{path}"
        );
    }
    assert_eq!(api.send("HEAD", "/api/v1/meters/1", &headers, None).await.status, 404);
    assert_eq!(api.send("HEAD", "/api/v1/meters", &[], None).await.status, 401);
    assert_eq!(api.send("HEAD", "/api/v1/stream", &headers, None).await.status, 405);
}

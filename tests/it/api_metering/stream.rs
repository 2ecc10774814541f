//! The live stream over HTTP: whose events, which, from where, and until when.

use super::{House, energy, id, meter_id};
use crate::harness::api::Someone;
use polyphase::base::ids::DtuId;
use polyphase::domain::access::Role;
use polyphase::port::events::describe;
use polyphase::port::live::{LiveFeed, Topic};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client of the stream.
struct Listener {
    socket: TcpStream,
    text: String,
}

/// One event.
#[derive(Debug, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Json,
}

impl Listener {
    /// Opens a stream; returns when its head and greeting have come.
    async fn open(address: SocketAddr, who: &Someone, query: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("connect");
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /api/v1/stream{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer {}\r\n{last}\r\n",
            who.key
        );
        socket.write_all(head.as_bytes()).await.expect("write");
        let mut listener = Self {
            socket,
            text: String::new(),
        };
        listener.until(": welcome\n\n").await;
        assert!(listener.text.starts_with("HTTP/1.1 200"), "{}", listener.text);
        assert!(
            listener.text.contains("content-type: text/event-stream"),
            "{}",
            listener.text
        );
        assert!(
            !listener.text.contains("gzip"),
            "a compressor would hold events back: {}",
            listener.text
        );
        let begin = listener.text.find(": welcome\n\n").expect("found") + ": welcome\n\n".len();
        listener.text = listener.text[begin..].to_owned();
        listener
    }

    async fn until(&mut self, end: &str) {
        let wait = async {
            while !self.text.contains(end) {
                let mut bytes = [0; 4096];
                let count = self.socket.read(&mut bytes).await.expect("read");
                assert!(count > 0, "the stream ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "{end:?} did not come");
    }

    /// The next event. Chunk frames of HTTP stand on lines of their own and are skipped.
    async fn next(&mut self) -> Event {
        self.until("\ndata: ").await;
        let from = self.text.find("\ndata: ").expect("found");
        let whole = async {
            while !self.text[from..].contains("\n\n") {
                let mut bytes = [0; 4096];
                let count = self.socket.read(&mut bytes).await.expect("read");
                self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        tokio::time::timeout(Duration::from_secs(60), whole)
            .await
            .expect("a whole event");
        let end = from + self.text[from..].find("\n\n").expect("found") + 2;
        let block: String = self.text.drain(..end).collect();
        let field = |name: &str| {
            let line = block.lines().rfind(|line| line.starts_with(name));
            line.map(|line| line[name.len()..].trim().to_owned())
                .unwrap_or_default()
        };
        Event {
            id: field("id:"),
            name: field("event:"),
            data: serde_json::from_str(&field("data:")).expect("JSON"),
        }
    }
}

#[tokio::test]
async fn events_reach_their_account_alone_and_resume() {
    let house = House::new().await;
    let dtu = house.dtu("SN-1").await;
    let meter = house.meter(dtu, 1).await;
    let bob = house.api.someone(Role::Viewer, "Bob").await;
    let (ann_account, bob_account) = (house.ann.account.unwrap(), bob.account.unwrap());
    let small = DtuId(i32::try_from(dtu).unwrap());
    let address = house.api.address;
    let mut anns = Listener::open(address, &house.ann, "?topics=readings,slots", None).await;
    let mut bobs = Listener::open(address, &bob, "", None).await;

    let record = house.read(&meter, house.api.now(), vec![energy("12.5")]);
    house.store(std::slice::from_ref(&record)).await;
    for (topic, data) in describe(&record) {
        house
            .api
            .live
            .publish(ann_account, topic, Some(small), Some(meter_id(&meter)), data);
    }
    house
        .api
        .live
        .publish(ann_account, Topic::Sessions, Some(small), None, json!({"n": 1}));
    house
        .api
        .live
        .publish(bob_account, Topic::Sessions, None, None, json!({"n": 2}));
    house.api.live.publish(
        ann_account,
        Topic::Slots,
        Some(small),
        Some(meter_id(&meter)),
        json!({"n": 3}),
    );

    let reading = anns.next().await;
    assert_eq!(
        (reading.name.as_str(), &reading.data["meter_id"]),
        ("readings", &meter["id"])
    );
    // the items are those of /readings
    let shown = house
        .items(&format!("/meters/{}/readings?to=2026-03-01T13:00:00Z", id(&meter)))
        .await;
    assert_eq!(reading.data["items"], json!(shown));
    let slot = anns.next().await;
    assert_eq!((slot.name.as_str(), &slot.data["state"]), ("slots", &json!("actual")));
    assert_eq!(anns.next().await.data, json!({"n": 3}));
    assert_eq!(
        bobs.next().await.data,
        json!({"n": 2}),
        "the first that Bob hears is his own"
    );

    // behind the reading: what came after it, also topics that were not heard before
    let mut again = Listener::open(address, &house.ann, "", Some(&reading.id)).await;
    let names: Vec<String> = [again.next().await, again.next().await, again.next().await]
        .map(|event| event.name)
        .into();
    assert_eq!(names, ["slots", "sessions", "slots"]);
    // a place of an earlier run, of nowhere, of the future
    for gone in ["17-4", "nonsense", "1-99999999"] {
        let mut reset = Listener::open(address, &house.ann, "", Some(gone)).await;
        assert_eq!(reset.next().await.name, "reset", "{gone}");
        house
            .api
            .live
            .publish(ann_account, Topic::Jobs, None, None, json!({"after": gone}));
        assert_eq!(reset.next().await.data, json!({"after": gone}));
    }
    // one meter's alone
    let mut one = Listener::open(
        address,
        &house.ann,
        &format!("?meter_id={}&topics=slots", id(&meter)),
        None,
    )
    .await;
    house
        .api
        .live
        .publish(ann_account, Topic::Slots, Some(small), None, json!({"n": 4}));
    house.api.live.publish(
        ann_account,
        Topic::Slots,
        Some(small),
        Some(meter_id(&meter)),
        json!({"n": 5}),
    );
    assert_eq!(one.next().await.data, json!({"n": 5}));
    house.get("/stream?topics=weather").await.expect(400);
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it() {
    let house = House::new().await;
    let mut stream = Listener::open(house.api.address, &house.ann, "", None).await;
    let keys = house.items("/api-keys").await;
    house.delete(&format!("/api-keys/{}", id(&keys[0]))).await.expect(204);
    let account = house.ann.account.unwrap();
    // busy or silent, it is looked at again within seconds
    house
        .api
        .live
        .publish(account, Topic::Jobs, None, None, json!({"n": 1}));
    assert_eq!(stream.next().await.data, json!({"n": 1}));
    assert_eq!(stream.next().await.name, "end");
    let mut rest = Vec::new();
    stream.socket.read_to_end(&mut rest).await.expect("the end");
    house
        .api
        .live
        .publish(account, Topic::Jobs, None, None, json!({"n": 2}));
    assert!(!String::from_utf8_lossy(&rest).contains("event: jobs"));
}

/// A stream outlives neither the rights nor the password that opened it, nor the person's being there.
#[tokio::test]
async fn streams_end_with_their_persons_rights() {
    let house = House::new().await;
    let api = &house.api;
    let admin = api.someone(Role::Admin, "Ann").await;
    let people = [
        (house.ann.clone(), json!({"roles": ["viewer"]})),
        (api.someone(Role::Viewer, "Ann").await, json!({"disabled": true})),
        (
            api.someone(Role::Billing, "Ann").await,
            json!({"password": "another horse"}),
        ),
    ];
    let mut streams = Vec::new();
    for (who, change) in people {
        let opened = api.sign_in(&who.email, crate::harness::api::PASSWORD).await.expect(201);
        let token = opened.json()["token"].as_str().expect("a token").to_owned();
        let session = Someone { key: token, ..who };
        let stream = Listener::open(api.address, &session, "", None).await;
        streams.push((stream, session.user, change));
    }
    for (_, user, change) in &streams {
        let path = format!("/users/{user}");
        let changed = api
            .call_with(&admin, "PATCH", &path, &[("If-Match", "*")], Some(change.clone()))
            .await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    }
    for (stream, _, change) in &mut streams {
        assert_eq!(stream.next().await.name, "end", "{change}");
    }
}

#[tokio::test]
async fn a_closing_feed_ends_the_streams() {
    let house = House::new().await;
    let mut stream = Listener::open(house.api.address, &house.ann, "", None).await;
    house.api.live.close();
    assert_eq!(stream.next().await.name, "end");
    let House { api, .. } = house;
    tokio::time::timeout(Duration::from_secs(60), api.stop())
        .await
        .expect("no stream holds the stop up");
}

#[tokio::test]
async fn cut_and_resumed_many_times_under_load_each_event_comes_once() {
    const EVENTS: u64 = 4_000;
    let house = House::new().await;
    let (account, address) = (house.ann.account.unwrap(), house.api.address);
    let mut listener = Some(Listener::open(address, &house.ann, "?topics=jobs", None).await);
    let live = house.api.live.clone();
    let load = tokio::spawn(async move {
        for n in 0..EVENTS {
            live.publish(account, Topic::Jobs, None, None, json!({ "n": n }));
            // what the filter leaves out moves the place as well
            live.publish(account, Topic::Line, None, None, json!({ "line": n }));
            if n % 37 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut expected, mut last, mut cuts) = (0, String::new(), 0);
    while expected < EVENTS {
        let mut open = match listener.take() {
            Some(open) => open,
            None => Listener::open(address, &house.ann, "?topics=jobs", Some(&last)).await,
        };
        // cut after one to some two hundred events, in the middle of whatever is on its way
        for _ in 0..=(cuts * 53) % 211 {
            let event = open.next().await;
            assert_eq!((event.name.as_str(), &event.data["n"]), ("jobs", &json!(expected)));
            (last, expected) = (event.id, expected + 1);
            if expected == EVENTS {
                break;
            }
        }
        cuts += 1;
    }
    load.await.expect("the load");
    assert!(cuts > 20, "{cuts}");
}

#[tokio::test]
async fn who_does_not_read_costs_no_memory_and_is_told_what_passed() {
    const EVENTS: u64 = 30_000;
    let house = House::new().await;
    let account = house.ann.account.unwrap();
    let mut slow = Listener::open(house.api.address, &house.ann, "?topics=jobs", None).await;
    let filler = "x".repeat(400);
    for n in 0..EVENTS {
        house
            .api
            .live
            .publish(account, Topic::Jobs, None, None, json!({ "n": n, "filler": filler }));
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // the window's bound, whoever listens
    assert!(house.api.live.bytes() <= 16 << 20);
    let (mut next, mut missed) = (0, 0);
    while next < EVENTS {
        let event = slow.next().await;
        if event.name == "missed" {
            missed += event.data["events"].as_u64().expect("a count");
            next += event.data["events"].as_u64().expect("a count");
        } else {
            assert_eq!(event.data["n"], json!(next), "nothing but what is counted is left out");
            next += 1;
        }
    }
    assert!(missed > 0 && missed < EVENTS, "{missed}");
}

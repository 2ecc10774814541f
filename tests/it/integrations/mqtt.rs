//! MQTT against mosquitto, read by another maker's client (PyPI paho-mqtt).

use super::world::{World, reading, settings, until};
use crate::harness::notices::key;
use crate::notices::peers::Peer;
use polyphase::domain::notice::target::networks;
use polyphase::outbound::http::client_tls;
use polyphase::outbound::mqtt::Mqtt;
use polyphase::outbound::seal::Sealer;
use polyphase::port::integrations::{Broker as _, BrokerTarget, Publication};
use polyphase::port::notices::SendError;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CALM: Duration = Duration::from_secs(60);

/// A mosquitto of the test's own, with a folder in which it keeps what is retained.
struct Mosquitto {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn program() -> &'static str {
    ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .expect("mosquitto is not there: run scripts/install.sh test")
}

fn launch(folder: &Path) -> Child {
    Command::new(program())
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Mosquitto {
    /// Who knows the password `s3cret` of `hes`, and `reader`, gets in. `more`: lines of its configuration.
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let passwords = folder.path().join("passwords");
        for (at, (user, password)) in [("hes", "s3cret"), ("reader", "r3ader")].into_iter().enumerate() {
            let made = Command::new("mosquitto_passwd")
                .args(if at == 0 { &["-c", "-b"][..] } else { &["-b"][..] })
                .arg(&passwords)
                .args([user, password])
                .status()
                .unwrap();
            assert!(made.success());
        }
        let here = folder.path().display();
        std::fs::write(
            folder.path().join("mosquitto.conf"),
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\nuser root\npersistence true\n\
                 persistence_location {here}/\nmax_queued_messages 0\nmax_inflight_messages 10\n{more}\n",
                passwords.display()
            ),
        )
        .unwrap();
        let child = launch(folder.path());
        let broker = Self { folder, port, child };
        broker.listens().await;
        broker
    }

    async fn listens(&self) {
        until("mosquitto listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn again(&mut self) {
        self.child = launch(self.folder.path());
        self.listens().await;
    }

    fn reader(&self) -> Peer {
        Peer::start("mqtt_reader.py", &[&self.port.to_string(), "reader", "r3ader"])
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

async fn joined(world: &World, broker: &Mosquitto, more: Value) -> Value {
    let mut body = json!({ "name": "broker", "kind": "mqtt", "target": broker.url(), "login": "hes",
                           "password": "s3cret", "prefix": "site/meters" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.add(body).await
}

/// Every message until one on this topic satisfies.
async fn heard(peer: &Peer, topic: &str, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let message = peer.next().await;
        let done = message["topic"] == topic && holds(&message);
        all.push(message);
        if done {
            return all;
        }
    }
}

#[actix_web::test]
async fn readings_states_and_discovery_stand_at_the_broker() {
    let world = World::new().await;
    let broker = Mosquitto::start("").await;
    let live = broker.reader();
    joined(
        &world,
        &broker,
        json!({ "discovery": "homeassistant", "expiry_s": 3600 }),
    )
    .await;
    world
        .api
        .db
        .sql("INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at) VALUES (7, 1, 1, 'x', now())")
        .await;
    let integrator = world.integrator(settings(), CALM);
    world.stored(vec![reading(1, 120, 42)]).await;
    let energy = "site/meters/1/SN-1/1/active_energy_import";
    let all = heard(&live, energy, |_| true).await;
    let told = all.last().unwrap();
    assert_eq!(
        (&told["payload"], &told["retain"], &told["qos"]),
        (&json!("42"), &json!(true), &json!(1))
    );
    let properties = &told["properties"];
    assert_eq!(
        (&properties["unit"], &properties["quality"]),
        (&json!("kWh"), &json!("measured"))
    );
    assert!(properties["id"].as_str().unwrap().starts_with("reading-1-"));
    assert!(properties["read_at"].as_str().is_some());
    assert!(told["expiry"].as_u64().is_some_and(|left| left <= 3600));
    let config = all
        .iter()
        .find(|message| message["topic"] == "homeassistant/sensor/polyphase_1_1/active_energy_import/config")
        .expect("it is introduced before its value");
    let config: Value = serde_json::from_str(config["payload"].as_str().unwrap()).unwrap();
    assert_eq!(
        (
            &config["state_topic"],
            &config["device_class"],
            &config["state_class"],
            &config["unit_of_measurement"]
        ),
        (
            &json!(energy),
            &json!("energy"),
            &json!("total_increasing"),
            &json!("kWh")
        )
    );
    // what is older than the newest does not take its place
    world.stored(vec![reading(1, 60, 41)]).await;
    let late = heard(&live, "site/meters/1/SN-1/1/_past/active_energy_import", |_| true).await;
    assert_eq!(late.last().unwrap()["retain"], false);
    world
        .api
        .db
        .sql("UPDATE dtu_session SET ended_at = now(), cause = 'silent' WHERE id = 7")
        .await;
    heard(&live, "site/meters/1/SN-1/_status", |message| {
        message["payload"] == "offline"
    })
    .await;
    // who comes later finds the newest of everything
    let later = Peer::start("mqtt_reader.py", &[&broker.port.to_string(), "hes", "s3cret"]);
    drop(live);
    let mut retained = BTreeMap::new();
    while retained.len() < 6 {
        let message = later.next().await;
        retained.insert(
            message["topic"].as_str().unwrap().to_owned(),
            message["payload"].clone(),
        );
    }
    assert_eq!(retained["site/meters/1/_status"], "online");
    assert_eq!(retained[energy], "42");
    // a removed meter is forgotten: at the next look, or when the connection is made anew
    world
        .api
        .db
        .sql("UPDATE meter SET deleted_at = now() WHERE id = 1")
        .await;
    integrator.stop().await;
    heard(&later, "site/meters/1/_status", |message| {
        message["payload"] == "offline"
    })
    .await;
    let integrator = world.integrator(settings(), CALM);
    let mut cleared = BTreeSet::new();
    while !cleared.contains(energy) || cleared.len() < 4 {
        let message = later.next().await;
        if message["payload"] == "" {
            cleared.insert(message["topic"].as_str().unwrap().to_owned());
        }
    }
    assert!(
        cleared.contains("homeassistant/sensor/polyphase_1_1/active_energy_import/config"),
        "{cleared:?}"
    );
    integrator.stop().await;
    world.api.stop().await;
}

/// What a subscriber has seen: the ids of readings by what they said.
fn seen(messages: &[Value], ids: &mut BTreeMap<String, BTreeSet<String>>) {
    for message in messages {
        let topic = message["topic"].as_str().unwrap();
        if topic.ends_with("/active_energy_import") {
            // site/meters/ACCOUNT/DTU/METER/…
            let meter = topic.split('/').nth(4).unwrap();
            let said = format!("{meter} {}", message["payload"]);
            let id = message["properties"]["id"].as_str().unwrap().to_owned();
            ids.entry(said).or_default().insert(id);
        }
    }
}

#[actix_web::test]
async fn kills_of_broker_and_integrator_lose_nothing_and_repeat_under_one_id() {
    let world = World::new().await;
    let mut broker = Mosquitto::start("").await;
    let reader = broker.reader();
    joined(&world, &broker, json!({ "topics": ["readings"] })).await;
    let mut integrator = world.integrator(settings(), Duration::from_secs(20));
    let mut energy = 0;
    for round in 0..4 {
        for _ in 0..6 {
            energy += 1;
            let batch = (1..=4)
                .map(|meter| reading(meter, energy * 10, 1_000_000 + energy))
                .collect();
            world.stored(batch).await;
        }
        match round {
            0 => {
                integrator.kill().await;
                integrator = world.integrator(settings(), Duration::from_secs(20));
            }
            1 => {
                // the reader's session is kept by the broker's own rules; what matters is that nothing was taken for told
                broker.kill().await;
                broker.again().await;
            }
            2 => {
                broker.kill().await;
                integrator.kill().await;
                broker.again().await;
                integrator = world.integrator(settings(), Duration::from_secs(20));
            }
            _ => {}
        }
    }
    until("the cursor is at the end", async || {
        world.look(&json!(1)).await["lag"] == 0
    })
    .await;
    // what the broker had confirmed when it was killed it may have lost itself; what is newest it was told again or keeps
    let mut ids = BTreeMap::new();
    let last = |meter: i32| format!("{meter} \"{}\"", 1_000_000 + energy);
    until("the newest values are there", async || {
        seen(&reader.rest(), &mut ids);
        (1..=4).all(|meter| ids.contains_key(&last(meter)))
    })
    .await;
    for (said, under) in &ids {
        assert_eq!(under.len(), 1, "{said} came under {under:?}");
    }
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn the_will_is_told_when_the_server_is_cut_off() {
    let world = World::new().await;
    let broker = Mosquitto::start("").await;
    let reader = broker.reader();
    joined(
        &world,
        &broker,
        json!({ "shape": "json", "topics": ["readings", "alarms"] }),
    )
    .await;
    let integrator = world.integrator(settings(), CALM);
    heard(&reader, "site/meters/1/_status", |message| {
        message["payload"] == "online"
    })
    .await;
    world.stored(vec![reading(2, 60, 5)]).await;
    let all = heard(&reader, "site/meters/1/SN-1/2/_reading", |_| true).await;
    let told = all.last().unwrap();
    let body: Value = serde_json::from_str(told["payload"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&told["type"], &body["data"]["items"][1]["value"]),
        (&json!("application/json"), &json!("5"))
    );
    integrator.kill().await;
    let all = heard(&reader, "site/meters/1/_status", |message| {
        message["payload"] == "offline"
    })
    .await;
    assert_eq!(all.last().unwrap()["retain"], true);
    world.api.stop().await;
}

#[actix_web::test]
async fn a_broker_that_refuses_is_told_of() {
    let world = World::new().await;
    let broker = Mosquitto::start("").await;
    let made = joined(&world, &broker, json!({ "password": "wrong" })).await;
    let path = format!("/integrations/{}", made["id"]);
    let test = world
        .api
        .call(&world.admin, "POST", &format!("{path}/test"), None)
        .await;
    let test = test.expect(200).json();
    assert_eq!(test["ok"], false);
    assert!(test["error"].as_str().unwrap().contains("refuses"), "{test}");
    let integrator = world.integrator(settings(), CALM);
    until("it fails", async || {
        world.look(&made["id"]).await["attempts"].as_u64() >= Some(2)
    })
    .await;
    let right = json!({ "password": "s3cret" });
    world
        .api
        .call_with(&world.admin, "PATCH", &path, &[("If-Match", "*")], Some(right))
        .await
        .expect(200);
    until("it works", async || world.look(&made["id"]).await["state"] == "working").await;
    let reader = broker.reader();
    world
        .api
        .call(&world.admin, "POST", &format!("{path}/test"), None)
        .await
        .expect(200);
    heard(&reader, "site/meters/1/_test", |_| true).await;
    integrator.stop().await;
    world.api.stop().await;
}

#[actix_web::test]
async fn brokers_are_reached_by_tls_with_a_certificate_that_is_known() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, private) = (made.cert.pem(), made.signing_key.serialize_pem());
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("cert.pem"), &certificate).unwrap();
    std::fs::write(files.path().join("key.pem"), private).unwrap();
    let broker = Mosquitto::start(&format!(
        "certfile {0}/cert.pem\nkeyfile {0}/key.pem",
        files.path().display()
    ))
    .await;
    let sealer = Sealer::new(key());
    let target = BrokerTarget {
        target: format!("mqtts://localhost:{}", broker.port),
        login: "hes".to_owned(),
        sealed: Some(sealer.seal(&"s3cret".to_owned().into()).unwrap()),
        client: "tls".to_owned(),
        will: None,
    };
    let here = networks("127.0.0.0/8, ::1").unwrap();
    let stranger = Mqtt::new(client_tls(None).unwrap(), here.clone(), sealer.clone(), CALM);
    let knows = Mqtt::new(client_tls(Some(&certificate)).unwrap(), here, sealer, CALM);
    let mut session = knows.connect(target.clone()).await.unwrap();
    let message = |n: usize| Publication {
        topic: format!("t/{n}"),
        payload: "x".into(),
        retain: false,
        expiry_s: 0,
        json: false,
        properties: Vec::new(),
    };
    // far more than a broker takes at once
    session.publish((0..2_000).map(message).collect()).await.unwrap();
    session.close().await;
    let refused = stranger
        .connect(target)
        .await
        .err()
        .expect("the certificate is unknown");
    assert!(matches!(refused, SendError::Passing { .. }), "{refused}");
}

//! Settings of concentrators of both kinds, through the whole server: virtual terminals on real sockets, PostgreSQL, HTTP. What
//! is wanted is compared, written only where somebody says so, read back, and told of every terminal.

use crate::harness::api::PASSWORD;
use crate::harness::db::TestDb;
use crate::harness::http::{Answer, send};
use polyphase::base::clock::{Clock, SystemClock};
use polyphase::cli::access;
use polyphase::device::catalogue::Catalogue;
use polyphase::domain::access::Role;
use polyphase::protocol::Protocol;
use polyphase::simulator::concentrator::{Habits, TerminalPlan};
use polyphase::simulator::dtu::FleetStats;
use polyphase::simulator::terminal::StationPlan;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Nothing here takes so long.
const LONGEST: Duration = Duration::from_secs(180);

/// The server's process, with what it needs; ended with the test.
struct Server {
    child: Child,
    http: SocketAddr,
    device: SocketAddr,
    key: String,
    folder: tempfile::TempDir,
    db: TestDb,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.path().join("server.log"))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_polyphase"))
        .args(["serve", "--config", folder.path().join("own.toml").to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Server {
    async fn start() -> Self {
        let db = TestDb::new().await;
        let folder = tempfile::tempdir().unwrap();
        let (http, device) = (free_port(), free_port());
        let data = folder.path().join("data");
        let url = db.url();
        let config = format!(
            "[data]\nfolder = {data:?}\n[database]\nurl = {:?}\n[http]\nbind = \"{http}\"\n[[listener]]\nbind = \"{device}\"\n",
            url.expose_secret()
        );
        std::fs::write(folder.path().join("own.toml"), config).unwrap();
        let clock = SystemClock;
        let database = db.database();
        access::add_user(
            database,
            &clock,
            "ann@example.org",
            Role::Admin,
            Some("house"),
            PASSWORD,
        )
        .await
        .unwrap();
        let key = access::create_api_key(database, &clock, "ann@example.org", "test")
            .await
            .unwrap();
        let server = Self {
            child: spawn(&folder),
            http,
            device,
            key,
            folder,
            db,
        };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        let began = Instant::now();
        loop {
            let up = tokio::net::TcpStream::connect(self.http).await.is_ok();
            if up && send(self.http, "GET", "/readyz", &[], None).await.status == 200 {
                return;
            }
            let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            assert!(began.elapsed() < LONGEST, "not ready: {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let body = body.map(|body| body.to_string());
        send(self.http, method, &format!("/api/v1{path}"), &headers, body.as_deref()).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.expect(200).json()
    }

    async fn dtu(&self, sn: &str) -> i64 {
        let made = self
            .call(
                "POST",
                "/dtus",
                Some(json!({ "sn": sn, "name": sn, "time_zone": "UTC" })),
            )
            .await;
        made.expect(201).json()["id"].as_i64().unwrap()
    }

    async fn online(&self, dtu: i64) {
        let began = Instant::now();
        while self.get(&format!("/dtus/{dtu}")).await["online"] != true {
            assert!(began.elapsed() < LONGEST, "DTU {dtu} does not come");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A run as it stands when it no longer goes on, with its terminals.
    async fn settled(&self, run: &Value) -> (Value, Vec<Value>) {
        let path = format!("/parameter-runs/{}", run["id"].as_str().unwrap());
        let began = Instant::now();
        loop {
            let run = self.get(&path).await;
            if !["comparing", "writing"].contains(&run["state"].as_str().unwrap()) {
                let entries = self.get(&format!("{path}/terminals")).await;
                return (run, entries["items"].as_array().unwrap().clone());
            }
            assert!(began.elapsed() < LONGEST, "{run}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn compare(&self, dtu: i64, body: Value) -> (Value, Vec<Value>) {
        let begun = self.call("POST", &format!("/dtus/{dtu}/parameters"), Some(body)).await;
        self.settled(&begun.expect(202).json()).await
    }

    async fn write(&self, run: &Value, body: Value) -> (Value, Vec<Value>) {
        let path = format!("/parameter-runs/{}/write", run["id"].as_str().unwrap());
        let begun = self.call("POST", &path, Some(body)).await;
        self.settled(&begun.expect(202).json()).await
    }
}

/// Two concentrators and one terminal, dialling in.
async fn terminals(device: SocketAddr) -> Vec<JoinSet<()>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(FleetStats::default());
    let concentrators = TerminalPlan {
        terminals: 2,
        points: 3,
        region: 0x4403,
        seed: 7,
        heartbeat: Duration::from_secs(60),
        habits: Habits::default(),
    };
    let catalogue = Catalogue::builtin().unwrap();
    let stations = StationPlan {
        terminals: 1,
        meters: 3,
        region: 0x4404,
        seed: 7,
        heartbeat: Duration::from_secs(60),
        habits: Habits::default(),
        model: Arc::clone(catalogue.get(Protocol::Dlt698, "dlt698_single_phase").unwrap()),
    };
    let server = device.to_string();
    vec![
        concentrators.start(&server, &clock, &stats).await,
        stations.start(&server, &clock, &stats).await,
    ]
}

/// The outcome of each setting of the first terminal, by name.
fn outcomes(entries: &[Value]) -> Vec<(String, String, Value)> {
    let settings = entries[0]["parameters"].as_array().unwrap();
    let told = settings.iter().map(|setting| {
        let text = |field: &str| setting[field].as_str().unwrap().to_owned();
        (text("name"), text("outcome"), setting["present"].clone())
    });
    told.collect()
}

fn told(name: &str, outcome: &str, present: Value) -> (String, String, Value) {
    (name.to_owned(), outcome.to_owned(), present)
}

/// Compares, is refused what was not named, writes, and finds it there; `heartbeat` is another than the factory's.
async fn one_terminal(server: &Server, dtu: i64, event: (&str, Value)) {
    let (event_name, event_value) = event;
    let wanted = json!({ "parameters": [
        { "name": "heartbeat", "value": 11 }, { "name": event_name, "value": event_value }, { "name": "clock", "value": "now" },
        { "name": "apn" },
    ] });
    let (run, entries) = server.compare(dtu, wanted.clone()).await;
    assert_eq!(
        (&run["state"], &run["terminals"]),
        (&json!("compared"), &json!({ "differs": 1 }))
    );
    let compared = outcomes(&entries);
    assert_eq!(
        compared
            .iter()
            .map(|(name, outcome, _)| (name.as_str(), outcome.as_str()))
            .collect::<Vec<_>>(),
        [
            ("heartbeat", "differs"),
            (event_name, "differs"),
            ("clock", "same"),
            ("apn", "read")
        ]
    );
    assert_eq!(compared[3].2, "CMNET");
    // nothing was written by looking, and how it is reached has to be named
    let path = format!("/parameter-runs/{}/write", run["id"].as_str().unwrap());
    let silent = server.call("POST", &path, Some(json!({}))).await.expect(422).json();
    assert_eq!(silent["field"], "communication", "{silent}");
    let (_, untouched) = server.compare(dtu, wanted.clone()).await;
    assert_eq!(outcomes(&untouched)[0], compared[0]);

    let (run, entries) = server.write(&run, json!({ "communication": ["heartbeat"] })).await;
    assert_eq!(
        (&run["state"], &run["terminals"]),
        (&json!("done"), &json!({ "written": 1 }))
    );
    let written = outcomes(&entries);
    assert_eq!(written[0], told("heartbeat", "written", json!(11)));
    assert_eq!(written[1], told(event_name, "written", event_value));
    assert_eq!(entries[0]["parameters"][0]["before"], compared[0].2);
    server
        .call("POST", &path, Some(json!({ "communication": ["heartbeat"] })))
        .await
        .expect(409);
    let (run, _) = server.compare(dtu, wanted).await;
    assert_eq!(run["terminals"], json!({ "same": 1 }));
    let known = server.get(&format!("/dtus/{dtu}/parameters")).await;
    let known = known["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|known| known["name"] == "heartbeat")
        .unwrap()
        .clone();
    assert_eq!(known["value"], 11);
}

/// A profile is compared with many, and written to those that differ; of every one it is told what became of it.
async fn a_profile(server: &Server, both: [i64; 2], other: i64, away: i64) {
    let comm = json!({ "name": "south", "protocol": "gdw376.1", "parameters": [{ "name": "master_address", "value": "10.9.9.9" }] });
    let refused = server
        .call("POST", "/terminal-profiles", Some(comm))
        .await
        .expect(422)
        .json();
    assert_eq!(refused["field"], "parameters.0.name", "{refused}");
    let body = json!({ "name": "south", "protocol": "gdw376.1", "parameters": [
        { "name": "meter_clock_off", "value": 9 }, { "name": "voltage_upper_limit", "number": 2, "value": "242" },
        { "name": "class1_task", "number": 1, "value": "stopped" },
    ] });
    let made = server
        .call("POST", "/terminal-profiles", Some(body))
        .await
        .expect(201)
        .json();
    assert_eq!(made["parameters"][1]["value"], "242.0");
    let path = format!("/terminal-profiles/{}/runs", made["id"]);
    let nobody = json!({ "dtu_ids": [both[0], 999_999] });
    server.call("POST", &path, Some(nobody)).await.expect(422);
    let all = json!({ "dtu_ids": [both[0], both[1], other, away] });
    let begun = server.call("POST", &path, Some(all)).await.expect(202).json();
    let (run, entries) = server.settled(&begun).await;
    assert_eq!(
        run["terminals"],
        json!({ "differs": 2, "failed": 1, "offline": 1 }),
        "{entries:?}"
    );
    let (run, entries) = server.write(&run, json!({})).await;
    assert_eq!(
        run["terminals"],
        json!({ "written": 2, "failed": 1, "offline": 1 }),
        "{entries:?}"
    );
    assert_eq!(run["written_by"], "ann@example.org");
    let of = |dtu: i64| entries.iter().find(|entry| entry["dtu_id"] == dtu).unwrap();
    assert!(of(other)["reason"].as_str().unwrap().contains("another protocol"));
    assert_eq!(of(both[1])["parameters"][1]["present"], "242.0");
    // what differs in nothing is not written
    let again = server
        .call("POST", &path, Some(json!({ "dtu_ids": both })))
        .await
        .expect(202)
        .json();
    let (run, _) = server.settled(&again).await;
    assert_eq!(run["terminals"], json!({ "same": 2 }));
    let write = format!("/parameter-runs/{}/write", run["id"].as_str().unwrap());
    server.call("POST", &write, Some(json!({}))).await.expect(409);
    let away = server
        .call("POST", &format!("/dtus/{away}/parameters"), Some(json!({})))
        .await;
    away.expect(409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_both_kinds_are_compared_written_and_read_back() {
    let server = Server::start().await;
    let (first, second) = (server.dtu("4403-00001").await, server.dtu("4403-00002").await);
    let (station, away) = (server.dtu("440400000001").await, server.dtu("4403-00009").await);
    let _terminals = terminals(server.device).await;
    for dtu in [first, second, station] {
        server.online(dtu).await;
    }
    one_terminal(&server, first, ("events_important", json!([1, 14]))).await;
    one_terminal(&server, station, ("read_failure_rounds", json!(5))).await;
    a_profile(&server, [first, second], station, away).await;
    // everything that a terminal has one of is there
    for dtu in [second, station] {
        let (run, entries) = server.compare(dtu, json!({})).await;
        assert_eq!(run["terminals"], json!({ "read": 1 }), "{entries:?}");
        assert!(outcomes(&entries).len() > 20);
    }
    // before and behind every write there is an entry in the audit
    let mut superuser = server.db.superuser().await;
    let audited: Vec<(String, i64)> = sqlx::query_as(
        "SELECT action, count(*) FROM audit WHERE action IN ('parameters.write', 'parameters.written') GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(
        audited,
        [("parameters.write".to_owned(), 4), ("parameters.written".to_owned(), 4)]
    );
    let change: Value = sqlx::query_scalar(
        "SELECT detail->'change'->'changes'->0 FROM audit WHERE action = 'parameters.write' ORDER BY id LIMIT 1",
    )
    .fetch_one(&mut superuser)
    .await
    .unwrap();
    assert_eq!(change, json!({ "name": "heartbeat", "number": 0, "from": 5, "to": 11 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_restart_ended_says_so() {
    let mut server = Server::start().await;
    let dtu = server.dtu("4403-00001").await;
    let account: i32 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT account_id FROM dtu WHERE id = {dtu}"
    )))
    .fetch_one(&mut server.db.superuser().await)
    .await
    .unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // as a process leaves it that dies while it writes to one terminal and another waits
    server
        .db
        .sql(&format!(
            "INSERT INTO parameter_run (id, account_id, protocol, asks, state, requested_by, created_at)
                 VALUES ('0badc0de-0bad-4bad-8bad-0badc0de0bad', {account}, 'gdw376.1', '[]', 'writing', 'ann', now());
             INSERT INTO parameter_run_entry (run_id, dtu_id, account_id, state)
                 VALUES ('0badc0de-0bad-4bad-8bad-0badc0de0bad', {dtu}, {account}, 'running')"
        ))
        .await;
    server.child = spawn(&server.folder);
    server.ready().await;
    let run = server.get("/parameter-runs/0badc0de-0bad-4bad-8bad-0badc0de0bad").await;
    assert_eq!(
        (&run["state"], &run["terminals"]),
        (&json!("interrupted"), &json!({ "interrupted": 1 }))
    );
    let entries = server
        .get("/parameter-runs/0badc0de-0bad-4bad-8bad-0badc0de0bad/terminals?state=interrupted")
        .await;
    assert!(
        entries["items"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("compare it again"),
        "{entries}"
    );
    server
        .call(
            "POST",
            "/parameter-runs/0badc0de-0bad-4bad-8bad-0badc0de0bad/write",
            Some(json!({})),
        )
        .await
        .expect(409);
}

//! Imports over HTTP: thousands of meters from files, every fault by row, nothing written by halves, nothing told of others.

use super::*;
use crate::harness::http;
use polyphase::base::ids::DtuId;
use polyphase::port::imports::{Applied, ImportAsk, ImportBook, ImportFormat, ImportKind, ImportPlan, ImportState};
use polyphase::port::imports::{ImportTally, Step};
use polyphase::port::meters::{MeterEdit, NewMeter};
use polyphase::port::scope::{Actor, InAccount, Scope};
use polyphase::store::PgStores;
use rust_decimal::Decimal;
use rust_xlsxwriter::Workbook;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CSV: &str = "text/csv";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Sends a file.
async fn send(api: &Api, who: &Someone, query: &str, media: &str, file: &[u8]) -> Answer {
    let address = api.address;
    let mut request = format!(
        "POST /api/v1/imports?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        who.key,
        file.len()
    )
    .into_bytes();
    request.extend_from_slice(file);
    http::raw(address, &request).await
}

/// Sends a file and asks until it has been dealt with.
async fn imported(api: &Api, who: &Someone, query: &str, media: &str, file: &[u8]) -> Json {
    let made = send(api, who, query, media, file).await.expect(202);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.header("location"), Some(format!("/api/v1/imports/{id}").as_str()));
    for _ in 0..1_200 {
        let job = api
            .call(who, "GET", &format!("/imports/{id}"), None)
            .await
            .expect(200)
            .json();
        if !matches!(job["state"].as_str(), Some("waiting" | "running")) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the import does not end");
}

impl House {
    async fn import(&self, query: &str, file: &str) -> Json {
        imported(&self.api, &self.ann, query, CSV, file.as_bytes()).await
    }

    async fn count(&self, what: &str) -> i64 {
        let mut database = self.api.db.superuser().await;
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
        sqlx::query_scalar(query)
            .fetch_one(&mut database)
            .await
            .expect("a number")
    }
}

/// State, and what is made, changed and left.
fn tally(job: &Json) -> (&str, [i64; 4]) {
    let number = |name: &str| job[name].as_i64().expect("a number");
    (
        job["state"].as_str().expect("a state"),
        [
            number("made"),
            number("changed"),
            number("unchanged"),
            number("faults_total"),
        ],
    )
}

/// Faults as row, column and value.
fn faults(job: &Json) -> Vec<(i64, &str, &str)> {
    let all = job["faults"].as_array().expect("faults").iter();
    all.map(|fault| {
        assert!(!fault["problem"].as_str().expect("a problem").is_empty());
        assert!(!fault["remedy"].as_str().expect("a remedy").is_empty(), "{fault}");
        (
            fault["row"].as_i64().unwrap_or(0),
            fault["column"].as_str().unwrap_or_default(),
            fault["value"].as_str().unwrap_or_default(),
        )
    })
    .collect()
}

/// An integrator's sheet: 100 DTUs, 20 groups in a tree, 5,000 meters; tried, imported, imported again, changed.
#[actix_web::test]
async fn five_thousand_meters_move_in() {
    let house = House::new().await;
    let mut dtus = "sn,name,silence_s\n".to_owned();
    for n in 0..100 {
        dtus.push_str(&format!("IMP{n:04},\"cellar, {n}\",300\n"));
    }
    let mut groups = "name;parent\n".to_owned();
    for n in 0..20 {
        groups.push_str(&format!("hall {n};site {}\n", n % 2));
    }
    groups.push_str("site 0;\nsite 1;\n");
    let mut meters = "dtu_sn,protocol,address,model,name,comment,group,ct_ratio\r\n".to_owned();
    for n in 0..5_000 {
        let (dtu, address, hall) = (n / 50, n % 50 + 1, n % 20);
        meters.push_str(&format!(
            "IMP{dtu:04},modbus-rtu,{address:03},{MODEL},meter {n},,hall {hall},{}.5\r\n",
            n % 40 + 1
        ));
    }
    assert_eq!(tally(&house.import("kind=dtus", &dtus).await), ("done", [100, 0, 0, 0]));
    assert_eq!(
        tally(&house.import("kind=groups", &groups).await),
        ("done", [22, 0, 0, 0])
    );
    let tried = house.import("kind=meters&dry_run=true", &meters).await;
    assert_eq!(tally(&tried), ("done", [5_000, 0, 0, 0]), "{tried}");
    assert_eq!((house.count("meter").await, house.count("installation").await), (0, 0));
    assert_eq!(house.count("audit WHERE action = 'meter.create'").await, 0);

    let job = house.import("kind=meters", &meters).await;
    assert_eq!(tally(&job), ("done", [5_000, 0, 0, 0]), "{job}");
    assert_eq!(
        (job["rows"].as_i64(), job["rows_checked"].as_i64()),
        (Some(5_000), Some(5_000))
    );
    for table in ["meter", "installation", "metering_point"] {
        assert_eq!(house.count(table).await, 5_000, "{table}");
    }
    assert_eq!(house.count("audit WHERE action = 'meter.create'").await, 5_000);
    assert_eq!(house.count("audit_verify() AS wrong WHERE wrong IS NOT NULL").await, 0);
    // names, groups, places and ratios belong together
    let shown = house.items("/meters?text=meter%204321&limit=10").await;
    let [meter] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(
        (meter["address"].as_str(), meter["ct_ratio"].as_str()),
        (Some("22"), Some("2.5"))
    );
    let group = house
        .get(&format!("/groups/{}", meter["group_id"]))
        .await
        .expect(200)
        .json();
    assert_eq!(group["name"], "hall 1");
    let above = house
        .get(&format!("/groups/{}", group["parent_id"]))
        .await
        .expect(200)
        .json();
    assert_eq!(above["name"], "site 1");
    let point = house
        .get(&format!("/points/{}", meter["point_id"]))
        .await
        .expect(200)
        .json();
    assert_eq!((&point["name"], &point["meter_id"]), (&meter["name"], &meter["id"]));
    let mismatched = "installation i JOIN meter m ON m.id = i.meter_id JOIN metering_point p ON p.id = i.point_id
                      WHERE p.name <> m.name OR p.group_id IS DISTINCT FROM m.group_id";
    assert_eq!(house.count(mismatched).await, 0);
    // the front end hears of each DTU, made and furnished, a moment after the commit
    let mut reloads = 0;
    while reloads < 200 {
        reloads += house.api.fleet.take_reloads().len();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(reloads, 200);

    // the same files again change nothing
    let written = house
        .count("audit WHERE action <> 'import.create' AND action <> 'import.run'")
        .await;
    assert_eq!(tally(&house.import("kind=dtus", &dtus).await), ("done", [0, 0, 100, 0]));
    assert_eq!(
        tally(&house.import("kind=groups", &groups).await),
        ("done", [0, 0, 22, 0])
    );
    assert_eq!(
        tally(&house.import("kind=meters", &meters).await),
        ("done", [0, 0, 5_000, 0])
    );
    assert_eq!(
        house
            .count("audit WHERE action <> 'import.create' AND action <> 'import.run'")
            .await,
        written
    );

    // a name and a ratio change, what the file leaves out stays
    let few = "dtu_sn,protocol,address,name,ct_ratio,comment\nIMP0003,modbus-rtu,7,renamed,,\nIMP0003,modbus-rtu,8,,99,by hand\n\
               IMP0003,modbus-rtu,9,,,\n";
    let tried = house.import("kind=meters&dry_run=true", few).await;
    assert_eq!(tally(&tried), ("done", [0, 2, 1, 0]), "{tried}");
    assert_eq!(
        tried["changes"][0]["columns"],
        json!({"name": ["meter 156", "renamed"]})
    );
    assert_eq!(house.count("meter WHERE name = 'renamed'").await, 0);
    let job = house.import("kind=meters", few).await;
    assert_eq!(tally(&job), ("done", [0, 2, 1, 0]));
    assert_eq!(tally(&house.import("kind=meters", few).await), ("done", [0, 0, 3, 0]));
    let meter = &house.items("/meters?text=renamed").await[0];
    assert_eq!(
        (meter["model"].as_str(), meter["ct_ratio"].as_str()),
        (Some(MODEL), Some("37.5"))
    );
    assert_eq!(
        house.count("installation").await,
        5_000,
        "a ratio from the same instant on replaces the one before"
    );
    house.api.stop().await;
}

#[actix_web::test]
async fn every_fault_is_told_by_row_and_nothing_is_written() {
    let house = House::new().await;
    house.dtu("FAULT01").await;
    let file = format!(
        "dtu_sn,protocol,address,model,name,ct_ratio,group,schedule\n\
         FAULT01,modbus-rtu,1,{MODEL},right,40,,\n\
         NOBODY,modbus-rtu,2,{MODEL},a,1,,\n\
         FAULT01,modbus,3,{MODEL},a,1,,\n\
         FAULT01,modbus-rtu,4,nobody_nothing,a,1,,\n\
         FAULT01,modbus-rtu,248,{MODEL},a,1,,\n\
         FAULT01,modbus-rtu,6,{MODEL},,\"40,5\",,\n\
         FAULT01,modbus-rtu,7,{MODEL},a,0,nowhere,never\n\
         FAULT01,modbus-rtu,001,{MODEL},again,1,,\n\
         FAULT01,modbus-rtu,9,{MODEL},a\n\
         ,modbus-rtu,10,{MODEL},a,1,,\n\
         FAULT01,modbus-rtu,11,{MODEL},a\u{0}b,1,,\n"
    );
    let expected = [
        (3, "dtu_sn", "NOBODY"),
        (4, "protocol", "modbus"),
        (5, "model", "nobody_nothing"),
        (6, "address", "248"),
        (7, "ct_ratio", "40,5"),
        (7, "name", ""),
        (8, "ct_ratio", "0"),
        (8, "group", "nowhere"),
        (8, "schedule", "never"),
        (9, "address", "001"),
        (10, "", ""),
        (11, "dtu_sn", ""),
        (12, "name", "a\u{fffd}b"),
    ];
    for query in ["kind=meters&dry_run=true", "kind=meters"] {
        let job = house.import(query, &file).await;
        assert_eq!(faults(&job), expected, "{query}: {job}");
        assert_eq!(tally(&job), ("faulty", [1, 0, 0, 13]));
        assert_eq!(house.count("meter").await, 0);
    }
    // headings
    let job = house
        .import("kind=meters", "dtu_sn,protocoll,address,name\nFAULT01,modbus-rtu,1,a\n")
        .await;
    assert_eq!(faults(&job), [(1, "protocol", ""), (1, "protocoll", "protocoll")]);
    assert!(
        job["faults"][1]["remedy"]
            .as_str()
            .expect("a text")
            .starts_with("Was protocol meant?")
    );
    // more faults than are listed
    let many = format!("sn,name\n{}", "!,a\n".repeat(70));
    let job = house.import("kind=dtus", &many).await;
    assert_eq!(tally(&job), ("faulty", [0, 0, 0, 70]));
    assert_eq!(faults(&job).len(), 50);
    // in lists a job is without them
    let list = house.items("/imports").await;
    assert_eq!(list.len(), 4);
    assert!(list.iter().all(|job| job["faults"] == json!([])));
    house.api.stop().await;
}

/// A serial number of another account is the same as one that nobody has, but where it is to be made: there it is
/// taken, as a single request says it too.
#[actix_web::test]
async fn other_accounts_are_neither_shown_nor_touched() {
    let house = House::new().await;
    house.dtu("MINE01").await;
    let bob = house.api.someone(Role::Operator, "Bob").await;
    let other = json!({"sn": "THEIRS01", "name": "theirs"});
    house.api.call(&bob, "POST", "/dtus", Some(other)).await.expect(201);
    house
        .api
        .call(&bob, "POST", "/groups", Some(json!({"name": "theirs"})))
        .await
        .expect(201);
    let said = async |sn: &str, group: &str| {
        let file = format!("dtu_sn,protocol,address,model,name,group\n{sn},modbus-rtu,1,{MODEL},a,{group}\n");
        let job = house.import("kind=meters&dry_run=true", &file).await;
        let faults = job["faults"].to_string();
        faults.replace(sn, "SN").replace(group, "GROUP")
    };
    assert_eq!(said("THEIRS01", "theirs").await, said("NOBODY01", "nobodys").await);

    for query in ["kind=dtus&dry_run=true", "kind=dtus"] {
        let job = house.import(query, "sn,name\nNEW01,a\nTHEIRS01,b\nMINE01,c\n").await;
        assert_eq!(faults(&job), [(3, "sn", "THEIRS01")], "{job}");
        assert_eq!(tally(&job), ("faulty", [1, 1, 0, 1]));
        assert_eq!(house.count("dtu").await, 2);
        assert_eq!(house.count("dtu WHERE name = 'theirs'").await, 1);
    }
    let id = house.items("/imports").await[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    house
        .api
        .call(&bob, "GET", &format!("/imports/{id}"), None)
        .await
        .expect(404);
    house.api.stop().await;
}

#[actix_web::test]
async fn workbooks_lose_no_zeros_in_silence() {
    let house = House::new().await;
    house.dtu("0042").await;
    house.dtu("42").await;
    let sheet = |sn: bool, address: f64, protocol: &str, model: &str| {
        let mut book = Workbook::new();
        let page = book.add_worksheet();
        for (column, name) in (0u16..).zip(["dtu_sn", "protocol", "address", "model", "name", "vt_ratio"]) {
            page.write_string(0, column, name).expect("write");
        }
        if sn {
            page.write_number(1, 0, 42).expect("write");
        } else {
            page.write_string(1, 0, "0042").expect("write");
        }
        page.write_string(1, 1, protocol).expect("write");
        page.write_number(1, 2, address).expect("write");
        page.write_string(1, 3, model).expect("write");
        page.write_number(1, 4, 17).expect("write");
        page.write_number(1, 5, 0.1 + 0.2).expect("write");
        book.save_to_buffer().expect("a file")
    };
    let run = async |query: &str, file: Vec<u8>| imported(&house.api, &house.ann, query, XLSX, &file).await;
    let job = run("kind=meters", sheet(true, 7.0, "modbus-rtu", MODEL)).await;
    assert_eq!(faults(&job), [(2, "dtu_sn", "42")], "{job}");
    let job = run(
        "kind=meters&numbers_as_text=true",
        sheet(true, 7.0, "modbus-rtu", MODEL),
    )
    .await;
    assert_eq!(tally(&job), ("done", [1, 0, 0, 0]), "{job}");
    let job = run("kind=meters", sheet(false, 7.0, "modbus-rtu", MODEL)).await;
    assert_eq!(tally(&job), ("done", [1, 0, 0, 0]), "{job}");
    assert_eq!(
        house
            .count("meter m JOIN dtu d ON d.id = m.dtu_id WHERE d.sn = '0042' AND m.name = '17'")
            .await,
        1
    );
    assert_eq!(house.count("installation WHERE vt_ratio = 0.3").await, 2);
    // an address of one length gets its zeros back
    let models = house.items("/meter-models?limit=1000").await;
    let speaks = |name: &str| {
        let model = models.iter().find(|model| {
            model["protocols"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(name)))
        });
        model.map(|model| model["name"].as_str().expect("a name").to_owned())
    };
    let model = speaks("dlt645-2007").expect("a model for DL/T 645");
    let job = run("kind=meters", sheet(false, 123_456.0, "dlt645-2007", &model)).await;
    assert_eq!(tally(&job), ("done", [1, 0, 0, 0]), "{job}");
    assert_eq!(house.count("meter WHERE address = '000000123456'").await, 1);
    // where there are several lengths nobody knows
    let model = speaks("mbus").expect("a model for M-Bus");
    let job = run("kind=meters", sheet(false, 12.0, "mbus", &model)).await;
    assert_eq!(faults(&job), [(2, "address", "12")], "{job}");
    house.api.stop().await;
}

#[actix_web::test]
async fn groups_are_a_tree_by_name_or_path() {
    let house = House::new().await;
    let file = "name,parent\nroom,north/hall\nroom,south/hall\nhall,north\nhall,south\nnorth,\nsouth,\n";
    assert_eq!(
        tally(&house.import("kind=groups&dry_run=true", file).await),
        ("done", [6, 0, 0, 0])
    );
    assert_eq!(house.count("meter_group").await, 0);
    assert_eq!(tally(&house.import("kind=groups", file).await), ("done", [6, 0, 0, 0]));
    assert_eq!(tally(&house.import("kind=groups", file).await), ("done", [0, 0, 6, 0]));
    assert_eq!(house.count("meter_group WHERE deleted_at IS NULL").await, 6);
    let wrong = "name,parent\nx,hall\ny,nowhere\na,b\nb,a\nnorth,\nnorth,\n";
    let job = house.import("kind=groups", wrong).await;
    let expected = [
        (2, "parent", "hall"),
        (3, "parent", "nowhere"),
        (4, "parent", "b"),
        (5, "parent", "a"),
        (7, "name", "north"),
    ];
    assert_eq!(faults(&job), expected, "{job}");
    // a parent that the file itself makes ambiguous would not be found the second time
    let job = house
        .import("kind=groups", "name,parent\nattic,\nleft,attic\nattic,north\n")
        .await;
    assert_eq!(faults(&job), [(3, "parent", "attic")], "{job}");
    // meters name them by path where the name is not enough
    house.dtu("TREE01").await;
    let meters = format!(
        "dtu_sn,protocol,address,model,name,group\nTREE01,modbus-rtu,1,{MODEL},a,room\nTREE01,modbus-rtu,2,{MODEL},b,north/hall/room\n"
    );
    let job = house.import("kind=meters", &meters).await;
    assert_eq!(faults(&job), [(2, "group", "room")], "{job}");
    house.api.stop().await;
}

#[actix_web::test]
async fn dtus_are_reached_as_the_file_says() {
    let house = House::new().await;
    let file = "sn;name;connect;connect_address;connect_device;connect_baud;connect_parity;profile;time_zone;timeout_ms\n\
                A1;a;;;;;;ascii;Europe/Berlin;500\n\
                ;gateway;modbus_tcp;192.0.2.7:502;;;;;;\n\
                ;port;serial;;/dev/ttyUSB0;9600;even;;;\n";
    assert_eq!(tally(&house.import("kind=dtus", file).await), ("done", [3, 0, 0, 0]));
    assert_eq!(tally(&house.import("kind=dtus", file).await), ("done", [0, 0, 3, 0]));
    let dtus: BTreeMap<String, Json> = house
        .items("/dtus")
        .await
        .into_iter()
        .map(|dtu| (dtu["name"].as_str().expect("a name").to_owned(), dtu))
        .collect();
    assert_eq!(dtus["a"]["connect"], json!({"kind": "inbound"}));
    assert_eq!(
        (&dtus["a"]["profile"], &dtus["a"]["timeout_ms"]),
        (&json!("ascii"), &json!(500))
    );
    assert_eq!(
        dtus["gateway"]["connect"],
        json!({"kind": "modbus_tcp", "address": "192.0.2.7:502"})
    );
    let serial = json!({"kind": "serial", "device": "/dev/ttyUSB0", "baud": 9600, "parity": "even"});
    assert_eq!(dtus["port"]["connect"], serial);
    // one part of it changes, the others stay
    let job = house
        .import("kind=dtus", "name,connect_baud,pause_ms\nport,19200,70\n")
        .await;
    assert_eq!(tally(&job), ("done", [0, 1, 0, 0]), "{job}");
    let wrong = "sn,name,connect,connect_address,connect_baud,silence_s,time_zone,profile\n\
                 B1,b,inbound,192.0.2.7:502,,5,Mars,zzz\n\
                 B2,c,pigeon,,,,,\n\
                 ,d,,,,,,\n\
                 B4,e,dial,192.0.2.7,,x,,\n\
                 A1,f,,,,,,\nA1,g,,,,,,\n";
    let job = house.import("kind=dtus", wrong).await;
    let expected = [
        (2, "connect_address", "192.0.2.7:502"),
        (2, "profile", "zzz"),
        (2, "silence_s", "5"),
        (2, "time_zone", "Mars"),
        (3, "connect", "pigeon"),
        (4, "sn", ""),
        (5, "connect_address", "192.0.2.7"),
        (5, "silence_s", "x"),
        (7, "sn", "A1"),
    ];
    assert_eq!(faults(&job), expected, "{job}");
    house.api.stop().await;
}

#[actix_web::test]
async fn what_is_no_file_is_refused_before_it_is_read() {
    let house = House::new().await;
    let (api, ann) = (&house.api, &house.ann);
    let viewer = api.someone(Role::Viewer, "Ann").await;
    send(api, &viewer, "kind=dtus", CSV, b"sn,name\n").await.expect(403);
    let refused = send(api, ann, "kind=dtus", "application/json", b"{}").await.expect(415);
    assert_eq!(refused.problem(), "unsupported-media");
    assert_eq!(
        send(api, ann, "kind=readings", CSV, b"a").await.expect(400).json()["field"],
        "kind"
    );
    assert_eq!(send(api, ann, "", CSV, b"a").await.expect(400).json()["field"], "kind");
    assert_eq!(
        send(api, ann, "kind=dtus&dryrun=true", CSV, b"a")
            .await
            .expect(400)
            .json()["field"],
        "dryrun"
    );
    let large = vec![b'a'; (2 << 20) + 1];
    assert_eq!(
        send(api, ann, "kind=dtus", CSV, &large).await.expect(413).problem(),
        "too-large"
    );
    // of hostile files every one is a faulty job, and the place is free again each time
    for (media, file) in [
        (CSV, &b""[..]),
        (CSV, b"sn,name\n\xff,a\n"),
        (CSV, &b",".repeat(1_000_000)),
        (XLSX, b"PK\x03\x04"),
        (XLSX, b"sn,name\n"),
    ] {
        let job = imported(api, ann, "kind=dtus", media, file).await;
        assert_eq!(job["state"], "faulty", "{job}");
        assert_eq!(job["faults_total"], 1, "{job}");
    }
    // a template is what an import takes
    for kind in ["dtus", "meters", "groups"] {
        let file = api
            .call(ann, "GET", &format!("/imports/templates/{kind}"), None)
            .await
            .expect(200);
        assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8"));
        let job = house.import(&format!("kind={kind}"), &file.text).await;
        assert_eq!(tally(&job), ("done", [0, 0, 0, 0]), "{job}");
    }
    house.get("/imports/templates/readings").await.expect(404);
    house.get("/imports/templates/dtus?format=xlsx").await.expect(200);
    assert_eq!(house.count("dtu").await, 0);
    house.api.stop().await;
}

/// A job that a process left behind is failed by the next one, and the file can be sent again.
#[actix_web::test]
async fn a_job_of_a_dead_process_is_failed() {
    let house = House::new().await;
    let id = "0190a000-0000-7000-8000-000000000001";
    let ask = json!({"kind": "dtus", "format": "csv", "dry_run": false, "numbers_as_text": false, "charset": null,
                     "bytes": 9, "sha256": ""});
    let tally = json!({"rows": 0, "rows_checked": 0, "made": 0, "changed": 0, "unchanged": 0, "faults_total": 0,
                       "faults": [], "changes": []});
    let insert = format!(
        "INSERT INTO import_job (id, account_id, kind, ask, state, tally, requested_by, created_at)
         SELECT '{id}', id, 'dtus', '{ask}', 'running', '{tally}', 'ann', '2026-03-01T11:00:00Z' FROM account LIMIT 1"
    );
    house.api.db.sql(&insert).await;
    let House { api, ann } = house;
    let api = api.restart().await;
    for _ in 0..600 {
        let job = api
            .call(&ann, "GET", &format!("/imports/{id}"), None)
            .await
            .expect(200)
            .json();
        if job["state"] == "failed" {
            assert!(
                job["reason"]
                    .as_str()
                    .expect("a reason")
                    .contains("send the file again")
            );
            return api.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody looks after it");
}

/// Numbers that are the same each time (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A generated file against a model of it: which rows are at fault in which column; and without them, which meters there
/// are in the end, over files that make, change and leave.
#[actix_web::test]
async fn generated_files_do_what_a_model_says() {
    let house = House::new().await;
    for n in 0..4 {
        house.dtu(&format!("GEN{n}")).await;
    }
    let mut numbers = Numbers(20_260_301);
    let mut there: BTreeMap<(String, u64), (String, String)> = BTreeMap::new();
    for round in 0..6 {
        let head = "dtu_sn,protocol,address,model,name,ct_ratio\n";
        let (mut whole, mut sound) = (head.to_owned(), head.to_owned());
        let mut expected = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let (mut made, mut changed, mut unchanged) = (0, 0, 0);
        for row in 2..62 {
            let (dtu, address) = (numbers.below(4), numbers.below(30) + 1);
            let name = format!("m{}", numbers.below(12));
            // as long as addresses are drawn, or short: 5, 05 and 005 are one
            let width = usize::try_from(numbers.below(3)).expect("small") + 1;
            let ratio = ["1", "1.0", "2.50", "40"][usize::try_from(numbers.below(4)).expect("small")];
            let mut cells = [
                format!("GEN{dtu}"),
                "modbus-rtu".to_owned(),
                format!("{address:0width$}"),
                MODEL.to_owned(),
                name.clone(),
                ratio.to_owned(),
            ];
            let fault = match numbers.below(14) {
                0 => Some((0, "nobody", "dtu_sn")),
                1 => Some((1, "modbus", "protocol")),
                2 => Some((2, "0", "address")),
                3 => Some((3, "nobody", "model")),
                4 => Some((5, "1,5", "ct_ratio")),
                _ => None,
            };
            if let Some((place, wrong, column)) = fault {
                cells[place] = format!("\"{wrong}\"");
                expected.insert((row, column));
            } else if seen.insert((dtu, address)) {
                sound.push_str(&format!("{}\n", cells.join(",")));
                let normal = ratio.trim_end_matches('0').trim_end_matches('.').to_owned();
                let normal = if ratio == "40" { ratio.to_owned() } else { normal };
                let new = (name, normal);
                match there.insert((format!("GEN{dtu}"), address), new.clone()) {
                    None => made += 1,
                    Some(old) if old == new => unchanged += 1,
                    Some(_) => changed += 1,
                }
            } else {
                expected.insert((row, "address"));
            }
            whole.push_str(&format!("{}\n", cells.join(",")));
        }
        let job = house.import("kind=meters&dry_run=true", &whole).await;
        let found: BTreeSet<(i64, &str)> = faults(&job).into_iter().map(|(row, column, _)| (row, column)).collect();
        assert_eq!(found, expected, "round {round}: {whole}");
        let counts = [made, changed, unchanged];
        assert_eq!(tally(&job).1[..3], counts, "round {round}");
        let job = house.import("kind=meters", &sound).await;
        assert_eq!(
            (job["state"].as_str(), &tally(&job).1[..3]),
            (Some("done"), &counts[..]),
            "round {round}"
        );
        let total = made + changed + unchanged;
        assert_eq!(
            tally(&house.import("kind=meters", &sound).await).1,
            [0, 0, total, 0],
            "round {round}"
        );
        let dtus: BTreeMap<i64, String> = house
            .items("/dtus")
            .await
            .iter()
            .map(|dtu| (id(dtu), dtu["sn"].as_str().expect("a number").to_owned()))
            .collect();
        let shown: BTreeMap<(String, u64), (String, String)> = house
            .walk("/meters", 1000)
            .await
            .iter()
            .map(|meter| {
                let text = |field: &str| meter[field].as_str().expect("a text").to_owned();
                let dtu = dtus[&meter["dtu_id"].as_i64().expect("an id")].clone();
                let address = text("address").parse().expect("a number");
                ((dtu, address), (text("name"), text("ct_ratio")))
            })
            .collect();
        assert_eq!(shown, there, "round {round}");
    }
    house.api.stop().await;
}

/// What somebody else changes while a file is judged is seen when it is written, and then nothing is.
#[actix_web::test]
async fn a_plan_that_is_no_longer_true_writes_nothing() {
    let house = House::new().await;
    let dtu = DtuId(i32::try_from(house.dtu("PLAN01").await).expect("an id"));
    let old = house.meter(i64::from(dtu.0), 1).await;
    let scope = Scope {
        account: house.ann.account.expect("an account"),
        actor: Actor::command_line(),
    };
    let stores = PgStores::new(house.api.db.database().clone());
    let book: Box<dyn ImportBook> = stores.in_account(scope);
    let now = house.api.now();
    let ask = ImportAsk {
        kind: ImportKind::Meters,
        format: ImportFormat::Csv,
        dry_run: false,
        numbers_as_text: false,
        charset: None,
        bytes: 0,
        sha256: String::new(),
    };
    let job = book.create(uuid::Uuid::now_v7(), &ask, now).await.expect("a job");
    let new = |dtu: DtuId, address: &str| NewMeter {
        dtu,
        protocol: "modbus-rtu".to_owned(),
        address: address.to_owned(),
        model: MODEL.to_owned(),
        name: "new".to_owned(),
        comment: String::new(),
        group: None,
        schedules: Vec::new(),
        ct_ratio: Decimal::ONE,
        vt_ratio: Decimal::ONE,
        point: None,
    };
    let edit = MeterEdit {
        name: Some("edited".to_owned()),
        ..MeterEdit::default()
    };
    let meter = MeterId(i32::try_from(id(&old)).expect("an id"));
    let version = i32::try_from(old["version"].as_i64().expect("a version")).expect("small");
    let tally = ImportTally::default();
    let fits = (2, Step::Make(new(dtu, "2")));
    for moved in [
        (3, Step::Make(new(dtu, "1"))),
        (3, Step::Make(new(DtuId(999_999), "3"))),
        (3, Step::Change(meter, version + 1, edit.clone())),
        (3, Step::Change(MeterId(999_999), 1, edit.clone())),
    ] {
        let plan = ImportPlan::Meters(vec![fits.clone(), moved]);
        let applied = book.apply(job.id, &plan, false, &tally, now).await;
        assert_eq!(applied, Ok(Applied::Moved));
        assert_eq!(house.count("meter").await, 1);
    }
    let plan = ImportPlan::Meters(vec![fits, (3, Step::Change(meter, version, edit))]);
    assert_eq!(
        book.apply(job.id, &plan, true, &tally, now).await,
        Ok(Applied::All(Vec::new()))
    );
    assert_eq!(house.count("meter").await, 1);
    assert_eq!(
        book.apply(job.id, &plan, false, &tally, now).await,
        Ok(Applied::All(vec![dtu]))
    );
    assert_eq!(house.count("meter WHERE name IN ('new', 'edited')").await, 2);
    // the job is done with it, and is not done twice
    assert_eq!(book.get(job.id).await.expect("the job").state, ImportState::Done);
    let more = ImportPlan::Meters(vec![(2, Step::Make(new(dtu, "4")))]);
    assert_eq!(book.apply(job.id, &more, false, &tally, now).await, Ok(Applied::Ended));
    assert_eq!(house.count("meter").await, 2);
    house.api.stop().await;
}

//! Exports over HTTP: what is in the files, who may have them, what becomes of jobs.

use super::*;
use polyphase::base::clock::Clock;
use polyphase::report::{ExportSettings, Exports};
use polyphase::store::PgStores;
use sqlx::{Connection, Executor};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FORMULA: &str = "=HYPERLINK(\"http://evil.example\",\"x\")";

/// Asks until the export has ended.
async fn ended(api: &Api, who: &Someone, id: &str) -> Json {
    for _ in 0..1_200 {
        let job = api
            .call(who, "GET", &format!("/exports/{id}"), None)
            .await
            .expect(200)
            .json();
        if !matches!(job["state"].as_str(), Some("waiting" | "running")) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the export does not end");
}

async fn ask(api: &Api, who: &Someone, body: Json) -> String {
    let made = api.call(who, "POST", "/exports", Some(body)).await.expect(202);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.header("location"), Some(format!("/api/v1/exports/{id}").as_str()));
    id
}

async fn exported(api: &Api, who: &Someone, body: Json) -> (Json, String) {
    let id = ask(api, who, body).await;
    let job = ended(api, who, &id).await;
    assert_eq!(job["state"], "done", "{job}");
    let file = api
        .call(who, "GET", &format!("/exports/{id}/file"), None)
        .await
        .expect(200);
    (job, file.text)
}

/// The lines of a CSV file as maps from heading to text.
fn table(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    reader.deserialize().map(|line| line.expect("a line")).collect()
}

/// Two meters, one of them named like a formula, with readings of a day.
async fn furnished() -> (House, Json, Json) {
    let house = House::new().await;
    let dtu = house.dtu("EXPORT01").await;
    let (first, second) = (house.meter(dtu, 1).await, house.meter(dtu, 2).await);
    let path = format!("/meters/{}", id(&first));
    house.patch(&path, json!({ "name": FORMULA })).await.expect(200);
    let begin = at("2026-03-01T08:00:00Z");
    let mut records = Vec::new();
    for hour in 0..4 {
        let ts = begin + TimeDelta::hours(hour);
        let voltage = Value::F32(230.1);
        let items = vec![
            energy(&format!("{}.50", 1000 + hour)),
            item(Quantity::VoltageL1, voltage),
        ];
        records.push(house.read(&first, ts, items));
        records.push(house.read(&second, ts, vec![energy("123456789012.345678")]));
    }
    house.store(&records).await;
    (house, first, second)
}

#[actix_web::test]
async fn a_csv_file_has_what_the_api_shows() {
    let (house, first, second) = furnished().await;
    let body = json!({"kind": "readings", "format": "csv", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z",
                      "time_zone": "Asia/Kathmandu"});
    let (job, text) = exported(&house.api, &house.ann, body).await;
    let rows = table(&text);
    assert_eq!((job["rows"].as_i64(), rows.len()), (Some(12), 12));
    assert_eq!(job["bytes"].as_u64(), Some(text.len() as u64));
    for meter in [&first, &second] {
        let number = id(meter).to_string();
        let mine: Vec<_> = rows.iter().filter(|row| row["meter_id"] == number).collect();
        let path = format!("/meters/{number}/readings?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z");
        let shown = house.walk(&path, 1000).await;
        assert_eq!(mine.len(), shown.len());
        for (row, item) in mine.iter().zip(&shown) {
            for field in ["quantity", "obis", "value", "unit", "quality", "source"] {
                assert_eq!(row[field], item[field].as_str().unwrap_or_default(), "{field}");
            }
            assert!(row["due_at"].ends_with("+05:45"), "{}", row["due_at"]);
            for field in ["due_at", "read_at"] {
                assert_eq!(at(&row[field]), at(item[field].as_str().expect("a time")), "{field}");
            }
            assert_eq!(row["meter_time"], "");
        }
    }
    // a name from outside is no formula
    assert!(rows.iter().any(|row| row["meter"] == format!("'{FORMULA}")));

    let few = json!({"kind": "readings", "format": "csv", "from": "2026-03-01T09:00:00Z", "to": "2026-03-01T11:00:00Z",
                     "meter_ids": [id(&first)], "quantities": ["voltage_l1"], "bom": true});
    let (_, text) = exported(&house.api, &house.ann, few).await;
    let rows = table(text.strip_prefix('\u{feff}').expect("a mark"));
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row["quantity"].as_str(), row["value"].as_str()))
        .collect();
    assert_eq!(found, [("voltage_l1", "230.1"); 2]);
}

#[actix_web::test]
async fn every_kind_comes_in_both_formats() {
    let (house, first, _) = furnished().await;
    let admin = house.api.someone(Role::Admin, "Ann").await;
    let schedule = house
        .post(
            "/schedules",
            json!({"name": "hourly", "cron": "0 * * * *", "time_zone": "UTC"}),
        )
        .await;
    let schedule = id(&schedule.expect(201).json());
    house
        .patch(&format!("/meters/{}", id(&first)), json!({ "schedule": schedule }))
        .await
        .expect(200);
    house.api.clock.advance(Duration::from_secs(3 * 3600));
    house
        .store(&[house.ended(&first, schedule, at("2026-03-01T13:00:00Z"), SlotState::Missing)])
        .await;
    let span = ("2026-03-01T00:00:00Z", "2026-03-01T20:00:00Z");
    for kind in ["readings", "consumption", "slots", "alarms", "audit"] {
        let mut body = json!({"kind": kind, "format": "csv", "from": span.0, "to": span.1});
        let (job, text) = exported(&house.api, &admin, body.clone()).await;
        let rows = table(&text);
        assert_eq!(job["rows"].as_u64(), Some(rows.len() as u64), "{kind}");
        match kind {
            "slots" => {
                let shown = house.walk(&format!("/slots?from={}&to={}", span.0, span.1), 1000).await;
                assert_eq!(rows.len(), shown.len());
                assert!(
                    rows.iter()
                        .any(|row| row["state"] == "missing" && row["reason"] == "timeout")
                );
            }
            "audit" => assert!(rows.iter().any(|row| row["action"] == "export.create")),
            "consumption" => assert!(
                rows.iter().any(|row| row["quantity"] == "active_energy_import"),
                "{text}"
            ),
            "alarms" => assert!(text.starts_with("id,kind,severity,state,sentence,")),
            _ => {}
        }
        body["format"] = json!("xlsx");
        let (again, file) = exported(&house.api, &admin, body).await;
        assert!(file.starts_with("PK"), "{kind}");
        if kind != "audit" {
            assert_eq!(again["rows"], job["rows"], "{kind}");
        }
    }
}

#[actix_web::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let (house, _, _) = furnished().await;
    let body =
        json!({"kind": "readings", "format": "csv", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"});
    let (job, whole) = exported(&house.api, &house.ann, body).await;
    let path = job["file"]
        .as_str()
        .expect("a file")
        .trim_start_matches("/api/v1")
        .to_owned();
    let part = async |range: &str| {
        let headers = [("Range", range), ("Accept-Encoding", "gzip")];
        house.api.call_with(&house.ann, "GET", &path, &headers, None).await
    };
    let (head, tail) = (
        part("bytes=0-99").await.expect(206),
        part("bytes=100-").await.expect(206),
    );
    assert_eq!(format!("{}{}", head.text, tail.text), whole);
    assert_eq!(
        head.header("content-range"),
        Some(format!("bytes 0-99/{}", whole.len()).as_str())
    );
    assert_eq!(part("bytes=9999999-").await.status, 416);
    assert!(
        head.header("content-disposition")
            .is_some_and(|text| text.contains("readings-20260301-20260302.csv"))
    );
}

#[actix_web::test]
async fn nobody_gets_what_is_not_theirs() {
    let (house, first, _) = furnished().await;
    let api = &house.api;
    let admin = api.someone(Role::Admin, "Ann").await;
    let viewer = api.someone(Role::Viewer, "Ann").await;
    let stranger = api.someone(Role::Admin, "Bob").await;
    let readings = json!({"kind": "readings", "format": "csv"});
    let audit = json!({"kind": "audit", "format": "csv"});
    assert_eq!(
        api.call(&viewer, "POST", "/exports", Some(audit.clone())).await.status,
        403
    );
    let id_of_readings = ask(api, &house.ann, readings).await;
    let id_of_audit = ask(api, &admin, audit).await;
    for id in [&id_of_readings, &id_of_audit] {
        assert_eq!(ended(api, &admin, id).await["state"], "done");
    }
    for (who, id, shown) in [
        (&viewer, &id_of_readings, 200),
        (&viewer, &id_of_audit, 404),
        (&stranger, &id_of_readings, 404),
    ] {
        for path in [format!("/exports/{id}"), format!("/exports/{id}/file")] {
            assert_eq!(api.call(who, "GET", &path, None).await.status, shown, "{path}");
        }
    }
    assert_eq!(
        api.call(&stranger, "DELETE", &format!("/exports/{id_of_readings}"), None)
            .await
            .status,
        404
    );
    assert_eq!(
        api.call(&viewer, "DELETE", &format!("/exports/{id_of_readings}"), None)
            .await
            .status,
        403
    );
    let listed = async |who: &Someone| {
        let items = api.call(who, "GET", "/exports", None).await.expect(200).json()["items"].clone();
        items.as_array().expect("items").len()
    };
    assert_eq!(
        (listed(&viewer).await, listed(&admin).await, listed(&stranger).await),
        (1, 2, 0)
    );
    // what is another's is not there
    let foreign = json!({"kind": "readings", "format": "csv", "meter_ids": [id(&first)]});
    assert_eq!(api.call(&stranger, "POST", "/exports", Some(foreign)).await.status, 422);
    let (_, text) = exported(api, &stranger, json!({"kind": "readings", "format": "csv"})).await;
    assert_eq!(table(&text).len(), 0);

    // an admin deletes it: the file is gone, and who did what is known
    let gone = api
        .call(&admin, "DELETE", &format!("/exports/{id_of_readings}"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(gone["state"], "expired");
    let file = api
        .call(&admin, "GET", &format!("/exports/{id_of_readings}/file"), None)
        .await;
    assert_eq!(file.expect(409).problem(), "conflict");
    assert!(!api.files.path().join(format!("{id_of_readings}.csv")).exists());
    let object = format!("/audit?object=export/{id_of_readings}");
    let entries = api.call(&admin, "GET", &object, None).await.expect(200).json();
    let actions: Vec<_> = entries["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|e| e["action"].clone())
        .collect();
    assert_eq!(actions, ["export.delete", "export.download", "export.create"]);
}

#[actix_web::test]
async fn an_account_has_few_at_once_and_can_cancel_them() {
    let (house, _, _) = furnished().await;
    let body =
        json!({"kind": "readings", "format": "csv", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"});
    // whoever wants to know of meters waits
    let mut locker = house.api.db.superuser().await;
    let mut lock = locker.begin().await.expect("begin");
    lock.execute("LOCK TABLE meter IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("lock");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(ask(&house.api, &house.ann, body.clone()).await);
    }
    let busy = house.post("/exports", body.clone()).await;
    assert_eq!((busy.status, busy.header("retry-after").is_some()), (503, true));
    let cancelled = house.delete(&format!("/exports/{}", ids[1])).await.expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    lock.rollback().await.expect("unlock");
    for id in [&ids[0], &ids[2]] {
        assert_eq!(ended(&house.api, &house.ann, id).await["state"], "done");
    }
    assert_eq!(ended(&house.api, &house.ann, &ids[1]).await["state"], "cancelled");
}

#[actix_web::test]
async fn what_a_dead_process_left_is_done_by_the_next_or_given_up() {
    let (house, _, _) = furnished().await;
    let body =
        json!({"kind": "readings", "format": "csv", "from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"});
    let (job, _) = exported(&house.api, &house.ann, body).await;
    let copy = |attempts: i16| {
        format!(
            "INSERT INTO export_job (id, account_id, kind, format, ask, state, attempts, requested_by, user_id, created_at)
             SELECT gen_random_uuid(), account_id, kind, format, ask, 'running', {attempts}, requested_by, user_id, created_at
             FROM export_job WHERE id = '{}'",
            job["id"].as_str().expect("an id")
        )
    };
    for attempts in [1, 3] {
        house.api.db.sql(&copy(attempts)).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let stop = CancellationToken::new();
    let settings = ExportSettings {
        folder: folder.path().to_owned(),
        at_once: 1,
        account_open_max: 1,
        open_max: 1,
        rows_max: 1_000,
        bytes_max: 1 << 20,
        folder_bytes: 1 << 20,
        kept: TimeDelta::hours(1),
    };
    let stores = Arc::new(PgStores::new(house.api.db.database().clone()));
    let clock: Arc<dyn Clock> = house.api.clock.clone();
    let _desk = Exports::open(stores, house.api.live.clone(), clock, settings, stop.clone()).expect("open");
    let _guard = stop.drop_guard();
    let others: Vec<String> = house
        .items("/exports")
        .await
        .iter()
        .filter_map(|item| item["id"].as_str().map(str::to_owned))
        .filter(|id| Some(id.as_str()) != job["id"].as_str())
        .collect();
    let mut states = Vec::new();
    for id in &others {
        let job = ended(&house.api, &house.ann, id).await;
        states.push((
            job["state"].clone(),
            job["reason"].as_str().is_some_and(|text| text.contains("restarted")),
        ));
    }
    states.sort_by_key(|state| state.0.to_string());
    assert_eq!(states, [(json!("done"), false), (json!("failed"), true)]);
}

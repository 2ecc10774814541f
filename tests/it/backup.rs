//! Backups: made while readings come in, restored to an empty database, compared; refused when they are not what was
//! written.

use crate::harness::api::Api;
use crate::harness::db::TestDb;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::app::backup::{self, Backups};
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{FrameId, FrameRange, MeterId, PollId};
use polyphase::cli::access;
use polyphase::config::{self, Config};
use polyphase::domain::access::Role;
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use polyphase::port::backups::{BackupDesk, BackupState};
use polyphase::port::ledger::{PollRecord, ReadingStore};
use polyphase::store::backup::archive::check;
use polyphase::store::backup::{Manifest, PartKind};
use polyphase::store::ingest::{PgReadingStore, Retention};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SEGMENT: &str = "spool/00000000000000000001.seg";

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().expect("an instant")
}

/// A configuration over this database, with a data folder of its own.
fn configured(folder: &Path, name: &str, db: &TestDb) -> (Config, PathBuf) {
    let path = folder.join(format!("{name}.toml"));
    let text = format!(
        "[data]\nfolder = \"{}\"\n[database]\nurl = \"{}\"\n",
        folder.join(name).display(),
        db.url().expose_secret()
    );
    std::fs::write(&path, text).expect("write");
    let (config, _) = config::load(Some(&path)).expect("a sound configuration");
    (config, path)
}

/// A server that has worked: two accounts, a fleet, files beside the database.
async fn lived(db: &TestDb, data: &Path) -> Arc<ManualClock> {
    let clock = Arc::new(ManualClock::new(now()));
    for account in ["Ann", "Bob"] {
        let email = format!("admin@{}.example", account.to_lowercase());
        access::add_user(
            db.database(),
            &*clock,
            &email,
            Role::Admin,
            Some(account),
            "correct horse",
        )
        .await
        .expect("a user");
    }
    db.sql(
        "INSERT INTO meter_group (account_id, name, created_at) VALUES (1, E'tab\\there, \\\\ and\\nline', now());
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'BACKUP01', 'über', now());
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, group_id, created_at)
         SELECT 1, d.id, 'modbus-rtu', i::text, 'eastron_sdm630', 'meter ' || i, g.id, now()
         FROM dtu d, meter_group g, generate_series(1, 3) i",
    )
    .await;
    std::fs::create_dir_all(data.join("spool")).expect("a folder");
    std::fs::write(data.join("notify.key"), "0123456789abcdef0123456789abcdef").expect("write");
    std::fs::write(data.join(SEGMENT), vec![3u8; 10_000]).expect("write");
    clock
}

fn record(number: u32) -> PollRecord {
    let ts = now() - TimeDelta::days(i64::from(number % 3)) + TimeDelta::seconds(i64::from(number));
    let value = Value::Decimal(rust_decimal::Decimal::new(i64::from(number) * 25 + 100_000, 2));
    PollRecord {
        reading: Some(Reading {
            account: polyphase::base::ids::AccountId(1),
            meter: MeterId(i32::try_from(number % 3).expect("small") + 1),
            ts,
            source: Source::Scheduled,
            read_at: ts + TimeDelta::seconds(1),
            meter_time: None,
            poll: PollId(i64::from(number)),
            frames: FrameRange {
                first: FrameId(1),
                count: 1,
            },
            items: vec![
                Item {
                    measurand: Measurand::Standard(Quantity::ActiveEnergyImport),
                    value,
                    quality: Quality::Measured,
                },
                Item {
                    measurand: Measurand::Vendor("own_thing".into()),
                    value: Value::F64(f64::from(number) / 3.0),
                    quality: Quality::Suspect,
                },
            ],
        }),
        ..PollRecord::default()
    }
}

/// Rows and sums of all tables.
fn tables(manifest: &Manifest) -> BTreeMap<String, (u64, String)> {
    let parts = manifest.parts.iter();
    let tables = parts.filter(|part| matches!(part.head.kind, PartKind::Table { .. }));
    tables
        .map(|part| (part.head.name.clone(), (part.rows, part.digest.clone())))
        .collect()
}

async fn count(db: &TestDb, query: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
        .fetch_one(&mut db.superuser().await)
        .await
        .expect(query)
}

fn polyphase(arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_polyphase"))
        .args(arguments)
        .output()
        .expect("run");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    (done.status.code().unwrap_or(-1), said)
}

#[actix_web::test]
async fn what_was_there_at_one_instant_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = TestDb::new().await;
    let (config, _) = configured(folder.path(), "old", &db);
    let clock = lived(&db, &config.data.folder).await;
    let store = Arc::new(PgReadingStore::new(db.database(), clock.clone(), Retention::default()));
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (writer_stop, writer_count) = (Arc::clone(&stop), Arc::clone(&written));
    // a fleet that goes on writing, in order
    let writer = tokio::spawn(async move {
        while !writer_stop.load(Ordering::Relaxed) {
            let next = writer_count.load(Ordering::Relaxed);
            let records: Vec<PollRecord> = (next..next + 20).map(record).collect();
            store.write(&records).await.expect("write");
            writer_count.store(next + 20, Ordering::Relaxed);
        }
    });
    while written.load(Ordering::Relaxed) < 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let file = folder.path().join("all.backup");
    let key = SecretString::from("a key that is long enough");
    let (backup_config, backup_key, backup_file) = (config.clone(), key.clone(), file.clone());
    let (url, begun) = (db.url(), written.load(Ordering::Relaxed));
    let made = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(backup::make(
            &backup_config,
            &url,
            &backup_file,
            Some(&backup_key),
            now(),
        ))
    });
    let manifest = made.await.expect("a thread").expect("a backup");
    let ended = written.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the writer");
    assert!(!folder.path().join("all.backup.part").exists());

    let fresh = TestDb::blank().await;
    let (config, toml) = configured(folder.path(), "new", &fresh);
    let report = backup::restore(&config, &file, Some(&key)).await.expect("a restore");
    assert_eq!(report.manifest, manifest);
    assert_eq!(report.restored.tables, tables(&manifest).len());
    assert!(report.audit.is_some_and(|head| head.id > 0), "there is an audit");
    // all batches up to an instant between begin and end, and no other
    let readings = count(&fresh, "SELECT count(*) FROM reading_electricity").await;
    let last = count(&fresh, "SELECT max(poll_id) FROM reading_electricity").await;
    assert!(
        i64::from(begun) <= readings && readings <= i64::from(ended) + 20,
        "{begun} {readings} {ended}"
    );
    assert_eq!((readings % 20, last), (0, readings - 1));
    assert_eq!(count(&fresh, "SELECT count(*) FROM reading_side").await, readings);
    for (name, bytes) in [("notify.key", 32), (SEGMENT, 10_000)] {
        assert_eq!(std::fs::read(config.data.folder.join(name)).expect(name).len(), bytes);
    }
    assert!(!config.data.folder.join("restore.part").exists());

    // another backup of what came back has the same rows in every table
    let again = folder.path().join("again.backup");
    let second = backup::make(&config, &fresh.url(), &again, None, now())
        .await
        .expect("a backup");
    assert_eq!(tables(&second), tables(&manifest));
    assert_eq!(second.sequences, manifest.sequences);
    // references, row security and grants are there again, and new rows get new ids
    assert!(count(&fresh, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'").await > 20);
    let clock: Arc<dyn Clock> = clock;
    let database = polyphase::store::Database::connect(&fresh.settings())
        .await
        .expect("connect");
    let user = access::add_user(
        &database,
        &*clock,
        "new@ann.example",
        Role::Viewer,
        Some("Ann"),
        "correct horse",
    )
    .await
    .expect("a user");
    assert_eq!((user.id.0, user.account_id.map(|id| id.0)), (3, Some(1)));
    database.close().await;

    // what holds something is not written over
    let (code, said) = polyphase(&["restore", &again.to_string_lossy(), "--config", &toml.to_string_lossy()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("fresh data folder"), "{said}");
    let (other, _) = configured(folder.path(), "other", &fresh);
    let refused = backup::restore(&other, &again, None).await.expect_err("not empty");
    assert!(format!("{refused:#}").contains("not empty"), "{refused:#}");
}

#[actix_web::test]
async fn what_is_not_what_was_written_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = TestDb::new().await;
    let (config, _) = configured(folder.path(), "old", &db);
    lived(&db, &config.data.folder).await;
    let key = SecretString::from("a key that is long enough");
    let file = folder.path().join("all.backup");
    backup::make(&config, &db.url(), &file, Some(&key), now())
        .await
        .expect("a backup");
    let whole = std::fs::read(&file).expect("read");
    check(whole.as_slice(), Some(&key)).expect("it is whole");

    let fresh = TestDb::blank().await;
    let (config, toml) = configured(folder.path(), "new", &fresh);
    let bad = folder.path().join("bad.backup");
    let middle = whole.len() / 2;
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        bytes
    };
    let wrong = SecretString::from("another key of some length");
    for (bytes, key, word) in [
        (flipped(5), Some(&key), "no backup"),
        (flipped(middle), Some(&key), "damaged"),
        (flipped(whole.len() - 1), Some(&key), "damaged"),
        (whole[..middle].to_vec(), Some(&key), "damaged"),
        (whole[..whole.len() - 1].to_vec(), Some(&key), "damaged"),
        (whole.clone(), Some(&wrong), "encrypted"),
        (whole.clone(), None, "encrypted"),
    ] {
        std::fs::write(&bad, bytes).expect("write");
        let refused = backup::restore(&config, &bad, key).await.expect_err(word);
        assert!(format!("{refused:#}").contains(word), "{refused:#}");
    }
    assert_eq!(
        count(
            &fresh,
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        .await,
        0
    );
    assert!(!config.data.folder.exists(), "nothing was written");

    // by command, with the key in a file
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "a key that is long enough\n").expect("write");
    let arguments = [
        "--key-file",
        &key_file.to_string_lossy(),
        "--config",
        &toml.to_string_lossy(),
    ];
    let (code, said) = polyphase(&[&["restore", &*file.to_string_lossy()], arguments.as_slice()].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the audit holds"), "{said}");
    let (code, said) = polyphase(&[&["backup", &*bad.to_string_lossy()], arguments.as_slice()].concat());
    assert_eq!(code, 1, "a file is written over: {said}");
}

#[actix_web::test]
async fn a_newer_schema_is_refused_and_an_audit_that_was_edited_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = TestDb::new().await;
    let (config, _) = configured(folder.path(), "old", &db);
    lived(&db, &config.data.folder).await;
    let edited = folder.path().join("edited.backup");
    db.sql("UPDATE audit SET actor = 'nobody@ann.example' WHERE id = 1")
        .await;
    backup::make(&config, &db.url(), &edited, None, now())
        .await
        .expect("a backup");
    let newer = folder.path().join("newer.backup");
    db.sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', true, '\\x00', 0)",
    )
    .await;
    backup::make(&config, &db.url(), &newer, None, now())
        .await
        .expect("a backup");

    let fresh = TestDb::blank().await;
    let (config, _) = configured(folder.path(), "new", &fresh);
    let refused = backup::restore(&config, &newer, None).await.expect_err("newer");
    assert!(format!("{refused:#}").contains("newer version"), "{refused:#}");
    let refused = backup::restore(&config, &edited, None).await.expect_err("edited");
    assert!(format!("{refused:#}").contains("audit"), "{refused:#}");
}

#[actix_web::test]
async fn the_platform_role_makes_and_fetches_backups_and_nobody_else() {
    let api = Api::start().await;
    let (root, admin) = (api.platform().await, api.someone(Role::Admin, "Ann").await);
    for (method, path) in [
        ("GET", "/backups"),
        ("POST", "/backups"),
        ("GET", "/backups/polyphase-20260301T120000Z/file"),
    ] {
        assert_eq!(
            api.call(&admin, method, path, None).await.status,
            403,
            "{method} {path}"
        );
    }
    let begun = api.call(&root, "POST", "/backups", None).await.expect(202).json();
    let id = begun["id"].as_str().expect("an id").to_owned();
    // one at a time, and none twice under one name
    assert_eq!(api.call(&root, "POST", "/backups", None).await.status, 409);
    let mut newest = begun;
    for _ in 0..1_200 {
        newest = api.call(&root, "GET", "/backups", None).await.expect(200).json()["items"][0].clone();
        if newest["state"] != "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        (newest["state"].as_str(), newest["encrypted"].as_bool()),
        (Some("done"), Some(false)),
        "{newest}"
    );
    let file = api
        .call(&root, "GET", &format!("/backups/{id}/file"), None)
        .await
        .expect(200);
    assert_eq!(
        file.header("content-length"),
        Some(newest["bytes"].to_string().as_str())
    );
    check(
        std::fs::File::open(api.files.path().join(format!("data/backups/{id}.backup"))).expect("open"),
        None,
    )
    .expect("whole");
    for path in [
        "/backups/..%2Fnotify.key/file",
        "/backups/polyphase-20200101T000000Z/file",
    ] {
        assert_eq!(api.call(&root, "GET", path, None).await.status, 404, "{path}");
    }
    let entries = api
        .call(&root, "GET", &format!("/audit?object=backup/{id}"), None)
        .await
        .expect(200)
        .json();
    let actions: Vec<_> = entries["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|e| e["action"].clone())
        .collect();
    assert_eq!(actions, ["backup.download", "backup.create"]);
}

#[actix_web::test]
async fn backups_are_made_when_they_are_due_and_kept_by_rule() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = TestDb::new().await;
    let (mut config, _) = configured(folder.path(), "old", &db);
    let clock = lived(&db, &config.data.folder).await;
    config.backup.cron = "0 2 * * *".to_owned();
    config.backup.time_zone = "Asia/Shanghai".to_owned();
    config.backup.folder = folder.path().join("elsewhere");
    (
        config.backup.keep_daily,
        config.backup.keep_weekly,
        config.backup.keep_monthly,
    ) = (2, 0, 0);
    config.backup.key_file = folder.path().join("key");
    std::fs::write(&config.backup.key_file, "a key that is long enough\n").expect("write");
    let desk = Backups::new(&config, db.url(), clock.clone());
    let stop = CancellationToken::new();
    tokio::spawn(desk.clone().keep(stop.clone()));
    let _guard = stop.drop_guard();
    let mut made = Vec::new();
    for day in 2..=4 {
        // two o'clock there is six in the evening here, the day before
        let due: DateTime<Utc> = format!("2026-03-{:02}T18:00:00Z", day - 1).parse().expect("an instant");
        let ahead = (due + TimeDelta::seconds(30) - clock.now()).to_std().expect("ahead");
        // the keeper reads the clock first when it begins; a day that passes before that is no day of its
        tokio::time::sleep(Duration::from_millis(200)).await;
        clock.advance(ahead);
        let id = (due + TimeDelta::seconds(30))
            .format("polyphase-%Y%m%dT%H%M%SZ")
            .to_string();
        let mut done = false;
        for _ in 0..1_200 {
            let newest = desk.list().await.expect("a list").into_iter().next();
            done =
                newest.is_some_and(|newest| newest.id == id && newest.state == BackupState::Done && newest.encrypted);
            if done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(done, "{id} is not made: {:?}", desk.list().await);
        made.push(id);
    }
    let kept: Vec<String> = desk
        .list()
        .await
        .expect("a list")
        .into_iter()
        .map(|backup| backup.id)
        .collect();
    assert_eq!(kept, [made[2].clone(), made[1].clone()]);

    // a failure is told, and what is there stays
    std::fs::write(&config.backup.key_file, "short\n").expect("write");
    desk.begin().await.expect_err("one of that name is there");
    clock.advance(Duration::from_secs(60));
    desk.begin().await.expect("it is begun");
    let mut failed = None;
    for _ in 0..1_200 {
        failed = desk
            .list()
            .await
            .expect("a list")
            .into_iter()
            .find(|backup| backup.state == BackupState::Failed);
        if failed.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        failed
            .and_then(|backup| backup.reason)
            .is_some_and(|reason| reason.contains("16 characters"))
    );
    assert_eq!(desk.list().await.expect("a list").len(), 3);
}

//! The embedded cluster against the PostgreSQL of this host: made, stopped, killed, adopted, shared.

use crate::harness::db::as_postgres;
use polyphase::store::embedded::{Embedded, EmbeddedError, EmbeddedSettings};
use polyphase::store::{Database, DatabaseSettings};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("polyphase-embedded-")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

fn settings(data: &Path) -> EmbeddedSettings {
    EmbeddedSettings {
        data: data.to_path_buf(),
        bin: None,
        port: None,
    }
}

fn postmaster(cluster: &Path) -> Option<i32> {
    std::fs::read_to_string(cluster.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

fn kill_9(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

async fn ping(embedded: &Embedded) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(embedded.url().expose_secret()).await?;
    sqlx::query_scalar(
        "SELECT current_user || ' ' || rolsuper || ' ' || rolcreaterole FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut connection)
    .await
}

#[tokio::test]
async fn it_is_made_migrated_stopped_and_started_again() {
    let data = folder();
    let embedded = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    assert_eq!(
        ping(&embedded).await.unwrap(),
        "polyphase false false",
        "the server's login is no superuser"
    );
    Database::migrate(&embedded.url()).await.unwrap();
    let database = Database::connect(&DatabaseSettings::new(embedded.url())).await.unwrap();
    database.ping().await.unwrap();
    database.close().await;
    let secret = data.path().join("postgres.secret");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    // nobody gets in without the password, and nobody listens beyond loopback
    let open = format!("postgres://postgres:wrong@127.0.0.1:{}/postgres", embedded.port());
    assert!(PgConnection::connect(&open).await.is_err());
    let (port, cluster) = (embedded.port(), embedded.folder().to_path_buf());
    embedded.release().await.unwrap();
    assert_eq!(postmaster(&cluster), None, "the last one out stops it");

    let again = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    assert_eq!(again.port(), port, "the port stays");
    Database::migrate(&again.url()).await.unwrap();
    again.release().await.unwrap();
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again_and_its_data_is_there() {
    let data = folder();
    let embedded = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    let mut connection = PgConnection::connect(embedded.url().expose_secret()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(!embedded.ensure_running().await.unwrap());
    kill_9(postmaster(embedded.folder()).unwrap());
    // the kernel needs a moment to bury it
    let mut restarted = false;
    for _ in 0..100 {
        restarted = embedded.ensure_running().await.unwrap();
        if restarted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(restarted);
    let mut connection = PgConnection::connect(embedded.url().expose_secret()).await.unwrap();
    let kept: i32 = sqlx::query_scalar("SELECT n FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, 42);
    drop(connection);
    embedded.release().await.unwrap();
}

#[tokio::test]
async fn a_postmaster_left_by_a_killed_server_is_adopted_and_a_second_user_does_not_stop_it() {
    let data = folder();
    let killed = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    let pid = postmaster(killed.folder()).unwrap();
    // what the kernel does to a killed process: its locks are gone, nothing was released
    drop(killed);

    let server = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    assert_eq!(postmaster(server.folder()), Some(pid), "the same postmaster goes on");
    let command = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    ping(&command).await.unwrap();
    command.release().await.unwrap();
    assert_eq!(postmaster(server.folder()), Some(pid), "the server still uses it");
    ping(&server).await.unwrap();
    let cluster = server.folder().to_path_buf();
    server.release().await.unwrap();
    assert_eq!(postmaster(&cluster), None);
}

#[tokio::test]
async fn a_stale_pid_file_with_a_strangers_number_is_no_obstacle() {
    let data = folder();
    let embedded = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    let cluster = embedded.folder().to_path_buf();
    let pid_file = std::fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    embedded.release().await.unwrap();
    // after a power cut the number belongs to somebody else, here to a process of the very user that runs PostgreSQL
    let mut stranger = as_postgres(Path::new("/bin/sleep")).arg("600").spawn().unwrap();
    let (_, rest) = pid_file.split_once('\n').unwrap();
    std::fs::write(cluster.join("postmaster.pid"), format!("{}\n{rest}", stranger.id())).unwrap();
    let started = tokio::time::timeout(
        Duration::from_secs(60),
        Embedded::attach_or_start(&settings(data.path())),
    )
    .await;
    let embedded = started.expect("no hang").unwrap();
    ping(&embedded).await.unwrap();
    embedded.release().await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_half_made_cluster_is_made_again_and_another_major_version_is_refused() {
    let data = folder();
    let half = data.path().join("postgres/cluster.new");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let embedded = Embedded::attach_or_start(&settings(data.path())).await.unwrap();
    let cluster = embedded.folder().to_path_buf();
    embedded.release().await.unwrap();

    std::fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let refused = Embedded::attach_or_start(&settings(data.path())).await.unwrap_err();
    assert!(
        matches!(refused, EmbeddedError::OtherMajor { major: 9, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("pg_upgrade"), "{refused}");
}

#[tokio::test]
async fn without_an_installation_it_says_what_to_install() {
    let data = folder();
    let none = EmbeddedSettings {
        bin: Some(data.path().join("nowhere")),
        ..settings(data.path())
    };
    let refused = Embedded::attach_or_start(&none).await.unwrap_err();
    assert!(refused.to_string().contains("apt-get install postgresql"), "{refused}");
}

#[tokio::test]
async fn a_folder_closed_to_the_user_of_postgresql_is_named() {
    if !rustix::process::geteuid().is_root() {
        return; // the server's own user runs PostgreSQL: nothing is closed to it
    }
    let data = folder();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let below = data.path().join("below");
    let refused = Embedded::attach_or_start(&settings(&below)).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&format!("chmod o+x {}", data.path().display())), "{text}");
}

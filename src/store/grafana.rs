//! Logins for dashboards: one account each, read-only. What a login sees follows from row policies that go by
//! `current_user` (migrations 0004 and 0005), so nothing that it can set in its SQL shows it more.
//!
//! Made over a connection of its own, because it takes the right to make roles, which the pools do not have. The
//! password goes to the server as a SCRAM verifier: the statement may be logged, and no log learns it.

use super::handles::append;
use super::{StoreError, connect_options};
use crate::base::ids::AccountId;
use crate::port::scope::Actor;
use crate::telemetry::storage::GrafanaEnded;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// Rounds of the password's hash, PostgreSQL's own default.
const ROUNDS: u32 = 4096;
/// Characters of a password that is given; one that is made has 43.
const PASSWORD_MIN: usize = 12;
/// PostgreSQL cuts names here.
const NAME_MAX: usize = 63;
/// A transaction of a login that is older than this is ended by the server, seconds.
const EXCESS_S: i32 = 60;
/// The longest statement timeout that a login can be made with, seconds: what it may take is not excess.
pub const STATEMENT_TIMEOUT_MAX_S: u32 = 60;

/// What a login is made with.
#[derive(Clone, Debug)]
pub struct GrafanaLogin {
    /// The role's name in PostgreSQL.
    pub login: String,
    /// Its password.
    pub password: SecretString,
    /// The account whose rows it reads.
    pub account: AccountId,
    /// A statement is ended after so many seconds.
    pub statement_timeout_s: u32,
    /// So many connections at once.
    pub connections: u32,
}

/// Where Grafana finds the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrafanaAddress {
    /// Host.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
}

/// The name that a login has if none is asked for: it says which account by number, because every login of a cluster
/// can see the names of all.
pub fn default_name(account: AccountId) -> String {
    format!("polyphase_grafana_{account}")
}

/// A random password, safe in files and URLs.
///
/// # Errors
/// [`StoreError::Internal`] when the operating system gives no random bytes.
pub fn random_password() -> Result<SecretString, StoreError> {
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(random::<32>()?)
        .into())
}

/// Makes the login, or gives an existing one of the same account a new password and these limits. `url` is of a login
/// that may make roles: the server's own, or the superuser of the embedded cluster.
///
/// # Errors
/// [`StoreError::Setup`] says what is in the way.
pub async fn make(url: &SecretString, login: &GrafanaLogin, now: DateTime<Utc>) -> Result<GrafanaAddress, StoreError> {
    check_name(&login.login)?;
    check_password(login.password.expose_secret())?;
    let name = &login.login;
    let options = connect_options(url, "polyphase-grafana-login")?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let address = address(&mut connection, options.get_host(), options.get_port()).await?;
    let mut transaction = connection.begin().await?;

    let account = listed(&mut transaction, name).await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
    match account {
        Some(other) if other != login.account.0 => {
            return Err(StoreError::Setup(format!(
                "the login {name} is of another account: take another name"
            )));
        }
        None if known => {
            return Err(StoreError::Setup(format!(
                "there is a role {name} in this cluster already, which is no grafana login of this database: take another name"
            )));
        }
        _ => {}
    }
    let verb = if known { "ALTER" } else { "CREATE" };
    let verifier = verifier(login.password.expose_secret(), &random::<16>()?)?;
    for statement in [
        format!(
            "{verb} ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT \
             CONNECTION LIMIT {} PASSWORD '{verifier}'",
            login.connections
        ),
        format!("GRANT polyphase_grafana TO {name}"),
        // so that the server may end what a login has running
        format!("GRANT {name} TO polyphase_owner"),
        format!(
            "ALTER ROLE {name} SET statement_timeout = '{}s'",
            login.statement_timeout_s
        ),
        format!("ALTER ROLE {name} SET default_transaction_read_only = on"),
        format!("ALTER ROLE {name} SET idle_in_transaction_session_timeout = '60s'"),
        format!("ALTER ROLE {name} SET lock_timeout = '5s'"),
        format!("ALTER ROLE {name} SET search_path = public"),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .map_err(|error| advice(&error))?;
    }
    as_platform(&mut transaction).await?;
    sqlx::query("INSERT INTO grafana_login (login, account_id) VALUES ($1::name, $2) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(login.account.0)
        .execute(&mut *transaction)
        .await?;
    let action = if known {
        "grafana_login.change"
    } else {
        "grafana_login.create"
    };
    audit(&mut transaction, login.account, now, action, name).await?;
    transaction.commit().await?;
    // the outcome is known; a failing good-bye changes nothing
    connection.close().await.ok();
    Ok(address)
}

/// Ends what logins run for longer than [`EXCESS_S`], whatever they set their own timeouts to, and whoever of them
/// touches the locks that the server's work goes by.
pub(super) async fn end_excess(pool: &PgPool) -> Result<(), StoreError> {
    let ended = sqlx::query_scalar!(r#"SELECT end_grafana_excess($1) AS "ended!""#, EXCESS_S)
        .fetch_one(pool)
        .await?;
    if ended > 0 {
        GrafanaEnded { sessions: ended }.emit();
    }
    Ok(())
}

/// Takes a login away and ends what it has running.
///
/// # Errors
/// [`StoreError::Setup`] when there is none of this account, or the role cannot be dropped.
pub async fn remove(url: &SecretString, account: AccountId, name: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    check_name(name)?;
    let mut connection = PgConnection::connect_with(&connect_options(url, "polyphase-grafana-login")?).await?;
    let mut transaction = connection.begin().await?;
    if listed(&mut transaction, name).await? != Some(account.0) {
        return Err(StoreError::Setup(format!("the account has no grafana login {name}")));
    }
    as_platform(&mut transaction).await?;
    sqlx::query("DELETE FROM grafana_login WHERE login = $1::name")
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    audit(&mut transaction, account, now, "grafana_login.remove", name).await?;
    sqlx::query("SET LOCAL ROLE polyphase_owner")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1::name")
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("RESET ROLE").execute(&mut *transaction).await?;
    sqlx::query(AssertSqlSafe(format!("DROP ROLE {name}")))
        .execute(&mut *transaction)
        .await
        .map_err(|error| advice(&error))?;
    transaction.commit().await?;
    connection.close().await.ok();
    Ok(())
}

/// The account of a login that this database knows.
async fn listed(connection: &mut PgConnection, name: &str) -> Result<Option<i32>, StoreError> {
    as_platform(connection).await?;
    let account = sqlx::query_scalar("SELECT account_id FROM grafana_login WHERE login = $1::name")
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    sqlx::query("RESET ROLE").execute(connection).await?;
    Ok(account)
}

/// Across accounts, within the transaction.
async fn as_platform(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SET LOCAL ROLE polyphase_platform")
        .execute(connection)
        .await?;
    Ok(())
}

async fn audit(
    connection: &mut PgConnection,
    account: AccountId,
    now: DateTime<Utc>,
    action: &str,
    name: &str,
) -> Result<(), StoreError> {
    let object = format!("grafana-login/{name}");
    let actor = Actor::command_line();
    append(
        connection,
        Some(account),
        &actor,
        now,
        action,
        &object,
        json!({"login": name}),
    )
    .await
    .map_err(|error| StoreError::Internal(error.to_string()))
}

async fn address(connection: &mut PgConnection, host: &str, port: u16) -> Result<GrafanaAddress, StoreError> {
    let database = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(connection)
        .await?;
    Ok(GrafanaAddress {
        host: host.to_owned(),
        port,
        database,
    })
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let letters = |c: char| c.is_ascii_lowercase() || c == '_';
    let plain = name.starts_with(letters) && name.chars().all(|c| letters(c) || c.is_ascii_digit());
    // ours would be a role of the server, not of an account
    let ours = super::roles::ROLES.contains(&name) || name.starts_with("pg_") || RESERVED.contains(&name);
    if plain && !ours && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(StoreError::Setup(format!(
        "{name:?} cannot be a login's name: it has 1 to {NAME_MAX} of a-z, 0-9 and _, begins with no digit, and is no name of PostgreSQL's or Polyphase's own"
    )))
}

/// Words that PostgreSQL would not take as a role's name without quotes, or takes for something else.
const RESERVED: [&str; 8] = [
    "public",
    "none",
    "user",
    "all",
    "current_user",
    "session_user",
    "current_role",
    "postgres",
];

/// Printable ASCII needs no normalisation (RFC 4013), and no quotes in a YAML file.
fn check_password(password: &str) -> Result<(), StoreError> {
    if password.chars().count() >= PASSWORD_MIN && password.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(StoreError::Setup(format!(
        "a grafana login's password has at least {PASSWORD_MIN} printable ASCII characters and no space"
    )))
}

fn advice(error: &sqlx::Error) -> StoreError {
    StoreError::Setup(format!(
        "the database's login may not do this: {error}. it needs CREATEROLE (and on PostgreSQL 16 and newer the ADMIN \
         OPTION on polyphase_grafana, which whoever made that role has)"
    ))
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0u8; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| StoreError::Internal(format!("no random bytes from the operating system: {error}")))?;
    Ok(bytes)
}

/// What PostgreSQL stores of a password: `SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey` (RFC 5803, RFC 7677).
fn verifier(password: &str, salt: &[u8]) -> Result<String, StoreError> {
    let salted = pbkdf2(password.as_bytes(), salt)?;
    let client = Sha256::digest(mac(&salted, &[b"Client Key"])?);
    let server = mac(&salted, &[b"Server Key"])?;
    Ok(format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(client),
        STANDARD.encode(server)
    ))
}

/// One block of PBKDF2 (RFC 8018, 5.2) with HMAC-SHA-256, which is all that SCRAM takes of it.
fn pbkdf2(password: &[u8], salt: &[u8]) -> Result<[u8; 32], StoreError> {
    let mut round = mac(password, &[salt, &1u32.to_be_bytes()])?;
    let mut sum = round;
    for _ in 1..ROUNDS {
        round = mac(password, &[&round])?;
        for (byte, next) in sum.iter_mut().zip(round) {
            *byte ^= next;
        }
    }
    Ok(sum)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], StoreError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).map_err(|error| StoreError::Internal(format!("hmac: {error}")))?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_plain_identifier_or_somebody_elses_are_refused() {
        for good in ["polyphase_grafana_1", "g", "_x9", &"a".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "9a",
            "A",
            "a b",
            "a\"",
            "a;drop",
            "pg_x",
            "polyphase_owner",
            "polyphase_grafana",
            "public",
            "postgres",
            "none",
            &"a".repeat(64),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_verifier_is_what_postgresql_makes() {
        // made by PostgreSQL 15: CREATE ROLE ... PASSWORD 'pencil-case-42'; SELECT rolpassword FROM pg_authid
        let salt = STANDARD.decode("277Yel5lrJ6zBIiHa+PBsg==").unwrap();
        assert_eq!(
            verifier("pencil-case-42", &salt).unwrap(),
            "SCRAM-SHA-256$4096:277Yel5lrJ6zBIiHa+PBsg==$Mgv60M+atHLS5f/eomFiDKVoprvWxMReIe9V1/yCdgE=:L1ca7LUbcMdn7tV2gwCNhMOiu2VCZXqMAl7q3L90i+c="
        );
    }

    #[test]
    fn short_and_strange_passwords_are_refused() {
        assert!(check_password(random_password().unwrap().expose_secret()).is_ok());
        for bad in ["", "elevenchars", "with a space in it", "zwölf-zeichen-lang"] {
            assert!(check_password(bad).is_err(), "{bad}");
        }
    }
}

//! The cluster's roles. They are cluster-wide, so several databases of one cluster share them and may make them at once.

use super::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

/// Everything owned, the API, the storage path, across accounts, the group of the Grafana logins.
pub(super) const ROLES: [&str; 5] = [
    "polyphase_owner",
    "polyphase_app",
    "polyphase_ingest",
    "polyphase_platform",
    "polyphase_grafana",
];
/// The roles that the server's own login takes.
const TAKEN: [&str; 4] = [
    "polyphase_owner",
    "polyphase_app",
    "polyphase_ingest",
    "polyphase_platform",
];
const ATTEMPTS: u32 = 10;

/// Makes the roles that are missing, makes the login a member, and gives the owner the schema.
pub(super) async fn ensure(connection: &mut PgConnection) -> Result<(), StoreError> {
    let login: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&mut *connection)
        .await?;
    for role in ROLES {
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role)
            .fetch_one(&mut *connection)
            .await?;
        if !known && let Err(error) = create(connection, role).await {
            return Err(advice(&login, &format!("make the role {role}"), &error));
        }
    }
    for role in TAKEN {
        if !can_take(connection, role).await? {
            let grant = format!("GRANT {role} TO {}", quoted(&login));
            if let Err(error) = patiently(connection, &grant).await {
                return Err(advice(&login, &format!("become a member of {role}"), &error));
            }
        }
    }
    let has_schema: bool = sqlx::query_scalar(
        "SELECT has_schema_privilege('polyphase_owner', 'public', 'CREATE') \
            AND has_schema_privilege('polyphase_owner', 'public', 'USAGE')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !has_schema
        && let Err(error) = patiently(connection, "GRANT CREATE, USAGE ON SCHEMA public TO polyphase_owner").await
    {
        return Err(advice(&login, "give the schema public to polyphase_owner", &error));
    }
    Ok(())
}

async fn create(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let made = patiently(connection, &format!("CREATE ROLE {role} NOLOGIN")).await;
    match made {
        // another server of this cluster was faster: 42710 when it had committed, 23505 when it just did
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42710" | "23505")) => Ok(()),
        other => other,
    }
}

async fn can_take(connection: &mut PgConnection, role: &str) -> Result<bool, StoreError> {
    // tried rather than looked up: what membership means for SET ROLE differs between PostgreSQL 15 and 16
    let taken = sqlx::query(AssertSqlSafe(format!("SET ROLE {role}")))
        .execute(&mut *connection)
        .await;
    match taken {
        Ok(_) => {
            sqlx::query("RESET ROLE").execute(&mut *connection).await?;
            Ok(true)
        }
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Two sessions that change one role at once get "tuple concurrently updated" (XX000); it passes.
async fn patiently(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut *connection)
            .await;
        match done {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("XX000") && attempt < ATTEMPTS => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other => return other.map(|_| ()),
        }
    }
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn advice(login: &str, what: &str, error: &sqlx::Error) -> StoreError {
    let login = quoted(login);
    let roles = ROLES.join(", ");
    let taken = TAKEN.join(", ");
    StoreError::Setup(format!(
        "the login {login} may not {what}: {error}. let it own the database and either ALTER ROLE {login} CREATEROLE, \
         or run once as a superuser: CREATE ROLE for each of {roles} that is missing; GRANT {taken} TO {login}; \
         GRANT CREATE, USAGE ON SCHEMA public TO polyphase_owner"
    ))
}

//! Restoring: into an empty database, in one transaction, and comparing every table with what was written before it is
//! committed.

use super::archive::{ArchiveReader, Manifest, PartKind, PartSum};
use super::tables::{self, RowSum, Table, quoted};
use super::{ArchiveError, BackupError};
use crate::store::{Database, MIGRATOR, StoreError, connect_options, roles};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::io::Read;

/// The longest manifest.
const MANIFEST_MAX: usize = 64 << 20;

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Tables that hold what was written.
    pub tables: usize,
    /// Rows in them.
    pub rows: u64,
}

/// Takes files of the data folder, which stand in front of the tables.
pub trait TakesFiles {
    /// A file, piece by piece; an empty one ends it.
    ///
    /// # Errors
    /// When it cannot be written.
    fn piece(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()>;
}

/// Refuses what cannot be restored here, before anything is changed.
///
/// # Errors
/// [`BackupError::Refused`] with what to do.
pub async fn prepare(url: &SecretString, manifest: &Manifest) -> Result<(), BackupError> {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    if manifest.schema > newest {
        return Err(BackupError::Refused(format!(
            "the backup was made by a newer version ({}, schema {}); this program knows schema {newest}: take one that is as new",
            manifest.program, manifest.schema
        )));
    }
    let mut connection = connect(url).await?;
    let others: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND application_name IN ('polyphase-app', 'polyphase-ingest', 'polyphase-platform')",
    )
    .fetch_one(&mut connection)
    .await?;
    if others > 0 {
        let text = "a server works on this database; stop it, and restore to an empty database or data folder";
        return Err(BackupError::Refused(text.to_owned()));
    }
    let known: bool = sqlx::query_scalar("SELECT to_regclass('public._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut connection)
        .await?;
    if known {
        let schema: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await?;
        let used: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM account) OR EXISTS (SELECT FROM audit)")
            .fetch_one(&mut connection)
            .await?;
        if used {
            let text = "the database is not empty; restore to an empty database or a fresh data folder";
            return Err(BackupError::Refused(text.to_owned()));
        }
        if schema.is_some_and(|schema| schema > manifest.schema) {
            return Err(BackupError::Refused(format!(
                "the database has schema {} already, the backup is older ({}); restore to a database without any table",
                schema.unwrap_or_default(),
                manifest.schema
            )));
        }
    }
    connection.close().await.ok();
    Ok(())
}

async fn connect(url: &SecretString) -> Result<PgConnection, StoreError> {
    Ok(PgConnection::connect_with(&connect_options(url, "polyphase-restore")?).await?)
}

/// Restores a file that [`super::archive::check`] found whole; then brings the schema up to date.
///
/// # Errors
/// [`BackupError`]; the database is as empty as before then.
pub async fn load<R: Read>(
    url: &SecretString,
    mut archive: ArchiveReader<R>,
    manifest: &Manifest,
    files: &mut impl TakesFiles,
) -> Result<Restored, BackupError> {
    let mut connection = connect(url).await?;
    roles::ensure(&mut connection).await?;
    sqlx::query("SET ROLE polyphase_owner").execute(&mut connection).await?;
    MIGRATOR
        .run_to(manifest.schema, &mut connection)
        .await
        .map_err(StoreError::from)?;
    let mut tx = connection.begin().await?;
    tables::settle(&mut tx).await?;
    let references = drop_references(&mut tx).await?;
    empty(&mut tx).await?;
    loop {
        let part = archive.next_part()?;
        match part.kind {
            PartKind::Manifest => break,
            PartKind::File => loop {
                let block = archive.block()?;
                files.piece(&part.name, &block).map_err(ArchiveError::from)?;
                if block.is_empty() {
                    break;
                }
            },
            PartKind::Table { columns, day, closed } => {
                let table = Table {
                    name: part.name,
                    columns,
                    day,
                    closed,
                };
                fill(&mut tx, &mut archive, &table).await?;
            }
        }
    }
    if archive.rest(MANIFEST_MAX)?
        != serde_json::to_vec(manifest)
            .map_err(std::io::Error::other)
            .map_err(ArchiveError::from)?
    {
        return Err(ArchiveError::Damaged("it changed while it was read".to_owned()).into());
    }
    for (table, definition) in references {
        sqlx::query(AssertSqlSafe(format!("ALTER TABLE {table} ADD {definition}")))
            .execute(&mut *tx)
            .await?;
    }
    for (name, value) in &manifest.sequences {
        sqlx::query("SELECT setval(to_regclass(quote_ident($1)), $2)")
            .bind(name)
            .bind(value)
            .execute(&mut *tx)
            .await?;
    }
    let restored = compare(&mut tx, manifest).await?;
    tx.commit().await?;
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    connection.close().await.ok();
    Database::migrate(url).await?;
    Ok(restored)
}

/// Takes foreign keys away, so that tables can come in any order; what makes them again.
async fn drop_references(tx: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT conrelid::regclass::text AS owner, quote_ident(conname) AS name,
                format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) AS definition
         FROM pg_constraint
         WHERE contype = 'f' AND conparentid = 0 AND connamespace = 'public'::regnamespace
           AND EXISTS (SELECT FROM pg_class c WHERE c.oid = conrelid AND c.relowner = 'polyphase_owner'::regrole)
         ORDER BY 1, 2",
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (owner, name): (String, String) = (row.try_get("owner")?, row.try_get("name")?);
        sqlx::query(AssertSqlSafe(format!("ALTER TABLE {owner} DROP CONSTRAINT {name}")))
            .execute(&mut *tx)
            .await?;
        found.push((owner, row.try_get("definition")?));
    }
    Ok(found)
}

/// Takes away what migrations put into tables: the backup has it too.
async fn empty(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> = tables::list(tx)
        .await?
        .iter()
        .map(|table| quoted(&table.name))
        .collect();
    if !names.is_empty() {
        sqlx::query(AssertSqlSafe(format!("TRUNCATE {}", names.join(", "))))
            .execute(tx)
            .await?;
    }
    Ok(())
}

async fn fill<R: Read>(
    tx: &mut PgConnection,
    archive: &mut ArchiveReader<R>,
    table: &Table,
) -> Result<(), BackupError> {
    if let Some(day) = table.day {
        sqlx::query("SELECT ensure_day($1)").bind(day).execute(&mut *tx).await?;
    }
    let mut copy = tx.copy_in_raw(&table.copy_in()).await?;
    loop {
        let block = match archive.block() {
            Ok(block) => block,
            Err(error) => {
                copy.abort("the backup is damaged").await?;
                return Err(error.into());
            }
        };
        if block.is_empty() {
            break;
        }
        copy.send(block).await?;
    }
    copy.finish().await?;
    if let Some(day) = table.day.filter(|_| table.closed) {
        sqlx::query("SELECT close_day($1)").bind(day).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Every table against the manifest.
async fn compare(tx: &mut PgConnection, manifest: &Manifest) -> Result<Restored, BackupError> {
    let mut restored = Restored::default();
    let here = tables::list(tx).await?;
    for part in &manifest.parts {
        let PartKind::Table { .. } = part.head.kind else {
            continue;
        };
        let table = here.iter().find(|table| table.name == part.head.name);
        let Some(table) = table else {
            return Err(differs(part, "no such table".to_owned()));
        };
        let sum = tables::sum(tx, table).await?;
        if (sum.rows, sum.digest().as_str()) != (part.rows, part.digest.as_str()) {
            return Err(differs(part, told(&sum)));
        }
        restored.tables = restored.tables.saturating_add(1);
        restored.rows = restored.rows.saturating_add(sum.rows);
    }
    Ok(restored)
}

fn told(sum: &RowSum) -> String {
    format!("{} rows with the sum {}", sum.rows, sum.digest())
}

fn differs(part: &PartSum, found: String) -> BackupError {
    BackupError::Differs {
        part: part.head.name.clone(),
        found,
        written: format!("{} rows with the sum {}", part.rows, part.digest),
    }
}

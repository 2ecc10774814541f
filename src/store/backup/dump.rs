//! Writing: every table of one snapshot, through one connection, as the owner.

use super::archive::{ArchiveWriter, Manifest, PartHead, PartKind};
use super::tables::{self, RowSum, Table, quoted};
use super::{ArchiveError, BackupError};
use crate::store::{StoreError, connect_options};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::collections::BTreeMap;
use std::io::Write;

/// Bytes that are gathered before they are written.
const BLOCK: usize = 256 * 1024;

/// Writes all tables and the manifest; `archive` has the files already. What is committed when this begins is in it, and
/// nothing that is committed later.
///
/// # Errors
/// [`BackupError`]; the file is of no use then.
pub async fn dump<W: Write>(
    url: &SecretString,
    mut archive: ArchiveWriter<W>,
    made_at: DateTime<Utc>,
) -> Result<(Manifest, W), BackupError> {
    let mut connection = PgConnection::connect_with(&connect_options(url, "polyphase-backup")?)
        .await
        .map_err(StoreError::from)?;
    sqlx::query("SET ROLE polyphase_owner").execute(&mut connection).await?;
    // retention drops no day while this session holds it (migrations/0019); taken before the snapshot
    sqlx::query("SELECT pg_advisory_lock_shared(hashtext('polyphase.backup'))")
        .execute(&mut connection)
        .await?;
    let mut tx = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *tx)
        .await?;
    tables::settle(&mut tx).await?;
    for table in tables::list(&mut tx).await? {
        write_table(&mut tx, &mut archive, table).await?;
    }
    let schema: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut *tx)
        .await?;
    let postgres: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut *tx).await?;
    // behind the tables: sequences do not belong to the snapshot, and none may stand behind its rows
    let sequences = sequences(&mut tx).await?;
    tx.rollback().await?;
    // a failing good-bye changes nothing
    connection.close().await.ok();
    let manifest = Manifest {
        made_at,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        schema,
        postgres,
        parts: archive.parts().to_vec(),
        sequences,
    };
    let out = archive.finish(&manifest)?;
    Ok((manifest, out))
}

async fn write_table<W: Write>(
    tx: &mut PgConnection,
    archive: &mut ArchiveWriter<W>,
    table: Table,
) -> Result<(), BackupError> {
    let mut sum = RowSum::default();
    let statement = table.copy_out();
    archive.begin_part(PartHead {
        name: table.name,
        kind: PartKind::Table {
            columns: table.columns,
            day: table.day,
            closed: table.closed,
        },
    })?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut rows = tx.copy_out_raw(&statement).await?;
    while let Some(bytes) = rows.try_next().await? {
        sum.add(&bytes);
        block.extend_from_slice(&bytes);
        if block.len() >= BLOCK {
            archive.write(&block)?;
            block.clear();
        }
    }
    archive.write(&block)?;
    archive.end_part(sum.rows, sum.digest())?;
    Ok(())
}

async fn sequences(tx: &mut PgConnection) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' AND relowner = 'polyphase_owner'::regrole",
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut found = BTreeMap::new();
    for name in names {
        let statement = format!("SELECT last_value, is_called FROM {}", quoted(&name));
        let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut *tx).await?;
        if row.try_get("is_called")? {
            found.insert(name, row.try_get("last_value")?);
        }
    }
    Ok(found)
}

/// Adds a file of the data folder, as much of it as is there.
///
/// # Errors
/// [`ArchiveError::Io`].
pub fn add_file<W: Write>(
    archive: &mut ArchiveWriter<W>,
    name: &str,
    from: &mut impl std::io::Read,
) -> Result<(), ArchiveError> {
    archive.begin_part(PartHead {
        name: name.to_owned(),
        kind: PartKind::File,
    })?;
    let mut block = vec![0u8; BLOCK];
    loop {
        let read = from.read(&mut block)?;
        match block.get(..read) {
            Some(bytes) if !bytes.is_empty() => archive.write(bytes)?,
            _ => break,
        }
    }
    archive.end_part(0, String::new())
}

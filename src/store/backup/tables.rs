//! What belongs to a backup: every table of ours but the list of migrations, days of tables that are kept by the day one
//! by one; and the sum over their rows by which two databases are compared.

use crate::base::hex;
use chrono::NaiveDate;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// A table with rows of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// Its day, if it is a day of a table that is kept by the day.
    pub(super) day: Option<NaiveDate>,
    /// The day was closed: it has its index by meter.
    pub(super) closed: bool,
}

/// A name within a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table {
    fn list(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        columns.join(", ")
    }

    pub(super) fn copy_out(&self) -> String {
        format!("COPY {} ({}) TO STDOUT", quoted(&self.name), self.list())
    }

    pub(super) fn copy_in(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", quoted(&self.name), self.list())
    }
}

/// Settings under which a row has one text.
const ONE_TEXT: &str = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; \
     SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL search_path = public, pg_temp; \
     SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Settles in the transaction how rows are written.
pub(super) async fn settle(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(ONE_TEXT.to_owned())).execute(tx).await?;
    Ok(())
}

/// The tables, by name.
pub(super) async fn list(tx: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, c.relispartition AS part,
                to_regclass(quote_ident(c.relname || '_meter')) IS NOT NULL AS closed,
                ARRAY(SELECT a.attname::text FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                      ORDER BY a.attnum) AS columns
         FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '_sqlx_migrations'
           AND c.relowner = 'polyphase_owner'::regrole
         ORDER BY 1",
    )
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("name")?;
            let part: bool = row.try_get("part")?;
            let day = name.rsplit('_').next().filter(|_| part);
            Ok(Table {
                day: day.and_then(|day| NaiveDate::parse_from_str(day, "%Y%m%d").ok()),
                closed: part && row.try_get("closed")?,
                columns: row.try_get("columns")?,
                name,
            })
        })
        .collect()
}

/// Counts rows and sums them without regard to their order: each row's SHA-256, added up modulo 2^128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSum {
    pub(super) rows: u64,
    sum: u128,
    /// The beginning of a row whose end has not come yet.
    open: Vec<u8>,
}

impl RowSum {
    /// Takes bytes of COPY's text form, in which a line break always ends a row.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
            if self.open.is_empty() {
                self.row(line);
            } else {
                let mut open = std::mem::take(&mut self.open);
                open.extend_from_slice(line);
                self.row(&open);
                open.clear();
                self.open = open;
            }
            rest = behind;
        }
        self.open.extend_from_slice(rest);
    }

    fn row(&mut self, line: &[u8]) {
        let digest = Sha256::digest(line);
        let half = digest.iter().take(16);
        let number = half.fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        self.sum = self.sum.wrapping_add(number);
        self.rows = self.rows.saturating_add(1);
    }

    pub(super) fn digest(&self) -> String {
        hex::encode(&self.sum.to_be_bytes()).to_lowercase()
    }
}

/// Counts and sums the rows of a table as they are now.
pub(super) async fn sum(tx: &mut PgConnection, table: &Table) -> Result<RowSum, sqlx::Error> {
    let mut sum = RowSum::default();
    let mut rows = tx.copy_out_raw(&table.copy_out()).await?;
    while let Some(bytes) = rows.try_next().await? {
        sum.add(&bytes);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pieces: &[&[u8]]) -> RowSum {
        let mut sum = RowSum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum
    }

    #[test]
    fn order_does_not_count_and_content_does() {
        let one = of(&[b"a\t1\nb\t2\n"]);
        assert_eq!((one.rows, one.clone()), (2, of(&[b"b\t2\na\t1\n"])));
        assert_ne!(one.digest(), of(&[b"a\t2\nb\t1\n"]).digest());
        assert_ne!(one.digest(), of(&[b"a\t1\nb\t2\nb\t2\n"]).digest());
    }

    proptest! {
        #[test]
        fn how_it_is_cut_does_not_count(lines in proptest::collection::vec("[a-z]{0,5}", 0..8), cuts in proptest::collection::vec(0usize..50, 0..5)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut sum = RowSum::default();
            let mut from = 0;
            for cut in cuts {
                sum.add(&text.as_bytes()[from..cut]);
                from = cut;
            }
            sum.add(&text.as_bytes()[from..]);
            prop_assert_eq!(sum.rows, lines.len() as u64);
            prop_assert_eq!(sum.digest(), of(&[text.as_bytes()]).digest());
        }
    }
}

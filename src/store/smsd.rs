//! SMS by a GSM modem: the tables of Gammu's SMS daemon (smsd, database schema 11 to 17, which agree in what is used here)
//! in a PostgreSQL of its own or ours. smsd sends what stands in `outbox` and moves it to `sentitems`.
//!
//! `CreatorID` holds the message's id. Before a message is written it is looked for by that, in both tables, so a server
//! that died between writing and its record writes nothing twice: this channel can tell, and each SMS goes once.

use crate::port::notices::{Alphabet, Outgoing, Receipt, Segments, SendError, Sender};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;

/// Hands messages to smsd.
#[derive(Clone, Debug)]
pub struct Smsd {
    pool: PgPool,
    timeout: Duration,
}

impl Smsd {
    /// Over the database of smsd. Connects with the first message.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(url: &SecretString, timeout: Duration) -> Result<Self, String> {
        // the text of the URL holds the password: no error shows it
        let wrong = "is not of the form postgres://user:password@host:port/database";
        let text = url.expose_secret();
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(wrong.to_owned());
        }
        let options: PgConnectOptions = text.parse().map_err(|_| wrong.to_owned())?;
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(timeout)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.application_name("polyphase-smsd"));
        Ok(Self { pool, timeout })
    }

    async fn hand_over(&self, message: &Outgoing) -> Result<Receipt, sqlx::Error> {
        let creator = format!("polyphase {}", message.id);
        let mut tx = self.pool.begin().await?;
        // two attempts of one message cannot pass each other here
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(&creator)
            .execute(&mut *tx)
            .await?;
        let id = match find(&mut tx, &creator).await? {
            Some(id) => id,
            None => write(&mut tx, message, &creator).await?,
        };
        tx.commit().await?;
        Ok(Receipt {
            reference: Some(id.to_string()),
        })
    }
}

async fn find(tx: &mut PgConnection, creator: &str) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(
        r#"SELECT "ID"::int FROM outbox WHERE "CreatorID" = $1
           UNION ALL SELECT "ID"::int FROM sentitems WHERE "CreatorID" = $1 LIMIT 1"#,
    )
    .bind(creator)
    .fetch_optional(tx)
    .await
}

/// Writes a message with all its parts; smsd takes it up when it is committed.
async fn write(tx: &mut PgConnection, message: &Outgoing, creator: &str) -> Result<i32, sqlx::Error> {
    let segments = Segments::of(&message.body);
    let coding = match segments.alphabet {
        Alphabet::Gsm => "Default_No_Compression",
        Alphabet::Ucs2 => "Unicode_No_Compression",
    };
    let reference = message.id.as_bytes().iter().fold(0_u8, |sum, byte| sum ^ byte);
    let header = |index| {
        segments
            .header(reference, index)
            .map(|header| crate::base::hex::encode(&header).to_uppercase())
    };
    let (first, rest) = segments
        .texts
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let id: i32 = sqlx::query_scalar(
        r#"INSERT INTO outbox ("DestinationNumber", "TextDecoded", "Coding", "MultiPart", "UDH", "CreatorID", "Class")
           VALUES ($1, $2, $3, $4, $5, $6, -1) RETURNING "ID"::int"#,
    )
    .bind(&message.address)
    .bind(first)
    .bind(coding)
    .bind(!rest.is_empty())
    .bind(header(0))
    .bind(creator)
    .fetch_one(&mut *tx)
    .await?;
    for (index, text) in rest.iter().enumerate() {
        sqlx::query(
            r#"INSERT INTO outbox_multipart ("ID", "SequencePosition", "TextDecoded", "Coding", "UDH", "Class")
               VALUES ($1, $2, $3, $4, $5, -1)"#,
        )
        .bind(id)
        .bind(i32::try_from(index + 2).unwrap_or(i32::MAX))
        .bind(text)
        .bind(coding)
        .bind(header(index + 1))
        .execute(&mut *tx)
        .await?;
    }
    Ok(id)
}

#[async_trait]
impl Sender for Smsd {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        match tokio::time::timeout(self.timeout, self.hand_over(message)).await {
            Ok(Ok(receipt)) => Ok(receipt),
            // written or not: the next attempt finds it
            Ok(Err(error)) => Err(SendError::passing(format!(
                "smsd's database: {}",
                super::StoreError::from(error)
            ))),
            Err(_) => Err(SendError::passing("smsd's database took too long")),
        }
    }
}

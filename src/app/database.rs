//! The database of a configuration: the one at its URL, or the embedded cluster in its data folder.

use crate::config::Config;
use crate::store::embedded::{Embedded, EmbeddedSettings};
use crate::store::{Database, DatabaseSettings, StoreError};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// A database that is open, with the cluster that had to be started for it.
pub struct Opened {
    /// The pools.
    pub database: Database,
    /// The embedded cluster, if it is ours to run.
    pub embedded: Option<Embedded>,
}

impl Opened {
    /// Closes the pools and stops the cluster if this process started it.
    pub async fn close(self) {
        self.database.close().await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::warn!(%error, "the embedded database did not stop in order; it recovers at its next start");
        }
    }
}

/// Where the database is, and what has been started for it.
///
/// # Errors
/// When the embedded cluster cannot be made or started; says what to do.
pub async fn locate(config: &Config) -> anyhow::Result<(SecretString, Option<Embedded>)> {
    if !config.database.url.expose_secret().is_empty() {
        return Ok((config.database.url.clone(), None));
    }
    let settings = EmbeddedSettings::new(&config.data.folder, &config.database.embedded_bin);
    let embedded = Embedded::attach_or_start(&settings).await?;
    Ok((embedded.url().clone(), Some(embedded)))
}

fn settings(config: &Config, url: SecretString) -> DatabaseSettings {
    DatabaseSettings {
        app_connections: config.database.api_connections,
        ingest_connections: config.database.ingest_connections,
        statement_timeout: Duration::from_secs(config.database.statement_timeout_s.into()),
        ..DatabaseSettings::new(url)
    }
}

/// Opens the database for a command that ends soon: the schema is brought up to date first.
///
/// # Errors
/// When it cannot be reached or the schema cannot be brought up to date.
pub async fn open(config: &Config) -> anyhow::Result<Opened> {
    let (url, embedded) = locate(config).await?;
    Database::migrate(&url).await?;
    let database = Database::connect(&settings(config, url)).await?;
    Ok(Opened { database, embedded })
}

/// Opens the database for the server, which waits for one that is away.
///
/// # Errors
/// When waiting would not help: a wrong login, a newer schema, no PostgreSQL on this host.
pub async fn open_patiently(config: &Config) -> anyhow::Result<Opened> {
    let (url, embedded) = locate(config).await?;
    let mut wait = Duration::from_millis(500);
    loop {
        let opened = async {
            Database::migrate(&url).await?;
            Database::connect(&settings(config, url.clone())).await
        };
        match opened.await {
            Ok(database) => return Ok(Opened { database, embedded }),
            Err(error) if is_away(&error) => {
                tracing::warn!(%error, "the database is away, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_away(error: &StoreError) -> bool {
    error.may_retry()
}

//! The database of a configuration: the one at its URL, or the embedded cluster in its data folder.

use crate::config::Config;
use crate::store::embedded::{Embedded, EmbeddedSettings};
use crate::store::{Database, DatabaseSettings, StoreError};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const LOOK_AFTER: Duration = Duration::from_secs(2);

/// A database that is open, with the cluster that had to be started for it.
pub struct Opened {
    /// The pools.
    pub database: Database,
    url: SecretString,
    embedded: Option<Arc<Embedded>>,
    keeper: Option<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Opened {
    /// Watches the database until [`Opened::close`]; of the embedded cluster a postmaster that died is started again.
    pub fn look_after(&mut self) {
        let (database, url) = (self.database.clone(), self.url.clone());
        self.watcher = Some(tokio::spawn(async move {
            if let Err(error) = crate::store::watch(database, url).await {
                tracing::error!(%error, "nobody watches the database");
            }
        }));
        if let Some(embedded) = self.embedded.clone() {
            self.keeper = Some(tokio::spawn(async move { embedded.keep_running(LOOK_AFTER).await }));
        }
    }

    /// The URL of the server's own login.
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// The URL of a login that may make roles: the one of the configuration, or the embedded cluster's superuser.
    pub fn role_maker(&self, config: &Config) -> SecretString {
        self.embedded
            .as_ref()
            .map_or_else(|| config.database.url.clone(), |embedded| embedded.superuser_url())
    }

    /// Closes the pools and stops the cluster if nobody else uses it.
    pub async fn close(self) {
        self.database.close().await;
        for task in [self.keeper, self.watcher].into_iter().flatten() {
            task.abort();
            // aborted is what it shall be
            let _aborted = task.await;
        }
        release(self.embedded.and_then(Arc::into_inner)).await;
    }
}

/// Stops the cluster if nobody else uses it.
pub async fn release(embedded: Option<Embedded>) {
    if let Some(embedded) = embedded
        && let Err(error) = embedded.release().await
    {
        tracing::warn!(%error, "the embedded database did not stop in order; it recovers at its next start");
    }
}

async fn connect(config: &Config, url: &SecretString) -> Result<Database, StoreError> {
    Database::migrate(url).await?;
    Database::connect(&settings(config, url.clone())).await
}

/// Where the database is, and what has been started for it.
///
/// # Errors
/// When the embedded cluster cannot be made or started; says what to do.
pub async fn locate(config: &Config) -> anyhow::Result<(SecretString, Option<Embedded>)> {
    if !config.database.url.expose_secret().is_empty() {
        return Ok((config.database.url.clone(), None));
    }
    let bin = &config.database.embedded_bin;
    let settings = EmbeddedSettings {
        data: config.data.folder.clone(),
        bin: (!bin.as_os_str().is_empty()).then(|| bin.clone()),
        port: None,
    };
    let embedded = Embedded::attach_or_start(&settings).await?;
    Ok((embedded.url(), Some(embedded)))
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
    match connect(config, &url).await {
        Ok(database) => Ok(Opened {
            database,
            url,
            embedded: embedded.map(Arc::new),
            keeper: None,
            watcher: None,
        }),
        Err(error) => {
            release(embedded).await;
            Err(error.into())
        }
    }
}

/// Opens the database to look at it: the schema stays as it is.
///
/// # Errors
/// When it cannot be reached.
pub async fn open_as_it_is(config: &Config) -> anyhow::Result<Opened> {
    let (url, embedded) = locate(config).await?;
    match Database::connect(&settings(config, url.clone())).await {
        Ok(database) => Ok(Opened {
            database,
            url,
            embedded: embedded.map(Arc::new),
            keeper: None,
            watcher: None,
        }),
        Err(error) => {
            release(embedded).await;
            Err(error.into())
        }
    }
}

/// Opens the database for the server, which waits for one that is away.
///
/// # Errors
/// When waiting would not help: a wrong login, a newer schema, no PostgreSQL on this host.
pub async fn open_patiently(config: &Config) -> anyhow::Result<Opened> {
    let (url, embedded) = locate(config).await?;
    let mut wait = Duration::from_millis(500);
    loop {
        match connect(config, &url).await {
            Ok(database) => {
                return Ok(Opened {
                    database,
                    url,
                    embedded: embedded.map(Arc::new),
                    keeper: None,
                    watcher: None,
                });
            }
            Err(error) if is_away(&error) => {
                tracing::warn!(%error, "the database is away, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(10));
            }
            Err(error) => {
                release(embedded).await;
                return Err(error.into());
            }
        }
    }
}

fn is_away(error: &StoreError) -> bool {
    error.may_retry()
}

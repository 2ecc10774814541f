//! Floor 4: PostgreSQL. The only room that knows sqlx.
//!
//! [`Database`] holds one pool per role: `app` (the API, within one account, under row level security), `ingest` (the
//! front end and the storage path) and `platform` (across accounts). All use one login, which is a member of the roles
//! and takes one by `SET ROLE` on each connection. Accounts are reached through [`Scoped`] handles alone, whose
//! transactions have set the account before anything else runs. SQLSTATE becomes an error in `error`, nowhere else.
//! It must not know HTTP, actors or sockets of the field.

mod accounts;
pub mod alarms;
mod api_keys;
mod archives;
mod audit;
pub mod audit_chain;
pub mod auth;
pub mod backup;
mod calendars;
pub mod commands;
mod consumed;
mod copy;
mod counts;
pub mod directory;
mod dtus;
pub mod embedded;
pub mod error;
mod exports;
pub mod grafana;
mod groups;
pub mod handles;
mod history;
mod idempotency;
mod imports;
pub mod ingest;
pub mod integrations;
pub mod ledger;
mod line_loss;
mod mesh;
mod meters;
pub mod notices;
mod parameters;
mod points;
mod quarantine;
mod roles;
mod rollup;
mod rules;
mod schedules;
mod second_factor;
mod sign_ins;
mod slot_summary;
mod slots;
pub mod smsd;
mod sweep;
pub mod terminal_events;
mod users;
mod watch;
pub mod wide;

pub use auth::PgAuth;
pub use error::StoreError;
pub use handles::PgStores;
pub use watch::watch;

use crate::base::ids::AccountId;
use crate::port::outage::DatabaseCondition;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use std::time::Duration;

/// The schema's migrations, embedded in the binary.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How to reach PostgreSQL and how many connections to hold.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `postgres://user:password@host:port/database?sslmode=…`.
    pub url: SecretString,
    /// Connections for the API within accounts.
    pub app_connections: u32,
    /// Connections for the front end and the storage path.
    pub ingest_connections: u32,
    /// Connections across accounts: log-in, people, accounts.
    pub platform_connections: u32,
    /// A statement of the API is ended after this.
    pub statement_timeout: Duration,
    /// A caller waits this long for a free connection.
    pub acquire_timeout: Duration,
}

impl DatabaseSettings {
    /// Settings with the defaults for `url`.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            app_connections: 8,
            ingest_connections: 4,
            platform_connections: 4,
            statement_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// The pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    app: PgPool,
    ingest: PgPool,
    /// One connection, opened when first needed, for what the storage path writes beside a batch.
    beside: PgPool,
    platform: PgPool,
    condition: DatabaseCondition,
}

impl Database {
    /// Brings roles and schema up to date. The login needs `CREATEROLE` the first time, or to be a member of the roles.
    ///
    /// # Errors
    /// [`StoreError::Setup`] says what the login lacks, or that the schema is newer than this program.
    pub async fn migrate(url: &SecretString) -> Result<(), StoreError> {
        let mut connection = PgConnection::connect_with(&connect_options(url, "polyphase-migrate")?).await?;
        roles::ensure(&mut connection).await?;
        sqlx::query("SET ROLE polyphase_owner").execute(&mut connection).await?;
        let migrated = MIGRATOR.run(&mut connection).await.map_err(StoreError::from);
        // the outcome is known; a failing good-bye changes nothing
        connection.close().await.ok();
        migrated
    }

    /// Opens the pools on a schema that [`Database::migrate`] has brought up to date.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be reached or the login may not take the roles.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let statement = settings.statement_timeout;
        // a batch of the storage path and a roll-up may take longer than a request of the API
        let long = statement.saturating_mul(4);
        let database = Self {
            app: pool(settings, Role::App, settings.app_connections, statement)?,
            ingest: pool(settings, Role::Ingest, settings.ingest_connections, long)?,
            beside: pool(settings, Role::Ingest, 1, long)?,
            platform: pool(settings, Role::Platform, settings.platform_connections, statement)?,
            condition: DatabaseCondition::default(),
        };
        for pool in [&database.app, &database.ingest, &database.platform] {
            pool.acquire().await?;
        }
        Ok(database)
    }

    /// The handle to one account.
    pub fn scoped(&self, account: AccountId) -> Scoped {
        Scoped {
            pool: self.app.clone(),
            account,
        }
    }

    /// The handle across accounts: log-in, people and accounts, claims. Never hand it to code that serves one account.
    pub fn platform(&self) -> Platform {
        Platform {
            pool: self.platform.clone(),
        }
    }

    /// The pool of the front end and the storage path.
    pub(crate) fn ingest(&self) -> &PgPool {
        &self.ingest
    }

    /// The pool of one connection for what is written beside a batch.
    pub(crate) fn beside(&self) -> &PgPool {
        &self.beside
    }

    /// How it fares, as [`watch`] finds and as writes tell.
    pub fn condition(&self) -> DatabaseCondition {
        self.condition.clone()
    }

    /// Whether the database answers, through the API's pool.
    ///
    /// # Errors
    /// [`StoreError`] with the reason why not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.app).await?;
        Ok(())
    }

    /// Closes every pool; waits for connections in use.
    pub async fn close(&self) {
        self.app.close().await;
        self.platform.close().await;
        self.ingest.close().await;
        self.beside.close().await;
    }
}

/// A handle that sees one account. Row level security enforces it in the database, whatever a query says.
#[derive(Clone, Debug)]
pub struct Scoped {
    pool: PgPool,
    account: AccountId,
}

impl Scoped {
    /// The account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// A transaction in which the account is set. Dropping it rolls back.
    ///
    /// # Errors
    /// [`StoreError`] when no connection can be had.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SELECT set_config('app.account', $1, true)")
            .bind(self.account.to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }
}

/// A handle across accounts.
#[derive(Clone, Debug)]
pub struct Platform {
    pool: PgPool,
}

impl Platform {
    /// A transaction across accounts. Dropping it rolls back.
    ///
    /// # Errors
    /// [`StoreError`] when no connection can be had.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin().await?)
    }
}

#[derive(Clone, Copy)]
enum Role {
    App,
    Ingest,
    Platform,
}

impl Role {
    fn set(self) -> &'static str {
        match self {
            Self::App => "SET ROLE polyphase_app",
            Self::Ingest => "SET ROLE polyphase_ingest",
            Self::Platform => "SET ROLE polyphase_platform",
        }
    }

    fn application_name(self) -> &'static str {
        match self {
            Self::App => "polyphase-app",
            Self::Ingest => "polyphase-ingest",
            Self::Platform => "polyphase-platform",
        }
    }
}

fn connect_options(url: &SecretString, application_name: &str) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions = url
        .expose_secret()
        .parse()
        // the text of the URL holds the password: the error names its kind alone
        .map_err(|_| {
            StoreError::Setup("the database url is not of the form postgres://user:password@host:port/database".into())
        })?;
    Ok(options.application_name(application_name))
}

fn pool(settings: &DatabaseSettings, role: Role, connections: u32, statement: Duration) -> Result<PgPool, StoreError> {
    let options = connect_options(&settings.url, role.application_name())?;
    let statement_ms = statement.as_millis().to_string();
    Ok(PgPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(settings.acquire_timeout)
        .idle_timeout(Duration::from_secs(300))
        .after_connect(move |connection, _| {
            let statement_ms = statement_ms.clone();
            Box::pin(async move {
                sqlx::query(role.set()).execute(&mut *connection).await?;
                sqlx::query(
                    "SELECT set_config('statement_timeout', $1, false), \
                            set_config('idle_in_transaction_session_timeout', '60s', false), \
                            set_config('synchronous_commit', 'on', false)",
                )
                .bind(statement_ms)
                .execute(&mut *connection)
                .await?;
                Ok(())
            })
        })
        .connect_lazy_with(options))
}

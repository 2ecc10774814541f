//! SQLSTATE → domain error, in this one place. Classes: PostgreSQL manual, appendix A "PostgreSQL Error Codes".

use crate::port::ledger::StoreUnavailable;
use crate::port::outage::Outage;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique constraint or index (23505) or an exclusion constraint (23P01).
    #[error("already there: {constraint}")]
    Unique {
        /// The constraint's name in `migrations/`.
        constraint: String,
    },
    /// A foreign key (23503): what is referred to does not exist, or is still referred to.
    #[error("refers to what does not exist: {constraint}")]
    Reference {
        /// The constraint's name in `migrations/`.
        constraint: String,
    },
    /// A check or not-null constraint (23514, 23502).
    #[error("refused by the rule {constraint}")]
    Check {
        /// The constraint's or column's name in `migrations/`.
        constraint: String,
    },
    /// A value that the database cannot take (class 22), e.g. a NUL in a text or a number out of range.
    #[error("value refused ({sqlstate}): {message}")]
    Data {
        /// The SQLSTATE.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// Row level security or a missing grant (42501).
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// Two transactions stood in each other's way (40001, 40P01); trying again helps.
    #[error("conflict with another transaction: {0}")]
    Conflict(String),
    /// A statement ran into its time-out (57014), or no connection became free in time.
    #[error("the database took too long: {0}")]
    Timeout(String),
    /// The database cannot be reached or is going down; trying again later helps.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// It has no space to write (53100); it goes on by itself when there is.
    #[error("the database's disk is full: {0}")]
    Full(String),
    /// It has no connection or memory left for us (53300, 53200 and others of class 53).
    #[error("the database has no room for us: {0}")]
    Crowded(String),
    /// The database is not set up for us; the text says what to do.
    #[error("{0}")]
    Setup(String),
    /// A stored row does not fit the program: a bug or a hand in the tables.
    #[error("stored data does not fit: {0}")]
    Corrupt(String),
    /// Anything else: a bug.
    #[error("database error: {0}")]
    Internal(String),
}

impl StoreError {
    /// Whether the same request can succeed later, unchanged.
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_) | Self::Timeout(_) | Self::Unavailable(_) | Self::Full(_) | Self::Crowded(_)
        )
    }

    /// The outage behind it, if there is one.
    pub(crate) fn outage(&self) -> Option<Outage> {
        match self {
            Self::Unavailable(_) => Some(Outage::Absent),
            Self::Timeout(_) => Some(Outage::Hung),
            Self::Full(_) => Some(Outage::Full),
            Self::Crowded(_) => Some(Outage::Crowded),
            _ => None,
        }
    }

    /// The violated constraint, if it is one of uniqueness.
    pub fn unique(&self) -> Option<&str> {
        match self {
            Self::Unique { constraint } => Some(constraint),
            _ => None,
        }
    }

    /// Whether a row of the batch is at fault and not the database: classes 22 and 23.
    pub(crate) fn is_data(&self) -> bool {
        matches!(
            self,
            Self::Data { .. } | Self::Check { .. } | Self::Unique { .. } | Self::Reference { .. }
        )
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => from_database(&*database),
            sqlx::Error::PoolTimedOut => Self::Timeout("no connection became free in time".into()),
            sqlx::Error::PoolClosed => Self::Unavailable("the pool is closed".into()),
            sqlx::Error::WorkerCrashed => Self::Unavailable("the connection's worker ended".into()),
            sqlx::Error::Io(io) => Self::Unavailable(io.to_string()),
            sqlx::Error::Tls(tls) => Self::Unavailable(format!("tls: {tls}")),
            sqlx::Error::Protocol(text) => Self::Unavailable(format!("protocol: {text}")),
            sqlx::Error::Configuration(text) => Self::Setup(format!("database url: {text}")),
            sqlx::Error::Migrate(migrate) => (*migrate).into(),
            sqlx::Error::ColumnDecode { index, source } => Self::Corrupt(format!("column {index}: {source}")),
            other => Self::Internal(other.to_string()),
        }
    }
}

fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let message = error.message().to_owned();
    let constraint = || error.constraint().map_or_else(|| message.clone(), str::to_owned);
    match &*code {
        "23505" | "23P01" => StoreError::Unique {
            constraint: constraint(),
        },
        "23503" => StoreError::Reference {
            constraint: constraint(),
        },
        "42501" => StoreError::Forbidden(message),
        "40001" | "40P01" | "55P03" => StoreError::Conflict(message),
        "57014" | "25P03" => StoreError::Timeout(message),
        // an account or a password that is wrong does not become right by waiting
        "28000" | "28P01" | "3D000" => StoreError::Setup(format!("the database refuses the log-in: {message}")),
        "53100" => StoreError::Full(message),
        // 57P0x: shutting down, crashed, starting; 53: out of connections or memory; 58: the server's own I/O
        _ => match code.get(..2) {
            Some("23") => StoreError::Check {
                constraint: constraint(),
            },
            Some("22") => StoreError::Data {
                sqlstate: code.into_owned(),
                message,
            },
            Some("53") => StoreError::Crowded(message),
            Some("08" | "57" | "58") => StoreError::Unavailable(message),
            _ => StoreError::Internal(format!("{message} ({code})")),
        },
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::VersionMissing(version) => Self::Setup(format!(
                "the database has migration {version}, which this program does not know: it was migrated by a newer polyphase; run that one, or restore a backup from before"
            )),
            MigrateError::VersionMismatch(version) => Self::Setup(format!(
                "migration {version} was changed after it had been applied to this database: use an unmodified polyphase"
            )),
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => {
                Self::Setup(format!("migration {version} failed and was rolled back: {error}"))
            }
            other => Self::Internal(format!("migration: {other}")),
        }
    }
}

impl From<StoreError> for StoreUnavailable {
    fn from(error: StoreError) -> Self {
        Self {
            message: error.to_string(),
            passing: error.may_retry(),
            of_rows: error.is_data(),
        }
    }
}

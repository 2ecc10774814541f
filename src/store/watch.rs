//! Asks the database again and again whether it answers, on a connection of its own, and tells a hung one from an absent
//! one. Also: patience. A query to a database that hangs waits for ever, because no time-out of the server's runs there.

use super::error::StoreError;
use super::{Database, connect_options};
use crate::port::outage::{DatabaseCondition, Outage};
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tokio::net::TcpStream;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// Who does not answer a question within it hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a query of ours waits on in a database that hangs.
const HUNG_MAX: Duration = Duration::from_secs(10);

/// Watches until it is dropped.
pub async fn watch(database: Database, url: SecretString) -> Result<(), StoreError> {
    let mut probe = Probe {
        options: connect_options(&url, "polyphase-watch")?,
        connection: None,
    };
    loop {
        match probe.ask().await {
            Ok(()) => database.condition.probed(None, ""),
            Err((outage, detail)) => database.condition.probed(Some(outage), &detail),
        }
        tokio::time::sleep(EVERY).await;
    }
}

struct Probe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Probe {
    async fn ask(&mut self) -> Result<(), (Outage, String)> {
        let asked = tokio::time::timeout(PATIENCE, async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&self.options).await?,
            };
            sqlx::query("SELECT 1").execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        });
        match asked.await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                Err((error.outage().unwrap_or(Outage::Absent), error.to_string()))
            }
            Err(_no_answer) => Err(self.why_silent().await),
        }
    }

    /// Who takes a connection and does not answer hangs; who does not even take one is not there.
    async fn why_silent(&self) -> (Outage, String) {
        let address = (self.options.get_host(), self.options.get_port());
        if self.options.get_socket().is_some() || address.0.starts_with('/') {
            return (Outage::Hung, "no answer within 2 s".to_owned());
        }
        match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_taken)) => (Outage::Hung, "no answer within 2 s".to_owned()),
            Ok(Err(error)) => (Outage::Absent, error.to_string()),
            Err(_silent) => (Outage::Absent, "its host does not answer".to_owned()),
        }
    }
}

/// Waits for `work`, unless the database has been hanging for ten seconds: then nobody waits for it any more.
///
/// # Errors
/// What `work` says, or [`StoreError::Timeout`]: it is not known what became of it.
pub(super) async fn patiently<T>(
    condition: &DatabaseCondition,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::select! {
        biased;
        done = work => done,
        () = hung(condition) => Err(StoreError::Timeout("it hangs".into())),
    }
}

async fn hung(condition: &DatabaseCondition) {
    while !condition.hung_for(HUNG_MAX) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

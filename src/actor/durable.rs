//! The proof that a poll is durable, for actors: only [`PollLog`] can make a [`Durable`], and only out of the receipt
//! of the sink. Whatever is shown to the outside as ended takes one.

use crate::port::ledger::{PollRecord, ReadingSink, SinkError};
use async_trait::async_trait;

/// Proof that a record is on stable storage.
#[derive(Debug)]
pub struct Durable {
    _made_here_only: (),
}

/// [`ReadingSink`] without its receipt's type, for actors that are not generic.
#[async_trait]
pub trait PollLog: Send + Sync + 'static {
    /// Resolves when the record is durable.
    ///
    /// # Errors
    /// [`SinkError`]; the record must not be shown then.
    async fn append(&self, record: PollRecord) -> Result<Durable, SinkError>;
}

#[async_trait]
impl<S: ReadingSink> PollLog for S {
    async fn append(&self, record: PollRecord) -> Result<Durable, SinkError> {
        let _receipt: S::Receipt = ReadingSink::append(self, record).await?;
        Ok(Durable { _made_here_only: () })
    }
}

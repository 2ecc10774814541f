//! Where rows come from: one source a kind of export, page by page through the account's own handles. No source holds
//! more than a page of what it exports.

mod consumption;
mod directory;
mod events;
mod readings;
mod slots;

use super::table::{Column, Row};
use crate::port::exports::{ExportAsk, ExportKind};
use crate::port::scope::{InAccount, Scope, StoreError, Stores};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Objects that are fetched at once.
const PAGE: u32 = 1_000;

/// Gives rows, page by page.
#[async_trait]
pub trait RowSource: Send {
    /// What the rows are made of.
    fn columns(&self) -> &'static [Column];

    /// The next rows, perhaps none of them although there are more; `None`: that was all. After an error the same page
    /// can be asked for again.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn page(&mut self) -> Result<Option<Vec<Row>>, StoreError>;
}

/// The source of what is asked for.
///
/// # Errors
/// [`StoreError`] when what it needs to know of the account cannot be read.
pub async fn open(
    stores: &dyn Stores,
    scope: &Scope,
    ask: &ExportAsk,
    now: DateTime<Utc>,
) -> Result<Box<dyn RowSource>, StoreError> {
    Ok(match ask.kind {
        ExportKind::Readings => Box::new(readings::Readings::open(stores, scope, ask, now).await?),
        ExportKind::Consumption => Box::new(consumption::Consumption::open(stores, scope, ask, now).await?),
        ExportKind::Slots => Box::new(slots::Slots::open(stores, scope, ask, now).await?),
        ExportKind::Alarms => Box::new(events::Alarms::open(stores, scope, ask, now)),
        ExportKind::Audit => Box::new(events::Audit::open(stores, scope, ask)),
    })
}

/// A handle within the account.
fn handle<H: ?Sized>(stores: &dyn Stores, scope: &Scope) -> Box<H>
where
    dyn Stores: InAccount<H>,
{
    stores.in_account(scope.clone())
}

/// The name that the API gives a word of a closed list.
fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

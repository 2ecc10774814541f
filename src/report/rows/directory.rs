//! The account's meters as rows name them, and which of them are asked for.

use super::{PAGE, handle};
use crate::base::ids::MeterId;
use crate::port::exports::ExportAsk;
use crate::port::meters::{MeterQuery, MeterState, MeterStore};
use crate::port::scope::{Scope, StoreError, Stores};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// Names that are kept at most; a meter beyond them is exported without its name.
const NAMES_MAX: usize = 200_000;

/// Meters by id, with their names.
pub(super) struct Directory {
    names: BTreeMap<MeterId, String>,
    /// The meters that are asked for; none: all of the account, also those that were deleted.
    pub(super) wanted: Option<Vec<MeterId>>,
}

impl Directory {
    pub(super) async fn load(
        stores: &dyn Stores,
        scope: &Scope,
        ask: &ExportAsk,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let meters = handle::<dyn MeterStore>(stores, scope);
        let mut names = BTreeMap::new();
        // those that were replaced have readings too
        for state in [None, Some(MeterState::Removed)] {
            let mut query = MeterQuery {
                dtu: ask.dtu_id,
                group: ask.group_id,
                state,
                limit: PAGE,
                ..MeterQuery::default()
            };
            loop {
                let (page, _) = meters.list(&query, now).await?;
                query.after = page.last().map(|meter| meter.id);
                let wanted = |id: &MeterId| ask.meter_ids.is_empty() || ask.meter_ids.contains(id);
                let found = page.into_iter().filter(|meter| wanted(&meter.id));
                names.extend(found.map(|meter| (meter.id, meter.name)));
                if query.after.is_none() || names.len() >= NAMES_MAX {
                    break;
                }
            }
        }
        let narrowed = ask.dtu_id.is_some() || ask.group_id.is_some() || !ask.meter_ids.is_empty();
        if narrowed && names.len() >= NAMES_MAX {
            return Err(StoreError::Invalid {
                field: "group_id",
                message: format!("these are {NAMES_MAX} meters or more; ask for fewer, or for all"),
            });
        }
        let wanted = narrowed.then(|| names.keys().copied().collect());
        Ok(Self { names, wanted })
    }

    pub(super) fn name(&self, meter: MeterId) -> Option<String> {
        self.names.get(&meter).cloned()
    }
}

//! Groups of a file, written.

use super::{Steps, hold};
use crate::base::ids::GroupId;
use crate::port::imports::{GroupParent, NewGroup};
use crate::port::scope::StoreError;
use crate::store::handles::AccountHandle;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use std::collections::BTreeSet;

pub(super) async fn apply(
    handle: &AccountHandle,
    tx: &mut PgConnection,
    steps: &[(u32, NewGroup)],
    now: DateTime<Utc>,
) -> Result<Steps, StoreError> {
    let parents = steps.iter().filter_map(|(_, group)| match group.parent {
        GroupParent::Known(id) => Some(id),
        GroupParent::None | GroupParent::Step(_) => None,
    });
    if !hold(tx, BTreeSet::new(), parents.collect(), BTreeSet::new()).await? {
        return Ok(Steps::moved());
    }
    let mut done = Steps::default();
    let mut made: Vec<GroupId> = Vec::with_capacity(steps.len());
    for (_, group) in steps {
        let parent = match group.parent {
            GroupParent::None => None,
            GroupParent::Known(id) => Some(id),
            GroupParent::Step(index) => {
                let above = made.get(index).copied();
                Some(above.ok_or_else(|| StoreError::Internal("a group comes before its parent".to_owned()))?)
            }
        };
        let id = sqlx::query_scalar!(
            "INSERT INTO meter_group (account_id, name, parent_id, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
            handle.account.0,
            group.name,
            parent.map(|id| id.0),
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        made.push(GroupId(id));
        let detail = json!({ "name": group.name, "parent_id": parent });
        done.audit.push(("group.create", format!("group/{id}"), detail));
    }
    Ok(done)
}

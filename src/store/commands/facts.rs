//! What is looked at anew: policy, meters with their places, people.

use crate::base::ids::{AccountId, DtuId, GroupId, MeterId, UserId};
use crate::domain::access::{Role, RoleSet};
use crate::domain::archive::ArchiveEntry;
use crate::domain::command::machine::Behind;
use crate::domain::command::{Person, Policy, Protection, ProtectionKind, Site, Target};
use crate::port::control::FactSheet;
use crate::port::scope::StoreError;
use sqlx::PgConnection;
use std::collections::HashMap;

/// Groups above a group that are looked at; a deeper tree is cut off, and there is no loop that would not end.
const DEPTH_MAX: usize = 64;

pub(super) fn kind_by_name(name: &str) -> Option<ProtectionKind> {
    match name {
        "life_support" => Some(ProtectionKind::LifeSupport),
        "protected" => Some(ProtectionKind::Protected),
        _ => None,
    }
}

pub(super) async fn sheet(
    connection: &mut PgConnection,
    account: AccountId,
    meters: &[MeterId],
    people: &[UserId],
) -> Result<FactSheet, StoreError> {
    let head = sqlx::query!(
        r#"SELECT a.time_zone, a.disabled_at IS NULL AS "enabled!", p.policy AS "policy?", p.celsius AS "celsius?",
                  p.celsius_at AS "celsius_at?"
           FROM account a LEFT JOIN control_policy p ON p.account_id = a.id WHERE a.id = $1"#,
        account.0
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(StoreError::NotFound("account"))?;
    let policy = match head.policy {
        None => Policy::default(),
        Some(policy) => serde_json::from_value(policy).map_err(|error| {
            StoreError::Internal(format!("the policy of account {account} cannot be read: {error}"))
        })?,
    };
    let celsius = head.celsius.zip(head.celsius_at);
    let parents: HashMap<i32, Option<i32>> = sqlx::query!(
        "SELECT id, parent_id FROM meter_group WHERE account_id = $1 AND deleted_at IS NULL",
        account.0
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|row| (row.id, row.parent_id))
    .collect();
    let ids: Vec<i32> = meters.iter().map(|meter| meter.0).collect();
    let rows = sqlx::query!(
        r#"WITH placed AS (
               SELECT dtu_id, point, entry, count(*) OVER (PARTITION BY dtu_id, entry ->> 'meter_address') AS namesakes
               FROM archive_entry
               WHERE account_id = $1 AND dtu_id IN (SELECT dtu_id FROM meter WHERE account_id = $1 AND id = ANY($2)))
           SELECT m.id, m.dtu_id, m.protocol, m.address, m.model, m.group_id, d.time_zone, p.kind AS "kind?", p.until AS "until?",
                  a.entry AS "entry?"
           FROM meter m JOIN dtu d ON d.id = m.dtu_id LEFT JOIN meter_protection p ON p.meter_id = m.id
           LEFT JOIN placed a ON m.protocol = 'gdw376.1' AND a.dtu_id = m.dtu_id AND a.point::text = m.address AND a.namesakes = 1
           WHERE m.account_id = $1 AND m.id = ANY($2) AND m.deleted_at IS NULL
             AND NOT EXISTS (SELECT FROM installation i WHERE i.meter_id = m.id AND i.valid_to IS NOT NULL
                             AND NOT EXISTS (SELECT FROM installation o WHERE o.meter_id = m.id AND o.valid_to IS NULL))"#,
        account.0,
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let meter_zone = rows.first().and_then(|row| row.time_zone.clone());
    let meters = rows
        .into_iter()
        .map(|row| {
            let target = Target {
                meter: MeterId(row.id),
                dtu: DtuId(row.dtu_id),
                protocol: row.protocol,
                address: row.address,
                model: row.model,
                behind: row.entry.and_then(behind),
            };
            let protections = row.kind.map(|kind| Protection {
                // a kind of a newer version protects all the same
                kind: kind_by_name(&kind).unwrap_or(ProtectionKind::Protected),
                until: row.until,
            });
            let site = Site {
                protections: protections.into_iter().collect(),
                groups: above(&parents, row.group_id),
                celsius,
            };
            (target, site)
        })
        .collect();
    let users: Vec<i32> = people.iter().map(|user| user.0).collect();
    let people = sqlx::query!(
        r#"SELECT id, account_id, roles, disabled_at IS NULL AS "enabled!" FROM app_user WHERE id = ANY($1)"#,
        &users
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Person {
        user: UserId(row.id),
        account: row.account_id.map(AccountId),
        roles: row
            .roles
            .iter()
            .filter_map(|role| Role::by_name(role))
            .collect::<RoleSet>(),
        enabled: row.enabled && head.enabled,
    })
    .collect();
    Ok(FactSheet {
        policy,
        zone: head.time_zone,
        meter_zone,
        meters,
        people,
    })
}

/// Which meter stands at a place of an archive; none of what cannot be read: then no command has a target.
fn behind(entry: serde_json::Value) -> Option<Behind> {
    let entry = serde_json::from_value::<ArchiveEntry>(entry).ok()?.settled();
    entry.faults().is_empty().then_some(Behind {
        place: entry.place,
        meter_address: entry.meter_address,
        meter_protocol: entry.meter_protocol,
        port: entry.port,
    })
}

/// A group and the groups above it.
fn above(parents: &HashMap<i32, Option<i32>>, group: Option<i32>) -> Vec<GroupId> {
    std::iter::successors(group, |group| parents.get(group).copied().flatten())
        .take(DEPTH_MAX)
        .map(GroupId)
        .collect()
}

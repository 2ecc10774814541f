//! A request becomes commands: all of them, their first edges and the audit in one transaction.

use super::{Row, audit_action, commands, object, to_json};
use crate::base::ids::{CommandId, MeterId};
use crate::domain::command::{Command, Moment, State};
use crate::port::control::{Admitted, NewBatch, NewCommand, Refused};
use crate::port::scope::{Actor, StoreError};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::HashMap;

/// One row of `command_edge` and of the audit.
struct FirstEdge<'a> {
    after: &'a Command,
    state: State,
    version: i32,
    actor: &'a str,
    detail: Value,
}

pub(super) async fn admit(tx: &mut PgConnection, batch: NewBatch) -> Result<Admitted, StoreError> {
    let made = sqlx::query!(
        "INSERT INTO command_batch (id, account_id, key, request_hash, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account_id, key) DO NOTHING",
        batch.id,
        batch.account.0,
        batch.key,
        batch.request_hash.as_slice(),
        batch.wall_at
    )
    .execute(&mut *tx)
    .await?;
    if made.rows_affected() == 0 {
        return repeated(tx, &batch).await;
    }
    let ids = insert(tx, &batch).await?;
    let mut refused = batch.refused.clone();
    let (mut made, mut edges) = (Vec::new(), Vec::new());
    for new in &batch.commands {
        match ids.get(&new.target.meter) {
            Some(id) => made.push((begin(&batch, new, *id)?, new)),
            None => refused.push(Refused {
                meter_id: new.target.meter,
                reason: "relay_busy".to_owned(),
                detail: "another command of this relay is open; wait for its end or cancel it".to_owned(),
            }),
        }
    }
    let desk = Actor::control_desk();
    for (command, new) in &made {
        edges.push(FirstEdge {
            after: command,
            state: State::Requested,
            version: 1,
            actor: &batch.actor.name,
            detail: json!({ "reason": batch.reason, "expires_at": batch.expires_at }),
        });
        if let Some((_, detail)) = &new.first {
            edges.push(FirstEdge {
                after: command,
                state: command.state,
                version: command.version,
                actor: &desk.name,
                detail: detail.clone(),
            });
        }
    }
    first_edges(tx, &batch, &made).await?;
    write_edges(tx, &batch, &edges).await?;
    sqlx::query!(
        "UPDATE command_batch SET refused = $2 WHERE id = $1",
        batch.id,
        to_json(&refused)?
    )
    .execute(&mut *tx)
    .await?;
    audit(tx, &batch, &edges).await?;
    Ok(Admitted {
        batch: batch.id,
        commands: made.into_iter().map(|(command, _)| command).collect(),
        refused,
        repeated: false,
    })
}

/// The same key came before: the commands of then, as they stand now.
async fn repeated(tx: &mut PgConnection, batch: &NewBatch) -> Result<Admitted, StoreError> {
    let before = sqlx::query!(
        "SELECT id, request_hash, refused FROM command_batch WHERE account_id = $1 AND key = $2",
        batch.account.0,
        batch.key
    )
    .fetch_one(&mut *tx)
    .await?;
    if before.request_hash != batch.request_hash.as_slice() {
        return Err(StoreError::Invalid {
            field: "Idempotency-Key",
            message: "this key came before with another request; use a new one".to_owned(),
        });
    }
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, account_id, target, action, state, requested_by, requested_at, expires_at, holds, needs,
                sent_through, version
         FROM command WHERE batch_id = $1 ORDER BY id",
        before.id
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(Admitted {
        batch: before.id,
        commands: commands(tx, rows).await?,
        refused: serde_json::from_value(before.refused).unwrap_or_default(),
        repeated: true,
    })
}

/// The ids by meter; a meter whose relay has an open command gets none.
async fn insert(tx: &mut PgConnection, batch: &NewBatch) -> Result<HashMap<MeterId, CommandId>, StoreError> {
    let targets = batch.commands.iter().map(|new| &new.target);
    let meters: Vec<i32> = targets.clone().map(|target| target.meter.0).collect();
    let dtus: Vec<i32> = targets.clone().map(|target| target.dtu.0).collect();
    let targets: Vec<Value> = targets.map(to_json).collect::<Result<_, _>>()?;
    let rows = sqlx::query!(
        "INSERT INTO command (account_id, meter_id, dtu_id, target, action, claims_relay, state, reason, requested_by,
                              requested_as, batch_id, schedule_id, requested_at, expires_at, version)
         SELECT $1, n.meter_id, n.dtu_id, n.target, $5, $6, 'requested', $7, $8, $9, $10, $11, $12, $13, 1
         FROM unnest($2::int[], $3::int[], $4::jsonb[]) WITH ORDINALITY AS n(meter_id, dtu_id, target, place)
         ORDER BY n.place
         ON CONFLICT (meter_id) WHERE claims_relay AND state IN ('requested', 'held', 'approved', 'sent', 'unknown')
         DO NOTHING
         RETURNING id, meter_id",
        batch.account.0,
        &meters,
        &dtus,
        &targets,
        to_json(&batch.action)?,
        batch.action.claims_relay(),
        batch.reason,
        batch.requested_by.0,
        batch.actor.name,
        batch.id,
        batch.schedule as Option<i32>,
        batch.requested_at,
        batch.expires_at
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (MeterId(row.meter_id), CommandId(row.id)))
        .collect())
}

/// The command behind its first edges.
fn begin(batch: &NewBatch, new: &NewCommand, id: CommandId) -> Result<Command, StoreError> {
    let command = Command {
        id,
        account: batch.account,
        target: new.target.clone(),
        action: batch.action.clone(),
        state: State::Requested,
        requested_by: batch.requested_by,
        requested_at: batch.requested_at,
        expires_at: batch.expires_at,
        holds: Vec::new(),
        needs: 0,
        approvals: Vec::new(),
        sent_through: None,
        version: 1,
    };
    let Some((edge, _)) = &new.first else {
        return Ok(command);
    };
    let moment = Moment {
        at: batch.requested_at,
        stepped_back: false,
    };
    command
        .apply(edge, moment)
        .map_err(|error| StoreError::Internal(format!("the first edge of a command: {error}")))
}

async fn first_edges(
    tx: &mut PgConnection,
    batch: &NewBatch,
    made: &[(Command, &NewCommand)],
) -> Result<(), StoreError> {
    let moved: Vec<_> = made.iter().filter(|(command, _)| command.version > 1).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = moved.iter().map(|(command, _)| command.id.0).collect();
    let states: Vec<String> = moved
        .iter()
        .map(|(command, _)| command.state.as_str().to_owned())
        .collect();
    let holds: Vec<Value> = moved
        .iter()
        .map(|(command, _)| to_json(&command.holds))
        .collect::<Result<_, _>>()?;
    let needs: Vec<i16> = moved.iter().map(|(command, _)| i16::from(command.needs)).collect();
    let outcomes: Vec<Value> = moved
        .iter()
        .map(|(_, new)| new.first.as_ref().map_or(Value::Null, |(_, detail)| detail.clone()))
        .collect();
    let ended: Vec<Option<DateTime<Utc>>> = moved
        .iter()
        .map(|(command, _)| (!command.state.is_open()).then_some(batch.wall_at))
        .collect();
    sqlx::query!(
        "UPDATE command SET state = n.state, holds = n.holds, needs = n.needs, outcome = n.outcome,
                ended_at = n.ended_at, version = 2
         FROM unnest($1::bigint[], $2::text[], $3::jsonb[], $4::smallint[], $5::jsonb[], $6::timestamptz[])
              AS n(id, state, holds, needs, outcome, ended_at)
         WHERE command.id = n.id",
        &ids,
        &states,
        &holds,
        &needs,
        &outcomes,
        &ended as &[Option<DateTime<Utc>>]
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_edges(tx: &mut PgConnection, batch: &NewBatch, edges: &[FirstEdge<'_>]) -> Result<(), StoreError> {
    let ids: Vec<i64> = edges.iter().map(|edge| edge.after.id.0).collect();
    let versions: Vec<i32> = edges.iter().map(|edge| edge.version).collect();
    let states: Vec<String> = edges.iter().map(|edge| edge.state.as_str().to_owned()).collect();
    let actors: Vec<String> = edges.iter().map(|edge| edge.actor.to_owned()).collect();
    let details: Vec<Value> = edges.iter().map(|edge| edge.detail.clone()).collect();
    sqlx::query!(
        "INSERT INTO command_edge (command_id, version, account_id, at, wall_at, state, actor, detail)
         SELECT n.id, n.version, $1, $2, $3, n.state, n.actor, n.detail
         FROM unnest($4::bigint[], $5::int[], $6::text[], $7::text[], $8::jsonb[])
              AS n(id, version, state, actor, detail)",
        batch.account.0,
        batch.requested_at,
        batch.wall_at,
        &ids,
        &versions,
        &states,
        &actors,
        &details
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Last: from here on other appends wait for the commit.
async fn audit(tx: &mut PgConnection, batch: &NewBatch, edges: &[FirstEdge<'_>]) -> Result<(), StoreError> {
    let actors: Vec<String> = edges.iter().map(|edge| edge.actor.to_owned()).collect();
    let actions: Vec<String> = edges.iter().map(|edge| audit_action(edge.state)).collect();
    let objects: Vec<String> = edges.iter().map(|edge| object(edge.after.id)).collect();
    let details: Vec<Value> = edges
        .iter()
        .map(|edge| {
            json!({
                "change": {
                    "meter_id": edge.after.target.meter, "action": edge.after.action, "at": batch.requested_at,
                    "batch_id": batch.id, "detail": edge.detail,
                },
                "user_id": batch.actor.user,
                "api_key_id": batch.actor.api_key,
                "source": batch.actor.source,
                "request_id": batch.actor.request_id,
            })
        })
        .collect();
    sqlx::query_scalar!(
        r#"SELECT count(audit_append($1, $2, n.actor, n.action, n.object, n.detail)) AS "count!"
           FROM unnest($3::text[], $4::text[], $5::text[], $6::jsonb[]) AS n(actor, action, object, detail)"#,
        batch.account.0,
        batch.wall_at,
        &actors,
        &actions,
        &objects,
        &details
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

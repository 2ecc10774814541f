//! The outbox as the notifier works it, with role ingest. What has to be true together is one transaction.

use super::rows::{self, HappeningRow};
use crate::base::ids::{AccountId, ChannelId, NoticeId, RecipientId, RouteId};
use crate::domain::notice::rate::Counted;
use crate::domain::notice::{Channel, ChannelKind, Earlier, Happening, Plan, Recipient, Route};
use crate::port::notices::{
    Candidate, Directory, DueItem, Ending, Fill, NewMessage, NoticeOutbox, Outgoing, Reader, Unplanned, Work,
};
use crate::port::scope::StoreError;
use crate::store::Database;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use std::collections::HashMap;
use uuid::Uuid;

/// [`NoticeOutbox`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgOutbox {
    pool: PgPool,
}

impl PgOutbox {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
        }
    }
}

/// An item that is due, with what it takes to tell it.
struct DueRow {
    id: i64,
    notice_id: i64,
    account_id: i32,
    recipient_id: i32,
    channel_id: i32,
    subject: String,
    edge: String,
    severity: String,
    kind: String,
    facts: Value,
    groups: Vec<i32>,
    at: DateTime<Utc>,
    channel_kind: String,
    address: String,
    language: String,
    time_zone: String,
    per_hour: Option<i32>,
    alive: bool,
}

impl TryFrom<DueRow> for DueItem {
    type Error = StoreError;

    fn try_from(row: DueRow) -> Result<Self, StoreError> {
        let happening = Happening::try_from(HappeningRow {
            account_id: row.account_id,
            subject: row.subject,
            edge: row.edge,
            severity: row.severity,
            kind: row.kind,
            facts: row.facts,
            groups: row.groups,
            at: row.at,
        })?;
        let reader = Reader {
            language: rows::language(&row.language)?,
            zone: rows::zone(&row.time_zone)?,
            per_hour: row.per_hour.and_then(|limit| u32::try_from(limit).ok()),
            address: row.address,
        };
        Ok(Self {
            id: row.id,
            notice: NoticeId(row.notice_id),
            counted: Counted {
                account: AccountId(row.account_id),
                recipient: RecipientId(row.recipient_id),
                kind: rows::kind(&row.channel_kind)?,
                critical: happening.severity == crate::domain::notice::Severity::Critical,
            },
            happening,
            channel: ChannelId(row.channel_id),
            reader: row.alive.then_some(reader),
        })
    }
}

fn count(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

#[async_trait]
impl NoticeOutbox for PgOutbox {
    async fn resume(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "UPDATE notice_message SET state = 'waiting', next_at = $1, maybe_twice = true,
                    last_error = 'the server ended while this was being sent'
             WHERE state = 'sending'",
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    async fn recent(&self, since: DateTime<Utc>) -> Result<Vec<(Counted, DateTime<Utc>)>, StoreError> {
        sqlx::query!(
            "SELECT account_id, recipient_id, kind, critical, created_at FROM notice_message
             WHERE created_at > $1 AND NOT test ORDER BY created_at",
            since
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(|row| {
            let counted = Counted {
                account: AccountId(row.account_id),
                recipient: RecipientId(row.recipient_id),
                kind: rows::kind(&row.kind)?,
                critical: row.critical,
            };
            Ok((counted, row.created_at))
        })
        .collect()
    }

    async fn work(&self, now: DateTime<Utc>) -> Result<Work, StoreError> {
        let row = sqlx::query!(
            r#"SELECT EXISTS (SELECT FROM notice WHERE planned_at IS NULL) AS "unplanned!",
                      EXISTS (SELECT FROM notice_item WHERE state = 'waiting' AND due_at <= $1) AS "items!",
                      ARRAY(SELECT k FROM unnest(ARRAY['email', 'telegram', 'sms', 'webhook']) AS k
                            WHERE EXISTS (SELECT FROM notice_message m
                                          WHERE m.state = 'waiting' AND m.kind = k AND m.next_at <= $1)) AS "messages!""#,
            now
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Work {
            unplanned: row.unplanned,
            items: row.items,
            messages: row
                .messages
                .iter()
                .filter_map(|kind| ChannelKind::by_name(kind))
                .collect(),
        })
    }

    async fn unplanned(
        &self,
        server: Option<AccountId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<Unplanned>, StoreError> {
        let mut tx = self.pool.begin().await?;
        // the server's own: to the account that the operator named, or to the only one
        sqlx::query!(
            "UPDATE notice SET account_id = coalesce(
                 (SELECT id FROM account WHERE id = $1),
                 (SELECT min(id) FROM account WHERE $1::int IS NULL HAVING count(*) = 1))
             WHERE account_id IS NULL AND planned_at IS NULL",
            server.map(|account| account.0) as Option<i32>
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE notice SET planned_at = $1, outcome = 'nobody' WHERE account_id IS NULL AND planned_at IS NULL",
            now
        )
        .execute(&mut *tx)
        .await?;
        let found = sqlx::query!(
            r#"SELECT id, account_id AS "account_id!", subject, edge, severity, kind, facts, groups, at FROM notice
               WHERE planned_at IS NULL AND account_id IS NOT NULL ORDER BY id LIMIT $1"#,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        found
            .into_iter()
            .map(|row| {
                Ok(Unplanned {
                    id: NoticeId(row.id),
                    happening: Happening::try_from(HappeningRow {
                        account_id: row.account_id,
                        subject: row.subject,
                        edge: row.edge,
                        severity: row.severity,
                        kind: row.kind,
                        facts: row.facts,
                        groups: row.groups,
                        at: row.at,
                    })?,
                })
            })
            .collect()
    }

    async fn directory(&self, account: AccountId) -> Result<Directory, StoreError> {
        let mut tx = self.pool.begin().await?;
        let routes = sqlx::query!(
            "SELECT id, rule FROM notice_route WHERE account_id = $1 AND enabled AND deleted_at IS NULL ORDER BY id",
            account.0
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| {
            Ok(Route {
                id: RouteId(row.id),
                rule: rows::read(row.rule, "rule")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
        let mut channels: HashMap<i32, Vec<Channel>> = HashMap::new();
        for row in sqlx::query!(
            "SELECT id, recipient_id, kind FROM notice_channel
             WHERE account_id = $1 AND enabled AND deleted_at IS NULL ORDER BY id",
            account.0
        )
        .fetch_all(&mut *tx)
        .await?
        {
            channels.entry(row.recipient_id).or_default().push(Channel {
                id: ChannelId(row.id),
                kind: rows::kind(&row.kind)?,
            });
        }
        let recipients = sqlx::query!(
            "SELECT id, language, time_zone, quiet, digest FROM notice_recipient
             WHERE account_id = $1 AND enabled AND deleted_at IS NULL ORDER BY id",
            account.0
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| {
            Ok(Recipient {
                id: RecipientId(row.id),
                language: rows::language(&row.language)?,
                zone: rows::zone(&row.time_zone)?,
                quiet: row.quiet.map(|quiet| rows::read(quiet, "quiet")).transpose()?,
                digest: row.digest.map(|digest| rows::read(digest, "digest")).transpose()?,
                channels: channels.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
        let waiting = sqlx::query_scalar!(
            "SELECT count(*) FROM notice_item WHERE account_id = $1 AND state = 'waiting'",
            account.0
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(Directory {
            routes,
            recipients,
            waiting: count(waiting),
        })
    }

    async fn earlier(&self, account: AccountId, subject: &str, before: NoticeId) -> Result<Vec<Earlier>, StoreError> {
        let found = sqlx::query!(
            "SELECT i.id, i.recipient_id, i.channel_id, i.route_id, i.step, i.state
             FROM notice_item i
             WHERE i.state <> 'cancelled' AND i.notice_id IN (
                 SELECT n.id FROM notice n
                 WHERE n.account_id = $1 AND n.subject = $2 AND n.edge = 'raised' AND n.id < $3
                   AND n.id > coalesce((SELECT max(c.id) FROM notice c WHERE c.account_id = $1 AND c.subject = $2
                                          AND c.edge = 'cleared' AND c.id < $3), 0))
             ORDER BY i.id",
            account.0,
            subject,
            before.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(found
            .into_iter()
            .map(|row| Earlier {
                item: row.id,
                recipient: RecipientId(row.recipient_id),
                channel: ChannelId(row.channel_id),
                route: RouteId(row.route_id),
                step: u16::try_from(row.step).unwrap_or(0),
                told: row.state == "bundled",
            })
            .collect())
    }

    async fn planned(
        &self,
        notice: &Unplanned,
        plan: &Plan,
        outcome: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let planned = sqlx::query!(
            "UPDATE notice SET planned_at = $2, outcome = $3 WHERE id = $1 AND planned_at IS NULL",
            notice.id.0,
            now,
            outcome
        )
        .execute(&mut *tx)
        .await?;
        if planned.rows_affected() == 0 {
            return Ok(());
        }
        let reason = format!("{} before it was told", notice.happening.edge.as_str());
        sqlx::query!(
            "UPDATE notice_item SET state = 'cancelled', reason = $2 WHERE id = ANY($1) AND state = 'waiting'",
            &plan.cancel,
            reason
        )
        .execute(&mut *tx)
        .await?;
        let column = |of: fn(&crate::domain::notice::PlannedItem) -> i32| plan.items.iter().map(of).collect::<Vec<_>>();
        let steps: Vec<i16> = plan
            .items
            .iter()
            .map(|item| i16::try_from(item.step).unwrap_or(i16::MAX))
            .collect();
        let due: Vec<DateTime<Utc>> = plan.items.iter().map(|item| item.due).collect();
        sqlx::query!(
            "INSERT INTO notice_item (account_id, notice_id, recipient_id, channel_id, route_id, step, due_at)
             SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::smallint[], $7::timestamptz[])",
            notice.happening.account.0,
            notice.id.0,
            &column(|item| item.recipient.0),
            &column(|item| item.channel.0),
            &column(|item| item.route.0),
            &steps,
            &due
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<DueItem>, StoreError> {
        sqlx::query_as!(
            DueRow,
            r#"SELECT i.id, i.notice_id, i.account_id, i.recipient_id, i.channel_id, n.subject, n.edge, n.severity, n.kind,
                      n.facts, n.groups, n.at, c.kind AS channel_kind, c.address, r.language, r.time_zone, r.per_hour,
                      (c.enabled AND c.deleted_at IS NULL AND r.enabled AND r.deleted_at IS NULL) AS "alive!"
               FROM (SELECT * FROM notice_item WHERE state = 'waiting' AND due_at <= $1 ORDER BY due_at LIMIT $2) i
               JOIN notice n ON n.id = i.notice_id
               JOIN notice_channel c ON c.id = i.channel_id
               JOIN notice_recipient r ON r.id = i.recipient_id
               ORDER BY n.severity = 'critical' DESC, i.channel_id, i.id"#,
            now,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(DueItem::try_from)
        .collect()
    }

    async fn bundle(&self, message: NewMessage, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let taken = sqlx::query!(
            "UPDATE notice_item SET state = 'bundled', message_id = $2 WHERE id = ANY($1) AND state = 'waiting'",
            &message.items,
            message.id
        )
        .execute(&mut *tx)
        .await?;
        // an item that was called off meanwhile must not be told: the others are bundled anew
        if usize::try_from(taken.rows_affected()).unwrap_or(0) != message.items.len() {
            return Ok(false);
        }
        sqlx::query!(
            "INSERT INTO notice_message (id, account_id, recipient_id, channel_id, kind, address, subject, body, payload,
                                         critical, born_at, next_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11)",
            message.id,
            message.counted.account.0,
            message.counted.recipient.0,
            message.channel.0,
            message.counted.kind.as_str(),
            message.address,
            message.subject,
            message.body,
            message.payload,
            message.counted.critical,
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn defer(&self, items: &[i64], until: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE notice_item SET due_at = $2 WHERE id = ANY($1) AND state = 'waiting'",
            items,
            until
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn call_off(&self, items: &[i64], reason: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE notice_item SET state = 'cancelled', reason = $2 WHERE id = ANY($1) AND state = 'waiting'",
            items,
            reason
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn candidates(
        &self,
        kind: ChannelKind,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError> {
        let found = sqlx::query!(
            "SELECT id, account_id, channel_id FROM (
                 SELECT DISTINCT ON (m.channel_id) m.id, m.account_id, m.channel_id, m.critical, m.next_at
                 FROM notice_message m
                 WHERE m.state = 'waiting' AND m.kind = $1 AND m.next_at <= $2
                   AND NOT EXISTS (SELECT FROM notice_message s
                                   WHERE s.channel_id = m.channel_id AND s.state = 'sending')
                 ORDER BY m.channel_id, m.critical DESC, m.next_at) AS first
             ORDER BY critical DESC, next_at LIMIT $3",
            kind.as_str(),
            now,
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(found
            .into_iter()
            .map(|row| Candidate {
                id: row.id,
                account: AccountId(row.account_id),
                channel: ChannelId(row.channel_id),
            })
            .collect())
    }

    async fn claim(&self, message: Uuid, now: DateTime<Utc>) -> Result<Option<Outgoing>, StoreError> {
        let found = sqlx::query!(
            r#"UPDATE notice_message m SET state = 'sending', attempts = m.attempts + 1
               FROM notice_channel c
               WHERE m.id = $1 AND m.state = 'waiting' AND c.id = m.channel_id
               RETURNING m.id, m.account_id, m.recipient_id, m.channel_id, m.kind, m.address, m.subject, m.body, m.payload,
                         m.attempts - m.spent AS "attempt!", m.maybe_twice, m.born_at, m.test, c.salt, c.old_salt,
                         c.old_salt_until"#,
            message
        )
        .fetch_optional(&self.pool)
        .await?;
        found
            .map(|row| {
                let old = row
                    .old_salt
                    .filter(|_| row.old_salt_until.is_some_and(|until| now < until));
                Ok(Outgoing {
                    id: row.id,
                    account: AccountId(row.account_id),
                    recipient: RecipientId(row.recipient_id),
                    channel: ChannelId(row.channel_id),
                    kind: rows::kind(&row.kind)?,
                    address: row.address,
                    subject: row.subject,
                    body: row.body,
                    payload: row.payload,
                    salts: std::iter::once(row.salt).chain(old).collect(),
                    created_at: row.born_at,
                    attempt: u16::try_from(row.attempt).unwrap_or(u16::MAX),
                    test: row.test,
                    maybe_twice: row.maybe_twice,
                })
            })
            .transpose()
    }

    async fn ended(&self, message: Uuid, ending: &Ending, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (state, next_at, error, reference, unsure) = match ending {
            Ending::Sent(receipt) => ("sent", None, None, receipt.reference.clone(), false),
            Ending::Again { at, error, unsure } => ("waiting", Some(*at), Some(error.clone()), None, *unsure),
            Ending::Dead(error) => ("dead", None, Some(error.clone()), None, false),
        };
        sqlx::query!(
            "UPDATE notice_message SET state = $2, next_at = $3, last_error = coalesce($4, last_error),
                    reference = coalesce($5, reference), maybe_twice = maybe_twice OR $6, ended_at = $7
             WHERE id = $1 AND state = 'sending'",
            message,
            state,
            next_at as Option<DateTime<Utc>>,
            error as Option<String>,
            reference as Option<String>,
            unsure,
            (state != "waiting").then_some(now) as Option<DateTime<Utc>>
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn fill(&self, now: DateTime<Utc>) -> Result<Fill, StoreError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM notice WHERE planned_at IS NULL) AS "unplanned!",
                      (SELECT count(*) FROM notice_item WHERE state = 'waiting') AS "items!",
                      (SELECT count(*) FROM notice_message
                       WHERE created_at > $1::timestamptz - interval '1 day' AND state = 'dead') AS "dead!",
                      (SELECT min(next_at) FROM notice_message WHERE state = 'waiting' AND next_at <= $1) AS oldest"#,
            now
        )
        .fetch_one(&self.pool)
        .await?;
        let messages = sqlx::query!(
            r#"SELECT kind, count(*) AS "count!" FROM notice_message WHERE state IN ('waiting', 'sending') GROUP BY kind"#
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .filter_map(|row| Some((ChannelKind::by_name(&row.kind)?, count(Some(row.count)))))
        .collect();
        Ok(Fill {
            unplanned: count(Some(row.unplanned)),
            items: count(Some(row.items)),
            messages,
            dead: count(Some(row.dead)),
            oldest_due: row.oldest,
        })
    }

    async fn prune(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let notices = sqlx::query!(
            "DELETE FROM notice WHERE id IN (
                 SELECT id FROM notice n WHERE at < $1 AND planned_at IS NOT NULL
                   AND NOT EXISTS (SELECT FROM notice_item i WHERE i.notice_id = n.id AND i.state = 'waiting')
                 ORDER BY at LIMIT $2)",
            before,
            i64::from(limit)
        )
        .execute(&self.pool)
        .await?;
        let messages = sqlx::query!(
            "DELETE FROM notice_message WHERE id IN (
                 SELECT id FROM notice_message WHERE created_at < $1 AND state IN ('sent', 'dead')
                 ORDER BY created_at LIMIT $2)",
            before,
            i64::from(limit)
        )
        .execute(&self.pool)
        .await?;
        Ok(notices.rows_affected() + messages.rows_affected())
    }
}

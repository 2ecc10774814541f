//! Everything that rules apply to: accounts, groups, DTUs with their sessions, meters with their places, calendars, rules.

use crate::base::ids::{AccountId, AlarmRuleId, DtuId, GroupId, MeterId, PointId};
use crate::domain::alarm::Severity;
use crate::domain::alarm::rule::{Rule, Scope};
use crate::port::alarms::{DtuFact, MeterFact, Topology};
use crate::store::StoreError;
use sqlx::PgConnection;

pub(super) async fn read(tx: &mut PgConnection) -> Result<Topology, StoreError> {
    let accounts = sqlx::query!("SELECT id, time_zone FROM account WHERE disabled_at IS NULL")
        .fetch_all(&mut *tx)
        .await?;
    let groups = sqlx::query!("SELECT id, parent_id FROM meter_group WHERE deleted_at IS NULL")
        .fetch_all(&mut *tx)
        .await?;
    let meters = sqlx::query!(
        r#"SELECT m.id, m.account_id, m.dtu_id, m.group_id, i.point_id AS "point_id?"
           FROM meter m LEFT JOIN installation i ON i.meter_id = m.id AND i.valid_to IS NULL
           WHERE m.deleted_at IS NULL"#
    )
    .fetch_all(&mut *tx)
    .await?;
    let holidays = sqlx::query!("SELECT calendar_id, holidays FROM calendar_version WHERE valid_to IS NULL")
        .fetch_all(&mut *tx)
        .await?;
    Ok(Topology {
        accounts: accounts
            .into_iter()
            .map(|row| (AccountId(row.id), row.time_zone))
            .collect(),
        groups: groups
            .into_iter()
            .map(|row| (GroupId(row.id), row.parent_id.map(GroupId)))
            .collect(),
        dtus: dtus(tx).await?,
        meters: meters
            .into_iter()
            .map(|row| {
                let fact = MeterFact {
                    id: MeterId(row.id),
                    account: AccountId(row.account_id),
                    dtu: DtuId(row.dtu_id),
                    group: row.group_id.map(GroupId),
                    point: row.point_id.map(PointId),
                };
                (fact.id, fact)
            })
            .collect(),
        holidays: holidays
            .into_iter()
            .map(|row| (row.calendar_id, row.holidays.into_iter().collect()))
            .collect(),
        rules: rules(tx).await?,
    })
}

/// DTUs with what their newest session says. A session that another one replaced is no absence.
async fn dtus(tx: &mut PgConnection) -> Result<Vec<DtuFact>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT d.id, d.account_id, s.began_at AS "began_at?", s.ended_at AS "ended_at?"
           FROM dtu d
           JOIN account a ON a.id = d.account_id AND a.disabled_at IS NULL
           LEFT JOIN LATERAL (
               SELECT began_at, ended_at FROM dtu_session WHERE dtu_id = d.id ORDER BY began_at DESC LIMIT 1) s ON true
           WHERE d.deleted_at IS NULL AND d.enabled"#
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DtuFact {
            id: DtuId(row.id),
            account: AccountId(row.account_id),
            up_since: row.began_at.filter(|_| row.ended_at.is_none()),
            down_since: row.ended_at,
        })
        .collect())
}

/// The rules of all accounts. One that does not fit the program is left out with an error: the others go on.
async fn rules(tx: &mut PgConnection) -> Result<Vec<Rule>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, account_id, group_id, meter_id, enabled, severity, judgement FROM alarm_rule WHERE deleted_at IS NULL
         ORDER BY id"
    )
    .fetch_all(tx)
    .await?;
    let mut rules = Vec::with_capacity(rows.len());
    for row in rows {
        let Ok(check) = serde_json::from_value(row.judgement) else {
            tracing::error!(rule.id = row.id, "alarm rule left out: its judgement cannot be read");
            continue;
        };
        rules.push(Rule {
            id: Some(AlarmRuleId(row.id)),
            account: Some(AccountId(row.account_id)),
            scope: scope(row.group_id, row.meter_id),
            enabled: row.enabled,
            severity: Severity::by_name(&row.severity).unwrap_or_default(),
            check,
        });
    }
    Ok(rules)
}

/// Where a rule applies, by its columns.
fn scope(group: Option<i32>, meter: Option<i32>) -> Scope {
    match (group, meter) {
        (_, Some(meter)) => Scope::Meter(MeterId(meter)),
        (Some(group), None) => Scope::Group(GroupId(group)),
        (None, None) => Scope::Account,
    }
}

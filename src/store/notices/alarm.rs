//! A step of an alarm becomes a notice, in the step's own transaction: what is wrong is told, or it never was.

use crate::base::ids::{AccountId, GroupId};
use crate::domain::alarm::{AlarmEdge, AlarmStep, Detail};
use crate::domain::notice::{Edge, Happening};
use crate::store::StoreError;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// What people are told of a step; none: they are not.
fn edge_of(step: AlarmStep) -> Option<Edge> {
    match step {
        AlarmStep::Raised | AlarmStep::Reopened => Some(Edge::Raised),
        AlarmStep::Reminded => Some(Edge::Reminded),
        AlarmStep::Acknowledged => Some(Edge::Acknowledged),
        AlarmStep::Cleared => Some(Edge::Cleared),
        AlarmStep::Commented | AlarmStep::Shelved | AlarmStep::Unshelved => None,
    }
}

/// What is known of a cause, as facts: numbers with their unit, instants as RFC 3339 for the reader's clock.
fn facts(detail: &Detail, victims: u64) -> BTreeMap<String, String> {
    let with_unit = |value: &String| match detail.unit.as_deref() {
        Some(unit) if unit != "1" => format!("{value} {unit}"),
        _ => value.clone(),
    };
    let names = (!detail.names.is_empty()).then(|| detail.names.join(", "));
    [
        ("quantity", detail.quantity.clone()),
        ("value", detail.value.as_ref().map(with_unit)),
        ("limit", detail.limit.as_ref().map(with_unit)),
        ("expected", detail.expected.as_ref().map(with_unit)),
        ("since", detail.since.map(|at| at.to_rfc3339())),
        ("count", detail.count.map(|count| count.to_string())),
        ("names", names),
        ("reading_at", detail.reading_at.map(|at| at.to_rfc3339())),
        ("note", detail.note.clone()),
        ("victims", (victims > 0).then(|| victims.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, fact)| Some((name.to_owned(), fact?)))
    .collect()
}

/// Writes the notice of a step.
///
/// # Errors
/// [`StoreError`]; then the step does not happen either.
pub(in crate::store) async fn tell(tx: &mut PgConnection, step: &AlarmEdge) -> Result<(), StoreError> {
    let Some(edge) = edge_of(step.step) else {
        return Ok(());
    };
    let mut facts = facts(&step.detail, step.victims);
    let mut groups = Vec::new();
    // a group of DTUs stands for itself: the one that happens to be first is not the place
    if let Some(dtu) = step.subject.dtu().filter(|_| step.victims == 0) {
        let names = sqlx::query!(
            r#"SELECT d.name AS dtu, m.name AS "meter?", m.group_id AS "group_id?"
               FROM dtu d LEFT JOIN meter m ON m.id = $2 WHERE d.id = $1"#,
            dtu.0,
            step.subject.meter().map(|meter| meter.0) as Option<i32>
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(names) = names {
            facts.insert("dtu".to_owned(), names.dtu);
            facts.extend(names.meter.map(|meter| ("meter".to_owned(), meter)));
            if let Some(group) = names.group_id {
                groups = above(tx, group).await?;
            }
        }
    }
    let happening = Happening {
        // the server's own have no account yet: whoever plans them finds it
        account: step.account.unwrap_or(AccountId(0)),
        subject: format!("alarm/{}", step.alarm),
        edge,
        severity: step.severity,
        kind: step.kind.as_str().to_owned(),
        facts,
        groups,
        at: step.at,
    };
    super::insert(tx, happening, step.account.is_none()).await?;
    Ok(())
}

/// A group and those above it.
async fn above(tx: &mut PgConnection, group: i32) -> Result<Vec<GroupId>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"WITH RECURSIVE above AS (
               SELECT g.id, g.parent_id FROM meter_group g WHERE g.id = $1
               UNION
               SELECT g.id, g.parent_id FROM meter_group g JOIN above ON g.id = above.parent_id
           )
           SELECT above.id AS "id!" FROM above"#,
        group
    )
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().map(GroupId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_with_their_unit_and_instants_as_such() {
        let detail = Detail {
            quantity: Some("voltage_l1".into()),
            value: Some("253.1".into()),
            limit: Some("253".into()),
            unit: Some("V".into()),
            since: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            names: vec!["L1".into(), "L2".into()],
            ..Detail::default()
        };
        let facts = facts(&detail, 3);
        let fact = |name: &str| facts.get(name).map(String::as_str);
        assert_eq!(fact("value"), Some("253.1 V"));
        assert_eq!(fact("since"), Some("2026-03-01T12:00:00+00:00"));
        assert_eq!(fact("names"), Some("L1, L2"));
        assert_eq!(fact("victims"), Some("3"));
        assert_eq!(fact("expected"), None);
    }

    #[test]
    fn every_step_that_is_news_is_told() {
        for step in AlarmStep::ALL {
            let news = !matches!(step, AlarmStep::Commented | AlarmStep::Shelved | AlarmStep::Unshelved);
            assert_eq!(edge_of(step).is_some(), news, "{step:?}");
        }
    }
}

//! Line loss of groups, out of the roll-ups of consumption: days of the account's zone, or hours.

use super::groups;
use super::handles::{AccountHandle, PgStores};
use super::wide;
use crate::domain::consumption::{Per as Slices, boundaries};
use crate::port::line_loss::{Counted, LineLoss, LineLossItem, LineLossQuery, LineLossStore};
use crate::port::readings::Per;
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;

impl InAccount<dyn LineLossStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn LineLossStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl LineLossStore for AccountHandle {
    async fn line_loss(&self, query: &LineLossQuery) -> Result<LineLoss, StoreError> {
        let mut tx = self.begin().await?;
        let sum = groups::sum_point(&mut tx, query.group).await?;
        let slices = match query.per {
            Per::Hour => Slices::Hour,
            Per::Day => Slices::Day,
            Per::Month => Slices::Month,
        };
        let edges = boundaries(query.zone, slices, query.from, query.to)
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        // who counts something else alone (water in a group of electricity) is no sub-meter of this balance; a sum meter of
        // a group within is none either, for its own sub-meters are in it
        let rows = sqlx::query!(
            r#"WITH RECURSIVE within AS (
                   SELECT g.id, g.sum_point_id FROM meter_group g WHERE g.id = $1 AND g.deleted_at IS NULL
                   UNION
                   SELECT g.id, g.sum_point_id FROM meter_group g JOIN within w ON g.parent_id = w.id
                   WHERE g.deleted_at IS NULL
               ), sub AS MATERIALIZED (
                   SELECT p.id FROM metering_point p
                   WHERE p.group_id IN (SELECT id FROM within)
                     AND p.id NOT IN (SELECT sum_point_id FROM within WHERE sum_point_id IS NOT NULL)
                     AND (EXISTS (SELECT FROM consumption_day o WHERE o.point_id = p.id AND o.quantity = $3)
                          OR NOT EXISTS (SELECT FROM consumption_day o WHERE o.point_id = p.id))
               ), slice AS MATERIALIZED (
                   SELECT e.n::int AS n, e.at AS start, lead(e.at) OVER (ORDER BY e.n) AS finish
                   FROM unnest($4::timestamptz[]) WITH ORDINALITY AS e (at, n)
               ), counted AS (
                   SELECT c.point_id, width_bucket(c.start, $4::timestamptz[]) AS n, c.start, c.finish, c.value, c.quality
                   FROM consumption_day c
                   WHERE NOT $7::bool AND (c.point_id = $2 OR c.point_id IN (SELECT id FROM sub)) AND c.quantity = $3
                     AND c.start >= $5 AND c.start < $6 AND NOT c.incomplete
                   UNION ALL
                   SELECT c.point_id, width_bucket(c.start, $4::timestamptz[]), c.start, c.finish, c.value, c.quality
                   FROM consumption_hour c
                   WHERE $7::bool AND (c.point_id = $2 OR c.point_id IN (SELECT id FROM sub)) AND c.quantity = $3
                     AND c.start >= $5 AND c.start < $6 AND NOT c.incomplete
               ), whole AS (
                   SELECT c.point_id, c.n, sum(c.value) AS value, max(c.quality) AS quality
                   FROM counted c JOIN slice s ON s.n = c.n
                   GROUP BY c.point_id, c.n, s.start, s.finish
                   HAVING min(c.start) = s.start AND max(c.finish) = s.finish
                      AND sum(c.finish - c.start) = s.finish - s.start
               ), stood AS (
                   SELECT s.n, count(DISTINCT i.point_id) AS points
                   FROM slice s JOIN installation i ON i.valid_from < s.finish AND coalesce(i.valid_to, 'infinity') > s.start
                   WHERE i.point_id IN (SELECT id FROM sub) GROUP BY s.n
               )
               SELECT s.start AS "from!", s.finish AS "to!", max(w.value) FILTER (WHERE w.point_id = $2) AS supplied,
                      sum(w.value) FILTER (WHERE w.point_id <> coalesce($2, 0)) AS sold,
                      count(w.value) FILTER (WHERE w.point_id <> coalesce($2, 0)) AS "covered!",
                      coalesce((SELECT points FROM stood WHERE stood.n = s.n), 0) AS "sub_meters!",
                      max(w.quality) AS quality
               FROM slice s LEFT JOIN whole w ON w.n = s.n
               WHERE s.finish IS NOT NULL GROUP BY s.n, s.start, s.finish ORDER BY s.n"#,
            query.group.0,
            sum.map(|point| point.0),
            query.quantity.name(),
            &edges,
            edges.first().copied().unwrap_or(query.from),
            edges.last().copied().unwrap_or(query.from),
            query.per == Per::Hour
        )
        .fetch_all(&mut *tx)
        .await?;
        let items = rows.into_iter().map(|row| {
            let counted = Counted {
                supplied: row.supplied,
                sold: row.sold,
                // a meter that was taken out may still have a day's row
                sub_meters: row.sub_meters.max(row.covered),
                covered: row.covered,
                quality: row.quality.map(wide::quality_by_code),
            };
            LineLossItem::of(row.from, row.to, counted)
        });
        Ok(LineLoss {
            group_id: query.group,
            sum_point_id: sum,
            quantity: query.quantity.name(),
            unit: query.quantity.unit().symbol(),
            items: items.collect(),
        })
    }
}

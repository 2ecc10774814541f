//! How concentrators reach their meters, as they said when their archives were read last.

use super::handles::{AccountHandle, PgStores};
use crate::base::ids::{DtuId, MeterId};
use crate::port::mesh::{MeshPlace, MeshStore};
use crate::port::scan::{ArchivePlace, Route};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::PgConnection;

struct Row {
    point: i32,
    place: i32,
    meter_address: String,
    meter_protocol: String,
    port: i16,
    collector: String,
    tariffs: i16,
    routed: bool,
    relays: Option<i16>,
    phase_bits: Option<i16>,
    signal_bits: Option<i16>,
    failures: Option<i16>,
    last_success: Option<NaiveDateTime>,
    read_at: DateTime<Utc>,
    meter_id: Option<i32>,
}

/// A byte as it was stored; the table holds nothing else.
fn byte(stored: i16) -> u8 {
    u8::try_from(stored).unwrap_or_default()
}

impl From<Row> for MeshPlace {
    fn from(row: Row) -> Self {
        let route = row.routed.then_some(Route {
            relays: row.relays.map(byte),
            phase_bits: row.phase_bits.map(byte),
            signal_bits: row.signal_bits.map(byte),
            failures: row.failures.map(byte),
            last_success: row.last_success,
        });
        Self {
            point: u16::try_from(row.point).unwrap_or_default(),
            meter_id: row.meter_id.map(MeterId),
            read_at: row.read_at,
            archive: ArchivePlace {
                place: u16::try_from(row.place).unwrap_or_default(),
                meter_address: row.meter_address,
                meter_protocol: row.meter_protocol,
                port: byte(row.port),
                collector: row.collector,
                tariffs: byte(row.tariffs),
                route,
            },
        }
    }
}

/// Checks that a DTU is the account's.
pub(super) async fn check(tx: &mut PgConnection, dtu: DtuId) -> Result<(), StoreError> {
    sqlx::query_scalar!(
        "SELECT id FROM dtu WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        dtu.0
    )
    .fetch_optional(tx)
    .await?
    .map(|_| ())
    .ok_or(StoreError::NotFound("DTU"))
}

/// The places of a DTU by point, behind `after`.
async fn page(tx: &mut PgConnection, dtu: DtuId, after: u16, limit: i64) -> Result<Vec<MeshPlace>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT p.point, p.place, p.meter_address, p.meter_protocol, p.port, p.collector, p.tariffs, p.routed, p.relays,
                  p.phase_bits, p.signal_bits, p.failures, p.last_success, p.read_at, m.id AS "meter_id?"
           FROM mesh_place p
           LEFT JOIN meter m ON m.dtu_id = p.dtu_id AND m.deleted_at IS NULL
                            AND (m.protocol = 'gdw376.1' AND m.address = p.point::text
                                 OR m.protocol = 'dlt698.45' AND m.address = p.meter_address)
           WHERE p.dtu_id = $1 AND p.point > $2 ORDER BY p.point LIMIT $3"#,
        dtu.0,
        i32::from(after),
        limit
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(MeshPlace::from).collect())
}

/// All places of a DTU: no concentrator has more than there are points.
pub(super) async fn places(tx: &mut PgConnection, dtu: DtuId) -> Result<Vec<MeshPlace>, StoreError> {
    page(tx, dtu, 0, i64::from(u16::MAX)).await
}

impl InAccount<dyn MeshStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn MeshStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl MeshStore for AccountHandle {
    async fn list(&self, dtu: DtuId, after: Option<u16>, limit: u32) -> Result<Vec<MeshPlace>, StoreError> {
        let mut tx = self.begin().await?;
        check(&mut tx, dtu).await?;
        page(&mut tx, dtu, after.unwrap_or_default(), limit.into()).await
    }

    async fn keep(
        &self,
        dtu: DtuId,
        places: &[(u16, ArchivePlace)],
        whole: bool,
        read_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        check(&mut tx, dtu).await?;
        let columns = Columns::of(places);
        sqlx::query!(
            "INSERT INTO mesh_place AS p (dtu_id, account_id, point, place, meter_address, meter_protocol, port, collector,
                                          tariffs, routed, relays, phase_bits, signal_bits, failures, last_success, read_at)
             SELECT $1, $2, t.* , $3 FROM unnest($4::int[], $5::int[], $6::text[], $7::text[], $8::smallint[], $9::text[],
                 $10::smallint[], $11::bool[], $12::smallint[], $13::smallint[], $14::smallint[], $15::smallint[],
                 $16::timestamp[]) AS t
             ON CONFLICT (dtu_id, point) DO UPDATE SET (place, meter_address, meter_protocol, port, collector, tariffs, routed,
                                                       relays, phase_bits, signal_bits, failures, last_success, read_at) =
                 (excluded.place, excluded.meter_address, excluded.meter_protocol, excluded.port, excluded.collector,
                  excluded.tariffs, excluded.routed, excluded.relays, excluded.phase_bits, excluded.signal_bits,
                  excluded.failures, excluded.last_success, excluded.read_at)
             WHERE p.read_at <= excluded.read_at",
            dtu.0,
            self.account.0,
            read_at,
            &columns.points,
            &columns.places,
            &columns.addresses,
            &columns.protocols,
            &columns.ports,
            &columns.collectors,
            &columns.tariffs,
            &columns.routed,
            &columns.relays as &[Option<i16>],
            &columns.phases as &[Option<i16>],
            &columns.signals as &[Option<i16>],
            &columns.failures as &[Option<i16>],
            &columns.successes as &[Option<NaiveDateTime>],
        )
        .execute(&mut *tx)
        .await?;
        if whole {
            sqlx::query!(
                "DELETE FROM mesh_place WHERE dtu_id = $1 AND read_at < $2",
                dtu.0,
                read_at
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Places, column by column.
#[derive(Default)]
struct Columns {
    points: Vec<i32>,
    places: Vec<i32>,
    addresses: Vec<String>,
    protocols: Vec<String>,
    ports: Vec<i16>,
    collectors: Vec<String>,
    tariffs: Vec<i16>,
    routed: Vec<bool>,
    relays: Vec<Option<i16>>,
    phases: Vec<Option<i16>>,
    signals: Vec<Option<i16>>,
    failures: Vec<Option<i16>>,
    successes: Vec<Option<NaiveDateTime>>,
}

impl Columns {
    /// Of each point its last place: an archive may name a point twice, a row cannot be written twice.
    fn of(places: &[(u16, ArchivePlace)]) -> Self {
        let last: std::collections::BTreeMap<u16, &ArchivePlace> =
            places.iter().map(|(point, place)| (*point, place)).collect();
        let mut columns = Self::default();
        for (point, place) in last {
            let route = place.route.as_ref();
            columns.points.push(point.into());
            columns.places.push(place.place.into());
            columns.addresses.push(place.meter_address.clone());
            columns.protocols.push(place.meter_protocol.clone());
            columns.ports.push(place.port.into());
            columns.collectors.push(place.collector.clone());
            columns.tariffs.push(place.tariffs.into());
            columns.routed.push(route.is_some());
            columns.relays.push(route.and_then(|route| route.relays).map(i16::from));
            columns
                .phases
                .push(route.and_then(|route| route.phase_bits).map(i16::from));
            columns
                .signals
                .push(route.and_then(|route| route.signal_bits).map(i16::from));
            columns
                .failures
                .push(route.and_then(|route| route.failures).map(i16::from));
            columns.successes.push(route.and_then(|route| route.last_success));
        }
        columns
    }
}

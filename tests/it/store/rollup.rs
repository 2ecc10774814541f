//! Roll-ups against the real store: hours and days follow the registers, late readings and exchanges.

use super::ingest::{at, reading, record, store};
use crate::harness::db::TestDb;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::domain::reading::Reading;
use polyphase::port::ledger::{Hours, ReadingStore};
use rust_decimal::{Decimal, dec};

async fn point(db: &TestDb) {
    db.sql(
        "INSERT INTO account (name, created_at, time_zone) VALUES ('a', now(), 'Europe/Berlin');
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'SN-1', 'd', now());
         INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
         VALUES (1, 1, 'modbus-rtu', '1', 'm', 'one', now()), (1, 1, 'modbus-rtu', '2', 'm', 'two', now());
         INSERT INTO metering_point (account_id, name, created_at) VALUES (1, 'p', now());
         INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio) VALUES (1, 1, 1, '2026-01-01', 2)",
    )
    .await;
}

/// A reading that was taken exactly at its due time.
fn sharp(meter: i32, ts: DateTime<Utc>, energy: Decimal) -> Reading {
    let mut reading = reading(meter, ts, &energy.to_string());
    reading.read_at = ts;
    reading
}

type Hour = (String, Decimal, i16, bool, bool);

async fn hours(db: &TestDb) -> Vec<Hour> {
    sqlx::query_as(
        "SELECT to_char(start AT TIME ZONE 'UTC', 'DD HH24:MI'), value, quality, interpolated, incomplete
         FROM consumption_hour WHERE quantity = 'active_energy_import' ORDER BY start",
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap()
}

async fn days(db: &TestDb) -> Vec<Hour> {
    sqlx::query_as(
        "SELECT to_char(start AT TIME ZONE 'UTC', 'DD HH24:MI'), value, quality, interpolated, incomplete
         FROM consumption_day WHERE quantity = 'active_energy_import' ORDER BY start",
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap()
}

fn hour(start: &str, value: Decimal, quality: i16, interpolated: bool, incomplete: bool) -> Hour {
    (start.to_owned(), value, quality, interpolated, incomplete)
}

/// The hours that wait to be rolled up.
async fn marked(db: &TestDb) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("SELECT DISTINCT hour FROM hour_mark ORDER BY hour")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn ended_hours_follow_the_registers_with_the_ratio_and_a_second_run_writes_nothing() {
    let db = TestDb::new().await;
    point(&db).await;
    let store = store(&db).await;
    let begin = at("2026-11-20T08:00:00Z");
    let records: Vec<_> = (0..=9)
        .map(|quarter| {
            record(sharp(
                1,
                begin + TimeDelta::minutes(15 * quarter),
                dec!(100) + Decimal::from(quarter),
            ))
        })
        .collect();
    store.write(&records).await.unwrap();
    let now = at("2026-11-20T10:16:00Z");
    assert_eq!(store.roll_up(now, Hours::Ended).await.unwrap(), 2);
    // what came in since ten o'clock is left
    assert_eq!(store.roll_up(now, Hours::Ended).await.unwrap(), 0);
    assert_eq!(marked(&db).await, [at("2026-11-20T10:00:00Z")]);
    assert_eq!(store.roll_up(now, Hours::All).await.unwrap(), 0);
    // 4 kWh an hour on the register, times 2; the running hour is not written
    assert_eq!(
        hours(&db).await,
        [
            hour("20 08:00", dec!(8), 0, false, false),
            hour("20 09:00", dec!(8), 0, false, false)
        ]
    );
    assert_eq!(store.roll_up(now, Hours::All).await.unwrap(), 0);
    // a replay marks nothing
    store.write(&records).await.unwrap();
    assert_eq!(store.roll_up(now, Hours::All).await.unwrap(), 0);
    assert_eq!(days(&db).await, [hour("19 23:00", dec!(16), 1, false, true)]);
}

/// A meter that is read every minute is looked at twice an hour: at its first reading, which ends the hour before, and when the hour is over.
#[tokio::test]
async fn registers_of_a_running_hour_are_looked_at_once() {
    let db = TestDb::new().await;
    point(&db).await;
    let store = store(&db).await;
    let begin = at("2026-11-20T08:00:00Z");
    let read = |minute: i64| {
        record(sharp(
            1,
            begin + TimeDelta::minutes(minute),
            dec!(100) + Decimal::from(minute),
        ))
    };
    store.write(&[read(1), read(31), read(59)]).await.unwrap();
    store.roll_up(at("2026-11-20T08:59:30Z"), Hours::All).await.unwrap();
    assert_eq!(hours(&db).await, []);
    // the first of the next hour ends the one before; a late one in front of it does not hold that up, but waits itself
    store.write(&[read(63)]).await.unwrap();
    store.roll_up(at("2026-11-20T09:03:30Z"), Hours::All).await.unwrap();
    let ended = hours(&db).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    let second = record(sharp(2, begin + TimeDelta::minutes(64), dec!(7)));
    let late = record(sharp(1, begin + TimeDelta::minutes(61), dec!(161.5)));
    store.write(&[read(65), late, second]).await.unwrap();
    store.roll_up(at("2026-11-20T09:05:30Z"), Hours::All).await.unwrap();
    assert_eq!(hours(&db).await, ended, "looked at already");
    let waits: Vec<(bool, Vec<i32>)> = sqlx::query_as("SELECT looked, meters FROM hour_mark")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
    assert_eq!(waits, [(true, vec![1, 2])], "one mark for the account's hour");
    // what somebody edits is looked at at once
    db.sql("SELECT mark_consumption(1, 1, '2026-11-20T09:00:00Z', '2026-11-20T09:04:00Z')")
        .await;
    store.roll_up(at("2026-11-20T09:06:30Z"), Hours::All).await.unwrap();
    let edited = hours(&db).await;
    assert_ne!(edited, ended, "the late reading counts now");
    // and when the hour is over, everything
    store.write(&[read(121)]).await.unwrap();
    store.roll_up(at("2026-11-20T10:01:30Z"), Hours::Ended).await.unwrap();
    store.roll_up(at("2026-11-20T10:01:30Z"), Hours::All).await.unwrap();
    let all = hours(&db).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all.first(), edited.first());
    assert_eq!(marked(&db).await, [at("2026-11-20T10:00:00Z")]);
}

#[tokio::test]
async fn a_run_after_each_reading_gives_what_one_run_over_all_gives() {
    let begin = at("2026-11-20T07:50:00Z");
    // odd times, and an outage of half a day
    let times: Vec<DateTime<Utc>> = (0..140)
        .filter(|step| !(30..70).contains(step))
        .map(|step| begin + TimeDelta::minutes(17 * step))
        .collect();
    let readings: Vec<Reading> = times
        .iter()
        .enumerate()
        .map(|(place, ts)| sharp(1, *ts, Decimal::new(1_000_000 + 137 * i64::try_from(place).unwrap(), 2)))
        .collect();
    let now = *times.last().unwrap() + TimeDelta::minutes(1);

    let stepwise = TestDb::new().await;
    point(&stepwise).await;
    let store_stepwise = store(&stepwise).await;
    for reading in &readings {
        store_stepwise.write(&[record(reading.clone())]).await.unwrap();
        store_stepwise
            .roll_up(reading.ts + TimeDelta::seconds(1), Hours::All)
            .await
            .unwrap();
    }
    // the running hour is left for later but for every fourth reading
    let waiting = TestDb::new().await;
    point(&waiting).await;
    let store_waiting = store(&waiting).await;
    for (place, reading) in readings.iter().enumerate() {
        store_waiting.write(&[record(reading.clone())]).await.unwrap();
        let hours = if place % 4 == 0 { Hours::All } else { Hours::Ended };
        let now = reading.ts + TimeDelta::seconds(1);
        store_waiting.roll_up(now, hours).await.unwrap();
        // the mark of a running hour waits for its end, were it looked at or not
        let ended = marked(&waiting)
            .await
            .into_iter()
            .any(|hour| hour + TimeDelta::hours(1) <= now);
        assert!(!ended, "{place}");
    }
    store_waiting.roll_up(now, Hours::All).await.unwrap();
    let whole = TestDb::new().await;
    point(&whole).await;
    let store_whole = store(&whole).await;
    let records: Vec<_> = readings.iter().cloned().map(record).collect();
    store_whole.write(&records).await.unwrap();
    store_whole.roll_up(now, Hours::All).await.unwrap();
    let backwards = TestDb::new().await;
    point(&backwards).await;
    let store_backwards = store(&backwards).await;
    for chunk in readings.chunks(9).rev() {
        let records: Vec<_> = chunk.iter().cloned().map(record).collect();
        store_backwards.write(&records).await.unwrap();
        store_backwards.roll_up(now, Hours::All).await.unwrap();
    }
    let expected = hours(&whole).await;
    assert!(expected.len() > 35, "{}", expected.len());
    assert_eq!(hours(&stepwise).await, expected, "in order");
    assert_eq!(hours(&waiting).await, expected, "the running hour later");
    assert_eq!(hours(&backwards).await, expected, "newest first");
    assert_eq!(days(&stepwise).await, days(&whole).await);
    // the sum of all whole hours is the register's difference between their edges
    let inner: Decimal = expected.iter().filter(|hour| !hour.4).map(|hour| hour.1).sum();
    let all: Decimal = (Decimal::from(readings.len() - 1) * dec!(1.37)) * dec!(2);
    assert!(inner <= all && inner > all * dec!(0.9), "{inner} of {all}");
}

#[tokio::test]
async fn a_meter_exchange_keeps_the_point_whole() {
    let db = TestDb::new().await;
    point(&db).await;
    let store = store(&db).await;
    let exchange = at("2026-11-20T09:30:00Z");
    let before: Vec<_> = (0..=6)
        .map(|quarter| {
            let ts = at("2026-11-20T08:00:00Z") + TimeDelta::minutes(15 * quarter);
            record(sharp(1, ts, dec!(9000) + Decimal::from(quarter)))
        })
        .collect();
    store.write(&before).await.unwrap();
    store.roll_up(at("2026-11-20T09:31:00Z"), Hours::All).await.unwrap();
    db.sql(
        "UPDATE installation SET valid_to = '2026-11-20T09:30:00Z', closing = '{\"active_energy_import\": \"9006\"}';
         INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio, opening)
         VALUES (1, 1, 2, '2026-11-20T09:30:00Z', 4, '{\"active_energy_import\": \"10\"}')",
    )
    .await;
    let mut transaction = db
        .database()
        .scoped(polyphase::base::ids::AccountId(1))
        .begin()
        .await
        .unwrap();
    sqlx::query("SELECT mark_consumption(1, 2, $1, $1)")
        .bind(exchange)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let after: Vec<_> = (1..=6)
        .map(|quarter| {
            record(sharp(
                2,
                exchange + TimeDelta::minutes(15 * quarter),
                dec!(10) + Decimal::from(quarter),
            ))
        })
        .collect();
    store.write(&after).await.unwrap();
    store.roll_up(at("2026-11-20T11:01:00Z"), Hours::All).await.unwrap();
    assert_eq!(
        hours(&db).await,
        [
            hour("20 08:00", dec!(8), 0, false, false),
            // two quarters of the old meter times 2, two of the new one times 4
            hour("20 09:00", dec!(12), 0, false, false),
            hour("20 10:00", dec!(16), 0, false, false),
        ]
    );
}

/// The lists of a roll-up are empty in a quiet hour and long behind an outage: no plan that was made for the one serves the other.
/// What the connection is set to is seen from where its statements work.
#[tokio::test]
async fn a_roll_up_keeps_no_plan_of_a_quiet_hour() {
    let db = TestDb::new().await;
    point(&db).await;
    db.sql(
        "CREATE TABLE seen (list text, mode text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
             AS $$ BEGIN INSERT INTO public.seen VALUES (TG_TABLE_NAME, current_setting('plan_cache_mode')); RETURN NULL; END $$;
         CREATE TRIGGER see AFTER DELETE ON consumption_dirty EXECUTE FUNCTION see();
         CREATE TRIGGER see AFTER DELETE ON meter_hour_dirty EXECUTE FUNCTION see();
         CREATE TRIGGER see AFTER DELETE ON hour_mark EXECUTE FUNCTION see()",
    )
    .await;
    let store = store(&db).await;
    let ts = at("2026-11-20T08:15:00Z");
    store.write(&[record(sharp(1, ts, dec!(100)))]).await.unwrap();
    store.roll_up(at("2026-11-20T10:16:00Z"), Hours::All).await.unwrap();
    let seen: Vec<(String, String)> = sqlx::query_as("SELECT DISTINCT list, mode FROM seen ORDER BY list, mode")
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
    let custom = |list: &str| (list.to_owned(), "force_custom_plan".to_owned());
    assert_eq!(
        seen,
        [
            custom("consumption_dirty"),
            custom("hour_mark"),
            custom("meter_hour_dirty")
        ]
    );
}

//! Panics and a disk that refuses: who is hit comes back alone, and every slot ends all the same.

use super::books::{assert_actual, slowest, tally};
use super::field::{Field, Manner, PROMPT, at, dtu, virtually};
use chrono::TimeDelta;
use polyphase::actor::messages::StopSchedules;
use polyphase::base::ids::{DtuId, MeterId};
use polyphase::domain::slot::MissReason;
use polyphase::port::field::EndCause;
use polyphase::port::fleet::{Fleet, ReadFailure};
use polyphase::telemetry::actor::ACTORS;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn a_meter_that_panics_comes_back_alone_with_its_slots() {
    virtually(|| async {
        let field = Field::new((1..=2).map(|id| dtu(id, 3)).collect()).await;
        let links = field.connect_all().await;
        field.begin().await;
        let wounded = MeterId(12);
        for hour in 0..4 {
            // one, two, three, four times in a row: within the window each time
            field.world.behave(wounded, Manner::PanicsFor(hour + 1));
            field.clock.until(i64::from(hour + 1) * 60).await;
        }
        field.clock.until(242).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(235));
        assert_actual(&ends, |_| true);
        // on time: nobody else waited for it
        assert!(slowest(&ends, |slot| slot.0 != wounded) < TimeDelta::seconds(33));
        assert!(
            slowest(&ends, |slot| slot.0 == wounded) > TimeDelta::seconds(33),
            "nothing was injected"
        );
        // each death is one poll more
        let polls = |meter| {
            links[&DtuId(1)]
                .polls()
                .iter()
                .filter(|(_, asked)| *asked == meter)
                .count()
        };
        assert_eq!(polls(wounded), polls(MeterId(11)) + 1 + 2 + 3 + 4);
    });
}

#[test]
fn a_meter_that_always_panics_rests_and_its_slots_end_as_internal() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 3)]).await;
        let links = field.connect_all().await;
        field.world.behave(MeterId(12), Manner::Panics);
        field.begin().await;
        field.clock.until(120).await;
        // also one that somebody waits for is answered
        let read = field.fleet.read(MeterId(12), Vec::new(), Duration::from_secs(60)).await;
        let internal = ReadFailure::Missed {
            reason: MissReason::Internal,
            detail: None,
        };
        assert_eq!(read, Err(internal));
        field.clock.until(123).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(117));
        assert_actual(&ends, |slot| slot.0 != MeterId(12));
        assert!(slowest(&ends, |slot| slot.0 != MeterId(12)) < TimeDelta::seconds(33));
        let lost = tally(&ends, |slot| slot.0 == MeterId(12));
        assert_eq!(lost.keys().collect::<Vec<_>>(), [&("missing", "internal")], "{lost:?}");
        let deaths = links[&DtuId(1)]
            .polls()
            .iter()
            .filter(|(_, asked)| *asked == MeterId(12))
            .count();
        assert!((24..=24 * 6 + 3).contains(&deaths), "{deaths} deaths in two hours");
        // the bug is gone: so are its misses
        field.world.behave(MeterId(12), PROMPT);
        field.clock.until(180).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(175));
        assert_actual(&ends, |slot| slot.2 > at(124));
    });
}

#[test]
fn what_the_disk_refuses_ends_as_storage_refused_when_it_takes_again() {
    virtually(|| async {
        let field = Field::new((1..=2).map(|id| dtu(id, 2)).collect()).await;
        field.connect_all().await;
        field.world.behave(MeterId(22), Manner::Silent);
        field.begin().await;
        field.clock.until(62).await;
        field.books.refuses.store(true, Ordering::Relaxed);
        let read = field.fleet.read(MeterId(11), Vec::new(), Duration::from_secs(20)).await;
        let text = format!("{read:?}");
        assert!(text.contains("StorageRefused"), "{text}");
        field.clock.until(92).await;
        assert!(field.books.refused.load(Ordering::Relaxed) > 20);
        field.books.refuses.store(false, Ordering::Relaxed);
        field.clock.until(160).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(150));
        let during = |slot: &(MeterId, _, chrono::DateTime<chrono::Utc>)| slot.2 > at(63) && slot.2 < at(90);
        let refused = tally(&ends, |slot| during(slot) && slot.0 != MeterId(22));
        assert_eq!(
            refused.keys().collect::<Vec<_>>(),
            [&("missing", "storage_refused")],
            "{refused:?}"
        );
        // a miss keeps its own reason
        let missed = tally(&ends, |slot| during(slot) && slot.0 == MeterId(22));
        assert!(
            missed
                .keys()
                .all(|(_, reason)| ["timeout", "breaker_open"].contains(reason)),
            "{missed:?}"
        );
        assert_actual(&ends, |slot| !during(slot) && slot.0 != MeterId(22));
    });
}

#[test]
fn a_stop_waits_for_the_save_of_a_meter_that_died_meanwhile() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 1)]).await;
        let links = field.connect_all().await;
        field.books.takes_ms.store(20_000, Ordering::Relaxed);
        field.begin().await;
        while links[&DtuId(1)].polls().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        // its record is on its way to the disk; a read on demand kills it
        field.world.behave(MeterId(11), Manner::PanicsFor(1));
        let read = field.fleet.read(MeterId(11), Vec::new(), Duration::from_secs(20)).await;
        assert!(read.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let told = field.clock.now_ms();
        let idle = field.shards.iter().map(|shard| shard.send(StopSchedules));
        let stopped = tokio::time::timeout(Duration::from_secs(600), futures::future::join_all(idle)).await;
        assert!(stopped.is_ok(), "it waits for ever");
        let took = field.clock.now_ms() - told;
        assert!((14_000..18_000).contains(&took), "{took} ms");
        assert_eq!(field.books.records().len(), 1);
    });
}

/// Gauges belong to the process, so this one has a process of its own.
#[test]
fn nothing_is_left_behind() {
    const ALONE: &str = "POLYPHASE_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "actors::faults::nothing_is_left_behind";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(
            alone.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&alone.stderr)
        );
        return;
    }
    let live = |kind: &str| ACTORS.with_label_values(&[kind]).get();
    virtually(|| async {
        let field = Field::new((1..=3).map(|id| dtu(id, 3)).collect()).await;
        let links = field.connect_all().await;
        field.world.behave(MeterId(12), Manner::PanicsFor(3));
        field.world.behave(MeterId(31), Manner::Panics);
        field.begin().await;
        field.clock.until(60).await;
        assert_eq!((live("shard"), live("registry")), (2, 1));
        assert!((8..=9).contains(&live("meter")), "{}", live("meter"));
        for id in 1..=3 {
            field.directory.0.lock().unwrap().remove(&DtuId(id));
            field.fleet.reload(DtuId(id)).await;
        }
        field.clock.until(70).await;
        assert_eq!(live("meter"), 0);
        for (_, link) in links {
            assert_eq!(link.closed(), Some(EndCause::Disabled));
            assert_eq!(std::sync::Arc::strong_count(&link), 1, "somebody holds a dead link");
        }
        let counts = field.fleet.counts(None).await;
        assert_eq!((counts.dtus, counts.online, counts.meters), (0, 0, 0));
        drop(field);
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    assert_eq!((live("shard"), live("registry"), live("meter")), (0, 0, 0));
}

//! Schedules over hours: every slot ends exactly once, whatever the DTU, the server and the directory do.

use super::books::{assert_actual, slowest, tally};
use super::field::{CLOCK_AHEAD_S, Field, Manner, at, dtu, schedule, virtually};
use chrono::TimeDelta;
use polyphase::actor::messages::{GetOpenSlots, StopSchedules};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, MeterId};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Source, Value};
use polyphase::port::field::EndCause;
use polyphase::port::fleet::Fleet;
use polyphase::port::frames::FrameKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn every_slot_of_every_meter_is_read_once_and_in_time() {
    virtually(|| async {
        let field = Field::new((1..=3).map(|id| dtu(id, 3)).collect()).await;
        let links = field.connect_all().await;
        field.begin().await;
        field.clock.until(8 * 60).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(8 * 60 - 5));
        // of 12 and 3 an hour
        assert_eq!(ends.len(), 9 * (95 + 23));
        assert_actual(&ends, |_| true);
        assert!(slowest(&ends, |_| true) < TimeDelta::seconds(33));
        // slots of one instant share a poll
        let polls: usize = links.values().map(|link| link.polls().len()).sum();
        assert!((9 * 95..=9 * 97).contains(&polls), "{polls}");
        for shard in &field.shards {
            let open = shard.send(GetOpenSlots).await.unwrap();
            assert!(open.settled_until >= at(8 * 60 - 11), "{open:?}");
        }
    });
}

#[test]
fn an_offline_dtu_costs_its_own_slots_and_goes_on_when_it_is_back() {
    virtually(|| async {
        let field = Field::new((1..=2).map(|id| dtu(id, 3)).collect()).await;
        let links = field.connect_all().await;
        field.begin().await;
        field.clock.until(61).await;
        field.hang_up(&links[&DtuId(2)], EndCause::PeerClosed);
        field.clock.until(181).await;
        assert!(!field.fleet.live(&[DtuId(2)]).await[0].online);
        let (again, _) = field.connect("SN-2").await;
        field.clock.until(300).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(295));
        assert_actual(&ends, |slot| slot.0.0 < 20 || slot.2 < at(61) || slot.2 > at(181));
        let away = |slot: &(MeterId, _, _)| slot.0.0 > 20 && slot.2 > at(61) && slot.2 < at(179);
        let missed = tally(&ends, away);
        assert_eq!(
            missed.keys().collect::<Vec<_>>(),
            [&("missing", "dtu_offline")],
            "{missed:?}"
        );
        // the newest of each schedule is read late
        let late: Vec<_> = ends.iter().filter(|(_, end)| end.late).map(|(slot, _)| slot).collect();
        assert!(!late.is_empty() && late.len() <= 6, "{late:?}");
        assert!(late.iter().all(|slot| slot.0.0 > 20 && slot.2 > at(149)), "{late:?}");
        assert!(again.polls().len() > 3 * 20);
        assert_eq!(field.history.sessions(DtuId(2)), [Some("peer_closed".into()), None]);
    });
}

#[test]
fn a_start_takes_up_what_the_last_process_left() {
    virtually(|| async {
        let field = Field::new((1..=2).map(|id| dtu(id, 3)).collect()).await;
        let links = field.connect_all().await;
        field.begin().await;
        // slots of minute 100 are due (the clock reads half past) and partly read when it is killed
        field.clock.until(99).await;
        field.hang_up(&links[&DtuId(2)], EndCause::PeerClosed);
        tokio::time::sleep(Duration::from_secs(35)).await;
        for shard in &field.shards {
            // no poll after this; what was not polled has no ending
            shard.do_send(StopSchedules);
        }
        let stopped = field.books.records().len();
        field.clock.until(161).await;
        assert_eq!(field.books.records().len(), stopped, "it has stopped");

        let next = field.restarted().await;
        next.connect_all().await;
        let watermark = at(60);
        let ended = field.books.ended_since(watermark);
        assert!(!ended.is_empty());
        next.begin_behind(watermark, ended).await;
        next.clock.until(240).await;
        let ends = next.books.audit(&next.meters(), &next.world, at(0), at(235));
        assert_actual(&ends, |slot| slot.2 < at(98) || slot.2 > at(161));
        let down = |slot: &(MeterId, _, _)| slot.2 > at(101) && slot.2 < at(158);
        let missed = tally(&ends, down);
        assert_eq!(
            missed.keys().collect::<Vec<_>>(),
            [&("missing", "server_down")],
            "{missed:?}"
        );
        assert!(ends.iter().any(|(_, end)| end.late), "the newest is read late");
    });
}

#[test]
fn a_stop_waits_for_polls_and_saves_under_way() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 2)]).await;
        let links = field.connect_all().await;
        field.world.behave(MeterId(11), Manner::Answers(Duration::from_secs(9)));
        field.books.takes_ms.store(4000, Ordering::Relaxed);
        field.begin().await;
        let link = &links[&DtuId(1)];
        while !link.polls().iter().any(|(_, meter)| *meter == MeterId(11)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let asked = link.polls().len();
        let told = field.clock.now_ms();
        for shard in &field.shards {
            shard.send(StopSchedules).await.unwrap();
        }
        let took = field.clock.now_ms() - told;
        assert!((12_500..14_000).contains(&took), "{took} ms");
        assert!(
            field
                .books
                .readings()
                .iter()
                .any(|reading| reading.meter == MeterId(11))
        );
        let polls = link.polls().len();
        assert!(polls <= asked + 1, "the one that waited for the line at most");
        tokio::time::sleep(Duration::from_secs(1800)).await;
        assert_eq!(link.polls().len(), polls, "no poll after the stop");
    });
}

#[test]
fn a_meter_that_moves_or_is_deleted_leaves_no_slot_open_and_ends_none_twice() {
    virtually(|| async {
        // 1, 2 and 3 share a shard, 4 lives on the other
        let field = Field::new((1..=4).map(|id| dtu(id, 2)).collect()).await;
        field.connect_all().await;
        field.begin().await;
        field.clock.until(94).await;
        let moved = field
            .directory
            .0
            .lock()
            .unwrap()
            .get_mut(&DtuId(1))
            .unwrap()
            .meters
            .remove(1);
        field.fleet.reload(DtuId(1)).await;
        // the new place is learned of late: a slot falls due when it is nobody's
        tokio::time::sleep(Duration::from_secs(45)).await;
        for id in 2..=4 {
            let meter = moved.clone();
            field.edit(DtuId(id), |dtu| dtu.meters.push(meter)).await;
            field.clock.until(94 + i64::from(id) * 20).await;
            if id < 4 {
                field.edit(DtuId(id), |dtu| drop(dtu.meters.pop())).await;
            }
        }
        field.clock.until(240).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(235));
        // none is lost on the way
        assert_actual(&ends, |_| true);

        // one is deleted while its slots wait for the line
        let gone = field
            .meters()
            .into_iter()
            .find(|meter| meter.id == MeterId(22))
            .unwrap();
        field.world.behave(MeterId(22), Manner::Silent);
        field.clock.until(244).await;
        tokio::time::sleep(Duration::from_secs(31)).await;
        field
            .edit(DtuId(2), |dtu| dtu.meters.retain(|meter| meter.id != MeterId(22)))
            .await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let ends = field.books.audit(&[gone], &field.world, at(0), at(245));
        let last: Vec<_> = ends.iter().filter(|(slot, _)| slot.2 > at(240)).collect();
        assert!(
            last.iter().all(|(_, end)| end.reason.is_some()) && !last.is_empty(),
            "{last:?}"
        );
        let later = field
            .books
            .ended_since(at(245))
            .into_iter()
            .filter(|slot| slot.meter == MeterId(22));
        assert_eq!(later.count(), 0);
        for shard in &field.shards {
            assert_eq!(shard.send(GetOpenSlots).await.unwrap().oldest, None);
        }
    });
}

#[test]
fn a_refused_block_is_asked_once_and_the_clock_is_looked_at_once_a_day() {
    virtually(|| async {
        let mut record = dtu(1, 1);
        let wanted = vec![
            Quantity::ActiveEnergyImport,
            Quantity::ActiveEnergyImportT1,
            Quantity::VoltageL1,
        ];
        record.meters[0].protocol = "dlt645-2007".into();
        record.meters[0].model = "dlt645_2007_single_phase".into();
        record.meters[0].address = "112233445566".into();
        record.meters[0].schedules = vec![schedule(1, at(0), "20 * * * *", 300, wanted.clone())];
        let field = Field::new(vec![record]).await;
        let link = field.connect_all().await.remove(&DtuId(1)).unwrap();
        field.begin().await;
        field.clock.until(26 * 60).await;
        let readings = field.books.readings();
        assert_eq!(readings.len(), 26);
        assert_eq!(link.refused.load(Ordering::Relaxed), 1, "from then on item by item");
        let drifts: Vec<_> = readings
            .iter()
            .enumerate()
            .filter_map(|(place, reading)| {
                let drift = Measurand::Vendor("clock_drift_s".into());
                let item = reading.items.iter().find(|item| item.measurand == drift)?;
                Some((place, item.value))
            })
            .collect();
        let due = [CLOCK_AHEAD_S - 1, CLOCK_AHEAD_S].map(|seconds| Value::Decimal(seconds.into()));
        let ahead = |value: &Value| due.contains(value);
        assert_eq!(drifts.len(), 2, "{drifts:?}");
        assert!(drifts.iter().all(|(_, value)| ahead(value)), "{drifts:?}");
        // twenty hours behind the first look the next one is a moment too early
        assert_eq!((drifts[0].0, drifts[1].0), (0, 21));
        for reading in &readings {
            assert_eq!(reading.meter_time, None, "values are of when they were read");
            for quantity in &wanted {
                assert!(
                    reading
                        .items
                        .iter()
                        .any(|item| item.measurand == Measurand::Standard(*quantity)),
                    "{quantity:?}"
                );
            }
        }
        let line = field.fleet.line(DtuId(1)).await.unwrap();
        let meter = &line.meters[0];
        assert!(
            !meter.breaker_open && !meter.timeout_learned && meter.share > 0.0,
            "{meter:?}"
        );
        assert_eq!(meter.turnaround, Some(Duration::from_millis(150)));
        assert!(meter.clock.is_some() && meter.visit.is_some_and(|visit| visit > Duration::from_secs(1)));
        assert!(line.plan.fits() && line.plan.slots == 24, "{:?}", line.plan);
        assert_eq!(field.fleet.line(DtuId(99)).await, None);
    });
}

#[test]
fn a_read_on_demand_closes_the_breaker_of_a_meter_that_is_back() {
    virtually(|| async {
        let field = Field::new(vec![dtu(1, 2)]).await;
        let link = field.connect_all().await.remove(&DtuId(1)).unwrap();
        field.world.behave(MeterId(11), Manner::Silent);
        field.begin().await;
        field.clock.until(150).await;
        let silent = field.books.audit(&field.meters(), &field.world, at(0), at(145));
        let missed = tally(&silent, |slot| slot.0 == MeterId(11));
        assert!(missed.contains_key(&("missing", "timeout")) && missed.contains_key(&("missing", "breaker_open")));
        assert_actual(&silent, |slot| slot.0 == MeterId(12));
        // the silence is evidence until the breaker opens; after it, it would be the same every time
        let records = field.books.records();
        let evidence: Vec<_> = records.iter().flat_map(|(_, record)| &record.evidence).collect();
        assert!((1..=3).contains(&evidence.len()), "{evidence:?}");
        for kept in &evidence {
            assert_eq!((kept.frame.dtu, kept.frame.meter), (Some(DtuId(1)), Some(MeterId(11))));
            assert_eq!(kept.frame.kind, FrameKind::Request);
        }

        // a probe that fails just now: the next one would be a quarter of an hour away
        let probes = || link.polls().iter().filter(|(_, meter)| *meter == MeterId(11)).count();
        let before = probes();
        while probes() == before {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let back = field.clock.now();
        field.world.behave(MeterId(11), super::field::PROMPT);
        let read = field
            .fleet
            .read(MeterId(11), Vec::new(), Duration::from_secs(20))
            .await
            .unwrap();
        field.world.check(&read);
        assert_eq!(read.source, Source::OnDemand);
        assert!(field.books.readings().contains(&read), "durable before it is shown");
        field.clock.until(200).await;
        let ends = field.books.audit(&field.meters(), &field.world, at(0), at(195));
        assert_actual(&ends, |slot| slot.2 > back);
        let nobody = field.fleet.read(MeterId(99), Vec::new(), Duration::from_secs(20)).await;
        assert!(nobody.is_err());
    });
}

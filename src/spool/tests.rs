//! The spool as its callers see it, on the model disk and on the real one.

use super::*;
use crate::base::clock::{Clock, ManualClock, SystemClock};
use crate::base::ids::{AccountId, FrameRange, MeterId, PollId};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
use crate::port::disk_model::{Fault, ModelDisk};
use crate::port::ledger::{PollRecord, ReadingSink, SinkError, SpoolDrain};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) const DIR: &str = "/spool";

/// A record that carries `number` as its poll.
pub(super) fn record(number: i64) -> PollRecord {
    let at = DateTime::from_timestamp(1_700_000_000 + number, 123_456_789).unwrap();
    let quantities = &Quantity::ALL[..3];
    let items = quantities.iter().map(|quantity| Item {
        measurand: Measurand::Standard(*quantity),
        value: Value::F32(number as f32 + 0.1),
        quality: Quality::Measured,
    });
    PollRecord {
        reading: Some(Reading {
            account: AccountId(1),
            meter: MeterId(7),
            ts: at,
            source: Source::Scheduled,
            read_at: at,
            meter_time: None,
            poll: PollId(number),
            frames: FrameRange::EMPTY,
            items: items.collect(),
        }),
        ..PollRecord::default()
    }
}

pub(super) fn number(record: &PollRecord) -> i64 {
    record.reading.as_ref().unwrap().poll.0
}

pub(super) fn small() -> SpoolSettings {
    SpoolSettings {
        segment_bytes: 1024,
        capacity_bytes: 64 << 10,
        reserve_bytes: 4096,
        ..SpoolSettings::default()
    }
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(
        DateTime::<Utc>::from_timestamp(1_750_000_000, 0).unwrap(),
    ))
}

pub(super) fn open(disk: &ModelDisk, settings: SpoolSettings) -> (SpoolHandle, Drain) {
    open_at(disk, settings, clock())
}

pub(super) fn open_at(disk: &ModelDisk, settings: SpoolSettings, clock: Arc<dyn Clock>) -> (SpoolHandle, Drain) {
    Spool::open(Arc::new(disk.clone()), Path::new(DIR), settings, clock).expect("the spool always opens")
}

/// What the drain has, without waiting.
pub(super) async fn ready(
    drain: &mut Drain,
    records_max: usize,
) -> Option<(Vec<PollRecord>, crate::port::ledger::SpoolPosition)> {
    let next = tokio::time::timeout(Duration::from_secs(2), drain.next(records_max));
    next.await.ok().and_then(|batch| batch.unwrap())
}

/// Closes the spool and reads all that is left.
pub(super) async fn rest(handle: &SpoolHandle, drain: &mut Drain) -> Vec<i64> {
    handle.close().await;
    let mut out = Vec::new();
    while let Some((records, _)) = drain.next(3).await.unwrap() {
        out.extend(records.iter().map(number));
    }
    out
}

#[tokio::test]
async fn records_come_out_as_they_went_in_and_go_when_committed() {
    let disk = ModelDisk::new();
    let (handle, mut drain) = open(&disk, small());
    for n in 1..=20 {
        assert_eq!(handle.append(record(n)).await.unwrap().sequence(), n as u64);
    }
    assert_eq!(drain.backlog(), 20);
    let (records, position) = drain.next(14).await.unwrap().unwrap();
    assert_eq!(records, (1..=14).map(record).collect::<Vec<_>>());
    let segments_before = handle.stats().bytes;
    drain.committed(position).await.unwrap();
    assert_eq!(drain.backlog(), 6);
    assert!(handle.stats().bytes < segments_before, "covered segments are deleted");
    assert_eq!(rest(&handle, &mut drain).await, (15..=20).collect::<Vec<_>>());
    assert_eq!(handle.append(record(21)).await, Err(SinkError::Closed));
    assert!(drain.next(1).await.unwrap().is_none());
    assert_eq!(handle.state(), SpoolState::Closed);
    // nothing but the reading of it was done to 15..=20: they come again
    drop((handle, drain));
    let (handle, mut drain) = open(&disk.reboot(1), small());
    assert_eq!(drain.backlog(), 6);
    assert_eq!(rest(&handle, &mut drain).await, (15..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_drain_waits_and_wakes() {
    let disk = ModelDisk::new();
    let (handle, mut drain) = open(&disk, small());
    assert!(ready(&mut drain, 5).await.is_none());
    let (_, batch) = tokio::join!(handle.append(record(1)), drain.next(5));
    assert_eq!(batch.unwrap().unwrap().0, [record(1)]);
}

#[tokio::test]
async fn two_servers_cannot_share_a_spool() {
    let disk = ModelDisk::new();
    let first = open(&disk, small());
    let again = Spool::open(Arc::new(disk.clone()), Path::new(DIR), small(), clock());
    assert!(matches!(again, Err(SpoolError::Locked(_))));
    first.0.close().await;
    drop(first);
    for _ in 0..200 {
        if Spool::open(Arc::new(disk.clone()), Path::new(DIR), small(), clock()).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the lock outlives the spool");
}

#[tokio::test]
async fn a_full_spool_refuses_and_takes_again_when_drained() {
    let disk = ModelDisk::new();
    let settings = SpoolSettings {
        capacity_bytes: 4096,
        ..small()
    };
    let (handle, mut drain) = open(&disk, settings);
    let (mut taken, mut states) = (0, Vec::new());
    let refusal = loop {
        match handle.append(record(taken + 1)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        if states.last() != Some(&handle.state()) {
            states.push(handle.state());
        }
    };
    assert!(matches!(refusal, SinkError::Full(_)), "{refusal:?}");
    assert_eq!(states[..2], [SpoolState::Normal, SpoolState::High]);
    assert_eq!(handle.state(), SpoolState::Full);
    let (records, position) = drain.next(1000).await.unwrap().unwrap();
    assert_eq!(records.len() as i64, taken);
    drain.committed(position).await.unwrap();
    assert!(handle.state() < SpoolState::Full);
    handle.append(record(99)).await.unwrap();
}

/// Found by the storm script: want of a descriptor was taken for a failed disk, and ended the server.
#[tokio::test]
async fn want_of_a_descriptor_refuses_and_passes() {
    let (disk, clock) = (ModelDisk::new(), clock());
    let (spool, mut drain) = open_at(&disk, small(), clock.clone());
    let mut kept = Vec::new();
    for turn in 0..40 {
        disk.set_starved((10..25).contains(&turn));
        match spool.append(record(turn)).await {
            Ok(_) => kept.push(turn),
            Err(SinkError::Full(why)) => assert!(why.contains("descriptor"), "{why}"),
            Err(error) => panic!("{error}"),
        }
        clock.advance(Duration::from_millis(600));
    }
    assert!(kept.len() < 35 && kept.contains(&39), "{kept:?}");
    assert_eq!(spool.state(), SpoolState::Normal);
    spool.close().await;
    let mut drained = Vec::new();
    while let Some((records, position)) = drain.next(7).await.unwrap() {
        drained.extend(records.iter().map(number));
        drain.committed(position).await.unwrap();
    }
    assert_eq!(drained, kept, "what was acknowledged, in order");
}

#[tokio::test]
async fn a_full_disk_gives_up_the_reserve_so_that_the_cursor_can_move() {
    let disk = ModelDisk::new();
    disk.set_capacity(12 << 10);
    let time = clock();
    let (handle, mut drain) = open_at(&disk, small(), time.clone());
    assert!(disk.contents(&Path::new(DIR).join("reserve")).is_some());
    let mut taken = 0;
    while handle.append(record(taken + 1)).await.is_ok() {
        taken += 1;
    }
    assert_eq!(handle.state(), SpoolState::Full);
    assert!(disk.contents(&Path::new(DIR).join("reserve")).is_none());
    // the space of the reserve is not for appends
    time.advance(Duration::from_secs(2));
    assert!(matches!(handle.append(record(0)).await, Err(SinkError::Full(_))));
    let (records, position) = drain.next(1000).await.unwrap().unwrap();
    assert_eq!(
        records.iter().map(number).collect::<Vec<_>>(),
        (1..=taken).collect::<Vec<_>>()
    );
    drain.committed(position).await.unwrap();
    time.advance(Duration::from_secs(2));
    handle.append(record(100)).await.unwrap();
    assert!(disk.contents(&Path::new(DIR).join("reserve")).is_some(), "made again");
    assert_eq!(handle.state(), SpoolState::Normal);
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_acknowledged_any_more() {
    let disk = ModelDisk::new();
    let (handle, mut drain) = open(&disk, small());
    handle.append(record(1)).await.unwrap();
    // write, then sync
    disk.inject(Fault::Sync {
        at: disk.operations() + 1,
    });
    let failed = handle.append(record(2)).await;
    assert!(matches!(failed, Err(SinkError::Failed(_))), "{failed:?}");
    let operations = disk.operations();
    for _ in 0..3 {
        assert_eq!(handle.append(record(3)).await, failed);
    }
    assert_eq!(disk.operations(), operations, "no fsync is tried again");
    assert_eq!(handle.state(), SpoolState::Failed);
    // what was durable goes on to the database
    assert_eq!(drain.next(9).await.unwrap().unwrap().0, [record(1)]);
}

#[tokio::test]
async fn a_rotten_record_is_stepped_over_kept_and_counted() {
    let disk = ModelDisk::new();
    let (handle, _) = open(&disk, small());
    for n in 1..=4 {
        handle.append(record(n)).await.unwrap();
    }
    handle.close().await;
    let disk = disk.reboot(1);
    let path = Path::new(DIR).join("00000000000000000001.seg");
    let mut bytes = disk.contents(&path).unwrap();
    let size = (bytes.len() - 64) / 4;
    bytes[64 + size + size / 2] ^= 0xFF;
    disk.plant(&path, bytes.clone());
    let (handle, mut drain) = open(&disk, small());
    assert_eq!(rest(&handle, &mut drain).await, [1, 3, 4]);
    let stats = handle.stats();
    assert_eq!(
        (stats.bad_bytes, stats.lost_records, stats.torn_bytes),
        (size as u64, 1, 0)
    );
    let kept = format!("00000000000000000001-{:012}.bad", 64 + size);
    assert_eq!(
        disk.contents(&Path::new(DIR).join(kept)).unwrap(),
        &bytes[64 + size..64 + 2 * size]
    );
}

#[tokio::test]
async fn a_rotten_segment_header_costs_no_record() {
    let disk = ModelDisk::new();
    let (handle, mut drain) = open(&disk, small());
    for n in 1..=3 {
        handle.append(record(n)).await.unwrap();
    }
    let (_, position) = drain.next(1).await.unwrap().unwrap();
    drain.committed(position).await.unwrap();
    handle.close().await;
    let disk = disk.reboot(1);
    let path = Path::new(DIR).join("00000000000000000001.seg");
    let mut bytes = disk.contents(&path).unwrap();
    bytes[..64].fill(0xEE);
    disk.plant(&path, bytes);
    let (handle, mut drain) = open(&disk, small());
    assert_eq!(rest(&handle, &mut drain).await, [2, 3]);
}

#[tokio::test]
async fn a_torn_tail_is_cut_kept_and_counted() {
    let disk = ModelDisk::new();
    let (handle, _) = open(&disk, small());
    for n in 1..=3 {
        handle.append(record(n)).await.unwrap();
    }
    handle.close().await;
    let disk = disk.reboot(1);
    let path = Path::new(DIR).join("00000000000000000001.seg");
    let whole = disk.contents(&path).unwrap();
    disk.plant(&path, whole[..whole.len() - 10].to_vec());
    let (handle, mut drain) = open(&disk, small());
    let size = (whole.len() - 64) / 3;
    assert_eq!(handle.stats().torn_bytes, size as u64 - 10);
    assert_eq!(disk.contents(&path).unwrap().len(), 64 + 2 * size);
    let kept = format!("00000000000000000001-{:012}.torn", 64 + 2 * size);
    assert_eq!(disk.contents(&Path::new(DIR).join(kept)).unwrap().len(), size - 10);
    handle.append(record(4)).await.unwrap();
    assert_eq!(rest(&handle, &mut drain).await, [1, 2, 4]);
    assert_eq!(handle.stats().lost_records, 0, "it was never acknowledged");
}

#[tokio::test]
async fn files_of_another_version_are_refused() {
    let disk = ModelDisk::new();
    let (handle, _) = open(&disk, small());
    handle.append(record(1)).await.unwrap();
    handle.close().await;
    let disk = disk.reboot(1);
    let path = Path::new(DIR).join("00000000000000000001.seg");
    let mut bytes = disk.contents(&path).unwrap();
    bytes[7] = 9;
    let crc = super::record::plain_crc(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    disk.plant(&path, bytes);
    let opened = Spool::open(Arc::new(disk), Path::new(DIR), small(), clock());
    assert!(
        matches!(opened, Err(SpoolError::Version { version: 9, .. })),
        "{opened:?}"
    );
}

#[tokio::test]
async fn too_large_a_record_is_refused_alone() {
    let (handle, _drain) = open(&ModelDisk::new(), small());
    let mut large = record(1);
    large.reading.as_mut().unwrap().items[0].measurand = Measurand::Vendor("x".repeat(2 << 20).into());
    assert!(matches!(handle.append(large).await, Err(SinkError::TooLarge { .. })));
    handle.append(record(2)).await.unwrap();
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let disk = ModelDisk::new();
    let (handle, mut drain) = open(&disk, small());
    for n in 1..=5 {
        handle.append(record(n)).await.unwrap();
    }
    let mut got = Vec::new();
    let mut dropped = 0;
    while dropped < 5 {
        // polled once, then dropped with the question under way, unless the thread was faster
        match drain.next(1).now_or_never() {
            None => dropped += 1,
            Some(batch) => got.extend(batch.unwrap().unwrap().0.iter().map(number)),
        }
    }
    got.extend(rest(&handle, &mut drain).await);
    assert_eq!(got, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let settings = SpoolSettings {
        segment_bytes: 10,
        ..small()
    };
    let opened = Spool::open(Arc::new(ModelDisk::new()), Path::new(DIR), settings, clock());
    assert!(opened.unwrap_err().to_string().contains("segment_bytes is 10"));
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_a_moment_shares_an_fsync_and_what_comes_alone_waits_for_nothing() {
    let mut workers = Vec::new();
    let place = |worker: Worker| {
        workers.push(tokio::spawn(worker.run()));
        Ok(())
    };
    let disk = Arc::new(ModelDisk::new());
    let (handle, _drain) = Spool::open_on(disk, Path::new(DIR), SpoolSettings::default(), clock(), place).unwrap();
    let began = tokio::time::Instant::now();
    handle.append(record(1)).await.unwrap();
    assert_eq!((began.elapsed(), handle.stats().groups), (Duration::ZERO, 1));
    // the injected clock stands still: all of these come within a moment of the first
    for n in 2..=50 {
        let handle = handle.clone();
        tokio::spawn(async move { handle.append(record(n)).await });
        tokio::task::yield_now().await;
    }
    handle.append(record(51)).await.unwrap();
    assert_eq!(handle.stats().groups, 2);
    // timers have the grain of a millisecond
    assert!((5..=6).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn it_runs_on_the_real_disk_and_groups_what_waits() {
    let home = tempfile::tempdir().unwrap();
    let settings = SpoolSettings {
        group_bytes: 16 << 10,
        ..SpoolSettings::default()
    };
    let mut workers = Vec::new();
    let place = |worker| {
        workers.push(worker);
        Ok(())
    };
    let (handle, mut drain) =
        Spool::open_on(Arc::new(OsDisk), home.path(), settings, Arc::new(SystemClock), place).unwrap();
    // all of them wait before the writer begins, so how they fall into groups is no matter of the disk's speed
    let count = 2_000;
    let appends = futures::future::join_all((1..=count).map(|n| handle.append(record(n))));
    let mut appends = std::pin::pin!(tokio::task::unconstrained(appends));
    assert!(futures::poll!(&mut appends).is_pending());
    for worker in workers {
        std::thread::spawn(move || worker.block());
    }
    let receipts = appends.await;
    let bodies = (1..=count).map(|n| codec::encode_poll(&record(n)).len());
    let (full, rest_bytes) = bodies.fold((0, 0), |(groups, bytes), body| match bytes + body {
        bytes if bytes < 16 << 10 => (groups, bytes),
        _ => (groups + 1, 0),
    });
    assert_eq!(handle.stats().groups, full + u64::from(rest_bytes > 0));
    let mut order: Vec<(u64, i64)> = receipts
        .into_iter()
        .zip(1..)
        .map(|(receipt, n)| (receipt.unwrap().sequence(), n))
        .collect();
    order.sort_unstable();
    let came = rest(&handle, &mut drain).await;
    assert!(
        came.iter().eq(order.iter().map(|(_, n)| n)),
        "in the order of the receipts"
    );
}

#[tokio::test]
async fn a_half_written_group_leaves_no_remnant() {
    for seed in 0..20u64 {
        let disk = ModelDisk::new();
        let time = clock();
        let (handle, mut drain) = open_at(&disk, small(), time.clone());
        for n in 1..=1 + i64::try_from(seed % 3).unwrap() {
            handle.append(record(n)).await.unwrap();
        }
        disk.inject(Fault::Full {
            from: disk.operations(),
            count: 1,
        });
        let mut large = record(50);
        large.reading.as_mut().unwrap().items[0].measurand = Measurand::Vendor("x".repeat(500).into());
        assert!(matches!(handle.append(large).await, Err(SinkError::Full(_))));
        let live = disk.contents(&Path::new(DIR).join("00000000000000000001.seg")).unwrap();
        assert_eq!(live.len() as u64, handle.stats().bytes);
        time.advance(Duration::from_secs(2));
        handle.append(record(60)).await.unwrap();
        let came = rest(&handle, &mut drain).await;
        assert!(came.ends_with(&[60]) && !came.contains(&50), "{came:?}");
    }
}

#[tokio::test]
async fn an_unreadable_sector_stops_neither_start_nor_drain() {
    for spoilt in [0..64, 300..301, 200..400, 900..1100, 1150..1300] {
        let disk = ModelDisk::new();
        let settings = SpoolSettings {
            segment_bytes: 4096,
            ..small()
        };
        let (handle, mut drain) = open(&disk, settings);
        for n in 1..=20 {
            handle.append(record(n)).await.unwrap();
        }
        let (_, position) = drain.next(1).await.unwrap().unwrap();
        drain.committed(position).await.unwrap();
        handle.close().await;
        let disk = disk.reboot(1);
        let path = Path::new(DIR).join("00000000000000000001.seg");
        let size = (disk.contents(&path).unwrap().len() - 64) / 20;
        disk.spoil(&path, spoilt.clone());
        let (handle, mut drain) = open(&disk, settings);
        handle.append(record(21)).await.unwrap();
        handle.close().await;
        let (mut came, mut failures) = (Vec::new(), 0);
        loop {
            match drain.next(100).await {
                Ok(Some((records, _))) => came.extend(records.iter().map(number)),
                Ok(None) => break,
                Err(error) => {
                    assert!(matches!(error, SinkError::Failed(_)));
                    failures += 1;
                }
            }
        }
        assert_eq!(failures, 3, "{spoilt:?}: it may have been a passing fault");
        // a sector lost costs the records that touch it, counted from the place where reading begins
        let lost = (2..=21).filter(|n| !came.contains(n)).count();
        assert!(lost <= 2 * 512 / size + 2, "{spoilt:?}: {came:?}");
        assert!(came.is_sorted() && came.ends_with(&[20, 21]), "{spoilt:?}: {came:?}");
        if spoilt.start >= 200 {
            assert_eq!(handle.stats().lost_records, lost as u64, "{spoilt:?}");
            assert!(handle.stats().bad_bytes > 0);
        }
    }
}

#[tokio::test]
async fn little_space_on_the_disk_is_critical() {
    let disk = ModelDisk::new();
    disk.set_capacity(5632);
    let (handle, _drain) = open(&disk, small());
    handle.append(record(1)).await.unwrap();
    assert_eq!(handle.state(), SpoolState::Critical);
}

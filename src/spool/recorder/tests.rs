//! Ids, look-ups, bounds and restarts of the recorder, on the model disk.

use super::*;
use crate::base::clock::ManualClock;
use crate::base::ids::ConnectionId;
use crate::port::disk_model::ModelDisk;
use crate::port::frames::FrameKind;
use chrono::{DateTime, Utc};

const DIR: &str = "/frames";
const START_S: i64 = 1_750_000_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DateTime::<Utc>::from_timestamp(START_S, 0).unwrap()))
}

fn frame(dtu: Option<i32>, bytes: &[u8]) -> RawFrame {
    RawFrame {
        at: DateTime::from_timestamp(START_S, 5).unwrap(),
        dtu: dtu.map(DtuId),
        connection: ConnectionId(1),
        meter: None,
        poll: None,
        kind: FrameKind::Answer,
        protocol: "modbus-rtu".into(),
        bytes: bytes.into(),
        turn: None,
    }
}

fn small() -> RecorderSettings {
    RecorderSettings {
        ring_bytes: 64 << 10,
        segment_bytes: 4096,
        ..RecorderSettings::default()
    }
}

fn open(disk: &ModelDisk, settings: RecorderSettings, clock: Arc<dyn Clock>) -> Recorder {
    Recorder::open(Arc::new(disk.clone()), Path::new(DIR), settings, clock).unwrap()
}

/// Records `count` frames of 7 DTUs in turn, one by one; the byte is the number.
fn fill(recorder: &Recorder, count: u16) -> Vec<FrameId> {
    let ids = (0..count)
        .map(|n| {
            recorder
                .record(vec![frame(Some(i32::from(n % 7)), &n.to_be_bytes())])
                .first
        })
        .collect();
    recorder.flush();
    ids
}

fn numbers(frames: &[RecordedFrame]) -> Vec<u16> {
    frames
        .iter()
        .map(|frame| u16::from_be_bytes(frame.frame.bytes.as_slice().try_into().unwrap()))
        .collect()
}

#[test]
fn frames_get_consecutive_ids_at_once_and_are_found_by_them() {
    let (disk, time) = (ModelDisk::new(), clock());
    let recorder = open(&disk, small(), time);
    let first = recorder.record(vec![frame(Some(1), b"a"), frame(None, b"b"), frame(Some(1), b"c")]);
    let second = recorder.record(vec![frame(Some(2), b"d")]);
    assert_eq!((first.first.0, first.count), (START_S << 21, 3));
    assert_eq!((second.first.0, second.count), ((START_S << 21) + 3, 1));
    assert!(second.first.0 < 1 << 53, "exact in JSON");
    assert_eq!(recorder.record(Vec::new()), FrameRange::EMPTY);
    recorder.flush();
    for (id, expected) in first.ids().chain(second.ids()).zip(["a", "b", "c", "d"]) {
        let found = recorder.get(id).unwrap().unwrap();
        assert_eq!((found.id, found.frame.bytes.as_slice()), (id, expected.as_bytes()));
    }
    for missing in [-1, 0, second.first.0 + 1] {
        assert_eq!(recorder.get(FrameId(missing)).unwrap(), None);
    }
}

/// What one visit left may be more than goes to the disk at once, or than there is room for.
#[test]
fn a_lot_is_written_in_parts_and_dropped_from_where_there_is_no_room() {
    let settings = RecorderSettings {
        queue_frames: 400,
        ..small()
    };
    let recorder = open(&ModelDisk::new(), settings, clock());
    let lot = (0..300u16).map(|n| frame(Some(1), &n.to_be_bytes())).collect();
    let first = recorder.record(lot);
    recorder.flush();
    let newest_first: Vec<u16> = (0..300).rev().collect();
    assert_eq!(numbers(&recorder.recent(DtuId(1), None, 1000).unwrap()), newest_first);
    let segments = recorder.owner.0.index.lock().unwrap().segments.len();
    assert!(
        segments > 2,
        "{segments} segments: none is much longer than it should be"
    );
    // more than the queue holds: the ids are given, the first frames are kept
    let lot = (0..500u16).map(|n| frame(Some(2), &n.to_be_bytes())).collect();
    let second = recorder.record(lot);
    assert_eq!((second.first.0, second.count), (first.first.0 + 300, 500));
    recorder.flush();
    let kept = recorder.recent(DtuId(2), None, 1000).unwrap();
    assert_eq!(numbers(&kept), (0..400).rev().collect::<Vec<u16>>());
    assert_eq!(kept[0].id.0, second.first.0 + 399);
    let next = recorder.record(vec![frame(Some(3), b"zz")]);
    assert_eq!(next.first.0, second.first.0 + 500);
}

#[test]
fn what_is_being_written_is_waited_for() {
    let recorder = open(&ModelDisk::new(), small(), clock());
    for n in 0..50u8 {
        let range = recorder.record(vec![frame(Some(1), &[n])]);
        let found = recorder.get(range.first).unwrap().unwrap();
        assert_eq!(found.frame.bytes[..], [n]);
        let newest = recorder.recent(DtuId(1), None, 1).unwrap();
        assert_eq!(newest, [found]);
    }
    recorder.close();
    assert_eq!(
        recorder.recent(DtuId(1), None, 100).unwrap().len(),
        50,
        "nobody waits for a thread that has ended"
    );
}

#[test]
fn recent_is_newest_first_by_dtu_and_pages_back() {
    let recorder = open(&ModelDisk::new(), small(), clock());
    let ids = fill(&recorder, 300);
    let of_three: Vec<u16> = (0..300u16).rev().filter(|n| n % 7 == 3).collect();
    let all = recorder.recent(DtuId(3), None, 1000).unwrap();
    assert_eq!(numbers(&all), of_three, "over several segments");
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = recorder.recent(DtuId(3), before, 10).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        paged.extend(numbers(&page));
    }
    assert_eq!(paged, of_three);
    assert_eq!(recorder.recent(DtuId(99), None, 10).unwrap(), []);
    assert_eq!(recorder.recent(DtuId(3), Some(ids[0]), 10).unwrap(), []);
}

#[test]
fn a_restart_finds_everything_and_never_reuses_an_id() {
    let disk = ModelDisk::new();
    let recorder = open(&disk, small(), clock());
    let ids = fill(&recorder, 300);
    let before = recorder.recent(DtuId(5), None, 1000).unwrap();
    recorder.close();
    drop(recorder);
    // the clock has gone back an hour
    let earlier = clock();
    earlier.step_to(DateTime::from_timestamp(START_S - 3600, 0).unwrap());
    for crash in [false, true] {
        let disk = disk.reboot_copy(1);
        if crash {
            // without saved indexes everything is read again
            for entry in disk.list(Path::new(DIR)).unwrap() {
                if entry.name.ends_with(".idx") {
                    disk.remove(&Path::new(DIR).join(entry.name)).unwrap();
                }
            }
        }
        let recorder = open(&disk, small(), earlier.clone());
        assert_eq!(recorder.recent(DtuId(5), None, 1000).unwrap(), before);
        assert_eq!(
            recorder.get(ids[17]).unwrap().unwrap().frame.bytes[..],
            17u16.to_be_bytes()
        );
        let next = recorder.record(vec![frame(Some(5), b"zz")]);
        assert_eq!(next.first.0, ids[299].0 + 1);
        recorder.flush();
        assert_eq!(recorder.recent(DtuId(5), None, 2).unwrap()[1], before[0]);
    }
}

#[test]
fn the_ring_is_bounded_by_size_and_forgets_the_oldest() {
    let disk = ModelDisk::new();
    let settings = RecorderSettings {
        ring_bytes: 12 << 10,
        ..small()
    };
    let recorder = open(&disk, settings, clock());
    let lonely = recorder.record(vec![frame(Some(77), b"x")]).first;
    let ids = fill(&recorder, 1000);
    let used: u64 = disk.list(Path::new(DIR)).unwrap().iter().map(|entry| entry.len).sum();
    assert!(used < 24 << 10, "{used} bytes with the indexes");
    assert_eq!(recorder.get(lonely).unwrap(), None);
    assert_eq!(recorder.recent(DtuId(77), None, 5).unwrap(), []);
    assert!(recorder.get(ids[999]).unwrap().is_some());
    let left = numbers(&recorder.recent(DtuId(6), None, 1000).unwrap());
    assert!(left.len() > 5 && left.is_sorted_by(|a, b| *a == *b + 7), "{left:?}");
}

#[test]
fn frames_go_when_they_are_too_old() {
    let (disk, time) = (ModelDisk::new(), clock());
    let settings = RecorderSettings {
        age: Duration::from_secs(8000),
        ..small()
    };
    let recorder = open(&disk, settings, time.clone());
    let old = fill(&recorder, 10)[0];
    time.advance(Duration::from_secs(2000));
    let newer = fill(&recorder, 10)[0];
    assert!(recorder.get(old).unwrap().is_some());
    time.advance(Duration::from_secs(7000));
    fill(&recorder, 10);
    time.advance(Duration::from_secs(1500));
    fill(&recorder, 1);
    assert_eq!(recorder.get(old).unwrap(), None);
    assert_eq!(recorder.get(newer).unwrap(), None, "sealed and aged");
}

#[test]
fn a_full_queue_drops_and_the_ids_are_absent() {
    let settings = RecorderSettings {
        queue_frames: 3,
        ..small()
    };
    let recorder = open(&ModelDisk::new(), settings, clock());
    let range = recorder.record((0..10u16).map(|n| frame(Some(1), &n.to_be_bytes())).collect());
    assert_eq!(range.count, 10);
    recorder.flush();
    let found: Vec<bool> = range.ids().map(|id| recorder.get(id).unwrap().is_some()).collect();
    assert_eq!(found.iter().filter(|found| **found).count(), 3);
    assert_eq!(found[..3], [true; 3]);
    assert_eq!(recorder.record(vec![frame(Some(1), b"x")]).first.0, range.first.0 + 10);
}

#[test]
fn a_full_disk_costs_the_oldest_frames_not_the_newest() {
    let disk = ModelDisk::new();
    disk.set_capacity(30 << 10);
    let recorder = open(&disk, small(), clock());
    let ids = fill(&recorder, 1000);
    assert_eq!(recorder.get(ids[0]).unwrap(), None);
    assert!(recorder.get(ids[999]).unwrap().is_some());
}

#[test]
fn a_crash_or_damage_never_stops_it_and_never_shows_wrong_frames() {
    let disk = ModelDisk::new();
    let recorder = open(&disk, small(), clock());
    let ids = fill(&recorder, 200);
    for seed in 0..30 {
        let disk = disk.reboot_copy(seed);
        for (n, entry) in disk.list(Path::new(DIR)).unwrap().into_iter().enumerate() {
            let path = Path::new(DIR).join(&entry.name);
            let mut bytes = disk.contents(&path).unwrap();
            if entry.name.ends_with(".seg") && n % 3 == seed as usize % 3 && !bytes.is_empty() {
                let at = (seed as usize * 131) % bytes.len();
                bytes[at] ^= 0x55;
                disk.plant(&path, bytes);
            }
        }
        let again = open(&disk, small(), clock());
        let next = again.record(vec![frame(Some(4), b"new")]).first;
        again.flush();
        assert!(again.get(next).unwrap().is_some());
        for (n, id) in ids.iter().enumerate() {
            if let Some(found) = again.get(*id).unwrap() {
                let n = u16::try_from(n).unwrap();
                // an id given again after its frame was lost shows the new frame
                assert!(found.frame.bytes[..] == n.to_be_bytes() || found.frame.bytes[..] == *b"new");
            }
        }
        let recent = again.recent(DtuId(4), None, 1000).unwrap();
        assert_eq!(recent[0].frame.bytes[..], *b"new");
        assert!(numbers(&recent[1..]).is_sorted_by(|a, b| a > b));
    }
}

#[test]
fn two_recorders_cannot_share_a_ring() {
    let disk = ModelDisk::new();
    let _first = open(&disk, small(), clock());
    let second = Recorder::open(Arc::new(disk), Path::new(DIR), small(), clock());
    assert!(matches!(second, Err(SpoolError::Locked(_))));
}

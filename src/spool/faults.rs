//! Proof of invariants 2 and 3: a fault at every operation that the spool's code does on the disk, one after the other,
//! with several choices of what survives; after each the spool opens again and a checker compares what comes out with
//! what was acknowledged. The checker itself is checked with a disk that lies.

use super::tests::{DIR, clock, number, record, small};
use super::*;
use crate::port::disk::{Disk, DiskEntry, DiskFile, DiskLock, OpenMode};
use crate::port::disk_model::{Fault, ModelDisk};
use crate::port::ledger::{ReadingSink, SinkError, SpoolDrain};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a run of the workload saw before its end.
#[derive(Debug, Default)]
struct History {
    /// Every record that was given to the spool.
    tried: BTreeSet<i64>,
    /// Receipts, in the order of their sequences.
    acknowledged: Vec<(u64, i64)>,
    /// Handed out by the drain.
    handed: Vec<i64>,
    /// Handed out, and a commit that covers it was begun.
    commit_begun: BTreeSet<i64>,
    /// The same, and the commit returned well.
    committed: BTreeSet<i64>,
    refused: usize,
}

impl History {
    /// Compares what came out after the fault with what must.
    fn check(&self, came: &[i64]) -> Result<(), String> {
        let set: BTreeSet<i64> = came.iter().copied().collect();
        if set.len() != came.len() {
            return Err(format!("handed out twice: {came:?}"));
        }
        if let Some(n) = set.difference(&self.tried).next() {
            return Err(format!("{n} was never appended"));
        }
        if let Some(n) = set.intersection(&self.committed).next() {
            return Err(format!("{n} was committed for good and comes again"));
        }
        let must = self.acknowledged.iter().map(|(_, n)| *n);
        let must: Vec<i64> = must.filter(|n| !self.commit_begun.contains(n)).collect();
        if let Some(n) = must.iter().find(|n| !set.contains(n)) {
            return Err(format!("{n} was acknowledged and is lost; came {came:?}"));
        }
        let durable = self
            .handed
            .iter()
            .find(|n| !self.commit_begun.contains(n) && !set.contains(n));
        if let Some(n) = durable {
            return Err(format!("{n} was handed out before it was durable"));
        }
        let order: Vec<i64> = came.iter().copied().filter(|n| must.contains(n)).collect();
        if order != must {
            return Err(format!("order is {order:?}, must be {must:?}"));
        }
        Ok(())
    }
}

/// Appends in groups, rotates, drains, commits; goes on after errors, as the server would.
async fn workload(disk: Arc<dyn Disk>) -> (History, Option<(SpoolHandle, Drain)>) {
    let mut history = History::default();
    let time = clock();
    let Ok((handle, mut drain)) = Spool::open(disk, Path::new(DIR), small(), time.clone()) else {
        return (history, None);
    };
    let mut next = 1;
    for round in 0..12 {
        time.advance(Duration::from_secs(2));
        let group = next..next + 1 + round % 4;
        next = group.end;
        history.tried.extend(group.clone());
        let appends = group.clone().map(|n| handle.append(record(n)));
        for (n, receipt) in group.zip(futures::future::join_all(appends).await) {
            match receipt {
                Ok(receipt) => history.acknowledged.push((receipt.sequence(), n)),
                Err(error) => {
                    assert!(!matches!(error, SinkError::TooLarge { .. }), "{error}");
                    history.refused += 1;
                }
            }
        }
        if round % 3 == 1 {
            drain_some(&mut drain, &mut history, round).await;
        }
    }
    history.acknowledged.sort_unstable();
    (history, Some((handle, drain)))
}

async fn drain_some(drain: &mut Drain, history: &mut History, round: i64) {
    if history.handed.len() >= history.acknowledged.len() {
        return;
    }
    let Ok(Some((records, position))) = drain.next(5).await else {
        return;
    };
    history.handed.extend(records.iter().map(number));
    if round % 2 == 0 {
        return;
    }
    history.commit_begun.extend(history.handed.iter().copied());
    if drain.committed(position).await.is_ok() {
        history.committed.extend(history.handed.iter().copied());
    }
}

/// Opens, takes one more record, and hands out everything.
async fn reopen(disk: &ModelDisk) -> Vec<i64> {
    let opened = Spool::open(Arc::new(disk.clone()), Path::new(DIR), small(), clock());
    let (handle, mut drain) = opened.expect("the spool always opens");
    handle.append(record(999)).await.expect("it takes records again");
    handle.close().await;
    let mut came = Vec::new();
    while let Some((records, _)) = drain.next(4).await.unwrap() {
        for got in records {
            assert_eq!(got, record(number(&got)), "as it went in");
            came.push(number(&got));
        }
    }
    assert_eq!(came.pop(), Some(999));
    came
}

/// How many operations the workload does without a fault.
async fn operations() -> u64 {
    let disk = ModelDisk::new();
    let (history, parts) = workload(Arc::new(disk.clone())).await;
    assert_eq!((history.refused, history.committed.len()), (0, 13), "{history:?}");
    let (handle, _) = parts.unwrap();
    handle.close().await;
    let operations = disk.operations();
    assert!(operations > 60, "the workload does too little: {operations}");
    // how records fall into groups is up to the scheduler, so one run may do more than another
    operations + 10
}

#[tokio::test]
async fn a_crash_at_every_operation_loses_nothing_acknowledged() {
    for at in 0..=operations().await {
        let disk = ModelDisk::new();
        disk.inject(Fault::Crash { at });
        let (history, parts) = workload(Arc::new(disk.clone())).await;
        if let Some((handle, _)) = &parts {
            handle.close().await;
        }
        for seed in 0..12 {
            let came = reopen(&disk.reboot(seed)).await;
            history
                .check(&came)
                .unwrap_or_else(|fault| panic!("crash at {at}, seed {seed}: {fault}"));
        }
    }
}

#[tokio::test]
async fn a_second_crash_while_it_recovers_loses_nothing_either() {
    for at in (0..=operations().await).step_by(3) {
        let disk = ModelDisk::new();
        disk.inject(Fault::Crash { at });
        let (history, _parts) = workload(Arc::new(disk.clone())).await;
        for seed in [0, 2, 3] {
            let recovering = disk.reboot(seed);
            for second in 0..12 {
                let again = recovering.reboot(1);
                again.inject(Fault::Crash { at: second });
                drop(Spool::open(Arc::new(again.clone()), Path::new(DIR), small(), clock()));
                let came = reopen(&again.reboot(seed + 5)).await;
                history
                    .check(&came)
                    .unwrap_or_else(|fault| panic!("crash at {at}, seed {seed}, then at {second}: {fault}"));
            }
        }
    }
}

/// Runs the workload over a fault, lets it go on, and checks the rest in the same process and after a crash.
async fn survive(fault: Fault) -> History {
    let disk = ModelDisk::new();
    disk.inject(fault);
    let (history, parts) = workload(Arc::new(disk.clone())).await;
    for seed in [0, 1, 4] {
        let came = reopen(&disk.reboot_copy(seed)).await;
        history
            .check(&came)
            .unwrap_or_else(|found| panic!("{fault:?}, seed {seed}: {found}"));
    }
    if let Some((handle, mut drain)) = parts {
        disk.heal();
        handle.close().await;
        let mut came = Vec::new();
        while let Some((records, _)) = drain.next(4).await.unwrap() {
            came.extend(records.iter().map(number));
        }
        let twice = came.iter().find(|n| history.handed.contains(n));
        assert_eq!(twice, None, "{fault:?}: a living drain hands nothing out twice");
        let lost = history.acknowledged.iter().map(|(_, n)| n);
        let lost = lost.clone().find(|n| !came.contains(n) && !history.handed.contains(n));
        assert_eq!(lost, None, "{fault:?}: {history:?}");
    }
    history
}

#[tokio::test]
async fn a_full_disk_at_every_operation_refuses_and_goes_on() {
    let mut refusals = 0;
    for from in 0..=operations().await {
        for count in [1, 3, 1000] {
            let history = survive(Fault::Full { from, count }).await;
            refusals += usize::from(history.refused > 0);
            if count == 1 {
                // two seconds later there is space: only the group that met the full disk is refused
                assert!(history.refused <= 4, "full at {from}: {history:?}");
            }
        }
    }
    assert!(refusals > 50, "{refusals}");
}

#[tokio::test]
async fn a_failed_sync_at_every_operation_ends_acknowledging_and_loses_nothing() {
    let mut failures = 0;
    for at in 0..=operations().await {
        failures += usize::from(survive(Fault::Sync { at }).await.refused > 0);
    }
    assert!(failures > 15, "{failures}");
}

#[tokio::test]
async fn a_broken_disk_at_every_operation_loses_nothing() {
    let mut failures = 0;
    for at in 0..=operations().await {
        failures += usize::from(survive(Fault::Broken { at }).await.refused > 0);
    }
    assert!(failures > 30, "{failures}");
}

/// A disk whose sync does nothing, in one of two ways.
#[derive(Clone, Debug)]
struct LyingDisk {
    disk: ModelDisk,
    about_folders: bool,
}

#[derive(Debug)]
struct LyingFile(Box<dyn DiskFile>);

impl Disk for LyingDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(if self.about_folders {
            file
        } else {
            Box::new(LyingFile(file))
        })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        self.disk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.about_folders {
            Ok(())
        } else {
            self.disk.sync_dir(dir)
        }
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_checker_has_teeth() {
    for about_folders in [false, true] {
        let (mut found, mut runs) = (0, 0);
        for at in 5..40 {
            let disk = ModelDisk::new();
            disk.inject(Fault::Crash { at });
            let lying = LyingDisk {
                disk: disk.clone(),
                about_folders,
            };
            let (history, _parts) = workload(Arc::new(lying)).await;
            for seed in 0..4 {
                runs += 1;
                let came = reopen(&disk.reboot(seed)).await;
                found += usize::from(history.check(&came).is_err());
            }
        }
        assert!(
            found > runs / 4,
            "about folders: {about_folders}; {found} of {runs} found"
        );
    }
}

/// A spool with 30 records over several segments, closed.
async fn closed() -> ModelDisk {
    let disk = ModelDisk::new();
    let (handle, _drain) = super::tests::open(&disk, small());
    for n in 1..=30 {
        handle.append(record(n)).await.unwrap();
    }
    handle.close().await;
    disk.reboot(1)
}

#[derive(Clone, Debug)]
enum Harm {
    Overwrite { file: usize, at: usize, bytes: Vec<u8> },
    Truncate { file: usize, len: usize },
    Replace { file: usize, bytes: Vec<u8> },
    Remove { file: usize },
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    prop_oneof![
        (any::<usize>(), any::<usize>(), bytes.clone()).prop_map(|(file, at, bytes)| Harm::Overwrite {
            file,
            at,
            bytes
        }),
        (any::<usize>(), any::<usize>()).prop_map(|(file, len)| Harm::Truncate { file, len }),
        (any::<usize>(), bytes).prop_map(|(file, bytes)| Harm::Replace { file, bytes }),
        any::<usize>().prop_map(|file| Harm::Remove { file }),
    ]
}

fn harm_disk(disk: &ModelDisk, harms: &[Harm]) {
    let dir = Path::new(DIR);
    let mut names: Vec<String> = disk.list(dir).unwrap().into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name != "reserve" && name != "lock");
    names.push("cursor".into());
    for harm in harms {
        let path = |file: &usize| dir.join(&names[file % names.len()]);
        match harm {
            Harm::Overwrite { file, at, bytes } => {
                let mut content = disk.contents(&path(file)).unwrap_or_default();
                let at = at % (content.len() + 1);
                let end = (at + bytes.len()).min(content.len());
                content[at..end].copy_from_slice(&bytes[..end - at]);
                disk.plant(&path(file), content);
            }
            Harm::Truncate { file, len } => {
                let mut content = disk.contents(&path(file)).unwrap_or_default();
                content.truncate(len % (content.len() + 1));
                disk.plant(&path(file), content);
            }
            Harm::Replace { file, bytes } => disk.plant(&path(file), bytes.clone()),
            // it may be gone already
            Harm::Remove { file } => drop(disk.remove(&path(file))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_harm_to_the_files_costs_only_what_it_hit(harms in prop::collection::vec(harm(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let disk = closed().await;
            let dir = Path::new(DIR);
            let before: Vec<(std::path::PathBuf, Vec<u8>)> = disk
                .list(dir)
                .unwrap()
                .into_iter()
                .map(|entry| dir.join(entry.name))
                .filter_map(|path| Some((path.clone(), disk.contents(&path)?)))
                .collect();
            harm_disk(&disk, &harms);
            let untouched: usize = before
                .iter()
                .filter(|(path, bytes)| path.extension().is_some_and(|end| end == "seg") && disk.contents(path).as_ref() == Some(bytes))
                .count();
            let came = reopen(&disk.reboot(1)).await;
            assert!(came.is_sorted(), "{came:?}");
            assert!(came.iter().all(|n| (1..=30).contains(n)), "{came:?}");
            // a whole segment holds at least six of these records
            assert!(came.len() >= untouched.min(3) * 6, "{} came, {untouched} segments untouched", came.len());
        });
    }
}

//! Between libFuzzer and the bodies: which one runs, its seeds, and a watch over the processor time of one input.

use crate::base::hex;
use crate::seeds::{Seeds, kept};
use crate::targets::{ALL, Target};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What one input may cost. Most take some ten microseconds.
const CPU_SECONDS_MAX: u64 = 20;

static TARGET: OnceLock<&'static Target> = OnceLock::new();
/// How many inputs have begun.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Chooses the target by `POLYPHASE_FUZZ_TARGET`, and writes its seeds to the folder `POLYPHASE_FUZZ_SEEDS`.
///
/// # Panics
/// Without a known target, or where the seeds cannot be written.
pub fn init() {
    let name = std::env::var("POLYPHASE_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = ALL.iter().map(|target| target.name).collect();
    let target = ALL.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("POLYPHASE_FUZZ_TARGET is {name:?}, not one of {}", names.join(" ")));
    let _first = TARGET.set(target);
    if let Some(folder) = std::env::var_os("POLYPHASE_FUZZ_SEEDS") {
        let mut seeds = Seeds::default();
        (target.seeds)(&mut seeds);
        seeds.list.extend(kept(name.as_str()));
        for (index, seed) in seeds.list.iter().enumerate() {
            let file = Path::new(&folder).join(format!("seed-{index:04}"));
            std::fs::write(&file, seed).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
    std::thread::spawn(watch);
}

/// Runs one input.
pub fn run(data: &[u8]) {
    RUNS.fetch_add(1, Ordering::Relaxed);
    if let Some(target) = TARGET.get() {
        (target.body)(data);
    }
}

/// An input that never ends, or nearly, is a find; that the machine gave the process no time is none. So what counts is
/// the processor time since the input began. libFuzzer writes the input down when the process aborts.
fn watch() {
    let (mut run, mut since) = (0, cpu_seconds());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (now, spent) = (RUNS.load(Ordering::Relaxed), cpu_seconds());
        if now != run {
            (run, since) = (now, spent);
        } else if now > 0 && spent.saturating_sub(since) > CPU_SECONDS_MAX {
            eprintln!("one input has taken more than {CPU_SECONDS_MAX} s of processor time");
            std::process::abort();
        }
    }
}

/// The processor time of this process so far, seconds.
fn cpu_seconds() -> u64 {
    // utime and stime are the 14th and 15th field, in hundredths of a second; the name before them may hold blanks
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() / 100
}

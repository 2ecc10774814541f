//! Checkpoints of the audit chain outside the database: a file in the data folder, one line each, written every thousand
//! entries or every minute in which there was one. A bare chain cannot tell that its end was cut off; with these
//! `polyphase audit verify` can.

use crate::base::clock::Clock;
use crate::port::audit::{ChainHead, Checkpoint};
use crate::store::audit_chain::AuditChain;
use crate::telemetry::audit::{AuditCut, CheckpointFailed, CheckpointWritten};
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries between two checkpoints at most.
const ENTRIES: i64 = 1_000;
/// Time between two checkpoints at most, while entries are written.
const EVERY: Duration = Duration::from_secs(60);
/// The most bytes of the file that are read: some ten years of minutes.
const FILE_MAX: u64 = 1 << 30;

/// Where the checkpoints of a data folder are.
pub fn file(data: &Path) -> PathBuf {
    data.join("audit").join("checkpoints.jsonl")
}

/// The checkpoints, oldest first; none: the file is not there. A torn last line is left out.
///
/// # Errors
/// When the file cannot be read, or a line in it is no checkpoint; says which.
pub fn read(path: &Path) -> anyhow::Result<Vec<Checkpoint>> {
    let place = || path.display().to_string();
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(place),
    };
    anyhow::ensure!(length <= FILE_MAX, "{}: {length} bytes are too many", place());
    let text = std::fs::read_to_string(path).with_context(place)?;
    let lines: Vec<&str> = text.lines().collect();
    let whole = text.ends_with('\n');
    let mut checkpoints: Vec<Checkpoint> = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        match serde_json::from_str::<Checkpoint>(line) {
            Ok(checkpoint) if checkpoints.last().is_none_or(|last| last.id < checkpoint.id) => {
                checkpoints.push(checkpoint);
            }
            Err(_) if number + 1 == lines.len() && !whole => {}
            _ => anyhow::bail!(
                "{}:{}: this is no checkpoint, or it is out of order",
                place(),
                number + 1
            ),
        }
    }
    Ok(checkpoints)
}

/// Writes checkpoints when they are due.
pub struct Keeper {
    chain: AuditChain,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    last: Option<Checkpoint>,
    written: Option<Instant>,
    /// The chain was found shorter than it was, and that was said.
    cut: bool,
}

impl Keeper {
    /// Takes up the file of a data folder.
    ///
    /// # Errors
    /// When it cannot be read or its folder cannot be made.
    pub fn open(chain: AuditChain, data: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let path = file(data);
        let folder = path.parent().unwrap_or(data);
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let last = read(&path)?.pop();
        // a line that was torn by a crash ends here
        if let Ok(text) = std::fs::read(&path)
            && text.last().is_some_and(|byte| *byte != b'\n')
        {
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let kept = std::fs::OpenOptions::new().write(true).open(&path)?;
            kept.set_len(u64::try_from(whole)?)?;
        }
        Ok(Self {
            chain,
            path,
            clock,
            last,
            written: None,
            cut: false,
        })
    }

    /// Writes a checkpoint if one is due. `now`: whatever is new, because the server stops.
    pub async fn tick(&mut self, now: bool) {
        let head = match self.chain.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return self.failed(&error),
        };
        let known = self.last.as_ref().map_or(0, |last| last.id);
        if head.id < known {
            let first = !std::mem::replace(&mut self.cut, true);
            AuditCut {
                entry: head.id,
                known,
                first,
            }
            .emit();
        }
        let fresh = self
            .written
            .is_some_and(|at| self.clock.monotonic().saturating_duration_since(at) < EVERY);
        if head.id <= known || (!now && fresh && head.id - known < ENTRIES) {
            return;
        }
        match self.write(&head) {
            Ok(checkpoint) => {
                CheckpointWritten { entry: checkpoint.id }.emit();
                self.last = Some(checkpoint);
                self.written = Some(self.clock.monotonic());
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        CheckpointFailed {
            path: &self.path,
            error: &error,
        }
        .emit();
    }

    fn write(&self, head: &ChainHead) -> anyhow::Result<Checkpoint> {
        let checkpoint = Checkpoint {
            id: head.id,
            hash: head.hash.clone(),
            at: self.clock.now(),
        };
        let mut line = serde_json::to_string(&checkpoint)?;
        line.push('\n');
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_left_out_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let line = |id: i64| format!("{{\"id\":{id},\"hash\":\"ab\",\"at\":\"2026-01-01T00:00:00Z\"}}\n");
        std::fs::write(&path, format!("{}{}{{\"id\":3,", line(1), line(2))).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        std::fs::write(&path, format!("{}x\n{}", line(1), line(2))).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains(":2:"));
        std::fs::write(&path, format!("{}{}", line(2), line(1))).unwrap();
        assert!(read(&path).is_err(), "out of order");
    }
}

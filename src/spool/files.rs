//! Names of the files in a log's folder, and keeping what turned out damaged.

use crate::port::disk::{Disk, DiskFile, OpenMode};
use std::io;
use std::path::{Path, PathBuf};

/// How many files of kept damage there may be; the oldest goes first.
const KEPT_MAX: usize = 64;
const COPY_CHUNK: u64 = 1 << 20;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The end of what was being written when the power went; never acknowledged.
    Torn,
    /// Was durable once.
    Bad,
}

impl Damage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Bad => "bad",
        }
    }
}

/// The path of segment `number`.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.seg"))
}

/// The segment's number, if the name is a segment's.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Copies a span of a segment into a file of its own beside it, durably, and returns its name. Old ones make place.
pub(super) fn keep_damage(
    disk: &dyn Disk,
    dir: &Path,
    segment: u64,
    file: &dyn DiskFile,
    span: std::ops::Range<u64>,
    damage: Damage,
) -> io::Result<String> {
    make_place(disk, dir)?;
    let name = format!("{segment:020}-{:012}.{}", span.start, damage.as_str());
    let copy = disk.open(&dir.join(&name), OpenMode::Create)?;
    let mut at = span.start;
    let mut buffer = Vec::new();
    while at < span.end {
        buffer.resize(usize::try_from((span.end - at).min(COPY_CHUNK)).unwrap_or_default(), 0);
        let count = file.read_at(&mut buffer, at)?;
        if count == 0 {
            break;
        }
        copy.write_all_at(buffer.get(..count).unwrap_or_default(), at - span.start)?;
        at += u64::try_from(count).unwrap_or(u64::MAX);
    }
    copy.sync_data()?;
    disk.sync_dir(dir)?;
    Ok(name)
}

fn make_place(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut kept: Vec<String> = disk
        .list(dir)?
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|end| end == "torn" || end == "bad")
        })
        .collect();
    kept.sort_unstable();
    let excess = (kept.len() + 1).saturating_sub(KEPT_MAX);
    for name in kept.iter().take(excess) {
        disk.remove(&dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::disk_model::ModelDisk;

    #[test]
    fn only_whole_names_are_segments() {
        assert_eq!(segment_number("00000000000000000012.seg"), Some(12));
        for name in [
            "12.seg",
            "00000000000000000012.seg.new",
            "+0000000000000000012.seg",
            "cursor",
        ] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }

    #[test]
    fn kept_damage_is_bounded() {
        let disk = ModelDisk::new();
        let dir = Path::new("/d");
        disk.plant(&dir.join("s"), b"0123456789".to_vec());
        let file = disk.open(&dir.join("s"), OpenMode::Read).unwrap();
        for segment in 0..100 {
            let name = keep_damage(&disk, dir, segment, &*file, 2..5, Damage::Bad).unwrap();
            assert_eq!(disk.contents(&dir.join(name)).unwrap(), b"234");
        }
        assert_eq!(disk.list(dir).unwrap().len(), KEPT_MAX + 1);
        assert!(
            disk.contents(&dir.join("00000000000000000099-000000000002.bad"))
                .is_some()
        );
    }
}

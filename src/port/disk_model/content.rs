//! What a file of the model disk holds: as processes see it, as the disk has it, and what lies between.

use std::ops::Range;

/// What a crash keeps or loses in one piece.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
    pub(super) unreadable: Option<Range<usize>>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// `SplitMix64`; a seed reproduces every choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// How much of the unsynced survives a crash, percent.
pub(super) fn survival(seed: u64) -> u64 {
    match seed {
        0 => 0,
        1 => 100,
        _ => [50, 10, 90, 30, 70]
            .get(usize::try_from(seed % 5).unwrap_or(0))
            .copied()
            .unwrap_or(50),
    }
}

pub(super) fn overlay(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overlay(content, *offset, bytes),
            Self::Length(len) => content.resize(*len, 0),
        }
    }

    /// Keeps a random part of the change.
    pub(super) fn apply_partly(&self, content: &mut Vec<u8>, chance: u64, random: &mut Random) {
        let (offset, bytes) = match self {
            Self::Write { offset, bytes } => (*offset, bytes.as_slice()),
            Self::Length(_) => {
                if random.percent(chance) {
                    self.apply(content);
                }
                return;
            }
        };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done;
            let in_sector = (SECTOR - at % SECTOR).min(bytes.len() - done);
            let piece = bytes.get(done..done + in_sector).unwrap_or_default();
            if random.percent(chance) {
                // now and then a sector is torn as well
                let kept = if random.percent(5) {
                    random.below(piece.len())
                } else {
                    piece.len()
                };
                overlay(content, at, piece.get(..kept).unwrap_or_default());
            } else if random.percent(chance / 2) && content.len() < at + in_sector {
                // the length got there, the bytes did not
                content.resize(at + in_sector, 0);
            }
            done += in_sector;
        }
    }
}

impl Content {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A crash or a failed sync: a part reaches the disk, the rest never will.
    pub(super) fn lose(&mut self, chance: u64, random: &mut Random) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply_partly(&mut self.durable, chance, random);
        }
    }
}

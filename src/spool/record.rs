//! How records lie in a segment file, and how they are found again. Knows nothing of what a record says.
//!
//! ```text
//! segment  := header record*
//! header   := "PPSPOOL" version:u8 segment:u64 first:u64 salt:u64 made_ms:i64 zero[20] crc:u32      64 bytes
//! record   := magic:u32 length:u32 sequence:u64 tag:u64 body_crc:u32 header_crc:u32 body[length]    32 bytes + body
//! ```
//!
//! Numbers are little-endian. Checksums are CRC-32C over the salt, the segment's number and the bytes; so neither a
//! block left over from another file nor bytes that a device made to look like a record (evidence frames are stored
//! as they came) can pass for one.

use crate::base::bytes::{Reader, ShortRead};
use crate::port::disk::DiskFile;
use crc32c::{crc32c, crc32c_append};
use std::io;

const SEGMENT_MAGIC: [u8; 7] = *b"PPSPOOL";
const VERSION: u8 = 1;
const RECORD_MAGIC: [u8; 4] = [0xF5, b'P', b'r', 0x0A];
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 64;
/// The same as an offset: where a segment's first record begins.
pub(super) const FIRST_RECORD: u64 = 64;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 32;
/// The same, for offsets.
pub(super) const RECORD_HEADER_BYTES: u64 = 32;
/// The longest body. A poll with 100 values takes about 3 KiB.
pub(super) const BODY_MAX: usize = 1 << 20;
/// What a scanner reads at once.
const CHUNK: usize = 128 << 10;
/// What a damaged disk gives up in one piece.
const SECTOR: usize = 512;

/// What checksums of a segment are salted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) salt: u64,
    pub(super) segment: u64,
}

impl Stamp {
    fn crc(self, parts: &[&[u8]]) -> u32 {
        let head = crc32c_append(crc32c(&self.salt.to_le_bytes()), &self.segment.to_le_bytes());
        parts.iter().fold(head, |crc, part| crc32c_append(crc, part))
    }
}

/// Checksum without salt, for small files of their own.
pub(super) fn plain_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes)
}

/// The head of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) stamp: Stamp,
    /// The sequence of its first record.
    pub(super) first: u64,
    /// When it was made, milliseconds of the Unix era.
    pub(super) made_ms: i64,
}

/// Why a segment's head cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Torn or overwritten.
    Damaged,
    /// Written by another version of this program.
    Version(u8),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.stamp.segment.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.stamp.salt.to_le_bytes());
        out.extend_from_slice(&self.made_ms.to_le_bytes());
        out.resize(SEGMENT_HEADER - 4, 0);
        let crc = plain_crc(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let damaged = |_: ShortRead| HeaderFault::Damaged;
        let mut reader = Reader::new(bytes);
        let covered = reader.take(SEGMENT_HEADER - 4).map_err(damaged)?;
        let crc = u32::from_le_bytes(reader.array().map_err(damaged)?);
        let mut reader = Reader::new(covered);
        if crc != plain_crc(covered) || reader.array().map_err(damaged)? != SEGMENT_MAGIC {
            return Err(HeaderFault::Damaged);
        }
        let version = reader.u8().map_err(damaged)?;
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let mut number = || reader.array().map(u64::from_le_bytes).map_err(damaged);
        let (segment, first, salt, made) = (number()?, number()?, number()?, number()?);
        Ok(Self {
            stamp: Stamp { salt, segment },
            first,
            made_ms: made.cast_signed(),
        })
    }

    /// Reads the head of a file.
    pub(super) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, HeaderFault>> {
        let mut bytes = [0u8; SEGMENT_HEADER];
        let count = file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(bytes.get(..count).unwrap_or_default()))
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) sequence: u64,
    /// Free for the log's owner. Spool: the first sequence of the batch, before which all was durable when this was
    /// written. Recorder: the DTU.
    pub(super) tag: u64,
    length: u32,
    body_crc: u32,
}

impl RecordHeader {
    /// Header and body, bytes.
    pub(super) fn span(&self) -> u64 {
        u64::from(self.length) + RECORD_HEADER_BYTES
    }

    fn body_len(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Reads a head from the begin of `bytes`; none when it is not one.
    pub(super) fn parse(bytes: &[u8], stamp: Stamp) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(RECORD_HEADER - 4).ok()?;
        let crc = u32::from_le_bytes(reader.array().ok()?);
        let mut reader = Reader::new(covered);
        if reader.array().ok()? != RECORD_MAGIC {
            return None;
        }
        let header = Self {
            length: u32::from_le_bytes(reader.array().ok()?),
            sequence: u64::from_le_bytes(reader.array().ok()?),
            tag: u64::from_le_bytes(reader.array().ok()?),
            body_crc: u32::from_le_bytes(reader.array().ok()?),
        };
        (header.body_len() <= BODY_MAX && crc == stamp.crc(&[covered])).then_some(header)
    }

    fn fits(&self, body: &[u8], stamp: Stamp) -> bool {
        stamp.crc(&[&self.sequence.to_le_bytes(), body]) == self.body_crc
    }
}

/// Reads the one record at `at`; none when there is none (any more).
pub(super) fn read_one(file: &dyn DiskFile, stamp: Stamp, at: u64) -> io::Result<Option<(RecordHeader, Vec<u8>)>> {
    let mut head = [0u8; RECORD_HEADER];
    let count = file.read_at(&mut head, at)?;
    let Some(header) = RecordHeader::parse(head.get(..count).unwrap_or_default(), stamp) else {
        return Ok(None);
    };
    let mut body = vec![0; header.body_len()];
    let count = file.read_at(&mut body, at + RECORD_HEADER_BYTES)?;
    Ok((count == body.len() && header.fits(&body, stamp)).then_some((header, body)))
}

/// Appends a record to `out`. The caller has checked that the body is at most [`BODY_MAX`].
pub(super) fn put(out: &mut Vec<u8>, stamp: Stamp, sequence: u64, tag: u64, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let body_crc = stamp.crc(&[&sequence.to_le_bytes(), body]);
    let mut head = [0u8; RECORD_HEADER - 4];
    let fields: [&[u8]; 5] = [
        &RECORD_MAGIC,
        &length.to_le_bytes(),
        &sequence.to_le_bytes(),
        &tag.to_le_bytes(),
        &body_crc.to_le_bytes(),
    ];
    for (to, from) in head.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    out.extend_from_slice(&head);
    out.extend_from_slice(&stamp.crc(&[&head]).to_le_bytes());
    out.extend_from_slice(body);
}

/// What a scanner came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole record.
    Record {
        header: RecordHeader,
        body: Vec<u8>,
        /// Where it begins.
        at: u64,
    },
    /// Bytes that are no record, with a record behind them, whose tag this is.
    Hole { from: u64, to: u64, tag: u64 },
    /// No further record. `zero`: nothing but zeros follows, which is what blocks set aside look like.
    End { at: u64, zero: bool },
}

/// Walks over the records of a file, from an offset up to a limit, and finds the next one behind damage.
/// Records must have growing sequences; what does not grow is damage.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    stamp: Stamp,
    offset: u64,
    limit: u64,
    last: Option<u64>,
    buffer: Vec<u8>,
    buffered_at: u64,
    /// Takes sectors that cannot be read for zeros, so that what lies behind them is found.
    lenient: bool,
    unreadable: bool,
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Fills what can be read; sectors that cannot are zeros.
fn read_sectors(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> usize {
    let mut filled = 0;
    for (place, sector) in (at..).step_by(SECTOR).zip(buffer.chunks_mut(SECTOR)) {
        match file.read_at(sector, place) {
            Ok(count) => {
                filled += count;
                if count < sector.len() {
                    break;
                }
            }
            Err(_) => {
                sector.fill(0);
                filled += sector.len();
            }
        }
    }
    filled
}

impl<'a> Scanner<'a> {
    /// `last`: the sequence before the first that is wanted.
    pub(super) fn new(file: &'a dyn DiskFile, stamp: Stamp, from: u64, limit: u64, last: Option<u64>) -> Self {
        Self {
            file,
            stamp,
            offset: from,
            limit,
            last,
            buffer: Vec::new(),
            buffered_at: 0,
            lenient: false,
            unreadable: false,
        }
    }

    /// The same, but sectors that cannot be read are damage instead of an error.
    pub(super) fn lenient(mut self, lenient: bool) -> Self {
        self.lenient = lenient;
        self
    }

    /// Where the next step begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes at `at`: `want` of them, or fewer at the limit, or more if they are there already.
    fn window(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(to_usize(self.limit.saturating_sub(at)));
        let buffered = at >= self.buffered_at
            && at.saturating_add(to_u64(want)) <= self.buffered_at.saturating_add(to_u64(self.buffer.len()));
        if !buffered {
            let size = want.max(CHUNK).min(to_usize(self.limit.saturating_sub(at)));
            self.buffer.resize(size, 0);
            let count = match self.file.read_at(&mut self.buffer, at) {
                Err(_) if self.lenient => {
                    self.unreadable = true;
                    read_sectors(self.file, &mut self.buffer, at)
                }
                read => read?,
            };
            self.buffer.truncate(count);
            self.buffered_at = at;
        }
        let skip = to_usize(at.saturating_sub(self.buffered_at));
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn record_at(&mut self, at: u64) -> io::Result<Option<(RecordHeader, Vec<u8>)>> {
        let stamp = self.stamp;
        let Some(header) = RecordHeader::parse(self.window(at, RECORD_HEADER)?, stamp) else {
            return Ok(None);
        };
        if self.last.is_some_and(|last| header.sequence <= last) {
            return Ok(None);
        }
        let body_len = header.body_len();
        let bytes = self.window(at, RECORD_HEADER + body_len)?;
        let body = bytes.get(RECORD_HEADER..RECORD_HEADER + body_len);
        Ok(body
            .filter(|body| header.fits(body, stamp))
            .map(|body| (header, body.to_vec())))
    }

    /// The next record behind damage at `from` with its tag, and whether all in between was zero.
    fn resync(&mut self, from: u64) -> io::Result<(Option<(u64, u64)>, bool)> {
        let (mut at, mut zero) = (from, true);
        loop {
            let window = self.window(at, RECORD_HEADER)?;
            if window.is_empty() {
                return Ok((None, zero));
            }
            let candidate = window.windows(RECORD_MAGIC.len()).position(|four| four == RECORD_MAGIC);
            // without a candidate the last three bytes may still begin one
            let skip = candidate.unwrap_or_else(|| window.len().saturating_sub(3).max(1));
            zero &= window.iter().take(skip).all(|byte| *byte == 0);
            at += to_u64(skip);
            if candidate.is_some() {
                if at > from
                    && let Some((header, _)) = self.record_at(at)?
                {
                    return Ok((Some((at, header.tag)), zero));
                }
                zero = false;
                at += 1;
            }
        }
    }

    /// Goes on to the first record from `sequence` on, by heads alone; stops early at damage.
    pub(super) fn skip_to(&mut self, sequence: u64) -> io::Result<()> {
        let stamp = self.stamp;
        loop {
            let at = self.offset;
            match RecordHeader::parse(self.window(at, RECORD_HEADER)?, stamp) {
                Some(header) if header.sequence < sequence => self.offset = at + header.span(),
                _ => return Ok(()),
            }
        }
    }

    /// The next step. After [`Step::End`] it stays at the end.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let at = self.offset;
        if let Some((header, body)) = self.record_at(at)? {
            self.offset = at + header.span();
            self.last = Some(header.sequence);
            return Ok(Step::Record { header, body, at });
        }
        match self.resync(at)? {
            (Some((to, tag)), _) => {
                self.offset = to;
                Ok(Step::Hole { from: at, to, tag })
            }
            (None, zero) => Ok(Step::End {
                at,
                zero: zero && !self.unreadable,
            }),
        }
    }
}

#[cfg(test)]
mod tests;

//! The file of a backup.
//!
//! ```text
//! POLYPHASE BACKUP 1\n                             what it is
//! u32 length, JSON                                 head: when, by what version, how the key is made
//! { u32 length | last << 31, piece }…              pieces of 64 KiB, sealed if there is a key
//! SHA-256                                          over all before
//! ```
//!
//! Joined and unpacked (gzip) the pieces are parts: `u32 length, JSON` what it is, `{ u32 length, bytes }… 0`, SHA-256 of its bytes. The
//! last part is the manifest, which names all others with their sums. Numbers are big-endian.

use super::seal::{Derivation, Seal, TAG};
use crate::base::hex;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

const MAGIC: &[u8] = b"POLYPHASE BACKUP 1\n";
/// Bytes of a piece before it is sealed.
const PIECE: usize = 64 * 1024;
/// The longest head or description of a part.
const JSON_MAX: u32 = 64 << 20;
/// The longest block of a part that is written; what is read may be as long.
const BLOCK: usize = 1 << 20;
const LAST: u32 = 1 << 31;
const SUM: usize = 32;

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading or writing it failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin as a backup does.
    #[error("this is no backup of Polyphase")]
    Foreign,
    /// It is not what was written: cut off or changed.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// The key is missing or wrong.
    #[error("the backup is encrypted: {0}")]
    Locked(String),
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Damaged(what.to_owned())
}

/// What stands in the open at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it was begun.
    pub made_at: DateTime<Utc>,
    /// The version of the program.
    pub program: String,
    /// How the key is made; none: it is not encrypted.
    pub sealed: Option<Derivation>,
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PartKind {
    /// Rows of a table, as COPY writes them as text.
    Table {
        /// Its columns, in the order of the rows.
        columns: Vec<String>,
        /// The day, if it is a day of a table that is kept by the day.
        day: Option<chrono::NaiveDate>,
        /// Whether the day was closed.
        closed: bool,
    },
    /// A file of the data folder.
    File,
    /// The manifest.
    Manifest,
}

/// The beginning of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartHead {
    /// The table's name, or the file's path within the data folder.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub kind: PartKind,
}

/// A part as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSum {
    /// What it is.
    #[serde(flatten)]
    pub head: PartHead,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of them, as hex.
    pub sha256: String,
    /// Rows of a table.
    pub rows: u64,
    /// A sum over the rows that does not depend on their order, as hex; of a table.
    pub digest: String,
}

/// What a backup holds, written at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was begun.
    pub made_at: DateTime<Utc>,
    /// The version of the program.
    pub program: String,
    /// The number of the newest migration.
    pub schema: i64,
    /// PostgreSQL's version.
    pub postgres: String,
    /// The parts, in order.
    pub parts: Vec<PartSum>,
    /// Sequences: their last values.
    pub sequences: BTreeMap<String, i64>,
}

/// Sums what goes through.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Cuts a stream into pieces, and seals them.
struct Pieces<W: Write> {
    out: Summed<W>,
    seal: Option<Seal>,
    piece: Vec<u8>,
}

impl<W: Write> Pieces<W> {
    fn put(&mut self, last: bool) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.piece);
        if let Some(seal) = &mut self.seal {
            seal.seal(&mut piece, last).map_err(io::Error::other)?;
        }
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
        let mark = if last { LAST } else { 0 };
        self.out.write_all(&(length | mark).to_be_bytes())?;
        self.out.write_all(&piece)?;
        piece.clear();
        self.piece = piece;
        Ok(())
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE {
            self.put(false)?;
        }
        let taken = bytes.len().min(PIECE.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A backup that is being written.
pub struct ArchiveWriter<W: Write> {
    out: GzEncoder<Pieces<W>>,
    part: Option<(PartHead, Sha256, u64)>,
    parts: Vec<PartSum>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins a file; with a passphrase it is encrypted.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn begin(out: W, made_at: DateTime<Utc>, passphrase: Option<&SecretString>) -> Result<Self, ArchiveError> {
        let head = Head {
            made_at,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            sealed: passphrase.map(|_| Derivation::fresh()),
        };
        let json = serde_json::to_vec(&head).map_err(io::Error::other)?;
        let seal = match (passphrase, &head.sealed) {
            (Some(passphrase), Some(derivation)) => Some(Seal::new(passphrase, derivation, &json)?),
            _ => None,
        };
        let mut out = Summed {
            inner: out,
            sum: Sha256::new(),
        };
        out.write_all(MAGIC)?;
        put_json(&mut out, &json)?;
        let pieces = Pieces {
            out,
            seal,
            piece: Vec::with_capacity(PIECE + TAG),
        };
        Ok(Self {
            out: GzEncoder::new(pieces, Compression::fast()),
            part: None,
            parts: Vec::new(),
        })
    }

    /// Begins a part.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn begin_part(&mut self, head: PartHead) -> Result<(), ArchiveError> {
        let json = serde_json::to_vec(&head).map_err(io::Error::other)?;
        put_json(&mut self.out, &json)?;
        self.part = Some((head, Sha256::new(), 0));
        Ok(())
    }

    /// Writes bytes of the part.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some((_, sum, count)) = &mut self.part else {
            return Err(damaged("bytes outside any part"));
        };
        for block in bytes.chunks(BLOCK) {
            let length = u32::try_from(block.len()).map_err(io::Error::other)?;
            self.out.write_all(&length.to_be_bytes())?;
            self.out.write_all(block)?;
        }
        sum.update(bytes);
        *count = count.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Ends the part; `rows` and `digest` are those of a table.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn end_part(&mut self, rows: u64, digest: String) -> Result<(), ArchiveError> {
        let Some((head, sum, bytes)) = self.part.take() else {
            return Err(damaged("the end of no part"));
        };
        let sum = sum.finalize();
        self.out.write_all(&0u32.to_be_bytes())?;
        self.out.write_all(&sum)?;
        self.parts.push(PartSum {
            head,
            bytes,
            sha256: hex::encode(&sum).to_lowercase(),
            rows,
            digest,
        });
        Ok(())
    }

    /// The parts that were written.
    pub fn parts(&self) -> &[PartSum] {
        &self.parts
    }

    /// Writes the manifest and ends the file; what it was written to.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn finish(mut self, manifest: &Manifest) -> Result<W, ArchiveError> {
        let json = serde_json::to_vec(manifest).map_err(io::Error::other)?;
        self.begin_part(PartHead {
            name: "manifest".to_owned(),
            kind: PartKind::Manifest,
        })?;
        self.write(&json)?;
        self.end_part(0, String::new())?;
        let mut pieces = self.out.finish()?;
        pieces.put(true)?;
        let Summed { mut inner, sum } = pieces.out;
        inner.write_all(&sum.finalize())?;
        inner.flush()?;
        Ok(inner)
    }
}

fn put_json(out: &mut impl Write, json: &[u8]) -> io::Result<()> {
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(json)
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.sum.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn take_u32(from: &mut impl Read) -> Result<u32, ArchiveError> {
    let mut bytes = [0u8; 4];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(u32::from_be_bytes(bytes))
}

/// What a read that came to no end means.
fn cut(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ArchiveError::Damaged(error.to_string()),
        io::ErrorKind::Other => match error.downcast::<ArchiveError>() {
            Ok(inner) => inner,
            Err(error) => error.into(),
        },
        _ => error.into(),
    }
}

fn take(from: &mut impl Read, length: u32, most: u32, what: &str) -> Result<Vec<u8>, ArchiveError> {
    if length > most {
        return Err(damaged(what));
    }
    let mut bytes = Vec::new();
    // as much as is there, however long it claims to be
    let read = io::copy(&mut from.take(length.into()), &mut bytes).map_err(cut)?;
    if read == u64::from(length) {
        Ok(bytes)
    } else {
        Err(damaged("it ends too early"))
    }
}

fn take_json<T: DeserializeOwned>(from: &mut impl Read) -> Result<(T, Vec<u8>), ArchiveError> {
    let length = take_u32(from)?;
    let bytes = take(from, length, JSON_MAX, "a description is too long")?;
    let found = serde_json::from_slice(&bytes).map_err(|error| ArchiveError::Damaged(error.to_string()))?;
    Ok((found, bytes))
}

/// Joins the pieces of a file, and opens them.
struct Joined<R: Read> {
    from: Summed<R>,
    seal: Option<Seal>,
    piece: Vec<u8>,
    place: usize,
    last: bool,
}

impl<R: Read> Joined<R> {
    fn next_piece(&mut self) -> Result<(), ArchiveError> {
        let word = take_u32(&mut self.from)?;
        let length = word & !LAST;
        let most = u32::try_from(PIECE + TAG).unwrap_or(u32::MAX);
        self.last = word & LAST != 0;
        self.piece = take(&mut self.from, length, most, "a piece is too long")?;
        self.place = 0;
        if let Some(seal) = &mut self.seal {
            seal.open(&mut self.piece, self.last)?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Joined<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.place >= self.piece.len() {
            if self.last {
                return Ok(0);
            }
            self.next_piece().map_err(io::Error::other)?;
        }
        let left = self.piece.get(self.place..).unwrap_or_default();
        let count = left.len().min(bytes.len());
        for (to, from) in bytes.iter_mut().zip(left) {
            *to = *from;
        }
        self.place = self.place.saturating_add(count);
        Ok(count)
    }
}

/// A backup that is being read. What it gives is not known to be whole before [`ArchiveReader::end`].
pub struct ArchiveReader<R: Read> {
    /// What stands at its beginning.
    pub head: Head,
    from: GzDecoder<Joined<R>>,
    part: Option<(PartHead, Sha256, u64)>,
    parts: Vec<(PartHead, u64, String)>,
}

impl<R: Read> ArchiveReader<R> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ArchiveError::Foreign`], [`ArchiveError::Locked`], [`ArchiveError::Damaged`].
    pub fn open(from: R, passphrase: Option<&SecretString>) -> Result<Self, ArchiveError> {
        let mut from = Summed {
            inner: from,
            sum: Sha256::new(),
        };
        let mut magic = [0u8; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(ArchiveError::Foreign),
        }
        let (head, json): (Head, _) = take_json(&mut from)?;
        let seal = match (&head.sealed, passphrase) {
            (None, _) => None,
            (Some(_), None) => return Err(ArchiveError::Locked("give its key with --key-file".to_owned())),
            (Some(derivation), Some(passphrase)) => Some(Seal::new(passphrase, derivation, &json)?),
        };
        let joined = Joined {
            from,
            seal,
            piece: Vec::new(),
            place: 0,
            last: false,
        };
        Ok(Self {
            head,
            from: GzDecoder::new(joined),
            part: None,
            parts: Vec::new(),
        })
    }

    /// The next part; the one before must have been read to its end.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`].
    pub fn next_part(&mut self) -> Result<PartHead, ArchiveError> {
        let (head, _): (PartHead, _) = take_json(&mut self.from)?;
        self.part = Some((head.clone(), Sha256::new(), 0));
        Ok(head)
    }

    /// The next block of the part; empty: that was all, and its sum is right.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`].
    pub fn block(&mut self) -> Result<Vec<u8>, ArchiveError> {
        let most = u32::try_from(BLOCK).unwrap_or(u32::MAX);
        let length = take_u32(&mut self.from)?;
        let bytes = take(&mut self.from, length, most, "a block is too long")?;
        let Some((_, sum, count)) = &mut self.part else {
            return Err(damaged("bytes outside any part"));
        };
        sum.update(&bytes);
        *count = count.saturating_add(length.into());
        if length == 0
            && let Some((head, sum, count)) = self.part.take()
        {
            let told = take(&mut self.from, 32, 32, "a sum is too long")?;
            let found = sum.finalize();
            if told != found.as_slice() {
                return Err(ArchiveError::Damaged(format!("the sum of {} is wrong", head.name)));
            }
            self.parts.push((head, count, hex::encode(&found).to_lowercase()));
        }
        Ok(bytes)
    }

    /// The rest of a part that is kept in memory: a small one.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`], also for one that is longer than `most`.
    pub fn rest(&mut self, most: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut all = Vec::new();
        loop {
            let block = self.block()?;
            if block.is_empty() {
                return Ok(all);
            }
            if all.len().saturating_add(block.len()) > most {
                return Err(damaged("a part is longer than it can be"));
            }
            all.extend_from_slice(&block);
        }
    }

    /// Behind the manifest: nothing else may be there, everything must be what the manifest says, and the sum right.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`].
    pub fn end(mut self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let more = io::copy(&mut self.from, &mut io::sink()).map_err(cut)?;
        let mut joined = self.from.into_inner();
        let unread = io::copy(&mut joined, &mut io::sink()).map_err(cut)?;
        if more > 0 || unread > 0 {
            return Err(damaged("something stands behind its end"));
        }
        let told = manifest.parts.iter();
        let same = told.map(|part| (&part.head, part.bytes, &part.sha256));
        self.parts.pop(); // the manifest itself
        if !same.eq(self.parts.iter().map(|(head, bytes, sum)| (head, *bytes, sum))) {
            return Err(damaged("its parts are not those that it names"));
        }
        let Summed { mut inner, sum } = joined.from;
        let mut told = [0u8; SUM];
        inner.read_exact(&mut told).map_err(cut)?;
        if told != sum.finalize().as_slice() {
            return Err(damaged("its sum is wrong"));
        }
        match inner.read(&mut [0u8; 1])? {
            0 => Ok(()),
            _ => Err(damaged("something stands behind its end")),
        }
    }
}

/// Reads a file to its end: whether every part is what was written. What it holds.
///
/// # Errors
/// [`ArchiveError`] with the first fault.
pub fn check(from: impl Read, passphrase: Option<&SecretString>) -> Result<Manifest, ArchiveError> {
    let mut reader = ArchiveReader::open(from, passphrase)?;
    loop {
        let part = reader.next_part()?;
        if part.kind == PartKind::Manifest {
            let json = reader.rest(usize::try_from(JSON_MAX).unwrap_or(usize::MAX))?;
            let manifest: Manifest =
                serde_json::from_slice(&json).map_err(|error| ArchiveError::Damaged(error.to_string()))?;
            reader.end(&manifest)?;
            return Ok(manifest);
        }
        while !reader.block()?.is_empty() {}
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;

//! A file of either format while it is written: rows in, then a whole file under its last name, synced.

use super::csv::CsvFile;
use super::table::{Column, Row};
use super::xlsx::XlsxFile;
use crate::base::hex;
use crate::port::exports::{ExportAsk, ExportFormat};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

enum Form {
    Csv(Box<CsvFile<Counted<BufWriter<File>>>>),
    Xlsx(Box<XlsxFile>),
}

/// A file that is being written under a name of its own until it is whole. Dropped before its end, it is removed.
pub struct Draft {
    form: Option<Form>,
    part: PathBuf,
    last: PathBuf,
    bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Its SHA-256, as hex.
    pub sha256: String,
}

impl Draft {
    /// Begins `path`, whose folder must be there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(path: &Path, ask: &ExportAsk, columns: &'static [Column]) -> io::Result<Self> {
        let part = path.with_extension("part");
        let folder = path.parent().unwrap_or(Path::new("."));
        let form = match ask.format {
            ExportFormat::Csv => {
                let out = Counted {
                    inner: BufWriter::new(File::create(&part)?),
                    bytes: 0,
                };
                Form::Csv(Box::new(CsvFile::begin(out, columns, ask.time_zone, ask.bom)?))
            }
            ExportFormat::Xlsx => Form::Xlsx(Box::new(XlsxFile::begin(
                folder,
                ask.kind.as_str(),
                columns,
                ask.time_zone,
            )?)),
        };
        Ok(Self {
            form: Some(form),
            part,
            last: path.to_owned(),
            bytes: 0,
        })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        match self.form.as_mut() {
            Some(Form::Csv(csv)) => {
                csv.rows(rows)?;
                self.bytes = csv.get_ref().bytes;
                Ok(())
            }
            Some(Form::Xlsx(xlsx)) => xlsx.rows(rows),
            None => Err(io::Error::other("the file has ended")),
        }
    }

    /// Bytes written by now; 0 for a workbook, which is compressed at its end.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file, syncs it and gives it its last name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<Written> {
        match self.form.take() {
            Some(Form::Csv(csv)) => {
                let out = csv.finish()?;
                out.inner
                    .into_inner()
                    .map_err(io::IntoInnerError::into_error)?
                    .sync_all()?;
            }
            Some(Form::Xlsx(xlsx)) => {
                xlsx.finish(&self.part)?;
                File::open(&self.part)?.sync_all()?;
            }
            None => {}
        }
        let written = digest(&self.part)?;
        std::fs::rename(&self.part, &self.last)?;
        if let Some(folder) = self.last.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(written)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // after the end it has another name: then there is nothing to remove
        self.form = None;
        std::fs::remove_file(&self.part).ok();
    }
}

fn digest(path: &Path) -> io::Result<Written> {
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut sum = Sha256::new();
    let mut bytes = 0u64;
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(block) = buffer.get(..read).filter(|block| !block.is_empty()) else {
            break;
        };
        sum.update(block);
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    Ok(Written {
        bytes,
        sha256: hex::encode(&sum.finalize()).to_lowercase(),
    })
}

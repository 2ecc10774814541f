//! Backups of this server: its database and the files beside it, written by command, by schedule and on demand of the
//! API; the ones in the folder, kept by rule; and the way back.

use crate::app::database;
use crate::base::clock::Clock;
use crate::config::Config;
use crate::domain::keep::{KeepRule, kept};
use crate::domain::schedule::CompiledSchedule;
use crate::port::audit::ChainHead;
use crate::port::backups::{Backup, BackupDesk, BackupRefused, BackupState};
use crate::store::audit_chain::AuditChain;
use crate::store::backup::archive::{ArchiveReader, ArchiveWriter, check};
use crate::store::backup::dump::{add_file, dump};
use crate::store::backup::load::{self, Restored, TakesFiles};
use crate::store::backup::{Manifest, PartKind};
use crate::telemetry::backup::{BackupDue, BackupFailed, BackupMade, NewestBackup};
use anyhow::Context;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDateTime, Utc};
use secrecy::SecretString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Characters of a passphrase, at least.
const KEY_MIN: usize = 16;
const KEY_MAX_BYTES: u64 = 4096;
/// The configuration as it was, without secrets: for people, nothing reads it.
const CONFIGURATION: &str = "configuration.txt";
const NOTIFY_KEY: &str = "notify.key";
const CHECKPOINTS: &str = "audit/checkpoints.jsonl";
const ENDING: &str = "backup";
/// How names in the folder say when.
const STAMP: &str = "polyphase-%Y%m%dT%H%M%SZ";

/// What of `[backup]` cannot be.
pub fn faults(config: &Config) -> Vec<String> {
    let backup = &config.backup;
    let mut found = Vec::new();
    if !backup.cron.is_empty()
        && let Err(error) = CompiledSchedule::parse(&backup.cron, &backup.time_zone)
    {
        found.push(format!("backup.cron: {error}"));
    }
    if !backup.key_file.as_os_str().is_empty()
        && let Err(error) = passphrase(&backup.key_file)
    {
        found.push(format!("backup.key_file: {error:#}"));
    }
    found
}

/// Reads a passphrase: the first line of a file.
///
/// # Errors
/// When it cannot be read or is too short.
pub fn passphrase(path: &Path) -> anyhow::Result<SecretString> {
    let place = || path.display().to_string();
    let mut text = String::new();
    File::open(path)
        .with_context(place)?
        .take(KEY_MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(place)?;
    let line = text.lines().next().unwrap_or_default().trim();
    anyhow::ensure!(
        line.chars().count() >= KEY_MIN,
        "{}: the first line is the key; it needs at least {KEY_MIN} characters",
        place()
    );
    Ok(line.to_owned().into())
}

/// Whether a part may be written into the data folder under this name.
fn is_ours(name: &str) -> bool {
    let segment = name
        .strip_prefix("spool/")
        .and_then(|name| name.strip_suffix(".seg"))
        .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    segment || [CONFIGURATION, NOTIFY_KEY, CHECKPOINTS].contains(&name)
}

/// The spool's segments: what is acknowledged and perhaps not in the database yet. Restored, they are replayed, and what
/// the database has already is known by its key.
fn segments(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("spool")).into_iter().flatten().flatten();
    let names = entries.map(|entry| format!("spool/{}", entry.file_name().to_string_lossy()));
    let mut names: Vec<String> = names.filter(|name| is_ours(name)).collect();
    names.sort();
    names
}

/// Writes a backup to `path`: under another name until it is whole and synced. Blocks while it writes.
///
/// # Errors
/// When it cannot be made; then there is no file.
pub async fn make(
    config: &Config,
    url: &SecretString,
    path: &Path,
    key: Option<&SecretString>,
    now: DateTime<Utc>,
) -> anyhow::Result<Manifest> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = write(config, url, &part, key, now).await.and_then(|manifest| {
        std::fs::rename(&part, path).with_context(|| path.display().to_string())?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(manifest)
    });
    if made.is_err() {
        std::fs::remove_file(&part).ok();
    }
    made
}

async fn write(
    config: &Config,
    url: &SecretString,
    part: &Path,
    key: Option<&SecretString>,
    now: DateTime<Utc>,
) -> anyhow::Result<Manifest> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .with_context(|| part.display().to_string())?;
    let mut archive = ArchiveWriter::begin(BufWriter::new(file), now, key)?;
    let described = format!("{config:#?}\n");
    add_file(&mut archive, CONFIGURATION, &mut described.as_bytes())?;
    let data = &config.data.folder;
    // the spool before the snapshot: what leaves it in between is in the database by then
    let names = segments(data);
    for name in [NOTIFY_KEY, CHECKPOINTS].into_iter().map(str::to_owned).chain(names) {
        match File::open(data.join(&name)) {
            Ok(mut file) => add_file(&mut archive, &name, &mut file)?,
            // never made, or drained meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| data.join(&name).display().to_string()),
        }
    }
    let (manifest, out) = dump(url, archive, now).await?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
        .with_context(|| part.display().to_string())?;
    Ok(manifest)
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the backup holds.
    pub manifest: Manifest,
    /// What was restored and compared.
    pub restored: Restored,
    /// The end of the audit, which holds.
    pub audit: Option<ChainHead>,
}

/// Files of a backup, next to where they belong until the database is restored.
struct Staged {
    folder: PathBuf,
    open: Option<(String, BufWriter<File>)>,
    names: Vec<String>,
}

impl Staged {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives the files their places.
    fn settle(self, data: &Path) -> io::Result<()> {
        for name in &self.names {
            let place = data.join(name);
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::rename(self.path(name), place)?;
        }
        std::fs::remove_dir_all(&self.folder)
    }
}

impl TakesFiles for Staged {
    fn piece(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if !is_ours(name) {
            return Err(io::Error::other(format!("a backup has no file {name:?}")));
        }
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let path = self.path(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?;
            self.open = Some((name.to_owned(), BufWriter::new(file)));
        }
        if !bytes.is_empty() {
            return self.open.as_mut().map_or(Ok(()), |(_, file)| file.write_all(bytes));
        }
        if let Some((name, file)) = self.open.take() {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            self.names.push(name);
        }
        Ok(())
    }
}

/// Restores a backup into the empty database of a configuration and its fresh data folder: checks the whole file first,
/// then loads it, compares every table, and verifies the audit.
///
/// # Errors
/// With the first thing that does not hold; the database is empty then, unless it is the audit that does not hold.
pub async fn restore(config: &Config, path: &Path, key: Option<&SecretString>) -> anyhow::Result<Report> {
    let open = || {
        File::open(path)
            .map(BufReader::new)
            .with_context(|| path.display().to_string())
    };
    let manifest = check(open()?, key).with_context(|| path.display().to_string())?;
    let data = &config.data.folder;
    refuse_used(data, &manifest)?;
    std::fs::create_dir_all(data).with_context(|| data.display().to_string())?;
    let (url, embedded) = database::locate(config).await?;
    let restored = async {
        load::prepare(&url, &manifest).await?;
        let mut files = Staged {
            folder: data.join("restore.part"),
            open: None,
            names: Vec::new(),
        };
        let archive = ArchiveReader::open(open()?, key)?;
        let restored = load::load(&url, archive, &manifest, &mut files).await?;
        files.settle(data).with_context(|| data.display().to_string())?;
        anyhow::Ok(restored)
    }
    .await;
    database::release(embedded).await;
    let restored = restored?;
    // as `polyphase audit verify` does, against the checkpoints that came with it
    let opened = database::open(config).await?;
    let checkpoints = super::audit::read(&super::audit::file(data));
    let checked = match checkpoints {
        Ok(checkpoints) => AuditChain::new(&opened.database)
            .verify(&checkpoints)
            .await
            .map_err(Into::into),
        Err(error) => Err(error),
    };
    opened.close().await;
    let audit = checked?.context("the restored audit does not hold")?;
    Ok(Report {
        manifest,
        restored,
        audit,
    })
}

/// A data folder in which a server has worked is not written into.
fn refuse_used(data: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    anyhow::ensure!(
        segments(data).is_empty(),
        "{}: there is a spool; restore to a fresh data folder",
        data.join("spool").display()
    );
    for part in &manifest.parts {
        if part.head.kind == PartKind::File && part.head.name != CONFIGURATION {
            let place = data.join(&part.head.name);
            anyhow::ensure!(
                !place.exists(),
                "{}: it is there already; restore to a fresh data folder",
                place.display()
            );
        }
    }
    Ok(())
}

/// Makes backups for the API and by schedule.
#[derive(Clone)]
pub struct Backups {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    url: SecretString,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    /// The backup that is written, or the last one that failed.
    now: Mutex<Option<Backup>>,
}

impl Backups {
    /// Of this server.
    pub fn new(config: &Config, url: SecretString, clock: Arc<dyn Clock>) -> Self {
        let own = &config.backup.folder;
        let folder = if own.as_os_str().is_empty() {
            config.data.folder.join("backups")
        } else {
            own.clone()
        };
        let inner = Inner {
            config: config.clone(),
            url,
            folder,
            clock,
            now: Mutex::default(),
        };
        let desk = Self { inner: Arc::new(inner) };
        desk.inner.gauge();
        desk
    }

    /// Makes backups when they are due, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let backup = &self.inner.config.backup;
        if backup.cron.is_empty() {
            return;
        }
        let schedule = match CompiledSchedule::parse(&backup.cron, &backup.time_zone) {
            Ok(schedule) => schedule,
            Err(error) => return tracing::error!(%error, "no backups are made: backup.cron is no schedule"),
        };
        let started = self.inner.clock.now();
        let mut last = started;
        self.inner.tell_due(&schedule, started);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.inner.clock.now();
            // one for all that became due; a clock that was set back makes none twice
            if schedule.next_after(last).is_some_and(|due| due <= now) {
                last = now;
                if let Err(error) = self.begin().await {
                    tracing::warn!(%error, "no backup is begun now");
                }
            }
            self.inner.tell_due(&schedule, started);
        }
    }
}

/// Between two looks at the schedule.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When the backup of this name was made.
fn made_at(id: &str) -> Option<DateTime<Utc>> {
    Some(NaiveDateTime::parse_from_str(id, STAMP).ok()?.and_utc())
}

impl Inner {
    fn now(&self) -> MutexGuard<'_, Option<Backup>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.{ENDING}"))
    }

    /// The whole ones in the folder, the newest first.
    fn whole(&self) -> io::Result<Vec<Backup>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(&format!(".{ENDING}")));
            if let Some((id, made_at)) = id.and_then(|id| Some((id, made_at(id)?))) {
                found.push(Backup {
                    id: id.to_owned(),
                    state: BackupState::Done,
                    made_at,
                    bytes: entry.metadata()?.len(),
                    encrypted: is_encrypted(&entry.path()),
                    reason: None,
                });
            }
        }
        found.sort_by_key(|backup| std::cmp::Reverse(backup.made_at));
        Ok(found)
    }

    /// Tells when the backup behind the newest one is due: without any, the first one since the start.
    fn tell_due(&self, schedule: &CompiledSchedule, started: DateTime<Utc>) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let newest = entries
            .filter_map(|entry| made_at(entry.file_name().to_str()?.strip_suffix(&format!(".{ENDING}"))?))
            .max();
        BackupDue {
            at: schedule.next_after(newest.unwrap_or(started)),
        }
        .emit();
    }

    fn gauge(&self) {
        if let Some(newest) = self.whole().ok().and_then(|found| found.into_iter().next()) {
            NewestBackup {
                made_at: newest.made_at,
                bytes: newest.bytes,
            }
            .emit();
        }
    }

    /// Deletes what the rule does not keep.
    fn prune(&self) -> io::Result<()> {
        let backup = &self.config.backup;
        let rule = KeepRule {
            daily: backup.keep_daily,
            weekly: backup.keep_weekly,
            monthly: backup.keep_monthly,
        };
        let found = self.whole()?;
        let made: Vec<DateTime<Utc>> = found.iter().map(|backup| backup.made_at).collect();
        let kept = kept(&made, rule);
        for old in found.iter().filter(|backup| !kept.contains(&backup.made_at)) {
            std::fs::remove_file(self.path(&old.id))?;
        }
        Ok(())
    }

    /// Makes one, to its end.
    async fn run(&self, id: &str, made_at: DateTime<Utc>) -> anyhow::Result<(u64, u64)> {
        let key = &self.config.backup.key_file;
        let key = (!key.as_os_str().is_empty()).then(|| passphrase(key)).transpose()?;
        let path = self.path(id);
        let manifest = make(&self.config, &self.url, &path, key.as_ref(), made_at).await?;
        let rows = manifest.parts.iter().map(|part| part.rows).sum();
        let bytes = std::fs::metadata(&path)?.len();
        self.prune().with_context(|| self.folder.display().to_string())?;
        Ok((bytes, rows))
    }

    fn ended(&self, id: &str, done: anyhow::Result<(u64, u64)>) {
        match done {
            Ok((bytes, rows)) => {
                *self.now() = None;
                BackupMade { id, bytes, rows }.emit();
            }
            Err(error) => {
                let cause = format!("{error:#}");
                BackupFailed { id, cause: &cause }.emit();
                if let Some(backup) = self.now().as_mut() {
                    (backup.state, backup.reason) = (BackupState::Failed, Some(cause));
                }
            }
        }
        self.gauge();
    }
}

fn is_encrypted(path: &Path) -> bool {
    let head = File::open(path).map(BufReader::new);
    // a file that asks for a key has one; one that cannot be opened at all is shown as it is
    head.is_ok_and(|file| {
        matches!(
            ArchiveReader::open(file, None),
            Err(crate::store::backup::ArchiveError::Locked(_))
        )
    })
}

#[async_trait]
impl BackupDesk for Backups {
    async fn list(&self) -> io::Result<Vec<Backup>> {
        let mut found: Vec<Backup> = self.inner.now().clone().into_iter().collect();
        found.extend(self.inner.whole()?);
        Ok(found)
    }

    async fn begin(&self) -> Result<Backup, BackupRefused> {
        let failed = |error: io::Error| BackupRefused::Failed(format!("{}: {error}", self.inner.folder.display()));
        std::fs::create_dir_all(&self.inner.folder).map_err(failed)?;
        let made_at = self.inner.clock.now();
        let backup = Backup {
            id: made_at.format(STAMP).to_string(),
            state: BackupState::Running,
            made_at,
            bytes: 0,
            encrypted: !self.inner.config.backup.key_file.as_os_str().is_empty(),
            reason: None,
        };
        {
            let mut now = self.inner.now();
            let running = now.as_ref().is_some_and(|backup| backup.state == BackupState::Running);
            if running || self.inner.path(&backup.id).exists() {
                return Err(BackupRefused::UnderWay);
            }
            *now = Some(backup.clone());
        }
        let (inner, id) = (Arc::clone(&self.inner), backup.id.clone());
        // on a thread of its own: it blocks on the disk and on compression
        let thread = std::thread::Builder::new().name("backup".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let done = match runtime {
                Ok(runtime) => runtime.block_on(inner.run(&id, made_at)),
                Err(error) => Err(error.into()),
            };
            inner.ended(&id, done);
        });
        if let Err(error) = thread {
            *self.inner.now() = None;
            return Err(failed(error));
        }
        Ok(backup)
    }

    fn file(&self, id: &str) -> Option<PathBuf> {
        // a name of ours is no path
        made_at(id)?;
        let path = self.inner.path(id);
        path.is_file().then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_written_into_the_data_folder() {
        for name in [NOTIFY_KEY, CHECKPOINTS, CONFIGURATION, "spool/00000000000000000012.seg"] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "../notify.key",
            "spool/../../x.seg",
            "spool/1.seg",
            "/etc/passwd",
            "postgres/PG_VERSION",
            "",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn names_say_when() {
        let at: DateTime<Utc> = "2026-03-01T02:00:00Z".parse().unwrap();
        assert_eq!(made_at(&at.format(STAMP).to_string()), Some(at));
        for name in [
            "../polyphase-20260301T020000Z",
            "polyphase-20260301T020000Z/../x",
            "x",
            "",
        ] {
            assert_eq!(made_at(name), None, "{name}");
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "short\n").unwrap();
        assert!(passphrase(&path).is_err());
        std::fs::write(&path, "long enough to be a key\nsecond line\n").unwrap();
        assert!(passphrase(&path).is_ok());
    }
}

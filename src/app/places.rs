//! Where addresses are and whose word about them is taken: a file in MaxMind's format, taken anew when it is replaced, and
//! the proxies in front.

use crate::api::source::{ForwardedBy, TrustedProxies};
use crate::config::{Config, ForwardedHeader};
use crate::domain::notice::target::networks;
use crate::port::places::{Nowhere, Places};
use crate::telemetry::places::{PlacesKept, PlacesTaken};
use maxminddb::{Reader, geoip2};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

/// The largest file that is read into memory, bytes; GeoLite2-City has some 60 MiB.
const FILE_MAX_BYTES: u64 = 512 << 20;
const NAME_MAX: usize = 100;
/// The file is looked at so often; its makers write a new one twice a week.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What tells one state of a file from another: when it was written, its length, which file it is. None: it is away.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A file in MaxMind's format, in memory.
struct PlaceFile {
    path: PathBuf,
    present: RwLock<Arc<Reader<Vec<u8>>>>,
    seen: Mutex<Stamp>,
}

impl Places for PlaceFile {
    fn place(&self, address: IpAddr) -> Option<String> {
        let reader = Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner));
        // an address that it does not have, or a record of another kind: no place
        let found = reader.lookup(address.to_canonical()).ok()?;
        let record = found.decode::<geoip2::City<'_>>().ok()??;
        let parts = [record.city.names.english, record.country.iso_code];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let tame: String = text.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        (!tame.is_empty()).then_some(tame)
    }
}

impl PlaceFile {
    fn open(path: &Path) -> Result<Self, String> {
        // before it is read: what is written meanwhile is seen at the next look
        let seen = stamp(path);
        Ok(Self {
            present: RwLock::new(Arc::new(read(path)?)),
            path: path.to_owned(),
            seen: Mutex::new(seen),
        })
    }

    /// Looks at the file and takes what is new in it; an error is told once for each state of the file, and what was
    /// read before stays in use.
    fn look(&self) -> Result<bool, String> {
        let stamp = stamp(&self.path);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == stamp {
                return Ok(false);
            }
            *seen = stamp;
        }
        let reader = Arc::new(read(&self.path)?);
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = reader;
        Ok(true)
    }

    /// Looks again and again, as long as somebody asks the file.
    async fn watch(file: Weak<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let Some(file) = file.upgrade() else { return };
            let looked = tokio::task::spawn_blocking(move || match file.look() {
                Ok(true) => PlacesTaken { path: &file.path }.emit(),
                Ok(false) => {}
                Err(cause) => PlacesKept {
                    path: &file.path,
                    cause: &cause,
                }
                .emit(),
            });
            if looked.await.is_err() {
                return;
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len(), about.ino()))
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX_BYTES {
        return Err(format!("has {size} bytes, more than {FILE_MAX_BYTES}"));
    }
    Reader::open_readfile(path).map_err(|error| error.to_string())
}

fn file(config: &Config) -> Result<Option<PlaceFile>, String> {
    let path = &config.access.places;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    PlaceFile::open(path)
        .map(Some)
        .map_err(|error| format!("access.places: {}: {error}", path.display()))
}

/// The file of `[access] places`, if there is one, looked at again as long as the answer is kept. Within a runtime.
///
/// # Errors
/// Names the setting and what is wrong with the file.
pub fn open(config: &Config) -> Result<Arc<dyn Places>, String> {
    let Some(file) = file(config)?.map(Arc::new) else {
        return Ok(Arc::new(Nowhere));
    };
    tokio::spawn(PlaceFile::watch(Arc::downgrade(&file), LOOK_EVERY));
    Ok(file)
}

/// The proxies of `[http]`.
///
/// # Errors
/// Names the setting.
pub fn proxies(config: &Config) -> Result<TrustedProxies, String> {
    Ok(TrustedProxies {
        networks: networks(&config.http.trusted_proxies).map_err(|error| format!("http.trusted_proxies: {error}"))?,
        header: match config.http.forwarded_header {
            ForwardedHeader::XForwardedFor => ForwardedBy::XForwardedFor,
            ForwardedHeader::Forwarded => ForwardedBy::Forwarded,
        },
    })
}

/// What is wrong with these settings.
pub fn faults(config: &Config) -> Vec<String> {
    let file = file(config).err().filter(|_| config.access.places.is_file());
    file.into_iter().chain(proxies(config).err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by PyPI mmdb-writer, another people's reading of the format: documentation networks alone.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/places.mmdb");

    #[test]
    fn an_address_has_the_place_of_its_network() {
        let file = PlaceFile::open(Path::new(FILE)).unwrap();
        let place = |text: &str| file.place(text.parse().unwrap());
        assert_eq!(place("203.0.113.7").as_deref(), Some("Berlin, DE"));
        assert_eq!(place("::ffff:203.0.113.7").as_deref(), Some("Berlin, DE"));
        assert_eq!(place("198.51.100.1").as_deref(), Some("IN"));
        assert_eq!(place("2001:db8:7::9").as_deref(), Some("Osaka, JP"));
        assert_eq!(place("198.51.100.200"), None);
        assert_eq!(place("10.0.0.1"), None);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        assert!(read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_err());
        assert!(read(Path::new("/nowhere.mmdb")).is_err());
    }
    #[tokio::test(start_paused = true)]
    async fn a_new_file_is_taken_and_one_that_is_none_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("places.mmdb"), folder.path().join("next"));
        let replace = |bytes: &[u8]| {
            std::fs::write(&next, bytes).unwrap();
            std::fs::rename(&next, &path).unwrap();
        };
        let whole = std::fs::read(FILE).unwrap();
        let moved = replaced(&whole, b"Berlin", b"Dublin");
        replace(&whole);
        let file = Arc::new(PlaceFile::open(&path).unwrap());
        let place = || file.place("203.0.113.7".parse().unwrap());
        assert_eq!(file.look(), Ok(false));
        // as it is while somebody is still copying; told once
        replace(&whole[..whole.len() / 2]);
        assert!(file.look().is_err());
        assert_eq!(file.look(), Ok(false));
        assert_eq!(place().as_deref(), Some("Berlin, DE"));
        std::fs::remove_file(&path).unwrap();
        assert!(file.look().is_err());
        assert_eq!(place().as_deref(), Some("Berlin, DE"));

        replace(&moved);
        let watching = tokio::spawn(PlaceFile::watch(Arc::downgrade(&file), LOOK_EVERY));
        while place().as_deref() != Some("Dublin, DE") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        drop(file);
        watching.await.unwrap();
    }

    fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
        let at = bytes.windows(what.len()).position(|part| part == what).unwrap();
        [&bytes[..at], by, &bytes[at + what.len()..]].concat()
    }
}

//! Where addresses are and whose word about them is taken: a file in MaxMind's format, and the proxies in front.

use crate::api::source::{ForwardedBy, TrustedProxies};
use crate::config::{Config, ForwardedHeader};
use crate::domain::notice::target::networks;
use crate::port::places::{Nowhere, Places};
use maxminddb::{Reader, geoip2};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// The largest file that is read into memory, bytes; GeoLite2-City has some 60 MiB.
const FILE_MAX_BYTES: u64 = 512 << 20;
const NAME_MAX: usize = 100;

/// A file in MaxMind's format, in memory.
struct PlaceFile(Reader<Vec<u8>>);

impl Places for PlaceFile {
    fn place(&self, address: IpAddr) -> Option<String> {
        // an address that it does not have, or a record of another kind: no place
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let record = found.decode::<geoip2::City<'_>>().ok()??;
        let parts = [record.city.names.english, record.country.iso_code];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let tame: String = text.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        (!tame.is_empty()).then_some(tame)
    }
}

/// The file of `[access] places`, if there is one.
///
/// # Errors
/// Names the setting and what is wrong with the file.
pub fn open(config: &Config) -> Result<Arc<dyn Places>, String> {
    let path = &config.access.places;
    if path.as_os_str().is_empty() {
        return Ok(Arc::new(Nowhere));
    }
    let file = read(path).map_err(|error| format!("access.places: {}: {error}", path.display()))?;
    Ok(Arc::new(file))
}

fn read(path: &Path) -> Result<PlaceFile, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX_BYTES {
        return Err(format!("has {size} bytes, more than {FILE_MAX_BYTES}"));
    }
    Reader::open_readfile(path)
        .map(PlaceFile)
        .map_err(|error| error.to_string())
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
    let file = open(config).err().filter(|_| config.access.places.is_file());
    file.into_iter().chain(proxies(config).err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by PyPI mmdb-writer, another people's reading of the format: documentation networks alone.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/places.mmdb");

    #[test]
    fn an_address_has_the_place_of_its_network() {
        let file = read(Path::new(FILE)).unwrap();
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
}

//! The PostgreSQL programs installed on this host.

use super::EmbeddedError;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The oldest major version that the schema is tested on.
pub(super) const MAJOR_MIN: u32 = 15;

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Installation {
    /// The folder with `initdb`, `pg_ctl` and `postgres`.
    pub(super) bin: PathBuf,
    /// The major version.
    pub(super) major: u32,
}

impl Installation {
    /// One of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// Everything installed, newest first. A folder that was set is the only candidate.
pub(super) async fn find(set: Option<&Path>) -> Vec<Installation> {
    let mut found: Vec<Installation> = Vec::new();
    for bin in candidates(set) {
        if !["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| bin.join(name).is_file())
        {
            continue;
        }
        if let Some(major) = major_of(&bin).await
            && found.iter().all(|other| other.bin != bin)
        {
            found.push(Installation { bin, major });
        }
    }
    found.sort_by_key(|installation| std::cmp::Reverse(installation.major));
    found
}

/// The one to use: for an existing cluster the one of its major version, else the newest.
pub(super) fn choose(
    found: &[Installation],
    cluster_major: Option<u32>,
    cluster: &Path,
) -> Result<Installation, EmbeddedError> {
    let majors = || found.iter().map(|installation| installation.major).collect::<Vec<_>>();
    match cluster_major {
        Some(major) => found
            .iter()
            .find(|installation| installation.major == major)
            .cloned()
            .ok_or_else(|| EmbeddedError::OtherMajor {
                cluster: cluster.to_path_buf(),
                major,
                installed: majors(),
            }),
        None => found
            .first()
            .filter(|installation| installation.major >= MAJOR_MIN)
            .cloned()
            .ok_or_else(|| EmbeddedError::NotInstalled { installed: majors() }),
    }
}

fn candidates(set: Option<&Path>) -> Vec<PathBuf> {
    if let Some(bin) = set {
        return vec![bin.to_path_buf()];
    }
    let mut bins = Vec::new();
    // Debian and Ubuntu; Red Hat and SUSE; then whatever the PATH has
    for (parent, prefix, below) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        bins.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(below)),
        );
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    bins.extend(std::env::split_paths(&path));
    bins
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
async fn major_of(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .current_dir("/")
        .output()
        .await
        .ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(major: u32) -> Installation {
        Installation {
            bin: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
            major,
        }
    }

    #[test]
    fn versions_are_understood() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("mysqld 8.0\n"), None);
    }

    #[test]
    fn a_cluster_of_another_major_version_is_refused_with_the_way_to_upgrade() {
        let found = [installation(17), installation(16)];
        let error = choose(&found, Some(15), Path::new("/data/postgres/cluster")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("PostgreSQL 15") && text.contains("17, 16") && text.contains("pg_upgrade"),
            "{text}"
        );
        assert_eq!(choose(&found, Some(16), Path::new("/")).unwrap().major, 16);
        assert_eq!(choose(&found, None, Path::new("/")).unwrap().major, 17);
        assert!(choose(&[installation(14)], None, Path::new("/")).is_err());
    }
}

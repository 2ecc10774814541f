//! Under which user PostgreSQL runs: as root it refuses to, so root drops to another user, whose way to the data folder
//! must be open.

use super::EmbeddedError;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The users that root drops to, by preference.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user to run PostgreSQL as; none: ourselves.
pub(super) fn user() -> Result<Option<User>, EmbeddedError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    USERS
        .iter()
        .find_map(|name| in_passwd(&passwd, name))
        .map(Some)
        .ok_or(EmbeddedError::NoUser)
}

/// `name:x:uid:gid:…`
fn in_passwd(passwd: &str, name: &str) -> Option<User> {
    let mut fields = passwd.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let first = fields.next()?;
        (first == name).then_some(fields)
    })?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
    })
}

/// A command under that user, in a folder that everyone may enter, with nothing on its standard input.
pub(super) fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .env_remove("PGDATA")
        .env_remove("PGPORT")
        .env_remove("PGOPTIONS");
    if let Some(user) = user {
        // drops root's groups as well
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Gives a file or folder to the user.
pub(super) fn give(path: &Path, user: Option<&User>) -> Result<(), EmbeddedError> {
    match user {
        Some(user) => {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).map_err(|source| EmbeddedError::Io {
                what: "change the owner of",
                path: path.to_path_buf(),
                source,
            })
        }
        None => Ok(()),
    }
}

/// Checks that the user can walk to `folder`.
pub(super) fn traversable(folder: &Path, user: Option<&User>) -> Result<(), EmbeddedError> {
    let Some(user) = user else {
        return Ok(());
    };
    match first_closed(folder, user)? {
        None => Ok(()),
        Some(closed) => Err(EmbeddedError::Closed {
            folder: closed,
            user: user.name.clone(),
        }),
    }
}

fn first_closed(folder: &Path, user: &User) -> Result<Option<PathBuf>, EmbeddedError> {
    let mut ancestors: Vec<&Path> = folder.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    ancestors.reverse();
    for path in ancestors {
        let metadata = std::fs::metadata(path).map_err(|source| EmbeddedError::Io {
            what: "look at",
            path: path.to_path_buf(),
            source,
        })?;
        let mode = metadata.permissions().mode();
        let bit = if metadata.uid() == user.uid {
            0o100
        } else if metadata.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if mode & bit == 0 {
            return Ok(Some(path.to_path_buf()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:5:6::/:\npostgres:x:101:104::/:\n";
        let user = in_passwd(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(in_passwd(passwd, "nobody"), None);
    }

    #[test]
    fn the_closed_parent_is_named() {
        let top = tempfile::tempdir().unwrap();
        std::fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let closed = top.path().join("closed");
        let folder = closed.join("data");
        std::fs::create_dir_all(&folder).unwrap();
        let stranger = User {
            name: "stranger".into(),
            uid: 64_999,
            gid: 64_999,
        };
        assert_eq!(first_closed(&folder, &stranger).unwrap(), None);
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o750)).unwrap();
        assert_eq!(first_closed(&folder, &stranger).unwrap(), Some(closed.clone()));
        let text = traversable(&folder, Some(&stranger)).unwrap_err().to_string();
        assert!(
            text.contains(closed.to_str().unwrap()) && text.contains("stranger"),
            "{text}"
        );
    }
}

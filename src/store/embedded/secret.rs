//! The cluster's passwords: random, kept in one file that its owner alone can read.

use super::EmbeddedError;
use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::SecretString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Passwords of the superuser, used to set the cluster up, and of the server's own login.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) superuser: SecretString,
    pub(super) login: SecretString,
}

impl Secret {
    /// Reads the file; none when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, EmbeddedError> {
        let mut text = String::new();
        match std::fs::File::open(path) {
            Ok(file) => file
                .take(4096)
                .read_to_string(&mut text)
                .map_err(|source| io("read", path, source))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io("open", path, source)),
        };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric()))
                .map(|value| SecretString::from(value.to_owned()))
        };
        match (field("superuser"), field("login")) {
            (Some(superuser), Some(login)) => Ok(Some(Self { superuser, login })),
            _ => Err(EmbeddedError::BadSecret {
                path: path.to_path_buf(),
            }),
        }
    }

    /// Makes new passwords and writes the file, whole or not at all.
    pub(super) fn create(path: &Path) -> Result<Self, EmbeddedError> {
        let (superuser, login) = (random()?, random()?);
        let unfinished = path.with_extension("new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(format!("superuser={superuser}\nlogin={login}\n").as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&unfinished, path));
        written.map_err(|source| io("write", path, source))?;
        Ok(Self {
            superuser: superuser.into(),
            login: login.into(),
        })
    }
}

/// 256 bits from the operating system, as hex: safe in a URL and between SQL quotes.
fn random() -> Result<String, EmbeddedError> {
    let mut bytes = [0u8; 32];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| EmbeddedError::Random(error.to_string()))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // writing to a string cannot fail
        let _written = write!(text, "{byte:02x}");
        text
    }))
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> EmbeddedError {
    EmbeddedError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.secret");
        assert!(Secret::read(&path).unwrap().is_none());
        let made = Secret::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Secret::read(&path).unwrap().unwrap();
        assert_eq!(read.login.expose_secret(), made.login.expose_secret());
        assert_ne!(made.login.expose_secret(), made.superuser.expose_secret());
        assert_eq!(made.login.expose_secret().len(), 64);
        std::fs::write(&path, "login=a'; DROP\nsuperuser=x\n").unwrap();
        assert!(Secret::read(&path).is_err());
    }
}

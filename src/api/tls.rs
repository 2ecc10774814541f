//! TLS: the certificate of the server's files, taken into use anew when they are replaced. Connections stay; the next
//! handshake has the new one. A pair that does not fit together, as it is while somebody is still copying, is not taken.

use crate::telemetry::tls::{CertificateKept, CertificateTaken};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

const FILE_MAX_BYTES: u64 = 1 << 20;

/// PEM files of the server's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// A TLS file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub cause: String,
}

fn wrong(path: &Path, cause: impl ToString) -> TlsError {
    TlsError {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

#[derive(Debug)]
struct Present(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    present: Arc<Present>,
    seen: [u8; 32],
}

/// The text of both files, and their digest.
struct Pair {
    cert: String,
    key: String,
    digest: [u8; 32],
}

fn read(path: &Path) -> Result<String, TlsError> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text))
        .map_err(|error| wrong(path, error))?;
    Ok(text)
}

impl Pair {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let (cert, key) = (read(&files.cert)?, read(&files.key)?);
        let mut both = Sha256::new();
        both.update(Sha256::digest(cert.as_bytes()));
        both.update(Sha256::digest(key.as_bytes()));
        let digest = both.finalize().into();
        Ok(Self { cert, key, digest })
    }

    fn certified(&self, files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(self.cert.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&files.cert, error))?;
        if chain.is_empty() {
            return Err(wrong(&files.cert, "holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| wrong(&files.key, error))?;
        // says as well when the key is not the certificate's
        CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
            .map_err(|error| wrong(&files.key, error))
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let pair = Pair::read(&files)?;
        let certified = pair.certified(&files)?;
        Ok(Self {
            present: Arc::new(Present(RwLock::new(Arc::new(certified)))),
            seen: pair.digest,
            files,
        })
    }

    /// TLS 1.2 and 1.3 with whatever certificate is in use.
    ///
    /// # Errors
    /// [`TlsError`] when TLS cannot be set up.
    pub fn config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.files.cert, error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.present) as Arc<dyn ResolvesServerCert>))
    }

    /// Looks at the files and takes what is new in them.
    ///
    /// # Errors
    /// [`TlsError`] when what is new cannot be used; told once for each state of the files.
    pub fn look(&mut self) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.files)?;
        if pair.digest == self.seen {
            return Ok(false);
        }
        self.seen = pair.digest;
        let certified = pair.certified(&self.files)?;
        *self.present.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
        Ok(true)
    }

    /// Looks again and again, until it is dropped.
    pub(super) async fn watch(mut self, every: Duration) {
        let mut missing = false;
        loop {
            tokio::time::sleep(every).await;
            let looked = tokio::task::spawn_blocking(move || {
                let looked = self.look();
                (self, looked)
            });
            let Ok((this, looked)) = looked.await else { return };
            self = this;
            match looked {
                Ok(true) => CertificateTaken { path: &self.files.cert }.emit(),
                Ok(false) => missing = false,
                // files that are away are away at every look; once is enough
                Err(error) => {
                    let away = !error.path.exists();
                    if !(away && missing) {
                        CertificateKept {
                            path: &error.path,
                            cause: &error.cause,
                        }
                        .emit();
                    }
                    missing = away;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsFiles, name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made
    }

    fn leaf(certificate: &Certificate) -> Vec<u8> {
        let present = certificate.present.0.read().unwrap();
        present.cert.first().unwrap().to_vec()
    }

    #[test]
    fn a_pair_that_fits_is_taken_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
        };
        assert!(Certificate::open(files.clone()).is_err());
        let first = write(&files, "one.example");
        let mut certificate = Certificate::open(files.clone()).unwrap();
        assert!(certificate.config().is_ok());
        assert!(!certificate.look().unwrap());
        let second = write(&files, "two.example");
        assert!(certificate.look().unwrap());
        assert_eq!(leaf(&certificate), second.cert.der().to_vec());
        // half of a copy: the certificate of one, the key of the other
        std::fs::write(&files.cert, first.cert.pem()).unwrap();
        assert!(certificate.look().is_err());
        assert!(!certificate.look().unwrap(), "told once");
        assert_eq!(leaf(&certificate), second.cert.der().to_vec());
        std::fs::write(&files.key, first.signing_key.serialize_pem()).unwrap();
        assert!(certificate.look().unwrap());
        assert_eq!(leaf(&certificate), first.cert.der().to_vec());
        for junk in [
            "",
            "no pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&files.cert, junk).unwrap();
            assert!(certificate.look().is_err(), "{junk:?}");
        }
        std::fs::remove_file(&files.cert).unwrap();
        assert!(certificate.look().is_err());
        assert_eq!(leaf(&certificate), first.cert.der().to_vec());
    }
}

//! The server's key: one secret, from which others are derived, so that no secret of a channel, a second factor or a
//! device has to be stored. Who loses the key loses them all; it is kept with the backups.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use uuid::Uuid;

/// The key. Prints nothing of itself.
#[derive(Clone, Debug)]
pub struct ServerKey(SecretString);

impl ServerKey {
    /// From a text of at least 32 bytes.
    pub fn new(key: SecretString) -> Self {
        Self(key)
    }

    /// The secret for one purpose and one salt: HMAC-SHA-256 (RFC 2104).
    pub fn derive(&self, purpose: &str, salt: Uuid) -> [u8; 32] {
        self.seal(purpose, salt.as_bytes())
    }

    /// A seal over `message` that nobody without the key can make. Purposes must not be beginnings of one another, or what
    /// follows has to have one length.
    pub fn seal(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        mac(self.0.expose_secret().as_bytes(), &[purpose.as_bytes(), message])
            .map_or([0; 32], |mac| mac.finalize().into_bytes().into())
    }

    /// Whether `seal` is the one over `message`, in constant time.
    pub fn sealed(&self, purpose: &str, message: &[u8], seal: &[u8]) -> bool {
        mac(self.0.expose_secret().as_bytes(), &[purpose.as_bytes(), message])
            .is_some_and(|mac| mac.verify_slice(seal).is_ok())
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    // HMAC takes a key of any length, so there always is one
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServerKey {
        ServerKey::new("0123456789abcdef0123456789abcdef".to_owned().into())
    }

    #[test]
    fn each_purpose_and_salt_has_its_own_secret() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(key().derive("a", one), key().derive("a", one));
        assert_ne!(key().derive("a", one), key().derive("b", one));
        assert_ne!(key().derive("a", one), key().derive("a", other));
        assert!(!format!("{:?}", key()).contains("0123"));
    }

    /// RFC 4231, test case 2: key `Jefe`.
    #[test]
    fn it_is_hmac_sha_256() {
        let key = ServerKey::new("Jefe".to_owned().into());
        let seal = key.seal("what do ya want ", b"for nothing?");
        assert_eq!(
            crate::base::hex::encode(&seal).to_lowercase(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(key.sealed("what do ya want ", b"for nothing?", &seal));
        assert!(!key.sealed("what do ya want ", b"for something?", &seal));
        assert!(!key.sealed("what do ya want ", b"for nothing?", &seal[..31]));
    }
}

//! Passwords that have to be said to a far side and so cannot be derived: sealed with a key that is not in the database
//! (ChaCha20-Poly1305, RFC 8439), under a fresh random nonce each time.

use super::webhook::WebhookKey;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

/// What the sealed texts are for; nothing else opens them.
const PURPOSE: &str = "integration password";

/// Seals and opens.
#[derive(Clone, Debug)]
pub struct Sealer(WebhookKey);

/// Why a text cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is none of its kind.
    #[error("the key cannot be used")]
    Key,
    /// The system gives no chance.
    #[error("the system gives no random numbers")]
    Random,
    /// Sealed with another key, or damaged.
    #[error("the password cannot be read with this server's key (notify.key): set it again")]
    Closed,
}

impl Sealer {
    /// With the server's key.
    pub fn new(key: WebhookKey) -> Self {
        Self(key)
    }

    fn key(&self) -> Result<LessSafeKey, SealError> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0.derived(PURPOSE))
            .map(LessSafeKey::new)
            .map_err(|_| SealError::Key)
    }

    /// Nonce and sealed text.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, text: &SecretString) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = text.expose_secret().as_bytes().to_vec();
        self.key()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(PURPOSE.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SealError::Key)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The text.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn open(&self, sealed: &[u8]) -> Result<SecretString, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Closed)?;
        let mut text = rest.to_vec();
        let opened = self
            .key()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(PURPOSE.as_bytes()),
                &mut text,
            )
            .map_err(|_| SealError::Closed)?;
        let text = std::str::from_utf8(opened).map_err(|_| SealError::Closed)?;
        Ok(text.to_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(WebhookKey::new(key.to_owned().into()))
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_alone() {
        let one = sealer("0123456789abcdef0123456789abcdef");
        let secret = SecretString::from("pass wörd".to_owned());
        let sealed = one.seal(&secret).unwrap();
        assert_ne!(sealed, one.seal(&secret).unwrap());
        assert!(!sealed.windows(4).any(|window| window == b"pass"));
        assert_eq!(one.open(&sealed).unwrap().expose_secret(), "pass wörd");
        let other = sealer("another key of at least 32 letters");
        assert_eq!(other.open(&sealed).unwrap_err(), SealError::Closed);
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(one.open(&damaged).unwrap_err(), SealError::Closed);
        assert_eq!(one.open(&[1, 2, 3]).unwrap_err(), SealError::Closed);
    }
}

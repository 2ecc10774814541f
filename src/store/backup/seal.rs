//! Encryption of a backup: ChaCha20-Poly1305 (RFC 8439) over pieces, each with its number and whether it is the last
//! (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár 2015), so that no piece can be changed, moved,
//! left out or cut off. The key is made from a passphrase by Argon2id (RFC 9106) with a salt of the file's own; it is used for one file
//! alone, so the numbers of the pieces are nonces enough.

use super::ArchiveError;
use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Bytes that a seal adds to a piece.
pub const TAG: usize = 16;
/// The most memory and passes that a file may ask for: a file from outside must not exhaust the host.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// How the key is made from the passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derivation {
    /// 32 hex digits.
    pub salt: String,
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Derivation {
    /// With a fresh salt: 64 MiB, 3 passes (RFC 9106 §4, the second choice).
    pub fn fresh() -> Self {
        Self {
            salt: crate::base::hex::encode(&rand::random::<[u8; 16]>()).to_lowercase(),
            memory_kib: 64 * 1024,
            passes: 3,
        }
    }

    fn key(&self, passphrase: &SecretString) -> Result<LessSafeKey, ArchiveError> {
        let damaged = || ArchiveError::Damaged("its head names no key derivation that this version knows".to_owned());
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX {
            return Err(damaged());
        }
        let salt = crate::base::hex::decode(&self.salt).map_err(|_| damaged())?;
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32)).map_err(|_| damaged())?;
        let mut key = [0u8; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose_secret().as_bytes(), &salt, &mut key)
            .map_err(|_| damaged())?;
        UnboundKey::new(&CHACHA20_POLY1305, &key)
            .map(LessSafeKey::new)
            .map_err(|_| damaged())
    }
}

/// Seals or opens the pieces of one file, in order.
pub struct Seal {
    key: LessSafeKey,
    /// The file's head, which every seal covers.
    head: Vec<u8>,
    next: u64,
}

impl Seal {
    /// For a file with this head.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] for a derivation that cannot be.
    pub fn new(passphrase: &SecretString, derivation: &Derivation, head: &[u8]) -> Result<Self, ArchiveError> {
        Ok(Self {
            key: derivation.key(passphrase)?,
            head: head.to_owned(),
            next: 0,
        })
    }

    fn nonce(&mut self, last: bool) -> Nonce {
        // three zeros, the number of the piece, whether it is the last
        let number = self.next.to_be_bytes();
        let bytes = [0u8; 3].into_iter().chain(number).chain([u8::from(last)]);
        let mut nonce = [0u8; 12];
        for (place, byte) in nonce.iter_mut().zip(bytes) {
            *place = byte;
        }
        self.next = self.next.saturating_add(1);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a piece in place.
    ///
    /// # Errors
    /// Cannot happen for pieces of the archive's size.
    pub fn seal(&mut self, piece: &mut Vec<u8>, last: bool) -> Result<(), ArchiveError> {
        let nonce = self.nonce(last);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(self.head.as_slice()), piece)
            .map_err(|_| ArchiveError::Damaged("a piece is too long to be sealed".to_owned()))
    }

    /// Opens a piece in place.
    ///
    /// # Errors
    /// [`ArchiveError::Locked`] for the first piece, whose usual fault is a wrong key; else [`ArchiveError::Damaged`].
    pub fn open(&mut self, piece: &mut Vec<u8>, last: bool) -> Result<(), ArchiveError> {
        let first = self.next == 0;
        let nonce = self.nonce(last);
        match self.key.open_in_place(nonce, Aad::from(self.head.as_slice()), piece) {
            Ok(plain) => {
                let length = plain.len();
                piece.truncate(length);
                Ok(())
            }
            Err(_) if first => Err(ArchiveError::Locked(
                "the key does not open it, or its beginning is damaged".to_owned(),
            )),
            Err(_) => Err(ArchiveError::Damaged("a piece is not what was sealed".to_owned())),
        }
    }
}

//! Tokens: opaque random texts, of which the database knows the SHA-256 alone.
//!
//! `ph_` says whose they are (for secret scanners), the next letter what they are: `k` an API key, `s` a session.
//! Behind it stand 32 random bytes as base64url.

use crate::port::auth::{TokenHash, TokenKind};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

const KEY_PREFIX: &str = "ph_k_";
const SESSION_PREFIX: &str = "ph_s_";
/// Characters of a token: a prefix of 5 and 32 bytes as base64url.
const TOKEN_LENGTH: usize = 48;
/// Characters of a key that may be shown later, so that people tell their keys apart.
const SHOWN: usize = 10;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// A new token: shown once, stored as its hash.
pub struct Token {
    /// The whole text.
    pub secret: String,
    /// What is stored.
    pub hash: TokenHash,
}

impl Token {
    /// Makes one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(kind: TokenKind) -> Result<Self, NoRandomness> {
        let mut bytes = [0u8; 32];
        OsRng.try_fill_bytes(&mut bytes).map_err(|_| NoRandomness)?;
        let prefix = match kind {
            TokenKind::ApiKey => KEY_PREFIX,
            TokenKind::Session => SESSION_PREFIX,
        };
        let secret = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = hash(&secret);
        Ok(Self { secret, hash })
    }

    /// The beginning, which may be shown later.
    pub fn prefix(&self) -> String {
        self.secret.chars().take(SHOWN).collect()
    }
}

/// Letters of a code that people type.
pub const LETTERS: usize = 12;
/// None that people confuse (no 0 O 1 I L).
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

/// A code that people type: twelve letters in three groups, none like another; some 59 bits.
///
/// # Errors
/// [`NoRandomness`].
pub fn letters() -> Result<String, NoRandomness> {
    let mut code = String::with_capacity(LETTERS + 2);
    while code.len() < LETTERS + 2 {
        let mut byte = [0u8; 1];
        OsRng.try_fill_bytes(&mut byte).map_err(|_| NoRandomness)?;
        // bytes beyond a whole number of alphabets would favour the first letters
        let [byte] = byte;
        let fair = usize::from(byte) < 248;
        if let Some(letter) = ALPHABET.get(usize::from(byte) % ALPHABET.len()).filter(|_| fair) {
            if matches!(code.len(), 4 | 9) {
                code.push('-');
            }
            code.push(char::from(*letter));
        }
    }
    Ok(code)
}

/// What a text says it is, and its hash; none: it cannot be a token of ours.
pub fn recognise(text: &str) -> Option<(TokenKind, TokenHash)> {
    let kind = if text.starts_with(KEY_PREFIX) {
        TokenKind::ApiKey
    } else if text.starts_with(SESSION_PREFIX) {
        TokenKind::Session
    } else {
        return None;
    };
    (text.len() == TOKEN_LENGTH).then(|| (kind, hash(text)))
}

/// SHA-256 of a secret text.
pub fn hash(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_recognised_by_kind_and_never_repeat() {
        let key = Token::generate(TokenKind::ApiKey).unwrap();
        let session = Token::generate(TokenKind::Session).unwrap();
        assert_eq!(recognise(&key.secret), Some((TokenKind::ApiKey, key.hash)));
        assert_eq!(recognise(&session.secret), Some((TokenKind::Session, session.hash)));
        assert_ne!(key.hash, Token::generate(TokenKind::ApiKey).unwrap().hash);
        assert_eq!(recognise(&key.secret[..47]), None);
        assert_eq!(recognise("Bearer"), None);
        assert!(key.secret.starts_with(&key.prefix()) && key.prefix().len() == SHOWN);
    }
}

//! Guarded questions and answers, as far as it goes without a certified security module.
//!
//! Keys of the State Grid live in such a module (ESAM, and a cipher machine at the head end); none of it is in this
//! program. A [`KeyProvider`] is the place where one is plugged in. [`Clear`] is the provider without keys: questions go
//! in clear with a random number, answers are read and never taken for proven.

use super::Address;
use super::apdu::{Apdu, Application, Secured, SecuredAnswer, SecurityRequest, Verification};
use super::dar::Dar;
use super::wire::{CodecError, Octets};

/// What a guarded answer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revealed {
    /// What it says.
    pub apdu: Apdu,
    /// Whether its code was proven with a key.
    pub proven: bool,
}

/// Why a question cannot be guarded, or an answer not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// There is no key for it.
    #[error("there is no key for device {0}")]
    NoKey(String),
    /// The answer is enciphered, and there is no key.
    #[error("the answer is enciphered and there is no key for it")]
    Enciphered,
    /// The code does not prove the answer.
    #[error("the answer's code does not prove it")]
    Unproven,
    /// The device refuses.
    #[error("the device's security refuses: {0}")]
    Refused(Dar),
    /// What is in it cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The module that holds the keys fails.
    #[error("the security module fails: {0}")]
    Module(String),
}

/// Who guards questions and reads guarded answers. An implementation may keep a session per device; it is called from
/// one exchange at a time for one device.
pub trait KeyProvider: Send + Sync {
    /// Guards a question to a device.
    ///
    /// # Errors
    /// [`SecurityError`] when there is no key, or the module fails.
    fn guard(&self, address: &Address, apdu: &Apdu) -> Result<SecurityRequest, SecurityError>;

    /// Reads a guarded answer to a question that it guarded.
    ///
    /// # Errors
    /// [`SecurityError`] when it cannot be read, does not prove itself, or refuses.
    fn reveal(
        &self,
        address: &Address,
        question: &SecurityRequest,
        answer: &SecuredAnswer,
    ) -> Result<Revealed, SecurityError>;
}

/// No keys: questions in clear with a random number, which meters demand for some reads.
#[derive(Clone, Debug)]
pub struct Clear {
    random: [u8; 16],
}

impl Clear {
    /// With a random number that the caller drew.
    pub fn new(random: [u8; 16]) -> Self {
        Self { random }
    }
}

impl KeyProvider for Clear {
    fn guard(&self, _address: &Address, apdu: &Apdu) -> Result<SecurityRequest, SecurityError> {
        Ok(SecurityRequest::Plain(Secured {
            apdu: Octets(apdu.wire()),
            verification: Verification::Random(Octets(self.random.to_vec())),
        }))
    }

    fn reveal(
        &self,
        _address: &Address,
        _question: &SecurityRequest,
        answer: &SecuredAnswer,
    ) -> Result<Revealed, SecurityError> {
        match &answer.application {
            Application::Plain(apdu) => Ok(Revealed {
                apdu: Apdu::parse(&apdu.0)?,
                proven: false,
            }),
            Application::Encrypted(_) => Err(SecurityError::Enciphered),
            Application::Dar(dar) => Err(SecurityError::Refused(*dar)),
        }
    }
}

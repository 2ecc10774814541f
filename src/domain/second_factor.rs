//! Time-based one-time passwords (RFC 6238): what an authenticator app shows, and whether a typed code is right.
//! SHA-1, six digits, steps of 30 seconds: the one form that every app knows. Pure: "now" is an argument.

use chrono::{DateTime, Utc};
use totp_rs::{Algorithm, Builder, Totp};

/// Seconds of a step.
pub const STEP_S: u64 = 30;
/// Steps before and after the present one whose codes are taken: clocks of telephones drift.
pub const DRIFT_STEPS: u16 = 1;
/// Bytes of a secret (RFC 4226 §4, R6).
const SECRET_LENGTH: usize = 20;

/// The secret that server and app share.
pub struct TotpSecret(Vec<u8>);

impl TotpSecret {
    /// From 32 secret bytes, of which 20 are used.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(bytes.iter().copied().take(SECRET_LENGTH).collect())
    }

    fn totp(&self) -> Builder {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(DRIFT_STEPS)
            .with_step_duration(STEP_S)
            .with_secret(self.0.clone())
    }

    /// As people type it into an app: base32.
    pub fn base32(&self) -> String {
        self.plain().secret().to_base32()
    }

    /// As apps read it from a picture: `otpauth://totp/…`. A colon, which separates there, becomes a blank.
    pub fn uri(&self, issuer: &str, person: &str) -> String {
        let tame = |text: &str| text.replace(':', " ");
        let totp = self
            .totp()
            .with_issuer(Some(tame(issuer)))
            .with_account_name(tame(person));
        // fails for an empty name alone, and an address never is
        totp.build().and_then(|totp| totp.to_url()).unwrap_or_default()
    }

    /// The step whose code this is, at most [`DRIFT_STEPS`] from `now`, and after `last`, the step used before: a code
    /// works once, and none does that was due before one that worked.
    pub fn step_of(&self, code: &str, now: DateTime<Utc>, last: i64) -> Option<i64> {
        let now = u64::try_from(now.timestamp()).ok()?;
        let step = i64::try_from(self.plain().check(code, now)?).ok()?;
        (step > last).then_some(step)
    }

    /// The code of this instant; for tests and for tools that stand in for an app.
    pub fn code_at(&self, now: DateTime<Utc>) -> String {
        let now = u64::try_from(now.timestamp()).unwrap_or(0);
        self.plain().generate(now).to_string()
    }

    fn plain(&self) -> Totp {
        self.totp().build_noncompliant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn rfc_secret() -> TotpSecret {
        TotpSecret(b"12345678901234567890".to_vec())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// RFC 6238 Appendix B, SHA-1; the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(rfc_secret().code_at(at(seconds)), code);
            assert_eq!(rfc_secret().step_of(code, at(seconds), 0), Some(seconds / 30));
        }
    }

    #[test]
    fn what_an_app_reads_names_server_and_person() {
        let secret = TotpSecret::new(&[7; 32]);
        let uri = secret.uri("Poly: phase", "ann@x.org");
        assert!(uri.starts_with("otpauth://totp/Poly%20%20phase:ann%40x.org?"), "{uri}");
        assert!(uri.contains(&format!("secret={}", secret.base32())), "{uri}");
        assert_eq!(secret.base32().len(), 32);
    }

    #[test]
    fn nothing_but_six_digits_is_a_code() {
        let now = at(59);
        for wrong in [
            "",
            "28708",
            "2870820",
            "+87082",
            "28708a",
            "２８７０８２",
            "287083",
            " 287082",
        ] {
            assert_eq!(rfc_secret().step_of(wrong, now, 0), None, "{wrong:?}");
        }
    }

    proptest! {
        /// Against a walk over the steps: right within the drift and after the last one used, else not.
        #[test]
        fn a_code_works_near_its_step_and_never_again(now in 90i64..4_000_000_000, off in -4i64..=4, used in -5i64..=5) {
            let secret = rfc_secret();
            let (now, then) = (at(now), at(now) + TimeDelta::seconds(30 * off));
            let code = secret.code_at(then);
            let (present, step) = (now.timestamp() / 30, then.timestamp() / 30);
            let last = present + used;
            let twins = (present - 1..=present + 1).filter(|other| secret.code_at(at(other * 30)) == code);
            // two steps may share a code, one time in a million; then the first of them counts
            let expected = twins.min().filter(|first| *first > last);
            prop_assert_eq!(secret.step_of(&code, now, last), expected);
            if off.abs() > 1 && expected.is_some() {
                prop_assert!(expected != Some(step));
            }
        }
    }
}

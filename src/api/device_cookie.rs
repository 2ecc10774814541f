//! A browser that somebody has signed in with: a cookie under the server's seal (OWASP, "Slow Down Online Guessing
//! Attacks with Device Cookies"). It lets nobody in; it says that its bearer is no stranger, so that guesses of strangers
//! cannot keep the owner out. Nothing of it is stored: it outlives a restart.

use super::throttle::name_digest;
use crate::base::ids::UserId;
use crate::base::server_key::ServerKey;
use actix_web::HttpRequest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};

/// Its name.
pub const COOKIE: &str = "polyphase_device";
/// Days that it is worth something, anew with each sign-in.
pub const LIFE_DAYS: i64 = 180;
const PURPOSE: &str = "device";
/// User (4), issued (8), number (8), name (16).
const BODY: usize = 36;
const WHOLE: usize = BODY + 32;

/// What a valid cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who signed in with it.
    pub user: UserId,
    /// Its number; random.
    pub number: u64,
}

/// The cookie's value, for somebody who signs in by this name.
pub fn write(key: &ServerKey, device: Device, name: &str, now: DateTime<Utc>) -> String {
    let mut bytes = Vec::with_capacity(WHOLE);
    bytes.extend_from_slice(&device.user.0.to_be_bytes());
    bytes.extend_from_slice(&now.timestamp().to_be_bytes());
    bytes.extend_from_slice(&device.number.to_be_bytes());
    bytes.extend_from_slice(&name_digest(name));
    let seal = key.seal(PURPOSE, &bytes);
    bytes.extend_from_slice(&seal);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a value says, if it is ours, not too old, and of somebody who signs in by this name: who has a cookie of their own
/// is a stranger to everybody else.
pub fn read(key: &ServerKey, value: &str, name: &str, now: DateTime<Utc>) -> Option<Device> {
    let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
    let (body, seal) = bytes.split_at_checked(BODY).filter(|_| bytes.len() == WHOLE)?;
    if !key.sealed(PURPOSE, body, seal) {
        return None;
    }
    let (user, rest) = body.split_first_chunk::<4>()?;
    let (issued, number) = rest.split_first_chunk::<8>()?;
    let issued = DateTime::from_timestamp(i64::from_be_bytes(*issued), 0)?;
    let (number, digest) = number.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    (now - issued < TimeDelta::days(LIFE_DAYS) && digest == name_digest(name)).then_some(Device {
        user: UserId(i32::from_be_bytes(*user)),
        number,
    })
}

/// What the request's cookie says.
pub fn of(request: &HttpRequest, key: &ServerKey, name: &str, now: DateTime<Utc>) -> Option<Device> {
    read(key, request.cookie(COOKIE)?.value(), name, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_sealed_lately_is_believed() {
        let key = ServerKey::new("0123456789abcdef0123456789abcdef".to_owned().into());
        let other = ServerKey::new("x123456789abcdef0123456789abcdef".to_owned().into());
        let device = Device {
            user: UserId(7),
            number: 9,
        };
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let value = write(&key, device, "Ann@x.org", now);
        assert_eq!(read(&key, &value, "ann@x.org", now), Some(device));
        assert_eq!(read(&key, &value, "bob@x.org", now), None);
        assert_eq!(read(&other, &value, "ann@x.org", now), None);
        assert_eq!(read(&key, &value, "ann@x.org", now + TimeDelta::days(LIFE_DAYS)), None);
        assert_eq!(read(&key, "", "ann@x.org", now), None);
        for index in 0..value.len() {
            let mut forged = value.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            // the last letter of base64 has bits that count for nothing; those are refused as well
            assert_eq!(
                read(&key, &String::from_utf8(forged).unwrap(), "ann@x.org", now),
                None,
                "{index}"
            );
        }
    }
}

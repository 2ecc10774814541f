//! Webhooks, signed as the Standard Webhooks specification 1.0.0 says: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature` (HMAC-SHA256 over `id.timestamp.body`), several signatures while a secret is being changed.
//!
//! The target is resolved first, every address of it is looked at, and the request goes to those addresses alone: a name
//! that points into our own network, now or a moment later, reaches nothing. Redirects are not followed.

use super::http::{Http, send};
use super::target;
use crate::base::clock::Clock;
use crate::base::server_key::ServerKey;
use crate::domain::notice::target::{Network, allowed};
use crate::port::integrations::{Post, Poster};
use crate::port::notices::{Outgoing, Receipt, SendError, Sender};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::Sha256;
use std::sync::Arc;
use url::{Host, Url};
use uuid::Uuid;

/// The server's key, from which every webhook's secret is derived.
#[derive(Clone, Debug)]
pub struct WebhookKey(ServerKey);

impl From<ServerKey> for WebhookKey {
    fn from(key: ServerKey) -> Self {
        Self(key)
    }
}

impl WebhookKey {
    /// From a text of at least 32 bytes.
    pub fn new(key: SecretString) -> Self {
        Self(ServerKey::new(key))
    }

    /// The secret of a webhook.
    fn secret(&self, salt: Uuid) -> [u8; 32] {
        self.0.derive("webhook", salt)
    }

    /// A key for something else than webhooks, 32 bytes.
    pub(super) fn derived(&self, purpose: &str) -> [u8; 32] {
        self.0.seal(purpose, &[])
    }

    /// The secret as its owner enters it: `whsec_` and base64.
    pub fn shown(&self, salt: Uuid) -> String {
        format!("whsec_{}", STANDARD.encode(self.secret(salt)))
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes a key of any length (RFC 2104), so this is never empty
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        },
    )
}

/// The value of `webhook-signature`.
fn signatures(key: &WebhookKey, salts: &[Uuid], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let all: Vec<String> = salts
        .iter()
        .map(|salt| format!("v1,{}", STANDARD.encode(hmac(&key.secret(*salt), &[signed.as_bytes()]))))
        .collect();
    all.join(" ")
}

/// What is wrong with a target, before anybody has looked up its name.
///
/// # Errors
/// Says what to give.
pub fn check(address: &str, private: &[Network]) -> Result<Url, String> {
    let url = Url::parse(address).map_err(|error| format!("is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if !private.is_empty() => {}
        "http" => return Err("must begin with https://".to_owned()),
        other => return Err(format!("must begin with https://, not {other}://")),
    }
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) => None,
        None => return Err("needs a host".to_owned()),
    };
    match literal {
        Some(address) if !allowed(address, private) => Err(
            "points into a private network; the operator of the server can allow it in notify.private_targets"
                .to_owned(),
        ),
        _ => Ok(url),
    }
}

/// Sends webhooks.
#[derive(Debug)]
pub struct Webhook {
    http: Http,
    key: WebhookKey,
    private: Vec<Network>,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// `private`: networks that are not public and may be reached all the same.
    pub fn new(http: Http, key: WebhookKey, private: Vec<Network>, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            key,
            private,
            clock,
        }
    }

    /// Posts a body under an id, signed by each secret. The same call with the same id makes the same request, but for the
    /// time in it.
    async fn deliver(&self, target: &str, salts: &[Uuid], id: &str, body: String) -> Result<(), SendError> {
        let url = check(target, &self.private).map_err(|wrong| SendError::Refused(format!("the target {wrong}")))?;
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses = target::resolve(&url, port, url.scheme() != "https", &self.private).await?;
        let client = self.http.pinned(url.host_str().unwrap_or_default(), &addresses)?;
        let timestamp = self.clock.now().timestamp();
        let signature = signatures(&self.key, salts, id, timestamp, &body);
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        // 410: the owner says that it is gone for good
        send(request).await?.success(&[410])?;
        Ok(())
    }
}

#[async_trait]
impl Sender for Webhook {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        let (id, body) = (message.id.to_string(), message.payload.to_string());
        self.deliver(&message.address, &message.salts, &id, body).await?;
        Ok(Receipt::default())
    }
}

#[async_trait]
impl Poster for Webhook {
    async fn post(&self, post: Post<'_>) -> Result<(), SendError> {
        self.deliver(post.target, post.salts, &post.id.to_string(), post.body)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::target::networks;

    /// Vector of the specification's reference libraries (standard-webhooks, `libraries/`): this secret, id, time and body.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = hmac(
            &secret,
            &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}"],
        );
        assert_eq!(STANDARD.encode(signed), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_webhook_has_its_own_secret() {
        let key = WebhookKey::new("0123456789abcdef0123456789abcdef".to_owned().into());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_ne!(key.shown(one), key.shown(other));
        assert_eq!(key.shown(one), key.shown(one));
        let both = signatures(&key, &[one, other], "id", 5, "{}");
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.starts_with(&signatures(&key, &[one], "id", 5, "{}")));
        assert!(!format!("{key:?}").contains("0123"));
    }

    #[test]
    fn targets_are_checked() {
        let none = networks("").unwrap();
        assert!(check("https://example.org/hook?key=1", &none).is_ok());
        for wrong in [
            "http://example.org/",
            "ftp://example.org/",
            "https://user:pw@example.org/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest",
            "example.org",
        ] {
            assert!(check(wrong, &none).is_err(), "{wrong}");
        }
        let some = networks("127.0.0.0/8").unwrap();
        assert!(check("http://127.0.0.1:9000/x", &some).is_ok());
        assert!(check("https://10.0.0.1/x", &some).is_err());
    }
}

//! HTTP as the senders use it: our own roots and provider of TLS, no redirects, no proxies, bounded time and bytes, and
//! where it matters the very address that was looked at before.

use crate::port::notices::SendError;
use chrono::TimeDelta;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, RequestBuilder, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long the far side asks us to wait.
    pub retry_after: Option<TimeDelta>,
    /// The beginning of its body.
    pub body: String,
}

/// Makes requests.
#[derive(Clone)]
pub struct Http {
    tls: rustls::ClientConfig,
    timeout: Duration,
    client: Client,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// TLS towards servers: the public roots and, if given, those of a PEM text.
///
/// # Errors
/// Says what is wrong with the PEM.
pub fn client_tls(extra_roots_pem: Option<&str>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(pem) = extra_roots_pem {
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
            found += 1;
        }
        if found == 0 {
            return Err("holds no certificate".to_owned());
        }
    }
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| error.to_string())
}

impl Http {
    /// With this TLS; a request ends after `timeout`.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(tls: rustls::ClientConfig, timeout: Duration) -> Result<Self, String> {
        let client = builder(&tls, timeout).build().map_err(|error| error.to_string())?;
        Ok(Self { tls, timeout, client })
    }

    /// For fixed targets of the configuration.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// For one request to a name whose addresses have been looked at: no other address is asked.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn pinned(&self, host: &str, addresses: &[SocketAddr]) -> Result<Client, SendError> {
        builder(&self.tls, self.timeout)
            .pool_max_idle_per_host(0)
            .resolve_to_addrs(host, addresses)
            .build()
            .map_err(|error| SendError::Passing {
                message: error.to_string(),
                retry_after: None,
            })
    }
}

fn builder(tls: &rustls::ClientConfig, timeout: Duration) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(timeout)
        .timeout(timeout)
        .user_agent(concat!("polyphase/", env!("CARGO_PKG_VERSION")))
}

/// Sends a request and reads the beginning of its answer.
///
/// # Errors
/// `Passing` when no connection came about, `Unsure` when one did and no answer came, `Refused` for what is no request.
pub async fn send(request: RequestBuilder) -> Result<Answer, SendError> {
    // the URL may hold a key
    let mut response = request.send().await.map_err(|error| classify(&error.without_url()))?;
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
        .map(|seconds| TimeDelta::seconds(seconds.into()));
    let mut body = Vec::new();
    // the status has come: a body that breaks off changes nothing
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_MAX.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if body.len() >= ANSWER_MAX {
            break;
        }
    }
    Ok(Answer {
        status,
        retry_after,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn classify(error: &reqwest::Error) -> SendError {
    let text = chain(error);
    if error.is_builder() {
        SendError::Refused(text)
    } else if error.is_connect() {
        SendError::passing(text)
    } else {
        SendError::Unsure(text)
    }
}

/// The error with its causes, which hold what really happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    crate::domain::notice::cut(&text, 300)
}

impl Answer {
    /// Ok for 2xx; `Passing` for what may change, `Refused` for the statuses that `lasting` names and for redirects.
    ///
    /// # Errors
    /// [`SendError`], with the status and the beginning of the body.
    pub fn success(self, lasting: &[u16]) -> Result<Self, SendError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let excerpt = crate::domain::notice::cut(self.body.trim(), 200);
        let message = format!("answered {}: {excerpt}", self.status);
        if (300..400).contains(&self.status) {
            Err(SendError::Refused(format!(
                "answered {}, and redirects are not followed: give the final address",
                self.status
            )))
        } else if lasting.contains(&self.status) {
            Err(SendError::Refused(message))
        } else {
            Err(SendError::Passing {
                message,
                retry_after: self.retry_after,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_whether_to_try_again() {
        let answer = |status| Answer {
            status,
            retry_after: Some(TimeDelta::seconds(7)),
            body: "no\r\nsuch".into(),
        };
        assert!(answer(204).success(&[]).is_ok());
        assert!(matches!(answer(302).success(&[]), Err(SendError::Refused(_))));
        assert!(matches!(answer(410).success(&[410]), Err(SendError::Refused(_))));
        assert_eq!(
            answer(503).success(&[410]),
            Err(SendError::Passing {
                message: "answered 503: no  such".into(),
                retry_after: Some(TimeDelta::seconds(7))
            })
        );
    }

    #[test]
    fn roots_are_read() {
        assert!(client_tls(None).is_ok());
        assert!(client_tls(Some("nothing")).is_err());
    }
}

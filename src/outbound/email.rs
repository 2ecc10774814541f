//! E-mail by SMTP (RFC 5321), through lettre: STARTTLS, TLS from the first byte, or none; one connection a message.
//!
//! `Message-ID` is made of the message's id, the same at every attempt, so that a mail server that looks at it drops the
//! second copy.

use crate::port::notices::{Outgoing, Receipt, SendError, Sender};
use async_trait::async_trait;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// How the line to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS after `STARTTLS`; a server that has none is not used.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None: for a server on this host.
    Plain,
}

/// The mail server.
#[derive(Clone, Debug)]
pub struct EmailSettings {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the line is protected.
    pub security: Security,
    /// Log-in; empty: none.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Who writes: `Polyphase <hes@example.org>`.
    pub from: String,
    /// Further roots of TLS, PEM.
    pub roots_pem: Option<String>,
    /// How long one message may take.
    pub timeout: Duration,
}

/// Sends e-mail.
#[derive(Debug)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
}

impl Email {
    /// Over this server. Connects with each message.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub fn new(settings: &EmailSettings) -> Result<Self, String> {
        let from: Mailbox = settings
            .from
            .parse()
            .map_err(|error| format!("from: {:?} is no address: {error}", settings.from))?;
        let tls = match settings.security {
            Security::Plain => Tls::None,
            Security::StartTls => Tls::Required(parameters(settings)?),
            Security::Tls => Tls::Wrapper(parameters(settings)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(settings.host.clone())
            .port(settings.port)
            .tls(tls)
            .timeout(Some(settings.timeout));
        if !settings.user.is_empty() {
            builder = builder.credentials(Credentials::new(
                settings.user.clone(),
                settings.password.expose_secret().to_owned(),
            ));
        }
        Ok(Self {
            transport: builder.build(),
            from,
            timeout: settings.timeout,
        })
    }

    fn message(&self, message: &Outgoing) -> Result<Message, SendError> {
        let wrong = |what: &str| SendError::Refused(format!("{what} cannot be written into an e-mail"));
        let to: Mailbox = message.address.parse().map_err(|_| wrong("the address"))?;
        let id = format!("<{}@{}>", message.id, self.from.email.domain());
        let mut mail = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(message.subject.clone())
            .message_id(Some(id))
            .date(message.created_at.into())
            .header(ContentType::TEXT_PLAIN)
            .body(message.body.clone())
            .map_err(|_| wrong("the text"))?;
        // RFC 3834: nobody's holiday answers this
        mail.headers_mut().insert_raw(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
        Ok(mail)
    }
}

fn parameters(settings: &EmailSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone()).certificate_store(CertificateStore::WebpkiRoots);
    if let Some(pem) = &settings.roots_pem {
        let certificate = Certificate::from_pem(pem.as_bytes()).map_err(|error| format!("roots: {error}"))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| format!("tls: {error}"))
}

/// Whether an address can be written to.
///
/// # Errors
/// Says what is wrong.
pub fn check(address: &str) -> Result<(), String> {
    address
        .parse::<lettre::Address>()
        .map(|_| ())
        .map_err(|error| format!("is no e-mail address: {error}"))
}

#[async_trait]
impl Sender for Email {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        let mail = self.message(message)?;
        // lettre's own time-out is for one step of the talk
        let sent = tokio::time::timeout(self.timeout, self.transport.send(mail)).await;
        match sent {
            Err(_) => Err(SendError::Unsure("the mail server took too long".to_owned())),
            Ok(Ok(response)) => Ok(Receipt {
                reference: response.first_line().map(|line| crate::domain::notice::cut(line, 200)),
            }),
            Ok(Err(error)) => Err(classify(&error)),
        }
    }
}

fn classify(error: &lettre::transport::smtp::Error) -> SendError {
    let text = crate::domain::notice::cut(&error.to_string(), 300);
    let code = error.status().map(u16::from);
    match code {
        // the log-in is refused: the operator can mend that, and the message is good
        Some(530 | 534 | 535 | 538) => SendError::passing(format!("the mail server refuses our log-in: {text}")),
        Some(500..) => SendError::Refused(text),
        Some(_) => SendError::passing(text),
        None if error.is_client() => SendError::Refused(text),
        None if error.is_tls() || text.starts_with("Connection error") => SendError::passing(text),
        None => SendError::Unsure(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{AccountId, ChannelId, RecipientId};
    use crate::domain::notice::ChannelKind;
    use uuid::Uuid;

    fn settings() -> EmailSettings {
        EmailSettings {
            host: "mail.example".into(),
            port: 25,
            security: Security::Plain,
            user: String::new(),
            password: String::new().into(),
            from: "Polyphase <hes@example.org>".into(),
            roots_pem: None,
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_mail_carries_its_id_and_hides_nothing() {
        let email = Email::new(&settings()).unwrap();
        let message = Outgoing {
            id: Uuid::from_u128(7),
            account: AccountId(1),
            recipient: RecipientId(1),
            channel: ChannelId(1),
            kind: ChannelKind::Email,
            address: "li@example.org".into(),
            subject: "【警告】偏离平均值：三号厅".into(),
            body: "…\nBcc: other@example.org\n".into(),
            payload: serde_json::Value::Null,
            salts: Vec::new(),
            created_at: "2026-03-01T04:30:00Z".parse().unwrap(),
            attempt: 2,
            test: false,
            maybe_twice: false,
        };
        let mail = email.message(&message).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("Message-ID: <00000000-0000-0000-0000-000000000007@example.org>"),
            "{head}"
        );
        assert!(head.contains("Date: Sun, 01 Mar 2026 04:30:00 +0000"), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"));
        assert!(!head.contains("Bcc"));
        let broken = Outgoing {
            address: "li@example.org\r\nBcc: x@y.org".into(),
            ..message
        };
        assert!(matches!(email.message(&broken), Err(SendError::Refused(_))));
    }

    #[test]
    fn settings_are_checked() {
        let wrong = EmailSettings {
            from: "nobody".into(),
            ..settings()
        };
        assert!(Email::new(&wrong).unwrap_err().contains("from"));
        assert!(check("li@example.org").is_ok());
        assert!(check("li@").is_err());
    }
}

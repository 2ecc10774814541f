//! Every channel against a real server on loopback.

use super::peers::{HttpPeer, Peer, answer};
use crate::harness::notices::key;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{AccountId, ChannelId, RecipientId};
use polyphase::domain::notice::ChannelKind;
use polyphase::domain::notice::target::networks;
use polyphase::outbound::email::{Email, EmailSettings, Security};
use polyphase::outbound::http::{Http, client_tls};
use polyphase::outbound::webhook::Webhook;
use polyphase::port::notices::{Outgoing, SendError, Sender};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Long enough for a busy machine; only what must run into it uses a shorter one.
pub const PATIENT: Duration = Duration::from_secs(60);

pub fn message(kind: ChannelKind, address: &str) -> Outgoing {
    let id = Uuid::new_v4();
    Outgoing {
        id,
        account: AccountId(1),
        recipient: RecipientId(1),
        channel: ChannelId(1),
        kind,
        address: address.into(),
        subject: "【警告】偏离平均值：三号厅".into(),
        body: "Превышен порог\n.\nbehind a lone dot".into(),
        payload: json!({ "id": id, "type": "notices", "items": [{ "kind": "deviation" }] }),
        salts: vec![Uuid::from_u128(1)],
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        attempt: 1,
        test: false,
        maybe_twice: false,
    }
}

fn email(port: u16, security: Security, timeout: Duration) -> EmailSettings {
    EmailSettings {
        host: "localhost".into(),
        port,
        security,
        user: String::new(),
        password: String::new().into(),
        from: "Polyphase <hes@example.org>".into(),
        roots_pem: None,
        timeout,
    }
}

#[tokio::test]
async fn mail_arrives_as_it_was_written() {
    let peer = Peer::start("mail_server.py", &["plain"]);
    let sender = Email::new(&email(peer.port, Security::Plain, PATIENT)).unwrap();
    let sent = message(ChannelKind::Email, "li@example.org");
    let receipt = sender.send(&sent).await.unwrap();
    assert!(receipt.reference.unwrap().contains("4711"));
    let came = peer.next().await;
    assert_eq!(came["subject"], sent.subject);
    assert_eq!(
        came["text"].as_str().unwrap().replace("\r\n", "\n").trim_end(),
        sent.body
    );
    assert_eq!(came["to"], json!(["li@example.org"]));
    assert_eq!(came["id"], format!("<{}@example.org>", sent.id));
    assert_eq!(came["auto"], "auto-generated");
    // the second attempt bears the same id
    sender.send(&sent).await.unwrap();
    assert_eq!(peer.next().await["id"], came["id"]);
}

#[tokio::test]
async fn a_mail_server_says_whether_to_try_again() {
    let peer = Peer::start("mail_server.py", &["plain"]);
    let sender = Email::new(&email(peer.port, Security::Plain, PATIENT)).unwrap();
    let busy = message(ChannelKind::Email, "busy-1@example.org");
    let error = sender.send(&busy).await.unwrap_err();
    assert!(matches!(error, SendError::Passing { .. }), "{error:?}");
    sender.send(&busy).await.unwrap();
    assert_eq!(peer.next().await["to"], json!(["busy-1@example.org"]));
    let error = sender
        .send(&message(ChannelKind::Email, "gone@example.org"))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Refused(_)), "{error:?}");
    // it took the mail and says nothing: nobody knows
    let hasty = Email::new(&email(peer.port, Security::Plain, Duration::from_secs(5))).unwrap();
    let error = hasty
        .send(&message(ChannelKind::Email, "silent@example.org"))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Unsure(_)), "{error:?}");
    assert!(peer.rest().len() <= 1);
    drop(peer);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let sender = Email::new(&email(nobody, Security::Plain, PATIENT)).unwrap();
    let error = sender.send(&busy).await.unwrap_err();
    assert!(matches!(error, SendError::Passing { .. }), "{error:?}");
}

#[tokio::test]
async fn mail_goes_over_tls_with_log_in_and_never_without() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cert, private) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&private, made.signing_key.serialize_pem()).unwrap();
    let files = [cert.to_str().unwrap(), private.to_str().unwrap()];
    for (mode, security) in [("starttls", Security::StartTls), ("tls", Security::Tls)] {
        let peer = Peer::start("mail_server.py", &[mode, files[0], files[1]]);
        let trusting = EmailSettings {
            roots_pem: Some(made.cert.pem()),
            user: "hes".into(),
            password: "s3cret".to_owned().into(),
            ..email(peer.port, security, PATIENT)
        };
        let sent = message(ChannelKind::Email, "li@example.org");
        Email::new(&trusting).unwrap().send(&sent).await.unwrap();
        let came = peer.next().await;
        assert_eq!((&came["tls"], &came["user"]), (&json!(true), &json!("hes")), "{mode}");
        // a wrong password can be mended, and is not told to anybody
        let wrong = EmailSettings {
            password: "wr0ng".to_owned().into(),
            ..trusting.clone()
        };
        let error = Email::new(&wrong).unwrap().send(&sent).await.unwrap_err();
        assert!(matches!(error, SendError::Passing { .. }), "{mode}: {error:?}");
        assert!(!format!("{error:?} {wrong:?}").contains("wr0ng"));
        // a certificate that nobody vouches for
        let wary = EmailSettings {
            roots_pem: None,
            ..trusting
        };
        let error = Email::new(&wary).unwrap().send(&sent).await.unwrap_err();
        assert!(matches!(error, SendError::Passing { .. }), "{mode}: {error:?}");
        assert!(peer.rest().is_empty());
    }
    // a server without STARTTLS gets no mail, rather than one in plain text
    let peer = Peer::start("mail_server.py", &["plain"]);
    let sender = Email::new(&email(peer.port, Security::StartTls, PATIENT)).unwrap();
    assert!(
        sender
            .send(&message(ChannelKind::Email, "li@example.org"))
            .await
            .is_err()
    );
    assert!(peer.rest().is_empty());
}

pub fn http(timeout: Duration) -> Http {
    Http::new(client_tls(None).unwrap(), timeout).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(
        "2026-03-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap(),
    ))
}

fn webhook(private: &str, timeout: Duration) -> Webhook {
    Webhook::new(http(timeout), key(), networks(private).unwrap(), clock())
}

#[tokio::test]
async fn a_webhook_is_signed_and_keeps_its_id() {
    let peer = HttpPeer::start(vec![answer("204 No Content", "", "")]).await;
    let sender = webhook("127.0.0.0/8", PATIENT);
    let mut sent = message(ChannelKind::Webhook, &format!("http://{}/hook?k=1", peer.address));
    sender.send(&sent).await.unwrap();
    sender.send(&sent).await.unwrap();
    let came = peer.last();
    assert_eq!(came.line, "POST /hook?k=1 HTTP/1.1");
    assert_eq!(came.header("webhook-id"), sent.id.to_string());
    assert_eq!(came.header("webhook-timestamp"), clock().now().timestamp().to_string());
    assert_eq!(came.body, sent.payload.to_string());
    assert!(came.is_signed(&key().shown(Uuid::from_u128(1))));
    assert!(!came.is_signed(&key().shown(Uuid::from_u128(2))));
    assert_eq!(
        peer.asked.lock().unwrap()[0].header("webhook-id"),
        came.header("webhook-id")
    );
    // while the secret is changed both sign
    sent.salts = vec![Uuid::from_u128(2), Uuid::from_u128(1)];
    sender.send(&sent).await.unwrap();
    for salt in [1, 2] {
        assert!(peer.last().is_signed(&key().shown(Uuid::from_u128(salt))), "{salt}");
    }
}

#[tokio::test]
async fn a_webhook_reaches_no_private_place_by_any_name() {
    let peer = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    let port = peer.address.port();
    for (private, target) in [
        ("", format!("https://127.0.0.1:{port}/")),
        ("", format!("https://localhost:{port}/")),
        ("", format!("http://localhost:{port}/")),
        ("", format!("https://[::ffff:127.0.0.1]:{port}/")),
        ("", format!("https://2130706433:{port}/")),
        ("10.0.0.0/8", format!("http://localhost:{port}/")),
        ("10.0.0.0/8", format!("http://127.0.0.1:{port}/")),
    ] {
        let error = webhook(private, PATIENT)
            .send(&message(ChannelKind::Webhook, &target))
            .await
            .unwrap_err();
        assert!(matches!(error, SendError::Refused(_)), "{target}: {error:?}");
        assert!(!error.to_string().contains(&port.to_string()), "{error}");
    }
    assert_eq!(peer.count(), 0);
    // by name as well, where it is allowed
    let allowed = webhook("127.0.0.0/8, ::1", PATIENT);
    allowed
        .send(&message(ChannelKind::Webhook, &format!("http://localhost:{port}/")))
        .await
        .unwrap();
    assert_eq!(peer.count(), 1);
}

#[tokio::test]
async fn a_webhook_follows_nobody_and_does_not_wait_for_ever() {
    let inner = HttpPeer::start(vec![answer("200 OK", "", "")]).await;
    let location = format!("Location: http://{}/inner\r\n", inner.address);
    let peer = HttpPeer::start(vec![
        answer("302 Found", &location, ""),
        answer("503 Busy", "Retry-After: 120\r\n", "later"),
        answer("410 Gone", "", ""),
        answer("401 Unauthorized", "", "no"),
        Some(format!(
            "200 OK\r\nContent-Length: 300000000\r\n\r\n{}",
            "x".repeat(1_000_000)
        )),
        None,
    ])
    .await;
    let sender = webhook("127.0.0.0/8", PATIENT);
    let sent = message(ChannelKind::Webhook, &format!("http://{}/", peer.address));
    assert!(matches!(sender.send(&sent).await, Err(SendError::Refused(text)) if text.contains("302")));
    assert_eq!(inner.count(), 0);
    let busy = sender.send(&sent).await;
    assert!(
        matches!(&busy, Err(SendError::Passing { retry_after: Some(wait), .. }) if *wait == TimeDelta::seconds(120)),
        "{busy:?}"
    );
    assert!(matches!(sender.send(&sent).await, Err(SendError::Refused(_))));
    assert!(matches!(sender.send(&sent).await, Err(SendError::Passing { .. })));
    // an endless answer is read to its bound
    sender.send(&sent).await.unwrap();
    let hasty = webhook("127.0.0.0/8", Duration::from_secs(3));
    assert!(matches!(hasty.send(&sent).await, Err(SendError::Unsure(_))));
    assert_eq!(peer.count(), 6);
}

//! A certificate that is replaced under a running server: open connections stay, new ones get the new one.

use crate::harness::api::Api;
use polyphase::api::ApiSettings;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Made = rcgen::CertifiedKey<rcgen::KeyPair>;

fn made() -> Made {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate")
}

/// A client that trusts these certificates alone.
async fn connect(address: SocketAddr, trusted: &[&Made]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for made in trusted {
        roots.add(made.cert.der().clone()).expect("a root");
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().expect("certificates")[0]
        .clone()
        .into_owned()
}

/// Asks once over an open connection, and leaves it open.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let whole = async {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .expect("write");
        let mut text = String::new();
        while !text.contains("\"ok\"") {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.expect("read");
            assert!(count > 0, "closed after {text:?}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        text
    };
    tokio::time::timeout(Duration::from_secs(60), whole)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_dropping_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let put = |made: &Made| {
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("write");
        std::fs::write(&cert, made.cert.pem()).expect("write");
    };
    let (first, second) = (made(), made());
    put(&first);
    let files = polyphase::api::TlsFiles {
        cert: cert.clone(),
        key: key.clone(),
    };
    let settings = ApiSettings {
        secure_cookies: true,
        ..ApiSettings::default()
    };
    let api = Api::start_over_tls(settings, files).await;
    let mut open = connect(api.address, &[&first]).await.expect("a handshake");
    let text = ask(&mut open).await.to_lowercase();
    assert!(text.contains("strict-transport-security: max-age=31536000"), "{text}");
    assert!(connect(api.address, &[&second]).await.is_err());

    put(&second);
    let both = [&first, &second];
    let changed = async {
        while leaf(&connect(api.address, &both).await.expect("a handshake")) != *second.cert.der() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), changed)
        .await
        .expect("the new certificate within a minute");
    ask(&mut open).await;
    // half a pair: what worked stays
    std::fs::write(&key, first.signing_key.serialize_pem()).expect("write");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let still = connect(api.address, &[&second]).await.expect("a handshake");
    assert_eq!(leaf(&still), *second.cert.der());
    ask(&mut open).await;
    drop((still, open));
    api.stop().await;
}

//! Notices and integrations in tests: what the API knows of senders.

use polyphase::base::clock::SystemClock;
use polyphase::domain::notice::ChannelKind;
use polyphase::domain::notice::target::networks;
use polyphase::outbound::desk::Desk;
use polyphase::outbound::http::{Http, client_tls};
use polyphase::outbound::integrations::Desk as IntegrationSenders;
use polyphase::outbound::mqtt::Mqtt;
use polyphase::outbound::seal::Sealer;
use polyphase::outbound::webhook::{Webhook, WebhookKey};
use polyphase::port::integrations::IntegrationDesk;
use polyphase::port::notices::NoticeDesk;
use std::sync::Arc;
use std::time::Duration;

/// The server's key in tests.
pub fn key() -> WebhookKey {
    WebhookKey::new("a key of tests, as long as keys must be".to_owned().into())
}

/// Every channel is set up; webhooks may go to this host.
pub fn desk() -> Arc<dyn NoticeDesk> {
    let here = networks("127.0.0.0/8").expect("a network");
    Arc::new(Desk::new(ChannelKind::ALL.to_vec(), key(), here))
}

/// Who posts and who connects to brokers, on this host, each attempt within so long.
pub fn senders(timeout: Duration) -> (Arc<Webhook>, Arc<Mqtt>) {
    let here = networks("127.0.0.0/8").expect("a network");
    let tls = client_tls(None).expect("roots");
    let http = Http::new(tls.clone(), timeout).expect("a client");
    let webhook = Webhook::new(http, key(), here.clone(), Arc::new(SystemClock));
    (
        Arc::new(webhook),
        Arc::new(Mqtt::new(tls, here, Sealer::new(key()), timeout)),
    )
}

/// What the API knows of them.
pub fn integrations() -> Arc<dyn IntegrationDesk> {
    let here = networks("127.0.0.0/8").expect("a network");
    let (poster, broker) = senders(Duration::from_secs(20));
    Arc::new(IntegrationSenders::new(true, key(), here, poster, broker))
}

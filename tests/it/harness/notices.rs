//! Notices in tests: what the API knows of senders.

use polyphase::domain::notice::ChannelKind;
use polyphase::domain::notice::target::networks;
use polyphase::outbound::desk::Desk;
use polyphase::outbound::webhook::WebhookKey;
use polyphase::port::notices::NoticeDesk;
use std::sync::Arc;

/// The server's key in tests.
pub fn key() -> WebhookKey {
    WebhookKey::new("a key of tests, as long as keys must be".to_owned().into())
}

/// Every channel is set up; webhooks may go to this host.
pub fn desk() -> Arc<dyn NoticeDesk> {
    let here = networks("127.0.0.0/8").expect("a network");
    Arc::new(Desk::new(ChannelKind::ALL.to_vec(), key(), here))
}

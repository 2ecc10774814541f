//! What the API asks of the senders: which there are, whether an address will do, and a webhook's secret.

use super::webhook::WebhookKey;
use super::{email, gateway, telegram, webhook};
use crate::domain::notice::ChannelKind;
use crate::domain::notice::target::Network;
use crate::port::notices::NoticeDesk;
use uuid::Uuid;

/// [`NoticeDesk`] over the configuration.
#[derive(Clone, Debug)]
pub struct Desk {
    kinds: Vec<ChannelKind>,
    key: WebhookKey,
    private: Vec<Network>,
}

impl Desk {
    /// `kinds`: what is configured.
    pub fn new(mut kinds: Vec<ChannelKind>, key: WebhookKey, private: Vec<Network>) -> Self {
        kinds.sort_unstable();
        Self { kinds, key, private }
    }
}

impl NoticeDesk for Desk {
    fn kinds(&self) -> Vec<ChannelKind> {
        self.kinds.clone()
    }

    fn webhook_secret(&self, salt: Uuid) -> String {
        self.key.shown(salt)
    }

    fn check_address(&self, kind: ChannelKind, address: &str) -> Result<(), String> {
        match kind {
            ChannelKind::Email => email::check(address),
            ChannelKind::Telegram => telegram::check(address),
            ChannelKind::Sms => gateway::check(address),
            ChannelKind::Webhook => webhook::check(address, &self.private).map(|_| ()),
        }
    }
}

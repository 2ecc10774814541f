//! What the API asks of the senders of integrations: whether a target will do, secrets, and a test that goes out at once.

use super::mqtt::{self, Mqtt};
use super::seal::Sealer;
use super::webhook::{self, Webhook, WebhookKey};
use crate::domain::integration::naming::Topics;
use crate::domain::notice::target::Network;
use crate::port::integrations::{
    Broker, BrokerTarget, IntegrationDesk, IntegrationKind, Post, Poster, Publication, StoredIntegration,
};
use crate::port::notices::SendError;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Tests under way at once, of the whole server.
const TESTS_MAX: usize = 4;

/// [`IntegrationDesk`] over the senders.
#[derive(Debug)]
pub struct Desk {
    enabled: bool,
    key: WebhookKey,
    sealer: Sealer,
    private: Vec<Network>,
    poster: Arc<Webhook>,
    broker: Arc<Mqtt>,
    tests: Semaphore,
}

impl Desk {
    /// Over these senders.
    pub fn new(enabled: bool, key: WebhookKey, private: Vec<Network>, poster: Arc<Webhook>, broker: Arc<Mqtt>) -> Self {
        Self {
            enabled,
            sealer: Sealer::new(key.clone()),
            key,
            private,
            poster,
            broker,
            tests: Semaphore::new(TESTS_MAX),
        }
    }

    async fn to_broker(&self, integration: &StoredIntegration, id: Uuid, told: Bytes) -> Result<(), SendError> {
        let mut session = self
            .broker
            .connect(BrokerTarget {
                target: integration.spec.target.clone(),
                login: integration.spec.login.clone(),
                sealed: integration.sealed.clone(),
                client: format!("polyphase-test-{id}"),
                will: None,
            })
            .await?;
        let topics = Topics::new(&integration.spec.options.prefix, integration.account);
        let published = session
            .publish(vec![Publication {
                topic: topics.test(),
                payload: told,
                retain: false,
                expiry_s: 0,
                json: true,
                properties: vec![("id".to_owned(), id.to_string())],
            }])
            .await;
        session.close().await;
        published
    }
}

#[async_trait]
impl IntegrationDesk for Desk {
    fn enabled(&self) -> bool {
        self.enabled
    }

    fn check_target(&self, kind: IntegrationKind, target: &str) -> Result<(), String> {
        match kind {
            IntegrationKind::Webhook => webhook::check(target, &self.private).map(|_| ()),
            IntegrationKind::Mqtt => mqtt::check(target, &self.private).map(|_| ()),
        }
    }

    fn secret(&self, salt: Uuid) -> String {
        self.key.shown(salt)
    }

    fn seal(&self, password: &SecretString) -> Result<Vec<u8>, String> {
        self.sealer.seal(password).map_err(|error| error.to_string())
    }

    async fn test(&self, integration: &StoredIntegration, id: Uuid, now: DateTime<Utc>) -> Result<(), SendError> {
        let _permit = self
            .tests
            .try_acquire()
            .map_err(|_| SendError::passing(format!("{TESTS_MAX} tests are under way: try again")))?;
        let told = json!({ "id": id, "type": "test", "integration_id": integration.id,
                           "account_id": integration.account, "created_at": now, "items": [] })
        .to_string();
        match integration.spec.kind {
            IntegrationKind::Webhook => {
                let post = Post {
                    target: &integration.spec.target,
                    id,
                    salts: &integration.salts,
                    body: told,
                };
                self.poster.post(post).await
            }
            IntegrationKind::Mqtt => self.to_broker(integration, id, told.into()).await,
        }
    }
}

//! An account with people and routes, an engine over its outbox, and a sender that does what the test says.

use crate::harness::db::TestDb;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use polyphase::actor::notifier::{Chance, Engine, NotifierParts, NotifierSettings};
use polyphase::base::clock::{Clock, ManualClock};
use polyphase::base::ids::{AccountId, ChannelId, NoticeId, RecipientId};
use polyphase::domain::notice::plan::Rule;
use polyphase::domain::notice::rate::RateLimits;
use polyphase::domain::notice::retry::RetryRule;
use polyphase::domain::notice::{ChannelKind, Edge, Happening, Language, Severity, Step};
use polyphase::port::notices::{
    MessageQuery, MessageView, NoticeBook, NoticeQuery, NoticeView, Outgoing, Receipt, RecipientSpec, SendError,
    Sender, Senders,
};
use polyphase::port::scope::{Actor, InAccount, Scope};
use polyphase::store::PgStores;
use polyphase::store::notices::{PgOutbox, enqueue};
use sqlx::Connection;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const ACCOUNT: AccountId = AccountId(1);

/// Takes off nothing: waits are whole.
pub struct NoChance;

impl Chance for NoChance {
    fn chance(&self) -> f64 {
        0.0
    }
}

/// Sends nowhere, and answers what it was told to; when it was told nothing: sent.
#[derive(Default)]
pub struct Script {
    pub sent: Mutex<Vec<Outgoing>>,
    pub answers: Mutex<VecDeque<Result<Receipt, SendError>>>,
    /// Takes a message and never answers.
    pub hangs: std::sync::atomic::AtomicBool,
}

impl Script {
    pub fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    pub fn subjects(&self) -> Vec<String> {
        self.sent
            .lock()
            .unwrap()
            .iter()
            .map(|message| message.subject.clone())
            .collect()
    }

    pub fn will(&self, times: usize, answer: &Result<Receipt, SendError>) {
        let mut answers = self.answers.lock().unwrap();
        answers.extend(std::iter::repeat_n(answer.clone(), times));
    }
}

#[async_trait]
impl Sender for Script {
    async fn send(&self, message: &Outgoing) -> Result<Receipt, SendError> {
        self.sent.lock().unwrap().push(message.clone());
        if self.hangs.load(std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Ok(Receipt::default()))
    }
}

pub fn settings() -> NotifierSettings {
    NotifierSettings {
        enabled: true,
        rates: RateLimits {
            person: 100,
            account: 1000,
            channels: ChannelKind::ALL.iter().map(|kind| (*kind, 1000)).collect(),
        },
        retry: RetryRule::default(),
        waiting_max: 1000,
        at_once: 8,
        server_account: None,
        history: TimeDelta::days(3650),
    }
}

pub struct World {
    pub db: TestDb,
    pub clock: Arc<ManualClock>,
    pub script: Arc<Script>,
    pub settings: NotifierSettings,
    pub senders: Senders,
}

/// Something happens, in a transaction of the role that alarms are written with.
pub async fn happens(db: &TestDb, happening: Happening, servers_own: bool, commit: bool) -> NoticeId {
    let mut connection = db.superuser().await;
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("SET LOCAL ROLE polyphase_ingest")
        .execute(&mut *tx)
        .await
        .unwrap();
    let id = enqueue(&mut tx, happening, servers_own).await.unwrap();
    if commit {
        tx.commit().await.unwrap();
    }
    id
}

pub fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl World {
    /// Noon in UTC, one account, every channel goes to the script.
    pub async fn new() -> Self {
        let db = TestDb::new().await;
        db.sql("INSERT INTO account (name, created_at) VALUES ('a', now())")
            .await;
        let noon = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).single().unwrap();
        let script = Arc::new(Script::default());
        let senders = ChannelKind::ALL
            .iter()
            .map(|kind| (*kind, Arc::clone(&script) as Arc<dyn Sender>))
            .collect();
        Self {
            db,
            clock: Arc::new(ManualClock::new(noon)),
            script,
            settings: settings(),
            senders,
        }
    }

    pub fn parts(&self) -> NotifierParts {
        NotifierParts {
            clock: self.clock.clone(),
            outbox: Arc::new(PgOutbox::new(self.db.database())),
            senders: Arc::new(self.senders.clone()),
            chance: Arc::new(NoChance),
            settings: self.settings.clone(),
        }
    }

    pub async fn engine(&self) -> Engine {
        Engine::open(self.parts()).await.unwrap()
    }

    pub fn book(&self) -> Box<dyn NoticeBook> {
        let scope = Scope {
            account: ACCOUNT,
            actor: Actor::command_line(),
        };
        PgStores::new(self.db.database().clone()).in_account(scope)
    }

    /// Somebody with one channel, as the change says.
    pub async fn person(
        &self,
        kind: ChannelKind,
        address: &str,
        change: impl FnOnce(&mut RecipientSpec),
    ) -> (RecipientId, ChannelId) {
        let mut spec = RecipientSpec {
            name: "somebody".into(),
            user: None,
            language: Language::En,
            zone: chrono_tz::UTC,
            quiet: None,
            digest: None,
            per_hour: None,
            enabled: true,
        };
        change(&mut spec);
        let book = self.book();
        let recipient = book.add_recipient(&spec, self.clock.now()).await.unwrap().id;
        let channel = book
            .add_channel(recipient, kind, address, self.clock.now())
            .await
            .unwrap();
        (recipient, channel.id)
    }

    /// Steps: minutes after, and whom.
    pub async fn route(&self, steps: &[(u32, &[RecipientId])]) {
        let rule = Rule {
            min_severity: Severity::Info,
            kinds: Vec::new(),
            groups: Vec::new(),
            steps: steps
                .iter()
                .map(|(after_min, recipients)| Step {
                    after_min: *after_min,
                    recipients: recipients.to_vec(),
                    channels: Vec::new(),
                })
                .collect(),
            tell_cleared: true,
        };
        self.book().add_route("route", &rule, self.clock.now()).await.unwrap();
    }

    pub fn happening(&self, alarm: u32, edge: Edge, severity: Severity) -> Happening {
        Happening {
            account: ACCOUNT,
            subject: format!("alarm/{alarm}"),
            edge,
            severity,
            kind: "deviation".into(),
            facts: [("meter".to_owned(), format!("Hall {alarm}"))].into(),
            groups: Vec::new(),
            at: self.clock.now(),
        }
    }

    pub async fn happens(&self, alarm: u32, edge: Edge, severity: Severity) -> NoticeId {
        happens(&self.db, self.happening(alarm, edge, severity), false, true).await
    }

    /// Virtual time, minute by minute, as the notifier lives through it.
    pub async fn live(&self, engine: &Engine, minutes: u32) {
        for _ in 0..minutes {
            self.round(engine).await;
            self.clock.advance(Duration::from_secs(60));
        }
        self.round(engine).await;
    }

    pub async fn round(&self, engine: &Engine) {
        engine.work().await.unwrap();
        for kind in ChannelKind::ALL {
            while engine.send(*kind).await.unwrap() > 0 {}
        }
    }

    pub async fn messages(&self) -> Vec<MessageView> {
        let query = MessageQuery {
            limit: 1000,
            ..MessageQuery::default()
        };
        self.book().messages(query).await.unwrap()
    }

    pub async fn notices(&self) -> Vec<NoticeView> {
        let query = NoticeQuery {
            limit: 1000,
            ..NoticeQuery::default()
        };
        self.book().notices(query).await.unwrap()
    }
}

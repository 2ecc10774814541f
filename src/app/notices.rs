//! The senders of notices, made of the configuration, and the notifier over them.

use crate::actor::notifier::{NotifierParts, NotifierSettings, SystemChance, notifier};
use crate::actor::supervise::RestartPolicy;
use crate::base::clock::Clock;
use crate::base::ids::AccountId;
use crate::base::server_key::ServerKey;
use crate::config::{Config, MailSecurity, Notify, SmsVia};
use crate::domain::notice::ChannelKind;
use crate::domain::notice::rate::RateLimits;
use crate::domain::notice::retry::RetryRule;
use crate::domain::notice::target::networks;
use crate::outbound::desk::Desk;
use crate::outbound::email::{Email, EmailSettings, Security};
use crate::outbound::gateway::{Gateway, GatewaySettings};
use crate::outbound::http::{Http, client_tls};
use crate::outbound::smpp::{Smpp, SmppSettings};
use crate::outbound::telegram::Telegram;
use crate::outbound::webhook::{Webhook, WebhookKey};
use crate::port::notices::{NoticeDesk, Sender, Senders};
use crate::store::Database;
use crate::store::notices::PgOutbox;
use crate::store::smsd::Smsd;
use actix::Actor;
use anyhow::Context;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const KEY_FILE: &str = "notify.key";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The senders and what the API asks of them.
pub struct Outbound {
    /// Who sends.
    pub senders: Arc<Senders>,
    /// For the API.
    pub desk: Arc<dyn NoticeDesk>,
}

/// What is wrong with `[notify]`, without making anything.
pub fn faults(config: &Config) -> Vec<String> {
    let clock: Arc<dyn Clock> = Arc::new(crate::base::clock::SystemClock);
    match outbound(&config.notify, WebhookKey::new(String::new().into()), &clock) {
        Ok(_) => Vec::new(),
        Err(fault) => vec![fault],
    }
}

pub(super) fn roots(path: &Path) -> Result<Option<String>, String> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let wrong = |error: std::io::Error| format!("notify.tls_roots: {}: {error}", path.display());
    let mut pem = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(FILE_MAX_BYTES).read_to_string(&mut pem).map_err(wrong)?;
    Ok(Some(pem))
}

/// Makes the senders that are set up.
///
/// # Errors
/// Names the setting.
pub fn outbound(notify: &Notify, key: WebhookKey, clock: &Arc<dyn Clock>) -> Result<Outbound, String> {
    let roots_pem = roots(&notify.tls_roots)?;
    let tls = client_tls(roots_pem.as_deref()).map_err(|error| format!("notify.tls_roots: {error}"))?;
    let timeout = Duration::from_secs(notify.timeout_s);
    let http = Http::new(tls, timeout).map_err(|error| format!("notify: {error}"))?;
    let private = networks(&notify.private_targets).map_err(|error| format!("notify.private_targets: {error}"))?;
    let mut senders = Senders::new();
    if notify.enabled {
        let webhook = Webhook::new(http.clone(), key.clone(), private.clone(), Arc::clone(clock));
        senders.insert(ChannelKind::Webhook, Arc::new(webhook));
        if !notify.email.host.is_empty() {
            senders.insert(ChannelKind::Email, email(notify, roots_pem, timeout)?);
        }
        if !notify.telegram.token.expose_secret().is_empty() {
            let telegram = Telegram::new(http.clone(), &notify.telegram.api, notify.telegram.token.clone());
            senders.insert(ChannelKind::Telegram, Arc::new(telegram));
        }
        if let Some(sms) = sms(notify, http)? {
            senders.insert(ChannelKind::Sms, sms);
        }
    }
    let desk = Desk::new(senders.keys().copied().collect(), key, private);
    Ok(Outbound {
        senders: Arc::new(senders),
        desk: Arc::new(desk),
    })
}

fn email(notify: &Notify, roots_pem: Option<String>, timeout: Duration) -> Result<Arc<dyn Sender>, String> {
    let email = &notify.email;
    let settings = EmailSettings {
        host: email.host.clone(),
        port: email.port,
        security: match email.security {
            MailSecurity::StartTls => Security::StartTls,
            MailSecurity::Tls => Security::Tls,
            MailSecurity::None => Security::Plain,
        },
        user: email.user.clone(),
        password: email.password.clone(),
        from: email.from.clone(),
        roots_pem,
        timeout,
    };
    Ok(Arc::new(
        Email::new(&settings).map_err(|error| format!("notify.email.{error}"))?,
    ))
}

fn sms(notify: &Notify, http: Http) -> Result<Option<Arc<dyn Sender>>, String> {
    match notify.sms.via {
        SmsVia::Nothing => Ok(None),
        SmsVia::Smpp => {
            let smpp = &notify.smpp;
            let settings = SmppSettings {
                address: smpp.address.clone(),
                system_id: smpp.system_id.clone(),
                password: smpp.password.clone(),
                system_type: smpp.system_type.clone(),
                source: smpp.source.clone(),
                timeout: Duration::from_secs(notify.timeout_s),
            };
            let made = Smpp::new(settings).map_err(|error| format!("notify.smpp.{error}"))?;
            Ok(Some(Arc::new(made)))
        }
        SmsVia::Modem => {
            let timeout = Duration::from_secs(notify.timeout_s);
            let made = Smsd::new(&notify.modem.database_url, timeout)
                .map_err(|error| format!("notify.modem.database_url: {error}"))?;
            Ok(Some(Arc::new(made)))
        }
        SmsVia::Gateway => {
            let gateway = &notify.sms_gateway;
            let settings = GatewaySettings {
                method: gateway.method.clone(),
                url: gateway.url.clone(),
                headers: gateway.headers.clone(),
                content_type: gateway.content_type.clone(),
                body: gateway.body.clone(),
                success: gateway.success.clone(),
                user: gateway.user.clone(),
                password: gateway.password.clone(),
            };
            let made = Gateway::new(http, settings).map_err(|error| format!("notify.sms_gateway.{error}"))?;
            Ok(Some(Arc::new(made)))
        }
    }
}

/// The server's key, from which secrets of webhooks and second factors are derived: of the configuration, else of its
/// file, which is made the first time.
///
/// # Errors
/// When the file cannot be read or made.
pub fn key(config: &Config) -> anyhow::Result<ServerKey> {
    if !config.notify.key.expose_secret().is_empty() {
        return Ok(ServerKey::new(config.notify.key.clone()));
    }
    let path = config.data.folder.join(KEY_FILE);
    read_or_make(&path)
        .map(ServerKey::new)
        .with_context(|| path.display().to_string())
}

fn read_or_make(path: &Path) -> anyhow::Result<SecretString> {
    // whole or not at all: a file that a kill left half written would be another key
    if !path.exists() {
        let fresh = path.with_extension("new");
        let key = crate::base::hex::encode(&rand::random::<[u8; 32]>());
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
    }
    let mut key = String::new();
    std::fs::File::open(path)?
        .take(FILE_MAX_BYTES)
        .read_to_string(&mut key)?;
    anyhow::ensure!(key.trim().len() >= 32, "holds no key of at least 32 characters");
    Ok(key.trim().to_owned().into())
}

/// The notifier's bounds.
pub fn settings(notify: &Notify) -> NotifierSettings {
    NotifierSettings {
        enabled: notify.enabled,
        rates: RateLimits {
            person: notify.person_per_h,
            account: notify.account_per_h,
            channels: [
                (ChannelKind::Email, notify.email_per_h),
                (ChannelKind::Telegram, notify.telegram_per_h),
                (ChannelKind::Sms, notify.sms_per_h),
                (ChannelKind::Webhook, notify.webhook_per_h),
            ]
            .into(),
        },
        retry: RetryRule {
            first_s: notify.retry_first_s,
            longest_s: notify.retry_longest_s,
            attempts: notify.attempts,
            age_h: notify.age_h,
        },
        waiting_max: notify.waiting_max,
        at_once: notify.at_once,
        server_account: (notify.server_account > 0).then_some(AccountId(notify.server_account)),
        history: TimeDelta::days(notify.history_days.into()),
    }
}

/// Starts the notifier on the present arbiter; it works until `stop`. Switched off, notices end in the
/// history.
pub fn start(
    config: &Config,
    database: &Database,
    outbound: &Outbound,
    clock: &Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let parts = NotifierParts {
        clock: Arc::clone(clock),
        outbox: Arc::new(PgOutbox::new(database)),
        senders: Arc::clone(&outbound.senders),
        chance: Arc::new(SystemChance),
        settings: settings(&config.notify),
    };
    notifier(parts, RestartPolicy::default(), stop).start();
}

//! `[notify]` and its channels; `config/default.toml` says what each key means, with units.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::path::PathBuf;

/// `[notify]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once, with units")]
pub struct Notify {
    pub enabled: bool,
    pub key: SecretString,
    pub server_account: i32,
    pub private_targets: String,
    pub tls_roots: PathBuf,
    pub person_per_h: u32,
    pub account_per_h: u32,
    pub email_per_h: u32,
    pub telegram_per_h: u32,
    pub sms_per_h: u32,
    pub webhook_per_h: u32,
    pub waiting_max: u64,
    pub at_once: usize,
    pub timeout_s: u64,
    pub attempts: u16,
    pub retry_first_s: u32,
    pub retry_longest_s: u32,
    pub age_h: u32,
    pub history_days: u32,
    pub email: NotifyEmail,
    pub telegram: NotifyTelegram,
    pub sms: NotifySms,
    pub sms_gateway: NotifyGateway,
    pub smpp: NotifySmpp,
    pub modem: NotifyModem,
}

/// How the line to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// TLS after STARTTLS.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None.
    None,
}

/// `[notify.email]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifyEmail {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub user: String,
    pub password: SecretString,
    pub from: String,
}

/// `[notify.telegram]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifyTelegram {
    pub token: SecretString,
    pub api: String,
}

/// How SMS go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmsVia {
    /// Not at all.
    #[serde(rename = "")]
    Nothing,
    /// By an HTTP gateway.
    Gateway,
    /// By a message centre over SMPP 3.4.
    Smpp,
    /// By a GSM modem, through the tables of Gammu's smsd.
    Modem,
}

/// `[notify.sms]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifySms {
    pub via: SmsVia,
}

/// `[notify.sms_gateway]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifyGateway {
    pub method: String,
    pub url: String,
    pub headers: String,
    pub content_type: String,
    pub body: String,
    pub success: String,
    pub user: String,
    pub password: SecretString,
}

/// `[notify.smpp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifySmpp {
    pub address: String,
    pub system_id: String,
    pub password: SecretString,
    pub system_type: String,
    pub source: String,
}

/// `[notify.modem]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once")]
pub struct NotifyModem {
    pub database_url: SecretString,
}

/// The shortest key.
pub(super) const KEY_MIN: usize = 32;

/// What types cannot say. Addresses and templates are judged by those who use them, at the start.
pub(super) fn problems(notify: &Notify, found: &mut Vec<String>) {
    let key = notify.key.expose_secret();
    if !key.is_empty() && key.len() < KEY_MIN {
        found.push(format!("notify.key: needs at least {KEY_MIN} characters, or none"));
    }
    let mut range = |name: &str, value: u64, low: u64, high: u64| {
        if !(low..=high).contains(&value) {
            found.push(format!("notify.{name}: {value} is outside {low} to {high}"));
        }
    };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    for (name, value) in [
        ("person_per_h", notify.person_per_h),
        ("account_per_h", notify.account_per_h),
        ("email_per_h", notify.email_per_h),
        ("telegram_per_h", notify.telegram_per_h),
        ("sms_per_h", notify.sms_per_h),
        ("webhook_per_h", notify.webhook_per_h),
    ] {
        range(name, value.into(), 1, 100_000);
    }
    range("waiting_max", notify.waiting_max, 100, 1_000_000);
    range("at_once", wide(notify.at_once), 1, 256);
    range("timeout_s", notify.timeout_s, 1, 300);
    range("attempts", notify.attempts.into(), 1, 100);
    range("retry_first_s", notify.retry_first_s.into(), 1, 3600);
    range("retry_longest_s", notify.retry_longest_s.into(), 1, 86_400);
    range("age_h", notify.age_h.into(), 1, 24 * 14);
    range("history_days", notify.history_days.into(), 1, 3660);
    if notify.retry_longest_s < notify.retry_first_s {
        found.push("notify.retry_longest_s: must not be shorter than notify.retry_first_s".into());
    }
    if !notify.tls_roots.as_os_str().is_empty() && !notify.tls_roots.is_file() {
        found.push(format!(
            "notify.tls_roots: there is no file {}",
            notify.tls_roots.display()
        ));
    }
    email(&notify.email, found);
    sms(notify, found);
}

fn sms(notify: &Notify, found: &mut Vec<String>) {
    let needed = match notify.sms.via {
        SmsVia::Nothing => return,
        SmsVia::Gateway => ("sms_gateway.url", notify.sms_gateway.url.is_empty(), "gateway"),
        SmsVia::Smpp => ("smpp.address", notify.smpp.address.is_empty(), "smpp"),
        SmsVia::Modem => (
            "modem.database_url",
            notify.modem.database_url.expose_secret().is_empty(),
            "modem",
        ),
    };
    if let (key, true, via) = needed {
        found.push(format!("notify.{key}: is needed, because notify.sms.via = {via:?}"));
    }
}

fn email(email: &NotifyEmail, found: &mut Vec<String>) {
    if email.host.is_empty() {
        return;
    }
    if email.from.is_empty() {
        found.push("notify.email.from: say who writes, e.g. \"Polyphase <hes@example.org>\"".into());
    }
    let local = ["localhost", "127.0.0.1", "::1"].contains(&email.host.as_str());
    if email.security == MailSecurity::None && !local {
        found.push(format!(
            "notify.email.security: none sends passwords and alarms to {} in plain text; use starttls or tls",
            email.host
        ));
    }
}

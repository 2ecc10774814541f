//! Configuration: one validated struct per concern. `config/default.toml` < file < environment. Prints without secrets.

mod integrations;
mod load;
mod notify;
mod place;
mod problems;
mod shape;

pub use integrations::Integrations;
pub use load::{ConfigFaults, load, load_with_environment};
pub use notify::{MailSecurity, Notify, NotifyEmail, NotifySms, SmsVia};
pub use place::Source;
pub use problems::problems;

use crate::telemetry::logs::LogFormat;
use secrecy::SecretString;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The commented defaults, compiled in, so that a binary without its folder still starts.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where files live.
    pub data: Data,
    /// PostgreSQL.
    pub database: Database,
    /// The API's port.
    pub http: Http,
    /// Device ports.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// Bounds.
    pub limits: Limits,
    /// How long things are kept.
    pub retention: Retention,
    /// Relay control.
    pub control: Control,
    /// Exports.
    pub exports: Exports,
    /// Imports.
    pub imports: Imports,
    /// Backups.
    pub backup: Backup,
    /// Notices to people.
    pub notify: Notify,
    /// Webhooks and brokers of integrators.
    pub integrations: Integrations,
    /// Alarms.
    pub alarms: Alarms,
    /// Claims and sessions.
    pub access: Access,
    /// Logs.
    pub log: Log,
}

/// `[data]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Root of everything that is kept on this host.
    pub folder: PathBuf,
    /// A user's own meter models; empty: none.
    pub meter_models: PathBuf,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Connection URL; empty: embedded.
    pub url: SecretString,
    /// Pool size of the API.
    pub api_connections: u32,
    /// Pool size of storage.
    pub ingest_connections: u32,
    /// Cancels the API's statements, seconds.
    pub statement_timeout_s: u32,
    /// PostgreSQL's program folder for the embedded cluster; empty: looked for.
    pub embedded_bin: PathBuf,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    pub bind: SocketAddr,
    /// PEM certificate chain; empty: plain text.
    pub tls_cert: PathBuf,
    /// PEM private key.
    pub tls_key: PathBuf,
    /// Consent to plain text beyond loopback.
    pub insecure: bool,
    /// Worker threads.
    pub workers: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// `Secure` on the session cookie.
    pub secure_cookies: bool,
    /// Networks of proxies whose word about the client's address is taken.
    pub trusted_proxies: String,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
}

/// The header in which proxies say who called them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[[listener]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port.
    pub bind: SocketAddr,
    /// Registration profile.
    #[serde(default = "auto")]
    pub profile: String,
}

fn auto() -> String {
    "auto".into()
}

/// `[limits]`: see `config/default.toml` for units and meaning.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says it once, with units")]
pub struct Limits {
    pub connections_max: usize,
    pub accept_per_s: u32,
    pub reserved_descriptors: u64,
    pub registration_timeout_s: u64,
    pub quarantine_max: usize,
    pub flap_connects_per_min: u32,
    pub flap_ban_s: u32,
    pub first_polls_per_s: u32,
    pub first_polls_burst: u32,
    pub memory_bytes: u64,
    pub line_queue_max: usize,
    pub session_bytes_per_s: u32,
    pub session_burst_bytes: u32,
    pub dead_line_timeouts: u32,
    pub answer_frames_max: u16,
    pub answer_bytes_max: usize,
    pub spool_bytes: u64,
    pub spool_reserve_bytes: u64,
    pub spool_segment_bytes: u64,
    pub frames_bytes: u64,
    pub frames_days: u32,
    pub reads_max: usize,
    pub streams_max: usize,
    pub stream_events_kept: usize,
    pub requests_per_s: u32,
    pub requests_burst: u32,
    pub heavy_per_account: usize,
    pub heavy_total: usize,
    pub heavy_waiting_max: usize,
}

/// `[retention]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days of readings.
    pub readings_days: u32,
    /// Days of slot endings.
    pub endings_days: u32,
    /// Days of raw frames in the database.
    pub evidence_days: u32,
}

/// `[control]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Whether commands are taken.
    pub enabled: bool,
    /// The brake: disconnections of one account in the window.
    pub disconnects_per_account: u32,
    /// Of all accounts.
    pub disconnects_total: u32,
    /// The window, seconds.
    pub disconnects_window_s: u32,
    /// Share of a DTU's meters in its own window, percent.
    pub disconnects_dtu_percent: u32,
    /// That window, seconds.
    pub disconnects_dtu_window_s: u32,
    /// Open commands in all.
    pub open_max: usize,
    /// Visits for commands at once.
    pub visits_max: usize,
    /// Level of the password of DL/T 645 meters.
    pub dlt645_level: u8,
    /// The password, six digits.
    pub dlt645_password: SecretString,
    /// The operator that meters note down, eight digits.
    pub dlt645_operator: String,
}

/// `[exports]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exports {
    /// Exports that are written at once, each of another account.
    pub at_once: usize,
    /// Exports of one account that may wait or be written.
    pub account_open_max: usize,
    /// In all.
    pub open_max: usize,
    /// Rows of one file.
    pub rows_max: u64,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Bytes of all files that are kept.
    pub folder_bytes: u64,
    /// A file is kept so long, hours.
    pub kept_h: u32,
}

/// `[imports]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imports {
    /// Imports that run at once, each of another account.
    pub at_once: usize,
    /// Imports that may wait or run.
    pub open_max: usize,
    /// Bytes of one file.
    pub bytes_max: usize,
    /// Bytes of a workbook, unpacked.
    pub unpacked_max: u64,
    /// A file may take so long to arrive, seconds.
    pub arrival_s: u32,
    /// Rows of one file.
    pub rows_max: usize,
    /// Columns of one file.
    pub columns_max: usize,
    /// Characters of a cell.
    pub cell_chars_max: usize,
    /// Faults that a job lists.
    pub faults_max: usize,
}

/// `[backup]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// When backups are made; empty: on demand alone.
    pub cron: String,
    /// The zone of the cron expression.
    pub time_zone: String,
    /// Where they lie; empty: in the data folder.
    pub folder: PathBuf,
    /// The key's file; empty: they are not encrypted.
    pub key_file: PathBuf,
    /// Days of which the newest is kept.
    pub keep_daily: usize,
    /// Weeks of which the newest is kept.
    pub keep_weekly: usize,
    /// Months of which the newest is kept.
    pub keep_monthly: usize,
}

/// `[alarms]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarms {
    /// Between two looks at sessions, commands and the server itself, seconds.
    pub look_every_s: u32,
    /// Committed records that may wait to be judged; more are read again from the database.
    pub queue_records_max: usize,
    /// Critical alarms that nobody acknowledged are reminded of after so many minutes; 0: never.
    pub remind_after_min: u32,
}

/// Who may claim an unknown SN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claims {
    /// Who has the code.
    Code,
    /// Role platform only.
    Platform,
    /// Any admin.
    Open,
}

/// `[access]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Who may claim.
    pub claims: Claims,
    /// Session life, hours.
    pub session_hours: u32,
    /// Days that sign-ins are told.
    pub sign_ins_days: u32,
    /// Role platform needs a second factor.
    pub second_factor_platform: bool,
    /// A file in MaxMind's format that tells where addresses are; empty: none.
    pub places: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// Filter directives.
    pub filter: String,
}

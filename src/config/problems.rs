//! What types cannot say: limits that contradict each other, unsafe combinations. All faults at once.

use super::Config;
use secrecy::ExposeSecret;
use std::net::SocketAddr;

/// Every fault, each with its key and what to do; empty when the configuration is sound.
pub fn problems(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    http(config, &mut found);
    listeners(config, &mut found);
    limits(config, &mut found);
    control(config, &mut found);
    super::notify::problems(&config.notify, &mut found);
    super::integrations::problems(&config.integrations, &mut found);
    alarms(config, &mut found);
    if !(1..=24 * 365).contains(&config.access.session_hours) {
        found.push(format!(
            "access.session_hours: {} is outside 1 to 8760",
            config.access.session_hours
        ));
    }
    if !(1..=3660).contains(&config.access.sign_ins_days) {
        found.push(format!(
            "access.sign_ins_days: {} is outside 1 to 3660",
            config.access.sign_ins_days
        ));
    }
    let places = &config.access.places;
    if !places.as_os_str().is_empty() && !places.is_file() {
        found.push(format!("access.places: there is no file {}", places.display()));
    }
    if tracing_subscriber::EnvFilter::try_new(&config.log.filter).is_err() {
        found.push(format!(
            "log.filter: {:?} is not a filter, try \"info\"",
            config.log.filter
        ));
    }
    let url = config.database.url.expose_secret();
    if !url.is_empty() && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        found.push("database.url: must begin with postgres://, or be empty for the embedded database".into());
    }
    if config.data.folder.as_os_str().is_empty() {
        found.push("data.folder: must name a folder".into());
    }
    found
}

fn http(config: &Config, found: &mut Vec<String>) {
    let http = &config.http;
    let (cert, key) = (
        !http.tls_cert.as_os_str().is_empty(),
        !http.tls_key.as_os_str().is_empty(),
    );
    if cert != key {
        found.push(if cert {
            "http.tls_cert: give http.tls_key as well, or none of both".into()
        } else {
            "http.tls_key: give http.tls_cert as well, or none of both".into()
        });
    }
    for (name, path) in [("http.tls_cert", &http.tls_cert), ("http.tls_key", &http.tls_key)] {
        if !path.as_os_str().is_empty() && !path.is_file() {
            found.push(format!("{name}: there is no file {}", path.display()));
        }
    }
    if !http.bind.ip().is_loopback() && !cert && !http.insecure {
        found.push(format!(
            "http.bind: {} is reachable from outside in plain text; set http.tls_cert and http.tls_key, or http.insecure = true when something in front does TLS",
            http.bind
        ));
    }
    if !(1..=64).contains(&http.workers) {
        found.push(format!("http.workers: {} is outside 1 to 64", http.workers));
    }
}

fn listeners(config: &Config, found: &mut Vec<String>) {
    if config.listeners.is_empty() {
        found.push("listener: at least one [[listener]] is needed".into());
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let bind = listener.bind;
        let before = config.listeners.iter().take(index);
        if before.into_iter().any(|other| collide(other.bind, bind)) {
            found.push(format!(
                "listener[{index}].bind: {bind} stands twice; give each its own port"
            ));
        }
        if collide(bind, config.http.bind) {
            found.push(format!(
                "listener[{index}].bind: {bind} is taken by http.bind {}; give it another port",
                config.http.bind
            ));
        }
    }
}

/// Whether two addresses cannot both be listened on.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlap
}

fn alarms(config: &Config, found: &mut Vec<String>) {
    let alarms = &config.alarms;
    if !(1..=300).contains(&alarms.look_every_s) {
        found.push(format!(
            "alarms.look_every_s: {} is outside 1 to 300",
            alarms.look_every_s
        ));
    }
    if !(5_000..=1_000_000).contains(&alarms.queue_records_max) {
        found.push(format!(
            "alarms.queue_records_max: {} is outside 5000 to 1000000",
            alarms.queue_records_max
        ));
    }
    if alarms.remind_after_min > 43_200 {
        found.push(format!(
            "alarms.remind_after_min: {} is over 43200",
            alarms.remind_after_min
        ));
    }
}

fn control(config: &Config, found: &mut Vec<String>) {
    let control = &config.control;
    for (name, seconds) in [
        ("disconnects_window_s", control.disconnects_window_s),
        ("disconnects_dtu_window_s", control.disconnects_dtu_window_s),
    ] {
        if !(60..=7 * 86_400).contains(&seconds) {
            found.push(format!("control.{name}: {seconds} is outside 60 to 604800"));
        }
    }
    for (name, limit) in [
        ("disconnects_per_account", control.disconnects_per_account),
        ("disconnects_total", control.disconnects_total),
    ] {
        if limit > 10_000 {
            found.push(format!("control.{name}: {limit} is no brake; at most 10000"));
        }
    }
    if control.disconnects_dtu_percent > 100 {
        found.push(format!(
            "control.disconnects_dtu_percent: {} is more than all of a DTU's meters",
            control.disconnects_dtu_percent
        ));
    }
    if !(1..=1_000_000).contains(&control.open_max) {
        found.push(format!(
            "control.open_max: {} is outside 1 to 1000000",
            control.open_max
        ));
    }
    use crate::base::hex;
    let digits = |text: &str, count: usize| text.len() == count && hex::decode(text).is_ok();
    if !digits(secrecy::ExposeSecret::expose_secret(&control.dlt645_password), 6) {
        found.push("control.dlt645_password: takes six digits".to_owned());
    }
    if !digits(&control.dlt645_operator, 8) {
        found.push(format!(
            "control.dlt645_operator: {:?} is not eight digits",
            control.dlt645_operator
        ));
    }
    if !(1..=10_000).contains(&control.visits_max) {
        found.push(format!(
            "control.visits_max: {} is outside 1 to 10000",
            control.visits_max
        ));
    }
}

fn limits(config: &Config, found: &mut Vec<String>) {
    let limits = &config.limits;
    let mut range = |name: &str, value: u64, low: u64, high: u64| {
        if !(low..=high).contains(&value) {
            found.push(format!("{name}: {value} is outside {low} to {high}"));
        }
    };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    range("limits.connections_max", wide(limits.connections_max), 1, 1_000_000);
    range("http.connections_max", wide(config.http.connections_max), 10, 100_000);
    range("limits.accept_per_s", limits.accept_per_s.into(), 1, 1_000_000);
    range("limits.registration_timeout_s", limits.registration_timeout_s, 1, 600);
    range("limits.quarantine_max", wide(limits.quarantine_max), 1, 100_000);
    range(
        "limits.flap_connects_per_min",
        limits.flap_connects_per_min.into(),
        0,
        10_000,
    );
    range("limits.flap_ban_s", limits.flap_ban_s.into(), 1, 86_400);
    range(
        "limits.first_polls_per_s",
        limits.first_polls_per_s.into(),
        1,
        1_000_000,
    );
    range(
        "limits.first_polls_burst",
        limits.first_polls_burst.into(),
        1,
        1_000_000,
    );
    range("limits.memory_bytes", limits.memory_bytes, 0, 1 << 50);
    range("limits.line_queue_max", wide(limits.line_queue_max), 1, 100_000);
    range(
        "limits.session_bytes_per_s",
        limits.session_bytes_per_s.into(),
        256,
        1 << 30,
    );
    range(
        "limits.session_burst_bytes",
        limits.session_burst_bytes.into(),
        1024,
        1 << 30,
    );
    range("limits.dead_line_timeouts", limits.dead_line_timeouts.into(), 3, 10_000);
    range("limits.answer_frames_max", limits.answer_frames_max.into(), 1, 1_000);
    range("limits.answer_bytes_max", wide(limits.answer_bytes_max), 512, 1 << 20);
    range("limits.spool_bytes", limits.spool_bytes, 16 << 20, 1 << 50);
    range("limits.frames_bytes", limits.frames_bytes, 1 << 20, 1 << 50);
    range("limits.frames_days", limits.frames_days.into(), 1, 36_500);
    range(
        "limits.spool_reserve_bytes",
        limits.spool_reserve_bytes,
        1 << 20,
        limits.spool_bytes.max(16 << 20),
    );
    range(
        "limits.spool_segment_bytes",
        limits.spool_segment_bytes,
        64 << 10,
        limits.spool_bytes.min(1 << 30),
    );
    let kept = &config.retention;
    range("retention.readings_days", kept.readings_days.into(), 1, 36_500);
    range("retention.endings_days", kept.endings_days.into(), 1, 36_500);
    range("retention.evidence_days", kept.evidence_days.into(), 1, 36_500);
    let exports = &config.exports;
    range("exports.at_once", wide(exports.at_once), 1, 64);
    range("exports.account_open_max", wide(exports.account_open_max), 1, 1_000);
    range("exports.open_max", wide(exports.open_max), 1, 10_000);
    range("exports.rows_max", exports.rows_max, 1, 1_000_000_000);
    range("exports.bytes_max", exports.bytes_max, 1 << 20, 1 << 40);
    range(
        "exports.folder_bytes",
        exports.folder_bytes,
        exports.bytes_max.min(1 << 40),
        1 << 50,
    );
    range("exports.kept_h", exports.kept_h.into(), 1, 24 * 366);
    let imports = &config.imports;
    range("imports.at_once", wide(imports.at_once), 1, 16);
    range("imports.open_max", wide(imports.open_max), 1, 100);
    range("imports.bytes_max", wide(imports.bytes_max), 1 << 16, 1 << 28);
    range("imports.unpacked_max", imports.unpacked_max, 1 << 20, 1 << 30);
    range("imports.arrival_s", imports.arrival_s.into(), 1, 3_600);
    range("imports.rows_max", wide(imports.rows_max), 1, 200_000);
    range("imports.columns_max", wide(imports.columns_max), 16, 16_384);
    range("imports.cell_chars_max", wide(imports.cell_chars_max), 200, 32_767);
    range("imports.faults_max", wide(imports.faults_max), 1, 10_000);
    range("limits.reads_max", wide(limits.reads_max), 1, 100_000);
    range("limits.streams_max", wide(limits.streams_max), 1, 100_000);
    range(
        "limits.stream_events_kept",
        wide(limits.stream_events_kept),
        100,
        10_000_000,
    );
    range("limits.requests_per_s", limits.requests_per_s.into(), 0, 100_000);
    range("limits.requests_burst", limits.requests_burst.into(), 1, 100_000);
    range("limits.heavy_per_account", wide(limits.heavy_per_account), 1, 1000);
    range("limits.heavy_total", wide(limits.heavy_total), 1, 1000);
    range("limits.heavy_waiting_max", wide(limits.heavy_waiting_max), 1, 10_000);
    range(
        "database.api_connections",
        config.database.api_connections.into(),
        1,
        1000,
    );
    range(
        "database.ingest_connections",
        config.database.ingest_connections.into(),
        1,
        100,
    );
    range(
        "database.statement_timeout_s",
        config.database.statement_timeout_s.into(),
        1,
        3600,
    );
}

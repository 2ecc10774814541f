//! `[integrations]`; `config/default.toml` says what each key means, with units.

use serde::Deserialize;

/// `[integrations]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "config/default.toml says it once, with units")]
pub struct Integrations {
    pub enabled: bool,
    pub keep_days: u32,
    pub stop_after_days: u32,
    pub active_max: u32,
    pub posts_max: usize,
    pub timeout_s: u64,
    pub body_bytes_max: usize,
    pub retry_first_s: u32,
    pub retry_longest_s: u32,
}

/// What types cannot say.
pub(super) fn problems(integrations: &Integrations, found: &mut Vec<String>) {
    let mut range = |name: &str, value: u64, low: u64, high: u64| {
        if !(low..=high).contains(&value) {
            found.push(format!("integrations.{name}: {value} is outside {low} to {high}"));
        }
    };
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    range("keep_days", integrations.keep_days.into(), 1, 60);
    range("stop_after_days", integrations.stop_after_days.into(), 1, 60);
    range("active_max", integrations.active_max.into(), 1, 10_000);
    range("posts_max", wide(integrations.posts_max), 1, 256);
    range("timeout_s", integrations.timeout_s, 1, 300);
    range("body_bytes_max", wide(integrations.body_bytes_max), 10_000, 16 << 20);
    range("retry_first_s", integrations.retry_first_s.into(), 1, 3600);
    range("retry_longest_s", integrations.retry_longest_s.into(), 1, 86_400);
    if integrations.retry_longest_s < integrations.retry_first_s {
        found.push("integrations.retry_longest_s: must not be shorter than integrations.retry_first_s".into());
    }
    if integrations.stop_after_days > integrations.keep_days {
        found.push("integrations.stop_after_days: must not be longer than integrations.keep_days".into());
    }
}

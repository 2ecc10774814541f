//! Happenings of the api room.

use super::{counter, counters, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec};
use std::sync::LazyLock;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_http_requests_total",
        "HTTP requests answered, by method, route pattern and status.",
        &["method", "route", "status"],
    )
});
static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "polyphase_http_request_duration_seconds",
        "Time until the head of the answer, by route pattern.",
        &["route"],
        &[
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ],
    )
});
static SIGN_INS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counters("polyphase_sign_ins_total", "Sign-ins tried, by outcome.", &["outcome"]));
static CLAIMS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_claims_total",
        "Claims of quarantined serial numbers, by outcome.",
        &["outcome"],
    )
});
static LIMITED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_http_limited_total",
        "Requests refused with 429, by limit: rate of a key or session, heavy operations of an account.",
        &["limit"],
    )
});
static FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_http_failures_total",
        "Requests that failed through a fault of ours or of the database.",
    )
});

pub(super) fn touch() {
    LazyLock::force(&REQUESTS);
    LazyLock::force(&DURATION);
    for outcome in ["granted", "refused", "throttled", "code_required"] {
        SIGN_INS.with_label_values(&[outcome]);
    }
    for outcome in ["granted", "refused"] {
        CLAIMS.with_label_values(&[outcome]);
    }
    for limit in ["rate", "heavy"] {
        LIMITED.with_label_values(&[limit]);
    }
    LazyLock::force(&FAILURES);
}

/// A request was answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestAnswered<'a> {
    /// `GET` … or `other`: a closed list.
    pub method: &'static str,
    /// The route's pattern, never the path.
    pub route: &'a str,
    /// The status.
    pub status: u16,
    /// Seconds until the head of the answer.
    pub seconds: f64,
    /// The request's id.
    pub request_id: &'a str,
}

impl RequestAnswered<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        REQUESTS
            .with_label_values(&[self.method, self.route, status_text(self.status).as_str()])
            .inc();
        DURATION.with_label_values(&[self.route]).observe(self.seconds);
        if self.status >= 500 {
            tracing::warn!(
                http.method = self.method,
                http.route = self.route,
                http.status = self.status,
                http.seconds = self.seconds,
                request.id = self.request_id,
                "request failed"
            );
        } else {
            tracing::debug!(
                http.method = self.method,
                http.route = self.route,
                http.status = self.status,
                http.seconds = self.seconds,
                request.id = self.request_id,
                "request answered"
            );
        }
    }
}

fn status_text(status: u16) -> String {
    status.to_string()
}

/// A request failed through us or the database.
#[derive(Clone, Copy, Debug)]
pub struct RequestFailed<'a> {
    /// What happened; for the log only.
    pub cause: &'a str,
}

impl RequestFailed<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        FAILURES.inc();
        tracing::error!(cause = self.cause, "request could not be served");
    }
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInOutcome {
    /// A session began.
    Granted,
    /// Unknown address, wrong password or disabled.
    Refused,
    /// Too many failures before.
    Throttled,
    /// The password was right; no code came with it, or a wrong one.
    CodeRequired,
}

/// Somebody tried to sign in.
#[derive(Clone, Copy, Debug)]
pub struct SignInTried<'a> {
    /// How it ended.
    pub outcome: SignInOutcome,
    /// From where.
    pub source: &'a str,
}

impl SignInTried<'_> {
    /// Logs and counts. The address is not logged: people type passwords into that field.
    pub fn emit(self) {
        let outcome = match self.outcome {
            SignInOutcome::Granted => "granted",
            SignInOutcome::Refused => "refused",
            SignInOutcome::Throttled => "throttled",
            SignInOutcome::CodeRequired => "code_required",
        };
        SIGN_INS.with_label_values(&[outcome]).inc();
        tracing::info!(outcome, source = self.source, "sign-in");
    }
}

/// Somebody tried to claim a quarantined serial number.
#[derive(Clone, Copy, Debug)]
pub struct ClaimTried {
    /// Whether it was granted.
    pub granted: bool,
    /// The account that asked.
    pub account: i32,
}

impl ClaimTried {
    /// Logs and counts.
    pub fn emit(self) {
        let outcome = if self.granted { "granted" } else { "refused" };
        CLAIMS.with_label_values(&[outcome]).inc();
        tracing::info!(outcome, account.id = self.account, "claim");
    }
}

/// Which bound a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichLimit {
    /// Requests per second of a key or session.
    Rate,
    /// Heavy operations of an account.
    Heavy,
}

/// A request was refused because its caller asks for too much.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimited {
    /// Which bound.
    pub which: WhichLimit,
}

impl RequestLimited {
    /// Counts. The answer's 429 is logged with all others.
    pub fn emit(self) {
        let limit = match self.which {
            WhichLimit::Rate => "rate",
            WhichLimit::Heavy => "heavy",
        };
        LIMITED.with_label_values(&[limit]).inc();
    }
}

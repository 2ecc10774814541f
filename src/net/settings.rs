//! Every limit of the device port in one struct. `Default` is what `config/default.toml` documents.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits of the device port, of dialled links and of lines. Units are last in the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetSettings {
    /// Open connections at the device port, over all listeners. The process's descriptor limit less
    /// [`NetSettings::descriptors_reserved`] lowers it.
    pub connections_max: usize,
    /// Connections admitted per second, over all listeners; the rest waits in the backlog.
    pub accepts_per_s: u32,
    /// Connections that may be admitted in one burst.
    pub accepts_burst: u32,
    /// Descriptors that the device port leaves to the API, the database and files.
    pub descriptors_reserved: usize,
    /// Descriptors held open as a reserve and given back to the process when it runs out.
    pub descriptors_spare: usize,
    /// Length of each listener's backlog.
    pub backlog: u32,
    /// Data that stays unacknowledged this long ends the socket (TCP_USER_TIMEOUT), seconds.
    pub tcp_user_timeout_s: u32,
    /// Idle seconds before the first TCP keep-alive probe; probes follow every quarter of it.
    pub tcp_keepalive_s: u32,
    /// Time for a whole registration after connect, seconds.
    pub registration_s: u32,
    /// Silence limit while nobody has set another, seconds.
    pub silence_s: u32,
    /// Time for one write, seconds; a peer that does not read is dropped after it.
    pub write_s: u32,
    /// Bytes a second that a session may send without being asked.
    pub flood_bytes_per_s: u32,
    /// Unasked bytes that may come in one burst.
    pub flood_burst_bytes: u32,
    /// Reads a second with nothing asked.
    pub flood_reads_per_s: u32,
    /// Unasked reads that may come in one burst.
    pub flood_burst_reads: u32,
    /// Jobs that wait for one line.
    pub queue_jobs: usize,
    /// How long a scheduled read behind a concentrator waits for others of its instant, milliseconds.
    pub gather_ms: u64,
    /// The least quiet time of a line after a time-out, milliseconds.
    pub guard_ms: u32,
    /// The most that the learned quiet time grows to, milliseconds.
    pub guard_max_ms: u32,
    /// An answer is expected, and its like not asked, for this many time-outs after the request was written.
    pub owed_timeouts: u32,
    /// The longest that an unanswered question bars its like, milliseconds.
    pub owed_max_ms: u32,
    /// Time-outs in a row, over all meters of a line, after which the session is closed.
    pub dead_line_timeouts: u32,
    /// Follow-up frames of one answer.
    pub follow_ups: u16,
    /// Bytes of one answer with its follow-ups.
    pub answer_bytes: usize,
    /// Time for a dial-out to connect, seconds.
    pub dial_s: u32,
    /// First wait before a dial is tried again, milliseconds; doubles with jitter.
    pub redial_ms: u32,
    /// The longest wait before a dial is tried again, milliseconds.
    pub redial_max_ms: u32,
}

impl Default for NetSettings {
    fn default() -> Self {
        Self {
            connections_max: 60_000,
            accepts_per_s: 10_000,
            accepts_burst: 2_000,
            descriptors_reserved: 512,
            descriptors_spare: 64,
            backlog: 4_096,
            tcp_user_timeout_s: 60,
            tcp_keepalive_s: 60,
            registration_s: 30,
            silence_s: 180,
            write_s: 10,
            flood_bytes_per_s: 20_000,
            flood_burst_bytes: 256 * 1024,
            flood_reads_per_s: 200,
            flood_burst_reads: 2_000,
            queue_jobs: 256,
            gather_ms: 500,
            guard_ms: 100,
            guard_max_ms: 2_000,
            owed_timeouts: 4,
            owed_max_ms: 60_000,
            dead_line_timeouts: 30,
            follow_ups: 64,
            answer_bytes: 32 * 1024,
            dial_s: 10,
            redial_ms: 1_000,
            redial_max_ms: 60_000,
        }
    }
}

/// Seconds of the settings as a duration.
pub(crate) fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

/// Milliseconds of the settings as a duration.
pub(crate) fn millis(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

//! Happenings on connections of concentrators.

use super::{counter, counters};
use prometheus::{IntCounter, IntCounterVec};
use std::sync::LazyLock;

static FRAMES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_frames_total",
        "Frames written to concentrators: questions, repeats and confirmations.",
    )
});
static UNFIT: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_unfit_frames_total",
        "Frames of concentrators that answer nothing that was asked: other points, sequences, times.",
    )
});
static REPORTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_reports_left_total",
        "Reports of concentrators that were recorded as frames only, and not confirmed.",
    )
});
static STORED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_terminal_reported_readings_total",
        "Readings made of what DL/T 698.45 terminals reported of their own accord; a report told again is counted again.",
    )
});
static EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_events_total",
        "Times at which the event counters of a concentrator moved.",
    )
});
static JUMPS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_event_jumps_total",
        "Times at which an event counter of a concentrator went back or jumped: it was reset, or another one speaks.",
    )
});
static REPLAYS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_replays_total",
        "Reports of concentrators that came again behind their confirmation.",
    )
});
static EVENTS_KEPT: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_events_kept_total",
        "Records of events of concentrators that were kept, each once.",
    )
});
static EVENTS_LEFT: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_events_left_total",
        "Lists of events of concentrators that could not be kept; they are reported or asked for again.",
    )
});
static EVENTS_UNREAD: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "polyphase_concentrator_events_unread_total",
        "Answers to questions for events of concentrators that could not be read; these records are not asked for again.",
    )
});
static STAMPS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_concentrator_stamps_refused_total",
        "Times at which a concentrator says that it read a meter, and which cannot be true.",
        &["why"],
    )
});

static PARAMETERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_terminal_parameters_total",
        "Terminals whose settings were compared, or written and read back, by what became of them.",
        &["state"],
    )
});

static LINKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "polyphase_terminal_logins_total",
        "Logins of DL/T 698.45 terminals, by what their clock showed: right within a minute, off, wrong in every zone, none.",
        &["clock"],
    )
});

pub(super) fn touch() {
    for counter in [
        &FRAMES,
        &UNFIT,
        &REPORTS,
        &STORED,
        &EVENTS,
        &JUMPS,
        &REPLAYS,
        &EVENTS_KEPT,
        &EVENTS_LEFT,
        &EVENTS_UNREAD,
    ] {
        LazyLock::force(counter);
    }
    for why in ["ahead", "behind"] {
        STAMPS.with_label_values(&[why]).inc_by(0);
    }
    for state in [
        "read",
        "same",
        "differs",
        "written",
        "refused",
        "otherwise",
        "unknown",
        "offline",
        "no_answer",
    ] {
        PARAMETERS.with_label_values(&[state]).inc_by(0);
    }
    for clock in ["right", "off", "wrong", "none"] {
        LINKS.with_label_values(&[clock]).inc_by(0);
    }
}

/// A terminal of DL/T 698.45 logged in, beat or logged out.
#[derive(Clone, Copy, Debug)]
pub struct TerminalSpoke {
    /// The DTU, 0 while it is nobody's.
    pub dtu: i32,
    /// What it said.
    pub link: &'static str,
    /// Whether it was a login.
    pub login: bool,
    /// Its clock in a word: `right`, `off`, `wrong` or `none`.
    pub clock: &'static str,
    /// By how much the clock is ahead of its zone's time, seconds; none where no zone shows such a time.
    pub ahead_s: Option<i64>,
}

impl TerminalSpoke {
    /// Logs and counts.
    pub fn emit(self) {
        let (link, clock, ahead_s) = (self.link, self.clock, self.ahead_s);
        if self.login {
            LINKS.with_label_values(&[clock]).inc();
            tracing::info!(dtu.id = self.dtu, link, clock, ahead_s, "terminal logged in");
        } else {
            tracing::debug!(dtu.id = self.dtu, link, clock, ahead_s, "link of a terminal");
        }
    }
}

/// A frame was written to a concentrator.
#[derive(Clone, Copy, Debug)]
pub struct FrameAsked;

impl FrameAsked {
    /// Counts.
    pub fn emit(self) {
        FRAMES.inc();
    }
}

/// A concentrator's frame answers nothing that was asked.
#[derive(Clone, Copy, Debug)]
pub struct FrameUnfit<'a> {
    /// The DTU.
    pub dtu: i32,
    /// In what.
    pub why: &'a str,
}

impl FrameUnfit<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        UNFIT.inc();
        tracing::debug!(dtu.id = self.dtu, why = self.why, "unfit frame of a concentrator");
    }
}

/// A concentrator reports of its own accord what nobody here keeps.
#[derive(Clone, Copy, Debug)]
pub struct ReportLeft<'a> {
    /// The DTU.
    pub dtu: i32,
    /// What it reports.
    pub function: &'a str,
    /// How many frames.
    pub frames: usize,
}

impl ReportLeft<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        REPORTS.inc();
        let (function, frames) = (self.function, self.frames);
        tracing::debug!(dtu.id = self.dtu, function, frames, "report of a concentrator left");
    }
}

/// What a terminal reported of its own accord is durable.
#[derive(Clone, Copy, Debug)]
pub struct ReportStored {
    /// The DTU.
    pub dtu: i32,
    /// Readings that it made.
    pub readings: usize,
    /// Rows of it that make none; then it is not confirmed.
    pub left: usize,
}

impl ReportStored {
    /// Logs and counts.
    pub fn emit(self) {
        let (readings, left) = (self.readings, self.left);
        STORED.inc_by(u64::try_from(readings).unwrap_or(u64::MAX));
        tracing::debug!(dtu.id = self.dtu, readings, left, "report of a terminal stored");
    }
}

/// The event counters of a concentrator moved.
#[derive(Clone, Copy, Debug)]
pub struct EventsRecorded<'a> {
    /// The DTU.
    pub dtu: i32,
    /// How the counter of important events moved.
    pub important: &'a str,
    /// And that of ordinary ones.
    pub ordinary: &'a str,
    /// Whether one of them went where counting on does not lead.
    pub jumped: bool,
}

impl EventsRecorded<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        EVENTS.inc();
        let (important, ordinary) = (self.important, self.ordinary);
        if self.jumped {
            JUMPS.inc();
            tracing::warn!(
                dtu.id = self.dtu,
                important,
                ordinary,
                "event counter of a concentrator jumped"
            );
        } else {
            tracing::info!(dtu.id = self.dtu, important, ordinary, "events of a concentrator");
        }
    }
}

/// A concentrator's records of events are durable.
#[derive(Clone, Copy, Debug)]
pub struct EventsKept {
    /// The DTU.
    pub dtu: i32,
    /// How many were not known yet.
    pub fresh: u64,
    /// How many it told.
    pub told: usize,
}

impl EventsKept {
    /// Logs and counts.
    pub fn emit(self) {
        let (fresh, told) = (self.fresh, self.told);
        EVENTS_KEPT.inc_by(fresh);
        tracing::debug!(dtu.id = self.dtu, fresh, told, "events of a concentrator kept");
    }
}

/// A list of events could not be kept.
#[derive(Clone, Copy, Debug)]
pub struct EventsLeft {
    /// The DTU.
    pub dtu: i32,
}

impl EventsLeft {
    /// Counts.
    pub fn emit(self) {
        EVENTS_LEFT.inc();
        tracing::debug!(dtu.id = self.dtu, "events of a concentrator left");
    }
}

/// A concentrator was asked for records of events, and its answer cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct EventsUnread<'a> {
    /// The DTU.
    pub dtu: i32,
    /// Why.
    pub why: &'a str,
}

impl EventsUnread<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        EVENTS_UNREAD.inc();
        tracing::warn!(
            dtu.id = self.dtu,
            why = self.why,
            "events of a concentrator not readable"
        );
    }
}

/// A concentrator sent a report again that was confirmed before.
#[derive(Clone, Copy, Debug)]
pub struct ReportReplayed {
    /// The DTU.
    pub dtu: i32,
}

impl ReportReplayed {
    /// Logs and counts.
    pub fn emit(self) {
        REPLAYS.inc();
        tracing::debug!(dtu.id = self.dtu, "report of a concentrator replayed");
    }
}

/// What a concentrator said of its meters could not be stored.
#[derive(Clone, Copy, Debug)]
pub struct MeshLost<'a> {
    /// The DTU.
    pub dtu: i32,
    /// How many meters.
    pub places: usize,
    /// Why.
    pub why: &'a str,
}

impl MeshLost<'_> {
    /// Logs; the next scan says it again.
    pub fn emit(self) {
        let (places, why) = (self.places, self.why);
        tracing::warn!(dtu.id = self.dtu, places, why, "mesh of a concentrator not stored");
    }
}

/// What became of the settings of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct ParametersTold {
    /// The DTU.
    pub dtu: i32,
    /// How it stands: a closed list.
    pub state: &'static str,
    /// Whether it was written to.
    pub wrote: bool,
}

impl ParametersTold {
    /// Logs and counts.
    pub fn emit(self) {
        PARAMETERS.with_label_values(&[self.state]).inc();
        let (state, wrote) = (self.state, self.wrote);
        tracing::info!(dtu.id = self.dtu, state, wrote, "settings of a terminal");
    }
}

/// What became of the settings of a terminal, or of a whole run (DTU 0), could not be written down.
#[derive(Clone, Copy, Debug)]
pub struct ParametersLost<'a> {
    /// The DTU.
    pub dtu: i32,
    /// Why.
    pub why: &'a str,
}

impl ParametersLost<'_> {
    /// Logs; the run stays open until the next start says that it was interrupted.
    pub fn emit(self) {
        tracing::warn!(
            dtu.id = self.dtu,
            why = self.why,
            "settings of a terminal not written down"
        );
    }
}

/// Runs of settings that the process before left open.
#[derive(Clone, Copy, Debug)]
pub struct ParameterRunsInterrupted {
    /// How many.
    pub runs: u64,
}

impl ParameterRunsInterrupted {
    /// Logs.
    pub fn emit(self) {
        tracing::warn!(runs = self.runs, "runs of settings were interrupted by the restart");
    }
}

/// When a concentrator says that it read a meter cannot be: its clock is wrong.
#[derive(Clone, Copy, Debug)]
pub struct StampRefused<'a> {
    /// The meter.
    pub meter: i32,
    /// `ahead` or `behind`.
    pub why: &'static str,
    /// What it said.
    pub said: &'a str,
}

impl StampRefused<'_> {
    /// Logs and counts.
    pub fn emit(self) {
        STAMPS.with_label_values(&[self.why]).inc();
        let (why, said) = (self.why, self.said);
        tracing::info!(
            meter.id = self.meter,
            why,
            said,
            "time of a concentrator's value refused"
        );
    }
}

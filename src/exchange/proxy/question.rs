//! One question to the terminal: which questions of which visits it stands for, how often it is asked and how long it may take.

use super::ProxySettings;
use crate::exchange::Moment;
use crate::exchange::members::{Asked, Part};
use std::time::Duration;

/// What the terminal is asked at once.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) parts: Vec<Part>,
    pub(super) attempts: u8,
    pub(super) attempts_max: u8,
    /// It belongs to something that changes a device, and is asked once.
    pub(super) once: bool,
    /// How many of its answers were doubtful, and what the last of them said.
    pub(super) doubts: u8,
    pub(super) doubted: Option<u64>,
    /// How many meters it is for, and what each is given.
    pub(super) meters: u16,
    pub(super) each: Duration,
    pub(super) sent_at: Option<Moment>,
}

impl Question {
    /// How it was asked.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            attempts: self.attempts,
            sent_at: self.sent_at,
            sharers: self.parts.len(),
        }
    }

    /// How long the terminal has for the meters.
    pub(super) fn for_meters(&self, settings: &ProxySettings) -> Duration {
        let each = self.each.max(settings.meter_within);
        let all = each.saturating_mul(self.meters.max(1).into());
        all.min(settings.question_within).max(each)
    }

    /// Until when its answer may begin, from the moment it was written.
    pub(super) fn within(&self, settings: &ProxySettings) -> Duration {
        self.for_meters(settings) + settings.way_within
    }

    /// Takes note of a doubtful answer. The first of them allows one more attempt than the visits say. True when it says the
    /// same as the one before, which makes it believed.
    pub(super) fn doubt(&mut self, said: Option<u64>) -> bool {
        if said.is_some() && said == self.doubted {
            return true;
        }
        if self.doubts == 0 && !self.once {
            self.attempts_max = self.attempts_max.saturating_add(1);
        }
        self.doubts = self.doubts.saturating_add(1);
        self.doubted = said;
        false
    }
}

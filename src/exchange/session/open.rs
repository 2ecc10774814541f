//! The session once it is known who this is: framing off, heartbeats and repeated registration out, line bytes on.

use super::{Open, Phase, Session, SessionEvent, SessionFault};
use crate::protocol::dtu::{Framing, FramingItem, lineframe};
use std::time::{Duration, Instant};

/// Idle bytes are held back until quiet, to see a split heartbeat whole; at most this many.
const IDLE_LEN_MAX: usize = 512;
/// The first part of a registration package in front of a reply is held back for the rest at most this long.
const PREFIX_HOLD: Duration = Duration::from_millis(100);
/// A package shorter than this is left to the line's frame check: it could begin a reply by chance.
const PREFIX_LEN_MIN: usize = 4;
/// So many packets behind a package make a habit; one may be a repeated registration that a reply ran into.
const PREFIXED_MIN: u8 = 2;

impl Session {
    pub(super) fn arrived(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        if open.decoder.framing() == Framing::Transparent {
            return self.line_bytes(now, bytes, events);
        }
        // PROT sends its register packet unescaped, so it must go before the decoder sees it
        let mut rest = bytes;
        if open.decoder.framing() == Framing::FourFaithProt {
            while let Some(behind) = rest
                .strip_prefix(open.package.as_slice())
                .filter(|_| !open.package.is_empty())
            {
                self.heartbeats.note_time(now);
                events.push(SessionEvent::Heartbeat(open.package.clone()));
                rest = behind;
            }
        }
        for item in open.decoder.feed(rest) {
            match item {
                FramingItem::Line(bytes) => self.line_bytes(now, &bytes, events),
                FramingItem::Heartbeat(bytes) => {
                    self.heartbeats.note_time(now);
                    self.first_register_packet(&bytes);
                    events.push(SessionEvent::Heartbeat(bytes));
                }
                FramingItem::Reply(bytes) => events.push(SessionEvent::Reply(bytes)),
                FramingItem::Noise(bytes) => events.push(SessionEvent::Noise(bytes)),
                FramingItem::OtherId(other) => {
                    let was = match &self.phase {
                        Phase::Open(open) => open.sn.clone(),
                        Phase::Unregistered { .. } | Phase::Ended => String::new(),
                    };
                    return self.fail(events, SessionFault::IdentityChanged { was, now: other });
                }
            }
        }
    }

    /// A DTU that began with data has shown no register packet yet.
    fn first_register_packet(&mut self, packet: &[u8]) {
        if let Phase::Open(open) = &mut self.phase
            && open.decoder.framing() == Framing::HongdianDdp
            && open.package.is_empty()
        {
            open.package = packet.to_vec();
        }
    }

    fn line_bytes(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        self.held.extend_from_slice(bytes);
        if self.busy {
            return self.busy_bytes(now, events);
        }
        self.held_until = Some(now + self.quiet_gap());
        if self.held.len() > IDLE_LEN_MAX {
            self.release(now, events);
        }
    }

    /// With a transaction open everything goes to the line at once, but for the registration package in front.
    fn busy_bytes(&mut self, now: Instant, events: &mut Vec<SessionEvent>) {
        self.take_packages(now, events);
        if let Phase::Open(open) = &self.phase
            && open.prefixes_packets()
            && open.every_packet()
            && !self.held.is_empty()
            && self.held.len() < open.package.len()
            && open.package.starts_with(&self.held)
        {
            self.held_until = Some(now + PREFIX_HOLD);
            return;
        }
        self.held_until = None;
        if !self.held.is_empty() {
            if events.capacity() == 0 {
                // most arrivals are one event, and a list that grows makes room for four
                events.reserve_exact(1);
            }
            events.push(SessionEvent::Line(std::mem::take(&mut self.held)));
        }
    }

    /// Takes whole registration packages off the front of what is held. A package alone is a heartbeat, and one that
    /// wants the same answer as the first, but not in the middle of a transaction: it would go out to the line.
    fn take_packages(&mut self, now: Instant, events: &mut Vec<SessionEvent>) {
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        while open.prefixes_packets() && self.held.starts_with(&open.package) {
            self.held.drain(..open.package.len());
            if !self.held.is_empty() && !self.held.starts_with(&open.package) {
                open.prefixed = open.prefixed.saturating_add(1);
                return;
            }
            self.heartbeats.note_time(now);
            events.push(SessionEvent::Heartbeat(open.package.clone()));
            if !self.busy {
                events.extend(self.settings.profile.answer.to(&open.package).map(SessionEvent::Reply));
            }
        }
    }

    /// Gives out what is held: the wait is over.
    pub(super) fn release(&mut self, now: Instant, events: &mut Vec<SessionEvent>) {
        self.held_until = None;
        if self.busy {
            if !self.held.is_empty() {
                events.push(SessionEvent::Line(std::mem::take(&mut self.held)));
            }
            return;
        }
        // frames of a concentrator that are no heartbeat are never taken for one, however alike they are
        if matches!(&self.phase, Phase::Open(open) if open.decoder.framing().is_terminal()) {
            if !self.held.is_empty() {
                events.push(SessionEvent::Line(std::mem::take(&mut self.held)));
            }
            return;
        }
        while !self.held.is_empty() {
            self.take_packages(now, events);
            let leading = self.heartbeats.leading(&self.held);
            match leading.filter(|_| !lineframe::is_line_data(&self.held)) {
                Some(len) => {
                    let heartbeat: Vec<u8> = self.held.drain(..len).collect();
                    self.heartbeats.learn(now, &heartbeat);
                    events.push(SessionEvent::Heartbeat(heartbeat));
                }
                None if self.held.is_empty() => {}
                None => {
                    let bytes = std::mem::take(&mut self.held);
                    let is_heartbeat = self.heartbeats.judge(now, &bytes, true);
                    events.push(if is_heartbeat {
                        SessionEvent::Heartbeat(bytes)
                    } else {
                        SessionEvent::Line(bytes)
                    });
                }
            }
        }
    }
}

impl Open {
    /// Whether the package stands before every packet: as pinned, else as seen more than once.
    pub(super) fn every_packet(&self) -> bool {
        self.pinned_every_packet.unwrap_or(self.prefixed >= PREFIXED_MIN)
    }

    /// Whether the package is safe to cut off the front of a packet without asking the frame check: long enough, and
    /// not such that a Modbus reply could begin with it.
    fn prefixes_packets(&self) -> bool {
        self.package.len() >= PREFIX_LEN_MIN
            && self.decoder.framing() == Framing::Transparent
            && !lineframe::is_modbus_head(&self.package)
    }
}

//! The session until somebody has said who they are.

use super::{FIRST_BYTES_MAX, Open, Phase, Session, SessionEvent, SessionFault};
use crate::domain::device::SerialNumber;
use crate::protocol::dtu::{Recognition, Registration, RegistrationError, lineframe, recognise};
use std::time::{Duration, Instant};

/// A registration that never falls quiet is judged this long after its first byte.
const DECIDE_AFTER: Duration = Duration::from_secs(3);

impl Session {
    pub(super) fn first_arrived(&mut self, now: Instant, bytes: &[u8], events: &mut Vec<SessionEvent>) {
        let gap = self.quiet_gap();
        if let Phase::Unregistered {
            buffer,
            first_bytes,
            quiet_at,
            decide_at,
            ..
        } = &mut self.phase
        {
            let room = FIRST_BYTES_MAX.saturating_sub(first_bytes.len());
            first_bytes.extend(bytes.iter().take(room));
            buffer.extend_from_slice(bytes);
            *quiet_at = Some(now + gap);
            decide_at.get_or_insert(now + DECIDE_AFTER.max(gap));
        }
        self.recognise(now, false, events);
    }

    pub(super) fn recognise(&mut self, now: Instant, ended: bool, events: &mut Vec<SessionEvent>) {
        loop {
            let Phase::Unregistered {
                buffer,
                quiet_at,
                decide_at,
                ..
            } = &mut self.phase
            else {
                return;
            };
            match recognise(&self.settings.profile, buffer, ended) {
                Recognition::NeedMore => {
                    if ended || buffer.is_empty() {
                        (*quiet_at, *decide_at) = (None, None);
                    }
                    return;
                }
                Recognition::Skip { len, heartbeat } => {
                    let skipped: Vec<u8> = buffer.drain(..len.clamp(1, buffer.len())).collect();
                    if heartbeat {
                        self.heartbeats.learn(now, &skipped);
                        events.push(SessionEvent::Heartbeat(skipped));
                    } else {
                        events.push(SessionEvent::Noise(skipped));
                    }
                }
                Recognition::Refused(error) => return self.fail(events, SessionFault::BadRegistration(error)),
                Recognition::Found(registration) => return self.identified(now, registration, ended, events),
            }
        }
    }

    fn identified(&mut self, now: Instant, found: Registration, ended: bool, events: &mut Vec<SessionEvent>) {
        // the recogniser's grammar is the domain's; should they ever part, the domain's word counts
        let Ok(sn) = SerialNumber::parse(&found.sn) else {
            let refused = RegistrationError::NotThis {
                wanted: "a serial number",
            };
            return self.fail(events, SessionFault::BadRegistration(refused));
        };
        let open = Open {
            decoder: found.decoder,
            kind: Some(found.kind),
            sn: found.sn,
            package: Vec::new(),
            pinned_every_packet: self.settings.profile.every_packet,
            prefixed: 0,
        };
        let was = std::mem::replace(&mut self.phase, Phase::Open(Box::new(open)));
        let Phase::Unregistered {
            mut buffer,
            first_bytes,
            ..
        } = was
        else {
            return;
        };
        let rest = buffer.split_off(found.len.min(buffer.len()));
        if let Phase::Open(open) = &mut self.phase {
            open.package.clone_from(&buffer);
        }
        events.push(SessionEvent::Identified {
            sn,
            learned: self.learned(),
            first_bytes,
            package: buffer.clone(),
        });
        let answer = self.settings.profile.answer.to(&buffer);
        events.extend(found.answer.into_iter().chain(answer).map(SessionEvent::Reply));
        if rest.is_empty() {
            return;
        }
        if let Phase::Open(open) = &mut self.phase
            && lineframe::is_line_data(&rest)
        {
            open.prefixed = 1;
        }
        self.arrived(now, &rest, events);
        if ended {
            self.release(now, events);
        }
    }
}

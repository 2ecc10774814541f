//! What goes wrong on purpose: seeded faults of DTUs and lines, each with a probability per reply.

use std::time::Duration;

/// Probabilities of `0.0..=1.0` per reply (`mute`: per meter, for good).
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Faults {
    /// Random bytes before or after a reply
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub noise: f64,
    /// A reply in two pieces with a pause between
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub split: f64,
    /// A heartbeat glued to a reply, before or behind it
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub glue: f64,
    /// A reply that comes late, by up to --late-ms
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub late: f64,
    /// How late a late reply can be, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    pub late_ms: u64,
    /// A valid reply of another address before the right one
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub wrong_address: f64,
    /// Meters that never answer (a share of all meters)
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub mute: f64,
    /// A reply that is lost
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub drop: f64,
    /// DL/T 645 meters with a habit that the standard does not foresee (a share of them)
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub quirks: f64,
    /// A connection that is cut instead of a reply
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub cut: f64,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a probability from 0 to 1 is needed, e.g. 0.01".into()),
    }
}

/// A piece of what the DTU sends: after this pause, these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The pause before it.
    pub after: Duration,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What becomes of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// These pieces are sent, in order.
    Send(Vec<Piece>),
    /// Nothing is sent.
    Lost,
    /// The connection is cut.
    Cut,
}

/// A small seeded generator, so that a run can be repeated whatever the libraries' versions.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_F42D_4C95_7F2D)
    }

    /// The next 64 bits (splitmix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        // drawn also for 0 and 1, so that one fault's setting does not shift the others
        let drawn = (self.roll() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < probability
    }

    /// A number below `bound` (0 for 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or(0)
    }
}

impl Faults {
    /// What becomes of a reply. `foreign` makes the same reply as another address would send it.
    pub fn fate(
        &self,
        reply: Vec<u8>,
        heartbeat: &[u8],
        foreign: impl FnOnce() -> Option<Vec<u8>>,
        dice: &mut Dice,
    ) -> Fate {
        let (cut, drop) = (dice.chance(self.cut), dice.chance(self.drop));
        let (late, wrong) = (dice.chance(self.late), dice.chance(self.wrong_address));
        let (noise, glue, split) = (dice.chance(self.noise), dice.chance(self.glue), dice.chance(self.split));
        if cut {
            return Fate::Cut;
        }
        if drop {
            return Fate::Lost;
        }
        let mut bytes = reply;
        if noise {
            let junk: Vec<u8> = (0..1 + dice.below(6)).map(|_| dice.roll().to_le_bytes()[0]).collect();
            bytes = if dice.chance(0.5) {
                [junk, bytes].concat()
            } else {
                [bytes, junk].concat()
            };
        }
        if glue {
            let heartbeat = heartbeat.to_vec();
            bytes = if dice.chance(0.5) {
                [heartbeat, bytes].concat()
            } else {
                [bytes, heartbeat].concat()
            };
        }
        let mut pieces = Vec::with_capacity(3);
        if wrong && let Some(foreign) = foreign() {
            pieces.push(Piece {
                after: Duration::ZERO,
                bytes: foreign,
            });
        }
        let wait = if late {
            Duration::from_millis(dice.below(self.late_ms.max(1)))
        } else {
            Duration::ZERO
        };
        if split && bytes.len() > 1 {
            let at = usize::try_from(1 + dice.below(bytes.len() as u64 - 1)).unwrap_or(1);
            let rest = bytes.split_off(at.min(bytes.len()));
            pieces.push(Piece { after: wait, bytes });
            pieces.push(Piece {
                after: Duration::from_millis(5 + dice.below(60)),
                bytes: rest,
            });
        } else {
            pieces.push(Piece { after: wait, bytes });
        }
        Fate::Send(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_means_the_reply_as_it_is() {
        let fate = Faults::default().fate(vec![1, 2, 3], b"HB", || None, &mut Dice::new(1));
        assert_eq!(
            fate,
            Fate::Send(vec![Piece {
                after: Duration::ZERO,
                bytes: vec![1, 2, 3]
            }])
        );
    }

    #[test]
    fn a_seed_repeats_and_every_fault_happens() {
        let faults = Faults {
            noise: 0.3,
            split: 0.3,
            glue: 0.3,
            late: 0.3,
            late_ms: 100,
            wrong_address: 0.3,
            drop: 0.1,
            cut: 0.1,
            mute: 0.0,
            quirks: 0.0,
        };
        let run = |seed| {
            let mut dice = Dice::new(seed);
            (0..500)
                .map(|_| faults.fate(vec![9; 20], b"HB", || Some(vec![8; 4]), &mut dice))
                .collect::<Vec<_>>()
        };
        let fates = run(3);
        assert_eq!(fates, run(3));
        assert_ne!(fates, run(4));
        assert!(fates.contains(&Fate::Cut) && fates.contains(&Fate::Lost));
        // whatever is sent holds the reply's bytes, in order
        for fate in &fates {
            if let Fate::Send(pieces) = fate {
                let sent: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
                assert!(sent.iter().filter(|byte| **byte == 9).count() >= 20);
            }
        }
    }
}

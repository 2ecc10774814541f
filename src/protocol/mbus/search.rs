//! The wildcard search for secondary addresses (EN 13757-3, 11.5), as a machine without time: who drives it asks for the
//! next step, does it on the line, and says what it heard.
//!
//! Selecting a mask is answered by E5 if at least one meter fits, and several E5 at once look like one or like garbage.
//! So who is selected is read: one answer is one meter, garbage is several, and the mask is narrowed digit by digit.
//!
//! Several answers at once can look like one whose number nobody has: a checksum of one byte lets one collision of 256 pass.
//! So who answered to a mask is selected and read once more by its own number before it counts. What stays is a collision that
//! passes and says the number of one of its meters: it hides the others.

use super::address::{Identification, Selection};

/// The most selections of one search; a line that makes more of them is broken or answers everything.
pub const PROBES_MAX: u32 = 20_000;

/// The media that are tried when meters share all eight digits, the likely ones first.
const MEDIA: [u8; 16] = [
    0x07, 0x06, 0x04, 0x0C, 0x02, 0x03, 0x16, 0x15, 0x0D, 0x0A, 0x0B, 0x08, 0x00, 0x01, 0x05, 0x1B,
];

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// Select this mask: [`Request::select`](super::Request::select).
    Select(Selection),
    /// Read who was selected with it: [`Request::read_selected`](super::Request::read_selected).
    Read(Selection),
    /// There is nothing left to ask.
    Done,
}

/// What the line said to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchHeard {
    /// Nothing came.
    Silence,
    /// The single character.
    Ack,
    /// Bytes that are neither: several answers at once.
    Collision,
    /// A telegram, by its header.
    Meter(Identification),
}

/// The share of all eight-digit numbers.
const WHOLE: u64 = 100_000_000;

#[derive(Clone, Copy, Debug)]
enum Task {
    /// Try a mask.
    Probe(Probe),
    /// The ten digits below this mask were tried; if nobody answered any, try what is no digit.
    Hexadecimal { parent: Probe, answers: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    mask: Selection,
    /// How many of its digits, from the first on, are not wild.
    digits: u32,
    /// Its share of all decimal numbers, in [`WHOLE`]s.
    share: u64,
}

/// What is under way with those who answered to a mask.
#[derive(Clone, Copy, Debug)]
enum Answered {
    /// They are read.
    Read(Probe),
    /// One said this; it is selected by its number.
    Confirm(Probe, Identification),
    /// And read once more.
    ReadAgain(Probe, Identification),
}

impl Answered {
    fn probe(self) -> Probe {
        match self {
            Self::Read(probe) | Self::Confirm(probe, _) | Self::ReadAgain(probe, _) => probe,
        }
    }

    fn step(self) -> SearchStep {
        let own = |probe: Probe, said: Identification| Selection {
            id: said.id,
            ..probe.mask
        };
        match self {
            Self::Read(probe) => SearchStep::Read(probe.mask),
            Self::Confirm(probe, said) => SearchStep::Select(own(probe, said)),
            Self::ReadAgain(probe, said) => SearchStep::Read(own(probe, said)),
        }
    }
}

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Search {
    tasks: Vec<Task>,
    answered: Option<Answered>,
    found: Vec<Identification>,
    unresolved: Vec<Selection>,
    probes: u32,
    answers: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self::new(Selection::ANY)
    }
}

impl Search {
    /// A search among the meters that fit a mask whose wild digits, if any, are its last ones.
    pub fn new(mask: Selection) -> Self {
        let digits = (0..8).take_while(|digit| nibble(mask.id, *digit) != 0xF).count();
        Self {
            tasks: vec![Task::Probe(Probe {
                mask,
                digits: u32::try_from(digits).unwrap_or(8),
                share: WHOLE,
            })],
            answered: None,
            found: Vec::new(),
            unresolved: Vec::new(),
            probes: 0,
            answers: 0,
        }
    }

    /// What to do now. Asked twice without [`Self::hear`] between, it says the same.
    pub fn step(&mut self) -> SearchStep {
        if let Some(answered) = self.answered {
            return answered.step();
        }
        if self.probes >= PROBES_MAX {
            return SearchStep::Done;
        }
        loop {
            match self.tasks.last().copied() {
                None => return SearchStep::Done,
                Some(Task::Probe(probe)) => return SearchStep::Select(probe.mask),
                Some(Task::Hexadecimal { parent, answers }) => {
                    self.tasks.pop();
                    if self.answers == answers {
                        self.push_digits(parent, 0, 0xA..=0xE);
                    }
                }
            }
        }
    }

    /// What the line said to the step.
    pub fn hear(&mut self, heard: SearchHeard) {
        if let Some(answered) = self.answered.take() {
            return self.hear_of(answered, heard);
        }
        let Some(Task::Probe(probe)) = self.tasks.pop() else {
            return;
        };
        self.probes += 1;
        match heard {
            SearchHeard::Silence => {}
            SearchHeard::Ack | SearchHeard::Meter(_) => {
                self.answers += 1;
                self.answered = Some(Answered::Read(probe));
            }
            SearchHeard::Collision => {
                self.answers += 1;
                self.narrow(probe);
            }
        }
    }

    fn hear_of(&mut self, answered: Answered, heard: SearchHeard) {
        use Answered::{Confirm, Read, ReadAgain};
        match (answered, heard) {
            (Read(probe), SearchHeard::Meter(said)) if probe.digits < 8 && probe.mask.fits(&said) => {
                self.answered = Some(Confirm(probe, said));
            }
            // its number was asked for
            (Read(probe), SearchHeard::Meter(said)) if probe.digits >= 8 => self.find(said),
            (Confirm(probe, said), SearchHeard::Ack | SearchHeard::Meter(_)) => {
                self.probes += 1;
                self.answered = Some(ReadAgain(probe, said));
            }
            (ReadAgain(_, said), SearchHeard::Meter(again)) if again == said => self.find(said),
            // several, or one that was drowned by noise
            (Read(probe) | Confirm(probe, _) | ReadAgain(probe, _), _) => self.narrow(probe),
        }
    }

    fn find(&mut self, identification: Identification) {
        if !self.found.contains(&identification) {
            self.found.push(identification);
        }
    }

    fn narrow(&mut self, probe: Probe) {
        if probe.digits < 8 {
            let answers = self.answers;
            self.tasks.push(Task::Hexadecimal { parent: probe, answers });
            self.push_digits(probe, probe.share / 10, 0..=9);
            return;
        }
        if probe.mask.medium.is_none() {
            for medium in MEDIA.iter().rev() {
                let mask = Selection {
                    medium: Some(*medium),
                    ..probe.mask
                };
                self.tasks.push(Task::Probe(Probe {
                    mask,
                    share: 0,
                    ..probe
                }));
            }
        }
        // who answers none of them is told by the mask itself
        self.unresolved.push(probe.mask);
    }

    fn push_digits(&mut self, parent: Probe, share: u64, range: std::ops::RangeInclusive<u32>) {
        let Probe { mask, digits, .. } = parent;
        let shift = 28 - digits * 4;
        for digit in range.rev() {
            let id = mask.id & !(0xF << shift) | digit << shift;
            self.tasks.push(Task::Probe(Probe {
                mask: Selection { id, ..mask },
                digits: digits + 1,
                share,
            }));
        }
    }

    /// The meters found so far.
    pub fn found(&self) -> &[Identification] {
        &self.found
    }

    /// Masks of all eight digits behind which somebody answers who could not be read alone: meters that share their
    /// number and differ in nothing that was tried, or one that acknowledges and then is silent.
    pub fn unresolved(&self) -> impl Iterator<Item = &Selection> {
        // a mask whose meters were found by their medium is resolved
        self.unresolved
            .iter()
            .filter(|mask| !self.found.iter().any(|identification| mask.fits(identification)))
    }

    /// How many masks were tried.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// Whether it ended before all was tried, see [`PROBES_MAX`].
    pub fn is_cut(&self) -> bool {
        self.probes >= PROBES_MAX && !self.tasks.is_empty()
    }

    /// How much of all possible numbers is done, in thousandths.
    pub fn progress(&self) -> u64 {
        let probes = self.tasks.iter().filter_map(|task| match task {
            Task::Probe(probe) => Some(probe),
            Task::Hexadecimal { .. } => None,
        });
        let open: u64 = probes
            .copied()
            .chain(self.answered.map(Answered::probe))
            .map(|probe| probe.share)
            .sum();
        WHOLE.saturating_sub(open) * 1000 / WHOLE
    }
}

/// A digit of an identification, the first one in front.
fn nibble(id: u32, digit: u32) -> u32 {
    id >> (28 - digit * 4) & 0xF
}

#[cfg(test)]
mod tests {
    use super::super::address::Manufacturer;
    use super::*;
    use proptest::prelude::*;

    fn meter(id: u32, medium: u8) -> Identification {
        Identification {
            id,
            manufacturer: Manufacturer::of("KAM").unwrap(),
            version: 1,
            medium,
        }
    }

    /// Searches a line of these meters; every `garbled`th selection that several answer is garbage.
    fn search(meters: &[Identification], garbled: u32) -> Search {
        search_through(meters, garbled, false)
    }

    /// The same; if `merged`, what several answer at once looks like the answer of one that is not there, with the zeros of all.
    fn search_through(meters: &[Identification], garbled: u32, merged: bool) -> Search {
        let mut search = Search::default();
        let mut count = 0;
        let mut progress = 0;
        loop {
            let heard = match search.step() {
                SearchStep::Done => return search,
                SearchStep::Select(mask) => {
                    count += 1;
                    match meters.iter().filter(|meter| mask.fits(meter)).count() {
                        0 => SearchHeard::Silence,
                        2.. if garbled > 0 && count % garbled == 0 => SearchHeard::Collision,
                        _ => SearchHeard::Ack,
                    }
                }
                SearchStep::Read(mask) => {
                    let mut fitting = meters.iter().filter(|meter| mask.fits(meter));
                    match (fitting.next(), fitting.next()) {
                        (Some(only), None) => SearchHeard::Meter(*only),
                        (None, _) => SearchHeard::Silence,
                        (Some(first), Some(second)) if merged => {
                            let id = fitting.fold(first.id & second.id, |id, meter| id & meter.id);
                            let nobody = meters.iter().all(|meter| meter.id != id);
                            if nobody {
                                SearchHeard::Meter(Identification { id, ..*first })
                            } else {
                                SearchHeard::Collision
                            }
                        }
                        _ => SearchHeard::Collision,
                    }
                }
            };
            search.hear(heard);
            assert!(search.progress() >= progress, "progress never goes back");
            progress = search.progress();
            assert!(search.probes() < 5000, "the search does not end");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_meter_is_found_once(
            numbers in prop::collection::btree_set(0u32..100_000_000, 0..40),
            near in prop::collection::btree_set(0u32..100, 0..10),
            garbled in 0u32..4,
            merged in any::<bool>(),
        ) {
            let decimal = |number: u32| u32::from_str_radix(&format!("{number:08}"), 16).unwrap();
            let mut meters: Vec<_> = numbers.iter().chain(&near).map(|n| meter(decimal(*n), 7)).collect();
            meters.sort_unstable();
            meters.dedup();
            let search = search_through(&meters, garbled, merged);
            let mut found = search.found().to_vec();
            found.sort_unstable();
            prop_assert_eq!(found, meters);
            prop_assert_eq!(search.unresolved().count(), 0);
            prop_assert_eq!(search.progress(), 1000);
        }
    }

    #[test]
    fn an_empty_line_takes_one_probe_and_one_meter_another_to_be_sure() {
        assert_eq!(search(&[], 0).probes(), 1);
        assert_eq!(search(&[meter(0x1234_5678, 7)], 0).probes(), 2);
    }

    #[test]
    fn meters_that_share_their_number_are_told_apart_by_medium() {
        let (water, heat) = (meter(0x1111_1111, 7), meter(0x1111_1111, 4));
        let found = search(&[water, heat], 0);
        assert_eq!(found.found(), [water, heat]);
        assert_eq!(found.unresolved().count(), 0);
        let twin = Identification { version: 2, ..water };
        let twins = search(&[water, twin], 0);
        assert!(twins.found().is_empty());
        assert!(twins.unresolved().any(|mask| mask.id == 0x1111_1111));
    }

    #[test]
    fn numbers_that_are_not_decimal_are_found_when_they_collide() {
        let meters = [meter(0x3E00_0001, 2), meter(0x3E00_0002, 2)];
        assert_eq!(search(&meters, 0).found(), meters);
    }

    #[test]
    fn an_acknowledgement_out_of_noise_ends() {
        let mut search = Search::default();
        search.hear(SearchHeard::Ack);
        search.hear(SearchHeard::Silence);
        let mut silent = 0;
        while search.step() != SearchStep::Done {
            search.hear(SearchHeard::Silence);
            silent += 1;
        }
        assert_eq!(silent, 15);
    }
}

//! What a seed means: the field, its weather, and what happens when.

use polyphase::simulator::faults::Dice;

/// The faults come within this, virtual milliseconds.
pub const STORMY_MS: u64 = 300_000;
/// Then there are none, and everything must drain within this.
pub const CALM_MS: u64 = 420_000;

/// Chances of what befalls a reply, per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub drop: u64,
    pub late: u64,
    pub repeat: u64,
    pub split: u64,
    pub glue: u64,
    pub foreign: u64,
    pub wrong_function: u64,
    pub noise: u64,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// The DTU's connection is cut; it dials again after so long.
    Cut { dtu: usize, away_ms: u64 },
    /// Its connection goes nowhere any more, and it dials a new one after so long.
    HalfOpen { dtu: usize, away_ms: u64 },
    /// It is cut so many times in a row.
    Flap { dtu: usize, times: u64 },
    /// Somebody else says its SN, so many times.
    Clone { dtu: usize, times: u64 },
    /// A meter says nothing for so long.
    Mute { meter: usize, for_ms: u64 },
    /// The process is killed and started again after so long.
    Kill { down_ms: u64 },
    /// The power goes at the so-manieth operation of the disk from now.
    Power { operations: u64, down_ms: u64 },
    /// So many operations that need space find none.
    DiskFull { operations: u64 },
    /// A sync fails: the first at or behind the so-manieth operation from now.
    SyncFails { operations: u64 },
    /// An operation fails.
    DiskBroken { operations: u64 },
    /// The database is away.
    StoreAway { for_ms: u64 },
    /// The database takes what it is told and says nothing.
    StoreHangs { for_ms: u64 },
    /// The answers of so many commits are lost.
    AnswersLost { commits: u64 },
    /// The wall clock steps.
    Step { by_ms: i64 },
    /// A meter's first schedule comes due every so many minutes from now on.
    Edit { meter: usize, every: i64 },
    /// Somebody reads a meter now.
    Read { meter: usize, all: bool },
}

/// A run before it runs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dtus: usize,
    pub meters: usize,
    pub shards: usize,
    pub weather: Weather,
    /// By time.
    pub actions: Vec<(u64, Action)>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dtus = 1 + usize::try_from(dice.below(3)).unwrap();
        let meters = 1 + usize::try_from(dice.below(3)).unwrap();
        let weather = weather(&mut dice);
        let mut actions = Vec::new();
        for _ in 0..1 + dice.below(10) {
            let at = dice.below(STORMY_MS);
            let all = dtus * meters;
            actions.push((at, action(&mut dice, dtus, all)));
        }
        for _ in 0..2 + dice.below(6) {
            let (at, meter) = (dice.below(STORMY_MS), below(&mut dice, dtus * meters));
            let all = dice.chance(0.3);
            actions.push((at, Action::Read { meter, all }));
        }
        actions.sort_by_key(|(at, _)| *at);
        Self {
            dtus,
            meters,
            shards: 1 + usize::try_from(dice.below(2)).unwrap(),
            weather,
            actions,
        }
    }
}

fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.below(u64::try_from(bound).unwrap())).unwrap()
}

fn weather(dice: &mut Dice) -> Weather {
    if dice.chance(0.25) {
        return Weather::default();
    }
    let mut some = |most: u64| if dice.chance(0.5) { dice.below(most) } else { 0 };
    Weather {
        drop: some(200),
        late: some(200),
        repeat: some(200),
        split: some(500),
        glue: some(300),
        foreign: some(150),
        wrong_function: some(150),
        noise: some(150),
    }
}

fn action(dice: &mut Dice, dtus: usize, meters: usize) -> Action {
    let dtu = below(dice, dtus);
    let meter = below(dice, meters);
    let longest = if dice.chance(0.3) { 100_000 } else { 3_000 };
    let down_ms = 100 + dice.below(longest);
    let operations = dice.below(12);
    match dice.below(20) {
        0 => Action::Cut {
            dtu,
            away_ms: dice.below(60_000),
        },
        1 => Action::HalfOpen {
            dtu,
            away_ms: dice.below(90_000),
        },
        2 => Action::Flap {
            dtu,
            times: 2 + dice.below(20),
        },
        3 => Action::Clone {
            dtu,
            times: 1 + dice.below(6),
        },
        4 => Action::Mute {
            meter,
            for_ms: dice.below(100_000),
        },
        5..=7 => Action::Kill { down_ms },
        8 | 9 => Action::Power { operations, down_ms },
        10 => Action::DiskFull {
            operations: 1 + dice.below(20),
        },
        11 => Action::SyncFails { operations },
        12 => Action::DiskBroken { operations },
        13 | 14 => Action::StoreAway {
            for_ms: dice.below(100_000),
        },
        15 => Action::StoreHangs {
            for_ms: dice.below(60_000),
        },
        16 => Action::AnswersLost {
            commits: 1 + dice.below(5),
        },
        17 => Action::Step {
            by_ms: i64::try_from(dice.below(1_200_000)).unwrap(),
        },
        18 => Action::Step {
            by_ms: -i64::try_from(dice.below(120_000)).unwrap(),
        },
        _ => Action::Edit {
            meter,
            every: 1 + i64::try_from(dice.below(3)).unwrap(),
        },
    }
}

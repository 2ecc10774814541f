//! Lost DTUs: a model of the store applies the changes, as the real one does, and virtual time passes.

use super::*;
use proptest::prelude::*;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
}

/// A fleet and what is open of it.
struct World {
    dtus: Vec<Dtu>,
    open: Open,
    raised: Vec<String>,
    began: DateTime<Utc>,
    check: OfflineCheck,
}

impl World {
    fn new(dtus: i32) -> Self {
        Self {
            dtus: (1..=dtus)
                .map(|id| Dtu {
                    id: DtuId(id),
                    up_since: Some(at(0)),
                    down_since: None,
                })
                .collect(),
            open: Open::default(),
            raised: Vec::new(),
            began: at(0),
            check: OfflineCheck::default(),
        }
    }

    fn set(&mut self, dtu: usize, up: bool, second: i64) {
        self.dtus[dtu].up_since = up.then_some(at(second));
        self.dtus[dtu].down_since = (!up).then_some(at(second));
    }

    fn tick(&mut self, second: i64) -> usize {
        let by = By {
            account: AccountId(1),
            rule: None,
            severity: Severity::Critical,
            check: &self.check,
        };
        let changes = judge(by, &self.dtus, &self.open, self.began, at(second));
        let group = group_key(AccountId(1)).text;
        for change in &changes {
            match change {
                Change::Raise(raise) => {
                    self.raised.push(raise.key.text.clone());
                    match raise.subject {
                        Subject::Dtu { dtu } => assert!(self.open.singles.insert(dtu), "{dtu} twice"),
                        _ => {
                            assert!(self.open.group.is_none(), "the common alarm twice");
                            self.open.group = Some(raise.victims.iter().map(|(dtu, _)| *dtu).collect());
                        }
                    }
                }
                Change::Clear { key, .. } if key.text == group => self.open.group = None,
                Change::Clear { key, .. } => {
                    let dtu: i32 = key.text.rsplit('/').next().unwrap().parse().unwrap();
                    assert!(self.open.singles.remove(&DtuId(dtu)), "{dtu} was not open");
                }
                Change::Victims { joined, back, .. } => {
                    let victims = self.open.group.as_mut().unwrap();
                    victims.extend(joined.iter().map(|(dtu, _)| *dtu));
                    victims.retain(|dtu| !back.contains(dtu));
                }
            }
        }
        changes.len()
    }

    /// Every fifteen seconds.
    fn run(&mut self, from: i64, to: i64) {
        for second in (from..=to).step_by(15) {
            self.tick(second);
        }
    }
}

#[test]
fn five_hundred_lost_at_once_are_one_alarm_which_ends_with_them() {
    let mut world = World::new(500);
    // a socket that breaks is seen at once, one that falls silent after up to three minutes
    for dtu in 0..500 {
        world.set(dtu, false, 1_000 + (dtu as i64 * 7) % 180);
    }
    world.run(1_000, 5_000);
    assert_eq!(world.raised, ["dtu_offline:together@account"]);
    assert_eq!(world.open.group.as_ref().map(BTreeSet::len), Some(500));
    for dtu in 0..500 {
        world.set(dtu, true, 5_000 + dtu as i64);
    }
    world.run(5_000, 8_000);
    assert_eq!(world.open, Open::default());
    assert_eq!(world.raised.len(), 1);
}

#[test]
fn one_that_is_lost_alone_has_its_own_and_the_stragglers_of_many_get_theirs() {
    let mut world = World::new(20);
    world.set(3, false, 100);
    world.run(100, 690);
    assert!(world.raised.is_empty(), "within its grace");
    world.run(705, 2_000);
    assert_eq!(world.raised, ["dtu_offline@dtu/4"]);
    for dtu in 8..20 {
        world.set(dtu, false, 2_000);
    }
    world.run(2_000, 3_000);
    assert_eq!(world.raised[1..], ["dtu_offline:together@account"]);
    for dtu in 8..18 {
        world.set(dtu, true, 3_000);
    }
    world.run(3_000, 4_000);
    assert_eq!(world.raised[2..], ["dtu_offline@dtu/19", "dtu_offline@dtu/20"]);
    assert!(world.open.group.is_none());
}

#[test]
fn who_follows_joins_and_a_restart_raises_nothing() {
    let mut world = World::new(40);
    for dtu in 0..10 {
        world.set(dtu, false, 0);
    }
    world.run(0, 900);
    for dtu in 10..30 {
        world.set(dtu, false, 900);
    }
    world.run(900, 2_000);
    assert_eq!(world.raised.len(), 1, "{:?}", world.raised);
    assert_eq!(world.open.group.as_ref().map(BTreeSet::len), Some(30));
    // the server restarts: every session ends with it, and the others come back within their time
    world.began = at(3_000);
    for dtu in 30..40 {
        world.set(dtu, false, 3_000);
    }
    world.run(3_000, 3_300);
    for dtu in 30..40 {
        world.set(dtu, true, 3_300);
    }
    world.run(3_300, 6_000);
    assert_eq!(world.raised.len(), 1, "{:?}", world.raised);
    assert_eq!(world.open.group.as_ref().map(BTreeSet::len), Some(30));
}

#[test]
fn who_never_came_or_is_gone_is_not_lost() {
    let mut world = World::new(2);
    world.dtus[0].up_since = None;
    world.set(1, false, 0);
    world.run(0, 2_000);
    assert_eq!(world.raised, ["dtu_offline@dtu/2"]);
    world.dtus.pop();
    world.run(2_000, 2_015);
    assert_eq!(world.open, Open::default());
}

proptest! {
    /// Whatever comes and goes: nothing twice (the model asserts), asking twice changes nothing, never more singles
    /// raised at one time than the limit, and in the end all is over.
    #[test]
    fn no_storm_ever(flips in proptest::collection::vec((0usize..60, any::<bool>(), 0i64..120), 0..200)) {
        let mut world = World::new(60);
        let mut second = 0;
        for (dtu, up, pause) in flips {
            if world.dtus[dtu].up_since.is_some() != up {
                world.set(dtu, up, second);
            }
            let before = world.open.singles.len();
            world.tick(second);
            prop_assert!(world.open.singles.len() < before + usize::from(world.check.group_from) * 2);
            prop_assert_eq!(world.tick(second), 0);
            second += pause;
        }
        for dtu in 0..60 {
            if world.dtus[dtu].up_since.is_none() {
                world.set(dtu, true, second);
            }
        }
        world.run(second, second + 300);
        prop_assert_eq!(&world.open, &Open::default());
    }
}

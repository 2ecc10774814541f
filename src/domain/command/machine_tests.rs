//! The state machine against a model: whatever people, clocks and sessions do in whatever order.

use super::interlock::{Protection, ProtectionKind};
use super::machine::{BRAKE_NEEDS, Behind, Evidence};
use super::permit::Mint;
use super::policy::{clear, held_from_the_start};
use super::*;
use crate::base::ids::{AccountId, CommandId, DtuId, MeterId, SessionId, UserId};
use crate::domain::access::{Role, RoleSet};
use chrono::{DateTime, Utc};
use proptest::prelude::*;

const ACCOUNT: AccountId = AccountId(1);
const ASKER: UserId = UserId(1);
const EXPIRES_S: i64 = 60;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
}

fn moment(seconds: i64) -> Moment {
    Moment {
        at: at(seconds),
        stepped_back: false,
    }
}

fn target() -> Target {
    Target {
        meter: MeterId(7),
        dtu: DtuId(3),
        protocol: "modbus-rtu".into(),
        address: "1".into(),
        model: "eastron_sdm120".into(),
        behind: None,
    }
}

fn command(action: Action) -> Command {
    Command {
        id: CommandId(1),
        account: ACCOUNT,
        target: target(),
        action,
        state: State::Requested,
        requested_by: ASKER,
        requested_at: at(0),
        expires_at: at(EXPIRES_S),
        holds: Vec::new(),
        needs: 0,
        approvals: Vec::new(),
        sent_through: None,
        version: 1,
    }
}

fn person(user: i32, role: Role) -> Person {
    Person {
        user: UserId(user),
        account: Some(ACCOUNT),
        roles: RoleSet::of(&[role]),
        enabled: true,
    }
}

/// The asker and three who may approve.
fn people() -> Vec<Person> {
    (1..5).map(|user| person(user, Role::Operator)).collect()
}

fn approval(command: &Command, by: i32) -> Approval {
    Approval {
        by: UserId(by),
        at: at(1),
        digest: command.digest(),
    }
}

fn proof() -> SessionProof {
    SessionProof {
        session: SessionId(9),
        meter: MeterId(7),
        at: at(1),
        said: "unit 1".into(),
    }
}

struct World {
    policy: Policy,
    site: Site,
    people: Vec<Person>,
    target: Option<Target>,
    stopped: bool,
    brake: Option<BrakeLimit>,
    moment: Moment,
}

impl World {
    fn calm(seconds: i64) -> Self {
        Self {
            policy: Policy::default(),
            site: Site::default(),
            people: people(),
            target: Some(target()),
            stopped: false,
            brake: None,
            moment: moment(seconds),
        }
    }

    fn judge(&self, command: &Command) -> Result<Clearance, Obstacle> {
        let facts = Facts {
            policy: &self.policy,
            zone: "UTC",
            site: &self.site,
            people: &self.people,
            target: self.target.as_ref(),
            stopped: self.stopped,
            brake: self.brake,
            moment: self.moment,
        };
        clear(command, &facts)
    }
}

fn approved(by: &[i32], needs: u8) -> Command {
    let hold = Edge::Hold {
        holds: vec![Hold::FourEyes],
        needs,
    };
    let held = command(Action::Disconnect).apply(&hold, moment(0)).unwrap();
    by.iter().fold(held, |command, by| {
        let edge = Edge::Approve(approval(&command, *by));
        command.apply(&edge, moment(1)).unwrap()
    })
}

#[test]
fn nobody_approves_their_own_or_twice_or_something_else() {
    let held = approved(&[], 2);
    let try_edge = |command: &Command, approval| command.apply(&Edge::Approve(approval), moment(2)).map(|c| c.state);
    assert_eq!(try_edge(&held, approval(&held, 1)), Err(EdgeError::OwnCommand));
    let once = approved(&[2], 2);
    assert_eq!(once.state, State::Held);
    assert_eq!(try_edge(&once, approval(&once, 2)), Err(EdgeError::ApprovedAlready));
    // an approval of the same wish with another expiry, another target, another action, or of another command
    let others = [
        Command {
            expires_at: at(EXPIRES_S + 1),
            ..held.clone()
        },
        Command {
            target: Target {
                address: "2".into(),
                ..target()
            },
            ..held.clone()
        },
        // the same point of a concentrator, and another meter there
        Command {
            target: Target {
                behind: Some(Behind {
                    place: 1,
                    meter_address: "202611210001".into(),
                    meter_protocol: "DL/T 645-2007".into(),
                    port: 31,
                }),
                ..target()
            },
            ..held.clone()
        },
        Command {
            action: Action::Reconnect,
            ..held.clone()
        },
        Command {
            id: CommandId(2),
            ..held.clone()
        },
    ];
    for other in others {
        assert_eq!(try_edge(&held, approval(&other, 2)), Err(EdgeError::OtherCommand));
    }
    let late = held.apply(&Edge::Approve(approval(&held, 2)), moment(EXPIRES_S));
    assert_eq!(late, Err(EdgeError::Expired));
    assert_eq!(try_edge(&once, approval(&once, 3)), Ok(State::Approved));
}

#[test]
fn everything_is_looked_at_anew_before_it_is_sent() {
    let ready = approved(&[2], 1);
    assert!(World::calm(2).judge(&ready).is_ok());
    type Spoil = fn(&mut World);
    let spoils: [(Spoil, Obstacle); 11] = [
        (|w| w.stopped = true, Obstacle::Stopped),
        (|w| w.moment = moment(EXPIRES_S), Obstacle::Expired),
        (|w| w.moment.stepped_back = true, Obstacle::Expired),
        (|w| w.target = None, Obstacle::TargetChanged),
        (
            |w| w.target.as_mut().unwrap().address = "2".into(),
            Obstacle::TargetChanged,
        ),
        (
            |w| w.people[0].roles = RoleSet::of(&[Role::Viewer]),
            Obstacle::Requester(Denied::Role),
        ),
        (|w| w.people[0].enabled = false, Obstacle::Requester(Denied::Disabled)),
        (|w| w.people[1].roles = RoleSet::of(&[Role::Viewer]), Obstacle::Approval),
        (|w| w.people[1].account = Some(AccountId(2)), Obstacle::Approval),
        (
            |w| w.policy.interlocks.block = Some("storm".into()),
            Obstacle::Interlock(Interlock::Block("storm".into())),
        ),
        (
            |w| w.brake = Some(BrakeLimit::Total),
            Obstacle::Brake(BrakeLimit::Total),
        ),
    ];
    for (spoil, expected) in spoils {
        let mut world = World::calm(2);
        spoil(&mut world);
        assert_eq!(world.judge(&ready).err(), Some(expected));
    }
    // life support beats two approvals as well
    let mut world = World::calm(2);
    world.site.protections.push(Protection {
        kind: ProtectionKind::LifeSupport,
        until: None,
    });
    assert_eq!(
        world.judge(&approved(&[2, 3], 2)).err(),
        Some(Obstacle::Interlock(Interlock::LifeSupport))
    );
    // and a reconnect is held by none of it
    world.brake = Some(BrakeLimit::Total);
    world.policy.interlocks.block = Some("storm".into());
    assert!(world.judge(&command(Action::Reconnect)).is_ok());
    // a raw frame is, whoever sends it
    world.people[0] = person(1, Role::Admin);
    let raw = command(Action::Raw { frame: "00".into() });
    assert_eq!(
        world.judge(&raw).err(),
        Some(Obstacle::Interlock(Interlock::LifeSupport))
    );
}

#[test]
fn two_people_release_what_exceeds_the_brake_and_one_does_not() {
    let (holds, needs) = held_from_the_start(1, Some(BrakeLimit::Account)).unwrap();
    assert_eq!(needs, BRAKE_NEEDS);
    let mut held = command(Action::Disconnect)
        .apply(&Edge::Hold { holds, needs }, moment(0))
        .unwrap();
    let mut world = World::calm(2);
    world.brake = Some(BrakeLimit::Account);
    for (by, state) in [(2, State::Held), (3, State::Approved)] {
        assert!(world.judge(&held).is_err());
        held = held.apply(&Edge::Approve(approval(&held, by)), moment(1)).unwrap();
        assert_eq!(held.state, state);
    }
    assert!(world.judge(&held).is_ok());
    // one that one person approved before the brake was full waits for one more
    let late = approved(&[2], 1);
    let hold = Edge::Hold {
        holds: vec![Hold::Brake(BrakeLimit::Dtu)],
        needs: BRAKE_NEEDS,
    };
    let late = late.apply(&hold, moment(1)).unwrap();
    assert_eq!((late.state, late.released()), (State::Held, false));
}

#[test]
fn a_clearance_is_for_one_version_and_a_permit_for_one_sent_command() {
    let ready = approved(&[2], 1);
    let clearance = World::calm(2).judge(&ready).unwrap();
    let other = Command {
        id: CommandId(2),
        ..ready.clone()
    };
    let send = |clearance: &Clearance, proof| Edge::Send {
        clearance: clearance.clone(),
        proof,
    };
    assert_eq!(
        other.apply(&send(&clearance, proof()), moment(2)),
        Err(EdgeError::StaleClearance)
    );
    let stranger = SessionProof {
        meter: MeterId(8),
        ..proof()
    };
    assert_eq!(
        ready.apply(&send(&clearance, stranger), moment(2)),
        Err(EdgeError::OtherMeter)
    );
    assert_eq!(
        ready.apply(&send(&clearance, proof()), moment(EXPIRES_S)),
        Err(EdgeError::Expired)
    );
    let mint = Mint::new();
    assert!(mint.permit(&ready, at(2)).is_err());
    let sent = ready.apply(&send(&clearance, proof()), moment(2)).unwrap();
    assert_eq!(
        sent.apply(&send(&clearance, proof()), moment(2)),
        Err(EdgeError::NoSuchEdge(State::Sent))
    );
    let permit = mint.permit(&sent, at(2)).unwrap();
    assert_eq!(permit.begins_before(), at(22));
    assert_eq!(mint.permit(&sent, at(50)).unwrap().begins_before(), at(EXPIRES_S));
    let done = sent
        .apply(&Edge::Resolve(Evidence::ReadBack { as_wanted: true }), moment(3))
        .unwrap();
    assert!(mint.permit(&done, at(3)).is_err());
}

#[test]
fn an_unknown_relay_is_resolved_by_reading_alone() {
    let ready = command(Action::Disconnect);
    let clearance = World::calm(2).judge(&ready).unwrap();
    let sent = ready
        .apply(
            &Edge::Send {
                clearance,
                proof: proof(),
            },
            moment(2),
        )
        .unwrap();
    let unknown = sent.apply(&Edge::Lose, moment(3)).unwrap();
    let resolve = |evidence| {
        unknown
            .apply(&Edge::Resolve(evidence), moment(500))
            .map(|command| command.state)
    };
    for evidence in [Evidence::Answered, Evidence::Refused, Evidence::NeverBegan] {
        assert_eq!(resolve(evidence), Err(EdgeError::WrongEvidence));
    }
    for edge in [Edge::Expire, Edge::Cancel, Edge::Reject, Edge::Lose] {
        assert_eq!(
            unknown.apply(&edge, moment(500)),
            Err(EdgeError::NoSuchEdge(State::Unknown))
        );
    }
    assert_eq!(resolve(Evidence::ReadBack { as_wanted: true }), Ok(State::Confirmed));
    assert_eq!(resolve(Evidence::ReadBack { as_wanted: false }), Ok(State::Failed));
}

#[test]
fn a_policy_survives_its_text_form_and_knows_its_fields() {
    let text = serde_json::to_string(&Policy::default()).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), Policy::default());
    assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
    assert!(serde_json::from_str::<Policy>(r#"{"four_eyess": {}}"#).is_err());
    let policy = Policy::default();
    assert_eq!(policy.approvals_for(&Action::Disconnect, 1), 0);
    assert_eq!(policy.approvals_for(&Action::Disconnect, 2), 1);
    assert_eq!(policy.approvals_for(&Action::Reconnect, 5000), 0);
    // nobody but an admin sends raw frames, whatever the policy says
    let wide = Policy {
        request: Rights {
            expert: vec![Role::Viewer],
            ..Rights::default()
        },
        ..Policy::default()
    };
    let raw = Action::Raw { frame: "00".into() };
    assert_eq!(
        wide.may_request(&person(1, Role::Viewer), ACCOUNT, &raw),
        Err(Denied::Role)
    );
}

use super::policy::Rights;

/// What the world tries.
#[derive(Clone, Debug)]
enum Try {
    Hold(u8, bool),
    Approve { by: i32, right: bool },
    Reject,
    Cancel,
    Expire,
    Send { meter: i32, brake: bool },
    Resolve(Evidence),
    Lose,
    Wait(i64),
    StepBack,
}

fn any_try() -> impl Strategy<Value = Try> {
    let evidence = prop_oneof![
        any::<bool>().prop_map(|as_wanted| Evidence::ReadBack { as_wanted }),
        Just(Evidence::NeverBegan),
        Just(Evidence::Refused),
        Just(Evidence::Answered),
    ];
    prop_oneof![
        2 => (0u8..4, any::<bool>()).prop_map(|(needs, brake)| Try::Hold(needs, brake)),
        6 => (1i32..5, prop::bool::weighted(0.8)).prop_map(|(by, right)| Try::Approve { by, right }),
        1 => Just(Try::Reject),
        1 => Just(Try::Cancel),
        1 => Just(Try::Expire),
        6 => (7i32..9, any::<bool>()).prop_map(|(meter, brake)| Try::Send { meter, brake }),
        3 => evidence.prop_map(Try::Resolve),
        2 => Just(Try::Lose),
        4 => (0i64..20).prop_map(Try::Wait),
        1 => Just(Try::StepBack),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Disconnect),
        Just(Action::Reconnect),
        Just(Action::SyncClock)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_order_of_events_breaks_a_promise(action in actions(), tries in prop::collection::vec(any_try(), 1..30)) {
        let mut command = command(action);
        let (mut now, mut sent, mut stepped) = (0i64, 0, false);
        for attempt in tries {
            let moment = Moment { at: at(now), stepped_back: stepped };
            let edge = match attempt {
                Try::Wait(seconds) => { now += seconds; continue; }
                Try::StepBack => { stepped = true; continue; }
                Try::Hold(needs, brake) => Edge::Hold {
                    holds: vec![if brake { Hold::Brake(BrakeLimit::Total) } else { Hold::FourEyes }],
                    needs,
                },
                Try::Approve { by, right } => {
                    let mut approval = approval(&command, by);
                    approval.digest[0] ^= u8::from(!right);
                    Edge::Approve(approval)
                }
                Try::Reject => Edge::Reject,
                Try::Cancel => Edge::Cancel,
                Try::Expire => Edge::Expire,
                Try::Resolve(evidence) => Edge::Resolve(evidence),
                Try::Lose => Edge::Lose,
                Try::Send { meter, brake } => {
                    let mut world = World::calm(now);
                    world.moment = moment;
                    world.brake = brake.then_some(BrakeLimit::Account);
                    match world.judge(&command) {
                        Ok(clearance) => Edge::Send {
                            clearance,
                            proof: SessionProof { meter: MeterId(meter), ..proof() },
                        },
                        Err(_) => continue,
                    }
                }
            };
            let Ok(next) = command.apply(&edge, moment) else { continue };
            prop_assert!(command.state.is_open(), "an ended command moved: {:?} → {:?}", command.state, next.state);
            prop_assert_eq!(next.version, command.version + 1);
            match next.state {
                State::Sent => {
                    sent += 1;
                    prop_assert!(moment.at < command.expires_at && !stepped);
                    let mut approvers: Vec<_> = next.approvals.iter().map(|approval| approval.by).collect();
                    prop_assert!(!approvers.contains(&ASKER));
                    approvers.sort_unstable();
                    approvers.dedup();
                    prop_assert!(approvers.len() >= usize::from(next.needs));
                }
                State::Unknown => prop_assert_eq!(command.state, State::Sent),
                State::Confirmed => prop_assert!(sent == 1, "confirmed without a frame"),
                State::Failed => prop_assert!(sent == 1),
                State::Rejected | State::Cancelled | State::Expired => prop_assert_eq!(sent, 0),
                State::Requested => prop_assert!(false, "nothing goes back to the start"),
                State::Held | State::Approved => prop_assert_eq!(sent, 0),
            }
            prop_assert!(sent <= 1, "sent twice");
            command = next;
        }
    }
}

//! Planning, by example and against a model over virtual days.

use super::super::{Channel, Language, Quiet};
use super::*;
use crate::base::ids::AccountId;
use chrono::NaiveTime;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(minute: i64) -> DateTime<Utc> {
    "2026-03-01T10:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
}

fn happening(edge: Edge, severity: Severity, minute: i64) -> Happening {
    Happening {
        account: AccountId(1),
        subject: "alarm/1".into(),
        edge,
        severity,
        kind: "deviation".into(),
        facts: BTreeMap::new(),
        groups: vec![GroupId(4)],
        at: at(minute),
    }
}

/// Person `id` has an e-mail address `id * 10` and a telephone `id * 10 + 1`.
fn person(id: i32) -> Recipient {
    Recipient {
        id: RecipientId(id),
        language: Language::En,
        zone: chrono_tz::UTC,
        quiet: None,
        digest: None,
        channels: vec![
            Channel {
                id: ChannelId(id * 10),
                kind: ChannelKind::Email,
            },
            Channel {
                id: ChannelId(id * 10 + 1),
                kind: ChannelKind::Sms,
            },
        ],
    }
}

fn step(after_min: u32, people: &[i32], channels: &[ChannelKind]) -> Step {
    Step {
        after_min,
        recipients: people.iter().map(|id| RecipientId(*id)).collect(),
        channels: channels.to_vec(),
    }
}

fn route(id: i32, steps: Vec<Step>) -> Route {
    Route {
        id: RouteId(id),
        rule: Rule {
            min_severity: Severity::Warning,
            kinds: Vec::new(),
            groups: Vec::new(),
            steps,
            tell_cleared: true,
        },
    }
}

fn told(plan: &Plan) -> Vec<(i32, i64)> {
    plan.items
        .iter()
        .map(|item| (item.channel.0, (item.due - at(0)).num_minutes()))
        .collect()
}

#[test]
fn steps_follow_one_another_and_a_channel_is_told_once() {
    let routes = [
        route(
            1,
            vec![
                step(0, &[1], &[ChannelKind::Email]),
                step(15, &[1, 2], &[]),
                step(60, &[3], &[ChannelKind::Sms]),
            ],
        ),
        route(2, vec![step(5, &[2], &[ChannelKind::Sms])]),
    ];
    let people = [person(1), person(2), person(3)];
    let plan = plan(
        &happening(Edge::Raised, Severity::Warning, 0),
        at(0),
        &routes,
        &people,
        &[],
    );
    assert_eq!(told(&plan), [(10, 0), (11, 15), (20, 15), (21, 5), (31, 60)]);
    assert!(plan.cancel.is_empty());
}

#[test]
fn routes_choose_by_severity_kind_and_group() {
    let people = [person(1)];
    let count = |change: &dyn Fn(&mut Rule), severity| {
        let mut one = route(1, vec![step(0, &[1], &[ChannelKind::Email])]);
        change(&mut one.rule);
        plan(&happening(Edge::Raised, severity, 0), at(0), &[one], &people, &[])
            .items
            .len()
    };
    assert_eq!(count(&|_| {}, Severity::Warning), 1);
    assert_eq!(count(&|_| {}, Severity::Info), 0);
    assert_eq!(count(&|rule| rule.kinds = vec!["clone".into()], Severity::Warning), 0);
    assert_eq!(
        count(
            &|rule| rule.kinds = vec!["clone".into(), "deviation".into()],
            Severity::Warning
        ),
        1
    );
    assert_eq!(count(&|rule| rule.groups = vec![GroupId(5)], Severity::Warning), 0);
    assert_eq!(count(&|rule| rule.groups = vec![GroupId(4)], Severity::Warning), 1);
}

#[test]
fn quiet_hours_hold_for_the_person_alone() {
    let time = |h| NaiveTime::from_hms_opt(h, 0, 0).unwrap();
    let mut sleeper = person(1);
    sleeper.quiet = Some(Quiet {
        from: time(9),
        to: time(17),
        unless: Severity::Critical,
    });
    let routes = [route(1, vec![step(0, &[1, 2], &[ChannelKind::Sms])])];
    let people = [sleeper, person(2)];
    let of = |severity| {
        told(&plan(
            &happening(Edge::Raised, severity, 0),
            at(0),
            &routes,
            &people,
            &[],
        ))
    };
    assert_eq!(of(Severity::Warning), [(11, 7 * 60), (21, 0)]);
    assert_eq!(of(Severity::Critical), [(11, 0), (21, 0)]);
}

fn earlier(item: i64, channel: i32, step: u16, told: bool) -> Earlier {
    Earlier {
        item,
        recipient: RecipientId(channel / 10),
        channel: ChannelId(channel),
        route: RouteId(1),
        step,
        told,
    }
}

#[test]
fn who_was_told_learns_the_end_and_nobody_else() {
    let mut routes = [route(1, vec![step(0, &[1, 2], &[]), step(30, &[3], &[])])];
    let people = [person(1), person(3)];
    let before = [
        earlier(1, 10, 0, true),
        earlier(2, 20, 0, true), // person 2 is switched off by now
        earlier(3, 11, 0, false),
        earlier(4, 30, 1, false),
    ];
    let over = happening(Edge::Cleared, Severity::Warning, 20);
    let cleared = plan(&over, at(21), &routes, &people, &before);
    assert_eq!(told(&cleared), [(10, 21)]);
    assert_eq!(cleared.cancel, [3, 4]);
    routes[0].rule.tell_cleared = false;
    let silent = plan(&over, at(21), &routes, &people, &before);
    assert!(silent.items.is_empty());
    assert_eq!(silent.cancel, [3, 4]);
    // somebody cares: the first step stands, the escalation is off
    let cared = plan(
        &happening(Edge::Acknowledged, Severity::Warning, 20),
        at(21),
        &routes,
        &people,
        &before,
    );
    assert!(cared.items.is_empty());
    assert_eq!(cared.cancel, [4]);
    let reminded = plan(
        &happening(Edge::Reminded, Severity::Warning, 20),
        at(21),
        &routes,
        &people,
        &before,
    );
    assert_eq!(told(&reminded), [(10, 21)]);
}

#[test]
fn rules_are_checked() {
    assert!(
        route(1, vec![step(0, &[1], &[]), step(5, &[2], &[])])
            .rule
            .faults()
            .is_empty()
    );
    let wrong = route(1, vec![step(5, &[1], &[]), step(5, &[], &[]), step(99_999, &[2], &[])]);
    let fields: Vec<String> = wrong.rule.faults().into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        ["steps[1].recipients", "steps[1].after_min", "steps[2].after_min"]
    );
    assert_eq!(route(1, Vec::new()).rule.faults()[0].0, "steps");
}

#[derive(Clone, Debug)]
struct Kept {
    id: i64,
    planned: PlannedItem,
    edge: Edge,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Told,
    Off,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// One matter lives through virtual time, tick by tick, as the notifier does it: what is due is told, edges come as
    /// they may. Then: nobody is told twice of one edge, nobody learns an end that they never heard the beginning of, an
    /// acknowledged matter escalates no further, and after the end nothing waits.
    #[test]
    fn a_matter_is_told_as_promised(
        steps in proptest::collection::vec((1u32..40, proptest::collection::vec(1i32..5, 1..3), 0usize..3), 1..4),
        edges in proptest::collection::vec((1i64..60, 0usize..4), 0..6), critical in any::<bool>(),
    ) {
        let mut after = 0;
        let steps: Vec<Step> = steps.into_iter().map(|(gap, people, kinds)| {
            let channels = [&[][..], &[ChannelKind::Email], &[ChannelKind::Sms]][kinds];
            let made = step(after, &people, channels);
            after += gap;
            made
        }).collect();
        let routes = [route(1, steps)];
        let time = |h| NaiveTime::from_hms_opt(h, 0, 0).unwrap();
        let mut sleeper = person(2);
        sleeper.quiet = Some(Quiet { from: time(10), to: time(11), unless: Severity::Critical });
        let people = [person(1), sleeper, person(3), person(4)];
        let severity = if critical { Severity::Critical } else { Severity::Warning };

        let mut script = vec![(0, Edge::Raised)];
        let mut minute = 0;
        for (gap, edge) in edges {
            minute += gap;
            script.push((minute, [Edge::Reminded, Edge::Acknowledged, Edge::Reminded, Edge::Cleared][edge]));
            if edge == 3 { break; }
        }
        let ended = script.last().is_some_and(|(_, edge)| *edge == Edge::Cleared);
        let acknowledged = script.iter().find(|(_, edge)| *edge == Edge::Acknowledged).map(|(minute, _)| *minute);

        let mut kept: Vec<Kept> = Vec::new();
        for now in 0..500i64 {
            for (_, edge) in script.iter().filter(|(minute, _)| *minute == now) {
                let before: Vec<Earlier> = kept.iter().filter(|k| k.edge == Edge::Raised && k.state != State::Off).map(|k| Earlier {
                    item: k.id, recipient: k.planned.recipient, channel: k.planned.channel, route: k.planned.route,
                    step: k.planned.step, told: k.state == State::Told,
                }).collect();
                let made = plan(&happening(*edge, severity, now), at(now), &routes, &people, &before);
                for id in made.cancel {
                    prop_assert_eq!(kept[id as usize].state, State::Waiting);
                    kept[id as usize].state = State::Off;
                }
                for planned in made.items {
                    let id = kept.len() as i64;
                    kept.push(Kept { id, planned, edge: *edge, state: State::Waiting });
                }
            }
            for item in kept.iter_mut().filter(|item| item.state == State::Waiting && item.planned.due <= at(now)) {
                item.state = State::Told;
                if item.edge == Edge::Raised && item.planned.step > 0 {
                    prop_assert!(acknowledged.is_none_or(|minute| now < minute), "escalated after it was acknowledged");
                }
            }
        }
        prop_assert!(kept.iter().all(|item| item.state != State::Waiting));
        let channels: BTreeSet<ChannelId> = kept.iter().map(|item| item.planned.channel).collect();
        for channel in channels {
            let count = |edge| kept.iter().filter(|k| k.planned.channel == channel && k.edge == edge && k.state == State::Told).count();
            prop_assert!(count(Edge::Raised) <= 1);
            prop_assert!(count(Edge::Cleared) <= count(Edge::Raised));
            if ended {
                prop_assert_eq!(count(Edge::Cleared), count(Edge::Raised));
            }
        }
    }
}

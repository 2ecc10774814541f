//! Rules: which is in force where, what is refused, and what stands by itself.

use super::*;

fn rule(id: i32, scope: Scope, enabled: bool, check: Check) -> Rule {
    Rule {
        id: Some(AlarmRuleId(id)),
        account: Some(AccountId(1)),
        scope,
        enabled,
        severity: Severity::Warning,
        check,
    }
}

fn clock(over_s: u32) -> Check {
    Check::ClockDrift(ClockCheck { over_s })
}

fn limit(quantity: &str, above: f64) -> Check {
    Check::Threshold(ThresholdCheck {
        quantity: quantity.to_owned(),
        above: Some(above),
        ..ThresholdCheck::default()
    })
}

#[test]
fn the_built_in_rules_are_sound() {
    for rule in defaults() {
        assert_eq!(rule.check.faults(), [], "{:?}", rule.check);
    }
    let kinds: std::collections::BTreeSet<_> = defaults().iter().map(|rule| rule.check.kind()).collect();
    // thresholds need a limit that only its owner knows; the server's own are no rules
    let without = [
        AlarmKind::Threshold,
        AlarmKind::Spool,
        AlarmKind::Overload,
        AlarmKind::Database,
    ];
    for kind in AlarmKind::ALL {
        assert_eq!(kinds.contains(kind), !without.contains(kind), "{kind}");
    }
}

#[test]
fn the_most_specific_rule_is_in_force() {
    let mut rules = defaults();
    rules.push(rule(1, Scope::Account, true, clock(100)));
    rules.push(rule(2, Scope::Group(GroupId(20)), true, clock(200)));
    rules.push(rule(3, Scope::Group(GroupId(10)), true, clock(300)));
    rules.push(rule(4, Scope::Meter(MeterId(7)), false, clock(400)));
    let over = |groups: &[i32], meter: i32| -> Vec<u32> {
        let place = Place {
            groups: groups.iter().map(|id| GroupId(*id)).collect(),
            meter: Some(MeterId(meter)),
        };
        let found = in_force(&rules, &place);
        let clocks = found.iter().filter_map(|rule| match &rule.check {
            Check::ClockDrift(check) => Some(check.over_s),
            _ => None,
        });
        clocks.collect()
    };
    assert_eq!(over(&[], 1), [100], "the account's takes the place of the built-in one");
    assert_eq!(over(&[20, 10], 1), [200], "the nearest group");
    assert_eq!(over(&[30, 10], 1), [300]);
    assert_eq!(over(&[20, 10], 7), [0u32; 0], "the meter's own is off");
}

#[test]
fn quantities_are_matters_of_their_own_and_limits_stand_side_by_side() {
    let rules = [
        rule(1, Scope::Account, true, limit("voltage_l1", 250.0)),
        rule(2, Scope::Account, true, limit("voltage_l1", 260.0)),
        rule(3, Scope::Meter(MeterId(7)), true, limit("current_l1", 16.0)),
    ];
    let place = Place {
        groups: Vec::new(),
        meter: Some(MeterId(7)),
    };
    let ids: Vec<_> = in_force(&rules, &place).iter().filter_map(|rule| rule.id).collect();
    assert_eq!(ids, [AlarmRuleId(3), AlarmRuleId(1), AlarmRuleId(2)]);
}

#[test]
fn numbers_are_checked_and_named() {
    let faults = |json: &str| -> Vec<&'static str> {
        let check: Check = serde_json::from_str(json).unwrap();
        check.faults().iter().map(|fault| fault.field).collect()
    };
    assert_eq!(
        faults(r#"{"kind":"threshold","quantity":"voltage_l1","above":250}"#),
        [""; 0]
    );
    assert_eq!(
        faults(r#"{"kind":"threshold","quantity":"a;b"}"#),
        ["quantity", "above"]
    );
    assert_eq!(
        faults(r#"{"kind":"threshold","quantity":"x","above":1,"below":2}"#),
        ["below"]
    );
    assert_eq!(
        faults(r#"{"kind":"deviation","quantity":"voltage_l1","factor":1,"hours":0}"#),
        ["quantity", "factor", "hours"]
    );
    assert_eq!(faults(r#"{"kind":"status_bits","quantity":"status_word"}"#), ["bits"]);
    assert_eq!(
        faults(r#"{"kind":"status_bits","quantity":"status_word","bits":[{"bit":4,"name":"relay open"}]}"#),
        [""; 0]
    );
    assert!(serde_json::from_str::<Check>(r#"{"kind":"clock_drift","over":1}"#).is_err());
    assert!(serde_json::from_str::<Check>(r#"{"kind":"low_balance"}"#).is_err());
}

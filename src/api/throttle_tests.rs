use super::*;
use proptest::prelude::*;

fn ip(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

fn stranger(name: &str, source: Option<IpAddr>) -> Try {
    Try {
        subject: Subject::name(name),
        standing: Standing::Stranger,
        source,
    }
}

#[test]
fn a_guesser_waits_and_others_do_not() {
    let throttle = Throttle::default();
    let start = Instant::now();
    for _ in 0..PAIR_MAX {
        assert_eq!(throttle.take(&stranger("Ann@x.org", ip(1)), start), Ok(0));
    }
    assert!(throttle.take(&stranger(" ann@x.org", ip(1)), start).is_err());
    assert!(throttle.take(&stranger("bob@x.org", ip(1)), start).is_ok());
    // the next that passes tells how many did not
    assert_eq!(throttle.take(&stranger("ann@x.org", ip(2)), start), Ok(1));
    assert!(throttle.take(&stranger("ann@x.org", ip(1)), start + WINDOW).is_ok());
}

#[test]
fn one_source_cannot_try_many_names_nor_be_many_by_ipv6() {
    let throttle = Throttle::default();
    let start = Instant::now();
    let address = |host: u32| {
        Some(IpAddr::from(Ipv6Addr::new(
            0x2001,
            0xdb8,
            1,
            2,
            3,
            4,
            5,
            u16::try_from(host).unwrap(),
        )))
    };
    for i in 0..u32::try_from(SOURCE_MAX).unwrap() {
        assert!(throttle.source_may(address(i), start).is_ok());
        throttle
            .take(&stranger(&format!("user{i}"), address(i)), start)
            .unwrap();
    }
    assert!(throttle.source_may(address(99), start).is_err());
    assert!(throttle.take(&stranger("fresh", address(99)), start).is_err());
    assert!(throttle.source_may(ip(1), start).is_ok());
}

#[test]
fn strangers_together_cannot_keep_the_owner_out() {
    let throttle = Throttle::default();
    let start = Instant::now();
    let person = Subject::Person(UserId(7));
    let by = |standing, source| Try {
        subject: person,
        standing,
        source,
    };
    let mut passed = 0;
    for i in 0..200u8 {
        passed += usize::from(throttle.take(&by(Standing::Stranger, ip(i)), start).is_ok());
    }
    assert_eq!(passed, PERSON_MAX);
    assert!(throttle.take(&by(Standing::Stranger, ip(250)), start).is_err());
    for standing in [Standing::KnownSource, Standing::Known(1), Standing::Known(2)] {
        for _ in 0..3 * PAIR_MAX {
            // right ones are no failures
            let tried = by(standing, ip(250));
            throttle.take(&tried, start).unwrap();
            throttle.right(&tried);
        }
        for _ in 0..PAIR_MAX {
            throttle.take(&by(standing, ip(250)), start).unwrap();
        }
        assert!(throttle.take(&by(standing, ip(250)), start).is_err(), "{standing:?}");
    }
}

#[test]
fn what_is_written_down_is_bounded_and_says_what_is_missing() {
    let throttle = Throttle::default();
    let start = Instant::now();
    for _ in 0..NOTED_MAX {
        assert_eq!(throttle.note(start), Some(0));
    }
    for _ in 0..7 {
        assert_eq!(throttle.note(start + WINDOW / 2), None);
    }
    assert_eq!(throttle.note(start + WINDOW), Some(7));
    assert_eq!(throttle.note(start + WINDOW), Some(0));
}

#[test]
fn familiar_sources_are_bounded_and_the_newest_stay() {
    let throttle = Throttle::default();
    let source = |n: usize| Some(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
    for n in 0..3 * FAMILIAR_MAX {
        throttle.remember(source(n));
        throttle.remember(source(7));
    }
    assert!(throttle.lock().familiar.sources.len() <= FAMILIAR_MAX);
    assert!(throttle.is_familiar(source(7)) && throttle.is_familiar(source(3 * FAMILIAR_MAX - 1)));
    assert!(!throttle.is_familiar(source(8)));
}

/// A flood of names and sources can neither grow the memory nor wash out what counts.
#[test]
fn memory_is_bounded_and_nothing_that_counts_is_forgotten() {
    let throttle = Throttle::default();
    let start = Instant::now();
    for i in 0..u8::try_from(PERSON_MAX).unwrap() {
        throttle.take(&stranger("ann", ip(i)), start).unwrap();
    }
    let mut refused = 0;
    for i in 0..u32::try_from(KEYS_MAX).unwrap() {
        let source = Some(IpAddr::from(i.to_be_bytes()));
        refused += u32::from(throttle.take(&stranger(&i.to_string(), source), start).is_err());
    }
    assert!(refused > 0 && throttle.lock().strangers.logs.len() <= KEYS_MAX);
    let later = start + WINDOW - Duration::from_millis(1);
    assert!(throttle.take(&stranger("ann", ip(200)), later).is_err());
    // who is known does not wait for strangers
    let known = Try {
        standing: Standing::Known(3),
        ..stranger("ann", ip(200))
    };
    assert!(throttle.take(&known, later).is_ok());
    // and a minute later there is room again
    assert!(throttle.take(&stranger("bob", ip(200)), start + 2 * WINDOW).is_ok());
}

proptest! {
    /// Whatever the sources, the times and the standing: in no window of a minute do more than ten tries of strangers for
    /// one person pass.
    #[test]
    fn no_minute_has_more_than_ten(tries in prop::collection::vec((0u64..40_000, 0u8..40, any::<bool>()), 1..200)) {
        let throttle = Throttle::default();
        let start = Instant::now();
        let mut now = 0;
        let mut passed: Vec<u64> = Vec::new();
        for (after, source, right) in tries {
            now += after / 40;
            let tried = stranger("ann", ip(source));
            if throttle.take(&tried, start + Duration::from_millis(now)).is_ok() {
                passed.push(now);
                if right {
                    throttle.right(&tried);
                }
            }
        }
        for (index, first) in passed.iter().enumerate() {
            let within = passed.iter().skip(index).filter(|at| **at < first + 60_000).count();
            prop_assert!(within <= PERSON_MAX, "{within} from {first}");
        }
    }
}

//! Introductions, take-overs, flapping and the quarantine, without a socket.

use super::*;

fn sn(text: &str) -> SerialNumber {
    SerialNumber::parse(text).unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn introduce(book: &mut Admissions<u32>, text: &str, connection: u64, second: i64) -> Introduced<u32> {
    let handle = u32::try_from(connection).unwrap();
    book.introduce(
        &sn(text),
        ConnectionId(connection),
        format!("10.0.0.{}:{}", 1 + connection % 2, 1000 + connection),
        b"first",
        handle,
        at(second),
    )
}

#[test]
fn the_newest_session_wins_and_the_end_of_the_old_one_changes_nothing() {
    let mut book = Admissions::new(10);
    assert!(book.know(DtuId(1), Some(sn("A1")), at(0)).is_none());
    assert!(matches!(
        introduce(&mut book, "A1", 1, 1),
        Introduced::Owner { replaced: None, .. }
    ));
    let Introduced::Owner {
        dtu,
        replaced: Some(old),
        clone_suspected,
    } = introduce(&mut book, "A1", 2, 2)
    else {
        panic!("the second socket must take over");
    };
    assert_eq!(
        (dtu, old.connection, clone_suspected),
        (DtuId(1), ConnectionId(1), false)
    );
    assert_eq!(book.ended(ConnectionId(1), at(3)), None);
    assert_eq!(book.live(DtuId(1)).unwrap().connection, ConnectionId(2));
    assert_eq!(book.ended(ConnectionId(2), at(4)), Some(DtuId(1)));
    assert_eq!(book.offline_since(DtuId(1)), Some(at(4)));
}

#[test]
fn repeated_take_overs_look_like_a_clone() {
    let mut book = Admissions::new(10);
    book.know(DtuId(1), Some(sn("A1")), at(0));
    let mut suspected = Vec::new();
    for connection in 1..=7 {
        if let Introduced::Owner { clone_suspected, .. } = introduce(&mut book, "A1", connection, 1) {
            suspected.push(clone_suspected);
        }
    }
    assert_eq!(suspected, [false, false, false, false, false, true, true]);
    assert!(matches!(
        introduce(&mut book, "A1", 8, 2000),
        Introduced::Owner {
            clone_suspected: false,
            ..
        }
    ));
}

#[test]
fn one_that_comes_back_from_the_same_address_is_no_clone() {
    let mut book = Admissions::new(10);
    book.know(DtuId(1), Some(sn("A1")), at(0));
    for connection in (2..=20).step_by(2) {
        introduce(&mut book, "A1", connection, 6 * i64::try_from(connection).unwrap());
    }
    assert!(!book.clone_suspected(DtuId(1), at(120)));
    introduce(&mut book, "A1", 21, 124);
    assert!(book.clone_suspected(DtuId(1), at(124)));
    assert!(
        !book.clone_suspected(DtuId(1), at(1000)),
        "it passes when nothing happens"
    );
}

#[test]
fn who_connects_again_and_again_is_refused_for_a_while() {
    let mut book = Admissions::new(10);
    book.know(DtuId(1), Some(sn("A1")), at(0));
    for name in ["A1", "UNKNOWN"] {
        for connection in 1..=15 {
            let admitted = introduce(&mut book, name, connection, 1);
            assert!(!matches!(admitted, Introduced::Banned { .. }), "{name} {connection}");
        }
        let refused = introduce(&mut book, name, 16, 2);
        assert!(matches!(refused, Introduced::Banned { begun: true, .. }), "{refused:?}");
        let refused = introduce(&mut book, name, 17, 301);
        assert!(matches!(refused, Introduced::Banned { begun: false, until, .. } if until == at(302)));
        let admitted = introduce(&mut book, name, 18, 302);
        assert!(!matches!(admitted, Introduced::Banned { .. }), "{admitted:?}");
    }
    assert_eq!(book.live(DtuId(1)).unwrap().connection, ConnectionId(18));
    assert_eq!(book.banned_until(DtuId(1), at(100)), Some(at(302)));
    assert_eq!(book.banned_until(DtuId(1), at(302)), None);
    assert_eq!(book.banned_until(DtuId(1), at(-9000)), None, "a clock set back ends it");
}

#[test]
fn four_connects_a_minute_are_no_flapping_for_ever() {
    let mut book = Admissions::new(10);
    book.know(DtuId(1), Some(sn("A1")), at(0));
    for connection in 1..=200 {
        let second = i64::try_from(connection).unwrap() * 15;
        let admitted = introduce(&mut book, "A1", connection, second);
        assert!(matches!(admitted, Introduced::Owner { .. }), "{connection}");
    }
}

#[test]
fn a_waiting_socket_is_adopted_by_a_claim() {
    let mut book = Admissions::new(10);
    assert!(matches!(
        introduce(&mut book, "B2", 5, 1),
        Introduced::Waits { replaced: None }
    ));
    let live = book.know(DtuId(9), Some(sn("B2")), at(2)).unwrap();
    assert_eq!(live.connection, ConnectionId(5));
    assert_eq!(book.waiting().count(), 0);
    assert_eq!(book.ended(ConnectionId(5), at(3)), Some(DtuId(9)));
}

#[test]
fn quarantine_is_bounded_and_forgets_closed_sockets_first() {
    let mut book = Admissions::new(2);
    introduce(&mut book, "Q1", 1, 1);
    introduce(&mut book, "Q2", 2, 2);
    assert!(matches!(introduce(&mut book, "Q3", 3, 3), Introduced::Full));
    assert_eq!(book.ended(ConnectionId(1), at(4)), None);
    assert!(matches!(introduce(&mut book, "Q3", 3, 5), Introduced::Waits { .. }));
    let mut left: Vec<_> = book.waiting().map(|(sn, _)| sn.as_str().to_owned()).collect();
    left.sort();
    assert_eq!(left, ["Q2", "Q3"]);
}

#[test]
fn an_sn_with_the_dtus_own_heartbeats_behind_it_is_that_dtu() {
    let mut book = Admissions::new(9);
    book.know(DtuId(1), Some(sn("SN1")), at(0));
    book.know(DtuId(2), Some(sn("SN12")), at(0));
    assert!(
        matches!(introduce(&mut book, "SN1HB", 1, 1), Introduced::Waits { .. }),
        "not learned yet"
    );
    book.heard(DtuId(1), [b"HB".to_vec(), b"2".to_vec(), b"LOG".to_vec(), Vec::new()]);
    let owner = |introduced| match introduced {
        Introduced::Owner { dtu, .. } => Some(dtu.0),
        _ => None,
    };
    assert_eq!(owner(introduce(&mut book, "SN1HB", 2, 2)), Some(1));
    assert_eq!(owner(introduce(&mut book, "SN1LOGLOG", 3, 3)), Some(1));
    assert_eq!(
        owner(introduce(&mut book, "SN12", 4, 4)),
        Some(2),
        "a known SN is itself"
    );
    for (n, stranger) in ["SN1HBX", "SN1H", "SN1HBLOG", "SN12HB", "SN122", "XSN1HB"]
        .iter()
        .enumerate()
    {
        assert_eq!(
            owner(introduce(&mut book, stranger, 10 + n as u64, 20)),
            None,
            "{stranger}"
        );
    }
    book.heard(DtuId(1), (0..9).map(|n| vec![b'A', b'0' + n]));
    assert_eq!(
        owner(introduce(&mut book, "SN1HB", 30, 30)),
        None,
        "only the last ones are kept"
    );
    assert_eq!(owner(introduce(&mut book, "SN1A8A8", 31, 31)), Some(1));
}

#[test]
fn a_forgotten_dtu_gives_up_its_session() {
    let mut book = Admissions::new(2);
    book.know(DtuId(1), Some(sn("A1")), at(0));
    introduce(&mut book, "A1", 1, 1);
    assert_eq!(book.forget(DtuId(1)).unwrap().connection, ConnectionId(1));
    assert!(matches!(introduce(&mut book, "A1", 2, 2), Introduced::Waits { .. }));
}

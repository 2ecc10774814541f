//! Values that a terminal reports of its own accord: cut by point, confirmed once they are kept.

use super::*;
use crate::exchange::trunk::Values;

/// Values that are told, what is written, and how many replays there were.
fn hear(trunk: &mut Trunk, now: Moment, wire: &[u8]) -> (Vec<Values>, Vec<Message>, usize) {
    trunk.feed(now, wire);
    said(trunk)
}

fn said(trunk: &mut Trunk) -> (Vec<Values>, Vec<Message>, usize) {
    let (mut values, mut written, mut replays) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = trunk.event() {
        match event {
            TrunkEvent::Values(told) => values.push(*told),
            TrunkEvent::Write(wire) => written.push(Message::of(&Frame::parse(&wire).unwrap()).unwrap()),
            TrunkEvent::Replay => replays += 1,
            TrunkEvent::Unasked(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (values, written, replays)
}

fn report(terminal: &mut Terminal, items: &[Id]) -> (u8, Vec<u8>) {
    let items: Vec<(Id, Vec<u8>)> = items.iter().map(|id| (*id, Vec::new())).collect();
    let message = terminal.report_data(Afn::REALTIME, &items, &mut Mute).unwrap();
    (message.seq.number(), message.frame().unwrap().wire())
}

fn confirms(written: &[Message]) -> Vec<u8> {
    assert!(written.iter().all(|message| message.afn == Afn::CONFIRM));
    written.iter().map(|message| message.seq.number()).collect()
}

#[test]
fn a_report_of_values_is_confirmed_when_they_are_kept_and_not_before() {
    let (mut trunk, mut terminal, now) = (trunk(), terminal(1..=5), start());
    let (number, wire) = report(&mut terminal, &[id(1, 129), id(4, 129)]);
    let (told, written, _) = hear(&mut trunk, now, &wire);
    assert_eq!((told.len(), written.len()), (1, 0));
    let rows: Vec<_> = told[0]
        .rows
        .iter()
        .map(|row| (row.point, row.afn, row.unit.data.clone()))
        .collect();
    let expected = [1, 4].map(|point| (point, Afn::REALTIME, energy(point)));
    assert_eq!((rows, told[0].left), (expected.to_vec(), 0));
    assert_eq!((told[0].frame.bytes.to_vec(), trunk.stats().strays), (wire.clone(), 0));
    // on its way: the terminal repeats it, and nobody is told
    let (again, written, _) = hear(&mut trunk, now, &wire);
    assert_eq!((again.len(), written.len()), (0, 0));
    // not kept: told anew
    trunk.values_left(&told[0]);
    let (told, written, _) = hear(&mut trunk, now, &wire);
    assert_eq!((told.len(), written.len()), (1, 0));
    trunk.values_kept(now, &told[0]);
    assert_eq!(confirms(&said(&mut trunk).1), [number]);
    // the confirmation was lost: confirmed again and not told
    let (told, written, replays) = hear(&mut trunk, now, &wire);
    assert_eq!((told.len(), confirms(&written), replays), (0, vec![number], 1));
}

#[test]
fn what_the_terminal_says_of_itself_is_of_no_point() {
    let (mut trunk, mut terminal, now) = (trunk(), terminal(1..=2), start());
    terminal.set_clock(vec![0x30, 0x15, 0x08, 0x21, 0x11, 0x26]);
    let (_, wire) = report(&mut terminal, &[Id::terminal(Fn::F2), id(2, 129)]);
    let (told, ..) = hear(&mut trunk, now, &wire);
    assert_eq!((told[0].rows.len(), told[0].left), (1, 1));
}

proptest! {
    /// Whatever points are reported in whatever order: each value under its own point.
    #[test]
    fn values_stay_with_their_points(points in prop::collection::btree_set(1u16..2040, 1..40)) {
        let (mut trunk, mut terminal) = (trunk(), terminal(points.iter().copied()));
        let ids: Vec<Id> = points.iter().map(|point| id(*point, 129)).collect();
        let (_, wire) = report(&mut terminal, &ids);
        let (told, ..) = hear(&mut trunk, start(), &wire);
        prop_assert_eq!(told.len(), 1);
        prop_assert_eq!(told[0].rows.iter().map(|row| row.point).collect::<BTreeSet<u16>>(), points);
        for row in &told[0].rows {
            prop_assert_eq!(&row.unit.data, &energy(row.point));
        }
    }
}

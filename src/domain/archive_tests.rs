//! Comparing archives, and the changes that make one the other, against a model that carries them out.

use super::*;
use proptest::prelude::*;

fn entry(point: u16, place: u16, address: u32) -> ArchiveEntry {
    ArchiveEntry {
        point,
        place,
        meter_address: format!("{address:012}"),
        meter_protocol: dlt645_2007(),
        port: CARRIER,
        collector: String::new(),
        tariffs: 4,
    }
}

#[test]
fn the_four_cases_of_a_point() {
    let ours = [entry(1, 1, 11), entry(2, 2, 12), entry(3, 3, 13)];
    let theirs = [entry(1, 1, 11), entry(2, 2, 99), entry(4, 4, 14)];
    let comparison = compare(&ours, &theirs);
    assert_eq!(comparison.same, 1);
    assert_eq!(comparison.only_here, [entry(3, 3, 13)]);
    assert_eq!(comparison.only_there, [entry(4, 4, 14)]);
    assert_eq!(comparison.different.len(), 1);
    assert_eq!(comparison.different[0].fields, ["meter_address"]);
    let wanted = changes(&comparison, &theirs, None, true).unwrap();
    assert_eq!(
        wanted,
        [
            ArchiveChange::Remove { place: 4, point: 4 },
            ArchiveChange::Put(entry(2, 2, 12)),
            ArchiveChange::Put(entry(3, 3, 13))
        ]
    );
    // nothing is taken away unless it is said, and nothing is done to points that are not named
    let some = changes(&comparison, &theirs, Some(&BTreeSet::from([3, 4])), false).unwrap();
    assert_eq!(some, [ArchiveChange::Put(entry(3, 3, 13))]);
}

#[test]
fn nobody_is_written_over() {
    let ours = [entry(1, 7, 11)];
    let theirs = [entry(9, 7, 19)];
    let comparison = compare(&ours, &theirs);
    assert_eq!(
        changes(&comparison, &theirs, None, false),
        Err(PlaceTaken {
            place: 7,
            point: 1,
            holder: 9
        })
    );
    assert_eq!(
        changes(&comparison, &theirs, None, true).unwrap(),
        [ArchiveChange::Put(entry(1, 7, 11))]
    );
}

#[test]
fn faults_name_their_fields() {
    let mut wrong = entry(0, 1, 1);
    wrong.meter_address = "12".to_owned();
    wrong.collector = "x".to_owned();
    wrong.port = 32;
    wrong.tariffs = 64;
    wrong.meter_protocol = "reserved".to_owned();
    let fields: Vec<&str> = wrong.faults().into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "point",
            "meter_address",
            "collector",
            "port",
            "tariffs",
            "meter_protocol"
        ]
    );
    let plain: ArchiveEntry = serde_json::from_str(r#"{"point": 5, "meter_address": "00001000000a"}"#).unwrap();
    let plain = plain.settled();
    assert_eq!(plain.faults(), []);
    assert_eq!(
        (plain.place, plain.meter_address.as_str(), plain.port),
        (5, "00001000000A", 31)
    );
}

/// An archive: every point once, every place once.
fn archive() -> impl Strategy<Value = Vec<ArchiveEntry>> {
    let places = Just((1..=8u16).collect::<Vec<_>>()).prop_shuffle();
    (places, prop::collection::btree_map(1..=8u16, 0..3u32, 0..=8)).prop_map(|(places, points)| {
        let pairs = points.into_iter().zip(places);
        pairs
            .map(|((point, address), place)| entry(point, place, address))
            .collect()
    })
}

proptest! {
    #[test]
    fn carried_out_the_changes_make_the_two_alike(ours in archive(), theirs in archive()) {
        let comparison = compare(&ours, &theirs);
        let seen = comparison.same + comparison.only_here.len() + comparison.different.len();
        prop_assert_eq!(seen, ours.len());
        let done = changes(&comparison, &theirs, None, true).unwrap();
        let mut there: BTreeMap<u16, ArchiveEntry> = theirs.into_iter().map(|entry| (entry.place, entry)).collect();
        for change in done {
            match change {
                ArchiveChange::Remove { place, .. } => drop(there.remove(&place)),
                ArchiveChange::Put(entry) => drop(there.insert(entry.place, entry)),
            }
        }
        let there: Vec<ArchiveEntry> = there.into_values().collect();
        let after = compare(&ours, &there);
        prop_assert_eq!((after.same, after.only_there.len(), after.only_here.len(), after.different.len()), (ours.len(), 0, 0, 0));
    }

    #[test]
    fn without_removing_nothing_that_is_only_there_is_lost(ours in archive(), theirs in archive()) {
        let comparison = compare(&ours, &theirs);
        let Ok(done) = changes(&comparison, &theirs, None, false) else { return Ok(()) };
        let mut there: BTreeMap<u16, ArchiveEntry> = theirs.into_iter().map(|entry| (entry.place, entry)).collect();
        for change in done {
            match change {
                ArchiveChange::Remove { place, .. } => drop(there.remove(&place)),
                ArchiveChange::Put(entry) => drop(there.insert(entry.place, entry)),
            }
        }
        let after = compare(&ours, &there.into_values().collect::<Vec<_>>());
        prop_assert_eq!((after.only_there, after.only_here.len(), after.different.len()), (comparison.only_there, 0, 0));
    }
}

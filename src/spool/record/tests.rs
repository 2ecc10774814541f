//! Damage of every kind costs the records it hits and no other.

use super::*;
use crate::port::disk::{Disk, OpenMode};
use crate::port::disk_model::ModelDisk;
use proptest::prelude::*;
use std::path::Path;

const STAMP: Stamp = Stamp { salt: 77, segment: 3 };

fn steps(bytes: &[u8]) -> Vec<Step> {
    let disk = ModelDisk::new();
    disk.plant(Path::new("/s"), bytes.to_vec());
    let file = disk.open(Path::new("/s"), OpenMode::Read).unwrap();
    let mut scanner = Scanner::new(&*file, STAMP, 0, file.len().unwrap(), None);
    let mut out = Vec::new();
    loop {
        let step = scanner.step().unwrap();
        let end = matches!(step, Step::End { .. });
        out.push(step);
        if end {
            return out;
        }
    }
}

fn sequences(steps: &[Step]) -> Vec<u64> {
    let sequence = |step: &Step| match step {
        Step::Record { header, .. } => Some(header.sequence),
        _ => None,
    };
    steps.iter().filter_map(sequence).collect()
}

fn three() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sequence, body) in [(5, "one"), (6, "two"), (7, "three")] {
        put(&mut bytes, STAMP, sequence, 5, body.as_bytes());
    }
    bytes
}

#[test]
fn crc_is_crc32c() {
    // RFC 3720 appendix B.4: 32 bytes of zeros
    assert_eq!(plain_crc(&[0; 32]), 0x8A91_36AA);
}

#[test]
fn segment_header_round_trip_and_damage() {
    let header = SegmentHeader {
        stamp: STAMP,
        first: 9,
        made_ms: -5,
    };
    let bytes = header.encode();
    assert_eq!(bytes.len(), SEGMENT_HEADER);
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&damaged), Err(HeaderFault::Damaged), "bit {bit}");
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = SegmentHeader {
        stamp: STAMP,
        first: 0,
        made_ms: 0,
    }
    .encode();
    bytes[7] = 2;
    let crc = plain_crc(&bytes[..60]).to_le_bytes();
    bytes[60..].copy_from_slice(&crc);
    assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderFault::Version(2)));
}

#[test]
fn every_flipped_bit_costs_its_record_and_no_other() {
    let bytes = three();
    let ends: Vec<usize> = vec![32 + 3, 2 * 32 + 6, 3 * 32 + 11];
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.iter().position(|end| bit / 8 < *end).unwrap();
        let expected: Vec<u64> = (0..3).filter(|i| *i != hit).map(|i| 5 + i as u64).collect();
        assert_eq!(sequences(&steps(&damaged)), expected, "bit {bit}");
    }
}

#[test]
fn every_cut_leaves_the_whole_records() {
    let bytes = three();
    for cut in 0..=bytes.len() {
        let found = steps(&bytes[..cut]);
        let whole = [35, 70, 107].iter().filter(|end| cut >= **end).count();
        assert_eq!(sequences(&found).len(), whole, "cut at {cut}");
        assert_eq!(found.len(), whole + 1, "no hole at {cut}");
    }
}

#[test]
fn zeros_behind_are_a_clean_end_and_rubbish_is_not() {
    let mut bytes = three();
    bytes.resize(bytes.len() + 5000, 0);
    assert_eq!(steps(&bytes).last(), Some(&Step::End { at: 107, zero: true }));
    bytes.push(1);
    assert_eq!(steps(&bytes).last(), Some(&Step::End { at: 107, zero: false }));
}

#[test]
fn a_record_of_another_segment_or_salt_or_an_older_sequence_is_damage() {
    for (stamp, sequence) in [
        (Stamp { salt: 77, segment: 4 }, 8),
        (Stamp { salt: 78, segment: 3 }, 8),
        (STAMP, 7),
    ] {
        let mut bytes = three();
        put(&mut bytes, stamp, sequence, 5, b"alien");
        assert_eq!(steps(&bytes).last(), Some(&Step::End { at: 107, zero: false }));
    }
}

proptest! {
    #[test]
    fn random_rubbish_never_hides_what_follows(before in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut bytes = before.clone();
        bytes.extend_from_slice(&three());
        prop_assert_eq!(sequences(&steps(&bytes)), vec![5, 6, 7]);
    }

    #[test]
    fn bytes_full_of_magics_are_walked_in_linear_time(count in 1000usize..20_000) {
        let mut bytes = RECORD_MAGIC.repeat(count);
        bytes.extend_from_slice(&three());
        prop_assert_eq!(sequences(&steps(&bytes)), vec![5, 6, 7]);
    }
}

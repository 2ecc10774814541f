//! Every byte of a backup counts.

use super::*;
use proptest::prelude::*;

fn made_at() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn written(parts: &[(&str, Vec<u8>)], passphrase: Option<&SecretString>) -> Vec<u8> {
    let mut archive = ArchiveWriter::begin(Vec::new(), made_at(), passphrase).unwrap();
    for (name, bytes) in parts {
        let head = PartHead {
            name: (*name).to_owned(),
            kind: PartKind::File,
        };
        archive.begin_part(head).unwrap();
        for piece in bytes.chunks(1000) {
            archive.write(piece).unwrap();
        }
        archive.end_part(0, String::new()).unwrap();
    }
    let manifest = Manifest {
        made_at: made_at(),
        program: "test".to_owned(),
        schema: 18,
        postgres: "15".to_owned(),
        parts: archive.parts().to_vec(),
        sequences: BTreeMap::new(),
    };
    archive.finish(&manifest).unwrap()
}

/// Bytes that do not pack.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

#[test]
fn what_was_written_is_read_again() {
    let secret = SecretString::from("a passphrase of some length");
    for passphrase in [None, Some(&secret)] {
        let parts = [("a", noise(200_000)), ("b/c", Vec::new()), ("d", vec![7; 70_000])];
        let file = written(&parts, passphrase);
        let manifest = check(file.as_slice(), passphrase).unwrap();
        let names: Vec<_> = manifest.parts.iter().map(|part| part.head.name.as_str()).collect();
        assert_eq!(names, ["a", "b/c", "d"]);
        let mut reader = ArchiveReader::open(file.as_slice(), passphrase).unwrap();
        for (name, bytes) in &parts {
            assert_eq!(reader.next_part().unwrap().name, *name);
            assert_eq!(&reader.rest(1 << 20).unwrap(), bytes);
        }
    }
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let secret = SecretString::from("a passphrase of some length");
    let file = written(&[("a", noise(300)), ("b", b"rows\n".to_vec())], None);
    for place in 0..file.len() {
        for flip in [1u8, 0x80] {
            let mut changed = file.clone();
            changed[place] ^= flip;
            assert!(check(changed.as_slice(), None).is_err(), "byte {place} ^ {flip}");
        }
    }
    // opening takes a key derivation: some places are enough
    let sealed = written(&[("a", noise(70_000)), ("b", b"rows\n".to_vec())], Some(&secret));
    for place in (0..sealed.len()).step_by(sealed.len() / 12) {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        assert!(check(changed.as_slice(), Some(&secret)).is_err(), "byte {place}");
    }
}

#[test]
fn a_file_that_was_cut_or_grown_is_found() {
    let file = written(&[("a", noise(1_000))], None);
    for length in 0..file.len() {
        assert!(check(&file[..length], None).is_err(), "{length} bytes");
    }
    let grown = [file.as_slice(), b"x"].concat();
    assert!(check(grown.as_slice(), None).is_err());
}

#[test]
fn without_the_key_nothing_is_read() {
    let secret = SecretString::from("a passphrase of some length");
    let file = written(&[("secret", b"the word is swordfish".to_vec())], Some(&secret));
    assert!(!file.windows(9).any(|window| window == b"swordfish"));
    let other = SecretString::from("another passphrase");
    for passphrase in [None, Some(&other)] {
        let refused = check(file.as_slice(), passphrase).unwrap_err();
        assert!(matches!(refused, ArchiveError::Locked(_)), "{refused}");
    }
}

#[test]
fn pieces_cannot_change_places_or_be_left_out() {
    let secret = SecretString::from("a passphrase of some length");
    let file = written(&[("a", noise(300_000))], Some(&secret));
    let head = MAGIC.len()
        + 4
        + usize::try_from(u32::from_be_bytes(
            file[MAGIC.len()..MAGIC.len() + 4].try_into().unwrap(),
        ))
        .unwrap();
    let piece = 4 + PIECE + TAG;
    let resummed = |body: Vec<u8>| {
        let sum = Sha256::digest(&body);
        [body.as_slice(), sum.as_slice()].concat()
    };
    let body = &file[..file.len() - SUM];
    let without = [&body[..head + piece], &body[head + 2 * piece..]].concat();
    assert!(check(resummed(without).as_slice(), Some(&secret)).is_err());
    let mut swapped = body[..head].to_vec();
    swapped.extend_from_slice(&body[head + piece..head + 2 * piece]);
    swapped.extend_from_slice(&body[head..head + piece]);
    swapped.extend_from_slice(&body[head + 2 * piece..]);
    assert!(check(resummed(swapped).as_slice(), Some(&secret)).is_err());
    assert!(check(resummed(body.to_vec()).as_slice(), Some(&secret)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(bytes.as_slice(), None).is_err());
        let grown = [MAGIC, bytes.as_slice()].concat();
        prop_assert!(check(grown.as_slice(), None).is_err());
    }
}

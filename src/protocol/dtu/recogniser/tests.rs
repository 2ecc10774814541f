//! Every registration of the field in every split, and what must never pass.

use super::*;
use crate::base::hex::decode;
use proptest::prelude::*;

const REPLY: &str = "110306AE415652434049AD";

fn profile(text: &str) -> Profile {
    Profile::parse(text).unwrap()
}

/// What a caller sees that feeds pieces without a pause and then lets the line fall quiet.
fn feed(profile: &Profile, pieces: &[&[u8]]) -> Result<(String, RegistrationKind, Vec<u8>), String> {
    let mut buffer = Vec::new();
    let mut turns: Vec<(&[u8], bool)> = pieces.iter().map(|piece| (*piece, false)).collect();
    turns.push((&[], true));
    for (piece, ended) in turns {
        buffer.extend_from_slice(piece);
        loop {
            match recognise(profile, &buffer, ended) {
                Recognition::NeedMore => break,
                Recognition::Skip { len, .. } => drop(buffer.drain(..len)),
                Recognition::Refused(error) => return Err(error.to_string()),
                Recognition::Found(found) => return Ok((found.sn, found.kind, buffer[found.len..].to_vec())),
            }
        }
    }
    Err("need more".into())
}

/// (profile, package as the DTU sends it, SN, kind)
fn field() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let hex = |text: &str| decode(text).unwrap();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("auto", text("12061204"), "12061204", "ascii"),
        ("auto", text("12061204\r\n"), "12061204", "ascii"),
        ("auto", text("12061204\n"), "12061204", "ascii"),
        ("auto", text("12061204\0"), "12061204", "ascii"),
        ("auto", text("12061204\0\0\0\0"), "12061204", "ascii"),
        ("auto", text("\r\n12061204\r\n"), "12061204", "ascii"),
        ("auto", text("USR-G771.n_5"), "USR-G771.n_5", "ascii"),
        ("auto", text("LOGIN:1001"), "1001", "login"),
        ("auto", text("SN=TH-0042\r\n"), "TH-0042", "login"),
        ("auto", text("ID:7"), "7", "login"),
        ("auto", text("REG: 20260001"), "20260001", "login"),
        ("auto", text("SN:1\r\n"), "1", "login"),
        ("auto", text("867726033322114"), "867726033322114", "imei"),
        ("auto", text("IMEI:867726033322114\r\n"), "867726033322114", "imei"),
        ("auto", text("89860012345678901234"), "89860012345678901234", "iccid"),
        ("auto", text("8986001234567890123"), "8986001234567890123", "iccid"),
        ("auto", text("D4:AD:20:0a:02:03"), "D4AD200A0203", "mac"),
        ("auto", hex("D4AD200A0203"), "D4AD200A0203", "mac"),
        ("auto", hex("3448D15F9F01"), "3448D15F9F01", "mac"),
        ("auto", hex("0102030405060708"), "0102030405060708", "hex"),
        ("auto", hex("AA0131333931323334353637380D"), "13912345678", "inhand"),
        (
            "auto",
            hex("7B01001631333430333135343332390A1BBE2D0FA07B"),
            "13403154329",
            "ddp",
        ),
        (
            "auto",
            hex("78563412313330363636363838383800C0A8014200"),
            "13066668888",
            "prot",
        ),
        ("auto", text(r#"{"sn":"A-1"}"#), "A-1", "json"),
        (
            "auto",
            text("{ \"ver\": 2, \"DeviceId\": 77, \"x\": {\"sn\": \"no\"} }\r\n"),
            "77",
            "json",
        ),
        ("ascii", text("LOGIN:1001"), "LOGIN:1001", "ascii"),
        ("login", text("LOGIN:1001\r\n"), "1001", "login"),
        ("imei", text("867726033322114"), "867726033322114", "imei"),
        ("iccid", text("89860012345678901234"), "89860012345678901234", "iccid"),
        ("mac", hex("3132333435F6"), "3132333435F6", "mac"),
        ("mac", text("d4ad200a0203"), "D4AD200A0203", "mac"),
        ("mac", text("MAC=D4-AD-20-0A-02-03\r\n"), "D4AD200A0203", "mac"),
        ("hex", hex("31303031"), "31303031", "hex"),
        ("hex+len=4", hex("31303031"), "31303031", "hex"),
        ("ascii+len=4", text("1001"), "1001", "ascii"),
        ("inhand", hex("AA0131333931323334353637380D"), "13912345678", "inhand"),
        (
            "ddp",
            hex("7B01001631333430333135343332390A1BBE2D0FA07B"),
            "13403154329",
            "ddp",
        ),
        (
            "prot",
            hex("78563412313330363636363838383800C0A8014200"),
            "13066668888",
            "prot",
        ),
        (
            "prot",
            hex("31323334313330363636363838383800C0A8014200"),
            "13066668888",
            "prot",
        ),
        (
            r"custom:@DTU:{skip:4}:{sn:hexdigit,4-16}\r\n",
            text("@DTU:0000:00ff12\r\n"),
            "00ff12",
            "custom",
        ),
        (
            r"custom:\xFA\x07\x13\x02\xFA\x02{hex:6}\xFA\xFF",
            hex("FA071302FA02 D4AD200A0203 FAFF"),
            "D4AD200A0203",
            "custom",
        ),
    ]
}

#[test]
fn every_registration_in_every_split() {
    for (name, package, sn, kind) in field() {
        let profile = profile(name);
        for first in 0..package.len() {
            for second in first..package.len() {
                let pieces = [&package[..first], &package[first..second], &package[second..]];
                let (got, got_kind, rest) =
                    feed(&profile, &pieces).unwrap_or_else(|error| panic!("{name} {sn} at {first}/{second}: {error}"));
                assert_eq!(
                    (got.as_str(), got_kind.name()),
                    (sn, kind),
                    "{name} at {first}/{second}"
                );
                assert!(rest.is_empty(), "{name} {sn} at {first}/{second}: {rest:02X?} left");
            }
        }
    }
}

#[test]
fn a_split_registration_is_never_a_shorter_sn_before_it_has_ended() {
    for (name, package, sn, _) in field() {
        let profile = profile(name);
        for cut in 0..package.len() {
            if let Recognition::Found(found) = recognise(&profile, &package[..cut], false) {
                assert_eq!(found.sn, sn, "{name} after {cut} bytes");
            }
        }
    }
}

#[test]
fn glued_to_a_heartbeat_or_to_data_it_is_the_same() {
    let reply = decode(REPLY).unwrap();
    let mut framed = Vec::new();
    for unit in [1u8, 10, 13, 49, 97, 247] {
        let mut frame = vec![unit, 3, 2, 0x12, 0x34];
        frame.extend(crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&frame).to_le_bytes());
        framed.push(frame);
    }
    framed.push(decode("68AAAAAAAAAAAA681300DF16").unwrap());
    framed.push(decode("6831323334353668130018 16").unwrap());
    framed.extend([reply, b"www.usr.cn".to_vec(), vec![0xFF, 0xFF, 0x80, 0x80]]);
    for (name, package, sn, _) in field().into_iter().filter(|row| !row.0.starts_with("ascii+len")) {
        for tail in &framed {
            let wire = [package.as_slice(), tail].concat();
            let (got, _, rest) =
                feed(&profile(name), &[&wire]).unwrap_or_else(|e| panic!("{name} {sn} + {tail:02X?}: {e}"));
            assert_eq!((got.as_str(), rest.as_slice()), (sn, tail.as_slice()), "{name}");
        }
    }
}

#[test]
fn heartbeats_in_front_are_dropped() {
    for heartbeat in [b"www.usr.cn".as_slice(), &[0xFF, 0xFF, 0x80, 0x80]] {
        for (name, package, sn, _) in field() {
            let (got, ..) = feed(&profile(name), &[heartbeat, &package]).unwrap_or_else(|e| panic!("{name} {sn}: {e}"));
            assert_eq!(got, sn, "{name}");
        }
    }
    // FE and LOG are heartbeats in front of what cannot begin with them
    assert_eq!(feed(&profile("auto"), &[b"\xFE12061204"]).unwrap().0, "12061204");
    assert_eq!(feed(&profile("auto"), &[b"LOGLOGIN:1001"]).unwrap().0, "1001");
    assert_eq!(feed(&profile("auto"), &[b"LOG12061204"]).unwrap().0, "LOG12061204");
    assert_eq!(
        feed(&profile("ascii+heartbeat=4C4F47"), &[b"LOG12061204LOG"])
            .unwrap()
            .0,
        "12061204"
    );
    assert_eq!(
        feed(&profile("login+heartbeat=4C4F47"), &[b"LOGIN:1001"]).unwrap().0,
        "1001"
    );
}

#[test]
fn heartbeats_and_line_data_alone_are_no_registration() {
    for bytes in [
        b"LOG".to_vec(),
        b"www.usr.cn".to_vec(),
        b"7777772E7573722E636E".to_vec(),
        vec![0xFE],
        vec![0xFE; 6],
        vec![0],
        vec![0xFF, 0xFF, 0x80, 0x80],
        decode(REPLY).unwrap(),
        decode("FEFEFEFE68AAAAAAAAAAAA681300DF16").unwrap(),
        // a master's frame names nobody
        decode("6832003200680B0002341200006100000100B516").unwrap(),
    ] {
        assert_eq!(
            feed(&profile("auto"), &[&bytes]),
            Err("need more".into()),
            "{bytes:02X?}"
        );
    }
}

#[test]
fn hostile_bytes_are_refused_with_a_reason() {
    let long = vec![b'A'; 10_000];
    let objects = br#"{"sn":"#.repeat(200);
    for (bytes, says) in [
        (long.as_slice(), "registration of 10000 bytes or more, at most 128"),
        (b"<script>alert(1)</script>", "byte 0x3c at position 0"),
        (b"=cmd|' /C calc'!A0", "byte 0x3d at position 0"),
        (b"SN==cmd", "byte 0x3d at position 0"),
        (b"1206 1204", "byte 0x20 at position 4"),
        (b"12061204\r\nX-Admin: 1", "text goes on"),
        (b"AB12\0CD34", "text goes on"),
        (b"SN:\r\n", "is empty"),
        (b"GET / HTTP/1.1\r\n", "http client"),
        (b"SSH-2.0-OpenSSH_9", "ssh client"),
        (&[0x16, 3, 1, 2, 0, 1], "tls client"),
        (b"{\"sn\":\"<b>\"}", "byte 0x3c"),
        (b"{\"x\":1}", "no key sn"),
        (b"{\"sn\":[1]}", "neither text nor"),
        (b"{\"sn\":1", "need more"),
        (objects.as_slice(), "at most 512"),
        (&[0x80; 200], "at most 40"),
    ] {
        let error = feed(&profile("auto"), &[bytes]).unwrap_err();
        assert!(error.contains(says), "{:?}: {error}", bytes.escape_ascii().to_string());
    }
    assert!(
        feed(&profile("ascii"), &[&[b'A'; 81]])
            .unwrap_err()
            .contains("has 81 characters")
    );
    assert!(
        feed(&profile("imei"), &[b"8677260333221144"])
            .unwrap_err()
            .contains("imei of 15 digits")
    );
    assert!(
        feed(&profile("login"), &[b"12061204"])
            .unwrap_err()
            .contains("a keyword such as")
    );
    assert!(feed(&profile("inhand"), &[b"12061204"]).unwrap_err().contains("aa 01"));
    assert!(
        feed(&profile("custom:ID{sn:digit,4-4}"), &[b"XX1234"])
            .unwrap_err()
            .contains("pattern")
    );
    let bad_end = decode("7B0100163133393030303030303030AC186A0213897C").unwrap();
    assert!(
        feed(&profile("auto"), &[&bad_end])
            .unwrap_err()
            .contains("ends with 7c instead of 7b")
    );
}

#[test]
fn the_imei_check_digit_is_noted() {
    let kind = |imei: &[u8]| feed(&profile("imei"), &[imei]).unwrap().1;
    assert_eq!(kind(b"490154203237518"), RegistrationKind::Imei { luhn_ok: true });
    assert_eq!(kind(b"490154203237519"), RegistrationKind::Imei { luhn_ok: false });
}

/// The shared vectors, with their meaning.
#[test]
fn vectors() {
    let mut seen = 0;
    for line in include_str!("../../../../tests/frames/dtu.jsonl").lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (frame, meaning) = (decode(row["frame_hex"].as_str().unwrap()).unwrap(), &row["meaning"]);
        let got = feed(&profile("auto"), &[&frame]);
        match (meaning["op"].as_str(), meaning["error"].as_str()) {
            (_, Some("bad_end_byte")) => assert!(got.unwrap_err().contains("instead of 7b"), "{line}"),
            (Some("heartbeat"), _) => {
                assert_eq!(got, Err("need more".into()), "{line}");
                assert!(super::super::heartbeat::is_shipped(&frame), "{line}");
            }
            (Some("register"), _) => {
                let sn = meaning["id"].as_str().or(meaning["ascii"].as_str()).unwrap();
                assert_eq!(got.unwrap().0, sn, "{line}");
            }
            (Some("register_ack"), _) => {
                let (packet, _) = super::super::ddp::parse(&frame).unwrap().unwrap();
                assert_eq!(packet.id.trimmed(), meaning["id"].as_str().unwrap().as_bytes());
                assert_eq!(super::super::ddp::register_ack(packet.id), frame);
            }
            other => panic!("a vector that nobody checks: {other:?} {line}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

proptest! {
    /// Whatever comes: no panic, an SN only within the grammar and never longer than its package, progress with each skip.
    #[test]
    fn anything_is_judged(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x20u8..0x7F, Just(0x7B), Just(0), Just(0xFE), Just(0x68)], 0..300),
        row in any::<prop::sample::Index>(),
        ended in any::<bool>(),
    ) {
        let names: Vec<&str> = field().iter().map(|row| row.0).collect();
        let profile = profile(names[row.index(names.len())]);
        match recognise(&profile, &bytes, ended) {
            Recognition::Found(found) => {
                prop_assert!(found.len <= bytes.len());
                prop_assert_eq!(crate::protocol::dtu::sn::check(found.sn.as_bytes()), Ok(found.sn.clone()));
            }
            Recognition::Skip { len, .. } => prop_assert!(len > 0 && len <= bytes.len()),
            Recognition::NeedMore | Recognition::Refused(_) => {}
        }
    }
}

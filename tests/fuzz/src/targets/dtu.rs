//! DTUs: registrations in any piece, profiles and patterns as an operator may write them, framings, heartbeats.

use crate::base::hex;
use crate::input::{Input, piece};
use crate::protocol::dtu::heartbeat::ALTERNATIVES_MAX;
use crate::protocol::dtu::pattern::{PATTERN_BYTES_MAX, Pattern, PatternMatch};
use crate::protocol::dtu::profile::PACKAGE_LEN_MAX;
use crate::protocol::dtu::recogniser::UNREGISTERED_LEN_MAX;
use crate::protocol::dtu::{
    Framing, FramingDecoder, FramingItem, PROFILES, Profile, Recognition, ddp, lineframe, prot, recognise, sn,
    strip_candidates,
};
use crate::protocol::gdw376::FRAME_MAX;
use crate::seeds::{Seeds, frames};

/// What a connection's first bytes came to.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Sn(String),
    Refused,
    Nothing,
}

/// Feeds pieces, then the quiet that ends a package.
fn register<'a>(profile: &Profile, pieces: impl Iterator<Item = &'a [u8]>) -> Said {
    let mut buffer = Vec::new();
    let turns = pieces.map(|piece| (piece, false)).chain([(&[][..], true)]);
    for (piece, ended) in turns {
        buffer.extend_from_slice(piece);
        loop {
            match recognise(profile, &buffer, ended) {
                Recognition::NeedMore => {
                    assert!(buffer.len() <= UNREGISTERED_LEN_MAX, "{} bytes are kept", buffer.len());
                    break;
                }
                Recognition::Skip { len, .. } => {
                    assert!(
                        (1..=buffer.len()).contains(&len),
                        "{len} bytes of {} are skipped",
                        buffer.len()
                    );
                    buffer.drain(..len);
                }
                Recognition::Refused(error) => {
                    assert!(!error.to_string().is_empty());
                    return Said::Refused;
                }
                Recognition::Found(found) => {
                    // a DDP packet of data and a concentrator's report tell who it is and stay, as data
                    let stays = matches!(
                        found.decoder.framing(),
                        Framing::HongdianDdp | Framing::Gdw376 | Framing::Dlt698
                    );
                    let least = usize::from(!stays);
                    assert!(
                        (least..=buffer.len()).contains(&found.len),
                        "a package of {} bytes",
                        found.len
                    );
                    assert_eq!(
                        sn::check(found.sn.as_bytes()).as_ref(),
                        Ok(&found.sn),
                        "an sn against the grammar"
                    );
                    assert!(found.answer.is_none_or(|answer| answer.len() <= ddp::PACKET_LEN_MAX));
                    return Said::Sn(found.sn);
                }
            }
        }
    }
    Said::Nothing
}

fn registration(input: &mut Input<'_>) {
    let profile = match input.byte() {
        0 => std::str::from_utf8(input.piece())
            .ok()
            .and_then(|text| Profile::parse(text).ok()),
        index => PROFILES
            .get(usize::from(index - 1) % PROFILES.len())
            .and_then(|row| Profile::parse(row.name).ok()),
    };
    let Some(profile) = profile else { return };
    assert_eq!(
        Profile::parse(profile.as_str()).as_ref(),
        Ok(&profile),
        "a profile reads back as another"
    );
    assert!(
        profile
            .heartbeats
            .iter()
            .all(|bytes| (1..=PACKAGE_LEN_MAX).contains(&bytes.len()))
    );
    let size = usize::from(input.byte()).max(1);
    let bytes = input.all();
    let whole = register(&profile, std::iter::once(bytes));
    let split = register(&profile, bytes.chunks(size));
    if let (Said::Sn(whole), Said::Sn(split)) = (&whole, &split) {
        assert_eq!(whole, split, "in pieces of {size} bytes it is another dtu");
    }
}

/// Items with neighbours of one kind made one.
fn merged(items: impl Iterator<Item = FramingItem>) -> Vec<FramingItem> {
    let mut out: Vec<FramingItem> = Vec::new();
    for item in items {
        match (out.last_mut(), item) {
            (Some(FramingItem::Line(before)), FramingItem::Line(more))
            | (Some(FramingItem::Noise(before)), FramingItem::Noise(more)) => before.extend(more),
            (_, item) => out.push(item),
        }
    }
    out
}

fn decoder(choice: u8) -> FramingDecoder {
    match choice % 4 {
        0 => FramingDecoder::Transparent,
        3 => {
            let login = hex::decode("683200320068C903440400000271000001008816").expect("hex");
            match recognise(&Profile::default(), &login, false) {
                Recognition::Found(found) => found.decoder,
                other => panic!("{other:?}"),
            }
        }
        1 => {
            let packet = ddp::parse(&[&[0x7B, 1, 0, 16][..], b"13912345678", &[0x7B]].concat());
            let (packet, _) = packet.ok().flatten().expect("a register packet");
            FramingDecoder::Ddp {
                decoder: ddp::Decoder::default(),
                id: packet.id,
            }
        }
        _ => FramingDecoder::Prot(prot::Decoder::default()),
    }
}

fn framing(input: &mut Input<'_>) {
    let fresh = decoder(input.byte());
    let size = usize::from(input.byte()).max(1);
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 8192 {
        match (input.byte() % 3, &fresh) {
            (1, FramingDecoder::Ddp { id, .. }) => stream.extend(ddp::encode(input.byte(), *id, input.piece())),
            (1, FramingDecoder::Prot(_)) => stream.extend(prot::escape(input.piece())),
            _ => stream.extend_from_slice(input.piece()),
        }
    }
    let feed = |size: usize| {
        let mut decoder = fresh.clone();
        let items: Vec<FramingItem> = stream
            .chunks(size)
            .flat_map(|piece| {
                let items = decoder.feed(piece);
                let most = match decoder.framing() {
                    Framing::Gdw376 => FRAME_MAX,
                    _ => ddp::PACKET_LEN_MAX,
                };
                assert!(decoder.pending() < most, "{} bytes wait", decoder.pending());
                items
            })
            .collect();
        (merged(items.into_iter()), decoder.pending())
    };
    let whole = feed(stream.len().max(1));
    assert_eq!(whole, feed(1), "byte by byte it is something else");
    assert_eq!(whole, feed(size), "in pieces of {size} bytes it is something else");
    // what is wrapped for the DTU comes off again
    let payload = &stream[..stream.len().min(3000)];
    match &fresh {
        FramingDecoder::Transparent | FramingDecoder::Gdw376(_) | FramingDecoder::Dlt698(_) => {
            assert_eq!(fresh.wrap(payload), payload);
        }
        FramingDecoder::Prot(_) => {
            let items = merged(fresh.clone().feed(&fresh.wrap(payload)).into_iter());
            let line = (!payload.is_empty()).then(|| FramingItem::Line(payload.to_vec()));
            assert_eq!(items, line.into_iter().collect::<Vec<_>>());
        }
        FramingDecoder::Ddp { .. } => {
            let mut left = fresh.wrap(payload).into_owned();
            let mut got = Vec::new();
            while let Ok(Some((packet, len))) = ddp::parse(&left) {
                assert_eq!(packet.encode(), left[..len]);
                got.extend(packet.payload);
                left.drain(..len);
            }
            assert_eq!((got.as_slice(), left.len()), (payload, 0));
        }
    }
    assert!(fresh.framing() == Framing::Transparent || !fresh.framing().name().is_empty());
}

fn stripping(input: &mut Input<'_>) {
    let patterns: Vec<&[u8]> = (0..input.byte() % 4).map(|_| input.piece()).collect();
    let buffer = input.all();
    let all = strip_candidates(buffer, &patterns);
    assert!(
        (1..=ALTERNATIVES_MAX).contains(&all.len()),
        "{} alternatives",
        all.len()
    );
    assert_eq!(&*all[0].bytes, buffer, "the first is what came");
    for candidate in &all {
        let (mut at, mut left) = (0, Vec::new());
        for gap in &candidate.removed {
            assert!(
                at <= gap.start && gap.start < gap.end && gap.end <= buffer.len(),
                "{:?}",
                candidate.removed
            );
            left.extend_from_slice(&buffer[at..gap.start]);
            at = gap.end;
        }
        left.extend_from_slice(&buffer[at..]);
        assert_eq!(
            left, &*candidate.bytes,
            "what is left is not what came without what was removed"
        );
        for offset in 0..candidate.bytes.len() {
            let raw = candidate.raw_offset(offset + 1);
            assert!(
                raw <= buffer.len() && buffer[raw - 1] == candidate.bytes[offset],
                "byte {offset} stands elsewhere"
            );
        }
    }
    for (index, one) in all.iter().enumerate() {
        assert!(
            all[..index].iter().all(|other| other.bytes != one.bytes),
            "two alternatives are the same"
        );
    }
}

fn patterns(input: &mut Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.piece()) else {
        return;
    };
    let Ok(pattern) = Pattern::parse(text) else { return };
    assert!(pattern.len_max() <= PATTERN_BYTES_MAX);
    let bytes = input.all();
    if let PatternMatch::Whole { sn, len, .. } = pattern.match_front(bytes) {
        assert!(sn.start < sn.end && sn.end <= len && len <= bytes.len() && len <= pattern.len_max());
    }
}

fn packets(bytes: &[u8]) {
    if let Ok(Some((packet, len))) = ddp::parse(bytes) {
        assert_eq!(packet.encode(), bytes[..len], "a packet is written as another");
    }
    if let Some((register, len)) = prot::Register::parse(bytes) {
        assert!(len <= bytes.len() && prot::Register::is_prefix(&bytes[..len - 1]));
        assert_eq!(
            prot::Register::parse(&register.encode()),
            Some((register, prot::REGISTER_LEN))
        );
    }
    let _any = (
        lineframe::is_line_data(bytes),
        lineframe::is_head(bytes),
        lineframe::is_wake(bytes),
    );
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 6 {
        0 | 5 => registration(&mut input),
        1 => framing(&mut input),
        2 => stripping(&mut input),
        3 => patterns(&mut input),
        _ => packets(input.all()),
    }
}

pub(super) fn seeds(seeds: &mut Seeds) {
    let mut packages: Vec<Vec<u8>> = frames("dtu");
    let texts = [
        "LOGIN:1001\r\n",
        "SN=TH-0042",
        "IMEI:867726033322114\r\n",
        "89860012345678901234",
        "D4:AD:20:0a:02:03",
        "{\"sn\":\"A-1\"}",
        "\r\n12061204\r\n",
        "www.usr.cn12061204",
        "@DTU:0000:00ff12\r\n",
    ];
    packages.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    packages.extend(hex::decode("78563412313330363636363838383800C0A8014200"));
    for package in &packages {
        for profile in 0..PROFILES.len() {
            let profile = u8::try_from(profile + 1).unwrap_or_default();
            seeds.add(&[&[0, profile, 3], package]);
        }
        for framing in 0..3 {
            seeds.add(&[&[1, framing, 2, 0], &piece(package), &[1, 9], &piece(package)]);
        }
        seeds.add(&[&[4], package]);
        seeds.add(&[
            &[2, 2],
            &piece(b"LOG"),
            &piece(&[0xFE]),
            b"LOLOGG",
            package,
            b"LOG",
            &[0xFE],
        ]);
    }
    let custom = r"custom+every+gap=100+heartbeat=FE+answer=4F4B:@DTU:{skip:4}:{sn:hexdigit,4-16}\r\n";
    seeds.add(&[&[0, 0], &piece(custom.as_bytes()), &[2], b"@DTU:0000:00ff12\r\n"]);
    let pattern = r"\xFA\x07{skip:0-3}\x13\x02\xFA\x02{hex:6}\xFA\xFF";
    seeds.add(&[
        &[3],
        &piece(pattern.as_bytes()),
        &[0xFA, 7, 0x13, 2, 0xFA, 2, 1, 2, 3, 4, 5, 6, 0xFA, 0xFF],
    ]);
}

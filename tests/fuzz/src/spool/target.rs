//! The spool's bytes: segments with damage in them give back every whole record and nothing else; a record's body reads as
//! what it says or as a fault.

use super::codec::{decode_frame, decode_newest, decode_poll, encode_frame, encode_newest, encode_poll};
use super::record::{RECORD_HEADER, SEGMENT_HEADER, Scanner, SegmentHeader, Stamp, Step, put, read_one};
use crate::input::{Input, piece};
use crate::line::flipped;
use crate::port::disk::DiskFile;
use crate::seeds::Seeds;
use std::io;

const RECORDS_MAX: usize = 12;

/// A file in memory.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl DiskFile for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// A record that was written, or damage of some bytes.
enum Part {
    Record {
        at: u64,
        sequence: u64,
        tag: u64,
        body: Vec<u8>,
    },
    Damage,
}

fn file(input: &mut Input<'_>, stamp: Stamp) -> (Memory, Vec<Part>) {
    let mut bytes = Vec::new();
    let mut parts = Vec::new();
    let mut sequence = u64::from(input.byte());
    while !input.is_empty() && parts.len() < RECORDS_MAX {
        let at = bytes.len() as u64;
        let kind = input.byte();
        match kind % 4 {
            0 => {
                let damage = input.piece();
                if !damage.is_empty() {
                    bytes.extend_from_slice(damage);
                    parts.push(Part::Damage);
                }
            }
            1 => {
                bytes.resize(bytes.len() + 512 * usize::from(kind >> 4), 0);
                parts.push(Part::Damage);
            }
            // a record that was torn, and lost a bit: without that, what follows might make it whole again
            2 => {
                let mut record = Vec::new();
                put(&mut record, stamp, sequence, 0, input.piece());
                record.truncate(1 + usize::from(input.word()) % record.len());
                bytes.extend(flipped(&record, usize::from(input.word())));
                parts.push(Part::Damage);
            }
            _ => {
                let (tag, body) = (u64::from(kind), input.piece().to_vec());
                put(&mut bytes, stamp, sequence, tag, &body);
                parts.push(Part::Record {
                    at,
                    sequence,
                    tag,
                    body,
                });
                sequence += 1;
            }
        }
    }
    (Memory(bytes), parts)
}

fn scanned(input: &mut Input<'_>) {
    // a salt that follows from every byte: a checksum that the fuzzer saw and copied is none any more
    let all = input.clone().all();
    let salt = all.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let stamp = Stamp { salt, segment: 7 };
    let _salt = input.word();
    let (file, parts) = file(input, stamp);
    let end = file.0.len() as u64;
    let mut scanner = Scanner::new(&file, stamp, 0, end, None);
    let mut wanted = parts.iter().filter_map(|part| match part {
        Part::Record {
            at,
            sequence,
            tag,
            body,
        } => Some((*at, *sequence, *tag, body)),
        Part::Damage => None,
    });
    let mut reached = 0;
    loop {
        match scanner.step().expect("memory does not fail") {
            Step::Record { header, body, at } => {
                assert!(at >= reached);
                let found = (at, header.sequence, header.tag, &body);
                assert_eq!(
                    wanted.next(),
                    Some(found),
                    "a record that was not written, or one is lost before it"
                );
                let again = read_one(&file, stamp, at).expect("memory does not fail");
                assert_eq!(again, Some((header, body)));
                reached = at + header.span();
            }
            Step::Hole { from, to, .. } => {
                assert!(from == reached && from < to, "a hole of {from} to {to} at {reached}");
                reached = to;
            }
            Step::End { at, .. } => {
                assert_eq!(at, reached);
                break;
            }
        }
        assert_eq!(scanner.offset(), reached);
    }
    assert_eq!(wanted.next(), None, "a record is lost");
    // with another salt nothing of it is a record
    let other = Stamp {
        salt: !stamp.salt,
        ..stamp
    };
    let step = Scanner::new(&file, other, 0, end, None)
        .step()
        .expect("memory does not fail");
    assert!(
        matches!(step, Step::End { .. }),
        "a record of another segment: {step:?}"
    );
}

/// What reads, is written and reads the same again. By bytes: a value may be NaN.
fn bodies(kind: u8, body: &[u8]) {
    match kind % 3 {
        0 => {
            if let Ok(record) = decode_poll(body) {
                let wire = encode_poll(&record);
                let again = decode_poll(&wire).expect("it was written so");
                assert_eq!(encode_poll(&again), wire);
                assert_eq!(format!("{again:?}"), format!("{record:?}"));
            }
        }
        1 => {
            if let Ok(frame) = decode_frame(body) {
                let mut wire = Vec::new();
                encode_frame(frame.before, &frame.frame, &mut wire);
                assert_eq!(decode_frame(&wire).expect("it was written so"), frame);
            }
        }
        _ => {
            if let Ok(newest) = decode_newest(body) {
                let wire = encode_newest(&newest);
                assert_eq!(decode_newest(&wire).expect("it was written so"), newest);
            }
        }
    }
}

fn heads(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
}

/// Takes any bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => bodies(input.byte(), input.all()),
        3 => heads(input.all()),
        _ => scanned(&mut input),
    }
}

/// Records of each kind.
pub fn seeds(seeds: &mut Seeds) {
    seeds.add(&[
        &[1, 1, 2, 3, 3],
        &piece(&[7; 40]),
        &[0],
        &piece(&[0; 20]),
        &[3],
        &piece(&[8; 10]),
        &[2],
        &piece(&[1; 9]),
        &[9, 0],
    ]);
    seeds.add(&[&[1, 0, 0, 0, 7], &piece(&[]), &[0x31, 3], &piece(b"\xF5Pr\n")]);
    for body in samples() {
        seeds.list.push(body);
    }
    let header = SegmentHeader {
        stamp: Stamp { salt: 1, segment: 2 },
        first: 3,
        made_ms: 4,
    };
    seeds.add(&[&[3], &header.encode()]);
    assert!(SEGMENT_HEADER > RECORD_HEADER);
}

/// Bodies as the server writes them.
fn samples() -> Vec<Vec<u8>> {
    use crate::base::ids::{AccountId, FrameId, FrameRange, MeterId, PollId, ScheduleId};
    use crate::domain::quantity::Quantity;
    use crate::domain::reading::{Item, Measurand, Quality, Reading, Source, Value};
    use crate::domain::slot::{MissReason, SlotEnding, SlotState};
    use crate::port::ledger::PollRecord;
    use chrono::{TimeZone, Utc};
    use rust_decimal::Decimal;

    let at = Utc
        .with_ymd_and_hms(2026, 11, 21, 0, 15, 0)
        .single()
        .unwrap_or_default();
    let item = |measurand, value| Item {
        measurand,
        value,
        quality: Quality::Measured,
    };
    let items = vec![
        item(
            Measurand::Standard(Quantity::ActiveEnergyImport),
            Value::Decimal(Decimal::new(123_456, 2)),
        ),
        item(Measurand::Standard(Quantity::VoltageL1), Value::F32(230.5)),
        item(Measurand::Vendor("thing".into()), Value::F64(1.5)),
    ];
    let ending = SlotEnding {
        account: AccountId(1),
        meter: MeterId(2),
        schedule: ScheduleId(3),
        due_at: at,
        state: SlotState::Missing,
        reason: Some(MissReason::Timeout),
        detail: None,
        attempts: 2,
        ended_at: at,
    };
    let reading = Reading {
        account: AccountId(1),
        meter: MeterId(2),
        ts: at,
        source: Source::Scheduled,
        read_at: at,
        meter_time: Some(at),
        poll: PollId(4),
        frames: FrameRange {
            first: FrameId(5),
            count: 2,
        },
        items,
    };
    let record = PollRecord {
        reading: Some(reading),
        endings: vec![ending],
        evidence: Vec::new(),
    };
    vec![[&[0, 0][..], &encode_poll(&record)].concat()]
}

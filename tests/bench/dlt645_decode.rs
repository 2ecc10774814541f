//! What decoding a DL/T 645 answer costs, against a bare loop over its bytes that sums them up.
//!
//! `cargo bench --bench dlt645_decode`: an energy answer of 24 bytes (four preambles, 0001 0000) is proven, opened, held
//! against its question and made a decimal; the same bytes are summed up. Both many times in turns, the best of each
//! counts; the ratio must be at most 20. Finding the answer in a window of line bytes comes before that and is told, too.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench talks on standard output and stops at the first fault"
)]

use polyphase::protocol::dlt645::items::{Value, definition};
use polyphase::protocol::dlt645::{Address, Di, Reply, Request};
use polyphase::protocol::{Finding, Verdict};
use rust_decimal::Decimal;
use std::hint::black_box;
use std::time::{Duration, Instant};

const LIMIT: f64 = 20.0;
const ROUNDS: u32 = 40;
const EACH: u32 = 20_000;

fn main() {
    let frame = polyphase::base::hex::decode("FEFEFEFE6812907856341268910833333433896745335416").unwrap();
    assert_eq!(frame.len(), 24);
    let di = Di::E2007(0x0001_0000);
    let request = Request::read(Address::parse("123456789012").unwrap(), di);
    assert_eq!(decode(&request, di, &frame), Decimal::new(123_456, 2));
    let whole = Finding::Frame {
        span: 0..24,
        verdict: Verdict::Answer,
    };
    assert_eq!(request.find(&frame), whole);
    let (mut decoded, mut found, mut summed) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        decoded = decoded.min(time(|| {
            black_box(decode(black_box(&request), di, black_box(&frame)));
        }));
        found = found.min(time(|| {
            black_box(black_box(&request).find(black_box(&frame)));
        }));
        summed = summed.min(time(|| {
            black_box(sum(black_box(&frame)));
        }));
    }
    let nanoseconds = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(EACH);
    let ratio = decoded.as_secs_f64() / summed.as_secs_f64();
    println!("| what | ns per frame |\n|---|---|");
    println!(
        "| decoded: proven, matched, made a decimal | {:.1} |",
        nanoseconds(decoded)
    );
    println!("| found in a window | {:.1} |", nanoseconds(found));
    println!("| summed up, 24 bytes | {:.1} |", nanoseconds(summed));
    println!("ratio {ratio:.1}, at most {LIMIT}");
    assert!(ratio <= LIMIT, "decoding takes {ratio:.1} times a bare sum");
}

fn time(mut run: impl FnMut()) -> Duration {
    let from = Instant::now();
    for _ in 0..EACH {
        run();
    }
    from.elapsed()
}

fn decode(request: &Request, di: Di, bytes: &[u8]) -> Decimal {
    let Ok(Reply::Data(data)) = request.reply(bytes) else {
        panic!("no data")
    };
    match definition(di, 0).map(|item| item.format.read(&data)) {
        Some(Ok(Value::Number(number))) => number,
        other => panic!("{other:?}"),
    }
}

// not inlined, so that its length is not known to the compiler either
#[inline(never)]
fn sum(bytes: &[u8]) -> u8 {
    let mut sum = 0u8;
    for byte in bytes {
        sum = sum.wrapping_add(*byte);
    }
    sum
}

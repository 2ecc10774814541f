//! The way to a terminal on which anything may be lost, doubled, late, broken or refused.

use super::tests::{ENERGY, Heard, VOLTAGE, get, honest, job, meter, play, register, start, station, terminal};
use super::*;
use crate::protocol::dlt698::terminal::Device;
use crate::protocol::dlt698::{self, Control, Frame, Next, Tsa, next};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Frames that may come late.
const LATE_MAX: usize = 60;

/// Parts behind the first do not say which question they answer: one that is said again while another answer is joined would
/// be taken for that answer's own.
#[test]
fn a_part_said_again_is_not_joined_into_another_answer() {
    let now = start();
    let settings = ProxySettings {
        meters_max: 1,
        ..ProxySettings::default()
    };
    let mut proxy = Proxy::new(settings, terminal());
    let ask = |number| get(meter(number), &[ENERGY, VOLTAGE]);
    let tickets = [1, 2].map(|number| {
        let job = job(now, number, vec![ask(number)], Priority::OnDemand);
        proxy.submit(now, job).unwrap()
    });
    // the address goes into the first part, the values behind it
    let (mut device, mut table, mut heard) = (Device::new(terminal(), 20), station([1, 2]), Heard::default());
    let mut honest = honest(&mut device, &mut table);
    let mut answers: Vec<Vec<Vec<u8>>> = Vec::new();
    play(&mut proxy, now, &mut heard, |wire| {
        let right = honest(wire);
        let Next::Frame { frame, .. } = next(wire) else {
            panic!()
        };
        if !frame.control.is_segmented() {
            answers.push(Vec::new());
        }
        answers.last_mut().unwrap().extend(right.iter().cloned());
        // the first meter's second part, in front of the second meter's
        match answers.as_slice() {
            [_association, first, second] if second.len() == 2 => [first[1].clone()].into_iter().chain(right).collect(),
            _ => right,
        }
    });
    assert!(answers.len() > 3, "the second meter is asked again");
    for (number, ticket) in [1, 2].iter().zip(&tickets) {
        let bytes = heard.done[ticket].reports[0].result.clone().unwrap();
        assert_eq!(register(&ask(*number), &bytes), Some(*number));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is lost, late, broken, refused or said again: each visit ends once, with its own value or with none.
    #[test]
    fn each_visit_ends_once_with_its_own_value_or_none(
        meters in prop::collection::btree_set(1u32..60, 1..30),
        absent in prop::collection::btree_set(1u32..60, 0..8),
        fates in prop::collection::vec(0u8..12, 1..40),
        size in prop::sample::select(vec![48usize, 200, 1024]),
        most in 1usize..20,
        poison in prop::option::of(1u32..60),
    ) {
        let now = start();
        let settings = ProxySettings { meters_max: most, ..ProxySettings::default() };
        let mut proxy = Proxy::new(settings, terminal());
        let mut asked = BTreeMap::new();
        for number in &meters {
            let request = get(meter(*number), &[ENERGY, VOLTAGE]);
            let ticket = proxy.submit(now, job(now, *number, vec![request.clone()], Priority::Scheduled)).unwrap();
            asked.insert(ticket, (*number, request));
        }
        let there: BTreeSet<u32> = meters.difference(&absent).copied().collect();
        let mut table = station(there.iter().copied());
        let mut device = Device::new(terminal(), size);
        let mut heard = Heard::default();
        let mut place = 0;
        let (mut before, mut held_up): (Vec<Vec<u8>>, Vec<Vec<u8>>) = Default::default();
        play(&mut proxy, now, &mut heard, |wire| {
            let Next::Frame { frame, .. } = next(wire) else { panic!() };
            let poisoned = poison.is_some_and(|number| {
                let tsa = Tsa::of(&meter(number));
                wire.windows(tsa.bytes().len()).any(|bytes| bytes == tsa.bytes())
            });
            let right = if poisoned && !frame.control.is_segmented() {
                // one meter that spoils every question that it stands in
                let number = Apdu::parse(frame.data()).ok().and_then(|apdu| apdu.piid()).unwrap();
                let error = dlt698::terminal::unreadable(number).wire();
                Some(Frame::new(Control::ANSWER, terminal(), 1, error).unwrap())
            } else {
                device.hear(&frame, &mut table)
            };
            let right = right.map(|frame| frame.wire());
            place += 1;
            let fate = fates[place % fates.len()];
            let (mut said, broken): (Vec<Vec<u8>>, bool) = (Vec::new(), fate == 3);
            match fate {
                // lost; held up, and in front of what is said next: nothing overtakes on a stream
                0 => {}
                4 => held_up.extend(right),
                _ => {
                    let mut fresh = std::mem::take(&mut held_up);
                    fresh.extend(right.clone());
                    if fate == 1 {
                        fresh.extend(right);
                    }
                    // what came before comes once more
                    if fate == 2 {
                        said.append(&mut before);
                    }
                    said.extend(fresh.iter().cloned());
                    if broken && let (Some(bytes), Some(_)) = (said.last_mut(), fresh.pop()) {
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 0x10;
                    }
                    before.extend(fresh);
                }
            }
            // numbers come round after sixty-four questions: what is older than that cannot be told from what is new
            before.drain(..before.len().saturating_sub(LATE_MAX));
            held_up.drain(..held_up.len().saturating_sub(LATE_MAX));
            said
        });
        prop_assert_eq!(heard.done.len(), meters.len());
        for (ticket, (number, request)) in &asked {
            let reports = &heard.done[ticket].reports;
            prop_assert_eq!(reports.len(), 1);
            match &reports[0].result {
                Ok(bytes) => {
                    prop_assert_eq!(register(request, bytes), Some(*number));
                    prop_assert!(there.contains(number) && poison != Some(*number));
                }
                Err(TransactionError::Refused(code)) => prop_assert!(*code == 0xF1 && poison == Some(*number)),
                Err(error) => prop_assert!(
                    matches!(error, TransactionError::Timeout | TransactionError::Deadline),
                    "{:?}", error
                ),
            }
        }
        // with nothing lost and nobody spoiling, everybody who is there was read
        if poison.is_none() && fates.iter().all(|fate| *fate > 4) {
            for (ticket, (number, _)) in &asked {
                prop_assert_eq!(heard.done[ticket].reports[0].result.is_ok(), there.contains(number));
            }
        }
    }
}

//! The fewest reads for some points: blocks where the meter answers them, single identifiers for the rest.

use super::{ItemProfile, Point, block_items};
use crate::protocol::dlt645::{Address, Di, Request};

/// Reads that bring every chosen point, in the order of the file. A block is asked for where it brings two points or more;
/// of several the one that brings most.
pub(in crate::device) fn plan(
    profile: &ItemProfile,
    address: Address,
    chosen: impl Fn(&Point) -> bool,
) -> Vec<Request> {
    let mut wanted: Vec<Di> = Vec::new();
    for point in profile.points.iter().filter(|point| chosen(point)) {
        if !wanted.contains(&point.di) {
            wanted.push(point.di);
        }
    }
    let order: Vec<Di> = wanted.clone();
    let place = |di: &Di| order.iter().position(|other| other == di).unwrap_or(usize::MAX);
    let mut reads: Vec<(usize, Di)> = Vec::new();
    loop {
        let brings = |block: &Di| block_items(*block).filter(|di| wanted.contains(di)).count();
        let mut best: Option<(usize, Di)> = None;
        for block in &profile.blocks {
            let count = brings(block);
            if count >= 2 && best.is_none_or(|(most, _)| count > most) {
                best = Some((count, *block));
            }
        }
        let Some((_, block)) = best else { break };
        let first = block_items(block)
            .filter(|di| wanted.contains(di))
            .map(|di| place(&di))
            .min();
        reads.push((first.unwrap_or(usize::MAX), block));
        let brought: Vec<Di> = block_items(block).collect();
        wanted.retain(|di| !brought.contains(di));
    }
    reads.extend(wanted.iter().map(|di| (place(di), *di)));
    reads.sort_unstable_by_key(|(place, _)| *place);
    reads.into_iter().map(|(_, di)| read(profile, address, di)).collect()
}

/// The single reads that stand for a block which the meter refuses; nothing for what is no block.
pub(in crate::device) fn instead(profile: &ItemProfile, request: &Request) -> Vec<Request> {
    let Some(block) = request.di().filter(|di| profile.blocks.contains(di)) else {
        return Vec::new();
    };
    let items = block_items(block).filter(|di| profile.points.iter().any(|point| point.di == *di && point.poll));
    items.map(|di| read(profile, request.address(), di)).collect()
}

/// The reads that bring the meter's clock.
pub(in crate::device) fn clock(profile: &ItemProfile, address: Address) -> Vec<Request> {
    profile.clock.iter().map(|di| read(profile, address, *di)).collect()
}

pub(super) fn read(profile: &ItemProfile, address: Address, di: Di) -> Request {
    Request::read(address, di).with_preambles(profile.preambles)
}

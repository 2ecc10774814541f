//! The fewest reads for some points.

use super::{Limits, Point, RegisterProfile};
use crate::device::plan::PlanError;
use crate::protocol::modbus::{Function, Request};

/// Registers (or bits) `first..=last` of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    function: Function,
    first: u16,
    last: u16,
}

impl Span {
    fn of(point: &Point) -> Self {
        Self {
            function: point.function,
            first: point.address,
            last: point.last(),
        }
    }

    fn count(self) -> u16 {
        self.last - self.first + 1
    }
}

/// Reads that bring every chosen point whole, in ascending order of function and address. Greedy from the left, which
/// is optimal: points do not overlap, and what may not be crossed splits them into independent runs.
pub(in crate::device) fn plan(
    profile: &RegisterProfile,
    unit: u8,
    chosen: impl Fn(&Point) -> bool,
) -> Result<Vec<Request>, PlanError> {
    let mut wanted: Vec<Span> = profile.points.iter().filter(|p| chosen(p)).map(Span::of).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut known: Vec<Span> = profile.points.iter().map(Span::of).collect();
    known.sort_unstable();
    let mut blocks: Vec<Span> = Vec::new();
    for span in wanted {
        if let Some(block) = blocks.last_mut() {
            let joined = Span {
                last: span.last.max(block.last),
                ..*block
            };
            let max = if span.function.is_bits() {
                profile.limits.max_bits
            } else {
                profile.limits.max_registers
            };
            if span.function == block.function
                && joined.last - joined.first < max
                && crossable(&profile.limits, &known, *block, span)
            {
                *block = joined;
                continue;
            }
        }
        blocks.push(span);
    }
    blocks
        .into_iter()
        .map(|block| {
            Request::read(unit, block.function, block.first, block.count())
                .map_err(|error| PlanError::Request(error.to_string()))
        })
        .collect()
}

/// Whether a read may run from `left` on into `right`.
fn crossable(limits: &Limits, known: &[Span], left: Span, right: Span) -> bool {
    let function = left.function;
    let forbidden = limits
        .forbidden
        .iter()
        .any(|range| range.function == function && range.first <= right.last && range.last >= left.first);
    if forbidden {
        return false;
    }
    let mut end = left.last;
    for span in known.iter().filter(|span| span.function == function) {
        if span.last <= end {
            continue;
        }
        if span.first > right.first {
            break;
        }
        if span.first.saturating_sub(end).saturating_sub(1) > limits.max_gap {
            return false;
        }
        end = span.last;
    }
    true
}

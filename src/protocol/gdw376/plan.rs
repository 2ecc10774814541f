//! Reading many points and items with the fewest questions.

use super::Address;
use super::afn::Afn;
use super::items::{Edition, Way, layout};
use super::layout::Stamp;
use super::point::{Id, Pn, UnitId};
use super::request::{Ask, Request, RequestError};
use std::collections::BTreeMap;

/// What an item whose layout is not known is taken to have.
const UNKNOWN_LEN: usize = 64;
/// Bytes of an identifier.
const ID_LEN: usize = 4;

/// How much may be asked in one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of data units that an answer may hold, all its frames together. A terminal splits what does not
    /// fit into its own frames.
    pub answer_max: usize,
    /// The tariffs that an answer is taken to have.
    pub rates: u8,
    /// The edition that the terminal speaks.
    pub edition: Edition,
}

impl Default for Limits {
    /// Half a second of a 2G network: 4 KiB, four tariffs, 2013.
    fn default() -> Self {
        Self {
            answer_max: 4096,
            rates: 4,
            edition: Edition::E2013,
        }
    }
}

/// The questions that ask for all of this and nothing else, in as few frames as the limits allow. Points and items of one
/// group share an identifier; what is of one point stays together where it can.
///
/// # Errors
/// [`RequestError`], as for a single question.
pub fn questions(
    address: Address,
    afn: Afn,
    asks: impl IntoIterator<Item = Ask>,
    limits: Limits,
) -> Result<Vec<Request>, RequestError> {
    let mut wanted: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
    for Ask { id, data } in asks {
        if wanted.insert(id, data.clone()).is_some_and(|before| before != data) {
            return Err(RequestError::Twice(id));
        }
    }
    // in the order in which identifiers can be shared
    let covering = UnitId::covering(wanted.keys().copied());
    let mut questions = Vec::new();
    let (mut batch, mut size) = (Vec::new(), 0);
    for unit in covering {
        let mut opened = false;
        for id in unit.ids() {
            let data = wanted.remove(&id).unwrap_or_default();
            let head = if opened { 0 } else { ID_LEN };
            let more = answer_len(afn, id, &data, limits);
            if !batch.is_empty() && size + head + more > limits.answer_max {
                questions.push(Request::new(address, afn, std::mem::take(&mut batch))?);
                size = 0;
            }
            size += more + if size == 0 { ID_LEN } else { head };
            opened = true;
            batch.push(Ask { id, data });
        }
    }
    if !batch.is_empty() {
        questions.push(Request::new(address, afn, batch)?);
    }
    Ok(questions)
}

/// How many bytes the answer for one item is taken to have.
fn answer_len(afn: Afn, id: Id, data: &[u8], limits: Limits) -> usize {
    let Some(layout) = layout(afn, id.item, Way::Up, limits.edition) else {
        return UNKNOWN_LEN;
    };
    let points = match layout.stamp {
        Stamp::Curve => data.last().copied().unwrap_or_default(),
        _ => 0,
    };
    let one = match layout.parts {
        Some(_) => layout.size(limits.rates, points),
        None => UNKNOWN_LEN,
    };
    // nobody knows how many points there are: the terminal splits its answer
    if id.pn == Pn::ALL { one * 8 } else { one }
}

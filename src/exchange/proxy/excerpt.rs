//! What a terminal's answer says to one meter's own question, written as that meter's answer to it.

use crate::exchange::job::TransactionError;
use crate::protocol::dlt698::{
    Address, Answered, Apdu, CLIENT, Control, Dar, Frame, GetBody, GetRecord, GetResult, ItemResult, Many, Oad,
    ProxyResult, Request, Rows, SetBody, SetResult, TargetResult, Tsa, ValueResult, split,
};

/// The most of an answer in one of its frames.
const FRAME_DATA: usize = 8192;

/// The request to the meter timed out (DL/T 698.45-2017, 7.3.1.41).
const SILENT: Dar = Dar(33);

/// What a question that only reads asks; none for any other.
pub(super) fn body_of(request: &Request) -> Option<&GetBody> {
    match request.apdu() {
        Some(Apdu::Get(asked)) => match &asked.body {
            GetBody::Normal(_) | GetBody::List(_) | GetBody::Record(_) => Some(&asked.body),
            _ => None,
        },
        _ => None,
    }
}

/// What a question sets of one attribute; none for any other question.
pub(super) fn set_of(request: &Request) -> Option<&SetBody> {
    match request.apdu() {
        Some(Apdu::Set(asked)) if matches!(asked.body, SetBody::Normal(_)) => Some(&asked.body),
        _ => None,
    }
}

pub(super) fn oads_of(request: &Request) -> Vec<Oad> {
    match body_of(request) {
        Some(GetBody::Normal(oad)) => vec![*oad],
        Some(GetBody::List(list)) => list.iter().copied().collect(),
        _ => Vec::new(),
    }
}

/// What a meter's own question would have been answered with, cut out of the terminal's answer. A meter that the terminal
/// did not reach has answered nothing.
pub(super) fn excerpt(terminal: Address, request: &Request, answer: &Apdu) -> Result<Vec<u8>, TransactionError> {
    if let (Apdu::SetAnswer(own), Some(_)) = (answer, set_of(request)) {
        return match &own.body {
            SetResult::Normal(done) if done.dar.is_success() => {
                let number = request.piid().ok_or(TransactionError::Unfit)?;
                let apdu = Apdu::SetAnswer(Answered::new(number, own.body.clone())).wire();
                framed(terminal, &apdu).ok_or(TransactionError::Unfit)
            }
            SetResult::Normal(done) => Err(TransactionError::Refused(done.dar.0)),
            _ => Err(TransactionError::Unfit),
        };
    }
    let result = match (answer, body_of(request)) {
        (Apdu::GetAnswer(own), Some(_)) if is_own(terminal, request) => own.body.clone(),
        (Apdu::ProxyAnswer(proxied), Some(body)) => match (&proxied.body, body) {
            (ProxyResult::Get(targets), GetBody::Normal(_) | GetBody::List(_)) => {
                items(targets, request, matches!(body, GetBody::Normal(_)))?
            }
            (ProxyResult::Record(result), GetBody::Record(GetRecord { .. })) => {
                if result.server != Tsa::of(&request.address()) {
                    return Err(TransactionError::Unfit);
                }
                if result.record.rows == Rows::Dar(SILENT) {
                    return Err(TransactionError::Timeout);
                }
                GetResult::Record(result.record.clone())
            }
            _ => return Err(TransactionError::Unfit),
        },
        _ => return Err(TransactionError::Unfit),
    };
    let refused = match &result {
        GetResult::Normal(ItemResult {
            result: ValueResult::Dar(dar),
            ..
        }) => Some(*dar),
        GetResult::Record(record) => match &record.rows {
            Rows::Dar(dar) => Some(*dar),
            Rows::Rows(_) => None,
        },
        _ => None,
    };
    if let Some(dar) = refused {
        return Err(TransactionError::Refused(dar.0));
    }
    let number = request.piid().ok_or(TransactionError::Unfit)?;
    let apdu = Apdu::GetAnswer(Answered::new(number, result)).wire();
    let device = match is_own(terminal, request) {
        true => terminal,
        false => request.address(),
    };
    framed(device, &apdu).ok_or(TransactionError::Unfit)
}

/// An answer as a device sends it: in one frame, or in as many parts as it takes.
fn framed(device: Address, apdu: &[u8]) -> Option<Vec<u8>> {
    let frame = |control, data| Some(Frame::new(control, device, CLIENT, data).ok()?.wire());
    if apdu.len() <= FRAME_DATA {
        return frame(Control::ANSWER, apdu.to_vec());
    }
    let parts = split(apdu, FRAME_DATA);
    let frames: Option<Vec<Vec<u8>>> = parts
        .iter()
        .map(|part| frame(Control::ANSWER.segmented(), part.wire()))
        .collect();
    Some(frames?.concat())
}

/// Whether a question is to the terminal itself: by its address, or to whoever is there.
pub(super) fn is_own(terminal: Address, request: &Request) -> bool {
    [terminal, Address::ANYONE].contains(&request.address())
}

/// The results of a meter's attributes, in the order of its question.
fn items(targets: &[TargetResult<ItemResult>], request: &Request, single: bool) -> Result<GetResult, TransactionError> {
    let server = Tsa::of(&request.address());
    let target = targets.iter().find(|target| target.server == server);
    let target = target.ok_or(TransactionError::Timeout)?;
    let of = |oad: Oad| target.items.iter().find(|item| item.oad == oad).cloned();
    let own: Option<Vec<ItemResult>> = oads_of(request).into_iter().map(of).collect();
    let own = own.ok_or(TransactionError::Unfit)?;
    if own.iter().all(|item| item.result == ValueResult::Dar(SILENT)) {
        return Err(TransactionError::Timeout);
    }
    let result = match (single, own.as_slice()) {
        (true, [one]) => Some(GetResult::Normal(one.clone())),
        _ => Many::new(own).map(GetResult::List),
    };
    result.ok_or(TransactionError::Unfit)
}

//! Whether an APDU answers a question: the service, the number, and every attribute and method asked for.

use super::answer::Refusal;
use super::apdu::Application;
use super::apdu::{
    ActionBody, ActionDone, ActionItem, ActionResult, ActionThenGet, ActionThenGot, Apdu, BlockContent, GetBody,
    GetRecord, GetResult, ItemResult, Md5Content, ProxyBody, ProxyResult, RecordResult, Rows, SecurityRequest, SetBody,
    SetDone, SetItem, SetResult, SetThenGet, SetThenGot, Target, TargetResult, TransparentContent, ValueResult,
};
use super::dar::Dar;
use super::values::Oad;

/// In which respect an APDU is not the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It answers another service.
    #[error("{found} does not answer {asked}")]
    Service {
        /// What we asked.
        asked: &'static str,
        /// What came.
        found: &'static str,
    },
    /// It answers another question.
    #[error("the answer is to question {found}, asked was {asked}")]
    Number {
        /// Of the question.
        asked: u8,
        /// Of the answer.
        found: u8,
    },
    /// It brings another attribute or method.
    #[error("the answer brings {found}, asked was {asked}")]
    Item {
        /// What we asked for.
        asked: String,
        /// What came.
        found: String,
    },
    /// It brings more or less.
    #[error("the answer brings {found} items, asked were {asked}")]
    Count {
        /// How many we asked for.
        asked: usize,
        /// How many came.
        found: usize,
    },
    /// It brings other columns.
    #[error("the answer's record {0} has other columns than those asked for")]
    Columns(Oad),
    /// It brings another block.
    #[error("block {found} of an answer, block {wanted} was next")]
    Block {
        /// Which was next.
        wanted: u16,
        /// Which came.
        found: u16,
    },
    /// It is of a device that was not asked, or of one twice.
    #[error("the answer is of meter {0}, which was not asked, or already answered")]
    Server(String),
}

/// What a question's item and its result have in common.
trait Answers<Q> {
    fn answers(&self, asked: &Q) -> Result<(), Mismatch>;
}

fn same<T: PartialEq + std::fmt::Display>(asked: &T, found: &T) -> Result<(), Mismatch> {
    match asked == found {
        true => Ok(()),
        false => Err(Mismatch::Item {
            asked: asked.to_string(),
            found: found.to_string(),
        }),
    }
}

impl Answers<Oad> for ItemResult {
    fn answers(&self, asked: &Oad) -> Result<(), Mismatch> {
        same(asked, &self.oad)
    }
}

impl Answers<GetRecord> for RecordResult {
    fn answers(&self, asked: &GetRecord) -> Result<(), Mismatch> {
        same(&asked.oad, &self.oad)?;
        // a refused record has the columns asked for, others, or none
        let refused = matches!(self.rows, Rows::Dar(_));
        match refused || asked.columns.is_empty() || asked.columns == self.columns {
            true => Ok(()),
            false => Err(Mismatch::Columns(self.oad)),
        }
    }
}

impl Answers<SetItem> for SetDone {
    fn answers(&self, asked: &SetItem) -> Result<(), Mismatch> {
        same(&asked.oad, &self.oad)
    }
}

impl Answers<SetThenGet> for SetThenGot {
    fn answers(&self, asked: &SetThenGet) -> Result<(), Mismatch> {
        same(&asked.oad, &self.oad)?;
        self.read.answers(&asked.read)
    }
}

impl Answers<ActionItem> for ActionDone {
    fn answers(&self, asked: &ActionItem) -> Result<(), Mismatch> {
        same(&asked.omd, &self.omd)
    }
}

impl Answers<ActionThenGet> for ActionThenGot {
    fn answers(&self, asked: &ActionThenGet) -> Result<(), Mismatch> {
        same(&asked.omd, &self.omd)?;
        self.read.answers(&asked.read)
    }
}

fn list<Q, A: Answers<Q>>(asked: &[Q], found: &[A]) -> Result<(), Mismatch> {
    if asked.len() != found.len() {
        return Err(Mismatch::Count {
            asked: asked.len(),
            found: found.len(),
        });
    }
    asked
        .iter()
        .zip(found)
        .try_for_each(|(asked, found)| found.answers(asked))
}

/// Every meter that answers was asked this, and once; those that are silent may be missing.
fn targets<Q, A: Answers<Q>>(asked: &[Target<Q>], found: &[TargetResult<A>]) -> Result<(), Mismatch> {
    for (index, result) in found.iter().enumerate() {
        let before = found.get(..index).unwrap_or_default();
        let again = before.iter().any(|other| other.server == result.server);
        let target = asked.iter().find(|target| target.server == result.server);
        match target {
            Some(target) if !again => list(&target.items, &result.items)?,
            _ => return Err(Mismatch::Server(result.server.to_string())),
        }
    }
    Ok(())
}

fn refused(dar: Dar) -> Option<Refusal> {
    (!dar.is_success()).then_some(Refusal::Dar(dar))
}

/// Whether `found` is the answer to `asked`; with what it refuses, where the whole is refused.
///
/// # Errors
/// [`Mismatch`] says in which respect it is not.
pub(super) fn answers(asked: &Apdu, found: &Apdu) -> Result<Option<Refusal>, Mismatch> {
    let service = || Mismatch::Service {
        asked: asked.name(),
        found: found.name(),
    };
    if let (Some(question), Some(answer)) = (asked.piid(), found.piid())
        && question.number() != answer.number()
    {
        return Err(Mismatch::Number {
            asked: question.number(),
            found: answer.number(),
        });
    }
    match (asked, found) {
        (Apdu::Security(_), Apdu::Error(error)) => Ok(Some(Refusal::Error(error.kind))),
        (_, Apdu::Error(error)) if asked.piid().is_some() => Ok(Some(Refusal::Error(error.kind))),
        (Apdu::ConnectRequest(_), Apdu::ConnectResponse(answer)) => {
            Ok((answer.result != 0).then_some(Refusal::Connect(answer.result)))
        }
        (Apdu::ReleaseRequest(_), Apdu::ReleaseResponse(_)) => Ok(None),
        (Apdu::Get(asked), Apdu::GetAnswer(found)) => get(&asked.body, &found.body, service),
        (Apdu::Set(asked), Apdu::SetAnswer(found)) => match (&asked.body, &found.body) {
            (SetBody::Normal(asked), SetResult::Normal(found)) => found.answers(asked).map(|()| refused(found.dar)),
            (SetBody::List(asked), SetResult::List(found)) => list(asked, found).map(|()| None),
            (SetBody::ThenGet(asked), SetResult::ThenGet(found)) => list(asked, found).map(|()| None),
            _ => Err(service()),
        },
        (Apdu::Action(asked), Apdu::ActionAnswer(found)) => match (&asked.body, &found.body) {
            (ActionBody::Normal(asked), ActionResult::Normal(found)) => {
                found.answers(asked).map(|()| refused(found.dar))
            }
            (ActionBody::List(asked), ActionResult::List(found)) => list(asked, found).map(|()| None),
            (ActionBody::ThenGet(asked), ActionResult::ThenGet(found)) => list(asked, found).map(|()| None),
            _ => Err(service()),
        },
        (Apdu::Proxy(asked), Apdu::ProxyAnswer(found)) => proxy(&asked.body, &found.body, service),
        (Apdu::Security(question), Apdu::SecurityAnswer(answer)) => match &answer.application {
            Application::Dar(dar) => Ok(Some(Refusal::Dar(*dar))),
            Application::Encrypted(_) => Ok(None),
            // both in clear: what is in them has to match as well
            Application::Plain(inner) => match question {
                SecurityRequest::Plain(secured) => match (Apdu::parse(&secured.apdu.0), Apdu::parse(&inner.0)) {
                    (Ok(asked), Ok(found)) if !matches!(asked, Apdu::Security(_)) => answers(&asked, &found),
                    _ => Err(service()),
                },
                SecurityRequest::Encrypted(_) => Ok(None),
            },
        },
        _ => Err(service()),
    }
}

fn get(asked: &GetBody, found: &GetResult, service: impl Fn() -> Mismatch) -> Result<Option<Refusal>, Mismatch> {
    match (asked, found) {
        (GetBody::Normal(asked), GetResult::Normal(found)) => {
            found.answers(asked)?;
            Ok(match &found.result {
                ValueResult::Dar(dar) => Some(Refusal::Dar(*dar)),
                ValueResult::Data(_) => None,
            })
        }
        (GetBody::List(asked), GetResult::List(found)) => list(asked, found).map(|()| None),
        (GetBody::Record(asked), GetResult::Record(found)) => {
            found.answers(asked)?;
            Ok(match &found.rows {
                Rows::Dar(dar) => Some(Refusal::Dar(*dar)),
                Rows::Rows(_) => None,
            })
        }
        (GetBody::RecordList(asked), GetResult::RecordList(found)) => list(asked, found).map(|()| None),
        (GetBody::Md5(asked), GetResult::Md5(found)) => {
            same(asked, &found.oad)?;
            Ok(match &found.content {
                Md5Content::Dar(dar) => Some(Refusal::Dar(*dar)),
                Md5Content::Sum(_) => None,
            })
        }
        // a long answer comes in blocks, whichever of these was asked
        (asked, GetResult::Next(block)) => {
            if let GetBody::Next(before) = asked {
                let wanted = before.wrapping_add(1);
                if block.number != wanted {
                    let found = block.number;
                    return Err(Mismatch::Block { wanted, found });
                }
            } else if block.number > 1 {
                // most count from 0, some from 1
                let (wanted, found) = (0, block.number);
                return Err(Mismatch::Block { wanted, found });
            }
            Ok(match &block.content {
                BlockContent::Dar(dar) => Some(Refusal::Dar(*dar)),
                _ => None,
            })
        }
        _ => Err(service()),
    }
}

fn proxy(asked: &ProxyBody, found: &ProxyResult, service: impl Fn() -> Mismatch) -> Result<Option<Refusal>, Mismatch> {
    let done = |result: Result<(), Mismatch>| result.map(|()| None);
    match (asked, found) {
        (ProxyBody::Get(asked), ProxyResult::Get(found)) => done(targets(&asked.targets, found)),
        (ProxyBody::Set(asked), ProxyResult::Set(found)) => done(targets(&asked.targets, found)),
        (ProxyBody::SetThenGet(asked), ProxyResult::SetThenGet(found)) => done(targets(&asked.targets, found)),
        (ProxyBody::Action(asked), ProxyResult::Action(found)) => done(targets(&asked.targets, found)),
        (ProxyBody::ActionThenGet(asked), ProxyResult::ActionThenGet(found)) => done(targets(&asked.targets, found)),
        (ProxyBody::Record(asked), ProxyResult::Record(found)) => {
            if asked.server != found.server {
                return Err(Mismatch::Server(found.server.to_string()));
            }
            found.record.answers(&asked.record)?;
            Ok(match &found.record.rows {
                Rows::Dar(dar) => Some(Refusal::Dar(*dar)),
                Rows::Rows(_) => None,
            })
        }
        (ProxyBody::Transparent(asked), ProxyResult::Transparent(found)) => {
            same(&asked.port, &found.port)?;
            Ok(match &found.content {
                TransparentContent::Dar(dar) => Some(Refusal::Dar(*dar)),
                TransparentContent::Bytes(_) => None,
            })
        }
        _ => Err(service()),
    }
}

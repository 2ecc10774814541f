//! AFN 00: confirmations and denials, whole or item by item, read and written (Q/GDW 1376.1-2013, 7.2).

use super::afn::Afn;
use super::control::{Control, Seq};
use super::message::Message;
use super::point::{Fn, Id, UnitId, UnitIdError};
use crate::base::bytes::{Reader, ShortRead};

/// The error byte that says that an item was carried out.
const DONE: u8 = 0;

/// The function code of a link test.
const LINK_TEST: u8 = 9;

/// What a confirmation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// F1: all of it was carried out.
    All,
    /// F2: nothing of it.
    None,
    /// F3: item by item.
    Each {
        /// The function that is confirmed.
        afn: Afn,
        /// Each item and its error: 0 done, 1 another error, the rest by the maker.
        items: Vec<(Id, u8)>,
    },
}

/// Why data are no confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmationError {
    /// Another function.
    #[error("application function {0} is no confirmation")]
    Function(Afn),
    /// The identifier names nothing.
    #[error(transparent)]
    Id(#[from] UnitIdError),
    /// Cut off.
    #[error(transparent)]
    Short(#[from] ShortRead),
    /// An item that is none of F1 to F3, or a point.
    #[error("{0} is none of the three confirmations")]
    Item(Id),
    /// Bytes behind F1 or F2.
    #[error("{0} bytes behind a confirmation of all")]
    Trailing(usize),
}

impl Confirmation {
    /// Reads a message.
    ///
    /// # Errors
    /// [`ConfirmationError`] names what is wrong.
    pub fn of(message: &Message) -> Result<Self, ConfirmationError> {
        if message.afn != Afn::CONFIRM {
            return Err(ConfirmationError::Function(message.afn));
        }
        let mut reader = Reader::new(&message.body);
        let unit = UnitId::parse(reader.array()?)?;
        let mut ids = unit.ids();
        let id = match (ids.next(), ids.next()) {
            (Some(id), None) if id.pn.number() == Some(0) => id,
            (id, _) => return Err(ConfirmationError::Item(id.unwrap_or(Id::terminal(Fn::F1)))),
        };
        let whole = match id.item.number() {
            1 => Self::All,
            2 => Self::None,
            3 => {
                let afn = Afn(reader.u8()?);
                let mut items = Vec::new();
                while !reader.is_empty() {
                    let unit = UnitId::parse(reader.array()?)?;
                    let error = reader.u8()?;
                    items.extend(unit.ids().map(|id| (id, error)));
                }
                return Ok(Self::Each { afn, items });
            }
            _ => return Err(ConfirmationError::Item(id)),
        };
        match reader.rest().len() {
            0 => Ok(whole),
            left => Err(ConfirmationError::Trailing(left)),
        }
    }

    /// The data units.
    pub(super) fn body(&self) -> Vec<u8> {
        let item = match self {
            Self::All => Fn::F1,
            Self::None => Fn::F2,
            Self::Each { .. } => Fn::F3,
        };
        let mut body = UnitId::of(Id::terminal(item)).wire().to_vec();
        if let Self::Each { afn, items } = self {
            body.push(afn.0);
            for (id, error) in items {
                body.extend_from_slice(&UnitId::of(*id).wire());
                body.push(*error);
            }
        }
        body
    }

    /// The items that were not carried out, with their errors; of a denial of all none is named.
    pub fn denied(&self) -> impl Iterator<Item = (Id, u8)> + '_ {
        let items: &[(Id, u8)] = match self {
            Self::Each { items, .. } => items,
            Self::All | Self::None => &[],
        };
        items.iter().copied().filter(|(_, error)| *error != DONE)
    }

    /// What the receiver of a message that wants to be confirmed sends: same terminal and master, same sequence number.
    pub fn to(&self, message: &Message) -> Message {
        let is_test = message.control.function() == LINK_TEST;
        let control = match (message.control.is_from_terminal(), is_test) {
            (true, true) => Control::LINK_STATE,
            (true, false) => Control::CONFIRM,
            (false, _) => Control::CONFIRMED,
        };
        Message {
            dialect: message.dialect,
            control,
            address: message.address,
            afn: Afn::CONFIRM,
            seq: Seq::single(message.seq.number()),
            body: self.body(),
            password: None,
            events: None,
            tag: None,
        }
    }
}

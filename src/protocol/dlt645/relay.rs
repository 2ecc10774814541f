//! Commands that move a relay: control code 1C of DL/T 645-2007 (备案文件 to 2007, annex on cost control), and the
//! write to C028 that some meters of 1997 take instead.
//!
//! A [`Command`] can be made here only, and the functions here are called by `device/relay` alone, which demands a
//! permit. Nothing else in the program builds such a frame; a general write refuses C028.

use super::request::{clock, clock_of};
use super::{Address, Body, Di, Edition, Request, RequestError, Security};
use chrono::NaiveDateTime;

/// The identifier behind which meters of 1997 keep their relay.
pub(super) const RELAY_1997: Di = Di::E1997(0xC028);

/// What to do, the byte N1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// 1A: open the relay.
    Trip,
    /// 1B: allow closing; the customer presses a button.
    AllowClose,
    /// 1C: close the relay.
    Close,
    /// 2A: alarm on.
    AlarmOn,
    /// 2B: alarm off.
    AlarmOff,
    /// 3A: keep the supply whatever happens.
    ProtectOn,
    /// 3B: end of that.
    ProtectOff,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = &[
        Self::Trip,
        Self::AllowClose,
        Self::Close,
        Self::AlarmOn,
        Self::AlarmOff,
        Self::ProtectOn,
        Self::ProtectOff,
    ];

    /// The byte.
    pub fn code(self) -> u8 {
        match self {
            Self::Trip => 0x1A,
            Self::AllowClose => 0x1B,
            Self::Close => 0x1C,
            Self::AlarmOn => 0x2A,
            Self::AlarmOff => 0x2B,
            Self::ProtectOn => 0x3A,
            Self::ProtectOff => 0x3B,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::AllowClose => "allow closing",
            Self::Close => "close",
            Self::AlarmOn => "alarm on",
            Self::AlarmOff => "alarm off",
            Self::ProtectOn => "protection on",
            Self::ProtectOff => "protection off",
        }
    }

    fn by_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.code() == code)
    }
}

/// One command, complete. Made by [`trip`] and its neighbours, or heard on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    action: Action,
    security: Security,
    /// Meter's local time; none: no limit.
    until: Option<NaiveDateTime>,
}

impl Command {
    /// What to do.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Until when the command is valid, in the meter's own time; none: without limit.
    pub fn until(&self) -> Option<NaiveDateTime> {
        self.until
    }

    /// What it proves.
    pub fn security(&self) -> Security {
        self.security
    }

    pub(super) fn data(&self, edition: Edition) -> Vec<u8> {
        let mut data = Vec::with_capacity(16);
        match edition {
            Edition::E2007 => {
                data.extend_from_slice(&self.security.password.wire());
                data.extend_from_slice(&self.security.operator.wire());
                data.extend_from_slice(&[self.action.code(), 0]);
                data.extend_from_slice(&self.until.map_or([0; 6], clock));
            }
            Edition::E1997 => {
                RELAY_1997.push_to(&mut data);
                data.extend_from_slice(&self.security.password.wire());
                let words = if self.action == Action::Trip {
                    [0x55, 0x33]
                } else {
                    [0x66, 0x99]
                };
                data.extend_from_slice(&words);
            }
        }
        data
    }

    /// Reads the data of a 1C frame.
    pub(super) fn parse_2007(data: &[u8]) -> Result<Self, RequestError> {
        let wrong = RequestError::Data {
            function: super::Function::Relay,
            len: data.len(),
        };
        let (security, rest) = Security::split(data).ok_or(wrong.clone())?;
        let ([code, _, time @ ..], []) = rest.split_first_chunk::<8>().ok_or(wrong.clone())? else {
            return Err(wrong);
        };
        let action = Action::by_code(*code).ok_or(RequestError::Action(*code))?;
        let until = match time {
            [0, 0, 0, 0, 0, 0] => None,
            time => Some(clock_of(*time)?),
        };
        Ok(Self {
            action,
            security,
            until,
        })
    }

    /// Reads what is written to C028.
    pub(super) fn parse_1997(security: Security, value: &[u8]) -> Result<Self, RequestError> {
        let action = match value {
            [0x55, 0x33] => Action::Trip,
            [0x66, 0x99] => Action::Close,
            [first, ..] => return Err(RequestError::Action(*first)),
            [] => return Err(RequestError::Action(0)),
        };
        Ok(Self {
            action,
            security,
            until: None,
        })
    }
}

fn command(
    edition: Edition,
    address: Address,
    action: Action,
    security: Security,
    until: Option<NaiveDateTime>,
) -> Result<Request, RequestError> {
    if !address.is_meter() {
        return Err(RequestError::NotOneMeter(address));
    }
    if edition == Edition::E1997 && !matches!(action, Action::Trip | Action::Close) {
        return Err(RequestError::Action(action.code()));
    }
    let command = Command {
        action,
        security,
        until,
    };
    Request::checked(edition, address, Body::Relay(command))
}

/// Opens the relay of one meter. `until`: in the meter's own time, after it the meter refuses; 1997 cannot say it.
///
/// # Errors
/// [`RequestError::NotOneMeter`] for a broadcast or wildcard address: no frame of ours cuts more than one customer.
pub fn trip(
    edition: Edition,
    address: Address,
    security: Security,
    until: Option<NaiveDateTime>,
) -> Result<Request, RequestError> {
    command(edition, address, Action::Trip, security, until)
}

/// Closes the relay of one meter at once.
///
/// # Errors
/// As [`trip`].
pub fn close(
    edition: Edition,
    address: Address,
    security: Security,
    until: Option<NaiveDateTime>,
) -> Result<Request, RequestError> {
    command(edition, address, Action::Close, security, until)
}

/// Any other action of 2007: allow closing by the customer's button, alarm, protection. A trip goes by [`trip`] only.
///
/// # Errors
/// As [`trip`], and [`RequestError::Action`] for a trip.
pub fn other(
    address: Address,
    action: Action,
    security: Security,
    until: Option<NaiveDateTime>,
) -> Result<Request, RequestError> {
    if action == Action::Trip {
        return Err(RequestError::Action(action.code()));
    }
    command(Edition::E2007, address, action, security, until)
}

#[cfg(test)]
mod tests {
    use super::super::{Operator, Password};
    use super::*;
    use crate::base::hex;
    use chrono::NaiveDate;

    fn security(password: &str, operator: &str) -> Security {
        Security {
            password: Password::new(2, password).unwrap(),
            operator: Operator::new(operator).unwrap(),
        }
    }

    #[test]
    fn captured_commands_are_built_byte_for_byte() {
        // two real controllers, see the shared vectors
        let address = Address::parse("151230011061").unwrap();
        let until = NaiveDate::from_ymd_opt(2099, 12, 30).unwrap().and_hms_opt(0, 0, 0);
        let request = trip(Edition::E2007, address, security("020637", "00000001"), until).unwrap();
        assert_eq!(
            hex::encode(&request.frame()),
            "68611001301215681C10356A3935343333334D333333336345CC2C16"
        );
        let request = other(address, Action::AllowClose, security("020637", "00000001"), until).unwrap();
        assert_eq!(
            hex::encode(&request.frame()),
            "68611001301215681C10356A3935343333334E333333336345CC2D16"
        );
        let address = Address::parse("219998").unwrap();
        let request = trip(Edition::E2007, address, security("000000", "30303030"), None).unwrap();
        assert_eq!(
            hex::encode(&request.frame()),
            "68989921000000681C1035333333636363634D333333333333335A16"
        );
        let none = Security {
            password: Password::new(0, "000000").unwrap(),
            operator: Operator::new("00000000").unwrap(),
        };
        let address = Address::parse("109288").unwrap();
        let request = trip(Edition::E1997, address, none, None).unwrap();
        assert_eq!(
            hex::encode(&request.frame()),
            "688892100000006804085BF33333333388660E16"
        );
        let request = close(Edition::E1997, address, none, None).unwrap();
        assert_eq!(
            hex::encode(&request.frame()),
            "688892100000006804085BF33333333399CC8516"
        );
    }

    #[test]
    fn never_more_than_one_meter() {
        let security = security("000000", "00000000");
        for address in [
            Address::BROADCAST,
            Address::ANYONE,
            Address::parse("AAAA00000001").unwrap(),
        ] {
            assert_eq!(
                trip(Edition::E2007, address, security, None),
                Err(RequestError::NotOneMeter(address))
            );
            assert!(close(Edition::E2007, address, security, None).is_err());
        }
        let meter = Address::parse("1").unwrap();
        assert!(other(meter, Action::Trip, security, None).is_err());
    }

    #[test]
    fn what_was_written_is_heard() {
        let until = NaiveDate::from_ymd_opt(2026, 11, 21)
            .unwrap()
            .and_hms_opt(13, 59, 1)
            .unwrap();
        let address = Address::parse("42").unwrap();
        for action in Action::ALL.iter().copied() {
            let security = security("123456", "00000007");
            let request = command(Edition::E2007, address, action, security, Some(until)).unwrap();
            let Ok(heard) = Request::parse(Edition::E2007, &request.wire()) else {
                panic!("{action:?}")
            };
            assert_eq!(heard, request);
            assert!(matches!(heard.body(), Body::Relay(command) if command.action() == action));
        }
    }
}

//! What tests of relays need: permits and models.

use super::Manner;
use crate::base::ids::{AccountId, CommandId, DtuId, MeterId, SessionId, UserId};
use crate::device::catalogue::Catalogue;
use crate::device::model::MeterModel;
use crate::domain::command::permit::Mint;
use crate::domain::command::{Action, Command, State, Target, TripPermit};
use crate::protocol::Protocol;
use crate::protocol::dlt645::{Operator, Password, Security};
use chrono::{DateTime, NaiveDate, TimeDelta};

pub(super) fn model(protocol: Protocol, name: &str) -> MeterModel {
    let catalogue = Catalogue::load(&[]).unwrap();
    let found = catalogue.get(protocol, name).unwrap();
    MeterModel::clone(found)
}

/// A meter at an address.
pub(super) fn target(address: &str) -> Target {
    Target {
        meter: MeterId(1),
        dtu: DtuId(1),
        protocol: String::new(),
        address: address.into(),
        model: String::new(),
        behind: None,
    }
}

pub(super) fn permit(action: Action, protocol: Protocol, model: &str, address: &str) -> TripPermit {
    let target = Target {
        protocol: protocol.name().into(),
        model: model.into(),
        ..target(address)
    };
    permit_of(action, target)
}

pub(super) fn permit_of(action: Action, target: Target) -> TripPermit {
    let now = DateTime::UNIX_EPOCH;
    let command = Command {
        id: CommandId(1),
        account: AccountId(1),
        target,
        action,
        state: State::Sent,
        requested_by: UserId(1),
        requested_at: now,
        expires_at: now + TimeDelta::seconds(60),
        holds: Vec::new(),
        needs: 0,
        approvals: Vec::new(),
        sent_through: Some(SessionId(1)),
        version: 2,
    };
    Mint::new().permit(&command, now).unwrap()
}

/// Noon of the day on which the captured commands were valid until midnight, their password and their operator.
pub(super) fn manner() -> Manner {
    let day = NaiveDate::from_ymd_opt(2099, 12, 29).unwrap();
    Manner {
        now: day.and_hms_opt(12, 0, 0).unwrap(),
        until: day.succ_opt().and_then(|next| next.and_hms_opt(0, 0, 0)),
        security: Security {
            password: Password::new(2, "020637").unwrap(),
            operator: Operator::new("00000001").unwrap(),
        },
        ahead: None,
    }
}

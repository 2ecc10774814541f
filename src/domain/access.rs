//! Who may do what: the roles of people and keys. The table role × operation itself stands in `api/access.rs`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A role. `platform` acts across accounts, all others within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs an account: people, keys, devices.
    Admin,
    /// Runs devices and readings.
    Operator,
    /// Bills.
    Billing,
    /// Looks.
    Viewer,
    /// Runs the server: every account.
    Platform,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[Self::Admin, Self::Operator, Self::Billing, Self::Viewer, Self::Platform];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Billing => "billing",
            Self::Viewer => "viewer",
            Self::Platform => "platform",
        }
    }

    /// Finds a role by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Operator => 2,
            Self::Billing => 4,
            Self::Viewer => 8,
            Self::Platform => 16,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoleSet(u8);

impl RoleSet {
    /// The set of these roles.
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut rest = roles;
        while let [first, tail @ ..] = rest {
            bits |= first.bit();
            rest = tail;
        }
        Self(bits)
    }

    /// Whether the role is in it.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether both sets share a role.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles, in the order of [`Role::ALL`].
    pub fn list(self) -> Vec<Role> {
        Role::ALL.iter().copied().filter(|role| self.has(*role)).collect()
    }
}

impl FromIterator<Role> for RoleSet {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_exactly_what_was_put_in() {
        let set = RoleSet::of(&[Role::Viewer, Role::Admin]);
        assert_eq!(set.list(), [Role::Admin, Role::Viewer]);
        assert!(!set.has(Role::Platform));
        assert!(!set.meets(RoleSet::of(&[Role::Operator, Role::Billing])));
        for role in Role::ALL {
            assert_eq!(Role::by_name(role.as_str()), Some(*role));
        }
    }
}

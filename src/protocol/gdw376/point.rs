//! What data are of and what they are: information point Pn and item Fn, and the two bitmaps DA and DT that stand for up
//! to eight of each (Q/GDW 1376.1-2013, 6.3).
//!
//! ```text
//! DA1 DA2 DT1 DT2     DA2 0, DA1 0: p0, the terminal itself;  DA2 0, DA1 FF: all points
//!  |   |   |   \_ group of items: F(8·DT2+1) to F(8·DT2+8)
//!  |   |   \_ which of the eight
//!  |   \_ group of points: p(8·DA2-7) to p(8·DA2)
//!  \_ which of the eight
//! ```

use std::fmt;

/// The highest point.
pub const POINT_MAX: u16 = 2040;
/// The highest item.
pub const ITEM_MAX: u8 = 248;

/// An information point: a measuring point, a totalling group, a control round, a task, or the terminal itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pn(u16);

impl Pn {
    /// p0: the terminal itself.
    pub const TERMINAL: Self = Self(0);
    /// All points that the terminal has.
    pub const ALL: Self = Self(u16::MAX);

    /// A point by its number; none above 2040.
    pub fn new(number: u16) -> Option<Self> {
        (number <= POINT_MAX).then_some(Self(number))
    }

    /// The number; 0 for the terminal; none for all points.
    pub fn number(self) -> Option<u16> {
        (self != Self::ALL).then_some(self.0)
    }

    /// The group DA2 and the bit in DA1.
    fn place(self) -> (u8, u8) {
        match self.0 {
            0 => (0, 0),
            u16::MAX => (0, 0xFF),
            number => {
                let index = number - 1;
                // at most 2040: 255 groups of eight
                (u8::try_from(index / 8 + 1).unwrap_or(u8::MAX), 1 << (index % 8))
            }
        }
    }
}

impl fmt::Display for Pn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "p{number}"),
            None => f.write_str("all points"),
        }
    }
}

/// An item, by its number within the application function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fn(u8);

impl Fn {
    /// F1.
    pub const F1: Self = Self(1);
    /// F2.
    pub const F2: Self = Self(2);
    /// F3.
    pub const F3: Self = Self(3);

    /// An item by its number, 1 to 248.
    pub fn new(number: u8) -> Option<Self> {
        (1..=ITEM_MAX).contains(&number).then_some(Self(number))
    }

    /// One of the numbers of a table of this room.
    pub(super) const fn of(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    fn place(self) -> (u8, u8) {
        let index = self.0.saturating_sub(1);
        (index / 8, 1 << (index % 8))
    }
}

impl fmt::Display for Fn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F{}", self.0)
    }
}

/// One point and one item: what a data unit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The point.
    pub pn: Pn,
    /// The item.
    pub item: Fn,
}

impl Id {
    /// An item of the terminal itself.
    pub fn terminal(item: Fn) -> Self {
        Self { pn: Pn::TERMINAL, item }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.item, self.pn)
    }
}

/// The four bytes DA and DT: up to eight points of one group, each with the same up to eight items of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitId([u8; 4]);

/// Why four bytes identify nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitIdError {
    /// A point group without points, or bits in group 0 that are neither none nor all.
    #[error("DA {0:02X}{1:02X} names no point")]
    Point(u8, u8),
    /// An item group without items, or above F248.
    #[error("DT {0:02X}{1:02X} names no item")]
    Item(u8, u8),
}

impl UnitId {
    /// One point, one item.
    pub fn of(id: Id) -> Self {
        let ((da2, da1), (dt2, dt1)) = (id.pn.place(), id.item.place());
        Self([da1, da2, dt1, dt2])
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`UnitIdError`] where a bitmap names nothing.
    pub fn parse(bytes: [u8; 4]) -> Result<Self, UnitIdError> {
        let [da1, da2, dt1, dt2] = bytes;
        if (da2 == 0 && da1 != 0 && da1 != 0xFF) || (da2 != 0 && da1 == 0) {
            return Err(UnitIdError::Point(da1, da2));
        }
        if dt1 == 0 || dt2 > (ITEM_MAX - 1) / 8 {
            return Err(UnitIdError::Item(dt1, dt2));
        }
        Ok(Self(bytes))
    }

    /// To the wire.
    pub fn wire(self) -> [u8; 4] {
        self.0
    }

    /// The points, lowest first.
    pub fn points(self) -> impl Iterator<Item = Pn> + Clone {
        let [da1, da2, ..] = self.0;
        let single = match (da2, da1) {
            (0, 0) => Some(Pn::TERMINAL),
            (0, _) => Some(Pn::ALL),
            _ => None,
        };
        let base = u16::from(da2).saturating_sub(1) * 8 + 1;
        let group = (0..8u16).filter(move |bit| single.is_none() && da1 >> bit & 1 != 0);
        single.into_iter().chain(group.map(move |bit| Pn(base + bit)))
    }

    /// The items, lowest first.
    pub fn items(self) -> impl Iterator<Item = Fn> + Clone {
        let [.., dt1, dt2] = self.0;
        let base = dt2.saturating_mul(8).saturating_add(1);
        (0..8u8)
            .filter(move |bit| dt1 >> bit & 1 != 0)
            .map(move |bit| Fn(base.saturating_add(bit)))
    }

    /// What it stands for, in the order in which the data follow: point by point, and of each the items (6.3.3).
    pub fn ids(self) -> impl Iterator<Item = Id> {
        self.points()
            .flat_map(move |pn| self.items().map(move |item| Id { pn, item }))
    }

    /// How many data units it stands for.
    pub fn count(self) -> usize {
        self.points().count() * self.items().count()
    }

    /// The fewest identifiers that stand for exactly these, in ascending order. Points of a group that want the same
    /// items of a group share one.
    pub fn covering(ids: impl IntoIterator<Item = Id>) -> Vec<Self> {
        use std::collections::BTreeMap;
        // which items of a group a point wants
        let mut wanted: BTreeMap<(u8, Pn, u8), u8> = BTreeMap::new();
        for id in ids {
            let ((da2, _), (dt2, dt1)) = (id.pn.place(), id.item.place());
            *wanted.entry((da2, id.pn, dt2)).or_default() |= dt1;
        }
        // which points of a group want the same
        let mut shared: BTreeMap<(u8, bool, u8, u8), u8> = BTreeMap::new();
        for ((da2, pn, dt2), dt1) in wanted {
            *shared.entry((da2, pn == Pn::ALL, dt2, dt1)).or_default() |= pn.place().1;
        }
        let ids = shared
            .into_iter()
            .map(|((da2, _, dt2, dt1), da1)| Self([da1, da2, dt1, dt2]));
        ids.collect()
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>| names.join(" ");
        let items = list(self.items().map(|item| item.to_string()).collect());
        let points = list(self.points().map(|pn| pn.to_string()).collect());
        write!(f, "{items} of {points}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(pn: u16, item: u8) -> Id {
        Id {
            pn: Pn::new(pn).unwrap(),
            item: Fn::new(item).unwrap(),
        }
    }

    pub(crate) fn any_id() -> impl Strategy<Value = Id> {
        (0..=POINT_MAX, 1..=ITEM_MAX).prop_map(|(pn, item)| id(pn, item))
    }

    #[test]
    fn the_worked_identifiers() {
        assert_eq!(UnitId::of(id(0, 3)).wire(), [0, 0, 4, 0]);
        assert_eq!(UnitId::of(id(1, 25)).wire(), [1, 1, 1, 3]);
        assert_eq!(UnitId::of(id(2, 129)).wire(), [2, 1, 1, 0x10]);
        assert_eq!(UnitId::of(id(2040, 248)).wire(), [0x80, 0xFF, 0x80, 30]);
        let all = UnitId::parse([0xFF, 0, 1, 0]).unwrap();
        assert_eq!(
            all.ids().collect::<Vec<_>>(),
            [Id {
                pn: Pn::ALL,
                item: Fn::F1
            }]
        );
        assert_eq!(all.to_string(), "F1 of all points");
        let several = UnitId::parse([0x05, 0x02, 0x81, 0x10]).unwrap();
        let said: Vec<Id> = several.ids().collect();
        assert_eq!(said, [id(9, 129), id(9, 136), id(11, 129), id(11, 136)]);
        assert_eq!(several.count(), 4);
    }

    #[test]
    fn bitmaps_that_name_nothing_are_refused() {
        assert_eq!(UnitId::parse([0, 1, 1, 0]), Err(UnitIdError::Point(0, 1)));
        assert_eq!(UnitId::parse([3, 0, 1, 0]), Err(UnitIdError::Point(3, 0)));
        assert_eq!(UnitId::parse([1, 1, 0, 0]), Err(UnitIdError::Item(0, 0)));
        assert_eq!(UnitId::parse([1, 1, 1, 31]), Err(UnitIdError::Item(1, 31)));
        assert_eq!((Pn::new(2041), Fn::new(0), Fn::new(249)), (None, None, None));
    }

    proptest! {
        #[test]
        fn one_identifier_reads_back(one in any_id()) {
            let unit = UnitId::parse(UnitId::of(one).wire()).unwrap();
            prop_assert_eq!(unit.ids().collect::<Vec<_>>(), [one]);
        }

        #[test]
        fn a_covering_stands_for_exactly_what_was_wanted(ids in prop::collection::btree_set(any_id(), 0..60)) {
            let covering = UnitId::covering(ids.iter().copied());
            let mut said: Vec<Id> = covering.iter().flat_map(|unit| unit.ids()).collect();
            said.sort();
            prop_assert_eq!(said, ids.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn points_that_want_the_same_share_identifiers(points in prop::collection::btree_set(1..=80u16, 1..40), items in prop::collection::btree_set(1..=ITEM_MAX, 1..12)) {
            let ids = points.iter().flat_map(|pn| items.iter().map(|item| id(*pn, *item)));
            let groups = |numbers: Vec<u16>| numbers.into_iter().map(|n| (n - 1) / 8).collect::<BTreeSet<_>>().len();
            let least = groups(points.iter().copied().collect()) * groups(items.iter().copied().map(u16::from).collect());
            prop_assert_eq!(UnitId::covering(ids).len(), least);
        }
    }
}

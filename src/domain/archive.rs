//! The archive of a concentrator as we want it: which meter stands at which measuring point, what of it differs from what the
//! concentrator says, and the changes that make the two alike. Pure.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The last measuring point there is.
pub const POINT_MAX: u16 = 2_040;
/// The port of a carrier.
const CARRIER: u8 = 31;

/// One place of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveEntry {
    /// The measuring point, 1 to 2040: the address of our meter.
    #[schema(minimum = 1, maximum = 2040, example = 42)]
    pub point: u16,
    /// The place in the archive, from 1; 0, or left out: that of the point's number.
    #[serde(default)]
    #[schema(example = 42)]
    pub place: u16,
    /// The meter's own address, twelve digits, as it is printed on it.
    #[schema(example = "000010000042")]
    pub meter_address: String,
    /// What the concentrator speaks with it.
    #[serde(default = "dlt645_2007")]
    #[schema(example = "DL/T 645-2007")]
    pub meter_protocol: String,
    /// The concentrator's port, 1 to 31; default 31, the carrier's.
    #[serde(default = "carrier")]
    #[schema(minimum = 1, maximum = 31)]
    pub port: u8,
    /// The collector that it hangs on, twelve digits; empty: none.
    #[serde(default)]
    pub collector: String,
    /// Tariffs that are kept of it, 0 to 63; default 4.
    #[serde(default = "tariffs")]
    #[schema(maximum = 63)]
    pub tariffs: u8,
}

fn dlt645_2007() -> String {
    "DL/T 645-2007".to_owned()
}

fn carrier() -> u8 {
    CARRIER
}

fn tariffs() -> u8 {
    4
}

/// The protocols that an entry may name (table of F10, and those of DL/T 698.45 terminals).
pub const PROTOCOLS: &[&str] = &[
    "DL/T 645-1997",
    "AC sampler",
    "DL/T 645-2007",
    "carrier module",
    "CJ/T 188",
    "DL/T 698.45",
];

impl ArchiveEntry {
    /// The same with its place said, and addresses as they are compared.
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.place == 0 {
            self.place = self.point;
        }
        self.meter_address.make_ascii_uppercase();
        self.collector.make_ascii_uppercase();
        self
    }

    /// What is wrong with it: the field, and why.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let twelve = |text: &str| text.len() == 12 && text.chars().all(|digit| digit.is_ascii_hexdigit());
        let mut faults = Vec::new();
        let mut check = |holds: bool, field: &'static str, text: String| {
            if !holds {
                faults.push((field, text));
            }
        };
        check(
            (1..=POINT_MAX).contains(&self.point),
            "point",
            format!("is 1 to {POINT_MAX}"),
        );
        check(
            twelve(&self.meter_address),
            "meter_address",
            "is twelve digits".to_owned(),
        );
        let none = self.collector.is_empty();
        check(
            none || twelve(&self.collector),
            "collector",
            "is twelve digits, or empty".to_owned(),
        );
        check((1..=CARRIER).contains(&self.port), "port", format!("is 1 to {CARRIER}"));
        check(self.tariffs < 64, "tariffs", "is 0 to 63".to_owned());
        let known = PROTOCOLS.contains(&self.meter_protocol.as_str());
        check(known, "meter_protocol", format!("is one of {}", PROTOCOLS.join(", ")));
        faults
    }

    /// The fields in which two entries of one point differ.
    pub fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("place", self.place != other.place),
            ("meter_address", self.meter_address != other.meter_address),
            ("meter_protocol", self.meter_protocol != other.meter_protocol),
            ("port", self.port != other.port),
            ("collector", self.collector != other.collector),
            ("tariffs", self.tariffs != other.tariffs),
        ];
        pairs
            .into_iter()
            .filter_map(|(field, differs)| differs.then_some(field))
            .collect()
    }
}

/// A point that both have, differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ArchiveDifference {
    /// As we want it.
    pub here: ArchiveEntry,
    /// As the concentrator has it.
    pub there: ArchiveEntry,
    /// In what.
    pub fields: Vec<&'static str>,
}

/// Two archives beside each other, by measuring point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ArchiveComparison {
    /// Points that are the same in both.
    pub same: usize,
    /// What the concentrator has and we do not want.
    pub only_there: Vec<ArchiveEntry>,
    /// What we want and the concentrator does not have.
    pub only_here: Vec<ArchiveEntry>,
    /// What both have, differently.
    pub different: Vec<ArchiveDifference>,
}

/// Compares what we want with what a concentrator has.
pub fn compare(here: &[ArchiveEntry], there: &[ArchiveEntry]) -> ArchiveComparison {
    let theirs: BTreeMap<u16, &ArchiveEntry> = there.iter().map(|entry| (entry.point, entry)).collect();
    let ours: BTreeMap<u16, &ArchiveEntry> = here.iter().map(|entry| (entry.point, entry)).collect();
    let mut comparison = ArchiveComparison::default();
    for (point, mine) in &ours {
        match theirs.get(point) {
            None => comparison.only_here.push((*mine).clone()),
            Some(other) => match mine.differs_in(other) {
                fields if fields.is_empty() => comparison.same += 1,
                fields => comparison.different.push(ArchiveDifference {
                    here: (*mine).clone(),
                    there: (*other).clone(),
                    fields,
                }),
            },
        }
    }
    let strange = theirs.iter().filter(|(point, _)| !ours.contains_key(point));
    comparison.only_there.extend(strange.map(|(_, entry)| (*entry).clone()));
    comparison
}

/// One change of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ArchiveChange {
    /// Nothing stands at the place any more.
    Remove {
        /// Which.
        place: u16,
        /// The point that stood there.
        point: u16,
    },
    /// This stands at its place.
    Put(ArchiveEntry),
}

impl ArchiveChange {
    /// The place that is changed.
    pub fn place(&self) -> u16 {
        match self {
            Self::Remove { place, .. } => *place,
            Self::Put(entry) => entry.place,
        }
    }

    /// The point that it is about.
    pub fn point(&self) -> u16 {
        match self {
            Self::Remove { point, .. } => *point,
            Self::Put(entry) => entry.point,
        }
    }
}

/// A place that somebody else would lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("place {place} is that of point {holder} there, which is not changed; point {point} cannot have it")]
pub struct PlaceTaken {
    /// The place.
    pub place: u16,
    /// Who is to have it.
    pub point: u16,
    /// Who has it.
    pub holder: u16,
}

/// The changes that make a concentrator's archive ours, removals first: of the points that are wanted, or of all; with
/// `remove` also what we do not want.
///
/// # Errors
/// [`PlaceTaken`] where a point would be written over another that keeps its place.
pub fn changes(
    comparison: &ArchiveComparison,
    there: &[ArchiveEntry],
    wanted: Option<&BTreeSet<u16>>,
    remove: bool,
) -> Result<Vec<ArchiveChange>, PlaceTaken> {
    let is_wanted = |point: u16| wanted.is_none_or(|wanted| wanted.contains(&point));
    let mut removed = BTreeMap::new();
    let mut put = Vec::new();
    for entry in comparison
        .only_there
        .iter()
        .filter(|entry| remove && is_wanted(entry.point))
    {
        removed.insert(entry.place, entry.point);
    }
    for different in comparison.different.iter().filter(|pair| is_wanted(pair.here.point)) {
        if different.here.place != different.there.place {
            removed.insert(different.there.place, different.there.point);
        }
        put.push(different.here.clone());
    }
    put.extend(
        comparison
            .only_here
            .iter()
            .filter(|entry| is_wanted(entry.point))
            .cloned(),
    );
    let moving: BTreeSet<u16> = put.iter().map(|entry| entry.point).collect();
    for entry in &put {
        let holder = there.iter().find(|other| {
            let stays = !removed.contains_key(&other.place) && !moving.contains(&other.point);
            other.place == entry.place && other.point != entry.point && stays
        });
        if let Some(holder) = holder {
            return Err(PlaceTaken {
                place: entry.place,
                point: entry.point,
                holder: holder.point,
            });
        }
    }
    // what is written over need not be taken out before
    let written: BTreeSet<u16> = put.iter().map(|entry| entry.place).collect();
    let removals = removed
        .into_iter()
        .filter(|(place, _)| !written.contains(place))
        .map(|(place, point)| ArchiveChange::Remove { place, point });
    Ok(removals.chain(put.into_iter().map(ArchiveChange::Put)).collect())
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;

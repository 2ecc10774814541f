//! Meter models that speak M-Bus: one readout brings everything, and each value is found in it by what its record says of
//! itself: kind, function, storage number, tariff, subunit and what narrows it.

pub(super) mod decode;
pub mod image;
pub(super) mod parse;
pub(super) mod plan;

use crate::device::dlt645::history::{Kind, Past};
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::mbus::{Class, Function, Identification, Manufacturer, Mark, Record, Telegram};
use serde::{Serialize, Serializer};

pub use plan::Address;

/// How a meter model is asked and where its values are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadoutProfile {
    /// How it is asked.
    pub ask: Ask,
    /// Who it says it is.
    pub identify: Identify,
    /// Its values.
    pub points: Vec<Point>,
    /// Storage numbers of what it keeps of the past.
    pub history: Vec<Kept>,
}

/// How a meter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// SND_NKE goes first, so that the meter does not take the first reading for a repeated one. Some meters do not answer
    /// it.
    pub reset: bool,
    /// An application reset with this subcode goes before the reading, for meters that tell their telegrams in turn.
    pub application_reset: Option<u8>,
}

impl ReadoutProfile {
    /// Whether the meter whose answer this is may be of this kind: its header says who it is, unless it has none.
    pub(super) fn may_be(&self, answer: &[u8]) -> bool {
        // of several telegrams the first: start, length twice, start, as many bytes, checksum, end
        let length = answer.get(1).map_or(0, |length| usize::from(*length) + 6);
        Telegram::parse(answer.get(..length).unwrap_or(answer))
            .ok()
            .and_then(|telegram| telegram.header.identification())
            .is_none_or(|identification| self.identify.fits(&identification))
    }

    /// How much more than its values a model of this kind is recognised by.
    pub(super) fn weight(&self) -> usize {
        self.identify.weight().into()
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            reset: true,
            application_reset: None,
        }
    }
}

/// What the header of a model's meters says. Empty lists and "none" fit everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identify {
    /// Manufacturers.
    #[serde(serialize_with = "letters")]
    pub manufacturers: Vec<Manufacturer>,
    /// Versions.
    pub versions: Vec<u8>,
    /// Media, see [`crate::protocol::mbus::medium_name`].
    pub media: Vec<u8>,
}

impl Identify {
    /// Whether a meter that says this of itself is of the model.
    pub fn fits(&self, identification: &Identification) -> bool {
        fn among<T: PartialEq>(list: &[T], wanted: &T) -> bool {
            list.is_empty() || list.contains(wanted)
        }
        among(&self.manufacturers, &identification.manufacturer)
            && among(&self.versions, &identification.version)
            && self.fits_medium(identification.medium)
    }

    /// Whether the medium is one of the model's.
    pub fn fits_medium(&self, medium: u8) -> bool {
        self.media.is_empty() || self.media.contains(&medium)
    }

    /// How much a fit says: a model that names maker and version is nearer than one that names the medium alone.
    pub fn weight(&self) -> u8 {
        4 * u8::from(!self.manufacturers.is_empty())
            + 2 * u8::from(!self.versions.is_empty())
            + u8::from(!self.media.is_empty())
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it is.
    pub measurand: Measurand,
    /// Where it is.
    pub place: Place,
    /// The unit: of a vendor quantity the one that it is told in, of a record without a unit the one that it has. Empty:
    /// the record says it.
    pub unit: String,
    /// Value = number of the record × this.
    pub scale: rust_decimal::Decimal,
    /// Whether a poll of everything wants it.
    pub poll: bool,
    /// Whether some meters of the model do not have it.
    pub optional: bool,
}

impl Point {
    /// The quantity, if it is one of the list.
    pub fn quantity(&self) -> Option<Quantity> {
        match &self.measurand {
            Measurand::Standard(quantity) => Some(*quantity),
            Measurand::Vendor(_) => None,
        }
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a record.
    Record(Key),
    /// In the status byte of the header.
    Status,
}

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Its kind.
    #[serde(serialize_with = "class")]
    pub class: Class,
    /// Which of its values.
    #[serde(serialize_with = "function")]
    pub function: Function,
    /// Storage number.
    pub storage: u64,
    /// Tariff.
    pub tariff: u32,
    /// Subunit.
    pub subunit: u16,
    /// What narrows it, all of it.
    #[serde(serialize_with = "marks")]
    pub marks: Vec<Mark>,
    /// The unit as a text of the meter.
    pub unit_text: Option<String>,
    /// The bytes of VIF and VIFE, where the kind does not tell enough.
    pub vib: Option<Vec<u8>>,
    /// Which of several that say the same, from 0.
    pub nth: usize,
}

impl Key {
    /// Whether a record is of this kind and place, whatever its function.
    fn fits_but_function(&self, record: &Record) -> bool {
        self.class == record.class
            && (self.storage, self.tariff, self.subunit) == (record.storage, record.tariff, record.subunit)
            && self.marks == record.marks
            && self.unit_text == record.unit_text
            && self.vib.as_ref().is_none_or(|vib| vib == record.vib())
    }

    /// The same at another storage number.
    fn at_storage(&self, storage: u64) -> Self {
        Self {
            storage,
            ..self.clone()
        }
    }
}

/// Storage numbers at which a meter keeps past states of its registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What made it keep them: the end of a day, or that of a month or a due date.
    #[serde(serialize_with = "kind")]
    pub kind: Kind,
    /// Those of all states; of states without a date the last one first.
    pub storages: Vec<u64>,
    /// What a date without a time stands for.
    pub day: DayEdge,
}

/// Which midnight a date stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DayEdge {
    /// The one that ends the day.
    #[default]
    End,
    /// The one that begins it.
    Begin,
}

/// Whether a point is a register of now, of which a meter can keep past states.
fn is_register(point: &Point) -> bool {
    image::counts(point)
}

impl ReadoutProfile {
    /// A meter that tells nothing.
    pub fn empty() -> Self {
        Self {
            ask: Ask::default(),
            identify: Identify::default(),
            points: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The points of which a meter can keep past states.
    pub fn registers(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| is_register(point))
    }

    /// Whether some point is the counterpart of this one at a storage number.
    pub fn has_point_at(&self, point: &Point, storage: u64) -> bool {
        let Place::Record(key) = &point.place else {
            return false;
        };
        let place = Place::Record(key.at_storage(storage));
        self.points.iter().any(|other| other.place == place)
    }

    /// Where a past state is kept.
    pub(in crate::device) fn kept(&self, past: Past) -> Option<&Kept> {
        self.history.iter().find(|kept| kept.kind == past.kind())
    }
}

fn kind<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        Kind::Daily => "daily",
        Kind::Settlement => "settlement",
    })
}

fn letters<S: Serializer>(list: &[Manufacturer], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|code| code.letters()))
}

fn class<S: Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
}

fn function<S: Serializer>(function: &Function, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(function.name())
}

fn marks<S: Serializer>(marks: &[Mark], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(marks.iter().map(|mark| mark.name()))
}

#[cfg(test)]
mod tests;

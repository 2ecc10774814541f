//! How values stand in an APDU (DL/T 698.45-2017, 7.2; A-XDR of DL/T 790.6): numbers high byte first, a length before
//! everything of unknown size, a tag before a choice, 00 or 01 before what may be absent.
//!
//! A structure is declared once, by [`sequence!`] or [`choice!`], and is both read and written by that declaration. What
//! is read is bounded: depth, number of elements, and no memory is taken before its bytes are there.

use crate::base::bytes::{Reader, ShortRead};
use crate::base::hex;
use std::fmt;

/// The most bytes of an APDU: what its size field in CONNECT can say.
pub const APDU_MAX: usize = 65_535;
/// How deep choices may stand within one another; an answer with a record of arrays of structures needs 6.
pub const DEPTH_MAX: usize = 24;
/// The most elements of all lists of one APDU together.
pub const ELEMENTS_MAX: usize = 16_384;

/// Why bytes are no APDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It breaks off.
    #[error("the APDU breaks off: {0}")]
    Short(#[from] ShortRead),
    /// Something stands behind its end.
    #[error("{extra} bytes behind the end of the APDU, from its byte {offset}")]
    Trailing {
        /// Where they begin.
        offset: usize,
        /// How many.
        extra: usize,
    },
    /// A tag that the standard does not have there.
    #[error("{found:02X} at byte {offset} of the APDU is no {what}")]
    Choice {
        /// Where it stands.
        offset: usize,
        /// What should stand there.
        what: &'static str,
        /// The tag.
        found: u8,
    },
    /// A value that the standard forbids.
    #[error("byte {offset} of the APDU: {what}")]
    Invalid {
        /// Where it stands.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// More than is taken.
    #[error("byte {offset} of the APDU: more than {max} {what}")]
    Limit {
        /// Where the limit was met.
        offset: usize,
        /// Of what.
        what: &'static str,
        /// How many are taken.
        max: usize,
    },
}

/// An APDU that is being read.
pub(super) struct Input<'a> {
    reader: Reader<'a>,
    depth: usize,
    elements: usize,
    spread: bool,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8], spread: bool) -> Self {
        Self {
            reader: Reader::new(bytes),
            depth: 0,
            elements: 0,
            spread,
        }
    }

    /// Whether a column that stands for several has a value for each of them in a row, not one for all.
    pub(super) fn spread(&self) -> bool {
        self.spread
    }

    pub(super) fn offset(&self) -> usize {
        self.reader.offset()
    }

    pub(super) fn left(&self) -> usize {
        self.reader.rest().len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        Ok(self.reader.take(count)?)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        Ok(self.reader.array()?)
    }

    /// Goes into a choice.
    pub(super) fn enter(&mut self) -> Result<(), CodecError> {
        self.depth += 1;
        self.limit(self.depth, "levels", DEPTH_MAX)
    }

    /// Comes out of it.
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// A length (A-XDR): one byte up to 127, else 8n and n bytes. The long form of a short length is taken as well.
    pub(super) fn length(&mut self) -> Result<usize, CodecError> {
        let offset = self.offset();
        let first = u8::read(self)?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        let width = usize::from(first & 0x7F);
        if !(1..=4).contains(&width) {
            let what = "a length of no size, or of more than 4 bytes";
            return Err(CodecError::Invalid { offset, what });
        }
        let bytes = self.take(width)?;
        Ok(bytes.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// So many more elements are read; each has one byte at least.
    pub(super) fn elements(&mut self, count: usize) -> Result<(), CodecError> {
        if count > self.left() {
            let (offset, left) = (self.offset(), self.left());
            let wanted = count;
            return Err(ShortRead { offset, wanted, left }.into());
        }
        self.elements = self.elements.saturating_add(count);
        self.limit(self.elements, "elements", ELEMENTS_MAX)
    }

    fn limit(&self, have: usize, what: &'static str, max: usize) -> Result<(), CodecError> {
        let offset = self.offset();
        match have > max {
            true => Err(CodecError::Limit { offset, what, max }),
            false => Ok(()),
        }
    }

    pub(super) fn finish(self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            extra => Err(CodecError::Trailing {
                offset: self.offset(),
                extra,
            }),
        }
    }
}

/// What stands in an APDU.
pub(super) trait Wire: Sized {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError>;
    fn write(&self, out: &mut Vec<u8>);
}

/// A choice: its tag may stand apart from its content, as in the services, where the PIID stands between.
pub(super) trait Tagged: Sized {
    const WHAT: &'static str;
    fn tag(&self) -> u8;
    /// `offset` is the place of the tag.
    fn read_tagged(tag: u8, offset: usize, input: &mut Input<'_>) -> Result<Self, CodecError>;
    fn write_content(&self, out: &mut Vec<u8>);
}

/// Reads the whole of `bytes`; see [`Input::spread`].
pub(super) fn decode<T: Wire>(bytes: &[u8], spread: bool) -> Result<T, CodecError> {
    if bytes.len() > APDU_MAX {
        return Err(CodecError::Limit {
            offset: 0,
            what: "bytes",
            max: APDU_MAX,
        });
    }
    let mut input = Input::new(bytes, spread);
    let value = T::read(&mut input)?;
    input.finish()?;
    Ok(value)
}

pub(super) fn write_length(len: usize, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len @ ..=0x7F) => out.push(len),
        _ => {
            let bytes = len.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let bytes = bytes.get(zeros..).unwrap_or_default();
            // a usize has 8 bytes at most
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            out.extend_from_slice(bytes);
        }
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Wire for $number {
            fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
                Ok(Self::from_be_bytes(input.array()?))
            }
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )+};
}

numbers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Wire for std::num::NonZeroU16 {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let offset = input.offset();
        let what = "a time-out of 0 for the whole";
        Self::new(u16::read(input)?).ok_or(CodecError::Invalid { offset, what })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.get().write(out);
    }
}

impl Wire for bool {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        // the standard says 0 and 1, meters write FF as well
        Ok(u8::read(input)? != 0)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        input.array()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        T::read(input).map(Self::new)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.as_ref().write(out);
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let offset = input.offset();
        match u8::read(input)? {
            0 => Ok(None),
            1 => T::read(input).map(Some),
            found => {
                let what = "mark of something absent (00) or present (01)";
                Err(CodecError::Choice { offset, what, found })
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let count = input.length()?;
        input.elements(count)?;
        (0..count).map(|_| T::read(input)).collect()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.len(), out);
        self.iter().for_each(|value| value.write(out));
    }
}

/// A list that has one element at least, as those of the services do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Many<T>(Vec<T>);

impl<T> Many<T> {
    /// A list; none for nothing.
    pub fn new(list: Vec<T>) -> Option<Self> {
        (!list.is_empty()).then_some(Self(list))
    }

    /// A list of one.
    pub fn one(element: T) -> Self {
        Self(vec![element])
    }

    /// The elements.
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T> std::ops::Deref for Many<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Wire> Wire for Many<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let offset = input.offset();
        let what = "a list of nothing";
        Self::new(Wire::read(input)?).ok_or(CodecError::Invalid { offset, what })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// A string of bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Octets(pub Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<&[u8]> for Octets {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Wire for Octets {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let count = input.length()?;
        Ok(Self(input.take(count)?.to_vec()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }
}

/// Declares a SEQUENCE: its fields stand one behind the other.
macro_rules! sequence {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$of_field:meta])* pub $field:ident : $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$of_field])* pub $field: $type),+ }

        impl $crate::protocol::dlt698::wire::Wire for $name {
            fn read(
                input: &mut $crate::protocol::dlt698::wire::Input<'_>,
            ) -> Result<Self, $crate::protocol::dlt698::wire::CodecError> {
                Ok(Self { $($field: $crate::protocol::dlt698::wire::Wire::read(input)?),+ })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $($crate::protocol::dlt698::wire::Wire::write(&self.$field, out);)+
            }
        }
    };
}

/// Declares a CHOICE: a tag, and what stands behind it.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident as $what:literal {
        $($(#[$of_variant:meta])* $tag:literal => $variant:ident $(($value:ident : $type:ty))?),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$of_variant])* $variant $(($type))?),+ }

        impl $crate::protocol::dlt698::wire::Tagged for $name {
            const WHAT: &'static str = $what;

            fn tag(&self) -> u8 {
                match self { $(choice!(@pattern $variant $($value)?) => $tag),+ }
            }

            fn read_tagged(
                tag: u8, offset: usize, input: &mut $crate::protocol::dlt698::wire::Input<'_>,
            ) -> Result<Self, $crate::protocol::dlt698::wire::CodecError> {
                input.enter()?;
                let value = match tag {
                    $($tag => Self::$variant
                        $((<$type as $crate::protocol::dlt698::wire::Wire>::read(input)?))?,)+
                    found => {
                        let what = Self::WHAT;
                        return Err($crate::protocol::dlt698::wire::CodecError::Choice { offset, what, found });
                    }
                };
                input.leave();
                Ok(value)
            }

            fn write_content(&self, _out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($value))? => {
                        $($crate::protocol::dlt698::wire::Wire::write($value, _out);)?
                    })+
                }
            }
        }

        impl $crate::protocol::dlt698::wire::Wire for $name {
            fn read(
                input: &mut $crate::protocol::dlt698::wire::Input<'_>,
            ) -> Result<Self, $crate::protocol::dlt698::wire::CodecError> {
                let offset = input.offset();
                let tag = <u8 as $crate::protocol::dlt698::wire::Wire>::read(input)?;
                $crate::protocol::dlt698::wire::Tagged::read_tagged(tag, offset, input)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.push($crate::protocol::dlt698::wire::Tagged::tag(self));
                $crate::protocol::dlt698::wire::Tagged::write_content(self, out);
            }
        }
    };
    (@pattern $variant:ident) => { Self::$variant };
    (@pattern $variant:ident $value:ident) => { Self::$variant(_) };
}

pub(super) use {choice, sequence};

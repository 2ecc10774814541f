//! PROXY: what a terminal asks the meters behind it for us (DL/T 698.45-2017, 7.1.3.8).

use super::{
    ActionDone, ActionItem, ActionThenGet, ActionThenGot, GetRecord, ItemResult, RecordResult, SetDone, SetItem,
    SetThenGet, SetThenGot,
};
use crate::protocol::dlt698::address::Tsa;
use crate::protocol::dlt698::dar::Dar;
use crate::protocol::dlt698::values::{Comdcb, Oad};
use crate::protocol::dlt698::wire::{CodecError, Input, Many, Octets, Wire, choice, sequence};
use std::num::NonZeroU16;

/// What one meter is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target<T> {
    /// Whom.
    pub server: Tsa,
    /// How long the terminal waits for it, seconds; 0: as it thinks.
    pub timeout_s: u16,
    /// What.
    pub items: Many<T>,
}

impl<T: Wire> Wire for Target<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            server: Wire::read(input)?,
            timeout_s: Wire::read(input)?,
            items: Wire::read(input)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.server.write(out);
        self.timeout_s.write(out);
        self.items.write(out);
    }
}

/// What meters are asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxyList<T> {
    /// How long the terminal may take for all of it, seconds.
    pub timeout_s: NonZeroU16,
    /// Whom and what.
    pub targets: Many<Target<T>>,
}

impl<T: Wire> Wire for ProxyList<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            timeout_s: Wire::read(input)?,
            targets: Wire::read(input)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.timeout_s.write(out);
        self.targets.write(out);
    }
}

sequence! {
    /// Asks a meter for a record.
    pub struct ProxyRecord {
        /// How long the terminal may take, seconds.
        pub timeout_s: NonZeroU16,
        /// Whom.
        pub server: Tsa,
        /// What.
        pub record: GetRecord,
    }
}

sequence! {
    /// Bytes for a meter as they are, in whatever protocol.
    pub struct ProxyTransparent {
        /// Through which port.
        pub port: Oad,
        /// How the port is set.
        pub settings: Comdcb,
        /// How long the terminal waits for the answer, seconds.
        pub timeout_s: u16,
        /// How long it waits for the next byte of it, milliseconds.
        pub byte_timeout_ms: u16,
        /// The bytes.
        pub command: Octets,
    }
}

choice! {
    /// What is asked of others.
    pub enum ProxyBody as "proxy request" {
        /// Attributes.
        1 => Get(list: ProxyList<Oad>),
        /// A record.
        2 => Record(record: ProxyRecord),
        /// To set attributes.
        3 => Set(list: ProxyList<SetItem>),
        /// To set and read attributes.
        4 => SetThenGet(list: ProxyList<SetThenGet>),
        /// To do methods.
        5 => Action(list: ProxyList<ActionItem>),
        /// To do methods and read attributes.
        6 => ActionThenGet(list: ProxyList<ActionThenGet>),
        /// Bytes as they are.
        7 => Transparent(transparent: ProxyTransparent),
    }
}

/// What one meter said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetResult<T> {
    /// Who.
    pub server: Tsa,
    /// What.
    pub items: Many<T>,
}

impl<T: Wire> Wire for TargetResult<T> {
    fn read(input: &mut Input<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            server: Wire::read(input)?,
            items: Wire::read(input)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.server.write(out);
        self.items.write(out);
    }
}

sequence! {
    /// A meter's record.
    pub struct ProxyRecordResult {
        /// Whose.
        pub server: Tsa,
        /// What.
        pub record: RecordResult,
    }
}

choice! {
    /// A meter's bytes, or why there are none.
    pub enum TransparentContent as "result of bytes" {
        /// Why there are none.
        0 => Dar(dar: Dar),
        /// The bytes.
        1 => Bytes(bytes: Octets),
    }
}

sequence! {
    /// What a port said.
    pub struct ProxyTransparentResult {
        /// Which.
        pub port: Oad,
        /// What.
        pub content: TransparentContent,
    }
}

choice! {
    /// What others said.
    pub enum ProxyResult as "proxy answer" {
        /// Attributes.
        1 => Get(list: Many<TargetResult<ItemResult>>),
        /// A record.
        2 => Record(record: ProxyRecordResult),
        /// Whether attributes are set.
        3 => Set(list: Many<TargetResult<SetDone>>),
        /// The same, and what was read.
        4 => SetThenGet(list: Many<TargetResult<SetThenGot>>),
        /// Whether methods are done.
        5 => Action(list: Many<TargetResult<ActionDone>>),
        /// The same, and what was read.
        6 => ActionThenGet(list: Many<TargetResult<ActionThenGot>>),
        /// Bytes as they are.
        7 => Transparent(transparent: ProxyTransparentResult),
    }
}

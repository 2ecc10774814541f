//! Every target by its name.

mod cjt188;
mod dialogue;
mod dlt645;
mod dlt698;
mod dtu;
mod explain;
mod gdw376;
mod mbus;
mod modbus;
mod models;
mod proxy;
mod sheet;

use crate::device::catalogue::Catalogue;
use crate::device::decode::{DecodedPoll, decode};
use crate::device::model::{Folder, MeterModel, Profile};
use crate::device::plan::plan;
use crate::domain::reading::{Measurand, Value};
use crate::protocol::{Protocol, Request};
use crate::seeds::Seeds;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// One body and where it begins.
pub struct Target {
    /// Its name; that of its file in `corpus`.
    pub name: &'static str,
    /// Takes any bytes; a panic is a find.
    pub body: fn(&[u8]),
    /// Inputs made of recorded frames, so that a run does not begin with nothing.
    pub seeds: fn(&mut Seeds),
}

macro_rules! targets {
    ($($name:ident => $room:path),* $(,)?) => {
        /// Every target.
        pub const ALL: &[Target] = &[$({
            use $room as room;
            Target { name: stringify!($name), body: room::run, seeds: room::seeds }
        }),*];
    };
}

targets! {
    modbus => modbus,
    dtu => dtu,
    dlt645 => dlt645,
    cjt188 => cjt188,
    mbus => mbus,
    dlt698 => dlt698,
    gdw376 => gdw376,
    dialogue => dialogue,
    proxy => proxy,
    explain => explain,
    models => models,
    sheet => sheet,
    spool => crate::spool::target,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().expect("the built-in models are right"));

/// The built-in models of some protocols.
fn models(protocols: &[Protocol]) -> Vec<Arc<MeterModel>> {
    let speaks = |model: &&Arc<MeterModel>| model.protocols().iter().any(|spoken| protocols.contains(spoken));
    CATALOGUE.iter().filter(speaks).cloned().collect()
}

/// What a model's questions of everything are.
fn questions(model: &MeterModel) -> Vec<Request> {
    let address = match model.folder {
        Folder::Modbus | Folder::Mbus | Folder::Gdw376 => "1",
        Folder::Dlt645 => "12345678",
        Folder::Cjt188 => "12345678901234",
        Folder::Dlt698 => "123456789012",
    };
    plan(model, address, &[]).unwrap_or_default()
}

/// Decodes answers and asserts what any decoding promises.
fn decoded(model: &MeterModel, requests: &[Request], answers: &[Option<&[u8]>]) -> DecodedPoll {
    let poll = decode(model, requests, answers);
    let mut seen = BTreeSet::new();
    for item in &poll.items {
        let name = format!("{:?}", item.measurand);
        assert!(seen.insert(name.clone()), "{name} comes twice");
        match item.value {
            Value::Decimal(value) => assert!(value.scale() <= 28),
            Value::F32(value) => assert!(value.is_finite(), "{name} is {value}"),
            Value::F64(value) => assert!(value.is_finite(), "{name} is {value}"),
        }
    }
    let said = |measurand: &Measurand| {
        poll.items.iter().any(|item| item.measurand == *measurand)
            || poll.problems.iter().any(|problem| problem.measurand == *measurand)
    };
    // a meter may lack what its model calls optional
    let optional = |measurand: &Measurand| match &model.profile {
        Profile::Mbus(profile) => profile
            .points
            .iter()
            .any(|point| point.optional && point.measurand == *measurand),
        _ => false,
    };
    for (measurand, polled) in model.measurands() {
        let there = !polled || optional(measurand) || said(measurand);
        assert!(there, "{measurand:?} was asked for and is nowhere");
    }
    poll
}

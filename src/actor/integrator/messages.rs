//! What integrators read: an item of a webhook's batch, and what a broker is told of an item.

use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::domain::integration::discovery::{self, Device};
use crate::domain::integration::naming::{Topics, dtu_level};
use crate::domain::integration::{FeedTopic, Shape};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Item, Measurand, Reading};
use crate::port::integrations::{FeedData, FeedItem, GoneMeter, Options, Places, Publication};
use crate::port::readings::{item_of, items_of};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A reading in JSON; its values are those of `/meters/{id}/readings`.
fn reading_json(reading: &Reading) -> Value {
    json!({ "ts": reading.ts, "source": reading.source, "read_at": reading.read_at, "meter_time": reading.meter_time,
            "items": items_of(reading) })
}

/// An item of a batch.
pub(super) fn item(item: &FeedItem) -> Value {
    let data = match &item.data {
        FeedData::Reading { reading, .. } => reading_json(reading),
        FeedData::Event(event) => event.clone(),
    };
    json!({ "id": item.id, "topic": item.topic, "meter_id": item.meter, "dtu_id": item.dtu, "data": data })
}

/// What a broker has been told in this connection, and how.
pub(super) struct Teller {
    account: AccountId,
    options: Options,
    topics: Topics,
    /// Whether it hears how DTUs fare.
    sessions: bool,
    /// Quantities whose configuration Home Assistant has.
    known: HashSet<(MeterId, Quantity)>,
    pub(super) places: Places,
}

/// The name of a variant, as JSON has it.
fn word<T: serde::Serialize>(value: &T) -> String {
    let name = serde_json::to_value(value).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

fn text(topic: String, payload: impl Into<Bytes>, retain: bool) -> Publication {
    Publication {
        topic,
        payload: payload.into(),
        retain,
        expiry_s: 0,
        json: false,
        properties: Vec::new(),
    }
}

impl Teller {
    pub(super) fn new(account: AccountId, options: Options, sessions: bool) -> Self {
        Self {
            sessions,
            topics: Topics::new(&options.prefix, account),
            account,
            options,
            known: HashSet::new(),
            places: Places::default(),
        }
    }

    /// What the broker tells when we are lost.
    pub(super) fn will(&self) -> (String, String) {
        (self.topics.status(), OFFLINE.to_owned())
    }

    /// The server is here, or goes.
    pub(super) fn status(&self, here: bool) -> Publication {
        text(self.topics.status(), if here { ONLINE } else { OFFLINE }, true)
    }

    fn dtu(&self, dtu: Option<DtuId>) -> String {
        let dtu = dtu.unwrap_or(DtuId(0));
        let sn = self.places.dtus.get(&dtu).and_then(|place| place.sn.as_deref());
        dtu_level(dtu, sn)
    }

    fn dtu_status(&self, dtu: DtuId, online: bool) -> Publication {
        let topic = self.topics.dtu_status(&self.dtu(Some(dtu)));
        text(topic, if online { ONLINE } else { OFFLINE }, true)
    }

    /// Takes what there is now. Returns what the broker is to forget, and how each DTU fares that is new or has changed, if
    /// that is told.
    pub(super) fn settle(&mut self, places: Places) -> Vec<Publication> {
        let renamed: HashSet<MeterId> = places
            .meters
            .values()
            .filter(|place| self.places.meters.get(&place.id).is_some_and(|old| old != *place))
            .map(|place| place.id)
            .collect();
        self.known
            .retain(|(meter, _)| places.meters.contains_key(meter) && !renamed.contains(meter));
        let before = std::mem::replace(&mut self.places, places);
        let mut out = Vec::new();
        for gone in &self.places.gone {
            out.extend(self.forget(gone));
        }
        for dtu in &self.places.gone_dtus {
            out.push(text(self.topics.dtu_status(&self.dtu(Some(*dtu))), Bytes::new(), true));
        }
        if self.sessions {
            let mut dtus: Vec<_> = self.places.dtus.iter().collect();
            dtus.sort_by_key(|(id, _)| **id);
            let there = dtus.into_iter().filter(|(id, place)| {
                !self.places.gone_dtus.contains(id) && before.dtus.get(id).is_none_or(|old| old != *place)
            });
            out.extend(there.map(|(id, place)| self.dtu_status(*id, place.online)));
        }
        out
    }

    /// Clears what is retained of a meter.
    fn forget(&self, gone: &GoneMeter) -> Vec<Publication> {
        let dtu = self.dtu(Some(gone.dtu));
        let mut topics = vec![self.topics.reading(&dtu, gone.id)];
        for name in &gone.quantities {
            topics.push(self.topics.value(&dtu, gone.id, name));
            if let Some(prefix) = &self.options.discovery {
                topics.push(discovery::config_topic(prefix, self.account, gone.id, name));
            }
        }
        topics
            .into_iter()
            .map(|topic| text(topic, Bytes::new(), true))
            .collect()
    }

    /// Whether what is known of places does not do for an item.
    pub(super) fn lacks(&self, item: &FeedItem) -> bool {
        let meter = item.meter.is_some_and(|meter| !self.places.meters.contains_key(&meter));
        meter || item.dtu.is_some_and(|dtu| !self.places.dtus.contains_key(&dtu))
    }

    /// What the broker is told of an item.
    pub(super) fn tell(&mut self, item: &FeedItem) -> Vec<Publication> {
        match &item.data {
            FeedData::Event(event) => self.event(item, event),
            FeedData::Reading { reading, newest } => {
                // what is retained of a meter that is gone would never be cleared
                let newest = *newest && self.places.meters.contains_key(&reading.meter);
                self.reading(item, reading, newest)
            }
        }
    }

    fn event(&self, item: &FeedItem, event: &Value) -> Vec<Publication> {
        let mut out = vec![Publication {
            json: true,
            properties: vec![("id".to_owned(), item.id.clone())],
            ..text(self.topics.events(item.topic.as_str()), event.to_string(), false)
        }];
        let said = |field: &str| event.get(field).and_then(Value::as_str);
        if let (FeedTopic::Sessions, Some(dtu)) = (item.topic, item.dtu) {
            match (said("state"), said("cause")) {
                (Some("began"), _) => out.push(self.dtu_status(dtu, true)),
                // a newer session took its place
                (_, Some("replaced")) => {}
                _ => out.push(self.dtu_status(dtu, false)),
            }
        }
        out
    }

    fn reading(&mut self, item: &FeedItem, reading: &Reading, newest: bool) -> Vec<Publication> {
        let dtu = self.dtu(item.dtu);
        match self.options.shape {
            Shape::Json => {
                let topic = if newest {
                    self.topics.reading(&dtu, reading.meter)
                } else {
                    self.topics.past_reading(&dtu, reading.meter)
                };
                let payload = json!({ "id": item.id, "meter_id": reading.meter, "dtu_id": item.dtu,
                                      "data": reading_json(reading) })
                .to_string();
                vec![Publication {
                    json: true,
                    expiry_s: self.options.expiry_s,
                    properties: vec![("id".to_owned(), item.id.clone())],
                    ..text(topic, payload, newest)
                }]
            }
            Shape::Values => {
                let mut out = Vec::with_capacity(reading.items.len());
                for value in &reading.items {
                    if newest {
                        out.extend(self.introduce(&dtu, reading.meter, value));
                    }
                    out.push(self.value(&dtu, &item.id, reading, value, newest));
                }
                out
            }
        }
    }

    fn value(&self, dtu: &str, id: &str, reading: &Reading, value: &Item, newest: bool) -> Publication {
        let shown = item_of(reading, value);
        let topic = if newest {
            self.topics.value(dtu, reading.meter, &shown.quantity)
        } else {
            self.topics.past_value(dtu, reading.meter, &shown.quantity)
        };
        let mut properties = vec![
            ("id".to_owned(), id.to_owned()),
            ("ts".to_owned(), reading.ts.to_rfc3339()),
            ("read_at".to_owned(), reading.read_at.to_rfc3339()),
            ("quality".to_owned(), word(&value.quality)),
            ("source".to_owned(), word(&reading.source)),
        ];
        properties.extend(shown.unit.map(|unit| ("unit".to_owned(), unit.to_owned())));
        properties.extend(reading.meter_time.map(|at| ("meter_time".to_owned(), at.to_rfc3339())));
        Publication {
            expiry_s: self.options.expiry_s,
            properties,
            ..text(topic, shown.value, newest)
        }
    }

    /// The configuration of a quantity for Home Assistant, once a connection.
    fn introduce(&mut self, dtu: &str, meter: MeterId, value: &Item) -> Option<Publication> {
        let prefix = self.options.discovery.clone()?;
        let Measurand::Standard(quantity) = value.measurand else {
            return None;
        };
        let place = self.places.meters.get(&meter)?;
        let device = Device {
            account: self.account,
            meter,
            name: &place.name,
            model: &place.model,
            dtu: place.dtu,
        };
        let state = self.topics.value(dtu, meter, quantity.name());
        let behind = self.sessions.then(|| self.topics.dtu_status(dtu));
        let available: Vec<String> = std::iter::once(self.topics.status()).chain(behind).collect();
        let config = discovery::config(&device, quantity, &state, &available);
        let topic = discovery::config_topic(&prefix, self.account, meter, quantity.name());
        self.known.insert((meter, quantity)).then(|| Publication {
            json: true,
            ..text(topic, config.to_string(), true)
        })
    }
}

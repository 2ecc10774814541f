//! Floor 4: what goes out to people and their machines: e-mail, Telegram, SMS, webhooks, MQTT brokers.
//!
//! Each sender implements `port::notices::Sender`: one message, bounded time and bytes, and an error that says whether
//! it may have arrived; those of integrations implement `port::integrations::{Poster, Broker}`. Errors name no secret and no address. It must not know databases, actors or why a message goes.

pub mod desk;
pub mod email;
pub mod gateway;
pub mod http;
pub mod integrations;
pub mod mqtt;
pub mod seal;
pub mod smpp;
mod target;
pub mod telegram;
pub mod template;
pub mod webhook;

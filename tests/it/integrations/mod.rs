//! Integrations over a real database: webhooks against a receiver that fails, hangs and redirects, brokers against
//! mosquitto and another maker's client.

mod api;
mod mqtt;
mod webhooks;
mod world;

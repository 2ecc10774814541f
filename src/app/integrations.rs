//! The senders of integrations, made of the configuration, and the integrator over them.

use super::notices::roots;
use crate::actor::integrator::{IntegratorParts, IntegratorSettings, integrator};
use crate::actor::notifier::SystemChance;
use crate::actor::supervise::RestartPolicy;
use crate::base::clock::Clock;
use crate::config::Config;
use crate::domain::notice::retry::RetryRule;
use crate::domain::notice::target::networks;
use crate::outbound::http::{Http, client_tls};
use crate::outbound::integrations::Desk;
use crate::outbound::mqtt::Mqtt;
use crate::outbound::seal::Sealer;
use crate::outbound::webhook::{Webhook, WebhookKey};
use crate::port::integrations::{Broker, IntegrationDesk, Poster};
use crate::store::Database;
use crate::store::integrations::PgFeed;
use actix::Actor;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a far side may ask us to wait at most, hours.
const ASKED_MAX_H: u32 = 24;
/// Attempts after which waits grow no more; that the longest is reached before is seen to by its bounds.
const GROWING_ATTEMPTS: u16 = 30;

/// The senders and what the API asks of them.
pub struct Integrators {
    poster: Arc<dyn Poster>,
    broker: Arc<dyn Broker>,
    /// For the API.
    pub desk: Arc<dyn IntegrationDesk>,
}

/// Makes the senders.
///
/// # Errors
/// Names the setting.
pub fn senders(config: &Config, key: WebhookKey, clock: &Arc<dyn Clock>) -> Result<Integrators, String> {
    let roots_pem = roots(&config.notify.tls_roots)?;
    let tls = client_tls(roots_pem.as_deref()).map_err(|error| format!("notify.tls_roots: {error}"))?;
    let timeout = Duration::from_secs(config.integrations.timeout_s);
    let http = Http::new(tls.clone(), timeout).map_err(|error| format!("integrations: {error}"))?;
    let private =
        networks(&config.notify.private_targets).map_err(|error| format!("notify.private_targets: {error}"))?;
    let poster = Arc::new(Webhook::new(http, key.clone(), private.clone(), Arc::clone(clock)));
    let broker = Arc::new(Mqtt::new(tls, private.clone(), Sealer::new(key.clone()), timeout));
    let desk = Desk::new(
        config.integrations.enabled,
        key,
        private,
        Arc::clone(&poster),
        Arc::clone(&broker),
    );
    Ok(Integrators {
        poster,
        broker,
        desk: Arc::new(desk),
    })
}

/// Starts the integrator on the present arbiter; it works until `stop`. Switched off, nobody is told and what happens waits
/// as long as it is kept.
pub fn start(
    config: &Config,
    database: &Database,
    integrators: &Integrators,
    clock: &Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let integrations = &config.integrations;
    let parts = IntegratorParts {
        clock: Arc::clone(clock),
        feed: Arc::new(PgFeed::new(database)),
        poster: Arc::clone(&integrators.poster),
        broker: Arc::clone(&integrators.broker),
        chance: Arc::new(SystemChance),
        settings: IntegratorSettings {
            // switched off it still counts and prunes
            active_max: if integrations.enabled {
                integrations.active_max
            } else {
                0
            },
            posts_max: integrations.posts_max,
            body_bytes_max: integrations.body_bytes_max,
            retry: RetryRule {
                first_s: integrations.retry_first_s,
                longest_s: integrations.retry_longest_s,
                attempts: GROWING_ATTEMPTS,
                age_h: ASKED_MAX_H,
            },
            stop_after: TimeDelta::days(integrations.stop_after_days.into()),
            keep: TimeDelta::days(integrations.keep_days.into()),
        },
    };
    integrator(parts, RestartPolicy::default(), stop).start();
}

//! MQTT 5 brokers (OASIS MQTT 5.0), by `rumqttc`. A connection is used until its first fault and never mended: what was
//! on its way then is told again by whoever keeps the cursor, over a new one.
//!
//! As with webhooks the target's addresses are looked at first, and the connection goes to those alone; without TLS only
//! to networks that the operator has allowed.

use super::seal::Sealer;
use super::target;
use crate::domain::notice::target::{Network, allowed};
use crate::port::integrations::{Broker, BrokerSession, BrokerTarget, Publication};
use crate::port::notices::SendError;
use async_trait::async_trait;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet, PubAckReason, PublishNotice,
    PublishNoticeError, PublishOptions, PublishProperties, QoS, TlsConfiguration, Transport,
};
use secrecy::ExposeSecret;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

/// Messages under way to a broker, unless it wants fewer (its receive maximum).
const IN_FLIGHT_MAX: u16 = 100;
/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 64;
/// Seconds of silence after which both sides ask whether the other is there.
const KEEP_ALIVE_S: u16 = 30;
/// The largest packet that is taken from a broker; it has nothing to say but confirmations.
const INCOMING_MAX: u32 = 64 * 1024;

/// What is wrong with a target, before anybody has looked up its name.
///
/// # Errors
/// Says what to give.
pub fn check(address: &str, private: &[Network]) -> Result<Url, String> {
    let url = Url::parse(address).map_err(|error| format!("is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: they have fields of their own".to_owned());
    }
    match url.scheme() {
        "mqtts" => {}
        "mqtt" if !private.is_empty() => {}
        "mqtt" => return Err("must begin with mqtts://".to_owned()),
        other => return Err(format!("must begin with mqtts://, not {other}://")),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("needs a host".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must end with the host and its port".to_owned());
    }
    match target::literal(&url) {
        Some(address) if !allowed(address, private) => Err(
            "points into a private network; the operator of the server can allow it in notify.private_targets"
                .to_owned(),
        ),
        _ => Ok(url),
    }
}

/// Connects to brokers.
#[derive(Clone)]
pub struct Mqtt {
    tls: Arc<rustls::ClientConfig>,
    private: Vec<Network>,
    sealer: Sealer,
    timeout: Duration,
}

impl std::fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mqtt")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Mqtt {
    /// `timeout`: for the connection, and for the confirmation of what is published.
    pub fn new(tls: rustls::ClientConfig, private: Vec<Network>, sealer: Sealer, timeout: Duration) -> Self {
        Self {
            tls: Arc::new(tls),
            private,
            sealer,
            timeout,
        }
    }

    async fn open(&self, target: BrokerTarget) -> Result<Box<dyn BrokerSession>, SendError> {
        let url =
            check(&target.target, &self.private).map_err(|wrong| SendError::Refused(format!("the target {wrong}")))?;
        let plain = url.scheme() != "mqtts";
        let port = url.port().unwrap_or(if plain { 1883 } else { 8883 });
        let addresses = target::resolve(&url, port, plain, &self.private).await?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let options = self.options(target, (host, port, plain), addresses)?;
        let (client, events) = AsyncClient::builder(options)
            .capacity(REQUESTS_MAX)
            .try_build()
            .map_err(|error| SendError::Refused(error.to_string()))?;
        let (told, state) = watch::channel(State::Connecting);
        let mut session = Session {
            client,
            state,
            driver: tokio::spawn(drive(events, told)),
            timeout: self.timeout,
        };
        session.up().await?;
        Ok(Box::new(session))
    }

    fn options(
        &self,
        target: BrokerTarget,
        (host, port, plain): (String, u16, bool),
        addresses: Vec<SocketAddr>,
    ) -> Result<MqttOptions, SendError> {
        let mut options = MqttOptions::new(target.client, rumqttc::Broker::tcp(host, port));
        if !plain {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(
                &self.tls,
            ))));
        }
        let timeout = self.timeout;
        options.set_socket_connector(move |_host, _options| {
            let addresses = addresses.clone();
            async move {
                // these very addresses: the name is not asked again
                let stream = tokio::time::timeout(timeout, tokio::net::TcpStream::connect(&*addresses)).await??;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        });
        options
            .set_keep_alive(KEEP_ALIVE_S)
            .set_clean_start(true)
            .set_connect_timeout(self.timeout)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
            .set_max_packet_size(Some(INCOMING_MAX));
        match (target.login.is_empty(), target.sealed) {
            (false, Some(sealed)) => {
                let opened = self.sealer.open(&sealed);
                let password = opened.map_err(|error| SendError::Refused(error.to_string()))?;
                options.set_credentials(target.login, password.expose_secret().as_bytes().to_vec());
            }
            (false, None) => {
                options.set_username(target.login);
            }
            (true, _) => {}
        }
        if let Some((topic, message)) = target.will {
            options.set_last_will(LastWill::new(topic, message, QoS::AtLeastOnce, true, None));
        }
        Ok(options)
    }
}

#[async_trait]
impl Broker for Mqtt {
    async fn connect(&self, target: BrokerTarget) -> Result<Box<dyn BrokerSession>, SendError> {
        // the look-up of the name has no time-out of its own
        tokio::time::timeout(self.timeout * 2, self.open(target))
            .await
            .unwrap_or_else(|_| Err(SendError::passing("the broker does not answer")))
    }
}

/// How a connection fares.
#[derive(Clone, Debug)]
enum State {
    Connecting,
    Up,
    Down(SendError),
}

/// Keeps the connection going until it fails. Nobody looks at what a broker says beyond confirmations.
async fn drive(mut events: EventLoop, told: watch::Sender<State>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                told.send_replace(State::Up);
            }
            Ok(_) => {}
            Err(error) => {
                told.send_replace(State::Down(classify(&error)));
                return;
            }
        }
    }
}

fn classify(error: &ConnectionError) -> SendError {
    match error {
        ConnectionError::ConnectionRefused(code) => SendError::Refused(format!("the broker refuses: {code:?}")),
        other => SendError::passing(other.to_string()),
    }
}

struct Session {
    client: AsyncClient,
    state: watch::Receiver<State>,
    driver: JoinHandle<()>,
    timeout: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    async fn up(&mut self) -> Result<(), SendError> {
        let settled = self.state.wait_for(|state| !matches!(state, State::Connecting));
        match tokio::time::timeout(self.timeout, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Down(error) => Err(error.clone()),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(SendError::passing("the connection ended")),
            Err(_) => Err(SendError::passing("the broker does not answer")),
        }
    }

    /// Why the connection is of no use any more.
    fn lost(&self) -> SendError {
        match &*self.state.borrow() {
            State::Down(error) => error.clone(),
            _ => SendError::passing("the connection ended"),
        }
    }

    async fn request(&self, publication: Publication) -> Result<PublishNotice, SendError> {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: (publication.expiry_s > 0).then_some(publication.expiry_s),
            user_properties: publication.properties,
            content_type: publication.json.then(|| "application/json".to_owned()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce)
            .retain(publication.retain)
            .properties(properties);
        self.client
            .publish_tracked(publication.topic, publication.payload, options)
            .await
            .map_err(|_| self.lost())
    }

    async fn confirmed(&self, notice: PublishNotice) -> Result<(), SendError> {
        match notice.wait_async().await {
            Ok(_) => Ok(()),
            Err(PublishNoticeError::V5PubAck(PubAckReason::NoMatchingSubscribers)) => Ok(()),
            Err(PublishNoticeError::V5PubAck(reason)) => {
                Err(SendError::Refused(format!("the broker refuses a message: {reason:?}")))
            }
            Err(PublishNoticeError::Recv) => Err(self.lost()),
            Err(other) => Err(SendError::passing(other.to_string())),
        }
    }

    async fn publish_all(&self, batch: Vec<Publication>) -> Result<(), SendError> {
        let mut open = FuturesOrdered::new();
        for publication in batch {
            let notice = self.request(publication).await?;
            open.push_back(self.confirmed(notice));
            // what is confirmed meanwhile is taken out
            while let Some(Some(done)) = open.next().now_or_never() {
                done?;
            }
        }
        while let Some(done) = open.next().await {
            done?;
        }
        Ok(())
    }
}

#[async_trait]
impl BrokerSession for Session {
    async fn publish(&mut self, batch: Vec<Publication>) -> Result<(), SendError> {
        tokio::time::timeout(self.timeout, self.publish_all(batch))
            .await
            .unwrap_or_else(|_| Err(SendError::Unsure("the broker does not confirm".to_owned())))
    }

    async fn idle(&mut self, time: Duration) -> Result<(), SendError> {
        let mut state = self.state.clone();
        let down = state.wait_for(|state| matches!(state, State::Down(_)));
        match tokio::time::timeout(time, down).await.is_err() {
            true => Ok(()),
            false => Err(self.lost()),
        }
    }

    async fn close(&mut self) {
        // the driver ends when the goodbye is out
        if self.client.disconnect().await.is_ok() {
            let _late = tokio::time::timeout(Duration::from_secs(2), &mut self.driver).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::target::networks;

    #[test]
    fn targets_are_checked() {
        let none = networks("").unwrap();
        for good in ["mqtts://broker.example", "mqtts://broker.example:9883/"] {
            assert!(check(good, &none).is_ok(), "{good}");
        }
        for wrong in [
            "mqtt://broker.example",
            "https://broker.example",
            "mqtts://user:pw@broker.example",
            "mqtts://127.0.0.1",
            "mqtts://[::1]:8883",
            "mqtts://[::ffff:10.0.0.1]",
            "mqtts://broker.example/topic",
            "mqtts://",
            "broker.example",
        ] {
            assert!(check(wrong, &none).is_err(), "{wrong}");
        }
        let some = networks("127.0.0.0/8").unwrap();
        assert!(check("mqtt://127.0.0.1:1883", &some).is_ok());
        assert!(check("mqtts://10.0.0.1", &some).is_err());
    }
}

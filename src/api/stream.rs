//! `/stream`: server-sent events of the caller's account (WHATWG HTML, 9.2).
//!
//! Each event has an id; a client that comes back with `Last-Event-ID` goes on behind it, or is told by an event `reset`
//! that the place is no longer kept. A client that reads too slowly gets an event `missed` with how many passed it by.
//! A comment keeps the connection alive and carries the place along, so that a stream whose filter lets little through
//! resumes as well. The stream ends, with an event `end`, when the session or key that opened it does.

use super::ApiState;
use super::auth::Caller;
use super::handle::In;
use super::problem::{ApiError, Kind};
use super::query::Query;
use crate::base::ids::{DtuId, MeterId};
use crate::domain::access::{Role, RoleSet};
use crate::port::dtus::DtuStore;
use crate::port::live::{LiveError, LiveFilter, LiveItem, LiveListener, LivePlace, Topic};
use crate::port::meters::MeterStore;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;
use utoipa_actix_web::service_config::ServiceConfig;

/// A comment is sent after so much silence.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The session or key is looked up anew so often.
const RECHECK: Duration = Duration::from_secs(10);
/// With the database away the stream goes on for so many look-ups (five minutes), then ends.
const RECHECKS_FAILED_MAX: u32 = 30;
/// Events written at once.
const BATCH: usize = 64;
/// Clients wait so long before they come back, milliseconds.
const RETRY_MS: u32 = 3_000;

/// What to hear.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Topics separated by commas: `readings`, `sessions`, `slots`, `alarms`, `commands`, `line`, `jobs`; none: all but `line`,
    /// which tells every question on every line (from the moment on that somebody listens to it).
    topics: Option<String>,
    /// Only about this DTU.
    dtu_id: Option<i32>,
    /// Only about this meter.
    meter_id: Option<i32>,
}

fn topics(names: Option<&str>) -> Result<Vec<Topic>, ApiError> {
    let mut found = Vec::new();
    for name in names
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let topic = Topic::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = Topic::ALL.iter().map(|topic| topic.as_str()).collect();
            ApiError::bad_query(
                "topics",
                format!("{name:?} is no topic; there are {}", known.join(", ")),
            )
        })?;
        if !found.contains(&topic) {
            found.push(topic);
        }
    }
    Ok(found)
}

/// The place of the header. One that is none of ours (another server's) is as good as one that is gone.
fn last_event_id(request: &HttpRequest) -> Option<LivePlace> {
    let text = request.headers().get("last-event-id")?.to_str().ok()?;
    (!text.is_empty()).then(|| text.parse().unwrap_or(LivePlace { epoch: 0, id: 0 }))
}

/// Live events of the caller's account, as they are stored.
#[utoipa::path(tag = "stream",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The last event seen; the stream goes on behind it")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "Events named after their topic; besides them `reset`, `missed` and `end`.")))]
#[get("/stream")]
async fn get_stream(
    state: web::Data<ApiState>,
    caller: Caller,
    meters: In<dyn MeterStore>,
    dtus: In<dyn DtuStore>,
    request: HttpRequest,
    Query(query): Query<StreamQuery>,
) -> Result<HttpResponse, ApiError> {
    if let Some(meter) = query.meter_id {
        meters.get(MeterId(meter), state.clock.now()).await?;
    }
    if let Some(dtu) = query.dtu_id {
        dtus.get(DtuId(dtu), state.clock.now()).await?;
    }
    let filter = LiveFilter {
        account: caller.account()?,
        topics: topics(query.topics.as_deref())?,
        dtu: query.dtu_id.map(DtuId),
        meter: query.meter_id.map(MeterId),
    };
    let listener = state
        .live
        .listen(filter, last_event_id(&request))
        .map_err(|error| match error {
            LiveError::AccountFull(_) => ApiError::new(Kind::TooManyRequests, error.to_string()).retry_after(30),
            LiveError::ServerFull(_) => ApiError::new(Kind::Busy, error.to_string()).retry_after(30),
        })?;
    let teller = Teller {
        state: ApiState::clone(&state),
        caller,
        listener,
        pending: VecDeque::from([greeting()]),
        checked: Instant::now(),
        checks_failed: 0,
        over: false,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        // an encoding of its own keeps the compressor, which would hold events back, away
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(teller.events()))
}

fn greeting() -> Bytes {
    Bytes::from(format!("retry: {RETRY_MS}\n: welcome\n\n"))
}

/// Tells one client.
struct Teller {
    state: ApiState,
    caller: Caller,
    listener: Box<dyn LiveListener>,
    pending: VecDeque<Bytes>,
    checked: Instant,
    checks_failed: u32,
    over: bool,
}

impl Teller {
    fn events(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(self, |mut teller| async move {
            let bytes = teller.next().await?;
            Some((Ok(bytes), teller))
        })
    }

    /// The next bytes to write; none: the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.pending.pop_front() {
            return Some(bytes);
        }
        if self.over {
            return None;
        }
        let began = Instant::now();
        loop {
            let recheck_in = RECHECK.saturating_sub(self.checked.elapsed());
            let silent_for = KEEP_ALIVE.saturating_sub(began.elapsed());
            // dropping the wait loses nothing: items are taken only when it is over
            let heard = tokio::time::timeout(recheck_in.min(silent_for), self.listener.next(BATCH)).await;
            if self.checked.elapsed() >= RECHECK && !self.may_go_on().await {
                self.over = true;
                return Some(event(
                    "end",
                    None,
                    "{\"reason\":\"the session or key that opened the stream has ended\"}",
                ));
            }
            match heard {
                Ok(Some(items)) => return Some(written(&items)),
                Ok(None) => {
                    self.over = true;
                    return Some(event("end", None, "{\"reason\":\"the server stops\"}"));
                }
                Err(_) if began.elapsed() >= KEEP_ALIVE => {
                    // an id without data moves the client's place and is no event
                    return Some(Bytes::from(format!(": keep-alive\nid: {}\n\n", self.listener.place())));
                }
                Err(_) => {}
            }
        }
    }

    async fn may_go_on(&mut self) -> bool {
        self.checked = Instant::now();
        match self.caller.still_stands(&self.state, RoleSet::of(Role::ALL)).await {
            Ok(stands) => {
                self.checks_failed = 0;
                stands
            }
            Err(_) => {
                self.checks_failed = self.checks_failed.saturating_add(1);
                self.checks_failed < RECHECKS_FAILED_MAX
            }
        }
    }
}

fn event(name: &str, place: Option<LivePlace>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 64);
    write(&mut text, name, place, data);
    Bytes::from(text)
}

/// `data` is one line: JSON escapes its line ends.
fn write(text: &mut String, name: &str, place: Option<LivePlace>, data: &str) {
    if let Some(place) = place {
        // writing to a String cannot fail
        let _infallible = writeln!(text, "id: {place}");
    }
    let _infallible = write!(text, "event: {name}\ndata: {data}\n\n");
}

fn written(items: &[LiveItem]) -> Bytes {
    let mut text = String::new();
    for item in items {
        match item {
            LiveItem::Event(event) => write(&mut text, event.topic.as_str(), Some(event.place), &event.text.json()),
            LiveItem::Reset { place } => write(
                &mut text,
                "reset",
                Some(*place),
                "{\"reason\":\"the place of Last-Event-ID is no longer kept; read anew what you missed\"}",
            ),
            LiveItem::Missed { events, place } => {
                write(&mut text, "missed", Some(*place), &format!("{{\"events\":{events}}}"));
            }
        }
    }
    Bytes::from(text)
}

/// Registers the operations.
pub(super) fn routes(cfg: &mut ServiceConfig<'_>) {
    cfg.service(get_stream);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::AccountId;
    use crate::port::live::LiveText;

    #[test]
    fn events_are_written_as_the_standard_says() {
        let place = LivePlace { epoch: 5, id: 9 };
        let items = [
            LiveItem::Reset { place },
            LiveItem::Missed { events: 3, place },
            LiveItem::Event(crate::port::live::LiveEvent {
                place,
                account: AccountId(1),
                topic: Topic::Slots,
                dtu: None,
                meter: None,
                text: LiveText::Written(serde_json::json!({ "text": "two\nlines" }).to_string().into()),
            }),
        ];
        let text = String::from_utf8(written(&items).to_vec()).unwrap();
        let blocks: Vec<&str> = text.trim_end().split("\n\n").collect();
        assert_eq!(blocks.len(), 3);
        assert!(blocks[0].starts_with("id: 5-9\nevent: reset\ndata: {"));
        assert_eq!(blocks[1], "id: 5-9\nevent: missed\ndata: {\"events\":3}");
        assert_eq!(blocks[2], "id: 5-9\nevent: slots\ndata: {\"text\":\"two\\nlines\"}");
    }

    #[test]
    fn topics_are_a_closed_list() {
        assert_eq!(
            topics(Some("slots, readings,slots")).unwrap(),
            [Topic::Slots, Topic::Readings]
        );
        assert_eq!(topics(None).unwrap(), []);
        assert_eq!(topics(Some("weather")).unwrap_err().kind(), Kind::BadQuery);
    }
}

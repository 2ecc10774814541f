//! Doubles for this room's tests: a registrar with a set verdict, a recorder that keeps all.

use super::{NetDeps, NetSettings};
use crate::base::clock::SystemClock;
use crate::base::ids::{AccountId, ConnectionId, DtuId, FrameId, FrameRange, SessionId};
use crate::port::fake::Unheard;
use crate::port::field::{
    Admission, EndCause, FieldReport, Hello, Link, LinkStats, Owner, Registrar, ReportKept, ReportLost,
};
use crate::port::frames::{FrameRecorder, RawFrame};
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(super) fn owner() -> Owner {
    Owner {
        session: SessionId(1),
        dtu: DtuId(5),
        account: AccountId(1),
        silence: Duration::from_secs(180),
        pause: Duration::ZERO,
        profile: None,
    }
}

pub(super) struct FakeRegistrar {
    pub(super) verdict: Mutex<Admission>,
    pub(super) hellos: Mutex<Vec<String>>,
    pub(super) links: Mutex<Vec<Arc<dyn Link>>>,
    pub(super) ends: Mutex<Vec<(ConnectionId, EndCause, LinkStats)>>,
}

impl FakeRegistrar {
    pub(super) fn link(&self) -> Arc<dyn Link> {
        Arc::clone(self.links.lock().unwrap().last().expect("nobody was introduced"))
    }

    pub(super) fn end(&self) -> EndCause {
        let ends = self.ends.lock().unwrap();
        assert_eq!(ends.len(), 1, "told exactly once");
        ends[0].1
    }
}

#[async_trait]
impl Registrar for FakeRegistrar {
    async fn introduce(&self, hello: Hello) -> Admission {
        self.hellos.lock().unwrap().push(hello.sn.to_string());
        self.links.lock().unwrap().push(hello.link);
        self.verdict.lock().unwrap().clone()
    }

    async fn connected(
        &self,
        _connection: ConnectionId,
        _dtu: DtuId,
        _peer: Option<SocketAddr>,
        link: Arc<dyn Link>,
    ) -> Admission {
        self.links.lock().unwrap().push(link);
        self.verdict.lock().unwrap().clone()
    }

    async fn reported(&self, _report: FieldReport) -> Result<ReportKept, ReportLost> {
        Err(ReportLost("there are no books".to_owned()))
    }

    fn ended(&self, connection: ConnectionId, cause: EndCause, stats: LinkStats) {
        self.ends.lock().unwrap().push((connection, cause, stats));
    }
}

#[derive(Default)]
pub(super) struct FakeRecorder {
    pub(super) frames: Mutex<Vec<RawFrame>>,
}

impl FrameRecorder for FakeRecorder {
    fn record(&self, new: Vec<RawFrame>) -> FrameRange {
        let mut frames = self.frames.lock().unwrap();
        let range = FrameRange {
            first: FrameId(i64::try_from(frames.len()).unwrap()),
            count: u16::try_from(new.len()).unwrap(),
        };
        frames.extend(new);
        range
    }
}

pub(super) struct World {
    pub(super) registrar: Arc<FakeRegistrar>,
    pub(super) recorder: Arc<FakeRecorder>,
    pub(super) deps: NetDeps,
}

pub(super) fn world(verdict: Admission, settings: NetSettings) -> World {
    let registrar = Arc::new(FakeRegistrar {
        verdict: Mutex::new(verdict),
        hellos: Mutex::default(),
        links: Mutex::default(),
        ends: Mutex::default(),
    });
    let recorder = Arc::new(FakeRecorder::default());
    let deps = NetDeps {
        clock: Arc::new(SystemClock),
        registrar: Arc::clone(&registrar) as Arc<dyn Registrar>,
        recorder: Arc::clone(&recorder) as Arc<dyn FrameRecorder>,
        live: Arc::new(Unheard),
        terminal_events: Arc::new(crate::port::terminal_events::KeptNowhere),
        settings: Arc::new(settings),
        stop: CancellationToken::new(),
    };
    World {
        registrar,
        recorder,
        deps,
    }
}

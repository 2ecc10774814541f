//! What the registry does with each message.

use super::*;
use std::collections::BTreeSet;

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["registry"]).inc();
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["registry"]).dec();
    }
}

impl Handler<Introduce> for Registry {
    type Result = MessageResult<Introduce>;

    fn handle(&mut self, Introduce(hello): Introduce, _ctx: &mut Self::Context) -> Self::Result {
        let now = self.parts.clock.now();
        let peer = hello.peer.to_string();
        let link = Arc::clone(&hello.link);
        let introduced = self.book.introduce(
            &hello.sn,
            hello.connection,
            peer.clone(),
            &hello.first_bytes,
            hello.link,
            now,
        );
        MessageResult(self.admit(introduced, hello.connection, peer, link))
    }
}

impl Handler<Connected> for Registry {
    type Result = MessageResult<Connected>;

    fn handle(&mut self, up: Connected, _ctx: &mut Self::Context) -> Self::Result {
        let now = self.parts.clock.now();
        let peer = up.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let live = Live {
            connection: up.connection,
            since: now,
            peer: peer.clone(),
            handle: Arc::clone(&up.link),
        };
        let admission = match self.book.own(up.dtu, live, now) {
            Introduced::Full => Admission::Refused(EndCause::Disabled),
            introduced => self.admit(introduced, up.connection, peer, up.link),
        };
        MessageResult(admission)
    }
}

impl Handler<Ended> for Registry {
    type Result = ();

    fn handle(&mut self, ended: Ended, _ctx: &mut Self::Context) {
        if let Some(dtu) = self.book.ended(ended.connection, self.parts.clock.now()) {
            self.tell_down(dtu, ended.connection);
        }
        if let Some(session) = self.sessions.remove(&ended.connection) {
            self.end_row(&session, ended.cause, ended.stats);
        }
        self.gauges();
    }
}

impl Handler<KeepReport> for Registry {
    type Result = ResponseFuture<Result<ReportKept, ReportLost>>;

    fn handle(&mut self, report: KeepReport, _ctx: &mut Self::Context) -> Self::Result {
        let shard = self.shard(report.0.dtu).cloned();
        Box::pin(async move {
            let shard = shard.ok_or_else(|| ReportLost("there is no shard".to_owned()))?;
            match shard.send(report).await {
                Ok(kept) => kept,
                Err(error) => Err(ReportLost(error.to_string())),
            }
        })
    }
}

impl Handler<ReplaceDirectory> for Registry {
    type Result = ();

    fn handle(&mut self, message: ReplaceDirectory, ctx: &mut Self::Context) {
        // a meter that stands behind another DTU now leaves its old one, whichever is placed first
        let was: HashMap<MeterId, DtuId> = self.homes().collect();
        let strays = message
            .dtus
            .iter()
            .flat_map(|dtu| dtu.meters.iter().map(|meter| (meter.id, dtu.id)));
        let moving: Vec<MeterId> = strays
            .filter(|(meter, dtu)| was.get(meter).is_some_and(|home| home != dtu))
            .map(|(meter, _)| meter)
            .collect();
        self.leave(moving.into_iter(), self.handover());
        let mut gone: BTreeSet<DtuId> = self.records.keys().copied().collect();
        let mut placed = Vec::with_capacity(message.dtus.len());
        for record in message.dtus {
            gone.remove(&record.id);
            placed.push(self.place(record));
        }
        for dtu in gone {
            placed.push(self.remove(dtu));
        }
        self.distribute(placed, message.done, ctx);
    }
}

impl Handler<UpdateDtu> for Registry {
    type Result = ();

    fn handle(&mut self, message: UpdateDtu, ctx: &mut Self::Context) {
        let placed = match message.record {
            Some(record) => self.place(record),
            None => self.remove(message.dtu),
        };
        self.distribute(vec![placed], message.done, ctx);
    }
}

impl Registry {
    /// Tells the shards first, so that a session never arrives before its DTU, then adopts waiting sockets.
    fn distribute(&mut self, placed: Vec<PlaceDtu>, done: tokio::sync::oneshot::Sender<()>, ctx: &mut Context<Self>) {
        use actix::{ActorFutureExt, WrapFuture};
        let ids: Vec<DtuId> = placed.iter().filter(|p| p.record.is_some()).map(|p| p.dtu).collect();
        let answers: Vec<_> = placed
            .into_iter()
            .filter_map(|place| Some(self.shard(place.dtu)?.send(place)))
            .collect();
        // waits one by one: the shard has got every message already when the last is answered
        let told = async move {
            for answer in answers {
                if answer.await.is_err() {
                    tracing::error!("a shard is gone");
                }
            }
        };
        ctx.spawn(told.into_actor(self).map(move |(), registry, _ctx| {
            for dtu in ids {
                registry.adopt(dtu);
            }
            registry.gauges();
            // nobody waits any more: fine
            let _answered = done.send(());
        }));
    }
}

impl Handler<GetLive> for Registry {
    type Result = MessageResult<GetLive>;

    fn handle(&mut self, GetLive(dtus): GetLive, _ctx: &mut Self::Context) -> Self::Result {
        let now = self.parts.clock.now();
        let state = |dtu: DtuId| match self.book.live(dtu) {
            Some(live) => DtuLive {
                online: true,
                since: Some(live.since),
                session: self.sessions.get(&live.connection).map(|session| session.id),
                peer: Some(live.peer.clone()),
                stats: Some(live.handle.stats()),
                clone_suspected: self.book.clone_suspected(dtu, now),
                banned_until: self.book.banned_until(dtu, now),
            },
            None => DtuLive {
                online: false,
                since: self.book.offline_since(dtu),
                session: None,
                peer: None,
                stats: None,
                clone_suspected: self.book.clone_suspected(dtu, now),
                banned_until: self.book.banned_until(dtu, now),
            },
        };
        MessageResult(dtus.into_iter().map(state).collect())
    }
}

impl Handler<GetLines> for Registry {
    type Result = MessageResult<GetLines>;

    fn handle(&mut self, GetLines(dtus): GetLines, _ctx: &mut Self::Context) -> Self::Result {
        let line = |dtu: DtuId| {
            let record = Arc::clone(self.records.get(&dtu)?);
            let live = self.book.live(dtu).filter(|_| record.enabled);
            let session = live.and_then(|live| {
                let session = self.sessions.get(&live.connection)?;
                Some((session.id, Arc::clone(&live.handle)))
            });
            Some(LineNow { record, session })
        };
        MessageResult(dtus.into_iter().map(line).collect())
    }
}

impl Handler<GetQuarantine> for Registry {
    type Result = MessageResult<GetQuarantine>;

    fn handle(&mut self, _: GetQuarantine, _ctx: &mut Self::Context) -> Self::Result {
        let mut entries: Vec<_> = self
            .book
            .waiting()
            .map(|(sn, waiting)| QuarantineEntry {
                sn: sn.clone(),
                first_seen: waiting.first_seen,
                last_seen: waiting.last_seen,
                connections: waiting.connections,
                connected: waiting.open.is_some(),
                peer: waiting.peer.clone(),
                first_bytes_hex: crate::base::hex::encode(&waiting.first_bytes),
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.last_seen));
        entries.truncate(QUARANTINE_LIST_MAX);
        MessageResult(entries)
    }
}

impl Handler<GetCounts> for Registry {
    type Result = MessageResult<GetCounts>;

    fn handle(&mut self, GetCounts(account): GetCounts, _ctx: &mut Self::Context) -> Self::Result {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let own = |record: &&Arc<DtuRecord>| account.is_none_or(|account| record.account == account);
        let online = |record: &&Arc<DtuRecord>| self.book.live(record.id).is_some();
        MessageResult(FleetCounts {
            dtus: number(self.records.values().filter(own).count()),
            online: number(self.records.values().filter(own).filter(online).count()),
            meters: number(
                self.records
                    .values()
                    .filter(own)
                    .map(|record| record.meters.len())
                    .sum(),
            ),
            quarantine: if account.is_none() {
                number(self.book.waiting_len())
            } else {
                0
            },
        })
    }
}

impl Handler<CloseSessions> for Registry {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, _: CloseSessions, _ctx: &mut Self::Context) -> Self::Result {
        let mut open: Vec<_> = self.book.sessions().map(|(dtu, live)| (dtu, live.clone())).collect();
        open.sort_by_key(|(dtu, _)| *dtu);
        let count = open.len();
        for (_, live) in &open {
            self.close_session(live, EndCause::Shutdown);
        }
        for (_, waiting) in self.book.waiting() {
            if let Some((_, link)) = &waiting.open {
                link.close(EndCause::Shutdown);
            }
        }
        Box::pin(async move { count })
    }
}

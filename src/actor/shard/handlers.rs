//! What a shard does with each message.

use super::*;

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["shard"]).inc();
        self.arm(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        ACTORS.with_label_values(&["shard"]).dec();
    }
}

impl Handler<Rearm> for Shard {
    type Result = ();

    fn handle(&mut self, _: Rearm, ctx: &mut Self::Context) {
        self.arm(ctx);
    }
}

impl Handler<PlaceDtu> for Shard {
    type Result = ();

    fn handle(&mut self, message: PlaceDtu, ctx: &mut Self::Context) {
        match message.record.clone() {
            Some(record) => self.place(message, record, ctx),
            None => {
                self.stop_dialled(message.dtu);
                if let Some(cell) = self.dtus.remove(&message.dtu) {
                    for meter in &cell.record.meters {
                        if self.meters.get(&meter.id).is_some_and(|meter| meter.dtu == message.dtu) {
                            self.remove_meter(meter.id, message.until);
                        }
                    }
                }
            }
        }
    }
}

impl Handler<SessionUp> for Shard {
    type Result = ();

    fn handle(&mut self, up: SessionUp, ctx: &mut Self::Context) {
        let Some(cell) = self.dtus.get_mut(&up.dtu) else { return };
        cell.link = Some((up.connection, Arc::clone(&up.link)));
        // a fleet that comes back at once has missed slots behind every session: they are taken up one after the other
        let wait = self.first_polls.start(self.parts.clock.monotonic());
        self.tell_meters(up.dtu, Some(&up.link), !wait.is_zero());
        if wait.is_zero() {
            return;
        }
        FirstPollsHeld {
            dtu: up.dtu.0,
            wait_ms: wait.as_millis(),
        }
        .emit();
        ctx.run_later(wait, move |shard, _ctx| {
            let cell = shard.dtus.get(&up.dtu);
            let present = cell.and_then(|cell| cell.link.as_ref()).map(|(present, _)| *present);
            if present == Some(up.connection) {
                shard.tell_meters(up.dtu, Some(&up.link), false);
            }
        });
    }
}

impl Handler<GetLink> for Shard {
    type Result = Option<Arc<dyn Link>>;

    fn handle(&mut self, GetLink(dtu): GetLink, _ctx: &mut Self::Context) -> Self::Result {
        let (_, link) = self.dtus.get(&dtu)?.link.as_ref()?;
        Some(Arc::clone(link))
    }
}

impl Handler<ScanDtu> for Shard {
    type Result = ();

    fn handle(&mut self, scan: ScanDtu, ctx: &mut Self::Context) {
        let ScanDtu {
            dtu,
            plan,
            tell,
            mut answer,
        } = scan;
        let shard = ctx.address();
        let link: LinkFinder = Arc::new(move || {
            let shard = shard.clone();
            Box::pin(async move { shard.send(GetLink(dtu)).await.ok().flatten() })
        });
        let parts = ScanParts {
            clock: Arc::clone(&self.parts.clock),
            catalogue: Arc::clone(&self.parts.catalogue),
            polls: Arc::clone(&self.parts.polls),
            link,
            connect: self.dtus.get(&dtu).map(|cell| cell.record.connect.clone()),
            tell,
        };
        actix::spawn(async move {
            let outcome = tokio::select! {
                outcome = scan::run(&plan, parts) => outcome,
                // nobody waits for it any more
                () = answer.closed() => return,
            };
            if answer.send(outcome).is_err() {
                tracing::debug!(dtu.id = dtu.0, "nobody waits for the scan any more");
            }
        });
    }
}

impl Handler<SessionDown> for Shard {
    type Result = ();

    fn handle(&mut self, down: SessionDown, _ctx: &mut Self::Context) {
        let Some(cell) = self.dtus.get_mut(&down.dtu) else {
            return;
        };
        if cell
            .link
            .as_ref()
            .is_some_and(|(connection, _)| *connection == down.connection)
        {
            cell.link = None;
            self.tell_meters(down.dtu, None, false);
        }
    }
}

impl Handler<RunConnection> for Shard {
    type Result = ();

    fn handle(&mut self, run: RunConnection, _ctx: &mut Self::Context) {
        let connection = run.connection;
        // the connection's own end (also by panic) is told to the registry by the task's owner; here it only counts
        let guard = ExitGuard::new(move || {
            let id = i64::try_from(connection.0).unwrap_or(i64::MAX);
            ActorRestarted {
                kind: "connection",
                id,
                wait_ms: 0,
                intense: false,
            }
            .emit();
        });
        DtuConnection::new(run.task, guard).start();
    }
}

impl Handler<ReadMeter> for Shard {
    type Result = ();

    fn handle(&mut self, read: ReadMeter, _ctx: &mut Self::Context) {
        match self.meters.get(&read.meter).and_then(|cell| cell.addr.as_ref()) {
            Some(addr) => addr.do_send(OnDemand {
                quantities: read.quantities,
                deadline: read.deadline,
                answer: read.answer,
            }),
            None => {
                // one that rests after its actor died is known all the same
                let failure = if self.meters.contains_key(&read.meter) {
                    ReadFailure::Missed {
                        reason: MissReason::Internal,
                        detail: None,
                    }
                } else {
                    ReadFailure::UnknownMeter
                };
                let _gone = read.answer.send(Err(failure));
            }
        }
    }
}

impl Handler<GetOpenSlots> for Shard {
    type Result = MessageResult<GetOpenSlots>;

    fn handle(&mut self, _: GetOpenSlots, _ctx: &mut Self::Context) -> Self::Result {
        let now = self.parts.clock.now();
        let mut open = OpenSlots {
            oldest: None,
            settled_until: now,
        };
        let leaving = self.leaving.iter().map(|leaving| &leaving.life);
        for life in self.meters.values().map(|cell| &cell.life).chain(leaving) {
            let agenda = life.agenda.borrow();
            open.oldest = [open.oldest, agenda.oldest_open()].into_iter().flatten().min();
            open.settled_until = open.settled_until.min(agenda.settled_until(now));
        }
        MessageResult(open)
    }
}

impl Handler<BeginSchedules> for Shard {
    type Result = ();

    fn handle(&mut self, begin: BeginSchedules, ctx: &mut Self::Context) {
        let now = self.parts.clock.now();
        let mut ended: HashMap<MeterId, Vec<_>> = HashMap::new();
        for slot in begin.ended.iter().filter(|slot| self.meters.contains_key(&slot.meter)) {
            ended.entry(slot.meter).or_default().push((slot.due_at, slot.schedule));
        }
        for (id, cell) in &self.meters {
            let ended = ended.remove(id).unwrap_or_default();
            let plan = self.parts.plan(&cell.record);
            let recovered = Agenda::recover(cell.record.account, *id, plan, now, begin.watermark, ended);
            *cell.life.agenda.borrow_mut() = recovered;
        }
        self.running = true;
        for cell in self.meters.values() {
            if let Some(addr) = &cell.addr {
                addr.do_send(Run(true));
            }
        }
        self.arm(ctx);
    }
}

impl Handler<StopSchedules> for Shard {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopSchedules, _ctx: &mut Self::Context) -> Self::Result {
        self.running = false;
        let idle: Vec<_> = self
            .meters
            .values()
            .filter_map(|cell| cell.addr.as_ref())
            .map(|addr| addr.send(Run(false)))
            .collect();
        Box::pin(async move {
            for answer in idle {
                if answer.await.is_err() {
                    continue;
                }
            }
        })
    }
}

impl Handler<MeterExited> for Shard {
    type Result = ();

    fn handle(&mut self, exited: MeterExited, ctx: &mut Self::Context) {
        let Some(cell) = self.meters.get_mut(&exited.meter) else {
            return;
        };
        if cell.generation != exited.generation {
            return;
        }
        cell.addr = None;
        let now = self.parts.clock.monotonic();
        let restart = cell.restarts.died(now, &self.parts.restarts);
        cell.life.bereave(self.parts.clock.now());
        let intense = matches!(restart, crate::actor::supervise::Restart::Intense(_));
        ActorRestarted {
            kind: "meter",
            id: exited.meter.0.into(),
            wait_ms: restart.wait().as_millis(),
            intense,
        }
        .emit();
        ctx.run_later(restart.wait(), move |shard, ctx| {
            if shard
                .meters
                .get(&exited.meter)
                .is_some_and(|cell| cell.generation == exited.generation)
            {
                shard.start_meter(exited.meter, ctx);
            }
        });
    }
}

impl Handler<DialledExited> for Shard {
    type Result = ();

    fn handle(&mut self, exited: DialledExited, ctx: &mut Self::Context) {
        let now = self.parts.clock.monotonic();
        let policy = self.parts.restarts;
        let Some(dialled) = self.dtus.get_mut(&exited.dtu).and_then(|cell| cell.dialled.as_mut()) else {
            return;
        };
        if dialled.generation != exited.generation {
            return;
        }
        dialled.addr = None;
        let restart = dialled.restarts.died(now, &policy);
        let intense = matches!(restart, crate::actor::supervise::Restart::Intense(_));
        ActorRestarted {
            kind: "connection",
            id: exited.dtu.0.into(),
            wait_ms: restart.wait().as_millis(),
            intense,
        }
        .emit();
        ctx.run_later(restart.wait(), move |shard, ctx| {
            let same = |dialled: &Dialled| dialled.generation == exited.generation;
            if shard
                .dtus
                .get(&exited.dtu)
                .and_then(|cell| cell.dialled.as_ref())
                .is_some_and(same)
            {
                shard.start_dialled(exited.dtu, ctx);
            }
        });
    }
}

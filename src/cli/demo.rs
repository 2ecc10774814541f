//! `polyphase demo`: the head end with a seeded account and a simulated fleet, so that a newcomer sees live data at once.

use super::serve::run_system;
use super::simulate::moulds;
use super::{ConfigArgs, access, complain};
use crate::app::Running;
use crate::base::clock::{Clock, SystemClock};
use crate::base::ids::{AccountId, DtuId};
use crate::config::Config;
use crate::domain::access::Role;
use crate::domain::device::{Connect, MissedRun, Overlap, RetryPolicy, SerialNumber, SlotPriority};
use crate::domain::schedule::{DayRule, Timing};
use crate::port::dtus::{DtuStore, NewDtu};
use crate::port::meters::{MeterStore, NewMeter, ScheduleChoice};
use crate::port::schedules::{ScheduleSpec, ScheduleStore};
use crate::port::scope::{Actor, InAccount, Scope, StoreError};
use crate::simulator::dtu::{FleetStats, Registration};
use crate::simulator::faults::Faults;
use crate::simulator::fleet::FleetPlan;
use crate::store::PgStores;
use clap::Args;
use rust_decimal::Decimal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Simulated DTUs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=5000))]
    dtus: u32,
    /// Meters behind each DTU
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    meters: u8,
    /// Folder of the demo's data; kept between runs
    #[arg(long, value_name = "DIR", default_value = "data/demo")]
    data: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

const MODELS: [&str; 3] = ["eastron_sdm630", "eastron_sdm120", "hiking_dds238_zns"];
const PREFIX: &str = "DEMO";
const ACCOUNT: &str = "Demo";

/// Runs until interrupted.
pub fn run(args: DemoArgs) -> ExitCode {
    let mut config = match super::configured(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.data.folder.clone_from(&args.data);
    free_ports(&mut config);
    let plan = FleetPlan {
        dtus: usize::try_from(args.dtus).unwrap_or(1),
        meters: args.meters,
        prefix: PREFIX.into(),
        seed: 2026,
        registration: Registration::Ascii,
        heartbeat: Duration::from_secs(30),
        baud: 9600,
        faults: Faults::default(),
    };
    // the fleet lives on a thread of its own, as a real one would live elsewhere
    run_system(&config, |running| {
        let seeded = seed(running, plan.clone());
        async move {
            let (device, text) = seeded.await?;
            say(&text);
            start_fleet(plan, device)
        }
    })
}

/// A demo starts also where the usual ports are taken.
fn free_ports(config: &mut Config) {
    if std::net::TcpListener::bind(config.http.bind).is_err() {
        config.http.bind.set_port(0);
    }
    for listener in &mut config.listeners {
        if std::net::TcpListener::bind(listener.bind).is_err() {
            listener.bind.set_port(0);
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "address and credentials are what a newcomer waits for"
)]
fn say(text: &str) {
    println!("{text}");
}

/// Makes account, person, key, DTUs, meters and schedule; answers the device port and what to tell the newcomer.
fn seed(running: &Running, plan: FleetPlan) -> impl Future<Output = anyhow::Result<(String, String)>> + use<> {
    let database = running.database();
    let fleet = running.fleet();
    let (http, devices) = (running.http, running.devices.clone());
    async move {
        let clock = SystemClock;
        let tag = clock.now().format("%Y%m%d%H%M%S").to_string();
        let email = format!("demo-{tag}@example.org");
        let password = password();
        let user = access::add_user(&database, &clock, &email, Role::Admin, Some(ACCOUNT), &password).await?;
        let key = access::create_api_key(&database, &clock, &email, "demo").await?;
        let account = user
            .account_id
            .ok_or_else(|| anyhow::anyhow!("the demo's user has no account"))?;
        let stores = PgStores::new(database);
        let made = make_fleet(&stores, account, &plan, &clock).await?;
        crate::port::fleet::Fleet::reload_all(&fleet).await;
        let device = devices
            .first()
            .map(|address| format!("127.0.0.1:{}", address.port()))
            .unwrap_or_default();
        let text = format!(
            "\nPolyphase demo: {made} meters behind {} virtual DTUs are read every 10 seconds\n\n  \
             API        http://{http}/api/v1     (explained at http://{http}/api/docs)\n  \
             log in     {email} / {password}\n  \
             key        {key}\n  DTUs       dial {device}\n\n  \
             curl -s -H 'Authorization: Bearer {key}' http://{http}/api/v1/summary\n  \
             curl -s -H 'Authorization: Bearer {key}' 'http://{http}/api/v1/meters?limit=3'\n  \
             curl -sN -H 'Authorization: Bearer {key}' 'http://{http}/api/v1/stream?topics=readings'\n\n\
             Ctrl-C stops it.\n",
            plan.dtus
        );
        Ok((device, text))
    }
}

fn password() -> String {
    (0..4)
        .map(|_| format!("{:04x}", rand::random::<u16>()))
        .collect::<Vec<_>>()
        .join("-")
}

/// The serial number of a virtual DTU of this run.
fn serial(plan: &FleetPlan, index: usize) -> anyhow::Result<SerialNumber> {
    Ok(SerialNumber::parse(&plan.sn(index))?)
}

/// Makes what is not there yet; answers how many meters the fleet has.
async fn make_fleet(
    stores: &PgStores,
    account: AccountId,
    plan: &FleetPlan,
    clock: &dyn Clock,
) -> anyhow::Result<usize> {
    let scope = || Scope {
        account,
        actor: Actor::command_line(),
    };
    let schedules: Box<dyn ScheduleStore> = stores.in_account(scope());
    let dtus: Box<dyn DtuStore> = stores.in_account(scope());
    let meters: Box<dyn MeterStore> = stores.in_account(scope());
    // a second run on the same folder goes on with what is there
    let known = schedules.list(None, 1000).await?;
    let schedule = match known.into_iter().find(|known| known.spec.name == spec().name) {
        Some(known) => known,
        None => schedules.create(&spec(), clock.now()).await?,
    };
    for index in 0..plan.dtus {
        let sn = serial(plan, index)?;
        let dtu = new_dtu(
            sn,
            format!("Virtual DTU {}", index + 1),
            ScheduleChoice::Existing(schedule.id),
        );
        let dtu = match dtus.create(&dtu, clock.now()).await {
            Ok(dtu) => dtu,
            // there since an earlier run on the same folder, with its meters
            Err(StoreError::Conflict { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        for unit in 1..=plan.meters {
            let model = MODELS
                .get(usize::from(unit) % MODELS.len())
                .copied()
                .unwrap_or(MODELS[0]);
            meters.create(&new_meter(dtu.id, unit, model), clock.now()).await?;
        }
    }
    Ok(plan.dtus * usize::from(plan.meters))
}

fn spec() -> ScheduleSpec {
    ScheduleSpec {
        name: "every 10 seconds".into(),
        timing: Timing::Cron("*/10 * * * * *".into()),
        time_zone: "UTC".into(),
        calendar: None,
        days: DayRule::EveryDay,
        quantities: Vec::new(),
        spread_s: 3,
        window_s: 10,
        retry: RetryPolicy {
            attempts: 2,
            backoff_s: 1,
            deadline_s: 8,
            budget: None,
        },
        missed_run: MissedRun::Skip,
        overlap: Overlap::QueueOne,
        priority: SlotPriority::Scheduled,
    }
}

fn new_dtu(sn: SerialNumber, name: String, schedule: ScheduleChoice) -> NewDtu {
    NewDtu {
        sn: Some(sn),
        name,
        connect: Connect::Inbound,
        profile: None,
        time_zone: None,
        schedule: Some(schedule),
        silence_s: None,
        timeout_ms: None,
        pause_ms: None,
    }
}

fn new_meter(dtu: DtuId, unit: u8, model: &str) -> NewMeter {
    NewMeter {
        dtu,
        protocol: "modbus-rtu".into(),
        address: unit.to_string(),
        model: model.into(),
        name: format!("Flat {unit}"),
        comment: String::new(),
        group: None,
        schedules: Vec::new(),
        ct_ratio: Decimal::ONE,
        vt_ratio: Decimal::ONE,
        point: None,
    }
}

fn start_fleet(plan: FleetPlan, device: String) -> anyhow::Result<()> {
    let names: Vec<String> = MODELS.iter().map(|model| (*model).to_owned()).collect();
    let moulds = moulds(&names).map_err(anyhow::Error::msg)?;
    std::thread::Builder::new().name("simulator".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                let stats = Arc::new(FleetStats::default());
                let mut fleet = plan.start(&device, &moulds, &clock, &stats).await;
                while fleet.join_next().await.is_some() {}
            }),
            Err(error) => complain(format_args!("the simulated fleet cannot start: {error}")),
        }
    })?;
    Ok(())
}

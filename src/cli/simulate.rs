//! `polyphase simulate`: virtual DTUs and meters against any head end.

use crate::base::clock::{Clock, SystemClock};
use crate::device::catalogue::Catalogue;
use crate::device::model::{Folder, MeterModel};
use crate::protocol::Protocol;
use crate::simulator::concentrator::{Habits, TerminalPlan};
use crate::simulator::dtu::{FleetStats, Registration};
use crate::simulator::faults::Faults;
use crate::simulator::fleet::FleetPlan;
use crate::simulator::meter::Mould;
use crate::simulator::terminal::StationPlan;
use clap::Args;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Arguments of `simulate`.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// The head end's device port
    #[arg(long, value_name = "HOST:PORT")]
    connect: String,
    /// Virtual DTUs; 10 unless concentrators are wanted
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    dtus: Option<u32>,
    /// Virtual concentrators, terminals 1, 2, 3 … of the region
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    concentrators: u16,
    /// What concentrators speak
    #[arg(long, value_enum, default_value = "gdw376.1")]
    concentrator_kind: ConcentratorKind,

    /// The region of concentrators, four digits
    #[arg(long, default_value = "4403")]
    region: String,
    /// A measuring point whose route over the mesh fails in an hour: it shows older values, or is not reached (DL/T 698.45)
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    mesh_failure: f64,
    /// An event recorded with an answer of a concentrator; one of DL/T 698.45 reports it
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    events: f64,
    /// A report of its own accord behind an answer of a concentrator: values of a meter, or (Q/GDW 1376.1) its newest event
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    reports: f64,
    /// Meters behind each DTU, at Modbus units 1, 2, 3 …; CJ/T 188 and DL/T 645 meters behind the n-th DTU at n001, n002, n003 …;
    /// behind a concentrator at points 1, 2, 3 … up to 2040
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=2040))]
    meters: u16,
    /// Meter models that take turns
    #[arg(long, value_delimiter = ',', default_value = "eastron_sdm630,eastron_sdm120")]
    models: Vec<String>,
    /// Prefix of serial numbers
    #[arg(long, default_value = "SIM")]
    sn_prefix: String,
    /// How DTUs say their serial number
    #[arg(long, value_enum, default_value = "ascii")]
    registration: Registration,
    /// Seconds between heartbeats; 0: none
    #[arg(long, default_value_t = 30)]
    heartbeat_s: u64,
    /// Line speed; 0: replies take no line time
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// Seed: the same seed gives the same loads and the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after this many seconds; 0: run until interrupted
    #[arg(long, default_value_t = 0)]
    for_s: u64,
    #[command(flatten)]
    faults: Faults,
}

/// What concentrators speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ConcentratorKind {
    /// Q/GDW 1376.1
    #[value(name = "gdw376.1")]
    Gdw376,
    /// DL/T 698.45: the meters have the address of the terminal's number in five digits and their own in seven
    #[value(name = "dlt698.45")]
    Dlt698,
}

/// Runs until it is interrupted or the time is over; prints its counters at the end.
pub fn run(args: SimulateArgs) -> ExitCode {
    let moulds = match moulds(&args.models) {
        Ok(moulds) => moulds,
        Err(message) => {
            eprintln!("polyphase: {message}");
            return ExitCode::from(2);
        }
    };
    let dtus = args.dtus.unwrap_or(if args.concentrators > 0 { 0 } else { 10 });
    let terminals = match terminals(&args) {
        Ok(terminals) => terminals,
        Err(message) => {
            eprintln!("polyphase: {message}");
            return ExitCode::from(2);
        }
    };
    let meters = match (dtus, u8::try_from(args.meters)) {
        (0, _) => 1,
        (_, Ok(meters)) if meters <= 247 => meters,
        _ => {
            eprintln!("polyphase: a DTU has at most 247 meters; only concentrators have more");
            return ExitCode::from(2);
        }
    };
    let plan = FleetPlan {
        dtus: usize::try_from(dtus).unwrap_or(usize::MAX),
        meters,
        prefix: args.sn_prefix,
        seed: args.seed,
        registration: args.registration,
        heartbeat: Duration::from_secs(args.heartbeat_s),
        baud: args.baud,
        faults: args.faults,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("polyphase: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    super::plain_logs();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(FleetStats::default());
    runtime.block_on(async {
        let end = Duration::from_secs(if args.for_s == 0 { u32::MAX.into() } else { args.for_s });
        let play = async {
            // dropping it ends the fleet
            let _fleet = plan.start(&args.connect, &moulds, &clock, &stats).await;
            let _terminals = match &terminals {
                Terminals::Gdw376(plan) => plan.start(&args.connect, &clock, &stats).await,
                Terminals::Dlt698(plan) => plan.start(&args.connect, &clock, &stats).await,
            };
            tokio::time::sleep(end).await;
        };
        tokio::select! {
            // first, so that the signals are ours before anybody is heard of
            biased;
            () = super::told_to_stop() => {}
            () = play => {}
        }
    });
    if stats.dialled.load(Ordering::Relaxed) == 0 {
        eprintln!(
            "polyphase: nobody was reached at {}: is it the head end's device port?",
            args.connect
        );
        return ExitCode::FAILURE;
    }
    eprintln!(
        "dialled {}, requests heard {}, replies sent {}",
        stats.dialled.load(Ordering::Relaxed),
        stats.requests.load(Ordering::Relaxed),
        stats.replies.load(Ordering::Relaxed)
    );
    if args.events > 0.0 || args.reports > 0.0 {
        eprintln!(
            "reports of their own accord {}, confirmed {}",
            stats.reports.load(Ordering::Relaxed),
            stats.confirmed.load(Ordering::Relaxed)
        );
    }
    ExitCode::SUCCESS
}

/// Concentrators of one kind.
enum Terminals {
    Gdw376(TerminalPlan),
    Dlt698(StationPlan),
}

/// The concentrators that are wanted.
fn terminals(args: &SimulateArgs) -> Result<Terminals, String> {
    let region = u16::from_str_radix(&args.region, 16).ok();
    let region = region.filter(|_| args.region.len() == 4);
    let region = region.ok_or_else(|| format!("{:?} is no region; it has four digits", args.region))?;
    let heartbeat = Duration::from_secs(args.heartbeat_s);
    let habits = Habits {
        faults: args.faults.clone(),
        mesh_failure: args.mesh_failure,
        events: args.events,
        reports: args.reports,
        ..Habits::default()
    };
    Ok(match args.concentrator_kind {
        ConcentratorKind::Gdw376 => Terminals::Gdw376(TerminalPlan {
            terminals: args.concentrators,
            points: args.meters,
            region,
            seed: args.seed,
            heartbeat,
            habits,
        }),
        ConcentratorKind::Dlt698 => Terminals::Dlt698(StationPlan {
            terminals: args.concentrators,
            meters: args.meters,
            region,
            seed: args.seed,
            heartbeat,
            habits,
            model: builtin_model(Protocol::Dlt698, "dlt698_three_phase")?,
        }),
    })
}

fn builtin_model(protocol: Protocol, name: &str) -> Result<Arc<MeterModel>, String> {
    let catalogue =
        Catalogue::builtin().map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let model = catalogue.get(protocol, name).cloned();
    model.ok_or_else(|| format!("there is no meter model {name:?}"))
}

/// The moulds of models by name.
///
/// # Errors
/// Names the unknown model and where the known ones are listed.
pub fn moulds(models: &[String]) -> Result<Vec<Mould>, String> {
    let catalogue =
        Catalogue::builtin().map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    models
        .iter()
        .map(|name| {
            let found = Protocol::ALL.iter().find_map(|protocol| catalogue.get(*protocol, name));
            match found {
                Some(model) if model.folder == Folder::Gdw376 => Err(format!(
                    "{name:?} is of meters behind a concentrator; --concentrators simulates those"
                )),
                Some(model) => Ok(Mould::new(Arc::clone(model))),
                None => Err(format!(
                    "there is no meter model {name:?}; the models are the file names in the folders of config/meter-models"
                )),
            }
        })
        .collect()
}

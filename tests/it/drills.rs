//! The drills of `tests/peers`, in their short form: a real server, seen from outside, against independent peers.
//! The long forms run by hand: `make field`, `make kills`, `make control`, `make exports`, `make drill`, `make api-fuzz`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python");
    assert!(python.is_file(), "the peers are not there: run scripts/install.sh test");
    python
}

fn run(script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let done = Command::new(python())
        .arg(&script)
        .args(arguments)
        .env("POLYPHASE_PROGRAM", env!("CARGO_BIN_EXE_polyphase"))
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        done.status.success(),
        "{}: {}\n{out}\n{err}",
        script.display(),
        done.status
    );
    println!("{out}");
}

/// Independent DTUs in every registration mode relay to pymodbus slaves and delay, drop, repeat, split and mix their
/// replies; every stored value says whose it is.
#[test]
fn every_value_is_stored_under_its_meter_register_and_time() {
    run(
        "run_field.py",
        &[
            "--transactions",
            "4000",
            "--dtus",
            "18",
            "--units",
            "4",
            "--every",
            "3",
            "--limit",
            "240",
        ],
    );
}

/// What the API or the stream had shown is still there after each kill -9, once, and every slot has its ending.
#[test]
fn kill_9_loses_nothing_that_was_shown() {
    run("run_kills.py", &["--kills", "3", "--dtus", "10", "--meters", "3"]);
}

/// Server and database killed at random, the database away and hung: nothing lost, doubled, misattributed or left open,
/// and no write is taken meanwhile. The long form, and the one on a disk that fills up, run by hand: `make drill`,
/// `make drill-disk`.
#[test]
fn outages_lose_nothing() {
    let events = ["--kills", "2", "--crashes", "2", "--outage", "10", "--hang", "6"];
    let fleet = ["--dtus", "10", "--meters", "3", "--gap", "2", "4"];
    // a file system of its own needs root
    let full = if rustix::process::geteuid().is_root() {
        vec!["--full", "60"]
    } else {
        println!("not root: the database's disk is not filled");
        Vec::new()
    };
    run(
        "run_drill.py",
        &[events.as_slice(), fleet.as_slice(), full.as_slice()].concat(),
    );
}

/// Sockets that never speak or dribble, floods, flapping, clones, want of descriptors; good DTUs and the API go on. The
/// long form runs by hand: `make storm`.
#[test]
fn storms_leave_good_devices_and_the_api_alone() {
    run("run_storm.py", &["--silent", "300", "--dtus", "12", "--calm", "5"]);
}

/// Relays under lost answers, cut lines and kills of the server: none moves twice, and what is said of it is true. The long
/// forms of this and the next two run by hand: `make control`.
#[test]
fn no_relay_moves_twice_and_every_outcome_is_true() {
    run("run_control.py", &["--commands", "24", "--kills", "3"]);
}

/// Absent DTUs, kills and a clock that is set back; forged approvals.
#[test]
fn no_relay_moves_late_or_unasked() {
    run("run_control.py", &["--expiries", "8", "--expires", "8", "--forged"]);
}

/// The brake, and the emergency stop.
#[test]
fn the_brake_and_the_emergency_stop_hold() {
    run("run_control.py", &["--flood", "200"]);
}

/// Guesses from many addresses, with a kill in the middle: few reach the password, the owner gets in, others are served;
/// one-time passwords of Python's own making. The long form runs by hand: `make guesses`.
#[test]
fn guessers_are_slowed_and_the_owner_is_not() {
    run(
        "run_guesses.py",
        &["--guesses", "1500", "--sources", "600", "--threads", "8", "--kill"],
    );
}

/// pyMeterBus as the master of virtual M-Bus meters: readouts, selection, and its own wildcard search.
#[test]
fn an_independent_m_bus_master_reads_and_finds_virtual_meters() {
    run("run_mbus.py", &[]);
}

/// PyPI dlt645 behind a DTU: found by a scan, read on schedule, every value with its unit and OBIS code; its errors in
/// words.
#[test]
fn an_independent_dlt645_meter_is_found_and_read_through_the_whole_server() {
    run("run_dlt645.py", &["--limit", "400"]);
}

/// PyPI dlt698 behind a DTU, with strays in front of everything it says: read on schedule, every value with its unit and
/// OBIS code and no other; what it does not have in the standard's words.
#[test]
fn an_independent_dlt698_meter_is_read_through_the_whole_server() {
    run("run_dlt698.py", &["--limit", "400"]);
}

/// The DTU is away when a daily slot is due and comes back: the slot is filled from the meter's own freeze and says so.
#[test]
fn a_daily_slot_missed_in_a_cut_is_filled_after_the_reconnect() {
    run("run_back_fill.py", &["--limit", "400"]);
}

/// Dialled converter, Modbus TCP, serial port, virtual DTU, quarantine, takeover; far ends that restart; what another
/// account sees.
#[test]
fn every_way_to_a_line_works_and_comes_back() {
    run("run_connect.py", &[]);
}

/// Virtual concentrators of Q/GDW 1376.1 with hundreds of points: every slot ends actual with the right value, with the
/// concentrator's own time, and with hardly more frames than there have to be. The long form runs by hand: `make
/// concentrators`.
#[test]
fn points_behind_concentrators_are_read_on_schedule_with_the_fewest_frames() {
    run(
        "run_concentrators.py",
        &[
            "--concentrators",
            "2",
            "--points",
            "100",
            "--rounds",
            "2",
            "--every",
            "60",
            "--limit",
            "400",
        ],
    );
}

/// Terminals of DL/T 698.45: PyPI dlt698 with a meter behind it, and virtual ones with many; each value is its own meter's,
/// with hardly more questions than there have to be.
#[test]
fn meters_behind_terminals_are_read_on_schedule_with_the_fewest_questions() {
    run(
        "run_terminals.py",
        &[
            "--terminals",
            "2",
            "--meters",
            "40",
            "--rounds",
            "2",
            "--every",
            "60",
            "--limit",
            "400",
        ],
    );
}

/// Server and broker killed at random, a receiver that refuses and hangs: every stored reading arrives, under one id, signed
/// and in order per meter. The long form runs by hand: `make integrations`.
#[test]
fn integrators_miss_nothing_over_kills_of_server_and_broker() {
    run("run_integrations.py", &["--kills", "4"]);
}

/// Readings as CSV and XLSX: what independent readers find in the files is what the API shows, and ten times the rows take
/// no more memory. A million by hand: `make exports`.
#[test]
fn exports_are_read_by_others() {
    run("run_exports.py", &["--readings", "20000", "--slack-mib", "96"]);
}

/// Every curl line of "The first five calls" in docs/API.md, run as it stands there.
#[test]
fn the_first_five_calls_of_the_documentation_work() {
    run("run_first_calls.py", &[]);
}

/// schemathesis over the whole API by its own description: no 5xx, no answer that the description does not have, what it
/// forbids is refused; the same cases every time. The long form, with every parameter and field at its edges, runs by hand: `make
/// api-fuzz`.
#[test]
fn the_description_of_the_api_is_true_for_what_schemathesis_makes_up() {
    run("run_api_fuzz.py", &["--phases", "examples,fuzzing", "--examples", "5"]);
}

//! What stands in `grafana/`: fresh, of Grafana's published types, rules that do what they say, and every query of every
//! panel asked of a real PostgreSQL and a real Prometheus (`tests/peers/run_panels.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> PathBuf {
    let python = root().join("target/peers/bin/python");
    assert!(python.is_file(), "the peers are not there: run scripts/install.sh test");
    python
}

/// Runs a program from the project's root; its output is that of the test.
fn ran(mut command: Command) {
    let done = command
        .current_dir(root())
        .env("POLYPHASE_PROGRAM", env!("CARGO_BIN_EXE_polyphase"))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/install.sh test"));
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
    println!("{out}");
}

fn script(path: &str, arguments: &[&str]) {
    let mut command = Command::new(python());
    command.arg(root().join(path)).args(arguments);
    ran(command);
}

fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    command.args(arguments);
    ran(command);
}

#[test]
fn dashboards_are_as_their_generator_makes_them() {
    script("grafana/generate/make.py", &["--check"]);
}

#[test]
fn dashboards_are_of_grafanas_published_types() {
    script("tests/peers/grafana_types.py", &[]);
}

/// Alerts fire when they should and not else, on made-up series.
#[test]
fn rules_of_prometheus_do_what_they_say() {
    promtool(&["check", "config", "grafana/prometheus/prometheus.yml"]);
    promtool(&["test", "rules", "grafana/prometheus/tests/polyphase_test.yml"]);
}

/// A year of 50 meters, a running server that is scraped: no error, nothing empty, nothing slow, no long range over raw
/// rows, no unknown metric or unit.
#[test]
fn every_panel_and_rule_has_an_answer() {
    script("tests/peers/run_panels.py", &[]);
}

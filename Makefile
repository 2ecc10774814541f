# `make demo` and `make test` are all a newcomer needs. Both install what a bare Debian 12 lacks and say so.
.PHONY: demo test fuzz api-fuzz scan field kills integrations control exports backup-drill drill drill-disk storm guesses bench lint sqlx simulate-seeds concentrators

demo:
	@scripts/install.sh demo
	cargo build --release --locked
	target/release/polyphase demo

test: lint
	cargo test --locked
	FUZZ_SEED=1 scripts/fuzz.sh 60

lint:
	@scripts/install.sh test
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	CLIPPY_CONF_DIR=config/lint cargo clippy --locked --all-targets -- -D warnings

# every codec for SECONDS each, two at a time; `make test` gives them a minute
SECONDS = 1800

fuzz:
	@scripts/install.sh test
	scripts/fuzz.sh $(SECONDS)

# the simulation of `make test`, for SEEDS seeds from FROM on
SEEDS = 20000
FROM = 1

simulate-seeds:
	@scripts/install.sh test
	SIMULATION_SEEDS=$(SEEDS) SIMULATION_FROM=$(FROM) cargo test --locked --test simulation seeds_hold -- --nocapture

# the long forms of the drills that `make test` runs short
field:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_field.py --transactions 300000 --dtus 200 --units 8 --every 20 --limit 2400 --usable 0.99

kills:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_kills.py --kills 20 --dtus 40 --meters 4

integrations:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_integrations.py --kills 40 --dtus 24 --meters 4

# some 40 minutes
control:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_control.py --commands 300 --kills 60 --expiries 80 --forged --flood 5000

guesses:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_guesses.py --guesses 10000 --sources 5000 --kill

# about 40 minutes each, as root: the disks of the database and of the spool are small file systems of their own
DRILL = --kills 40 --crashes 20 --outage 600 --hang 60 --full 120 --dtus 48 --meters 4 --field-dtus 12 --units 4 --every 5 --gap 5 20

drill:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_drill.py $(DRILL)

storm:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_storm.py --silent 5000 --dtus 100 --meters 2 --calm 20

concentrators:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_concentrators.py --concentrators 100 --points 500 --rounds 3 --every 300 --limit 1200

exports:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_exports.py --readings 1000000

# about a gigabyte; needs three times as much on the disk
backup-drill:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_backup.py --mib 1024

drill-disk:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_drill.py $(DRILL) --small-disk --fill 240

scan:
	@scripts/install.sh test
	cargo build --locked
	target/peers/bin/python tests/peers/run_scan.py --limit 330

# schemathesis over the whole API
api-fuzz:
	@scripts/install.sh test
	cargo build --locked
	target/peers/bin/python tests/peers/run_api_fuzz.py --examples 20

# every query of every panel and rule of grafana/, as `make test` runs it too
panels:
	@scripts/install.sh test
	cargo build --locked
	target/peers/bin/python tests/peers/run_panels.py

# the pictures of docs/dashboards, drawn from the panels' own answers
pictures:
	@scripts/install.sh test
	target/peers/bin/pip install --quiet --disable-pip-version-check matplotlib==3.11.2
	cargo build --locked
	target/peers/bin/python tests/peers/run_panels.py --pictures docs/dashboards

# the benches of codecs and keys, then the whole server against limits and peers (docs/BENCHMARKS.md); about an hour
bench:
	@scripts/install.sh bench
	cargo bench --locked --bench dlt645_decode --bench reading_key
	cargo build --release --locked --bins --benches
	mkdir -p target/benches
	for bench in fleet storage; do cp "$$(ls -t target/release/deps/$$bench-* | grep -v '\.d$$' | head -1)" target/benches/$$bench; done
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_bench.py --report target/benches/report.json
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_panels.py --meters 1000

sqlx:
	scripts/sqlx-prepare.sh

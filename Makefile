# `make demo` and `make test` are all a newcomer needs. Both install what a bare Debian 12 lacks and say so.
.PHONY: demo test field kills bench lint sqlx

demo:
	@scripts/install.sh demo
	cargo build --release --locked
	target/release/polyphase demo

test: lint
	cargo test --locked

lint:
	@scripts/install.sh test
	cargo fmt --check
	CLIPPY_CONF_DIR=config/lint cargo clippy --locked --all-targets -- -D warnings

# the long forms of the drills that `make test` runs short
field:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_field.py --transactions 100000 --dtus 36 --units 8 --every 5

kills:
	@scripts/install.sh test
	cargo build --release --locked
	POLYPHASE_PROGRAM=target/release/polyphase target/peers/bin/python tests/peers/run_kills.py --kills 20 --dtus 40 --meters 4

bench:
	@scripts/install.sh test
	cargo bench --locked

sqlx:
	scripts/sqlx-prepare.sh

# `make demo` and `make test` are all a newcomer needs. Both install what a bare Debian 12 lacks and say so.
.PHONY: demo test test-fast bench lint sqlx

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

bench:
	@scripts/install.sh test
	cargo bench --locked

sqlx:
	scripts/sqlx-prepare.sh

#!/usr/bin/env bash
# Coverage-guided fuzzing of the codecs (tests/fuzz) by libFuzzer, on stable Rust.
#   scripts/fuzz.sh SECONDS [TARGET...]    each target, or those named, for so many seconds; two at a time
#   scripts/fuzz.sh show TARGET HEX        runs one input and shows what happens
# What is found grows target/fuzz/corpus/TARGET and is used again by the next run. The exit code is 1 when a target found something;
# the input is then printed as hex, and its place is tests/fuzz/corpus/TARGET.hex once the fault is mended.
# FUZZ_SEED=N begins at a given point: `make test`, which judges one change, takes the same way each time; `make fuzz` another one.
# A slow machine is no fault: limits are those of memory and of processor time, none of the clock on the wall.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET...] | show TARGET HEX}
shift

host=$(rustc -vV | sed -n 's/^host: //p')
# what cargo-fuzz does, without a sanitizer: no code here is unsafe. With --target, so that build scripts stay as they are.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
built=${CARGO_TARGET_DIR:-$root/target}/fuzz
RUSTFLAGS=$flags CARGO_TARGET_DIR=$built/build cargo build --quiet --locked --release --target "$host" \
    --manifest-path tests/fuzz/Cargo.toml
program=$built/build/$host/release/polyphase-fuzz

if [ "$seconds" = show ]; then
    target=${1:?show TARGET HEX} hex=${2:?show TARGET HEX}
    input=$(mktemp)
    trap 'rm -f "$input"' EXIT
    python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))' "$hex" >"$input"
    POLYPHASE_FUZZ_TARGET=$target RUST_BACKTRACE=1 "$program" "$input"
    exit
fi

all=(modbus dtu dlt645 cjt188 mbus dlt698 gdw376 dialogue proxy explain models sheet spool)
[ $# -gt 0 ] && all=("$@")

# one target; its log and what it found stand in target/fuzz/found/TARGET
run() {
    local target=$1 corpus=$built/corpus/$1 found=$built/found/$1 started status=0
    rm -rf "$found" "$built/seeds/$target"
    mkdir -p "$corpus" "$found" "$built/seeds/$target"
    started=$(date +%s)
    # the limit of processor time is the last resort; the harness sees an endless input before
    (
        ulimit -t $((seconds + 300))
        ulimit -c 0
        export POLYPHASE_FUZZ_TARGET=$target POLYPHASE_FUZZ_SEEDS=$built/seeds/$target
        exec "$program" "$corpus" "$built/seeds/$target" -max_total_time="$seconds" -max_len=4096 -len_control=20 \
            -rss_limit_mb=1024 -timeout=0 -use_value_profile=1 -print_final_stats=1 ${FUZZ_SEED:+-seed=$FUZZ_SEED} -artifact_prefix="$found/"
    ) >"$found/log" 2>&1 || status=$?
    local stats cover
    stats=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/log")
    cover=$(sed -n 's/.*\(cov: [0-9]* ft: [0-9]*\).*/\1/p' "$found/log" | tail -1)
    echo "$target: ${stats:-0} executions in $(($(date +%s) - started)) s, ${cover:-no coverage}"
    [ "$status" = 0 ] && return
    echo "$target: FOUND SOMETHING (exit $status)"
    sed '/^#[0-9]/d' "$found/log" | tail -60
    local input
    for input in "$found"/*-*; do
        [ -f "$input" ] || continue
        echo "$target: input $(basename "$input"), again by: scripts/fuzz.sh show $target $(od -An -v -tx1 "$input" | tr -d ' \n')"
    done
    return 1
}

red=0
running=0
for target in "${all[@]}"; do
    if [ "$running" -ge 2 ]; then
        wait -n || red=1
        running=$((running - 1))
    fi
    run "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || red=1
    running=$((running - 1))
done
exit "$red"

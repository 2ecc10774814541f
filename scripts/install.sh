#!/usr/bin/env bash
# Installs what a bare Debian 12 lacks, and says what it does. Usage: scripts/install.sh [demo|test|bench]
# demo: PostgreSQL programs and a C toolchain. test: also Python with venv, for the independent protocol peers, and
# Prometheus and npm, for the dashboards, and the MQTT broker mosquitto. bench: also libmodbus, a peer of the benches.
set -euo pipefail
purpose=${1:-demo}
say() { printf '==> %s\n' "$*"; }

missing=()
have_initdb() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_initdb || missing+=(postgresql)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
if [ "$purpose" = bench ]; then
    pkg-config --exists libmodbus 2>/dev/null || missing+=(libmodbus-dev pkg-config)
    purpose=test
fi
if [ "$purpose" = test ]; then
    # libFuzzer is C++
    command -v c++ >/dev/null || missing+=(g++)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    # the first calls of docs/API.md are run as they stand there
    command -v curl >/dev/null || missing+=(curl)
    # the panel test: a Prometheus that scrapes, promtool, and Grafana's published types
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v npm >/dev/null || missing+=(nodejs npm)
    # a broker of other people for the integrations
    { command -v mosquitto || [ -x /usr/sbin/mosquitto ]; } >/dev/null || missing+=(mosquitto)
fi

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "please install: ${missing[*]}"; exit 1; }
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "please install as root: apt-get install ${missing[*]}"; exit 1; }
        as_root=(sudo)
    fi
    say "installing with apt-get: ${missing[*]} (PostgreSQL's programs only; no system cluster is made or started)"
    if printf '%s\n' "${missing[@]}" | grep -qx postgresql && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        "${as_root[@]}" mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # the tests start a Prometheus and a mosquitto of their own: no service is left running that nobody asked for
    for service in prometheus mosquitto; do
        printf '%s\n' "${missing[@]}" | grep -qx "$service" || continue
        if [ -d /run/systemd/system ]; then
            "${as_root[@]}" systemctl disable --quiet --now "$service" || true
        elif [ -x "/etc/init.d/$service" ]; then
            "${as_root[@]}" "/etc/init.d/$service" stop >/dev/null 2>&1 || true
        fi
    done
fi

command -v cargo >/dev/null || { echo "a Rust toolchain (1.94 or newer) is needed: see rust-lang.org"; exit 1; }

# asks for the peers themselves: an environment that an interrupted run left half made is made again
if [ "$purpose" = test ] && ! target/peers/bin/python -c 'import aiosmtpd, dlt645, dlt698, meterbus, openpyxl, paho.mqtt, psycopg, pymodbus, schemathesis, smpplib, yaml' 2>/dev/null; then
    say "making target/peers, a Python environment with the independent peers (tests/peers/requirements.txt)"
    mkdir -p target
    python3 -m venv target/peers
    target/peers/bin/pip install --quiet --disable-pip-version-check -r tests/peers/requirements.txt
fi

#!/usr/bin/env bash
# Refreshes .sqlx, the data against which `query!` is checked without a database. Run it after a change of a query or a
# migration, and commit .sqlx with it. `--check` fails when .sqlx was not fresh.
#
# Uses the cluster of POLYPHASE_TEST_PG (a superuser's URL); without it, starts a temporary one.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || { echo "PostgreSQL is not installed: apt-get install postgresql" >&2; exit 1; }

scratch=polyphase_sqlx_$$
folder=
run() { if [ "$(id -u)" = 0 ]; then setpriv --reuid postgres --regid postgres --init-groups "$@"; else "$@"; fi; }
finish() {
    if [ -n "$folder" ]; then
        (cd / && run "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null) || true
        rm -rf "$folder"
    else
        "$bin/psql" -q -c "DROP DATABASE IF EXISTS $scratch WITH (FORCE)" "$url" || true
    fi
}
trap finish EXIT

if [ -n "${POLYPHASE_TEST_PG:-}" ]; then
    url=$POLYPHASE_TEST_PG
else
    folder=$(mktemp -d)
    [ "$(id -u)" != 0 ] || chown postgres "$folder"
    port=$((20000 + RANDOM % 20000))
    (cd / && run "$bin/initdb" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync -D "$folder/data" >/dev/null)
    (cd / && run "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/log" -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories='' -c fsync=off" start >/dev/null)
    url=postgres://postgres@127.0.0.1:$port/postgres
fi
database=$(printf '%s' "$url" | sed -E "s#(://[^/?]*)(/[^?]*)?#\1/$scratch#")

"$bin/psql" -q -v ON_ERROR_STOP=1 -c "CREATE DATABASE $scratch" "$url"
for role in owner app ingest platform grafana; do
    "$bin/psql" -q -c "DO \$\$ BEGIN CREATE ROLE polyphase_$role NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END \$\$" "$database"
done
"$bin/psql" -q -c "GRANT CREATE, USAGE ON SCHEMA public TO polyphase_owner" "$database"
for file in migrations/*.sql; do
    "$bin/psql" -q -v ON_ERROR_STOP=1 -o /dev/null -1 -c "SET ROLE polyphase_owner" -f "$file" "$database"
done

# cargo does not see that a file of .sqlx went away: build the library anew into an empty folder
fresh=$(mktemp -d)
touch src/lib.rs
DATABASE_URL=$database SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh cargo check --quiet --lib
if [ "${1:-}" = --check ]; then
    diff -r "$fresh" .sqlx && echo ".sqlx is fresh"
    rm -rf "$fresh"
else
    rm -rf .sqlx && mkdir .sqlx
    cp "$fresh"/* .sqlx/ 2>/dev/null || touch .sqlx/.gitkeep
    rm -rf "$fresh"
    echo "$(find .sqlx -name 'query-*' | wc -l) queries in .sqlx"
fi
touch src/lib.rs

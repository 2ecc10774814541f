#!/bin/bash
# Runs once, when the cluster is new: the database and a login that may make Polyphase's roles. It is no superuser.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" -v password="$POLYPHASE_DB_PASSWORD" <<'SQL'
CREATE ROLE polyphase LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE polyphase OWNER polyphase;
SQL

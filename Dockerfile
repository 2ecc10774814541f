# The server alone; docker-compose.yml puts PostgreSQL, Prometheus and Grafana beside it.
FROM rust:1.94-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ENV SQLX_OFFLINE=true
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tini && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/polyphase --create-home polyphase
COPY --from=build /source/target/release/polyphase /usr/local/bin/polyphase
# spool and frame ring: what is acknowledged is synced here, so it has to be a volume on a real disk
VOLUME /var/lib/polyphase
ENV POLYPHASE__DATA__FOLDER=/var/lib/polyphase
USER polyphase
EXPOSE 8080 8899
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
# SIGTERM drains within 55 s: give the container 60
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "polyphase"]
CMD ["serve"]

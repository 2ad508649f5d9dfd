# syntax=docker/dockerfile:1
# The server's image; what it takes stands in docs/deployment.md.
#   docker build -t llama-mcp-server .
#   docker build -t llama-mcp-server:cuda --build-arg BACKEND=cuda .

ARG BACKEND=cpu
ARG RUST=1.95
ARG CUDA=12.9.1

# Each stage that builds has the glibc of the one that runs: Debian 13's, or Ubuntu 24.04's.
FROM rust:${RUST}-slim-trixie AS rust

FROM rust AS tools-cpu
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*

FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS tools-cuda
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo

FROM tools-${BACKEND} AS source
ARG TARGETARCH
# Set, though empty, it replaces the flags of .cargo/config.toml, which are for the machine that builds.
ENV RUSTFLAGS=""
WORKDIR /src
COPY scripts/setup scripts/
RUN scripts/setup && rm -rf /var/lib/apt/lists/*
COPY . .
# Cargo goes by times, and what lies in the builder's cache may be newer than a checkout.
RUN find build.rs src -type f -exec touch {} +

# llama.cpp stays compiled in the builder's cache, by architecture.
FROM source AS build-cpu
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=llama-mcp-cpu-$TARGETARCH,sharing=locked \
    scripts/bundle /image/usr/local/lib/llama-mcp-server

FROM source AS build-cuda
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=llama-mcp-cuda-$TARGETARCH,sharing=locked \
    cargo build --release --locked --features cuda \
    && install -D -t /image/usr/local/lib/llama-mcp-server target/release/llama-mcp-server

FROM build-${BACKEND} AS build
# Mount points too, since the root may be read-only.
RUN mkdir -p /image/usr/local/bin /image/config /image/models \
    && ln -s ../lib/llama-mcp-server/llama-mcp-server /image/usr/local/bin/

# glibc, and no shell.
FROM gcr.io/distroless/base-nossl-debian13:nonroot AS runtime-cpu

# CUDA's libraries are part of the program, the driver is the host's.
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04 AS runtime-cuda
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

FROM runtime-${BACKEND}
LABEL org.opencontainers.image.title="llama-mcp-server" \
      org.opencontainers.image.description="Serve local GGUF models as MCP tools, with llama.cpp" \
      org.opencontainers.image.licenses="MIT" \
      io.modelcontextprotocol.server.name="io.github.llama-mcp-server/llama-mcp-server"
COPY --from=build /image /
# They count before the file, so EXPOSE and HEALTHCHECK hold whatever it says.
ENV LLAMA_MCP_TRANSPORT=http LLAMA_MCP_HOST=0.0.0.0 LLAMA_MCP_PORT=8080
EXPOSE 8080
VOLUME ["/config", "/models"]
# Here `config check` finds the file.
WORKDIR /config
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/usr/local/bin/llama-mcp-server", "health"]
ENTRYPOINT ["/usr/local/bin/llama-mcp-server"]
CMD ["--config", "/config/llama-mcp-server.toml"]

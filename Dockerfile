# AWAC on a CPU: docker build -t awac . (see docs/containers.md). Not tested: no container engine was available.
FROM python:3.11-slim-bookworm

# g++ compiles the learner's operator at first use; the rest draws films without a display.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libegl1 libegl-mesa0 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/awac
COPY . .
RUN bash scripts/setup.sh && chmod -R a+rX /opt/awac && rm -rf ~/.cache

# Runs, logs and the cache lie in one mounted folder, whoever the user is.
ENV PATH=/opt/awac/.venv/bin:$PATH AWAC_CACHE_DIR=/data/cache
WORKDIR /data
CMD ["awac", "--help"]

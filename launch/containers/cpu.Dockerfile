# Crescent on a CPU, with the tested set of requirements-cpu.txt. Nobody has built this image yet (docs/clusters.md).
#
#   docker build -f launch/containers/cpu.Dockerfile -t crescent:cpu .
#   docker run --rm --shm-size=2g --stop-timeout=180 -v crescent-runs:/crescent/runs -v crescent-cache:/crescent/cache \
#       crescent:cpu python -m crescent.loop +experiment=smoke
#
# Stopped or killed, the same `docker run` goes on where the run was: everything is in the volume /crescent/runs, which
# must not be object storage (a bucket mounted with FUSE). Keys come with -e HF_TOKEN -e WANDB_API_KEY, never with the image.
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}

# build-essential: DeepSpeed and Triton compile small parts on first use. libnuma1: vLLM's CPU build loads it. tini is
# process 1: it passes SIGTERM on, ends with the run's exit code, and reaps orphans.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential libnuma1 tini \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
WORKDIR /opt/crescent
COPY requirements-cpu.txt ./
RUN pip install --no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu \
    && pip install --no-deps -r requirements-cpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY crescent crescent
COPY eval eval
COPY launch launch
COPY train train
RUN pip install --no-deps --no-build-isolation -e . && python -m compileall -q conf crescent eval launch train

RUN useradd --uid 1000 --create-home crescent \
    && install -d -o crescent -g crescent /crescent /crescent/runs /crescent/cache
ENV HF_HOME=/crescent/cache/huggingface CRESCENT_CACHE=/crescent/cache/crescent VLLM_CACHE_ROOT=/crescent/cache/vllm
WORKDIR /crescent
VOLUME ["/crescent/runs", "/crescent/cache"]
USER 1000:1000
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "crescent.loop", "+experiment=smoke"]

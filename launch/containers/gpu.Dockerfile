# Crescent on NVIDIA GPUs, with the set of requirements-gpu.txt and its digests: CUDA 13, so the host needs driver 580 or
# newer and NVIDIA's container toolkit. Nobody has built this image yet (docs/clusters.md).
#
#   docker build -f launch/containers/gpu.Dockerfile -t crescent:gpu .
#   docker run --rm --gpus all --shm-size=16g --stop-timeout=180 -e HF_TOKEN -e WANDB_API_KEY \
#       -v crescent-runs:/crescent/runs -v crescent-cache:/crescent/cache \
#       crescent:gpu python -m crescent.loop +experiment=qwen7b
#
# Stopped or killed, the same `docker run` goes on where the run was: everything is in the volume /crescent/runs, which
# must not be object storage (a bucket mounted with FUSE). Keys come with -e, never with the image.
#
# The wheels bring CUDA's libraries, and nothing of ours needs nvcc (docs/gpu.md). If something of yours does, take
# NVIDIA's image with the compiler instead: --build-arg BASE=… with Python 3.11 to 3.13 in it.
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}

# build-essential: Triton compiles small stubs (Python.h is in the base image). tini is process 1: it passes SIGTERM on,
# ends with the run's exit code, and reaps orphans.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential tini \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
WORKDIR /opt/crescent
COPY requirements-gpu.txt ./
RUN pip install --no-deps --require-hashes -r requirements-gpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY crescent crescent
COPY eval eval
COPY launch launch
COPY train train
RUN pip install --no-deps --no-build-isolation -e . && python -m compileall -q conf crescent eval launch train

RUN useradd --uid 1000 --create-home crescent \
    && install -d -o crescent -g crescent /crescent /crescent/runs /crescent/cache
ENV HF_HOME=/crescent/cache/huggingface CRESCENT_CACHE=/crescent/cache/crescent VLLM_CACHE_ROOT=/crescent/cache/vllm \
    TRITON_CACHE_DIR=/crescent/cache/triton NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /crescent
VOLUME ["/crescent/runs", "/crescent/cache"]
USER 1000:1000
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "crescent.loop", "+experiment=smoke"]

# syntax=docker/dockerfile:1
# Nodes with NVIDIA GPUs: teachers on vLLM, scoring, training. From the repository's root:
#
#   docker build -f cluster/docker/cuda.Dockerfile -t REGISTRY/persyn-ray-cuda:VERSION .
#
# Python is the CPU image's, since all nodes of a Ray cluster must have the same. torch, vLLM and the CUDA libraries
# that they were built for are locked in requirements/cuda.txt; the base gives the driver's interface and its forward
# compatibility. `--secret id=pip,src=pip.conf` gives pip another index and leaves no trace of it in the image.

FROM python:3.11-slim-bookworm AS python

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS base
# What Python's own modules link to, and the compiler with which Triton and FlashInfer build kernels while they run.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates g++ libbz2-1.0 libexpat1 libffi8 liblzma5 \
    libncursesw6 libreadline8t64 libsqlite3-0 libssl3t64 libuuid1 zlib1g \
 && rm -rf /var/lib/apt/lists/*
COPY --from=python /usr/local/bin /usr/local/bin
COPY --from=python /usr/local/include /usr/local/include
COPY --from=python /usr/local/lib /usr/local/lib
RUN ldconfig

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/persyn/venv
ENV PATH=/opt/persyn/venv/bin:$PATH
COPY requirements/run.txt requirements/cuda.txt requirements/s3.txt requirements/dev.txt requirements/
# torch stands in cuda.txt with everything that it and vLLM depend on: nothing is left to resolve.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-deps -r requirements/run.txt -r requirements/cuda.txt -r requirements/s3.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    awk '/^[^ ]/ {of_build = /^(hatchling|pathspec|pluggy|trove-classifiers)==/} of_build' requirements/dev.txt > build.txt \
 && pip install --no-deps --target /build -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY persyn_ray persyn_ray
RUN PYTHONPATH=/build pip install --no-deps --no-build-isolation .

FROM base
# Ubuntu's own user has the number 1000.
RUN userdel --remove ubuntu \
 && groupadd --gid 1000 persyn \
 && useradd --uid 1000 --gid 1000 --create-home persyn \
 && install -d -o 1000 -g 1000 /models
COPY --from=build /opt/persyn/venv /opt/persyn/venv
COPY jobs /opt/persyn/jobs
COPY persyn_ray/lab/quickstart.yaml /opt/persyn/persyn_ray/lab/quickstart.yaml
COPY cluster/start.py /opt/persyn/cluster/start.py
ENV PATH=/opt/persyn/venv/bin:$PATH HF_HOME=/models/hub PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/persyn
CMD ["persyn", "--help"]

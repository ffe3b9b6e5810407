# syntax=docker/dockerfile:1
# Head, driver, CPU workers and the router's endpoint. From the repository's root:
#
#   docker build -f cluster/docker/cpu.Dockerfile -t REGISTRY/persyn-ray-cpu:VERSION .
#
# torch comes from pip's index, which for Linux has the CUDA build; `--secret id=pip,src=pip.conf` gives pip another
# index, such as PyTorch's own for CPUs, and leaves no trace of it in the image.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/persyn/venv
ENV PATH=/opt/persyn/venv/bin:$PATH
COPY requirements/run.in requirements/run.txt requirements/s3.txt requirements/dev.txt requirements/
# As `make` does: torch with its own dependencies, everything else locked, with hashes, and as listed.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    grep -o '^[^ #\][^\]*' requirements/run.txt > versions.txt \
 && pip install "$(grep ^torch== requirements/run.in)" -c versions.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-deps -r requirements/run.txt -r requirements/s3.txt
# The build tool of the project itself is locked too, and stays out of the image.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    awk '/^[^ ]/ {of_build = /^(hatchling|pathspec|pluggy|trove-classifiers)==/} of_build' requirements/dev.txt > build.txt \
 && pip install --no-deps --target /build -r build.txt
COPY pyproject.toml README.md LICENSE ./
COPY persyn_ray persyn_ray
RUN PYTHONPATH=/build pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 1000 persyn \
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

#!/usr/bin/env bash
# Hand a recipe to a Ray cluster as a job and follow its log: the same as `persyn run`, elsewhere.
#
#   cluster/submit.sh RECIPE [key=value ...] [--until STEP] [--from STEP]
#
# RAY_API_SERVER_ADDRESS names the cluster, RAY_AUTH_TOKEN_PATH the file with its token. A job works in
# a copy of this folder that Ray deletes, so a `run` that is relative is made absolute here; every
# node must see it (a shared file system; else give run=s3://bucket/runs/NAME). Submitting again goes
# on where a stopped or lost job was.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -x $ROOT/.venv/bin/ray ]]; then PATH=$ROOT/.venv/bin:$PATH; fi
if [[ $# == 0 || $1 == -* ]]; then
  echo "cluster/submit.sh RECIPE [key=value ...]; see the head of this file." >&2
  exit 1
fi
if [[ -z ${RAY_API_SERVER_ADDRESS:-} ]]; then
  echo "cluster/submit.sh: set RAY_API_SERVER_ADDRESS, such as http://HEAD:8265." >&2
  exit 1
fi

recipe=$1
shift
run=$(python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["run"])' "$recipe")
arguments=()
for argument; do
  if [[ $argument == run=* ]]; then run=${argument#run=}; else arguments+=("$argument"); fi
done
[[ $run == /* || $run == *://* ]] || run=$PWD/$run

exec ray job submit --address "$RAY_API_SERVER_ADDRESS" --working-dir "$PWD" -- \
  persyn run "$recipe" "run=$run" "${arguments[@]}"

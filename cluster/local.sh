#!/usr/bin/env bash
# A real Ray cluster of several nodes on one machine: a head without CPUs for work, CPU workers, and
# workers with GPUs that are only counted. Each node is a raylet with its own temporary folder and,
# where the machine allows it, its own network namespace; else its own loopback address.
#
#   cluster/local.sh up [--cpu-workers N] [--gpu-workers N] [--cpus C] [--gpus G] [--plain]
#   eval "$(cluster/local.sh env)"     # for `ray job submit` and cluster/submit.sh
#   cluster/local.sh status
#   cluster/local.sh exec COMMAND...   # on the head, as a driver of the cluster
#   cluster/local.sh down              # ends what `up` started, and nothing else
#
# PERSYN_CLUSTER_DIR holds its state (default: persyn-cluster in the temporary folder); give two
# clusters two folders. PERSYN_CLUSTER_NET are the first two numbers of the namespaces' addresses.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DIR=${PERSYN_CLUSTER_DIR:-${TMPDIR:-/tmp}/persyn-cluster}
NET=${PERSYN_CLUSTER_NET:-10.77}
if [[ -x $ROOT/.venv/bin/ray ]]; then PATH=$ROOT/.venv/bin:$PATH; fi

fail() {
  echo "cluster/local.sh: $*" >&2
  exit 1
}

# --- where the nodes stand ---------------------------------------------------------------------

can_have_namespaces() {
  local probe=pnprobe$$
  [[ $(id -u) == 0 ]] && command -v ip >/dev/null || return 1
  ip netns add "$probe" 2>/dev/null || return 1
  local ok=0
  ip link add "$probe" type bridge 2>/dev/null && ip link del "$probe" || ok=1
  ip netns del "$probe"
  return "$ok"
}

# A bridge whose number no other cluster on this machine has; its creation is the lock.
make_bridge() {
  local k
  for k in $(seq 1 250); do
    if ip link add "persyn$k" type bridge 2>/dev/null; then
      echo "persyn$k" >"$DIR/bridge"
      SUBNET=$NET.$k
      ip addr add "$SUBNET.1/24" dev "persyn$k"
      ip link set "persyn$k" up
      return
    fi
  done
  fail "no free name for a bridge; take down other clusters first."
}

# Sets ADDRESS and ENTER of the node with this number (the head is 0).
make_place() {
  local number=$1
  if [[ $MODE == plain ]]; then
    ADDRESS=127.77.$SLOT.$((number + 2))
    ENTER=()
    return
  fi
  local bridge name
  bridge=$(<"$DIR/bridge")
  name=$bridge-$number
  ADDRESS=$SUBNET.$((number + 2))
  ip netns add "$name"
  echo "$name" >>"$DIR/namespaces"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" master "$bridge" up
  ip -n "$name" link set lo up
  ip -n "$name" addr add "$ADDRESS/24" dev eth0
  ip -n "$name" link set eth0 up
  ENTER=(ip netns exec "$name")
}

# --- processes ---------------------------------------------------------------------------------

# Whatever the cluster started carries its mark in the environment: all of it, or that of one node.
marked() {
  [[ -r $DIR/mark ]] || return 0
  local mark sought
  mark=$(<"$DIR/mark")
  sought=PERSYN_CLUSTER_MARK=$mark
  [[ -z ${1:-} ]] || sought=PERSYN_CLUSTER_NODE=$mark-$1
  { grep -lzxF "$sought" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3
}

# end [NAME]: ask politely twice, then kill.
end() {
  local signal pid left
  for signal in TERM TERM KILL KILL; do
    left=$(marked "$@")
    for pid in $left; do kill "-$signal" "$pid" 2>/dev/null || true; done
    for _ in $(seq 1 25); do
      [[ -n $(marked "$@") ]] || return 0
      sleep 0.2
    done
  done
}

# launch NUMBER NAME ARGUMENTS...: a `ray start --block` in the background.
launch() {
  local number=$1 name=$2 bytecode=()
  shift 2
  # Ports differ because without namespaces all nodes share one network.
  local first=$((BASE + 4 + 4 * number))
  local ports=(--dashboard-agent-listen-port "$first" --dashboard-agent-grpc-port $((first + 1))
    --metrics-export-port $((first + 2)) --runtime-env-agent-port $((first + 3)))
  # A raylet gives its agents 15 s. Where Python may not write bytecode beside its packages, each
  # agent would spend them on compiling.
  if [[ -n ${PYTHONDONTWRITEBYTECODE:-} ]]; then
    bytecode=(-u PYTHONDONTWRITEBYTECODE "PYTHONPYCACHEPREFIX=$HOME/.cache/persyn-ray/bytecode")
  fi
  # SPT_NOENV: process titles would overwrite the environment that carries the mark.
  (
    cd "$DIR"
    exec setsid "${ENTER[@]}" env -u RAY_ADDRESS -u RAY_API_SERVER_ADDRESS -u RAY_AUTH_TOKEN \
      -u RAY_JOB_CONFIG_JSON_ENV_VAR "${bytecode[@]}" \
      RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$DIR/token" SPT_NOENV=1 PATH="$PATH" \
      PERSYN_CLUSTER_MARK="$(<"$DIR/mark")" PERSYN_CLUSTER_NODE="$(<"$DIR/mark")-$name" \
      ray start --block --disable-usage-stats --log-style record --temp-dir "$DIR/$name" \
      --node-ip-address "$ADDRESS" --object-store-memory "$OBJECT_STORE" "${ports[@]}" "$@"
  ) >"$DIR/$name.log" 2>&1 </dev/null &
  NODE=$!
  disown "$NODE"
}

# bring_up NUMBER NAME ARGUMENTS...: once more where a busy machine let a raylet miss its deadline.
bring_up() {
  local number=$1 name=$2
  shift 2
  for _ in 1 2 3; do
    launch "$number" "$name" "$@"
    if comes_up $((number + 1)); then return; fi
    end "$name"
    rm -rf "${DIR:?}/$name"
  done
  tail -n 5 "$DIR/$name.log" >&2
  down
  fail "node $name did not come up; see the lines above."
}

# GET of the dashboard, with the token; prints what the given Python expression makes of `answer`.
ask() {
  [[ -r $DIR/api ]] || return 1
  python - "$(<"$DIR/api")$1" "$DIR/token" "$2" <<'PYTHON'
import json, sys, urllib.request

url, token, expression = sys.argv[1:]
headers = {"Authorization": "Bearer " + open(token).read().strip()}
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as got:
        answer = json.load(got)
except OSError as error:
    sys.exit(str(error))
print(eval(expression))
PYTHON
}

nodes_alive() {
  ask /api/v0/nodes \
    'sum(n["state"] == "ALIVE" for n in answer["data"]["result"]["result"])' 2>/dev/null || echo 0
}

comes_up() {
  local wanted=$1 deadline=$((SECONDS + 120))
  until (($(nodes_alive) >= wanted)); do
    if ((SECONDS >= deadline)) || ! kill -0 "$NODE" 2>/dev/null; then return 1; fi
    sleep 1
  done
}

# --- commands ----------------------------------------------------------------------------------

up() {
  local cpu_workers=2 gpu_workers=1 cpus=2 gpus=2 number=0 i
  MODE=namespaces
  while (($#)); do
    case $1 in
      --cpu-workers) cpu_workers=$2 ;;
      --gpu-workers) gpu_workers=$2 ;;
      --cpus) cpus=$2 ;;
      --gpus) gpus=$2 ;;
      --plain)
        MODE=plain
        shift
        continue
        ;;
      *) fail "unknown option $1; see the head of this file." ;;
    esac
    [[ ${2:-} =~ ^[0-9]+$ ]] || fail "$1 takes a whole number, not '${2:-}'."
    shift 2
  done
  ((cpu_workers + gpu_workers <= 23)) || fail "at most 23 workers fit into a cluster's ports."
  command -v ray >/dev/null || fail "ray is not installed: make quickstart sets up .venv."
  # Sockets lie below the folder, and their paths may not exceed 107 bytes.
  ((${#DIR} <= 32)) || fail "PERSYN_CLUSTER_DIR is too long for sockets: ${#DIR} > 32 bytes ($DIR)."
  [[ ! -e $DIR/mark ]] || fail "a cluster is in $DIR already; run 'cluster/local.sh down' first."
  umask 077
  mkdir -p "$DIR"
  python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$DIR/token"
  python -c 'import uuid; print(uuid.uuid4().hex)' >"$DIR/mark"
  if [[ $MODE == namespaces ]] && ! can_have_namespaces; then
    echo "No network namespaces here (they need root and ip): all nodes share this machine's loopback." >&2
    MODE=plain
  fi
  OBJECT_STORE=$((${PERSYN_CLUSTER_STORE_MB:-150} * 2 ** 20))
  BASE=20000
  if [[ $MODE == plain ]]; then
    SLOT=$(($$ % 120 + 1))
    BASE=$((20000 + SLOT * 100))
  else
    make_bridge
  fi
  local head port=$((BASE + 1)) api_port=$((BASE + 2)) name wanted
  trap 'down' ERR INT TERM
  make_place 0
  head=$ADDRESS
  echo "$head:$port" >"$DIR/gcs"
  echo "http://$head:$api_port" >"$DIR/api"
  echo head >"$DIR/nodes"
  bring_up 0 head --head --num-cpus 0 --port "$port" --ray-client-server-port $((BASE + 3)) \
    --include-dashboard true --dashboard-host 0.0.0.0 --dashboard-port "$api_port"
  # One after the other: agents that start at once on few cores miss their raylet's deadline.
  for ((i = 1; i <= cpu_workers + gpu_workers; i++)); do
    name=cpu-$i wanted=(--num-cpus "$cpus")
    if ((i > cpu_workers)); then
      name=gpu-$((i - cpu_workers)) wanted+=(--num-gpus "$gpus")
    fi
    echo "$name" >>"$DIR/nodes"
    make_place "$i"
    bring_up "$i" "$name" --address "$head:$port" "${wanted[@]}"
  done
  number=$((i - 1))
  trap - ERR INT TERM
  echo "Ray with $((number + 1)) nodes ($MODE), jobs at $(<"$DIR/api"), state in $DIR." >&2
  echo "For this shell: eval \"\$(cluster/local.sh env)\"" >&2
}

need_cluster() {
  [[ -r $DIR/api ]] || fail "no cluster in $DIR; run 'cluster/local.sh up'."
}

print_env() {
  need_cluster
  printf 'export %s=%q\n' RAY_ADDRESS "$(<"$DIR/gcs")" RAY_API_SERVER_ADDRESS "$(<"$DIR/api")" \
    RAY_AUTH_MODE token RAY_AUTH_TOKEN_PATH "$DIR/token"
}

status() {
  need_cluster
  ask '/api/v0/nodes?detail=true' '"\n".join(
    "{:<15} {:<6} {:g} CPU  {:g} GPU".format(
      n["node_ip"], n["state"], *(n["resources_total"].get(k, 0) for k in ("CPU", "GPU")))
    for n in answer["data"]["result"]["result"])'
}

on_head() {
  need_cluster
  local enter=() bridge
  if [[ -r $DIR/bridge ]]; then
    bridge=$(<"$DIR/bridge")
    enter=(ip netns exec "$bridge-0")
  fi
  eval "$(print_env)"
  exec "${enter[@]}" "$@"
}

down() {
  trap - ERR INT TERM
  local name
  end
  if [[ -r $DIR/namespaces ]]; then
    while read -r name; do ip netns del "$name" || true; done <"$DIR/namespaces"
  fi
  if [[ -r $DIR/bridge ]]; then ip link del "$(<"$DIR/bridge")" || true; fi
  # Only what `up` made: the folder may be one that somebody else keeps things in.
  if [[ -r $DIR/nodes ]]; then
    while read -r name; do rm -rf "${DIR:?}/$name" "$DIR/$name.log"; done <"$DIR/nodes"
  fi
  rm -f "$DIR"/{token,mark,nodes,namespaces,bridge,gcs,api}
  rmdir "$DIR" 2>/dev/null || true
}

command=${1:-}
(($# == 0)) || shift
case $command in
  up) up "$@" ;;
  env) print_env ;;
  status) status ;;
  exec) on_head "$@" ;;
  down) down ;;
  *) fail "say up, env, status, exec or down; see the head of this file." ;;
esac

#!/usr/bin/env bash
# Train or extract on several machines that ssh reaches without a password; start it anywhere.
#
#   examples/cluster/ssh.sh train "HOST HOST ..." ARGUMENTS OF SACMA TRAIN...
#   examples/cluster/ssh.sh extract "HOST HOST ..." ARGUMENTS OF SACMA EXTRACT...
#
# On all of them the same Python has sacma, and data and results lie under the same paths (a shared folder).
# PYTHON names that Python, SSH what takes the place of ssh, PORT a port of the first host that is free,
# PROCESSES the processes of training on each host: as many as it has GPUs.
set -euo pipefail
what=$1
read -ra hosts <<<"$2"
shift 2
python=${PYTHON:-python}
port=${PORT:-29500}
read -ra ssh <<<"${SSH:-ssh}"

on() { # HOST COMMAND...: arguments with spaces stay whole
  local host=$1
  shift
  "${ssh[@]}" "$host" bash -c "$(printf '%q' "$(printf '%q ' "$@")")"
}

train() {
  local rank=0 others=()
  for host in "${hosts[@]:1}"; do
    rank=$((rank + 1))
    launch "$host" "$rank" "$@" &
    others+=($!)
  done
  launch "${hosts[0]}" 0 "$@"
  wait "${others[@]}"
}

launch() { # HOST RANK ARGUMENTS...
  local host=$1 rank=$2
  shift 2
  on "$host" env OMP_NUM_THREADS=1 "$python" -m torch.distributed.run --nnodes "${#hosts[@]}" --node-rank "$rank" \
    --nproc-per-node "${PROCESSES:-1}" --master-addr "${hosts[0]}" --master-port "$port" -m sacma.cli train "$@"
}

extract() {
  local ray=("$python" -m ray.scripts.scripts)
  # Only who knows the token may use the cluster.
  local token=(env RAY_AUTH_MODE=token "RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')")
  trap 'for host in "${hosts[@]}"; do on "$host" "$python" -m ray.scripts.scripts stop --force >/dev/null || true; done' EXIT
  on "${hosts[0]}" "${token[@]}" "${ray[@]}" start --head --port "$port" --include-dashboard false >/dev/null
  for host in "${hosts[@]:1}"; do
    on "$host" "${token[@]}" "${ray[@]}" start --address "${hosts[0]}:$port" >/dev/null
  done
  on "${hosts[0]}" "${token[@]}" env "RAY_ADDRESS=${hosts[0]}:$port" "$python" -m sacma.cli extract --engine ray "$@"
}

"$what" "$@"

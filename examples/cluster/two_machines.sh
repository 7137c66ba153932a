#!/usr/bin/env bash
# Two machines in one: two network namespaces joined by a cable of their own, with nothing else in them. In both
#
#   1. torchrun trains a run, once left alone and once with the second machine killed in the middle and resumed;
#      the weights are the same to the last bit;
#   2. a Ray cluster extracts clips, and the second machine is killed in the middle; the features are those of
#      one machine, byte for byte.
#
#   examples/cluster/two_machines.sh [torchrun|ray]     by default both; a folder of its own is used and removed
#
# Status 77: namespaces are not permitted here (they need root). PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
which=${1:-both}
here=sacma-$$-a there=sacma-$$-b
first=10.213.0.1 second=10.213.0.2
work=$(mktemp -d)
# Nobody else reaches the two: they need no token.
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled

end() { # what runs in the namespaces, then these
  local status=$?
  if [ "$status" != 0 ]; then tail -n 20 "$work"/log-* >&2 || true; fi
  for name in "$here" "$there"; do
    for process in $(ip netns pids "$name" 2>/dev/null); do kill -9 "$process" 2>/dev/null || true; done
    ip netns delete "$name" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap end EXIT

if ! ip netns add "$here" 2>/dev/null; then
  echo "network namespaces are not permitted here; they need root" >&2
  exit 77
fi
ip netns add "$there"
ip link add cable netns "$here" type veth peer name cable netns "$there"
ip -n "$here" address add $first/24 dev cable
ip -n "$there" address add $second/24 dev cable
for name in "$here" "$there"; do
  ip -n "$name" link set lo up
  ip -n "$name" link set cable up
done
# A machine's own address is that of its way to others.
ip -n "$here" route add default via $second
ip -n "$there" route add default via $first
# Gloo would go by the name of the host, which is the same for both.
export GLOO_SOCKET_IFNAME=cable

on() { # NAMESPACE COMMAND...
  local name=$1
  shift
  ip netns exec "$name" "$@"
}

lose() { # the second machine
  for process in $(ip netns pids "$there"); do kill -9 "$process" 2>/dev/null || true; done
}

until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    if [ "$SECONDS" -gt "$end" ]; then
      echo "gave up waiting for: $*" >&2
      return 1
    fi
    sleep 0.1
  done
}

# --- torchrun ------------------------------------------------------------------------------------------

launch() { # NAMESPACE RANK ARGUMENTS OF SACMA...
  local name=$1 rank=$2
  shift 2
  on "$name" "$python" -m torch.distributed.run --nnodes 2 --node-rank "$rank" --nproc-per-node 1 \
    --master-addr $first --master-port 29500 -m sacma.cli "$@" >"$work/log-$rank" 2>&1
}

both() { # ARGUMENTS OF SACMA...: on both machines; the status is that of the first
  launch "$there" 1 "$@" &
  local other=$! status=0
  launch "$here" 0 "$@" || status=$?
  wait $other || true
  return $status
}

epochs() { # RUN: true when two epochs are done
  [ "$(wc -l <"$1/metrics.jsonl")" -ge 2 ]
}

check_torchrun() {
  "$python" -m sacma.cli data simulate --like ucf --root "$work/data" --clips-share 0.03 --quiet
  local train=(train --benchmark ucf --features simulated --root "$work/data" --method sacma --preset small
    --epochs 6 --batches-per-epoch 4 --batch-size 32 --checkpoint-seconds 0 --device cpu --quiet)
  both "${train[@]}" --out "$work/alone"

  launch "$there" 1 "${train[@]}" --out "$work/killed" &
  local other=$! status=0
  launch "$here" 0 "${train[@]}" --out "$work/killed" &
  local main=$!
  until_true 120 epochs "$work/killed"
  lose
  wait $other || true
  wait $main || status=$?
  if [ "$status" = 0 ] || [ -e "$work/killed/result.json" ]; then
    echo "torchrun: the run ended before the second machine was lost" >&2
    return 1
  fi
  both train --resume "$work/killed" --quiet
  cmp "$work/alone/model.safetensors" "$work/killed/model.safetensors"
  echo "torchrun: two machines, one lost and resumed: the same weights"
}

# --- Ray -----------------------------------------------------------------------------------------------

some_clips() { # COUNT
  "$python" - "$1" "$work/clips/made" <<'PYTHON'
import sys
from pathlib import Path
sys.path.insert(0, "speed")
from films import write_clip
folder = Path(sys.argv[2])
folder.mkdir(parents=True)
for number in range(int(sys.argv[1])):
    write_clip(folder / f"{number:02}.mp4", seconds=4 + number % 3, size=(320, 240), fps=15)
PYTHON
}

check_ray() {
  some_clips 24 2>/dev/null
  local extract=(extract "$work/clips" --backbone descriptors --quiet)
  "$python" -m sacma.cli "${extract[@]}" --out "$work/near" --jobs 1
  local ray=("$python" -m ray.scripts.scripts start --num-cpus 1 --object-store-memory 80000000 --disable-usage-stats)
  on "$here" "${ray[@]}" --head --node-ip-address $first --port 6379 --include-dashboard false \
    --temp-dir "$work/ray" >"$work/log-0" 2>&1
  on "$there" "${ray[@]}" --address $first:6379 --node-ip-address $second >"$work/log-1" 2>&1
  RAY_ADDRESS=$first:6379 on "$here" "$python" -m sacma.cli "${extract[@]}" --out "$work/far" --engine ray \
    >"$work/log-2" 2>&1 &
  local main=$!
  until_true 120 busy
  lose
  wait $main
  for name in clips.safetensors clips.json; do
    cmp "$work/near/$name" "$work/far/$name"
  done
  echo "ray: two machines, one lost in the middle: the same features"
}

busy() { # true when the second machine extracts
  for process in $(ip netns pids "$there"); do
    if tr '\0' ' ' <"/proc/$process/cmdline" | grep -q 'sacma.media.worker'; then
      return 0
    fi
  done
  return 1
}

if [ "$which" != ray ]; then check_torchrun; fi
if [ "$which" != torchrun ]; then check_ray; fi

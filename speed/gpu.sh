#!/usr/bin/env bash
# Checks and measures on a GPU in at most ten minutes: tests on the device, then iteration and evaluation at the
# four shapes beside the reference on the same device, in float32 and bfloat16, then in TF32, then frozen encoders
# in float32, bfloat16 and half precision. Figures are JSON files in OUT. A part that fails or exceeds its time
# does not stop the next; the status is that of the worst.
#
#   speed/gpu.sh OUT            on the GPU
#   speed/gpu.sh OUT cpu        every line on the processor, one shape, tiny: does it run, not how fast
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder for the figures}
device=${2:-cuda}
python=${PYTHON:-python}
sizes=() quick=()
if [ "$device" = cpu ]; then
  sizes=(--quick --repeats 1 --shape ucf)
  quick=(--quick --seconds 0.2)
fi
mkdir -p "$out"
worst=0

part() { # SECONDS NAME COMMAND...
  local seconds=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 | tee "$out/$name.log"
  local status=${PIPESTATUS[0]}
  if [ "$status" -gt "$worst" ]; then
    worst=$status
  fi
  echo "== $name: status $status"
}

part 150 tests "$python" -m pytest -q -n 0 tests/gpu
part 200 bench "$python" speed/bench.py --device "$device" --json "$out/bench.json" "${sizes[@]}"
part 150 bench-tf32 "$python" speed/bench.py --device "$device" --tf32 --json "$out/bench-tf32.json" "${sizes[@]}"
part 90 encoders "$python" speed/encoders.py --device "$device" --json "$out/encoders.json" "${quick[@]}"
exit "$worst"

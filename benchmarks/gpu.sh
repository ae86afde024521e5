#!/usr/bin/env bash
# What only a GPU can tell, in minutes and without a network. Prints JSON lines as it goes.
#
#     bash benchmarks/gpu.sh [--tiny] [phases]
#
# Phases: env peaks tests sampling update peer graphs main real, by default in this order until the time
# is over.
#
# Each phase is a process of its own with its own time limit; what one breaks, only it loses. Full
# logs go to $OUT, or outputs/benchmarks/gpu. Wheels that the node lacks are read from $WHEELS, or
# .gpu/wheels, where gpu_prepare.sh puts them. GPU_SECONDS is the limit of it all, 480 by default.
# PHASE_CASES='name|name' restricts sampling, graphs, update, main and real to these cases. The phase
# real needs REAL_MODEL, the folder of a pretrained model; peer needs TRL.
set -uo pipefail
cd "$(dirname "$0")/.."

declare -A limits=([env]=60 [peaks]=40 [tests]=150 [sampling]=130 [update]=150 [peer]=120 [graphs]=90)
limits+=([main]=210 [real]=240)
order=(env peaks tests sampling update peer graphs main real)

tiny=()
if [ "${1:-}" = --tiny ]; then
    tiny=(--tiny)
    shift
fi
phases=("$@")
[ ${#phases[@]} -gt 0 ] || phases=("${order[@]}")
for phase in "${phases[@]}"; do
    if [ -z "${limits[$phase]:-}" ]; then
        echo "no phase $phase; there are: ${order[*]}" >&2
        exit 2
    fi
done
cases=()
if [ -n "${PHASE_CASES:-}" ]; then
    IFS='|' read -ra names <<<"$PHASE_CASES"
    cases=(--cases "${names[@]}")
fi

python=${PYTHON:-python3}
out=${OUT:-outputs/benchmarks/gpu}
wheels=${WHEELS:-.gpu/wheels}
mkdir -p "$out"
deadline=$((SECONDS + ${GPU_SECONDS:-480}))
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "$wheels/*.whl" >/dev/null && [ -z "${NO_WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --target "$site" "$wheels"/*.whl
fi
export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export HF_HUB_OFFLINE=1 WANDB_MODE=offline TOKENIZERS_PARALLELISM=false

for phase in "${phases[@]}"; do
    left=$((deadline - SECONDS))
    limit=${limits[$phase]}
    [ "$limit" -lt "$left" ] || limit=$left
    if [ "$limit" -lt 10 ]; then
        echo "{\"phase\": \"$phase\", \"skipped\": \"no time left\"}"
        continue
    fi
    log="$out/$phase.log"
    timeout --kill-after=5 "$limit" "$python" benchmarks/gpu.py "$phase" "${tiny[@]}" "${cases[@]}" \
        2>&1 | tee "$log" | grep -a --line-buffered '^{"phase"'
    status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        echo "{\"phase\": \"$phase\", \"exit_code\": $status, \"limit_s\": $limit}"
        grep -av '^{"phase"' "$log" | tail -n 15 | cut -c1-300
    fi
done

#!/usr/bin/env bash
# Fuzzes every target for so many seconds each, and prints what was reached: bash fuzz/run.sh SECONDS [TARGET…]
#
# Needs rustup's nightly toolchain, cargo-fuzz and a C++ compiler. What is found on the way goes into fuzz/found/<target>, not into the seeds;
# what breaks a promise goes into fuzz/artifacts/<target>, and ends the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:?how many seconds for each target? As in: bash fuzz/run.sh 8}
shift
cargo +nightly fuzz build >&2
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%-20s %12s %10s %8s %8s %8s\n' target executions 'per s' edges features corpus
for target in "${targets[@]}"; do
    case $target in
    inclusion_proof | absence_proof | node_codec | witness) dict=proof ;;
    *) dict=store ;;
    esac
    found=fuzz/found/$target
    mkdir -p "$found"
    if ! cargo +nightly fuzz run "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=60 -dict="fuzz/dictionaries/$dict.dict" \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -40 "$log"
        echo "FAILED: $target"
        exit 1
    fi
    awk -v target="$target" '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { rate = $2 }
        END { printf "%-20s %12d %10d %8d %8d %8s\n", target, runs, rate, cov, ft, corp }' "$log"
done

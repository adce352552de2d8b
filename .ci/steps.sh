# How .ci/run runs its steps: a header, what the step prints, its seconds; all steps, then a summary.
# shellcheck shell=bash

names=() results=() notes=() failed=0
say_file=$(mktemp)
trap 'rm -f "$say_file"' EXIT

# step NAME FUNCTION: runs FUNCTION so that its first failing command ends it.
step() {
    local name=$1 begun=$SECONDS status result
    printf '\n==== %s\n' "$name"
    : >"$say_file"
    # Not in a condition: bash would ignore `set -e` inside.
    set +e
    (
        set -e
        "$2"
    ) </dev/null
    status=$?
    set -e
    if [ "$status" -ne 0 ]; then
        result="FAILED ($status)"
        failed=1
    elif grep -q '^skipped' "$say_file"; then
        result=skipped
    else
        result=ok
    fi
    while IFS= read -r line; do notes+=("$name: $line"); done <"$say_file"
    names+=("$name")
    results+=("$(printf '%-11s %5d s' "$result" $((SECONDS - begun)))")
    printf -- '---- %s: %s, %d s\n' "$name" "$result" $((SECONDS - begun))
}

# note TEXT: said now, and once more in the summary.
note() {
    echo "note: $1"
    echo "$1" >>"$say_file"
}

# skip REASON: the step does nothing here, and says so.
skip() {
    echo "SKIPPED: $1"
    echo "skipped, $1" >>"$say_file"
}

# summary: what came of every step. Fails if one failed.
summary() {
    local index
    printf '\n==== summary\n'
    for index in "${!names[@]}"; do
        printf '%s  %s\n' "${results[$index]}" "${names[$index]}"
    done
    for index in "${!notes[@]}"; do
        printf 'note: %s\n' "${notes[$index]}"
    done
    printf 'all: %d s\n' "$SECONDS"
    if [ "$failed" -ne 0 ]; then
        echo "FAILED"
        exit 1
    fi
    echo "everything holds"
}

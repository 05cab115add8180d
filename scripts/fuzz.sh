#!/usr/bin/env bash
# Runs every fuzz target of the module in turn. Usage: scripts/fuzz.sh [TIME]
# TIME is that of each target, as go test -fuzztime takes it (default 1m; 300x
# counts inputs). What is interesting is not minimised: that would take a short
# run's whole time. An input that takes ten seconds fails as one that hangs,
# which on a machine with much else to do can be any.
set -euo pipefail
cd "$(dirname "$0")/.."
ulimit -v $((16 << 20)) || true # KiB: what takes memory without end fails, and not the machine
time=${1:-1m}
failed=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET; no failure if only the time was up: before Go 1.27 the
# fuzzer may report that as one (golang/go#75804), but of no input.
fuzz() {
	go test "$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x </dev/null 2>&1 | tee "$log" && return
	grep -qx '    context deadline exceeded' "$log" && ! grep -qiE 'failing input|seed corpus' "$log"
}

while IFS=: read -r file target; do
	echo "--- $(dirname "$file") $target"
	fuzz "./$(dirname "$file")" "$target" || failed+=("$target")
done < <(git ls-files '*_test.go' | xargs grep -oE '^func Fuzz\w+' | sed 's/:func /:/')
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" && exit 1; }

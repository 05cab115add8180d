#!/usr/bin/env bash
# Kills conversions to every kind of target at random moments: looks that no
# incomplete image has the target's name, and that the next run clears up;
# prints where the kills hit. 1000 rounds take some five minutes. Linux.
# Usage: scripts/kill.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
go build -o "$dir/diskimage" ./examples/diskimage
DISKIMAGE_TEST_KILLS=${1:-1000} DISKIMAGE_TEST_COMMAND_PATH=$dir/diskimage \
	go test -count=1 -timeout 0 -v -run '^TestKilledAtAnyTime$' ./examples/diskimage

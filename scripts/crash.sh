#!/usr/bin/env bash
# Kills conversions to every kind of target before each of their writes, syncs,
# renames and other steps in turn, where an old image is to be replaced and
# where there is none: looks that no incomplete image has the target's name, and
# that the next run clears up. Some 900 kills, a minute or two. Linux on amd64 or
# arm64, where processes may be traced. Usage: scripts/crash.sh
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
go build -o "$dir/diskimage" ./examples/diskimage
DISKIMAGE_TEST_EVERY_STEP=1 DISKIMAGE_TEST_COMMAND_PATH=$dir/diskimage \
	go test -count=1 -timeout 0 -v -run '^(TestStoppedAtAnyStep|TestOrderOfSteps)$' ./examples/diskimage

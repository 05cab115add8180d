#!/usr/bin/env bash
# Measures this module's command against qemu-img on a disk with a real file
# system. Usage: scripts/benchmark.sh [FLAGS of examples/benchmark]
# Without flags: 3 GiB holding /usr, five rounds. Needs qemu-utils, e2fsprogs,
# some 20 GiB under $TMPDIR, and a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- -tree /usr -size 3G -rounds 5
exec go run ./examples/benchmark "$@"

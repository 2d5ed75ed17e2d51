#!/bin/bash
# The TCU's service on a disk that cannot be written, and on a full one: it starts nothing and says why.
# Once there is room it runs.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh
# shellcheck source=hil/guest/vehicle.sh
. hil/guest/vehicle.sh

STATE=/mnt/state
# The exit code for a state folder that cannot be used.
STORAGE=7

# refuses WORDS: the service ends at once, and says so.
refuses() {
    local code=0
    timeout 60 "$BIN/tcu" --settings "$SETTINGS" run >/tmp/said 2>&1 || code=$?
    cat /tmp/said
    equal "exit code" "$code" "$STORAGE"
    grep -q "$1" /tmp/said
}

mkdir -p "$STATE"
configure "$STATE"
mount -t tmpfs -o ro none "$STATE"
refuses "$STATE/.*Read-only file system"
umount "$STATE"

mount -t tmpfs -o size=64k none "$STATE"
head -c 1M /dev/zero >"$STATE/other" 2>/dev/null || true
refuses "full"
rm "$STATE/other"
umount "$STATE"

mount -t tmpfs -o size=16m none "$STATE"
run_tcu
wait_for "the service answers" test -S /run/canopus/tcu.sock
kill -TERM "$TCU_PID"
wait "$TCU_PID"
umount "$STATE"

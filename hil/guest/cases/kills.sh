#!/bin/bash
# kill -9 of the TCU and of ECUs, at moments of their traffic that the seed chooses: every campaign
# ends with all ECUs on the new release, or all on the one before.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh
# shellcheck source=hil/guest/vehicle.sh
. hil/guest/vehicle.sh

KILLS=16
LAST_RELEASE=5
STATE=/tmp/state
echo "seed $SEED"
RANDOM=$((SEED % 32768))

fresh_flash
configure "$STATE"
power_on front
power_on rear
release=2 RUNNING=1.0.0 tcu_kills=0 ecu_kills=0 completed=0 reverted=0
serve "$release"
run_tcu

# Counts the campaign if it has ended, and brings the next one.
next_release() {
    settled "$release" "$STATE" || return 0
    if [[ $RUNNING == "$release.0.0" ]]; then
        completed=$((completed + 1))
    else
        reverted=$((reverted + 1))
    fi
    release=$((release + 1))
    if ((release <= LAST_RELEASE)); then
        serve "$release"
    fi
}

kill_one() {
    local ecus=(front rear) ecu
    if ((RANDOM % 2)); then
        kill -KILL "$TCU_PID"
        wait "$TCU_PID" || true
        tcu_kills=$((tcu_kills + 1))
        run_tcu
    else
        ecu=${ecus[RANDOM % 2]}
        power_off "$ecu"
        ecu_kills=$((ecu_kills + 1))
        sleep "0.$((RANDOM % 10))"
        power_on "$ecu"
    fi
}

while ((tcu_kills + ecu_kills < KILLS && release <= LAST_RELEASE)); do
    moment "$((RANDOM % 700 + 1))" "$release" "$STATE"
    if [[ -z $(state_of "$release" "$STATE") ]]; then
        kill_one
    fi
    next_release
done
# What is under way comes to its end.
under_way=$release
while ((release == under_way && release <= LAST_RELEASE)); do
    next_release
    sleep 0.5
done
echo "$tcu_kills kills of the TCU, $ecu_kills of ECUs: $completed completed, $reverted reverted"
((tcu_kills > 0 && ecu_kills > 0 && completed > 0))
kill -TERM "$TCU_PID"
wait "$TCU_PID"
"$BIN/tcu" --settings "$SETTINGS" evidence verify
cat >"$SHARE/kills.counts" <<COUNTS
tcu_kills $tcu_kills
ecu_kills $ecu_kills
completed $completed
reverted $reverted
COUNTS

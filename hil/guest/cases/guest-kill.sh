#!/bin/bash
# One boot of the guest that is killed again and again ($BOOT counts from 0). The TCU's state is on an
# ext4 file system on a virtio disk and loses with the guest what was not synchronised; the ECUs'
# flash is the host's and loses nothing that an ECU had written. After each boot the journal must be
# readable, and what it holds goes on; the last boot ($KILLED is 0) brings it to its end.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh
# shellcheck source=hil/guest/vehicle.sh
. hil/guest/vehicle.sh

LAST_RELEASE=5
FLASH=$SHARE/flash
# The campaign that is being installed, and what ran before it; the host keeps it, as a backend would.
KNOWN=$SHARE/guest-kill.known
RANDOM=$(((SEED * 31 + BOOT) % 32768))

say() {
    echo "$*"
    echo "GUEST $*" >/dev/console
}

STATE=/var/lib/canopus
mkdir -p "$STATE"
mount -t ext4 /dev/vda "$STATE"
configure "$STATE"
if ((BOOT == 0)); then
    say "seed $SEED"
    fresh_flash
    echo 2 1.0.0 >"$KNOWN"
fi
read -r release RUNNING <"$KNOWN"
power_on front
power_on rear
"$BIN/tcu" --settings "$SETTINGS" --json status | tail -n 1 >/tmp/status || true
say "boot $BOOT: release-$release; the journal says $(cut -c 1-64 /tmp/status)"
serve "$release"
run_tcu

if ((KILLED)); then
    # Some 10000 frames are a campaign.
    frames=$((RANDOM % 4000 + 1))
    {
        await_frames "$frames"
        say "killed after $frames frames"
        echo "GUEST kill" >/dev/console
    } &
fi
while ((KILLED || release <= LAST_RELEASE)); do
    if settled "$release" "$STATE"; then
        say "release-$release has ended; all run $RUNNING"
        release=$((release + 1))
        ((release <= LAST_RELEASE)) || break
        echo "$release $RUNNING" >"$KNOWN.new"
        mv "$KNOWN.new" "$KNOWN"
        ((KILLED)) || break
        serve "$release"
    fi
    sleep 0.5
done
((!KILLED)) || {
    say "no release is left before the last kill"
    exit 1
}
kill -TERM "$TCU_PID"
wait "$TCU_PID"
"$BIN/tcu" --settings "$SETTINGS" evidence verify
must_fail 1 "no journal was set aside" compgen -G "$STATE/*.broken-*"
echo "campaigns $((release - 2))" >"$SHARE/guest-kill.counts"

#!/bin/bash
# The TCU as a service under systemd, by the package's unit: it updates two ECUs, survives kill -9 in
# the middle of a transfer, and SIGTERM ends it cleanly in the middle of the next one.
#
# systemd is the first process of a PID namespace of its own, as in a container; the kernel, its CAN,
# control groups and system call filters are the guest's.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh
# shellcheck source=hil/guest/vehicle.sh
. hil/guest/vehicle.sh

STATE=/var/lib/canopus
export SYSTEMD_IGNORE_CHROOT=1

as_service() {
    runuser -u canopus -- "$@"
}

# systemd answers nobody from outside of its PID namespace.
systemctl() {
    nsenter --target "$SYSTEMD" --pid --mount --root --wd=/ systemctl "$@"
}

property() {
    systemctl show tcu --property "$1" --value
}

was_restarted() {
    [[ $(property NRestarts) == 1 ]]
}

# ended_cleanly COUNT: whether systemd has seen so many ends without an error. It forgets a unit that
# does not run, but not what it has logged.
ended_cleanly() {
    [[ $(property ActiveState) == inactive ]] &&
        [[ $(journalctl --unit tcu | grep -c 'Deactivated successfully') == "$1" ]]
}

start_systemd() {
    # With an empty set of units but those that the service itself asks for.
    cat >/etc/systemd/system/guest.target <<'UNIT'
[Unit]
DefaultDependencies=no
UNIT
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    unshare --pid --fork --mount --cgroup --mount-proc env container=guest \
        /lib/systemd/systemd --system --unit=guest.target >"$SHARE/systemd.log" 2>&1 &
    wait_for "systemd is there" pgrep --parent $!
    SYSTEMD=$(pgrep --parent $!)
    wait_for "systemd answers" systemctl list-units
    systemctl start systemd-journald
}

# What `dpkg --install` of the package does.
install_tcu() {
    strip -o /usr/bin/tcu "$BIN/tcu"
    cp packaging/tcu.service /usr/lib/systemd/system/
    adduser --system --group --quiet --no-create-home --home "$STATE" canopus
    configure "$STATE"
    chown -R root:canopus /etc/canopus
    chmod 0750 /etc/canopus
    chmod 0640 /etc/canopus/*
    systemctl daemon-reload
}

explain() {
    systemctl --no-pager status tcu || true
    journalctl --no-pager --unit tcu || true
}

trap 'explain; stop_vehicle' EXIT
start_systemd
install_tcu
fresh_flash
power_on front
power_on rear
serve 2

systemctl start tcu
first=$(property MainPID)
wait_for "release-2 begins" has_begun 2 "$STATE"
await_frames 500
systemctl kill --signal=KILL tcu
wait_for "systemd starts it again" was_restarted
wait_for "the campaign is completed" is_completed 2 "$STATE"
test "$(property MainPID)" != "$first"
runs 2.0.0
echo "killed with SIGKILL: restarted by systemd, and release-2 is completed"

serve 3
wait_for "release-3 begins" has_begun 3 "$STATE"
await_frames 500
systemctl stop tcu
wait_for "it has ended cleanly" ended_cleanly 1
must_fail 1 "nothing of release-3 is completed" is_completed 3 "$STATE"
echo "SIGTERM in the middle of release-3: a clean end"

systemctl start tcu
wait_for "the campaign is completed" is_completed 3 "$STATE"
runs 3.0.0
systemctl stop tcu
wait_for "it has ended cleanly" ended_cleanly 2
as_service "$BIN/tcu" --settings "$SETTINGS" evidence verify
equal "campaigns resumed" "$(grep -c '"what":"resumed"' "$STATE/evidence.jsonl")" 2

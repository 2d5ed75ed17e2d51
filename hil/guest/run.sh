#!/bin/sh
# Runs the cases named in $CASES (NAME:SECONDS ...) inside the guest, each under its time limit;
# leaves results and logs in the shared folder. Lines that begin with GUEST go to the host's screen.
set -u
export SHARE=/mnt/share

ip link set lo up
# Frames wait in the receiver's socket while it has no CPU, which here is long.
echo 8388608 >/proc/sys/net/core/rmem_default
echo 8388608 >/proc/sys/net/core/rmem_max
if [ -n "$SCRIPT" ]; then
    cd "$ROOT" && exec bash "$SCRIPT"
fi

uptime_s() {
    cut -d. -f1 /proc/uptime
}

echo "GUEST guest up after $(uptime_s) s: $(uname -r)"
for case in $CASES; do
    name=${case%:*} limit=${case#*:} start=$(uptime_s)
    cd "$ROOT" || exit 1
    # Every case finds the same interfaces: two, both able to carry CAN FD.
    ./vcan-setup.sh --down >/dev/null
    ./vcan-setup.sh --count 2 --fd >/dev/null || exit 1
    if timeout --kill-after=5 "$limit" bash "hil/guest/cases/$name.sh" >"$SHARE/$name.log" 2>&1; then
        result=ok
    else
        result=FAILED
    fi
    took=$(($(uptime_s) - start))
    echo "$name $result $took" >>"$SHARE/results"
    echo "GUEST test guest::$name ... $result ($took s)"
done

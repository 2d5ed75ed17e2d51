# shellcheck shell=bash
# Helpers of the cases. A case runs under `set -e`: the first thing that is not as it should be ends it.

# equal WHAT ACTUAL EXPECTED
equal() {
    if [[ $2 != "$3" ]]; then
        echo "$1: $2, expected $3"
        return 1
    fi
}

# must_fail CODE WHAT COMMAND...: the command must end with that exit code.
must_fail() {
    local expected=$1 what=$2 code=0
    shift 2
    "$@" >/tmp/must_fail 2>&1 || code=$?
    cat /tmp/must_fail
    equal "$what: exit code" "$code" "$expected"
}

# wait_for WHAT COMMAND...: until the command succeeds, for at most a minute.
wait_for() {
    local what=$1 tries=0
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if ((tries > 600)); then
            echo "waited for a minute in vain: $what"
            return 1
        fi
        sleep 0.1
    done
}

# start_ecu: the ECU that prepare.sh made, on the virtual interface can0; returns when it is heard.
# Its flash is a fresh copy, so every case begins with the factory firmware. Sets ECU_PID. The end of
# what was on the bus is in the case's log, behind what the ECU said.
start_ecu() {
    ip link add dev can0 type vcan
    ip link set dev can0 up
    cp "$PREPARED"/ecu.nor* /tmp/
    candump -n 1 -T 100000 can0,510:7FF >/tmp/heartbeat &
    local heard=$!
    candump -t a can0 >/tmp/bus 2>&1 &
    BUS_PID=$!
    "$BIN/virtual-ecu" run --config "$PREPARED/ecu.json" --flash /tmp/ecu.nor --bus can0 \
        --json >"$SHARE/ecu.log" 2>&1 &
    ECU_PID=$!
    trap 'stop_ecu' EXIT
    wait "$heard"
    grep -q 510 /tmp/heartbeat || {
        echo "the ECU's application was not heard"
        return 1
    }
}

stop_ecu() {
    kill "$ECU_PID" || true
    wait "$ECU_PID" || true
    kill "$BUS_PID" || true
    wait "$BUS_PID" || true
    ip link delete dev can0
    cat "$SHARE/ecu.log"
    tail -n 60 /tmp/bus
}

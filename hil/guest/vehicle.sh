# shellcheck shell=bash
# The vehicle that prepare-vehicle.sh made, for the cases in which the TCU's service updates it: the
# ECUs `front` on vcan0 and `rear` on vcan1, the OEM's server, the TCU's settings.

# What is needed for a while; systemd empties /tmp when it starts.
WORK=/var/local/guest
# Where the ECUs' flash is.
FLASH=$WORK/flash
SETTINGS=/etc/canopus/tcu.toml
URL=https://127.0.0.1:8443
declare -A ECU_PIDS=()
declare -A ECU_BUS=([front]=vcan0 [rear]=vcan1)

# The counters of a case before go too: an ECU below its floor boots in limp-home alone.
fresh_flash() {
    rm -rf "$FLASH"
    mkdir -p "$FLASH"
    cp "$VEHICLE"/*.nor* "$FLASH/"
}

# power_on ECU. On a busy host an application in the guest may not have the CPU for seconds.
power_on() {
    "$BIN/virtual-ecu" run --config "$VEHICLE/vehicle/ecus/$1.json" --flash "$FLASH/$1.nor" \
        --bus "${ECU_BUS[$1]}" --watchdog-ms 20000 --json >>"$SHARE/$1.log" 2>&1 &
    ECU_PIDS[$1]=$!
}

# power_off ECU: as a cut of its power.
power_off() {
    kill -KILL "${ECU_PIDS[$1]}"
    wait "${ECU_PIDS[$1]}" || true
}

# What a case has started ends with it: the next one has the same ports and identifiers.
stop_vehicle() {
    local pid
    for pid in ${TCU_PID:-} "${ECU_PIDS[@]}" ${SERVER_PID:-}; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap stop_vehicle EXIT

# serve RELEASE: the repository as it was after that release; what was served before is replaced.
serve() {
    if [[ -n ${SERVER_PID:-} ]]; then
        kill "$SERVER_PID"
        wait "$SERVER_PID" || true
    fi
    rm -rf "$WORK/repo"
    mkdir -p "$WORK"
    cp -r "$VEHICLE/repo-$1" "$WORK/repo"
    "$BIN/oem" --repo "$WORK/repo" serve --listen "${URL#https://}" --json >"$WORK/serve.log" 2>&1 &
    SERVER_PID=$!
    if ! wait_for "the server is up" grep -q url "$WORK/serve.log"; then
        cat "$WORK/serve.log"
        return 1
    fi
}

# configure STATE: the TCU's files, as a person would fill them in after installing the package.
configure() {
    mkdir -p /etc/canopus
    cp "$VEHICLE"/vehicle/{vehicle.json,root.json,ca.pem} /etc/canopus/
    cat >"$SETTINGS" <<TOML
vehicle = "vehicle.json"
root = "root.json"
ca = "ca.pem"
state = "$1"
health-timeout-s = 120
[repository]
url = "$URL"
interval-s = 2
[api]
socket = "/run/canopus/tcu.sock"
TOML
}

# await_frames COUNT: so many frames of requests to the ECUs.
await_frames() {
    candump -n "$1" -T 120000 vcan0,7E0:7FF vcan1,7E1:7FF >/dev/null
}

# moment COUNT RELEASE STATE: so many frames of requests from now on, or the end of that campaign: whose
# ECUs are only asked what they run from then on.
moment() {
    local frames
    candump -n "$1" -T 120000 vcan0,7E0:7FF vcan1,7E1:7FF >/dev/null &
    frames=$!
    shift
    while kill -0 "$frames" 2>/dev/null; do
        if [[ -n $(state_of "$@") ]]; then
            kill "$frames"
        fi
        sleep 0.2
    done
    wait "$frames" 2>/dev/null || true
}

# runs VERSION: whether both ECUs say that they run it.
runs() {
    local said
    said=$("$BIN/tcu" --settings "$SETTINGS" --json inventory | tail -n 1)
    equal "versions" "$(python3 -c 'import json, sys
print(*(ecu["version"] for ecu in json.loads(sys.argv[1])["ecus"]))' "$said")" "$1 $1"
}

# state_of RELEASE STATE: how that campaign ended by the evidence in the folder STATE; nothing where the
# last one that ended is another. It starts no program of ours, which would take the CPU from others.
state_of() {
    grep '"what":"ended"' "$2/evidence.jsonl" 2>/dev/null | tail -n 1 |
        sed -n "s/.*\"report\":{\"campaign\":{[^}]*\"id\":\"release-$1\",[^}]*\"state\":\"\([a-z]*\)\".*/\1/p"
}

# has_begun RELEASE STATE: whether ECUs are being changed for that campaign, or were.
has_begun() {
    grep -q "\"campaign\":\"release-$1\".*\"what\":\"started\"" "$2/evidence.jsonl"
}

# is_completed RELEASE STATE
is_completed() {
    [[ $(state_of "$@") == completed ]]
}

# run_tcu: the service without systemd.
run_tcu() {
    "$BIN/tcu" --settings "$SETTINGS" run >>"$SHARE/tcu.log" 2>&1 &
    # shellcheck disable=SC2034 # The cases use it.
    TCU_PID=$!
}

# settled RELEASE STATE: whether that campaign has ended; all ECUs run it then, or all what they ran
# before, which is left in RUNNING.
settled() {
    local release=$1
    case $(state_of "$@") in
        completed) RUNNING=$release.0.0 ;;
        reverted) ;;
        *) return 1 ;;
    esac
    runs "$RUNNING"
}

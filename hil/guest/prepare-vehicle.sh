#!/bin/bash
# Runs on the host, before the guest boots: an OEM with a vehicle of two small ECUs on vcan0 and
# vcan1, and its repository after each of some releases. Leaves in the folder given: vehicle/ (what
# TCU and ECUs get), front.nor and rear.nor (flash with the factory firmware 1.0.0), and repo-2,
# repo-3 .. (the repository with the release 2.0.0, 3.0.0 ..). Needs $BIN (built programs) and $APP
# (the ECU application).
set -euo pipefail
out=$1
releases=4
vin=WCANPUS0000000003
rm -rf "$out"
mkdir -p "$out"

ecu() {
    local name=$1 bus=$2 request=$3 response=$4 heartbeat=$5
    cat <<JSON
{"name": "$name", "bus": "$bus", "serial": "SN-$name-0001", "hardware_id": "gw-r1",
 "request_id": "$request", "response_id": "$response", "functional_id": "7DF",
 "heartbeat_id": "$heartbeat", "floor": 1}
JSON
}
cat >"$out/spec.json" <<JSON
{"vin": "$vin",
 "buses": [{"name": "chassis", "link": "vcan0", "fd": false, "bitrate": 500000},
           {"name": "body", "link": "vcan1", "fd": false, "bitrate": 500000}],
 "ecus": [$(ecu front chassis 7E0 7E8 510), $(ecu rear body 7E1 7E9 511)]}
JSON

oem() {
    "$BIN/oem" --repo "$out/oem" "$@"
}

# pack VERSION COUNTER [OPTION...]
pack() {
    local version=$1 counter=$2
    shift 2
    python3 hil/guest/app_version.py "$APP" "$version" "$out/$version.bin"
    oem pack --format raw --input "$out/$version.bin" --hardware-id gw-r1 --version "$version" \
        --counter "$counter" --slots factory,a,b --out "$out/$version.img" "$@"
}

oem init
oem vehicle add --spec "$out/spec.json" --out "$out/vehicle"
pack 1.0.0 1 --limp-home
for name in front rear; do
    oem grant --image "$out/1.0.0.img" --vin "$vin" --ecu "$name" --out "$out/$name.grant"
    "$BIN/virtual-ecu" provision --config "$out/vehicle/ecus/$name.json" --flash "$out/$name.nor" \
        --factory "$out/1.0.0.img" --grant "$out/$name.grant"
done
for ((release = 2; release < 2 + releases; release++)); do
    pack "$release.0.0" "$release"
    oem release --campaign "release-$release" --vin "$vin" --image "$out/$release.0.0.img"
    cp -r "$out/oem" "$out/repo-$release"
done

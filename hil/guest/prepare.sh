#!/bin/bash
# Runs on the host, before the guest boots: an OEM with one ECU for the independent testers.
# Leaves in the folder given: ecu.json (its keys), ecu.nor (its flash with the factory firmware),
# new.img and new.grant. Needs $BIN (built programs) and $APP (the ECU application).
set -euo pipefail
out=$1
vin=WCANPUS0000000002
rm -rf "$out"
mkdir -p "$out"

cat >"$out/spec.json" <<JSON
{"vin": "$vin",
 "buses": [{"name": "workshop", "link": "can0", "fd": false, "bitrate": 500000}],
 "ecus": [{"name": "gateway", "bus": "workshop", "serial": "SN-gateway-0001",
           "hardware_id": "gw-r1", "request_id": "70A", "response_id": "774",
           "functional_id": "7DF", "heartbeat_id": "510", "floor": 1}]}
JSON

oem() {
    "$BIN/oem" --repo "$out/oem" "$@"
}

# pack VERSION COUNTER NAME [OPTION...]
pack() {
    local version=$1 counter=$2 name=$3
    shift 3
    python3 hil/guest/app_version.py "$APP" "$version" "$out/$name.bin"
    oem pack --format raw --input "$out/$name.bin" --hardware-id gw-r1 --version "$version" \
        --counter "$counter" --slots factory,a,b --out "$out/$name.img" "$@"
    oem grant --image "$out/$name.img" --vin "$vin" --ecu gateway --out "$out/$name.grant"
}

oem init
oem vehicle add --spec "$out/spec.json" --out "$out/vehicle"
cp "$out/vehicle/ecus/gateway.json" "$out/ecu.json"
pack 1.0.0 1 factory --limp-home
pack 2.0.0 2 new
"$BIN/virtual-ecu" provision --config "$out/ecu.json" --flash "$out/ecu.nor" \
    --factory "$out/factory.img" --grant "$out/factory.grant"

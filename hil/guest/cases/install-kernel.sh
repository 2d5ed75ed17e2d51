#!/bin/bash
# The whole job on the kernel's CAN: six ECUs on two interfaces, the TCU over --transport kernel.
set -euo pipefail
./vcan-setup.sh --count 1
exec "$BIN/rig" --links vcan0,vcan1 --transport kernel --bin-dir "$BIN" --app "$APP" \
    --app-size 65536 --patience 10 --keep "/tmp/install-kernel" --json "$SHARE/install-kernel.json"

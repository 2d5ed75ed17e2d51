#!/bin/bash
# udsoncan with can-isotp programs an image and its grant by standard services alone.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh

start_ecu
"$VENV/bin/python3" hil/guest/udsoncan_flash.py \
    can0 "$PREPARED/ecu.json" "$PREPARED/new.img" "$PREPARED/new.grant" 2.0.0

#!/bin/bash
# The example program of uds-rs, its import changed, against an ECU at its identifiers.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh

start_ecu
RUST_LOG=info "$UDS_RS_EXAMPLE" 2>&1 | tee /tmp/example
equal "answers without failure" "$(grep -c INFO /tmp/example)" 4
must_fail 1 "no failure in the log" grep -iE 'error|fail|panic' /tmp/example

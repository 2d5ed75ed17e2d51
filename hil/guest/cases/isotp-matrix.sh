#!/bin/bash
# Our ISO-TP on raw sockets against the kernel's, both directions, classical and FD, 11 and 29 bit.
set -euo pipefail
exec "$EXAMPLES/isotp_matrix" vcan0

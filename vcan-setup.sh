#!/bin/sh
# Makes virtual CAN interfaces vcan0 .. vcanN-1 on the kernel's own SocketCAN; see --help.
set -u

readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_NO_RIGHT=3 EXIT_NO_CAN=4 EXIT_NO_VCAN=5 EXIT_NO_IP=6
readonly MTU_CLASSICAL=16 MTU_FD=72 MAX_COUNT=64

usage() {
    cat <<'TEXT'
Usage: vcan-setup.sh [--count N] [--fd]
       vcan-setup.sh --down [--count N]

Makes the virtual CAN interfaces vcan0 to vcan(N-1) and brings them up. Interfaces that are already
there are kept and set as asked, so it may run any number of times.

  --count N   how many interfaces, 1 to 64 (default 1; with --down: all vcan interfaces)
  --fd        interfaces carry CAN FD frames (MTU 72) as well as classical ones; without it
              they carry classical frames only (MTU 16)
  --down      remove the interfaces; those that are not there are no error
  --help      show this text

Examples:
  sudo ./vcan-setup.sh                 vcan0, classical
  sudo ./vcan-setup.sh --count 2 --fd  vcan0 and vcan1, classical and CAN FD
  sudo ./vcan-setup.sh --down          remove every vcan interface

Exit codes:
  0  the interfaces are as asked
  1  the kernel refused; its words are shown
  2  wrong usage
  3  not permitted: needs root, or CAP_NET_ADMIN in its network namespace
  4  the kernel has no CAN (AF_CAN)
  5  the kernel has CAN but no vcan
  6  the program `ip` is missing
TEXT
}

# fail CODE LINE...: says why on stderr and ends.
fail() {
    code=$1
    shift
    printf 'vcan-setup: %s\n' "$@" >&2
    exit "$code"
}

load() {
    command -v modprobe >/dev/null 2>&1 && modprobe -q "$1" 2>/dev/null
}

exists() {
    [ -e "/sys/class/net/$1" ] || ip link show dev "$1" >/dev/null 2>&1
}

is_vcan() {
    ip -details link show dev "$1" 2>/dev/null | grep -qw vcan
}

# An interface listing filtered by type, without the `@` part of the names.
all_vcan() {
    ip -oneline link show type vcan 2>/dev/null | cut -d: -f2 | cut -d@ -f1 | tr -d ' '
}

require_can() {
    load can
    load can-raw
    if [ ! -d /proc/net/can ] && ! grep -q '^CAN' /proc/net/protocols 2>/dev/null; then
        fail $EXIT_NO_CAN "this kernel ($(uname -r)) has no CAN: the address family AF_CAN is missing." \
            "Boot a kernel with CONFIG_CAN and CONFIG_CAN_RAW (Debian's stock kernel has them)," \
            "or load them: modprobe can can-raw. Without them, use the user-space bus (cargo xtask demo)" \
            "or the Linux guest (cargo xtask hil)."
    fi
}

# refused WHAT MESSAGE: turns the kernel's refusal into words and an exit code.
refused() {
    case $2 in
    *"not permitted"* | *"ermission denied"*)
        fail $EXIT_NO_RIGHT "$1: not permitted." \
            "Run it as root: sudo $0. In a container, add the capability NET_ADMIN."
        ;;
    *"nknown device type"* | *"not supported"*)
        fail $EXIT_NO_VCAN "$1: this kernel ($(uname -r)) has CAN but no vcan driver." \
            "Load it: modprobe vcan (Debian: in linux-image-amd64, not in the cloud kernel)," \
            "or use the Linux guest (cargo xtask hil)."
        ;;
    *) fail $EXIT_FAILED "$1: $2" ;;
    esac
}

# try WHAT COMMAND...: runs the command, explains its failure.
try() {
    what=$1
    shift
    if ! message=$("$@" 2>&1); then
        refused "$what" "$message"
    fi
}

set_up() {
    name=$1
    if ! exists "$name"; then
        try "cannot make $name" ip link add dev "$name" type vcan
    elif ! is_vcan "$name"; then
        fail $EXIT_FAILED "$name is there but is not a vcan interface; rename or remove it first."
    fi
    if [ "$(cat "/sys/class/net/$name/mtu" 2>/dev/null)" != "$mtu" ]; then
        # The driver refuses another MTU while the interface is up.
        try "cannot take $name down" ip link set dev "$name" down
        try "cannot set the MTU of $name to $mtu" ip link set dev "$name" mtu "$mtu"
    fi
    try "cannot bring $name up" ip link set dev "$name" up
    echo "$name: up, $kind"
}

set_down() {
    if exists "$1"; then
        is_vcan "$1" || fail $EXIT_FAILED "$1 is not a vcan interface: left alone."
        try "cannot remove $1" ip link delete dev "$1"
        echo "$1: removed"
    fi
}

names() {
    index=0
    while [ "$index" -lt "$1" ]; do
        echo "vcan$index"
        index=$((index + 1))
    done
}

count='' down=no mtu=$MTU_CLASSICAL kind='classical CAN'
while [ $# -gt 0 ]; do
    case $1 in
    --count)
        [ $# -ge 2 ] || fail $EXIT_USAGE "--count needs a number; see --help."
        count=${2:-empty}
        shift
        ;;
    --count=*) count=${1#--count=} count=${count:-empty} ;;
    --fd) mtu=$MTU_FD kind='classical CAN and CAN FD' ;;
    --down) down=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail $EXIT_USAGE "unknown argument: $1; see --help." ;;
    esac
    shift
done
case ${count:-1} in
*[!0-9]* | ???*) fail $EXIT_USAGE "--count $count: not a number from 1 to $MAX_COUNT." ;;
esac
if [ "${count:-1}" -lt 1 ] || [ "${count:-1}" -gt $MAX_COUNT ]; then
    fail $EXIT_USAGE "--count $count: not a number from 1 to $MAX_COUNT."
fi

command -v ip >/dev/null 2>&1 ||
    fail $EXIT_NO_IP "the program \`ip\` is missing: apt-get install iproute2."
require_can
if [ "$(id -u)" -ne 0 ]; then
    fail $EXIT_NO_RIGHT "needs root to change network interfaces: sudo $0"
fi

if [ $down = yes ]; then
    if [ -n "$count" ]; then list=$(names "$count"); else list=$(all_vcan); fi
    for interface in $list; do set_down "$interface"; done
else
    load vcan
    for interface in $(names "${count:-1}"); do set_up "$interface"; done
fi

#!/bin/bash
# vcan-setup.sh on a real kernel: up, again, CAN FD, down, and its words where vcan is missing.
set -euo pipefail
# shellcheck source=hil/guest/lib.sh
. hil/guest/lib.sh

mtu() {
    cat "/sys/class/net/$1/mtu"
}

./vcan-setup.sh --down
must_fail 1 "no interface is left" ip link show dev vcan0

./vcan-setup.sh --count 3
equal "classical MTU" "$(mtu vcan2)" 16
must_fail 1 "vcan3 was not asked for" ip link show dev vcan3
index=$(cat /sys/class/net/vcan1/ifindex)

./vcan-setup.sh --count 3
equal "a second run keeps the interface" "$(cat /sys/class/net/vcan1/ifindex)" "$index"

./vcan-setup.sh --count 2 --fd
equal "FD MTU" "$(mtu vcan0) $(mtu vcan1) $(mtu vcan2)" "72 72 16"
[[ $(ip link show dev vcan0) == *UP* ]]

candump -n 1 -T 10000 vcan0 >/tmp/seen &
dump=$!
wait_for "candump listens" grep -q vcan0 /proc/net/can/rcvlist_all
cansend vcan0 123##1.00112233445566778899
wait "$dump"
grep -q '123' /tmp/seen

./vcan-setup.sh --down --count 1
must_fail 1 "vcan0 is removed" ip link show dev vcan0
ip link show dev vcan1 >/dev/null
./vcan-setup.sh --down
./vcan-setup.sh --down
must_fail 1 "all are removed" ip link show dev vcan1

must_fail 2 "a count of zero" ./vcan-setup.sh --count 0
must_fail 2 "an unknown argument" ./vcan-setup.sh --nonsense
must_fail 3 "an ordinary user" setpriv --reuid=65534 --clear-groups ./vcan-setup.sh
ip link add dev vcan0 type dummy
must_fail 1 "a foreign interface of that name" ./vcan-setup.sh
ip link delete dev vcan0

rmmod vcan
must_fail 5 "a kernel without vcan" ./vcan-setup.sh
insmod "$MODULES/vcan.ko"
./vcan-setup.sh

#!/bin/busybox sh
# shellcheck shell=dash
# First program of the Linux guest: mounts the host's files and starts run.sh in them.
# The host's root file system is read-only underneath; what is written goes to memory.
set -eu
/bin/busybox --install -s /bin
trap 'echo "GUEST init failed"; poweroff -f' EXIT

mount -t proc proc /proc
# What the kernel said of its boot is on the console; from here on it is for errors and for our lines.
echo 4 >/proc/sys/kernel/printk
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module"
done </modules/order

p9() {
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,$1" "$2" "$3"
}
p9 cache=loose,ro host /host
mount -t tmpfs tmpfs /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /new

mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mkdir -p /new/dev/shm /new/mnt/share
ln -s /proc/self/fd /new/dev/fd
ln -s /proc/self/fd/0 /new/dev/stdin
ln -s /proc/self/fd/1 /new/dev/stdout
ln -s /proc/self/fd/2 /new/dev/stderr
mount -t tmpfs tmpfs /new/dev/shm
# Sockets of the Unix domain work here, but not on 9p.
mount -t tmpfs tmpfs /new/run
mount -t tmpfs tmpfs /new/tmp
p9 cache=none share /new/mnt/share

trap - EXIT
# shellcheck source=/dev/null
. /new/mnt/share/settings.sh
export HOME=/tmp TMPDIR=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
chroot /new /bin/sh "$ROOT/hil/guest/run.sh" || echo "GUEST run.sh failed"
sync
echo "GUEST end"
poweroff -f

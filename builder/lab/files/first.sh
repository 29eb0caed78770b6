#!/bin/sh
# The first program of the lab's host: takes away what Docker laid over a host's own files and
# devices, then becomes systemd. It runs at each start of the container.
set -u

# Docker's masks, the deepest first, with whatever control groups the machine has.
cut -d ' ' -f 2 /proc/self/mounts | grep -E '^/(proc|sys)/' | sort -r |
    while read -r place; do umount "$place"; done
umount /etc/hosts /etc/hostname /etc/resolv.conf
mount -o remount,rw /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The container's own name servers are reached by these rules; a host has none.
nft delete table ip nat 2>/dev/null

# Interfaces come up by /etc/network/interfaces alone.
ip address flush dev eth0
ip link set eth0 down
for key in all default; do echo 0 >/proc/sys/net/ipv6/conf/$key/disable_ipv6; done

mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200
[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229
exec /sbin/init

# Brings a lab up where no Docker runs, kills its engine, and takes the lab away; shows what the
# machine holds before and after. $1 is a folder for all files, $2 is Python, $3 the images' cache.
mount -t tmpfs tmpfs /run
ip link set lo up
unset DOCKER_HOST
export XDG_STATE_HOME="$1/state" XDG_CACHE_HOME="$1/cache"
mkdir -p "$1/cache/phoenix/lab" "$1/state/phoenix/lab" /run/mount
for made in "$3"/????????????????????????????????????????????????????????????????; do
    ln -s "$made" "$1/cache/phoenix/lab/"
done

held() {
    ls "$1/state/phoenix/lab" /run
    ip -o link show | cut -d ' ' -f 2
    cut -d ' ' -f 2 /proc/self/mounts
    cat /proc/[0-9]*/comm | grep -e dockerd -e containerd -e systemd || true
    nft list ruleset
    sysctl net.ipv4.ip_forward
}
echo '== before'
held "$1"
echo '== up'
"$2" -m invoke lab.up
kill -9 "$(cat /run/phoenix-lab/docker.pid)"
"$2" -m invoke lab.down >&2
echo '== after'
held "$1"

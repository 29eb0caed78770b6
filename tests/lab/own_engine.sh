# Starts Docker as the machine's own, brings a lab up in it and down again, and shows before and
# after what the engine and the firewall hold. $1 is a folder for all files, $2 is Python, $3 the
# images' cache.
mount -t tmpfs tmpfs /run
ip link set lo up
unset DOCKER_HOST
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export XDG_STATE_HOME="$1/state" XDG_CACHE_HOME="$1/cache"
mkdir -p "$1/cache/phoenix/lab"
for made in "$3"/????????????????????????????????????????????????????????????????; do
    ln -s "$made" "$1/cache/phoenix/lab/"
done
dockerd --data-root "$1/docker" >"$1/log" 2>&1 &
engine=$!
until docker version >/dev/null 2>&1; do sleep 0.2; done

held() {
    docker ps --all --quiet
    docker network ls --format '{{.Name}}'
    docker images --quiet
    docker volume ls --quiet
    iptables -S | sort
}
echo '== before'
held
echo '== up'
"$2" -m invoke lab.up
"$2" -m invoke lab.down >&2
echo '== after'
held
kill $engine
wait $engine || true

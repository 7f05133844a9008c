#!/bin/bash
# `cluster.sh DIR NODES`: the first process of a Slurm cluster for tests (see cluster.ts, which writes DIR/slurm.conf), in mount, network, host name and
# PID namespaces of its own. It says "up" when the daemons run and ends when its standard input does (also when whoever has it open is killed), with everything
# in the cluster, DIR, and the control groups of the nodes, which Slurm leaves behind.
# `cluster.sh DIR --node NAME`: the same for one node.
set -eu
directory=$1
export SLURM_CONF=$directory/slurm.conf
mount --make-rprivate /
mount --bind "$directory/hosts" /etc/hosts

if [ "$2" = --node ]; then
	name=$3
	hostname "$name"
	read -r address # the network is there
	ip link set lo up
	ip address add "$address/24" dev eth0
	ip link set eth0 up
	mount -t tmpfs -o mode=1777,size=256m tmpfs /dev/shm
	mount -t tmpfs -o mode=1777,size=512m tmpfs /tmp
	slurmd -D -f "$SLURM_CONF" -N "$name" </dev/null & # not the first process itself: it does not reap those whose parent has ended
	wait
fi

end() {
	kill -KILL -1 || true # everything in this PID namespace but its first process
	cd /
	for name in $1; do
		for group in /sys/fs/cgroup/*/slurm_"$name"; do
			until [ ! -e "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do :; done
		done
	done
	until rm -rf "$directory"; do :; done
}
trap 'end "$2"' EXIT

hostname "$(awk '/^10.99.0.254/ {print $2}' "$directory/hosts")"
ip link set lo up
ip link add bridge type bridge
ip address add 10.99.0.254/24 dev bridge
ip link set bridge up

head -c 1024 /dev/urandom > "$directory/munge/key"
chown -R munge: "$directory/munge"
chmod 400 "$directory/munge/key"
runuser -u munge -- munged --foreground -S "$directory/munge/socket" --key-file="$directory/munge/key" --pid-file="$directory/munge/pid" \
	--seed-file="$directory/munge/seed" --log-file="$directory/munge/log" </dev/null >>"$directory/log/munged" 2>&1 &
until [ -S "$directory/munge/socket" ]; do read -rt 0.02 <> <(:) || true; done
slurmctld -D -f "$SLURM_CONF" </dev/null >>"$directory/log/slurmctld" 2>&1 &

number=0
for name in $2; do
	number=$((number + 1))
	mkfifo "$directory/log/$name.go"
	unshare --mount --uts --ipc --pid --net --fork --kill-child --mount-proc bash "$0" "$directory" --node "$name" \
		<>"$directory/log/$name.go" >"$directory/log/$name" 2>&1 &
	node=$!
	# unshare is in the new network namespace as soon as it has a child.
	until child=$(cat "/proc/$node/task/$node/children") && [ -n "$child" ]; do :; done
	ip link add "node$number" type veth peer name eth0 netns "$node"
	ip link set "node$number" master bridge up
	echo "10.99.0.$number" > "$directory/log/$name.go"
done
# A client that finds the port closed waits for a whole second before it tries again.
until (exec 3<>/dev/tcp/10.99.0.254/6817) 2>/dev/null; do :; done
until [ "$(sinfo --noheader --format '%D %T')" = "$number idle" ]; do :; done
echo up
cat

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run a command as a systemd unit says, under a systemd of our own: the machine's may not be there.
#
#   tests/systemd.sh UNIT 'COMMAND ARGUMENT...'
#
# Prints "serving" when the unit is active, stops it when a line comes in, and exits 0 if it ended well
# then; 3 where a systemd cannot be started. It sees the machine through a mount namespace of its own, in
# which it has its own cgroup hierarchy.
set -u

unit=$1 command=$2
manager=/lib/systemd/systemd

cannot()
{
	echo "no systemd here: $*" >&2
	exit 3
}

if [ "${3:-}" != inside ]; then
	[ "$(id -u)" -eq 0 ] || cannot "not root"
	[ -x $manager ] && command -v systemctl >/dev/null || cannot "not installed"
	exec unshare -m --propagation private "$0" "$unit" "$command" inside
fi

mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null ||
	cannot "no cgroup2"
# It asks there whether systemd runs at all.
mount -t tmpfs none /run && mkdir -p /run/systemd/system || cannot "no room in /run"
home=$(mktemp -d) || exit 3
export XDG_RUNTIME_DIR="$home/run" SYSTEMD_UNIT_PATH="$home/units"
mkdir -m 700 "$home/run" "$home/units"
name=$(basename "$unit")
# Whatever becomes of us, nothing stays.
sed "s,^ExecStart=.*,ExecStart=/usr/bin/timeout --foreground 120 $command," "$unit" > "$home/units/$name"
echo '[Unit]' > "$home/units/basic.target"

setpriv --pdeathsig KILL $manager --user --unit=basic.target --log-target=console > "$home/log" 2>&1 < /dev/null &
pid=$!
finish()
{
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	rmdir /sys/fs/cgroup/app.slice /sys/fs/cgroup/init.scope 2>/dev/null
	rm -rf "$home"
}
trap finish EXIT

tries=0
until systemctl --user is-active -q basic.target 2>/dev/null; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] && kill -0 $pid 2>/dev/null || cannot "it does not start: $(tail -n 3 "$home/log")"
	sleep 0.1
done
systemctl --user start "$name" || { cat "$home/log" >&2; exit 1; }
echo serving
read -r line
systemctl --user is-active -q "$name" || { echo "it has ended by itself" >&2; cat "$home/log" >&2; exit 1; }
systemctl --user stop "$name"
result=$(systemctl --user show -p Result --value "$name")
[ "$result" = success ] || { echo "it ended badly: $result" >&2; exit 1; }

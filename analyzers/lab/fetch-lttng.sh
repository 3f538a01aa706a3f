#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpack LTTng's control programs into a folder, without installing them: installed as a package they
# bring a session daemon of root's that runs from then on.
#
#   fetch-lttng.sh DEST        e.g. fetch-lttng.sh build/lttng
#
# What they link to besides, Debian installs with liblttng-ust-dev and the packages of `make check`.
# Exit: 0 there (now or before), 3 cannot be had here (one line says why).
set -eu

[ $# -eq 1 ] || { echo "usage: fetch-lttng.sh DEST" >&2; exit 2; }
# shellcheck source=analyzers/lab/private-apt.sh
. "$(dirname "$0")/private-apt.sh"
mkdir -p "$1"
dest=$(cd "$1" && pwd)
[ -x "$dest/bin/lttng" ] && exit 0

# shellcheck disable=SC1091
. /etc/os-release
private_apt "$dest/.apt" "${VERSION_CODENAME:-bookworm}"
# shellcheck disable=SC2154 # private_apt sets it
cd "$apt"
apt-get -qq download lttng-tools liblttng-ctl0 >>"$apt/log" 2>&1 ||
	cannot "cannot download lttng-tools ($(tail -n 1 "$apt/log"))"
rm -rf "$dest/root"
for deb in ./*.deb; do
	dpkg -x "$deb" "$dest/root"
done
unset APT_CONFIG

[ -x "$dest/root/usr/bin/lttng" ] || cannot "its package holds no lttng"
# Wrappers, as the libraries, the consumer and the schema lie in unusual places. Without the schema,
# the daemon ends at once.
mkdir -p "$dest/.bin"
for program in lttng lttng-sessiond; do
	{
		echo '#!/bin/sh'
		echo "export LD_LIBRARY_PATH='$dest/root/usr/lib/x86_64-linux-gnu'"
		echo "export LTTNG_CONSUMERD64_BIN='$dest/root/usr/lib/x86_64-linux-gnu/lttng/libexec/lttng-consumerd'"
		echo "export LTTNG_SESSION_CONFIG_XSD_PATH='$dest/root/usr/share/xml/lttng'"
		echo "exec '$dest/root/usr/bin/$program' \"\$@\""
	} > "$dest/.bin/$program"
	chmod +x "$dest/.bin/$program"
done
rm -rf "$apt"
mv "$dest/.bin" "$dest/bin"

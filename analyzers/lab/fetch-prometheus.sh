#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpack this Debian release's Prometheus into a folder. Unpack, not install: the package would start
# a service.
#
#   fetch-prometheus.sh DEST        e.g. fetch-prometheus.sh build/prometheus
#
# Leaves DEST/prometheus and DEST/promtool. Exit: 0 there (now or before), 3 cannot be had here.
set -eu

[ $# -eq 1 ] || { echo "usage: fetch-prometheus.sh DEST" >&2; exit 2; }
# shellcheck source=analyzers/lab/private-apt.sh
. "$(dirname "$0")/private-apt.sh"
mkdir -p "$1"
dest=$(cd "$1" && pwd)
[ -x "$dest/promtool" ] && exit 0

# shellcheck disable=SC1091
. /etc/os-release
private_apt "$dest/.apt" "${VERSION_CODENAME:-stable}"
cd "$apt"
apt-get -qq download prometheus >>"$apt/log" 2>&1 ||
	cannot "cannot download ($(tail -n 1 "$apt/log"))"
dpkg -x ./*.deb root
unset APT_CONFIG
mv root/usr/bin/prometheus "$dest/"
# Last: what is looked for.
mv root/usr/bin/promtool "$dest/"
rm -rf "$apt"

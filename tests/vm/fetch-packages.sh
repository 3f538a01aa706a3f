#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpack packages of a Debian suite into a folder, without installing anything: for programs and
# profiles that would do something to the machine they are installed on.
#
#   fetch-packages.sh SUITE DEST PACKAGE...    e.g. fetch-packages.sh bookworm build/selinux checkpolicy
#
# Leaves DEST/root. Dependencies are not followed.
# Exit: 0 there (now or before), 3 cannot be had here (one line says why).
set -eu

[ $# -ge 3 ] || { echo "usage: fetch-packages.sh SUITE DEST PACKAGE..." >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=analyzers/lab/private-apt.sh
. "$here/../../analyzers/lab/private-apt.sh"
mkdir -p "$2"
dest=$(cd "$2" && pwd)
[ -d "$dest/root" ] && exit 0

private_apt "$dest/.apt" "$1"
shift 2
cd "$dest/.apt"
apt-get -qq download "$@" >>log 2>&1 || cannot "cannot download ($(tail -n 1 log))"
mkdir root
for deb in ./*.deb; do
	dpkg -x "$deb" root
done
mv root ..
cd ..
rm -rf .apt

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpack another distribution suite's QEMU into a folder, without installing anything.
#
#   fetch-qemu.sh SUITE DEST        e.g. fetch-qemu.sh bookworm-backports build/qemu/10.0
#
# The mirror is the one this machine's apt already uses. Leaves DEST/qemu-system-x86_64, a wrapper
# that starts the unpacked binary with what it needs: its own C library when the suite is newer than
# this system, its own firmware always. DEST/binary names the ELF file, for tools that read it.
# Exit: 0 there (now or before), 3 cannot be had here (one line says why).
set -eu

[ $# -eq 2 ] || { echo "usage: fetch-qemu.sh SUITE DEST" >&2; exit 2; }
suite=$1
# shellcheck source=analyzers/lab/private-apt.sh
. "$(dirname "$0")/private-apt.sh"
mkdir -p "$2"
dest=$(cd "$2" && pwd)
[ -x "$dest/qemu-system-x86_64" ] && exit 0

rm -rf "$dest/root"
mkdir "$dest/root"
# Backports hold only what they rebuilt: their dependencies are the release's own.
case $suite in
*-backports) private_apt "$dest/.apt" "$suite" "${suite%-backports}"; pin="-t $suite";;
*)	     private_apt "$dest/.apt" "$suite"; pin=;;
esac
cd "$apt"
# Everything the other suite needs, the C library included; of a backport to this very release only
# QEMU itself, because its libraries are here: `make deps` installed them with QEMU 7.2.
# shellcheck disable=SC1091
. /etc/os-release
# shellcheck disable=SC2086 # $pin is empty or two words
case $suite in
"${VERSION_CODENAME:-}-backports") apt-get -qq $pin download qemu-system-x86 qemu-system-common qemu-system-data \
		 seabios ipxe-qemu >>"$apt/log" 2>&1 || cannot "cannot download ($(tail -n 1 "$apt/log"))"
	     mv ./*.deb cache/archives/;;
*)	     apt-get -qq -y $pin --download-only install qemu-system-x86 seabios ipxe-qemu \
		 >>"$apt/log" 2>&1 || cannot "cannot download ($(tail -n 1 "$apt/log"))";;
esac
for deb in "$apt"/cache/archives/*.deb; do
	dpkg -x "$deb" "$dest/root"
done
unset APT_CONFIG

bin=$dest/root/usr/bin/qemu-system-x86_64
[ -x "$bin" ] || cannot "its package holds no qemu-system-x86_64"
echo "$bin" > "$dest/binary"
share=$dest/root/usr/share
fw="-L $share/qemu -L $share/seabios -L $dest/root/usr/lib/ipxe/qemu"
ld=$(find "$dest/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
{
	echo '#!/bin/sh'
	if [ -n "$ld" ]; then
		lib=$dest/root/usr/lib/x86_64-linux-gnu
		echo "export QEMU_MODULE_DIR='$lib/qemu'"
		# Releases before Debian 12 still had libraries in /lib as well.
		echo "exec '$ld' --library-path '$lib:$dest/root/lib/x86_64-linux-gnu' '$bin' $fw \"\$@\""
	else
		echo "exec '$bin' $fw \"\$@\""
	fi
} > "$dest/.wrapper"
chmod +x "$dest/.wrapper"
rm -rf "$apt"
mv "$dest/.wrapper" "$dest/qemu-system-x86_64"

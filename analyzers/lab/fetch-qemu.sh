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
mkdir -p "$2"
dest=$(cd "$2" && pwd)
[ -x "$dest/qemu-system-x86_64" ] && exit 0

cannot() { echo "fetch-qemu: $suite: $*" >&2; exit 3; }
command -v apt-get >/dev/null || cannot "this system has no apt-get"

# The first http(s) archive in the machine's own sources that is not a security or third-party one.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
	     /etc/apt/sources.list.d/*.sources 2>/dev/null |
	 sed -nE 's,^(deb |URIs: ).*(https?://[^ ]+/debian)/?( .*)?$,\2,p' | head -n 1)
[ -n "$mirror" ] || cannot "no Debian mirror in this machine's apt sources"

apt=$dest/.apt
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state" "$dest/root"
# A status file of its own: which packages this system has must not change what is fetched.
: > "$apt/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror $suite main" > "$apt/sources.list"
# Backports hold only what they rebuilt: their dependencies are the release's own.
case $suite in
*-backports) echo "deb [signed-by=$keyring] $mirror ${suite%-backports} main" >> "$apt/sources.list";;
esac
cat > "$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
APT::Architecture "amd64";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
export APT_CONFIG="$apt/apt.conf"
apt-get -qq update >"$apt/log" 2>&1 || cannot "the mirror does not answer for it ($(tail -n 1 "$apt/log"))"

case $suite in *-backports) pin="-t $suite";; *) pin=;; esac
cd "$apt"
# Everything the other suite needs, the C library included; of a backport to this very release only
# QEMU itself, because its libraries are here: `make deps` installed them with QEMU 7.2.
# shellcheck disable=SC1091,SC2086 # $pin is empty or two words
. /etc/os-release
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

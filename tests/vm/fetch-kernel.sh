#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpack a Debian suite's kernel into a folder, without installing anything.
#
#   fetch-kernel.sh SUITE DEST       e.g. fetch-kernel.sh bookworm build/kernel/6.1
#
# Leaves DEST/vmlinuz, DEST/release (what uname -r will say) and below DEST/modules those kinds of
# modules that a virtual machine without hardware may want.
# Exit: 0 there (now or before), 3 cannot be had here (one line says why).
set -eu

[ $# -eq 2 ] || { echo "usage: fetch-kernel.sh SUITE DEST" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=analyzers/lab/private-apt.sh
. "$here/../../analyzers/lab/private-apt.sh"
mkdir -p "$2"
dest=$(cd "$2" && pwd)
[ -f "$dest/release" ] && exit 0

private_apt "$dest/.apt" "$1"
cd "$dest/.apt"
# The newest image and what it is made of; later releases have split it.
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		     --no-replaces --no-enhances linux-image-amd64 2>>log |
	   grep -E '^linux-(image|binary|base|modules)-[0-9]' | sort -u)
[ -n "$packages" ] || cannot "$1 has no kernel for amd64"
# shellcheck disable=SC2086 # several words
apt-get -qq download $packages >>log 2>&1 || cannot "cannot download ($(tail -n 1 log))"
mkdir root
for deb in ./*.deb; do
	dpkg --fsys-tarfile "$deb" | tar -x -C root --wildcards --exclude='*/drivers/net/*/*' \
		'*/vmlinuz*' '*/lib/modules/*/kernel/fs' '*/lib/modules/*/kernel/net' \
		'*/lib/modules/*/kernel/lib' '*/lib/modules/*/kernel/crypto' \
		'*/lib/modules/*/kernel/arch' '*/modules.builtin' '*/lib/modules/*/kernel/drivers/virtio' \
		'*/lib/modules/*/kernel/drivers/char' '*/lib/modules/*/kernel/drivers/net' \
		'*/lib/modules/*/kernel/drivers/infiniband' 2>>log || :
done
kernel=$(find root -name 'vmlinuz*' | head -n 1)
modules=$(find root -path '*/lib/modules/*/kernel' | head -n 1)
[ -n "$kernel" ] && [ -n "$modules" ] || cannot "the packages of $1 hold no kernel and modules"
release=$(basename "$(dirname "$modules")")
rm -rf "$dest/modules"
mv "$(find root -name modules.builtin | head -n 1)" "$modules"
mv "$modules" "$dest/modules"
mv "$kernel" "$dest/vmlinuz"
cd "$dest"
rm -rf .apt
echo "$release" > release

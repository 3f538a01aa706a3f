# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For scripts that unpack packages of another Debian suite, without installing anything: to be
# sourced. The mirror is the one this machine's apt already uses.

cannot() { echo "${0##*/}: $*" >&2; exit 3; }

# private_apt FOLDER SUITE...: fills FOLDER and points APT_CONFIG at it; packages that are
# downloaded by installing lie in FOLDER/cache/archives. What goes wrong is told in FOLDER/log.
private_apt()
{
	command -v apt-get >/dev/null || cannot "this system has no apt-get"
	# The first archive in the machine's own sources that is not a security or third-party one.
	mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		     /etc/apt/sources.list.d/*.sources 2>/dev/null |
		 sed -nE 's,^(deb |URIs: ).*(https?://[^ ]+/debian)/?( .*)?$,\2,p' | head -n 1)
	[ -n "$mirror" ] || cannot "no Debian mirror in this machine's apt sources"

	apt=$1
	shift
	rm -rf "$apt"
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state"
	# A status file of its own: which packages this system has must not change what is fetched.
	: > "$apt/status"
	for each in "$@"; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
			"$mirror $each main"
	done > "$apt/sources.list"
	cat > "$apt/apt.conf" <<-CONF
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
	apt-get -qq update >"$apt/log" 2>&1 ||
		cannot "the mirror does not answer for $1 ($(tail -n 1 "$apt/log"))"
}

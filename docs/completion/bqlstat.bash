# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for bqlstat(1) and loadvm(1).

# Words of $1 that begin with the one being typed.
_bqlstat_words()
{
	COMPREPLY=($(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}"))
}

_bqlstat_files()
{
	compopt -o filenames 2>/dev/null
	COMPREPLY=($(compgen "$1" -- "${COMP_WORDS[COMP_CWORD]}"))
}

# A command and its arguments, from the word at index $1 on: as that command completes.
_bqlstat_command()
{
	if [ "$COMP_CWORD" -eq "$1" ]; then
		_bqlstat_files -c
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	else
		_bqlstat_files -f
	fi
}

# The index of the word after --, when that stands before the one being typed.
_bqlstat_after_dashes()
{
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" = -- ] && echo $((i + 1)) && return
	done
	return 1
}

# A scenario that is shipped, or a file.
_bqlstat_scenarios()
{
	_bqlstat_files -f
	COMPREPLY+=($(compgen -W "$(bqlstat bench --list 2>/dev/null | grep -o '^[^ ]\+')" \
		-- "${COMP_WORDS[COMP_CWORD]}"))
}

_bqlstat_pids()
{
	_bqlstat_words "$(pgrep -f '^[^ ]*(qemu-system-|qemu-kvm)' 2>/dev/null)"
}

_bqlstat()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} options at
	COMPREPLY=()

	if [ "$COMP_CWORD" -eq 1 ]; then
		_bqlstat_words 'record report top timeline lttng doctor probes bench diff export crosscheck help --help --version'
		return
	fi
	case ${COMP_WORDS[1]} in
	record)
		at=$(_bqlstat_after_dashes) && { _bqlstat_command "$at"; return; }
		options='-p --pid -M --match -o --output -d --duration -u --until -l --label -t --threshold -m --max-overhead --no-stacks -q --quiet -h --help --'
		;;
	report) options='-j --json -H --html -l --list -r --run -s --stacks -t --top -v --vcpus -h --help' ;;
	lttng)
		at=$(_bqlstat_after_dashes) && { _bqlstat_command "$at"; return; }
		options='-o --output -p --pid -d --duration -s --snapshot -t --trigger -n --nested -b --buffer -u --user -q --quiet -h --help --'
		;;
	crosscheck) options='-n --rounds -p --policy -Q --qemu -l --limit -L --long --no-log -j --json -h --help' ;;
	timeline) options='-o --output -f --force -r --run -s --shortest -h --help' ;;
	doctor) options='-j --json -m --measure -h --help' ;;
	bench) options='-a --a -b --b -s --scenario -n --runs -o --output -w --warm-ups -t --threshold -l --list -q --quiet -h --help' ;;
	diff) options='-a --a -b --b -f --fail-on -s --strict -H --html -m --markdown -j --json -A --all -M --margin -L --least -P --alpha -S --seed -F --force -h --help' ;;
	probes) options='-p --pid -j --json -h --help' ;;
	top) options='-p --pid -M --match -d --delay -n --count -s --sort -f --filter -t --top -v --vcpus -j --json -m --max-overhead -h --help' ;;
	export) options='-l --listen -m --match -p --pid --qmp --qmp-discover -t --threshold --max-overhead -r --records -q --quiet --uid --datasource -o --output -h --help' ;;
	help)
		_bqlstat_words 'record report top timeline lttng doctor probes bench diff export crosscheck help'
		return
		;;
	*) return ;;
	esac
	case ${COMP_WORDS[1]}:$prev in
	crosscheck:-p | crosscheck:--policy)
		_bqlstat_words "stock $(loadvm --list 2>/dev/null | sed -n 's/^\([a-z-]*\).*/\1/p')"
		return
		;;
	crosscheck:-Q | crosscheck:--qemu) _bqlstat_words '7.2 10.0 11.1'; return ;;
	crosscheck:-[nlL] | crosscheck:--rounds | crosscheck:--limit | crosscheck:--long) return ;;
	*:-p | *:--pid) _bqlstat_pids; return ;;
	export:--uid) _bqlstat_words 'bqlstat-fleet bqlstat-vm bqlstat-incoming bqlstat-regression'; return ;;
	export:-o | export:--output) compopt -o filenames 2>/dev/null; _bqlstat_files -d; return ;;
	export:-[lmtr] | export:--listen | export:--match | export:--threshold | export:--max-overhead | export:--records | export:--qmp | export:--datasource) return ;;
	record:-o | record:--output) _bqlstat_files -f; return ;;
	top:-s | top:--sort) _bqlstat_words 'held longest count wait'; return ;;
	top:-[Mdnftm] | top:--match | top:--delay | top:--count | top:--filter | top:--top | \
		top:--max-overhead) return ;;
	record:-u | record:--until) _bqlstat_words 'migration exit'; return ;;
	record:-M | record:--match) return ;;
	record:-[dltm] | record:--duration | record:--label | record:--threshold | \
		record:--max-overhead) return ;;
	lttng:-o | lttng:--output) _bqlstat_files -d; return ;;
	lttng:-t | lttng:--trigger) _bqlstat_words 'failed hold>10ms'; return ;;
	lttng:-u | lttng:--user) _bqlstat_words "$(compgen -u)"; return ;;
	lttng:-[db] | lttng:--duration | lttng:--buffer) return ;;
	timeline:-o | timeline:--output) _bqlstat_files -f; return ;;
	timeline:-[rs] | timeline:--run | timeline:--shortest) return ;;
	bench:-s | bench:--scenario) _bqlstat_scenarios; return ;;
	bench:-o | bench:--output | diff:-H | diff:--html | report:-H | report:--html) _bqlstat_files -f; return ;;
	bench:-[abnwt] | bench:--[ab] | bench:--runs | bench:--warm-ups | bench:--threshold) return ;;
	diff:-[abfMLPS] | diff:--[ab] | diff:--fail-on | diff:--margin | diff:--least | diff:--alpha | diff:--seed) return ;;
	report:-[rt] | report:--run | report:--top) return ;;
	esac
	case ${COMP_WORDS[1]}:$cur in
	*:-*) _bqlstat_words "$options" ;;
	lttng:*) _bqlstat_words 'capture' ;;
	export:*) _bqlstat_words grafana ;;
	doctor:[0-9]*) _bqlstat_pids ;;
	report:* | diff:* | timeline:* | doctor:* | probes:*) _bqlstat_files -f ;;
	*) _bqlstat_words "$options" ;;
	esac
}

_loadvm()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} at

	COMPREPLY=()
	at=$(_bqlstat_after_dashes) && { _bqlstat_command "$at"; return; }
	case $prev in
	-p | --policy)
		_bqlstat_words "$(loadvm --list 2>/dev/null | sed -n 's/^\([a-z-]*\).*/\1/p')"
		return
		;;
	-C | --control) _bqlstat_files -f; return ;;
	-c | --check)
		case $cur in
		[0-9]*) _bqlstat_pids ;;
		*) _bqlstat_files -f ;;
		esac
		return
		;;
	esac
	case $cur in
	-*) _bqlstat_words '-p --policy -C --control -u --usdt -t --lttng -q --quiet -c --check -j --json -l --list -h --help -V --version --' ;;
	*) _bqlstat_files -c ;;
	esac
}

complete -F _bqlstat bqlstat
complete -F _loadvm loadvm

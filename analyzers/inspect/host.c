/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this machine allows: kernel features (tried, not looked up), rights, settings, the cost of a
 * probe, the runtime's libraries.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "analyzers/inspect/check.h"
#include "analyzers/model/words.h"
#include "probes/features.h"
#include "probes/tracer.h"
#include "runtime/seams/seams.h"

/* CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON. */
#define AS_ROOT                                                                                    \
	"run as root, or once as root: setcap cap_sys_admin,cap_sys_ptrace+ep on the bqlstat "     \
	"program"

/* linux/capability.h of older build hosts lacks the newer two. */
enum { SYS_PTRACE = 19, SYS_ADMIN = 21, PERFMON = 38, BPF = 39 };

/* A small file's first line; NULL when it cannot be read. */
static char *read_line(const char *path)
{
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return NULL;
	text[strcspn(text, "\n")] = 0;
	return g_steal_pointer(&text);
}

/* ---- the kernel ---- */

static void check_kernel(GPtrArray *checks)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	if (sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	    (major < 5 || (major == 5 && minor < 15)))
		checks_add(checks, CHECK_NOTE, "kernel", NULL,
			   "Linux %s: older than 5.15, where bqlstat is at home; what it lacks is "
			   "told below",
			   name.release);
	else
		checks_add(checks, CHECK_OK, "kernel", NULL, "Linux %s %s", name.release,
			   name.machine);
}

static void check_features(GPtrArray *checks, const struct features *f)
{
	static const struct {
		const char *what, *mend;
	} known[FEATURES] = {
		[FEATURE_BTF] = {"the kernel describes its types in /sys/kernel/btf/vmlinux",
				 "use a kernel built with CONFIG_DEBUG_INFO_BTF (every current "
				 "distribution's), with /sys mounted"},
		[FEATURE_UPROBE] = {"one was put on bqlstat itself and counted right",
				    "use a kernel built with CONFIG_UPROBE_EVENTS and "
				    "CONFIG_PERF_EVENTS, with /sys mounted"},
		[FEATURE_PROGRAM] = {"BPF programs at uprobes load",
				     "use a kernel built with CONFIG_BPF_SYSCALL and "
				     "CONFIG_BPF_EVENTS"},
		[FEATURE_COOKIE] = {"a program learns which probe it runs for",
				    "use Linux 5.15 or newer"},
		[FEATURE_SWITCH] = {"programs at the scheduler's tracepoint load",
				    "use Linux 5.15 or newer with BTF"},
		[FEATURE_REGISTERS] = {"the system call of a sleeper can be told",
				       "use Linux 5.15 or newer with BTF"},
		[FEATURE_RING_BUFFER] = {"events reach user space in order",
					 "use Linux 5.15 or newer"},
		[FEATURE_TASK_STORAGE] = {"each thread carries its own state",
					  "use Linux 5.15 or newer with BTF"},
	};

	for (int i = 0; i < FEATURES; i++) {
		switch (f->has[i]) {
		case FEATURE_YES:
			checks_add(checks, CHECK_OK, feature_name(i), NULL, "%s", known[i].what);
			break;
		case FEATURE_NO:
			checks_add(checks, CHECK_MISSING, feature_name(i), known[i].mend,
				   "this kernel refuses it");
			break;
		case FEATURE_UNSEEN:
			checks_add(checks, CHECK_UNSEEN, feature_name(i), NULL,
				   "this user may not try it");
			break;
		}
	}
}

static void check_memlock(GPtrArray *checks)
{
	struct rlimit limit;

	/* Charged to the memory cgroup since 5.11, and nothing else here works before that. */
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		checks_add(checks, CHECK_OK, "memlock", NULL, "no limit");
	else
		checks_add(checks, CHECK_OK, "memlock", NULL,
			   "limit %llu KB; does not matter since Linux 5.11",
			   (unsigned long long)limit.rlim_cur / 1024);
}

/* ---- rights ---- */

static uint64_t effective_capabilities(void)
{
	g_autofree char *status = NULL;
	const char *line;

	if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL))
		return 0;
	line = strstr(status, "\nCapEff:");
	return line ? strtoull(line + strlen("\nCapEff:"), NULL, 16) : 0;
}

static bool has(uint64_t capabilities, int which)
{
	return capabilities >> which & 1;
}

static void check_capabilities(GPtrArray *checks, uint64_t mine, enum feature_state uprobes)
{
	static const struct {
		int number;
		const char *name, *what;
	} needed[] = {
		{BPF, "CAP_BPF", "to load BPF programs"},
		{PERFMON, "CAP_PERFMON", "to attach them"},
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
		if (has(mine, needed[i].number))
			checks_add(checks, CHECK_OK, needed[i].name, NULL, "%s", needed[i].what);
		else if (has(mine, SYS_ADMIN))
			checks_add(checks, CHECK_OK, needed[i].name, NULL,
				   "%s: not there, but CAP_SYS_ADMIN includes it", needed[i].what);
		else
			checks_add(checks, CHECK_MISSING, needed[i].name,
				   i && !has(mine, BPF) ? "as above" : AS_ROOT, "%s",
				   needed[i].what);
	}
	/* Measured on 6.18: EACCES with CAP_BPF and CAP_PERFMON alone. */
	if (has(mine, PERFMON) && !has(mine, SYS_ADMIN) && uprobes == FEATURE_UNSEEN)
		checks_add(checks, CHECK_MISSING, "CAP_SYS_ADMIN", AS_ROOT,
			   "this kernel wants it for uprobes; older ones are content with "
			   "CAP_PERFMON");
	if (has(mine, SYS_PTRACE))
		checks_add(checks, CHECK_OK, "CAP_SYS_PTRACE", NULL,
			   "to look into other users' processes");
	else
		checks_add(checks, CHECK_NOTE, "CAP_SYS_PTRACE", NULL,
			   "not there: other users' QEMUs cannot be looked into");
}

/* Root of a user namespace has capabilities that the kernel does not count here. */
static void check_namespace(GPtrArray *checks)
{
	g_autofree char *map = read_line("/proc/self/uid_map");
	unsigned long inside, outside, count;

	if (!map || sscanf(map, "%lu %lu %lu", &inside, &outside, &count) != 3 ||
	    (!inside && !outside && count == 4294967295UL))
		return;
	checks_add(checks, CHECK_NOTE, "user namespace",
		   "run on the host, or in a container that has the host's user namespace",
		   "this is not the first one: capabilities held here do not count for BPF");
}

static void check_settings(GPtrArray *checks, uint64_t mine)
{
	g_autofree char *bpf = read_line("/proc/sys/kernel/unprivileged_bpf_disabled");
	g_autofree char *perf = read_line("/proc/sys/kernel/perf_event_paranoid");
	g_autofree char *yama = read_line("/proc/sys/kernel/yama/ptrace_scope");
	g_autofree char *lockdown = read_line("/sys/kernel/security/lockdown");

	checks_add(checks, CHECK_OK, "settings", NULL,
		   "kernel.unprivileged_bpf_disabled=%s and kernel.perf_event_paranoid=%s do not "
		   "stop who has the capabilities above",
		   bpf ? bpf : "?", perf ? perf : "?");
	if (yama && atoi(yama) >= 3)
		checks_add(checks, CHECK_MISSING, "ptrace scope",
			   "boot with kernel.yama.ptrace_scope below 3: it cannot be lowered again",
			   "kernel.yama.ptrace_scope=%s: nobody may look into a process", yama);
	else if (yama && atoi(yama) >= 1 && !has(mine, SYS_PTRACE))
		checks_add(checks, CHECK_NOTE, "ptrace scope",
			   "grant CAP_SYS_PTRACE, or start the QEMU with `bqlstat record -- ...`",
			   "kernel.yama.ptrace_scope=%s: a running QEMU cannot be looked into even "
			   "by its own user",
			   yama);
	if (!lockdown)
		checks_add(checks, CHECK_OK, "lockdown", NULL, "not in this kernel");
	else if (strstr(lockdown, "[confidentiality]"))
		checks_add(checks, CHECK_MISSING, "lockdown",
			   "boot with lockdown=integrity, or without Secure Boot's confidentiality",
			   "%s: BPF programs may not read memory", lockdown);
	else
		checks_add(checks, CHECK_OK, "lockdown", NULL, "%s", lockdown);
}

/* ---- all of it together ---- */

static void check_cost(GPtrArray *checks, const struct features *f, const struct tracer_cost *cost)
{
	char emulated[WORDS_DURATION], stepped[WORDS_DURATION], pair[WORDS_DURATION];
	char hold[WORDS_DURATION];

	if (f->emulated_ns && f->stepped_ns)
		checks_add(checks, f->stepped_ns > 2 * f->emulated_ns ? CHECK_OK : CHECK_NOTE,
			   "probe cost", NULL,
			   "%s a hit where the kernel emulates the instruction, %s where it "
			   "single-steps it (measured without a program)",
			   words_duration(emulated, f->emulated_ns),
			   words_duration(stepped, f->stepped_ns));
	if (cost && cost->measured)
		checks_add(checks, CHECK_OK, "lock cost", NULL,
			   "each lock and unlock costs %s while recorded; %s of it is inside the "
			   "hold, and taken off in reports",
			   words_duration(pair, cost->pair_ns),
			   words_duration(hold, cost->hold_bias_ns));
	else if (cost)
		checks_add(checks, CHECK_UNSEEN, "lock cost", NULL, "the measurement failed");
}

/*
 * Whether this kernel does with each instruction what the seam map takes for granted when it
 * chooses places.
 */
static void check_instructions(GPtrArray *checks)
{
	static const char *const ways[] = {
		[WAY_EMULATED] = "emulated",
		[WAY_STEPPED] = "single-stepped",
		[WAY_CALLED] = "turned into a call",
	};
	g_autoptr(GString) text = g_string_new(NULL), wrong = g_string_new(NULL);
	const struct features_insn *list;
	size_t count;

	list = features_instructions(&count);
	for (unsigned way = WAY_EMULATED; way < G_N_ELEMENTS(ways); way++) {
		bool first = true;

		for (size_t i = 0; i < count; i++) {
			if (list[i].way != way)
				continue;
			if (first)
				g_string_append_printf(text, "%s%s ", text->len ? "; " : "",
						       ways[way]);
			g_string_append_printf(text, "%s%s", first ? "" : ", ", list[i].name);
			first = false;
		}
	}
	for (size_t i = 0; i < count; i++)
		if (seam_emulated(list[i].code, 16) && list[i].way != WAY_EMULATED)
			g_string_append_printf(wrong, "%s%s", wrong->len ? ", " : "", list[i].name);
	if (!text->len)
		checks_add(checks, CHECK_UNSEEN, "instructions", NULL, "this user may not try it");
	else if (wrong->len)
		checks_add(checks, CHECK_NOTE, "instructions",
			   "nothing: recording works, but costs more than `bqlstat probes` says",
			   "this kernel does not emulate %s, unlike others; %s", wrong->str,
			   text->str);
	else
		checks_add(checks, CHECK_OK, "instructions", NULL, "%s", text->str);
}

static void check_programs(GPtrArray *checks, const struct features *f, bool measure)
{
	const struct tracer_opts opts = {.threshold_ns = 1000000, .calibrate = measure};
	struct tracer_error err;
	struct tracer *tracer;
	int ret;

	ret = tracer_new(&opts, &tracer, &err);
	if (ret)
		checks_add(checks, ret == -EPERM ? CHECK_UNSEEN : CHECK_MISSING, "bqlstat's own",
			   NULL, "%s", err.text);
	else
		checks_add(checks, CHECK_OK, "bqlstat's own", NULL,
			   "all programs load and the scheduler's are attached");
	check_cost(checks, f, !ret && measure ? tracer_cost(tracer) : NULL);
	if (!ret)
		tracer_free(tracer);
}

/* Beside bqlstat as built or as installed; the same places as in runtime/loadvm.c. */
static void check_loadvm(GPtrArray *checks)
{
	static const char *const places[] = {"", "../lib/bqlstat/"};
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;

	for (unsigned i = 0; folder && i < G_N_ELEMENTS(places); i++) {
		g_autofree char *gate = g_strdup_printf("%s/%slibloadvm.so", folder, places[i]);
		g_autofree char *core =
			g_strdup_printf("%s/%slibloadvm-core.so", folder, places[i]);
		void *handle;

		if (access(gate, R_OK))
			continue;
		/* What a missing library of its own would stop inside QEMU, it stops here. */
		handle = dlopen(core, RTLD_NOW | RTLD_LOCAL);
		if (handle)
			checks_add(checks, CHECK_OK, "loadvm", NULL,
				   "its libraries are there and load");
		else
			checks_add(
				checks, CHECK_NOTE, "loadvm",
				"install the library that is named; bqlstat works without loadvm",
				"%s", dlerror());
		if (handle)
			dlclose(handle);
		return;
	}
	checks_add(checks, CHECK_NOTE, "loadvm", "make install puts them where they are found",
		   "its libraries are neither beside bqlstat nor in ../lib/bqlstat; bqlstat works "
		   "without");
}

void host_checks(GPtrArray *checks, bool measure)
{
	uint64_t mine = effective_capabilities();
	struct features features;

	features_probe(&features);
	check_kernel(checks);
	check_capabilities(checks, mine, features.has[FEATURE_UPROBE]);
	check_namespace(checks);
	check_settings(checks, mine);
	check_features(checks, &features);
	check_memlock(checks);
	check_programs(checks, &features, measure);
	if (measure)
		check_instructions(checks);
	check_loadvm(checks);
}

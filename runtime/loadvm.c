/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm: start a QEMU with its incoming migration in a thread. Sets the preload and the policy,
 * and becomes the command: same process, same pid, same exit code. All else happens in gate.c.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/thread/core.h"
#include "runtime/thread/policy.h"

enum {
	EXIT_USAGE = 2,
	EXIT_CANNOT = 3,
};

static void usage(FILE *out)
{
	fputs("usage: loadvm [--policy P] [--control FILE] [--usdt|--lttng] [--quiet] -- QEMU "
	      "[ARGUMENT...]\n"
	      "       loadvm --check BINARY|PID [--json]\n"
	      "       loadvm --list | --help | --version\n"
	      "\n"
	      "Start QEMU with its incoming migration in a thread, mig/dst/main, that holds the\n"
	      "Big QEMU Lock only where the policy says. QEMU may stand behind a wrapper script.\n"
	      "\n"
	      "  -p, --policy P   one of those that --list shows; default " POLICY_DEFAULT "\n"
	      "  -C, --control FILE\n"
	      "                   read at the beginning of each load: the name of the policy it\n"
	      "                   runs under. `echo stock > FILE` switches the thread off for the\n"
	      "                   loads to come; without a readable FILE, P stands\n"
	      "  -u, --usdt       every tracepoint, all takers of the lock included, as USDT\n"
	      "                   probes; without, those that the policy passes anyway\n"
	      "  -t, --lttng      the same, and for LTTng: `bqlstat lttng capture` records them\n"
	      "  -q, --quiet      say nothing when all went well\n"
	      "  -c, --check      would this QEMU get its thread, and if not, why not? Exits 0 if\n"
	      "                   it would, 3 if not\n"
	      "  -j, --json       the answer as JSON\n"
	      "  -l, --list       the policies\n"
	      "  -h, --help\n"
	      "  -V, --version\n"
	      "\n"
	      "LOADVM_DISABLE=1 in the environment leaves QEMU as it is. LOADVM_CONTROL is "
	      "another\n"
	      "way to say --control, LOADVM_TRACE=usdt or lttng to say those, LOADVM_LIB names "
	      "the\n"
	      "library to preload instead of the one installed with this program.\n"
	      "Exits 2 on wrong usage, 3 when QEMU cannot be started; else it becomes QEMU.\n",
	      out);
}

static void list(void)
{
	for (const struct policy *p = policies; p->name; p++)
		printf("%s%s%s\n  held     %s\n  dropped  %s\n  choose   it %s\n",
		       p == policies ? "" : "\n", p->name,
		       strcmp(p->name, POLICY_DEFAULT) ? "" : " (default)", p->held, p->dropped,
		       p->choose);
}

/* Beside this program (build tree), or where `make install` puts it. */
static int find_library(char path[PATH_MAX])
{
	static const char *const places[] = {"libloadvm.so", "../lib/bqlstat/libloadvm.so"};
	const char *given = getenv("LOADVM_LIB");
	char self[PATH_MAX], try[PATH_MAX + 64];
	ssize_t n;

	if (given && *given) {
		if (realpath(given, path))
			return 0;
		fprintf(stderr, "loadvm: LOADVM_LIB=%s: %s\n", given, strerror(errno));
		return -errno;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0) {
		fprintf(stderr, "loadvm: cannot find out where I am: %s; set LOADVM_LIB\n",
			strerror(errno));
		return -errno;
	}
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(try, sizeof(try), "%s/%s", self, places[i]);
		if (realpath(try, path))
			return 0;
	}
	fprintf(stderr,
		"loadvm: libloadvm.so is neither in %s nor in ../lib/bqlstat from there; set "
		"LOADVM_LIB\n",
		self);
	return -ENOENT;
}

/* Ahead of the user's own. ld.so takes blanks and colons for separators and has no way to quote. */
static int preload(const char *library)
{
	const char *own = getenv("LD_PRELOAD");
	char *value = NULL;
	int r;

	if (strpbrk(library, ": ")) {
		fprintf(stderr, "loadvm: %s: a path with a blank or a colon cannot be preloaded\n",
			library);
		return -EINVAL;
	}
	if (asprintf(&value, "%s%s%s", library, own && *own ? ":" : "", own ? own : "") < 0)
		return -ENOMEM;
	r = setenv("LD_PRELOAD", value, 1);
	free(value);
	return r ? -errno : 0;
}

/* A QEMU may change its working directory (-daemonize) before the file is read. */
static int set_control(const char *path)
{
	char folder[PATH_MAX], absolute[2 * PATH_MAX];

	if (path[0] != '/') {
		if (!getcwd(folder, sizeof(folder)))
			return -errno;
		snprintf(absolute, sizeof(absolute), "%s/%s", folder, path);
		path = absolute;
	}
	return setenv("LOADVM_CONTROL", path, 1) ? -errno : 0;
}

/* What a command's name stands for, as execvp() would find it; else the name itself. */
static const char *find_command(const char *name, char path[PATH_MAX])
{
	const char *folder = getenv("PATH");

	if (strchr(name, '/') || !name[strspn(name, "0123456789")])
		return name;
	while (folder && *folder) {
		size_t n = strcspn(folder, ":");

		snprintf(path, PATH_MAX, "%.*s/%s", (int)n, folder, name);
		if (n && !access(path, X_OK))
			return path;
		folder += n;
		folder += *folder == ':';
	}
	return name;
}

/* In the core, which needs more libraries than this program may. */
static int check(const char *library, const char *target, bool json)
{
	const char *slash = strrchr(library, '/');
	loadvm_core_check_fn *core_check;
	char path[PATH_MAX + 32], command[PATH_MAX];
	void *core;
	int r;

	snprintf(path, sizeof(path), "%.*s/libloadvm-core.so", (int)(slash - library), library);
	core = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!core) {
		fprintf(stderr, "loadvm: %s\n", dlerror());
		return EXIT_CANNOT;
	}
	*(void **)&core_check = dlsym(core, "loadvm_core_check");
	if (!core_check) {
		fprintf(stderr, "loadvm: %s is not of this release\n", path);
		return EXIT_CANNOT;
	}
	r = core_check(find_command(target, command), json, stdout);
	if (fflush(stdout)) {
		fprintf(stderr, "loadvm: cannot write: %s\n", strerror(errno));
		return EXIT_CANNOT;
	}
	return r ? EXIT_CANNOT : 0;
}

static int wrong_usage(const char *sentence)
{
	fprintf(stderr, "loadvm: %s (`loadvm --help` tells how)\n", sentence);
	return EXIT_USAGE;
}

static int wrong_option(int opt, char **argv)
{
	char name[] = {'-', (char)optopt, 0}, sentence[128];

	snprintf(sentence, sizeof(sentence),
		 opt == ':' ? "%.80s wants a value" : "there is no option %.80s",
		 strncmp(argv[optind - 1], "--", 2) && optopt ? name : argv[optind - 1]);
	return wrong_usage(sentence);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"policy", required_argument, NULL, 'p'},
		{"control", required_argument, NULL, 'C'},
		{"usdt", no_argument, NULL, 'u'},
		{"lttng", no_argument, NULL, 't'},
		{"quiet", no_argument, NULL, 'q'},
		{"check", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"list", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	const char *policy = POLICY_DEFAULT, *control = getenv("LOADVM_CONTROL"), *target = NULL;
	char library[PATH_MAX];
	bool json = false;
	int opt;

	/* "+": what follows the command's name is the command's. ":": a missing value is told. */
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+:p:C:utqc:jlhV", options, NULL)) != -1) {
		switch (opt) {
		case 'p':
			policy = optarg;
			break;
		case 'C':
			control = optarg;
			break;
		case 'c':
			target = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'u':
			setenv("LOADVM_TRACE", "usdt", 1);
			break;
		case 't':
			setenv("LOADVM_TRACE", "lttng", 1);
			break;
		case 'q':
			setenv("LOADVM_QUIET", "1", 1);
			break;
		case 'l':
			list();
			return 0;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("loadvm " BQLSTAT_VERSION);
			return 0;
		default:
			return wrong_option(opt, argv);
		}
	}
	if (!policy_find(policy)) {
		fprintf(stderr, "loadvm: there is no policy '%s'; `loadvm --list` shows them\n",
			policy);
		return EXIT_USAGE;
	}
	if (argc == 1) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (target && optind < argc)
		return wrong_usage("--check starts nothing: what is it to look at, or to start?");
	if (json && !target)
		return wrong_usage("--json goes with --check");
	if (!target && optind == argc)
		return wrong_usage("say what to start: -- QEMU [ARGUMENT...]");

	if (find_library(library))
		return EXIT_CANNOT;
	if (target)
		return check(library, target, json);
	if (preload(library))
		return EXIT_CANNOT;
	if (setenv("LOADVM_POLICY", policy, 1) || (control && *control && set_control(control))) {
		fprintf(stderr, "loadvm: %s\n", strerror(errno));
		return EXIT_CANNOT;
	}
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "loadvm: cannot run %s: %s\n", argv[optind], strerror(errno));
	return EXIT_CANNOT;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm: start a QEMU with its incoming migration in a thread. Sets the preload and the policy,
 * and becomes the command: same process, same pid, same exit code. All else happens in gate.c.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/thread/policy.h"

enum {
	EXIT_USAGE = 2,
	EXIT_CANNOT = 3,
};

static void usage(FILE *out)
{
	fputs("usage: loadvm [--policy P] [--quiet] -- QEMU [ARGUMENT...]\n"
	      "       loadvm --list | --help | --version\n"
	      "\n"
	      "Start QEMU with its incoming migration in a thread, mig/dst/main, that holds the\n"
	      "Big QEMU Lock only where the policy says. QEMU may stand behind a wrapper script.\n"
	      "\n"
	      "  -p, --policy P   one of those that --list shows; default " POLICY_DEFAULT "\n"
	      "  -q, --quiet      say nothing when all went well\n"
	      "  -l, --list       the policies\n"
	      "  -h, --help\n"
	      "  -V, --version\n"
	      "\n"
	      "LOADVM_DISABLE=1 in the environment leaves QEMU as it is. LOADVM_LIB names the\n"
	      "library to preload instead of the one installed with this program.\n"
	      "Exits 2 on wrong usage, 3 when QEMU cannot be started; else it becomes QEMU.\n",
	      out);
}

static void list(void)
{
	for (const struct policy *p = policies; p->name; p++)
		printf("%-8s %s\n", p->name, p->summary);
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

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"policy", required_argument, NULL, 'p'}, {"quiet", no_argument, NULL, 'q'},
		{"list", no_argument, NULL, 'l'},	  {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	  {NULL, 0, NULL, 0},
	};
	const char *policy = POLICY_DEFAULT;
	char library[PATH_MAX];
	int opt;

	/* "+": what follows the command's name is the command's. */
	while ((opt = getopt_long(argc, argv, "+p:qlhV", options, NULL)) != -1) {
		switch (opt) {
		case 'p':
			policy = optarg;
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
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (!policy_find(policy)) {
		fprintf(stderr, "loadvm: there is no policy '%s'; `loadvm --list` shows them\n",
			policy);
		return EXIT_USAGE;
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE;
	}

	if (find_library(library) || preload(library))
		return EXIT_CANNOT;
	if (setenv("LOADVM_POLICY", policy, 1)) {
		fprintf(stderr, "loadvm: %s\n", strerror(errno));
		return EXIT_CANNOT;
	}
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "loadvm: cannot run %s: %s\n", argv[optind], strerror(errno));
	return EXIT_CANNOT;
}

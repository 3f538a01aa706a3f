/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the control file, at the beginning of each load. It is opened by name each time, so that
 * it may be replaced; in a chroot or under another user it may be out of reach, and then the start
 * policy stands.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/thread/control.h"
#include "runtime/thread/policy.h"

static char control_path[PATH_MAX];
static bool control_quiet;

void control_prepare(const char *path, bool quiet)
{
	snprintf(control_path, sizeof(control_path), "%s", path ? path : "");
	control_quiet = quiet;
}

/* Its first word, or a negative errno. */
static int read_word(char *word, size_t size)
{
	/* Anybody's FIFO must not stop the main loop. */
	int fd = open(control_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char text[64];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	n = fstat(fd, &st) ? -1 : 0;
	if (n < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if ((n = read(fd, text, sizeof(text) - 1)) < 0)
		r = -errno;
	close(fd);
	if (r)
		return r;
	text[n] = '\0';
	snprintf(word, size, "%.*s", (int)strcspn(text + strspn(text, " \t\n"), " \t\n"),
		 text + strspn(text, " \t\n"));
	return 0;
}

const struct policy *control_policy(const struct policy *start)
{
	const struct policy *policy;
	char word[64];
	int r;

	if (!control_path[0])
		return start;
	r = read_word(word, sizeof(word));
	if (r) {
		fprintf(stderr, "loadvm: %s: %s; this load: %s\n", control_path, strerror(-r),
			start->name);
		return start;
	}
	policy = policy_find(word);
	if (!policy) {
		fprintf(stderr, "loadvm: %s: there is no policy '%.16s'; this load: %s\n",
			control_path, word, start->name);
		return start;
	}
	if (!control_quiet)
		fprintf(stderr, "loadvm: %s: this load: %s\n", control_path, policy->name);
	return policy;
}

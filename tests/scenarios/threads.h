/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process's threads by name. A thread that is sure to begin, or to end, does so when the machine
 * lets it: it is waited for.
 */
#ifndef TESTS_THREADS_H
#define TESTS_THREADS_H

#include <string.h>
#include <sys/types.h>

#include <glib.h>

static inline bool has_thread(pid_t pid, const char *name)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/task", pid);
	GDir *dir = g_dir_open(folder, 0, NULL);
	const char *tid;
	bool found = false;

	while (dir && !found && (tid = g_dir_read_name(dir))) {
		g_autofree char *path = g_strdup_printf("%s/%s/comm", folder, tid);
		g_autofree char *comm = NULL;

		found = g_file_get_contents(path, &comm, NULL, NULL) &&
			!strcmp(g_strchomp(comm), name);
	}
	if (dir)
		g_dir_close(dir);
	return found;
}

/* Whether it comes to that within a time that only a defect exceeds. */
static inline bool await_thread(pid_t pid, const char *name, bool there)
{
	for (int i = 0; i < 1000 && has_thread(pid, name) != there; i++)
		g_usleep(20000);
	return has_thread(pid, name) == there;
}

#endif

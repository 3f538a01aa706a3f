/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LTTng's control programs: the system's, or unpacked into build/lttng.
 */
#include <string.h>

#include "analyzers/lab/internal.h"

#define FETCH "analyzers/lab/fetch-lttng.sh"

/* Beside the unpacked QEMUs. */
static char *fetch(void)
{
	const char *root = lab_source_root();
	g_autofree char *script = root ? g_build_filename(root, FETCH, NULL) : NULL;
	g_autofree char *dest = root ? g_build_filename(root, "build", "lttng", NULL) : NULL;
	g_autofree char *says = NULL;
	g_autoptr(lab_process) run = NULL;
	int status;

	if (!root)
		return g_strdup("no source tree here to fetch it with");
	run = lab_process_new((const char *[]){script, dest, NULL}, NULL, NULL);
	if (run && lab_process_wait(run, 120000, &status, NULL) && !status) {
		g_autofree char *bin = g_build_filename(dest, "bin", NULL);
		g_autofree char *path = g_strdup_printf("%s:%s", bin, g_getenv("PATH"));

		g_setenv("PATH", path, TRUE);
		return NULL;
	}
	says = run ? lab_process_stderr(run) : NULL;
	return g_strdup(says && *g_strchomp(says) ? says : "could not be fetched");
}

bool lab_lttng(GError **error)
{
	static char *why;
	static bool looked;

	if (!looked) {
		g_autofree char *lttng = g_find_program_in_path("lttng");
		g_autofree char *daemon = g_find_program_in_path("lttng-sessiond");

		if (!lttng || !daemon)
			why = fetch();
		looked = true;
	}
	if (why)
		g_set_error(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE, "lttng-tools: %s", why);
	return !why;
}

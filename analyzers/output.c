/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handing a folder to another user, and what is in it back.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib/gstdio.h>

#include "analyzers/output.h"

/* nftw() has no room for an argument. */
static uint64_t tree_bytes;
static uid_t tree_uid;
static gid_t tree_gid;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type == FTW_F)
		tree_bytes += st->st_size;
	return 0;
}

uint64_t output_bytes(const struct output *output)
{
	tree_bytes = 0;
	nftw(output->written, add_size, 16, FTW_PHYS);
	return tree_bytes;
}

static int change_owner(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return lchown(path, tree_uid, tree_gid);
}

static void give_to(const char *folder, uid_t uid, gid_t gid)
{
	tree_uid = uid;
	tree_gid = gid;
	nftw(folder, change_owner, 16, FTW_PHYS);
}

static bool is_empty(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

	return dir && !g_dir_read_name(dir);
}

static bool can_write(const char *folder, uid_t uid, gid_t gid)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(setgid(gid) || setuid(uid) || access(folder, W_OK | X_OK));
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

__attribute__((format(printf, 3, 4))) static int fail(struct session_error *err, int code,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

int output_prepare(struct output *o, const char *path, uid_t uid, gid_t gid,
		   struct session_error *err)
{
	bool made = !g_file_test(path, G_FILE_TEST_EXISTS);
	struct stat st;

	if (g_mkdir_with_parents(path, 0777))
		return fail(err, -errno, "cannot make %s: %s", path, strerror(errno));
	if (!is_empty(path))
		return fail(err, -ENOTEMPTY,
			    "%s is not an empty folder: name a new one, so that no traces mix",
			    path);
	if (stat(path, &st))
		return fail(err, -errno, "cannot look at %s: %s", path, strerror(errno));
	o->asked = g_canonicalize_filename(path, NULL);
	o->written = g_strdup(o->asked);
	o->made = made;
	o->uid = st.st_uid;
	o->gid = st.st_gid;
	if (geteuid() || !uid)
		return 0;
	give_to(o->asked, uid, gid);
	if (can_write(o->asked, uid, gid))
		return 0;
	/* Root's own folders are closed to everybody else. */
	give_to(o->asked, o->uid, o->gid);
	g_free(o->written);
	o->written = g_strdup("/tmp/bqlstat-trace-XXXXXX");
	if (!g_mkdtemp(o->written) || chmod(o->written, 0755) || chown(o->written, uid, gid))
		return fail(err, -errno, "cannot make a folder in /tmp: %s", strerror(errno));
	return 0;
}

unsigned output_snapshots(const struct output *o)
{
	g_autoptr(GDir) dir = g_dir_open(o->written, 0, NULL);
	const char *name;
	unsigned n = 0;

	while (dir && (name = g_dir_read_name(dir)))
		n += g_str_has_prefix(name, "snapshot-");
	return n;
}

static int copy(const struct output *o, struct session_error *err)
{
	g_autofree char *from = g_strdup_printf("%s/.", o->written);
	char *argv[] = {(char *)"cp", (char *)"-a", from, o->asked, NULL};
	int status;

	if (g_spawn_sync("/", argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status,
			 NULL) &&
	    !status)
		return 0;
	return fail(err, -EIO, "cannot copy the trace from %s to %s", o->written, o->asked);
}

int output_deliver(struct output *o, struct session_error *err)
{
	bool elsewhere = o->written && strcmp(o->written, o->asked) != 0;
	int r = 0;

	if (!o->written)
		return 0;
	if (!geteuid())
		give_to(o->written, o->uid, o->gid);
	/* LTTng makes folders before it has anything to put there. */
	if (!output_bytes(o)) {
		session_clear(o->written);
		if (o->made)
			rmdir(o->asked);
	} else if (elsewhere) {
		r = copy(o, err);
	}
	if (elsewhere && !r)
		session_remove(o->written);
	g_free(o->written);
	g_free(o->asked);
	return r;
}

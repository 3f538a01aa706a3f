/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the lab finds things: a private folder, QEMUs of several versions, programs of this build.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "analyzers/lab/internal.h"

#define TMP_PREFIX "bqlstat-lab-"
#define FETCH	   "analyzers/lab/fetch-qemu.sh"

G_DEFINE_QUARK(lab - error - quark, lab_error)

uint64_t lab_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

int deadline_left_ms(uint64_t deadline_ns)
{
	uint64_t now = lab_now_ns();

	return deadline_ns <= now ? 0 : (int)MIN((deadline_ns - now + 999999) / 1000000, INT_MAX);
}

bool lab_skip(const GError *error)
{
	if (!g_error_matches(error, LAB_ERROR, LAB_ERROR_UNAVAILABLE))
		return false;
	g_test_skip(error->message);
	return true;
}

/* ---- the private folder ---- */

static char *tmpdir;
static int tmpdir_lock;
static pid_t tmpdir_owner;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

/* Nothing of what a test has mounted in there. */
static void remove_folder(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_tmpdir(void)
{
	/* A forked child that exits normally must not take the folder from under its parent. */
	if (getpid() == tmpdir_owner)
		remove_folder(tmpdir);
}

/*
 * A test that was killed could not remove its folder: the next one does. A folder whose lock is
 * held is in use; a very young one may not have been locked yet.
 */
static void sweep_abandoned(const char *parent)
{
	GDir *dir = g_dir_open(parent, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(parent, name, NULL);
		struct stat st;
		int fd;

		if (!g_str_has_prefix(name, TMP_PREFIX) || stat(path, &st) ||
		    st.st_uid != getuid() || st.st_mtime > time(NULL) - 60)
			continue;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!flock(fd, LOCK_EX | LOCK_NB))
			remove_folder(path);
		close(fd);
	}
	if (dir)
		g_dir_close(dir);
}

static gpointer make_tmpdir(gpointer unused G_GNUC_UNUSED)
{
	sweep_abandoned(g_get_tmp_dir());
	tmpdir = g_build_filename(g_get_tmp_dir(), TMP_PREFIX "XXXXXX", NULL);
	if (!g_mkdtemp(tmpdir))
		g_error("cannot make a folder %s: %s", tmpdir, g_strerror(errno));
	tmpdir_lock = open(tmpdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flock(tmpdir_lock, LOCK_EX | LOCK_NB);
	tmpdir_owner = getpid();
	atexit(remove_tmpdir);
	return tmpdir;
}

const char *lab_tmpdir(void)
{
	static GOnce once = G_ONCE_INIT;

	return g_once(&once, make_tmpdir, NULL);
}

/* ---- this build ---- */

static char *own_folder(void)
{
	g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);

	return g_path_get_dirname(exe ? exe : ".");
}

/* The nearest folder at or above `start` in which `name` exists, as start/…/name. */
static char *find_above(const char *start, const char *name)
{
	g_autofree char *folder = g_canonicalize_filename(start, NULL);

	for (;;) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		char *up;

		if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
			return g_steal_pointer(&path);
		up = g_path_get_dirname(folder);
		if (!strcmp(up, folder)) {
			g_free(up);
			return NULL;
		}
		g_free(folder);
		folder = up;
	}
}

const char *lab_source_root(void)
{
	static char *root;
	static bool looked;

	if (!looked) {
		g_autofree char *own = own_folder();
		g_autofree char *script = find_above(own, FETCH);

		if (!script)
			script = find_above(".", FETCH);
		if (script)
			root = g_strndup(script, strlen(script) - strlen("/" FETCH));
		looked = true;
	}
	return root;
}

const char *lab_program(const char *name)
{
	static GHashTable *known;
	const char *out = g_getenv("O");
	char *path = NULL;

	if (!known)
		known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	if (g_hash_table_contains(known, name))
		return g_hash_table_lookup(known, name);
	if (out) {
		g_autofree char *there = g_build_filename(out, name, NULL);

		if (g_file_test(there, G_FILE_TEST_IS_EXECUTABLE))
			path = g_canonicalize_filename(there, NULL);
	}
	if (!path) {
		g_autofree char *own = own_folder();
		char *tests = g_strrstr(own, "/tests/");

		/* A test may bear the name of the program that it tests. */
		if (tests)
			*tests = '\0';
		path = find_above(own, name);
	}
	g_hash_table_insert(known, g_strdup(name), path);
	return path;
}

/* ---- QEMUs ---- */

struct qemu {
	const char *version;
	const char *suite; /* where fetch-qemu.sh gets it; NULL: only the system's own */
	bool looked;
	char *path, *binary, *why;
};

static struct qemu qemus[] = {
	{.version = "7.2"},
	{.version = "10.0", .suite = "bookworm-backports"},
	{.version = "11.1", .suite = "sid"},
};

static char *last_line(char *text)
{
	char *end = g_strchomp(text), *newline = strrchr(end, '\n');

	return newline ? newline + 1 : end;
}

static void look_on_path(struct qemu *q)
{
	g_autofree char *path = g_find_program_in_path("qemu-system-x86_64");
	g_autofree char *wanted = g_strdup_printf("version %s.", q->version);
	g_autofree char *says = NULL;
	g_autoptr(lab_process) run = NULL;
	int status;

	if (!path) {
		q->why = g_strdup_printf("QEMU %s: no qemu-system-x86_64 on this system's PATH",
					 q->version);
		return;
	}
	run = lab_process_new((const char *[]){path, "--version", NULL}, NULL, NULL);
	if (!run || !lab_process_wait(run, 10000, &status, NULL) ||
	    !strstr(says = lab_process_stdout(run), wanted)) {
		q->why = g_strdup_printf("QEMU %s: this system's %s is another version (%s)",
					 q->version, path, says ? strtok(says, "\n") : "silent");
		return;
	}
	q->binary = realpath(path, NULL);
	q->path = g_steal_pointer(&path);
}

/* Does `folder` hold an unpacked QEMU, as fetch-qemu.sh leaves it? */
static bool look_in(struct qemu *q, const char *folder)
{
	g_autofree char *wrapper = g_build_filename(folder, "qemu-system-x86_64", NULL);
	g_autofree char *names = g_build_filename(folder, "binary", NULL);
	g_autofree char *binary = NULL;

	if (!g_file_test(wrapper, G_FILE_TEST_IS_EXECUTABLE))
		return false;
	q->path = g_canonicalize_filename(wrapper, NULL);
	if (g_file_get_contents(names, &binary, NULL, NULL))
		q->binary = g_strdup(g_strstrip(binary));
	else
		q->binary = g_strdup(q->path);
	return true;
}

static void look_for(struct qemu *q)
{
	const char *dir = g_getenv("LAB_QEMU_DIR"), *root = lab_source_root();
	g_autofree char *set = dir ? g_build_filename(dir, q->version, NULL) : NULL;
	g_autofree char *built =
		root ? g_build_filename(root, "build/qemu", q->version, NULL) : NULL;
	g_autofree char *script = root ? g_build_filename(root, FETCH, NULL) : NULL;
	g_autofree char *says = NULL;
	g_autoptr(lab_process) fetch = NULL;
	g_autoptr(GError) error = NULL;
	int status = -1;

	if ((set && look_in(q, set)) || (built && look_in(q, built)))
		return;
	if (!q->suite) {
		look_on_path(q);
		return;
	}
	if (!root) {
		q->why =
			g_strdup_printf("QEMU %s: not in $LAB_QEMU_DIR/%s, and no source tree here "
					"to fetch it with",
					q->version, q->version);
		return;
	}
	g_printerr("# fetching QEMU %s\n", q->version);
	fetch = lab_process_new((const char *[]){script, q->suite, built, NULL}, NULL, &error);
	if (fetch && lab_process_wait(fetch, 300000, &status, &error) && !status &&
	    look_in(q, built))
		return;
	says = fetch ? lab_process_stderr(fetch) : NULL;
	q->why = g_strdup_printf("QEMU %s: %s", q->version,
				 error		 ? error->message
				 : says && *says ? last_line(says)
						 : "could not be fetched");
}

static struct qemu *find_qemu(const char *version, const char **why)
{
	for (size_t i = 0; i < G_N_ELEMENTS(qemus); i++) {
		struct qemu *q = &qemus[i];

		if (strcmp(q->version, version))
			continue;
		if (!q->looked)
			look_for(q);
		q->looked = true;
		if (why)
			*why = q->why;
		return q->path ? q : NULL;
	}
	if (why)
		*why = "the lab knows QEMU 7.2, 10.0 and 11.1, and paths of programs";
	return NULL;
}

const char *lab_qemu_path(const char *version, const char **why)
{
	struct qemu *q;

	if (strchr(version, '/')) {
		if (!access(version, X_OK))
			return g_intern_string(version);
		if (why)
			*why = "there is no such program";
		return NULL;
	}
	q = find_qemu(version, why);
	return q ? q->path : NULL;
}

const char *lab_qemu_binary(const char *version, const char **why)
{
	struct qemu *q = find_qemu(version, why);

	return q ? q->binary : NULL;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The run file: what goes in comes out, many runs live in one file, and whatever else is given to
 * it (damaged, foreign, newer, unwritable, a full disk, a killed writer) ends in a sentence.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>
#include <glib/gstdio.h>
#include <sqlite3.h>

#include "analyzers/render/render.h"
#include "analyzers/store/store.h"
#include "tests/unit/sample-run.h"

static char *folder;

static char *path_of(const char *name)
{
	return g_build_filename(folder, name, NULL);
}

static void assert_same_blocking(const struct blocking *a, const struct blocking *b)
{
	g_assert_cmpint(a->cause, ==, b->cause);
	g_assert_cmpuint(a->count, ==, b->count);
	g_assert_cmpuint(a->ns, ==, b->ns);
	g_assert_cmpuint(a->max_ns, ==, b->max_ns);
}

static void assert_same(struct run *a, struct run *b)
{
	struct render_options all = {.each_vcpu = true};
	g_autofree char *x = render_json(a, &all), *y = render_json(b, &all);

	/* Not cmpstr: it would print both, pages of them. */
	g_assert_true(!strcmp(x, y));
	g_assert_cmpuint(a->metrics->len, ==, b->metrics->len);
	for (unsigned i = 0; i < a->metrics->len; i++) {
		const struct metric *m = &g_array_index(a->metrics, struct metric, i);
		double value;

		g_assert_true(run_metric(b, m->name, &value));
		g_assert_cmpfloat(m->value, ==, value);
	}
	g_assert_cmpuint(a->usages->len, ==, b->usages->len);
	for (unsigned i = 0; i < a->usages->len; i++) {
		const struct usage *u = &g_array_index(a->usages, struct usage, i);
		const struct usage *v = &g_array_index(b->usages, struct usage, i);

		g_assert_cmpmem(&u->wait, sizeof(u->wait), &v->wait, sizeof(v->wait));
		g_assert_cmpmem(&u->hold, sizeof(u->hold), &v->hold, sizeof(v->hold));
		g_assert_cmpuint(u->wait_max_at_ns, ==, v->wait_max_at_ns);
		g_assert_cmpuint(u->hold_max_at_ns, ==, v->hold_max_at_ns);
		g_assert_cmpuint(u->blocking->len, ==, v->blocking->len);
		for (unsigned c = 0; c < u->blocking->len; c++)
			assert_same_blocking(&g_array_index(u->blocking, struct blocking, c),
					     &g_array_index(v->blocking, struct blocking, c));
	}
}

static struct store *create(const char *path)
{
	struct store *store;
	struct store_error err;

	if (store_create(path, &store, &err))
		g_error("%s", err.text);
	return store;
}

static void save(struct store *store, struct run *run)
{
	struct store_error err;

	if (store_save(store, run, &err))
		g_error("%s", err.text);
}

static void expect(const char *path, int64_t id, struct run *expected)
{
	struct store *store;
	struct store_error err;
	struct run *run;

	g_assert_cmpint(store_open(path, &store, &err), ==, 0);
	g_assert_cmpint(store_load(store, id, &run, &err), ==, 0);
	assert_same(run, expected);
	run_free(run);
	store_close(store);
}

static void round_trip(void)
{
	g_autofree char *path = path_of("round-trip");
	struct run *first = make_run(1, 6), *second = make_run(2, 3), *loaded;
	struct store *store = create(path);
	struct store_error err;
	GArray *list;

	save(store, first);
	save(store, second);
	g_assert_cmpint(first->id, ==, 1);
	g_assert_cmpint(second->id, ==, 2);
	store_close(store);
	expect(path, 1, first);
	expect(path, 2, second);

	/* Saved again, it replaces itself and nothing else; a later recording adds to the file. */
	store = create(path);
	first->duration_ns++;
	g_array_set_size(first->holds, 0);
	save(store, first);
	run_free(second);
	second = make_run(3, 1);
	save(store, second);
	g_assert_cmpint(second->id, ==, 3);
	list = store_list(store, &err);
	g_assert_cmpuint(list->len, ==, 3);
	g_assert_cmpstr(g_array_index(list, struct store_entry, 2).label, ==, "it's \"this\" one");
	g_array_unref(list);
	g_assert_cmpint(store_load(store, 9, &loaded, &err), ==, -ENOENT);
	store_close(store);
	expect(path, 1, first);
	expect(path, 3, second);
	run_free(first);
	run_free(second);
}

/* An attach that fails leaves no file behind; one that was there stays. */
static void nothing_saved(void)
{
	g_autofree char *path = path_of("nothing");
	struct store_error err;
	struct store *store = create(path);

	store_close(store);
	g_assert_cmpint(access(path, F_OK), !=, 0);
	g_assert_true(g_file_set_contents(path, "", 0, NULL));
	store_close(create(path));
	g_assert_cmpint(access(path, F_OK), ==, 0);
	g_assert_cmpint(store_open(path, &store, &err), ==, 0);
	store_close(store);
}

static void sql(const char *path, const char *statements)
{
	sqlite3 *db;

	g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
	g_assert_cmpint(sqlite3_exec(db, statements, NULL, NULL, NULL), ==, SQLITE_OK);
	sqlite3_close(db);
}

/* A file from before a table was added: reads as if it were empty, and recording adds it. */
static void older_schema(void)
{
	g_autofree char *path = path_of("older");
	struct run *run = make_run(4, 2);
	struct store *store = create(path);

	save(store, run);
	store_close(store);
	sql(path, "DROP TABLE metric; PRAGMA user_version = 1");
	g_array_set_size(run->metrics, 0);
	expect(path, 1, run);
	run_set_metric(run, "ram_bytes", 4096);
	store = create(path);
	save(store, run);
	store_close(store);
	expect(path, 1, run);
	run_free(run);
}

static void refuses(const char *path, int open_code, int create_code, const char *says)
{
	struct store_error err;
	struct store *store;

	g_assert_cmpint(store_open(path, &store, &err), ==, open_code);
	g_assert_null(store);
	if (says)
		g_assert_nonnull(strstr(err.text, says));
	if (!create_code)
		return;
	g_assert_cmpint(store_create(path, &store, &err), ==, create_code);
	g_assert_null(store);
}

static void foreign(void)
{
	g_autofree char *text = path_of("text"), *other = path_of("other.db");
	g_autofree char *newer = path_of("newer"), *absent = path_of("no/such"), *after = NULL;
	struct run *run = make_run(1, 1);
	struct store *store;

	g_assert_true(g_file_set_contents(text, "dear diary, no lock was held today\n", -1, NULL));
	refuses(text, -EEXIST, -EEXIST, "not a bqlstat run file");
	g_assert_true(g_file_get_contents(text, &after, NULL, NULL));
	g_assert_cmpstr(after, ==, "dear diary, no lock was held today\n");
	g_assert_true(g_file_set_contents(text, "S", 1, NULL));
	refuses(text, -EEXIST, -EEXIST, "not a bqlstat run file");

	sql(other, "CREATE TABLE run (id INTEGER); INSERT INTO run VALUES (1)");
	refuses(other, -EEXIST, -EEXIST, "something else");

	store = create(newer);
	save(store, run);
	store_close(store);
	sql(newer, "PRAGMA user_version = 99");
	refuses(newer, -ENOTSUP, -ENOTSUP, "newer bqlstat");

	refuses(absent, -ENOENT, -ENOENT, "No such file");
	refuses(folder, -EEXIST, -EISDIR, "not a regular file");
	refuses("/dev/null", -EEXIST, -EEXIST, "not a regular file");
	run_free(run);
}

/* Loading never crashes and never invents: it fails, or gives the run that was saved. */
static void read_damaged(const char *path, struct run *original, unsigned *failed)
{
	struct store *store = NULL;
	struct store_error err;
	struct run *run = NULL;

	if (store_open(path, &store, &err) || store_load(store, 1, &run, &err)) {
		g_assert_cmpstr(err.text, !=, "");
		(*failed)++;
	} else {
		/* A damaged number is beyond any check; the shape must hold. */
		g_assert_cmpuint(run->usages->len, <=, original->usages->len);
		render_json(run, &(struct render_options){0});
	}
	run_free(run);
	store_close(store);
}

static void damaged(void)
{
	g_autofree char *path = path_of("whole"), *bad = path_of("bad"), *content = NULL;
	g_autoptr(GRand) rand = g_rand_new_with_seed(4);
	struct run *run = make_run(1, 40);
	struct store *store = create(path);
	unsigned failed = 0;
	gsize size;

	save(store, run);
	store_close(store);
	g_assert_true(g_file_get_contents(path, &content, &size, NULL));
	for (gsize cut = 1; cut < size; cut += 997) {
		g_assert_true(g_file_set_contents(bad, content, cut, NULL));
		failed = 0;
		read_damaged(bad, run, &failed);
		g_assert_cmpuint(failed, ==, 1);
	}
	failed = 0;
	for (int i = 0; i < 300; i++) {
		g_autofree char *copy = g_memdup2(content, size);

		for (int n = 0; n < 40; n++)
			copy[g_rand_int_range(rand, 16, size)] = g_rand_int(rand);
		g_assert_true(g_file_set_contents(bad, copy, size, NULL));
		read_damaged(bad, run, &failed);
	}
	g_assert_cmpuint(failed, >, 100);
	run_free(run);
}

static void contradictory(void)
{
	static const char *const wrongs[] = {
		"UPDATE usage SET site = 1000 WHERE id = 0",
		"UPDATE usage SET thread = -1 WHERE id = 0",
		"UPDATE hold SET thread = 2 WHERE id = 0",
		"UPDATE hold SET site = 99 WHERE id = 1",
		"DELETE FROM site WHERE id = 0",
		"DELETE FROM usage WHERE id = 0",
		"UPDATE histogram SET what = 'x' WHERE what = 'wait'",
		"INSERT INTO histogram VALUES (1, 77, 'hold', 1, 1)",
		"INSERT INTO blocking VALUES (1, 77, 1, '', 1, 1, 1)",
		"INSERT INTO hold_blocking VALUES (1, 77, 1, '', 1, 1)",
	};
	g_autofree char *path = path_of("contradictory");
	struct run *run = make_run(1, 3), *loaded;
	struct store_error err;
	struct store *store;

	for (unsigned i = 0; i < G_N_ELEMENTS(wrongs); i++) {
		g_unlink(path);
		run->id = 0;
		store = create(path);
		save(store, run);
		store_close(store);
		sql(path, wrongs[i]);
		g_assert_cmpint(store_open(path, &store, &err), ==, 0);
		g_assert_cmpint(store_load(store, 1, &loaded, &err), ==, -EIO);
		g_assert_nonnull(strstr(err.text, "contradicts itself"));
		store_close(store);
	}
	run_free(run);
}

/* Killed at any moment, the writer leaves the runs as they were at the last save. */
static void killed_writer(void)
{
	g_autofree char *path = path_of("killed");
	struct run *before = make_run(1, 3), *growing;
	struct store *store = create(path);
	struct store_error err;

	save(store, before);
	store_close(store);
	for (int i = 0; i < 20; i++) {
		GArray *list;
		pid_t pid = fork();

		if (!pid) {
			store = create(path);
			growing = make_run(2, 60);
			for (;;)
				save(store, growing);
		}
		g_usleep(3000 + 2500 * i);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		expect(path, 1, before);
		g_assert_cmpint(store_open(path, &store, &err), ==, 0);
		list = store_list(store, &err);
		for (unsigned n = 0; n < list->len; n++) {
			struct run *run;

			g_assert_cmpint(store_load(store,
						   g_array_index(list, struct store_entry, n).id,
						   &run, &err),
					==, 0);
			g_assert_cmpuint(run->usages->len, ==, n ? 60 : 3);
			run_free(run);
		}
		g_array_unref(list);
		store_close(store);
	}
	run_free(before);
}

static int die(const char *path)
{
	(void)path;
	_exit(1);
}

/* Killed while it makes the file: all is written, but the journal says that none of it counts. */
static void killed_maker(void)
{
	g_autofree char *path = path_of("half-made");
	struct run *run = make_run(1, 3);
	struct store *store;
	struct store_error err;
	pid_t pid;

	for (int writing = 0; writing < 2; writing++) {
		pid = fork();
		if (!pid) {
			sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

			/* A journal's end is the end of its transaction. */
			vfs->xSetSystemCall(vfs, "unlink", (sqlite3_syscall_ptr)die);
			store_create(path, &store, &err);
			_exit(0);
		}
		g_assert_cmpint(waitpid(pid, &(int){0}, 0), ==, pid);
		g_assert_cmpint(g_access(path, F_OK), ==, 0);
		if (!writing) {
			g_assert_cmpint(store_open(path, &store, &err), ==, -ENODATA);
			continue;
		}
		store = create(path);
		save(store, run);
		store_close(store);
		expect(path, 1, run);
	}
	run_free(run);
}

/* In a mount namespace of its own: a disk of 256 KB. */
static int fill_disk(const char *at)
{
	g_autofree char *path = g_build_filename(at, "run", NULL);
	struct run *run = make_run(1, 2), *loaded;
	struct store_error err;
	struct store *store;
	int ret = 0;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", at, "tmpfs", 0, "size=256k"))
		return 77;
	if (store_create(path, &store, &err) || store_save(store, run, &err))
		return 1;
	for (int i = 0; i < 100 && !ret; i++) {
		struct run *more = make_run(i, 20);

		ret = store_save(store, more, &err);
		run_free(more);
	}
	if (ret != -ENOSPC || !strstr(err.text, "disk is full"))
		return 2;
	store_close(store);
	if (store_open(path, &store, &err) || store_load(store, 1, &loaded, &err))
		return 3;
	assert_same(loaded, run);
	return 0;
}

static void disk_full(void)
{
	g_autofree char *at = path_of("disk");
	int status;
	pid_t pid;

	g_assert_cmpint(g_mkdir(at, 0700), ==, 0);
	pid = fork();
	if (!pid)
		_exit(fill_disk(at));
	waitpid(pid, &status, 0);
	g_assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		g_test_skip("a small file system of our own cannot be mounted here: run as root");
		return;
	}
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

int main(int argc, char **argv)
{
	int ret;

	g_test_init(&argc, &argv, NULL);
	folder = g_dir_make_tmp("store-XXXXXX", NULL);
	g_test_add_func("/store/round-trip", round_trip);
	g_test_add_func("/store/older-schema", older_schema);
	g_test_add_func("/store/nothing-saved", nothing_saved);
	g_test_add_func("/store/foreign", foreign);
	g_test_add_func("/store/damaged", damaged);
	g_test_add_func("/store/contradictory", contradictory);
	g_test_add_func("/store/killed-writer", killed_writer);
	g_test_add_func("/store/killed-maker", killed_maker);
	g_test_add_func("/store/disk-full", disk_full);
	ret = g_test_run();
	if (folder) {
		GDir *dir = g_dir_open(folder, 0, NULL);
		const char *name;

		while (dir && (name = g_dir_read_name(dir))) {
			g_autofree char *path = path_of(name);

			g_remove(path);
		}
		g_dir_close(dir);
		g_rmdir(folder);
	}
	return ret;
}

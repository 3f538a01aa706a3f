/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loadvm --check: the three builds are accepted; whatever the runtime could not work with is
 * refused and named, by the command and by the runtime itself.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-glib/json-glib.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"

enum { OK = 0, USAGE = 2, CANNOT = 3 };

struct answer {
	int status;
	char *out, *err;
};

static void run(struct answer *answer, const char *const *argv)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_process) process = lab_process_new(argv, NULL, &error);

	g_assert_no_error(error);
	g_assert_true(lab_process_wait(process, 20000, &answer->status, &error));
	answer->out = lab_process_stdout(process);
	answer->err = lab_process_stderr(process);
}

static void clear(struct answer *answer)
{
	g_free(answer->out);
	g_free(answer->err);
}

/* Says `says`, and exits with `status`. */
static void check(const char *target, int status, const char *says)
{
	const char *argv[] = {lab_program("loadvm"), "--check", target, NULL};
	struct answer answer;

	run(&answer, argv);
	if (answer.status != status || !strstr(answer.out, says))
		g_test_message("exit %d: %s%s", answer.status, answer.out, answer.err);
	g_assert_cmpint(answer.status, ==, status);
	g_assert_nonnull(strstr(answer.out, says));
	g_assert_cmpstr(answer.err, ==, "");
	clear(&answer);
}

/* ---- accepted ---- */

static void test_accepted(const void *version)
{
	const char *why, *path = lab_qemu_binary(version, &why);
	const char *argv[] = {lab_program("loadvm"), "--check", path, "--json", NULL};
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonParser) parser = json_parser_new();
	unsigned int reached = 0, detours = 0;
	struct answer answer;
	JsonObject *root;
	JsonArray *checks;

	if (!path) {
		g_test_skip(why);
		return;
	}
	check(path, OK, "\nsupported: ");
	run(&answer, argv);
	g_assert_cmpint(answer.status, ==, OK);
	g_assert_true(json_parser_load_from_data(parser, answer.out, -1, &error));
	g_assert_no_error(error);
	root = json_node_get_object(json_parser_get_root(parser));
	g_assert_true(json_object_get_boolean_member(root, "supported"));
	g_assert_true(g_str_has_prefix(json_object_get_string_member(root, "version"), version));
	g_assert_cmpuint(strlen(json_object_get_string_member(root, "build_id")), ==, 40);
	g_test_message("%s, validated: %s", json_object_get_string_member(root, "version"),
		       json_object_get_null_member(root, "validated")
			       ? "no"
			       : json_object_get_string_member(root, "validated"));
	checks = json_object_get_array_member(root, "checks");
	for (unsigned int i = 0; i < json_array_get_length(checks); i++) {
		JsonObject *c = json_array_get_object_element(checks, i);

		g_assert_true(json_object_get_boolean_member(c, "ok"));
		reached += !strcmp(json_object_get_string_member(c, "kind"), "reached");
		detours += !strcmp(json_object_get_string_member(c, "kind"), "detour");
	}
	/* 7.2 has no mapped-ram; one more is reached, but not detoured. */
	g_assert_cmpuint(detours, ==, strcmp(version, "7.2") ? 13 : 10);
	g_assert_cmpuint(reached, ==, detours + 1);
	clear(&answer);
}

/* 11.1 runs through its own ld.so: /proc/PID/exe is not the QEMU. */
static void test_process(const void *version)
{
	const struct lab_vm_options options = {.version = version};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	g_autofree char *pid = NULL, *says = NULL;

	if (!vm && lab_skip(error))
		return;
	g_assert_no_error(error);
	pid = g_strdup_printf("%d", lab_vm_pid(vm));
	says = g_strdup_printf("QEMU %s", (const char *)version);
	check(pid, OK, says);
	check(pid, OK, "\nsupported: ");
}

/* ---- refused ---- */

static void test_refused(void)
{
	const char *why, *qemu = lab_qemu_binary("7.2", &why);
	g_autofree char *cut = g_build_filename(lab_tmpdir(), "cut", NULL);
	g_autofree char *self = g_strdup_printf("%d", getpid());
	static const size_t sizes[] = {0, 3, 64, 4096, 1 << 20, 12 << 20};
	g_autofree char *bytes = NULL;
	g_autoptr(GError) error = NULL;
	gsize size;

	check("/bin/true", CANNOT, "is not a QEMU system emulator");
	check("true", CANNOT, "bin/true is not a QEMU system emulator");
	check("no-such-qemu", CANNOT, "no-such-qemu: No such file");
	check(lab_program("lockdance"), CANNOT, "  NO   symbol     qemu_in_coroutine ");
	check(lab_program("lockdance-7.2"), CANNOT, "\nnot supported: ");
	check(lab_program("lockdance-11.1"), CANNOT, "\nnot supported: ");
	check("/nonexistent", CANNOT, "No such file");
	check("/etc/passwd", CANNOT, "is not an ELF program");
	check("/proc", CANNOT, "not a regular file");
	check(self, CANNOT, "is not a QEMU system emulator");
	check("999999999", CANNOT, "there is no process 999999999");
	if (!qemu) {
		g_test_skip(why);
		return;
	}
	g_assert_true(g_file_get_contents(qemu, &bytes, &size, &error));
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_assert_cmpuint(sizes[i], <, size);
		g_assert_true(g_file_set_contents(cut, bytes, (gssize)sizes[i], &error));
		check(cut, CANNOT, "not supported");
	}
	unlink(cut);
}

static void test_usage(void)
{
	const char *loadvm = lab_program("loadvm");
	const char *const cases[][5] = {
		{loadvm, "--check", NULL},
		{loadvm, "--check", "/bin/true", "more", NULL},
		{loadvm, "--json", NULL},
		{loadvm, "--json", "true", NULL},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct answer answer;

		run(&answer, cases[i]);
		g_assert_cmpint(answer.status, ==, USAGE);
		g_assert_cmpstr(answer.out, ==, "");
		clear(&answer);
	}
}

/* ---- a QEMU of which one thing is changed ---- */

struct subject {
	struct seam_map *map;
	char *bytes, *path;
	gsize size;
};

static bool subject_open(struct subject *s)
{
	const char *why, *qemu = lab_qemu_binary("7.2", &why);
	struct seam_error err;

	*s = (struct subject){0};
	if (!qemu) {
		g_test_skip(why);
		return false;
	}
	g_assert_cmpint(seam_map_open(qemu, &s->map, &err), ==, 0);
	g_assert_true(g_file_get_contents(qemu, &s->bytes, &s->size, NULL));
	s->path = g_build_filename(lab_tmpdir(), "qemu-system-changed", NULL);
	return true;
}

static void subject_close(struct subject *s)
{
	unlink(s->path);
	g_free(s->path);
	g_free(s->bytes);
	seam_map_free(s->map);
}

static void save(const struct subject *s, mode_t mode)
{
	g_autoptr(GError) error = NULL;

	unlink(s->path);
	g_assert_true(g_file_set_contents_full(s->path, s->bytes, (gssize)s->size,
					       G_FILE_SET_CONTENTS_NONE, 0755, &error));
	g_assert_cmpint(chmod(s->path, mode), ==, 0);
}

/* And the runtime says the same, and lets it run. */
static void expect_stock(const struct subject *s, const char *says)
{
	const char *launcher[] = {lab_program("loadvm"), "--", NULL};
	/* A QEMU looks for its modules where it lies itself. */
	static const char *const env[] = {"QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu", NULL};
	static const char *const args[] = {"-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
					   NULL};
	const struct lab_vm_options options = {
		.version = "7.2",
		.binary = s->path,
		.launcher = launcher,
		.env = env,
		.args = args,
	};
	g_autoptr(GError) error = NULL;
	g_autoptr(lab_vm) vm = lab_vm_new(&options, &error);
	g_autofree char *said = NULL;

	g_assert_no_error(error);
	g_assert_true(lab_qmp_ok(vm, &error, "query-status"));
	g_assert_no_error(error);
	said = lab_vm_stderr(vm);
	if (!strstr(said, says))
		g_test_message("it said: %s", said);
	g_assert_nonnull(strstr(said, says));
	g_assert_nonnull(strstr(said, "runs stock"));
}

/* The one place of `text` as a whole string of the file. */
static char *find(const struct subject *s, const char *text)
{
	size_t n = strlen(text) + 2;
	g_autofree char *whole = g_malloc0(n);
	char *at;

	strcpy(whole + 1, text);
	at = memmem(s->bytes, s->size, whole, n);
	g_assert_nonnull(at);
	return at + 1;
}

static void test_prologue(void)
{
	const struct seam_function *f;
	struct subject s;

	if (!subject_open(&s))
		return;
	f = seam_map_function(s.map, SEAM_MULTIFD_RECV_SYNC);
	memcpy(s.bytes + f->offset, "\xe2\x10", 2); /* loop */
	save(&s, 0755);
	check(s.path, CANNOT,
	      "  NO   detour     multifd_recv_sync_main         it begins with a short-range");
	check(s.path, CANNOT, "\nnot supported: 1 of ");
	expect_stock(&s, "multifd_recv_sync_main: it begins with a short-range branch");
	subject_close(&s);
}

static void test_renamed(void)
{
	struct subject s;

	if (!subject_open(&s))
		return;
	*find(&s, "qemu_in_coroutine") = 'x';
	save(&s, 0755);
	check(s.path, CANNOT,
	      "  NO   symbol     qemu_in_coroutine              this build has no symbol by that "
	      "name");
	expect_stock(&s, "qemu_in_coroutine: this build has no symbol by that name");
	subject_close(&s);
}

/* A static library's function that nobody calls is not linked: RDMA's wait, without RDMA. */
static void test_no_rdma(void)
{
	struct subject s;

	if (!subject_open(&s))
		return;
	*find(&s, "yield_until_fd_readable") = 'x';
	save(&s, 0755);
	check(s.path, CANNOT,
	      "  NO   symbol     yield_until_fd_readable        this build has no symbol by that "
	      "name");
	*find(&s, "rdma_start_incoming_migration") = 'x';
	save(&s, 0755);
	check(s.path, 0,
	      "  ok   symbol     FD_READABLE_YIELD              not needed: this build has no "
	      "RDMA");
	check(s.path, 0, "\nsupported: ");
	subject_close(&s);
}

/* As if qemu_cleanup() had been inlined into its caller. */
static void test_inlined(void)
{
	const struct seam_function *f;
	struct subject s;
	const char *how;
	uint64_t call;

	if (!subject_open(&s))
		return;
	f = seam_map_function(s.map, SEAM_CLEANUP);
	g_assert_true(seam_map_reached(s.map, SEAM_CLEANUP, &call, &how));
	memcpy(s.bytes + (call - f->vaddr + f->offset), "\x0f\x1f\x44\x00\x00", 5);
	save(&s, 0755);
	check(s.path, CANNOT,
	      "  NO   reached    qemu_cleanup                   it is not called where QEMU ends");
	expect_stock(&s, "qemu_cleanup: it is not called where QEMU ends");
	subject_close(&s);
}

static void test_release(void)
{
	static const char banner[] = "QEMU emulator version 7.2";
	struct subject s;
	char *at;

	if (!subject_open(&s))
		return;
	at = memmem(s.bytes, s.size, banner, strlen(banner));
	g_assert_nonnull(at);
	memcpy(at + strlen(banner) - 3, "6.2", 3);
	save(&s, 0755);
	check(s.path, CANNOT, "  NO   release    6.2.");
	check(s.path, CANNOT, "\nnot supported: 1 of ");
	subject_close(&s);
}

/* Every check is of the bytes; the build id alone decides nothing. */
static void test_unseen(void)
{
	g_autofree uint8_t *id = g_malloc(20);
	struct subject s;
	char *at;

	if (!subject_open(&s))
		return;
	for (int i = 0; i < 20; i++)
		sscanf(seam_map_build_id(s.map) + 2 * i, "%2hhx", &id[i]);
	at = memmem(s.bytes, s.size, id, 20);
	g_assert_nonnull(at);
	at[0] ^= 0xff;
	save(&s, 0755);
	check(s.path, OK, "checks passed; an unseen build");
	subject_close(&s);
}

static void test_secure(void)
{
	struct subject s;

	if (!subject_open(&s))
		return;
	save(&s, 04755);
	check(s.path, CANNOT, "the loader ignores LD_PRELOAD");
	subject_close(&s);
}

int main(int argc, char **argv)
{
	static const char *const versions[] = {"7.2", "10.0", "11.1"};

	g_test_init(&argc, &argv, NULL);
	for (size_t v = 0; v < G_N_ELEMENTS(versions); v++) {
		g_autofree char *path = g_strdup_printf("/loadvm-check/accepted/%s", versions[v]);
		g_autofree char *pid = g_strdup_printf("/loadvm-check/process/%s", versions[v]);

		g_test_add_data_func(path, versions[v], test_accepted);
		g_test_add_data_func(pid, versions[v], test_process);
	}
	g_test_add_func("/loadvm-check/refused", test_refused);
	g_test_add_func("/loadvm-check/usage", test_usage);
	g_test_add_func("/loadvm-check/prologue", test_prologue);
	g_test_add_func("/loadvm-check/renamed", test_renamed);
	g_test_add_func("/loadvm-check/no-rdma", test_no_rdma);
	g_test_add_func("/loadvm-check/inlined", test_inlined);
	g_test_add_func("/loadvm-check/release", test_release);
	g_test_add_func("/loadvm-check/unseen", test_unseen);
	g_test_add_func("/loadvm-check/secure", test_secure);
	return g_test_run();
}

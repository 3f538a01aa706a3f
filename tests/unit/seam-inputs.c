/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the seam map is given: damaged files, files that are no QEMU, and running processes.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"

/* ---- a map of one version, or a skip ---- */

struct subject {
	const char *path;
	struct seam_map *map;
	GMappedFile *file;
	const uint8_t *bytes;
	size_t size;
};

static bool subject_open(struct subject *s, const char *version)
{
	struct seam_error err;
	const char *why;

	*s = (struct subject){.path = lab_qemu_binary(version, &why)};
	if (!s->path) {
		g_test_skip(why);
		return false;
	}
	if (seam_map_open(s->path, &s->map, &err))
		g_error("%s", err.text);
	s->file = g_mapped_file_new(s->path, FALSE, NULL);
	g_assert_nonnull(s->file);
	s->bytes = (const uint8_t *)g_mapped_file_get_contents(s->file);
	s->size = g_mapped_file_get_length(s->file);
	return true;
}

static void subject_close(struct subject *s)
{
	seam_map_free(s->map);
	if (s->file)
		g_mapped_file_unref(s->file);
}

/* ---- damaged files ---- */

static char *copy_of(const struct subject *s)
{
	char *path = g_build_filename(lab_tmpdir(), "changed", NULL);
	GError *error = NULL;

	if (!g_file_set_contents_full(path, (const char *)s->bytes, s->size,
				      G_FILE_SET_CONTENTS_NONE, 0755, &error))
		g_error("%s", error->message);
	return path;
}

static void change(const char *path, uint64_t offset, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(pwrite(fd, bytes, size, offset), ==, size);
	close(fd);
}

/* A damaged file opens or is refused, with a sentence; it never takes the opener along. */
static void try_damaged(const char *path, unsigned int *opened)
{
	struct seam_error err = {""};
	struct seam_map *map;
	int ret = seam_map_open(path, &map, &err);

	if (!ret) {
		(*opened)++;
		g_assert_cmpuint(seam_map_bql(map), !=, 0);
	} else {
		g_assert_true(ret == -ENOEXEC || ret == -ENOTSUP);
		g_assert_cmpstr(err.text, !=, "");
		g_assert_null(map);
	}
	seam_map_free(map);
}

static void test_truncated(void)
{
	unsigned int opened = 0, tried = 0;
	struct subject s;
	char *path;

	if (!subject_open(&s, "7.2"))
		return;
	path = copy_of(&s);
	for (size_t size = s.size - 1; size > 0; tried++) {
		g_assert_cmpint(truncate(path, size), ==, 0);
		try_damaged(path, &opened);
		/* Finer towards the headers. */
		size -= size > 1024 ? size / 24 + 1 : size > 64 ? 31 : 1;
	}
	g_test_message("%u lengths", tried);
	/* The section headers come last in the file: without them there is no .dynsym. */
	g_assert_cmpuint(opened, ==, 0);
	unlink(path);
	g_free(path);
	subject_close(&s);
}

struct area {
	const char *name;
	uint64_t offset, size;
};

/* The tables that the map reads, by section name. */
static unsigned int find_areas(const struct subject *s, struct area *areas)
{
	static const char *const wanted[] = {".dynsym",		  ".dynstr",	   ".rela.dyn",
					     ".rela.plt",	  ".eh_frame_hdr", ".eh_frame",
					     ".note.gnu.build-id"};
	const Elf64_Ehdr *ehdr = (const void *)s->bytes;
	const Elf64_Shdr *shdr = (const void *)(s->bytes + ehdr->e_shoff);
	const char *names = (const char *)s->bytes + shdr[ehdr->e_shstrndx].sh_offset;
	unsigned int n = 0;

	areas[n++] = (struct area){"ELF header", 0, sizeof(*ehdr)};
	areas[n++] =
		(struct area){"program headers", ehdr->e_phoff, ehdr->e_phnum * sizeof(Elf64_Phdr)};
	areas[n++] =
		(struct area){"section headers", ehdr->e_shoff, ehdr->e_shnum * sizeof(Elf64_Shdr)};
	for (unsigned int i = 0; i < ehdr->e_shnum; i++) {
		for (size_t w = 0; w < G_N_ELEMENTS(wanted); w++) {
			if (!strcmp(names + shdr[i].sh_name, wanted[w]))
				areas[n++] = (struct area){wanted[w], shdr[i].sh_offset,
							   shdr[i].sh_size};
		}
	}
	for (int id = 0; id < SEAM_FUNCTIONS; id++) {
		const struct seam_function *f = seam_map_function(s->map, id);

		if (f->name)
			areas[n++] = (struct area){f->name, f->offset, f->size};
	}
	return n;
}

static void test_corrupt(void)
{
	static const uint8_t fill[] = {0x00, 0xff, 0x7f, 0x80};
	struct area areas[16 + SEAM_FUNCTIONS];
	unsigned int n, opened = 0, rounds = 6;
	GRand *rand = g_rand_new_with_seed(20250801);
	struct subject s;
	char *path;

	if (!subject_open(&s, "7.2")) {
		g_rand_free(rand);
		return;
	}
	path = copy_of(&s);
	n = find_areas(&s, areas);
	for (unsigned int i = 0; i < n * rounds; i++) {
		const struct area *area = &areas[i % n];
		/* A few bytes anywhere in it, or a long stretch from somewhere to its end. */
		uint64_t from = area->offset + g_rand_double(rand) * (area->size - 1);
		uint64_t left = area->offset + area->size - from;
		uint64_t few = g_rand_int_range(rand, 1, 9);
		uint64_t size = i % 3 ? MIN(few, left) : left;
		uint8_t *bytes = g_malloc(size);

		if (i % 2)
			memset(bytes, fill[g_rand_int_range(rand, 0, 4)], size);
		else
			for (uint64_t b = 0; b < size; b++)
				bytes[b] = g_rand_int(rand);
		change(path, from, bytes, size);
		g_free(bytes);
		try_damaged(path, &opened);
		change(path, area->offset, s.bytes + area->offset, area->size);
	}
	g_test_message("%u of %u damaged files open all the same", opened, n * rounds);
	g_assert_cmpuint(opened, >, 0);
	g_assert_cmpuint(opened, <, n * rounds);
	g_rand_free(rand);
	unlink(path);
	g_free(path);
	subject_close(&s);
}

/* ---- what is no QEMU ---- */

static void check_refused(const char *path, int code, const char *says)
{
	struct seam_map *map = (void *)1;
	struct seam_error err = {""};

	g_test_message("%s", path);
	g_assert_cmpint(seam_map_open(path, &map, &err), ==, code);
	g_assert_null(map);
	g_assert_nonnull(strstr(err.text, path));
	g_assert_nonnull(strstr(err.text, says));
	g_assert_null(strchr(err.text, '\n'));
	/* The sentence is optional. */
	g_assert_cmpint(seam_map_open(path, &map, NULL), ==, code);
}

static char *scratch(const char *name, const void *bytes, size_t size)
{
	char *path = g_build_filename(lab_tmpdir(), name, NULL);

	g_assert_true(g_file_set_contents(path, bytes, size, NULL));
	return path;
}

static void check_unreadable(const char *path)
{
	struct seam_error err;
	struct seam_map *map;
	int status;
	pid_t pid;

	g_assert_cmpint(chmod(path, 0), ==, 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (!pid) {
		/* Root reads everything: be nobody. */
		if (!geteuid() && setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(seam_map_open(path, &map, &err) == -EACCES ? 0 : 1);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static void test_refused(void)
{
	char elf32[256] = "\177ELF\1\1\1";
	char *path;

	check_refused("/bin/true", -ENOTSUP, "not a QEMU");
	check_refused("/nonexistent/qemu", -ENOENT, "No such file");
	check_refused(lab_tmpdir(), -ENOEXEC, "not a regular file");
	check_refused("/dev/zero", -ENOEXEC, "not a regular file");

	path = scratch("empty", "", 0);
	check_refused(path, -ENOEXEC, "too short");
	check_unreadable(path);
	unlink(path);
	g_free(path);

	path = scratch("script", "#!/bin/sh\nexec true\n", 20);
	check_refused(path, -ENOEXEC, "not an ELF");
	unlink(path);
	g_free(path);

	elf32[16] = 2;
	elf32[18] = 3;
	path = scratch("elf32", elf32, sizeof(elf32));
	check_refused(path, -ENOEXEC, "x86-64");
	unlink(path);
	g_free(path);

	elf32[4] = 2; /* 64 bits, but a 386 */
	path = scratch("elf386", elf32, sizeof(elf32));
	check_refused(path, -ENOEXEC, "x86-64");
	unlink(path);
	g_free(path);

	path = g_build_filename(lab_tmpdir(), "fifo", NULL);
	g_assert_cmpint(mkfifo(path, 0600), ==, 0);
	check_refused(path, -ENOEXEC, "not a regular file");
	unlink(path);
	g_free(path);
}

/* ---- processes ---- */

/* The bias is right if, and only if, memory holds the file's code at each point. */
static void check_memory(pid_t pid, const struct seam_map *map, uint64_t bias)
{
	char *path = g_strdup_printf("/proc/%d/mem", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const struct seam_point *points;
	uint8_t bytes[16];
	size_t n;

	g_assert_cmpint(fd, >=, 0);
	points = seam_map_points(map, &n);
	for (size_t i = 0; i < n; i++) {
		g_assert_cmpint(pread(fd, bytes, points[i].code_len, bias + points[i].vaddr), ==,
				points[i].code_len);
		g_assert_cmpmem(bytes, points[i].code_len, points[i].code, points[i].code_len);
	}
	close(fd);
	g_free(path);
}

/* Wrappers and ld.so exec QEMU some time after the start: ask until it is there. */
static void open_running(struct lab_process *process, struct seam_map **map, uint64_t *bias)
{
	uint64_t deadline = lab_now_ns() + 20 * 1000000000ull;
	struct seam_error err;

	while (seam_map_open_pid(lab_process_pid(process), map, bias, &err)) {
		if (lab_now_ns() > deadline || !lab_process_running(process))
			g_error("%s", err.text);
		g_usleep(20000);
	}
}

static void check_running(const char *const *program, const char *version, const char *renamed)
{
	/* Started through ld.so, QEMU takes the loader's folder for its own: no modules there. */
	static const char *const env[] = {"QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu", NULL};
	GPtrArray *argv = g_ptr_array_new();
	struct lab_process *process;
	struct seam_map *map, *again;
	GError *error = NULL;
	struct seam_error err;
	uint64_t bias;

	for (; *program; program++)
		g_ptr_array_add(argv, (gpointer)*program);
	for (const char *const *arg = (const char *const[]){"-M", "none", "-display", "none",
							    "-monitor", "none", "-S", NULL};
	     *arg; arg++)
		g_ptr_array_add(argv, (gpointer)*arg);
	g_ptr_array_add(argv, NULL);
	process = lab_process_new((const char *const *)argv->pdata,
				  !strcmp(version, "7.2") ? env : NULL, &error);
	g_assert_no_error(error);
	open_running(process, &map, &bias);
	g_assert_true(g_str_has_prefix(seam_map_version(map), version));
	g_assert_cmphex(bias, !=, 0);
	check_memory(lab_process_pid(process), map, bias);
	if (renamed) {
		/* An upgrade puts another file there; the process runs the old one on. */
		g_assert_true(g_file_set_contents(renamed, "new", 3, NULL));
		seam_map_free(map);
		g_assert_cmpint(seam_map_open_pid(lab_process_pid(process), &map, &bias, &err), ==,
				0);
		g_assert_true(g_str_has_prefix(seam_map_version(map), version));
		check_memory(lab_process_pid(process), map, bias);
	}
	/* The path it gives opens the same file. */
	g_assert_cmpint(seam_map_open(seam_map_path(map), &again, &err), ==, 0);
	g_assert_cmpstr(seam_map_build_id(again), ==, seam_map_build_id(map));
	seam_map_free(again);
	seam_map_free(map);
	lab_process_free(process);
	g_ptr_array_unref(argv);
}

static void test_running(const void *version)
{
	const char *why, *path = lab_qemu_path(version, &why);

	if (!path) {
		g_test_skip(why);
		return;
	}
	check_running((const char *const[]){path, NULL}, version, NULL);
}

static void test_running_replaced(void)
{
	struct subject s;
	char *path;

	if (!subject_open(&s, "7.2"))
		return;
	path = copy_of(&s);
	check_running((const char *const[]){path, NULL}, "7.2", path);
	unlink(path);
	g_free(path);
	subject_close(&s);
}

/* Then /proc/PID/exe is the loader's, and the file is known by its mappings only. */
static void test_running_through_ld_so(void)
{
	static const char ld_so[] = "/lib64/ld-linux-x86-64.so.2";
	struct subject s;
	char *path;

	if (geteuid()) {
		g_test_skip("opening /proc/PID/map_files needs root");
		return;
	}
	if (!subject_open(&s, "7.2"))
		return;
	path = copy_of(&s);
	check_running((const char *const[]){ld_so, path, NULL}, "7.2", path);
	unlink(path);
	g_free(path);
	subject_close(&s);
}

static void check_pid_refused(pid_t pid, int code)
{
	struct seam_map *map = (void *)1;
	struct seam_error err = {""};
	uint64_t bias;

	g_assert_cmpint(seam_map_open_pid(pid, &map, &bias, &err), ==, code);
	g_test_message("%d: %s", pid, err.text);
	g_assert_null(map);
	g_assert_cmpstr(err.text, !=, "");
}

static void test_running_refused(void)
{
	pid_t pid;

	check_pid_refused(getpid(), -ENOTSUP);
	check_pid_refused(0, -ESRCH);
	check_pid_refused(-1, -ESRCH);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (!pid)
		_exit(0);
	g_assert_cmpint(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT), ==, 0);
	check_pid_refused(pid, -ESRCH); /* a zombie */
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
	check_pid_refused(pid, -ESRCH); /* gone */
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/seam-inputs/truncated", test_truncated);
	g_test_add_func("/seam-inputs/corrupt", test_corrupt);
	g_test_add_func("/seam-inputs/refused", test_refused);
	g_test_add_data_func("/seam-inputs/running/7.2", "7.2", test_running);
	g_test_add_data_func("/seam-inputs/running/10.0", "10.0", test_running);
	g_test_add_data_func("/seam-inputs/running/11.1", "11.1", test_running);
	g_test_add_func("/seam-inputs/running/replaced", test_running_replaced);
	g_test_add_func("/seam-inputs/running/through-ld-so", test_running_through_ld_so);
	g_test_add_func("/seam-inputs/running/refused", test_running_refused);
	return g_test_run();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam map follows the bytes, not the build it takes a file for: QEMUs changed byte by byte,
 * each change so that one of the map's rules must act.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#include "analyzers/lab/lab.h"
#include "runtime/seams/seams.h"
#include "tests/unit/points.h"

#define BUILD_7_2  "d9541fd67c4ea37f9ca7fca0f5096f32b3b7e7e0"
#define BUILD_11_1 "19082c1198d23ae45c6960a77fdc889301dfb4de"

static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

/* A copy to change, beside the map and the bytes of the original. */
struct subject {
	struct seam_map *map;
	GMappedFile *file;
	const uint8_t *bytes;
	char *path;
};

static void subject_free(struct subject *s)
{
	if (s->path)
		unlink(s->path);
	g_free(s->path);
	seam_map_free(s->map);
	if (s->file)
		g_mapped_file_unref(s->file);
}

static bool subject_copy(struct subject *s, const char *version, const char *build_id)
{
	const char *why, *path = lab_qemu_binary(version, &why);
	GError *error = NULL;
	struct seam_error err;

	*s = (struct subject){0};
	if (!path) {
		g_test_skip(why);
		return false;
	}
	if (seam_map_open(path, &s->map, &err))
		g_error("%s", err.text);
	if (build_id && strcmp(seam_map_build_id(s->map), build_id)) {
		g_test_skip("the offsets to change are not known for this build of QEMU");
		subject_free(s);
		return false;
	}
	s->file = g_mapped_file_new(path, FALSE, &error);
	g_assert_no_error(error);
	s->bytes = (const uint8_t *)g_mapped_file_get_contents(s->file);
	s->path = g_build_filename(lab_tmpdir(), "changed", NULL);
	g_file_set_contents(s->path, (const char *)s->bytes, g_mapped_file_get_length(s->file),
			    &error);
	g_assert_no_error(error);
	return true;
}

static void change(const struct subject *s, uint64_t offset, const void *bytes, size_t size)
{
	int fd = open(s->path, O_WRONLY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(pwrite(fd, bytes, size, offset), ==, size);
	close(fd);
}

static void restore(const struct subject *s, const struct seam_function *f)
{
	change(s, f->offset, s->bytes + f->offset, f->size);
}

static struct seam_map *map_of(const struct subject *s)
{
	struct seam_error err;
	struct seam_map *map;

	if (seam_map_open(s->path, &map, &err))
		g_error("%s", err.text);
	return map;
}

static const uint8_t *jump_to(uint64_t from, uint64_t to)
{
	static uint8_t jump[5] = {0xe9};
	int32_t distance = (int32_t)(to - (from + sizeof(jump)));

	memcpy(jump + 1, &distance, sizeof(distance));
	return jump;
}

/* The changed file's point of that kind stands at `at` in its function. */
static void expect(const struct subject *s, enum seam_point_kind kind, uint64_t at, bool emulated)
{
	struct seam_map *map = map_of(s);
	const struct seam_point *p = find_point(map, kind);

	g_assert_nonnull(p);
	g_assert_cmphex(p->vaddr - seam_map_function(map, p->function)->vaddr, ==, at);
	g_assert_cmpint(p->emulated, ==, emulated);
	seam_map_free(map);
}

static void expect_refused(const struct subject *s, const char *says)
{
	struct seam_error err = {""};
	struct seam_map *map;

	g_assert_cmpint(seam_map_open(s->path, &map, &err), ==, -ENOTSUP);
	g_assert_null(map);
	g_assert_nonnull(strstr(err.text, says));
}

/* ---- the lock function of 7.2: sub, mov, call, test, je ..., call *, mov, add, jmp ---- */

static void test_ask(void)
{
	static const uint8_t clear_rdi[] = {0x31, 0xff, 0x0f, 0x1f, 0x44, 0x00, 0x00};
	const struct seam_function *lock;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	lock = seam_map_function(s.map, SEAM_BQL_LOCK);
	expect(&s, SEAM_ASK, 0xb, true);
	/* A 5-byte nop where it stood: on to the branch behind it. */
	change(&s, lock->offset + 0xb, nop5, 5);
	expect(&s, SEAM_ASK, 0x12, true);
	/* The first argument gone before anything cheap: a stepped one before that. */
	change(&s, lock->offset + 4, clear_rdi, sizeof(clear_rdi));
	expect(&s, SEAM_ASK, 0, false);
	restore(&s, lock);
	expect(&s, SEAM_ASK, 0xb, true);
	subject_free(&s);
}

static void test_acquired(void)
{
	const struct seam_function *lock;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	lock = seam_map_function(s.map, SEAM_BQL_LOCK);
	expect(&s, SEAM_ACQUIRED, 0x4f, true);
	/* No jump behind the acquisition, a nop5 in its place: the nearest stepped one. */
	change(&s, lock->offset + 0x4f, nop5, 5);
	expect(&s, SEAM_ACQUIRED, 0x46, false);
	/* Not even stepped is a nop5 good enough. */
	change(&s, lock->offset + 0x46, nop5, 5);
	expect(&s, SEAM_ACQUIRED, 0x4b, false);
	/* A jump to the place from the failed assertion would be counted: nearer to the call. */
	restore(&s, lock);
	change(&s, lock->offset + 0x30, jump_to(lock->vaddr + 0x30, lock->vaddr + 0x4f), 5);
	expect(&s, SEAM_ACQUIRED, 0x46, false);
	subject_free(&s);
}

static void test_mutex(void)
{
	const struct seam_function *unlock;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	unlock = seam_map_function(s.map, SEAM_BQL_UNLOCK);
	change(&s, unlock->offset + 0x46, "\x2e", 1);
	expect_refused(&s, "different mutexes");
	change(&s, unlock->offset + 0x43, "\x90\x90\x90\x90\x90\x90\x90", 7);
	expect_refused(&s, "gives the lock back");
	restore(&s, unlock);
	change(&s, seam_map_function(s.map, SEAM_BQL_LOCK)->offset + 0x3d,
	       "\x90\x90\x90\x90\x90\x90\x90", 7);
	expect_refused(&s, "takes the lock");
	subject_free(&s);
}

/* Code that was not optimized computes an argument anywhere and copies it into its register. */
static unsigned int put_copied(const struct subject *s, uint64_t vaddr, uint64_t offset,
			       uint64_t constant, uint8_t modrm)
{
	uint8_t code[] = {0x48, 0x8d, 0x05, 0,	  0,
			  0,	0,    0x48, 0x89, modrm}; /* lea, %rax; mov %rax, */
	int32_t distance = (int32_t)(constant - (vaddr + 7));

	memcpy(code + 3, &distance, sizeof(distance));
	change(s, offset, code, sizeof(code));
	return sizeof(code);
}

struct named {
	const char *name;
	uint64_t vaddr, offset;
};

static bool is_named(const struct seam_function *f, void *opaque)
{
	struct named *named = opaque;

	if (strcmp(f->name, named->name) != 0)
		return true;
	named->vaddr = f->vaddr;
	named->offset = f->offset;
	return false;
}

static void test_copied(void)
{
	static const uint8_t mov_rax_rdi = 0xc7, mov_rcx_rdi = 0xcf, mov_rax_rcx = 0xc1;
	static const uint8_t nop8[] = {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00};
	static const uint64_t ram = 0x9f4e72, handlers = 0x10d3f00; /* "ram", of this build */
	struct named init = {.name = "ram_mig_init"};
	const struct seam_function *lock;
	struct seam_map *map;
	struct subject s;
	uint64_t at = 0x10;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	lock = seam_map_function(s.map, SEAM_BQL_LOCK);
	put_copied(&s, lock->vaddr + 0x3a, lock->offset + 0x3a, seam_map_bql(s.map), mov_rax_rdi);
	seam_map_each_function(s.map, is_named, &init);
	g_assert_cmphex(init.vaddr, !=, 0);
	at += put_copied(&s, init.vaddr + at, init.offset + at, ram, mov_rax_rdi);
	at += put_copied(&s, init.vaddr + at, init.offset + at, handlers, mov_rax_rcx);
	change(&s, init.offset + at, nop8, sizeof(nop8));
	map = map_of(&s);
	g_assert_cmphex(seam_map_bql(map), ==, seam_map_bql(s.map));
	g_assert_cmphex(seam_map_function(map, SEAM_RAM_LOAD)->vaddr, ==,
			seam_map_function(s.map, SEAM_RAM_LOAD)->vaddr);
	seam_map_free(map);
	/* What another register holds is not what was computed. */
	put_copied(&s, lock->vaddr + 0x3a, lock->offset + 0x3a, seam_map_bql(s.map), mov_rcx_rdi);
	expect_refused(&s, "takes the lock");
	subject_free(&s);
}

/*
 * A copy of the lock function in another function of its file: its acquisitions are seen to have no
 * ask, or not at all, and the map says so.
 */
static void test_lock_inlined(void)
{
	/* mov hook(%rip),%rcx; lea bql(%rip),%rdi; call *%rcx; ret */
	uint8_t copy[] = {0x48, 0x8b, 0x0d, 0, 0, 0,	0,    0x48, 0x8d,
			  0x3d, 0,    0,    0, 0, 0xff, 0xd1, 0xc3};
	struct named other = {.name = "qemu_cond_wait_iothread"};
	int32_t hook, bql;
	struct seam_map *map;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	g_assert_null(seam_map_missing(s.map, SEAM_ASK));
	seam_map_each_function(s.map, is_named, &other);
	g_assert_cmphex(other.vaddr, !=, 0);
	hook = (int32_t)(seam_map_variable(s.map, SEAM_BQL_LOCK_HOOK) - (other.vaddr + 7));
	bql = (int32_t)(seam_map_bql(s.map) - (other.vaddr + 14));
	memcpy(copy + 3, &hook, sizeof(hook));
	memcpy(copy + 10, &bql, sizeof(bql));
	change(&s, other.offset, copy, sizeof(copy));
	map = map_of(&s);
	g_assert_nonnull(find_point(map, SEAM_ASK));
	g_assert_nonnull(find_point(map, SEAM_ACQUIRED));
	g_assert_nonnull(strstr(seam_map_missing(map, SEAM_ASK), "inlined"));
	g_assert_nonnull(strstr(seam_map_missing(map, SEAM_ACQUIRED), "inlined"));
	seam_map_free(map);
	/* Another mutex by the same way is not the lock. */
	bql += 64;
	memcpy(copy + 10, &bql, sizeof(bql));
	change(&s, other.offset, copy, sizeof(copy));
	map = map_of(&s);
	g_assert_null(seam_map_missing(map, SEAM_ASK));
	seam_map_free(map);
	subject_free(&s);
}

/* ---- detours and the loading code ---- */

static void expect_no_detour(const struct subject *s, enum seam_id id, const char *why)
{
	struct seam_map *map = map_of(s);

	g_assert_cmpuint(seam_map_function(map, id)->extent, ==, 0);
	g_assert_cmpstr(seam_map_function(map, id)->refusal, ==, why);
	seam_map_free(map);
}

static void test_jump_back(void)
{
	const struct seam_function *load;
	uint8_t jump[2] = {0xeb, (uint8_t)(4 - (0x1d + 2))};
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	load = seam_map_function(s.map, SEAM_LOADVM_STATE);
	change(&s, load->offset + 0x1d, jump, 2); /* an xor of two bytes */
	expect_no_detour(&s, SEAM_LOADVM_STATE, "it jumps back into its first bytes");
	/* Where no detour may go, a probe may. */
	expect(&s, SEAM_LOAD_BEGIN, 0, true);
	subject_free(&s);
}

/* gcc keeps a function's cold part far from it: a jump back from there counts too. */
static void test_jump_back_from_cold(void)
{
	static const uint64_t cold = 0x4e024e; /* a failed assertion of qemu_loadvm_state() */
	const struct seam_function *load;
	struct subject s;

	if (!subject_copy(&s, "11.1", BUILD_11_1))
		return;
	load = seam_map_function(s.map, SEAM_LOADVM_STATE);
	g_assert_cmpuint(load->extent, ==, 8);
	/* Offsets are addresses in this build's code. */
	change(&s, cold, jump_to(cold, load->vaddr + 4), 5);
	expect_no_detour(&s, SEAM_LOADVM_STATE, "it jumps back into its first bytes");
	subject_free(&s);
}

/* A call to watch that stands within the bytes of a detour: no point there, and a reason. */
static void test_point_in_extent(void)
{
	const struct seam_function *reader, *vmstate;
	struct seam_map *map;
	struct subject s;
	const struct seam_point *points;
	size_t n;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	reader = seam_map_function(s.map, SEAM_LOADVM_STATE_MAIN);
	vmstate = seam_map_function(s.map, SEAM_VMSTATE_LOAD);
	g_assert_null(seam_map_missing(s.map, SEAM_SECTION_BEGIN));
	change(&s, reader->offset, jump_to(reader->vaddr, vmstate->vaddr), 5);
	change(&s, reader->offset + 5, "\x90\x90\x90\x90\x90\x90", 6);
	map = map_of(&s);
	g_assert_cmpuint(seam_map_function(map, SEAM_LOADVM_STATE_MAIN)->extent, ==, 5);
	g_assert_nonnull(seam_map_missing(map, SEAM_SECTION_BEGIN));
	g_assert_nonnull(strstr(seam_map_missing(map, SEAM_SECTION_BEGIN), "a detour owns"));
	points = seam_map_points(map, &n);
	for (size_t i = 0; i < n; i++)
		g_assert_cmphex(points[i].vaddr, !=, reader->vaddr);
	seam_map_free(map);
	subject_free(&s);
}

/*
 * A branch that a detour would take along: behind it stands a probe only when nobody comes back
 * from where it leads.
 */
static void test_branch_in_extent(void)
{
	/* push %rbx; cmp $0xd,%edx; jg to the failing assertion, or to where the state is changed
	 */
	static const uint8_t fails[] = {0x53, 0x83, 0xfa, 0x0d, 0x0f, 0x8f, 0x0e, 0x01, 0x00, 0x00};
	static const uint8_t goes_on[] = {0x53, 0x83, 0xfa, 0x0d, 0x0f,
					  0x8f, 0x46, 0x00, 0x00, 0x00};
	const struct seam_function *state;
	struct seam_map *map;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	state = seam_map_function(s.map, SEAM_MIGRATE_SET_STATE);
	change(&s, state->offset, fails, sizeof(fails));
	map = map_of(&s);
	g_assert_cmpuint(seam_map_function(map, SEAM_MIGRATE_SET_STATE)->extent, ==, sizeof(fails));
	seam_map_free(map);
	expect(&s, SEAM_STATE, 0x1d, true);
	change(&s, state->offset, goes_on, sizeof(goes_on));
	map = map_of(&s);
	g_assert_null(find_point(map, SEAM_STATE));
	g_assert_nonnull(strstr(seam_map_missing(map, SEAM_STATE), "branches"));
	seam_map_free(map);
	subject_free(&s);
}

/* RAM's load function is not proven without the call it is known by. */
static void test_ram_unproven(void)
{
	static const char name[] = "multifd_recv_sync_main";
	const uint8_t *at;
	struct seam_map *map;
	struct subject s;

	if (!subject_copy(&s, "7.2", BUILD_7_2))
		return;
	at = memmem(s.bytes, g_mapped_file_get_length(s.file), name, sizeof(name));
	g_assert_nonnull(at);
	change(&s, at - s.bytes, "x", 1);
	map = map_of(&s);
	g_assert_null(seam_map_function(map, SEAM_MULTIFD_RECV_SYNC)->name);
	g_assert_null(seam_map_function(map, SEAM_RAM_LOAD)->name);
	g_assert_null(find_point(map, SEAM_RAM_BEGIN));
	g_assert_null(find_point(map, SEAM_RAM_END));
	g_assert_nonnull(strstr(seam_map_missing(map, SEAM_RAM_BEGIN), name));
	g_assert_nonnull(find_point(map, SEAM_SECTION_BEGIN));
	seam_map_free(map);
	subject_free(&s);
}

/* As if the compiler had inlined it: without the calls it is for, a detour is found to be idle. */
static void test_unreached(const void *version)
{
	static const enum seam_id ids[] = {
		SEAM_LOADVM_STATE,	SEAM_LOADVM_STATE_MAIN, SEAM_VMSTATE_LOAD,
		SEAM_CHANNEL_WAIT,	SEAM_CHANNEL_READ,	SEAM_MULTIFD_RECV_SYNC,
		SEAM_FD_READABLE_YIELD, SEAM_CLEANUP,		SEAM_FILE_READ_AT,
		SEAM_MULTIFD_RECV,	SEAM_THREADS_WAIT,
	};
	struct subject s;

	if (!subject_copy(&s, version, NULL))
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
		const struct seam_function *f = seam_map_function(s.map, ids[i]);
		uint64_t call, changed[16];
		unsigned int calls = 0;
		const char *how;

		if (!f->name) {
			g_assert_cmpstr(version, ==, "7.2");
			continue;
		}
		for (;;) {
			struct seam_map *map = map_of(&s);
			bool reached = seam_map_reached(map, ids[i], &call, &how);

			seam_map_free(map);
			if (!reached)
				break;
			g_assert_cmpuint(call, !=, 0);
			g_assert_cmpuint(calls, <, G_N_ELEMENTS(changed));
			changed[calls] = call - f->vaddr + f->offset;
			change(&s, changed[calls++], nop5, sizeof(nop5));
		}
		g_assert_cmpuint(call, ==, 0);
		g_assert_cmpuint(calls, >, 0);
		g_test_message("%s: not %s after %u calls less", f->name, how, calls);
		/* The others are found by way of some of these calls. */
		while (calls--)
			change(&s, changed[calls], s.bytes + changed[calls], sizeof(nop5));
	}
	subject_free(&s);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/seam-changes/ask", test_ask);
	g_test_add_func("/seam-changes/acquired", test_acquired);
	g_test_add_func("/seam-changes/mutex", test_mutex);
	g_test_add_func("/seam-changes/copied", test_copied);
	g_test_add_func("/seam-changes/lock-inlined", test_lock_inlined);
	g_test_add_func("/seam-changes/jump-back", test_jump_back);
	g_test_add_func("/seam-changes/jump-back-from-cold", test_jump_back_from_cold);
	g_test_add_func("/seam-changes/point-in-extent", test_point_in_extent);
	g_test_add_func("/seam-changes/branch-in-extent", test_branch_in_extent);
	g_test_add_func("/seam-changes/ram-unproven", test_ram_unproven);
	g_test_add_data_func("/seam-changes/unreached/7.2", "7.2", test_unreached);
	g_test_add_data_func("/seam-changes/unreached/10.0", "10.0", test_unreached);
	g_test_add_data_func("/seam-changes/unreached/11.1", "11.1", test_unreached);
	return g_test_run();
}

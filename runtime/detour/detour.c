/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Installing detours: verify everything, build everything beside the code, rehearse, and only then
 * change bytes of it.
 */
#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/detour/detour.h"
#include "runtime/detour/relocate.h"
#include "runtime/detour/slots.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum {
	JMP_BYTES = 5,
	EXTENT_MAX = 64,
	PAGE = 4096,
	NEAR_ENTRY = 16,			/* jmp *literal; literal */
	NEAR_PIECE = NEAR_ENTRY + RELOCATE_MAX, /* what one detour needs near its target */
	NEAR_BYTES = 2 * PAGE,			/* one mapping for all targets of a module */
};

#define NEAR_REACH ((uint64_t)1 << 31)
#define NEAR_STEP  ((uint64_t)1 << 20)

struct detour_slot detour_slots[DETOUR_SLOTS];
uint32_t detour_vector_mask;
uint64_t detour_vector_bytes;
static size_t slots_used;

/* What stubs.S knows of it. */
static_assert(sizeof(struct detour_slot) == 1 << 5, "SLOT_SHIFT");
static_assert(offsetof(struct detour_slot, results) == 8, "SLOT_RESULTS");
static_assert(offsetof(struct detour_slot, bypass) == 16, "SLOT_BYPASS");
static_assert(offsetof(struct detour_slot, original) == 24, "SLOT_ORIGINAL");
static_assert(NEAR_PIECE * DETOUR_SLOTS <= NEAR_BYTES, "one mapping serves every slot");

/* The mapping that a target lies in. */
struct text {
	uint64_t begin, end, offset;
	int prot;
	char path[512];
};

/* One request on its way in. */
struct plan {
	uint8_t *target;
	uint8_t *near_entry;
	uint8_t *moved;
	uint8_t jmp[JMP_BYTES];
	struct text text;
	bool patched;
};

struct near {
	uint8_t *base;
	uint32_t used;
};

__attribute__((format(printf, 3, 4))) static int fail(struct detour_error *err, int code,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

/*
 * Which vector state the stubs save: x87, SSE, AVX, AVX-512 and APX's registers, as far as the
 * system enabled them. Not the protection keys, which are no register of the caller's, nor AMX
 * tiles: 8 KB that no compiler keeps across a call.
 */
static void measure_vector_state(void)
{
	const uint32_t kept = 0x7 | 0xe0 | 1u << 19;
	uint32_t a, b, c, d, enabled, high;

	detour_vector_mask = 0;
	detour_vector_bytes = 512;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return;
	__asm__("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
	detour_vector_mask = enabled & kept;
	detour_vector_bytes = 512 + 64;
	for (uint32_t i = 2; i < 32; i++) {
		if (!(detour_vector_mask & 1u << i))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (b + a > detour_vector_bytes)
			detour_vector_bytes = b + a;
	}
}

static int find_text(const void *address, struct text *text, struct detour_error *err)
{
	uint64_t at = (uintptr_t)address;
	char line[1024], prot[5];
	int r = -EFAULT;
	FILE *maps;

	maps = fopen("/proc/self/maps", "re");
	if (!maps)
		return fail(err, -errno, "cannot read /proc/self/maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long begin, end, offset;
		int path = 0;

		if (sscanf(line, "%llx-%llx %4s %llx %*s %*s %n", &begin, &end, prot, &offset,
			   &path) != 4 ||
		    at < begin || at >= end)
			continue;
		*text = (struct text){.begin = begin, .end = end, .offset = offset};
		text->prot = (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0) |
			     (prot[2] == 'x' ? PROT_EXEC : 0);
		if (path)
			snprintf(text->path, sizeof(text->path), "%.*s",
				 (int)strcspn(line + path, "\n"), line + path);
		r = 0;
		break;
	}
	fclose(maps);
	if (r || !(text->prot & PROT_EXEC) || !(text->prot & PROT_READ))
		return fail(err, -EFAULT, "%p is not code of this process", address);
	return 0;
}

static bool reaches(const void *from, const void *to)
{
	uint64_t a = (uintptr_t)from, b = (uintptr_t)to;

	/* Some slack: operands that moved code refers to lie around the target. */
	return (a > b ? a - b : b - a) < NEAR_REACH - 2 * NEAR_STEP;
}

/*
 * Memory in reach of `target`, by preference below the module: above it grows the heap. Older
 * kernels take MAP_FIXED_NOREPLACE for a hint and answer elsewhere.
 */
static uint8_t *map_near(const uint8_t *target)
{
	uint64_t home = (uintptr_t)target & ~(NEAR_STEP - 1);

	for (uint64_t step = NEAR_STEP; step < NEAR_REACH - 2 * NEAR_STEP; step += NEAR_STEP) {
		for (int side = 0; side < 2; side++) {
			uint64_t at = side ? home + step : home - step;
			void *p;

			if (!side && step > home)
				continue;
			p = mmap((void *)at, NEAR_BYTES, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			if (p == MAP_FAILED)
				continue;
			if (reaches(target, p))
				return p;
			munmap(p, NEAR_BYTES);
		}
	}
	return NULL;
}

static int build(const struct detour_request *req, struct plan *plan, size_t slot,
		 struct near *near, struct detour_error *err)
{
	size_t stub_bytes = (size_t)(detour_stubs_end - detour_stubs) / DETOUR_SLOTS;
	uint64_t stub = (uintptr_t)detour_stubs + slot * stub_bytes;
	int64_t rel;
	int32_t rel32;
	int r;

	plan->near_entry = near->base + near->used;
	plan->moved = plan->near_entry + NEAR_ENTRY;
	near->used += NEAR_PIECE;

	memcpy(plan->near_entry, (uint8_t[]){0xff, 0x25, 0, 0, 0, 0}, 6);
	memcpy(plan->near_entry + 6, &stub, sizeof(stub));
	r = relocate(req->code, req->extent, (uintptr_t)req->target, (uintptr_t)plan->moved,
		     plan->moved, err);
	if (r < 0)
		return r;

	rel = plan->near_entry - (plan->target + JMP_BYTES);
	rel32 = (int32_t)rel;
	if (rel != rel32)
		return fail(err, -ERANGE, "%p is out of reach of %p", req->target,
			    (void *)plan->near_entry);
	plan->jmp[0] = 0xe9;
	memcpy(plan->jmp + 1, &rel32, sizeof(rel32));
	return 0;
}

/*
 * A security module may let code pages become writable and not executable again (SELinux: execmod).
 * Found out on the real pages that would be the end of this process, so try on a private view of
 * the same page first.
 */
static int rehearse(const struct text *text, const uint8_t *target, struct detour_error *err)
{
	uint64_t page = ((uintptr_t)target & ~(uint64_t)(PAGE - 1)) - text->begin + text->offset;
	volatile uint8_t *view;
	int fd, r = 0;

	if (text->path[0] != '/')
		return 0;
	fd = open(text->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -EACCES, "cannot open %s: %s", text->path, strerror(errno));
	view = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)page);
	close(fd);
	if (view == MAP_FAILED)
		return fail(err, -EACCES, "cannot map %s: %s", text->path, strerror(errno));
	if (mprotect((void *)view, PAGE, PROT_READ | PROT_WRITE))
		r = -EACCES;
	if (!r) {
		view[0] = view[0];
		if (mprotect((void *)view, PAGE, PROT_READ | PROT_EXEC))
			r = -EACCES;
	}
	munmap((void *)view, PAGE);
	return r ? fail(err, r,
			"this system does not let a program change its own code (SELinux "
			"execmod or the like)")
		 : 0;
}

/*
 * Replace 5 bytes if they still are `old`, in one step where they do not cross a cache line; no
 * compiler's function entry does.
 */
static bool exchange(uint8_t *at, const uint8_t *old, const uint8_t *new)
{
	uint64_t was, is;
	bool same;

	if (((uintptr_t)at & 63) > 56) {
		same = !memcmp(at, old, JMP_BYTES);
		if (same)
			memcpy(at, new, JMP_BYTES);
		return same;
	}
	memcpy(&was, at, sizeof(was));
	is = was;
	memcpy(&was, old, JMP_BYTES);
	memcpy(&is, new, JMP_BYTES);
	__asm__ volatile("lock cmpxchgq %2, %1"
			 : "=@ccz"(same), "+m"(*(char(*)[8])at), "+r"(is), "+a"(was)
			 :
			 : "memory");
	return same;
}

static int patch(struct plan *plan, const uint8_t *old, const uint8_t *new,
		 struct detour_error *err)
{
	uint64_t begin = (uintptr_t)plan->target & ~(uint64_t)(PAGE - 1);
	uint64_t end = ((uintptr_t)plan->target + JMP_BYTES + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	bool same;

	if (mprotect((void *)begin, end - begin, PROT_READ | PROT_WRITE))
		return fail(err, -EACCES, "cannot make code writable: %s", strerror(errno));
	same = exchange(plan->target, old, new);
	if (mprotect((void *)begin, end - begin, plan->text.prot)) {
		exchange(plan->target, new, old);
		mprotect((void *)begin, end - begin, plan->text.prot);
		return fail(err, -EACCES, "cannot make code executable again: %s", strerror(errno));
	}
	if (!same)
		return fail(err, -EBUSY, "somebody else patched %p meanwhile",
			    (void *)plan->target);
	return 0;
}

static int check(const struct detour_request *reqs, size_t count, size_t i, struct plan *plan,
		 struct detour_error *err)
{
	const struct detour_request *req = &reqs[i];
	const uint8_t *target = req->target;
	int r;

	if (req->extent < JMP_BYTES || req->extent > EXTENT_MAX || !req->code || !target ||
	    !req->replacement || !req->original || req->results > 2)
		return fail(err, -EINVAL, "not a request for a detour");
	for (size_t k = 0; k < count; k++) {
		const uint8_t *other = reqs[k].target;

		if (k != i && target < other + reqs[k].extent && other < target + req->extent)
			return fail(err, -EINVAL, "its bytes are also wanted for %s", reqs[k].name);
	}
	r = find_text(target, &plan->text, err);
	if (r)
		return r;
	if ((uintptr_t)target + req->extent > plan->text.end)
		return fail(err, -EFAULT, "its code ends too early");
	for (uint32_t b = 0; b < req->extent; b++)
		if (target[b] != req->code[b])
			return fail(err, -EBUSY,
				    "its byte %u in memory is %#04x, in the file %#04x: a probe or "
				    "another patch is on it",
				    b, target[b], req->code[b]);
	plan->target = req->target;
	return 0;
}

int detour_can_move(const uint8_t *code, uint32_t extent, uint64_t address,
		    struct detour_error *err)
{
	uint8_t moved[RELOCATE_MAX];
	int r;

	if (extent < JMP_BYTES || extent > EXTENT_MAX)
		return fail(err, -EINVAL, "%u bytes are not an extent", extent);
	/* As near as map_near() would put it first. */
	r = relocate(code, extent, address, address - NEAR_STEP, moved, err);
	return r < 0 ? r : 0;
}

int detour_install(const struct detour_request *reqs, size_t count, struct detour_error *err)
{
	struct near nears[DETOUR_SLOTS] = {0};
	struct plan *plans = NULL;
	size_t near_count = 0;
	char why[sizeof(err->text)];
	size_t i = 0;
	int r;

	if (count > DETOUR_SLOTS - slots_used)
		return fail(err, -ENOSPC, "only %d detours fit into a process", DETOUR_SLOTS);
	plans = calloc(count ? count : 1, sizeof(*plans));
	if (!plans)
		return fail(err, -ENOMEM, "out of memory");
	measure_vector_state();

	for (i = 0; i < count; i++) {
		r = check(reqs, count, i, &plans[i], err);
		if (r)
			goto cleanup;
	}

	for (i = 0; i < count; i++) {
		size_t n = 0;

		while (n < near_count && !reaches(plans[i].target, nears[n].base))
			n++;
		if (n == near_count) {
			nears[n].base = map_near(plans[i].target);
			if (!nears[n].base) {
				r = fail(err, -ENOSPC, "no free memory within 2 GiB of it");
				goto cleanup;
			}
			near_count++;
		}
		r = build(&reqs[i], &plans[i], slots_used + i, &nears[n], err);
		if (r)
			goto cleanup;
	}
	for (size_t n = 0; n < near_count; n++) {
		if (mprotect(nears[n].base, NEAR_BYTES, PROT_READ | PROT_EXEC)) {
			i = 0;
			r = fail(err, -EACCES,
				 "this system does not let a program make new code (%s)",
				 strerror(errno));
			goto cleanup;
		}
	}
	for (i = 0; i < count; i++) {
		if (i && plans[i].text.begin == plans[i - 1].text.begin)
			continue;
		r = rehearse(&plans[i].text, plans[i].target, err);
		if (r)
			goto cleanup;
	}

	for (i = 0; i < count; i++) {
		static const uint32_t never;

		detour_slots[slots_used + i] = (struct detour_slot){
			.replacement = reqs[i].replacement,
			.results = reqs[i].results,
			.bypass = reqs[i].bypass ? reqs[i].bypass : &never,
			.original = plans[i].moved,
		};
		*reqs[i].original = plans[i].moved;
	}
	for (i = 0; i < count; i++) {
		r = patch(&plans[i], reqs[i].code, plans[i].jmp, err);
		if (r)
			goto cleanup;
		plans[i].patched = true;
	}
	slots_used += count;
	r = 0;

cleanup:
	if (r) {
		struct detour_error ignored;

		snprintf(why, sizeof(why), "%s", err->text);
		snprintf(err->text, sizeof(err->text), "%.64s: %.180s",
			 i < count ? reqs[i].name : "", why);
		for (size_t k = 0; k < count; k++)
			if (plans[k].patched)
				patch(&plans[k], plans[k].jmp, reqs[k].code, &ignored);
		for (size_t n = 0; n < near_count; n++)
			munmap(nears[n].base, NEAR_BYTES);
	}
	free(plans);
	return r;
}

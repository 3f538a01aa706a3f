/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers share. Each is a libFuzzer program that reads its input as a list of changes to
 * something sound: of a file of bytes at random a reader sees no more than the first check. So they
 * need no corpus.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Short stacks of where things were allocated: twice as fast. One file of a program includes this.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "malloc_context_size=3";
}

/* What is left of the input. */
struct fuzz {
	const uint8_t *data;
	size_t size;
};

/* The next bytes; zeros behind the end. */
static inline void fuzz_take(struct fuzz *f, void *to, size_t size)
{
	size_t have = MIN(size, f->size);

	memset(to, 0, size);
	memcpy(to, f->data, have);
	f->data += have;
	f->size -= have;
}

static inline uint8_t fuzz_u8(struct fuzz *f)
{
	uint8_t value;

	fuzz_take(f, &value, sizeof(value));
	return value;
}

static inline uint32_t fuzz_u32(struct fuzz *f)
{
	uint32_t value;

	fuzz_take(f, &value, sizeof(value));
	return value;
}

/* Numbers that break things, more often than chance would find them. */
static inline uint64_t fuzz_number(struct fuzz *f)
{
	static const uint64_t odd[] = {0,	   1,	       -1ull,
				       1ull << 63, INT64_MAX,  UINT32_MAX,
				       INT32_MAX,  1ull << 32, 0x7fffffffffff0000,
				       16,	   64,	       4096};
	uint8_t kind = fuzz_u8(f);
	uint64_t value;

	if (kind < 128)
		return kind;
	if (kind < 192)
		return odd[kind % G_N_ELEMENTS(odd)];
	fuzz_take(f, &value, sizeof(value));
	return value;
}

/* A private folder in memory, if there is such a place: its maker removes it. */
static inline char *fuzz_folder(void)
{
	char *folder = g_strdup("/dev/shm/bqlstat-fuzz-XXXXXX");

	if (!g_mkdtemp(folder)) {
		g_free(folder);
		folder = g_dir_make_tmp("bqlstat-fuzz-XXXXXX", NULL);
	}
	g_assert_nonnull(folder);
	return folder;
}

#endif

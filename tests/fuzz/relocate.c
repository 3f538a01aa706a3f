/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions of any bytes: what a detour would take of them is moved, and both are decoded and
 * compared. Beside it, whatever is taken ends where an instruction does.
 */
#include "runtime/detour/relocate.h"
#include "runtime/seams/seams.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/relocated.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint64_t from = 0x555555554000;
	const char *refusal = NULL;
	struct fuzz f = {data, size};
	uint32_t need = 5 + fuzz_u8(&f) % 60, extent;
	uint64_t to = from + (int32_t)fuzz_u32(&f);
	uint8_t moved[RELOCATE_MAX];
	struct detour_error err = {};
	int n;

	/*
	 * A copy of exactly its size, so that reading behind it is seen. Of a longer one something
	 * would not decode, and all would be refused for that.
	 */
	f.size = MIN(f.size, need + 8);
	g_autofree uint8_t *code = g_memdup2(f.data, f.size);

	if (!code)
		return 0;
	extent = seam_extent(code, f.size, from, need, &refusal);
	if (!extent) {
		g_assert_nonnull(refusal);
		return 0;
	}
	g_assert_cmpuint(extent, >=, need);
	g_assert_cmpuint(extent, <=, f.size);
	n = relocate(code, extent, from, to, moved, &err);
	if (n < 0) {
		g_assert_true(*err.text);
		return 0;
	}
	g_assert_cmpint(n, <=, RELOCATE_MAX);
	compare(code, extent, from, moved, n, to);
	return 0;
}

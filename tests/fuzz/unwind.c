/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stacks that are not what they seem, of binaries whose unwind tables lie: mapped into this very
 * process, registers and stack made up of the input. The walk ends, and touches only the copy.
 */
#include "analyzers/stacks/stacks.h"
#include "tests/fuzz/binaries.h"

#define AT ((void *)0x100000000)

static size_t page_up(size_t size)
{
	return (size + 4095) & ~4095UL;
}

/* Mostly what could be a return address; else a place on the stack, or anything. */
static uint64_t word(struct fuzz *f, uint64_t sp, size_t mapped)
{
	uint8_t kind = fuzz_u8(f);

	if (kind < 160)
		return (uint64_t)AT + fuzz_u32(f) % mapped;
	if (kind < 208)
		return sp + fuzz_u8(f) * 8;
	return fuzz_number(f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	binaries_read();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {data, size};
	size_t length, mapped;
	g_autofree uint8_t *bytes = binaries_changed(&f, &length);
	/* Exactly as much as is said to be there, so that reading behind it is seen. */
	uint32_t used = fuzz_u32(&f) % 2048;
	struct abi_stack *stack = g_malloc0(offsetof(struct abi_stack, bytes) + used);
	struct unwound frames[STACKS_DEPTH];
	struct unwinder *u;
	unsigned count;
	bool whole;
	int fd;

	mapped = page_up(length + 1);
	fd = binaries_file(bytes, length);
	if (mmap(AT, mapped, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) != AT)
		abort();
	stack->size = used;
	stack->regs[ABI_REG_SP] = fuzz_u8(&f) < 250 ? 0x7ffe00000000 : fuzz_number(&f);
	for (int i = 0; i < ABI_REGS; i++)
		if (i != ABI_REG_SP)
			stack->regs[i] = word(&f, stack->regs[ABI_REG_SP], mapped);
	stack->regs[ABI_REG_IP] = (uint64_t)AT + fuzz_u32(&f) % mapped;
	for (uint32_t at = 0; at + 8 <= used; at += 8) {
		uint64_t value = word(&f, stack->regs[ABI_REG_SP], mapped);

		memcpy(stack->bytes + at, &value, sizeof(value));
	}
	u = unwinder_new(getpid());
	count = unwinder_walk(u, stack, frames, &whole);
	g_assert_cmpuint(count, <=, STACKS_DEPTH);
	for (unsigned i = 0; i < count; i++) {
		g_assert_nonnull(frames[i].module);
		g_assert_nonnull(frames[i].symbol);
	}
	unwinder_free(u);
	munmap(AT, mapped);
	close(fd);
	g_free(stack);
	return 0;
}

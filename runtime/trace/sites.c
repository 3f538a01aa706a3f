/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The USDT sites, one place for each event and each kind of nop, and the way to LTTng.
 *
 * The note's format: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
 *
 * A 1-byte nop is what every kernel emulates. Linux 6.18 turns a probed 5-byte one into a call,
 * which is faster, but pushes onto the stack: this file must be built with -mno-red-zone. Older
 * kernels single-step it, 9 us a hit. So each event has a site of each kind under the same name;
 * tracers attach to both, and only the one that this kernel deserves is ever passed.
 */
#include <stdio.h>
#include <sys/utsname.h>

#include "runtime/trace/trace.h"

#define TEXT(x)	 TEXT_(x)
#define TEXT_(x) #x

#define NOP1 "0x90"
#define NOP5 "0x0f, 0x1f, 0x44, 0x00, 0x00"

/* "8@%rdi": bytes, negative when signed, and the register as the compiler names it. */
#define FORMAT_string	 "8@%["
#define FORMAT_u32	 "4@%k["
#define FORMAT_i32	 "-4@%k["
#define FORMAT_u64	 "8@%["
#define FORMAT_i64	 "-8@%["
#define FORMAT(type, f)	 FORMAT_##type #f "]"
#define OPERAND(type, f) [f] "r"(f)

/* clang-format off */
#define SITE(name, nop)                                                                            \
	__asm__ volatile("990:	.byte " nop "\n"                                                   \
			 ".pushsection .note.stapsdt, \"\", \"note\"\n"                            \
			 "	.balign 4\n"                                                       \
			 "	.4byte 992f - 991f, 994f - 993f, 3\n"                              \
			 "991:	.asciz \"stapsdt\"\n"                                              \
			 "992:	.balign 4\n"                                                       \
			 "993:	.8byte 990b, _.stapsdt.base, trace_semaphore_" #name "\n"          \
			 "	.asciz \"" TEXT(TRACE_PROVIDER) "\"\n"                             \
			 "	.asciz \"" #name "\"\n"                                            \
			 "	.asciz \"" TRACE_##name(FORMAT, " ") "\"\n"                        \
			 "994:	.balign 4\n"                                                       \
			 ".popsection\n"                                                           \
			 :                                                                         \
			 : TRACE_##name(OPERAND, TRACE_COMMA)                                      \
			 : "memory")
/* clang-format on */

/* Where the linker put this section tells tracers how far a file was moved by prelink. */
__asm__(".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
	".weak _.stapsdt.base\n"
	".hidden _.stapsdt.base\n"
	"_.stapsdt.base: .space 1\n"
	".size _.stapsdt.base, 1\n"
	".popsection\n");

#define ONE(name)                                                                                  \
	volatile uint16_t trace_semaphore_##name __attribute__((section(".probes"), used));
TRACE_EVENTS(ONE)
#undef ONE

static const int never;

const int *trace_enabled[TRACE_IDS] = {
#define ONE(name) [TRACE_ID_##name] = &never,
	TRACE_EVENTS(ONE)
#undef ONE
};

struct trace_sink trace_sink;
static bool nop5;

__attribute__((constructor)) static void choose_nop(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname system;

	if (!uname(&system) && sscanf(system.release, "%u.%u", &major, &minor) == 2)
		nop5 = major > 6 || (major == 6 && minor >= 18);
}

#define ONE(name)                                                                                  \
	__attribute__((noinline)) void trace_fire_##name(TRACE_##name(TRACE_PARAM, TRACE_COMMA))   \
	{                                                                                          \
		if (*trace_enabled[TRACE_ID_##name])                                               \
			trace_sink.name(TRACE_##name(TRACE_NAME, TRACE_COMMA));                    \
		if (nop5)                                                                          \
			SITE(name, NOP5);                                                          \
		else                                                                               \
			SITE(name, NOP1);                                                          \
	}
TRACE_EVENTS(ONE)

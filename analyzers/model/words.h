/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations and call sites in words, the same wherever they are read.
 */
#ifndef MODEL_WORDS_H
#define MODEL_WORDS_H

#include "analyzers/model/run.h"

/* "0", "850 ns", "12.3 us", "1.20 s": three digits, at most 7 characters and a NUL. */
#define WORDS_DURATION 16
const char *words_duration(char text[WORDS_DURATION], uint64_t ns);
/* A source file without the leading "../" of QEMU's build folder. */
const char *words_file(const char *file);
/* A site's "file:line", as reports name it; g_free(). */
char *words_site(const struct run *run, unsigned site);

#endif

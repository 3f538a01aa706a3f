/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which runs are A and which are B: of two files, or of two labels in one.
 */
#ifndef SIDES_H
#define SIDES_H

#include "analyzers/compare/compare.h"

/*
 * `b` NULL: one file whose labels tell the sides. A label NULL: the file's only one, or, of one
 * file with two labels, the one recorded first is A. 0 and both groups (group_free()), or an exit
 * code after a sentence.
 */
int sides_load(const char *a, const char *b, const char *label_a, const char *label_b,
	       struct group **group_a, struct group **group_b);

#endif

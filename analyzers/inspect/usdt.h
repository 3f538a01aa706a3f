/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The USDT probes that a binary already carries: QEMUs built with the dtrace trace backend have
 * some thousands, Debian's have none.
 */
#ifndef USDT_H
#define USDT_H

#include <glib.h>

/*
 * "provider:name" of each in the ELF file at `path` (char *, owned by the array), in the file's
 * order; a name stands there once for each place where it is passed. Empty when there are none, and
 * what does not fit into the file's sections is left out. NULL: the file cannot be read as ELF.
 */
GPtrArray *usdt_list(const char *path);

#endif

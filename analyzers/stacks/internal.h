/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the unwinder: a mapped file's symbols.
 */
#ifndef STACKS_INTERNAL_H
#define STACKS_INTERNAL_H

#include <elfutils/libdwfl.h>
#include <glib.h>

#include "analyzers/stacks/stacks.h"

struct symbols;

/* Functions of a module, from its .symtab, a separate debug file's, or its .dynsym. */
struct symbols *symbols_new(Dwfl_Module *module);
void symbols_free(struct symbols *s);
/* The nearest function at or before an address of the process; NULL: none. */
const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset, bool *inside);

/* For Dwfl_Callbacks: on this machine only, never over the network. */
int symbols_find_debug_file(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
			    const char *file_name, const char *debuglink, GElf_Word crc,
			    char **debug_file_name);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions of a mapped file by address. libdw's own look-up goes through all symbols each time
 * and does not tell how far beyond a symbol an address lies.
 */
#include <stdlib.h>

#include "analyzers/stacks/internal.h"

struct symbol {
	uint64_t address, size;
	const char *name; /* libdw's */
};

struct symbols {
	GArray *at; /* struct symbol, by address */
};

static gint by_address(gconstpointer a, gconstpointer b)
{
	const struct symbol *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	/* Of aliases the widest comes last, which is the one that is found. */
	return x->size < y->size ? -1 : x->size > y->size;
}

struct symbols *symbols_new(Dwfl_Module *module)
{
	struct symbols *s = g_new0(struct symbols, 1);
	int count = dwfl_module_getsymtab(module);

	s->at = g_array_new(FALSE, FALSE, sizeof(struct symbol));
	for (int i = 1; i < count; i++) {
		GElf_Sym sym;
		GElf_Addr address;
		GElf_Word section;
		const char *name =
			dwfl_module_getsym_info(module, i, &sym, &address, &section, NULL, NULL);
		int type = GELF_ST_TYPE(sym.st_info);

		if (!name || !*name || section == SHN_UNDEF ||
		    (type != STT_FUNC && type != STT_GNU_IFUNC))
			continue;
		g_array_append_vals(s->at, &(struct symbol){address, sym.st_size, name}, 1);
	}
	g_array_sort(s->at, by_address);
	return s;
}

void symbols_free(struct symbols *s)
{
	g_array_unref(s->at);
	g_free(s);
}

const char *symbols_find(const struct symbols *s, uint64_t address, uint64_t *offset, bool *inside)
{
	const struct symbol *sym;
	unsigned low = 0, high = s->at->len;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (g_array_index(s->at, struct symbol, middle).address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;
	sym = &g_array_index(s->at, struct symbol, low - 1);
	*offset = address - sym->address;
	*inside = *offset < sym->size;
	return sym->name;
}

int symbols_find_debug_file(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
			    const char *file_name, const char *debuglink, GElf_Word crc,
			    char **debug_file_name)
{
	g_autofree char *servers = g_strdup(g_getenv("DEBUGINFOD_URLS"));
	int fd;

	/* A recording must not wait for a server. */
	g_unsetenv("DEBUGINFOD_URLS");
	fd = dwfl_standard_find_debuginfo(module, userdata, name, base, file_name, debuglink, crc,
					  debug_file_name);
	if (servers)
		g_setenv("DEBUGINFOD_URLS", servers, TRUE);
	return fd;
}

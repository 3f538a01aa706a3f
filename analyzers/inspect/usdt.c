/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading .note.stapsdt: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <gelf.h>

#include "analyzers/inspect/usdt.h"

#define SECTION "stapsdt"
#define TYPE	3
/* Where the probe stands, the prelink base and the semaphore; then provider, name, arguments. */
#define ADDRESSES (3 * 8)

static const char *string_within(const char **at, const char *end)
{
	const char *text = *at, *nul = *at < end ? memchr(*at, 0, end - *at) : NULL;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return text;
}

static void read_note(GPtrArray *list, const char *desc, size_t size)
{
	const char *at = desc + ADDRESSES, *end = desc + size, *provider, *name;

	if (size <= ADDRESSES)
		return;
	provider = string_within(&at, end);
	name = provider ? string_within(&at, end) : NULL;
	if (name)
		g_ptr_array_add(list, g_strdup_printf("%s:%s", provider, name));
}

static void read_notes(GPtrArray *list, Elf_Data *data)
{
	size_t at = 0, name, desc;
	GElf_Nhdr note;

	while (at < data->d_size && (at = gelf_getnote(data, at, &note, &name, &desc)) > 0) {
		const char *bytes = data->d_buf;

		if (note.n_type == TYPE && note.n_namesz == sizeof(SECTION) &&
		    !memcmp(bytes + name, SECTION, sizeof(SECTION)))
			read_note(list, bytes + desc, note.n_descsz);
	}
}

GPtrArray *usdt_list(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	GPtrArray *list = NULL;
	Elf_Scn *section = NULL;
	Elf *elf = NULL;

	elf_version(EV_CURRENT);
	if (fd >= 0)
		elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf || elf_kind(elf) != ELF_K_ELF || gelf_getclass(elf) != ELFCLASS64)
		goto cleanup;
	list = g_ptr_array_new_with_free_func(g_free);
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *data;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_NOTE)
			continue;
		data = elf_getdata(section, NULL);
		if (data && data->d_buf)
			read_notes(list, data);
	}

cleanup:
	elf_end(elf);
	if (fd >= 0)
		close(fd);
	return list;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding the runtime's status object in a process: the library among its mappings, the symbol in
 * that very file, the bytes in memory.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gelf.h>
#include <glib.h>

#include "analyzers/inspect/under.h"

/* A library's first mapping. */
struct library {
	uint64_t start, end, inode;
	char path[4096];
};

/* The first line of the maps whose file has this name, " (deleted)" or not. */
static bool find_library(char **lines, const char *name, struct library *l)
{
	for (; *lines; lines++) {
		g_autofree char *base = NULL;
		int at = 0;

		if (sscanf(*lines, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %" SCNu64 " %n", &l->start,
			   &l->end, &l->inode, &at) != 3 ||
		    !at || (*lines)[at] != '/')
			continue;
		g_strlcpy(l->path, *lines + at, sizeof(l->path));
		if (g_str_has_suffix(l->path, " (deleted)"))
			l->path[strlen(l->path) - strlen(" (deleted)")] = 0;
		base = g_path_get_basename(l->path);
		if (!strcmp(base, name))
			return true;
	}
	return false;
}

/* The mapped file itself where we may open it so; else by its name, if that is still the file. */
static int open_library(pid_t pid, const struct library *l)
{
	g_autofree char *exact =
		g_strdup_printf("/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, l->start, l->end);
	g_autofree char *named = g_strdup_printf("/proc/%d/root%s", pid, l->path);
	int fd = open(exact, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0)
		return fd;
	fd = open(named, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) || st.st_ino != l->inode)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The symbol's address in the file; 0: it has none. */
static uint64_t find_symbol(Elf *elf, const char *name, uint64_t size)
{
	Elf_Scn *section = NULL;

	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *data;
		GElf_Sym symbol;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (int i = 0; data && gelf_getsym(data, i, &symbol); i++) {
			const char *is = elf_strptr(elf, header.sh_link, symbol.st_name);

			if (is && !strcmp(is, name) && symbol.st_size >= size)
				return symbol.st_value;
		}
	}
	return 0;
}

static uint64_t status_address(int fd, const struct library *l)
{
	uint64_t address = 0;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (elf && elf_kind(elf) == ELF_K_ELF)
		address = find_symbol(elf, "loadvm_status", sizeof(struct loadvm_status));
	elf_end(elf);
	/* A shared library's first segment begins at the file's start and at address 0. */
	return address ? l->start + address : 0;
}

enum under under_loadvm(pid_t pid, int mem_fd, struct loadvm_status *status)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", pid);
	g_autofree char *maps = NULL;
	g_auto(GStrv) lines = NULL;
	struct library library;
	uint64_t address = 0;
	int fd;

	if (!g_file_get_contents(path, &maps, NULL, NULL))
		return UNDER_UNSEEN;
	lines = g_strsplit(maps, "\n", -1);
	if (!find_library(lines, "libloadvm-core.so", &library))
		return find_library(lines, "libloadvm.so", &library) ? UNDER_GATE : UNDER_NOTHING;
	fd = open_library(pid, &library);
	if (fd >= 0) {
		address = status_address(fd, &library);
		close(fd);
	}
	if (fd < 0 || mem_fd < 0)
		return UNDER_UNSEEN;
	if (!address || pread(mem_fd, status, sizeof(*status), address) != sizeof(*status) ||
	    status->version != LOADVM_STATUS_VERSION)
		return UNDER_OTHER;
	status->policy[sizeof(status->policy) - 1] = 0;
	status->release[sizeof(status->release) - 1] = 0;
	return UNDER_LOADVM;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading another process's memory through /proc.
 */
#include <ctype.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probes/private.h"

bool process_read(int mem_fd, uint64_t address, void *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(mem_fd, (char *)buf + done, size - done, address + done);

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

bool process_read_string(int mem_fd, uint64_t address, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	/* Up to the end of what can be read: the string may be the last thing before unmapped
	 * memory. */
	while (len < size - 1) {
		n = pread(mem_fd, buf + len, size - 1 - len, address + len);
		if (n <= 0)
			break;
		if (memchr(buf + len, 0, n)) {
			for (char *c = buf; *c; c++)
				if (!isprint((unsigned char)*c))
					return false;
			return *buf != 0;
		}
		len += n;
	}
	return false;
}

struct place {
	uintptr_t address;
	uint64_t offset;
	bool found;
};

static int place_in(struct dl_phdr_info *info, size_t size, void *opaque)
{
	struct place *place = opaque;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type != PT_LOAD || place->address < start ||
		    place->address >= start + p->p_filesz)
			continue;
		place->offset = place->address - start + p->p_offset;
		place->found = true;
	}
	return 1; /* the program itself comes first, and holds our code */
}

bool own_offset(void (*function)(void), uint64_t *offset)
{
	struct place place = {.address = (uintptr_t)function};

	dl_iterate_phdr(place_in, &place);
	*offset = place.offset;
	return place.found;
}

pid_t process_debugger(pid_t pid)
{
	char path[64], line[128];
	pid_t tracer = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "TracerPid: %d", &tracer) == 1)
			break;
	fclose(f);
	return tracer;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading another process's memory through /proc.
 */
#include <ctype.h>
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

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The binary that a running process really executes, and where it is loaded: all from /proc, so
 * that containers, replaced files and an explicit ld.so do not mislead.
 */
#include "runtime/seams/map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One mapping of a file, as a line of /proc/PID/maps says it. */
struct mapping {
	uint64_t start, end, offset, inode;
	unsigned int major, minor;
	bool exec;
	char path[512];
};

static bool parse_mapping(const char *line, struct mapping *m)
{
	char perms[5];
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &m->start,
		   &m->end, perms, &m->offset, &m->major, &m->minor, &m->inode, &at) < 7 ||
	    !at || !m->inode)
		return false;
	m->exec = perms[2] == 'x';
	snprintf(m->path, sizeof(m->path), "%.*s", (int)strcspn(line + at, "\n"), line + at);
	return true;
}

static bool same_file(const struct mapping *a, const struct mapping *b)
{
	return a->inode == b->inode && a->major == b->major && a->minor == b->minor;
}

/* Mappings of files, in order of address. */
static int read_mappings(pid_t pid, struct mapping **mappings, size_t *count,
			 struct seam_error *err)
{
	struct mapping m, *grown;
	char path[64], *line = NULL;
	size_t length = 0;
	FILE *file;
	int ret = 0;

	*mappings = NULL;
	*count = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	file = fopen(path, "re");
	if (!file) {
		if (errno == ENOENT)
			return seam_fail(err, -ESRCH, "there is no process %d", pid);
		ret = -errno;
		return seam_fail(err, ret,
				 "cannot look into process %d (%s): run as root or as "
				 "its user",
				 pid, strerror(-ret));
	}
	while (getline(&line, &length, file) > 0) {
		if (!parse_mapping(line, &m))
			continue;
		grown = realloc(*mappings, (*count + 1) * sizeof(m));
		if (!grown) {
			ret = seam_fail(err, -ENOMEM, "no memory for the mappings of %d", pid);
			break;
		}
		*mappings = grown;
		grown[(*count)++] = m;
	}
	free(line);
	fclose(file);
	return ret;
}

/* Is `path`, opened now, the file that is mapped? An overlay may show another device number. */
static bool is_mapped_file(const char *path, const struct mapping *m)
{
	struct stat st;

	return !stat(path, &st) && st.st_ino == m->inode;
}

/* Does one of them hold the file's byte at `offset` at `address`? */
static bool holds(const struct mapping *mappings, size_t count, const struct mapping *file,
		  uint64_t address, uint64_t offset)
{
	for (size_t i = 0; i < count; i++) {
		const struct mapping *m = &mappings[i];

		if (same_file(m, file) && address >= m->start && address < m->end &&
		    address - m->start + m->offset == offset)
			return true;
	}
	return false;
}

/*
 * The bias that the executable mapping `m` tells of, if the code is all there. A process may map
 * parts of its own file once more: loadvm does for a moment while it patches.
 */
static bool mapping_bias(const struct seam_map *map, const struct mapping *mappings, size_t count,
			 const struct mapping *m, uint64_t *bias)
{
	for (unsigned int i = 0; i < map->image.n_segments; i++) {
		const struct image_segment *s = &map->image.segments[i];
		uint64_t begin = m->start - m->offset + s->offset;

		if (!s->exec || !s->file_bytes || m->offset + (m->end - m->start) <= s->offset ||
		    m->offset >= s->offset + s->file_bytes)
			continue;
		*bias = begin - s->vaddr;
		return holds(mappings, count, m, begin, s->offset) &&
		       holds(mappings, count, m, begin + s->file_bytes - 1,
			     s->offset + s->file_bytes - 1);
	}
	return false;
}

static int open_door(pid_t pid, const struct mapping *door, struct seam_error *err)
{
	char path[640];
	struct stat st;
	int fd, ret;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, door->start,
		 door->end);
	fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/root%s", pid, door->path);
	fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		return seam_fail(err, ret, "cannot open %s: %s", path, strerror(-ret));
	}
	/* An overlay may show another device number. */
	if (fstat(fd, &st) || st.st_ino != door->inode) {
		close(fd);
		return seam_fail(err, -ENOENT, "%s is no longer the file that process %d runs",
				 door->path, pid);
	}
	return fd;
}

/*
 * Open the mapped file, by the name that is surest: /proc/PID/map_files is the very inode, but
 * wants a capability; the path in the process's own root may have been replaced, so it is checked.
 * The map keeps it open, and that is its path: a mapping loses its name when it is split (by a
 * detour), or goes (loadvm maps the file for as long as it reads it).
 */
static int open_mapped(pid_t pid, const struct mapping *door, struct seam_map **map,
		       struct seam_error *err)
{
	int ret, fd = open_door(pid, door, err);
	char path[64];

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	ret = seam_map_open(path, map, err);
	if (ret)
		close(fd);
	else
		(*map)->fd = fd;
	return ret;
}

/* The load bias, from whichever executable mapping of `file` holds its code. */
static bool find_load_bias(const struct seam_map *map, const struct mapping *mappings, size_t count,
			   const struct mapping *file, uint64_t *bias)
{
	for (size_t i = 0; i < count; i++) {
		if (mappings[i].exec && same_file(&mappings[i], file) &&
		    mapping_bias(map, mappings, count, &mappings[i], bias))
			return true;
	}
	return false;
}

static bool first_of_file(const struct mapping *mappings, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (same_file(&mappings[j], &mappings[i]))
			return false;
	}
	return true;
}

static bool has_code(const struct mapping *mappings, size_t count, const struct mapping *file)
{
	for (size_t i = 0; i < count; i++) {
		if (mappings[i].exec && same_file(&mappings[i], file))
			return true;
	}
	return false;
}

/* /proc/PID/exe: succeeds for nearly every process, and follows a replaced or deleted file. */
static int open_executable(pid_t pid, const struct mapping *mappings, size_t count,
			   struct seam_map **map, uint64_t *bias, struct seam_error *err)
{
	char path[64], name[512];
	ssize_t length;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	ret = seam_map_open(path, map, err);
	if (ret)
		return ret;
	length = readlink(path, name, sizeof(name) - 1);
	name[length > 0 ? length : 0] = '\0';
	for (size_t i = 0; i < count; i++) {
		if (mappings[i].exec && !strcmp(mappings[i].path, name) &&
		    is_mapped_file(path, &mappings[i]) &&
		    mapping_bias(*map, mappings, count, &mappings[i], bias))
			return 0;
	}
	seam_map_free(*map);
	*map = NULL;
	return seam_fail(err, -ENOTSUP, "process %d does not map its own executable", pid);
}

int seam_map_open_pid(pid_t pid, struct seam_map **map, uint64_t *bias, struct seam_error *err)
{
	struct mapping *mappings = NULL;
	struct seam_error ignored;
	uint64_t found = 0;
	size_t count = 0;
	int ret;

	*map = NULL;
	if (pid <= 0)
		return seam_fail(err, -ESRCH, "%d is not a process id", pid);
	ret = read_mappings(pid, &mappings, &count, err);
	if (ret)
		goto cleanup;
	if (!count) {
		/* Neither has memory of its own: the file is there, and empty. */
		ret = seam_fail(err, -ESRCH, "process %d has exited, or is a kernel thread", pid);
		goto cleanup;
	}
	ret = open_executable(pid, mappings, count, map, &found, err);
	for (size_t i = 0; ret == -ENOTSUP && i < count; i++) {
		if (!first_of_file(mappings, i) || !has_code(mappings, count, &mappings[i]) ||
		    open_mapped(pid, &mappings[i], map, NULL))
			continue;
		if (find_load_bias(*map, mappings, count, &mappings[i], &found)) {
			ret = 0;
		} else {
			seam_map_free(*map);
			*map = NULL;
		}
	}
	if (ret == -ENOTSUP && err) {
		/* The executable's own reason: a QEMU of an unknown build must hear which part is.
		 */
		ignored = *err;
		seam_fail(err, ret, "process %d cannot be traced: %s", pid, ignored.text);
	}
	if (!ret && bias)
		*bias = found;
cleanup:
	free(mappings);
	return ret;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that end beyond their file: https://diamon.org/ctf/ for metadata's packets, LTTng's
 * lttng-index.h for the index beside each stream.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/ctf/whole.h"

#define METADATA_MAGIC	0x75d11d57
#define METADATA_HEADER 37 /* bytes, without padding */
#define INDEX_MAGIC	0xc1f1dcc1

/* Of lttng-index.h, big-endian. */
struct index_header {
	uint32_t magic, major, minor, entry_bytes;
};

struct index_entry {
	uint64_t offset, packet_bits;
};

static int fail(struct store_error *err, const char *path, const char *what)
{
	g_snprintf(err->text, sizeof(err->text), "%s is damaged: %s", path, what);
	return -EIO;
}

/* Metadata is packets of text, or text. */
static int check_metadata(const char *trace, struct store_error *err)
{
	g_autofree char *path = g_build_filename(trace, "metadata", NULL);
	g_autofree char *text = NULL;
	uint32_t magic = 0, content, packet;
	bool swapped;
	gsize size;

	if (!g_file_get_contents(path, &text, &size, NULL))
		return fail(err, path, "it cannot be read");
	if (size >= sizeof(magic))
		memcpy(&magic, text, sizeof(magic));
	swapped = magic == GUINT32_SWAP_LE_BE_CONSTANT(METADATA_MAGIC);
	if (magic != METADATA_MAGIC && !swapped)
		return g_str_has_prefix(text, "/* CTF") ? 0
							: fail(err, path, "it is no CTF metadata");
	for (gsize at = 0; at < size; at += packet / 8) {
		if (size - at < METADATA_HEADER)
			return fail(err, path, "it ends in the middle of a packet");
		memcpy(&magic, text + at, sizeof(magic));
		memcpy(&content, text + at + 24, sizeof(content));
		memcpy(&packet, text + at + 28, sizeof(packet));
		if (swapped) {
			magic = GUINT32_SWAP_LE_BE(magic);
			content = GUINT32_SWAP_LE_BE(content);
			packet = GUINT32_SWAP_LE_BE(packet);
		}
		if (magic != METADATA_MAGIC || content < METADATA_HEADER * 8 || content > packet ||
		    packet % 8)
			return fail(err, path, "one of its packets makes no sense");
		if (packet / 8 > size - at)
			return fail(err, path, "it ends in the middle of a packet");
	}
	return 0;
}

/* Up to where the packets of a stream are whole, by its index. -1: there is no index to tell. */
static int64_t whole_bytes(const char *trace, const char *stream, int64_t size)
{
	g_autofree char *file = g_strdup_printf("%s.idx", stream);
	g_autofree char *path = g_build_filename(trace, "index", file, NULL);
	g_autofree char *bytes = NULL;
	struct index_header header;
	struct index_entry entry;
	int64_t end = 0;
	gsize length;

	if (!g_file_get_contents(path, &bytes, &length, NULL) || length < sizeof(header))
		return -1;
	memcpy(&header, bytes, sizeof(header));
	header.entry_bytes = GUINT32_FROM_BE(header.entry_bytes);
	if (GUINT32_FROM_BE(header.magic) != INDEX_MAGIC || header.entry_bytes < sizeof(entry))
		return -1;
	for (gsize at = sizeof(header); at + header.entry_bytes <= length;
	     at += header.entry_bytes) {
		memcpy(&entry, bytes + at, sizeof(entry));
		if (GUINT64_FROM_BE(entry.offset) != (uint64_t)end ||
		    GUINT64_FROM_BE(entry.packet_bits) / 8 > (uint64_t)(size - end))
			return end;
		end += GUINT64_FROM_BE(entry.packet_bits) / 8;
	}
	return end;
}

static bool copy(const char *from, const char *to, int64_t bytes)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n = 1;

	while (in >= 0 && out >= 0 && bytes > 0 && n > 0) {
		n = copy_file_range(in, NULL, out, NULL, bytes, 0);
		bytes -= MAX(n, 0);
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return !bytes;
}

static void remove_folder(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, name, NULL);

		unlink(file);
	}
	rmdir(path);
}

/* The same trace, with the streams that are cut short up to their last whole packet. */
static bool make_whole(const char *trace, struct ctf_whole *whole)
{
	g_autofree char *absolute = g_canonicalize_filename(trace, NULL);
	g_autoptr(GDir) dir = g_dir_open(trace, 0, NULL);
	const char *name;
	bool ok = dir;

	whole->made = ok ? g_dir_make_tmp("bqlstat-XXXXXX", NULL) : NULL;
	while (whole->made && ok && (name = g_dir_read_name(dir))) {
		g_autofree char *from = g_build_filename(absolute, name, NULL);
		g_autofree char *to = g_build_filename(whole->made, name, NULL);
		struct stat st;
		int64_t bytes;

		if (stat(from, &st) || !S_ISREG(st.st_mode))
			continue;
		bytes = strcmp(name, "metadata") ? whole_bytes(trace, name, st.st_size) : -1;
		if (bytes < 0 || bytes == st.st_size)
			ok = !symlink(from, to);
		else if (bytes)
			ok = copy(from, to, bytes);
	}
	return whole->made && ok;
}

int ctf_whole(const char *trace, struct ctf_whole *whole, struct store_error *err)
{
	g_autoptr(GDir) dir = g_dir_open(trace, 0, NULL);
	uint64_t missing = 0, all = 0;
	const char *name;
	int ret;

	*whole = (struct ctf_whole){.path = g_strdup(trace)};
	ret = check_metadata(trace, err);
	if (ret)
		return ret;
	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(trace, name, NULL);
		struct stat st;
		int64_t bytes;

		if (!strcmp(name, "metadata") || stat(path, &st) || !S_ISREG(st.st_mode))
			continue;
		bytes = whole_bytes(trace, name, st.st_size);
		all += st.st_size;
		if (bytes < 0 || bytes == st.st_size)
			continue;
		missing += st.st_size - bytes;
		g_snprintf(whole->damage, sizeof(whole->damage),
			   "%s and perhaps others end in the middle of a packet", name);
	}
	if (!*whole->damage)
		return 0;
	g_snprintf(whole->damage + strlen(whole->damage),
		   sizeof(whole->damage) - strlen(whole->damage),
		   ": the last %llu of %llu bytes are not read", (unsigned long long)missing,
		   (unsigned long long)all);
	if (!make_whole(trace, whole))
		return fail(err, trace, "and what is whole of it could not be copied");
	g_free(whole->path);
	whole->path = g_strdup(whole->made);
	return 0;
}

void ctf_whole_clear(struct ctf_whole *whole)
{
	if (whole->made)
		remove_folder(whole->made);
	g_free(whole->made);
	g_free(whole->path);
}

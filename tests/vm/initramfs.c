/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The initial RAM disk of a test VM: a cpio archive ("newc", see the kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst).
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>

#include "tests/vm/vm.h"

struct archive {
	GByteArray *bytes;
	char *kernel;
	GHashTable *found; /* a module's name -> its file */
	GHashTable *built_in;
	GHashTable *packed;
	unsigned files;
	char *why;
};

/* ---- cpio ---- */

static void pad(GByteArray *bytes)
{
	static const guint8 zeros[4];

	g_byte_array_append(bytes, zeros, -bytes->len & 3);
}

static void add_entry(struct archive *a, const char *name, unsigned mode, const void *data,
		      size_t size)
{
	g_autofree char *header = g_strdup_printf(
		"070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++a->files, mode, 0,
		0, 1, 0, (unsigned)size, 0, 0, 0, 0, (unsigned)strlen(name) + 1, 0);

	g_byte_array_append(a->bytes, (const guint8 *)header, strlen(header));
	g_byte_array_append(a->bytes, (const guint8 *)name, strlen(name) + 1);
	pad(a->bytes);
	if (size)
		g_byte_array_append(a->bytes, data, size);
	pad(a->bytes);
}

static void add_strings(struct archive *a, const char *name, char *const *list)
{
	g_autoptr(GByteArray) text = g_byte_array_new();

	for (; *list; list++)
		g_byte_array_append(text, (const guint8 *)*list, strlen(*list) + 1);
	add_entry(a, name, S_IFREG | 0400, text->data, text->len);
}

/* ---- modules ---- */

/* The kernel takes - and _ for the same. "veth.ko.xz" -> "veth" */
static char *module_name(const char *file)
{
	const char *end = strstr(file, ".ko");
	char *name = end ? g_strndup(file, end - file) : g_strdup(file);

	return g_strdelimit(name, "-", '_');
}

static void find_modules(GHashTable *found, const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		char *path = g_build_filename(folder, name, NULL);

		if (strstr(name, ".ko")) {
			g_hash_table_insert(found, module_name(name), path);
		} else {
			find_modules(found, path);
			g_free(path);
		}
	}
}

static void find_built_in(GHashTable *built_in, const char *kernel)
{
	g_autofree char *path = g_build_filename(kernel, "modules", "modules.builtin", NULL);
	g_autofree char *text = NULL;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return;
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (char **line = lines; *line; line++) {
		g_autofree char *base = g_path_get_basename(*line);

		g_hash_table_add(built_in, module_name(base));
	}
}

/* Decompressed; only newer kernels could do that themselves. */
static GBytes *read_module(const char *path, char **why)
{
	const char *tool = g_str_has_suffix(path, ".xz")    ? "xz"
			   : g_str_has_suffix(path, ".zst") ? "zstd"
			   : g_str_has_suffix(path, ".gz")  ? "gzip"
							    : "cat";
	g_autoptr(GError) error = NULL;
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	char *argv[] = {(char *)tool, strcmp(tool, "cat") ? "-dc" : "--", (char *)path, NULL};
	guint8 buffer[65536];
	int out;
	ssize_t n;

	if (!g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
				      &out, NULL, &error)) {
		*why = g_strdup_printf("cannot unpack %s: %s", path, error->message);
		return NULL;
	}
	while ((n = read(out, buffer, sizeof(buffer))) > 0)
		g_byte_array_append(bytes, buffer, n);
	close(out);
	if (!bytes->len) {
		*why = g_strdup_printf("cannot unpack %s: install %s", path, tool);
		return NULL;
	}
	return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
}

static bool pack_module(struct archive *a, const char *name);

/* .modinfo has it as "depends=a,b". */
static bool pack_dependencies(struct archive *a, GBytes *module)
{
	static const char key[] = "\0depends=";
	size_t size;
	const char *bytes = g_bytes_get_data(module, &size);
	const char *at = memmem(bytes, size, key, sizeof(key) - 1);

	if (!at)
		return true;
	at += sizeof(key) - 1;
	g_autofree char *text = g_strndup(at, bytes + size - at);
	g_auto(GStrv) names = g_strsplit(text, ",", -1);

	for (char **name = names; *name; name++)
		if (**name && !pack_module(a, *name))
			return false;
	return true;
}

static bool pack_module(struct archive *a, const char *name)
{
	g_autofree char *id = module_name(name), *target = NULL;
	const char *path = g_hash_table_lookup(a->found, id);
	g_autoptr(GBytes) module = NULL;

	if (g_hash_table_contains(a->packed, id) || g_hash_table_contains(a->built_in, id))
		return true;
	if (!path) {
		a->why = g_strdup_printf("the kernel in %s has no module %s", a->kernel, name);
		return false;
	}
	g_hash_table_add(a->packed, g_strdup(id));
	module = read_module(path, &a->why);
	if (!module || !pack_dependencies(a, module))
		return false;
	target = g_strdup_printf("modules/%04u-%s.ko", a->files, id);
	add_entry(a, target, S_IFREG | 0400, g_bytes_get_data(module, NULL),
		  g_bytes_get_size(module));
	return true;
}

/* ---- all of it ---- */

static bool write_out(int fd, const GByteArray *bytes)
{
	for (size_t at = 0; at < bytes->len;) {
		ssize_t n = write(fd, bytes->data + at, bytes->len - at);

		if (n < 0 && errno != EINTR)
			return false;
		at += MAX(n, 0);
	}
	return true;
}

bool initramfs_write(int fd, const char *init, const char *kernel, const char *const *modules,
		     char *const *command, char **why)
{
	g_autoptr(GHashTable) found =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autoptr(GHashTable) built_in =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GHashTable) packed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_autoptr(GByteArray) bytes = g_byte_array_new();
	g_autofree char *folder = g_build_filename(kernel, "modules", NULL);
	g_autofree char *directory = g_get_current_dir(), *program = NULL;
	g_auto(GStrv) environment = g_get_environ();
	struct archive a = {.bytes = bytes,
			    .kernel = (char *)kernel,
			    .found = found,
			    .built_in = built_in,
			    .packed = packed};
	gsize size;

	if (!g_file_get_contents(init, &program, &size, NULL)) {
		*why = g_strdup_printf("cannot read %s: run `make`", init);
		return false;
	}
	find_modules(found, folder);
	find_built_in(built_in, kernel);
	add_entry(&a, "dev", S_IFDIR | 0755, NULL, 0);
	add_entry(&a, "modules", S_IFDIR | 0755, NULL, 0);
	add_entry(&a, "init", S_IFREG | 0755, program, size);
	add_strings(&a, "command", command);
	add_strings(&a, "environment", environment);
	add_entry(&a, "directory", S_IFREG | 0400, directory, strlen(directory) + 1);
	for (; *modules; modules++)
		if (!pack_module(&a, *modules)) {
			*why = a.why;
			return false;
		}
	add_entry(&a, "TRAILER!!!", 0, NULL, 0);
	if (write_out(fd, bytes))
		return true;
	*why = g_strdup_printf("cannot write the initial RAM disk: %s", strerror(errno));
	return false;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scenario files: finding, reading, checking: scenario.h.
 */
#include <string.h>

#include <zlib.h>

#include "analyzers/lab/internal.h"
#include "analyzers/lab/scenario-keys.h"

#define FOLDER	  "analyzers/lab/scenarios"    /* in the sources */
#define INSTALLED "../share/bqlstat/scenarios" /* from the program's folder */
#define SUFFIX	  ".ini"

/* Every key that a file may have. [fault], [fault 2] and so on are alike. */
static const struct key {
	const char *group, *name;
	enum { TEXT, NUMBER, TRUTH } kind;
	uint64_t most;
} keys[] = {
	{"scenario", "name", TEXT, 0},
	{"scenario", "about", TEXT, 0},
	{"machine", "type", TEXT, 0},
	{"machine", "memory_mib", NUMBER, 1 << 20},
	{"machine", "cpus", NUMBER, 256},
	{"machine", "devices", TEXT, 0},
	{"machine", "fill_mib", NUMBER, 1 << 20},
	{"machine", "dirty_mib", NUMBER, 1 << 20},
	{"machine", "round_ms", NUMBER, 54},
	{"machine", "flat_out", TRUTH, 0},
	{"machine", "args", TEXT, 0},
	{"migration", "copy", TEXT, 0},
	{"migration", "multifd", NUMBER, 255},
	{"migration", "compression", TEXT, 0},
	{"migration", "tls", TRUTH, 0},
	{"migration", "max_bandwidth", NUMBER, UINT64_MAX},
	{"migration", "downtime_limit_ms", NUMBER, 2000000},
	{"migration", "capabilities", TEXT, 0},
	{"migration", "parameters", TEXT, 0},
	{"migration", "timeout_s", NUMBER, 3600},
	{"fault", "channel", TEXT, 0},
	{"fault", "nth", NUMBER, 255},
	{"fault", "section", TEXT, 0},
	{"fault", "pattern", TEXT, 0},
	{"fault", "offset_bytes", NUMBER, UINT64_MAX},
	{"fault", "kind", TEXT, 0},
	{"fault", "stall_ms", NUMBER, 3600000},
	{"fault", "hoard", TRUTH, 0},
	{"fault", "bytes_per_second", NUMBER, UINT64_MAX},
};

/* Keys that take one of a few words. */
static const struct {
	const char *group, *name;
	const char *words[6];
} choices[] = {
	{"migration", "copy", {"precopy", "postcopy", "preempt"}},
	{"migration", "compression", {"none", "zlib", "zstd"}},
	{"fault", "channel", {"main", "multifd", "accepted"}},
	{"fault", "kind", {"stall", "slow", "reset", "fin", "half-open"}},
};

static bool in_group(const char *group, const char *of)
{
	size_t len = strlen(of);

	return !strcmp(group, of) ||
	       (!strcmp(of, "fault") && !strncmp(group, of, len) && group[len] == ' ');
}

static bool G_GNUC_PRINTF(2, 3) wrong(GError **error, const char *format, ...)
{
	g_autofree char *text = NULL;
	va_list args;

	va_start(args, format);
	text = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error_literal(error, LAB_ERROR, LAB_ERROR_IO, text);
	return false;
}

static bool check_choice(const char *group, const char *name, const char *value, GError **error)
{
	for (size_t i = 0; i < G_N_ELEMENTS(choices); i++) {
		g_autofree char *list = NULL;

		if (!in_group(group, choices[i].group) || strcmp(name, choices[i].name) ||
		    g_strv_contains(choices[i].words, value))
			continue;
		list = g_strjoinv(", ", (char **)choices[i].words);
		return wrong(error, "[%s] %s = %s: it takes %s", group, name, value, list);
	}
	return true;
}

static bool check_value(const struct key *key, const char *group, const char *value, GError **error)
{
	guint64 number;

	switch (key->kind) {
	case NUMBER:
		if (!g_ascii_string_to_unsigned(value, 10, 0, key->most, &number, NULL))
			return wrong(error,
				     "[%s] %s = %s: it takes a number up to %" G_GUINT64_FORMAT,
				     group, key->name, value, key->most);
		return true;
	case TRUTH:
		if (strcmp(value, "true") && strcmp(value, "false"))
			return wrong(error, "[%s] %s = %s: it takes true or false", group,
				     key->name, value);
		return true;
	case TEXT:
		break;
	}
	return check_choice(group, key->name, value, error);
}

static bool check(const char *group, const char *name, const char *value, GError **error)
{
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		if (in_group(group, keys[i].group) && !strcmp(name, keys[i].name))
			return check_value(&keys[i], group, value, error);
	return wrong(error, "a scenario has no [%s] %s", group, name);
}

static bool check_all(struct lab_scenario *s, GError **error)
{
	g_auto(GStrv) groups = g_key_file_get_groups(s->keys, NULL);

	for (char **group = groups; *group; group++) {
		g_auto(GStrv) names = g_key_file_get_keys(s->keys, *group, NULL, error);

		for (char **name = names; name && *name; name++) {
			g_autofree char *value =
				g_key_file_get_string(s->keys, *group, *name, error);

			if (!value || !check(*group, *name, value, error))
				return false;
		}
		if (!names)
			return false;
	}
	return true;
}

/* ---- finding ---- */

/* Where the shipped ones are: beside an installed program, or in the sources. g_free() */
static char *shipped_folder(void)
{
	g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *own = g_path_get_dirname(exe ?: ".");
	g_autofree char *installed = g_build_filename(own, INSTALLED, NULL);
	const char *root;

	if (g_file_test(installed, G_FILE_TEST_IS_DIR))
		return g_steal_pointer(&installed);
	root = lab_source_root();
	return root ? g_build_filename(root, FOLDER, NULL) : NULL;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **lab_scenario_shipped(void)
{
	g_autofree char *folder = shipped_folder();
	GPtrArray *paths = g_ptr_array_new();
	GDir *dir = folder ? g_dir_open(folder, 0, NULL) : NULL;
	const char *name;

	while (dir && (name = g_dir_read_name(dir)))
		if (g_str_has_suffix(name, SUFFIX))
			g_ptr_array_add(paths, g_build_filename(folder, name, NULL));
	if (dir)
		g_dir_close(dir);
	g_ptr_array_sort(paths, by_name);
	g_ptr_array_add(paths, NULL);
	return (char **)g_ptr_array_free(paths, FALSE);
}

static char *find(const char *which)
{
	g_autofree char *folder = shipped_folder();
	g_autofree char *file = g_strconcat(which, SUFFIX, NULL);
	g_autofree char *path = NULL;

	if (strchr(which, '/') || g_str_has_suffix(which, SUFFIX) || !folder)
		return g_strdup(which);
	path = g_build_filename(folder, file, NULL);
	return g_file_test(path, G_FILE_TEST_EXISTS) ? g_steal_pointer(&path) : g_strdup(which);
}

struct lab_scenario *lab_scenario_load(const char *which, GError **error)
{
	struct lab_scenario *s = g_new0(struct lab_scenario, 1);
	g_autofree char *path = find(which), *base = g_path_get_basename(path);

	s->keys = g_key_file_new();
	if (!g_key_file_load_from_file(s->keys, path, G_KEY_FILE_NONE, error) ||
	    !check_all(s, error)) {
		g_prefix_error(error, "scenario %s: ", which);
		lab_scenario_free(s);
		return NULL;
	}
	s->name = g_key_file_get_string(s->keys, "scenario", "name", NULL);
	if (!s->name)
		s->name = g_strndup(base, strcspn(base, "."));
	s->about = g_key_file_get_string(s->keys, "scenario", "about", NULL);
	return s;
}

struct lab_scenario *lab_scenario_copy(const struct lab_scenario *of)
{
	struct lab_scenario *s = g_new0(struct lab_scenario, 1);
	g_autofree char *text = g_key_file_to_data(of->keys, NULL, NULL);

	s->name = g_strdup(of->name);
	s->about = g_strdup(of->about);
	s->keys = g_key_file_new();
	g_key_file_load_from_data(s->keys, text, -1, G_KEY_FILE_NONE, NULL);
	return s;
}

void lab_scenario_free(struct lab_scenario *s)
{
	if (!s)
		return;
	g_key_file_unref(s->keys);
	g_free(s->name);
	g_free(s->about);
	g_free(s);
}

const char *lab_scenario_name(const struct lab_scenario *s)
{
	return s->name;
}

const char *lab_scenario_about(const struct lab_scenario *s)
{
	return s->about ?: "";
}

bool lab_scenario_set(struct lab_scenario *s, const char *key, const char *value, GError **error)
{
	const char *dot = strchr(key, '.');
	g_autofree char *group = dot ? g_strndup(key, dot - key) : NULL;

	if (!group)
		return wrong(error, "%s: say GROUP.KEY=VALUE, e.g. migration.multifd=4", key);
	if (!check(group, dot + 1, value, error))
		return false;
	g_key_file_set_string(s->keys, group, dot + 1, value);
	return true;
}

/* What it is called and said to be about changes nothing. */
uint32_t lab_scenario_version(const struct lab_scenario *s)
{
	g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
	g_auto(GStrv) groups = g_key_file_get_groups(s->keys, NULL);
	uLong sum = crc32(0, NULL, 0);

	for (char **group = groups; *group; group++) {
		g_auto(GStrv) names = g_key_file_get_keys(s->keys, *group, NULL, NULL);

		for (char **name = names; strcmp(*group, "scenario") && *name; name++) {
			g_autofree char *value =
				g_key_file_get_string(s->keys, *group, *name, NULL);

			g_ptr_array_add(lines, g_strdup_printf("%s.%s=%s\n", *group, *name, value));
		}
	}
	g_ptr_array_sort(lines, by_name);
	for (unsigned i = 0; i < lines->len; i++)
		sum = crc32(sum, lines->pdata[i], strlen(lines->pdata[i]));
	return sum;
}

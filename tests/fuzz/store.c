/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Run files that somebody has edited: values, rows and tables changed, bytes overwritten, the end
 * cut off. Whatever can be loaded can also be shown.
 */
#include <glib/gstdio.h>
#include <sqlite3.h>

#include "analyzers/render/render.h"
#include "analyzers/store/schema.h"
#include "analyzers/store/store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/sample-run.h"

static const char *const tables[] = {"run", STORE_RUN_TABLES};
static char *folder, *path;
static char *sound;
static gsize sound_size;

static void remove_folder(void)
{
	g_unlink(path);
	g_rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct store_error err;
	struct store *store;

	(void)argc;
	(void)argv;
	folder = fuzz_folder();
	path = g_build_filename(folder, "runs", NULL);
	g_assert_cmpint(store_create(path, &store, &err), ==, 0);
	for (int i = 0; i < 2; i++) {
		struct run *run = make_run(i, 2);

		g_assert_cmpint(store_save(store, run, &err), ==, 0);
		run_free(run);
	}
	store_close(store);
	g_assert_true(g_file_get_contents(path, &sound, &sound_size, NULL));
	atexit(remove_folder);
	return 0;
}

/* ---- changes ---- */

static char *column_of(sqlite3 *db, const char *table, unsigned n)
{
	g_autofree char *sql = g_strdup_printf("SELECT name FROM pragma_table_info('%s')", table);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	sqlite3_stmt *s = NULL;

	sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	while (sqlite3_step(s) == SQLITE_ROW)
		g_ptr_array_add(names, g_strdup((const char *)sqlite3_column_text(s, 0)));
	sqlite3_finalize(s);
	return names->len ? g_strdup(names->pdata[n % names->len]) : NULL;
}

static void bind_value(sqlite3_stmt *s, struct fuzz *f)
{
	static const char *const texts[] = {"",	    "ram",  "device", "main loop",
					    "%s%n", "hold", "a.c"};
	char bytes[16];

	switch (fuzz_u8(f) % 6) {
	case 0:
		sqlite3_bind_null(s, 1);
		break;
	case 1:
		sqlite3_bind_text(s, 1, texts[fuzz_u8(f) % G_N_ELEMENTS(texts)], -1, SQLITE_STATIC);
		break;
	case 2:
		fuzz_take(f, bytes, sizeof(bytes));
		sqlite3_bind_text(s, 1, bytes, sizeof(bytes), SQLITE_TRANSIENT);
		break;
	case 3:
		sqlite3_bind_double(s, 1, fuzz_u8(f) & 1 ? 1e300 : -0.5);
		break;
	default:
		sqlite3_bind_int64(s, 1, fuzz_number(f));
		break;
	}
}

static void change(sqlite3 *db, struct fuzz *f)
{
	const char *table = tables[fuzz_u8(f) % G_N_ELEMENTS(tables)];
	unsigned what = fuzz_u8(f), row = fuzz_u8(f) % 64;
	g_autofree char *column = column_of(db, table, fuzz_u8(f)), *key = NULL, *sql = NULL;
	sqlite3_stmt *s = NULL;

	if (!column)
		return;
	key = column_of(db, table, strcmp(table, "run") ? 1 : 0);
	if (what == 255)
		sql = g_strdup_printf("DROP TABLE %s", table);
	else if (what >= 230)
		sql = g_strdup_printf("DELETE FROM %s WHERE %s = (SELECT %s FROM %s LIMIT 1 OFFSET "
				      "%u)",
				      table, key, key, table, row);
	else
		sql = g_strdup_printf("UPDATE OR REPLACE %s SET %s = ?1 WHERE %s = (SELECT %s "
				      "FROM %s LIMIT 1 OFFSET %u)",
				      table, column, key, key, table, row);
	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK) {
		bind_value(s, f);
		sqlite3_step(s);
	}
	sqlite3_finalize(s);
}

static void change_rows(struct fuzz *f)
{
	unsigned changes = 1 + fuzz_u8(f) % 8;
	sqlite3 *db;

	if (sqlite3_open(path, &db) == SQLITE_OK) {
		sqlite3_exec(db, "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF", NULL, NULL,
			     NULL);
		while (changes--)
			change(db, f);
	}
	sqlite3_close(db);
}

static void change_bytes(struct fuzz *f, char *bytes, gsize *size)
{
	unsigned changes = 1 + fuzz_u8(f) % 8;

	if (fuzz_u8(f) > 240)
		*size = fuzz_u32(f) % *size;
	while (*size && changes--) {
		/* Pages begin with their headers. */
		gsize at = fuzz_u32(f) % *size;

		if (fuzz_u8(f) & 1)
			at = at / 4096 * 4096 + at % 112;
		bytes[MIN(at, *size - 1)] = fuzz_u8(f);
	}
}

/* ---- the reader ---- */

/* One way of the three for each input: each takes longer than loading does. */
static void show(struct run *run, FILE *nowhere, unsigned way)
{
	const struct render_options all = {.each_vcpu = true};
	g_autofree char *text = way % 3 == 0   ? render_json(run, &all)
				: way % 3 == 1 ? render_html(run)
					       : NULL;

	if (!text)
		render_text(nowhere, run, &all);
}

static void read_all(FILE *nowhere, unsigned way)
{
	struct store_error err;
	struct store *store;
	GArray *list;

	if (store_open(path, &store, &err))
		return;
	list = store_list(store, &err);
	for (unsigned i = 0; list && i < list->len; i++) {
		struct run *run;

		if (store_load(store, g_array_index(list, struct store_entry, i).id, &run, &err))
			continue;
		show(run, nowhere, way);
		run_free(run);
	}
	if (list)
		g_array_unref(list);
	store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *nowhere;
	struct fuzz f = {data, size};
	g_autofree char *bytes = g_memdup2(sound, sound_size);
	gsize length = sound_size;
	unsigned way = fuzz_u8(&f);
	bool rows = fuzz_u8(&f) & 3;

	if (!nowhere)
		nowhere = fopen("/dev/null", "we");
	if (!rows)
		change_bytes(&f, bytes, &length);
	/* Not g_file_set_contents(): it would wait for the disk. */
	FILE *out = fopen(path, "we");

	if (!out || fwrite(bytes, 1, length, out) != length || fclose(out))
		abort();
	if (rows)
		change_rows(&f);
	read_all(nowhere, way);
	return 0;
}

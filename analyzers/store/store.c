/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a run file, and telling it from everything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analyzers/store/internal.h"
#include "analyzers/store/schema.h"

#define HEADER "SQLite format 3"

int store_fail(struct store_error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

int store_sqlite_failed(struct store *store, struct store_error *err)
{
	switch (sqlite3_errcode(store->db) & 0xff) {
	case SQLITE_FULL:
		return store_fail(err, -ENOSPC,
				  "the disk is full: in %s is what was saved before, if anything",
				  store->path);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return store_fail(err, -EIO, "%s is damaged: %s", store->path,
				  sqlite3_errmsg(store->db));
	case SQLITE_BUSY:
		return store_fail(err, -EBUSY,
				  "%s is being written by another process: give another file",
				  store->path);
	case SQLITE_READONLY:
		return store_fail(err, -EROFS, "%s cannot be written: %s", store->path,
				  sqlite3_errmsg(store->db));
	}
	return store_fail(err, -EIO, "%s: %s", store->path, sqlite3_errmsg(store->db));
}

sqlite3_stmt *store_prepare(struct store *store, const char *sql, struct store_error *err)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK)
		return statement;
	store_sqlite_failed(store, err);
	return NULL;
}

int store_step(sqlite3_stmt *statement, const char *format, ...)
{
	va_list args;
	uint64_t ns;
	int ret;

	va_start(args, format);
	for (int i = 0; format[i]; i++) {
		switch (format[i]) {
		case 'i':
			sqlite3_bind_int64(statement, i + 1, va_arg(args, int64_t));
			break;
		case 'u':
			sqlite3_bind_int64(statement, i + 1, va_arg(args, unsigned));
			break;
		case 's':
			sqlite3_bind_text(statement, i + 1, va_arg(args, const char *), -1,
					  SQLITE_STATIC);
			break;
		case 'd':
			sqlite3_bind_double(statement, i + 1, va_arg(args, double));
			break;
		case 'n':
			ns = va_arg(args, uint64_t);
			if (ns == UNKNOWN_NS)
				sqlite3_bind_null(statement, i + 1);
			else
				sqlite3_bind_int64(statement, i + 1, ns);
			break;
		}
	}
	va_end(args);
	ret = sqlite3_step(statement);
	/* The code of a failed step: reset would return it, and forget it. */
	if (ret == SQLITE_DONE)
		sqlite3_reset(statement);
	return ret;
}

int store_exec(struct store *store, const char *sql, struct store_error *err)
{
	if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	return store_sqlite_failed(store, err);
}

static int64_t pragma(struct store *store, const char *sql)
{
	sqlite3_stmt *statement;
	int64_t value = -1;

	if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step(statement) == SQLITE_ROW)
		value = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return value;
}

/* 1 when the file is empty, 0 when it may be an SQLite file. */
static int look_at(const char *path, int flags, struct store_error *err)
{
	const char *purpose = flags & O_CREAT ? "write" : "read";
	char header[sizeof(HEADER)] = "";
	struct stat st;
	ssize_t got;
	int fd;

	fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return store_fail(err, -errno, "cannot %s %s: %s", purpose, path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return store_fail(err, -EEXIST, "%s is not a regular file", path);
	}
	got = pread(fd, header, sizeof(header), 0);
	close(fd);
	if (got == 0)
		return 1;
	if (got != sizeof(header) || memcmp(header, HEADER, sizeof(header)))
		return store_fail(err, -EEXIST, "%s is not a bqlstat run file%s", path,
				  flags & O_CREAT ? ": it is left as it is, give another" : "");
	return 0;
}

static int connect_to(const char *path, struct store **store, struct store_error *err)
{
	struct store *s = g_new0(struct store, 1);
	/* Also to read: a journal left by a killed writer must be rolled back. */
	int ret = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE, NULL);

	s->path = g_strdup(path);
	sqlite3_busy_timeout(s->db, 2000);
	if (ret == SQLITE_OK) {
		*store = s;
		return 0;
	}
	ret = store_sqlite_failed(s, err);
	store_close(s);
	return ret;
}

bool store_has_table(struct store *store, const char *name)
{
	return sqlite3_table_column_metadata(store->db, NULL, name, NULL, NULL, NULL, NULL, NULL,
					     NULL) == SQLITE_OK;
}

/* Whoever made the file was killed meanwhile: looking undoes it, and leaves nothing. */
static bool rolled_back(struct store *store)
{
	return pragma(store, "PRAGMA page_count") == 0;
}

/* Ours, of a schema that we know, and whole. */
static int check(struct store *store, struct store_error *err)
{
	int64_t application = pragma(store, "PRAGMA application_id");
	int64_t schema = pragma(store, "PRAGMA user_version");
	sqlite3_stmt *statement;
	bool whole;

	if (application < 0 || schema < 0)
		return store_sqlite_failed(store, err);
	if (application != STORE_APPLICATION_ID)
		return store_fail(err, -EEXIST,
				  "%s is an SQLite file of something else, not a bqlstat run file",
				  store->path);
	if (schema > STORE_SCHEMA)
		return store_fail(
			err, -ENOTSUP,
			"%s was written by a newer bqlstat (schema %d, this one knows %d): update",
			store->path, (int)schema, STORE_SCHEMA);
	statement = store_prepare(store, "PRAGMA quick_check(1)", err);
	if (!statement)
		return -EIO;
	whole = sqlite3_step(statement) == SQLITE_ROW &&
		!g_strcmp0((const char *)sqlite3_column_text(statement, 0), "ok");
	sqlite3_finalize(statement);
	return whole ? 0 : store_fail(err, -EIO, "%s is damaged: restore a copy", store->path);
}

int store_create(const char *path, struct store **store, struct store_error *err)
{
	bool existed = !access(path, F_OK);
	int ret, empty;

	*store = NULL;
	empty = look_at(path, O_RDWR | O_CREAT, err);
	if (empty < 0)
		return empty;
	ret = connect_to(path, store, err);
	if (ret)
		return ret;
	empty = empty || rolled_back(*store);
	if (!empty)
		ret = check(*store, err);
	if (!ret)
		ret = store_exec(*store, "BEGIN IMMEDIATE;" STORE_TABLES, err);
	if (!ret) {
		/* With a write, so that a full disk or a folder without room for a journal shows
		 * now. */
		g_autofree char *sql = g_strdup_printf(
			"PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
			STORE_APPLICATION_ID, STORE_SCHEMA);

		ret = store_exec(*store, sql, err);
	}
	(*store)->created = empty && !existed;
	if (ret) {
		store_close(*store);
		*store = NULL;
	}
	return ret;
}

int store_open(const char *path, struct store **store, struct store_error *err)
{
	int ret = look_at(path, O_RDONLY, err);

	*store = NULL;
	if (ret > 0)
		return store_fail(err, -ENODATA, "%s is empty: it holds no run", path);
	if (!ret)
		ret = connect_to(path, store, err);
	if (!ret && rolled_back(*store))
		ret = store_fail(err, -ENODATA, "%s is empty: it holds no run", path);
	if (!ret)
		ret = check(*store, err);
	if (ret) {
		store_close(*store);
		*store = NULL;
	}
	return ret;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_close(store->db);
	if (store->created)
		unlink(store->path);
	g_free(store->path);
	g_free(store);
}

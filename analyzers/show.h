/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small means of showing things on a terminal and in JSON.
 */
#ifndef SHOW_H
#define SHOW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <json-glib/json-glib.h>

#define SHOW_BOLD   "\033[1m"
#define SHOW_DIM    "\033[2m"
#define SHOW_RED    "\033[31m"
#define SHOW_GREEN  "\033[32m"
#define SHOW_YELLOW "\033[33m"
#define SHOW_PLAIN  "\033[0m"

/* Standard output is a terminal, and NO_COLOR is not set. */
bool show_colour(void);
/* How wide the terminal is; 0: it is none. */
unsigned show_columns(FILE *out);

/*
 * The text and a newline, the cursor standing in column `column`. On a terminal words that do not
 * fit go below, indented to that column; elsewhere it stays one line, for grep.
 */
void show_wrapped(FILE *out, unsigned column, const char *text);

/* Members of a JSON object. Text may be any bytes; NULL becomes null. */
void show_text(JsonBuilder *b, const char *name, const char *value);
void show_int(JsonBuilder *b, const char *name, uint64_t value);
void show_bool(JsonBuilder *b, const char *name, bool value);
/* The builder's root, printed. */
void show_json(FILE *out, JsonBuilder *b);

#endif

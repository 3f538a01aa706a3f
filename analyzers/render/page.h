/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of a page: one file that needs nothing else, light and dark, on paper and on a phone.
 */
#ifndef PAGE_H
#define PAGE_H

#include <glib.h>

void page_begin(GString *out, const char *title);
void page_end(GString *out);
/* A heading and what the reader is to see in what follows; `about` NULL: nothing. */
void page_section(GString *out, const char *title, const char *about);
/* Around a chart, which is scaled to the screen. */
void page_chart_begin(GString *out);
void page_chart_end(GString *out);
/* Around a table that may be wider than the screen. */
void page_wide_begin(GString *out);
void page_wide_end(GString *out);

struct page_key {
	const char *class, *text;
};

/* What the colours mean. */
void page_legend(GString *out, const struct page_key *keys, unsigned n);

/*
 * A table that can be sorted by its columns, and filtered: head, rows of cells, end. `columns`:
 * titles, NULL-terminated; a leading '#' marks a column of numbers. Rows of the class "dull" are
 * shown on request.
 */
void page_table_begin(GString *out, const char *const *columns);
void page_row_begin(GString *out, const char *class);
/* `key`: by what it sorts; NAN: by the text. */
void page_cell(GString *out, double key, const char *text);
/* The row's verdict: coloured as the row's class says. */
void page_word(GString *out, const char *text);
void page_row_end(GString *out);
/* `dull`: how many rows are of that class; paper goes without them, and says so. */
void page_table_end(GString *out, unsigned dull);

#endif

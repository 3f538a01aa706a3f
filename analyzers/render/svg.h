/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small parts of charts: scales, ticks and shapes as inline SVG. Colours are the page's classes.
 */
#ifndef SVG_H
#define SVG_H

#include <stdbool.h>

#include <glib.h>

/* From values to places along one axis of the drawing. */
struct scale {
	double low, high; /* of the values; both positive when `log` */
	bool log;
	double from, to; /* of the drawing */
};

double scale_at(const struct scale *scale, double value);
/* Wide enough for all values, with a little room; log when they span more than `decades`. */
struct scale scale_for(const double *values, unsigned n, double decades, double from, double to);
/* Values at which a tick stands, at most `most`: a GArray of double. */
GArray *scale_ticks(const struct scale *scale, unsigned most);

/* "1 us", "250 ms". g_free() */
char *tick_duration(double ns);

/* Text with what HTML would misread escaped. */
void svg_text(GString *out, double x, double y, const char *anchor, const char *class,
	      const char *text);
void svg_line(GString *out, double x1, double y1, double x2, double y2, const char *class);
/* A drawing of that size, scaled to the page, with a name for those who cannot see it. */
void svg_begin(GString *out, double width, double height, const char *name);
void svg_end(GString *out);

typedef char *(*tick_text)(double value);
/* A grid line and a label for each tick of the horizontal or the vertical axis. */
void svg_axis_x(GString *out, const struct scale *x, double top, double bottom, unsigned most,
		tick_text text);
void svg_axis_y(GString *out, const struct scale *y, double left, double right, unsigned most,
		tick_text text);

/* g_markup_escape_text() into a string. */
void html_text(GString *out, const char *text);

#endif

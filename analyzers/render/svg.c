/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scales, ticks and shapes.
 */
#include <math.h>

#include "analyzers/render/svg.h"

#define ROOM 0.04 /* beyond the values, as a share of the axis */

double scale_at(const struct scale *s, double value)
{
	double share;

	if (s->log)
		share = log(fmax(value, s->low) / s->low) / log(s->high / s->low);
	else
		share = (value - s->low) / (s->high - s->low);
	return s->from + (s->to - s->from) * fmin(1, fmax(0, share));
}

struct scale scale_for(const double *values, unsigned n, double decades, double from, double to)
{
	struct scale s = {INFINITY, -INFINITY, false, from, to};
	double room;

	for (unsigned i = 0; i < n; i++) {
		if (!isfinite(values[i]))
			continue;
		s.low = fmin(s.low, values[i]);
		s.high = fmax(s.high, values[i]);
	}
	if (!(s.low <= s.high)) {
		s.low = 0;
		s.high = 1;
	}
	s.log = s.low > 0 && s.high / s.low > pow(10, decades);
	if (s.log) {
		room = pow(s.high / s.low, ROOM);
		s.low /= room;
		s.high *= room;
		return s;
	}
	room = s.high > s.low ? (s.high - s.low) * ROOM : fmax(fabs(s.high) * ROOM, 1e-9);
	s.low = s.low >= 0 ? fmax(0, s.low - room) : s.low - room;
	s.high += room;
	return s;
}

/* 1, 2 or 5 times a power of ten. */
static double nice_step(double rough)
{
	double power = pow(10, floor(log10(rough)));
	double times = rough / power;

	return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void add_between(GArray *ticks, const struct scale *s, int first, int last)
{
	for (int e = first; e <= last; e++)
		for (int times = 2; times <= 5; times += 3) {
			double value = times * pow(10, e);

			if (value >= s->low && value <= s->high)
				g_array_append_val(ticks, value);
		}
}

GArray *scale_ticks(const struct scale *s, unsigned most)
{
	GArray *ticks = g_array_new(FALSE, FALSE, sizeof(double));
	double step, value;

	if (s->log) {
		int first = (int)ceil(log10(s->low)), last = (int)floor(log10(s->high));
		int every = MAX(1, (int)ceil((last - first + 1) / (double)most));

		for (int e = first; e <= last; e += every) {
			value = pow(10, e);
			g_array_append_val(ticks, value);
		}
		/* Within a decade or two the powers alone are too few. */
		if (ticks->len < 3)
			add_between(ticks, s, first - 1, last);
		if (ticks->len > 1)
			return ticks;
		g_array_set_size(ticks, 0);
	}
	step = nice_step((s->high - s->low) / most);
	for (value = ceil(s->low / step) * step; value <= s->high; value += step)
		g_array_append_val(ticks, value);
	return ticks;
}

char *tick_duration(double ns)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};

	for (unsigned i = 0; i < G_N_ELEMENTS(units); i++)
		if (ns >= units[i].unit * 0.9999)
			return g_strdup_printf("%.3g %s", ns / units[i].unit, units[i].name);
	return ns > 0 ? g_strdup_printf("%.3g ns", ns) : g_strdup("0");
}

void html_text(GString *out, const char *text)
{
	g_autofree char *valid = g_utf8_make_valid(text, -1);
	g_autofree char *escaped = g_markup_escape_text(valid, -1);

	g_string_append(out, escaped);
}

void svg_text(GString *out, double x, double y, const char *anchor, const char *class,
	      const char *text)
{
	g_string_append_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">",
			       x, y, anchor, class);
	html_text(out, text);
	g_string_append(out, "</text>");
}

void svg_line(GString *out, double x1, double y1, double x2, double y2, const char *class)
{
	g_string_append_printf(
		out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x1, y1,
		x2, y2, class);
}

void svg_begin(GString *out, double width, double height, const char *name)
{
	g_string_append_printf(out,
			       "<svg viewBox=\"0 0 %.0f %.0f\" style=\"max-width:%.0fpx\" "
			       "role=\"img\" aria-label=\"",
			       width, height, width * 1.25);
	html_text(out, name);
	g_string_append(out, "\">");
}

void svg_end(GString *out)
{
	g_string_append(out, "</svg>\n");
}

static gint ascending(gconstpointer a, gconstpointer b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void svg_axis_x(GString *out, const struct scale *x, double top, double bottom, unsigned most,
		tick_text text)
{
	g_autoptr(GArray) ticks = scale_ticks(x, most);
	double room = fabs(x->to - x->from) / most, last = -INFINITY;

	g_array_sort(ticks, ascending);
	for (unsigned i = 0; i < ticks->len; i++) {
		double value = g_array_index(ticks, double, i), at = scale_at(x, value);
		g_autofree char *label = text(value);

		svg_line(out, at, top, at, bottom, "grid");
		/* The logarithm crowds some: they keep their line. */
		if (at - last < room * 2 / 3)
			continue;
		svg_text(out, at, bottom + 16, "middle", "tick", label);
		last = at;
	}
}

void svg_axis_y(GString *out, const struct scale *y, double left, double right, unsigned most,
		tick_text text)
{
	g_autoptr(GArray) ticks = scale_ticks(y, most);

	for (unsigned i = 0; i < ticks->len; i++) {
		double value = g_array_index(ticks, double, i), at = scale_at(y, value);
		g_autofree char *label = text(value);

		svg_line(out, left, at, right, at, "grid");
		/* In the corner it keeps off the other axis's first. */
		svg_text(out, left - 6, at > y->from - 1 ? at - 1 : at + 4, "end", "tick", label);
	}
}

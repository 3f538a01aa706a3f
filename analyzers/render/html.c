/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A comparison as a page.
 */
#include "analyzers/render/figure.h"

char *render_diff_html(const struct compared *to, const struct render_diff_options *o)
{
	g_autofree char *verdict = render_verdict(to);

	(void)o;
	return g_markup_printf_escaped("<!doctype html><meta charset=utf-8><title>bqlstat "
				       "diff</title><p>%s\n",
				       verdict);
}

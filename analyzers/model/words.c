/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations and call sites in words.
 */
#include <stdio.h>

#include "analyzers/model/words.h"

const char *words_duration(char text[WORDS_DURATION], uint64_t ns)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};

	for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
		double value = ns / units[i].unit;

		/* 0.9995 and not 1: "1000 us" would be four digits. */
		if (value < 0.9995)
			continue;
		snprintf(text, WORDS_DURATION, "%.*f %s",
			 value < 9.995	 ? 2
			 : value < 99.95 ? 1
					 : 0,
			 value, units[i].name);
		return text;
	}
	if (ns)
		snprintf(text, WORDS_DURATION, "%d ns", (int)ns);
	else
		snprintf(text, WORDS_DURATION, "0");
	return text;
}

const char *words_file(const char *file)
{
	while (g_str_has_prefix(file, "../"))
		file += 3;
	return file;
}

char *words_site(const struct run *run, unsigned index)
{
	const struct site *s = &g_array_index(run->sites, struct site, index);

	if (!s->line && !*s->file)
		return g_strdup("(call site not seen)");
	return g_strdup_printf("%s:%u%s", *s->file ? words_file(s->file) : "?", s->line,
			       s->cond ? " (condvar)" : "");
}

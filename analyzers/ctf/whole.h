/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the files of one CTF trace are whole, before babeltrace2 sees them: it gives up a trace
 * with one file cut short, and reads metadata cut short for ever (2.0.4).
 */
#ifndef CTF_WHOLE_H
#define CTF_WHOLE_H

#include "analyzers/store/store.h"

struct ctf_whole {
	char *path;	  /* of a folder to read: the trace itself, or one made of what is whole */
	char *made;	  /* that folder, to be removed; NULL */
	char damage[200]; /* what is missing of it; "": nothing */
};

/*
 * 0, or a negative errno and a sentence: -EIO the metadata is cut short or no metadata. Undo with
 * ctf_whole_clear() either way.
 */
int ctf_whole(const char *trace, struct ctf_whole *whole, struct store_error *err);
void ctf_whole_clear(struct ctf_whole *whole);

#endif

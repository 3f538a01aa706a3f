/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text from outside, fit to be shown: what a VM is called, its threads and its files, or what a run
 * file says, must not move a terminal's cursor, forge a line of a log, or spoil a page.
 */
#ifndef MODEL_PLAIN_H
#define MODEL_PLAIN_H

/*
 * The same, valid UTF-8, with U+FFFD for what is not, for control characters, line ends included,
 * and for those that turn the direction of writing. g_free(); "" for NULL.
 */
char *plain_text(const char *text);

#endif

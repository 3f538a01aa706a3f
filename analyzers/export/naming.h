/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a QEMU's command line says may be anything, of any length: what of it goes into labels, the
 * page and the log.
 */
#ifndef EXPORT_NAMING_H
#define EXPORT_NAMING_H

/* Names of VMs are file names almost everywhere; each is repeated in hundreds of samples. */
#define NAMING_CHARACTERS 255

/*
 * Valid UTF-8 on one line: control characters, which could write lines of their own into a log, are
 * replaced, and what is too long ends in "...". g_free().
 */
char *naming_clean(const char *text);

#endif

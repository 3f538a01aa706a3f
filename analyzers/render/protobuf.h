/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing protobuf's wire format, as far as a trace needs it: varints, fixed 64-bit values, strings
 * and messages within messages.
 */
#ifndef PROTOBUF_H
#define PROTOBUF_H

#include <stdint.h>

#include <glib.h>

void pb_uint(GByteArray *out, unsigned field, uint64_t value);
void pb_int(GByteArray *out, unsigned field, int64_t value);
void pb_double(GByteArray *out, unsigned field, double value);
void pb_fixed64(GByteArray *out, unsigned field, uint64_t value);
/* Made valid UTF-8: readers refuse anything else. */
void pb_string(GByteArray *out, unsigned field, const char *text);

/* What is written between the two is the message in that field. Less than 256 MB. */
unsigned pb_begin(GByteArray *out, unsigned field);
void pb_end(GByteArray *out, unsigned begin);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Protobuf's wire format: https://protobuf.dev/programming-guides/encoding/
 */
#include <string.h>

#include "analyzers/render/protobuf.h"

enum wire {
	WIRE_VARINT,
	WIRE_FIXED64,
	WIRE_BYTES,
};

/* A message's length is known at its end: room for it is kept, as a varint of this many bytes. */
#define LENGTH_BYTES 4

static void put_varint(GByteArray *out, uint64_t value)
{
	uint8_t bytes[10];
	unsigned n = 0;

	for (; value >= 0x80; value >>= 7)
		bytes[n++] = value | 0x80;
	bytes[n++] = value;
	g_byte_array_append(out, bytes, n);
}

static void put_tag(GByteArray *out, unsigned field, enum wire wire)
{
	put_varint(out, field << 3 | wire);
}

void pb_uint(GByteArray *out, unsigned field, uint64_t value)
{
	put_tag(out, field, WIRE_VARINT);
	put_varint(out, value);
}

void pb_int(GByteArray *out, unsigned field, int64_t value)
{
	pb_uint(out, field, value);
}

void pb_fixed64(GByteArray *out, unsigned field, uint64_t value)
{
	uint64_t little = GUINT64_TO_LE(value);

	put_tag(out, field, WIRE_FIXED64);
	g_byte_array_append(out, (const uint8_t *)&little, sizeof(little));
}

void pb_double(GByteArray *out, unsigned field, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	pb_fixed64(out, field, bits);
}

void pb_string(GByteArray *out, unsigned field, const char *text)
{
	g_autofree char *valid =
		g_utf8_validate(text, -1, NULL) ? NULL : g_utf8_make_valid(text, -1);

	if (valid)
		text = valid;
	put_tag(out, field, WIRE_BYTES);
	put_varint(out, strlen(text));
	g_byte_array_append(out, (const uint8_t *)text, strlen(text));
}

unsigned pb_begin(GByteArray *out, unsigned field)
{
	put_tag(out, field, WIRE_BYTES);
	g_byte_array_set_size(out, out->len + LENGTH_BYTES);
	return out->len;
}

void pb_end(GByteArray *out, unsigned begin)
{
	uint32_t length = out->len - begin;

	for (unsigned i = 0; i < LENGTH_BYTES; i++, length >>= 7)
		out->data[begin - LENGTH_BYTES + i] =
			(length & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0);
}
